"""Records a channel as lines of JSON and plays it back.

A trace is made to be sent to somebody, so it may hold nothing that says whose card it was or that would open one. What is known to be
harmless is kept; everything else becomes zeros of the same length:

* the IDm is replaced by one fixed pseudonym wherever its eight bytes stand, also in their reverse order;
* of a FeliCa Lite-S, challenge and key (blocks 80, 87), every MAC (81, 91) and the grants' signatures (S_PAD1–4, 6–9) are blanked: an IDm
  has few free bits, and whoever holds a key could find it again by trying all of them against a MAC or a signature;
* of any other service nothing but the shape is kept (a transit card's history is where somebody was);
* of any other command nothing but its code and the pseudonym.

A masked trace still plays back to the driver that made it, because what the driver then sends is masked in the same way before it is
compared. It proves no key: a MAC read from a trace fits nothing.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from drivers.channel import Channel
from drivers.errors import CardLost, DriverError, MalformedReply, ReaderLost

PSEUDONYM = b"KAZASHI0"
VERSION = 1

_READ, _WRITE = 0x06, 0x08
_LITE_S_SERVICES = (bytes.fromhex("010900"), bytes.fromhex("010b00"))  # one service, and which
_BLANK_BLOCKS = frozenset({0x80, 0x87, *range(0x01, 0x05), *range(0x06, 0x0A)})
_MAC_BLOCKS = frozenset({0x81, 0x91})
_ERRORS: dict[str, type[DriverError]] = {kind.__name__: kind for kind in (CardLost, MalformedReply, ReaderLost)}


class RecordingChannel:
    """A channel that passes everything on and writes it down (``drivers.channel.Channel``)."""

    def __init__(self, channel: Channel, write: Callable[[str], object]) -> None:
        """``write`` takes one line with its line end."""
        self._channel = channel
        self._write = write
        self._mask = _Mask(channel.idm)
        self._note({"trace": VERSION, "pmm": channel.pmm.hex()})

    @property
    def idm(self) -> bytes:
        return self._channel.idm

    @property
    def pmm(self) -> bytes:
        return self._channel.pmm

    def exchange(self, command: bytes) -> bytes:
        asked = self._mask.command(command).hex()
        try:
            answer = self._channel.exchange(command)
        except (CardLost, MalformedReply, ReaderLost) as error:
            self._note({"to": asked, "error": type(error).__name__})
            raise
        self._note({"to": asked, "from": self._mask.answer(command, answer).hex()})
        return answer

    def _note(self, line: dict[str, object]) -> None:
        self._write(json.dumps(line) + "\n")


class ReplayedChannel:
    """A recorded channel (``drivers.channel.Channel``): the same commands get the same answers, or the same errors."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Raises ``ValueError`` with the line's number when a line is none of a trace."""
        steps = list(_steps(lines))
        if not steps or steps[0].get("trace") != str(VERSION) or "pmm" not in steps[0]:
            raise ValueError(f"line 1: a trace begins with its version, {VERSION}, and the card's PMm")
        self.idm = PSEUDONYM
        self.pmm = bytes.fromhex(steps[0]["pmm"])
        self._steps = iter(enumerate(steps[1:], 2))
        self._mask = _Mask(PSEUDONYM)

    def exchange(self, command: bytes) -> bytes:
        """Raises ``LookupError`` when the trace goes on in another way or not at all."""
        following = next(self._steps, None)
        if following is None:
            raise LookupError("the trace ends before this command")
        line, step = following
        if self._mask.command(command).hex() != step["to"]:
            raise LookupError(f"line {line}: the trace goes on with another command")
        if "error" in step:
            raise _ERRORS[step["error"]]("as recorded")
        return bytes.fromhex(step["from"])


def _steps(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    for number, line in enumerate(lines, 1):
        step = _step(line)
        if not step:
            raise ValueError(f"line {number}: not a line of a trace")
        if number > 1 and not ("to" in step and ("from" in step or step.get("error") in _ERRORS)):
            raise ValueError(f"line {number}: a command with its answer or its error is missing")
        yield step


def _step(line: str) -> dict[str, str]:
    """One line's fields; empty when it is no JSON object."""
    try:
        step = cast("object", json.loads(line))
    except ValueError:
        return {}
    fields = cast("dict[str, object]", step) if isinstance(step, dict) else {}
    return {key: str(value) for key, value in fields.items()}


class _Mask:
    """Knows one card's IDm, and what to hide."""

    def __init__(self, idm: bytes) -> None:
        self._idm = idm

    def command(self, frame: bytes) -> bytes:
        asked = _blocks(frame)
        kept = asked.data_at if asked else 10
        return self._pseudonym(frame[:kept] + _blanked(asked, frame[kept:]))

    def answer(self, command: bytes, frame: bytes) -> bytes:
        asked = _blocks(command)
        kept = 13 if asked else 10
        return self._pseudonym(frame[:kept] + _blanked(asked, frame[kept:]))

    def _pseudonym(self, frame: bytes) -> bytes:
        return frame.replace(self._idm, PSEUDONYM).replace(self._idm[::-1], PSEUDONYM[::-1])


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The Lite-S blocks that a command names, and where data begin in its frame."""

    numbers: tuple[int, ...]
    data_at: int


def _blocks(command: bytes) -> _Blocks | None:
    """The blocks of a Read or Write Without Encryption to a Lite-S (JIS X 6319-4); None for every other command, and for a broken one."""
    if len(command) < 14 or command[1] not in {_READ, _WRITE} or command[10:13] not in _LITE_S_SERVICES:
        return None
    data_at = 14 + 2 * command[13]
    elements = [command[at : at + 2] for at in range(14, data_at, 2)]
    if not all(len(element) == 2 and element[0] & 0x80 for element in elements):
        return None
    return _Blocks(tuple(element[1] for element in elements), data_at)


def _blanked(asked: _Blocks | None, data: bytes) -> bytes:
    """Block data with zeros for whatever may not be kept."""
    if asked is None:
        return bytes(len(data))
    pieces = [data[at : at + 16] for at in range(0, len(data), 16)]
    named = (*asked.numbers, *(None for _ in pieces))
    return b"".join(_blanked_block(number, piece) for number, piece in zip(named, pieces, strict=False))


def _blanked_block(number: int | None, piece: bytes) -> bytes:
    if number in _MAC_BLOCKS:
        return bytes(len(piece[:8])) + piece[8:]
    if number is None or number in _BLANK_BLOCKS:
        return bytes(len(piece))
    return piece
