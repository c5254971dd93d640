"""This machine's own clock.

Monotonic time counts from the terminal's start, so that an entry's ``mono_ms`` belongs to its ``boot``. The wall clock is believed only as
far as something vouches for it: before the software was made it cannot be right (UNSET: a battery is empty, 1970 or 2000 has come back);
when somebody vouches for it, it is NTP or GNSS; otherwise it is what the battery-backed clock gave (RTC).

A station has no network and may not ask chrony, so one small process does (``kazashi clock``), and leaves one line where every process
reads it: the word of ``ClockState`` in small letters and the machine's monotonic milliseconds then, ``ntp 1234567``. An old word is none.
"""

import time
from contextlib import suppress
from pathlib import Path

from drivers.devices.clock import ClockState, Instant

NOT_BEFORE_UTC_MS = 1_767_225_600_000
"""2026-01-01: no terminal ran this software earlier."""

SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""Made by the time service once it has set the clock (systemd-timesyncd, chrony's wait unit)."""

TOLD = Path("/run/kazashi/clock/told")
STALE_AFTER_MS = 120_000
EPOCH = Path("/usr/lib/clock-epoch")
"""systemd sets a clock without a battery to the date of this file; then nobody knows the time."""

_EPOCH_MARGIN_MS = 60_000
_ASK_AGAIN_NS = 1_000_000_000
_SPIN_NS = 60_000


class SystemClock:
    """A ``drivers.devices.clock.Clock`` on the operating system's clocks. ``boot``: this start's number."""

    def __init__(self, boot: int, synchronised: Path = SYNCHRONISED, told: Path = TOLD, epoch: Path = EPOCH) -> None:
        self._boot = boot
        self._start_ns = time.monotonic_ns()
        self._synchronised = synchronised
        self._told = told
        self._vouched = ClockState.UNSET
        self._ask_ns = self._start_ns
        self._not_before_ms = NOT_BEFORE_UTC_MS
        with suppress(OSError):
            up_ms = int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)
            self._not_before_ms = max(NOT_BEFORE_UTC_MS, int(epoch.stat().st_mtime * 1000) + up_ms + _EPOCH_MARGIN_MS)

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
        now_ns = time.monotonic_ns()
        if now_ns >= self._ask_ns:
            self._ask_ns = now_ns + _ASK_AGAIN_NS
            self._vouched = ClockState.NTP if self._synchronised.exists() else left(self._told, now_ns // 1_000_000)
        if utc_ms < NOT_BEFORE_UTC_MS:
            return ClockState.UNSET
        if self._vouched is not ClockState.UNSET:
            return self._vouched
        return ClockState.UNSET if utc_ms < self._not_before_ms else ClockState.RTC


def leave(path: Path, state: ClockState, mono_ms: int) -> None:
    """Leave the word; whole or not at all, not flushed, for it lies in memory. Raises ``OSError``."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(f"{state.name.lower()} {mono_ms}\n", encoding="ascii")
    fresh.replace(path)


def left(path: Path, mono_ms: int) -> ClockState:
    """The word that was left; UNSET when there is none, or it is old."""
    with suppress(OSError, ValueError, KeyError):
        word, _, at_ms = path.read_text("ascii").strip().partition(" ")
        if 0 <= mono_ms - int(at_ms) <= STALE_AFTER_MS:
            return ClockState[word.upper()]
    return ClockState.UNSET
