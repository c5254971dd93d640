"""Mutated messages, by the million under ``make prove PART=ledger``: refused in one way, or exactly what would have been sent.

The oracle is the sender: whatever a reader accepts, packing or encoding what it read must give the same content again. Mutations are of
three depths: of the message's bytes (what a line or a thief does), of the bytes under the compression, and of the values under those, which
are encoded and compressed again as a good sender would.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import pytest
from cbor2 import CBORTag, dumps, loads

from drivers.signing import Ed25519Key, SignatureChecker
from ledger import notes, receipt
from ledger.batch import LEVEL, MAX_BYTES, MAX_SEALED, Batch, pack, unpack
from ledger.chain import genesis
from ledger.codec import encode
from ledger.compress import NotCompressed, compress, decompress
from ledger.entry import Entry, Fare, Kind, Versions, When
from ledger.errors import Malformed
from ledger.notes import Heartbeat, Loss, LossReason
from ledger.receipt import Receipt
from ledger.seal import BadSignature, Content, check, parse, seal

Ride = Callable[..., Entry]
DEVICE, EPOCH = 7, 4711
KEY = Ed25519Key(bytes(range(32)))
CHECKER = SignatureChecker()
NASTY: tuple[Any, ...] = (
    *(0, 1, -1, 23, 24, 255, 256, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), -(2**64), 2**64, 2**200),
    *(True, False, None, 0.0, 1.5, float("inf"), float("nan")),
    *(b"", b"\x00", bytes(8), bytes(32), bytes(2000), "", "a", "\x00", "x" * 300, "日本"),
    *([], [0], [[]], [[[[[]]]]], {}, {1: 2}, CBORTag(2, b"\x01"), CBORTag(24, b"\x80"), CBORTag(55799, 1)),
)


class Proof(Protocol):
    def seeds(self, small: int, full: int) -> range: ...


def some_batch(chance: random.Random, ride: Ride) -> Batch:
    first = chance.choice((1, 1, 2, 1000, 2**40))
    entries: list[bytes] = []
    for seq in range(first, first + chance.randrange(1, 12)):
        kind = chance.choice(list(Kind))
        said = ride(seq % 1000, kind, seq=seq, device=DEVICE, epoch=EPOCH, fare=Fare(chance.randrange(500), 100, 0, 1, 0))
        data = encode(replace(said, medium=None) if kind < Kind.OPEN else said)
        entries.append(chance.choice((data,) * 8 + (b"broken", data[:-1], chance.randbytes(20))))
    return Batch(DEVICE, EPOCH, first, genesis(DEVICE, EPOCH) if first == 1 else chance.randbytes(32), tuple(entries), 1_770_000_000_000)


def bytes_changed(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(6):
            case 0:
                changed[at:] = b""
            case 1:
                changed[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 2:
                del changed[at : at + chance.randrange(1, 9)]
            case 3:
                begin = chance.randrange(len(changed) + 1)
                changed[at:at] = changed[begin : begin + chance.randrange(1, 40)]
            case _:
                changed[at : at + 1] = bytes((changed[at] ^ 1 << chance.randrange(8),)) if at < len(changed) else b"\x00"
    return bytes(changed)


def value_changed(chance: random.Random, value: Any) -> Any:
    """``value`` with something inside it replaced, removed, repeated or moved."""
    if isinstance(value, list) and value and chance.random() < 0.85:
        inside = list(value)
        at = chance.randrange(len(inside))
        match chance.randrange(8):
            case 0:
                del inside[at]
            case 1:
                inside.insert(chance.randrange(len(inside) + 1), inside[at])
            case 2:
                other = chance.randrange(len(inside))
                inside[at], inside[other] = inside[other], inside[at]
            case _:
                inside[at] = value_changed(chance, inside[at])
        return inside
    if isinstance(value, bytes) and value and chance.random() < 0.6:
        return bytes_changed(chance, value)
    if isinstance(value, int) and chance.random() < 0.6:
        return value + chance.choice((-1, 1, 8, 256))
    return chance.choice(NASTY)


def seen_by_the_city(message: bytes) -> bytes | None:
    """The payload, when the message is believed."""
    try:
        sealed = parse(message, Content.BATCH, MAX_SEALED)
        check(sealed, CHECKER, KEY.public)
    except (Malformed, BadSignature):
        return None
    return sealed.payload


@pytest.mark.prove(parts=12)
def test_a_mutated_batch_is_refused_or_is_what_would_have_been_sent(proof: Proof, ride: Ride) -> None:
    for seed in proof.seeds(small=8, full=75_000):
        chance = random.Random(seed)
        batch = some_batch(chance, ride)
        payload = pack(batch)
        message = seal(KEY, Content.BATCH, payload)
        content = decompress(payload, MAX_BYTES)
        for _ in range(40):
            assert seen_by_the_city(bytes_changed(chance, message)) in {None, payload}
            for other in (
                bytes_changed(chance, payload),
                compress(bytes_changed(chance, content), LEVEL),
                compress(dumps(value_changed(chance, loads(content))), LEVEL),
            ):
                with suppress(Malformed, NotCompressed):
                    assert decompress(pack(unpack(other)), MAX_BYTES) == decompress(other, MAX_BYTES)


HEARTBEAT = Heartbeat(7, 4711, 5, bytes(32), When(1, 2, 3, 0), (("antenna", 0), ("screen", 2)), 10**9, Versions(), "0.1.0")
GOOD: tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes], Any], ...] = (
    (receipt.decode, receipt.encode, Receipt(7, 4711, 5, bytes(32), ((6, 6), (8, 9)), ((2, "unreadable"),), 1_770_000_000_000, 60, 500)),
    (notes.decode_heartbeat, notes.encode_heartbeat, HEARTBEAT),
    (
        notes.decode_heartbeat,
        notes.encode_heartbeat,
        replace(HEARTBEAT, counts=(("oom-kills", 1), ("other-failures", 300), ("station-starts", 8)), up_s=90_000),
    ),
    (notes.decode_loss, notes.encode_loss, Loss(7, 4711, 1, 0, LossReason.MISSING, When(1, 2, 3, 0))),
)


@pytest.mark.prove(parts=4)
def test_a_mutated_receipt_or_note_is_refused_or_is_what_would_have_been_sent(proof: Proof) -> None:
    for seed in proof.seeds(small=8, full=10_000):
        chance = random.Random(seed)
        for decode, write, good in GOOD:
            data = write(good)
            for _ in range(40):
                for other in (bytes_changed(chance, data), dumps(value_changed(chance, loads(data)))):
                    with suppress(Malformed):
                        assert write(decode(other)) == other
