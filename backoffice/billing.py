"""``kazashi backoffice bill``: one operator's month, on the terminal, as CSV, as a letter; from the books or from the raw batches.

The command settles first: what other vehicles' readings prove by now is booked before anything is added up. With ``--from-raw`` the same
month is worked out once more from the sealed batches alone (``backoffice.raw``) and the two are compared; a difference is an error, because
one of the two is then wrong.
"""

import argparse
from collections.abc import Callable
from datetime import date, datetime, time, tzinfo
from pathlib import Path
from typing import Protocol, cast

from backoffice import bill_csv, bill_words, invoice, queries, raw
from backoffice.bill import Bill, Month, Status, Terms
from fares.faults import Unusable

FORM = Path(__file__).with_name("bill.toml")
_EPOCH = date(1970, 1, 1)


class CannotBill(Exception):
    """The command cannot do what was asked; the message is one sentence."""


class Setting(Protocol):
    """What the command needs of the city's settings."""

    @property
    def zone(self) -> tzinfo: ...


def bill_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi backoffice bill``."""
    parser.add_argument("--operator", required=True, metavar="ID", help="whose rides, as entries name the operator")
    parser.add_argument("--month", required=True, metavar="YYYY-MM", help="in which the rides were")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the bill as CSV too")
    parser.add_argument("--encoding", choices=bill_csv.ENCODINGS, default=bill_csv.ENCODINGS[0], help="of the CSV (default: %(default)s)")
    parser.add_argument("--pdf", type=Path, metavar="FILE", help="write the letter (請求書) too")
    parser.add_argument("--form", type=Path, metavar="FILE", help="letter heads, and when bills close (default: the one that comes along)")
    parser.add_argument("--from-raw", action="store_true", help="work it out once more from the sealed batches alone, and compare")


def run_bill(options: argparse.Namespace, store: queries.Store, setting: Setting, now_ms: int) -> int:
    """Make the bill that ``options`` ask for, as of ``now_ms``; raises ``CannotBill``."""
    month, operator = _month(cast("str", options.month)), cast("str", options.operator)
    form = _form(cast("Path | None", options.form))
    terms = Terms(setting.zone, form.provisional_at, form.final_after_days, lambda _: form.yen_per_point)
    queries.settle_all(store)
    with store.reading() as connection:
        if not queries.knows_operator(connection, operator):
            raise CannotBill(f"--operator {operator}: no vehicle and no ride is of this operator; `kazashi backoffice devices` lists them")
        told = queries.bill_of(connection, operator, month, terms, now_ms, day_of=_day_of(setting.zone, form.service_day_starts))
    print(bill_words.table(told))
    if options.from_raw:
        _compare(store, told, form, setting.zone)
    if options.csv:
        _write(options.csv, _csv(told, options.encoding))
    if options.pdf:
        _write(options.pdf, _pdf(told, form, setting.zone))
    if told.status is Status.FINAL:
        queries.keep_bill(store, told, {"rides": told.rides, "points": told.points, "yen": told.yen})
    return 0


def bill_file(store: queries.Store, setting: Setting, operator: str, month: Month, *, kind: str, now_ms: int) -> bytes:
    """The bill as "csv" or "pdf", from the books as they stand and without settling first; raises ``CannotBill``."""
    form = _form(None)
    terms = Terms(setting.zone, form.provisional_at, form.final_after_days, lambda _: form.yen_per_point)
    with store.reading() as connection:
        if not queries.knows_operator(connection, operator):
            raise CannotBill("no vehicle and no ride is of this operator")
        told = queries.bill_of(connection, operator, month, terms, now_ms, day_of=_day_of(setting.zone, form.service_day_starts))
    return _pdf(told, form, setting.zone) if kind == "pdf" else _csv(told, bill_csv.ENCODINGS[0])


def _month(text: str) -> Month:
    try:
        return Month.parse(text)
    except ValueError as error:
        raise CannotBill(f"--month {text}: write a month as YYYY-MM, such as 2026-11") from error


def _form(file: Path | None) -> invoice.Form:
    path = file or FORM
    try:
        return invoice.read(path.read_bytes(), str(path))
    except OSError as error:
        raise CannotBill(f"{path}: cannot be read ({error.strerror}); name the form file") from error
    except Unusable as unusable:
        raise CannotBill(str(unusable)) from unusable


def _day_of(zone: tzinfo, starts: time) -> Callable[[int], int]:
    def day_of(utc_ms: int) -> int:
        local = datetime.fromtimestamp(utc_ms / 1000, zone)
        return (local.date() - _EPOCH).days - (local.time() < starts)

    return day_of


def _compare(store: queries.Store, told: Bill, form: invoice.Form, zone: tzinfo) -> None:
    rules = raw.Rules(zone, form.provisional_at, form.final_after_days, lambda _: form.yen_per_point, form.service_day_starts)
    with store.reading() as connection:
        again = raw.recompute(queries.raw_batches(connection), told.operator, (told.month.year, told.month.month), rules, told.as_of_ms)
    if (again.rides, again.points, again.yen) != (told.rides, told.points, told.yen):
        raise CannotBill(
            f"the raw batches give {again.rides:,} rides, {again.points:,} points and {again.yen:,} yen, the books {told.rides:,}, "
            f"{told.points:,} and {told.yen:,}; do not send this bill, and have the books looked at"
        )
    print(f"\nfrom the raw batches alone: {again.rides:,} rides, {again.points:,} points, {again.yen:,} yen; the same.")


def _csv(told: Bill, encoding: str) -> bytes:
    try:
        return bill_csv.write(told, encoding)
    except bill_csv.NotInEncoding as error:
        raise CannotBill(str(error)) from error


def _pdf(told: Bill, form: invoice.Form, zone: tzinfo) -> bytes:
    from backoffice import bill_pdf

    try:
        bill_pdf.load_fonts()
    except bill_pdf.FontMissing as error:
        raise CannotBill(str(error)) from error
    return bill_pdf.paint(invoice.pages(told, form, zone, bill_pdf.width), f"請求書 {told.operator} {told.month}")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CannotBill(f"{path}: cannot be written ({error.strerror}); name another file") from error
    print(f"{path}: written")
