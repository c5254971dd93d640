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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count

from ledger import codec, columns, compress, strict
from ledger.chain import HASH_BYTES, Head, follow, genesis
from ledger.entry import Entry
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
_NO_FARE = (0, 0, 0)

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
    _told: "Told | None" = field(default=None, init=False, repr=False, compare=False)  # worked out once

    @property
    def read(self) -> tuple[Read, ...]:
        """What each entry says, or why it says nothing."""
        return self.told.read

    @property
    def told(self) -> "Told":
        """The same by columns."""
        found = self._told
        if found is None:
            found = _tell(self)
            object.__setattr__(self, "_told", found)
        return found

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
    return Totals(tuple(Total(*sums) for sums in batch.told.sums))


def pack(batch: Batch) -> bytes:
    """The payload. Raises ``BatchTooLarge`` when it would not fit, ``MalformedBatch`` when the city would refuse it."""
    _check_frame(batch)
    if batch.count > MAX_ENTRIES:
        raise BatchTooLarge(f"{batch.count} entries are more than the {MAX_ENTRIES} that a batch may have; send fewer at once.")
    told = batch.told
    frame = (VERSION, batch.device, batch.epoch, batch.first_seq, batch.count, batch.previous, batch.head.hash, batch.created_ms)
    data = strict.write((*frame, told.sums, *columns.fold(told.table)))
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
        table = columns.unfold(lengths, parts[10])
    except (compress.NotCompressed, strict.NotStrict, columns.NotFolded) as error:
        raise MalformedBatch(f"The batch {error}.") from error
    _, device, epoch, first, _, previous, last_hash, created_ms, *_ = parts
    told = _believe(table, device, epoch, first)
    batch = Batch(device, epoch, first, previous, _bytes(table), created_ms)
    _check_frame(batch)
    if last_hash != batch.head.hash:
        raise MalformedBatch("The chain over the batch's entries does not end with the hash that the batch names.")
    if sums != told.sums:
        raise MalformedBatch("The batch's totals are not those of its entries.")
    object.__setattr__(batch, "_told", told)
    return batch


@dataclass(frozen=True)
class Told:
    """What a batch's entries say, column by column. Entries are put together when somebody asks.

    ``sheets``: those that can be decoded, by their number of fields. ``errors``: why the others say nothing.
    """

    device: int
    epoch: int
    first_seq: int
    table: columns.Table
    sheets: dict[int, codec.Sheet]
    errors: tuple[MalformedEntry, ...]

    @cached_property
    def read(self) -> tuple[Read, ...]:
        """The same entry by entry, but nothing from an entry that says that it is another than the one whose place it has."""
        found: dict[int, Iterable[Read]] = {length: sheet.entries(self.device, self.epoch) for length, sheet in self.sheets.items()}
        return tuple(map(_filed, self.table.in_order({0: self.errors, **found} if self.errors else found), count(self.first_seq)))

    @cached_property
    def wrong(self) -> dict[int, MalformedEntry]:
        """Why an entry says nothing, or says that it is another than the one whose place it has, by the place; of all others nothing."""
        found = dict(zip(self.places(0), self.errors, strict=True)) if self.errors else {}
        for length, sheet in self.sheets.items():
            places = zip(self.places(length), sheet.columns[1], strict=True)
            found |= {place: _misplaced(seq, place) for place, seq in places if seq != place}
        return found

    @cached_property
    def sums(self) -> tuple[tuple[int, ...], ...]:
        """Kind, count, nominal, points and cash of each kind that occurs, by kind."""
        fares: defaultdict[int, list[Sequence[int]]] = defaultdict(list)
        if self.errors:
            fares[UNREADABLE] = [_NO_FARE] * len(self.errors)
        for length, sheet in self.sheets.items():
            for place, (seq, kind, *fare) in zip(self.places(length), sheet.sums, strict=True):
                if seq == place:
                    fares[kind].append(fare)
                else:
                    fares[UNREADABLE].append(_NO_FARE)
        return tuple(
            (kind, len(fares[kind]), *(min(sum(each), strict.MAX) for each in zip(*fares[kind], strict=True))) for kind in sorted(fares)
        )

    def places(self, length: int) -> Sequence[int]:
        """The numbers that belong to the entries of ``length`` fields; 0: to those that cannot be decoded."""
        if len(self.table.columns) == 1:
            return range(self.first_seq, self.first_seq + len(self.table.lengths))
        return [place for place, each in enumerate(self.table.lengths, self.first_seq) if each == length]


def _tell(batch: Batch) -> Told:
    """What the entries of a batch say that did not come as columns."""
    try:
        return _told(batch, codec.take_all_apart(batch.entries))
    except MalformedEntry:
        return _told(batch, *_take_apart(batch))


def _told(batch: Batch, rows: Sequence[columns.Row], errors: tuple[MalformedEntry, ...] = ()) -> Told:
    table = columns.table(rows)
    sheets = {length: codec.sheet(codec.typed(group)) for length, group in table.columns.items() if length}
    return Told(batch.device, batch.epoch, batch.first_seq, table, sheets, errors)


def _take_apart(batch: Batch) -> tuple[list[columns.Row], tuple[MalformedEntry, ...]]:
    """Entry by entry, because not all of them can be decoded: the fields or the bytes of each, and what is wrong with the latter."""
    rows: list[columns.Row] = []
    errors: list[MalformedEntry] = []
    for data in batch.entries:
        try:
            parts = codec.take_apart(data)
            codec.put_together(parts, device=batch.device, epoch=batch.epoch)
            rows.append(parts)
        except MalformedEntry as error:
            rows.append(data)
            errors.append(error)
    return rows, tuple(errors)


def _believe(table: columns.Table, device: int, epoch: int, first: int) -> Told:
    """What unfolded entries say; each must be what the sender took it for."""
    try:
        sheets = {length: codec.sheet(group) for length, group in table.columns.items() if length}
    except MalformedEntry as error:
        raise MalformedBatch("The batch has an entry among those that can be decoded that cannot.") from error
    broken = table.columns[0][0] if 0 in table.columns else ()
    return Told(device, epoch, first, table, sheets, tuple(_undecodable(data, device, epoch) for data in broken))


def _bytes(table: columns.Table) -> tuple[bytes, ...]:
    """The bytes of unfolded entries."""
    found = {length: codec.all_bytes(group) if length else group[0] for length, group in table.columns.items()}
    if any(len(data) > codec.MAX_BYTES for length, entries in found.items() if length for data in entries):
        raise MalformedBatch("The batch has an entry among those that can be decoded that is too long for one.")
    return tuple(table.in_order(found))


def _undecodable(data: bytes, device: int, epoch: int) -> MalformedEntry:
    try:
        codec.decode(data, device=device, epoch=epoch)
    except MalformedEntry as error:
        return error
    raise MalformedBatch("The batch has an entry among those that cannot be decoded that can.")


def _filed(entry: Read, place: int) -> Read:
    return _misplaced(entry.seq, place) if isinstance(entry, Entry) and entry.seq != place else entry


def _misplaced(seq: int, place: int) -> MalformedEntry:
    return MalformedEntry("seq", f"is {seq} where entry {place} belongs")


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
