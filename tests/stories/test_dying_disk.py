"""A disk that is full or dies does not end the station: it is said, and what can be made good later is."""

from dataclasses import replace
from typing import Any

from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.lite_s_card import Faults
from firmware.rehearsal import Town, Vehicle
from ledger.entry import Kind
from ledger.errors import Full, StoreLost
from validator.messages import Message


class FailingBook:
    """The vehicle's book; the methods named fail as long as it is in use."""

    def __init__(self, book: object, error: Exception, *methods: str) -> None:
        self._book, self._error, self._methods = book, error, methods

    def __getattr__(self, name: str) -> object:
        if name not in self._methods:
            return getattr(self._book, name)

        def fail(*_given: object) -> None:
            raise self._error

        return fail


class NearlyFullLog(FailingBook):
    """Its log must be carried over, and cannot be."""

    def needs_checkpoint(self) -> bool:
        return True


def failing(bus: Vehicle, error: Exception, *methods: str) -> None:
    book: Any = FailingBook(bus.store, error, *methods)
    bus.station.equipment = replace(bus.station.equipment, ledger=book)


def mended(bus: Vehicle) -> None:
    bus.station.equipment = replace(bus.station.equipment, ledger=bus.store)


def test_a_vehicle_with_a_full_ledger_starts_says_so_and_records_its_start_later(town: Town) -> None:
    bus = town.vehicle()
    boots = [entry.kind for entry in bus.entries()].count(Kind.BOOT)
    failing(bus, Full("no room"), "append")
    bus.station.open_shift()
    assert bus.heard.last().message is Message.LEDGER_FULL
    bus.turn(5)
    mended(bus)
    assert [entry.kind for entry in bus.entries()].count(Kind.BOOT) == boots
    town.clock.advance_ms(11_000)
    bus.turn()
    assert [entry.kind for entry in bus.entries()].count(Kind.BOOT) == boots + 1
    town.clock.advance_ms(60_000)
    bus.turn()
    assert [entry.kind for entry in bus.entries()].count(Kind.BOOT) == boots + 1


def test_an_end_that_cannot_be_recorded_still_takes_no_more_cards_and_loses_no_intent(town: Town) -> None:
    bus = town.vehicle(route="M2")
    bus.ride_to(1)
    card = town.card()
    card.plan([Faults(), Faults(), Faults(), Faults(answer_lost=True, lifted=True)])
    bus.touch(card)
    failing(bus, StoreLost("the disk is gone"), "append", "expire_intents", "checkpoint")
    bus.station.close_shift(Kind.POWER_LOSS)
    assert bus.touch(card) == [Message.CLOSING]
    mended(bus)
    bus.cut_power()
    assert len(bus.store.intents()) == 1
    assert bus.touch(card)[-1] is Message.RECOVERED


def test_a_log_that_cannot_be_carried_over_keeps_nobody_waiting(town: Town) -> None:
    bus = town.vehicle(route="M2")
    bus.ride_to(1)
    book: Any = NearlyFullLog(bus.store, StoreLost("the disk is gone"), "checkpoint")
    bus.station.equipment = replace(bus.station.equipment, ledger=book)
    town.clock.advance_ms(6000)
    bus.turn(2)
    assert bus.touch(town.card())[-1] is Message.PAID


def test_a_key_that_cannot_be_recorded_is_not_obeyed_and_says_so(town: Town) -> None:
    bus = town.vehicle(route="M2")
    for error, method in ((Full("no room"), "append"), (StoreLost("the disk is gone"), "intents")):
        failing(bus, error, method)
        bus.press(Key.TRIP)
        assert bus.heard.last().message is Message.LEDGER_FULL
        assert bus.station.duty.trip is None
    mended(bus)
    bus.press(Key.TRIP)
    assert bus.heard.last().message is Message.READY
