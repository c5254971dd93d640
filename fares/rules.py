"""The kinds of rule that a scheme is made of. None is named after a town, and no number stands here.

Who pays: each ride runs through the *first* ride rule whose ``lines`` fit (a rule without lines fits every ride). A rule takes the yen that
are due and gives back steps; what no step took off is cash.

Who may hold a card: an age, reached by a day that the rule names.

What comes back once a year: the points used in the year before. Two readings of such a city's text are possible and both are here, chosen
by ``carry_over``: unused points stay and the used ones are added, or unused points lapse and only the used ones are given.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import Enum

from fares.dates import fiscal_year, last_day, reaches
from fares.explain import Step, Why


class Party(Enum):
    """Whose fare a rule is about, when several people ride on one card."""

    HOLDER = "holder"
    EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class Due:
    """What is asked of a rule: yen due for all riders, the holder's part of it, and points on the card."""

    yen: int
    holder_yen: int
    balance: int

    def of(self, party: Party) -> int:
        """The yen of ``party``."""
        return self.yen if party is Party.EVERYBODY else min(self.holder_yen, self.yen)


@dataclass(frozen=True, slots=True)
class PointsFirst:
    """Points pay as far as they reach, the rest is cash. ``yen_per_point``: a point is never split, so it pays only whole ones."""

    yen_per_point: int
    party: Party

    def points(self, due: Due) -> int:
        """The points that this rule takes."""
        return min(due.balance, due.of(self.party) // self.yen_per_point)

    def steps(self, due: Due, _line: str) -> tuple[Step, ...]:
        """The points as a step, if there are any."""
        points = self.points(due)
        return (Step(Why.POINTS, -points * self.yen_per_point, {"points": points, "rate": self.yen_per_point}),) if points else ()


@dataclass(frozen=True, slots=True)
class Free:
    """The ride is free for the holder, or for everybody; the card is not written."""

    party: Party

    def points(self, _due: Due) -> int:
        """None."""
        return 0

    def steps(self, due: Due, line: str) -> tuple[Step, ...]:
        """The waived yen as a step, also when it is nothing: that the ride was free is worth a line."""
        why = Why.WAIVED_ALL if self.party is Party.EVERYBODY else Why.WAIVED
        return (Step(why, -due.of(self.party), {"line": line}),)


Payment = PointsFirst | Free


@dataclass(frozen=True, slots=True)
class RideRule:
    """A payment, for the rides that ``lines`` name (any of them); for all rides when it names none."""

    payment: Payment
    lines: frozenset[str]

    def fits(self, lines: frozenset[str]) -> bool:
        """Whether this rule is about a ride on such lines."""
        return not self.lines or bool(self.lines & lines)

    def line(self, lines: frozenset[str]) -> str:
        """The word that made it fit."""
        return min(self.lines & lines, default="every line")


class ReachedBy(Enum):
    """By when an age must be reached."""

    TODAY = "today"
    FISCAL_YEAR_END = "fiscal_year_end"


@dataclass(frozen=True, slots=True)
class AgeRule:
    """Who may hold a card."""

    age: int
    reached_by: ReachedBy

    def allows(self, born: date, day: date) -> bool:
        """Whether somebody born on ``born`` may hold a card on ``day``."""
        by = day if self.reached_by is ReachedBy.TODAY else last_day(fiscal_year(day))
        return reaches(born, self.age) <= by


@dataclass(frozen=True, slots=True)
class YearlyGrant:
    """Points used in the fiscal year before come back: at most ``most``, and never above ``balance_most`` on the card."""

    most: int
    balance_most: int
    carry_over: bool

    def points(self, used_previous_year: int, balance_now: int, already_granted: int, used_this_year: int) -> int:
        """The points still to be granted for this year; see ``fares.scheme.yearly_grant``."""
        opening = balance_now + used_this_year - already_granted
        back = min(used_previous_year, self.most)
        if not self.carry_over:
            return min(back, self.balance_most) - opening - already_granted
        return max(0, min(back, self.balance_most - opening) - already_granted)


def used_points(uses: Iterable[tuple[date, int]], year: int) -> int:
    """The points of all (day, points) that fall into the fiscal ``year``."""
    return sum(points for day, points in uses if fiscal_year(day) == year)
