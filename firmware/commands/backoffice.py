"""``kazashi backoffice``: the city's side. Its libraries are an optional extra that no vehicle has, and are imported only here, inside."""

import argparse
import logging
import re
import secrets
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from firmware import compose
from firmware.failure import Failure
from ledger.batch import MAX_SEALED
from ledger.beside import replace_file
from ledger.strict import MAX

if TYPE_CHECKING:
    from backoffice.city import City
    from backoffice.keys import Device, DeviceBook, DeviceKey
    from backoffice.settings import Settings
    from ledger.seal import Signer

_Action = Callable[[argparse.Namespace, "Settings"], int]
NEEDS = ("alembic", "fastapi", "jinja2", "psycopg", "sqlalchemy", "uvicorn")
MOST_DEVICE = 0xFFFFFF
_HOUR_MS = 3_600_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand for each thing that a city does."""
    parser.description = (
        "Receive what the vehicles send, book it, bill it. Without --config: SQLite, and files in this folder; `init` makes them."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (TOML); see docs/backoffice.md")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    starting = actions.add_parser("init", help="make the city's key and the database; what is there is left as it is")
    starting.set_defaults(act=_init)
    _serving(actions.add_parser("serve", help="open the door for vehicles"))
    _enrolling(actions.add_parser("enrol", help="print a one-time code by which a terminal comes to the city"))
    listing = actions.add_parser("devices", help="who is known, and what each key speaks for")
    listing.set_defaults(act=_devices)
    _revoking(actions.add_parser("revoke", help="believe nothing any more that a stolen or lost terminal signs"))
    taking = actions.add_parser("take", help="take in what a terminal wrote to a USB stick, and leave the receipts on it")
    taking.add_argument("folder", type=Path, metavar="FOLDER", help="the stick's folder")
    taking.set_defaults(act=_take)
    offering = actions.add_parser("offer", help="put signed packages (`kazashi publish sign`) on the list that vehicles fetch")
    offering.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a package")
    offering.set_defaults(act=_offer)
    telling = actions.add_parser("report", help="vehicles that are silent, frozen, or have a wrong clock; exit status 1 if there is one")
    telling.add_argument("--language", choices=("ja", "en", "both"), help="of the sentences (default: the settings' language, else both)")
    telling.set_defaults(act=_report)
    _closing(actions.add_parser("settle", help="settlement day: book what other vehicles prove, and close the bills that are due"), _settle)
    _closing(actions.add_parser("bill", help="what the city owes an operator for a month: table, CSV, letter"), _bill)
    _closing(actions.add_parser("grant", help="the yearly grants: what each rider used in the year before comes back"), _grant)
    _closing(actions.add_parser("retain", help="let go of what is past its time; --dry-run says what that is"), _retain)
    _closing(actions.add_parser("access", help="all that the city keeps about one rider, for a person who brings the card"), _access)
    moving = actions.add_parser("move", help="take the books from SQLite to PostgreSQL, and compare; run it again to go on")
    moving.add_argument("--to", required=True, metavar="URL", help="the new, empty database: postgresql://…")
    moving.set_defaults(act=_move)


def _closing(parser: argparse.ArgumentParser, act: "_Action") -> None:
    if _missing():
        parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    else:
        from backoffice import billing, privacy, settling

        wanted: tuple[tuple[_Action, Callable[[argparse.ArgumentParser], None]], ...] = (
            (_settle, settling.settle_arguments),
            (_bill, billing.bill_arguments),
            (_grant, settling.grant_arguments),
            (_retain, privacy.retain_arguments),
            (_access, privacy.access_arguments),
        )
        next(arguments for action, arguments in wanted if action is act)(parser)
    parser.set_defaults(act=act)


def _serving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="the address to listen on (default: 127.0.0.1; a TLS proxy stands before it)")
    parser.add_argument("--port", type=int, help="the port (default: 8735; 0 takes any that is free)")
    parser.set_defaults(act=_serve)


def _enrolling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what people call the vehicle, such as minato-12")
    parser.add_argument("--device", type=int, metavar="N", help="the terminal's number, when the vehicle is new")
    parser.add_argument("--operator", metavar="ID", default="", help="who runs the vehicle, when it is new")
    parser.set_defaults(act=_enrol)


def _revoking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what people call the vehicle")
    parser.add_argument(
        "--since", metavar="EPOCH:SEQ", help="the first entry that is not believed (default: the first that the city does not have yet)"
    )
    parser.set_defaults(act=_revoke)


def run(options: argparse.Namespace) -> int:
    """Do one of them; raises ``Failure``."""
    missing = _missing()
    if missing:
        raise Failure(f"the back office needs {', '.join(missing)}; install the extra: pip install 'kazashi[backoffice]'")
    from backoffice.city import BooksAway

    act = cast("_Action", options.act)
    settings = _settings(options.config)
    try:
        return act(options, settings)
    except BooksAway as error:
        raise Failure(str(error)) from error


def _missing() -> list[str]:
    """The libraries of the extra that are not here."""
    return [name for name in NEEDS if find_spec(name) is None]


def _settings(file: Path | None) -> "Settings":
    from backoffice import compose as city
    from fares.faults import Unusable

    try:
        return city.settings_of(file)
    except OSError as error:
        raise Failure(f"{file}: cannot be read ({error.strerror}); name the back office's settings") from error
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable


def _signer(settings: "Settings") -> "Signer":
    if not settings.keys.exists():
        raise Failure(f"{settings.keys}: there is no city key; `kazashi backoffice init` makes one")
    return compose.open_city_key(settings.keys)


@contextmanager
def _books(settings: "Settings") -> "Generator[DeviceBook]":
    from backoffice import compose as city

    with city.open_books(settings) as books:
        yield books


# --- init, serve --------------------------------------------------------------------------------------------------------------------------


def _init(_options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice.settings import shown

    if settings.keys.exists():
        print(f"{settings.keys}: the city's key is there already")
    else:
        compose.make_city_key(settings.keys)
        print(f"{settings.keys}: the city's key, new; keep a copy where the building cannot burn")
    signer = _signer(settings)
    with _books(settings):
        print(f"{shown(settings)}: the database is ready")
    print("\nfor each vehicle's configuration:")
    print(f'[city]\nkeys = [{{ algorithm = "{signer.algorithm.name.lower()}", public_key = "{compose.base64url(signer.public)}" }}]')
    return 0


def _serve(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice import compose as city
    from backoffice.settings import shown, with_listen
    from fares.faults import Unusable

    port = cast("int | None", options.port)
    if port is not None and not 0 <= port <= 65535:
        raise Failure(f"--port {port}: a port is a number from 0 to 65535")
    settings = with_listen(settings, options.host, port)
    signer = _signer(settings)
    try:
        office = city.office_of(settings)
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable
    with _books(settings):
        pass  # the tables are made before anybody knocks
    try:
        door = city.bind(settings)
    except OSError as error:
        where = f"{settings.listen.host}:{settings.listen.port}"
        raise Failure(f"{where}: cannot be listened on ({error.strerror}); stop what has it, or name another with --port") from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    host, bound = cast("tuple[str, int]", door.getsockname()[:2])
    name = f"[{host}]" if ":" in host else host
    print(f"ready: the city listens on http://{name}:{bound}/ with {shown(settings)}", flush=True)
    if office is not None:
        print(f"       clerks: http://{name}:{bound}/console/", flush=True)
    with door:
        told = city.serve(settings, (signer,), door, office)
    if not told:
        raise Failure("one of the processes died, so all were stopped; the log says why")
    print("stopped", flush=True)
    return 0


# --- devices ------------------------------------------------------------------------------------------------------------------------------


def _enrol(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice import compose as city
    from backoffice import keys

    name = cast("str", options.name).strip()
    number = cast("int | None", options.device)
    if not name or len(name) > 40 or not name.isprintable():
        raise Failure("NAME must be 1 to 40 letters, such as minato-12")
    if number is not None and not 1 <= number <= MOST_DEVICE:
        raise Failure(f"--device {number}: a terminal's number is from 1 to {MOST_DEVICE}")
    code, now_ms = keys.new_code(secrets.token_bytes), city.now_ms()
    with _books(settings) as books:
        known = books.find(name)
        if known is None and number is None:
            raise Failure(f"{name} is not known yet; say --device N, the number in the terminal's configuration, and --operator ID")
        device = number if known is None else known
        if number not in {None, device}:
            raise Failure(f"{name} is device {device}, not {number}; one name is one device, for ever")
        try:
            books.add_device(cast("int", device), name, options.operator, now_ms)
        except keys.NameTaken as error:
            raise Failure(str(error)) from error
        books.give_code(cast("int", device), keys.code_digest(code), now_ms, now_ms + settings.code_hours * _HOUR_MS)
    print(code)
    print(f"  for {name} (device {device}), once, within {settings.code_hours} hours; an older code for it is void now", file=sys.stderr)
    return 0


def _devices(_options: argparse.Namespace, settings: "Settings") -> int:
    with _books(settings) as books:
        devices = books.devices()
    if not devices:
        print("no device yet; `kazashi backoffice enrol NAME --device N` gives the first one a code")
    for device in devices:
        print(f"{device.id:>8}  {device.name}  {device.operator or '-'}  {_heard(device, settings.zone)}")
        for key in device.keys:
            print(f"          {key.kid.hex()}  {key.algorithm.name.lower()}  {_range(key)}")
    return 0


def _heard(device: "Device", zone: tzinfo) -> str:
    if device.contact_ms is None:
        return "enrolled, not heard of yet" if device.keys else "not enrolled yet"
    return f"last heard of {datetime.fromtimestamp(device.contact_ms / 1000, UTC).astimezone(zone):%Y-%m-%d %H:%M}"


def _range(key: "DeviceKey") -> str:
    text = f"from {key.since.epoch}:{key.since.seq}" if key.since.seq else "from the beginning"
    if key.until is not None:
        text += f", replaced from {key.until.epoch}:{key.until.seq} on"
    if key.revoked is not None:
        text += f", REVOKED from {key.revoked.epoch}:{key.revoked.seq} on" if key.revoked.seq else ", REVOKED for everything"
    return text


def _revoke(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice import compose as city
    from backoffice.keys import Place

    place = None
    if options.since is not None:
        epoch, _, seq = cast("str", options.since).partition(":")
        if not (epoch.isdecimal() and seq.isdecimal() and 1 <= int(seq) <= MAX and int(epoch) <= MAX):
            raise Failure(
                f"--since {options.since}: write EPOCH:SEQ, two numbers, as `kazashi backoffice devices` and `ledger show` have them"
            )
        place = Place(int(epoch), int(seq))
    with _books(settings) as books:
        device = books.find(options.name)
        if device is None:
            raise Failure(f"{options.name}: there is no such vehicle; `kazashi backoffice devices` lists them")
        if place is not None and place.epoch not in (epochs := books.epochs(device)):
            if not epochs:
                raise Failure(f"--since {options.since}: no entry of this vehicle has come; leave --since out, then nothing is believed")
            known = ", ".join(map(str, epochs))
            raise Failure(f"--since {options.since}: no entry of this epoch has come; write one of {known} before the colon")
        place = books.revoke(device, place, city.now_ms())
    where = f"from entry {place.seq} of epoch {place.epoch} on" if place.seq else "for everything"
    print(f"{options.name} (device {device}): its keys are revoked {where}; what came before stays booked")
    print("  it comes back only with another key: kazashi backoffice enrol", options.name, file=sys.stderr)
    return 0


# --- up by stick, down, and how they are --------------------------------------------------------------------------------------------------


def _take(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice import compose as city

    folder = cast("Path", options.folder)
    if not folder.is_dir():
        raise Failure(f"{folder}: is no folder; name the one that `kazashi ledger stick` wrote")
    with city.open_city(settings, (_signer(settings),)) as door:
        return _take_all(folder, door)


def _take_all(folder: Path, door: "City") -> int:
    """Everything sealed in ``folder`` goes through the door as if it had come by wire; 1 when something was refused."""
    from backoffice.city import Refused

    roads = {".batch": door.batch, ".heartbeat": door.heartbeat, ".loss": door.loss}
    waiting = sorted((path for path in folder.iterdir() if path.suffix in roads and path.is_file()), key=_by_numbers)
    taken, refused = 0, dict[Path, str]()
    while waiting:
        before = taken
        refused = dict[Path, str]()
        for file in waiting:
            try:
                with file.open("rb") as stream:
                    data = stream.read(MAX_SEALED + 1)
                replace_file(file.with_suffix(f"{file.suffix}.receipt"), roads[file.suffix](data))
                taken += 1
            except Refused as error:
                refused[file] = str(error)
            except OSError as error:
                why = f"cannot be read, or no receipt can be written beside it ({error.strerror})"
                raise Failure(f"{file}: {why}; check the stick") from error
        # A batch that was just taken may have announced the key of one that was refused.
        waiting = list(refused) if taken > before else []
    for file, sentence in refused.items():
        print(f"{file}: refused: {sentence}", file=sys.stderr)
    print(f"{taken} taken, {len(refused)} refused; receipts are on the stick")
    if not taken and not refused:
        raise Failure(f"{folder}: there is nothing of a terminal's in it (files that end in {', '.join(roads)})")
    return 1 if refused else 0


def _by_numbers(file: Path) -> tuple[list[int], str]:
    """``12-5-200-399.batch`` before ``12-5-1000-1199.batch``."""
    return [int(part) for part in re.findall(r"\d+", file.stem)], file.name


def _offer(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice import compose as city
    from backoffice.city import Refused

    with city.open_city(settings, (_signer(settings),)) as door:
        for file in cast("list[Path]", options.files):
            try:
                found, fresh = door.offer(file.read_bytes())
            except OSError as error:
                raise Failure(f"{file}: cannot be read ({error.strerror}); name a package file") from error
            except Refused as error:
                raise Failure(f"{file}: {error}") from error
            print(f"{file}: {found}{'' if fresh else '; it was on the list already'}")
    return 0


def _report(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice import compose as city
    from backoffice import health
    from backoffice.settings import Told

    languages = (Told(options.language) if options.language else settings.told).languages
    found = city.report(settings, city.now_ms())
    with _books(settings) as books:
        known = len(books.devices())
    for finding in found:
        for language in languages:
            print(health.told(finding, language))
    alarms = city.alarms(settings, languages)
    for line in alarms:
        print(line)
    if not found and not alarms:
        said = {"ja": f"{known}台、異常はありません。", "en": f"{known} vehicles, nothing is wrong."}
        for language in languages:
            print(said[language])
    return 1 if found or alarms else 0


def _bill(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice.billing import run_bill

    return _over_the_books(run_bill, options, settings)


def _settle(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice.settling import run_settle

    return _over_the_books(run_settle, options, settings)


def _grant(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice.settling import run_grant

    return _over_the_books(run_grant, options, settings)


def _retain(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice.privacy import run_retain

    return _over_the_books(run_retain, options, settings)


def _access(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice.privacy import run_access

    return _over_the_books(run_access, options, settings)


def _over_the_books(run_it: Callable[..., int], options: argparse.Namespace, settings: "Settings") -> int:
    """Run a command over the books, up to date; ``run_it`` takes options, store, settings and Unix ms."""
    from backoffice import compose as city
    from backoffice.billing import CannotBill

    try:
        with city.open_store(settings) as store:
            store.migrate()
            return run_it(options, store, settings, city.now_ms())
    except CannotBill as error:
        raise Failure(str(error)) from error


def _move(options: argparse.Namespace, settings: "Settings") -> int:
    from backoffice import compose as city
    from backoffice.settings import shown

    if not cast("str", options.to).startswith("postgresql://"):
        raise Failure(f"--to {options.to}: books are moved to PostgreSQL; write postgresql://USER@HOST/DATABASE")
    try:
        moved = city.move(settings, options.to, lambda line: print(f"  {line}", file=sys.stderr))
    except city.NotMoved as error:
        raise Failure(str(error)) from error
    print(f"{sum(moved.rows.values()):,} rows of {len(moved.rows)} tables and {moved.ledgers} ledgers are in the new books, and the same.")
    print(f"Write the new address as database.url; {shown(settings)} is left as it is, and is the old books from now on.")
    return 0
