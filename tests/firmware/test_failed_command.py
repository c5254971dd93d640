"""When a part has given up, somebody hears it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from firmware.compose import CLIPS, ROOT

PATIENCE_S = 20


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.02)


@contextmanager
def started(*arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    with subprocess.Popen([sys.executable, "-m", "firmware.cli", *arguments], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def pictures(folder: Path) -> list[str]:
    return sorted(path.stem.partition("-")[2] for path in folder.glob("*.png"))


def outputs(folder: Path) -> tuple[str, ...]:
    return "--socket", str(folder / "socket"), "--pictures", str(folder / "pictures"), "--clips", str(CLIPS)


def test_a_station_that_gave_up_is_said_by_the_screen_even_when_that_starts_later(tmp_path: Path) -> None:
    with started("failed", "kazashi-station", "--socket", str(tmp_path / "socket")) as failed:
        with started("screen", *outputs(tmp_path), "--sound", "off"):
            until(lambda: "out_of_order" in pictures(tmp_path / "pictures"))
        failed.send_signal(signal.SIGTERM)
        assert failed.wait(PATIENCE_S) == 0


def test_a_screen_that_gave_up_is_replaced_as_far_as_its_devices_work(tmp_path: Path) -> None:
    leds = [tmp_path / colour for colour in ("red", "green", "blue")]
    for led in leds:
        led.mkdir()
        (led / "max_brightness").write_text("255")
    with started("failed", "kazashi-screen", *outputs(tmp_path), "--sound", "off", "--led", *map(str, leds)) as failed:
        until((leds[2] / "brightness").exists)
        until(lambda: pictures(tmp_path / "pictures") == ["out_of_order"])
        failed.send_signal(signal.SIGTERM)
        assert failed.wait(PATIENCE_S) == 0
    assert (leds[0] / "brightness").read_text() == "255"


def test_without_any_glass_the_lamp_still_says_it(tmp_path: Path) -> None:
    leds = [tmp_path / colour for colour in ("red", "green", "blue")]
    for led in leds:
        led.mkdir()
        (led / "max_brightness").write_text("1")
    given = ("--socket", str(tmp_path / "socket"), "--framebuffer", str(tmp_path / "fb0"), "--sound", "off", "--led", *map(str, leds))
    with started("failed", "kazashi-screen", *given):
        until((leds[2] / "brightness").exists)
    assert (leds[0] / "brightness").read_text() == "1"
