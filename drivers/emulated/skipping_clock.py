"""A clock that runs like this machine's and can be put forward: a morning with a real reader, without its pauses.

What takes time in the machine (line, air, disk) takes exactly that time; what happens between two riders is skipped. Two processes that are
given the same ``origin_ns`` and skip the same pauses show the same time.
"""

import time

from drivers.devices.clock import ClockState, Instant

_MS = 1_000_000
_SPIN_NS = 120_000


class SkippingClock:
    """``origin_ns``: this machine's CLOCK_MONOTONIC where the clock shows zero. ``utc_ms``: Unix time at zero."""

    def __init__(self, origin_ns: int, utc_ms: int, skipped_ns: int = 0) -> None:
        self.boot = 1
        self.state = ClockState.NTP
        self.skipped_ns = skipped_ns
        self._origin_ns = origin_ns
        self._utc_ms = utc_ms

    def now(self) -> Instant:
        """This moment."""
        mono_ms = self.monotonic_ns() // _MS
        return Instant(self.boot, mono_ms, self._utc_ms + mono_ms, self.state)

    def monotonic_ns(self) -> int:
        """Nanoseconds since zero, the skipped ones included."""
        return time.monotonic_ns() - self._origin_ns + self.skipped_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return at the deadline, within microseconds, or at once if it has passed."""
        while (left_ns := deadline_ns - self.monotonic_ns()) > 0:
            if left_ns > _SPIN_NS:
                time.sleep((left_ns - _SPIN_NS) / 1e9)

    def skip_ms(self, duration_ms: int) -> None:
        """Put it forward."""
        self.skipped_ns += duration_ms * _MS
