"""The back office's settings: one TOML file, every fault told at once, each with its path in the file.

Without a file the settings are those of a desk that tries things out: SQLite, loopback, files in the folder where the command runs. Paths
are relative to the file that names them. A database URL without a password in it takes the password from PostgreSQL's own places
(``~/.pgpass``, the service file); a secret does not belong into this file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import fares
from backoffice.city import Pace
from backoffice.health import Rules, Service
from backoffice.letting_go import Periods
from fares.fields import Fields, parse

FORMAT = 1
LOOPBACK = "127.0.0.1"
SCHEME = Path(fares.__file__).parent / "schemes" / "silver_emica.toml"
DATABASES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")


class Told(StrEnum):
    """In which language commands speak to clerks."""

    JA = "ja"
    EN = "en"
    BOTH = "both"

    @property
    def languages(self) -> tuple[str, ...]:
        """One after the other."""
        return ("ja", "en") if self is Told.BOTH else (self.value,)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the door is. ``workers``: processes that share it; more than one needs PostgreSQL."""

    host: str = LOOPBACK
    port: int = 8735
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What the door gives at once. ``threads``: requests that work; ``queue``: that wait for one; ``body_s``: to send a body in."""

    threads: int = 4
    queue: int = 32
    body_s: int = 30
    retry_after_s: int = 15


@dataclass(frozen=True, slots=True)
class Console:
    """The clerks' pages. ``passphrases``: a line for each clerk (``backoffice.console.door``); ``vault``: the file with the rider key."""

    passphrases: Path
    vault: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """``database``: an SQLAlchemy URL. ``keys``: the city's signing keys. ``code_hours``: how long an enrolment code may be used.

    ``console`` None: there are no pages for clerks. ``scheme``: the city's scheme, the one that the vehicles have. ``form``: of bills, None
    for the one that comes along. ``operators``: what people call an operator, by its id. ``told``: the language in which commands speak.
    """

    database: str
    keys: Path
    zone: ZoneInfo
    listen: Listen = Listen()
    limits: Limits = Limits()
    pace: Pace = field(default_factory=Pace)
    health: Rules = field(default_factory=Rules)
    code_hours: int = 72
    console: Console | None = None
    scheme: Path = SCHEME
    form: Path | None = None
    operators: Mapping[str, str] = field(default_factory=dict[str, str])
    told: Told = Told.BOTH
    retention: Periods = field(default_factory=Periods)


def default(folder: Path = Path()) -> Settings:
    """The settings of a desk: everything in ``folder``."""
    return Settings(_sqlite(folder / "city.db"), folder / "city.keys", ZoneInfo("Asia/Tokyo"))


def read(data: bytes, name: str, folder: Path) -> Settings:
    """The settings in a file's bytes. ``folder``: where the file is. Raises ``fares.faults.Unusable`` with every fault."""
    source = parse(data, name)
    root = source.root
    root.number("format", least=FORMAT, most=FORMAT)
    settings = Settings(
        database=_database(root.inner("database"), folder),
        keys=folder / root.inner("keys").text("file", "city.keys"),
        zone=_zone(root),
        listen=_listen(root.inner("listen")),
        limits=_limits(root.inner("limits")),
        pace=_pace(root.inner("receipts")),
        health=_health(root.inner("health")),
        code_hours=root.inner("enrolment").number("code_hours", 72, least=1, most=24 * 90),
        console=_console(root.inner("console"), folder) if root.has("console") else None,
        scheme=_named(root.inner("scheme"), "file", folder) or SCHEME,
        form=_named(root.inner("bill"), "form", folder),
        operators=_operators(root),
        told=root.choice("language", Told, Told.BOTH),
        retention=_retention(root.inner("retention")),
    )
    if settings.listen.workers > 1 and settings.database.startswith("sqlite"):
        root.fault("listen.workers", "is more than 1, but SQLite has one writer; name a PostgreSQL database or write 1.")
    source.finish()
    return settings


def shown(settings: Settings) -> str:
    """The database's URL without a password."""
    return re.sub(r"(//[^/@]*?):[^@/]*@", r"\1:***@", settings.database)


def with_listen(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with what the command line said."""
    listen = settings.listen
    return replace(settings, listen=replace(listen, host=host or listen.host, port=listen.port if port is None else port))


def _console(table: Fields, folder: Path) -> Console:
    return Console(folder / table.text("passphrases", "clerks.txt"), folder / table.text("vault", "office.keys"))


def _named(table: Fields, key: str, folder: Path) -> Path | None:
    return folder / table.text(key) if table.has(key) else None


def _operators(root: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for table in root.each("operator"):
        operator, name = table.text("id"), table.text("name")
        if operator in found:
            table.fault("id", f"'{operator}' has a name already; keep one.")
        found[operator] = name
    return found


def _retention(table: Fields) -> Periods:
    usual, century = Periods(), 36_525
    found = Periods(
        books_years=table.number("books_years", usual.books_years, least=2, most=100),
        quarantine_days=table.number("quarantine_days", usual.quarantine_days, least=60, most=century),
        alarm_days=table.number("alarm_days", usual.alarm_days, least=60, most=century),
        heartbeat_days=table.number("heartbeat_days", usual.heartbeat_days, least=7, most=century),
        list_days=table.number("list_days", usual.list_days, least=60, most=century),
        access_log_days=table.number("access_log_days", usual.access_log_days, least=365, most=century),
    )
    if found.quarantine_days > 365 * found.books_years:
        table.fault("quarantine_days", "is longer than books_years; what could not be booked need not outlive what was.")
    return found


def _database(table: Fields, folder: Path) -> str:
    url = table.text("url", "sqlite:///city.db")
    if not url.startswith(DATABASES):
        table.fault("url", f"must begin with one of {', '.join(DATABASES)}.")
    if url.startswith("sqlite:///"):
        return _sqlite(folder / url.removeprefix("sqlite:///"))
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path.absolute()}"


def _zone(root: Fields) -> ZoneInfo:
    name = root.text("time_zone", "Asia/Tokyo")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        root.fault("time_zone", f"'{name}' is not a time zone of this machine; write one such as Asia/Tokyo.")
        return ZoneInfo("UTC")


def _listen(table: Fields) -> Listen:
    return Listen(
        host=table.text("host", LOOPBACK),
        port=table.number("port", Listen().port, least=0, most=65535),
        workers=table.number("workers", 1, least=1, most=64),
    )


def _limits(table: Fields) -> Limits:
    usual = Limits()
    return Limits(
        threads=table.number("threads", usual.threads, least=1, most=64),
        queue=table.number("queue", usual.queue, least=0, most=10_000),
        body_s=table.number("body_s", usual.body_s, least=1, most=600),
        retry_after_s=table.number("retry_after_s", usual.retry_after_s, least=1, most=3600),
    )


def _pace(table: Fields) -> Pace:
    return Pace(table.number("min_interval_s", 0, most=86_400), table.number("max_entries", 0, most=1000))


def _health(table: Fields) -> Rules:
    usual = Rules()
    begins, ends = table.clock_time("service_begins", usual.service.begins), table.clock_time("service_ends", usual.service.ends)
    if begins >= ends:
        table.fault("service_ends", "is not after service_begins; write the hours of one day, such as 05:00:00 and 23:00:00.")
    return Rules(
        service=Service(begins, ends),
        silent_hours=table.number("silent_hours", usual.silent_hours, least=1, most=24 * 60),
        many_taps=table.number("many_taps", usual.many_taps, least=1, most=100_000),
        clock_off_s=table.number("clock_off_s", usual.clock_off_s, least=1, most=86_400),
    )
