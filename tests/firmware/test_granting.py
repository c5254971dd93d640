"""How many points a card gets this year, from ledgers and scheme alone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from drivers.cards.lite_s import session_of
from drivers.cards.purse import FULL, Counters, Grant, PurseReading
from drivers.cards.tdes import encrypt_cbc
from fares.scheme import load
from firmware.granting import points_due, uses
from ledger.entry import Entry, Fare, Flags, Kind, Medium, Outcome, Place, When

SCHEME = load(Path(__file__).parents[2] / "fares" / "schemes" / "silver_emica.toml")
RIDER, OTHER_RIDER = b"rider--1", b"rider--2"
LAST_YEAR, THIS_YEAR, TODAY = date(2025, 10, 1), date(2026, 4, 5), date(2026, 4, 10)
_DAY_0 = date(1970, 1, 1)


def entry(seq: int, kind: Kind, points: int, day: date = LAST_YEAR, rider: bytes = RIDER) -> Entry:
    place = Place(service_day=(day - _DAY_0).days)
    return Entry(kind, When(1, 0, 0, 4), place, Medium(rider), Fare(points, points), device=1, epoch=1, seq=seq)


def card(granted: int = 2000, spent: int = 0, year: int = 2025) -> PurseReading:
    grant = Grant(1, year, granted, 1) if granted else None
    session = session_of(encrypt_cbc, bytes(range(16)), 1, bytes(16))
    return PurseReading(RIDER, Counters(FULL - spent, FULL - spent, bytes(8), 20), grant, grant_known=True, session=session)


def due(entries: Sequence[Entry], reading: PurseReading) -> int:
    return points_due(SCHEME, entries, reading, 2026, TODAY)


def test_a_new_card_gets_the_schemes_points_at_issue() -> None:
    assert due([], card(granted=0)) == 2000


def test_what_was_used_last_year_comes_back_whatever_was_used_since() -> None:
    rides = [entry(1, Kind.PAID, 1500), entry(2, Kind.PAID, 300, THIS_YEAR)]
    assert due(rides, card(spent=1800)) == 1500
    assert due(rides[:1], card(spent=1500)) == 1500


def test_a_debit_that_became_known_counts_once_and_an_unknown_one_not_yet() -> None:
    rides = [
        entry(1, Kind.PAID, 100),
        entry(2, Kind.UNKNOWN, 200),
        entry(3, Kind.UNKNOWN, 400),
        replace(entry(4, Kind.RESOLVED, 200), outcome=Outcome.PAID, ref=2),
        replace(entry(5, Kind.RESOLVED, 400), outcome=Outcome.UNPAID, ref=3),
        entry(6, Kind.UNKNOWN, 800),
    ]
    assert due(rides, card(spent=1100)) == 300


def test_other_riders_free_rides_and_practice_do_not_count() -> None:
    rides = [
        entry(1, Kind.PAID, 100),
        entry(2, Kind.PAID, 1000, rider=OTHER_RIDER),
        entry(3, Kind.FREE, 0),
        entry(4, Kind.OPEN, 250),
        replace(entry(5, Kind.PAID, 700), flags=Flags.PRACTICE),
        Entry(Kind.BOOT, When(1, 0, 0, 0), device=1, epoch=1, seq=6),
    ]
    assert due(rides, card(spent=100)) == 100


def test_nothing_used_last_year_gives_nothing() -> None:
    assert due([], card()) == 0


@given(st.lists(st.integers(1, 300), max_size=12), st.randoms(use_true_random=False))
def test_a_ledger_given_twice_or_in_any_order_counts_once(points: list[int], chance: Random) -> None:
    rides = [entry(at, Kind.PAID, value) for at, value in enumerate(points, 1)]
    again = rides + rides
    chance.shuffle(again)
    assert sorted(uses(again, RIDER)) == sorted(uses(rides, RIDER))
    reading = card(granted=4000, spent=sum(points))
    assert due(again, reading) == due(rides, reading)
