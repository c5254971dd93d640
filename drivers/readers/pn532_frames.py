"""The PN532's serial frames, without any line: bytes in, events out, in whatever slices they come.

A frame starts wherever ``00 FF`` stands (NXP UM0701-02 §6.2.1). What precedes it may be any number of zeros, so a postamble needs no rule
of its own: the zero after one frame is a preamble of the next, and nobody ever waits for it.

Two decisions are about trust. A frame whose *length* does not fit its check byte is noise: reading goes on two bytes later. A frame whose
*data* do not fit theirs is dropped whole, never searched for another frame inside: those bytes may be a card's, and a card could have laid
a perfect answer into its memory for us to find there. And the buffer is bounded: a length longer than the chip can send is noise, too.
"""

from dataclasses import dataclass

LONGEST = 265  # TFI, code and 263 bytes of data: nothing the chip sends is longer (UM0701-02 §6.2.1.2)

ACK = bytes.fromhex("0000ff00ff00")
NACK = bytes.fromhex("0000ffff0000")
WAKE_UP = bytes.fromhex("5555") + bytes(14)  # rising edges wake the chip; the zeros give its oscillator time to start

_START = b"\x00\xff"
_TO_CHIP = 0xD4
_TO_HOST = 0xD5
_ERROR = 0x7F


@dataclass(frozen=True, slots=True)
class Ack:
    """The chip took the command."""


@dataclass(frozen=True, slots=True)
class Nack:
    """The chip did not understand the frame."""


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    """The chip knows no such command, or not with such data."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: ``code`` is the command's code plus one."""

    code: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Garbage:
    """``size`` bytes that are no part of any frame."""

    size: int


Event = Ack | Nack | ErrorFrame | Reply | Garbage


def command(code: int, data: bytes = b"") -> bytes:
    """A frame to the chip: a normal one, or an extended one when code and data are longer than 254 bytes."""
    size = len(data) + 2
    if size > LONGEST:
        raise ValueError(f"a command carries at most {LONGEST - 2} bytes, not {len(data)}")
    check = -(_TO_CHIP + code + sum(data)) & 0xFF
    if size <= 0xFF:
        return bytes((0, 0, 0xFF, size, -size & 0xFF, _TO_CHIP, code)) + data + bytes((check, 0))
    high, low = size >> 8, size & 0xFF
    return bytes((0, 0, 0xFF, 0xFF, 0xFF, high, low, -(high + low) & 0xFF, _TO_CHIP, code)) + data + bytes((check, 0))


class Parser:
    """Finds the chip's frames in a stream of bytes. It holds at most one frame and a few bytes."""

    def __init__(self) -> None:
        self._held = bytearray()

    def reset(self) -> None:
        """Forget a frame that has begun."""
        self._held.clear()

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, in any slices; return what they completed, in order."""
        self._held += data
        events: list[Event] = []
        while (taken := self._next()) is not None:
            size, event = taken
            del self._held[:size]
            if event is not None:
                events.append(event)
        return events

    def _next(self) -> tuple[int, Event | None] | None:
        """How many held bytes are settled and what they were (None: a preamble); None when more must come."""
        held = self._held
        start = held.find(_START)
        if start < 0:
            return _noise(held, len(held) - held.endswith(b"\x00"))
        if start > 0:
            return _noise(held, start)
        if len(held) < 4:
            return None
        size, check = held[2], held[3]
        if size == 0x00 and check == 0xFF:
            return 4, Ack()
        if size == 0xFF and check == 0x00:
            return 4, Nack()
        body = 4
        if size == 0xFF and check == 0xFF:  # an extended frame: a longer length follows
            if len(held) < 7:
                return None
            size, check, body = held[4] << 8 | held[5], held[4] + held[5] + held[6], 7
        else:
            check += size
        if check & 0xFF or not 0 < size <= LONGEST:
            return 2, Garbage(2)
        end = body + size + 1
        if len(held) < end:
            return None
        return end, _event(bytes(held[body:end]))


def _noise(held: bytearray, size: int) -> tuple[int, Event | None] | None:
    """The bytes before a frame; zeros are a preamble and no noise."""
    if size == 0:
        return None
    bad = size - held.count(0, 0, size)
    return size, Garbage(bad) if bad else None


def _event(body: bytes) -> Event:
    """A frame's TFI, code, data and data check byte, as what they mean."""
    if sum(body) & 0xFF:
        return Garbage(len(body))
    if body[0] == _TO_HOST and len(body) > 2:
        return Reply(body[1], body[2:-1])
    if body[0] == _ERROR and len(body) == 2:
        return ErrorFrame()
    return Garbage(len(body))
