"""What the pages ask the city's books, and what the books answer. Values only; ``backoffice.console_queries`` is who answers.

Times are Unix ms UTC. A *vehicle* is named as people name it; ``device`` is its terminal's number. Amounts are points or yen, never below 0
unless a field says otherwise.
"""

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Protocol

from backoffice.bill import Bill, Closed, Month
from backoffice.health import Condition
from ledger.entry import Kind, Outcome


@dataclass(frozen=True, slots=True)
class Vehicle:
    """One terminal and what ``backoffice.health`` judges it by.

    ``epoch``: its newest ledger, 0 for none; ``next_seq``: the first entry of that one that the city lacks. ``holes``: missing ranges of
    all its ledgers.
    """

    condition: Condition
    operator: str
    revoked: bool
    epoch: int
    next_seq: int
    holes: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Entries ``first`` … ``last`` of a ledger have not come; later ones came at ``since_ms``."""

    vehicle: str
    epoch: int
    first: int
    last: int
    since_ms: int | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Entries ``first`` … ``last`` are here and wait for what lies before them."""

    vehicle: str
    epoch: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Entries ``first`` … ``last`` (0: nobody knows) can never come; the vehicle signed that. ``reason``: ``ledger.notes.LossReason``."""

    vehicle: str
    epoch: int
    first: int
    last: int
    reason: str
    received_ms: int


@dataclass(frozen=True, slots=True)
class Gaps:
    """All that is not whole."""

    missing: tuple[Missing, ...]
    waiting: tuple[Waiting, ...]
    lost: tuple[Lost, ...]


class Sort(Enum):
    """Where a trouble stands in the books."""

    ALARM = "alarm"
    REJECT = "reject"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that a person should look at. ``code`` is a word from a closed list; ``sentence`` is for whoever mends it.

    ``alarm``: the number of an alarm, which a clerk can tick off; 0 for what is none.
    """

    sort: Sort
    code: str
    vehicle: str
    epoch: int
    seq: int
    at_ms: int
    sentence: str
    alarm: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """What a clerk said about an alarm: ``done``, it is seen to; else it was put back on the list. ``clerk`` may be empty in old books."""

    at_ms: int
    done: bool
    clerk: str
    note: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm and what clerks said about it, the first first; the last counts."""

    trouble: Trouble
    ticks: tuple[Tick, ...] = ()

    @property
    def done(self) -> bool:
        """Ticked off."""
        return bool(self.ticks) and self.ticks[-1].done


@dataclass(frozen=True, slots=True)
class Troubles:
    """The newest troubles, how many there are in all, and the alarms that were ticked off last."""

    newest: tuple[Trouble, ...]
    total: int
    ticked: tuple[Alarm, ...] = ()


@dataclass(frozen=True, slots=True)
class Ride:
    """One ride of one rider: the entry that says last what became of it.

    ``settled``: its own vehicle never learned the outcome, and the city booked it as paid by what other vehicles read from the card.
    ``left``: points on the card afterwards, None when the card was not read. ``corrected``: points by which later bookings changed what was
    booked for it (may be below 0).
    """

    at_ms: int
    service_day: int
    kind: Kind
    outcome: Outcome
    vehicle: str
    operator: str
    route: str
    boarding: str
    alighting: str
    nominal: int
    points: int
    cash: int
    left: int | None
    corrected: int = 0
    recovered: bool = False
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Points that the desk gave; ``points`` below 0 takes back."""

    fiscal_year: int
    number: int
    points: int
    correction: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The card as a vehicle last saw it: ``granted`` in its life, ``spent`` in its life."""

    at_ms: int
    vehicle: str
    granted: int
    spent: int


@dataclass(frozen=True, slots=True)
class Rider:
    """Everything the books have about one card.

    ``booked``: points of all rides booked. ``unknown``: debits whose outcome is not known yet, of ``unknown_points`` together. Once old
    records were let go of, both count from one reading on, at which the card showed ``before_spent`` and ``before_granted`` already.
    """

    rides: tuple[Ride, ...]
    rides_total: int
    grants: tuple[Grant, ...]
    booked: int
    unknown: int
    unknown_points: int
    reading: Reading | None
    before_spent: int = 0
    before_granted: int = 0


@dataclass(frozen=True, slots=True)
class Accounts:
    """A month: the bill of each operator as it stands, and every bill that was closed, with the operator's name, the newest first."""

    bills: tuple[Bill, ...]
    closed: tuple[tuple[str, Closed], ...]


class Books(Protocol):
    """The city's books. Every method may raise ``backoffice.city.BooksAway``."""

    def vehicles(self, now_ms: int, today: date) -> tuple[Vehicle, ...]:
        """Every terminal there ever was. ``today``: the day of ``now_ms`` in the town."""
        ...

    def gaps(self) -> Gaps: ...

    def troubles(self, limit: int) -> Troubles: ...

    def rider(self, rider: bytes, limit: int) -> Rider | None:
        """None when the books have never seen this rider."""
        ...

    def month(self, month: Month, now_ms: int) -> Accounts:
        """The bills of ``month`` as they stand at ``now_ms``."""
        ...

    def alarm(self, number: int) -> Alarm | None:
        """One alarm; None when there is none of this number."""
        ...

    def tick(self, alarm: int, seen: int, tick: Tick) -> bool:
        """Add what a clerk says about an alarm of which they saw ``seen`` ticks; False, and nothing added, when there is another by now."""
        ...
