"""Which changes of rules are too big to be believed without a person (pure).

Wrong tables have cost riders money and cards in ways that no signature and no checksum would have stopped: what was wrong was whole.
London, 12 July 2008: one list switched off 65,000 cards in a morning. Odakyu bus, 1 April 2014: 2,160 yen instead of 216. Hankyu bus,
2014-2015: 2,200 yen instead of 240, noticed by riders after months. So a terminal compares what comes with what it has, and with who rode
lately, and where the difference is of that kind it keeps the old and asks.

Fares are compared pair by pair on the routes that both tables have, all of them where there are not very many, else every n-th. The bound
is a factor of five, not ten: Hankyu's was 9.2, and no honest change of fares comes near five.

A list is measured by the riders it would block *newly*, of those who rode in this vehicle in the last days. One rider alone is never too
many: blocking one lost card is what a list is for, and on a small bus that is more than a hundredth.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import combinations, islice

from fares.table import ADULT, FareTable, NoPrice, Price
from validator.lists import DenyList

FACTOR = 5
MOST_PAIRS = 200_000
MOST_VANISHED_PERCENT = 10
MOST_BLOCKED_PERCENT = 1
RECENT_DAYS = 7
MOST_RECENT_ENTRIES = 20_000
"""How far back in a ledger the recent riders are looked for: a full week of a busy vehicle."""

_Pair = tuple[str, str, str, str]


def doubts_of_fares(old: FareTable, new: FareTable) -> list[str]:
    """A sentence for each kind of change that a person must confirm; empty when there is none."""
    compared, vanished, jumps = 0, 0, list[tuple[_Pair, int, int]]()
    for pair in _sampled(old, new):
        before = old.price(*pair)
        if isinstance(before, NoPrice):
            continue
        compared += 1
        after = new.price(*pair)
        if isinstance(after, NoPrice):
            vanished += 1
        elif _jumps(before, after):
            jumps.append((pair, before.yen, _farthest(before, after)))
    return [*_told_jumps(jumps, compared), *_told_vanished(vanished, compared)]


def doubts_of_list(old: DenyList, new: DenyList, recent: AbstractSet[bytes]) -> list[str]:
    """A sentence when ``new`` would block too many of the ``recent`` riders whom ``old`` lets ride; empty otherwise."""
    blocked = sum(new.blocks(rider) and not old.blocks(rider) for rider in recent)
    if blocked <= 1 or blocked * 100 <= MOST_BLOCKED_PERCENT * len(recent):
        return []
    return [f"it would refuse {blocked} of the {len(recent)} people who rode here in the last {RECENT_DAYS} days"]


def _jumps(before: Price, after: Price) -> bool:
    """Any price that may be taken, against any that might have been."""
    return any(new >= FACTOR * old or new * FACTOR <= old for old in _all(before) for new in _all(after) if old != new)


def _farthest(before: Price, after: Price) -> int:
    return max(_all(after), key=lambda yen: abs(yen - before.yen))


def _all(price: Price) -> tuple[int, ...]:
    return price.ambiguous or (price.yen,)


def _told_jumps(jumps: list[tuple[_Pair, int, int]], compared: int) -> list[str]:
    if not jumps:
        return []
    (route, boarding, alighting, _), old, new = jumps[0]
    example = f"on route {route} from {boarding} to {alighting} {new} yen instead of {old}"
    return [f"{len(jumps)} of {compared} fares become {FACTOR} times as high or a {FACTOR}th, for example {example}"]


def _told_vanished(vanished: int, compared: int) -> list[str]:
    if vanished * 100 <= MOST_VANISHED_PERCENT * compared:
        return []
    return [f"{vanished} of {compared} fares are in it no more"]


def _sampled(old: FareTable, new: FareTable) -> Iterator[_Pair]:
    """(route, boarding, alighting, class) that the tables are asked for: no more than ``MOST_PAIRS``, spread evenly."""
    total = sum(1 for _ in _pairs(old, new))
    yield from islice(_pairs(old, new), 0, None, -(-total // MOST_PAIRS) or 1)


def _pairs(old: FareTable, new: FareTable) -> Iterator[_Pair]:
    classes = (ADULT, *(rider_class for rider_class in old.classes if rider_class in new.classes))
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for trip in old.trips():
        way = trip.route, tuple(call.stop for call in trip.calls)
        if way in seen or not new.has_route(trip.route):
            continue
        seen.add(way)
        for boarding, alighting in combinations(way[1], 2):
            for rider_class in classes:
                yield trip.route, boarding, alighting, rider_class
