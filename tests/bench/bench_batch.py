"""What a batch costs: bytes on the air, and one core's time at both ends.

Every pass begins with nothing remembered of the entries' circumstances: the city meets each vehicle's for the first time. Time is the
process's own, the best of several passes, because others may use the machine too.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from rides import batches
from rows import Row

from drivers.signing import Ed25519Key, P256Key, SignatureChecker
from ledger import codec
from ledger.batch import MAX_SEALED, Batch, opened, pack, unpack
from ledger.chain import follow
from ledger.entry import Entry
from ledger.seal import Content, Signer, check, parse, seal

VEHICLES, RIDES, OF = 6, 1000, 200
PASSES = 9
BAR = 50_000
KEYS: tuple[Signer, ...] = (Ed25519Key(bytes(range(32))), P256Key(bytes(range(1, 33))))
CHECKER = SignatureChecker()


def rows() -> list[Row]:
    """All figures of the batch."""
    strangers = [batch for device in range(1, VEHICLES + 1) for batch in batches(device, RIDES, OF, return_share=0)]
    regulars = [batch for device in range(1, VEHICLES + 1) for batch in batches(device, RIDES, OF, return_share=0.35)]
    return [*wire(strangers, regulars), *rates(strangers)]


def wire(strangers: Sequence[Batch], regulars: Sequence[Batch]) -> list[Row]:
    raw = sum(len(data) for batch in strangers for data in batch.entries) / (VEHICLES * RIDES)
    return [
        wire_row(f"{OF} different riders a batch", strangers, "≤ 40"),
        wire_row("a third of them on their way back", regulars, "≤ 40"),
        Row("… and as they stand in the ledger", f"{raw:.1f}", "(no bar)", ok=True),
    ]


def wire_row(who: str, sent: Sequence[Batch], bar: str) -> Row:
    each = [len(seal(KEYS[0], Content.BATCH, pack(batch))) / batch.count for batch in sent]
    value = f"{statistics.mean(each):.1f} (worst batch {max(each):.1f})"
    return Row(f"sealed bytes a ride, {who}", value, bar, statistics.mean(each) <= 40)


def rates(sent: Sequence[Batch]) -> list[Row]:
    messages = {signer: [seal(signer, Content.BATCH, pack(batch)) for batch in sent] for signer in KEYS}
    found: list[Row] = []
    for signer, sealed in messages.items():
        name = signer.algorithm.name
        found += [
            rate_row(f"batch sealed ({name}), rides a second of one core", lambda signer=signer: seal_all(signer, sent)),
            rate_row(f"batch checked ({name}), rides a second of one core", lambda signer=signer, sealed=sealed: check_all(signer, sealed)),
            rate_row(f"batch opened ({name}), rides a second of one core", lambda signer=signer, sealed=sealed: open_all(signer, sealed)),
        ]
    return [*found, rate_row("chain checked, rides a second of one core", lambda: chain_all(sent))]


def rate_row(figure: str, work: Callable[[], None]) -> Row:
    figures: list[float] = []
    for _ in range(PASSES):
        codec.forget()
        gc.collect()
        begin = time.process_time()
        work()
        figures.append(VEHICLES * RIDES / (time.process_time() - begin))
    value = f"{max(figures):,.0f} (median {statistics.median(figures):,.0f})"
    return Row(figure, value, f"≥ {BAR:,}", max(figures) >= BAR)


def seal_all(signer: Signer, sent: Sequence[Batch]) -> None:
    """Decoded strictly, folded, compressed, signed."""
    for batch in sent:
        seal(signer, Content.BATCH, pack(replace(batch)))  # one that nobody has taken apart


def believed(signer: Signer, message: bytes) -> Batch:
    parsed = parse(message, Content.BATCH, MAX_SEALED)
    check(parsed, CHECKER, signer.public)
    return unpack(parsed.payload)


def check_all(signer: Signer, sealed: Sequence[bytes]) -> None:
    """The signature, the bytes of every entry and every field of it, the totals and the chain."""
    for message in sealed:
        believed(signer, message)


def open_all(signer: Signer, sealed: Sequence[bytes]) -> None:
    """The same, and every entry as an object, as the city books it."""
    for message in sealed:
        for _, _, entry in opened(believed(signer, message)):
            if not isinstance(entry, Entry):
                raise entry


def chain_all(sent: Sequence[Batch]) -> None:
    for batch in sent:
        hashed = batch.previous
        for data in batch.entries:
            hashed = follow(hashed, data)
        if hashed != batch.head.hash:
            raise RuntimeError("the bench's own batch is broken")
