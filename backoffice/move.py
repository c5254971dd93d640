"""From SQLite to PostgreSQL: a city that has outgrown one file takes its books along.

Every table is copied in the order of its primary key, some ten thousand rows in one transaction, so that what is there is always the
beginning of what is to come. A move that was interrupted is simply started again: it looks how far each table is and goes on. While it
runs, the old books are locked against writing; terminals get "come back later" and keep their entries, as on any day without a network.

Then both are compared: rows of each table, sums of each account, and for each ledger the chain's head and the digests of all entries in
their order. Nothing is deleted from the old books. What makes them the old ones is that the back office is started with the new address.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Json
from sqlalchemy import JSON, Connection, Table, func, literal, select, tuple_

from backoffice import schema
from backoffice.city import BooksAway
from backoffice.store import POSTGRESQL, Store, address

ROWS_A_STEP = 20_000

_TYPES = {
    "BigInteger": "int8",
    "Integer": "int4",
    "SmallInteger": "int2",
    "LargeBinary": "bytea",
    "Text": "text",
    "Boolean": "bool",
    "JSON": "json",
}
_SERIAL = ("alarm", "batch")

Say = Callable[[str], None]
Target = psycopg.Connection[tuple[Any, ...]]


class CannotMove(Exception):
    """The books cannot be moved, or not be moved on; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What is in the new books: rows of each table, and the ledgers whose heads and entries were compared."""

    rows: dict[str, int]
    ledgers: int


def move(source: str, target: str, say: Say, *, step: int = ROWS_A_STEP) -> Moved:
    """Copy the books at ``source`` (``sqlite:///…``) into those at ``target`` (``postgresql://…``), and compare; call it again to go on.

    ``target`` must be new, or hold the beginning of the same move. Its user must own the database. ``say`` hears how far it is. Raises
    ``CannotMove``; and ``BooksAway`` when a database does not answer, after which it may be called again.
    """
    if address(source).get_backend_name() != "sqlite" or address(target).get_backend_name() != POSTGRESQL:
        raise CannotMove("Books are moved from sqlite:///FILE to postgresql://…, not the other way and not between others.")
    with Store.open(source) as old, Store.open(target) as new:
        old.migrate()
        new.migrate()
    with Store.open(source) as old, old.writing() as reading, _connected(target) as writing:
        tables = [table for table in schema.metadata.sorted_tables if _has_rows(reading, table) or _last_key(writing, table)]
        for table in tables:
            _copy_table(reading, writing, table, step, say)
        for name in _SERIAL:
            _count_on(writing, name)
        say("comparing")
        rows = {table.name: _same_rows(reading, writing, table) for table in tables}
        _same_sums(reading, writing)
        return Moved(rows, _same_ledgers(reading, writing))


def _connected(url: str) -> Target:
    parsed = address(url).set(drivername=POSTGRESQL)
    try:
        return psycopg.connect(parsed.render_as_string(hide_password=False))
    except psycopg.OperationalError as error:
        said, *_ = str(error).splitlines()
        raise BooksAway(f"the new database does not answer ({said}); start it, or correct its address") from error


def _has_rows(reading: Connection, table: Table) -> bool:
    return reading.execute(select(literal(1)).select_from(table).limit(1)).first() is not None


def _key(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


def _last_key(writing: Target, table: Table) -> tuple[Any, ...] | None:
    """How far the table is in the new books."""
    names = [sql.Identifier(name) for name in _key(table)]
    last = sql.SQL(", ").join(sql.SQL("{} DESC").format(name) for name in names)
    asked = sql.SQL("SELECT {} FROM {} ORDER BY {} LIMIT 1").format(sql.SQL(", ").join(names), sql.Identifier(table.name), last)
    return writing.execute(asked).fetchone()


def _count(writing: Target, table: Table) -> int:
    row = writing.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))).fetchone()
    return int(row[0]) if row else 0


def _copy_table(reading: Connection, writing: Target, table: Table, step: int, say: Say) -> None:
    key = tuple_(*(table.c[name] for name in _key(table)))
    last = _last_key(writing, table)
    done = _count(writing, table)
    if last is not None and reading.scalar(select(func.count()).select_from(table).where(key <= last)) != done:
        raise CannotMove(
            f"The new books hold other rows of {table.name} than the old ones begin with; they changed since, or are other books. "
            "Make a new, empty database and move again."
        )
    total = reading.scalar(select(func.count()).select_from(table)) or 0
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.name), names)
    types = [_TYPES[type(column.type).__name__] for column in table.columns]
    places = [at for name in _key(table) for at, column in enumerate(table.columns) if column.name == name]
    documents = [at for at, column in enumerate(table.columns) if isinstance(column.type, JSON)]
    asked = select(table).order_by(*table.primary_key.columns).limit(step)
    while True:
        rows = reading.execute(asked if last is None else asked.where(key > last)).all()
        if not rows:
            return
        with writing.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(_with_documents(row, documents) if documents else row)
        writing.commit()
        last = tuple(rows[-1][at] for at in places)
        done += len(rows)
        say(f"{table.name}: {done} of {total}")


def _with_documents(row: Sequence[Any], documents: list[int]) -> list[Any]:
    return [Json(value) if at in documents else value for at, value in enumerate(row)]


def _count_on(writing: Target, table: str) -> None:
    """Numbers that the database gives go on behind the highest that was moved."""
    asked = sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), (SELECT coalesce(max(id), 0) + 1 FROM {}), false)")
    writing.execute(asked.format(sql.Literal(table), sql.Identifier(table)))
    writing.commit()


# --- comparing ----------------------------------------------------------------------------------------------------------------------------


def _same_rows(reading: Connection, writing: Target, table: Table) -> int:
    here, there = reading.scalar(select(func.count()).select_from(table)) or 0, _count(writing, table)
    if here != there:
        counts = f"The old books have {here} rows of {table.name}, the new ones {there}."
        raise CannotMove(f"{counts} Make a new, empty database and move again.")
    return there


def _same_sums(reading: Connection, writing: Target) -> None:
    posting, entry = schema.posting, schema.entry
    by_account = select(posting.c.kind, posting.c.credit, func.count(), func.sum(posting.c.amount)).group_by(
        posting.c.kind, posting.c.credit
    )
    of_fares = select(entry.c.kind, func.count(), func.sum(entry.c.nominal), func.sum(entry.c.points), func.sum(entry.c.cash))
    for asked in (by_account, of_fares.group_by(entry.c.kind)):
        statement = str(asked.compile()).encode()
        here = sorted(tuple(row) for row in reading.execute(asked))
        there = sorted((*row[:-1], int(row[-1])) if asked is by_account else tuple(map(int, row)) for row in writing.execute(statement))
        if here != there:
            raise CannotMove("The sums of the old and the new books differ. Make a new, empty database and move again.")


def _same_ledgers(reading: Connection, writing: Target) -> int:
    """How many ledgers were compared: the chain's head as it was kept, and every entry's digest, in order."""
    ledger, entry = schema.ledger, schema.entry
    heads = select(ledger.c.device, ledger.c.epoch, ledger.c.next_seq, ledger.c.head).order_by(ledger.c.device, ledger.c.epoch)
    digests = select(entry.c.device, entry.c.epoch, entry.c.seq, entry.c.digest).order_by(entry.c.device, entry.c.epoch, entry.c.seq)
    here = [tuple(row) for row in reading.execute(heads)]
    if here != writing.execute(str(heads.compile()).encode()).fetchall():
        raise CannotMove("A ledger's head differs between the old and the new books. Make a new, empty database and move again.")
    with writing.cursor("entries") as cursor:
        cursor.itersize = ROWS_A_STEP
        cursor.execute(str(digests.compile()).encode())
        if _digest(reading.execution_options(yield_per=ROWS_A_STEP).execute(digests)) != _digest(cursor):
            raise CannotMove("An entry differs between the old and the new books. Make a new, empty database and move again.")
    return len(here)


def _digest(rows: Iterator[Sequence[Any]] | Any) -> bytes:
    total = hashlib.sha256()
    for device, epoch, seq, digest in rows:
        total.update(b"%d %d %d " % (device, epoch, seq))
        total.update(digest)
    return total.digest()
