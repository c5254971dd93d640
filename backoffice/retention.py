"""Adapter (SQLAlchemy): the city lets go of what it need not keep any more. What and when: ``backoffice.letting_go``.

**Who may.** The server's role cannot delete from the books. This works in another role (PostgreSQL) and under triggers (both databases)
that let only rows go which lie before the *horizon*. The horizon is written down first, once, and is at least a year back, whoever asks: a
mistaken setting, or a stolen password, cannot empty this year's books. From then on no bill of a month before it is made; a half emptied
month has none.

**In steps.** Each transaction takes at most ``STEP`` numbers of one ledger, under that ledger's device's lock, and in it: the postings and
entries go, their sums are added to ``carried``, their numbers are written into ``forgotten``, and the register of disposal counts them. So
it may be killed anywhere and run again, and the server books meanwhile. Between two steps it rests as long as the step took, because SQLite
has one writer.

**What stays in place.** The watermark and all heads; the numbers, as runs without content, so that a batch sent again is not booked again;
each account's sum, all purses together, so that the books balance and no pseudonym stays; the bills as they were closed; the register.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, exists, func, insert, or_, select, text, update

from backoffice import schema
from backoffice.book import THE_CITY
from backoffice.histories import history, stamps
from backoffice.letting_go import (
    Cut,
    Number,
    Periods,
    books_cut,
    days_before,
    days_rest_on,
    found_late,
    lies_before,
    merged,
    rests_on,
    runs_of,
)
from backoffice.settle import Trouble, dated_by
from backoffice.witness import Key
from ledger.entry import Kind
from ledger.package import PERSONAL

STEP = 1000
"""Numbers in one transaction."""

PURSES = "riders:points"
"""The account in ``carried`` that stands for all purses."""

_UNSURE = (int(Kind.UNKNOWN), int(Kind.RESOLVED))
_CITYS_OWN = 10  # the first leg that the city books by itself (``backoffice.book.TURN``)
_DERIVED = tuple(trouble.value for trouble in Trouble)


class Sort(StrEnum):
    """What goes: the words of the register of disposal."""

    ENTRIES = "entries"
    POSTINGS = "postings"
    BATCHES = "raw batches"
    GRANTS = "grants"
    QUARANTINE = "quarantine"
    ALARMS = "alarms"
    HEARTBEATS = "heartbeats"
    LISTS = "superseded lists"
    ACCESS = "access log"


class Database(Protocol):
    """The city's database (``backoffice.store``)."""

    engine: Engine
    is_postgresql: bool

    def reading(self) -> AbstractContextManager[Connection]: ...
    def writing(self) -> AbstractContextManager[Connection]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """So many rows of one sort, older than ``before_ms``."""

    sort: Sort
    before_ms: int
    rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go now.

    ``riders``, ``ledgers``: whose entries stay although they are old enough, because something that stays rests on them. ``late``: entries
    that tell no day and were dated behind the cut. ``keys``: rides left under each rider-key version. ``ended``: versions under which none
    would be left. ``unread``: entries of a newer version that nobody could book yet and that are older than the cut; they stay.
    """

    cut: Cut
    parts: tuple[Part, ...]
    riders: frozenset[bytes]
    ledgers: frozenset[tuple[int, int]]
    late: frozenset[Key]
    keys: tuple[tuple[int, int], ...]
    ended: tuple[int, ...]
    unread: int

    def count(self, sort: Sort) -> int:
        """How many rows of ``sort`` would go."""
        return next((part.rows for part in self.parts if part.sort is sort), 0)

    def lets_go(self, number: Number) -> bool:
        """Whether this entry may go."""
        held = number.rider in self.riders or number.key[:2] in self.ledgers or number.key in self.late
        return lies_before(number, self.cut) and not held


@dataclass(frozen=True, slots=True)
class Done:
    """What went. ``traces``: the database's log still holds copies of it, which go with its next checkpoint (SQLite under a server)."""

    parts: tuple[Part, ...]
    ended: tuple[int, ...]
    traces: bool


class Disposed(NamedTuple):
    """A line of the register of disposal."""

    at_ms: int
    kind: str
    before_ms: int
    gone: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """When it is (Unix ms), where, and the service day of a time in Unix ms."""

    now_ms: int
    zone: tzinfo
    day_of: Callable[[int], int]


class Retention:
    """``periods`` applied to the books. ``rest``: sleeps for so many seconds."""

    def __init__(self, database: Database, periods: Periods, calendar: Calendar, rest: Callable[[float], None]) -> None:
        self._database = database
        self._periods = periods
        self._day_of = calendar.day_of
        self._now_ms = calendar.now_ms
        self._rest = rest
        today = datetime.fromtimestamp(calendar.now_ms / 1000, UTC).astimezone(calendar.zone).date()
        self._cut = books_cut(periods, today, calendar.zone)
        self._done: Counter[Sort] = Counter()

    # --- the plan -----------------------------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """What would go, from one moment of the books. Changes nothing."""
        with self._database.reading() as connection:
            bare = Plan(self._cut, (), frozenset(), frozenset(), self._found_late(connection), (), (), 0)
            plan = self._holding_back(connection, bare)
            return self._counted(connection, plan)

    def _found_late(self, connection: Connection) -> frozenset[Key]:
        return frozenset(
            Key(device, epoch, seq)
            for device, epoch in _undated_ledgers(connection)
            for seq, dated in dated_by(stamps(connection, device, epoch), self._day_of).items()
            if found_late(dated, self._cut)
        )

    def _holding_back(self, connection: Connection, plan: Plan) -> Plan:
        """The plan without what something that stays rests on; again and again, because what is held back is something that stays."""
        riders, ledgers = _unsure_riders(connection), _undated_ledgers(connection)
        while True:
            more_riders = {rider for rider in riders - plan.riders if self._rider_is_needed(connection, rider, plan)}
            held = _with(plan, plan.riders | more_riders, plan.ledgers)
            more_ledgers = {each for each in ledgers - plan.ledgers if self._ledger_is_needed(connection, each, held)}
            if not more_riders and not more_ledgers:
                return plan
            plan = _with(plan, held.riders, plan.ledgers | more_ledgers)

    def _rider_is_needed(self, connection: Connection, rider: bytes, plan: Plan) -> bool:
        numbers = _numbers(connection, schema.entry.c.rider == rider)
        going = {number.key for number in numbers if plan.lets_go(number)}
        return bool(going) and rests_on(history(connection, rider), going, self._cut)

    def _ledger_is_needed(self, connection: Connection, ledger: tuple[int, int], plan: Plan) -> bool:
        device, epoch = ledger
        numbers = _numbers(connection, _of(schema.entry, device, epoch))
        going = {number.key.seq for number in numbers if plan.lets_go(number)}
        booked = {number.key.seq for number in numbers if not number.service_day and number.last_ms}
        return bool(going) and days_rest_on(stamps(connection, device, epoch), going, booked, self._day_of)

    def _counted(self, connection: Connection, plan: Plan) -> Plan:
        counts: Counter[Sort] = Counter()
        going_keys: Counter[int] = Counter()
        for device, epoch in _ledgers(connection):
            going: list[int] = []
            for number in self._candidates(connection, device, epoch):
                if plan.lets_go(number):
                    going.append(number.key.seq)
                    going_keys[number.rider_key] += number.rider is not None
            counts[Sort.ENTRIES] += len(going)
            counts[Sort.POSTINGS] += sum(_count(connection, schema.posting, here) for here in _among(schema.posting, device, epoch, going))
            counts[Sort.BATCHES] += _batches_within(connection, device, epoch, set(going), self._cut)
        counts[Sort.GRANTS] = _count(connection, schema.rider_grant, _old_grants(self._cut))
        counts[Sort.POSTINGS] += _count(connection, schema.posting, _old_grant_postings(self._cut))
        for sort, table, where in self._plain():
            counts[sort] += _count(connection, table, where)
        counts[Sort.LISTS] = len(self._old_lists(connection))
        there = _rider_keys(connection)
        left = {version: there[version] - going_keys[version] for version in there}
        unread = _count(connection, schema.held, and_(schema.held.c.released_ms.is_(None), schema.held.c.received_ms < self._cut.at_ms))
        return Plan(
            plan.cut,
            tuple(Part(sort, self._before(sort), counts[sort]) for sort in Sort),
            plan.riders,
            plan.ledgers,
            plan.late,
            tuple(sorted((version, count) for version, count in left.items() if count)),
            tuple(sorted(version for version, count in left.items() if not count)),
            unread,
        )

    def _candidates(self, connection: Connection, device: int, epoch: int) -> Iterator[Number]:
        """The entries of a ledger that may be old enough, step by step."""
        after = 0
        while found := self._step(connection, device, epoch, after):
            yield from found
            after = found[-1].key.seq

    def _step(self, connection: Connection, device: int, epoch: int, after: int) -> list[Number]:
        entry = schema.entry
        old = and_(entry.c.received_ms < self._cut.at_ms, entry.c.service_day < self._cut.day, entry.c.seq > after)
        return _numbers(connection, and_(_of(entry, device, epoch), old), STEP)

    # --- what is old by one date --------------------------------------------------------------------------------------------------------

    def _before(self, sort: Sort) -> int:
        """Older than which moment rows of ``sort`` go."""
        days = {
            Sort.QUARANTINE: self._periods.quarantine_days,
            Sort.ALARMS: self._periods.alarm_days,
            Sort.HEARTBEATS: self._periods.heartbeat_days,
            Sort.LISTS: self._periods.list_days,
            Sort.ACCESS: self._periods.access_log_days,
        }
        return days_before(self._now_ms, days[sort]) if sort in days else self._cut.at_ms

    def _plain(self) -> tuple[tuple[Sort, Table, ColumnElement[bool]], ...]:
        reject, held, alarm, beat, log = schema.reject, schema.held, schema.alarm, schema.heartbeat, schema.access_log
        newer = beat.alias("newer")
        entry = schema.entry
        last = ~exists().where(newer.c.device == beat.c.device, newer.c.received_ms > beat.c.received_ms)
        about = exists().where(entry.c.device == alarm.c.device, entry.c.epoch == alarm.c.epoch, entry.c.seq == alarm.c.seq)
        seen = and_(schema.ticked_off(), ~and_(alarm.c.kind.in_(_DERIVED), about))
        forgotten = and_(alarm.c.at_ms < self._cut.at_ms, ~about)  # nobody ticked it off, and nothing is left to look at
        return (
            (Sort.QUARANTINE, reject, reject.c.received_ms < self._before(Sort.QUARANTINE)),
            (Sort.QUARANTINE, held, held.c.released_ms < self._before(Sort.QUARANTINE)),
            (Sort.ALARMS, alarm, and_(alarm.c.at_ms < self._before(Sort.ALARMS), or_(seen, forgotten))),
            (Sort.HEARTBEATS, beat, and_(beat.c.received_ms < self._before(Sort.HEARTBEATS), ~last)),
            (Sort.ACCESS, log, log.c.at_ms < self._before(Sort.ACCESS)),
        )

    def _old_lists(self, connection: Connection) -> list[bytes]:
        """Packages that name riders, and in whose place another one stood long enough."""
        package = schema.package
        day = (datetime.fromtimestamp(self._before(Sort.LISTS) / 1000, UTC).date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days
        columns = (package.c.digest, package.c.kind, package.c.version, package.c.valid_from, package.c.created_ms)
        personal = package.c.kind.in_([kind.value for kind in PERSONAL])
        # By version, as terminals do: whatever is below one that is in force can never be in force again. A release has the same version.
        found = [((int(row.version), row.created_ms), row) for row in connection.execute(select(*columns).where(personal))]
        before_ms = self._before(Sort.LISTS)
        in_place = {row.kind: rank for rank, row in sorted(found) if row.valid_from <= day and row.created_ms < before_ms}
        return [row.digest for rank, row in found if rank < in_place.get(row.kind, (0, 0))]

    # --- doing it -----------------------------------------------------------------------------------------------------------------------

    def carry_out(self, plan: Plan, say: Callable[[str], None]) -> Done:
        """Let go of what ``plan`` names; ``say`` hears how far it is. Killed anywhere, a new plan goes on where this one was."""
        self._done = Counter()
        before = self._versions()
        if any(plan.count(sort) for sort in (Sort.ENTRIES, Sort.POSTINGS, Sort.BATCHES, Sort.GRANTS)):
            self._write_horizon()
            self._let_entries_go(plan, say)
            self._let_grants_go()
            self._let_batches_go(say)
        self._let_quarantine_go()
        for sort, table, where in self._plain():
            if table is not schema.reject:
                self._let_rows_go(sort, table, where)
        self._let_lists_go()
        ended = tuple(sorted(before - self._versions()))
        if ended:
            with self._clearing() as connection:
                for version in ended:
                    self._register(connection, f"rider key {version}", self._cut.at_ms, 0)
        parts = tuple(Part(sort, self._before(sort), self._done[sort]) for sort in Sort)
        return Done(parts, ended, self._leaves_traces())

    def _versions(self) -> set[int]:
        with self._database.reading() as connection:
            return set(_rider_keys(connection))

    def _write_horizon(self) -> None:
        horizon = schema.horizon
        with self._clearing() as connection:
            if (connection.scalar(select(func.max(horizon.c.before_ms))) or 0) < self._cut.at_ms:
                row = {"before_ms": self._cut.at_ms, "before_day": self._cut.day, "at_ms": self._now_ms}
                connection.execute(insert(horizon), row)

    def _let_entries_go(self, plan: Plan, say: Callable[[str], None]) -> None:
        with self._database.reading() as connection:
            ledgers = _ledgers(connection)
        for device, epoch in ledgers:
            after = 0
            while True:
                with self._database.reading() as connection:
                    found = self._step(connection, device, epoch, after)
                if not found:
                    break
                after = found[-1].key.seq
                going = [number.key.seq for number in found if plan.lets_go(number)]
                if going:
                    self._let_numbers_go(plan, device, epoch, going)
                    say(f"device {device}: {self._done[Sort.ENTRIES]} of {plan.count(Sort.ENTRIES)} entries")

    def _let_numbers_go(self, plan: Plan, device: int, epoch: int, going: Sequence[int]) -> None:
        entry, posting = schema.entry, schema.posting
        with self._clearing(device) as connection:
            here = and_(_of(entry, device, epoch), entry.c.seq.in_(going))
            # Asked again under the lock: something may have been concluded meanwhile.
            seqs = [number.key.seq for number in _numbers(connection, here) if plan.lets_go(number)]
            postings = 0
            for mine, theirs in zip(*(_among(table, device, epoch, seqs) for table in (posting, entry)), strict=True):
                self._carry(connection, mine)
                postings += connection.execute(delete(posting).where(mine)).rowcount
                connection.execute(delete(entry).where(theirs))
            _forget(connection, device, epoch, runs_of(seqs))
            self._count(connection, Sort.ENTRIES, len(seqs))
            self._count(connection, Sort.POSTINGS, postings)

    def _let_grants_go(self) -> None:
        """Grants and their postings, which belong to no vehicle's entry; the two have rider, year and moment in common."""
        posting, grant = schema.posting, schema.rider_grant
        old = _old_grant_postings(self._cut)
        going = True
        while going:
            with self._clearing() as connection:
                columns = (posting.c.epoch, posting.c.seq, posting.c.at_ms, posting.c.debit, posting.c.credit)
                found = connection.execute(select(*columns).where(old).order_by(posting.c.epoch, posting.c.seq).limit(STEP)).all()
                going = bool(found)
                postings = grants = 0
                for row in found:
                    one = and_(posting.c.device == THE_CITY, posting.c.epoch == row.epoch, posting.c.seq == row.seq)
                    self._carry(connection, one)
                    postings += connection.execute(delete(posting).where(one)).rowcount
                    rider = bytes.fromhex((row.debit if row.debit.startswith("rider:") else row.credit).removeprefix("rider:"))
                    same = and_(grant.c.rider == rider, grant.c.fiscal_year == row.epoch, grant.c.at_ms == row.at_ms)
                    grants += connection.execute(delete(grant).where(same)).rowcount
                self._count(connection, Sort.POSTINGS, postings)
                self._count(connection, Sort.GRANTS, grants)

    def _let_batches_go(self, say: Callable[[str], None]) -> None:
        """Raw batches of whose entries none is left."""
        batch, entry, held = schema.batch, schema.entry, schema.held
        kept = exists().where(_of(entry, batch.c.device, batch.c.epoch), entry.c.seq.between(batch.c.first_seq, batch.c.last_seq))
        unread = exists().where(
            _of(held, batch.c.device, batch.c.epoch),
            held.c.seq.between(batch.c.first_seq, batch.c.last_seq),
            held.c.released_ms.is_(None),
        )
        empty = and_(batch.c.received_ms < self._cut.at_ms, ~kept, ~unread)
        after = 0
        while True:
            with self._database.reading() as connection:
                asked = select(batch.c.id).where(empty, batch.c.id > after).order_by(batch.c.id).limit(STEP)
                found = list(connection.scalars(asked))
            if not found:
                return
            after = found[-1]
            with self._clearing() as connection:
                gone = connection.execute(delete(batch).where(batch.c.id.in_(found), empty)).rowcount
                self._count(connection, Sort.BATCHES, gone)
            say(f"raw batches: {self._done[Sort.BATCHES]}")

    def _let_quarantine_go(self) -> None:
        """Their numbers stay as forgotten ones, or the same rubbish sent again would be new. A conflict's number is another entry's."""
        reject = schema.reject
        old = reject.c.received_ms < self._before(Sort.QUARANTINE)
        with self._database.reading() as connection:
            devices = list(connection.scalars(select(reject.c.device).where(old).distinct()))
        for device in devices:
            while self._let_rejects_go(device, old):
                pass

    def _let_rejects_go(self, device: int, old: ColumnElement[bool]) -> bool:
        reject = schema.reject
        key = (reject.c.epoch, reject.c.seq, reject.c.digest)
        with self._clearing(device) as connection:
            found = connection.execute(select(*key).where(old, reject.c.device == device).order_by(*key).limit(STEP)).all()
            for epoch, seq, digest in found:
                connection.execute(delete(reject).where(_of(reject, device, epoch), reject.c.seq == seq, reject.c.digest == digest))
            for epoch in sorted({row.epoch for row in found}):
                numbers = {row.seq for row in found if row.epoch == epoch}
                _forget(connection, device, epoch, runs_of(numbers - _stored(connection, device, epoch, numbers)))
            self._count(connection, Sort.QUARANTINE, len(found))
        return len(found) == STEP

    def _let_rows_go(self, sort: Sort, table: Table, where: ColumnElement[bool]) -> None:
        key = list(table.primary_key.columns)
        going = True
        while going:
            with self._clearing() as connection:
                found = connection.execute(select(*key).where(where).order_by(*key).limit(STEP)).all()
                going = len(found) == STEP
                for row in found:
                    connection.execute(delete(table).where(*(column == value for column, value in zip(key, row, strict=True))))
                self._count(connection, sort, len(found))

    def _let_lists_go(self) -> None:
        package = schema.package
        with self._clearing() as connection:
            old = self._old_lists(connection)
            for digest in old:
                connection.execute(delete(package).where(package.c.digest == digest))
            self._count(connection, Sort.LISTS, len(old))

    # --- one transaction ----------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _clearing(self, device: int | None = None) -> Generator[Connection]:
        """A transaction that may let go; with the lock of ``device``. Rests afterwards."""
        began = time.monotonic()
        with self._database.writing() as connection:
            if self._database.is_postgresql:
                connection.execute(text(f"SET LOCAL ROLE {schema.RETENTION}"))
                if device is not None:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:device)"), {"device": device})
            else:
                connection.exec_driver_sql("PRAGMA secure_delete = ON")  # overwritten, not only unlinked
            yield connection
        self._rest(time.monotonic() - began)

    def _carry(self, connection: Connection, where: ColumnElement[bool]) -> None:
        posting, carried = schema.posting, schema.carried
        columns = (posting.c.kind, posting.c.debit, posting.c.credit)
        sums: Counter[tuple[str, int]] = Counter()
        for kind, debit, credit, amount in connection.execute(select(*columns, func.sum(posting.c.amount)).where(where).group_by(*columns)):
            sums[_account(debit), kind] -= int(amount)
            sums[_account(credit), kind] += int(amount)
        for (account, kind), amount in sorted(sums.items()):
            here = and_(carried.c.account == account, carried.c.kind == kind)
            if not connection.execute(update(carried).where(here).values(amount=carried.c.amount + amount)).rowcount:
                connection.execute(insert(carried), {"account": account, "kind": kind, "amount": amount})

    def _count(self, connection: Connection, sort: Sort, gone: int) -> None:
        if gone:
            self._register(connection, sort.value, self._before(sort), gone)
            self._done[sort] += gone

    def _register(self, connection: Connection, kind: str, before_ms: int, gone: int) -> None:
        disposal = schema.disposal
        here = and_(disposal.c.at_ms == self._now_ms, disposal.c.kind == kind)
        if not connection.execute(update(disposal).where(here).values(gone=disposal.c.gone + gone)).rowcount:
            connection.execute(insert(disposal), {"at_ms": self._now_ms, "kind": kind, "before_ms": before_ms, "gone": gone})

    def _leaves_traces(self) -> bool:
        if self._database.is_postgresql:
            return False
        with self._database.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return bool(busy)


def register(connection: Connection) -> list[Disposed]:
    """The register of disposal, the newest first."""
    table = schema.disposal
    asked = select(table.c.at_ms, table.c.kind, table.c.before_ms, table.c.gone).order_by(table.c.at_ms.desc(), table.c.kind)
    return [Disposed(*row) for row in connection.execute(asked)]


# --- what is asked ------------------------------------------------------------------------------------------------------------------------


def _with(plan: Plan, riders: Iterable[bytes], ledgers: Iterable[tuple[int, int]]) -> Plan:
    return Plan(plan.cut, plan.parts, frozenset(riders), frozenset(ledgers), plan.late, plan.keys, plan.ended, plan.unread)


def _account(name: str) -> str:
    return PURSES if name.startswith("rider:") else name


def _of(table: Table, device: Any, epoch: Any) -> ColumnElement[bool]:
    return and_(table.c.device == device, table.c.epoch == epoch)


def _among(table: Table, device: int, epoch: int, numbers: Iterable[int]) -> list[ColumnElement[bool]]:
    """Conditions that together mean these numbers of a ledger; one for each run of them."""
    return [and_(_of(table, device, epoch), table.c.seq.between(first, last)) for first, last in runs_of(numbers)]


def _count(connection: Connection, table: Table, where: ColumnElement[bool]) -> int:
    return connection.scalar(select(func.count()).select_from(table).where(where)) or 0


def _ledgers(connection: Connection) -> list[tuple[int, int]]:
    ledger = schema.ledger
    asked = select(ledger.c.device, ledger.c.epoch).order_by(ledger.c.device, ledger.c.number)
    return [(device, epoch) for device, epoch in connection.execute(asked)]


def _numbers(connection: Connection, where: ColumnElement[bool], limit: int | None = None) -> list[Number]:
    entry, posting = schema.entry, schema.posting
    booked = and_(_of(posting, entry.c.device, entry.c.epoch), posting.c.seq == entry.c.seq)
    last = select(func.max(posting.c.at_ms)).where(booked).scalar_subquery()
    columns = (entry.c.device, entry.c.epoch, entry.c.seq, entry.c.service_day, entry.c.received_ms, last, entry.c.rider, entry.c.rider_key)
    found = connection.execute(select(*columns).where(where).order_by(entry.c.device, entry.c.epoch, entry.c.seq).limit(limit))
    return [Number(Key(*row[:3]), row[3], row[4], row[5] or 0, row[6], row[7]) for row in found]


def _unsure_riders(connection: Connection) -> set[bytes]:
    """Riders about whom the city concludes anything from several entries."""
    entry, posting = schema.entry, schema.posting
    unsure = select(entry.c.rider).where(entry.c.kind.in_(_UNSURE), entry.c.rider.is_not(None))
    booked = and_(_of(posting, entry.c.device, entry.c.epoch), posting.c.seq == entry.c.seq)
    corrected = select(entry.c.rider).join(posting, booked).where(posting.c.leg >= _CITYS_OWN, entry.c.rider.is_not(None))
    return {bytes(rider) for asked in (unsure, corrected) for rider in connection.scalars(asked.distinct())}


def _undated_ledgers(connection: Connection) -> set[tuple[int, int]]:
    """Ledgers with something booked on a day that the vehicle did not know."""
    posting = schema.posting
    undated = and_(posting.c.service_day == 0, posting.c.device != THE_CITY)
    return {(device, epoch) for device, epoch in connection.execute(select(posting.c.device, posting.c.epoch).where(undated).distinct())}


def _batches_within(connection: Connection, device: int, epoch: int, going: set[int], cut: Cut) -> int:
    """How many old batches would hold no entry any more."""
    batch, entry, held = schema.batch, schema.entry, schema.held
    unread = select(held.c.seq).where(_of(held, device, epoch), held.c.released_ms.is_(None))
    kept_seqs = set(connection.scalars(unread))
    ranges = connection.execute(
        select(batch.c.first_seq, batch.c.last_seq).where(_of(batch, device, epoch), batch.c.received_ms < cut.at_ms)
    ).all()
    count = 0
    for first, last in ranges:
        there = connection.scalars(select(entry.c.seq).where(_of(entry, device, epoch), entry.c.seq.between(first, last)))
        count += going.issuperset(there) and not any(first <= seq <= last for seq in kept_seqs)
    return count


def _stored(connection: Connection, device: int, epoch: int, numbers: set[int]) -> set[int]:
    """Those of ``numbers`` under which something is kept."""
    tables = (schema.entry, schema.held, schema.reject)
    return {
        seq
        for table in tables
        for seq in connection.scalars(select(table.c.seq).where(_of(table, device, epoch), table.c.seq.in_(numbers)))
    }


def _old_grant_postings(cut: Cut) -> ColumnElement[bool]:
    posting = schema.posting
    old = and_(posting.c.at_ms < cut.at_ms, posting.c.service_day < cut.day)
    return and_(posting.c.device == THE_CITY, posting.c.epoch < cut.year, old)


def _old_grants(cut: Cut) -> ColumnElement[bool]:
    grant = schema.rider_grant
    return and_(grant.c.fiscal_year < cut.year, grant.c.at_ms < cut.at_ms)


def _rider_keys(connection: Connection) -> dict[int, int]:
    """How many rides stand under each rider-key version."""
    entry = schema.entry
    asked = select(entry.c.rider_key, func.count()).where(entry.c.rider.is_not(None)).group_by(entry.c.rider_key)
    return {row[0]: row[1] for row in connection.execute(asked)}


def _forget(connection: Connection, device: int, epoch: int, runs: Sequence[tuple[int, int]]) -> None:
    """Write runs of numbers down as forgotten, joined with those that they touch."""
    if not runs:
        return
    table = schema.forgotten
    near = and_(_of(table, device, epoch), table.c.first_seq <= runs[-1][1] + 1, table.c.last_seq >= runs[0][0] - 1)
    there = connection.execute(select(table.c.first_seq, table.c.last_seq).where(near)).all()
    connection.execute(delete(table).where(near))
    joined = merged([*runs, *((first, last) for first, last in there)])
    connection.execute(insert(table), [{"device": device, "epoch": epoch, "first_seq": first, "last_seq": last} for first, last in joined])
