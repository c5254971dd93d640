"""The city's database: SQLAlchemy over SQLite or PostgreSQL, one code for both.

Statements are built on ``backoffice.schema``. ``reading`` and ``writing`` give a connection to whoever has questions of their own (bills,
pages, keys).
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import alembic.command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from backoffice.schema import ROLE

MIGRATIONS = Path(__file__).parent / "migrations"
POSTGRESQL = "postgresql"

_WRITES = "kazashi_writes"
_BUSY_MS = 30_000


class Store:
    """The city's books in one database. Threads may share it."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_postgresql = url.get_backend_name() == POSTGRESQL
        self.engine = create_engine(url, pool_size=8, max_overflow=8) if self.is_postgresql else create_engine(url)
        event.listen(self.engine, "connect", _take_role if self.is_postgresql else _set_up_sqlite)
        if not self.is_postgresql:
            event.listen(self.engine, "begin", _begin_sqlite)

    @classmethod
    def open(cls, url: str) -> "Store":
        """The books at ``url``: ``sqlite:///FILE`` or ``postgresql://…``. Nothing is read or made yet; ``migrate`` makes the tables."""
        parsed = make_url(url)
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
        engine = create_engine(self.url)
        if not self.is_postgresql:
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        try:
            self._migrate(engine)
        finally:
            engine.dispose()

    def _migrate(self, engine: Engine) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            if self.is_postgresql:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('kazashi migrations'))"))
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A connection that sees one moment and changes nothing."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if self.is_postgresql else {}
        with self.engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A connection in a transaction, which is committed at the end, or undone when an exception leaves it."""
        with self.engine.connect() as connection, connection.execution_options(**{_WRITES: True}).begin():
            yield connection


def _take_role(connection: Any, _: ConnectionPoolEntry) -> None:
    """Give up the right to change what is written once. Before the first migration there is no such role."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (ROLE,))
        if cursor.rowcount:
            cursor.execute(f"SET SESSION ROLE {ROLE}")
    connection.commit()


def _set_up_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    """Write-ahead log, a flush at each commit; and transactions are begun by us, not by guesses of Python's module."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", f"busy_timeout = {_BUSY_MS}", "cache_size = -65536", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    """Who is going to write takes the lock at once: a reader that becomes a writer half-way can only fail."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
