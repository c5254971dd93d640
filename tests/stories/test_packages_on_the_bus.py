"""A list from the city meets riders: the lost card is refused, its replacement rides at once."""

from datetime import date

from drivers.devices.keypad import DriverKey
from drivers.signing import Ed25519Key, SignatureChecker
from firmware import packages
from firmware.packages import CityKey, Judge, Staged
from firmware.rehearsal import Town
from ledger import package, seal
from ledger.entry import Kind
from ledger.package import Package, PackageKind
from validator.lists import DenyList
from validator.messages import Message

CITY = Ed25519Key(bytes(range(32)))
DAY = date(2026, 4, 6)


def sent(town: Town, riders: list[bytes]) -> DenyList:
    """What a terminal makes of the city's package with these riders."""
    rider_key = town.desk.rider_key_version
    listed = ", ".join(f'"{rider.hex()}"' for rider in riders)
    text = f"format = 1\nrider_key = {rider_key}\nriders = [{listed}]\n"
    found = Package(PackageKind.DENY_LIST, 1, DAY, 0, text.encode())
    judge = Judge((CityKey(CITY.algorithm, CITY.public),), SignatureChecker(), DAY, rider_key, recent=lambda: set(riders))
    folder = town.folder / "packages"
    assert isinstance(packages.stage(folder, seal.seal(CITY, seal.Content.PACKAGE, package.encode(found)), judge), Staged)
    there = packages.parsed(packages.enter(folder, judge)[PackageKind.DENY_LIST], rider_key)
    assert isinstance(there, DenyList)
    return there


def test_the_replacement_for_a_blocked_card_rides_at_once(town: Town) -> None:
    """A rider in London had a new card that the lists did not let ride (validator-domain 2.4, source T7; test 8 of section 7)."""
    lost, replacement = town.card(), town.card()
    bus = town.vehicle(route="G1")
    bus.denied |= sent(town, [town.rider(lost)]).riders
    bus.press(DriverKey.TRIP)
    assert Message.BLOCKED_CARD in bus.touch(lost)
    assert bus.kinds(lost) == [Kind.REFUSED]
    assert Message.FREE in bus.touch(replacement)
    assert bus.kinds(replacement) == [Kind.FREE]


def test_a_list_writes_no_card_so_the_next_one_may_welcome_it_again(town: Town) -> None:
    """65,000 cards were lost for good to one bad list (validator-domain 2.4, source T5; test 7 of section 7)."""
    card = town.card()
    bus = town.vehicle(route="G1")
    bus.denied |= sent(town, [town.rider(card)]).riders
    bus.press(DriverKey.TRIP)
    held = dict(card.memory.blocks)
    assert Message.BLOCKED_CARD in bus.touch(card)
    assert dict(card.memory.blocks) == held
    bus.denied.clear()
    assert Message.FREE in bus.touch(card)
