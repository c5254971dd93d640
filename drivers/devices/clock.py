"""Time as a terminal knows it: a monotonic count since boot, a wall clock, and how far the wall clock can be trusted."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class ClockState(IntEnum):
    """Where the wall clock comes from; the order is the order of trust."""

    UNSET = 0
    CARRIED = 1  # the last known time, carried over a power cut: a lower bound
    RTC = 2
    GNSS = 3
    NTP = 4


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment by both clocks.

    ``boot``: a counter that rises with each start of the terminal. ``mono_ms``: milliseconds since that start. ``utc_ms``: Unix time in
    milliseconds. ``state``: how far ``utc_ms`` can be trusted.
    """

    boot: int
    mono_ms: int
    utc_ms: int
    state: ClockState


class Clock(Protocol):
    """A clock; tests and the demo use a virtual one (``drivers.emulated.clock``)."""

    def now(self) -> Instant:
        """This moment."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back, for measuring."""
        ...

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return at the absolute monotonic deadline, or at once if it has passed."""
        ...
