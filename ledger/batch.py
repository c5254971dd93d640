"""What a terminal sends the city: a run of entries, whole and in order, exactly as they stand in its ledger.

The payload of a sealed message (``ledger.seal``) is a zstd frame of one CBOR array, by position::

     0  version  1  device  2  epoch  3  first seq  4  count
     5  hash before the first entry  6  hash of the last entry
     7  created, Unix ms
     8  totals: an array of [kind, count, nominal, points, cash], by kind, each kind once
     9  entries: an array of byte strings

Entries stay rows. Turned into columns they compress better by a fifth, but an entry's bytes are what the chain hashed and what will be
evidence, and a reader that has to put them together again from columns is a reader that can put them together wrongly.

The signature is over the compressed payload: nothing is decompressed for a stranger, and what was signed is kept as it came.

Count, totals and chain are each derived from the entries, and sent nevertheless. The count and the totals are what an operator checks a
shift's paper against; and a sender whose idea of its own entries differs from the city's is to be stopped at the first batch. An entry that
cannot be decoded is not that: it goes into the totals as kind 0 with its count only, and the city sets it aside. The same goes for an entry
that stands at another place than its own number. Sums stop at 2⁶³ − 1, so that no entry can make a batch that has no bytes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ledger import compress, strict
from ledger.chain import HASH_BYTES, Head, follow, genesis
from ledger.codec import decode
from ledger.entry import Entry, Fare
from ledger.errors import BatchTooLarge, MalformedBatch, MalformedEntry
from ledger.seal import OVERHEAD

VERSION = 1
MAX_SEALED = 64 * 1024
MAX_PAYLOAD = MAX_SEALED - OVERHEAD
MAX_BYTES = 1024 * 1024
MAX_ENTRIES = 1000
LEVEL = 9
UNREADABLE = 0  # the kind, in totals, of entries that cannot be decoded

_SHAPE = (int, int, int, int, int, bytes, bytes, int, tuple, tuple)
_ROW = (int, int, int, int, int)
_DEPTH = 3
_NO_FARE = Fare()

Read = Entry | MalformedEntry


@dataclass(frozen=True, slots=True)
class Total:
    """The entries of one kind: how many, and the sums of their fares in yen and points."""

    kind: int
    count: int
    nominal: int
    points: int
    cash: int


@dataclass(frozen=True, slots=True)
class Totals:
    """One row for each kind that occurs, by kind."""

    rows: tuple[Total, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries ``first_seq`` … ``last_seq`` of the ledger (``device``, ``epoch``), as their exact bytes.

    ``previous``: the chain's hash before the first of them (32 bytes). ``created_ms``: Unix ms UTC by the terminal's clock.
    """

    device: int
    epoch: int
    first_seq: int
    previous: bytes
    entries: tuple[bytes, ...]
    created_ms: int
    _read: tuple[Read, ...] = field(default=(), init=False, repr=False, compare=False)  # filled by unpack, which had to decode them anyway

    @property
    def read(self) -> tuple[Read, ...]:
        """What each entry says, or why it says nothing."""
        return self._read or tuple(_read_all(self))

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.entries)

    @property
    def last_seq(self) -> int:
        """The number of the last entry."""
        return self.first_seq + len(self.entries) - 1

    @property
    def head(self) -> Head:
        """The ledger's head as it was after the last of these entries."""
        before = self.previous
        for data in self.entries:
            before = follow(before, data)
        return Head(self.last_seq, before)


def opened(batch: Batch) -> Iterator[tuple[int, bytes, Read]]:
    """Each entry's number, its bytes, and what they say, or why they say nothing."""
    return zip(range(batch.first_seq, batch.last_seq + 1), batch.entries, batch.read, strict=True)


def totals(batch: Batch) -> Totals:
    """The sums over the batch's entries."""
    return _totals(batch.read)


def pack(batch: Batch) -> bytes:
    """The payload. Raises ``BatchTooLarge`` when it would not fit, ``MalformedBatch`` when the city would refuse it."""
    _check_frame(batch)
    if batch.count > MAX_ENTRIES:
        raise BatchTooLarge(f"{batch.count} entries are more than the {MAX_ENTRIES} that a batch may have; send fewer at once.")
    sums = tuple((row.kind, row.count, row.nominal, row.points, row.cash) for row in totals(batch).rows)
    head = batch.head
    parts = (
        VERSION,
        batch.device,
        batch.epoch,
        batch.first_seq,
        batch.count,
        batch.previous,
        head.hash,
        batch.created_ms,
        sums,
        batch.entries,
    )
    data = strict.write(parts)
    payload = compress.compress(data, LEVEL)
    if len(data) > MAX_BYTES or len(payload) > MAX_PAYLOAD:
        raise BatchTooLarge(f"{batch.count} entries of {len(data)} bytes do not fit into a sealed batch; send fewer at once.")
    return payload


def unpack(payload: bytes) -> Batch:
    """The batch in ``payload``; its seal must have been checked. Raises ``MalformedBatch``; never anything else."""
    if len(payload) > MAX_PAYLOAD:
        raise MalformedBatch(f"The batch has {len(payload)} bytes; no more than {MAX_PAYLOAD} are allowed.")
    try:
        parts = strict.read(compress.decompress(payload, MAX_BYTES), MAX_BYTES, _DEPTH, VERSION, _SHAPE)
        sums = tuple(Total(*row) for row in strict.rows(parts[8], _ROW))
    except (compress.NotCompressed, strict.NotStrict) as error:
        raise MalformedBatch(f"The batch {error}.") from error
    _, device, epoch, first, count, previous, last_hash, created_ms, _, entries = parts
    if set(map(type, entries)) - {bytes}:
        raise MalformedBatch("The batch has an entry that is not a byte string.")
    batch = Batch(device, epoch, first, previous, entries, created_ms)
    _check_frame(batch)
    if count != batch.count:
        raise MalformedBatch(f"The batch says that it has {count} entries, and has {batch.count}.")
    if last_hash != batch.head.hash:
        raise MalformedBatch("The chain over the batch's entries does not end with the hash that the batch names.")
    object.__setattr__(batch, "_read", tuple(_read_all(batch)))
    if sums != totals(batch).rows:
        raise MalformedBatch("The batch's totals are not those of its entries.")
    return batch


def _check_frame(batch: Batch) -> None:
    """What must be true of a batch before its entries are looked at."""
    if not batch.entries:
        raise MalformedBatch("The batch has no entry.")
    if not (batch.first_seq >= 1 and batch.last_seq <= strict.MAX):
        raise MalformedBatch(f"The batch begins with entry {batch.first_seq}; the entries of a ledger are numbered from 1 to 2⁶³ − 1.")
    if len(batch.previous) != HASH_BYTES:
        raise MalformedBatch(f"The hash before the batch's first entry has {len(batch.previous)} bytes, not {HASH_BYTES}.")
    if not (0 <= batch.device <= strict.MAX and 0 <= batch.epoch <= strict.MAX and 0 <= batch.created_ms <= strict.MAX):
        raise MalformedBatch("The batch's device, epoch or time of creation is out of range.")
    if batch.first_seq == 1 and batch.previous != genesis(batch.device, batch.epoch):
        raise MalformedBatch("The batch begins a ledger, but not with the hash that its device and epoch begin with.")


def _read_all(batch: Batch) -> Iterator[Read]:
    device, epoch = batch.device, batch.epoch
    for seq, data in enumerate(batch.entries, batch.first_seq):
        try:
            entry = decode(data, device=device, epoch=epoch)
        except MalformedEntry as error:
            yield error
            continue
        yield entry if entry.seq == seq else MalformedEntry("seq", f"is {entry.seq} where entry {seq} belongs")


def _totals(found: Iterable[Read]) -> Totals:
    fares: defaultdict[int, list[Fare]] = defaultdict(list)
    for entry in found:
        if isinstance(entry, Entry):
            fares[entry.kind].append(entry.fare)
        else:
            fares[UNREADABLE].append(_NO_FARE)
    return Totals(tuple(_total(int(kind), fares[kind]) for kind in sorted(fares)))


def _total(kind: int, fares: list[Fare]) -> Total:
    sums = (sum(fare.nominal for fare in fares), sum(fare.points for fare in fares), sum(fare.cash for fare in fares))
    return Total(kind, len(fares), *(min(each, strict.MAX) for each in sums))
