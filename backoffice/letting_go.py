"""How long the city keeps what, and which rides may go without anything that stays becoming wrong (pure).

**Whole fiscal years.** Books go by the fiscal year: the first of April is where a city's accounts, its archive and the yearly grants
begin anew. Books of a fiscal year are kept for so many years from the first of April after it. What begins the kept part is the *cut*, a
midnight.

**Wholly before.** An entry goes with all of its postings or not at all. It goes when everything about it lies before the cut: the day on
which it happened, the moment at which it came, and every moment at which something about it was booked or became known. So every bill of a
month from the cut on finds all that belongs on it, also what came late.

**What something that stays rests on, stays.** An unknown debit is settled by other readings of the card, and a day that a vehicle did not
know is found from the entries around it. Such a witness may be older than the cut while what it proves is not. This is not argued but
tried: all conclusions are drawn twice, from everything and from what would be left. Where a conclusion about something that stays differs,
the rider's or the ledger's entries are kept until the next year.

**Why these periods.** They are a city's to choose; what stands here is where to begin.

- *Books*: five years. Claims by and against a local government lapse after five years (Local Autonomy Act, art. 236); papers of a payment
  are usually kept as long. A ride is what a payment rests on. Less than two is refused: the yearly grant needs the year before.
- *The raw batches* live as long as the books that follow from them; evidence that is gone earlier would leave books that nobody can check.
- *Quarantine*: two years, so that an audit in the following year still finds it.
- *Alarms*: two years after, once somebody has ticked them off. An alarm about an entry that is kept is kept: it would only be raised again.
- *Heartbeats*: 90 days; a vehicle is compared with its last weeks. The last one of each vehicle stays.
- *Lists* (whom a deny list blocked, who was entitled): 400 days after another list took its place, so that "a year ago" can be answered.
- *The log of accesses*: three years, so that a person who asks who looked can be told about more than the last year.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, tzinfo
from typing import NamedTuple

from backoffice.clock_repair import Stamp
from backoffice.settle import Dated, dated_by, settle
from backoffice.witness import Arrived, Judgement, Key, key_of
from fares.dates import first_day, fiscal_year, from_number

_DAY_MS = 86_400_000
_EPOCH_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Periods:
    """How long each kind is kept. ``books_years``: whole fiscal years after the fiscal year of a ride. Days are of 24 hours."""

    books_years: int = 5
    quarantine_days: int = 730
    alarm_days: int = 730
    heartbeat_days: int = 90
    list_days: int = 400
    access_log_days: int = 1096


class Cut(NamedTuple):
    """Where kept books begin: the first of April of ``year``, as Unix ms (local midnight) and as days since 1970-01-01."""

    year: int
    at_ms: int
    day: int

    @property
    def date(self) -> date:
        """The first day that is kept."""
        return from_number(self.day)


class Number(NamedTuple):
    """What is asked about an entry before it may go. ``last_ms``: when the last thing was booked about it; 0 for nothing."""

    key: Key
    service_day: int
    received_ms: int
    last_ms: int
    rider: bytes | None
    rider_key: int


def cut_of(year: int, zone: tzinfo) -> Cut:
    """The cut before fiscal year ``year``."""
    day = first_day(year)
    return Cut(year, int(datetime.combine(day, time.min, zone).timestamp() * 1000), (day - _EPOCH_DAY).days)


def books_cut(periods: Periods, today: date, zone: tzinfo) -> Cut:
    """Where the books begin on ``today``."""
    return cut_of(fiscal_year(today) - periods.books_years, zone)


def goes_on(service_day: int, received_ms: int, periods: Periods, zone: tzinfo) -> date:
    """The first day on which an entry may go; a day that is not known counts as that of the arrival."""
    came = datetime.fromtimestamp(received_ms / 1000, zone).date()
    last = max(came, from_number(service_day)) if service_day else came
    return first_day(fiscal_year(last) + 1 + periods.books_years)


def lies_before(number: Number, cut: Cut) -> bool:
    """Whether everything about the entry lies before the cut, as far as its own dates say."""
    return number.service_day < cut.day and number.received_ms < cut.at_ms and number.last_ms < cut.at_ms


def rests_on(history: Sequence[Arrived], going: Collection[Key], cut: Cut) -> bool:
    """Whether something that stays rests on the entries of one rider that are ``going``: what is concluded about those that stay would be
    another thing without them, or a conclusion about one of them became known after the cut and is not booked yet.
    """
    if any(booking.at_ms >= cut.at_ms and booking.key in going for booking in settle(history).bookings):
        return True
    left = [arrived for arrived in history if key_of(arrived.entry) not in going]
    return bool(left) and _concluded(history, going) != _concluded(left, going)


def _concluded(history: Sequence[Arrived], going: Collection[Key]) -> tuple[frozenset[object], frozenset[Judgement]]:
    settled = settle(history)
    bookings = frozenset(booking for booking in settled.bookings if booking.key not in going)
    judgements = frozenset(replace(each, why="") for each in settled.judgements if key_of(each.entry) not in going)
    return bookings, judgements


def days_rest_on(stamps: Sequence[Stamp], going: Collection[int], booked: Collection[int], day_of: Callable[[int], int]) -> bool:
    """Whether the day of an entry of one ledger that stays would be another without those that are ``going``. ``booked``: the entries
    without a day that something is booked for.
    """
    if not set(booked) - set(going):
        return False
    left = [stamp for stamp in stamps if stamp.seq not in going]
    return _days(stamps, going, booked, day_of) != _days(left, going, booked, day_of)


def _days(stamps: Sequence[Stamp], going: Collection[int], booked: Collection[int], day_of: Callable[[int], int]) -> dict[int, Dated]:
    return {seq: dated for seq, dated in dated_by(stamps, day_of).items() if seq in booked and seq not in going}


def found_late(dated: Dated, cut: Cut) -> bool:
    """Whether an entry without a day was dated on or after the cut."""
    return dated.service_day >= cut.day or dated.since_ms >= cut.at_ms


# --- runs of numbers ----------------------------------------------------------------------------------------------------------------------


def runs_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as runs (first, last) that do not touch."""
    return merged((number, number) for number in numbers)


def merged(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs in order, those that touch or overlap made one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def by_ledger(keys: Iterable[Key]) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """Keys as numbers of each ledger, in order."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for device, epoch, seq in sorted(keys):
        found[device, epoch].append(seq)
    yield from found.items()


def days_before(now_ms: int, days: int) -> int:
    """So many days before now, Unix ms."""
    return now_ms - days * _DAY_MS
