"""This machine's own clock.

Monotonic time counts from the terminal's start, so that an entry's ``mono_ms`` belongs to its ``boot``. The wall clock is believed only as
far as something vouches for it: before the software was made it cannot be right (UNSET: a battery is empty, 1970 or 2000 has come back);
when the time service says it has been synchronised, it is NTP; otherwise it is what the battery-backed clock gave (RTC).
"""

import time
from pathlib import Path

from drivers.devices.clock import ClockState, Instant

NOT_BEFORE_UTC_MS = 1_767_225_600_000
"""2026-01-01: no terminal ran this software earlier."""

SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""Made by the time service once it has set the clock (systemd-timesyncd, chrony's wait unit)."""

_SPIN_NS = 60_000


class SystemClock:
    """A ``drivers.devices.clock.Clock`` on the operating system's clocks. ``boot``: this start's number."""

    def __init__(self, boot: int, synchronised: Path = SYNCHRONISED) -> None:
        self._boot = boot
        self._start_ns = time.monotonic_ns()
        self._synchronised = synchronised

    def now(self) -> Instant:
        """This moment."""
        utc_ms = time.time_ns() // 1_000_000
        return Instant(self._boot, (time.monotonic_ns() - self._start_ns) // 1_000_000, utc_ms, self._state(utc_ms))

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back."""
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return at the deadline; late by as much as the operating system likes."""
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns > _SPIN_NS:
            time.sleep(left_ns / 1e9)

    def _state(self, utc_ms: int) -> ClockState:
        if utc_ms < NOT_BEFORE_UTC_MS:
            return ClockState.UNSET
        return ClockState.NTP if self._synchronised.exists() else ClockState.RTC
