"""A bus for measurements: the real composition on this disk, the PN532 twin and the screen in processes of their own, in real time."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from drivers.devices.keypad import DriverKey, KeyPress
from drivers.emulated import card_file
from drivers.emulated.lite_s_card import Delay, LiteSCard
from drivers.vault import FileAddress
from drivers.vault_file import write_keys
from fares import files, gtfs
from fares.table import pack
from firmware import compose
from firmware.config import Config, Rules, ScreenSettings
from firmware.rehearsal import SCHEME, TOWN, Town, tariff
from firmware.screen import ScreenLink
from validator.messages import Message, Shown
from validator.station import Station

ROOT = Path(__file__).resolve().parents[2]
TERMINAL = 12
BAUD = 921_600
ROUTE = "M2"
STOPS_BEFORE_THE_FIRST_TAP = 3
_TIMES_EMPTY = 4
_REST_S = 0.01
HEADLESS = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1", "PYTHONPATH": str(ROOT)}


class Twin:
    """The twin's process; its orders are those of ``twin_process``."""

    def __init__(self, link: Path, cards: Sequence[Path]) -> None:
        self.link = link
        program = [sys.executable, str(Path(__file__).with_name("twin_process.py")), str(link), *map(str, cards)]
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env={**os.environ, **HEADLESS}
        )
        self._hear("ready")

    def lay(self, number: int) -> None:
        self._ask(f"lay {number}")

    def renew(self, number: int) -> None:
        """Lay the card as its file has it."""
        self._ask(f"renew {number}")

    def lift(self) -> None:
        self._ask("lift")

    def charged_s(self) -> list[float]:
        """What each host command cost since this was asked last, in seconds."""
        return [cost_ns / 1e9 for _, cost_ns in json.loads(self._ask("charged"))]

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)

    def _ask(self, order: str) -> str:
        if self._process.stdin is None:
            raise OSError("the twin's process cannot be spoken to")
        self._process.stdin.write(order + "\n")
        return self._hear()

    def _hear(self, expected: str = "") -> str:
        line = self._process.stdout.readline().strip() if self._process.stdout is not None else ""
        if not line or (expected and line != expected):
            raise OSError(f"the twin's process said '{line}'")
        return line


class Marks:
    """A presenter that passes everything on and remembers what was shown."""

    def __init__(self, link: ScreenLink) -> None:
        self._link = link
        self.shown: list[Message] = []

    def show(self, shown: Shown) -> None:
        self.shown.append(shown.message)
        self._link.show(shown)

    def close(self) -> None:
        self._link.close()


@dataclass(frozen=True, slots=True)
class Outfit:
    """What a bench's bus is made of: cards 0 … n-1 lie ready at the twin, and their riders' grants are known to the ledger."""

    folder: Path
    town: Town
    cards: tuple[LiteSCard, ...]
    config: Config
    twin: Twin


@contextmanager
def outfit(cards: int, delay: Delay) -> Iterator[Outfit]:
    """A folder on the disk of this tree, with issued cards, keys, rules; the twin's process serves until the end."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name:
        folder = Path(name)
        town = Town(folder, tariff())
        issued = tuple(town.card(delay=delay) for _ in range(cards))
        paths = [folder / f"{number}.toml" for number in range(cards)]
        for card, path in zip(issued, paths, strict=True):
            path.write_text(card_file.text(card), encoding="utf-8")
        write_keys(folder / "bus.keys", town.keys.for_terminal(town.random(32)))
        contents, _ = gtfs.compile_feed(files.open_feed(TOWN))
        (folder / "town.table").write_bytes(pack(contents))
        twin = Twin(folder / "reader", paths)
        config = Config(
            terminal=TERMINAL,
            vehicle="bench",
            zone=ZoneInfo("Asia/Tokyo"),
            reader=f"pn532:{twin.link}@{BAUD}",
            rules=Rules(folder / "town.table", TOWN / "operator.toml", SCHEME, None),
            keys=FileAddress(folder / "bus.keys"),
            ledger=folder / "bus.ledger",
            routes=(ROUTE,),
            keypad_device=None,
            keypad_mapping=None,
            screen=ScreenSettings((800, 480), whole_screen=False, sound="on"),
        )
        try:
            yield Outfit(folder, town, issued, config, twin)
        finally:
            twin.close()


@contextmanager
def screen(config: Config, socket: Path) -> Iterator[None]:
    """The screen process, drawing and sounding on SDL's dummy devices."""
    before = {name: os.environ.get(name) for name in HEADLESS}
    os.environ.update(HEADLESS)
    try:
        process = compose.start_screen(config, socket)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def open_trip(station: Station) -> None:
    """The driver opens the next trip (closing this one) and goes on to a stop where riders get off."""
    if station.duty.trip is not None:
        station.press(KeyPress(DriverKey.TRIP))
    station.press(KeyPress(DriverKey.TRIP))
    for _ in range(STOPS_BEFORE_THE_FIRST_TAP):
        station.press(KeyPress(DriverKey.NEXT_STOP))


def empty(station: Station, twin: Twin) -> None:
    """Lift the card and let the station see that it is gone."""
    twin.lift()
    for _ in range(_TIMES_EMPTY):
        station.turn()
        time.sleep(_REST_S)


def wait_for(path: Path, limit_s: float = 10.0) -> None:
    """Until a file (or socket) is there."""
    until = time.monotonic() + limit_s
    with suppress(OSError):
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.02)
