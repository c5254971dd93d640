"""What the city sends down comes into force between two trips of a running station, and never under a rider."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from drivers.devices.keypad import DriverKey
from drivers.signing import Ed25519Key, SignatureChecker
from fares import files, gtfs
from fares.table import FareTable, pack
from firmware import packages
from firmware.failure import Failure
from firmware.packages import CityKey, Judge
from firmware.rehearsal import Town, Vehicle, tariff
from firmware.rulebook import PackagedRules
from ledger import package, seal
from ledger.entry import Entry, Intent, Kind
from ledger.offers import Offer
from ledger.package import Package, PackageKind
from ledger.receipts import CityKeys, LetterboxBeside
from validator.journey import Tariff
from validator.lists import NOBODY, DenyList
from validator.messages import Message
from validator.rulebook import InForce

CITY = Ed25519Key(bytes(range(32)))
CONTENTS = gtfs.compile_feed(files.open_feed(Path(__file__).parents[2] / "examples" / "town"))[0]
DAY = date(2026, 5, 1)
ROUTE = "M2"


def table(dearer: int = 10) -> bytes:
    """The town's fares, each dearer by so many yen."""
    sets = tuple(tuple({rider: yen + dearer for rider, yen in fare.items()} for fare in fares) for fares in CONTENTS.fare_sets)
    return pack(replace(CONTENTS, fare_sets=sets, version=f"+{dearer}"))


@dataclass
class Road:
    """What a courier lays down for one vehicle, and the day that the operator counts."""

    bus: Vehicle
    post: LetterboxBeside
    today: date | None = DAY
    judged: int = 0
    routes: tuple[str, ...] = (ROUTE,)

    def judge(self) -> Judge:
        self.judged += 1
        return Judge(
            keys=(CityKey(CITY.algorithm, CITY.public),),
            checker=SignatureChecker(),
            today=self.today,
            rider_key=self.bus.town.desk.rider_key_version,
            table=lambda: self.bus.town.tariff.table,
            routes=self.routes,
        )

    def build(self, sent: Mapping[PackageKind, Package]) -> InForce:
        rules, town = self.bus.town.tariff, self.bus.town
        fares, denied = sent.get(PackageKind.FARE_TABLE), sent.get(PackageKind.DENY_LIST)
        new = Tariff(FareTable.unpack(fares.file) if fares else rules.table, rules.operator, rules.scheme)
        listed = packages.parsed(denied, town.desk.rider_key_version) if denied else NOBODY
        assert isinstance(listed, DenyList)
        versions = replace(town.versions(), table=new.table.digest)
        return InForce(new, versions, listed.blocks, tuple(trip for trip in new.table.trips() if trip.route == ROUTE))

    def lay(self, file: bytes, version: int = 1, valid_from: date = DAY, kind: PackageKind = PackageKind.FARE_TABLE) -> None:
        sealed = seal.seal(CITY, seal.Content.PACKAGE, package.encode(Package(kind, version, valid_from, 0, file)))
        self.post.lay_package(sealed, Offer(kind, version, valid_from, version.to_bytes(32, "big"), len(sealed)))

    def folder(self) -> Path:
        return self.bus.path.parent / "packages"


@pytest.fixture(scope="module")
def rules() -> Tariff:
    return tariff()


@pytest.fixture
def town(rules: Tariff, tmp_path: Path) -> Town:
    return Town(tmp_path, rules)


@pytest.fixture
def road(town: Town) -> Road:
    bus = town.vehicle(route=ROUTE)
    post = LetterboxBeside(bus.path, CityKeys(SignatureChecker(), {seal.key_id(CITY.public): CITY.public}))
    road = Road(bus, post)
    rulebook = PackagedRules(road.folder(), post, road.judge, lambda: road.today, road.build)
    bus.station.equipment = replace(bus.station.equipment, rulebook=rulebook)
    return road


def wait(bus: Vehicle, seconds: int = 12) -> None:
    """Nobody is near for so long; the station turns once a second."""
    for _ in range(seconds):
        bus.town.clock.advance_ms(1000)
        bus.turn()


def end_of_trip(bus: Vehicle) -> None:
    bus.press(DriverKey.TRIP)
    assert bus.station.duty.trip is None


def paid(bus: Vehicle) -> list[Entry]:
    return [entry for entry in bus.entries() if entry.kind is Kind.PAID]


def in_force(bus: Vehicle) -> bytes:
    return bus.station.terms.tariff.table.digest


def test_a_table_that_comes_during_a_trip_waits_for_its_end_and_every_entry_names_its_own(road: Road, town: Town) -> None:
    bus, old = road.bus, in_force(road.bus)
    bus.ride_to(2)
    assert bus.touch(town.card())[-1] is Message.PAID
    road.lay(table())
    wait(bus, 30)
    assert bus.touch(town.card())[-1] is Message.PAID
    assert (in_force(bus), road.post.parcels() != []) == (old, True)
    end_of_trip(bus)
    wait(bus)
    bus.ride_to(2)
    assert bus.touch(town.card())[-1] is Message.PAID
    first, second, third = paid(bus)
    assert (first.versions.table, second.versions.table, third.versions.table) == (old, old, in_force(bus))
    assert second.fare.nominal == first.fare.nominal
    assert third.fare.nominal == first.fare.nominal + 10
    assert road.post.parcels() == []


def test_it_comes_into_force_when_its_day_comes_to_a_parked_bus(road: Road) -> None:
    bus, old = road.bus, in_force(road.bus)
    road.lay(table(), valid_from=DAY + timedelta(days=1))
    wait(bus)
    assert (in_force(bus), road.post.parcels()) == (old, [])
    road.today = DAY + timedelta(days=1)
    wait(bus)
    assert in_force(bus) != old


def test_who_opens_the_next_trip_at_once_gets_what_was_due_all_the_same(road: Road) -> None:
    bus, old = road.bus, in_force(road.bus)
    road.lay(table(), valid_from=DAY + timedelta(days=1))
    wait(bus)
    bus.press(DriverKey.TRIP)
    first = bus.station.duty.trip
    road.today = DAY + timedelta(days=1)
    wait(bus)
    assert in_force(bus) == old
    bus.press(DriverKey.TRIP)
    bus.press(DriverKey.TRIP)
    assert in_force(bus) != old
    following = bus.station.duty.trip
    assert (first, following) == (town_trip(bus, 0), town_trip(bus, 1))


def town_trip(bus: Vehicle, place: int) -> object:
    return bus.trips[place]


def test_not_while_a_card_lies_on_the_reader(road: Road, town: Town) -> None:
    bus, old, card = road.bus, in_force(road.bus), town.card()
    road.lay(table())
    bus.air.lay(card)
    wait(bus, 20)
    assert in_force(bus) == old
    bus.air.lift(card.idm)
    wait(bus)
    assert in_force(bus) != old


def test_not_while_a_debit_is_open(road: Road, town: Town) -> None:
    bus, old = road.bus, in_force(road.bus)
    bus.ride_to(2)
    bus.touch(town.card())
    bus.station.duty = replace(bus.station.duty, trip=None)
    bus.store.intend(Intent(paid(bus)[0]))
    road.lay(table())
    wait(bus)
    assert in_force(bus) == old
    bus.store.withdraw(town.rider(town.cards[0]))
    wait(bus)
    assert in_force(bus) != old


def test_a_list_blocks_from_the_next_trip_on(road: Road, town: Town) -> None:
    bus, card = road.bus, town.card()
    bus.ride_to(2)
    version = town.desk.rider_key_version
    road.lay(f'format = 1\nrider_key = {version}\nriders = ["{town.rider(card).hex()}"]\n'.encode(), kind=PackageKind.DENY_LIST)
    wait(bus)
    assert bus.touch(card)[-1] is Message.PAID
    end_of_trip(bus)
    wait(bus)
    bus.ride_to(2)
    assert bus.touch(card)[-1] is Message.BLOCKED_CARD


@pytest.mark.parametrize(
    ("file", "reason"),
    [(b"not a table", "package-unusable:fare-table"), (table(20_000), "package-held:fare-table")],
    ids=["broken", "ten times the fare"],
)
def test_what_is_no_good_or_too_big_changes_nothing_and_is_in_the_ledger_at_once(road: Road, file: bytes, reason: str) -> None:
    bus, old = road.bus, in_force(road.bus)
    road.lay(file)
    wait(bus)
    assert (in_force(bus), road.post.parcels()) == (old, [])
    assert [entry.reason for entry in bus.entries() if entry.kind is Kind.ALARM] == [reason]


def test_a_table_without_the_vehicles_route_is_refused(road: Road) -> None:
    bus, old = road.bus, in_force(road.bus)
    road.routes = (ROUTE, "X9")
    road.lay(table())
    wait(bus)
    assert in_force(bus) == old
    assert [entry.reason for entry in bus.entries() if entry.kind is Kind.ALARM] == ["package-unusable:fare-table"]


def test_what_is_for_later_waits_in_its_parcel_until_what_is_for_sooner_is_in_force(road: Road) -> None:
    bus, old = road.bus, in_force(road.bus)
    sooner, later = DAY + timedelta(days=1), DAY + timedelta(days=30)
    road.lay(table(10), 1, sooner)
    road.lay(table(20), 2, later)
    wait(bus, 30)
    assert (in_force(bus), len(road.post.parcels())) == (old, 1)
    road.today = sooner
    wait(bus, 20)
    first = in_force(bus)
    assert first != old
    assert road.post.parcels() == []
    road.today = later
    wait(bus)
    assert in_force(bus) not in {old, first}


def test_a_parked_bus_opens_no_package_when_nothing_has_changed(road: Road) -> None:
    road.lay(table(), valid_from=DAY + timedelta(days=9))
    wait(road.bus)
    before = road.judged
    wait(road.bus, 100)
    assert road.judged == before


def test_rules_that_cannot_be_built_leave_the_old_ones_in_force(road: Road) -> None:
    def fails(_sent: Mapping[PackageKind, Package]) -> InForce:
        raise Failure("the scheme does not know the table")

    bus, old = road.bus, in_force(road.bus)
    rulebook = bus.station.equipment.rulebook
    assert isinstance(rulebook, PackagedRules)
    build: Callable[[Mapping[PackageKind, Package]], InForce] = fails
    rulebook.build = build
    road.lay(table())
    wait(bus, 30)
    assert in_force(bus) == old
    bus.ride_to(2)
    assert bus.touch(bus.town.card())[-1] is Message.PAID


def test_a_disk_that_fails_leaves_the_old_ones_in_force_and_the_station_serving(road: Road) -> None:
    bus, old = road.bus, in_force(road.bus)
    road.folder().write_text("a file where the folder should be")
    road.lay(table())
    wait(bus, 30)
    assert in_force(bus) == old
    bus.ride_to(2)
    assert bus.touch(bus.town.card())[-1] is Message.PAID
    end_of_trip(bus)
    road.folder().unlink()
    wait(bus, 30)
    assert in_force(bus) != old


def test_while_the_clock_is_unset_nothing_comes_into_force(road: Road) -> None:
    bus, old = road.bus, in_force(road.bus)
    road.today = None
    road.lay(table())
    wait(bus, 20)
    assert in_force(bus) == old
    road.today = DAY
    wait(bus)
    assert in_force(bus) != old
