"""What a PN532 hears on its serial line: frames in a stream of bytes, each with the moment it was complete.

Frames are found wherever ``00 FF`` stands; a frame whose check bytes do not fit is dropped without a word, as the chip does. A frame counts
as complete one byte after its last check byte: the postamble is part of what the host spends (NXP UM0701-02 §6.2.1).
"""

from dataclasses import dataclass
from enum import Enum

_LONGEST = 265
_HOST = 0xD4


class Signal(Enum):
    """Frames without data."""

    ACK = "ack"
    NACK = "nack"


@dataclass(frozen=True, slots=True)
class Command:
    """A command frame: code and data."""

    code: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame, the moment of its last byte (absolute ns), and the line's bytes since the frame before it."""

    at_ns: int
    frame: Command | Signal
    line_bytes: int


class Input:
    """Finds frames. ``feed`` takes bytes in any slices."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._ends: list[int] = []  # for each held byte the moment it was through
        self._since = 0
        self._owed = False  # a postamble that belongs to the frame before

    def clear(self) -> None:
        """Forget what has begun."""
        self._held.clear()
        self._ends.clear()
        self._since = 0
        self._owed = False

    def feed(self, data: bytes, start_ns: int, byte_ns: float) -> list[Arrived]:
        """Take bytes of which the first begins at ``start_ns``, each ``byte_ns`` long; the frames they complete."""
        self._held += data
        self._ends += [start_ns + round(byte_ns * (at + 1)) for at in range(len(data))]
        arrived: list[Arrived] = []
        while (taken := self._next()) is not None:
            size, frame = taken
            if frame is not None:
                end_ns = self._ends[size - 1] + round(byte_ns)
                arrived.append(Arrived(end_ns, frame, self._count(size) + 1))
                self._owed = True
            else:
                self._since = self._count(size)
            del self._held[:size]
            del self._ends[:size]
        return arrived

    def _count(self, size: int) -> int:
        """Line bytes up to the end of the next ``size`` ones, without a postamble that was counted before."""
        total = self._since + size - (1 if self._owed and size else 0)
        self._since = 0
        self._owed = self._owed and not size
        return total

    def _next(self) -> tuple[int, Command | Signal | None] | None:
        """How many bytes are settled and what they were; None when more must come."""
        held = self._held
        start = held.find(b"\x00\xff")
        if start < 0:
            size = len(held) - held.endswith(b"\x00")
            return (size, None) if size else None
        body = start + 4
        if len(held) < body:
            return None
        length, check = held[start + 2], held[start + 3]
        if (length, check) == (0x00, 0xFF):
            return body, Signal.ACK
        if (length, check) == (0xFF, 0x00):
            return body, Signal.NACK
        if (length, check) == (0xFF, 0xFF):
            body += 3
            if len(held) < body:
                return None
            length, check = held[start + 4] << 8 | held[start + 5], held[start + 4] + held[start + 5] + held[start + 6]
        else:
            check += length
        if check & 0xFF or not 2 <= length <= _LONGEST:
            return start + 2, None
        end = body + length + 1
        if len(held) < end:
            return None
        content = bytes(held[body:end])
        good = not sum(content) & 0xFF and content[0] == _HOST
        return end, Command(content[1], content[2:-1]) if good else None
