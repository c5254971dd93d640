"""What happens when the driver turns the key, as a table.

The vehicle stops feeding us, and something behind it (a UPS, a capacitor) does for some seconds more. In that time the day has to be on the
disk. It is, in this order: no new tap, the tap in hand runs to its end, what is unknown is named, the end is recorded (POWER_LOSS), all of
it is synced, and the machine asks to be switched off. The screen dims by itself when it has shown that the machine is closing.

Rules that look like choices, and their reasons
    * A tap is never broken off for the key. It takes 30 ms and the table is asked between two turns of the loop, so the tap in hand is over
      before anything here happens. A capacitor of one second is enough for both.
    * A line that is off for less than ``settle_ms`` is no end: a starter motor takes the whole board down to nothing for a moment. Taps go
      on meanwhile.
    * A line that comes back after the end was recorded (the driver thought better of it) starts the station anew, in the same shift and
      trip, as after any start. What was recorded stays recorded.
    * A line that cannot be read is fed (``drivers.devices.power``).
    * Whether the ledger took the end makes no difference to the rest: what it did not take is an open intent, which the next start finds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from drivers.devices.clock import Clock
from drivers.devices.power import PowerLine

_MS = 1_000_000


class State(Enum):
    """Where the machine is."""

    FED = "fed"
    DOUBTFUL = "doubtful"  # the line is off, not for long
    CLOSED = "closed"  # all is on the disk
    OFF = "off"  # asked to be switched off
    AGAIN = "again"  # fed again after the end: the station starts anew


class Event(Enum):
    """What can happen."""

    GONE = "the line is off"
    BACK = "the line is on"
    SETTLED = "the line stays off"
    HELD = "it stayed off as long as it is waited for"


class Do(Enum):
    """What a row asks for."""

    CLOSE = "take no new tap, name what is unknown, record the end"
    SYNC = "all that was written is on the disk"


@dataclass(frozen=True, slots=True)
class Row:
    """One arrow."""

    name: str
    state: State
    event: Event
    target: State
    does: tuple[Do, ...] = ()


ROWS = (
    Row("key-turned", State.FED, Event.GONE, State.DOUBTFUL),
    Row("starter", State.DOUBTFUL, Event.BACK, State.FED),
    Row("leaving", State.DOUBTFUL, Event.SETTLED, State.CLOSED, (Do.CLOSE, Do.SYNC)),
    Row("thought-better", State.CLOSED, Event.BACK, State.AGAIN),
    Row("off", State.CLOSED, Event.HELD, State.OFF, (Do.SYNC,)),
)
ENDS = frozenset({State.OFF, State.AGAIN})
_BY_KEY = {(row.state, row.event): row for row in ROWS}


@dataclass(frozen=True, slots=True)
class Pace:
    """``settle_ms``: so long off is the end. ``hold_ms``: from the end to the switching off, the driver may still come back."""

    settle_ms: int = 300
    hold_ms: int = 3000


class Watch:
    """Watches a line, and performs by ``perform`` what the table asks. Call ``turn`` between two turns of the tap loop."""

    def __init__(self, line: PowerLine, clock: Clock, perform: Mapping[Do, Callable[[], None]], pace: Pace | None = None) -> None:
        self.state = State.FED
        self._line = line
        self._clock = clock
        self._perform = perform
        self._pace = pace or Pace()
        self._since_ns = clock.monotonic_ns()

    @property
    def ended(self) -> bool:
        """Nothing is left to be done here: ``state`` says whether the machine goes off or starts anew."""
        return self.state in ENDS

    def turn(self) -> None:
        """Look at the line, and do what is due."""
        if self.ended:
            return
        row = _BY_KEY.get((self.state, self._event()))
        if row is None:
            return
        for what in row.does:
            self._perform[what]()
        self.state = row.target
        self._since_ns = self._clock.monotonic_ns()

    def _event(self) -> Event:
        if self._line.fed():
            return Event.BACK
        waited_ms = (self._clock.monotonic_ns() - self._since_ns) // _MS
        if self.state is State.DOUBTFUL and waited_ms >= self._pace.settle_ms:
            return Event.SETTLED
        if self.state is State.CLOSED and waited_ms >= self._pace.hold_ms:
            return Event.HELD
        return Event.GONE
