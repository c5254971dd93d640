"""Who a unit is, from the desk to the data partition.

At the desk a folder is made, on a stick or anywhere: one TOML file, the operator's files, the card keys of a vehicle, the city's own
authority, and the one-time code by which the unit will come to its city. Its last file, ``contents.sha256``, names all others with their
hashes, so half a folder is known for what it is (``sha256sum -c contents.sha256`` says the same to a person).

The unit takes the folder at its first start. Rules that look like choices, and their reasons

* ``unit.toml`` is written last, and what is there without it is nobody. So a power cut at any file leaves a unit that takes the same folder
  again from its first file, or one that is whole.
* A unit that is somebody takes nothing from any stick. Whoever can reach a USB port must not be able to send a vehicle to another city; who
  it is ends with `kazashi reset` only.
* The device's key is on no stick. It is made here, alone in a file of its own: the program that speaks with the city holds no card key. The
  one that lies there from the first start signs nothing for a city; enrolment makes another, in the TPM where there is one.
* The card keys and the code leave the stick when they are on the unit. Flash forgets slowly; a stick that carried keys is a stick of the
  office's, and the city compares counters of cards for the day when one is lost.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firmware.config import UNIT, KeyHome, Role
from firmware.failure import Failure

FOLDER = "kazashi-unit"
CONTENTS = "contents.sha256"
STATION_KEYS = "keys/station/station.keys"
COURIER_KEYS = "keys/courier/device.keys"
CODE = "keys/courier/enrol.code"
ANSWER = "keys/courier/enrolled.toml"
"""What the city gave, where the courier's user may write."""
AUTHORITY, KEYPAD = "city.pem", "rules/keypad.toml"
TABLE, OPERATOR, SCHEME, DENIED = "rules/fares.table", "rules/operator.toml", "rules/scheme.toml", "rules/deny.list"
MOST_BYTES = 16 * 1024 * 1024
LEDGER = "/data/ledger/ledger"
_LINE = re.compile(r"([0-9a-f]{64})  ([a-z./-]+)")


@dataclass(frozen=True, slots=True)
class Place:
    """Who may read a file on the unit. ``user``: its owner, the only reader; empty: root owns it and the programs of Kazashi read it."""

    user: str = ""

    @property
    def mode(self) -> int:
        """The file's mode."""
        return 0o600 if self.user else 0o640


PLACES: Mapping[str, Place] = {
    TABLE: Place(),
    OPERATOR: Place(),
    SCHEME: Place(),
    DENIED: Place(),
    KEYPAD: Place(),
    AUTHORITY: Place(),
    STATION_KEYS: Place("kazashi-station"),
    CODE: Place("kazashi-courier"),
    UNIT: Place(),  # last
}
"""Every file that a folder may hold, in the order in which it is taken."""
NEEDED = (TABLE, OPERATOR, SCHEME, STATION_KEYS, UNIT)
SECRETS = (STATION_KEYS, CODE)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a unit is. ``number`` None: the city says it with the code. ``url`` empty: batches go by stick. ``keypad``: an input device.

    ``device_key`` None: in the TPM if the unit has one.
    """

    vehicle: str
    reader: str
    routes: tuple[str, ...]
    role: Role = Role.VALIDATOR
    number: int | None = None
    url: str = ""
    keypad: str = ""
    power: str = ""
    time_zone: str = "Asia/Tokyo"
    device_key: KeyHome | None = None


class Shelf(Protocol):
    """The data partition, as far as a unit's folder goes. All raise ``OSError``."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def read(self, name: str) -> bytes: ...

    def lay(self, name: str, data: bytes, place: Place) -> None:
        """Write the file whole and durably, for whom it is."""
        ...

    def drop(self, name: str) -> None:
        """It is not there any more, durably."""
        ...


def unit_file(identity: Identity, names: Iterable[str]) -> bytes:
    """``unit.toml`` for a folder that holds the files ``names``."""
    there = set(names)
    lines = [
        "# Who this unit is. Written by `kazashi provision`; `kazashi enrol` adds what the city says.",
        "format = 1",
        *_table(
            "terminal",
            role=identity.role.value,
            vehicle=identity.vehicle,
            number=identity.number,
            time_zone=identity.time_zone,
        ),
        *_table("reader", address=identity.reader),
        *_table("rules", table=TABLE, operator=OPERATOR, scheme=SCHEME, deny_list=DENIED if DENIED in there else None),
        *_table("keys", file=STATION_KEYS, device_key=identity.device_key.value if identity.device_key else None),
        *_table("ledger", file=LEDGER),
        *_table("duty", routes=identity.routes),
        *(_table("keypad", device=identity.keypad, mapping=KEYPAD) if identity.keypad else ()),
        *(_table("power", line=identity.power) if identity.power else ()),
        *(_table("city", url=identity.url, ca=AUTHORITY if AUTHORITY in there else None) if identity.url else ()),
    ]
    return ("\n".join(lines) + "\n").encode()


def _table(name: str, **settings: str | int | tuple[str, ...] | None) -> list[str]:
    return ["", f"[{name}]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items() if value is not None)]


def contents(files: Mapping[str, bytes]) -> bytes:
    """``contents.sha256``: a line a file, as sha256sum(1) reads it."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())).encode()


def write(folder: Path, files: Mapping[str, bytes], lay: Callable[[Path, bytes], None]) -> None:
    """Lay the files of a unit into ``folder``, the list of them last. Raises ``Failure``."""
    if folder.exists() and any(folder.iterdir()):
        raise Failure(f"{folder}: there is a unit in it already, perhaps one that no vehicle has taken; delete the folder or name another")
    for name, data in {**files, CONTENTS: contents(files)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lay(path, data)


def read(folder: Path) -> dict[str, bytes]:
    """The files of a folder that is whole. Raises ``Failure`` in one sentence."""
    listed = folder / CONTENTS
    try:
        text = _bytes(listed).decode("ascii")
    except FileNotFoundError:
        raise Failure(
            f"{folder}: has no {CONTENTS}, so it was not written to its end; write it again (`kazashi provision write`)"
        ) from None
    except UnicodeDecodeError:
        text = "?"
    files: dict[str, bytes] = {}
    for at, line in enumerate(text.splitlines(), 1):
        found = _LINE.fullmatch(line)
        if found is None or found[2] not in PLACES:
            raise Failure(f"{listed}, line {at}: names no file of a unit; write the folder again")
        try:
            files[found[2]] = _bytes(folder / found[2])
        except FileNotFoundError:
            raise Failure(f"{folder / found[2]}: is missing, or a unit took it already; write the folder again") from None
        if hashlib.sha256(files[found[2]]).hexdigest() != found[1]:
            raise Failure(
                f"{folder / found[2]}: is not the file that was written there; write the folder again, on another stick if need be"
            )
    missing = [name for name in NEEDED if name not in files]
    if missing:
        raise Failure(f"{listed}: lacks {' and '.join(missing)}; write the folder again")
    return files


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Failure(f"{path}: cannot be read ({error.strerror}); try another stick") from error
    if len(data) > MOST_BYTES:
        raise Failure(f"{path}: has more than {MOST_BYTES} bytes; no file of a unit is that large")
    return data


def expect_role(files: Mapping[str, bytes], release: str) -> None:
    """``release``: the text of this machine's os-release(5). Raises ``Failure`` when the folder is for a machine of the other role."""
    found = re.search(rb'^role = "(\w+)"$', files[UNIT], re.MULTILINE)
    wanted = found[1].decode() if found else Role.VALIDATOR.value
    here = re.search(r'^VARIANT_ID="?(\w+)"?$', release, re.MULTILINE)
    if here and here[1] in {role.value for role in Role} and here[1] != wanted:
        raise Failure(f"this stick is for a {wanted}, and this machine's system is a {here[1]}'s; take the right stick or the right system")


def take(files: Mapping[str, bytes], shelf: Shelf, device_key: Callable[[], bytes]) -> Sequence[str]:
    """Make this unit the one of ``files``; the names that were laid. ``device_key()``: the text of a new key file. Raises ``OSError``.

    Cut anywhere, it may be done again. On a unit that is somebody it does nothing.
    """
    if shelf.has(UNIT):
        return ()
    if not shelf.has(COURIER_KEYS):
        shelf.lay(COURIER_KEYS, device_key(), PLACES[CODE])
    names = [name for name in PLACES if name in files]
    for name in names:
        shelf.lay(name, files[name], PLACES[name])
    return names


def admit(shelf: Shelf, enrolled: str) -> bool:
    """Let what the city gave be this unit's, once; whether something was done. Raises ``OSError``.

    The courier's user wrote it, and whoever gets hold of that user must not be able to name another city later. So it is taken over by
    another user, and only by a unit that has no city.
    """
    if not shelf.has(ANSWER):
        return False
    if not shelf.has(enrolled):
        shelf.lay(enrolled, shelf.read(ANSWER), Place())
    shelf.drop(CODE)
    shelf.drop(ANSWER)
    return True
