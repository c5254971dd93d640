"""A validator that takes no card: it says so, reads none, and charges nobody."""

import pytest

from drivers.emulated.air import Air
from drivers.emulated.clock import VirtualClock
from drivers.emulated.line import ChipLine
from drivers.emulated.lite_s_card import blank
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.readers.pn532 import Pn532
from validator.messages import Message, Shown
from validator.standby import Reason, Standby

SAID = {
    Reason.NO_DISK: (Message.OUT_OF_ORDER, Message.OUT_OF_ORDER),
    Reason.NOBODY: (Message.NOT_COMMISSIONED, Message.NOT_COMMISSIONED),
    Reason.STRANGER: (Message.NOT_COMMISSIONED, Message.NOT_COMMISSIONED),
    Reason.UNWRITABLE: (Message.OUT_OF_ORDER, Message.LEDGER_FULL),
}
SECOND_NS = 1_000_000_000


class Bus:
    """A standby with a reader, and what its rider sees and hears."""

    def __init__(self, reason: Reason, *, reader: bool = True) -> None:
        self.clock, self.air = VirtualClock(), Air()
        self.said: list[Message] = []
        self.touches = 0
        self.is_over = False
        line = ChipLine(Pn532Chip(self.air), self.clock)
        reading = Pn532("standby", line.reopen, self.clock.monotonic_ns, baud=921_600) if reader else None
        self.standby = Standby(reason, reading, self, self.clock, lambda: self.is_over, self.touched)

    def show(self, shown: Shown) -> None:
        self.said.append(shown.message)

    def touched(self) -> None:
        self.touches += 1

    def run(self, seconds: int) -> bool:
        until = self.clock.monotonic_ns() + seconds * SECOND_NS
        return self.standby.run(lambda: self.clock.monotonic_ns() < until)


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_is_shown_at_rest_and_answers_every_touch(reason: Reason) -> None:
    bus = Bus(reason)
    assert bus.run(2) is False
    card = blank(bytes.fromhex("012e000000000001"))
    written: list[object] = []
    card.on_write = written.append
    bus.air.lay(card)
    bus.run(2)

    at_rest, answer = SAID[reason]
    assert bus.said == [at_rest, at_rest, answer]
    assert bus.touches == 1
    assert written == []


def test_a_card_that_stays_there_is_one_touch_and_the_next_one_another() -> None:
    bus = Bus(Reason.STRANGER)
    card = blank(bytes.fromhex("012e000000000001"))
    for _ in range(3):
        bus.air.lay(card)
        bus.run(3)
        bus.air.lift(card.idm)
        bus.run(3)
    assert bus.touches == 3


@pytest.mark.parametrize("reason", Reason)
def test_it_ends_within_ten_seconds_after_the_reason_is_gone(reason: Reason) -> None:
    bus = Bus(reason, reader=False)
    assert bus.run(30) is False
    bus.is_over = True
    began = bus.clock.monotonic_ns()
    assert bus.run(30) is True
    assert bus.clock.monotonic_ns() - began <= 11 * SECOND_NS


def test_only_a_fault_of_the_machine_keeps_a_new_system_from_being_called_good() -> None:
    works: dict[Reason, bool] = {}
    for reason in Reason:
        bus = Bus(reason)
        assert not bus.standby.works
        bus.run(2)
        works[reason] = bus.standby.works
    assert works == {Reason.NO_DISK: False, Reason.NOBODY: True, Reason.STRANGER: True, Reason.UNWRITABLE: False}
    assert Bus(Reason.NOBODY, reader=False).standby.works
