"""Two vehicles wrote down the same purse. Joined, their readings tell one story of one card, or they give an imitation away.

The ledgers are those of whole stations; the joining is what the city will do with each upload (``drivers.cards.purse.contradiction``).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from drivers.cards.purse import Counters, contradiction
from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.lite_s_card import REG, LiteSCard, Memory
from firmware.rehearsal import Town, Vehicle
from ledger.entry import Kind
from validator.messages import Message

NewTown = Callable[[int], AbstractContextManager[Town]]


def two_buses(town: Town) -> list[Vehicle]:
    buses = [town.vehicle(f"bus-{terminal}", terminal, "M2") for terminal in (1, 2)]
    for bus in buses:
        bus.ride_to(1)
    return buses


def readings(card: LiteSCard, buses: Sequence[Vehicle]) -> Iterator[Counters]:
    """Every purse that these ledgers saw of a card; as written only where that was proven."""
    for bus in buses:
        for entry in bus.of(card):
            medium = entry.medium
            assert medium is not None
            assert medium.before is not None
            assert medium.after is not None
            yield medium.before
            if entry.counts_as_paid:
                yield medium.after


def copy_of(card: LiteSCard, register: bytes) -> LiteSCard:
    """What a thief who has the keys can make: the same number, key and grant on another chip, with a register of their choice."""
    memory = card.memory
    return LiteSCard(Memory({**memory.blocks, REG: register}, memory.wcnt))


def next_trip(bus: Vehicle) -> None:
    bus.press(Key.TRIP)
    bus.ride_to(1)


def test_an_imitation_pays_on_the_other_bus_and_the_two_ledgers_name_it(town: Town) -> None:
    first, second = two_buses(town)
    card = town.card()
    fake = copy_of(card, card.memory.blocks[REG])
    assert first.touch(card)[-1] is Message.PAID
    town.clock.advance_ms(60_000)
    assert second.touch(fake)[-1] is Message.PAID
    assert contradiction(readings(card, [first])) is None
    assert contradiction(readings(card, [second])) is None
    found = contradiction(readings(card, [first, second]))
    assert found is not None
    assert found[0].regb == found[1].regb


def test_a_rewound_register_is_named_by_one_ledger_that_saw_it_before(town: Town) -> None:
    first, _ = two_buses(town)
    card = town.card()
    full = card.memory.blocks[REG]
    assert first.touch(card)[-1] is Message.PAID
    next_trip(first)
    town.clock.advance_ms(60_000)
    assert first.touch(copy_of(card, full))[-1] is Message.PAID
    assert contradiction(readings(card, [first])) is not None


def test_an_unknown_debit_of_one_bus_is_settled_by_what_the_other_read(town: Town) -> None:
    """The bus that lost the answer cannot tell; the other one's reading can, and it is in its ledger."""
    first, second = two_buses(town)
    card = town.card()
    first.air.lay(card)
    first.after_commands(5, lambda: first.air.lift(card.idm))
    first.turn(5)
    assert first.heard.last().message is Message.HOLD_AGAIN_UNSURE
    first.press(Key.TRIP)
    (unknown,) = [entry for entry in first.of(card) if entry.kind is Kind.UNKNOWN]
    assert unknown.medium is not None
    assert second.touch(card)[-1] is Message.PAID
    read_by_second = next(readings(card, [second]))
    done = card.memory.blocks[REG] != read_by_second.reg_block() and read_by_second == unknown.medium.after
    undone = read_by_second == unknown.medium.before
    assert done != undone


@pytest.mark.prove(parts=2)
def test_no_honest_card_is_named_however_it_is_pulled_away(proof: Any, passing_town: NewTown) -> None:
    for seed in proof.seeds(small=8, full=2000):
        with passing_town(seed) as town:
            buses, dice = two_buses(town), random.Random(seed)
            cards = [town.card() for _ in range(2)]
            for _ in range(14):
                bus, card = dice.choice(buses), dice.choice(cards)
                bus.air.lay(card)
                if dice.random() < 0.5:
                    bus.air.lift(card.idm, after_bytes=dice.randrange(1000))
                bus.turn()
                bus.air.lift(card.idm)
                bus.turn(4)
                town.clock.advance_ms(dice.choice((2000, 50_000, 70_000)))
                if dice.random() < 0.25 and bus.station.duty.coming:
                    next_trip(bus)
            for card in cards:
                assert contradiction(readings(card, buses)) is None
