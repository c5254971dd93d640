"""The yearly grant, and what late rides of March change in it."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

import fares
from backoffice.grants import GrantKind, RiderGrant, due
from backoffice.witness import Arrived, Key
from drivers.cards.purse import FULL, Counters, RegLog
from fares.scheme import load
from ledger.entry import Entry, Fare, Kind, Medium, Outcome, Place, When

SCHEME = load(Path(fares.__file__).parent / "schemes" / "silver_emica.toml")
RIDER = bytes(8)


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def rides(*told: tuple[str, int], granted: int = 2000, number: int = 1) -> list[Arrived]:
    """One card's paid rides in order, as (day, points)."""
    purse, found = Counters(FULL, FULL, bytes(8), 20), list[Arrived]()
    for seq, (text, points) in enumerate(told, 1):
        after = Counters(purse.rega - points, purse.regb - 1, RegLog(1, seq, 1).block(), purse.wcnt + 1)
        medium = Medium(RIDER, granted, number, bytes(8), purse, after)
        place = Place(operator="sanko", service_day=day(text))
        entry = Entry(Kind.PAID, When(1, seq, seq, 4), place, medium, Fare(points, points, 0, 1), device=1, epoch=1, seq=seq)
        found.append(Arrived(entry, seq))
        purse = after
    return found


def grant(history: list[Arrived], granted: list[RiderGrant], year: int = 2027) -> int:
    """Grant what is due; add it to ``granted``."""
    found = due(SCHEME, history, granted, year, 1_807_000_000_000)
    if found is None:
        return 0
    granted.append(found)
    return found.points


def test_what_was_used_comes_back() -> None:
    granted: list[RiderGrant] = []
    assert grant(rides(("2026-06-01", 400), ("2026-12-01", 300)), granted) == 700
    assert granted == [RiderGrant(RIDER, 2027, 2, 700, GrantKind.YEARLY, 1_807_000_000_000)]


def test_asking_again_gives_nothing() -> None:
    granted: list[RiderGrant] = []
    history = rides(("2026-06-01", 700))
    assert [grant(history, granted) for _ in range(3)] == [700, 0, 0]


def test_rides_of_late_march_that_arrive_on_10_april_are_added_once() -> None:
    history, granted = rides(("2026-06-01", 700), ("2027-03-30", 200), ("2027-03-31", 100)), list[RiderGrant]()
    assert grant(history[:1], granted) == 700
    assert grant(history, granted) == 300
    assert grant(history, granted) == 0
    assert (granted[1].kind, granted[1].ref, granted[1].number) == (GrantKind.CORRECTION, 2, 3)


def test_each_change_is_granted_by_itself() -> None:
    history, granted = rides(("2026-06-01", 700), ("2027-03-30", 200), ("2027-03-31", 100)), list[RiderGrant]()
    assert [grant(history[:count], granted) for count in (1, 1, 2, 2, 3, 3)] == [700, 0, 200, 0, 100, 0]


def test_a_ride_of_1_april_belongs_to_the_next_year() -> None:
    history, granted = rides(("2027-03-31", 100), ("2027-04-01", 50)), list[RiderGrant]()
    assert grant(history, granted) == 100
    assert grant(history, granted, 2028) == 50


def test_a_debit_that_another_bus_proves_later_corrects_the_grant_once() -> None:
    paid = rides(("2027-03-31", 300))[0].entry
    unknown = replace(paid, kind=Kind.UNKNOWN)
    medium = paid.medium
    assert medium is not None
    seen = replace(paid, kind=Kind.FREE, medium=replace(medium, before=medium.after, after=None), fare=Fare(), device=2)
    earlier = rides(("2026-06-01", 0))  # a card that was shown
    start = [Arrived(replace(earlier[0].entry, kind=Kind.FREE, device=3, medium=replace(medium, after=None)), 1)]
    granted: list[RiderGrant] = []
    assert grant([*start, Arrived(unknown, 2)], granted) == 0
    assert grant([*start, Arrived(unknown, 2), Arrived(seen, 3)], granted) == 300
    word = replace(unknown, kind=Kind.RESOLVED, outcome=Outcome.PAID, ref=unknown.seq, seq=9)
    assert grant([*start, Arrived(unknown, 2), Arrived(seen, 3), Arrived(word, 4)], granted) == 0


def test_a_day_that_the_vehicle_did_not_know_counts_as_repaired() -> None:
    history = [Arrived(replace(each.entry, place=Place()), each.received_ms) for each in rides(("2027-03-31", 300))]
    found = due(SCHEME, history, [], 2027, 1, days={Key(1, 1, 1): day("2027-03-31")})
    assert found is not None
    assert found.points == 300
    assert due(SCHEME, history, [], 2027, 1, days={Key(1, 1, 1): day("2027-04-01")}) is None


def test_who_rode_on_5_april_before_the_grant_of_10_april_gets_last_years_use() -> None:
    history = rides(("2026-06-01", 1500), ("2027-04-05", 300))
    assert grant(history, []) == 1500


def test_a_rider_whose_card_was_never_shown_gets_nothing() -> None:
    assert due(SCHEME, [], [], 2027, 1) is None


told_rides = st.lists(st.tuples(st.integers(day("2026-04-01"), day("2027-04-20")), st.integers(1, 150)), max_size=12)


@given(told_rides, st.randoms(use_true_random=False))
def test_whatever_the_order_of_arrival_all_grants_together_are_what_was_used_and_never_more_on_the_way(
    told: list[tuple[int, int]], random: Random
) -> None:
    history = rides(*((date.fromordinal(number + date(1970, 1, 1).toordinal()).isoformat(), points) for number, points in sorted(told)))
    used = sum(points for number, points in told if number < day("2027-04-01"))
    granted: list[RiderGrant] = []
    arrived: list[Arrived] = []
    random.shuffle(history)
    for each in history:
        arrived.append(each)
        grant(arrived, granted)
        assert grant(arrived, granted) == 0
        assert sum(each.points for each in granted) <= used
    assert sum(each.points for each in granted) == used
    assert len({(each.rider, each.fiscal_year, each.number) for each in granted}) == len(granted)
