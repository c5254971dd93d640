"""The yearly grant of each rider, from all of the city's entries, and what late rides change in it (pure).

On 10 April the city grants what each rider used in the fiscal year before. Some rides of late March arrive after that: from a bus that was
in the workshop, from a debit whose outcome another vehicle proved only then. So a grant is never "made", it is *brought up to date*: what
is due by now, less what was granted for this rider and year before. Asked again with nothing new, that is nothing; a late ride gives just
its difference, once, as a correction that points at the grant before it.

**Never too much.** While rides are missing, the city knows of too few uses and of too high a balance; both make the grant smaller, never
larger. So what is granted early stands, and what arrives can only add to it. Where a scheme lets unused points lapse the sum may fall; the
correction is then below zero.

**What was used** is what the books say was taken: PAID, RESOLVED as paid (once), and what other vehicles' readings proved; by the signed
service day, or by the repaired day where the vehicle did not know it. **The balance on 1 April** is read off the last entry before it that
shows the card; if there is none, off the first one after, less what was granted for the new year by then. A rider who never showed a purse
has no use either, and nothing is due.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from backoffice.book import PostingKind, postings_of, turn_of
from backoffice.settle import Settled, settle
from backoffice.witness import Arrived, Key, in_order, key_of
from drivers.cards.purse import Counters
from fares.dates import first_day, from_number
from fares.rules import used_points
from fares.scheme import Scheme, yearly_grant
from ledger.entry import Flags, Kind, Outcome


class GrantKind(StrEnum):
    """The first grant of a year, or what was added to it later."""

    YEARLY = "yearly"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True)
class RiderGrant:
    """``points`` for one rider and fiscal year. ``number``: the card's grant number, rising over all years. ``ref``: the number of the
    grant that it corrects, 0 for none. ``points`` is below zero only where unused points lapse.
    """

    rider: bytes
    fiscal_year: int
    number: int
    points: int
    kind: GrantKind
    at_ms: int
    ref: int = 0


@dataclass(frozen=True, slots=True)
class _Shown:
    """A card as one entry shows it: before and after the ride."""

    rider: bytes
    day: int
    number: int
    granted: int
    before: Counters
    after: Counters


def due(
    scheme: Scheme,
    history: Iterable[Arrived],
    granted: Sequence[RiderGrant],
    fiscal_year: int,
    at_ms: int,
    *,
    days: Mapping[Key, int] | None = None,
) -> RiderGrant | None:
    """What is still to be granted to one rider for ``fiscal_year``; None when nothing is.

    ``history``: all entries of this rider. ``granted``: all that was granted to this rider before, for any year. ``days``: repaired days.
    """
    story = in_order(history)
    shown = [each for arrived in story if (each := _shown(arrived, days or {}))]
    if not shown:
        return None
    own = [grant for grant in granted if grant.fiscal_year == fiscal_year]
    already = sum(grant.points for grant in own)
    opening = _opening(shown, [grant for grant in granted if grant.fiscal_year >= fiscal_year], fiscal_year)
    used = used_points(uses(story, settle(story), days or {}), fiscal_year - 1)
    points = yearly_grant(scheme, fiscal_year, used, opening + already, already)
    if not points:
        return None
    last = max((grant.number for grant in own), default=0)
    number = 1 + max([grant.number for grant in granted] + [each.number for each in shown])
    kind = GrantKind.CORRECTION if own else GrantKind.YEARLY
    return RiderGrant(shown[0].rider, fiscal_year, number, points, kind, at_ms, last)


def uses(story: Iterable[Arrived], settled: Settled, days: Mapping[Key, int]) -> list[tuple[date, int]]:
    """What one rider used, as (service day, points), by the books: what entries booked, what was concluded, what was taken back."""
    found: list[tuple[date, int]] = []
    for entry, _ in in_order(story):
        points = sum(posting.amount for posting in postings_of(entry) if posting.kind is PostingKind.POINTS)
        if points:
            found.append((from_number(days.get(key_of(entry), entry.place.service_day)), points))
    for key, posting, signed_day, _, _ in settled.bookings:
        if posting.kind is PostingKind.POINTS:
            sign = 1 if turn_of(posting.leg) % 2 else -1
            found.append((from_number(days.get(key, signed_day)), sign * posting.amount))
    return found


def _shown(arrived: Arrived, days: Mapping[Key, int]) -> _Shown | None:
    entry = arrived.entry
    medium = entry.medium
    if medium is None or medium.before is None or entry.flags & Flags.PRACTICE or entry.kind is Kind.UNKNOWN:
        return None
    if entry.kind is Kind.RESOLVED and entry.outcome is not Outcome.PAID:
        return None
    day = days.get(key_of(entry), entry.place.service_day)
    return _Shown(medium.rider, day, medium.grant_number, medium.granted, medium.before, medium.after or medium.before)


def _opening(shown: Sequence[_Shown], later: Sequence[RiderGrant], fiscal_year: int) -> int:
    """The balance on 1 April, as far as it is known; never lower than it was."""
    begins = (first_day(fiscal_year) - date(1970, 1, 1)).days
    before = [each for each in shown if each.day < begins]
    if before:
        last = max(before, key=lambda each: (each.number, -each.after.regb))
        return max(0, last.granted - last.after.spent - _of(later, last.number))
    first = min(shown, key=lambda each: (each.number, -each.before.regb))
    return max(0, first.granted - first.before.spent - _of(later, first.number))


def _of(grants: Sequence[RiderGrant], number: int) -> int:
    """The points of those of ``grants`` that a card with grant ``number`` carries already."""
    return sum(grant.points for grant in grants if grant.number <= number)
