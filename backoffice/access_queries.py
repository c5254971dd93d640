"""Adapter (SQLAlchemy): all that the city's tables hold under a rider's pseudonyms. Reads only, and nothing about anybody else.

The books are found by the rider's index. What could not be booked is found by looking for the pseudonym's bytes in it: an entry that
nobody can read may still be about somebody. Of raw batches those are named that hold a number of this rider; and those beside numbers that
were let go of are opened, because the books do not know any more whose those were.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection, and_, case, func, insert, or_, select

from backoffice import schema
from backoffice.access import Alarmed, Aside, Envelope, Given, Kept, Listed, Moved, Touch
from backoffice.book import THE_CITY, purse
from ledger import batch as batches
from ledger import package, seal
from ledger.entry import Entry, Kind
from ledger.package import PERSONAL

_RIDER_KEY = "rider key "

_Key = tuple[int, int, int]


def kept_about(connection: Connection, riders: Sequence[bytes]) -> Kept:
    """All that is kept under these pseudonyms."""
    touches = _touches(connection, riders)
    aside = _aside(connection, riders)
    keys = {(each.device, each.epoch, each.seq) for each in touches}
    begins = connection.scalar(select(func.max(schema.horizon.c.before_day))) or 0
    return Kept(
        tuple(touches),
        tuple(_moved(connection, riders)),
        tuple(_given(connection, riders)),
        tuple(aside),
        tuple(_envelopes(connection, riders, keys | {(each.device, each.epoch, each.seq) for each in aside})),
        tuple(_listed(connection, riders)),
        tuple(_alarmed(connection, keys)),
        begins,
        tuple(sorted(connection.scalars(select(schema.entry.c.rider_key).where(schema.entry.c.rider.is_not(None)).distinct()))),
        _ended(connection),
    )


def _touches(connection: Connection, riders: Sequence[bytes]) -> list[Touch]:
    entry, device = schema.entry, schema.device
    # What UNKNOWN would have written was never read back.
    rega = case((entry.c.kind == int(Kind.UNKNOWN), entry.c.rega_before), else_=func.coalesce(entry.c.rega_after, entry.c.rega_before))
    asked = (
        select(
            entry.c.device,
            entry.c.epoch,
            entry.c.seq,
            case((entry.c.vehicle != "", entry.c.vehicle), else_=func.coalesce(device.c.name, "")),
            entry.c.operator,
            entry.c.route,
            entry.c.trip,
            entry.c.boarding,
            entry.c.alighting,
            entry.c.utc_ms,
            entry.c.clock,
            entry.c.service_day,
            entry.c.received_ms,
            entry.c.kind,
            entry.c.outcome,
            entry.c.flags,
            entry.c.ref,
            entry.c.nominal,
            entry.c.points,
            entry.c.cash,
            entry.c.adults,
            entry.c.children,
            entry.c.rider_key,
            entry.c.granted,
            rega,
            entry.c.reason,
        )
        .outerjoin(device, device.c.id == entry.c.device)
        .where(entry.c.rider.in_(riders))
        .order_by(entry.c.utc_ms, entry.c.device, entry.c.epoch, entry.c.seq)
    )
    rows: list[list[Any]] = [list(row) for row in connection.execute(asked)]
    return [Touch(*row) for row in rows]


def _moved(connection: Connection, riders: Sequence[bytes]) -> list[Moved]:
    entry, posting = schema.entry, schema.posting
    columns = (
        posting.c.device,
        posting.c.epoch,
        posting.c.seq,
        posting.c.leg,
        posting.c.service_day,
        posting.c.at_ms,
        posting.c.kind,
        posting.c.debit,
        posting.c.credit,
        posting.c.amount,
        func.coalesce(posting.c.ref_leg, 0),
    )
    same = and_(posting.c.device == entry.c.device, posting.c.epoch == entry.c.epoch, posting.c.seq == entry.c.seq)
    by_entry = select(*columns).select_from(entry).join(posting, same).where(entry.c.rider.in_(riders))
    purses = [purse(rider) for rider in riders]
    by_grant = select(*columns).where(posting.c.device == THE_CITY, or_(posting.c.debit.in_(purses), posting.c.credit.in_(purses)))
    found = [Moved(*row) for asked in (by_entry, by_grant) for row in connection.execute(asked)]
    return sorted(found, key=lambda each: (each.service_day, each.at_ms, each.device, each.epoch, each.seq, each.leg))


def _given(connection: Connection, riders: Sequence[bytes]) -> list[Given]:
    grant = schema.rider_grant
    columns = (grant.c.fiscal_year, grant.c.number, grant.c.points, grant.c.kind == "correction", grant.c.at_ms)
    found = connection.execute(select(*columns).where(grant.c.rider.in_(riders)).order_by(grant.c.fiscal_year, grant.c.number))
    return [Given(row[0], row[1], row[2], bool(row[3]), row[4]) for row in found]


def _aside(connection: Connection, riders: Sequence[bytes]) -> list[Aside]:
    reject, held = schema.reject, schema.held
    rejected = select(reject.c.device, reject.c.epoch, reject.c.seq, reject.c.received_ms, reject.c.code, reject.c.sentence, reject.c.data)
    found = [Aside(*row) for row in connection.execute(rejected) if _names(row.data, riders)]
    holding = select(held.c.device, held.c.epoch, held.c.seq, held.c.received_ms, held.c.data).where(held.c.released_ms.is_(None))
    found += [Aside(*row[:4], "", "", row.data) for row in connection.execute(holding) if _names(row.data, riders)]
    return sorted(found, key=lambda each: (each.received_ms, each.device, each.epoch, each.seq))


def _names(data: bytes, riders: Iterable[bytes]) -> bool:
    return any(rider in data for rider in riders)


# --- raw batches --------------------------------------------------------------------------------------------------------------------------


def _envelopes(connection: Connection, riders: Collection[bytes], keys: Iterable[_Key]) -> list[Envelope]:
    by_ledger: dict[tuple[int, int], list[int]] = defaultdict(list)
    for device, epoch, seq in sorted(set(keys)):
        by_ledger[device, epoch].append(seq)
    forgotten = schema.forgotten
    ledgers = {(device, epoch) for device, epoch in connection.execute(select(forgotten.c.device, forgotten.c.epoch).distinct())}
    return [
        envelope
        for device, epoch in sorted({*by_ledger, *ledgers})
        for envelope in _of_ledger(connection, riders, (device, epoch), by_ledger[device, epoch])
    ]


def _of_ledger(connection: Connection, riders: Collection[bytes], ledger: tuple[int, int], own: Sequence[int]) -> list[Envelope]:
    batch, forgotten = schema.batch, schema.forgotten
    device, epoch = ledger
    here = and_(forgotten.c.device == device, forgotten.c.epoch == epoch)
    runs = [(first, last) for first, last in connection.execute(select(forgotten.c.first_seq, forgotten.c.last_seq).where(here))]
    columns = (batch.c.id, batch.c.first_seq, batch.c.last_seq, batch.c.received_ms)
    asked = select(*columns).where(batch.c.device == device, batch.c.epoch == epoch).order_by(batch.c.id)
    found: list[Envelope] = []
    for number, first, last, received_ms in connection.execute(asked).all():
        seqs = own[bisect_left(own, first) : bisect_left(own, last + 1)]
        gone = [run for run in runs if run[0] <= last and run[1] >= first]
        old = _opened(connection, number, riders, gone) if gone else []
        if seqs or old:
            last_day, last_ms = _youngest(connection, ledger, first, last)
            both = tuple(sorted({*seqs, *old}))
            found.append(Envelope(number, device, epoch, first, last, received_ms, both, tuple(old), last_day, last_ms))
    return found


def _opened(connection: Connection, number: int, riders: Collection[bytes], gone: Sequence[tuple[int, int]]) -> list[int]:
    """The numbers of these riders in a batch that are in the books no more."""
    sealed = connection.scalar(select(schema.batch.c.sealed).where(schema.batch.c.id == number)) or b""
    inside = batches.unpack(seal.parse(bytes(sealed), seal.Content.BATCH, batches.MAX_SEALED).payload)
    return [
        seq
        for seq, _, entry in batches.opened(inside)
        if any(first <= seq <= last for first, last in gone)
        and isinstance(entry, Entry)
        and entry.medium is not None
        and entry.medium.rider in riders
    ]


def _youngest(connection: Connection, ledger: tuple[int, int], first: int, last: int) -> tuple[int, int]:
    entry = schema.entry
    here = and_(entry.c.device == ledger[0], entry.c.epoch == ledger[1], entry.c.seq.between(first, last))
    day, received_ms = connection.execute(select(func.max(entry.c.service_day), func.max(entry.c.received_ms)).where(here)).one()
    return day or 0, received_ms or 0


# --- the rest -----------------------------------------------------------------------------------------------------------------------------


def _listed(connection: Connection, riders: Sequence[bytes]) -> list[Listed]:
    table = schema.package
    names = [name for rider in riders for name in (rider, rider.hex().encode(), rider.hex().upper().encode())]
    found: list[Listed] = []
    for row in connection.execute(select(table).where(table.c.kind.in_([kind.value for kind in PERSONAL])).order_by(table.c.valid_from)):
        file = package.decode(seal.parse(bytes(row.sealed), seal.Content.PACKAGE, package.MAX_SEALED).payload).file
        if _names(file, names):
            found.append(Listed(row.kind, row.version, row.valid_from))
    return found


def _alarmed(connection: Connection, keys: Collection[_Key]) -> list[Alarmed]:
    alarm = schema.alarm
    columns = (alarm.c.device, alarm.c.epoch, alarm.c.seq, alarm.c.at_ms, alarm.c.kind, alarm.c.sentence)
    devices = {device for device, _, _ in keys}
    found = connection.execute(select(*columns).where(alarm.c.device.in_(devices)).order_by(alarm.c.at_ms))
    return [Alarmed(*row) for row in found if (row.device, row.epoch, row.seq) in keys]


def _ended(connection: Connection) -> tuple[int, ...]:
    table = schema.disposal
    kinds = connection.scalars(select(table.c.kind).where(table.c.kind.startswith(_RIDER_KEY)).distinct())
    return tuple(sorted(int(kind.removeprefix(_RIDER_KEY)) for kind in kinds))


# --- who looked ---------------------------------------------------------------------------------------------------------------------------


class Log(Protocol):
    """Where accesses are written down (``backoffice.store``)."""

    def writing(self) -> AbstractContextManager[Connection]: ...


def note(log: Log, clerk: str, action: str, at_ms: int) -> None:
    """Write down who looks and how, never at whom; a second access in the same millisecond stands one later."""
    table = schema.access_log
    with log.writing() as connection:
        last = connection.scalar(select(func.max(table.c.at_ms)).where(table.c.clerk == clerk, table.c.action == action)) or 0
        connection.execute(insert(table), {"at_ms": max(at_ms, last + 1), "clerk": clerk, "action": action})
