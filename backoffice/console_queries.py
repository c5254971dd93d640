"""Adapter (SQLAlchemy): what the clerks' pages ask the city's tables, ``backoffice.schema``. The one thing that it writes is a tick.

A page is looked at a few times an hour and the tables are written at all times, so each question is one that an index answers: a rider's
entries by rider, what is missing by device. Nothing here decides; rules are told where they are kept: what a posting means in
``backoffice.book``, which vehicle is ill in ``backoffice.health``, what a month comes to in ``backoffice.bill``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from typing import Any, Protocol

from sqlalchemy import Connection, Row, and_, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from backoffice import schema
from backoffice.bill import Bill, Closed, Month
from backoffice.book import TURN, PostingKind, purse
from backoffice.console.facts import (
    Accounts,
    Alarm,
    Gaps,
    Grant,
    Lost,
    Missing,
    Reading,
    Ride,
    Rider,
    Sort,
    Tick,
    Trouble,
    Troubles,
    Vehicle,
    Waiting,
)
from backoffice.health import Condition
from drivers.cards.purse import FULL
from ledger.entry import Flags, Kind, Outcome

_HELD = "later"
_CONFLICT = "conflict"
TICKED = 20
"""So many alarms that were ticked off are told."""

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
    def writing(self) -> AbstractContextManager[Connection]: ...


class Bills(Protocol):
    """Who makes the bills (``backoffice.billing.Basis``)."""

    def of_month(self, connection: Connection, month: Month, as_of_ms: int) -> Sequence[Bill]: ...
    def closed(self, connection: Connection) -> Mapping[tuple[str, Month], Closed]: ...


class ConsoleBooks:
    """``backoffice.console.facts.Books`` over the city's database. ``names``: what people call an operator, by its id."""

    def __init__(self, database: Database, registered: Registered, bills: Bills, names: Mapping[str, str]) -> None:
        self._database = database
        self._registered = registered
        self._bills = bills
        self._names = names

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
                self._names.get(device.operator, device.operator),
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
        alarm, reject, held, tick = schema.alarm, schema.reject, schema.held, schema.tick
        open_alarms = ~schema.ticked_off()
        no_alarm, open_held = reject.c.code != _CONFLICT, held.c.released_ms.is_(None)
        with self._database.reading() as connection:
            names = _names(connection)
            alarms = connection.execute(select(alarm).where(open_alarms).order_by(alarm.c.at_ms.desc(), alarm.c.id).limit(limit)).all()
            rejects = connection.execute(select(reject).where(no_alarm).order_by(reject.c.received_ms.desc()).limit(limit)).all()
            holding = connection.execute(select(held).where(open_held).order_by(held.c.received_ms.desc()).limit(limit)).all()
            last = select(tick.c.at_ms).where(tick.c.alarm == alarm.c.id).order_by(tick.c.number.desc()).limit(1).scalar_subquery()
            done = connection.execute(select(alarm).where(schema.ticked_off()).order_by(last.desc(), alarm.c.id).limit(TICKED)).all()
            ticks = _ticks(connection, [row.id for row in done])
            total = sum(
                connection.scalar(select(func.count()).select_from(table).where(where)) or 0
                for table, where in ((alarm, open_alarms), (reject, no_alarm), (held, open_held))
            )
        found = [
            *(_alarm(row, names).trouble for row in alarms),
            *(_trouble(Sort.REJECT, row.code, row, names, at_ms=row.received_ms, sentence=row.sentence) for row in rejects),
            *(
                _trouble(Sort.HELD, _HELD, row, names, at_ms=row.received_ms, sentence=f"Version {row.version} of an entry.")
                for row in holding
            ),
        ]
        return Troubles(tuple(found[:limit]), total, tuple(_alarm(row, names, ticks[row.id]) for row in done))

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
            begins = connection.scalar(select(func.max(schema.horizon.c.before_day))) or 0
        if not rows and not grants:
            return None
        base = _base(rows, begins)
        compared = [row for row in rows if base is None or (row.rega_before or 0) <= base.rega_before]
        keys = {(row.device, row.epoch, row.seq) for row in compared}
        rides = _rides(rows, booked, names)
        unknown = [ride for ride in _rides(compared, booked, names) if ride.kind is Kind.UNKNOWN and not ride.settled]
        return Rider(
            tuple(rides[:limit]),
            len(rides),
            tuple(Grant(row.fiscal_year, row.number, row.points, row.kind == "correction", row.at_ms) for row in grants),
            sum(first + later for key, (first, later) in booked.items() if key in keys),
            len(unknown),
            sum(ride.points for ride in unknown),
            _reading(rows, names),
            *_before(base, grants),
        )

    # --- months -------------------------------------------------------------------------------------------------------------------------

    def month(self, month: Month, now_ms: int) -> Accounts:
        """The very bills that the command makes."""
        with self._database.reading() as connection:
            bills, closed = self._bills.of_month(connection, month, now_ms), self._bills.closed(connection)
        newest = sorted(closed.values(), key=lambda each: (each.month, each.operator), reverse=True)
        return Accounts(tuple(bills), tuple((self._names.get(each.operator, each.operator), each) for each in newest))

    # --- alarms -------------------------------------------------------------------------------------------------------------------------

    def alarm(self, number: int) -> Alarm | None:
        """One alarm with its ticks."""
        alarm = schema.alarm
        with self._database.reading() as connection:
            row = connection.execute(select(alarm).where(alarm.c.id == number)).one_or_none()
            return None if row is None else _alarm(row, _names(connection), _ticks(connection, [number]).get(number, ()))

    def tick(self, alarm: int, seen: int, tick: Tick) -> bool:
        """A new row, numbered behind what the clerk saw; the key says whether somebody was quicker."""
        row = {"alarm": alarm, "number": seen + 1, "at_ms": tick.at_ms, "done": tick.done, "clerk": tick.clerk, "note": tick.note}
        try:
            with self._database.writing() as connection:
                there = connection.scalar(select(func.max(schema.tick.c.number)).where(schema.tick.c.alarm == alarm)) or 0
                if there != seen:
                    return False
                connection.execute(insert(schema.tick), row)
        except IntegrityError:
            return False
        return True


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


def _alarm(row: Row[Any], names: dict[int, str], ticks: tuple[Tick, ...] = ()) -> Alarm:
    trouble = _trouble(Sort.ALARM, row.kind, row, names, at_ms=row.at_ms, sentence=row.sentence)
    return Alarm(replace(trouble, alarm=row.id), ticks)


def _ticks(connection: Connection, alarms: list[int]) -> dict[int, tuple[Tick, ...]]:
    """What was said about each of these alarms, the first first."""
    tick = schema.tick
    found: dict[int, tuple[Tick, ...]] = {}
    for row in connection.execute(select(tick).where(tick.c.alarm.in_(alarms)).order_by(tick.c.alarm, tick.c.number)):
        found[row.alarm] = (*found.get(row.alarm, ()), Tick(row.at_ms, row.done, row.clerk, row.note))
    return found


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


def _base(rows: Sequence[Row[Any]], begins: int) -> Row[Any] | None:
    """The reading from which card and books are compared: the first on a day of which all is kept (``backoffice.retention``), else the
    last. REGA only falls, so that is no question of anybody's clock. None while nothing was let go of.
    """
    read = [row for row in rows if row.rega_before is not None and row.granted is not None and row.kind != int(Kind.RESOLVED)]
    if not begins or not read:
        return None
    whole = [row for row in read if row.service_day >= begins]
    return max(whole, key=lambda row: row.rega_before) if whole else min(read, key=lambda row: row.rega_before)


def _before(base: Row[Any] | None, grants: Sequence[Row[Any]]) -> tuple[int, int]:
    """What the card had spent and been granted when it was read at ``base``; 0 of what the books know themselves."""
    if base is None:
        return 0, 0
    spent = FULL - base.rega_before
    later = sum(grant.points for grant in grants if grant.number <= base.grant_number)
    return spent, max(0, base.granted - later) if spent else 0


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
