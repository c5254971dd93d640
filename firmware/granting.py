"""How many points a card gets this year: a pure function over the ledgers given and the city's scheme.

What counts as used is what the ledgers say was *taken*: PAID entries, and UNKNOWN ones once a RESOLVED says "paid" (it carries the points
itself). What is still unknown counts when it is known, and then as a correction. A ledger given twice counts once: an entry is itself by
device, epoch and seq. What is left on the card never decides it: whoever rides on 5 April before the grant of 10 April gets what last
year's use gives, not what makes the card full again.
"""

from collections.abc import Iterable
from datetime import date

from drivers.cards.purse import PurseReading
from fares.dates import fiscal_year, from_number
from fares.rules import used_points
from fares.scheme import Scheme, yearly_grant
from ledger.entry import Entry, Flags, Kind, Outcome


def uses(entries: Iterable[Entry], rider: bytes) -> list[tuple[date, int]]:
    """What one rider used, as (service day, points), each entry once however many of the ledgers hold it."""
    own = {(entry.device, entry.epoch, entry.seq): entry for entry in entries if entry.medium and entry.medium.rider == rider}
    return [(from_number(entry.place.service_day), entry.fare.points) for entry in own.values() if _was_taken(entry)]


def points_due(scheme: Scheme, entries: Iterable[Entry], reading: PurseReading, year: int, today: date) -> int:
    """The points to grant to this card for fiscal ``year``: those of a new card, or what was used the year before.

    0 when nothing is due; the card itself keeps a second grant for the same year away (``drivers.cards.issuing.grant``).
    """
    if reading.grant is None:
        return scheme.points_at_issue(today)
    own = uses(entries, reading.rider)
    so_far = used_points(own, year) if year == fiscal_year(today) else 0
    due = yearly_grant(scheme, year, used_points(own, year - 1), reading.balance, 0, used_this_year=so_far)
    return max(0, due)


def _was_taken(entry: Entry) -> bool:
    if entry.flags & Flags.PRACTICE:
        return False
    return entry.kind is Kind.PAID or (entry.kind is Kind.RESOLVED and entry.outcome is Outcome.PAID)
