"""Tier 2: the real root and the real systemd in a container. Needs root."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images import vehicle
from images.build import ROOT
from images.container import Container
from images.guest import LateError

READER = "pn532:/dev/kazashi-reader@921600"
FIRST_TAP_S = 5.0
PATIENCE_S = 60.0
WITHOUT_HARDWARE = {"kazashi-screen.service", "kazashi-health.service", "kazashi-clock.service"}
"""They need a panel, a reader that answers to them, and chrony with the right to set the clock: tier 3 has those."""


def until(what: str, condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise LateError(f"after {limit_s:.0f} s still not: {what}")
        time.sleep(0.05)


@pytest.fixture
def data(desk: Path, tmp_path: Path) -> Path:
    """A new vehicle's data partition, as a folder."""
    folder = tmp_path / "data"
    vehicle.furnish(ROOT, folder, desk, reader=READER, keypad="")
    return folder


@pytest.fixture
def tray(tmp_path: Path) -> Iterator[Path]:
    """What lies on the reader; the reader's line is open to the station's user, as udev opens a real one."""
    folder = tmp_path / "tray"
    with vehicle.reader_twin(ROOT, folder, tmp_path / "pn532"):
        (tmp_path / "pn532").chmod(0o666)
        yield folder


def station_says(container: Container, words: str) -> bool:
    return words in container.run("journalctl", "-b", "-u", "kazashi-station", "--no-pager", "-o", "cat")


def with_a_reader(image: Path, data: Path, tray: Path) -> Container:
    return Container(image / "root.img", data, binds=[f"{os.path.realpath(tray.parent / 'pn532')}:/dev/kazashi-reader"])


def test_it_starts_and_only_what_lacks_its_hardware_fails(image: Path, data: Path, tray: Path, figures: dict[str, object]) -> None:
    with with_a_reader(image, data, tray) as container:
        container.wait(("running", "degraded"), PATIENCE_S)
        figures["container_up_s"] = round(time.monotonic() - container.started_s, 2)
        failed = {line.split()[0] for line in container.run("systemctl", "--failed", "--no-legend", "--plain").splitlines()}
        assert failed <= WITHOUT_HARDWARE


def test_the_station_serves_a_card_a_few_seconds_after_the_start(
    image: Path, data: Path, tray: Path, rider: Path, figures: dict[str, object]
) -> None:
    shutil.copyfile(rider, tray / "rider.card")
    with with_a_reader(image, data, tray) as container:
        until("the station has seen the card", lambda: station_says(container, "tap rows="))
        figures["container_first_tap_s"] = round(time.monotonic() - container.started_s, 2)
        container.run("systemctl", "stop", "kazashi-station")
        assert "whole: the chain holds" in container.run("kazashi", "ledger", "verify", "/data/ledger/ledger")


def test_nothing_but_data_and_memory_can_be_written(image: Path, data: Path, tray: Path) -> None:
    with with_a_reader(image, data, tray) as container:
        container.wait(("running", "degraded"), PATIENCE_S)
        mounts = [line.split() for line in container.run("cat", "/proc/mounts").splitlines()]
        writable = {
            place for _, place, kind, options, *_ in mounts if "rw" in options.split(",") and kind in {"ext4", "squashfs", "overlay", "xfs"}
        }
        assert {place for place in writable if not place.startswith("/run/host/")} <= {"/data"}
        assert "Read-only" in container.try_to("touch", "/usr/new", "/etc/new")[0]


def test_a_station_that_stands_still_is_started_again(image: Path, data: Path, tray: Path) -> None:
    with with_a_reader(image, data, tray) as container:
        until("the station is ready", lambda: container.try_to("systemctl", "is-active", "kazashi-station")[1] == 0)
        before = container.run("systemctl", "show", "kazashi-station", "-p", "MainPID", "--value").strip()
        container.run("systemctl", "kill", "-s", "SIGSTOP", "kazashi-station")
        until(
            "another station is ready",
            lambda: (
                container.run("systemctl", "show", "kazashi-station", "-p", "MainPID", "--value").strip() not in {before, "0"}
                and container.try_to("systemctl", "is-active", "kazashi-station")[1] == 0
            ),
        )
