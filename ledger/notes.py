"""What a terminal tells the city beside its ledger: that it lives, and that it lost a ledger. Payloads of sealed messages.

A heartbeat, CBOR, by position::

     0  version  1  device  2  epoch  3  head seq  4  head hash
     5  time: [boot, mono_ms, utc_ms, clock]
     6  self test: an array of [part, state]
     7  free bytes
     8  versions: [table, scheme, operator file, software, card_key, rider_key]
     9  software

Version 2 has two parts more, and is what a unit sends that counts something (``ledger.counts``)::

    10  counts: an array of [name, count], by name     11  seconds since the machine's start

A lost ledger::

     0  version  1  device  2  lost epoch  3  first seq  4  last seq, 0 unknown  5  reason  6  time: [boot, mono_ms, utc_ms, clock]
"""

from dataclasses import dataclass
from enum import StrEnum

from ledger import counts as table
from ledger import strict
from ledger.chain import HASH_BYTES
from ledger.counts import Counts
from ledger.entry import Versions, When
from ledger.errors import MalformedNote

VERSION = 1
COUNTING = 2
"""The version of a heartbeat with counts; one without is of version 1, so that there is one way to write each."""
MAX_BYTES = 2048
MAX_SOFTWARE = 64
PARTS = ("antenna", "reader", "ledger", "sound", "screen")
WORKS, BROKEN, NOT_TESTED = 0, 1, 2

_DEPTH = 3
_HEARTBEAT = (int, int, int, int, bytes, tuple, tuple, int, tuple, str)
_COUNTING = (*_HEARTBEAT, tuple, int)
_LOSS = (int, int, int, int, int, str, tuple)
_TIME = (int, int, int, int)
_PART = (str, int)
_COUNT = (str, int)
_VERSIONS = (bytes, bytes, bytes, str, int, int)


class LossReason(StrEnum):
    """Why a ledger cannot go on. A closed list, never free text."""

    ROLLED_BACK = "rolled-back"  # the file is older than, or other than, what is remembered of it: a restored image
    UNREADABLE = "unreadable"
    MISSING = "missing"  # there is no file where one was
    REPLACED = "replaced"  # the medium or the terminal was exchanged
    FORGOTTEN = "forgotten"  # the file is there, what is remembered beside it is not
    ORDERED = "ordered"  # a person at the terminal began a new one


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A terminal's state now.

    ``head_seq``, ``head_hash``: the last entry of its ledger (0 and the genesis for none); together with ``at`` also what the clock and the
    boot are. ``selftest``: parts of ``PARTS``, in that order, each ``WORKS``, ``BROKEN`` or ``NOT_TESTED``. ``free_bytes``: room for the
    ledger. ``versions``: what it decides with. ``software``: the version of the image. ``counts``: what the unit counted of its own journal
    (``ledger.counts``) in the ``up_s`` seconds since the machine's start; nothing and 0 where nobody counts.
    """

    device: int
    epoch: int
    head_seq: int
    head_hash: bytes
    at: When
    selftest: tuple[tuple[str, int], ...]
    free_bytes: int
    versions: Versions
    software: str
    counts: Counts = ()
    up_s: int = 0


@dataclass(frozen=True, slots=True)
class Loss:
    """Entries ``first`` … ``last`` (0: nobody knows) of the ledger (``device``, ``epoch``) cannot be sent any more."""

    device: int
    epoch: int
    first: int
    last: int
    reason: LossReason
    at: When


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """The payload. One that could not be read back is refused with ``MalformedNote``."""
    versions = beat.versions
    rules = (versions.table, versions.scheme, versions.operator, versions.software, versions.card_key, versions.rider_key)
    state = (beat.head_seq, beat.head_hash, _time(beat.at), beat.selftest, beat.free_bytes, rules, beat.software)
    version, counting = (COUNTING, (beat.counts, beat.up_s)) if beat.counts else (VERSION, ())
    data = strict.write((version, beat.device, beat.epoch, *state, *counting))
    if decode_heartbeat(data) != beat:
        raise MalformedNote("The heartbeat does not read back as it was; a field has the wrong type.")
    return data


def decode_heartbeat(data: bytes) -> Heartbeat:
    """The heartbeat in ``data``. Raises ``MalformedNote``; never anything else."""
    try:
        parts = strict.read_any(data, MAX_BYTES, _DEPTH, {VERSION: _HEARTBEAT, COUNTING: _COUNTING})
        at, versions = When(*strict.shaped(parts[5], _TIME)), Versions(*strict.shaped(parts[8], _VERSIONS))
        selftest = tuple((part, state) for part, state in strict.rows(parts[6], _PART))
        counts, up_s = _counted(*parts[10:]) if parts[0] == COUNTING else ((), 0)
    except strict.NotStrict as error:
        raise MalformedNote(f"The heartbeat {error}.") from error
    _, device, epoch, head_seq, head_hash, _, _, free_bytes, _, software = parts[:10]
    if len(head_hash) != HASH_BYTES:
        raise MalformedNote(f"The heartbeat's head has {len(head_hash)} bytes, not {HASH_BYTES}.")
    if [part for part, _ in selftest] != [part for part in PARTS if part in dict(selftest)]:
        raise MalformedNote(f"The heartbeat's self test names something else than {', '.join(PARTS)}, in that order.")
    if any(state not in {WORKS, BROKEN, NOT_TESTED} for _, state in selftest):
        raise MalformedNote("The heartbeat's self test has a state that is not 0 (works), 1 (broken) or 2 (not tested).")
    if len(software) > MAX_SOFTWARE or len(versions.software) > MAX_SOFTWARE:
        raise MalformedNote(f"The heartbeat names a software version of more than {MAX_SOFTWARE} characters.")
    return Heartbeat(device, epoch, head_seq, head_hash, at, selftest, free_bytes, versions, software, counts, up_s)


def _counted(parts: strict.Parts, up_s: int) -> tuple[Counts, int]:
    counts = tuple((name, count) for name, count in strict.rows(parts, _COUNT))
    if fault := table.fault(counts):
        raise strict.NotStrict(fault)
    return counts, up_s


def encode_loss(loss: Loss) -> bytes:
    """The payload. One that could not be read back is refused with ``MalformedNote``."""
    data = strict.write((VERSION, loss.device, loss.epoch, loss.first, loss.last, str(loss.reason), _time(loss.at)))
    if decode_loss(data) != loss:
        raise MalformedNote("The report of a loss does not read back as it was; a field has the wrong type.")
    return data


def decode_loss(data: bytes) -> Loss:
    """The lost ledger in ``data``. Raises ``MalformedNote``; never anything else."""
    try:
        parts = strict.read(data, MAX_BYTES, _DEPTH, VERSION, _LOSS)
        at = When(*strict.shaped(parts[6], _TIME))
    except strict.NotStrict as error:
        raise MalformedNote(f"The report of a loss {error}.") from error
    _, device, epoch, first, last, reason, _ = parts
    if first < 1 or (last and last < first):
        raise MalformedNote("The report of a loss names no range of entries.")
    if reason not in set(LossReason):
        raise MalformedNote(f"The report of a loss gives a reason that is none of {', '.join(LossReason)}.")
    return Loss(device, epoch, first, last, LossReason(reason), at)


def _time(at: When) -> strict.Parts:
    return int(at.boot), int(at.mono_ms), int(at.utc_ms), int(at.clock)
