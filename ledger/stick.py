"""The second road: the same sealed batches as files, for a vehicle that has no network, or not for weeks.

A stick is the least trusted thing there is, and need not be more: what is on it was signed by the vehicle, and what comes back was signed
by the city. Files carry their place in their names, ``DEVICE-EPOCH-FIRST-LAST.batch`` and ``DEVICE-EPOCH.loss``, only so that a person sees
what they are.
"""

from collections.abc import Iterator

from ledger.carrier import Keyring, Reading, batch_of, known_before
from ledger.courier import Known, oldest
from ledger.entry import Kind
from ledger.errors import BatchTooLarge
from ledger.notes import Loss, encode_loss
from ledger.receipt import Receipt
from ledger.seal import Content, Signer, seal

BATCH, LOSS = ".batch", ".loss"


def batches(ledger: Reading, keyring: Keyring, now_ms: int, wished: int = 200) -> Iterator[tuple[str, bytes]]:
    """Everything that the city has not signed for yet, as (file name, sealed batch). Raises ``LedgerError`` for a broken ledger."""
    known, head = known_before(ledger), ledger.head().seq
    announced = _announced(ledger, keyring)
    while (wanted := oldest(known, head, wished)) is not None:
        try:
            payload, last = batch_of(ledger, wanted, now_ms)
        except BatchTooLarge:
            wished = max(1, wished // 2)
            continue
        following = keyring.next_signer() if announced is not None and wanted.first > announced else None
        name = f"{ledger.device}-{ledger.epoch}-{wanted.first}-{last}{BATCH}"
        yield name, seal(following or keyring.signer(), Content.BATCH, payload)
        known = known.up_to(last)


def waits(ledger: Reading) -> bool:
    """Whether the city has not signed for all of it, as far as this ledger knows. Raises ``LedgerError``."""
    return oldest(known_before(ledger), ledger.head().seq, 1) is not None


def done(ledger: Reading, receipt: Receipt) -> bool:
    """Whether nothing of a ledger that was set aside is to be sent any more: the city has it all, or what it has is another. Raises
    ``LedgerError`` for a broken one.
    """
    if (ledger.device, ledger.epoch) != (receipt.device, receipt.epoch):
        return False
    fits = ledger.hash_at(receipt.next_seq - 1) == receipt.head
    return not fits or oldest(Known(receipt.next_seq, receipt.head, receipt.holes), ledger.head().seq, 1) is None


def settle(ledger: Reading, keyring: Keyring) -> None:
    """The next key is the key when the ledger holds the city's receipt for its announcement. Raises ``LedgerError`` and ``OSError``.

    Only when no ledger that was set aside ``waits``: its entries are for the old key to sign.
    """
    announced = _announced(ledger, keyring)
    if announced is not None and announced < known_before(ledger).next_seq:
        keyring.change()


def _announced(ledger: Reading, keyring: Keyring) -> int | None:
    """The entry that announces the next key."""
    entry, reason = ledger.last(Kind.KEY), keyring.next_reason()
    return entry.seq if entry is not None and reason and entry.reason == reason else None


def loss(note: Loss, signer: Signer) -> tuple[str, bytes]:
    """The sealed word of a lost ledger, and its file's name."""
    return f"{note.device}-{note.epoch}{LOSS}", seal(signer, Content.LOSS, encode_loss(note))
