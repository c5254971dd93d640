"""The back office's composition root: settings into objects. The only place in this package that imports an adapter."""

import hashlib
import hmac
import logging
import stat
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

from backoffice import health
from backoffice.city import BooksAway, City
from backoffice.console import door as console_door
from backoffice.settings import Settings, default, read
from drivers.errors import DriverError
from fares.faults import Unusable

if TYPE_CHECKING:
    from backoffice.billing import Basis
    from backoffice.console.pages import Bill
    from backoffice.move import Moved
    from backoffice.registry import CityBooks
    from backoffice.store import Store
    from ledger.seal import Signer


class NotMoved(Exception):
    """The books cannot be moved, or not be moved on; the message is one sentence."""


MOST_ALARMS = 20
"""As many are told in one report."""

Now = Callable[[], int]
"""What time it is, Unix ms UTC."""


def now_ms() -> int:
    """The time by this machine's clock, which is the city's unless another is given."""
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
def open_city(settings: Settings, signers: "Sequence[Signer]", now: Now = now_ms) -> Generator[City]:
    """The city's door, with the books behind it. ``signers``: the city's keys, the one in use first. Raises ``BooksAway``."""
    from drivers.signing import SignatureChecker

    with open_books(settings) as books:
        yield City(books, signers, SignatureChecker(), now, settings.pace)


@dataclass(frozen=True, slots=True)
class Office:
    """What the clerks' pages need beside the books, read once before anything is served. ``bills``: what bills stand on."""

    clerks: console_door.Clerks
    secret: bytes
    rider: Callable[[bytes], bytes]
    bills: "Basis"


def office_of(settings: Settings) -> Office | None:
    """Who may see the clerks' pages; None when the settings have none. Raises ``fares.faults.Unusable``."""
    if settings.console is None:
        return None
    from backoffice import billing
    from drivers.vault_file import VaultFile

    file = settings.console.passphrases
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise Unusable([f"{file}: others may read this file; run `chmod 600 {file}`."])
        clerks = console_door.read_clerks(file.read_text(encoding="utf-8"))
        # The city's key file is a secret that all our processes share and that outlives them; sessions do, too.
        secret = hmac.new(settings.keys.read_bytes(), b"kazashi console", hashlib.sha256).digest()
        return Office(clerks, secret, VaultFile.open(settings.console.vault).rider, billing.basis(settings))
    except OSError as error:
        raise Unusable([f"{error.filename}: cannot be read ({error.strerror}); it is needed for the clerks' pages."]) from error
    except UnicodeDecodeError as error:
        raise Unusable([f"{file}: is no text in UTF-8; write a line 'name passphrase' for each clerk."]) from error
    except console_door.PassphrasesUnusable as error:
        raise Unusable([f"{file}: {error}."]) from error
    except (DriverError, billing.CannotBill) as error:
        raise Unusable([str(error)]) from error


def console(settings: Settings, books: "CityBooks", store: "Store", office: Office, now: Now = now_ms) -> Any:
    """The clerks' pages over the books: a router for the application."""
    from backoffice.console.pages import Desk, console_router
    from backoffice.console_queries import ConsoleBooks

    asked = ConsoleBooks(store, books, office.bills, settings.operators)
    noted = logging.getLogger("kazashi.console").info
    bill = _bills(office.bills, store, now)
    desk = Desk(asked, office.clerks, office.secret, office.rider, now, settings.zone, noted, settings.health, bill)
    return console_router(desk)


def _bills(stands_on: "Basis", store: "Store", now: Now) -> "Callable[[str, date, str], Bill | None]":
    from backoffice import billing
    from backoffice.bill import Month
    from backoffice.console.pages import Bill

    types = {"pdf": "application/pdf", "csv": "text/csv; charset=utf-8"}

    def made(operator: str, first: date, kind: str) -> Bill | None:
        month = Month(first.year, first.month)
        try:
            content, told = billing.bill_file(store, stands_on, operator, month, kind=kind, now_ms=now())
        except billing.CannotBill:
            return None
        return Bill(content, types[kind], f"請求書-{told.whose}-{month}.{kind}")

    return made


def bind(settings: Settings) -> socket:
    """The socket of the door. Raises ``OSError``."""
    from backoffice import server

    return server.bind(settings.listen.host, settings.listen.port)


def serve(settings: Settings, signers: "Sequence[Signer]", door: socket, office: Office | None = None, now: Now = now_ms) -> bool:
    """Serve until told to stop; whether that is why it ended. ``office``: serve the clerks' pages too. Raises ``BooksAway``."""
    from backoffice import server

    @contextmanager
    def application() -> Generator[Callable[..., Any]]:
        from backoffice.api import create_app
        from backoffice.registry import CityBooks

        with open_store(settings) as store, open_city(settings, signers, now) as city:
            pages = () if office is None else (console(settings, CityBooks(store), store, office, now),)
            yield create_app(city, settings.limits, pages)

    return server.serve(application, door, settings.listen.workers)


def move(settings: Settings, target: str, say: Callable[[str], None]) -> "Moved":
    """Take the books to the database at the URL ``target``, and compare. Raises ``NotMoved`` and ``BooksAway``."""
    from backoffice.move import CannotMove
    from backoffice.move import move as take

    try:
        return take(settings.database, target, say)
    except CannotMove as error:
        raise NotMoved(str(error)) from error


def alarms(settings: Settings, languages: Sequence[str]) -> list[str]:
    """What nobody has seen to yet, the newest first, each in all ``languages`` (ja, en). Raises ``BooksAway``."""
    from backoffice.console import views
    from backoffice.console.words import Language, standard

    with open_books(settings) as books:
        found = books.alarms(MOST_ALARMS)
    says = [standard().in_language(Language(language)) for language in languages]
    return [views.trouble_line(each, say) for each in found for say in says]


def report(settings: Settings, at_ms: int) -> tuple[health.Finding, ...]:
    """The vehicles that do not live as they should at ``at_ms``. Raises ``BooksAway``."""
    today = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(settings.zone).date()
    with open_books(settings) as books:
        return health.findings(books.conditions(at_ms, today), at_ms, settings.zone, settings.health, books.table_in_force(today))


__all__ = [
    "BooksAway",
    "NotMoved",
    "alarms",
    "bind",
    "move",
    "now_ms",
    "open_books",
    "open_city",
    "open_store",
    "report",
    "serve",
    "settings_of",
]
