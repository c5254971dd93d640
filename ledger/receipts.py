"""Adapter: the letterbox as files beside the ledger ``NAME``.

====================================  ===========  =====================================================================
``NAME.receipts/SEQ-DIGEST.receipt``  courier      the city's sealed receipts; the station takes each away
``NAME.parcels/KIND-….package``       courier      the city's sealed packages; the station takes each away
``NAME.losses/EPOCH.loss``            station      a lost ledger; the courier takes it away when the city has signed for it
``NAME.state``                        station      its last heartbeat, and the monotonic clock then
``NAME.courier``                      courier      its memory
``NAME.courier.lock``                 courier      held by the one courier
====================================  ===========  =====================================================================

A receipt or a package is checked twice: by the courier before it is laid here, by the station before it is believed. The folder may be on a
stick, and the courier is the process that speaks with strangers.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from ledger import strict
from ledger.beside import flush_folder, replace_file
from ledger.errors import LedgerBusy, LedgerError, Malformed
from ledger.letterbox import Memory, Parcel, Told, Waiting
from ledger.notes import Heartbeat, Loss, decode_heartbeat, decode_loss, encode_heartbeat, encode_loss
from ledger.offers import Offer
from ledger.package import MAX_SEALED as MAX_PACKAGE
from ledger.package import Package
from ledger.package import decode as decode_package
from ledger.receipt import MAX_BYTES, Receipt, decode
from ledger.seal import OVERHEAD, BadSignature, Checker, Content, check, parse

log = logging.getLogger(__name__)

MAX_SEALED = MAX_BYTES + OVERHEAD
SUFFIX = ".receipt"
PARCEL = ".package"
_MOST_STATE = 4096
_STATE = (int, int, bytes)
_STATE_VERSION = 1
_MOST_MEMORY = 64 * 1024


class Foreign(LedgerError):
    """Not signed by the city. The message says by whose key, as far as it is known."""


class CityKeys:
    """The city's public keys by their ids, and who checks with them."""

    def __init__(self, checker: Checker, keys: dict[bytes, bytes]) -> None:
        self._checker = checker
        self._keys = keys

    def receipt(self, sealed: bytes) -> Receipt:
        """The receipt in ``sealed``. Raises ``Foreign`` when no key of the city signed it, ``Malformed`` when it is none."""
        return decode(self._checked(sealed, Content.RECEIPT, MAX_SEALED))

    def package(self, sealed: bytes) -> Package:
        """The package in ``sealed``. Raises ``Foreign`` when no key of the city signed it, ``Malformed`` when it is none."""
        return decode_package(self._checked(sealed, Content.PACKAGE, MAX_PACKAGE))

    def _checked(self, sealed: bytes, content: Content, limit: int) -> bytes:
        parts, what = parse(sealed, content, limit), content.name.lower()
        public = self._keys.get(parts.kid)
        if public is None:
            raise Foreign(f"the {what} is signed with the key {parts.kid.hex()}, which is none of the city's that are configured")
        try:
            check(parts, self._checker, public)
        except BadSignature as error:
            raise Foreign(f"the {what} names the city's key {parts.kid.hex()}, but the signature does not fit") from error
        return parts.payload


class LetterboxBeside:
    """Both sides of the letterbox of the ledger ``database``; ``city`` reads receipts, ``monotonic_s`` is the machine's own clock."""

    def __init__(self, database: Path, city: CityKeys, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._receipts = database.with_name(database.name + ".receipts")
        self._parcels = database.with_name(database.name + ".parcels")
        self._losses = database.with_name(database.name + ".losses")
        self._state = database.with_name(database.name + ".state")
        self._memory = database.with_name(database.name + ".courier")
        self._lock = database.with_name(database.name + ".courier.lock")
        self.city = city
        self._monotonic_s = monotonic_s
        self._lock_file = -1

    # ── the station's side ──

    def receipts(self) -> list[Waiting]:
        found: list[Waiting] = []
        for path in sorted(self._receipts.glob(f"*{SUFFIX}")):
            try:
                found.append(Waiting(path.name, self.city.receipt(path.read_bytes())))
            except (Malformed, Foreign) as error:
                log.warning("%s is taken away: %s", path.name, error)
                path.unlink(missing_ok=True)
        return sorted(found, key=lambda waiting: (waiting.receipt.issued_ms, waiting.receipt.next_seq))

    def taken(self, name: str) -> None:
        (self._receipts / name).unlink(missing_ok=True)

    def parcels(self) -> list[str]:
        return sorted(path.name for path in self._parcels.glob(f"*{PARCEL}"))

    def parcel(self, name: str) -> Parcel:
        with (self._parcels / name).open("rb") as file:
            return Parcel(name, file.read(MAX_PACKAGE + 1))

    def unpacked(self, name: str) -> None:
        (self._parcels / name).unlink(missing_ok=True)

    def report(self, state: Heartbeat) -> None:
        data = strict.write((_STATE_VERSION, int(self._monotonic_s() * 1000), encode_heartbeat(state)))
        fresh = self._state.with_name(self._state.name + ".new")
        fresh.write_bytes(data)
        fresh.replace(self._state)

    def tell(self, loss: Loss) -> None:
        _make(self._losses)
        replace_file(self._losses / f"{loss.epoch}.loss", encode_loss(loss))

    # ── the courier's side ──

    def lock(self) -> None:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise LedgerBusy(f"another courier carries the ledger beside {self._lock}; stop it first, a ledger has one courier") from None
        self._lock_file = descriptor

    def unlock(self) -> None:
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def lay(self, sealed: bytes, receipt: Receipt) -> None:
        _make(self._receipts)
        name = f"{receipt.next_seq - 1:020}-{hashlib.sha256(sealed).hexdigest()[:16]}{SUFFIX}"
        replace_file(self._receipts / name, sealed)

    def lay_package(self, sealed: bytes, offer: Offer) -> None:
        _make(self._parcels)
        # In this order the station opens them: of each kind the lowest version first.
        replace_file(self._parcels / f"{offer.kind}-{offer.version:020}-{offer.digest.hex()[:16]}{PARCEL}", sealed)

    def losses(self) -> list[Told]:
        found: list[Told] = []
        for path in sorted(self._losses.glob("*.loss")):
            try:
                found.append(Told(path.name, decode_loss(path.read_bytes())))
            except Malformed as error:
                log.warning("%s is set aside: %s", path.name, error)
                path.rename(path.with_suffix(".unreadable"))
        return found

    def told(self, name: str) -> None:
        (self._losses / name).unlink(missing_ok=True)

    def state(self) -> tuple[Heartbeat, float] | None:
        try:
            data = self._state.read_bytes()
        except FileNotFoundError:
            return None
        try:
            _, written_ms, beat = strict.read(data, _MOST_STATE, 1, _STATE_VERSION, _STATE)
            age_s = self._monotonic_s() - written_ms / 1000
            # Written before this machine started: as old as can be.
            return decode_heartbeat(beat), age_s if age_s >= 0 else float("inf")
        except (strict.NotStrict, Malformed) as error:
            log.warning("the station's state cannot be read: %s", error)
            return None

    def memory(self) -> Memory:
        with contextlib.suppress(OSError, ValueError):
            if self._memory.stat().st_size <= _MOST_MEMORY:
                return _memory(json.loads(self._memory.read_text("ascii")))
        return Memory()

    def remember(self, memory: Memory) -> None:
        packages = [digest.hex() for digest in memory.packages]
        text = json.dumps({"failures": memory.failures, "contact_ms": memory.contact_ms, "done": memory.done, "packages": packages})
        replace_file(self._memory, text.encode("ascii"))


def _memory(values: object) -> Memory:
    """A memory from JSON; an empty one when it is none."""
    given = cast("dict[str, object]", values) if isinstance(values, dict) else {}
    failures, contact_ms, done = given.get("failures"), given.get("contact_ms"), given.get("done")
    if not isinstance(failures, int) or not isinstance(contact_ms, int) or not isinstance(done, list):
        return Memory()
    packages = given.get("packages", [])
    return Memory(
        max(0, failures),
        max(0, contact_ms),
        tuple(epoch for epoch in cast("list[object]", done) if isinstance(epoch, int)),
        tuple(_digests(cast("list[object]", packages)) if isinstance(packages, list) else ()),
    )


def _digests(texts: list[object]) -> Iterator[bytes]:
    for text in texts:
        with contextlib.suppress(ValueError):
            yield bytes.fromhex(str(text))


def _make(folder: Path) -> None:
    """The folder is there, durably."""
    if not folder.is_dir():
        folder.mkdir()
        flush_folder(folder.parent)
