"""``kazashi card``: make, show, issue, grant and try out one fare-point card.

The desk's command: it needs the desk's key file, which no vehicle has. It prints a rider's pseudonym, never a card's number.
"""

import argparse
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from drivers import felica
from drivers.cards import issuing, purse
from drivers.cards.issuing import Granted, Issued, NotIssuable
from drivers.cards.lite_s import WeakCardKey
from drivers.cards.purse import FULL, Grant, NoGoodGrant, PurseReading, RegLog
from drivers.channel import Channel
from drivers.errors import CardError, CardLost, CardRefused, DriverError, NotAuthentic
from fares.dates import fiscal_year
from firmware import compose
from firmware.desk import Desk, DeskVault
from firmware.failure import Failure
from firmware.granting import points_due

_EXAMPLES = """\
examples:
  kazashi card keys --new desk.toml                      a new town's keys; guard this file
  kazashi card keys --keys desk.toml --terminal bus.toml a vehicle's keys, without the issuer's
  kazashi card keys --keys desk.toml --token 'pkcs11:/usr/lib/softhsm/libsofthsm2.so?token=bus%201&pin-file=bus1.pin'
                                                         the same in a token, which never shows them
  kazashi card new rider.toml                            a blank emulated card
  kazashi card issue --card rider.toml --keys desk.toml
  kazashi card grant --card rider.toml --keys desk.toml --scheme SCHEME.toml --from bus1.ledger bus2.ledger
  kazashi card show --reader pn532:/dev/ttyS1@921600 --keys desk.toml

A command that was interrupted by a pulled card is run again: it does what is missing.
"""

_JAPAN = timezone(timedelta(hours=9))
_DESK_TERMINAL = 0
_TRIED_OUT = 0


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi card``."""
    parser.description = __doc__
    parser.epilog = _EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="new|show|issue|grant|tap|keys")
    new = actions.add_parser("new", help="make the file of a blank emulated card")
    new.add_argument("file", type=Path, metavar="FILE")
    keys = actions.add_parser("keys", help="make the desk's key file, or a vehicle's from it")
    keys.add_argument("--new", type=Path, metavar="FILE", help="make a new town's keys")
    keys.add_argument("--keys", type=Path, metavar="FILE", help="the desk's key file")
    keys.add_argument("--terminal", type=Path, metavar="FILE", help="make a vehicle's key file from --keys")
    keys.add_argument("--token", metavar="ADDRESS", help="bring a token to a vehicle's keys, from --keys; its device key is made inside")
    keys.add_argument("--empty", action="store_true", help="with --token: destroy every key of ours in it, for a vehicle out of service")
    _card_action(actions.add_parser("show", help="what a card holds"))
    issue = _card_action(actions.add_parser("issue", help="make a blank card a card of the town"))
    issue.add_argument("--freeze", action="store_true", help="the second issuance too: the layout can never change again")
    grant = _card_action(actions.add_parser("grant", help="give the points of a fiscal year, once"))
    grant.add_argument("--year", type=int, metavar="N", help="the fiscal year (else: today's)")
    grant.add_argument("--points", type=int, metavar="N", help="how many (else: as --scheme and --from say)")
    grant.add_argument("--scheme", type=Path, metavar="FILE", help="the city's scheme")
    grant.add_argument("--from", dest="ledgers", type=Path, nargs="+", metavar="LEDGER", default=[], help="the vehicles' ledgers")
    grant.add_argument("--correct", type=int, metavar="NUMBER", help="give --points more this year, as grant NUMBER")
    grant.add_argument("--restore", metavar="YEAR:TOTAL:NUMBER", help="both copies are bad: write the grant that the ledgers know")
    tap = _card_action(actions.add_parser("tap", help="debit a card to try it out; no ledger will know"))
    tap.add_argument("--points", type=int, metavar="N", required=True)


def run(options: argparse.Namespace) -> int:
    """Do one thing to one card."""
    match options.action:
        case "new":
            compose.make_blank_card(options.file)
            print(f"{options.file}: a blank card; `kazashi card issue --card {options.file} --keys KEYS` makes it the town's")
        case "keys":
            _keys(options)
        case action:
            _with_card(options, {"show": _show, "issue": _issue, "grant": _grant, "tap": _tap}[action])
    return 0


def _card_action(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--reader", metavar="ADDRESS", help="pn532:/dev/ttyS1@921600 or emulated:FOLDER")
    place.add_argument("--card", type=Path, metavar="FILE", help="an emulated card's file, with no reader between")
    parser.add_argument("--keys", type=Path, metavar="FILE", required=True, help="the desk's key file (`kazashi card keys --new FILE`)")
    return parser


def _keys(options: argparse.Namespace) -> None:
    match options.new, options.keys, options.terminal, options.token, options.empty:
        case Path() as new, _, None, None, False:
            compose.make_desk_keys(new)
            print(f"{new}: the keys of a new town. Whoever has this file can make points: keep it off every vehicle, and keep a copy.")
        case None, Path() as desk, Path() as terminal, None, False:
            compose.make_terminal_keys(desk, terminal)
            print(f"{terminal}: a vehicle's keys, without the issuer's. Whoever has this file can imitate cards: keep it on the vehicle.")
        case None, Path() as desk, None, str(token), False:
            for line in compose.fill_token(desk, token):
                print(f"  {line}")
            print("the token holds a vehicle's keys, without the issuer's; none of them can be read. Write its address into keys.file.")
        case None, None, None, str(token), True:
            print(f"{compose.empty_token(token)} objects destroyed; the token holds nothing of ours")
        case _:
            raise Failure(
                "say --new FILE for a new town's keys, --keys DESK --terminal FILE or --keys DESK --token ADDRESS for a vehicle's, "
                "or --token ADDRESS --empty"
            )


def _with_card(options: argparse.Namespace, act: Callable[[argparse.Namespace, Desk, DeskVault], None]) -> None:
    vault = compose.open_desk_vault(options.keys)
    desk = compose.open_card_file(options.card) if options.card is not None else compose.open_desk(options.reader, print)
    try:
        act(options, desk, vault)
    except (DriverError, WeakCardKey) as error:
        raise Failure(_in_words(error)) from error
    finally:
        desk.close()


def _in_words(error: Exception) -> str:
    match error:
        case CardLost():
            return "the card left too early; lay it down and run the same command again"
        case CardRefused():
            return f"{error}: {felica.meaning(error.sf2)}; run `kazashi card show` to see what the card holds now"
        case NoGoodGrant():
            return f"{error}; `kazashi card grant --restore` writes what the ledgers know"
        case NotIssuable() | WeakCardKey():
            return str(error)
        case NotAuthentic():
            return "the card does not hold this town's key; take a card of the town, or the right key file"
        case CardError():
            return f"{error}; lay the card down and run the same command again"
        case _:
            return f"{error}; run the same command again"


# --- show ---------------------------------------------------------------------------------------------------------------------------------


def _show(_options: argparse.Namespace, desk: Desk, vault: DeskVault) -> None:
    card = desk.card()
    configuration = issuing.look(card)
    if configuration.open_system:
        print("a blank card: `kazashi card issue` makes it the town's")
        return
    reading = _read(card, vault)
    rows = {
        "rider": f"{reading.rider.hex()} (rider key version {vault.rider_key_version})",
        "balance": f"{reading.balance:,} points"
        + (", but the counters contradict each other: settle it from the ledgers" if reading.damaged else ""),
        "granted": _granted(reading),
        "spent": f"{reading.spent:,} points in {reading.counters.debits:,} debit{'' if reading.counters.debits == 1 else 's'}",
        "last debit": _last_debit(reading),
        "counters": f"REGA {reading.counters.rega:08X}, REGB {reading.counters.regb:08X}, WCNT {reading.counters.wcnt:,}",
        "card key": f"version {reading.session.key_version}",
        "memory": "locked, layout frozen" if configuration.frozen else "locked",
    }
    for name, value in rows.items():
        print(f"{name:<11} {value}")


def _read(card: Channel, vault: DeskVault) -> PurseReading:
    return purse.read(card, vault, vault.grants, lambda _rider, _digest: False, secrets.token_bytes)


def _granted(reading: PurseReading) -> str:
    grant = reading.grant
    if grant is None:
        return "nothing yet"
    return f"{grant.total:,} points in all (grant {grant.number}, fiscal year {grant.fiscal_year}, signed by issuer {grant.key_id})"


def _last_debit(reading: PurseReading) -> str:
    if reading.counters.regb == FULL:
        return "none"
    log = RegLog.parse(reading.counters.regc)
    return f"terminal {log.terminal}, {datetime.fromtimestamp(log.time, UTC):%Y-%m-%d %H:%M:%S} UTC, kind {log.kind}"


# --- issue --------------------------------------------------------------------------------------------------------------------------------


def _issue(options: argparse.Namespace, desk: Desk, vault: DeskVault) -> None:
    card = desk.card()
    while _steps(issuing.issue(card, vault, secrets.token_bytes, vault.newest_card_key, freeze=options.freeze)) is Issued.LAY_AGAIN:
        card = desk.lay_again()
    print("the card is the town's; `kazashi card grant` gives its points")


def _steps(steps: issuing.Issuing) -> Issued:
    while True:
        try:
            print(f"  {next(steps).value}")
        except StopIteration as end:
            return Issued(end.value)


# --- grant --------------------------------------------------------------------------------------------------------------------------------


def _grant(options: argparse.Namespace, desk: Desk, vault: DeskVault) -> None:
    wish = _wish(options)
    granted = wish(options, desk.card(), vault)
    if granted is None:
        print("no points are due to this card for this year; nothing was written")
        return
    grant = granted.grant
    print(f"{granted.delivery.value}: grant {grant.number}, fiscal year {grant.fiscal_year}, {grant.total:,} points in all")
    print(f"balance: {granted.balance:,} points")


def _wish(options: argparse.Namespace) -> Callable[[argparse.Namespace, Channel, DeskVault], Granted | None]:
    if options.points is not None and options.points < 1:
        raise Failure(f"--points {options.points}: a grant gives at least one point")
    if options.restore is not None:
        return _restore
    if options.correct is not None:
        if options.points is None:
            raise Failure("--correct NUMBER needs --points N: how many points more")
        return _correct
    if options.points is None and options.scheme is None:
        raise Failure("say --points N, or --scheme FILE and --from LEDGER… so that they can be worked out")
    return _yearly


def _yearly(options: argparse.Namespace, card: Channel, vault: DeskVault) -> Granted | None:
    today = datetime.now(_JAPAN).date()
    year = fiscal_year(today) if options.year is None else options.year
    points = options.points
    if points is None:
        reading = _read(card, vault)
        if reading.grant is not None and not options.ledgers and reading.grant.fiscal_year < year:
            raise Failure("--from LEDGER… is missing: this year's points follow from what was used last year")
        entries = compose.entries_of(options.ledgers)
        points = points_due(compose.open_scheme(options.scheme), entries, reading, year, today)
        already = reading.grant is not None and reading.grant.fiscal_year >= year
        if points < 1 and not already:
            return None
        points = max(1, points)
    return issuing.grant(card, vault, vault.grants, secrets.token_bytes, key_id=vault.issuer_id, fiscal_year=year, points=points)


def _correct(options: argparse.Namespace, card: Channel, vault: DeskVault) -> Granted:
    give = {"key_id": vault.issuer_id, "number": options.correct, "points": options.points}
    return issuing.correct(card, vault, vault.grants, secrets.token_bytes, **give)


def _restore(options: argparse.Namespace, card: Channel, vault: DeskVault) -> Granted:
    try:
        year, total, number = (int(part) for part in options.restore.split(":"))
        known = Grant(vault.issuer_id, year, total, number)
        known.block()
    except (ValueError, OverflowError):
        raise Failure(f"--restore {options.restore}: say fiscal year, total and grant number, as 2026:2000:1") from None
    return issuing.restore(card, vault, vault.grants, secrets.token_bytes, known)


# --- tap ----------------------------------------------------------------------------------------------------------------------------------


def _tap(options: argparse.Namespace, desk: Desk, vault: DeskVault) -> None:
    card = desk.card()
    reading = _read(card, vault)
    if reading.damaged:
        raise Failure("the card's counters contradict each other; nothing was debited, settle it from the ledgers")
    if not 1 <= options.points <= reading.balance:
        raise Failure(f"--points {options.points}: the card has {reading.balance:,}; a debit takes from 1 up to that")
    log = RegLog(_DESK_TERMINAL, int(datetime.now(UTC).timestamp()), _TRIED_OUT)
    purse.debit(card, reading, options.points, log)
    if purse.verify(card, reading) != purse.debited(reading, options.points, log):
        raise Failure("the card does not hold what was written; `kazashi card show` says what it holds")
    print(
        f"{options.points:,} points taken and read back; {reading.balance - options.points:,} left. No ledger knows of it: this was a try."
    )
