"""One frozen Config out of three layers of TOML: what ships, the city's file, the vehicle's file.

A later layer replaces single settings of an earlier one, never whole tables, so a vehicle's file says only what is this vehicle's own.
A folder in place of a file is a terminal's own: its ``unit.toml``, and its ``enrolled.toml`` once it has come to its city.

Paths are relative to the file that names them. All that is wrong is told at once, each with its path; a setting that nobody knows is a
fault too.
"""

import base64
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import TypeGuard, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from drivers.devices.power import PowerAddress
from drivers.devices.power import parse_address as parse_power_address
from drivers.reader import parse_address
from drivers.signer import Algorithm
from drivers.vault import FileAddress, VaultAddress
from drivers.vault import parse_address as parse_vault_address
from fares.faults import Unusable
from fares.fields import Fields
from firmware.failure import Failure
from ledger.seal import KID_BYTES

FORMAT = 1
UNIT, ENROLLED = "unit.toml", "enrolled.toml"
MOST_TERMINAL = 0xFFFFFF
LEAST_KEEP_DAYS, MOST_KEEP_DAYS = 2, 3650
PATHS = (
    ("rules", "table"),
    ("rules", "operator"),
    ("rules", "scheme"),
    ("rules", "deny_list"),
    ("keys", "tpm"),
    ("ledger", "file"),
    ("keypad", "mapping"),
    ("city", "ca"),
    ("city", "certificate"),
    ("city", "certificate_key"),
)

_Tables = dict[str, object]


class Role(Enum):
    """What a terminal is."""

    VALIDATOR = "validator"
    KIOSK = "kiosk"


class _KeyAlgorithm(Enum):
    EDDSA = "eddsa"
    ES256 = "es256"


_PUBLIC_BYTES = {_KeyAlgorithm.EDDSA: 32, _KeyAlgorithm.ES256: 65}


@dataclass(frozen=True, slots=True)
class Rules:
    """Files of the rules in force. ``deny_list`` None: nobody is refused."""

    table: Path
    operator: Path
    scheme: Path
    deny_list: Path | None


@dataclass(frozen=True, slots=True)
class ScreenSettings:
    """The rider's screen. ``sound``: on, off, or a WAV file."""

    size: tuple[int, int]
    whole_screen: bool
    sound: str


@dataclass(frozen=True, slots=True)
class CitySettings:
    """The road to the city. ``url`` empty: there is none but a stick. ``keep_days``: what the city has stays here that long.

    ``authority``: who signs the city's certificate; None: whoever the machine trusts. ``certificate``: this vehicle's, if the city asks.
    ``name``: what the city calls this terminal; ``enrolled_key``: the id of the key it came with. Both as `kazashi enrol` wrote them.
    """

    url: str = ""
    authority: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None
    keep_days: int = 60
    name: str = ""
    enrolled_key: bytes = b""


@dataclass(frozen=True, slots=True)
class PowerSettings:
    """The ignition's line, None where there is none; how long off is the end, and how long the driver may still come back."""

    line: PowerAddress | None = None
    settle_ms: int = 300
    hold_ms: int = 3000


class KeyHome(Enum):
    """Where a device key that is made from now on shall lie."""

    TPM = "tpm"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class DeviceKeySettings:
    """``tpm``: where a TPM would be, for a device key in a file of its own. ``home`` None: in the TPM if it is there.

    Both are about keys that are made. A key that is there says in its file what it is.
    """

    tpm: Path | None = None
    home: KeyHome | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A vehicle's terminal.

    ``terminal``: u24, its number on cards and in the ledger. ``routes``: those whose trips it drives. ``city_keys``: whose packages and
    receipts it believes; none: there is no city yet.
    """

    terminal: int
    vehicle: str
    zone: ZoneInfo
    reader: str
    rules: Rules
    keys: VaultAddress
    ledger: Path
    routes: tuple[str, ...]
    keypad_device: Path | None
    keypad_mapping: Path | None
    screen: ScreenSettings
    city_keys: tuple[tuple[Algorithm, bytes], ...] = ()
    city: CitySettings = CitySettings()
    power: PowerSettings = PowerSettings()
    role: Role = Role.VALIDATOR
    device_key: DeviceKeySettings = DeviceKeySettings()


@dataclass(frozen=True, slots=True)
class Unenrolled:
    """What a terminal knows before it has a city: its keys, the road there, its ledger's place, and its number if that is decided."""

    keys: VaultAddress
    city: CitySettings
    ledger: Path | None
    number: int | None
    device_key: DeviceKeySettings = DeviceKeySettings()


def unenrolled(files: Sequence[Path], url: str | None = None, authority: Path | None = None) -> Unenrolled:
    """The same files, read for enrolment; ``url`` and ``authority`` replace what they say. Raises ``Failure`` with every fault."""
    root = Fields("", _merged(_layers(files)), [])
    city, keys = _road(root.inner("city")), root.inner("keys")
    if url is not None or authority is not None:
        city = replace(city, url=url or city.url, authority=authority.absolute() if authority else city.authority)
    found = Unenrolled(
        keys=_vault(keys),
        city=city,
        ledger=_optional(root.inner("ledger"), "file"),
        number=root.inner("terminal").number("number", 0, least=0, most=MOST_TERMINAL) or None,
        device_key=_device_key(keys),
    )
    if not city.url:
        raise Failure("city.url: is missing; say the city's address with --city")
    if root.faults:
        raise Failure("\n".join(f"{', '.join(map(str, files))}, {fault}" for fault in root.faults))
    return found


def load(files: Sequence[Path]) -> Config:
    """The Config of the shipped defaults and these files, later ones winning; raises ``Failure`` with every fault."""
    try:
        return _config(_merged(_layers(files)), ", ".join(str(file) for file in files))
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable


def provisional(files: Sequence[Path]) -> Config:
    """The Config of a terminal that has not come to its city: it has no road there and no city's keys, and where nothing says which
    number it will have, it has the highest one. Raises ``Failure`` with every fault.
    """
    merged = _merged(_layers(files))
    undecided: _Tables = {"terminal": {"number": MOST_TERMINAL}}
    merged = _merged((undecided, merged, {"city": {"url": "", "keys": []}}))
    try:
        return _config(merged, ", ".join(str(file) for file in files))
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable


def _layers(files: Sequence[Path]) -> list[_Tables]:
    shipped = resources.files("firmware") / "defaults.toml"
    layers = [_tables(shipped.read_text(encoding="utf-8"), "defaults.toml", Path())]
    for file in _within(files):
        try:
            layers.append(_tables(file.read_text(encoding="utf-8"), str(file), file.parent))
        except OSError as error:
            why = error.strerror
            raise Failure(f"{file}: cannot be read ({why}); name a vehicle's configuration, such as examples/bus.toml") from error
        except UnicodeDecodeError:
            raise Failure(f"{file}: is not UTF-8; save it as UTF-8") from None
    return layers


def _within(files: Sequence[Path]) -> Iterator[Path]:
    """A folder stands for the unit's file in it and, where there is one, what enrolment wrote."""
    for file in files:
        if not file.is_dir():
            yield file
            continue
        yield file / UNIT
        if (file / ENROLLED).exists():
            yield file / ENROLLED


def _tables(text: str, name: str, folder: Path) -> _Tables:
    """One layer, its paths made absolute."""
    try:
        tables = cast("_Tables", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"{name}: is not TOML ({error}); correct this place") from None
    for table, key in PATHS:
        inner = tables.get(table)
        if isinstance(inner, dict):
            settings = cast("dict[str, object]", inner)
            value = settings.get(key)
            if isinstance(value, str) and value:
                settings[key] = str((folder / value).resolve())
    _keys_beneath(folder, tables.get("keys"))
    return tables


def _keys_beneath(folder: Path, table: object) -> None:
    """``keys.file`` names a file or a token; one that names neither stays as it is and is a fault later."""
    if _is_table(table) and isinstance(text := table.get("file"), str):
        with suppress(ValueError):
            table["file"] = parse_vault_address(text).beneath(folder).text


def _merged(layers: Sequence[_Tables]) -> dict[str, object]:
    merged: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            merged[key] = _over(value, merged.get(key))
    return merged


def _over(value: object, below: object) -> object:
    """A table's settings over those of the table below it; anything else replaces what is below."""
    return {**below, **value} if _is_table(value) and _is_table(below) else value


def _is_table(value: object) -> TypeGuard[_Tables]:
    return isinstance(value, dict)


def _config(values: Mapping[str, object], name: str) -> Config:
    root = Fields("", values, [])
    root.number("format", least=FORMAT, most=FORMAT)
    terminal, reader, rules = root.inner("terminal"), root.inner("reader"), root.inner("rules")
    keypad, screen, city, keys = root.inner("keypad"), root.inner("screen"), root.inner("city"), root.inner("keys")
    config = Config(
        terminal=terminal.number("number", least=1, most=MOST_TERMINAL),
        vehicle=terminal.text("vehicle"),
        zone=_zone(terminal),
        reader=_reader(reader),
        rules=Rules(
            table=Path(rules.text("table")),
            operator=Path(rules.text("operator")),
            scheme=Path(rules.text("scheme")),
            deny_list=_optional(rules, "deny_list"),
        ),
        keys=_vault(keys),
        ledger=Path(root.inner("ledger").text("file")),
        routes=root.inner("duty").texts("routes"),
        keypad_device=_optional(keypad, "device"),
        keypad_mapping=_optional(keypad, "mapping"),
        screen=ScreenSettings(_size(screen), screen.flag("whole_screen"), screen.text("sound")),
        city_keys=tuple(_city_key(key) for key in city.each("keys")),
        city=_city(city),
        power=_power(root.inner("power")),
        role=terminal.choice("role", Role, Role.VALIDATOR),
        device_key=_device_key(keys),
    )
    if config.keypad_device is not None and config.keypad_mapping is None:
        keypad.fault("mapping", "is missing; name a mapping file, such as examples/keypad.toml.")
    faults = [*root.faults, *root.unknown()]
    if faults:
        raise Unusable(f"{name}, {fault}" for fault in faults)
    return config


def _vault(table: Fields) -> VaultAddress:
    text = table.text("file")
    try:
        return parse_vault_address(text)
    except ValueError as error:
        if text:
            table.fault("file", f"{error}.")
        return FileAddress(Path())


def _device_key(table: Fields) -> DeviceKeySettings:
    home = table.choice("device_key", KeyHome) if table.has("device_key") else None
    return DeviceKeySettings(_optional(table, "tpm"), home)


def _optional(table: Fields, key: str) -> Path | None:
    text = table.text(key, "")
    return Path(text) if text else None


def _zone(table: Fields) -> ZoneInfo:
    name = table.text("time_zone")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        table.fault("time_zone", f"'{name}' is not a time zone of this machine; write one such as Asia/Tokyo.")
        return ZoneInfo("UTC")


def _reader(table: Fields) -> str:
    address = table.text("address")
    try:
        parse_address(address)
    except ValueError as error:
        table.fault("address", f"{error}.")
    return address


def _power(table: Fields) -> PowerSettings:
    text, line = table.text("line", ""), None
    if text:
        try:
            line = parse_power_address(text)
        except ValueError as error:
            table.fault("line", f"{error}.")
    return PowerSettings(
        line,
        table.number("settle_ms", PowerSettings().settle_ms, least=50, most=5000),
        table.number("hold_ms", PowerSettings().hold_ms, least=0, most=600_000),
    )


def _city(table: Fields) -> CitySettings:
    settings = _road(table)
    if settings.url and not table.has("keys"):
        table.fault("keys", "is missing; without the city's keys no receipt can be believed. `kazashi enrol` writes them.")
    return settings


def _road(table: Fields) -> CitySettings:
    return CitySettings(
        url=table.text("url", ""),
        authority=_optional(table, "ca"),
        certificate=_optional(table, "certificate"),
        certificate_key=_optional(table, "certificate_key"),
        name=table.text("name", ""),
        enrolled_key=_key_id(table),
        keep_days=table.number("keep_days", CitySettings().keep_days, least=LEAST_KEEP_DAYS, most=MOST_KEEP_DAYS),
    )


def _key_id(table: Fields) -> bytes:
    text = table.text("enrolled_key", "")
    with suppress(ValueError):
        if len(found := bytes.fromhex(text)) in {0, KID_BYTES}:
            return found
    table.fault("enrolled_key", f"must be {2 * KID_BYTES} hex digits, as `kazashi enrol` writes them; run it again or leave the line out.")
    return b""


def _city_key(table: Fields) -> tuple[Algorithm, bytes]:
    """``algorithm`` is eddsa or es256; ``public_key`` is base64url, as enrolment gives it."""
    algorithm = table.choice("algorithm", _KeyAlgorithm)
    text = table.text("public_key")
    try:
        public = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        public = b""
    if len(public) != _PUBLIC_BYTES[algorithm]:
        table.fault(
            "public_key", f"must be the base64url of {_PUBLIC_BYTES[algorithm]} bytes; copy it from what the city gave at enrolment."
        )
    return Algorithm[algorithm.name], public


def _size(table: Fields) -> tuple[int, int]:
    width, _, height = table.text("size").partition("x")
    if not (width.isdigit() and height.isdigit()):
        table.fault("size", "must be WIDTHxHEIGHT, such as 800x480.")
        return 800, 480
    return int(width), int(height)
