"""Adapter: devices, their keys, their codes and their notes in the city's database (SQLAlchemy).

What ``backoffice.keys`` says in values, this keeps: statements here add rows or fill an empty mark, and none empties one. There is no
function that lifts a revocation, moves it to a later entry, or gives a known public key to another device.
"""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import date, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, Row, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from backoffice import schema
from backoffice.city import Stored
from backoffice.console.facts import Sort, Trouble
from backoffice.health import Condition
from backoffice.keys import BEFORE_ALL, Device, DeviceKey, NameTaken, OneTimeCode, Place, order_of, reaches
from ledger import package, seal
from ledger.batch import Batch
from ledger.entry import Kind, Versions, When
from ledger.notes import PARTS, Heartbeat, Loss
from ledger.offers import Offer, worth
from ledger.package import Package, PackageKind
from ledger.seal import Algorithm, Content

DAY_MS = 86_400_000
KEPT_CODES_MS = 7 * DAY_MS
"""How long an expired code is still compared: for nothing but that its sentence takes as long as another's."""

_TAPS = (Kind.OPEN, Kind.PAID, Kind.UNKNOWN, Kind.FREE, Kind.UNPRICED, Kind.REFUSED)
_EPOCH_DAY = date(1970, 1, 1)
_KEY = select(schema.device_key).where(schema.device_key.c.kid == bindparam("kid"))  # asked for every message, so it is built once


class Database(Protocol):
    """Connections of the city's database (``backoffice.store``)."""

    def asking(self) -> AbstractContextManager[Connection]:
        """For one question."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """For questions; sees one moment."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """For one transaction, committed at the end."""
        ...


class Ledgers(Database, Protocol):
    """Where ledgers are booked (``backoffice.store``)."""

    def receive(self, sealed: bytes, kid: bytes, batch: Batch, received_ms: int) -> Stored: ...
    def stored(self, device: int, epoch: int) -> Stored: ...
    def lost(self, loss: Loss, sealed: bytes, kid: bytes, received_ms: int) -> object: ...


class Registry:
    """Over a database whose tables are there. Every call may raise ``backoffice.city.BooksAway``; what returned is durable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- keys (backoffice.keys.KeyBook) -------------------------------------------------------------------------------------------------

    def find_key(self, kid: bytes) -> DeviceKey | None:
        """The key with this name."""
        with self._database.asking() as connection:
            row = connection.execute(_KEY, {"kid": kid}).one_or_none()
        return None if row is None else _key(row)

    def epochs(self, device: int) -> tuple[int, ...]:
        """The device's epochs in the order in which the city first heard of them."""
        table = schema.ledger
        with self._database.reading() as connection:
            return tuple(connection.scalars(select(table.c.epoch).where(table.c.device == device).order_by(table.c.number)))

    def codes(self, now_ms: int) -> tuple[OneTimeCode, ...]:
        """The codes that were given out and have not been expired for long."""
        table = schema.enrolment
        oldest = now_ms - KEPT_CODES_MS
        with self._database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.expires_ms > oldest)).all()
        return tuple(OneTimeCode(row.code_hash, row.device, row.expires_ms, row.used_ms) for row in rows)

    def admit(self, code: OneTimeCode, key: DeviceKey) -> bool:
        """Use up ``code`` and write down ``key``; False when the code was used or closed, or the key became known, meanwhile."""
        table = schema.enrolment
        still_open = and_(table.c.code_hash == code.digest, table.c.used_ms.is_(None), table.c.expires_ms > key.created_ms)
        try:
            with self._database.writing() as connection:
                _hold(connection, key.device)
                if connection.execute(update(table).where(still_open).values(used_ms=key.created_ms)).rowcount != 1:
                    return False
                connection.execute(insert(schema.device_key).values(_columns(key)))
        except IntegrityError:
            return False
        return True

    def succeed(self, old: DeviceKey, new: DeviceKey) -> bool:
        """Write down ``new``, and where it begins as the end of ``old`` unless that has one; False when ``new`` is another known key.

        An end and a revocation that ``old`` has go over to ``new``, also those that came a moment ago: they are read here, under the lock.
        """
        table = schema.device_key
        with self._database.writing() as connection:
            _hold(connection, new.device)
            known = connection.execute(select(table).where(table.c.kid == new.kid)).one_or_none()
            if known is not None:
                return bool(known.device == new.device and (known.from_epoch, known.from_seq) == new.since)
            marks = connection.execute(select(table).where(table.c.kid == old.kid)).mappings().one()
            inherited = {name: marks[name] for name in ("until_epoch", "until_seq", "revoked_epoch", "revoked_seq", "revoked_ms")}
            connection.execute(insert(table).values(_columns(new) | inherited))
            end = {"until_epoch": new.since.epoch, "until_seq": new.since.seq}
            connection.execute(update(table).where(table.c.kid == old.kid, table.c.until_seq.is_(None)).values(end))
        return True

    # --- what a clerk does --------------------------------------------------------------------------------------------------------------

    def add_device(self, device: int, name: str, operator: str, now_ms: int) -> None:
        """A new device, or the same again. Raises ``NameTaken``."""
        table = schema.device
        with self._database.writing() as connection:
            rows = connection.execute(select(table).where(or_(table.c.id == device, table.c.name == name))).all()
            if not rows:
                connection.execute(insert(table).values(id=device, name=name, operator=operator, created_ms=now_ms))
            elif [(row.id, row.name) for row in rows] != [(device, name)]:
                row = rows[0]
                raise NameTaken(f"device {row.id} is called {row.name}; one name is one device, for ever")

    def give_code(self, device: int, digest: bytes, now_ms: int, expires_ms: int) -> None:
        """Remember a code for ``device`` by its hash; codes for it that nobody used are closed."""
        table = schema.enrolment
        with self._database.writing() as connection:
            still_open = and_(table.c.device == device, table.c.used_ms.is_(None), table.c.expires_ms > now_ms)
            connection.execute(update(table).where(still_open).values(expires_ms=now_ms))
            connection.execute(insert(table).values(code_hash=digest, device=device, created_ms=now_ms, expires_ms=expires_ms))

    def revoke(self, device: int, place: Place | None, now_ms: int) -> Place:
        """Believe nothing that the device's keys sign from ``place`` on (None: from the first entry that the city lacks); where that is.

        Codes that are open for the device are closed. A key that is revoked from an earlier entry on stays so.
        """
        keys, codes, devices, ledger = schema.device_key, schema.enrolment, schema.device, schema.ledger
        with self._database.writing() as connection:
            _hold(connection, device)
            heard = connection.execute(
                select(ledger.c.epoch, ledger.c.next_seq).where(ledger.c.device == device).order_by(ledger.c.number)
            ).all()
            order = order_of([row.epoch for row in heard])
            if place is None:
                place = Place(heard[-1].epoch, heard[-1].next_seq) if heard else BEFORE_ALL
            mark = {"revoked_epoch": place.epoch, "revoked_seq": place.seq, "revoked_ms": now_ms}
            for row in connection.execute(select(keys).where(keys.c.device == device)).all():
                known = _key(row).revoked
                if known is None or not reaches(place, known, order):
                    connection.execute(update(keys).where(keys.c.kid == row.kid).values(mark))
            connection.execute(update(codes).where(codes.c.device == device, codes.c.used_ms.is_(None)).values(expires_ms=now_ms))
            never = and_(devices.c.id == device, devices.c.revoked_ms.is_(None))
            connection.execute(update(devices).where(never).values(revoked_ms=now_ms))
        return place

    def devices(self) -> tuple[Device, ...]:
        """All devices, by name."""
        table, keys = schema.device, schema.device_key
        with self._database.reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).all()
            of: dict[int, list[DeviceKey]] = {}
            for row in connection.execute(select(keys).order_by(keys.c.created_ms, keys.c.from_seq, keys.c.kid)):
                of.setdefault(row.device, []).append(_key(row))
            contact = _contacts(connection)
        return tuple(
            Device(row.id, row.name, row.operator, row.created_ms, row.revoked_ms, tuple(of.get(row.id, ())), contact.get(row.id))
            for row in rows
        )

    def name(self, device: int) -> str:
        """What people call the device."""
        with self._database.reading() as connection:
            return connection.scalar(select(schema.device.c.name).where(schema.device.c.id == device)) or ""

    def find(self, name: str) -> int | None:
        """The device that people call ``name``."""
        with self._database.reading() as connection:
            return connection.scalar(select(schema.device.c.id).where(schema.device.c.name == name))

    # --- notes --------------------------------------------------------------------------------------------------------------------------

    def heard(self, beat: Heartbeat, received_ms: int) -> None:
        """Keep a heartbeat; of two in the same millisecond the first."""
        at, versions = beat.at, beat.versions
        values = {
            "device": beat.device,
            "received_ms": received_ms,
            "epoch": beat.epoch,
            "head_seq": beat.head_seq,
            "head_hash": beat.head_hash,
            "boot": at.boot,
            "mono_ms": at.mono_ms,
            "utc_ms": at.utc_ms,
            "clock": min(at.clock, 2**31 - 1),
            "free_bytes": beat.free_bytes,
            "table_version": versions.table,
            "scheme_version": versions.scheme,
            "operator_version": versions.operator,
            "rules_software": versions.software,
            "card_key": min(versions.card_key, 2**31 - 1),
            "rider_key": min(versions.rider_key, 2**31 - 1),
            "software": beat.software,
            "selftest": dict(beat.selftest),
            "counts": dict(beat.counts),
            "up_s": beat.up_s,
        }
        try:
            with self._database.writing() as connection:
                connection.execute(insert(schema.heartbeat).values(values))
        except IntegrityError:
            return

    def holds(self, device: int, epoch: int, seq: int, digest: bytes) -> bool:
        """Whether entry ``seq`` is booked with these 16 first bytes of its SHA-256."""
        table = schema.entry
        with self._database.reading() as connection:
            where = and_(table.c.device == device, table.c.epoch == epoch, table.c.seq == seq)
            return connection.scalar(select(table.c.digest).where(where)) == digest

    def alarm(self, kind: str, place: tuple[int, int, int], sentence: str, at_ms: int) -> None:
        """Put a sentence before the clerks, once."""
        device, epoch, seq = place
        try:
            with self._database.writing() as connection:
                row = {"kind": kind, "device": device, "epoch": epoch, "seq": seq, "sentence": sentence, "at_ms": at_ms}
                connection.execute(insert(schema.alarm).values(row))
        except IntegrityError:
            return

    def alarms(self, limit: int) -> list[Trouble]:
        """What was put before the clerks and nobody has ticked off, the newest first."""
        table, device = schema.alarm, schema.device
        asked = (
            select(table, device.c.name)
            .outerjoin(device, device.c.id == table.c.device)
            .where(~schema.ticked_off())
            .order_by(table.c.at_ms.desc(), table.c.id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(asked).all()
        return [Trouble(Sort.ALARM, row.kind, row.name or "", row.epoch, row.seq, row.at_ms, row.sentence) for row in rows]

    def conditions(self, now_ms: int, today: date) -> tuple[Condition, ...]:
        """Every device with a key that is in force, as ``backoffice.health`` judges it; ``today`` is the service day."""
        beats = {beat.device: (beat, received_ms) for beat, received_ms in self._last_beats()}
        day = (today - _EPOCH_DAY).days
        now, before = self._taps(day, now_ms), self._taps(day - 1, now_ms - DAY_MS)
        return tuple(
            Condition(
                device=device.id,
                name=device.name,
                enrolled_ms=max(key.created_ms for key in device.keys),
                contact_ms=device.contact_ms,
                beat=beats[device.id][0] if device.id in beats else None,
                beat_ms=beats[device.id][1] if device.id in beats else 0,
                taps=now.get(device.id, 0),
                taps_before=before.get(device.id, 0),
            )
            for device in self.devices()
            if any(key.revoked is None for key in device.keys)
        )

    def _taps(self, day: int, until_ms: int) -> dict[int, int]:
        table = schema.entry
        where = and_(table.c.service_day == day, table.c.kind.in_([int(kind) for kind in _TAPS]), table.c.utc_ms <= until_ms)
        with self._database.reading() as connection:
            rows = connection.execute(select(table.c.device, func.count()).where(where).group_by(table.c.device)).all()
        return {row[0]: row[1] for row in rows}

    def _last_beats(self) -> list[tuple[Heartbeat, int]]:
        table = schema.heartbeat
        last = select(table.c.device, func.max(table.c.received_ms).label("received_ms")).group_by(table.c.device).subquery()
        both = and_(table.c.device == last.c.device, table.c.received_ms == last.c.received_ms)
        with self._database.reading() as connection:
            return [(_beat(row), row.received_ms) for row in connection.execute(select(table).join(last, both))]

    # --- packages -----------------------------------------------------------------------------------------------------------------------

    def offers(self) -> Sequence[Offer]:
        """All packages in the order in which they were offered."""
        table = schema.package
        columns = (table.c.kind, table.c.version, table.c.valid_from, table.c.digest, func.length(table.c.sealed).label("size"))
        with self._database.asking() as connection:
            rows = connection.execute(select(*columns).order_by(table.c.created_ms)).all()
        return [
            Offer(PackageKind(row.kind), int(row.version), _EPOCH_DAY + timedelta(days=row.valid_from), row.digest, row.size)
            for row in rows
        ]

    def package(self, digest: bytes) -> bytes | None:
        """The sealed package with this SHA-256."""
        with self._database.reading() as connection:
            return connection.scalar(select(schema.package.c.sealed).where(schema.package.c.digest == digest))

    def offer(self, found: Package, sealed: bytes, now_ms: int) -> bool:
        """Put the package ``found``, which ``sealed`` holds, on the list; False when it is there already."""
        values = {
            "digest": hashlib.sha256(sealed).digest(),
            "kind": found.kind.value,
            "version": str(found.version),
            "valid_from": (found.valid_from - _EPOCH_DAY).days,
            "created_ms": now_ms,
            "sealed": sealed,
        }
        try:
            with self._database.writing() as connection:
                connection.execute(insert(schema.package).values(values))
        except IntegrityError:
            return False
        return True

    def table_in_force(self, today: date) -> bytes:
        """The fingerprint of the fare table that vehicles should have, as entries and heartbeats name it; empty when none was sent."""
        begun = [each for each in worth(self.offers(), today) if each.kind is PackageKind.FARE_TABLE and each.valid_from <= today]
        sealed = self.package(begun[0].digest) if begun else None
        return b"" if sealed is None else package.decode(seal.parse(sealed, Content.PACKAGE, package.MAX_SEALED).payload).digest[:8]


class CityBooks(Registry):
    """All that the door asks of the books: the registry, and the store of the ledgers (``backoffice.city.Books``)."""

    def __init__(self, store: Ledgers) -> None:
        super().__init__(store)
        self.receive = store.receive
        self.stored = store.stored
        self.lost = store.lost


def _hold(connection: Connection, device: int) -> None:
    """Nobody else changes this device's keys and codes until the transaction ends. SQLite has one writer anyway, and ignores the lock."""
    connection.execute(select(schema.device.c.id).where(schema.device.c.id == device).with_for_update())


def _contacts(connection: Connection) -> dict[int, int]:
    """When anything last came from each device."""
    found: dict[int, int] = {}
    for table, column in ((schema.ledger, schema.ledger.c.contact_ms), (schema.heartbeat, schema.heartbeat.c.received_ms)):
        for device, at_ms in connection.execute(select(table.c.device, func.max(column)).group_by(table.c.device)):
            found[device] = max(at_ms, found.get(device, 0))
    return found


def _key(row: Row[Any]) -> DeviceKey:
    until = None if row.until_seq is None else Place(row.until_epoch, row.until_seq)
    revoked = None if row.revoked_seq is None else Place(row.revoked_epoch, row.revoked_seq)
    since = Place(row.from_epoch, row.from_seq)
    return DeviceKey(row.kid, row.device, Algorithm(row.algorithm), row.public, since, until, revoked, row.created_ms)


def _columns(key: DeviceKey) -> dict[str, object]:
    return {
        "kid": key.kid,
        "device": key.device,
        "algorithm": int(key.algorithm),
        "public": key.public,
        "from_epoch": key.since.epoch,
        "from_seq": key.since.seq,
        "created_ms": key.created_ms,
    }


def _beat(row: Row[Any]) -> Heartbeat:
    versions = Versions(row.table_version, row.scheme_version, row.operator_version, row.rules_software, row.card_key, row.rider_key)
    selftest = tuple((part, int(row.selftest[part])) for part in PARTS if part in row.selftest)
    at = When(row.boot, row.mono_ms, row.utc_ms, row.clock)
    counts = tuple(sorted((str(name), int(number)) for name, number in row.counts.items()))
    about = (row.device, row.epoch, row.head_seq, row.head_hash)
    return Heartbeat(*about, at, selftest, row.free_bytes, versions, row.software, counts, row.up_s)
