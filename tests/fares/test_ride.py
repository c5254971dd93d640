"""The price of one ride, as the town's operator decided it."""

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fares.explain import lines, sentence, total
from fares.operator import AmbiguousPair, ChildFare, KnownBy, MissingPair, Operator, RoutePolicy, UnknownBoarding
from fares.ride import Flag, NeedsDriver, NoFare, Priced, Reason, Ride, price_ride
from fares.table import FareTable

DAY = date(2026, 6, 1)


def tap(route: str = "M1", trip: str = "M1-2", boarding: str | None = "eki_1", alighting: str | None = "misaki_1") -> Ride:
    return Ride(route, trip, boarding, alighting, day=DAY)


def priced(table: FareTable, operator: Operator, ride: Ride) -> Priced:
    answer = price_ride(table, operator, ride)
    assert isinstance(answer, Priced), answer
    return answer


def test_one_adult_pays_the_price_of_the_pair(town: FareTable, minato: Operator) -> None:
    answer = priced(town, minato, tap())
    assert (answer.yen, answer.holder, answer.flags) == (400, 400, frozenset())


def test_riders_on_one_card_are_added_up_and_the_holder_is_an_adult(town: FareTable, minato: Operator) -> None:
    answer = priced(town, minato, replace(tap(), adults=2, children=1))
    assert (answer.yen, answer.holder) == (1000, 400)


def test_a_child_alone_is_the_holder(town: FareTable, minato: Operator) -> None:
    answer = priced(town, minato, replace(tap(), adults=0, children=1))
    assert (answer.yen, answer.holder) == (200, 200)


@pytest.mark.parametrize(("choice", "yen"), [(AmbiguousPair.LOWER, 270), (AmbiguousPair.HIGHER, 300)])
def test_a_pair_with_two_prices_is_decided_by_the_operator_and_marked(
    town: FareTable, minato: Operator, choice: AmbiguousPair, yen: int
) -> None:
    answer = priced(town, replace(minato, ambiguous_pair=choice), tap(boarding="byoin_1", alighting="onsen_1"))
    assert (answer.yen, answer.flags) == (yen, {Flag.AMBIGUOUS})
    assert "270 and 300" in sentence(answer.steps[0])


def test_or_the_driver_is_asked_about_it(town: FareTable, minato: Operator) -> None:
    asking = replace(minato, ambiguous_pair=AmbiguousPair.ASK)
    assert price_ride(town, asking, tap(boarding="byoin_1", alighting="onsen_1")) == NeedsDriver(Reason.TWO_PRICES)


def test_a_pair_without_a_price_is_never_guessed(town: FareTable, minato: Operator) -> None:
    ride = tap(boarding="shokudori_1", alighting="onsen_1")
    assert price_ride(town, minato, ride) == NeedsDriver(Reason.NO_RULE)
    assert price_ride(town, replace(minato, missing_pair=MissingPair.UNPRICED), ride) == NoFare(Reason.NO_RULE)


def test_the_fare_that_the_driver_names_is_the_fare_of_all_riders_and_marked(town: FareTable, minato: Operator) -> None:
    ride = replace(tap(boarding="shokudori_1", alighting="onsen_1"), driver_fare=330, adults=2)
    answer = priced(town, minato, ride)
    assert (answer.yen, answer.holder, answer.flags) == (330, 165, {Flag.DRIVER})


def test_without_a_boarding_tap_the_driver_is_asked(town: FareTable, minato: Operator) -> None:
    assert price_ride(town, minato, tap(boarding=None)) == NeedsDriver(Reason.BOARDING_UNKNOWN)


def test_or_the_origin_is_taken_and_marked_where_the_operator_says_so(town: FareTable, minato: Operator) -> None:
    answer = priced(town, minato, tap("M2", "M2-2", None, "eki_2"))
    assert (answer.yen, answer.boarding, answer.flags) == (400, "misaki_2", {Flag.ORIGIN})


def test_a_numbered_ticket_names_the_stop(town: FareTable, minato: Operator) -> None:
    answer = priced(town, minato, replace(tap("M2", "M2-2", None, "eki_2"), ticket=3))
    assert (answer.yen, answer.boarding, answer.flags) == (270, "todai_2", frozenset())


def test_stops_that_share_a_number_have_one_price_or_are_marked(town: FareTable, minato: Operator) -> None:
    same = priced(town, minato, replace(tap("M2", "M2-2", None, "eki_2"), ticket=4))
    assert (same.yen, same.flags) == (230, frozenset())
    odd = replace(minato, tickets={("M2", "", 4): ("todai_2", "yakuba_2")})
    answer = priced(town, odd, replace(tap("M2", "M2-2", None, "eki_2"), ticket=4))
    assert (answer.yen, answer.flags) == (160, {Flag.AMBIGUOUS})


def test_a_number_of_this_trip_wins_over_the_number_of_the_route(town: FareTable, minato: Operator) -> None:
    own = replace(minato, tickets={("M2", "", 3): ("todai_2",), ("M2", "M2-2", 3): ("gakko_2",)})
    assert priced(town, own, replace(tap("M2", "M2-2", None, "eki_2"), ticket=3)).boarding == "gakko_2"


def test_a_number_that_nobody_gives_out_is_asked_about(town: FareTable, minato: Operator) -> None:
    ride = replace(tap("M2", "M2-2", None, "eki_2"), ticket=88)
    assert price_ride(town, minato, ride) == NeedsDriver(Reason.UNKNOWN_TICKET)


def test_a_stop_that_the_driver_picked_wins_over_a_ticket(town: FareTable, minato: Operator) -> None:
    assert priced(town, minato, replace(tap("M2", "M2-2", "yakuba_2", "eki_2"), ticket=1)).boarding == "yakuba_2"


def test_a_flat_route_needs_no_stop(town: FareTable, minato: Operator) -> None:
    assert priced(town, minato, tap("G1", "G1-1", None, None)).yen == 100


def test_flat_in_the_operators_file_but_not_in_the_table_is_no_price(town: FareTable, minato: Operator) -> None:
    wrong = replace(minato, routes={"M1": RoutePolicy(KnownBy.FLAT, UnknownBoarding.ASK)})
    assert price_ride(town, wrong, tap()) == NeedsDriver(Reason.NO_RULE)


@pytest.mark.parametrize(("boarding", "alighting"), [("misaki_1", "eki_1"), ("eki_1", "eki_1"), ("eki_2", "misaki_1")])
def test_a_ride_that_does_not_go_forward_on_its_trip_is_asked_about(
    town: FareTable, minato: Operator, boarding: str, alighting: str
) -> None:
    assert price_ride(town, minato, tap(boarding=boarding, alighting=alighting)) == NeedsDriver(Reason.NOT_FORWARD)


def test_a_loop_may_be_ridden_all_the_way_round(town: FareTable, minato: Operator) -> None:
    by_stop = replace(minato, routes={"G1": RoutePolicy(KnownBy.BOARDING_TAP, UnknownBoarding.ASK)})
    assert priced(town, by_stop, tap("G1", "G1-1", "eki_1", "eki_1")).yen == 100


@pytest.mark.parametrize(
    ("ride", "reason"),
    [
        (replace(tap(), day=date(2026, 3, 31)), Reason.TABLE_NOT_IN_FORCE),
        (tap(route="M7"), Reason.NO_SUCH_ROUTE),
        (tap(trip="M1-77"), Reason.NO_SUCH_TRIP),
        (tap(trip="M2-2"), Reason.NO_SUCH_TRIP),
    ],
)
def test_files_that_do_not_fit_give_no_fare(town: FareTable, minato: Operator, ride: Ride, reason: Reason) -> None:
    assert price_ride(town, minato, ride) == NoFare(reason)


def test_an_operators_file_of_another_year_gives_no_fare_but_an_unset_clock_stops_nobody(town: FareTable, minato: Operator) -> None:
    old = replace(minato, last_day=date(2026, 5, 31))
    assert price_ride(town, old, tap()) == NoFare(Reason.OPERATOR_NOT_IN_FORCE)
    assert priced(town, old, replace(tap(), day=None)).yen == 400


def test_where_the_bus_stands_must_be_known(town: FareTable, minato: Operator) -> None:
    assert price_ride(town, minato, tap(alighting=None)) == NeedsDriver(Reason.ALIGHTING_UNKNOWN)


@pytest.mark.parametrize(("adult", "child"), [(0, 0), (150, 80), (160, 80), (170, 90), (190, 100), (1, 10)])
def test_half_a_fare_is_rounded_up_to_ten_yen(adult: int, child: int) -> None:
    assert ChildFare(percent=50, round_up_to_yen=10).of(adult) == child


def test_a_class_that_the_table_does_not_price_falls_back_to_the_operators_share(town: FareTable, minato: Operator) -> None:
    ride = replace(tap(), adults=0, children=1)
    assert priced(town, replace(minato, child=ChildFare("pupil", 50, 10)), ride).yen == 200
    assert price_ride(town, replace(minato, child=ChildFare("pupil")), ride) == NeedsDriver(Reason.NO_RULE)


def test_a_ride_without_riders_cannot_be_asked_about() -> None:
    with pytest.raises(ValueError, match="at least one rider"):
        replace(tap(), adults=0)


stops = st.sampled_from(["eki_1", "shokudori_1", "byoin_1", "onsen_1", "misaki_1", "eki_2", "yakuba_2", "misaki_2", "moon", None])


runs = st.sampled_from([("M1", "M1-2"), ("M2", "M2-2"), ("G1", "G1-1"), ("M1", ""), ("G1", ""), ("M2", "")])


@st.composite
def rides(draw: st.DrawFn) -> Ride:
    riders = draw(st.sampled_from([(1, 0), (2, 0), (0, 1), (0, 2), (1, 3), (3, 1)]))
    ticket, driver_fare = draw(st.none() | st.integers(1, 7)), draw(st.none() | st.integers(0, 2000))
    return Ride(*draw(runs), draw(stops), draw(stops), *riders, driver_fare, DAY, ticket)


@settings(deadline=None)
@given(ride=rides())
def test_any_ride_is_priced_by_its_steps_or_somebody_is_named(ride: Ride, town: FareTable, minato: Operator) -> None:
    match price_ride(town, minato, ride):
        case Priced() as answer:
            assert total(answer.steps) == answer.yen
            assert 0 <= answer.holder <= answer.yen
            assert (Flag.DRIVER in answer.flags) == (ride.driver_fare is not None)
            assert lines(answer.steps)[-1].split()[0].replace(",", "") == str(answer.yen)
        case NeedsDriver(reason) | NoFare(reason):
            assert reason.value
