"""The driver turns the key."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulated.clock import VirtualClock
from drivers.emulated.lite_s_card import LiteSCard
from drivers.emulated.power import Key
from firmware.power import ROWS, Do, Pace, State, Watch
from firmware.rehearsal import Town, Vehicle, tariff
from ledger.entry import Kind
from validator.messages import Message

RULES = tariff()
COMMANDS_OF_A_TAP = 14


class Machine:
    """A watch with a key, and what it did."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.key = Key()
        self.done: list[Do] = []
        self.watch = Watch(self.key, self.clock, {do: lambda do=do: self.done.append(do) for do in Do}, Pace(300, 3000))

    def turns(self, ms: int) -> State:
        """Let time pass, a turn each 10 ms."""
        for _ in range(ms // 10):
            self.clock.advance_ms(10)
            self.watch.turn()
        return self.watch.state


def test_a_key_that_stays_turned_closes_syncs_and_switches_off() -> None:
    machine = Machine()
    machine.key.turn_off()

    assert machine.turns(300) is State.DOUBTFUL
    assert machine.done == []
    assert machine.turns(20) is State.CLOSED
    assert machine.done == [Do.CLOSE, Do.SYNC]
    assert machine.turns(3010) is State.OFF
    assert machine.done == [Do.CLOSE, Do.SYNC, Do.SYNC]
    assert machine.watch.ended


def test_a_starter_motor_is_no_end() -> None:
    machine = Machine()
    for _ in range(20):
        machine.key.turn_off()
        machine.turns(250)
        machine.key.turn_on()
        assert machine.turns(20) is State.FED

    assert machine.done == []


def test_a_driver_who_comes_back_after_the_end_starts_it_anew() -> None:
    machine = Machine()
    machine.key.turn_off()
    machine.turns(1000)
    machine.key.turn_on()

    assert machine.turns(10) is State.AGAIN
    assert machine.watch.ended
    assert machine.done == [Do.CLOSE, Do.SYNC]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 400)), max_size=30))
def test_whatever_the_key_does_the_day_is_closed_at_most_once_and_before_any_end(turned: list[tuple[bool, int]]) -> None:
    machine = Machine()
    for on, turns in turned:
        machine.key.turned = on
        machine.turns(turns * 10)

    assert machine.done.count(Do.CLOSE) <= 1
    assert not machine.watch.ended or machine.done[:2] == [Do.CLOSE, Do.SYNC]


def test_every_row_is_reached_by_its_name_once() -> None:
    assert len({row.name for row in ROWS}) == len({(row.state, row.event) for row in ROWS}) == len(ROWS)


# ── at every moment of a tap ──


class Bus:
    """A vehicle of the rehearsal whose tap loop also watches a key."""

    def __init__(self, folder: Path) -> None:
        self.town = Town(folder, RULES)
        self.vehicle: Vehicle = self.town.vehicle(route="M2")
        self.vehicle.ride_to(1)
        self.key = Key()
        perform = {Do.CLOSE: lambda: self.vehicle.station.close_shift(Kind.POWER_LOSS), Do.SYNC: lambda: None}
        self.watch = Watch(self.key, self.town.clock, perform, Pace(300, 1000))

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.watch.turn()
            if self.watch.ended:
                return
            self.vehicle.turn()

    def lay(self, card: LiteSCard, turns: int = 4) -> None:
        with self.vehicle.noted("a card is laid down", card):
            self.vehicle.air.lay(card)
            self.turns(turns)
            self.vehicle.air.lift(card.idm)
            self.turns(6)


@pytest.mark.parametrize("moment", range(COMMANDS_OF_A_TAP))
def test_a_key_that_is_turned_within_a_tap_lets_it_end_and_takes_no_other(moment: int, tmp_path: Path) -> None:
    bus = Bus(tmp_path)
    first, second = bus.town.card(), bus.town.card()
    bus.vehicle.after_commands(moment, bus.key.turn_off)
    bus.lay(first)
    bus.turns(60)
    assert bus.watch.state is State.CLOSED
    bus.lay(second)
    assert bus.vehicle.heard.last().message is Message.CLOSING
    bus.turns(200)

    assert bus.watch.state is State.OFF
    assert bus.vehicle.kinds(first) == [Kind.PAID]
    assert bus.vehicle.kinds(second) == []
    assert bus.vehicle.entries()[-1].kind is Kind.POWER_LOSS
    assert all(verdict.held for verdict in bus.town.verdicts())


@pytest.mark.parametrize("moment", range(1, COMMANDS_OF_A_TAP))  # at 0 no reader has seen it yet
def test_a_card_that_leaves_while_the_key_is_turned_pays_once_or_not_at_all_and_the_next_day_knows(moment: int, tmp_path: Path) -> None:
    bus = Bus(tmp_path)
    card = bus.town.card()

    def both() -> None:
        bus.key.turn_off()
        bus.vehicle.air.lift(card.idm)

    bus.vehicle.after_commands(moment, both)
    bus.lay(card)
    bus.turns(200)
    assert bus.watch.state is State.OFF
    assert not bus.vehicle.store.intents()
    bus.vehicle.cut_power()
    for _ in range(2):
        bus.vehicle.touch(card)

    assert all(verdict.held for verdict in bus.town.verdicts()), bus.town.verdicts()
    assert sum(entry.counts_as_paid for entry in bus.vehicle.of(card)) == 1


@pytest.mark.parametrize("moment", range(COMMANDS_OF_A_TAP))
def test_a_capacitor_that_is_empty_too_early_loses_nothing(moment: int, tmp_path: Path) -> None:
    """The line is off, and the power is gone before anything was closed."""
    bus = Bus(tmp_path)
    card = bus.town.card()

    class EmptyError(Exception):
        pass

    def empty() -> None:
        raise EmptyError

    bus.key.turn_off()
    bus.vehicle.after_commands(moment, empty)
    with suppress(EmptyError):
        bus.lay(card)
    bus.vehicle.air.lift(card.idm)
    bus.vehicle.cut_power()
    for _ in range(2):
        bus.vehicle.touch(card)

    assert all(verdict.held for verdict in bus.town.verdicts()), bus.town.verdicts()
    assert sum(entry.counts_as_paid for entry in bus.vehicle.of(card)) == 1


def test_no_key_of_the_driver_opens_a_trip_after_the_end(tmp_path: Path) -> None:
    from drivers.devices.keypad import DriverKey

    bus = Bus(tmp_path)
    bus.key.turn_off()
    bus.turns(60)
    bus.vehicle.press(DriverKey.TRIP)
    bus.vehicle.press(DriverKey.TRIP)

    assert bus.vehicle.entries()[-1].kind is Kind.POWER_LOSS
    assert bus.vehicle.heard.last().message is Message.CLOSING
