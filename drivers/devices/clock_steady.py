"""A clock that carries the time over a power cut and never goes back within a shift (pure).

Two things may be wrong with a wall clock that nobody vouches for, and both are seen only in comparison.

* It is *behind* what was known before: its battery is empty. Then the time known last is carried on, and called so: it is a lower bound,
  for nobody knows how long the vehicle stood.
* It is set *back* while people ride: the day's first satellite, a server in the depot. A second tap that is earlier than the first would
  make two riders of one and a transfer of none; so within a shift time only goes on. A step forward is taken at once; a step back waits for
  the next shift, and until then the time is called carried, because the better source says another one.

A clock that is vouched for (GNSS, NTP) at the start of a shift is believed, whatever was kept: what was kept may be from a day when the
clock ran ahead.
"""

from dataclasses import replace

from drivers.devices.clock import Clock, ClockState, Instant

_WORTH_TELLING_MS = 1000


class SteadyClock:
    """A ``drivers.devices.clock.Clock`` over another one. ``kept_ms``: the time known last before this start, Unix ms; 0 for none."""

    def __init__(self, clock: Clock, kept_ms: int = 0) -> None:
        self._clock = clock
        self._kept_ms = kept_ms
        self._began_ns = clock.monotonic_ns()
        self._ahead_ms: int | None = None  # wall minus monotonic, the most there was in this shift

    def now(self) -> Instant:
        """This moment, not before any moment of this shift."""
        now = self._carried(self._clock.now())
        if now.state is ClockState.UNSET:
            return now
        ahead_ms = now.utc_ms - now.mono_ms
        if self._ahead_ms is None or ahead_ms >= self._ahead_ms:
            self._ahead_ms = ahead_ms
            return now
        held = replace(now, utc_ms=self._ahead_ms + now.mono_ms)
        return replace(held, state=ClockState.CARRIED) if held.utc_ms - now.utc_ms > _WORTH_TELLING_MS else held

    def new_shift(self) -> None:
        """From here on the time may be another one."""
        self._ahead_ms = None

    def monotonic_ns(self) -> int:
        """The other clock's."""
        return self._clock.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """The other clock's."""
        self._clock.sleep_until_ns(deadline_ns)

    def _carried(self, now: Instant) -> Instant:
        known_ms = self._kept_ms + (self._clock.monotonic_ns() - self._began_ns) // 1_000_000
        if not self._kept_ms or now.state >= ClockState.GNSS or now.utc_ms >= known_ms:
            return now
        return replace(now, utc_ms=known_ms, state=ClockState.CARRIED)
