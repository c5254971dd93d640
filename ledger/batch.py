"""What a terminal sends the city: a run of entries, whole and in order, exactly as they stand in its ledger.

The payload of a sealed message (``ledger.seal``) is a zstd frame of one CBOR array, by position::

     0  version  1  device  2  epoch  3  first seq  4  count
     5  hash before the first entry  6  hash of the last entry
     7  created, Unix ms
     8  totals: an array of [kind, count, nominal, points, cash], by kind, each kind once
     9  lengths  10  groups: the entries, folded by ``ledger.columns``

Entries go as columns, and come out as the bytes that went in: those are what the chain hashed and what will be evidence. That they are the
same is not a matter of trust in the folding; the last hash stands beside them.

The signature is over the compressed payload: nothing is decompressed for a stranger, and what was signed is kept as it came.

Count, totals and chain are each derived from the entries, and sent nevertheless. The count and the totals are what an operator checks a
shift's paper against; and a sender whose idea of its own entries differs from the city's is to be stopped at the first batch. An entry that
cannot be decoded is not that: it goes into the totals as kind 0 with its count only, and the city sets it aside. The same goes for an entry
that stands at another place than its own number. Sums stop at 2⁶³ − 1, so that no entry can make a batch that has no bytes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ledger import codec, columns, compress, strict
from ledger.chain import HASH_BYTES, Head, follow, genesis
from ledger.entry import Entry, Fare
from ledger.errors import BatchTooLarge, MalformedBatch, MalformedEntry
from ledger.seal import OVERHEAD

VERSION = 1
MAX_SEALED = 64 * 1024
MAX_PAYLOAD = MAX_SEALED - OVERHEAD
MAX_BYTES = 1024 * 1024
MAX_ENTRIES = 1000
LEVEL = 6
UNREADABLE = 0  # the kind, in totals, of entries that cannot be decoded

_SHAPE = (int, int, int, int, int, bytes, bytes, int, tuple, bytes, tuple)
_ROW = (int, int, int, int, int)
_DEPTH = 4
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
    found = [_take_apart(data, batch.device, batch.epoch) for data in batch.entries]
    sums = _sums(_filed([entry for _, entry in found], batch.first_seq))
    frame = (VERSION, batch.device, batch.epoch, batch.first_seq, batch.count, batch.previous, batch.head.hash, batch.created_ms)
    data = strict.write((*frame, sums, *columns.fold([row for row, _ in found])))
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
        sums, lengths = strict.rows(parts[8], _ROW), parts[9]
        if len(lengths) != parts[4] or len(lengths) > MAX_ENTRIES:
            raise MalformedBatch(f"The batch says {parts[4]} entries and has {len(lengths)}; no batch has more than {MAX_ENTRIES}.")
        rows = columns.unfold(lengths, parts[10])
    except (compress.NotCompressed, strict.NotStrict, columns.NotFolded) as error:
        raise MalformedBatch(f"The batch {error}.") from error
    _, device, epoch, first, _, previous, last_hash, created_ms, *_ = parts
    found = [_put_together(row, device, epoch) for row in rows]
    batch = Batch(device, epoch, first, previous, tuple(data for data, _ in found), created_ms)
    _check_frame(batch)
    if last_hash != batch.head.hash:
        raise MalformedBatch("The chain over the batch's entries does not end with the hash that the batch names.")
    object.__setattr__(batch, "_read", tuple(_filed([entry for _, entry in found], first)))
    if sums != _sums(batch.read):
        raise MalformedBatch("The batch's totals are not those of its entries.")
    return batch


def _take_apart(data: bytes, device: int, epoch: int) -> tuple[columns.Row, Read]:
    """What is folded of an entry, and what it says."""
    try:
        parts = codec.take_apart(data)
        return parts, codec.put_together(parts, device=device, epoch=epoch)
    except MalformedEntry as error:
        return data, error


def _put_together(row: columns.Row, device: int, epoch: int) -> tuple[bytes, Read]:
    """An unfolded entry's bytes, and what they say."""
    if isinstance(row, bytes):
        return row, _undecodable(row, device, epoch)
    try:
        entry = codec.put_together(row, device=device, epoch=epoch)
    except MalformedEntry as error:
        raise MalformedBatch("The batch has an entry among those that can be decoded that cannot.") from error
    data = codec.bytes_of(row)
    if len(data) > codec.MAX_BYTES:
        raise MalformedBatch("The batch has an entry among those that can be decoded that is too long for one.")
    return data, entry


def _undecodable(data: bytes, device: int, epoch: int) -> MalformedEntry:
    try:
        codec.decode(data, device=device, epoch=epoch)
    except MalformedEntry as error:
        return error
    raise MalformedBatch("The batch has an entry among those that cannot be decoded that can.")


def _filed(found: list[Read], first: int) -> list[Read]:
    """What was ``found``, but nothing from an entry that says that it is another than the one whose place it has."""
    for at, entry in enumerate(found):
        if isinstance(entry, Entry) and entry.seq != first + at:
            found[at] = MalformedEntry("seq", f"is {entry.seq} where entry {first + at} belongs")
    return found


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


def _read_all(batch: Batch) -> list[Read]:
    return _filed([_take_apart(data, batch.device, batch.epoch)[1] for data in batch.entries], batch.first_seq)


def _sums(found: Iterable[Read]) -> tuple[tuple[int, ...], ...]:
    return tuple((row.kind, row.count, row.nominal, row.points, row.cash) for row in _totals(found).rows)


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
