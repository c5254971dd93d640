"""Rows as PostgreSQL's binary COPY takes them (pure).

Format: PostgreSQL's documentation of COPY, "Binary Format": a signature, flags and an extension length; for each row the number of fields
(16 bits), for each field its length (32 bits, -1 for NULL) and its bytes, numbers in big-endian two's complement; at the end -1 (16 bits).

A library does it value by value. This does the numbers of a row at once, and remembers the bytes of texts, which come again and again on a
bus line. Rows are half of what a batch costs this side.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from struct import Struct
from typing import Any

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"

_FORMATS = {8: "q", 4: "i", 2: "h"}
_NULL = b"\xff\xff\xff\xff"
_MANY = 65536


class Copying:
    """Packs rows of one table: first numbers of ``widths`` bytes, then ``strings`` byte strings, then texts. Any field may be None."""

    def __init__(self, widths: Sequence[int], strings: int, fields: int) -> None:
        self._widths = tuple(widths)
        self._many = len(widths)
        self._texts = self._many + strings
        self._constants = (fields, -1, *_FORMATS)
        self._shapes: dict[tuple[int, ...], tuple[Struct, itemgetter[Any]]] = {}

    def pack(self, rows: Iterable[Sequence[Any]]) -> bytes:
        """The whole of a COPY's data."""
        parts = [SIGNATURE]
        many, texts, constants = self._many, self._texts, self._constants
        for row in rows:
            numbers = tuple(row[:many])
            struct, pick = self._shape(numbers)
            parts.append(struct.pack(*pick((*numbers, *constants))))
            parts.extend(map(_string, row[many:texts]))
            parts.extend(map(_text, row[texts:]))
        parts.append(END)
        return b"".join(parts)

    def _shape(self, numbers: tuple[int | None, ...]) -> tuple[Struct, "itemgetter[Any]"]:
        """How numbers are packed of which the same are absent."""
        absent = tuple(at for at, number in enumerate(numbers) if number is None) if None in numbers else ()
        found = self._shapes.get(absent)
        return found or self._shapes.setdefault(absent, self._made(absent))

    def _made(self, absent: tuple[int, ...]) -> tuple[Struct, "itemgetter[Any]"]:
        fields, null, *widths = range(self._many, self._many + len(self._constants))
        length = dict(zip(_FORMATS, widths, strict=True))
        formats, picks = ["h"], [fields]
        for at, width in enumerate(self._widths):
            formats.append("i" if at in absent else "i" + _FORMATS[width])
            picks.extend([null] if at in absent else [length[width], at])
        return Struct(">" + "".join(formats)), itemgetter(*picks)


def _string(value: bytes | None) -> bytes:
    return _NULL if value is None else len(value).to_bytes(4, "big") + value


@lru_cache(maxsize=_MANY)
def _text(value: str | None) -> bytes:
    return _string(None if value is None else value.encode())
