"""``kazashi backoffice settle`` and ``grant``: what the city books by itself, on the days on which it does (the root of both commands).

**Settlement day.** Unknown debits that other vehicles' readings prove are booked; then each bill that has closed by then is written down,
once, with its figures: what the page shows as closed, and what a later bill of the same month must agree with. ``--until`` counts only
what had come by the end of a day, so the settlement of a day that was forgotten is the one that would have been made. Nothing depends on
when the command runs (docs/decisions/0016), so a timer may run it every night.

**Grant day.** What each rider used in the fiscal year before comes back (``backoffice.grants``). Run it again when late rides of March have
arrived: it grants the difference, once.

Both say first what they would do, with ``--dry-run``, and do nothing twice. What they print names operators and sums, never a rider.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple, cast

from backoffice import queries
from backoffice.bill import Bill, Month, Status
from backoffice.bill_words import month_ja
from backoffice.billing import Basis, CannotBill, Setting, basis, close, form_argument, language_argument, languages
from backoffice.book import PostingKind, turn_of
from backoffice.grants import GrantKind, RiderGrant
from backoffice.settle import Booking
from fares.dates import first_day, fiscal_year, from_number
from ledger.entry import Entry

_WORDS = {
    "ja": {
        "dry": "（試算。帳簿には何も書いていません）",
        "until": "{day}までに届いた記録による精算。結果の分からなかった支払いがある人: {riders:,}人",
        "booked": "{name}　{month}乗車分: 支払い済みと確認 {rides:,}件 {points:,}ポイント",
        "taken": "{name}　{month}乗車分: 取り消し {rides:,}件 {points:,}ポイント",
        "untold": "{name}　{month}乗車分: 結果を確かめられない支払い {rides:,}件 {points:,}ポイント（請求に含まない）",
        "alarms": "新しい警報: {count:,}件（「要確認」の画面にあります）",
        "closed": "{name}　{month}分: 締めの金額 {rides:,}件 {points:,}ポイント {yen:,}円",
        "later": "締める請求書の金額は、記帳した後に計算します。",
        "nothing": "新しく記帳するものはありません。",
        "grant": "{year}年度の付与",
        "yearly": "年度の付与: {riders:,}人 {points:,}ポイント",
        "correction": "訂正: {riders:,}人 {points:,}ポイント",
        "granted": "付与するものはありません。",
        "missed": "ほかの処理が同時に書いたため、{count:,}人分が残りました。もう一度実行してください。",
        "missing": "まだ届いていない記録が{count:,}件あります。届いた後にもう一度実行すると、差だけを付与します。",
    },
    "en": {
        "dry": "(a trial; nothing was written into the books)",
        "until": "Settlement with what had come until {day}. Riders with a payment of unknown outcome: {riders:,}",
        "booked": "{name}, ridden {month}: found to be paid: {rides:,} rides, {points:,} points",
        "taken": "{name}, ridden {month}: taken back: {rides:,} rides, {points:,} points",
        "untold": "{name}, ridden {month}: cannot be told: {rides:,} payments, {points:,} points (on no bill)",
        "alarms": "new alarms: {count:,} (on the page “To check”)",
        "closed": "{name}, {month}: closes with {rides:,} rides, {points:,} points, {yen:,} yen",
        "later": "Bills that close are worked out when this is booked.",
        "nothing": "There is nothing new to book.",
        "grant": "Grants for fiscal year {year}",
        "yearly": "yearly: {riders:,} riders, {points:,} points",
        "correction": "corrections: {riders:,} riders, {points:,} points",
        "granted": "There is nothing to grant.",
        "missed": "Another program wrote at the same moment; left over: {count:,} riders. Run it again.",
        "missing": "{count:,} entries have not arrived. Run it again when they have: it grants the difference.",
    },
}


class _Say(NamedTuple):
    """A sentence by its name and what is filled in; months are still months."""

    name: str
    values: dict[str, object]

    def told(self, language: str) -> str:
        shown = {key: _month(value, language) if isinstance(value, Month) else value for key, value in self.values.items()}
        return _WORDS[language][self.name].format(**shown)


def _month(month: Month, language: str) -> str:
    return month_ja(month) if language == "ja" else str(month)


def _speak(sentences: Sequence[_Say], said: Sequence[str]) -> None:
    for place, language in enumerate(said):
        if place:
            print()
        for sentence in sentences:
            print(sentence.told(language))


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    language_argument(parser)
    form_argument(parser)


# --- settlement day -----------------------------------------------------------------------------------------------------------------------


def settle_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi backoffice settle``."""
    parser.add_argument("--until", metavar="YYYY-MM-DD", help="with what had come by the end of this day (default: until now)")
    _common(parser)


def run_settle(options: argparse.Namespace, store: queries.Store, setting: Setting, now_ms: int) -> int:
    """Book what is proven and write down the bills that have closed; raises ``CannotBill``."""
    stands_on = basis(setting, options.form)
    day, until_ms = _until(cast("str | None", options.until), stands_on, now_ms)
    found = queries.unsettled(store, until_ms)
    bookings = [booking for booking in found.bookings if booking.at_ms <= until_ms]
    alarms = [alarm for alarm in found.alarms if alarm.at_ms <= until_ms]
    if not options.dry_run:
        queries.book(store, queries.Unsettled(found.riders, tuple(bookings), tuple(alarms), ()))
    sentences = [_Say("until", {"day": day, "riders": found.riders}), *_bookings(bookings, stands_on)]
    sentences += _untold(found.untold, stands_on)
    if alarms:
        sentences.append(_Say("alarms", {"count": len(alarms)}))
    # What is only tried is not in the books, so a bill that hangs on it cannot be told.
    trial = options.dry_run and bool(bookings)
    if trial:
        sentences.append(_Say("later", {}))
    bills = [] if trial else list(_closing(store, stands_on, until_ms))
    for told in bills:
        if not options.dry_run:
            close(store, told, stands_on.zone)
        sentences.append(_figures(told))
    if not bookings and not alarms and not bills:
        sentences.append(_Say("nothing", {}))
    if options.dry_run:
        sentences.insert(0, _Say("dry", {}))
    _speak(sentences, languages(options, setting))
    return 0


def _until(text: str | None, stands_on: Basis, now_ms: int) -> tuple[date, int]:
    """The day, and its last millisecond or now, whichever is earlier."""
    today = datetime.fromtimestamp(now_ms / 1000, stands_on.zone).date()
    if text is None:
        return today, now_ms
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise CannotBill(f"--until {text}: write a day as YYYY-MM-DD, such as 2026-12-15") from error
    if day > today:
        raise CannotBill(f"--until {text}: this day is still to come; name today or a day before")
    ends = datetime.combine(day + timedelta(days=1), datetime.min.time(), stands_on.zone)
    return day, min(now_ms, int(ends.timestamp() * 1000) - 1)


def _bookings(bookings: Iterable[Booking], stands_on: Basis) -> list[_Say]:
    """By operator and month of the ride: what was found to be paid, and what is taken back."""
    rides, points = Counter[tuple[str, Month, str]](), Counter[tuple[str, Month, str]]()
    for key, posting, service_day, _, _ in bookings:
        del key
        if posting.kind is not PostingKind.POINTS:
            continue
        taken = turn_of(posting.leg) % 2 == 0
        account = posting.debit if taken else posting.credit
        where = (account.removeprefix("operator:").rpartition(":")[0], Month.of(service_day), "taken" if taken else "booked")
        rides[where] += 1
        points[where] += posting.amount
    return [
        _Say(name, {"name": _name(operator, stands_on), "month": month, "rides": rides[where], "points": points[where]})
        for where in sorted(rides)
        for operator, month, name in [where]
    ]


def _untold(entries: Iterable[Entry], stands_on: Basis) -> list[_Say]:
    rides, points = Counter[tuple[str, Month]](), Counter[tuple[str, Month]]()
    for entry in entries:
        where = (entry.place.operator, Month.of(entry.place.service_day))
        rides[where] += 1
        points[where] += entry.fare.points
    return [
        _Say("untold", {"name": _name(where[0], stands_on), "month": where[1], "rides": rides[where], "points": points[where]})
        for where in sorted(rides)
    ]


def _closing(store: queries.Store, stands_on: Basis, until_ms: int) -> Iterable[Bill]:
    """The bills that have closed by ``until_ms`` and are not written down. An operator whose first vehicle came later has none."""
    terms = stands_on.terms
    with store.reading() as connection:
        month, written = queries.first_month(connection, terms, day_of=stands_on.day_of), queries.closed_bills(connection)
    while month is not None and terms.closes_ms(month) <= until_ms:
        with store.reading() as connection:
            for operator, since_ms in queries.operators(connection, month.first_day, month.last_day).items():
                if (operator, month) in written:
                    continue
                told = stands_on.bill(connection, operator, month, until_ms)
                if told.status is Status.FINAL and (told.lines or 0 < since_ms <= told.closes_ms):
                    yield told
        month = month.following


def _figures(told: Bill) -> _Say:
    return _Say("closed", {"name": told.whose, "month": told.month, "rides": told.rides, "points": told.points, "yen": told.yen})


def _name(operator: str, stands_on: Basis) -> str:
    return stands_on.names.get(operator) or operator


# --- grant day ----------------------------------------------------------------------------------------------------------------------------


def grant_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi backoffice grant``."""
    parser.add_argument("--year", type=int, metavar="YYYY", help="the fiscal year that begins on 1 April (default: the one that runs)")
    _common(parser)


def run_grant(options: argparse.Namespace, store: queries.Store, setting: Setting, now_ms: int) -> int:
    """Bring every rider's grant up to date, 1 when some are left over; raises ``CannotBill``."""
    stands_on = basis(setting, options.form)
    today = datetime.fromtimestamp(now_ms / 1000, stands_on.zone).date()
    running = fiscal_year(today)
    year = running if options.year is None else cast("int", options.year)
    if not 1900 <= year <= running:
        raise CannotBill(f"--year {year}: the grants of a fiscal year are made from its 1 April on; name {running} or one before")
    if stands_on.scheme.version(first_day(year)) is None:
        raise CannotBill(f"--year {year}: the scheme '{stands_on.scheme.name}' was not in force on {first_day(year)}")
    with store.reading() as connection:
        begins = from_number(queries.books_begin(connection))
    if first_day(year - 1) < begins:
        raise CannotBill(f"--year {year}: the rides of the year before are not all kept, the books begin on {begins}")
    due = list(queries.grants_due(store, stands_on.scheme, year, now_ms, day_of=stands_on.day_of))
    made = due if options.dry_run else [grant for grant in due if queries.keep_grant(store, grant)]
    with store.reading() as connection:
        missing = queries.missing(connection)
    sentences = [_Say("dry", {})] if options.dry_run else []
    sentences += [_Say("grant", {"year": year}), *_grants(made)]
    if len(made) < len(due):
        sentences.append(_Say("missed", {"count": len(due) - len(made)}))
    if missing:
        sentences.append(_Say("missing", {"count": missing}))
    _speak(sentences, languages(options, setting))
    return 1 if len(made) < len(due) else 0


def _grants(made: Sequence[RiderGrant]) -> list[_Say]:
    told: list[_Say] = []
    for kind in GrantKind:
        own = [grant for grant in made if grant.kind is kind]
        if own:
            told.append(_Say(kind.value, {"riders": len(own), "points": sum(grant.points for grant in own)}))
    return told or [_Say("granted", {})]
