"""How long a tap takes: against what no driver can avoid, and on a slow disk; and what it sends.

**The floor** of a tap is what the twin charges for its host commands (line, air, card) and two flushes of 4 KiB. Each tap is followed by
its own floor, so that a busy or slow machine slows both: a loop that sends five fixed frames (recorded from a real tap of a card that is
put back to its file each time, so that every answer is good) and flushes twice, and does nothing else. A tap begins with the poll that
finds the card and ends when PAID is durable: when the ledger has said so. What the rider hears follows at once.
"""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from bus import BAUD, ROUTE, STOPS_BEFORE_THE_FIRST_TAP, TERMINAL, Marks, Outfit, Twin, empty, open_trip, outfit, screen, wait_for
from rows import Row

from drivers.devices.keypad import DriverKey
from drivers.emulated.disk import SlowVfs
from drivers.emulated.lite_s_card import Delay, LiteSCard
from drivers.readers.pn532 import Pn532
from drivers.readers.serial_port import SerialPort
from firmware import compose
from firmware.rehearsal import TURNS_TO_EMPTY, Town, Vehicle, tariff
from ledger.book import Book
from ledger.entry import Entry
from ledger.store import Settings, Store
from validator.messages import Message
from validator.station import Station

CARDS, LAPS = 100, 3  # a trip for each lap and one for the first sight: the town's route has so many
SLOW_CARDS, SLOW_LAPS = 40, 2
FLUSH = bytes(4096)
SLOW_FLUSH_S = 0.025
MEDIAN_BAR, TAIL_BAR, SLOW_BAR_S = 1.15, 1.25, 0.150
_FLUSH_AFTER = (2, 4)  # frames of the fixed loop: after the reading (the intent) and after the proof (the entry)


def rows() -> list[Row]:
    """All rows of this file."""
    return [*_counted(), *_whole_tap(), *_slow_tap()]


# ── what a tap sends ──


def _counted() -> list[Row]:
    """Commands of a tap that is paid, counted by the chip's twin; the virtual clock makes this a matter of milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        town = Town(Path(folder), tariff())
        bus = town.vehicle(route=ROUTE)
        bus.ride_to(STOPS_BEFORE_THE_FIRST_TAP)
        card, torn = town.card(), town.card()
        torn.rewrite(1, bytes(16))  # a block of copy A's signature
        first, second_copy = _sent(bus, card), _sent(bus, torn)
        bus.press(DriverKey.TRIP)
        bus.ride_to(STOPS_BEFORE_THE_FIRST_TAP)
        steady = _sent(bus, card)
    counts = (steady, first, second_copy)
    on_air, host = ([count[at] for count in counts] for at in (0, 1))
    said = "a tap: steady state / first sight / copy A torn"
    return [
        Row(f"exchanges {said}", " / ".join(map(str, on_air)), "5 / 6 / 8", on_air == [5, 6, 8]),
        Row(f"host commands {said}", " / ".join(map(str, host)), "5 / 6 / 8", host == [5, 6, 8]),
    ]


def _sent(bus: Vehicle, card: LiteSCard) -> tuple[int, int]:
    """Exchanges on the air and host commands of the turn that finds this card; it must end with PAID."""
    bus.turn(TURNS_TO_EMPTY)
    bus.air.lay(card)
    before = bus.chip.card_exchanges, bus.chip.host_commands
    bus.turn()
    after = bus.chip.card_exchanges, bus.chip.host_commands
    if bus.heard.last().message is not Message.PAID:
        raise AssertionError(f"a tap of the bench ended with {bus.heard.last().message}")
    bus.air.lift(card.idm)
    return after[0] - before[0], after[1] - before[1]


# ── the whole tap ──


class RecordingPort(SerialPort):
    """A serial port that notes the frames written and how many bytes came back, while ``notes`` is a list."""

    notes: list[tuple[bytes, int]] | None = None

    def write(self, data: bytes) -> None:
        if self.notes is not None:
            self.notes.append((data, 0))
        super().write(data)

    def read(self, size: int, timeout_s: float) -> bytes:
        data = super().read(size, timeout_s)
        if self.notes:
            frame, count = self.notes[-1]
            self.notes[-1] = frame, count + len(data)
        return data


class Stamped:
    """A ledger that notes when it said that a debit is paid; it has all that the store has."""

    def __init__(self, store: Book) -> None:
        self._store = store
        self.paid_s = 0.0

    def pay(self, rider: bytes, entry: Entry, grant_digest: bytes | None = None) -> Entry:
        paid = self._store.pay(rider, entry, grant_digest)
        self.paid_s = time.perf_counter()
        return paid

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@dataclass(slots=True)
class Rig:
    """A station whose serial line the bench may use between two taps."""

    outfit: Outfit
    station: Station
    marks: Marks
    ledger: Stamped
    port: RecordingPort
    flushed: int
    frames: list[tuple[bytes, int]] = field(default_factory=list)
    taps_s: list[float] = field(default_factory=list)
    charged_s: list[float] = field(default_factory=list)
    flushes_s: list[float] = field(default_factory=list)
    fixed_s: list[float] = field(default_factory=list)

    @property
    def twin(self) -> Twin:
        return self.outfit.twin

    def tap(self, card: int) -> float:
        """One tap from its poll until PAID is durable, in seconds."""
        empty(self.station, self.twin)
        self.twin.lay(card)
        self.twin.charged_s()
        start_s = time.perf_counter()
        self.station.turn()
        said = self.marks.shown[-1]
        if said is not Message.PAID:
            raise AssertionError(f"a tap of the bench ended with {said}")
        return self.ledger.paid_s - start_s

    def measure(self, card: int) -> None:
        """One tap and its floor."""
        taken_s = self.tap(card)
        self.charged_s.append(sum(self.twin.charged_s()))
        self.taps_s.append(taken_s)
        empty(self.station, self.twin)
        self.twin.renew(0)
        self._fixed()
        self.twin.lift()

    def record(self) -> None:
        """Remember the five frames of card 0's tap."""
        empty(self.station, self.twin)
        self.twin.renew(0)
        self.port.notes = []
        self.station.turn()
        self.frames, self.port.notes = self.port.notes, None
        if len(self.frames) != len(_FLUSH_AFTER) + 3 or self.marks.shown[-1] is not Message.PAID:
            raise AssertionError(f"the recorded tap took {len(self.frames)} frames and ended with {self.marks.shown[-1]}")

    def _fixed(self) -> None:
        port, start_s, flushes_s = self.port, time.perf_counter(), 0.0
        for at, (frame, size) in enumerate(self.frames):
            port.write(frame)
            left = size
            while left > 0:
                data = port.read(512, 1.0)
                if not data:
                    raise AssertionError("the twin did not answer a recorded frame")
                left -= len(data)
            if at in _FLUSH_AFTER:
                flushes_s += self._flush()
        self.fixed_s.append(time.perf_counter() - start_s)
        self.flushes_s.append(flushes_s)

    def _flush(self) -> float:
        at = (len(self.fixed_s) % 256) * 2 * len(FLUSH)
        start_s = time.perf_counter()
        os.pwrite(self.flushed, os.urandom(len(FLUSH)), at)
        os.fdatasync(self.flushed)
        return time.perf_counter() - start_s


@contextmanager
def rig(cards: int, delay: Delay, ledger: Callable[[Path], Store] | None = None) -> Iterator[Rig]:
    """The station of ``compose.open_station`` with the screen process beside it, one trip open."""
    with outfit(cards + 1, delay) as made, screen(made.config, made.folder / "screen"), ExitStack() as undo:
        wait_for(made.folder / "screen")
        marks = Marks(compose.screen_link(made.folder / "screen"))
        ports: list[RecordingPort] = []

        def open_port(baud: int) -> RecordingPort:
            ports.append(RecordingPort(str(made.twin.link), baud))
            return ports[-1]

        with compose.open_station(made.config, marks) as station:
            station.equipment.reader.close()
            reader = Pn532("bench", open_port, time.monotonic_ns, baud=BAUD)
            if not reader.revive():
                raise AssertionError("the twin was not found")
            book = station.equipment.ledger if ledger is None else undo.enter_context(ledger(made.folder / "slow.ledger"))
            stamped = Stamped(book)
            station.equipment = replace(station.equipment, reader=reader, ledger=cast("Book", stamped))
            if ledger is not None:
                station.open_shift()
            flushed = os.open(made.folder / "flushed", os.O_RDWR | os.O_CREAT)
            os.pwrite(flushed, bytes(512 * len(FLUSH)), 0)
            os.fsync(flushed)
            gc.collect()
            gc.freeze()
            compose.take_precedence()
            yield Rig(made, station, marks, stamped, ports[-1], flushed)
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            gc.unfreeze()
            reader.close()
            os.close(flushed)
        marks.close()


def _whole_tap() -> list[Row]:
    with rig(CARDS, Delay.MIN) as one:
        _first_sight(one)
        for lap in range(LAPS):
            open_trip(one.station)
            if lap == 0:
                one.record()
            for card in range(1, CARDS + 1):
                one.measure(card)
    least_s = [charged_s + flushes_s for charged_s, flushes_s in zip(one.charged_s, one.flushes_s, strict=True)]
    middle, tail = at(one.taps_s, 50) / at(least_s, 50), at(one.taps_s, 99) / at(one.fixed_s, 99)
    return [
        Row(
            f"whole tap, p50 of {len(one.taps_s)}, against line, air, card and two flushes",
            f"{middle:.2f} × ({ms(one.taps_s, 50)}; charged {ms(one.charged_s, 50)} + flushes {ms(one.flushes_s, 50)})",
            f"≤ {MEDIAN_BAR}",
            middle <= MEDIAN_BAR,
        ),
        Row(
            "whole tap, p99, against five fixed frames and two flushes, p99",
            f"{tail:.2f} × ({ms(one.taps_s, 99)}; the loop {ms(one.fixed_s, 99)}, at p50 {ms(one.fixed_s, 50)})",
            f"≤ {TAIL_BAR}",
            tail <= TAIL_BAR,
        ),
    ]


def _first_sight(one: Rig) -> None:
    """Every card once, so that the ledger knows its grant."""
    open_trip(one.station)
    for card in range(len(one.outfit.cards)):
        one.tap(card)


# ── a slow disk ──


def _slow_tap() -> list[Row]:
    disk = SlowVfs("bench-slow", SLOW_FLUSH_S, time.sleep)
    settings = Settings(locking="EXCLUSIVE", vfs="bench-slow")  # a VFS in Python has no shared memory, so nobody else may read meanwhile
    try:
        with rig(SLOW_CARDS, Delay.HALF, lambda path: Store.create(path, device=TERMINAL, epoch=1, settings=settings)) as one:
            _first_sight(one)
            taps_s: list[float] = []
            for _ in range(SLOW_LAPS):
                open_trip(one.station)
                taps_s += [one.tap(card) for card in range(len(one.outfit.cards))]
    finally:
        disk.unregister()
    tail_s = at(taps_s, 99)
    return [
        Row(
            f"whole tap with 25 ms a flush, card at half of PMm, p99 of {len(taps_s)}",
            f"{ms(taps_s, 99)} (p50 {ms(taps_s, 50)})",
            f"≤ {SLOW_BAR_S * 1000:.0f} ms",
            tail_s <= SLOW_BAR_S,
        )
    ]


def at(figures: list[float], percent: int) -> float:
    return sorted(figures)[min(len(figures) - 1, len(figures) * percent // 100)]


def ms(figures: list[float], percent: int) -> str:
    return f"{at(figures, percent) * 1000:.1f} ms"
