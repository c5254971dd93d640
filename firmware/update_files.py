"""The files of an update: where a bundle is made whole, a stick with bundles, the city's list, the words for the station."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, cast

from firmware.update import (
    DOOR,
    INDEX,
    MAX_INDEX,
    MOST_BYTES,
    MalformedIndex,
    Offer,
    Record,
    Word,
    built,
    decode,
    encode,
    record_bytes,
    record_of,
)
from firmware.updater import Gone, InstallFailed, InstallRefused, NotThere
from ledger.beside import flush_folder, replace_file
from ledger.carrier import JSON, Answer, NoAnswer
from validator.rulebook import Noted

MANIFEST = Path("/usr/share/kazashi/image.json")
_BLOCK = 1024 * 1024
_LIST_S, _SLOWEST = 60.0, 4000  # bytes a second
_SUFFIX = ".raucb"


@dataclass(frozen=True, slots=True)
class Staging:
    """A ``firmware.updater.Stage`` in ``folder`` (/data/update)."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """What RAUC is given."""
        return self.folder / f"bundle{_SUFFIX}"

    def record(self) -> Record:
        try:
            return record_of((self.folder / "record").read_bytes())
        except FileNotFoundError:
            return Record()

    def remember(self, record: Record) -> None:
        replace_file(self.folder / "record", record_bytes(record))

    def size(self) -> int:
        try:
            return self.bundle.stat().st_size
        except FileNotFoundError:
            return 0

    def add(self, data: bytes) -> None:
        with self.bundle.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def digest(self) -> bytes:
        return _digest(self.bundle)

    def drop(self) -> None:
        self.bundle.unlink(missing_ok=True)
        flush_folder(self.folder)

    def free_bytes(self) -> int:
        room = os.statvfs(self.folder)
        return room.f_bavail * room.f_frsize


@dataclass(slots=True)
class StickSource:
    """A ``firmware.updater.Source``: bundles in a folder of a stick. ``facts(path)``: compatible and version, of a bundle whose signature
    holds; raises ``InstallRefused``.
    """

    folder: Path
    facts: Callable[[Path], tuple[str, str]]
    _known: dict[tuple[str, int, int], Offer | None] = field(default_factory=dict[tuple[str, int, int], Offer | None])
    _files: dict[bytes, Path] = field(default_factory=dict[bytes, Path])

    def offers(self) -> Sequence[Offer]:
        try:
            files = sorted(path for path in self.folder.iterdir() if path.suffix == _SUFFIX)
            found = [offer for path in files if (offer := self._offer(path)) is not None]
        except OSError as error:
            raise NotThere(f"{self.folder}: no stick with an update ({error.strerror})") from error
        return found

    def part(self, offer: Offer, offset: int, most: int) -> bytes:
        if offer.digest not in self._files:
            self.offers()  # after a start
        path = self._files.get(offer.digest)
        if path is None:
            raise Gone
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(most)
        except OSError as error:
            raise NotThere(f"{path}: cannot be read ({error.strerror})") from error
        if not data:
            raise Gone
        return data

    def _offer(self, path: Path) -> Offer | None:
        status = path.stat()
        key = path.name, status.st_size, status.st_mtime_ns
        if key not in self._known:
            self._known[key] = None
            with suppress(InstallRefused, InstallFailed):
                compatible, version = self.facts(path)
                if built(version) is not None and 1 <= status.st_size <= MOST_BYTES:
                    self._known[key] = Offer(compatible, version, status.st_size, _digest(path))
        offer = self._known[key]
        if offer is not None:
            self._files[offer.digest] = path
        return offer


class Link(Protocol):
    """The wire to the city (``ledger.uplink.HttpUplink``). Both raise ``NoAnswer``."""

    def get(self, door: str, media_type: str, limit: int, patience_s: float) -> Answer: ...

    def get_part(self, door: str, offset: int, most: int, patience_s: float) -> Answer: ...


@dataclass(frozen=True, slots=True)
class CitySource:
    """A ``firmware.updater.Source``: the list and the bundles on the city's server."""

    link: Link

    def offers(self) -> Sequence[Offer]:
        try:
            answer = self.link.get(INDEX, JSON, MAX_INDEX, _LIST_S)
            if answer.status == 404:
                return ()
            if answer.status != 200:
                raise NotThere(f"{INDEX} answered {answer.status}: {answer.detail or 'no reason given'}")
            return decode(answer.body)
        except NoAnswer as error:
            raise NotThere(f"no list of systems: {error}") from error
        except MalformedIndex as error:
            raise NotThere(f"{INDEX} {error}") from error

    def part(self, offer: Offer, offset: int, most: int) -> bytes:
        door = f"{DOOR}/{offer.digest.hex()}{_SUFFIX}"
        try:
            answer = self.link.get_part(door, offset, most, _LIST_S + most / _SLOWEST)
        except NoAnswer as error:
            raise NotThere(f"the system did not come: {error}") from error
        if answer.status in {404, 410, 416}:
            raise Gone
        if answer.status != 206 or not 1 <= len(answer.body) <= most:
            raise NotThere(f"{door} answered {answer.status} to a question for a part; the server must know ranges")
        return answer.body


@dataclass(frozen=True, slots=True)
class Words:
    """What the agent leaves for the station, a file a word in ``folder``: there is one writer of the ledger."""

    folder: Path

    def tell(self, word: Word) -> None:
        """Leave it; the same word twice is one."""
        replace_file(self.folder / word.name.lower(), word.encode())

    def noted(self) -> list[Noted]:
        """What the station has still to write down; raises ``OSError``."""
        files = {word: self.folder / word.name.lower() for word in Word}
        return [Noted(word.value, partial(path.unlink, missing_ok=True)) for word, path in files.items() if path.exists()]


def publish(bundle: Path, folder: Path, facts: tuple[str, str]) -> Offer:
    """Copy a bundle under its hash into ``folder`` and list it; those of the same machine with the same version go from the list.

    Raises ``OSError`` and ``MalformedIndex``.
    """
    compatible, version = facts
    offer = Offer(compatible, version, bundle.stat().st_size, _digest(bundle))
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / INDEX.rpartition("/")[2]
    listed = decode(index.read_bytes()) if index.exists() else ()
    decode(encode([offer]))  # what a unit would not understand is not offered
    fresh = folder / f"{offer.digest.hex()}.new"
    shutil.copyfile(bundle, fresh)
    fresh.replace(folder / f"{offer.digest.hex()}{_SUFFIX}")
    kept = [each for each in listed if (each.compatible, each.version) != facts]
    replace_file(index, encode([*kept, offer]))
    return offer


class Mark(Protocol):
    """The mark of a trial (``firmware.system.TrialFile``)."""

    def begin(self) -> None: ...

    def over(self) -> None: ...

    def failed(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class ImageUnit:
    """A ``firmware.updater.Unit``. ``good``: the health check's file; ``request``: a file that systemd waits for."""

    version: str
    compatible: str
    trip: Callable[[], bool]
    mark: Mark
    good: Path
    request: Path
    words: Words

    def on_trip(self) -> bool:
        return self.trip()

    def lay_mark(self) -> None:
        self.mark.begin()

    def lift_mark(self) -> None:
        self.mark.over()

    def is_good(self) -> bool:
        return self.good.exists()

    def has_failed(self) -> bool:
        return self.mark.failed()

    def restart(self) -> None:
        os.sync()
        self.request.touch()

    def tell(self, word: Word) -> None:
        self.words.tell(word)


def running(manifest: Path) -> tuple[str, str]:
    """What this machine runs, by its image's manifest: (compatible, version); both empty where it is no image of ours."""
    try:
        facts: object = json.loads(manifest.read_bytes())
    except (OSError, ValueError):
        return "", ""
    if not isinstance(facts, dict):
        return "", ""
    told = cast("dict[str, object]", facts)
    return str(told.get("compatible", "")), str(told.get("version", ""))


def _digest(path: Path) -> bytes:
    total = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                total.update(block)
    except FileNotFoundError:
        return b""
    return total.digest()
