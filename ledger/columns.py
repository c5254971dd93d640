"""Entries of a batch on end: field by field instead of entry by entry, so that a ride costs 40 bytes on the air and not 53.

What no compressor can guess of a ride is a third of it: the rider's hash, the grant's fingerprint, the purse's numbers, the clock. The rest
follows from the ride before, but zstd sees that only where like stands next to like, and never that a number grew. So::

    groups      one for each number of fields that occurs, ascending: an array of as many columns
    a column    field i of each entry of the group, in the ledger's order: an array
                … of byte strings that all have 8 bytes: one byte string, joined; of the purse's log (which terminal, when), all
                  first bytes, all second bytes, …, because they agree in most places and not in the rest
                … seq, mono_ms: the first as it is, then each less the one before
                … utc_ms: less mono_ms first, then as above
    lengths     a byte string, for each entry the number of its fields

Nothing is lost: an entry's bytes are its fields' one encoding (``ledger.codec``), so the same bytes come back, which the chain's hash
proves. An entry that cannot be decoded has the length 0 and stands in the group 0 as it is, in that group's only column.

All of this is done by whole columns, at the speed of C. Each step has one way back, and a column of 8-byte strings that is not joined is
refused, so entries have one folded form only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import add, sub
from struct import iter_unpack
from typing import Any, TypeVar

from ledger.codec import SHAPES, Columns, Parts
from ledger.entry import VERSION

T = TypeVar("T")
Row = Parts | bytes
Groups = tuple[tuple[Any, ...], ...]

_SEQ, _MONO_MS, _UTC_MS = 1, 9, 10
_LOGS = {19, 23}  # regc as read, regc as written
_WIDTH = 8


class NotFolded(Exception):
    """No entries were folded into this; the message is the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Table:
    """Entries on end, field by field.

    ``lengths``: of each entry, in the ledger's order, the number of its fields; 0 for one that cannot be decoded. ``columns``: for each
    number that occurs, ascending, the fields of those entries by position; for 0 the entries themselves are the one column.
    """

    lengths: bytes
    columns: dict[int, Columns]

    @property
    def rows(self) -> list[Row]:
        """The entries: their fields, or their bytes where they cannot be decoded."""
        return self.in_order({length: zip(*columns, strict=True) if length else columns[0] for length, columns in self.columns.items()})

    def in_order(self, found: Mapping[int, Iterable[T]]) -> list[T]:
        """What was ``found`` of the entries, by their number of fields, as one list in the ledger's order."""
        each = {length: iter(values) for length, values in found.items()}
        if len(each) == 1:
            return list(*each.values())
        return [next(each[length]) for length in self.lengths]


def table(rows: Sequence[Row]) -> Table:
    """The table of entries: their fields, or their bytes where they cannot be decoded."""
    lengths = bytes(0 if isinstance(row, bytes) else len(row) for row in rows)
    groups: dict[int, list[Row]] = {length: [] for length in sorted(set(lengths))}
    for length, row in zip(lengths, rows, strict=True):
        groups[length].append(row)
    return Table(lengths, {length: tuple(zip(*group, strict=True)) if length else (tuple(group),) for length, group in groups.items()})


def fold(entries: Table) -> tuple[bytes, Groups]:
    """``lengths`` and ``groups`` of entries."""
    return entries.lengths, tuple(_columns(length, columns) for length, columns in entries.columns.items())


def unfold(lengths: bytes, groups: Parts) -> Table:
    """The table that ``fold`` folded. Raises ``NotFolded``; the fields have the types of ``ledger.codec.SHAPES``, their values are free."""
    present = sorted(set(lengths))
    if len(groups) != len(present):
        raise NotFolded("does not have one group for each number of fields")
    return Table(lengths, {length: _unfolded(length, lengths.count(length), group) for length, group in zip(present, groups, strict=True)})


def _columns(length: int, entries: Columns) -> tuple[Any, ...]:
    if length == 0:
        return tuple(entries)
    columns: list[Any] = list(entries)
    columns[_UTC_MS] = _steps(tuple(map(sub, columns[_UTC_MS], columns[_MONO_MS])))
    columns[_MONO_MS] = _steps(columns[_MONO_MS])
    columns[_SEQ] = _steps(columns[_SEQ])
    for position, kind in enumerate(SHAPES[length]):
        if kind is bytes and set(map(len, columns[position])) == {_WIDTH}:
            joined = b"".join(columns[position])
            columns[position] = _turned(joined, _WIDTH) if position in _LOGS else joined
    return tuple(columns)


def _turned(joined: bytes, width: int) -> bytes:
    """A table of ``width`` columns, read down instead of across. Turned by its height it is as it was."""
    return b"".join(joined[at::width] for at in range(width))


def _steps(column: tuple[int, ...]) -> tuple[int, ...]:
    return (column[0], *map(sub, column[1:], column))


def _unfolded(length: int, count: int, columns: Any) -> Columns:
    shape = SHAPES.get(length, ()) if length else (bytes,)
    if not shape or not _is_array(columns) or len(columns) != len(shape):
        raise NotFolded(f"has entries of {length} fields, or not one column for each of them")
    if length == 0:
        return (_typed(columns[0], bytes, count),)
    values = [_values(columns[position], kind, count, turned=position in _LOGS) for position, kind in enumerate(shape)]
    if set(values[0]) != {VERSION}:
        raise NotFolded("has an entry of another version among those that can be decoded")
    values[_SEQ] = _sums(values[_SEQ])
    values[_MONO_MS] = _sums(values[_MONO_MS])
    values[_UTC_MS] = tuple(map(add, _sums(values[_UTC_MS]), values[_MONO_MS]))
    return values


def _values(column: Any, kind: type, count: int, *, turned: bool) -> Parts:
    """The column's ``count`` values of the type ``kind``."""
    if kind is bytes and isinstance(column, bytes) and len(column) == count * _WIDTH:
        joined = _turned(column, count) if turned else column
        return tuple(chain.from_iterable(iter_unpack(f"{_WIDTH}s", joined)))
    values = _typed(column, kind, count)
    if kind is bytes and set(map(len, values)) == {_WIDTH}:
        raise NotFolded("has columns that are not in their one form: strings of 8 bytes are joined")
    return values


def _typed(column: Any, kind: type, count: int) -> Parts:
    if not _is_array(column) or len(column) != count or set(map(type, column)) != {kind}:
        raise NotFolded(f"has a column that does not hold {count} values of one type")
    values: Parts = column
    return values


def _is_array(value: Any) -> bool:
    return type(value) is tuple


def _sums(steps: Parts) -> Parts:
    return tuple(accumulate(steps))
