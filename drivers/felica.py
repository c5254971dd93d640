"""FeliCa frames: what is sent to a card and what it may answer (JIS X 6319-4). Pure.

A frame here is LEN and payload; LEN counts itself. Preamble, sync and CRC are made and checked by the reader's chip. Block and service
numbers are little endian, system codes big endian: that is the standard's mix, not ours.

A reply is believed only when all of it fits: LEN, response code, the IDm that was asked, the number of blocks. A card in a hand that moves
away sends half-truths; a hostile one sends lies. Either is ``MalformedReply`` and nothing worse.

Status flag 2 = 71 is a trap: it says "rewrite limit passed", a *warning*: the write **was done**. Some products send it with status flag 1
= FF, others with 00. It is therefore a value of a successful write (``Written.DONE_WORN``), never an error: whoever took it for an error
would charge a rider again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from drivers.errors import CardRefused, MalformedReply

LITE_S_SYSTEM = 0x88B4
ANY_SYSTEM = 0xFFFF
READ_ONLY_SERVICE = 0x000B
READ_WRITE_SERVICE = 0x0009
BLOCK_SIZE = 16

_IDM_SIZE = 8
_POLLING, _POLLED = 0x00, 0x01
_READ, _HAS_READ = 0x06, 0x07
_WRITE, _HAS_WRITTEN = 0x08, 0x09
_STATUS_REPLY_SIZE = 12
_WORN = 0x71

STATUS_MEANINGS = {
    0x01: "the purse would fall below zero or overflow",
    0x02: "the cashback is too large",
    0x03: "the value is outside its limits",
    0x70: "fatal memory error",
    0x71: "rewrite limit passed; the write was done",
    0xA1: "wrong number of services",
    0xA2: "wrong number of blocks",
    0xA3: "wrong order field in the block list",
    0xA4: "wrong service attribute",
    0xA5: "the service is not accessible",
    0xA6: "the service does not exist",
    0xA7: "wrong access mode",
    0xA8: "no such block, or it may not be read or written this way",
    0xA9: "the write failed",
    0xB0: "MAC and MAC_A in one command",
    0xB1: "the block needs external authentication",
    0xB2: "MAC_A does not fit, no challenge was written, or the block takes no MAC",
}
"""Status flag 2 in words (§Status Flag2 of the card manual; A1-B2 as FeliCa Lite-S uses them)."""


def meaning(sf2: int) -> str:
    """Status flag 2 in words, for a log or a person at the desk."""
    return STATUS_MEANINGS.get(sf2, f"unknown status {sf2:02X}")


class Written(Enum):
    """How a write ended. Both mean that the card stored the block."""

    DONE = "done"
    DONE_WORN = "done; the card warns that its memory is near the end of its life"


@dataclass(frozen=True, slots=True)
class Polled:
    """A card's answer to Polling: 8 bytes IDm, 8 bytes PMm, and 2 bytes of request data or none."""

    idm: bytes
    pmm: bytes
    request_data: bytes = b""


def polling(system: int = LITE_S_SYSTEM, request_code: int = 0, slots: int = 0) -> bytes:
    """A Polling frame. ``slots`` is the time slot number: 0, 1, 3, 7 or 15 for 1, 2, 4, 8 or 16 slots."""
    return bytes((6, _POLLING, system >> 8, system & 0xFF, request_code, slots))


def parse_polling(frame: bytes) -> Polled:
    """Read a Polling answer (LEN 12h, or 14h with request data); raises ``MalformedReply``."""
    if len(frame) not in {0x12, 0x14} or frame[0] != len(frame) or frame[1] != _POLLED:
        raise MalformedReply("the answer to Polling has a wrong length or code")
    return Polled(frame[2:10], frame[10:18], frame[18:])


def read_blocks(idm: bytes, blocks: Sequence[int], service: int = READ_ONLY_SERVICE) -> bytes:
    """A Read Without Encryption frame over one service, block list elements of two bytes; at most four blocks on a Lite-S."""
    return _command(_READ, idm, service, blocks)


def parse_read(frame: bytes, idm: bytes, count: int) -> bytes:
    """The ``16 * count`` bytes of a read; raises ``CardRefused`` for a status, ``MalformedReply`` for anything else."""
    sf1, sf2 = _status(frame, _HAS_READ, idm)
    if (sf1, sf2) != (0, 0):
        _expect_size(frame, _STATUS_REPLY_SIZE)
        raise CardRefused(sf1, sf2)
    _expect_size(frame, 13 + BLOCK_SIZE * count)
    if frame[12] != count:
        raise MalformedReply("the card answered with another number of blocks than was asked")
    return frame[13:]


def write_blocks(idm: bytes, blocks: Sequence[int], data: bytes, service: int = READ_WRITE_SERVICE) -> bytes:
    """A Write Without Encryption frame: ``data`` is 16 bytes for each block. A Lite-S takes one block, or two when the second is MAC_A."""
    if len(data) != BLOCK_SIZE * len(blocks):
        raise ValueError("a write needs 16 bytes for each block")
    return _command(_WRITE, idm, service, blocks, data)


def parse_write(frame: bytes, idm: bytes) -> Written:
    """What became of a write; raises ``CardRefused`` (not done) and ``MalformedReply`` (unknown)."""
    sf1, sf2 = _status(frame, _HAS_WRITTEN, idm)
    _expect_size(frame, _STATUS_REPLY_SIZE)
    if (sf1, sf2) == (0, 0):
        return Written.DONE
    if sf2 == _WORN and sf1 in {0x00, 0xFF}:
        return Written.DONE_WORN
    raise CardRefused(sf1, sf2)


def response_time_us(pmm: bytes, command: int, count: int) -> float:
    """The longest a card may take to answer, in microseconds, from its PMm (§PMm: T · [(B+1)·n + (A+1)] · 4^E, T = 256·16/fc).

    ``command`` is the command code (06 read, 08 write, 02 Request Service; any other counts as "other"), ``count`` the blocks or services.
    """
    parameter = pmm[{0x02: 2, 0x04: 3, 0x0A: 3, 0x0C: 3, _READ: 5, _WRITE: 6}.get(command, 7)]
    a, b, e = parameter & 7, parameter >> 3 & 7, parameter >> 6
    unit_us = 256 * 16 / 13.56
    return float(unit_us * ((b + 1) * count + a + 1) * 4**e)


def _command(code: int, idm: bytes, service: int, blocks: Sequence[int], data: bytes = b"") -> bytes:
    elements = b"".join(b"\x80" + bytes((block,)) for block in blocks)
    payload = bytes((code,)) + idm + b"\x01" + service.to_bytes(2, "little") + bytes((len(blocks),)) + elements + data
    return bytes((len(payload) + 1,)) + payload


def _status(frame: bytes, code: int, idm: bytes) -> tuple[int, int]:
    if len(frame) < _STATUS_REPLY_SIZE or frame[0] != len(frame):
        raise MalformedReply("the card's answer has a wrong length")
    if frame[1] != code:
        raise MalformedReply("the card answered another command than was sent")
    if frame[2 : 2 + _IDM_SIZE] != idm:
        raise MalformedReply("another card answered")
    return frame[10], frame[11]


def _expect_size(frame: bytes, size: int) -> None:
    if len(frame) != size:
        raise MalformedReply("the card's answer has a wrong length")
