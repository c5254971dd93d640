"""What the city answers to a terminal: how far it has the terminal's ledger, durably.

A sealed message's payload, CBOR, by position::

0  version  1  device  2  epoch  3  next seq  4  head
5  holes: an array of [first, last]  6  rejects: an array of [seq, code]
7  issued, Unix ms  8  min interval, s  9  max entries
"""

from dataclasses import dataclass
from itertools import pairwise

from ledger import strict
from ledger.chain import HASH_BYTES, genesis
from ledger.errors import MalformedReceipt

VERSION = 1
MAX_BYTES = 48 * 1024
MAX_HOLES = 64
MAX_REJECTS = 1000
MAX_CODE = 24

_SHAPE = (int, int, int, int, bytes, tuple, tuple, int, int, int)
_HOLE = (int, int)
_REJECT = (int, str)
_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Receipt:
    """Entries 1 … ``next_seq`` − 1 of the ledger (``device``, ``epoch``) are stored durably.

    ``head``: the hash of the last of them (``ledger.chain.genesis`` when there is none). ``holes``: ranges from ``next_seq`` on that are
    missing below the highest entry seen, in order; at most ``MAX_HOLES``, the lowest. ``rejects``: entries that were set aside and why, a
    code of small letters, digits and hyphens; they count as stored, the terminal need not send them again. ``min_interval_s``: wait that
    long before the next batch, 0 as you like. ``max_entries``: send no more than that in one, 0 as you like.
    """

    device: int
    epoch: int
    next_seq: int
    head: bytes
    holes: tuple[tuple[int, int], ...] = ()
    rejects: tuple[tuple[int, str], ...] = ()
    issued_ms: int = 0
    min_interval_s: int = 0
    max_entries: int = 0


def encode(receipt: Receipt) -> bytes:
    """The payload. A receipt that could not be read back is refused with ``MalformedReceipt``."""
    r = receipt
    data = strict.write(
        (VERSION, r.device, r.epoch, r.next_seq, r.head, r.holes, r.rejects, r.issued_ms, r.min_interval_s, r.max_entries),
    )
    if decode(data) != receipt:
        raise MalformedReceipt("The receipt does not read back as it was; a field has the wrong type.")
    return data


def decode(data: bytes) -> Receipt:
    """The receipt in ``data``. Raises ``MalformedReceipt``; never anything else."""
    try:
        parts = strict.read(data, MAX_BYTES, _DEPTH, VERSION, _SHAPE)
        holes, rejects = strict.rows(parts[5], _HOLE), strict.rows(parts[6], _REJECT)
    except strict.NotStrict as error:
        raise MalformedReceipt(f"The receipt {error}.") from error
    _, device, epoch, next_seq, head, _, _, issued_ms, min_interval_s, max_entries = parts
    receipt = Receipt(
        device,
        epoch,
        next_seq,
        head,
        tuple((first, last) for first, last in holes),
        tuple((seq, code) for seq, code in rejects),
        issued_ms,
        min_interval_s,
        max_entries,
    )
    _check(receipt)
    return receipt


def _check(receipt: Receipt) -> None:
    if receipt.next_seq < 1:
        raise MalformedReceipt("The receipt's next number is 0; entries are numbered from 1.")
    if len(receipt.head) != HASH_BYTES:
        raise MalformedReceipt(f"The receipt's head has {len(receipt.head)} bytes, not {HASH_BYTES}.")
    if receipt.next_seq == 1 and receipt.head != genesis(receipt.device, receipt.epoch):
        raise MalformedReceipt("The receipt says that nothing is stored, but its head is not the beginning of that ledger.")
    if len(receipt.holes) > MAX_HOLES or len(receipt.rejects) > MAX_REJECTS:
        raise MalformedReceipt(f"The receipt names more than {MAX_HOLES} holes or more than {MAX_REJECTS} rejects.")
    ordered = all(first <= last for first, last in receipt.holes) and all(one[1] + 1 < two[0] for one, two in pairwise(receipt.holes))
    if not ordered or (receipt.holes and receipt.holes[0][0] < receipt.next_seq):
        raise MalformedReceipt("The receipt's holes are not in order, touch each other, or lie below its next number.")
    if not all(one[0] < two[0] for one, two in pairwise(receipt.rejects)) or not all(seq >= 1 for seq, _ in receipt.rejects):
        raise MalformedReceipt("The receipt's rejects are not in order, or name an entry twice.")
    if not all(is_code(code) for _, code in receipt.rejects):
        raise MalformedReceipt(f"The receipt has a code that is not 1 to {MAX_CODE} small letters, digits and hyphens.")


def is_code(text: str) -> bool:
    """``text`` may be the code of a reject."""
    return 1 <= len(text) <= MAX_CODE and text.isascii() and all(sign.islower() or sign.isdigit() or sign == "-" for sign in text)
