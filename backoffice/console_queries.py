"""Adapter (SQLAlchemy): what the clerks' pages ask the city's tables, ``backoffice.schema``. Reads only.

A page is looked at a few times an hour and the tables are written at all times, so each question is one that an index answers: a rider's
entries by rider, a month by its service days, what is missing by device. Nothing here decides; two rules are told where they are kept:
what a posting means in ``backoffice.book``, which vehicle is ill in ``backoffice.health``.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import date, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, Row, and_, case, func, or_, select

from backoffice import schema
from backoffice.book import TURN, PostingKind, purse
from backoffice.console.facts import (
    Gaps,
    Grant,
    Lost,
    Missing,
    OperatorMonth,
    Reading,
    Ride,
    Rider,
    Sort,
    Trouble,
    Troubles,
    Vehicle,
    Waiting,
)
from backoffice.health import Condition
from drivers.cards.purse import FULL
from ledger.entry import Flags, Kind, Outcome

_EPOCH_DAY = date(1970, 1, 1)
_HELD = "later"
_CONFLICT = "conflict"
_LATE_RESOLVED = timedelta(days=92)
"""So long after a month a vehicle may still say how a debit of it ended; what comes later is in the bills, not in this overview."""

_Key = tuple[int, int, int]


class Device(Protocol):
    """A terminal as ``backoffice.registry`` tells it."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def created_ms(self) -> int: ...
    @property
    def contact_ms(self) -> int | None: ...


class Registered(Protocol):
    """Who knows the terminals (``backoffice.registry``)."""

    def conditions(self, now_ms: int, today: date) -> tuple[Condition, ...]: ...
    def devices(self) -> Sequence[Device]: ...


class Database(Protocol):
    """Connections of the city's database (``backoffice.store``)."""

    def reading(self) -> AbstractContextManager[Connection]: ...


class ConsoleBooks:
    """``backoffice.console.facts.Books`` over the city's database. ``names``: what people call an operator, by its id."""

    def __init__(self, database: Database, registered: Registered, names: dict[str, str] | None = None) -> None:
        self._database = database
        self._registered = registered
        self._names = names or {}

    # --- vehicles and gaps ------------------------------------------------------------------------------------------------------------

    def vehicles(self, now_ms: int, today: date) -> tuple[Vehicle, ...]:
        """Every terminal there ever was; one without a key in force is revoked."""
        conditions = {condition.device: condition for condition in self._registered.conditions(now_ms, today)}
        devices = self._registered.devices()
        ledger, island = schema.ledger, schema.island
        with self._database.reading() as connection:
            newest: dict[int, tuple[int, int]] = {}
            for row in connection.execute(select(ledger.c.device, ledger.c.epoch, ledger.c.next_seq).order_by(ledger.c.number)):
                newest[row.device] = (row.epoch, row.next_seq)
            counted = connection.execute(select(island.c.device, func.count()).group_by(island.c.device))
            holes = {row[0]: row[1] for row in counted}
        return tuple(
            Vehicle(
                conditions.get(device.id) or Condition(device.id, device.name, device.created_ms, device.contact_ms),
                device.operator,
                device.id not in conditions,
                *newest.get(device.id, (0, 1)),
                holes.get(device.id, 0),
            )
            for device in devices
        )

    def gaps(self) -> Gaps:
        """What is missing below something that is here; what is here above it; what was reported lost, the newest first."""
        ledger, island, loss, batch = schema.ledger, schema.island, schema.loss, schema.batch
        # The batch that brought an island's first entry; replays are not kept, so it is the first of few.
        came = (
            select(func.min(batch.c.received_ms))
            .where(
                batch.c.device == island.c.device,
                batch.c.epoch == island.c.epoch,
                batch.c.first_seq <= island.c.first_seq,
                batch.c.last_seq >= island.c.first_seq,
            )
            .scalar_subquery()
        )
        same = and_(island.c.device == ledger.c.device, island.c.epoch == ledger.c.epoch)
        islands = (
            select(island.c.device, island.c.epoch, island.c.first_seq, island.c.last_seq, ledger.c.next_seq, came.label("came_ms"))
            .join(ledger, same)
            .order_by(island.c.device, island.c.epoch, island.c.first_seq)
        )
        with self._database.reading() as connection:
            names = _names(connection)
            rows = connection.execute(islands).all()
            lost = connection.execute(select(loss).order_by(loss.c.received_ms.desc())).all()
        return Gaps(
            tuple(_holes(rows, names)),
            tuple(Waiting(names.get(row.device, ""), row.epoch, row.first_seq, row.last_seq) for row in rows),
            tuple(Lost(names.get(row.device, ""), row.epoch, row.first_seq, row.last_seq, row.reason, row.received_ms) for row in lost),
        )

    # --- troubles -----------------------------------------------------------------------------------------------------------------------

    def troubles(self, limit: int) -> Troubles:
        """The newest of each sort. A conflict is an alarm; its copy in the quarantine is not told a second time."""
        alarm, reject, held = schema.alarm, schema.reject, schema.held
        open_alarms = alarm.c.seen_ms.is_(None)
        no_alarm, open_held = reject.c.code != _CONFLICT, held.c.released_ms.is_(None)
        with self._database.reading() as connection:
            names = _names(connection)
            alarms = connection.execute(select(alarm).where(open_alarms).order_by(alarm.c.at_ms.desc(), alarm.c.id).limit(limit)).all()
            rejects = connection.execute(select(reject).where(no_alarm).order_by(reject.c.received_ms.desc()).limit(limit)).all()
            holding = connection.execute(select(held).where(open_held).order_by(held.c.received_ms.desc()).limit(limit)).all()
            total = sum(
                connection.scalar(select(func.count()).select_from(table).where(where)) or 0
                for table, where in ((alarm, open_alarms), (reject, no_alarm), (held, open_held))
            )
        found = [
            *(_trouble(Sort.ALARM, row.kind, row, names, at_ms=row.at_ms, sentence=row.sentence) for row in alarms),
            *(_trouble(Sort.REJECT, row.code, row, names, at_ms=row.received_ms, sentence=row.sentence) for row in rejects),
            *(
                _trouble(Sort.HELD, _HELD, row, names, at_ms=row.received_ms, sentence=f"Version {row.version} of an entry.")
                for row in holding
            ),
        ]
        return Troubles(tuple(found[:limit]), total)

    # --- one rider ----------------------------------------------------------------------------------------------------------------------

    def rider(self, rider: bytes, limit: int) -> Rider | None:
        """Everything about one rider; None when nothing is here."""
        entry, grant = schema.entry, schema.rider_grant
        practice = int(Flags.PRACTICE)
        own = and_(entry.c.rider == rider, entry.c.flags.op("&")(practice) == 0)
        with self._database.reading() as connection:
            names = _names(connection)
            rows = connection.execute(select(entry).where(own).order_by(entry.c.utc_ms.desc(), entry.c.seq.desc())).all()
            booked = _points_by_entry(connection, rider)
            grants = connection.execute(select(grant).where(grant.c.rider == rider).order_by(grant.c.number.desc())).all()
        if not rows and not grants:
            return None
        rides = _rides(rows, booked, names)
        unknown = [ride for ride in rides if ride.kind is Kind.UNKNOWN and not ride.settled]
        return Rider(
            tuple(rides[:limit]),
            len(rides),
            tuple(Grant(row.fiscal_year, row.number, row.points, row.kind == "correction", row.at_ms) for row in grants),
            sum(first + later for first, later in booked.values()),
            len(unknown),
            sum(ride.points for ride in unknown),
            _reading(rows, names),
        )

    # --- months -------------------------------------------------------------------------------------------------------------------------

    def month(self, first: date) -> tuple[OperatorMonth, ...]:
        """Each operator's rides of the days of a month, as they are booked now; the bill decides what is billed in which month."""
        after = (first + timedelta(days=31)).replace(day=1)
        begins, ends = (first - _EPOCH_DAY).days, (after - _EPOCH_DAY).days
        settlement = schema.settlement
        with self._database.reading() as connection:
            rides, free = _ride_counts(connection, begins, ends)
            sums = _sums(connection, begins, ends)
            unknown = _unknown(connection, begins, ends)
            closed = set(connection.scalars(select(settlement.c.operator).where(settlement.c.month == first.year * 100 + first.month)))
        return tuple(
            OperatorMonth(
                operator,
                self._names.get(operator, operator),
                rides.get(operator, 0),
                sums.get((operator, PostingKind.POINTS), 0),
                free.get(operator, 0),
                sums.get((operator, PostingKind.FREE), 0),
                sums.get((operator, PostingKind.CASH), 0),
                unknown.get(operator, 0),
                operator in closed,
            )
            for operator in sorted({*rides, *free, *unknown, *(operator for operator, _ in sums)})
        )


def _names(connection: Connection) -> dict[int, str]:
    device = schema.device
    return {row.id: row.name for row in connection.execute(select(device.c.id, device.c.name))}


def _holes(islands: Iterable[Any], names: dict[int, str]) -> Iterator[Missing]:
    """What lies between the watermark and the first island, and between islands."""
    before: tuple[int, int, int] | None = None
    for row in islands:
        follows = before is not None and before[:2] == (row.device, row.epoch)
        first = before[2] + 1 if before is not None and follows else row.next_seq
        yield Missing(names.get(row.device, ""), row.epoch, first, row.first_seq - 1, row.came_ms)
        before = (row.device, row.epoch, row.last_seq)


def _trouble(sort: Sort, code: str, row: Row[Any], names: dict[int, str], *, at_ms: int, sentence: str) -> Trouble:
    return Trouble(sort, code, names.get(row.device, ""), row.epoch, row.seq, at_ms, sentence)


# --- a rider's rides ----------------------------------------------------------------------------------------------------------------------


def _points_by_entry(connection: Connection, rider: bytes) -> dict[_Key, tuple[int, int]]:
    """Points that left the rider's purse for each entry: what it booked by itself, and what was booked about it later."""
    entry, posting = schema.entry, schema.posting
    account = purse(rider)
    here = and_(posting.c.device == entry.c.device, posting.c.epoch == entry.c.epoch, posting.c.seq == entry.c.seq)
    asked = (
        select(posting.c.device, posting.c.epoch, posting.c.seq, posting.c.leg, posting.c.amount, posting.c.debit)
        .select_from(entry)
        .join(posting, here)
        .where(
            entry.c.rider == rider,
            posting.c.kind == int(PostingKind.POINTS),
            or_(posting.c.debit == account, posting.c.credit == account),
        )
    )
    found: dict[_Key, tuple[int, int]] = {}
    for row in connection.execute(asked):
        first, later = found.get((row.device, row.epoch, row.seq), (0, 0))
        amount = row.amount if row.debit == account else -row.amount
        found[row.device, row.epoch, row.seq] = (first, later + amount) if row.leg >= TURN else (first + amount, later)
    return found


def _rides(rows: Sequence[Row[Any]], booked: dict[_Key, tuple[int, int]], names: dict[int, str]) -> list[Ride]:
    """Each ride once: an entry that a later one closes or resolves is told by that one."""
    told_later = {(row.device, row.epoch, row.ref) for row in rows if row.ref}
    return [
        _ride(row, booked.get((row.device, row.epoch, row.seq), (0, 0)), names)
        for row in rows
        if (row.device, row.epoch, row.seq) not in told_later
    ]


def _ride(row: Row[Any], booked: tuple[int, int], names: dict[int, str]) -> Ride:
    kind = Kind(row.kind)
    settled = kind is Kind.UNKNOWN and booked[1] > 0
    return Ride(
        row.utc_ms,
        row.service_day,
        kind,
        Outcome(row.outcome),
        row.vehicle or names.get(row.device, ""),
        row.operator,
        row.route,
        row.boarding,
        row.alighting,
        row.nominal,
        row.points,
        row.cash,
        _left(row),
        0 if settled else booked[1],
        bool(row.flags & int(Flags.RECOVERED)),
        settled,
    )


def _rega(row: Row[Any]) -> int | None:
    """REGA as it was last *read* for an entry. What UNKNOWN would have written was never read back."""
    seen = row.rega_before if row.kind == int(Kind.UNKNOWN) or row.rega_after is None else row.rega_after
    return seen if seen is None else int(seen)


def _left(row: Row[Any]) -> int | None:
    rega = _rega(row)
    return None if rega is None or row.granted is None or row.kind == int(Kind.UNKNOWN) else row.granted - (FULL - rega)


def _reading(rows: Sequence[Row[Any]], names: dict[int, str]) -> Reading | None:
    """The card as it was read last. REGA only falls and grants only rise, so that is no question of anybody's clock."""
    seen = [(rega, row) for row in rows if (rega := _rega(row)) is not None and row.granted is not None]
    if not seen:
        return None
    rega, row = min(seen, key=lambda each: (each[0], -each[1].grant_number, -each[1].utc_ms))
    granted = max(each.granted for _, each in seen)
    return Reading(row.utc_ms, row.vehicle or names.get(row.device, ""), granted, FULL - rega)


# --- a month's sums -----------------------------------------------------------------------------------------------------------------------


def _ride_counts(connection: Connection, begins: int, ends: int) -> tuple[dict[str, int], dict[str, int]]:
    """Rides with a card that were paid, and that were free, by operator."""
    entry = schema.entry
    paid = or_(entry.c.kind == int(Kind.PAID), and_(entry.c.kind == int(Kind.RESOLVED), entry.c.outcome == int(Outcome.PAID)))
    asked = (
        select(
            entry.c.operator,
            func.sum(case((paid, 1), else_=0)).label("paid"),
            func.sum(case((entry.c.kind == int(Kind.FREE), 1), else_=0)).label("free"),
        )
        .where(
            entry.c.service_day >= begins,
            entry.c.service_day < ends,
            entry.c.kind.in_([int(Kind.PAID), int(Kind.RESOLVED), int(Kind.FREE)]),
            entry.c.flags.op("&")(int(Flags.PRACTICE)) == 0,
        )
        .group_by(entry.c.operator)
    )
    rows = connection.execute(asked).all()
    return {row.operator: int(row.paid) for row in rows if row.paid}, {row.operator: int(row.free) for row in rows if row.free}


def _sums(connection: Connection, begins: int, ends: int) -> dict[tuple[str, PostingKind], int]:
    """What was booked to each operator's accounts, less what was taken back from them."""
    posting = schema.posting
    days = (posting.c.service_day >= begins, posting.c.service_day < ends)
    kinds = [int(PostingKind.POINTS), int(PostingKind.FREE), int(PostingKind.CASH)]
    found: dict[tuple[str, PostingKind], int] = {}
    for account, sign in ((posting.c.credit, 1), (posting.c.debit, -1)):
        asked = (
            select(account.label("account"), posting.c.kind, func.sum(posting.c.amount).label("amount"))
            .where(*days, posting.c.kind.in_(kinds), account.like("operator:%"))
            .group_by(account, posting.c.kind)
        )
        for row in connection.execute(asked):
            key = (row.account.removeprefix("operator:").rpartition(":")[0], PostingKind(row.kind))
            found[key] = found.get(key, 0) + sign * int(row.amount)
    return found


def _unknown(connection: Connection, begins: int, ends: int) -> dict[str, int]:
    """Debits of a month whose outcome nobody knows: not resolved by their vehicle, not booked by the city."""
    entry, posting = schema.entry, schema.posting
    columns = (entry.c.device, entry.c.epoch, entry.c.seq, entry.c.ref, entry.c.operator)
    real = entry.c.flags.op("&")(int(Flags.PRACTICE)) == 0
    asked = select(*columns).where(entry.c.service_day >= begins, entry.c.service_day < ends, entry.c.kind == int(Kind.UNKNOWN), real)
    open_debits = {(row.device, row.epoch, row.seq): row.operator for row in connection.execute(asked)}
    if not open_debits:
        return {}
    later = and_(entry.c.service_day >= begins, entry.c.service_day < ends + _LATE_RESOLVED.days)
    for row in connection.execute(select(*columns).where(later, entry.c.kind == int(Kind.RESOLVED))):
        open_debits.pop((row.device, row.epoch, row.ref), None)
    days = (posting.c.service_day >= begins, posting.c.service_day < ends)
    for booked in connection.execute(select(posting.c.device, posting.c.epoch, posting.c.seq).where(*days, posting.c.leg >= TURN)):
        open_debits.pop((booked.device, booked.epoch, booked.seq), None)
    found: dict[str, int] = {}
    for operator in open_debits.values():
        found[operator] = found.get(operator, 0) + 1
    return found
