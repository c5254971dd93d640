"""docs/batch.cddl describes what is sent. The oracle (pycddl) is asked about good data only: it lets pass what a grammar forbids."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cbor2 import loads
from pycddl import Schema, ValidationError

from drivers.signing import Ed25519Key, P256Key
from ledger import counts, notes, receipt
from ledger.batch import MAX_BYTES, Batch, pack
from ledger.chain import genesis
from ledger.codec import encode
from ledger.compress import decompress
from ledger.entry import Entry, Kind, Versions, When
from ledger.notes import Heartbeat, Loss, LossReason
from ledger.receipt import Receipt
from ledger.seal import Content, seal

Ride = Callable[..., Entry]
GRAMMAR = (Path(__file__).parents[2] / "docs" / "batch.cddl").read_text("utf-8")
DEVICE, EPOCH = 7, 4711


def is_a(rule: str, data: bytes) -> None:
    """The first rule of a grammar is what is checked, so ``rule`` is put first."""
    Schema(f"start = {rule}\n{GRAMMAR}").validate_cbor(data)


def test_every_batch_is_one_by_the_grammar(ride: Ride) -> None:
    entries = [ride(number, kind, seq=number, device=DEVICE, epoch=EPOCH) for number, kind in enumerate(Kind, 1)]
    data = [encode(replace(entry, medium=None) if entry.kind < Kind.OPEN else entry) for entry in entries]
    for sent in (data, [*data, b"broken"], data[:1]):
        is_a("batch", decompress(pack(Batch(DEVICE, EPOCH, 1, genesis(DEVICE, EPOCH), tuple(sent), 5)), MAX_BYTES))


@pytest.mark.parametrize("key", [Ed25519Key(bytes(range(32))), P256Key(bytes(range(1, 33)))], ids=lambda key: key.algorithm.name)
@pytest.mark.parametrize("content", Content)
def test_every_message_is_one_by_the_grammar(key: Ed25519Key | P256Key, content: Content) -> None:
    message = seal(key, content, b"payload")
    is_a("message", message)
    is_a("header", loads(message).value[0])


def test_every_receipt_is_one_by_the_grammar() -> None:
    is_a("receipt", receipt.encode(Receipt(7, 4711, 5, bytes(32), ((6, 6), (8, 9)), ((2, "unreadable"),), 5, 60, 500)))
    is_a("receipt", receipt.encode(Receipt(7, 4711, 1, genesis(7, 4711))))


def test_every_heartbeat_is_one_by_the_grammar() -> None:
    selftest = tuple((part, number % 3) for number, part in enumerate(notes.PARTS))
    beat = Heartbeat(7, 1, 5, bytes(32), When(1, 2, 3, 0), selftest, 10**9, Versions(), "0.1.0")
    is_a("heartbeat", notes.encode_heartbeat(beat))
    for number in range(0, len(counts.NAMES), counts.MOST):
        found = counts.fitting(dict.fromkeys(sorted(counts.NAMES)[number : number + counts.MOST], 2**40))
        is_a("heartbeat", notes.encode_heartbeat(replace(beat, counts=found, up_s=60)))


@pytest.mark.parametrize("reason", LossReason)
def test_every_loss_is_one_by_the_grammar(reason: LossReason) -> None:
    is_a("loss", notes.encode_loss(Loss(7, 1, 1, 0, reason, When(1, 2, 3, 0))))


def test_the_oracle_is_awake() -> None:
    with pytest.raises(ValidationError):
        is_a("loss", receipt.encode(Receipt(7, 4711, 1, genesis(7, 4711))))
