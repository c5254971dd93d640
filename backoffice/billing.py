"""``kazashi backoffice bill``: one operator's month, on the terminal, as CSV, as a letter; from the books or from the raw batches.

The command settles first: what other vehicles' readings prove by now is booked before anything is added up. With ``--from-raw`` the same
month is worked out once more from the sealed batches alone (``backoffice.raw``) and the two are compared; a difference is an error, because
one of the two is then wrong.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, tzinfo
from pathlib import Path
from typing import Protocol, cast

from backoffice import bill_csv, bill_words, invoice, queries, raw
from backoffice.bill import Bill, Closed, Month, Status, Terms
from backoffice.settings import Told
from fares.dates import from_number
from fares.faults import Unusable
from fares.scheme import Scheme, load

FORM = Path(__file__).with_name("bill.toml")
_EPOCH = date(1970, 1, 1)


class CannotBill(Exception):
    """The command cannot do what was asked; the message is one sentence."""


class Setting(Protocol):
    """What the command needs of the city's settings."""

    @property
    def zone(self) -> tzinfo: ...
    @property
    def scheme(self) -> Path: ...
    @property
    def form(self) -> Path | None: ...
    @property
    def operators(self) -> Mapping[str, str]: ...
    @property
    def told(self) -> Told: ...


@dataclass(frozen=True, slots=True)
class Basis:
    """What every bill of a city stands on: its form, its scheme (the one place that says what a point is worth), its operators' names."""

    form: invoice.Form
    scheme: Scheme
    zone: tzinfo
    names: Mapping[str, str]

    @property
    def terms(self) -> Terms:
        """When days are final, and what a point is worth."""
        return Terms(self.zone, self.form.provisional_at, self.form.final_after_days, self.scheme.yen_per_point)

    def day_of(self, utc_ms: int) -> int:
        """The service day of a time in Unix ms, as days since 1970-01-01."""
        local = datetime.fromtimestamp(utc_ms / 1000, self.zone)
        return (local.date() - _EPOCH).days - (local.time() < self.form.service_day_starts)

    def bill(self, connection: queries.Moment, operator: str, month: Month, as_of_ms: int) -> Bill:
        """The one sum that the letter, the table, the CSV and the clerks' page show; from the books as they are (settle first)."""
        begins = queries.books_begin(connection)
        if month.first_day < begins:
            raise CannotBill(_gone(operator, month, begins, queries.closed_bills(connection).get((operator, month))))
        told = queries.bill_of(connection, operator, month, self.terms, as_of_ms, day_of=self.day_of)
        return replace(told, name=self.names.get(operator, ""))

    def of_month(self, connection: queries.Moment, month: Month, as_of_ms: int) -> tuple[Bill, ...]:
        """The bill of everybody who has a vehicle or has anything on it; none for a month of which not all is kept."""
        if month.first_day < queries.books_begin(connection):
            return ()
        everybody = queries.operators(connection, month.first_day, month.last_day)
        told = (self.bill(connection, operator, month, as_of_ms) for operator in everybody)
        return tuple(each for each in told if each.lines or each.tally.coins or each.remarks.unknown or each.remarks.missing)

    def closed(self, connection: queries.Moment) -> Mapping[tuple[str, Month], Closed]:
        """Every bill that was closed."""
        return queries.closed_bills(connection)


def _gone(operator: str, month: Month, begins: int, closed: Closed | None) -> str:
    """Why there is no bill of a month that the books do not reach back to any more."""
    told = f"{operator}, {month}: the books begin on {from_number(begins)}, what was before was let go of (`kazashi backoffice retain`)"
    if closed is None:
        return f"{told}; no bill of this month was closed"
    return f"{told}; the bill was closed with {closed.rides:,} rides, {closed.points:,} points and {closed.yen:,} yen"


def basis(setting: Setting, form: Path | None = None) -> Basis:
    """What ``setting`` says, with another ``form`` if one is named. Raises ``CannotBill``."""
    path = form or setting.form or FORM
    try:
        read = invoice.read(path.read_bytes(), str(path))
        return Basis(read, load(setting.scheme), setting.zone, setting.operators)
    except OSError as error:
        raise CannotBill(f"{path}: cannot be read ({error.strerror}); name the form file") from error
    except Unusable as unusable:
        raise CannotBill(str(unusable)) from unusable


def bill_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi backoffice bill``."""
    parser.add_argument("--operator", required=True, metavar="ID", help="whose rides, as entries name the operator")
    parser.add_argument("--month", required=True, metavar="YYYY-MM", help="in which the rides were")
    language_argument(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the bill as CSV too")
    parser.add_argument("--encoding", choices=bill_csv.ENCODINGS, default=bill_csv.ENCODINGS[0], help="of the CSV (default: %(default)s)")
    parser.add_argument("--pdf", type=Path, metavar="FILE", help="write the letter (請求書) too")
    form_argument(parser)
    parser.add_argument("--from-raw", action="store_true", help="work it out once more from the sealed batches alone, and compare")


def language_argument(parser: argparse.ArgumentParser) -> None:
    """``--language``, as every command of the city's has it."""
    parser.add_argument("--language", choices=tuple(Told), help="of the sentences (default: the settings' language, else both)")


def form_argument(parser: argparse.ArgumentParser) -> None:
    """``--form``."""
    parser.add_argument("--form", type=Path, metavar="FILE", help="when bills close, and letter heads (default: the settings' bill.form)")


def languages(options: argparse.Namespace, setting: Setting) -> tuple[str, ...]:
    """The languages to speak in, one after the other."""
    return (Told(options.language) if options.language else setting.told).languages


def run_bill(options: argparse.Namespace, store: queries.Store, setting: Setting, now_ms: int) -> int:
    """Make the bill that ``options`` ask for, as of ``now_ms``; raises ``CannotBill``."""
    stands_on = basis(setting, cast("Path | None", options.form))
    this_month = Month.of((datetime.fromtimestamp(now_ms / 1000, stands_on.zone).date() - _EPOCH).days)
    month, operator = _month(cast("str", options.month), this_month), cast("str", options.operator)
    queries.settle_all(store)
    told = _told(store, stands_on, operator, month, now_ms)
    said = languages(options, setting)
    print("\n\n".join(bill_words.table(told, language) for language in said))
    if told.status is Status.FINAL:
        close(store, told, stands_on.zone)
    if options.from_raw:
        _compare(store, told, stands_on, said)
    if options.csv:
        _write(options.csv, _csv(told, options.encoding))
    if options.pdf:
        _write(options.pdf, _pdf(told, stands_on))
    return 0


def bill_file(store: queries.Store, stands_on: Basis, operator: str, month: Month, *, kind: str, now_ms: int) -> tuple[bytes, Bill]:
    """The bill as "csv" or "pdf", from the books as they stand and without settling first; raises ``CannotBill``."""
    told = _told(store, stands_on, operator, month, now_ms)
    return _pdf(told, stands_on) if kind == "pdf" else _csv(told, bill_csv.ENCODINGS[0]), told


def close(store: queries.Store, told: Bill, zone: tzinfo) -> Closed:
    """Write a final bill down, once. Raises ``CannotBill`` when another one was written down before."""
    kept = queries.keep_bill(store, told)
    if not kept.agrees(told):
        on = datetime.fromtimestamp(kept.at_ms / 1000, zone).date()
        raise CannotBill(
            f"{told.operator}, {told.month}: the bill was closed on {on} with {kept.rides:,} rides, {kept.points:,} points and "
            f"{kept.yen:,} yen, and now comes to {told.rides:,}, {told.points:,} and {told.yen:,}; do not send this one, and compare "
            "form, scheme and books"
        )
    return kept


def _told(store: queries.Store, stands_on: Basis, operator: str, month: Month, now_ms: int) -> Bill:
    with store.reading() as connection:
        if not queries.knows_operator(connection, operator):
            raise CannotBill(f"--operator {operator}: no vehicle and no ride is of this operator; `kazashi backoffice devices` lists them")
        return stands_on.bill(connection, operator, month, now_ms)


def _month(text: str, this: Month) -> Month:
    try:
        month = Month.parse(text)
    except ValueError as error:
        raise CannotBill(f"--month {text}: write a month as YYYY-MM, such as 2026-11") from error
    first = Month.of(0)
    if not first <= month <= this:
        raise CannotBill(f"--month {text}: name a month from {first} to {this}")
    return month


_SAME = {
    "ja": "元の束だけから計算し直した結果: {0:,}件、{1:,}ポイント、{2:,}円。同じです。",
    "en": "from the raw batches alone: {0:,} rides, {1:,} points, {2:,} yen; the same.",
}


def _compare(store: queries.Store, told: Bill, stands_on: Basis, said: Sequence[str]) -> None:
    form = stands_on.form
    rules = raw.Rules(stands_on.zone, form.provisional_at, form.final_after_days, stands_on.scheme.yen_per_point, form.service_day_starts)
    with store.reading() as connection:
        again = raw.recompute(
            queries.raw_batches(connection),
            told.operator,
            (told.month.year, told.month.month),
            rules,
            told.as_of_ms,
            forgotten=queries.forgotten(connection),
        )
    if (again.rides, again.points, again.yen) != (told.rides, told.points, told.yen):
        raise CannotBill(
            f"the raw batches give {again.rides:,} rides, {again.points:,} points and {again.yen:,} yen, the books {told.rides:,}, "
            f"{told.points:,} and {told.yen:,}; do not send this bill, and have the books looked at"
        )
    print()
    for language in said:
        print(_SAME[language].format(again.rides, again.points, again.yen))


def _csv(told: Bill, encoding: str) -> bytes:
    try:
        return bill_csv.write(told, encoding)
    except bill_csv.NotInEncoding as error:
        raise CannotBill(str(error)) from error


def _pdf(told: Bill, stands_on: Basis) -> bytes:
    from backoffice import bill_pdf

    try:
        bill_pdf.load_fonts()
    except bill_pdf.FontMissing as error:
        raise CannotBill(str(error)) from error
    pages = invoice.pages(told, stands_on.form, stands_on.zone, bill_pdf.width)
    return bill_pdf.paint(pages, f"請求書 {told.whose} {told.month}")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CannotBill(f"{path}: cannot be written ({error.strerror}); name another file") from error
    print(f"{path}: written")
