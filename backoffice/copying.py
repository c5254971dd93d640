"""Rows as PostgreSQL's binary COPY takes them (pure).

Format: PostgreSQL's documentation of COPY, "Binary Format": a signature, flags and an extension length; for each row the number of fields
(16 bits), for each field its length (32 bits, -1 for NULL) and its bytes, numbers in big-endian two's complement; at the end -1 (16 bits).

A library does it value by value. This does it column by column, because rows of one batch are much alike: where the same numbers are there,
every number has its place, so a row's numbers are laid out once, copied as often as there are rows, and filled byte by byte, each time in
all rows at once. And it remembers the bytes of texts that come together, because they come again and again on a bus line.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from operator import itemgetter
from struct import pack
from typing import Any

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"

_FORMATS = {8: "q", 4: "i", 2: "h"}
_NULL = b"\xff\xff\xff\xff"
_MANY = 32_768

Row = tuple[Any, ...]


class Copying:
    """Packs rows of one table, which has ``fields`` columns: numbers first, then strings and texts, then groups of them.

    ``widths``: the numbers' bytes; ``nullable``: which of them may be None, as any string and text may. ``groups``: where groups begin that
    often come again as they are; what is another in every row does not belong into one.
    """

    def __init__(self, widths: Sequence[int], nullable: Sequence[int], groups: Sequence[int], fields: int) -> None:
        self._widths = tuple(widths)
        self._may_be_absent: Callable[[Row], Row] = itemgetter(*nullable, *nullable) if nullable else _nothing
        self._strings = slice(len(widths), groups[0])
        self._groups = [slice(begin, end) for begin, end in pairwise((*groups, fields))]
        self._count = fields.to_bytes(2, "big")

    def pack(self, rows: Iterable[Row]) -> bytes:
        """The whole of a COPY's data. Rows with the same numbers come together, else in their order."""
        return b"".join((SIGNATURE, *chain.from_iterable(map(self._packed, self._alike(rows))), END))

    def _alike(self, rows: Iterable[Row]) -> Iterable[list[Row]]:
        """The rows, those together of whose numbers the same are absent."""
        found: dict[Row, list[Row]] = {}
        for row in rows:
            may_be_absent = self._may_be_absent(row)
            shape = tuple([value is None for value in may_be_absent]) if None in may_be_absent else ()
            found.setdefault(shape, []).append(row)
        return found.values()

    def _packed(self, rows: Sequence[Row]) -> Iterator[bytes]:
        columns = list(zip(*rows, strict=True))
        parts = [self._numbers(columns, len(rows)), *map(_strings, columns[self._strings])]
        parts += [map(_together, zip(*columns[group], strict=True)) for group in self._groups]
        return chain.from_iterable(zip(*parts, strict=True))

    def _numbers(self, columns: Sequence[Row], rows: int) -> Iterable[bytes]:
        """Of each row the beginning, which is of one length."""
        layout = bytearray(self._count)
        filled: list[tuple[int, int, bytes]] = []
        for width, column in zip(self._widths, columns, strict=False):
            if column[0] is None:
                layout += _NULL
                continue
            layout += width.to_bytes(4, "big")
            if column.count(column[0]) == rows:
                layout += int(column[0]).to_bytes(width, "big", signed=True)
            else:
                filled.append((len(layout), width, pack(f">{rows}{_FORMATS[width]}", *column)))
                layout += bytes(width)
        length = len(layout)
        table = layout * rows
        for at, width, data in filled:
            for byte in range(width):
                table[at + byte :: length] = data[byte::width]
        whole = bytes(table)
        return [whole[at : at + length] for at in range(0, len(whole), length)]


def _nothing(_: Row) -> Row:
    return ()


def _strings(column: Row) -> Iterable[bytes]:
    if set(map(type, column)) == {bytes} and len(set(map(len, column))) == 1:
        length = len(column[0]).to_bytes(4, "big")
        return [length + value for value in column]
    return map(_string, column)


def _string(value: bytes | str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(4, "big") + data


@lru_cache(maxsize=_MANY)
def _together(values: tuple[bytes | str | None, ...]) -> bytes:
    return b"".join(map(_string, values))
