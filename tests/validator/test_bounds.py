"""``validator.bounds``: the changes that once cost riders money would have waited for a person."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fares import files, gtfs
from fares.table import Contents, FareTable, pack
from validator.bounds import doubts_of_fares, doubts_of_list
from validator.lists import NOBODY, DenyList

TOWN = Path(__file__).parents[2] / "examples" / "town"
CONTENTS = gtfs.compile_feed(files.open_feed(TOWN))[0]
OLD = FareTable.unpack(pack(CONTENTS))


def with_fares(change: Callable[[int], int], contents: Contents = CONTENTS) -> FareTable:
    """The town's table with each fare changed."""
    sets = tuple(tuple({rider: change(yen) for rider, yen in fare.items()} for fare in fares) for fares in contents.fare_sets)
    return FareTable.unpack(pack(replace(contents, fare_sets=sets)))


def riders(count: int, first: int = 0) -> frozenset[bytes]:
    return frozenset(number.to_bytes(8, "big") for number in range(first, first + count))


def test_odakyu_2014_ten_times_the_fare_waits_for_a_person() -> None:
    """216 yen became 2,160 on two buses with a wrong program, 1 April 2014 (validator-domain 2.5, source J26; test 5 of section 7)."""
    (doubt,) = doubts_of_fares(OLD, with_fares(lambda yen: 10 * yen))
    assert "5 times as high" in doubt
    assert "yen instead of" in doubt


def test_hankyu_2014_2200_yen_instead_of_240_waits_for_a_person() -> None:
    """One fare of many, 9.2 times as high (validator-domain 2.5, source J27): a bound of ten would have let it pass."""
    (doubt,) = doubts_of_fares(OLD, with_fares(lambda yen: 2200 if yen == 240 else yen))
    assert "2200 yen instead of 240" in doubt


def test_a_tenth_of_the_fare_waits_too() -> None:
    assert doubts_of_fares(OLD, with_fares(lambda yen: yen // 10))


def test_fares_that_become_nothing_wait() -> None:
    assert doubts_of_fares(OLD, with_fares(lambda _: 0))


def test_a_tax_rise_passes() -> None:
    assert doubts_of_fares(OLD, with_fares(lambda yen: -(-yen * 108 // 105) // 10 * 10)) == []


def test_the_same_table_passes() -> None:
    assert doubts_of_fares(OLD, OLD) == []


def test_a_table_that_lost_its_fares_waits() -> None:
    squares = tuple(replace(square, cells=[0] * len(square.cells)) for square in CONTENTS.squares)
    (doubt,) = doubts_of_fares(OLD, FareTable.unpack(pack(replace(CONTENTS, squares=squares))))
    assert "no more" in doubt


def test_a_route_that_is_given_up_is_no_doubt() -> None:
    left = replace(
        CONTENTS,
        routes=tuple(route for route in CONTENTS.routes if route.id != "M2"),
        trips=tuple(trip for trip in CONTENTS.trips if trip.route != "M2"),
        squares=tuple(square for square in CONTENTS.squares if square.route != "M2"),
    )
    assert doubts_of_fares(OLD, FareTable.unpack(pack(left))) == []


def test_london_2008_a_list_that_blocks_the_morning_waits_for_a_person() -> None:
    """65,000 cards were switched off on 12 July 2008 (validator-domain 2.4, source T5; test 7 of section 7)."""
    (doubt,) = doubts_of_list(NOBODY, DenyList(riders(11)), riders(1000))
    assert "11 of the 1000" in doubt


@pytest.mark.parametrize(
    ("blocked", "recent", "held"), [(10, 1000, False), (11, 1000, True), (2, 199, True), (2, 200, False), (1, 5, False), (0, 0, False)]
)
def test_more_than_a_hundredth_is_too_many_but_one_never_is(blocked: int, recent: int, held: bool) -> None:
    assert bool(doubts_of_list(NOBODY, DenyList(riders(blocked)), riders(recent))) is held


def test_riders_who_were_refused_before_count_no_more() -> None:
    assert doubts_of_list(DenyList(riders(500)), DenyList(riders(500)), riders(1000)) == []


def test_riders_who_never_ride_here_count_for_nothing() -> None:
    assert doubts_of_list(NOBODY, DenyList(riders(5000, first=10_000)), riders(1000)) == []
