"""A month without the city: what it costs a tap on the last day, what it costs the disk, and how long the backlog takes to go up.

The last two of 30 days, and the two that follow the first, are written as on a vehicle: a transaction a tap, with every flush. The days
before are written without flushes, which leaves the same tables; otherwise the bench would be a quarter of an hour of nothing but flushes.

The two days are measured turn by turn, an append into the young ledger and then one into the old, so that a busy
machine slows both. A ratio is the median over ten blocks of such turns of each block's own ratio.

The upload goes through the courier, its seal and a city that opens, checks and signs, all in this process on a virtual clock. To that
handling, which is measured, the line's time is added, which is computed: every byte of a request and of its answer, with 500 bytes of head
for each way, at 64 kbit/s, and 150 ms a request for the way there and back.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rides import day
from rows import Row

from drivers.emulated.clock import VirtualClock
from drivers.signing import Ed25519Key, SignatureChecker
from ledger.batch import MAX_SEALED, Batch, unpack
from ledger.carrier import BATCHES, HEARTBEATS, MEDIA_TYPE, Answer, Carrier, Equipment
from ledger.chain import genesis
from ledger.codec import decode
from ledger.courier import State
from ledger.entry import Entry, Kind
from ledger.notes import decode_heartbeat
from ledger.receipt import Receipt, encode
from ledger.receipts import CityKeys, LetterboxBeside
from ledger.seal import Content, Signer, check, key_id, parse, seal
from ledger.store import LedgerFile, Settings, Store

BUILD = Path(__file__).resolve().parents[2] / "build"
DAYS, TAPS = 30, 1000
MEASURED, BLOCKS = 2000, 10
LINK_BITS_S, HEAD_BYTES, ROUND_TRIP_S = 64_000, 500, 0.15
MOST_BYTES = 64 * 1024 * 1024
SETTINGS = Settings(ballast_bytes=0, low_space_bytes=0)
DEVICE, EPOCH = 1, 1
BUS, CITY = Ed25519Key(bytes([1] * 32)), Ed25519Key(bytes([2] * 32))


def rows() -> list[Row]:
    """All figures of a month without the city."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        place = Path(folder)
        path = place / "month.db"
        month = [decode(data, device=DEVICE, epoch=EPOCH) for data in day(DEVICE, DAYS * TAPS, return_share=0.4)]
        fill(place / "day.db", month[:TAPS])
        fill(path, month[:-MEASURED])
        measured = appends(place / "day.db", path, month[-MEASURED:])
        size = sum(file.stat().st_size for file in place.glob("month.db*") if not file.name.endswith("-shm"))
        kept = Row(f"ledger after {DAYS} days of {TAPS} taps without the city", f"{size / 2**20:.1f} MiB", "≤ 64 MB", size <= MOST_BYTES)
        return [*measured, kept, *upload(path)]


def fill(path: Path, rides: list[Entry]) -> None:
    """Rides without a flush."""
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=replace(SETTINGS, synchronous="OFF")) as store:
        for ride in rides:
            store.append(ride)
            if store.needs_checkpoint():
                store.checkpoint()


def appends(young: Path, old: Path, rides: list[Entry]) -> list[Row]:
    taken: dict[Path, list[float]] = {young: [], old: []}
    with Store.open(young, device=DEVICE, settings=SETTINGS) as one, Store.open(old, device=DEVICE, settings=SETTINGS) as other:
        for number, entry in enumerate(rides):
            # The second of a pair finds warmer caches, so the order changes.
            pair = ((young, one), (old, other)) if number % 2 else ((old, other), (young, one))
            for path, store in pair:
                begin = time.perf_counter()
                store.append(entry)
                taken[path].append((time.perf_counter() - begin) * 1000)
                if store.needs_checkpoint():
                    store.checkpoint()
    found: list[Row] = []
    for name, share, bar in (("p50", 0.5, 1.1), ("p99", 0.99, 1.5)):
        first, last = (of_blocks(taken[path], share) for path in (young, old))
        ratio = statistics.median(b / a for a, b in zip(first, last, strict=True))
        value = f"{statistics.median(last):.3f} ms, {ratio:.2f} × {statistics.median(first):.3f} ms"
        found.append(Row(f"append on day {DAYS} against day 1, {name}", value, f"≤ {bar} ×", ratio <= bar))
    return found


def of_blocks(taken: list[float], share: float) -> list[float]:
    """Each block's percentile."""
    size = MEASURED // BLOCKS
    return [sorted(taken[at : at + size])[int(share * size)] for at in range(0, MEASURED, size)]


class Line:
    """A city in this process, and the line to it: what a request would have cost is counted, not waited for."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bytes = 0
        self.rides = 0
        self.next_seq, self.head = 1, genesis(DEVICE, EPOCH)

    def post(self, door: str, body: bytes) -> Answer:
        content = {BATCHES: Content.BATCH, HEARTBEATS: Content.HEARTBEAT}[door]
        parts = parse(body, content, MAX_SEALED)
        check(parts, SignatureChecker(), BUS.public)
        if content is Content.BATCH:
            self._take(unpack(parts.payload), len(body))
        else:
            decode_heartbeat(parts.payload)
        answer = seal(CITY, Content.RECEIPT, encode(Receipt(DEVICE, EPOCH, self.next_seq, self.head, issued_ms=self.next_seq)))
        self.seconds += ROUND_TRIP_S + (len(body) + len(answer) + 2 * HEAD_BYTES) * 8 / LINK_BITS_S
        return Answer(200, MEDIA_TYPE, answer)

    def _take(self, batch: Batch, size: int) -> None:
        if batch.first_seq == self.next_seq:
            self.next_seq, self.head = batch.last_seq + 1, batch.head.hash
        self.rides += batch.count
        self.bytes += size


class OneKey:
    """A keyring without a next key."""

    def signer(self) -> Signer:
        return BUS

    def next_signer(self) -> Signer | None:
        return None

    def next_reason(self) -> str:
        return ""

    def change(self) -> None:
        raise AssertionError


def upload(path: Path) -> list[Row]:
    line, clock = Line(), VirtualClock()
    letterbox = LetterboxBeside(path, CityKeys(SignatureChecker(), {key_id(CITY.public): CITY.public}))
    equipment = Equipment(
        device=DEVICE,
        software="0.1.0",
        ledgers=lambda: [path],
        open=LedgerFile.open_read_only,
        uplink=line,
        believe=letterbox.city.receipt,
        letterbox=letterbox,
        keyring=OneKey(),
        clock=clock,
        draw=lambda: 0.0,
        free_bytes=lambda: 10**9,
    )
    courier = Carrier(equipment)
    begin = time.perf_counter()
    while courier.state is not State.RESTING or line.next_seq == 1:
        courier.turn()
        clock.sleep_until_ns(courier.wakes_ns)
    handling = time.perf_counter() - begin
    with LedgerFile.open_read_only(path) as ledger:
        head = ledger.head()
        if (line.next_seq - 1, line.head) != (head.seq, head.hash) or ledger.last(Kind.BOOT) is not None:
            raise RuntimeError("the city of the bench has another ledger than the vehicle")
    whole = f"{(line.seconds + handling) / 60:.1f} min: line {line.seconds:.0f} s (computed), handling {handling:.1f} s (measured here)"
    return [
        Row(f"upload of {head.seq:,} rides over 64 kbit/s", whole, "(no bar; timed)", ok=True),
        Row("the same, bytes a ride in sealed batches of 200", f"{line.bytes / line.rides:.1f}", "≤ 40", line.bytes <= 40 * line.rides),
    ]
