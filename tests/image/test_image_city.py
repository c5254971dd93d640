"""Tier 4: the whole road. A disk as it comes out of the build, a stick that the office wrote, a morning's riders, and the city's books."""

import random
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import city, guest, vehicle
from images.build import ROOT
from images.city import Office
from images.command import run
from images.guest import Guest

MONDAY_MORNING = "2026-11-22T22:05:00"
BOOT_LIMIT_S = 300.0
TAPS = 8
RIDERS = 3
UNIT = "minato-12"
DEVICE = 12


@pytest.fixture(scope="module")
def office(place: Path) -> Iterator[Office]:
    with city.office(place / "city") as opened:
        yield opened


@pytest.fixture(scope="module")
def stick(office: Office, desk: Path, place: Path) -> Path:
    town, table = ROOT / "examples/town", place / "stick.table"
    vehicle.kazashi(ROOT, "fares", "compile", town, "-o", table, "--operator", town / "operator.toml")
    rules = ("--table", table, "--operator", town / "operator.toml", "--scheme", ROOT / "fares/schemes/silver_emica.toml")
    built_in = ("--reader", vehicle.USB_READER, "--keypad", vehicle.USB_KEYPAD, "--keypad-mapping", ROOT / "examples/keypad.toml")
    words = ("--routes", "M1", "--keys", desk / "desk.keys", *built_in, *rules)
    return city.stick(office, place / "stick.img", UNIT, DEVICE, words)


@pytest.fixture(scope="module")
def disk(image: Path, place: Path) -> Iterator[Path]:
    """A disk that nobody has written to."""
    path = place / "new.img"
    run(("cp", "--sparse=always", image / "disk.img", path))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def machine(disk: Path, kept: Path, office: Office, stick: Path, figures: dict[str, object]) -> Iterator[Guest]:
    """A unit that was nobody when it was switched on, and that the city knows now."""
    place = disk.parent
    shutil.rmtree(kept / "city", ignore_errors=True)
    with vehicle.reader_twin(ROOT, place / "city-tray", place / "city-pn532"):
        plugs = [guest.serial_reader(place / "city-pn532"), guest.keypad(), guest.clock(MONDAY_MORNING), guest.stick(stick), office.network]
        with Guest(disk, kept / "city", plugs, cores=2) as started:
            started.open_shell(BOOT_LIMIT_S)
            try:
                started.wait_for("the unit is what the stick says", "test -e /data/unit/unit.toml", BOOT_LIMIT_S)
                figures["guest_provisioned_s"] = round(time.monotonic() - started.started_s, 1)
                started.wait_for("the city has answered", "test -e /data/unit/enrolled.toml", BOOT_LIMIT_S)
                figures["guest_enrolled_s"] = round(time.monotonic() - started.started_s, 1)
                started.wait_for("the station takes cards", "test -e /data/ledger/ledger", 120)
                yield started
            finally:
                said = started.run("journalctl -b --no-pager -o short-monotonic -u 'kazashi*' -u run-kazashi-stick.mount", 180)
                (kept / "city/journal.txt").write_text(said)


def taps_seen(machine: Guest) -> int:
    return int(machine.run("journalctl -b -u kazashi-station --no-pager -o cat | grep -c 'tap rows=' || true"))


def test_the_keys_have_left_the_stick(machine: Guest) -> None:
    folder = "/run/kazashi/stick/kazashi-unit"
    machine.wait_for("the stick's keys are gone", f"test -e {folder}/unit.toml && ! test -e {folder}/keys/station/station.keys", 60)
    assert machine.run("stat -c %U /data/unit/keys/station/station.keys /data/unit/keys/courier/device.keys").split() == [
        "kazashi-station",
        "kazashi-courier",
    ]


def test_every_tap_of_a_morning_is_in_the_citys_books_and_signed_for(
    machine: Guest, office: Office, desk: Path, place: Path, figures: dict[str, object]
) -> None:
    dice, tray = random.Random(20261123), place / "city-tray"
    cards = [place / f"rider-{number}.card" for number in range(RIDERS)]
    for card in cards:
        vehicle.card(ROOT, desk, card)
    machine.press("num_lock")
    machine.wait_for("the trip is open", "kazashi ledger show /data/ledger/ledger | grep -q 'trip open'", 60)
    for number in range(TAPS):
        if dice.random() < 0.6:
            machine.press("kp_add")
            time.sleep(0.5)
        card = dice.choice(cards)
        shutil.move(card, tray / "rider.card")
        end_s = time.monotonic() + 60
        while taps_seen(machine) <= number:
            assert time.monotonic() < end_s, f"tap {number + 1} was not seen"
        shutil.move(tray / "rider.card", card)
        time.sleep(1)
    machine.picture("after the morning")
    start_s = time.monotonic()
    machine.run("systemctl restart kazashi-courier")
    shown = machine.run("kazashi ledger show /data/ledger/ledger").splitlines()
    assert [line for line in shown if re.search(r"\bpaid\b", line)], "riders got on, and nobody got off"
    head = int(re.findall(r"\d+", machine.run("kazashi ledger show /data/ledger/ledger | tail -1"))[0])
    end_s = time.monotonic() + 180
    while (booked := entries_of(office)) < head and time.monotonic() < end_s:
        time.sleep(1)
    figures["guest_to_city_s"] = round(time.monotonic() - start_s, 1)
    assert booked >= head
    while (signed := signed_for(machine)) < head:
        assert time.monotonic() < end_s, f"the city has {head} entries and the vehicle knows of {signed}"
    assert "whole: the chain holds" in machine.run("kazashi ledger verify /data/ledger/ledger")
    assert UNIT in office.run("devices")


def signed_for(machine: Guest) -> int:
    """Up to which entry the vehicle has the city's receipt."""
    told = re.search(r"the city has signed for the entries up to (\d+)", machine.run("kazashi ledger verify /data/ledger/ledger"))
    return int(told[1]) if told else 0


def entries_of(office: Office) -> int:
    with sqlite3.connect(f"file:{next(office.folder.glob('*.db'))}?mode=ro", uri=True) as books:
        (count,) = books.execute("SELECT count(*) FROM entry WHERE device = ?", (DEVICE,)).fetchone()
    return int(count)
