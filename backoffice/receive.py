"""What becomes of each entry of a batch, and how far a ledger is stored afterwards (pure).

**One entry.** Its number is its name; what is stored under a name stays. So an entry whose number is free is accepted, one whose number
holds the same bytes is a duplicate, and one whose number holds other bytes is a conflict: an alarm, never an overwriting, and never
silently the same as a duplicate. What cannot be read or cannot be a row is set aside, what a newer version wrote is held as it came. Both
count as stored: one bad entry must not keep the good ones behind it on the vehicle for ever.

**How far.** Terminals send what they like, in any cut, overlapping, out of order and again. What is stored is therefore a set of runs, each
with the hash before its first entry and the hash of its last. The run that begins at 1 is the one whose end the receipt names; the others
are islands; what lies between is holes. Where two runs touch or overlap, a place in the chain is known twice, and the two must agree. If
they do not, somebody wrote the ledger anew in between: an alarm. The entries are kept all the same, for they were signed, and a person has
to look.

A signed report of a loss closes a hole. It is a run whose hashes nobody knows.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from backoffice import rows
from ledger.batch import Batch
from ledger.chain import follow, genesis
from ledger.entry import VERSION
from ledger.errors import MalformedEntry
from ledger.strict import MAX

UNKNOWN = bytes(32)
"""A hash that nobody knows; it agrees with every other."""

DIGEST_BYTES = 16

MALFORMED = "malformed"  # cannot be read
MISPLACED = "misplaced"  # says another number than its place's
IMPOSSIBLE = "impossible"  # can be read, but is no row (``backoffice.rows.flaw``)
CONFLICT = "conflict"  # other content is stored under this number
LATER = "later"  # of a newer version; held
"""Codes of receipts and of the books' quarantine."""


# --- one entry ----------------------------------------------------------------------------------------------------------------------------


class SetAside(NamedTuple):
    """An entry for the quarantine: its bytes, a code, and a sentence for whoever looks."""

    seq: int
    digest: bytes
    data: bytes
    code: str
    sentence: str


class Held(NamedTuple):
    """An entry of a newer ``version``, as it came."""

    seq: int
    digest: bytes
    data: bytes
    version: int


class Known(NamedTuple):
    """What is stored under a number: the digest of its bytes, and the code with which it was set aside (empty: it is booked)."""

    digest: bytes
    code: str


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch's entries by what becomes of them.

    ``accepted``: the numbers of those to be booked, and the digests of their bytes. ``codes``: what the receipt says of numbers that were
    set aside now or earlier.
    """

    accepted: dict[int, bytes]
    rejected: tuple[SetAside, ...]
    conflicts: tuple[SetAside, ...]
    held: tuple[Held, ...]
    duplicates: int
    codes: tuple[tuple[int, str], ...]

    @property
    def brings_nothing(self) -> bool:
        """Every entry was stored before."""
        return not (self.accepted or self.rejected or self.conflicts or self.held)


def digest_of(data: bytes) -> bytes:
    """What tells two contents of one number apart: the first 16 bytes of the SHA-256 of the entry's bytes."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def sort_out(batch: Batch, known: Mapping[int, Known]) -> Sorted:
    """What becomes of each entry of ``batch`` when ``known`` is stored already (numbers outside the batch do not matter)."""
    accepted: dict[int, bytes] = {}
    rejected: list[SetAside] = []
    conflicts: list[SetAside] = []
    held: list[Held] = []
    codes: list[tuple[int, str]] = []
    duplicates = 0
    flaws, wrong = rows.flaws(batch), batch.told.wrong
    for seq, data in enumerate(batch.entries, batch.first_seq):
        digest = digest_of(data)
        there = known.get(seq)
        if there is not None:
            if there.digest == digest:
                duplicates += 1
                if there.code:
                    codes.append((seq, there.code))
            else:
                conflicts.append(SetAside(seq, digest, data, CONFLICT, "Other content is stored under this number; it stays."))
                codes.append((seq, CONFLICT))
        elif (error := wrong.get(seq)) is not None:
            if (version := version_of(data)) > VERSION:
                held.append(Held(seq, digest, data, version))
                codes.append((seq, LATER))
            else:
                rejected.append(SetAside(seq, digest, data, _code(error), f"The {error}."))
                codes.append((seq, _code(error)))
        elif (flaw := flaws.get(seq)) is not None:
            rejected.append(SetAside(seq, digest, data, IMPOSSIBLE, f"The entry {flaw}."))
            codes.append((seq, IMPOSSIBLE))
        else:
            accepted[seq] = digest
    return Sorted(accepted, tuple(rejected), tuple(conflicts), tuple(held), duplicates, tuple(codes))


def alone(device: int, epoch: int, seq: int, data: bytes) -> Batch:
    """One entry as if it had been sent by itself: nobody knows the hash before it."""
    return Batch(device, epoch, seq, UNKNOWN, (data,), 0)


def version_of(data: bytes) -> int:
    """The version that an entry's bytes begin with: an array whose first item is a number of one or two bytes (RFC 8949); 0 for none.

    The rest of a newer version's bytes is not for this software to judge, so only its very beginning is looked at.
    """
    if not data or data[0] >> 5 != 4 or data[0] & 31 > 25:
        return 0
    at = 1 + {24: 1, 25: 2}.get(data[0] & 31, 0)
    head = data[at : at + 2]
    if not head or head[0] > 24:
        return 0
    return head[0] if head[0] < 24 else head[-1] if len(head) == 2 and head[1] >= 24 else 0


def _code(error: MalformedEntry) -> str:
    return MISPLACED if error.field == "seq" else MALFORMED


# --- how far ------------------------------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """Entries ``first`` … ``last``, all stored; the hash before the first, and the hash of the last."""

    first: int
    last: int
    previous: bytes
    head: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a ledger is stored: runs in order that neither overlap nor touch."""

    runs: tuple[Run, ...] = ()

    @property
    def next_seq(self) -> int:
        """The first entry that is not stored."""
        return min(self.runs[0].last + 1, MAX) if self.runs and self.runs[0].first == 1 else 1

    @property
    def islands(self) -> tuple[Run, ...]:
        """What is stored above ``next_seq``."""
        return self.runs[1:] if self.runs and self.runs[0].first == 1 else self.runs

    @property
    def holes(self) -> tuple[tuple[int, int], ...]:
        """What is missing below the highest entry that is stored."""
        ends = (self.next_seq - 1, *(run.last for run in self.islands))
        return tuple((last + 1, run.first - 1) for last, run in zip(ends, self.islands, strict=False))

    @property
    def highest(self) -> int:
        """The highest entry that is stored; 0 for none."""
        return self.runs[-1].last if self.runs else 0

    def head(self, device: int, epoch: int) -> bytes:
        """The hash of entry ``next_seq`` − 1."""
        return self.runs[0].head if self.next_seq > 1 else genesis(device, epoch)

    def touches(self, first: int, last: int) -> bool:
        """Something among ``first`` … ``last`` may be stored already."""
        return any(run.first <= last and run.last >= first for run in self.runs)


def standing(device: int, epoch: int, next_seq: int, head: bytes, islands: Iterable[Run]) -> Standing:
    """The standing of a ledger as the books have it."""
    base = (Run(1, next_seq - 1, genesis(device, epoch), head),) if next_seq > 1 else ()
    return Standing((*base, *sorted(islands)))


def with_batch(before: Standing, batch: Batch) -> tuple[Standing, tuple[int, ...]]:
    """The standing when ``batch`` is stored too, and the numbers before which the chain is told in two ways."""
    hashes = tuple(accumulate(batch.entries, follow, initial=batch.previous))
    new = Run(batch.first_seq, batch.last_seq, batch.previous, hashes[-1])
    breaks = {seq for run in before.runs for seq, known in _places(run) if _disagree(known, _hash_before(seq, new.first, hashes))}
    return _joined(before, new), tuple(sorted({min(seq, MAX) for seq in breaks}))  # behind the last number there is none to name


def with_loss(before: Standing, first: int, last: int) -> Standing:
    """The standing when the entries ``first`` … ``last`` are known never to come. ``last`` 0: nobody knows; all that are missing now."""
    end = min(last or before.highest, MAX - 1)
    missing = [(max(a, first), min(b, end)) for a, b in (*before.holes, (before.highest + 1, MAX)) if a <= end and b >= first]
    after = before
    for a, b in missing:
        after = _joined(after, Run(a, b, UNKNOWN, UNKNOWN))
    return after


def _places(run: Run) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """The two numbers of which ``run`` knows the hash before."""
    return (run.first, run.previous), (run.last + 1, run.head)


def _hash_before(seq: int, first: int, hashes: tuple[bytes, ...]) -> bytes:
    return hashes[seq - first] if 0 <= seq - first < len(hashes) else UNKNOWN


def _disagree(one: bytes, other: bytes) -> bool:
    return one != other and UNKNOWN not in {one, other}


def _joined(before: Standing, new: Run) -> Standing:
    """The runs with ``new`` among them; what overlaps or touches becomes one."""
    apart: list[Run] = []
    for run in before.runs:
        if run.last + 1 < new.first or new.last + 1 < run.first:
            apart.append(run)
            continue
        low = min(run, new, key=lambda each: (each.first, each.previous == UNKNOWN))
        high = max(run, new, key=lambda each: (each.last, each.head != UNKNOWN))
        new = Run(low.first, high.last, low.previous, high.head)
    return Standing(tuple(sorted((*apart, new))))


# --- the answer ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """How far a ledger is stored, durably, and what became of a batch's entries; all 0 and ``replayed`` for a batch known as a whole."""

    next_seq: int
    head: bytes
    holes: tuple[tuple[int, int], ...] = ()
    rejects: tuple[tuple[int, str], ...] = ()
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    held: int = 0
    replayed: bool = False
