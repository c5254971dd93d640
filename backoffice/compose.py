"""The back office's composition root: settings into objects. The only place in this package that imports an adapter."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

from backoffice import health
from backoffice.city import BooksAway, City
from backoffice.settings import Settings, default, read

if TYPE_CHECKING:
    from backoffice.registry import CityBooks
    from backoffice.store import Store
    from ledger.seal import Signer


def now_ms() -> int:
    """Unix ms UTC by this machine's clock."""
    return time.time_ns() // 1_000_000


def settings_of(file: Path | None) -> Settings:
    """The settings in ``file``, or those of a desk in the current folder. Raises ``OSError`` and ``fares.faults.Unusable``."""
    return default() if file is None else read(file.read_bytes(), str(file), file.parent)


def open_store(settings: Settings) -> "Store":
    """The database. Close it."""
    from backoffice.store import Store

    return Store.open(settings.database)


@contextmanager
def open_books(settings: Settings) -> "Generator[CityBooks]":
    """The books; their tables are made or brought up to date first. Raises ``BooksAway``."""
    from backoffice.registry import CityBooks

    with open_store(settings) as store:
        store.migrate()
        yield CityBooks(store)


@contextmanager
def open_city(settings: Settings, signers: "Sequence[Signer]") -> Generator[City]:
    """The city's door, with the books behind it. ``signers``: the city's keys, the one in use first. Raises ``BooksAway``."""
    from drivers.signing import SignatureChecker

    with open_books(settings) as books:
        yield City(books, signers, SignatureChecker(), now_ms, settings.pace)


def bind(settings: Settings) -> socket:
    """The socket of the door. Raises ``OSError``."""
    from backoffice import server

    return server.bind(settings.listen.host, settings.listen.port)


def serve(settings: Settings, signers: "Sequence[Signer]", door: socket) -> bool:
    """Serve until told to stop; whether that is why it ended. Raises ``BooksAway``."""
    from backoffice import server

    @contextmanager
    def application() -> Generator[Callable[..., Any]]:
        from backoffice.api import create_app

        with open_city(settings, signers) as city:
            yield create_app(city, settings.limits)

    return server.serve(application, door, settings.listen.workers)


def report(settings: Settings, at_ms: int) -> tuple[health.Finding, ...]:
    """The vehicles that do not live as they should at ``at_ms``. Raises ``BooksAway``."""
    today = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(settings.zone).date()
    with open_books(settings) as books:
        return health.findings(books.conditions(at_ms, today), at_ms, settings.zone, settings.health, books.table_in_force(today))


__all__ = ["BooksAway", "bind", "now_ms", "open_books", "open_city", "open_store", "report", "serve", "settings_of"]
