"""Tier 4: one vehicle is updated, and goes back by itself when the new system is broken."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from images import bundle, guest, pki, vehicle
from images.build import BUILD, ROOT, Order, build
from images.guest import Guest

BOOT_LIMIT_S = 300.0
INSTALL_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Updates:
    """Bundles for this vehicle, and the name of the system in the good one."""

    newer: Path
    newer_name: str
    older: Path
    tampered: Path
    strangers: Path


@pytest.fixture(scope="module")
def updates(image: Path, place: Path) -> Updates:
    told = json.loads((image / "image.json").read_text())
    folder = place / "newer"
    build(Order(told["role"], told["architecture"], dev=True, into=folder, epoch=told["made"] + 3600))
    images = (image / "boot.img", image / "root.img")

    def small(name: str, version: str, signing: pki.Signing) -> Path:
        # What is refused is refused before it is written: the boot slot twice is small, and fits into /data beside the others.
        path = place / f"{name}.raucb"
        bundle.make((images[0], images[0]), signing, path, compatible=told["compatible"], version=version, scratch=place / name)
        return path

    ours = pki.made_for_tests(BUILD / "test-pki")
    tampered = small("tampered", "0.1.0+29990101000000", ours)
    with tampered.open("r+b") as file:
        file.seek(-200, 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    newer = place / "newer.raucb"
    shutil.move(folder / "update.raucb", newer)
    return Updates(
        newer=newer,
        newer_name=json.loads((folder / "image.json").read_text())["name"],
        older=small("older", "0.1.0+20200101000000", ours),
        tampered=tampered,
        strangers=small("strangers", "0.1.0+29990101000000", pki.made_for_tests(place / "stranger", "stranger")),
    )


@pytest.fixture(scope="module")
def machine(image: Path, place: Path, kept: Path, desk: Path, updates: Updates) -> Iterator[Guest]:
    bundles = (updates.newer, updates.older, updates.tampered, updates.strangers)
    path = vehicle.written_disk(ROOT, image / "disk.img", place, desk, bundles)
    with vehicle.reader_twin(ROOT, place / "tray", place / "pn532"):
        plugs = [guest.serial_reader(place / "pn532"), guest.keypad(), guest.sound_file(kept / "update.wav")]
        with Guest(path, kept / "update", plugs, cores=2) as started:
            come_up(started, "A")
            yield started


def come_up(machine: Guest, slot: str) -> None:
    machine.wait(f"kazashi: slot {slot}", BOOT_LIMIT_S)
    machine.open_shell(BOOT_LIMIT_S)
    machine.wait_for("/data is there", "findmnt /data", BOOT_LIMIT_S)


def good(machine: Guest) -> None:
    machine.wait_for(
        "the health check calls the system good", "journalctl -b -u kazashi-health -o cat --no-pager | grep 'marked good'", BOOT_LIMIT_S
    )


@pytest.mark.parametrize(
    ("name", "why"), [("tampered", "signature"), ("strangers", "signature"), ("older", "older than what runs")], ids=lambda each: each
)
def test_what_is_not_ours_or_older_is_refused(machine: Guest, name: str, why: str) -> None:
    text, status = machine.try_to(f"rauc install /data/{name}.raucb", INSTALL_LIMIT_S)
    assert status != 0
    assert why in text


def test_a_good_update_is_installed_and_starts(machine: Guest, updates: Updates, figures: dict[str, object]) -> None:
    good(machine)
    start_s = time.monotonic()
    machine.run("rauc install /data/newer.raucb", INSTALL_LIMIT_S)
    figures["guest_install_s"] = round(time.monotonic() - start_s, 1)
    machine.send("systemctl reboot")
    come_up(machine, "B")
    assert machine.run("cat /run/kazashi-image/name") == updates.newer_name
    assert machine.run("cat /run/kazashi-image/slot") == "root-b"
    good(machine)
    machine.send("systemctl reboot")
    come_up(machine, "B")
    good(machine)


def test_a_slot_that_rots_is_left_for_the_other_one(machine: Guest, image: Path, figures: dict[str, object]) -> None:
    machine.run("dd if=/dev/urandom of=/dev/disk/by-partlabel/root-b bs=1M count=100 conv=fsync", 120)
    start_s = time.monotonic()
    machine.send("systemctl reboot -ff")
    machine.wait("kazashi: slot B", BOOT_LIMIT_S)
    come_up(machine, "A")
    figures["guest_fallback_s"] = round(time.monotonic() - start_s, 1)
    assert machine.run("cat /run/kazashi-image/name") == json.loads((image / "image.json").read_text())["name"]
    good(machine)
