"""Two clocks: one that jumps, for tests and the quick demo, and this machine's own.

Both satisfy ``drivers.devices.clock.Clock``. The virtual one is moved by whoever sleeps on it, so a test of a long day takes no time, and
two runs with the same seed see the same instants.
"""

import time

from drivers.devices.clock import ClockState, Instant

_MS = 1_000_000
_SPIN_NS = 120_000  # a sleep of the operating system is late by 50 to 100 µs


class VirtualClock:
    """A clock that stands still until somebody sleeps on it; sleeping jumps.

    ``utc_ms``, ``state`` and ``boot`` may be set at any time: a clock is corrected, a terminal restarts.
    """

    def __init__(self, utc_ms: int = 1_775_001_600_000, state: ClockState = ClockState.NTP, boot: int = 1) -> None:
        self.boot = boot
        self.state = state
        self._ns = 0
        self._utc_at_zero_ms = utc_ms

    @property
    def utc_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._utc_at_zero_ms + self._ns // _MS

    @utc_ms.setter
    def utc_ms(self, utc_ms: int) -> None:
        self._utc_at_zero_ms = utc_ms - self._ns // _MS

    def now(self) -> Instant:
        return Instant(self.boot, self._ns // _MS, self.utc_ms, self.state)

    def monotonic_ns(self) -> int:
        return self._ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self._ns = max(self._ns, deadline_ns)

    def advance_ms(self, duration_ms: int) -> None:
        """Let time pass."""
        self._ns += duration_ms * _MS


class RealClock:
    """This machine's clocks. ``state`` says how far its wall clock is trusted; whoever knows better sets it."""

    def __init__(self, state: ClockState = ClockState.UNSET, boot: int = 1) -> None:
        self.boot = boot
        self.state = state
        self._start_ns = time.monotonic_ns()

    def now(self) -> Instant:
        return Instant(self.boot, (time.monotonic_ns() - self._start_ns) // _MS, time.time_ns() // _MS, self.state)

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Sleep most of the way and spin the last bit: a deadline is met within microseconds."""
        while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
            if left_ns > _SPIN_NS:
                time.sleep((left_ns - _SPIN_NS) / 1e9)
