"""Every fare that was charged, worked out once more from what the entry says of the ride (pure).

The fare errors of Japanese buses that were found by riders, months later, would all have shown in one question, asked every night of the
journal: is what was charged what the table says for these stops, these riders and this day? So it is asked here again, by the rules that
the entry names (table, operator's file and scheme, each by its fingerprint), from nothing but the entry.

What an entry does not say is not guessed. A fare that the driver named is only split again. Where the table had several prices the entry is
marked, and one of two readings of it is enough. Whether the card's holder rides, or pays for somebody who joined later, is not in the
entry; either is taken.

A stop that the driver forgot to step is not seen here: nothing on the vehicle knows better yet. A wrong stop *within* the machine is.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from fares.dates import from_number
from fares.operator import Operator
from fares.ride import Priced, Ride, price_ride
from fares.scheme import Question, Scheme
from fares.table import FareTable
from ledger.entry import Entry, Flags, Kind, Outcome

_LAST_DAY = (date.max - date(1970, 1, 1)).days


class Named(NamedTuple):
    """The rules an entry was decided by: fingerprints of table, operator's file and scheme."""

    table: bytes
    operator: bytes
    scheme: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """One set of rules."""

    table: FareTable
    operator: Operator
    scheme: Scheme

    @property
    def named(self) -> Named:
        """How entries name it."""
        return Named(self.table.digest, self.operator.digest, self.scheme.digest)


def faults(entries: Iterable[Entry], rules: Mapping[Named, Rules]) -> Iterator[str]:
    """A sentence for each entry that charged something else than its rules say, or whose rules are not here."""
    for entry in entries:
        if not _charged(entry):
            continue
        versions = entry.versions
        known = rules.get(Named(versions.table, versions.operator, versions.scheme))
        if known is None:
            yield f"{_name(entry)} was decided by rules that are not here (table {versions.table.hex()}); name them too."
        else:
            yield from _faults(entry, known)


def _charged(entry: Entry) -> bool:
    """A ride with a price; practice charges nobody."""
    if entry.flags & Flags.PRACTICE:
        return False
    return entry.kind in {Kind.PAID, Kind.FREE, Kind.UNKNOWN} or (entry.kind is Kind.RESOLVED and entry.outcome is Outcome.PAID)


def _faults(entry: Entry, rules: Rules) -> Iterator[str]:
    place, fare = entry.place, entry.fare
    by_driver = bool(entry.flags & Flags.DRIVER_FARE)
    if fare.adults + fare.children == 0:
        yield f"{_name(entry)} is a ride of nobody."
        return
    if place.service_day > _LAST_DAY:
        yield f"{_name(entry)} is a ride on a day that no calendar has."
        return
    ride = Ride(
        route=place.route,
        trip=place.trip,
        boarding=place.boarding or None,
        alighting=place.alighting or None,
        adults=fare.adults,
        children=fare.children,
        driver_fare=fare.nominal if by_driver else None,
        day=from_number(place.service_day) if place.service_day else None,
    )
    priced = price_ride(rules.table, rules.operator, ride)
    where = f"{place.route} {place.boarding or '?'} to {place.alighting or '?'}"
    if not isinstance(priced, Priced):
        if not entry.flags & Flags.AMBIGUOUS_PRICE:
            yield f"{_name(entry)} charged {fare.nominal} yen for {where}; its rules have no price for that ({priced.reason.value})."
        return
    if priced.yen != fare.nominal and not entry.flags & Flags.AMBIGUOUS_PRICE:
        yield f"{_name(entry)} charged {fare.nominal} yen for {where}; its table says {priced.yen}."
        return
    yield from _split(entry, rules, ride, priced)


def _split(entry: Entry, rules: Rules, ride: Ride, priced: Priced) -> Iterator[str]:
    medium, fare = entry.medium, entry.fare
    if medium is None or medium.before is None:
        return
    balance = max(0, medium.granted - medium.before.spent)
    lines = rules.operator.policy(ride.route).lines
    due = [
        rules.scheme.decide(Question(fare.nominal, holder, balance, ride.day, lines)) for holder in {min(priced.holder, fare.nominal), 0}
    ]
    if (fare.points, fare.cash) not in {(each.points, each.cash) for each in due}:
        yield (
            f"{_name(entry)} took {fare.points} points and {fare.cash} yen of {fare.nominal}; its scheme says {due[0].points} points and "
            f"{due[0].cash} yen."
        )


def _name(entry: Entry) -> str:
    return f"Entry {entry.seq} of device {entry.device}"
