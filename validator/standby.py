"""A validator that takes no card, and says so.

It stands there when nobody has told it yet who it is, when it has not come to its city, and when its disk is gone or cannot be written.
Whatever the reason: each touch is answered, no card is written (none is even read: what lies there has only been seen), and nobody is
charged. What the reason is, the message says; when it is over, the station's program is started anew and looks again.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from drivers.devices.clock import Clock
from drivers.errors import ReaderLost
from drivers.reader import Reader
from validator.field import Field, look
from validator.messages import Message, Presenter, Shown
from validator.tap import Event

log = logging.getLogger(__name__)

POLL_GAP_NS = 50_000_000
LOOK_GAP_NS = 10_000_000_000
REVIVE_GAP_NS = 1_000_000_000


class Reason(Enum):
    """Why no card is taken. ``value``: what `systemctl status` says."""

    NO_DISK = "the data partition is not there; it is looked for"
    NOBODY = "not commissioned: nobody has said who this unit is; it waits for a stick"
    STRANGER = "not commissioned: it has not come to its city; what it sees goes into quarantine"
    UNWRITABLE = "the ledger cannot be written; it is tried again"

    @property
    def message(self) -> Message:
        """What people see while nobody is near, and hear once."""
        return Message.OUT_OF_ORDER if self.is_fault else Message.NOT_COMMISSIONED

    @property
    def answer(self) -> Message:
        """What a touch is answered with."""
        return Message.LEDGER_FULL if self is Reason.UNWRITABLE else self.message

    @property
    def is_fault(self) -> bool:
        """Whether the machine itself is at fault: then a new system is not called good."""
        return self in {Reason.NO_DISK, Reason.UNWRITABLE}


@dataclass(slots=True)
class Standby:
    """``reader``: None while nobody has said which one there is. ``over()``: whether the reason is gone; asked every ten seconds.
    ``touched()``: a card was seen.
    """

    reason: Reason
    reader: Reader | None
    presenter: Presenter
    clock: Clock
    over: Callable[[], bool]
    touched: Callable[[], None] = lambda: None
    _field: Field = field(default_factory=Field)
    _answers: bool = False
    _look_at_ns: int = 0
    _revive_at_ns: int = 0

    def run(self, go_on: Callable[[], bool]) -> bool:
        """Turn while ``go_on()``; whether the reason is gone."""
        self.presenter.show(Shown(self.reason.message))
        self._look_at_ns = self.clock.monotonic_ns() + LOOK_GAP_NS
        while go_on():
            self._turn()
            if self.clock.monotonic_ns() >= self._look_at_ns:
                if self.over():
                    return True
                self._look_at_ns = self.clock.monotonic_ns() + LOOK_GAP_NS
            self.clock.sleep_until_ns(self.clock.monotonic_ns() + POLL_GAP_NS)
        return False

    @property
    def works(self) -> bool:
        """Whether it does all that it can do here."""
        return not self.reason.is_fault and (self.reader is None or self._answers)

    def _turn(self) -> None:
        if self.reader is None:
            return
        try:
            if not self._answers and not self._revive(self.reader):
                return
            cards = self.reader.poll()
        except ReaderLost as lost:
            log.warning("reader lost: %s", lost)
            self._answers = False
            return
        self._answers = True
        self._field, event = look(self._field, [card.idm for card in cards])
        if event is Event.CARD_SEEN:
            self.touched()
        if event is not None:
            self.presenter.show(Shown(self.reason.answer))

    def _revive(self, reader: Reader) -> bool:
        if self.clock.monotonic_ns() < self._revive_at_ns:
            return False
        self._revive_at_ns = self.clock.monotonic_ns() + REVIVE_GAP_NS
        return reader.revive()
