"""What the city owes one operator for one month, in lines that a clerk can follow (pure).

**Which bill a ride is on** is decided by two dates only: its service day (signed on the vehicle) and when the city knew of it.

- A day N is *provisional* from the morning after (05:00 of N+1): before that its last buses are still on the road, and it is not shown.
- A day is *final* fourteen days later. What becomes known after that is late: it has a line of its own, by the month in which it was
  ridden, so that nobody wonders why a closed month has changed.
- A month's bill *closes* when its last day is final. What becomes known after that is on the next bill that has not closed, as a line for
  the month in which it was ridden. So a closed bill never changes again, and every yen is on exactly one bill.

What the city concluded about unknown debits, and what it took back, have lines of their own too, by the same dates. They are counted from
when the proof had arrived, not from when a program ran, so the same records always give the same bill.

**What is counted.** A ride is counted once, by what the city owes for it (``backoffice.book``): a *ride paid with points* took points,
however many coins came with them; a *free ride* had a part of its fare waived, however many coins a companion paid; a *ride for coins
alone* is neither, and is on no line, because the city owes nothing for it. ``Tally`` counts them, for whoever shows a bill.

Hours and days are the city's to choose; they come in ``Terms``, as does what a point is worth, which the scheme says for each day.
"""

import calendar
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta, tzinfo
from enum import Enum
from typing import NamedTuple

from backoffice.book import PostingKind
from fares.dates import from_number

BESIDE_COINS = (PostingKind.POINTS - PostingKind.CASH, PostingKind.FREE - PostingKind.CASH)
"""How far from the leg of a ride's coins those of its points and of its waived fare lie; coins with neither were paid alone."""

_EPOCH = date(1970, 1, 1)
_MONTHS = 12
_DAY_MS = 86_400_000


class Month(NamedTuple):
    """A calendar month."""

    year: int
    month: int

    @staticmethod
    def parse(text: str) -> "Month":
        """From ``YYYY-MM``; anything else is a ``ValueError``."""
        day = date.fromisoformat(f"{text}-01")
        return Month(day.year, day.month)

    @staticmethod
    def of(service_day: int) -> "Month":
        """The month of a day, given as days since 1970-01-01."""
        day = from_number(service_day)
        return Month(day.year, day.month)

    @property
    def first_day(self) -> int:
        """Days since 1970-01-01."""
        return (date(self.year, self.month, 1) - _EPOCH).days

    @property
    def last_day(self) -> int:
        """Days since 1970-01-01."""
        return self.first_day + calendar.monthrange(self.year, self.month)[1] - 1

    @property
    def following(self) -> "Month":
        """The next month."""
        return Month(self.year + 1, 1) if self.month == _MONTHS else Month(self.year, self.month + 1)

    @property
    def previous(self) -> "Month":
        """The month before."""
        return Month(self.year - 1, _MONTHS) if self.month == 1 else Month(self.year, self.month - 1)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"


@dataclass(frozen=True, slots=True)
class Terms:
    """When days become provisional and final, and what a point is worth. ``yen_per_point``: on a service day."""

    zone: tzinfo
    provisional_at: time
    final_after_days: int
    yen_per_point: Callable[[date], int]

    def provisional_ms(self, service_day: int) -> int:
        """From when (Unix ms) the day is shown on a bill."""
        morning = datetime.combine(from_number(service_day) + timedelta(days=1), self.provisional_at, self.zone)
        return int(morning.timestamp() * 1000)

    def final_ms(self, service_day: int) -> int:
        """From when (Unix ms) what becomes known about the day is late."""
        return self.provisional_ms(service_day + self.final_after_days)

    def closes_ms(self, month: Month) -> int:
        """From when (Unix ms) the month's bill never changes again."""
        return self.final_ms(month.last_day)

    def billed_in(self, service_day: int, at_ms: int) -> Month:
        """The month whose bill carries what became known at ``at_ms`` about ``service_day``."""
        month = Month.of(service_day)
        if at_ms < self.closes_ms(month):
            return month
        # Nothing before this month is still open; without the short cut a day of 1970 would be walked from.
        month = max(month, _month_of(at_ms - (self.final_after_days + 2) * _DAY_MS, self.zone).previous)
        while at_ms >= self.closes_ms(month):
            month = month.following
        return month

    def late(self, service_day: int, at_ms: int) -> bool:
        """What became known at ``at_ms`` about ``service_day`` is late."""
        return at_ms >= self.final_ms(service_day)


class Movement(NamedTuple):
    """What ``rides`` postings of one day, kind, turn and time did together. ``amount``: points for POINTS, else yen.

    ``alone``: of CASH, that nothing else was booked for these rides.
    """

    service_day: int
    at_ms: int
    kind: PostingKind
    turn: int
    amount: int
    rides: int = 1
    alone: bool = False


class Part(Enum):
    """The lines of a bill, in their order."""

    POINTS = "points"
    FREE = "free"
    SETTLED = "settled"
    LATE_POINTS = "late points"
    LATE_FREE = "late free"
    TAKEN_BACK = "taken back"


class Status(Enum):
    """Whether a bill can still change."""

    PROVISIONAL = "provisional"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Line:
    """``rides`` of ``month`` that are billed for one reason. ``yen`` is what is asked for them; below zero for what was taken back."""

    part: Part
    month: Month
    rides: int
    points: int
    yen: int


@dataclass(frozen=True, slots=True)
class Day:
    """One service day's ordinary rides. Yen for points and for free rides."""

    service_day: int
    rides: int
    points: int
    yen: int
    free_rides: int
    free_yen: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What a bill's month comes to, each ride counted once; whatever the lines are, these are their sums.

    ``coin_rides``: for coins alone, not billed. ``coins``: all yen in the boxes, a memo.
    """

    point_rides: int = 0
    points: int = 0
    points_yen: int = 0
    free_rides: int = 0
    free_yen: int = 0
    coin_rides: int = 0
    coins: int = 0


@dataclass(frozen=True, slots=True)
class Remarks:
    """What the bill does not charge and the reader must know.

    ``unknown`` debits of the month, with their points, whose outcome cannot be told: not billed. ``repaired``: entries whose vehicle did
    not know the day, billed on the day that was found out. ``missing``: entries that have not arrived, over all vehicles of the
    operator. ``lost``: ledgers of which a vehicle declared a part lost.
    """

    unknown: int = 0
    unknown_points: int = 0
    repaired: tuple[str, ...] = ()
    missing: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Bill:
    """One operator's month. ``as_of_ms``, ``closes_ms``: Unix ms. ``name``: what people call the operator."""

    operator: str
    month: Month
    status: Status
    lines: tuple[Line, ...]
    days: tuple[Day, ...]
    tally: Tally
    as_of_ms: int
    closes_ms: int
    remarks: Remarks = Remarks()
    name: str = ""

    @property
    def whose(self) -> str:
        """The operator as people call it, else its id."""
        return self.name or self.operator

    @property
    def rides(self) -> int:
        """All rides that are asked for."""
        return sum(line.rides for line in self.lines)

    @property
    def points(self) -> int:
        """All points that are asked for."""
        return sum(line.points for line in self.lines)

    @property
    def yen(self) -> int:
        """What the city owes for this month."""
        return sum(line.yen for line in self.lines)


class Closed(NamedTuple):
    """A bill as it was when it was closed, at ``at_ms`` (Unix ms), and for ever."""

    operator: str
    month: Month
    at_ms: int
    rides: int
    points: int
    yen: int

    def agrees(self, told: Bill) -> bool:
        """Whether the bill comes to the same now."""
        return (self.rides, self.points, self.yen) == (told.rides, told.points, told.yen)


def bill(
    operator: str, month: Month, movements: Iterable[Movement], terms: Terms, as_of_ms: int, *, remarks: Remarks | None = None
) -> Bill:
    """The bill of ``operator`` for ``month`` as it stands at ``as_of_ms``. ``movements``: all of this operator's, whatever their month."""
    closes_ms = terms.closes_ms(month)
    lines: dict[tuple[Part, Month], list[int]] = defaultdict(lambda: [0, 0, 0])
    days: dict[int, list[int]] = defaultdict(lambda: [0] * 5)
    sums = [0] * len(fields(Tally))
    for movement in movements:
        day, at_ms, kind, turn, amount, rides, alone = movement
        if at_ms > as_of_ms or terms.provisional_ms(day) > as_of_ms or terms.billed_in(day, at_ms) != month:
            continue
        sign = -1 if turn and turn % 2 == 0 else 1
        points = amount if kind is PostingKind.POINTS else 0
        yen = points * terms.yen_per_point(from_number(day)) if points else amount
        _add(sums, *(sign * number for number in _counted(kind, rides, points, yen, alone=alone)))
        part = _part(movement, terms)
        if part is None:
            continue
        _add(lines[part, Month.of(day)], sign * rides, sign * points, sign * yen)
        if part is Part.POINTS:
            _add(days[day], rides, points, yen, 0, 0)
        elif part is Part.FREE:
            _add(days[day], 0, 0, 0, rides, yen)
    order = list(Part)
    told = sorted(lines, key=lambda each: (order.index(each[0]), each[1]))
    return Bill(
        operator=operator,
        month=month,
        status=Status.FINAL if as_of_ms >= closes_ms else Status.PROVISIONAL,
        lines=tuple(Line(*each, *lines[each]) for each in told),
        days=tuple(Day(day, *days[day]) for day in sorted(days)),
        tally=Tally(*sums),
        as_of_ms=as_of_ms,
        closes_ms=closes_ms,
        remarks=remarks or Remarks(),
    )


def _counted(kind: PostingKind, rides: int, points: int, yen: int, *, alone: bool) -> tuple[int, ...]:
    """What a movement adds to the fields of a ``Tally``."""
    match kind:
        case PostingKind.POINTS:
            return rides, points, yen, 0, 0, 0, 0
        case PostingKind.FREE:
            return 0, 0, 0, rides, yen, 0, 0
        case PostingKind.CASH:
            return 0, 0, 0, 0, 0, rides if alone else 0, yen
        case PostingKind.GRANT:
            return (0,) * 7


def _part(movement: Movement, terms: Terms) -> Part | None:
    """The line that a movement belongs to; None for memos."""
    late = terms.late(movement.service_day, movement.at_ms)
    match movement.kind:
        case PostingKind.CASH | PostingKind.GRANT:
            return None
        case _ if movement.turn:
            return Part.SETTLED if movement.turn % 2 else Part.TAKEN_BACK
        case PostingKind.POINTS:
            return Part.LATE_POINTS if late else Part.POINTS
        case PostingKind.FREE:
            return Part.LATE_FREE if late else Part.FREE


def _add(sums: list[int], *more: int) -> None:
    for place, number in enumerate(more):
        sums[place] += number


def _month_of(at_ms: int, zone: tzinfo) -> Month:
    day = datetime.fromtimestamp(at_ms / 1000, zone).date()
    return Month(day.year, day.month)
