"""The driver's keys, by what they mean. Which physical key means what is a mapping file's business."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class DriverKey(Enum):
    """What a key means; the value is its word in mapping files."""

    TRIP = "trip"  # opens the next trip; closes the open one
    NEXT_STOP = "next_stop"
    PREVIOUS_STOP = "previous_stop"
    PAIR = "pair"  # two people on one card
    CHILD = "child"
    TICKET = "ticket"  # then digits, then ENTER
    FARE = "fare"  # then digits, then ENTER
    DIGIT = "digit"
    ENTER = "enter"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Press:
    """One key pressed. ``digit`` (0-9) counts with DIGIT only."""

    key: DriverKey
    digit: int = 0


class Keypad(Protocol):
    """The driver's keypad."""

    def presses(self) -> Sequence[Press]:
        """What was pressed since the last call, oldest first; never waits, never raises: an unplugged keypad presses nothing."""
        ...
