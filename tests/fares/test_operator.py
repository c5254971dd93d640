"""The operator's file: what it decides, and that all its faults are told at once."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fares import operator
from fares.faults import Unusable
from fares.operator import AmbiguousPair, ChildFare, KnownBy, MissingPair, Operator, RoutePolicy, UnknownBoarding, disagreements
from fares.table import FareTable

JST = timezone(timedelta(hours=9))
TOWN = Path(__file__).parents[2] / "examples" / "town"

SHORTEST = b"""
format = 1
operator = "o"
name = "O"
from = 2026-04-01
fares.already_paid_min = 60
child.percent = 50
boarding.known_by = "flat"
"""


def test_the_towns_file_says_what_the_town_decided(minato: Operator) -> None:
    assert (minato.id, minato.ambiguous_pair, minato.missing_pair) == ("minato", AmbiguousPair.LOWER, MissingPair.DRIVER)
    assert minato.already_paid_min == 90
    assert minato.policy("M1") == RoutePolicy(KnownBy.BOARDING_TAP, UnknownBoarding.ASK)
    assert minato.policy("M2") == RoutePolicy(KnownBy.NUMBERED_TICKET, UnknownBoarding.ORIGIN)
    assert minato.policy("G1").lines == {"community"}
    assert minato.ticket_stops("M2", "M2-1", 4) == ("gakko_2", "byoin_2")
    assert len(minato.digest) == 8


def test_the_towns_file_fits_the_towns_table(minato: Operator, town: FareTable) -> None:
    assert disagreements(minato, town) == []


def test_what_is_left_open_is_the_careful_choice() -> None:
    shortest = operator.parse(SHORTEST, "o.toml")
    assert (shortest.ambiguous_pair, shortest.missing_pair) == (AmbiguousPair.LOWER, MissingPair.DRIVER)
    assert shortest.usual.unknown is UnknownBoarding.ASK
    assert shortest.valid(date(2999, 1, 1))
    assert not shortest.valid(date(2026, 3, 31))


def test_every_fault_is_told_at_once_with_its_path() -> None:
    wrong = b"""
format = 2
operator = ""
from = "yesterday"
[fares]
ambiguous_pair = "cheapest"
already_paid_min = -1
alredy_paid_min = 90
[child]
round_up_to_yen = true
[boarding]
known_by = "boarding_tap"
[[route]]
id = "A"
lines = "community"
[[route]]
id = "A"
[[numbered_ticket]]
route = "A"
number = 1
stops = []
"""
    with pytest.raises(Unusable) as refused:
        operator.parse(wrong, "o.toml")
    told = str(refused.value)
    for part in (
        "o.toml, format: is 2",
        "o.toml, operator: is empty",
        "o.toml, name: is missing",
        "o.toml, from: must be a date",
        "o.toml, fares.ambiguous_pair: is 'cheapest'; it must be one of lower, higher, ask",
        "o.toml, fares.already_paid_min: is -1",
        "o.toml, fares.alredy_paid_min: is not a setting",
        "o.toml, child.rider_category: is missing",
        "o.toml, child.round_up_to_yen: must be a whole number",
        "o.toml, route[1].lines: must be a list",
        "o.toml, route[2].id: route 'A' stands here twice",
        "o.toml, numbered_ticket[1].stops: names no stop",
    ):
        assert part in told
    assert len(refused.value.faults) == 12


@pytest.mark.parametrize(
    ("data", "part"),
    [(b"format = ", "is not TOML"), (b"\xff", "is not UTF-8"), (SHORTEST + b'until = "x"', "until: must be a date")],
)
def test_what_is_no_such_file_is_refused(data: bytes, part: str) -> None:
    with pytest.raises(Unusable, match=part):
        operator.parse(data, "o.toml")


def test_dates_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(Unusable, match="until: is before 'from'"):
        operator.parse(SHORTEST.replace(b"fares.", b"until = 2026-03-01\nfares."), "o.toml")


def test_where_file_and_table_disagree_is_told(minato: Operator, town: FareTable) -> None:
    wrong = replace(
        minato,
        child=ChildFare("pupil"),
        routes={"M1": RoutePolicy(KnownBy.FLAT, UnknownBoarding.ASK), "X": minato.usual},
        tickets={("M2", "M2-99", 1): ("moon",), ("Y", "", 1): ("eki_2",)},
    )
    told = "\n".join(disagreements(wrong, town))
    for part in ("route 'X'", "route 'M1': known_by is flat", "no stop 'moon'", "no trip 'M2-99'", "'Y'", "'pupil' (it has: child)"):
        assert part in told


def test_before_the_border_of_the_service_day_it_is_still_yesterday(minato: Operator) -> None:
    assert minato.service_day(datetime(2026, 6, 2, 2, 59, tzinfo=JST)) == date(2026, 6, 1)
    assert minato.service_day(datetime(2026, 6, 2, 3, 0, tzinfo=JST)) == date(2026, 6, 2)


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(JST)), st.times())
def test_a_service_day_is_today_or_yesterday(moment: datetime, border: time) -> None:
    assume(moment.date() > date.min)
    day = replace(operator.PLAIN, service_day_starts=border).service_day(moment)
    assert day in {moment.date(), moment.date() - timedelta(days=1)}
