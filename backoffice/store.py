"""The city's database: SQLAlchemy over SQLite or PostgreSQL, one code for both.

Statements are built on ``backoffice.schema``. ``reading`` and ``writing`` give a connection to whoever has questions of their own (bills,
pages, keys).

**Exactly once.** A batch is one transaction. It takes the device's lock (PostgreSQL: an advisory lock that ends with the transaction;
SQLite: the one writer there is), reads how far the ledger is stored, decides (``backoffice.receive``), and adds. With the lock held nobody
else can add an entry of this device between the look and the adding, so there is no need to try and see what the unique key says; it is
there for the day on which this reasoning is wrong. A process that is killed, or a database that is, leaves the whole batch or nothing. An
answer that never arrives leaves the terminal to send again, which finds everything there.

**Fast.** Round trips and statements are the work, and then the indexes. A batch whose numbers lie where nothing is stored asks for no
entries; entries and postings go in by binary ``COPY``, straight into their tables; and a message that is known as it is, is known by its
digest.
"""

import hashlib
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, cast

import alembic.command
import psycopg
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    SmallInteger,
    Table,
    and_,
    create_engine,
    delete,
    event,
    insert,
    literal,
    literal_column,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from backoffice import receive, rows, schema
from backoffice.city import BooksAway
from backoffice.copying import Copying
from backoffice.receive import Answer, Known, Run, Sorted, Standing
from ledger.batch import Batch
from ledger.chain import genesis
from ledger.notes import Loss

MIGRATIONS = Path(__file__).parent / "migrations"
POSTGRESQL = "postgresql"

Insert = postgresql.Insert | sqlite.Insert

_WRITES = "kazashi_writes"
_BUSY_MS = 30_000
_CONFLICT = (
    "Two contents were sent under one number; the first stays. The vehicle's storage was copied or changed, or its key is not its own."
)
_FORGOTTEN = (
    "Entries were sent again that the city had, and let go of because of their age; they are not booked again. Whether they say the same "
    "cannot be told any more. Ask why the vehicle still has them."
)
_CHAIN = "The chain before this entry is told in two ways: the vehicle's ledger was written anew in between. Ask for its storage."


_ROLES = (schema.ROLE, schema.RETENTION)
_NOT_ALLOWED = (
    f"the database user may not make the roles {' and '.join(_ROLES)} that the books need; let the database's administrator run: "
    + " ".join(f"CREATE ROLE {role}; GRANT {role} TO {{user}};" for role in _ROLES)
)


class Store:
    """The city's books in one database. Threads may share it. Every method raises ``BooksAway`` when the database does not answer."""

    def __init__(self, url: URL) -> None:
        self.is_postgresql = url.get_backend_name() == POSTGRESQL
        self._url = url
        self._hands: _Hands = _Postgresql() if self.is_postgresql else _Sqlite()
        self.engine = create_engine(url, **self._hands.pool)
        self._hands.prepare(self.engine)
        event.listen(self.engine, "connect", self._hands.connected)

    @classmethod
    def open(cls, url: str) -> Self:
        """The books at ``url``: ``sqlite:///FILE`` or ``postgresql://…``. Nothing is read or made yet; ``migrate`` makes the tables."""
        parsed = address(url)
        if parsed.get_backend_name() == POSTGRESQL:
            return cls(parsed.set(drivername="postgresql+psycopg"))
        return cls(parsed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def migrate(self) -> None:
        """Take the steps that this database lacks, as the user whom the URL names. Call it at every start; two at once do no harm."""
        engine = create_engine(self._url)
        self._hands.prepare(engine)
        try:
            with _told_when_away():
                self._migrate(engine)
        except ProgrammingError as error:
            if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                raise
            raise BooksAway(_NOT_ALLOWED.format(user=self._url.username)) from error
        finally:
            engine.dispose()

    def _migrate(self, engine: Engine) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            self._hands.lock_migrations(connection)
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A connection that sees one moment and changes nothing."""
        with _told_when_away(), self.engine.connect().execution_options(**self._hands.one_moment) as connection:
            yield connection

    @contextmanager
    def asking(self) -> Generator[Connection]:
        """A connection for one question. It opens no transaction, which would cost more than the question."""
        with _told_when_away(), self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A connection in a transaction, which is committed at the end, or undone when an exception leaves it."""
        with _told_when_away(), self.engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield connection

    # --- receiving ----------------------------------------------------------------------------------------------------------------------

    def receive(self, sealed: bytes, kid: bytes, batch: Batch, received_ms: int) -> Answer:
        """Book ``batch``, which ``sealed`` holds, exactly once; how far its ledger is stored now. What is answered is durable."""
        message = _Message(sealed, hashlib.sha256(sealed).digest(), kid)
        with self.writing() as connection:
            there = self._hands.enter(connection, batch, message.digest)
            if there.replayed:
                now = there.standing
                head = now.head(batch.device, batch.epoch)
                return Answer(now.next_seq, head, now.holes, there.codes, duplicate=batch.count, replayed=True)
            return self._receive(connection, message, batch, there.standing, received_ms)

    def stored(self, device: int, epoch: int) -> Answer:
        """How far a ledger is stored; nothing of an unknown one."""
        with self.reading() as connection:
            now = _standing(connection, device, epoch)
        return Answer(now.next_seq, now.head(device, epoch), now.holes)

    def lost(self, loss: Loss, sealed: bytes, kid: bytes, received_ms: int) -> Answer:
        """Keep the report of a lost ledger, and close the holes that it names. The same report twice is one."""
        device, epoch = loss.device, loss.epoch
        ledger = schema.ledger
        row = {
            "device": device,
            "epoch": epoch,
            "first_seq": loss.first,
            "last_seq": loss.last,
            "received_ms": received_ms,
            "boot": loss.at.boot,
            "mono_ms": loss.at.mono_ms,
            "utc_ms": min(loss.at.utc_ms, rows.LAST_MS),
            "clock": min(loss.at.clock, rows.MOST),
            "reason": str(loss.reason),
            "kid": kid,
            "sealed": sealed,
        }
        with self.writing() as connection:
            self._hands.lock(connection, device)
            before = _standing(connection, device, epoch)
            after = receive.with_loss(before, loss.first, loss.last)
            connection.execute(self._hands.insert(schema.loss).on_conflict_do_nothing(), row)
            self._keep_standing(connection, (device, epoch), before, after, received_ms)
            if loss.last == 0:
                here = and_(ledger.c.device == device, ledger.c.epoch == epoch)
                connection.execute(update(ledger).where(here).values(closed=True))
        return Answer(after.next_seq, after.head(device, epoch), after.holes)

    def release(self, now_ms: int) -> int:
        """Book the held entries that this program can read; how many it were. What stays wrong with one keeps it held."""
        released = 0
        for device in self._holders():
            with self.writing() as connection:
                self._hands.lock(connection, device)
                released += self._release(connection, device, now_ms)
        return released

    def _holders(self) -> list[int]:
        held = schema.held
        with self.reading() as connection:
            return list(connection.scalars(select(held.c.device).where(held.c.released_ms.is_(None)).distinct()))

    def _release(self, connection: Connection, device: int, now_ms: int) -> int:
        held = schema.held
        asked = select(held.c.epoch, held.c.seq, held.c.data).where(held.c.device == device, held.c.released_ms.is_(None))
        readable = 0
        for epoch, seq, data in connection.execute(asked).all():
            one = receive.alone(device, epoch, seq, data)
            found = receive.sort_out(one, {})
            if found.accepted:
                self._add(connection, one, found.accepted, now_ms)
                here = and_(held.c.device == device, held.c.epoch == epoch, held.c.seq == seq)
                connection.execute(update(held).where(here).values(released_ms=now_ms))
                readable += 1
        return readable

    def _receive(self, connection: Connection, message: "_Message", batch: Batch, before: Standing, received_ms: int) -> Answer:
        touches = before.touches(batch.first_seq, batch.last_seq)
        again = _forgotten(connection, batch) if touches else {}
        found = receive.sort_out(batch, again | _known(connection, batch) if touches else {})
        after, breaks = receive.with_batch(before, batch)
        self._add(connection, batch, found.accepted, received_ms)
        with self._hands.together(connection):
            if not found.brings_nothing:
                self._set_aside(connection, batch, found, received_ms)
                self._keep_message(connection, message, batch, received_ms)
            if found.conflicts or breaks or again:
                self._raise_alarms(connection, batch, found, breaks, received_ms, again=bool(again))
            self._keep_standing(connection, (batch.device, batch.epoch), before, after, received_ms)
        counts = (len(found.accepted), found.duplicates, len(found.conflicts), len(found.rejected), len(found.held))
        return Answer(after.next_seq, after.head(batch.device, batch.epoch), after.holes, found.codes, *counts)

    def _add(self, connection: Connection, batch: Batch, accepted: Mapping[int, bytes], received_ms: int) -> None:
        self._hands.add(connection, schema.entry, rows.entry_rows(batch, accepted, received_ms))
        self._hands.add(connection, schema.posting, rows.posting_rows(batch, accepted, received_ms))

    def _set_aside(self, connection: Connection, batch: Batch, found: Sorted, received_ms: int) -> None:
        where = {"device": batch.device, "epoch": batch.epoch, "received_ms": received_ms}
        aside = [where | each._asdict() for each in (*found.rejected, *found.conflicts)]
        if aside:
            connection.execute(self._hands.insert(schema.reject).on_conflict_do_nothing(), aside)
        if found.held:
            connection.execute(self._hands.insert(schema.held).on_conflict_do_nothing(), [where | each._asdict() for each in found.held])

    def _keep_message(self, connection: Connection, message: "_Message", batch: Batch, received_ms: int) -> None:
        row = {
            "device": batch.device,
            "epoch": batch.epoch,
            "first_seq": batch.first_seq,
            "last_seq": batch.last_seq,
            "received_ms": received_ms,
            "digest": message.digest,
            "kid": message.kid,
            "sealed": message.sealed,
        }
        connection.execute(_KEEP_MESSAGE, row)

    def _raise_alarms(
        self, connection: Connection, batch: Batch, found: Sorted, breaks: tuple[int, ...], at_ms: int, *, again: bool
    ) -> None:
        where = {"device": batch.device, "epoch": batch.epoch, "at_ms": at_ms}
        alarms = [where | {"seq": each.seq, "kind": "conflict", "sentence": _CONFLICT} for each in found.conflicts]
        alarms += [where | {"seq": seq, "kind": "chain", "sentence": _CHAIN} for seq in breaks]
        alarms += [where | {"seq": 0, "kind": "forgotten", "sentence": _FORGOTTEN}] if again else []
        connection.execute(self._hands.insert(schema.alarm).on_conflict_do_nothing(), alarms)

    def _keep_standing(self, connection: Connection, where: tuple[int, int], before: Standing, after: Standing, now_ms: int) -> None:
        device, epoch = where
        island = schema.island
        values = {"device": device, "epoch": epoch, "next_seq": after.next_seq, "head": after.head(device, epoch), "now_ms": now_ms}
        connection.execute(_KEEP_STANDING, values)
        if before.islands == after.islands:
            return
        for run in set(before.islands) - set(after.islands):
            here = and_(island.c.device == device, island.c.epoch == epoch, island.c.first_seq == run.first)
            connection.execute(delete(island).where(here))
        for run in set(after.islands) - set(before.islands):
            row = {"first_seq": run.first, "last_seq": run.last, "previous": run.previous, "head": run.head}
            connection.execute(insert(island).values({"device": device, "epoch": epoch} | row))


class _There(NamedTuple):
    """What is there when a batch comes: whether this very message, how far its ledger, and what was set aside among its numbers (told of a
    known message only).
    """

    replayed: bool
    standing: Standing
    codes: tuple[tuple[int, str], ...]


class _Message(NamedTuple):
    """A sealed batch as it came, all 32 bytes of its SHA-256, and whose key sealed it."""

    sealed: bytes
    digest: bytes
    kid: bytes


# --- what is asked and kept ---------------------------------------------------------------------------------------------------------------


def _standing(connection: Connection, device: int, epoch: int) -> Standing:
    found = connection.execute(text(_STANDING), {"device": device, "epoch": epoch}).all()
    return _standing_of(found, device, epoch)


def _standing_of(found: Sequence[Sequence[Any]], device: int, epoch: int) -> Standing:
    if not found:
        return receive.standing(device, epoch, 1, genesis(device, epoch), ())
    islands = [Run(*row[2:]) for row in found if row[2] is not None]
    return receive.standing(device, epoch, found[0][0], found[0][1], islands)


def _known(connection: Connection, batch: Batch) -> dict[int, Known]:
    """What is stored under the numbers of ``batch``."""
    entry, reject, held = schema.entry, schema.reject, schema.held
    asked = union_all(
        select(entry.c.seq, entry.c.digest, literal("").label("code")).where(_among(entry, batch)),
        select(reject.c.seq, reject.c.digest, reject.c.code).where(_among(reject, batch), reject.c.code != receive.CONFLICT),
        select(held.c.seq, held.c.digest, literal(receive.LATER)).where(_among(held, batch), held.c.released_ms.is_(None)),
    )
    return {seq: Known(digest, code) for seq, digest, code in connection.execute(asked)}


def _forgotten(connection: Connection, batch: Batch) -> dict[int, Known]:
    """The numbers of ``batch`` whose entries were let go of (``backoffice.retention``). They are stored, whatever is sent under them."""
    table = schema.forgotten
    here = and_(table.c.device == batch.device, table.c.epoch == batch.epoch)
    near = and_(table.c.first_seq <= batch.last_seq, table.c.last_seq >= batch.first_seq)
    runs = connection.execute(select(table.c.first_seq, table.c.last_seq).where(here, near)).all()
    return {
        seq: Known(receive.digest_of(data), "")
        for seq, data in enumerate(batch.entries, batch.first_seq)
        if any(first <= seq <= last for first, last in runs)
    }


def _codes(found: Sequence[Sequence[Any]], batch: Batch) -> tuple[tuple[int, str], ...]:
    """What the receipt says of the entries of ``batch`` that were set aside; other content under their numbers is not its business."""
    own = {seq: str(code) for seq, digest, code in found if digest == receive.digest_of(batch.entries[int(seq) - batch.first_seq])}
    return tuple(sorted(own.items()))


def _among(table: Table, batch: Batch) -> ColumnElement[bool]:
    here = and_(table.c.device == batch.device, table.c.epoch == batch.epoch)
    return and_(here, table.c.seq.between(batch.first_seq, batch.last_seq))


def address(url: str) -> URL:
    """The parts of a database's address. Raises ``BooksAway``."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        sentence = (
            "what is given as the database's address is none; correct database.url or --to, write postgresql://USER@HOST:PORT/DATABASE"
        )
        raise BooksAway(sentence) from None


@contextmanager
def _told_when_away() -> Generator[None]:
    """What only means that the database does not answer now, is busy for too long, or is a broken file, is ``BooksAway``."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError) as error:
        raise _away(error) from error
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # what is beneath it is our fault
            raise
        raise _away(error) from error


def _away(error: Exception) -> BooksAway:
    said = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
    return BooksAway(f"the database does not answer ({said}); start it, or correct database.url")


# --- what the two databases do differently ------------------------------------------------------------------------------------------------


class _Hands(Protocol):
    pool: dict[str, Any]
    one_moment: dict[str, Any]

    def prepare(self, engine: Engine) -> None:
        """Make ``engine`` ready for whoever uses it."""
        ...

    def connected(self, connection: Any, _: ConnectionPoolEntry) -> None:
        """A connection of the books was opened."""
        ...

    def lock_migrations(self, connection: Connection) -> None:
        """Let nobody else migrate until the transaction ends."""
        ...

    def lock(self, connection: Connection, device: int) -> None:
        """Let nobody else add to the device's ledgers until the transaction ends."""
        ...

    def enter(self, connection: Connection, batch: Batch, digest: bytes) -> _There:
        """Take the device's lock, and look."""
        ...

    def together(self, connection: Connection) -> AbstractContextManager[object]:
        """Statements inside need not be answered one by one."""
        ...

    def add(self, connection: Connection, table: Table, values: list[rows.Row]) -> None:
        """Add new rows of ``entry`` or ``posting``."""
        ...

    def insert(self, table: Table) -> Insert:
        """An INSERT that can be told what to do with what is there."""
        ...


class _Sqlite:
    """Write-ahead log, a flush at each commit. One writer: who is going to write takes the lock at once, because a reader that becomes a
    writer half-way can only fail.
    """

    def __init__(self) -> None:
        self.pool: dict[str, Any] = {}
        self.one_moment: dict[str, Any] = {}
        self._added = {table: str(insert(table).values({name: literal_column("?") for name in names})) for table, names, _ in _ADDED}

    def prepare(self, engine: Engine) -> None:
        event.listen(engine, "connect", self._set_up)
        event.listen(engine, "begin", self._begin)

    def connected(self, connection: Any, _: ConnectionPoolEntry) -> None:
        """Nothing more."""

    def lock_migrations(self, connection: Connection) -> None:
        """The transaction is the lock."""

    def lock(self, connection: Connection, device: int) -> None:
        """The transaction is the lock."""

    def enter(self, connection: Connection, batch: Batch, digest: bytes) -> _There:
        known = connection.scalar(select(schema.batch.c.id).where(schema.batch.c.digest == digest)) is not None
        standing = _standing(connection, batch.device, batch.epoch)
        among = {"device": batch.device, "epoch": batch.epoch, "first": batch.first_seq, "last": batch.last_seq}
        return _There(known, standing, _codes(connection.execute(text(_ASIDE), among).all(), batch) if known else ())

    def together(self, connection: Connection) -> AbstractContextManager[object]:
        return nullcontext(connection)

    def add(self, connection: Connection, table: Table, values: list[rows.Row]) -> None:
        if values:
            connection.exec_driver_sql(self._added[table], values)

    def insert(self, table: Table) -> Insert:
        return sqlite.insert(table).inline()

    def _set_up(self, connection: Any, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # transactions are begun by us, not by guesses of Python's module
        for pragma in ("journal_mode = WAL", "synchronous = FULL", f"busy_timeout = {_BUSY_MS}", "cache_size = -65536"):
            connection.execute(f"PRAGMA {pragma}").close()

    def _begin(self, connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class _Postgresql:
    """Works in a role that may not change what is written once. Asks in one round trip what can be asked in one."""

    def __init__(self) -> None:
        self.pool: dict[str, Any] = {"pool_size": 8, "max_overflow": 8}
        self.one_moment: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._lock = _percent("SELECT pg_advisory_xact_lock(:device)")
        self._standing = _percent(_STANDING)
        self._aside = _percent(_ASIDE)
        self._copies = {table: copy_of(table) for table, _, _ in _ADDED}

    def prepare(self, engine: Engine) -> None:
        """Nothing more."""

    def connected(self, connection: Any, _: ConnectionPoolEntry) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (schema.ROLE,))
            if cursor.rowcount:  # before the first migration there is no such role
                cursor.execute(f"SET SESSION ROLE {schema.ROLE}")
        connection.commit()

    def lock_migrations(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('kazashi migrations'))"))

    def lock(self, connection: Connection, device: int) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:device)"), {"device": device})

    def enter(self, connection: Connection, batch: Batch, digest: bytes) -> _There:
        # Several statements, not one: a statement sees the moment at which it began, and must begin after the lock is held.
        raw = _raw(connection)
        among = {"device": batch.device, "epoch": batch.epoch, "first": batch.first_seq, "last": batch.last_seq}
        with raw.pipeline():
            raw.execute(self._lock, among)
            known = raw.execute("SELECT FROM batch WHERE digest = %s", (digest,))
            found = raw.execute(self._standing, among)
            aside = raw.execute(self._aside, among)
        return _There(known.rowcount > 0, _standing_of(found.fetchall(), batch.device, batch.epoch), _codes(aside.fetchall(), batch))

    def together(self, connection: Connection) -> AbstractContextManager[object]:
        return _raw(connection).pipeline()

    def add(self, connection: Connection, table: Table, values: list[rows.Row]) -> None:
        if values:
            statement, copying = self._copies[table]
            with _raw(connection).cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(copying.pack(values))

    def insert(self, table: Table) -> Insert:
        return postgresql.insert(table).inline()  # asks nothing back


# Tables that batches are added to, their columns, and where groups begin that come again as they are (``backoffice.copying``).
_ADDED = (
    (schema.entry, rows.ENTRY, ("table_version", "boarding")),
    (schema.posting, rows.POSTING, ("credit",)),
)
_WIDTHS: dict[type, int] = {BigInteger: 8, Integer: 4, SmallInteger: 2}
_STANDING = (
    "SELECT l.next_seq, l.head, i.first_seq, i.last_seq, i.previous, i.head FROM ledger l "
    "LEFT JOIN island i ON i.device = l.device AND i.epoch = l.epoch WHERE l.device = :device AND l.epoch = :epoch"
)
_ASIDE = (
    "SELECT seq, digest, code FROM reject WHERE device = :device AND epoch = :epoch AND seq BETWEEN :first AND :last UNION ALL "
    "SELECT seq, digest, 'later' FROM held "
    "WHERE device = :device AND epoch = :epoch AND seq BETWEEN :first AND :last AND released_ms IS NULL"
)

# Built statement by statement these two would cost a tenth of a batch, every time.
_KEEP_MESSAGE = text(
    "INSERT INTO batch (device, epoch, first_seq, last_seq, received_ms, digest, kid, sealed) "
    "VALUES (:device, :epoch, :first_seq, :last_seq, :received_ms, :digest, :kid, :sealed) ON CONFLICT DO NOTHING"
)
_KEEP_STANDING = text(
    "INSERT INTO ledger (device, epoch, next_seq, head, created_ms, contact_ms, closed, number) "
    "VALUES (:device, :epoch, :next_seq, :head, :now_ms, :now_ms, FALSE, "
    "(SELECT coalesce(max(number), 0) + 1 FROM ledger WHERE device = :device)) "
    "ON CONFLICT (device, epoch) DO UPDATE SET next_seq = excluded.next_seq, head = excluded.head, contact_ms = excluded.contact_ms"
)


def _percent(statement: str) -> bytes:
    """A statement as PostgreSQL's driver writes its parameters."""
    return re.sub(r":(\w+)", r"%(\1)s", statement).encode()


def _raw(connection: Connection) -> psycopg.Connection[Any]:
    """PostgreSQL's own connection, in the transaction that is open on it."""
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def copy_of(table: Table) -> tuple[bytes, Copying]:
    """The COPY into ``entry`` or ``posting``, and what packs its rows."""
    names, groups = next((names, groups) for added, names, groups in _ADDED if added is table)
    columns = [table.c[name] for name in names]
    widths = [_WIDTHS[type(column.type)] for column in columns if type(column.type) in _WIDTHS]
    nullable = [at for at, column in enumerate(columns[: len(widths)]) if column.nullable]
    statement = f"COPY {table.name} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
    return statement.encode(), Copying(widths, nullable, [names.index(name) for name in groups], len(names))
