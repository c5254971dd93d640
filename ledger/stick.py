"""The second road: the same sealed batches as files, for a vehicle that has no network, or not for weeks.

A stick is the least trusted thing there is, and need not be more: what is on it was signed by the vehicle, and what comes back was signed
by the city. Files carry their place in their names, ``DEVICE-EPOCH-FIRST-LAST.batch`` and ``DEVICE-EPOCH.loss``, only so that a person sees
what they are.
"""

from collections.abc import Iterator

from ledger.carrier import Keyring, Reading, batch_of, known_before
from ledger.courier import oldest
from ledger.entry import Kind
from ledger.errors import BatchTooLarge
from ledger.notes import Loss, encode_loss
from ledger.seal import Content, Signer, seal

BATCH, LOSS = ".batch", ".loss"


def batches(ledger: Reading, keyring: Keyring, now_ms: int, wished: int = 200) -> Iterator[tuple[str, bytes]]:
    """Everything that the city has not signed for yet, as (file name, sealed batch). Raises ``LedgerError`` for a broken ledger."""
    known, head, signer = known_before(ledger), ledger.head().seq, keyring.signer()
    announced = ledger.last(Kind.KEY)
    while (wanted := oldest(known, head, wished)) is not None:
        try:
            payload, last = batch_of(ledger, wanted, now_ms)
        except BatchTooLarge:
            wished = max(1, wished // 2)
            continue
        yield f"{ledger.device}-{ledger.epoch}-{wanted.first}-{last}{BATCH}", seal(signer, Content.BATCH, payload)
        if announced is not None and announced.seq == last and announced.reason == keyring.next_reason():
            signer = keyring.next_signer() or signer
        known = known.up_to(last)


def loss(note: Loss, signer: Signer) -> tuple[str, bytes]:
    """The sealed word of a lost ledger, and its file's name."""
    return f"{note.device}-{note.epoch}{LOSS}", seal(signer, Content.LOSS, encode_loss(note))
