"""Rows as PostgreSQL's binary COPY takes them (pure).

Format: PostgreSQL's documentation of COPY, "Binary Format": a signature, flags and an extension length; for each row the number of fields
(16 bits), for each field its length (32 bits, -1 for NULL) and its bytes, numbers in big-endian two's complement; at the end -1 (16 bits).

A library does it value by value. This does the numbers of a row at once, and remembers the bytes of what often comes together, because it
comes again and again on a bus line. Rows are half of what a batch costs this side.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from struct import Struct
from typing import Any

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"

_FORMATS = {8: "q", 4: "i", 2: "h"}
_NULL = b"\xff\xff\xff\xff"
_MANY = 32_768

Row = tuple[Any, ...]
_Shape = tuple[Struct, "itemgetter[Any]"]


class Copying:
    """Packs rows of one table, which has ``fields`` columns: numbers first, then strings and texts, then groups of them.

    ``widths``: the numbers' bytes; ``nullable``: which of them may be None, as any string and text may. ``groups``: where groups begin that
    often come again as they are; what is another in every row does not belong into one.
    """

    def __init__(self, widths: Sequence[int], nullable: Sequence[int], groups: Sequence[int], fields: int) -> None:
        self._widths = tuple(widths)
        self._nullable = tuple(nullable)
        self._may_be_absent: Callable[[Row], Row] = itemgetter(*nullable, *nullable) if nullable else _nothing
        self._strings = slice(len(widths), groups[0])
        self._groups = [slice(begin, end) for begin, end in pairwise((*groups, fields))]
        self._constants = (fields, -1, *_FORMATS)
        self._shapes: dict[Row, _Shape] = {}

    def pack(self, rows: Iterable[Row]) -> bytes:
        """The whole of a COPY's data."""
        parts = [SIGNATURE]
        many, strings, groups, constants = len(self._widths), self._strings, self._groups, self._constants
        whole = self._shape((0,) * many)
        may_be_absent = self._may_be_absent
        for row in rows:
            numbers = row[:many]
            struct, pick = self._shape(numbers) if None in may_be_absent(numbers) else whole
            parts.append(struct.pack(*pick(numbers + constants)))
            parts.extend([_string(value) for value in row[strings]])
            parts.extend([_together(row[group]) for group in groups])
        parts.append(END)
        return b"".join(parts)

    def _shape(self, numbers: Row) -> _Shape:
        """How numbers are packed of which the same are absent."""
        absent = tuple(at for at in self._nullable if numbers[at] is None)
        found = self._shapes.get(absent)
        return found or self._shapes.setdefault(absent, self._made(absent))

    def _made(self, absent: Row) -> _Shape:
        many = len(self._widths)
        fields, null, *widths = range(many, many + len(self._constants))
        length = dict(zip(_FORMATS, widths, strict=True))
        formats, picks = ["h"], [fields]
        for at, width in enumerate(self._widths):
            formats.append("i" if at in absent else "i" + _FORMATS[width])
            picks.extend([null] if at in absent else [length[width], at])
        return Struct(">" + "".join(formats)), itemgetter(*picks)


def _nothing(_: Row) -> Row:
    return ()


def _string(value: bytes | str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(4, "big") + data


@lru_cache(maxsize=_MANY)
def _together(values: tuple[bytes | str | None, ...]) -> bytes:
    return b"".join(map(_string, values))
