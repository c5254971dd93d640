"""What the running validator holds in memory: both processes of ``kazashi validator`` after some taps, a page shared by n counted 1/n."""

import os
import subprocess
import sys
import time
from pathlib import Path

from bus import HEADLESS, STOPS_BEFORE_THE_FIRST_TAP, Outfit, outfit, wait_for
from rows import Row

from drivers.devices.keypad import DriverKey, KeyPress
from drivers.emulated.lite_s_card import Delay
from firmware import compose
from validator.messages import Shown

TAPS = 12
BAR_MB = 160


class Nobody:
    """A presenter without a screen."""

    def show(self, _shown: Shown) -> None:
        pass


def rows() -> list[Row]:
    """Start the validator as a vehicle does, let riders pay, and look."""
    with outfit(TAPS, Delay.MIN) as made:
        _open_trip(made)
        sizes_kb = _running(made)
    total_mb = sum(sizes_kb) / 1000
    parts = " + ".join(f"{size / 1000:.0f}" for size in sizes_kb)
    kept = len(sizes_kb) > 1 and total_mb <= BAR_MB
    return [Row("memory of the running validator (PSS)", f"{total_mb:.0f} MB ({parts})", f"≤ {BAR_MB} MB", kept)]


def _open_trip(made: Outfit) -> None:
    """The driver's work, in a run before: the next start goes on with the same trip."""
    with compose.open_station(made.config, Nobody()) as station:
        station.press(KeyPress(DriverKey.TRIP))
        for _ in range(STOPS_BEFORE_THE_FIRST_TAP):
            station.press(KeyPress(DriverKey.NEXT_STOP))


def _running(made: Outfit) -> list[int]:
    """PSS in kB of each process, the station's first."""
    written = made.folder / "bus.toml"
    written.write_text(_as_toml(made), encoding="utf-8")
    socket = made.folder / "screen"
    program = [sys.executable, "-m", "firmware.cli", "validator", "--config", str(written), "--socket", str(socket)]
    with (made.folder / "said").open("w") as said:
        validator = subprocess.Popen(program, env={**os.environ, **HEADLESS}, stderr=said)
    try:
        wait_for(socket)
        for number in range(TAPS):
            made.twin.lay(number)
            time.sleep(0.25)
            made.twin.lift()
            time.sleep(0.15)
        if "paid" not in (made.folder / "said").read_text():
            raise AssertionError("nobody could pay at the bench's validator")
        return [_pss_kb(pid) for pid in (validator.pid, *_children(validator.pid))]
    finally:
        validator.terminate()
        validator.wait(20)


def _as_toml(made: Outfit) -> str:
    config = made.config
    return f"""format = 1
[terminal]
number = {config.terminal}
vehicle = "{config.vehicle}"
[reader]
address = "{config.reader}"
[rules]
table = "{config.rules.table}"
operator = "{config.rules.operator}"
scheme = "{config.rules.scheme}"
[keys]
file = "{config.keys}"
[ledger]
file = "{config.ledger}"
[duty]
routes = ["{config.routes[0]}"]
"""


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def _pss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
