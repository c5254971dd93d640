"""Adapter: what bills, settlement and grants read from the books, and the few rows that they add (SQLAlchemy).

A month of one operator is added up by the database: postings are grouped by day, kind, turn and the quarter of an hour in which they became
known, which is as fine as any date of a bill is. Only what a sum cannot tell is fetched entry by entry: riders with an unknown debit, and
entries of vehicles that did not know the day.

Settling adds postings and alarms under their own keys, each in a transaction of its own; what is there already is left as it is. So one
that was killed is run again, and where two settlements meet the second finds the rows of the first.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Table, and_, case, func, insert, literal, or_, select, true
from sqlalchemy.exc import IntegrityError

from backoffice import schema
from backoffice.bill import BESIDE_COINS, Bill, Closed, Month, Movement, Remarks, Status, Terms, bill
from backoffice.book import THE_CITY, TURN, PostingKind, granted, turn_of
from backoffice.grants import GrantKind, RiderGrant, due
from backoffice.histories import history, stamps
from backoffice.settle import Alarm, Booking, Dated, accounts_of, dated_by, settle
from backoffice.witness import Judgement, Key, Verdict
from fares.dates import first_day
from fares.scheme import Scheme
from ledger.entry import Entry, Kind

QUARTER_MS = 900_000
"""Bills look no closer at when something became known."""

_UNSURE = (int(Kind.UNKNOWN), int(Kind.RESOLVED))


Moment = Connection
"""The books as they are at one moment."""


class Store(Protocol):
    """The city's database."""

    def reading(self) -> AbstractContextManager[Connection]: ...
    def writing(self) -> AbstractContextManager[Connection]: ...


@dataclass(frozen=True, slots=True)
class Added:
    """What a settlement added, over how many riders with an unknown debit."""

    riders: int
    bookings: int
    alarms: int


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What is proven and not booked yet, what a person has not been told yet, and debits that cannot be told. ``riders``: looked at."""

    riders: int
    bookings: tuple[Booking, ...]
    alarms: tuple[Alarm, ...]
    untold: tuple[Entry, ...]


# --- settling -----------------------------------------------------------------------------------------------------------------------------


def settle_all(store: Store, until_ms: int | None = None) -> Added:
    """Book what other vehicles' readings prove, for every rider with an unknown debit. Run it as often as you like."""
    return book(store, unsettled(store, until_ms))


def unsettled(store: Store, until_ms: int | None = None) -> Unsettled:
    """What would be booked, from all that is here (``until_ms``: that had come by then). Changes nothing."""
    entry = schema.entry
    with store.reading() as connection:
        riders = list(connection.scalars(select(entry.c.rider).where(entry.c.kind.in_(_UNSURE), entry.c.rider.is_not(None)).distinct()))
    bookings, alarms, untold = list[Booking](), list[Alarm](), list[Entry]()
    for rider in riders:
        with store.reading() as connection:
            found = settle(history(connection, rider, until_ms))
            bookings += _missing_bookings(connection, found.bookings)
            alarms += _missing_alarms(connection, found.alarms)
        untold += [judgement.entry for judgement in found.judgements if _cannot_be_told(judgement)]
    return Unsettled(len(riders), tuple(bookings), tuple(alarms), tuple(untold))


def book(store: Store, found: Unsettled) -> Added:
    """Write it down; what somebody else wrote meanwhile is not counted."""
    bookings = _add(store, schema.posting, [_posting(booking) for booking in found.bookings])
    return Added(found.riders, bookings, _add(store, schema.alarm, [_alarm(alarm) for alarm in found.alarms]))


def _cannot_be_told(judgement: Judgement) -> bool:
    return judgement.verdict in {Verdict.UNTOLD, Verdict.CONTRADICTED} and not judgement.paid_since_ms


def _missing_bookings(connection: Connection, bookings: Sequence[Booking]) -> list[Booking]:
    return [
        booking for booking in bookings if not _there(connection, schema.posting, booking.key, schema.posting.c.leg == booking.posting.leg)
    ]


def _missing_alarms(connection: Connection, alarms: Sequence[Alarm]) -> list[Alarm]:
    return [alarm for alarm in alarms if not _there(connection, schema.alarm, alarm.key, schema.alarm.c.kind == alarm.trouble.value)]


def _there(connection: Connection, table: Table, key: Key, more: ColumnElement[bool]) -> bool:
    here = and_(table.c.device == key.device, table.c.epoch == key.epoch, table.c.seq == key.seq, more)
    return connection.scalar(select(func.count()).select_from(table).where(here)) != 0


def _add(store: Store, table: Table, values: list[dict[str, Any]]) -> int:
    added = 0
    for value in values:
        try:
            with store.writing() as connection:
                connection.execute(insert(table), value)
        except IntegrityError:  # another settlement was quicker; it wrote the same
            continue
        added += 1
    return added


def _posting(booking: Booking) -> dict[str, Any]:
    key, posting, day, at_ms, corrects = booking
    row = {**key._asdict(), **posting._asdict(), "kind": int(posting.kind), "service_day": day, "at_ms": at_ms}
    # A conclusion points at the entry that it is about, a correction at the posting that it takes back.
    return row | {"ref_device": key.device, "ref_epoch": key.epoch, "ref_seq": key.seq, "ref_leg": corrects or None}


def _alarm(alarm: Alarm) -> dict[str, Any]:
    return {**alarm.key._asdict(), "kind": alarm.trouble.value, "at_ms": alarm.at_ms, "sentence": alarm.sentence}


# --- a bill -------------------------------------------------------------------------------------------------------------------------------


def bill_of(connection: Connection, operator: str, month: Month, terms: Terms, as_of_ms: int, *, day_of: Callable[[int], int]) -> Bill:
    """The bill, from the books as they are (settle first). ``day_of``: the operator's service day of a time in Unix ms."""
    undated = _Undated(connection, day_of)
    moved = [*_dated(connection, operator, month, terms, as_of_ms), *undated.movements(operator)]
    cut_ms = min(as_of_ms, terms.closes_ms(month) - 1)
    found = bill(operator, month, moved, terms, as_of_ms)
    return bill(operator, month, moved, terms, as_of_ms, remarks=_remarks(connection, found, undated, cut_ms))


def knows_operator(connection: Connection, operator: str) -> bool:
    """Some device or some entry is this operator's."""
    device, posting = schema.device, schema.posting
    if connection.scalar(select(func.count()).select_from(device).where(device.c.operator == operator)):
        return True
    return connection.execute(select(posting.c.seq).where(_of(operator)).limit(1)).first() is not None


def raw_batches(connection: Connection) -> Iterator[tuple[int, bytes]]:
    """Every sealed batch that brought something, and when it came."""
    batch = schema.batch
    for received_ms, sealed in connection.execute(select(batch.c.received_ms, batch.c.sealed).order_by(batch.c.id)):
        yield received_ms, bytes(sealed)


def books_begin(connection: Connection) -> int:
    """The first day (since 1970-01-01) of which all is kept; 0 when nothing was ever let go of (``backoffice.retention``)."""
    return connection.scalar(select(func.max(schema.horizon.c.before_day))) or 0


def forgotten(connection: Connection) -> Callable[[int, int, int], bool]:
    """Whether an entry (device, epoch, seq) was let go of."""
    table = schema.forgotten
    runs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for device, epoch, first, last in connection.execute(select(table).order_by(*table.primary_key.columns)):
        runs.setdefault((device, epoch), []).append((first, last))

    def gone(device: int, epoch: int, seq: int) -> bool:
        own = runs.get((device, epoch), [])
        at = bisect_right(own, seq, key=lambda run: run[0])
        return at > 0 and seq <= own[at - 1][1]

    return gone


def keep_bill(store: Store, told: Bill) -> Closed:
    """Write a closed bill down, once; as it was written, now or before."""
    number = told.month.year * 100 + told.month.month
    figures: dict[str, Any] = {"rides": told.rides, "points": told.points, "yen": told.yen}
    figures |= {"lines": [[line.part.value, str(line.month), line.rides, line.points, line.yen] for line in told.lines]}
    row = {"operator": told.operator, "month": number, "kind": told.status.value, "at_ms": told.as_of_ms, "figures": figures}
    try:
        with store.writing() as connection:
            connection.execute(insert(schema.settlement), row)
    except IntegrityError:
        with store.reading() as connection:
            return closed_bills(connection)[told.operator, told.month]
    return Closed(told.operator, told.month, told.as_of_ms, told.rides, told.points, told.yen)


def closed_bills(connection: Connection) -> dict[tuple[str, Month], Closed]:
    """Every bill that was closed."""
    found: dict[tuple[str, Month], Closed] = {}
    for row in connection.execute(select(schema.settlement).where(schema.settlement.c.kind == Status.FINAL.value)):
        month, figures = Month(*divmod(row.month, 100)), row.figures
        found[row.operator, month] = Closed(row.operator, month, row.at_ms, figures["rides"], figures["points"], figures["yen"])
    return found


def operators(connection: Connection, first_day: int, last_day: int) -> dict[str, int]:
    """Whoever has a vehicle, or had rides on one of these days or on a day that the vehicle did not know; and since when (Unix ms) the city
    knows of a vehicle of theirs, 0 for of none.
    """
    device, posting = schema.device, schema.posting
    found = {
        row[0]: row[1] for row in connection.execute(select(device.c.operator, func.min(device.c.created_ms)).group_by(device.c.operator))
    }
    days = or_(posting.c.service_day.between(first_day, last_day), posting.c.service_day == 0)
    accounts = select(posting.c.credit).where(days, posting.c.credit.like("operator:%")).distinct()
    names = {account.removeprefix("operator:").rpartition(":")[0] for account in connection.scalars(accounts)}
    return {name: found.get(name) or 0 for name in sorted({*found, *names} - {""})}


def first_month(connection: Connection, terms: Terms, *, day_of: Callable[[int], int]) -> Month | None:
    """No bill before this month has anything on it, or can be made; None in empty books. ``day_of``: as for ``bill_of``."""
    posting = schema.posting
    first: int | None = connection.scalar(select(func.min(posting.c.service_day)).where(posting.c.service_day > 0))
    known_ms: int | None = connection.scalar(select(func.min(posting.c.at_ms)))
    days = [*([] if first is None else [first]), *_Undated(connection, day_of).booked_days()]
    if known_ms is None or not days:
        return None
    return max(terms.billed_in(min(days), known_ms), Month.of(books_begin(connection)))


def _of(operator: str) -> ColumnElement[bool]:
    own = sorted(accounts_of(operator))
    return or_(schema.posting.c.credit.in_(own), schema.posting.c.debit.in_(own))


def _dated(connection: Connection, operator: str, month: Month, terms: Terms, as_of_ms: int) -> Iterator[Movement]:
    posting = schema.posting
    this_month = posting.c.service_day.between(month.first_day, month.last_day)
    earlier = and_(posting.c.service_day.between(1, month.first_day - 1), posting.c.at_ms >= terms.closes_ms(month.previous))
    quarter, turn = posting.c.at_ms // QUARTER_MS, posting.c.leg // TURN
    each = (
        select(
            posting.c.service_day,
            quarter.label("quarters"),
            posting.c.kind,
            turn.label("turn"),
            _coins_alone().label("alone"),
            posting.c.amount,
        )
        .where(_of(operator), or_(this_month, earlier), posting.c.at_ms < terms.closes_ms(month), posting.c.at_ms <= as_of_ms)
        .subquery()
    )
    group = (each.c.service_day, each.c.quarters, each.c.kind, each.c.turn, each.c.alone)
    asked = select(*group, func.sum(each.c.amount), func.count()).group_by(*group)
    for day, quarters, kind, which, alone, amount, count in connection.execute(asked):
        yield Movement(day, quarters * QUARTER_MS, PostingKind(kind), which, int(amount), count, alone=bool(alone))


def _coins_alone() -> ColumnElement[int]:
    """1 for the coins of a ride for which nothing else was booked."""
    posting, beside = schema.posting, schema.posting.alias("beside")
    ride = and_(beside.c.device == posting.c.device, beside.c.epoch == posting.c.epoch, beside.c.seq == posting.c.seq)
    other = beside.c.leg.in_([posting.c.leg + step for step in BESIDE_COINS])
    others = select(literal(1)).select_from(beside).where(ride, other).exists()
    return case((and_(posting.c.kind == int(PostingKind.CASH), ~others), 1), else_=0)


class _Undated:
    """Postings of entries whose vehicle did not know the day, and the days that were found."""

    def __init__(self, connection: Connection, day_of: Callable[[int], int]) -> None:
        posting = schema.posting
        self._postings = connection.execute(select(posting).where(posting.c.service_day == 0)).all()
        self._legs = {(row.device, row.epoch, row.seq, row.leg) for row in self._postings}
        self.days: dict[Key, Dated] = {}
        for device, epoch in sorted({(row.device, row.epoch) for row in self._postings}):
            found = dated_by(stamps(connection, device, epoch), day_of)
            self.days |= {Key(device, epoch, seq): dated for seq, dated in found.items()}

    def movements(self, operator: str) -> Iterator[Movement]:
        for row, dated in self._own(operator):
            alone = not any((row.device, row.epoch, row.seq, row.leg + step) in self._legs for step in BESIDE_COINS)
            at_ms = max(row.at_ms, dated.since_ms)
            yield Movement(dated.service_day, at_ms, PostingKind(row.kind), turn_of(row.leg), row.amount, alone=alone)

    def booked_days(self) -> Iterator[int]:
        """The day of each posting."""
        return (self.days[Key(row.device, row.epoch, row.seq)].service_day for row in self._postings)

    def names(self, operator: str, month: Month) -> list[str]:
        """The entries that are billed in a month by the day that was found."""
        found = {Key(row.device, row.epoch, row.seq) for row, dated in self._own(operator) if Month.of(dated.service_day) == month}
        return [f"端末{key.device} 記録{key.seq}" for key in sorted(found)]

    def _own(self, operator: str) -> Iterator[tuple[Any, Dated]]:
        own = accounts_of(operator)
        for row in self._postings:
            if row.credit in own or row.debit in own:
                yield row, self.days[Key(row.device, row.epoch, row.seq)]


def _remarks(connection: Connection, told: Bill, undated: _Undated, cut_ms: int) -> Remarks:
    unsure = _unknown(connection, told.operator, told.month, cut_ms)
    return Remarks(
        unknown=len(unsure),
        unknown_points=sum(unsure),
        repaired=tuple(undated.names(told.operator, told.month)),
        missing=missing(connection, told.operator),
        lost=_lost(connection, told.operator),
    )


def _unknown(connection: Connection, operator: str, month: Month, cut_ms: int) -> list[int]:
    """The points of each debit of the month that could not be told by then."""
    entry = schema.entry
    here = and_(
        entry.c.service_day.between(month.first_day, month.last_day),
        entry.c.kind == int(Kind.UNKNOWN),
        entry.c.rider.is_not(None),
        entry.c.operator == operator,
        entry.c.received_ms <= cut_ms,
    )
    riders = connection.scalars(select(entry.c.rider).where(here).distinct()).all()
    untold = (
        judgement.entry
        for rider in riders
        for judgement in settle(history(connection, rider, cut_ms)).judgements
        if _cannot_be_told(judgement)
    )
    return [
        each.fare.points
        for each in untold
        if each.place.operator == operator and month.first_day <= each.place.service_day <= month.last_day
    ]


def missing(connection: Connection, operator: str | None = None) -> int:
    """Entries that lie below one that came; of all operators, or of one."""
    ledger, island, device = schema.ledger, schema.island, schema.device
    asked = (
        select(
            ledger.c.device,
            ledger.c.epoch,
            ledger.c.next_seq,
            func.max(island.c.last_seq),
            func.sum(island.c.last_seq - island.c.first_seq + 1),
        )
        .select_from(ledger)
        .join(device, device.c.id == ledger.c.device)
        .join(island, and_(island.c.device == ledger.c.device, island.c.epoch == ledger.c.epoch))
        .where(true() if operator is None else device.c.operator == operator)
        .group_by(ledger.c.device, ledger.c.epoch, ledger.c.next_seq)
    )
    return sum(int(highest) - next_seq + 1 - int(there) for _, _, next_seq, highest, there in connection.execute(asked))


def _lost(connection: Connection, operator: str) -> int:
    loss, device = schema.loss, schema.device
    asked = select(func.count()).select_from(loss.join(device, device.c.id == loss.c.device)).where(device.c.operator == operator)
    return connection.scalar(asked) or 0


# --- grants -------------------------------------------------------------------------------------------------------------------------------


def riders(connection: Connection) -> list[bytes]:
    """Everybody whose card was ever met."""
    return [bytes(rider) for rider in connection.scalars(select(schema.entry.c.rider).where(schema.entry.c.rider.is_not(None)).distinct())]


def granted_to(connection: Connection, rider: bytes) -> list[RiderGrant]:
    """All grants of one rider, by number."""
    table = schema.rider_grant
    found = connection.execute(select(table).where(table.c.rider == rider).order_by(table.c.number))
    return [
        RiderGrant(bytes(row.rider), row.fiscal_year, row.number, row.points, GrantKind(row.kind), row.at_ms, row.ref or 0) for row in found
    ]


def days_found(connection: Connection, day_of: Callable[[int], int]) -> dict[Key, int]:
    """The days of entries whose vehicle did not know it."""
    return {key: dated.service_day for key, dated in _Undated(connection, day_of).days.items()}


def keep_grant(store: Store, grant: RiderGrant) -> bool:
    """Write a grant and its posting down, together; False when one of this rider, year and number is there already, or another city's
    program was writing at the same moment (ask again).
    """
    row = {
        "rider": grant.rider,
        "fiscal_year": grant.fiscal_year,
        "number": grant.number,
        "points": grant.points,
        "kind": grant.kind.value,
        "at_ms": grant.at_ms,
        "ref": grant.ref or None,
    }
    posting = schema.posting
    try:
        with store.writing() as connection:
            connection.execute(insert(schema.rider_grant), row)
            here = and_(posting.c.device == THE_CITY, posting.c.epoch == grant.fiscal_year)
            last = connection.scalar(select(func.max(posting.c.seq)).where(here)) or 0
            connection.execute(insert(posting), _granted(grant, last + 1))
    except IntegrityError:
        return False
    return True


def _granted(grant: RiderGrant, seq: int) -> dict[str, Any]:
    """A grant belongs to no vehicle's entry: its posting is filed under device 0, the fiscal year, and a number of its own."""
    posting = granted(grant.rider, abs(grant.points))
    if grant.points < 0:
        posting = posting._replace(debit=posting.credit, credit=posting.debit)
    day = (first_day(grant.fiscal_year) - date(1970, 1, 1)).days
    key = {"device": THE_CITY, "epoch": grant.fiscal_year, "seq": seq}
    return key | posting._asdict() | {"kind": int(posting.kind), "service_day": day, "at_ms": grant.at_ms}


def grants_due(store: Store, scheme: Scheme, fiscal_year: int, at_ms: int, *, day_of: Callable[[int], int]) -> Iterator[RiderGrant]:
    """What is to be granted to every rider for ``fiscal_year``, one after the other. Changes nothing."""
    with store.reading() as connection:
        everybody, days = riders(connection), days_found(connection, day_of)
    for rider in everybody:
        with store.reading() as connection:
            found = due(scheme, history(connection, rider), granted_to(connection, rider), fiscal_year, at_ms, days=days)
        if found is not None:
            yield found


__all__ = [
    "Added",
    "Moment",
    "Unsettled",
    "bill_of",
    "book",
    "closed_bills",
    "first_month",
    "granted_to",
    "grants_due",
    "history",
    "keep_bill",
    "keep_grant",
    "knows_operator",
    "missing",
    "operators",
    "raw_batches",
    "riders",
    "settle_all",
    "unsettled",
]
