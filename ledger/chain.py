"""The chain over a ledger, and what a broken one tells.

``hash(n) = SHA-256(hash(n − 1) ‖ bytes(n))``; before the first entry stands ``genesis``, which holds the device and the epoch. The first
part has a fixed length, so no two sequences hash alike. Every row keeps its own hash. That costs 32 bytes and buys this: after a bad row
the check goes on from the hash that the row claims, so each fault is named and one fault does not hide the next.

What a chain cannot show is a tail that was cut off, or the whole of it written anew. Against both stands a ``Head`` remembered elsewhere:
beside the database, in a report that was already sent, at the city.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ledger.codec import decode
from ledger.entry import Entry
from ledger.errors import MalformedEntry

HASH_BYTES = 32


class Head(NamedTuple):
    """The last entry's number and hash; (0, genesis) when there is none."""

    seq: int
    hash: bytes


class Link(NamedTuple):
    """One row as it was found: the number it stands at, its bytes, and the hash it claims. ``rider`` and ``kind`` are the row's search
    keys.
    """

    seq: int
    data: bytes
    hash: bytes
    rider: bytes | None
    kind: int


class Fault(Enum):
    """Ways in which a ledger can be wrong."""

    CHANGED = "was changed"
    MISSING = "is missing"
    CUT = "is missing: the end was cut off"
    REPEATED = "stands there twice"
    UNREADABLE = "cannot be read"
    MISFILED = "is filed under another number, rider or kind than its own"
    REWRITTEN = "is not the one that was remembered: the chain was written anew"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: ``fault`` of the entries ``first`` to ``last`` (the same for one entry)."""

    fault: Fault
    first: int
    last: int
    detail: str = ""

    def __str__(self) -> str:
        if self.first == self.last:
            return f"entry {self.first} {self.fault.value}{self.detail and f' ({self.detail})'}"
        return f"each of the entries {self.first} to {self.last} {self.fault.value}{self.detail and f' ({self.detail})'}"


def genesis(device: int, epoch: int) -> bytes:
    """The hash before the first entry of (``device``, ``epoch``), both unsigned 64-bit, big-endian."""
    return hashlib.sha256(b"kazashi ledger 1" + device.to_bytes(8, "big") + epoch.to_bytes(8, "big")).digest()


def origin(device: int, epoch: int) -> Head:
    """The head of an empty ledger."""
    return Head(0, genesis(device, epoch))


def follow(before: bytes, data: bytes) -> bytes:
    """The hash of the entry ``data`` that stands after the hash ``before``."""
    return hashlib.sha256(before + data).digest()


class Check:
    """Reads a ledger row by row and collects what is wrong; stops collecting at ``limit`` findings.

    ``start``: where the reading begins (``origin`` for a whole ledger, or a head already trusted). ``remembered``: heads known from
    elsewhere that must be part of this ledger.
    """

    def __init__(self, start: Head, device: int, epoch: int, remembered: Iterable[Head] = (), limit: int = 20) -> None:
        self.findings: list[Finding] = []
        self.count = 0
        self._seq, self._hash = start
        self._device = device
        self._epoch = epoch
        self._remembered = {head.seq: head.hash for head in remembered}
        self._limit = limit

    @property
    def head(self) -> Head:
        """The last row taken."""
        return Head(self._seq, self._hash)

    def take(self, link: Link) -> Entry | None:
        """Check the next row; return its entry, or None when it cannot be believed."""
        seq, data, claimed, rider, kind = link
        expected = self._seq + 1
        if seq < expected:
            self._found(Fault.REPEATED, seq, seq)
            return None
        self.count += 1
        entry = self._entry(seq, data, rider, kind)
        if seq > expected:
            # The hash before is unknown now, so only the rows that follow can vouch for this one.
            self._found(Fault.MISSING, expected, seq - 1)
        elif follow(self._hash, data) != claimed:
            self._found(Fault.CHANGED, seq, seq)
            entry = None
        if seq in self._remembered and self._remembered[seq] != claimed:
            self._found(Fault.REWRITTEN, seq, seq)
        self._seq, self._hash = seq, claimed
        return entry

    def close(self) -> list[Finding]:
        """Say that there are no more rows; return all findings."""
        promised = max(self._remembered, default=0)
        if promised > self._seq:
            self._found(Fault.CUT, self._seq + 1, promised)
        return self.findings

    def _entry(self, seq: int, data: bytes, rider: bytes | None, kind: int) -> Entry | None:
        try:
            entry = decode(data, device=self._device, epoch=self._epoch)
        except MalformedEntry as error:
            self._found(Fault.UNREADABLE, seq, seq, f"field '{error.field}'")
            return None
        medium = entry.medium
        if entry.seq == seq and entry.kind == kind and (medium.rider if medium else None) == rider:
            return entry
        self._found(Fault.MISFILED, seq, seq, f"it says that it is {entry.seq}" if entry.seq != seq else "")
        return None

    def _found(self, fault: Fault, first: int, last: int, detail: str = "") -> None:
        if len(self.findings) < self._limit:
            self.findings.append(Finding(fault, first, last, detail))


def verify(links: Iterable[Link], device: int, epoch: int, remembered: Iterable[Head] = ()) -> Check:
    """Check all ``links`` of the ledger (``device``, ``epoch``) from its first entry; ``findings`` of the answer is empty if it is
    whole.
    """
    check = Check(origin(device, epoch), device, epoch, remembered)
    for link in links:
        check.take(link)
    check.close()
    return check
