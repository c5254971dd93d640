"""What went wrong on other people's buses and only a city can see: its real door and books, reached by the vehicles' real couriers.

Sources as in docs/stories.md.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from backoffice import health, keys
from backoffice.city import Application, City, Pace
from backoffice.registry import CityBooks
from backoffice.store import Store
from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.pn532_chip import ChipFaults
from drivers.signing import Ed25519Key, SignatureChecker
from fares import files, gtfs
from fares.table import FareTable, pack
from firmware.compose import open_ledger_to_send
from firmware.demo_city import city_books
from firmware.keyring import OneKey
from firmware.laws import nothing_lost
from firmware.rehearsal import TOWN, Town, Vehicle
from ledger import package, seal, stick
from ledger.batch import MAX_SEALED, unpack
from ledger.carrier import BATCHES, HEARTBEATS, Answer, Carrier, Equipment
from ledger.courier import Pace as CouriersPace
from ledger.courier import State
from ledger.notes import WORKS
from ledger.package import Package, PackageKind
from ledger.receipts import CityKeys, LetterboxBeside
from ledger.seal import Content, key_id
from validator.journey import Tariff
from validator.messages import Message

JAPAN = ZoneInfo("Asia/Tokyo")
CITY = Ed25519Key(bytes(range(32)))
MORNING_MS = int(datetime(2026, 4, 6, 9, 0, tzinfo=JAPAN).astimezone(UTC).timestamp() * 1000)
RULES = health.Rules()
A_HEARTBEAT_S = 330
"""By then the station has left its state for the courier (every 20 s), and a heartbeat has carried it (every 300 s)."""


def key_of_device(device: int) -> Ed25519Key:
    return Ed25519Key(device.to_bytes(32, "big"))


@dataclass
class Wire:
    """A courier's way to the city's door, without a network between them."""

    city: City

    def post(self, door: str, body: bytes) -> Answer:
        take = {BATCHES: self.city.batch, HEARTBEATS: self.city.heartbeat}[door]
        return Answer(200, "application/cose", take(body))


@dataclass
class Region:
    """A town and its city, on one clock."""

    town: Town
    store: Store
    couriers: list[tuple[Vehicle, Carrier]] = field(default_factory=list[tuple[Vehicle, Carrier]])

    def __post_init__(self) -> None:
        self.town.clock.utc_ms = MORNING_MS
        self.books = CityBooks(self.store)
        self.city = City(self.books, (CITY,), SignatureChecker(), lambda: self.town.clock.utc_ms, Pace())

    def enrols(self, device: int) -> None:
        now_ms, key = self.town.clock.utc_ms, key_of_device(device)
        code = keys.new_code(lambda size: device.to_bytes(size, "big"))
        self.books.add_device(device, f"bus-{device}", "minato", now_ms)
        self.books.give_code(device, keys.code_digest(code), now_ms, now_ms + 3_600_000)
        self.city.enrol(Application(code, key.algorithm, key.public, key.sign(keys.proof_message(code))))

    def vehicle(self, device: int, route: str = "M2") -> Vehicle:
        """One that the city knows, with a courier, at the second stop of its first trip."""
        bus = self.town.vehicle(f"bus-{device}", device, route)
        known = CityKeys(SignatureChecker(), {key_id(CITY.public): CITY.public})
        post = LetterboxBeside(bus.path, known, lambda: self.town.clock.monotonic_ns() / 1e9)
        working = {"screen": WORKS, "sound": WORKS}
        bus.station.equipment = replace(bus.station.equipment, letterbox=post, parts=lambda: working)
        bus.ride_to(1)
        self.enrols(device)
        post.lock()
        equipment = Equipment(
            device=device,
            software="0.1.0",
            ledgers=lambda: [bus.path],
            open=open_ledger_to_send,
            uplink=Wire(self.city),
            believe=known.receipt,
            letterbox=post,
            keyring=OneKey(key_of_device(device)),
            clock=bus.clock,
            draw=lambda: 0.5,
            free_bytes=lambda: 10**9,
        )
        self.couriers.append((bus, Carrier(equipment, CouriersPace())))
        return bus

    def passes(self, seconds: int) -> None:
        """Time, in which stations turn and couriers do what they have to."""
        for _ in range(seconds // 5):
            self.town.clock.advance_ms(5000)
            for bus, courier in self.couriers:
                bus.turn()
                for _ in range(50):
                    if courier.wakes_ns > self.town.clock.monotonic_ns():
                        break
                    courier.turn()
                assert courier.state is State.RESTING

    def report(self) -> set[tuple[str, health.Ill, str]]:
        """What `kazashi backoffice report` would say now."""
        now_ms = self.town.clock.utc_ms
        today = datetime.fromtimestamp(now_ms / 1000, JAPAN).date()
        found = health.findings(self.books.conditions(now_ms, today), now_ms, JAPAN, RULES, self.books.table_in_force(today))
        return {(each.name, each.ill, each.detail) for each in found}


@pytest.fixture
def region(town: Town, tmp_path: Path) -> Iterator[Region]:
    with Store.open(f"sqlite:///{tmp_path / 'city.db'}") as store:
        store.migrate()
        yield Region(town, store)


# ── Odakyu, 1 April 2014 ──


def raised_table() -> bytes:
    """The town's fares, ten yen more each."""
    contents, _ = gtfs.compile_feed(files.open_feed(TOWN))
    sets = tuple(tuple({rider: yen + 10 for rider, yen in fare.items()} for fare in fares) for fares in contents.fare_sets)
    return pack(replace(contents, fare_sets=sets, version="2"))


def test_odakyu_2014_the_one_bus_with_an_old_table_is_named(region: Region, rules: Tariff) -> None:
    """The tax had changed, and two buses took another program than all others (2.5, J26; second half of test 5 of section 7)."""
    table = raised_table()
    sent = Package(PackageKind.FARE_TABLE, 2, date(2026, 4, 1), MORNING_MS, table)
    region.city.offer(seal.seal(CITY, Content.PACKAGE, package.encode(sent)))
    old = region.vehicle(1)
    region.town.tariff = replace(rules, table=FareTable.unpack(table))
    new = region.vehicle(2)
    for bus, fare in ((old, 190), (new, 200)):
        card = region.town.card()
        assert bus.touch(card)[-1] is Message.PAID
        (entry,) = bus.of(card)
        assert entry.fare.nominal == fare
    region.passes(A_HEARTBEAT_S)
    assert region.report() == {("bus-1", health.Ill.OLD_TABLE, rules.table.digest.hex())}


# ── Toronto: frozen and counted as working ──


def test_a_reader_that_dies_is_named_in_the_report_within_six_minutes(region: Region) -> None:
    """300 frozen readers on 168 buses, some counted as working (2.4, P1, T1; test 9 of section 7)."""
    bus, other = region.vehicle(1), region.vehicle(2)
    for each in (bus, other):
        each.touch(region.town.card())
    region.passes(A_HEARTBEAT_S)
    assert region.report() == set()
    bus.chip.faults = ChipFaults(silent=True)
    region.passes(A_HEARTBEAT_S)
    assert region.report() == {("bus-1", health.Ill.BROKEN_PART, "antenna reader")}
    bus.chip.faults = ChipFaults()
    region.passes(A_HEARTBEAT_S)
    assert region.report() == set()


def test_an_antenna_that_no_card_has_tested_is_named_within_six_minutes(region: Region) -> None:
    """The reader's program lives, and nothing ever reaches it (2.4, P1; test 9 of section 7): it is not said to work."""
    bus = region.vehicle(1)
    region.passes(A_HEARTBEAT_S)
    assert region.report() == {("bus-1", health.Ill.UNTESTED_PART, "antenna")}
    bus.touch(region.town.card(0))
    region.passes(A_HEARTBEAT_S)
    assert region.report() == set()


# ── thirty days without the city ──


def test_thirty_days_without_the_city_come_three_times_with_a_gap_that_is_named(region: Region) -> None:
    """Feeds send duplicates and late files (5, D1; test 12 of section 7): shuffled and three times, each entry counts once."""
    town, dice = region.town, random.Random(12)
    bus = town.vehicle("bus-1", 1, "M2")
    region.enrols(1)
    cards = [town.card(2000) for _ in range(5)]
    for day in range(30):
        town.clock.utc_ms = MORNING_MS + day * 86_400_000
        bus.cut_power()  # a new day's trips
        for _ in range(2):
            bus.press(Key.TRIP)
            bus.press(Key.NEXT_STOP)
            for card in dice.sample(cards, 2):
                bus.touch(card)
            bus.press(Key.TRIP)
        bus.press(Key.SHIFT)
        bus.press(Key.SHIFT)
    town.clock.utc_ms = MORNING_MS + 31 * 86_400_000
    with open_ledger_to_send(bus.path) as ledger:
        batches = [sealed for _, sealed in stick.batches(ledger, OneKey(key_of_device(1)), town.clock.utc_ms, 20)]
    assert len(batches) > 8
    missing = batches.pop(len(batches) // 2)
    thrice = batches * 3
    dice.shuffle(thrice)
    for sealed in thrice:
        region.city.batch(sealed)
    assert region.books.stored(1, bus.store.epoch).holes == (span(missing),)
    region.city.batch(missing)
    assert region.books.stored(1, bus.store.epoch).holes == ()
    assert nothing_lost([bus.book()], city_books(region.town.folder / "city.db")).held


def span(sealed: bytes) -> tuple[int, int]:
    batch = unpack(seal.parse(sealed, Content.BATCH, MAX_SEALED).payload)
    return batch.first_seq, batch.last_seq
