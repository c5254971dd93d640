"""The hand pulls away after each byte, the power goes at each step, a block is torn: what then becomes of the ride?

Each case is one rider with a full card on a bus, one interrupted tap, and what a rider does next: they touch again after 2, 50 or 70
seconds, here, on the next bus, on the next bus and then here again, or here when the trip has ended. Then both buses end their shift, and
their ledgers are joined with the card (``firmware.laws``): never two debits for one ride, never a lost ride, and whatever is not known has
a name. Small in a test (cases far apart), all of them under ``make prove``.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product
from typing import Any

import pytest

from drivers.cards.purse import digest
from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.lite_s_card import REG, Delay, Faults, LiteSCard, Tear, Torn
from firmware.rehearsal import TURNS_TO_EMPTY, Town, Vehicle, counters
from ledger.entry import Kind, Medium
from validator.messages import Message

FARE = 190  # misaki to onsen on M2
POINTS = 2000
WAITS_S = (2, 50, 70)
MOST_BYTES = 800
MOST_TRAFFIC = 24
WRITES_A_TAP = 2  # the intent, the payment
TURNS_TO_CUT = 12
WRITES = ("append", "intend", "pay", "withdraw", "expire_intents")
DELAYS = tuple(Delay)
NewTown = Callable[[int], AbstractContextManager[Town]]


class Way(Enum):
    """Where the rider touches next."""

    HERE = "here"
    NEXT_BUS = "on the next bus"
    THERE_AND_BACK = "on the next bus, and then here again"
    NEXT_TRIP = "here, when the trip has ended"


class Sight(Enum):
    """What the bus knows of the card: its tap is six, five or eight exchanges long."""

    FIRST = "its grant is new here"
    AGAIN = "its grant was verified before"
    COPY_A_TORN = "its grant has to be read from the second copy"


SIGHTS = tuple(Sight)
AFTERWARDS = tuple(product(WAITS_S, Way))


class PowerCut(Exception):
    """The power goes here."""


@dataclass
class Case:
    """One rider, one bus, and the next bus on the same line."""

    town: Town
    bus: Vehicle
    next_bus: Vehicle
    card: LiteSCard
    damaged: bool = False

    def interrupted(self) -> None:
        """The card is taken away now, if it still lies there; the field is seen empty."""
        self.bus.air.lift(self.card.idm)
        self.bus.turn(TURNS_TO_EMPTY)

    def afterwards(self, wait_s: int, way: Way) -> None:
        """What the rider and the driver do next, until both buses have ended their shift."""
        self.town.clock.advance_ms(wait_s * 1000)
        self.go_on(way)
        self.bus.press(Key.SHIFT)
        self.next_bus.press(Key.SHIFT)
        assert self.bus.store.intents() == []
        assert self.next_bus.store.intents() == []
        broken = [verdict for verdict in self.town.verdicts() if not verdict.held]
        assert broken == []

    def go_on(self, way: Way) -> None:
        if way in {Way.NEXT_BUS, Way.THERE_AND_BACK}:
            self.touches(self.next_bus)
            if not self.damaged:
                assert self.paid(self.next_bus) == 1
        if way is Way.NEXT_TRIP:
            self.bus.press(Key.TRIP)
            self.bus.ride_to(1)
        if way is not Way.NEXT_BUS:
            self.touches(self.bus)
            self.ride_is_not_lost(way)

    def touches(self, bus: Vehicle) -> None:
        seen, *said = bus.touch(self.card)
        assert seen is Message.SEEN
        assert said
        if not self.damaged:
            assert said[-1] in {Message.PAID, Message.RECOVERED, Message.ALREADY_PAID, Message.CHECK_LATER}

    def ride_is_not_lost(self, way: Way) -> None:
        """The interrupted ride was paid once, or is a named unknown; a later trip's ride was paid."""
        spent = counters(self.card).spent
        if self.damaged:
            assert any(entry.kind in {Kind.UNKNOWN, Kind.REFUSED, Kind.PAID} for entry in self.bus.of(self.card))
        elif way is Way.HERE:
            assert (spent, self.paid(self.bus)) == (FARE, 1)
        elif way is Way.THERE_AND_BACK:
            assert spent == 2 * FARE
            assert self.paid(self.bus) + self.unknown(self.bus) == 1
        else:
            assert spent == FARE * self.paid(self.bus)
            assert self.unknown(self.bus) == 0

    def paid(self, bus: Vehicle) -> int:
        return sum(entry.counts_as_paid for entry in bus.of(self.card))

    def unknown(self, bus: Vehicle) -> int:
        return len(bus.store.unknown_of(self.town.rider(self.card))) + len(bus.store.intents())


def case(town: Town, sight: Sight = Sight.FIRST, delay: Delay = Delay.MIN) -> Case:
    buses = [town.vehicle(f"bus-{terminal}", terminal, "M2") for terminal in (1, 2)]
    card = town.card(POINTS, delay=delay)
    for bus in buses:
        bus.ride_to(1)
        if sight is Sight.AGAIN:
            before = bus.entries()[-1]
            seen = replace(before, kind=Kind.REFUSED, medium=Medium(town.rider(card)), versions=replace(before.versions, card_key=1))
            bus.store.append(seen, digest(card.memory.blocks[0]))
    if sight is Sight.COPY_A_TORN:
        card.rewrite(1, bytes(16))
    return Case(town, buses[0], buses[1], card)


def spread(count: int, seeds: Iterator[int]) -> Iterator[int]:
    """Each of ``count`` cases once, neighbours far apart, so that the first few are a fair sample."""
    step = next(step for step in range(int(count * 0.618), 2 * count) if _coprime(step, count))
    return (seed * step % count for seed in seeds)


def _coprime(one: int, other: int) -> bool:
    while other:
        one, other = other, one % other
    return one == 1


# ── the hand ──


def pulled(ride: Case, after_bytes: int) -> bool:
    """The card leaves after so many bytes on air from now; whether the reader saw it at all."""
    bus, taps, before = ride.bus, ride.bus.station.taps, len(ride.bus.heard.shown)
    bus.air.lay(ride.card)
    bus.air.lift(ride.card.idm, after_bytes=after_bytes)
    bus.turn()
    said = bus.heard.since(before)
    seen = bus.station.taps > taps
    assert (said[:1] == [Message.SEEN] and said[-1] is not Message.SEEN) if seen else said == []
    ride.interrupted()
    return seen


def test_no_tap_has_more_bytes_on_air_than_those_after_which_the_hand_pulls_away(passing_town: NewTown) -> None:
    exchanges, most = [], 0
    for number, sight in enumerate(Sight):
        with passing_town(number) as town:
            ride = case(town, sight)
            air, before, began = ride.bus.air, ride.bus.air.bytes_on_air, ride.bus.air.exchanges
            air.lay(ride.card)
            ride.bus.turn()
            assert ride.bus.heard.last().message is Message.PAID
            exchanges.append(air.exchanges - began)
            most = max(most, air.bytes_on_air - before)
    assert exchanges == [6, 5, 8]
    assert MOST_BYTES - 100 < most < MOST_BYTES


@pytest.mark.prove(parts=3)
def test_a_card_pulled_away_after_any_byte_pays_once(proof: Any, passing_town: NewTown) -> None:
    cases = tuple(product(Sight, Way))
    count = MOST_BYTES * len(cases)
    for number in spread(count, proof.seeds(small=50, full=count)):
        after_bytes, which = divmod(number, len(cases))
        sight, way = cases[which]
        with passing_town(number) as town:
            ride = case(town, sight)
            pulled(ride, after_bytes)
            ride.afterwards(WAITS_S[(after_bytes + which) % len(WAITS_S)], way)


@pytest.mark.prove(parts=3)
def test_a_card_pulled_away_twice_pays_once(proof: Any, passing_town: NewTown) -> None:
    """The second touch is interrupted as well, at any byte."""
    for seed in proof.seeds(small=20, full=3000):
        first, second = seed * 389 % MOST_BYTES, seed * 619 % MOST_BYTES
        wait_s, way = AFTERWARDS[seed % len(AFTERWARDS)]
        with passing_town(seed) as town:
            ride = case(town, SIGHTS[seed % 3], DELAYS[seed // 3 % 3])
            pulled(ride, first)
            town.clock.advance_ms(2000)
            pulled(ride, second)
            ride.afterwards(wait_s, way)


# ── the power ──


def at_traffic(bus: Vehicle, count: int, act: Callable[[], None]) -> None:
    """Let something happen at the line's traffic number ``count`` from now (each write and each read is one)."""
    bus.after_commands(0, act if count == 0 else lambda: at_traffic(bus, count - 1, act))


class CutBook:
    """The vehicle's book; the power goes before or after its write number ``at`` is durable."""

    def __init__(self, book: object, at: int, *, after: bool) -> None:
        self._book, self._at, self._after = book, at, after

    def __getattr__(self, name: str) -> object:
        method: Any = getattr(self._book, name)
        if name not in WRITES:
            return method
        self._at -= 1
        return self._cut(method) if self._at < 0 else method

    def _cut(self, method: Callable[..., object]) -> Callable[..., None]:
        def cut(*given: object) -> None:
            if self._after:
                method(*given)
            raise PowerCut

        return cut


def cut() -> None:
    raise PowerCut


@dataclass(frozen=True)
class Moment:
    """When the power goes, and of what: the vehicle with its reader and the card in its field, or only the program (kill -9)."""

    place: int
    in_store: bool
    after: bool
    whole_vehicle: bool
    card_stays: bool


MOMENTS = tuple(
    Moment(place, in_store, after, whole, stays)
    for in_store, places in ((False, MOST_TRAFFIC), (True, WRITES_A_TAP))
    for place in range(places)
    for after in ((False, True) if in_store else (False,))
    for whole in (False, True)
    for stays in (False, True)
)


def loses_power(ride: Case, moment: Moment) -> bool:
    """Play the moment; whether the power really went."""
    bus = ride.bus
    if moment.in_store:
        book: Any = CutBook(bus.store, moment.place, after=moment.after)
        bus.station.equipment = replace(bus.station.equipment, ledger=book)
    else:
        at_traffic(bus, moment.place, cut)
    bus.air.lay(ride.card)
    went = False
    try:
        bus.turn(TURNS_TO_CUT)
    except PowerCut:
        went = True
        ride.town.clock.advance_ms(100)
        if moment.whole_vehicle:
            bus.cut_power()
        else:
            bus.crash()
    bus.station.equipment = replace(bus.station.equipment, ledger=bus.store)
    if went and moment.card_stays:
        before = len(bus.heard.shown)
        bus.turn(TURNS_TO_EMPTY)
        assert {Message.PAID, Message.RECOVERED, Message.ALREADY_PAID} & set(bus.heard.since(before))
    ride.interrupted()
    return went


@pytest.mark.prove(parts=3)
def test_a_power_cut_at_any_step_charges_nobody_twice(proof: Any, passing_town: NewTown) -> None:
    count = len(MOMENTS) * len(AFTERWARDS)
    for number in spread(count, proof.seeds(small=50, full=count)):
        moment, (wait_s, way) = MOMENTS[number // len(AFTERWARDS)], AFTERWARDS[number % len(AFTERWARDS)]
        with passing_town(number) as town:
            ride = case(town)
            assert loses_power(ride, moment)
            ride.afterwards(wait_s, way)


@pytest.mark.prove(parts=3)
def test_a_pulled_card_and_then_a_power_cut_charge_nobody_twice(proof: Any, passing_town: NewTown) -> None:
    for seed in proof.seeds(small=20, full=3000):
        moment, (wait_s, way) = MOMENTS[seed * 37 % len(MOMENTS)], AFTERWARDS[seed % len(AFTERWARDS)]
        with passing_town(seed) as town:
            ride = case(town, SIGHTS[seed % 3], DELAYS[seed // 3 % 3])
            pulled(ride, seed * 389 % MOST_BYTES)
            town.clock.advance_ms(2000)
            loses_power(ride, moment)
            ride.afterwards(wait_s, way)


# ── a torn register ──

TEARS = tuple(Tear(block, counted=counted, seed=seed) for block in Torn for counted in (False, True) for seed in range(8))


@pytest.mark.prove(parts=3)
def test_a_torn_debit_is_paid_once_or_has_a_name(proof: Any, passing_town: NewTown) -> None:
    cases = tuple(product(TEARS, (False, True), AFTERWARDS))
    for number in spread(len(cases), proof.seeds(small=20, full=len(cases))):
        tear, lifted, (wait_s, way) = cases[number]
        with passing_town(number) as town:
            ride = case(town)
            ride.card.plan([Faults(), Faults(), Faults(), Faults(tear=tear, lifted=lifted)])
            ride.damaged = tear.block is Torn.GARBAGE
            ride.bus.touch(ride.card)
            ride.interrupted()
            ride.afterwards(wait_s, way)


@pytest.mark.prove(parts=3)
def test_a_register_patched_from_old_and_new_has_a_name(proof: Any, passing_town: NewTown) -> None:
    """Within a block, too, a write may have gone so far and no further."""
    cases = tuple(product(range(1, 16), (False, True), AFTERWARDS))
    for number in spread(len(cases), proof.seeds(small=20, full=len(cases))):
        new_bytes, from_the_end, (wait_s, way) = cases[number]
        with passing_town(number) as town:
            ride = case(town)
            ride.card.plan([Faults(), Faults(), Faults(), Faults(tear=Tear(Torn.OLD, counted=True), lifted=True)])
            ride.bus.touch(ride.card)
            patch(ride, new_bytes, from_the_end=from_the_end)
            ride.interrupted()
            ride.afterwards(wait_s, way)


def patch(ride: Case, new_bytes: int, *, from_the_end: bool) -> None:
    medium = ride.bus.store.intents()[0].entry.medium
    assert medium is not None
    assert medium.before is not None
    assert medium.after is not None
    old, new = medium.before.reg_block(), medium.after.reg_block()
    mixed = old[: 16 - new_bytes] + new[16 - new_bytes :] if from_the_end else new[:new_bytes] + old[new_bytes:]
    ride.damaged = mixed not in {old, new}
    ride.card.rewrite(REG, mixed)
