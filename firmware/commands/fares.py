"""``kazashi fares``: compile a GTFS-JP feed into a fare table, price one ride with its reasons, and price charged rides once more."""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import cast

from fares import gtfs
from fares.explain import lines
from fares.faults import Unusable
from fares.files import open_feed
from fares.operator import PLAIN, ChildFare, Operator, disagreements
from fares.operator import load as load_operator
from fares.recheck import Rules, faults
from fares.ride import NeedsDriver, NoFare, Priced, Reason, Ride, price_ride
from fares.scheme import Question
from fares.scheme import load as load_scheme
from fares.table import FareTable, NoPrice, NoPriceReason, pack
from firmware import compose
from firmware.failure import Failure

_SENTENCES = {
    Reason.BOARDING_UNKNOWN: "it is not known where the rider got on; name the stop with --from.",
    Reason.ALIGHTING_UNKNOWN: "it is not known where the rider gets off; name the stop with --to.",
    Reason.UNKNOWN_TICKET: "the operator's file knows no such ticket.",
    Reason.NOT_FORWARD: "no trip goes that way.",
    Reason.TWO_PRICES: "the table has two prices and the operator's file says to ask the driver.",
    Reason.NO_RULE: "the feed has no rule for this pair, and a price is never guessed; on the bus the driver names the fare.",
    Reason.NO_SUCH_ROUTE: "the table has no such route.",
    Reason.NO_SUCH_TRIP: "the table has no such trip.",
    Reason.NO_SUCH_STOP: "the stop is not on this route.",
    Reason.TABLE_NOT_IN_FORCE: "the table is not in force on that day.",
    Reason.OPERATOR_NOT_IN_FORCE: "the operator's file is not in force on that day.",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """``compile``, ``price`` and ``recheck``."""
    parser.description = (
        "Compile a GTFS-JP feed into one small file for the vehicle, ask such a file what a ride costs, or whether ledgers charged that."
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    making = actions.add_parser("compile", help="read a feed, report what is odd about it, write the table")
    making.add_argument("feed", type=Path, help="a GTFS-JP feed: the zip, or the folder of its tables")
    making.add_argument("-o", "--output", type=Path, required=True, metavar="TABLE", help="the file to write")
    making.add_argument("--operator", type=Path, metavar="FILE", help="also compare the table with this operator's file")
    making.set_defaults(act=_compile)
    asking = actions.add_parser("price", help="what one ride costs, and why")
    asking.add_argument("table", type=Path, help="a compiled table")
    asking.add_argument("--route", required=True, help="the route's id")
    asking.add_argument("--from", dest="boarding", required=True, metavar="STOP", help="where the rider gets on: a stop's id or its name")
    asking.add_argument("--to", dest="alighting", required=True, metavar="STOP", help="where the rider gets off")
    asking.add_argument("--child", action="store_true", help="price a child, not an adult")
    asking.add_argument("--date", type=_day, metavar="YYYY-MM-DD", help="the service day; without it, days are not checked")
    asking.add_argument("--operator", type=Path, metavar="FILE", help="decide by this operator's file")
    asking.add_argument("--scheme", type=Path, metavar="FILE", help="and say what a card of this scheme would pay")
    asking.add_argument("--points", type=int, default=0, help="points on that card (default: 0)")
    asking.set_defaults(act=_price)
    checking = actions.add_parser("recheck", help="work out each fare in these ledgers once more; exit status 1 if one differs")
    checking.add_argument("ledgers", type=Path, nargs="+", metavar="LEDGER", help="a vehicle's ledger")
    checking.add_argument("--table", type=Path, action="append", required=True, metavar="FILE", help="a fare table; repeat for each in use")
    checking.add_argument("--operator", type=Path, action="append", required=True, metavar="FILE", help="the operator's file; likewise")
    checking.add_argument("--scheme", type=Path, action="append", required=True, metavar="FILE", help="the scheme; likewise")
    checking.set_defaults(act=_recheck)


def run(options: argparse.Namespace) -> int:
    """Do one of them; a file that cannot be used becomes sentences."""
    act = cast("Callable[[argparse.Namespace], int]", options.act)
    try:
        return act(options)
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no day; write it as 2026-04-01") from None


# ── compile ──


def _compile(options: argparse.Namespace) -> int:
    contents, report = gtfs.compile_feed(open_feed(options.feed, _Ticker(live=sys.stderr.isatty())))
    data = pack(contents)
    table = FareTable.unpack(data)
    _write(options.output, data)
    for line in gtfs.lines(report):
        print(line)
    for fault in disagreements(load_operator(options.operator), table) if options.operator else []:
        print(f"{options.operator}: {fault}")
    print(f"{options.output}: {len(data):,} bytes, in force {table.first_day} to {table.last_day}, digest {table.digest.hex()}")
    return 0


class _Ticker:
    """Shows which table is being read and how far: in place on a screen, a line a table elsewhere."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._last = ("", 0)

    def __call__(self, file: str, rows: int) -> None:
        if self._live:
            end = "\n" if self._last == (file, rows) else ""
            print(f"\r{file:<28} {rows:>11,} rows", end=end, file=sys.stderr, flush=True)
        self._last = (file, rows)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: a vehicle may be reading the old table."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Failure(f"{path}: cannot be written ({error.strerror}); choose another place.") from error


# ── recheck ──


def _recheck(options: argparse.Namespace) -> int:
    known = [
        Rules(table, operator, scheme)
        for table in map(FareTable.open, options.table)
        for operator in map(load_operator, options.operator)
        for scheme in map(load_scheme, options.scheme)
    ]
    entries = compose.entries_of(options.ledgers)
    found = list(faults(entries, {rules.named: rules for rules in known}))
    for fault in found:
        print(fault)
    print(f"{len(entries):,} entries, {len(found):,} with another fare than their rules say.")
    return 1 if found else 0


# ── price ──


def _price(options: argparse.Namespace) -> int:
    table = FareTable.open(options.table)
    if not table.has_route(options.route):
        known = ", ".join(route.id for route in table.routes()[:8])
        raise Failure(f"{options.table}: has no route '{options.route}' (it has {known}{' …' if len(table.routes()) > 8 else ''}).")
    operator = load_operator(options.operator) if options.operator else _plain(table, child=options.child)
    boarding, alighting = (_stop(table, options.route, stop) for stop in (options.boarding, options.alighting))
    ride = Ride(options.route, "", boarding, alighting, int(not options.child), int(options.child), day=options.date)
    print(f"{options.route} {table.route(options.route).name}")
    answer = price_ride(table, operator, ride)
    print(f"table {table.digest.hex()}, in force {table.first_day} to {table.last_day}")
    match answer:
        case Priced():
            _tell(answer, operator, options)
            return 0
        case NeedsDriver(reason) | NoFare(reason):
            print(f"no price: {_SENTENCES[reason]}")
            return 1


def _tell(priced: Priced, operator: Operator, options: argparse.Namespace) -> None:
    steps, sum_is = priced.steps, "in all"
    if options.scheme:
        scheme, lines_of_route = load_scheme(options.scheme), operator.policy(options.route).lines
        if options.points < 0:
            raise Failure(f"--points {options.points}: a card has no points below zero.")
        decision = scheme.decide(Question(priced.yen, priced.holder, options.points, options.date, lines_of_route))
        steps, sum_is = (*steps, *decision.steps), "in cash"
    for line in lines(steps, sum_is):
        print(line)


def _plain(table: FareTable, *, child: bool) -> Operator:
    """No operator's file: a child is the table's only rider class, or nobody knows."""
    if not child:
        return PLAIN
    if len(table.classes) != 1:
        raise Failure(
            f"--child: the table has {len(table.classes)} classes of riders; name the operator's file that says which is a child's."
        )
    return PLAIN.with_child(ChildFare(next(iter(table.classes))))


def _stop(table: FareTable, route: str, named: str) -> str:
    """The one stop of the route with this id or name."""
    if table.has_stop(named):
        return named
    found = [stop.id for stop in table.stops() if stop.name == named and _on_route(table, route, stop.id)]
    if len(found) == 1:
        return found[0]
    if found:
        raise Failure(f"stop '{named}': this route has several of that name; name one of {', '.join(found)}.")
    raise Failure(f"stop '{named}': route {route} has no stop with this id or name.")


def _on_route(table: FareTable, route: str, stop: str) -> bool:
    price = table.price(route, stop, stop)
    return not (isinstance(price, NoPrice) and price.reason is NoPriceReason.NOT_ON_ROUTE)
