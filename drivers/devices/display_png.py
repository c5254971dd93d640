"""A small picture file: PNG with a palette (W3C PNG, third edition, sections 5, 7, 9, 11).

Our screens have few colours, so a page of pictures in the documentation stays small: at most 256 colours, rare ones taken as their nearest
common one.
"""

import struct
import zlib
from collections import Counter

_MOST = 256


def encode(width: int, height: int, rgb: bytes) -> bytes:
    """A PNG of ``width`` by ``height`` pixels, given as rows of red, green, blue."""
    colours = [rgb[start : start + 3] for start in range(0, len(rgb), 3)]
    palette = [colour for colour, _ in Counter(colours).most_common(_MOST)]
    index = {colour: number for number, colour in enumerate(palette)}
    for colour in set(colours) - set(index):
        index[colour] = min(range(len(palette)), key=lambda number: _distance(palette[number], colour))
    numbers = bytes(index[colour] for colour in colours)
    rows = b"".join(b"\0" + numbers[start : start + width] for start in range(0, width * height, width))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
