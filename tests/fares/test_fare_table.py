"""The compiled table: what it answers, and that nothing but a whole one opens."""

from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fares.faults import Unusable
from fares.table import Call, Contents, Course, FareTable, NoPrice, NoPriceReason, Price, Route, Service, Square, Stop, Trip, pack

names = st.text("ABCあいう12", min_size=1, max_size=4)


@st.composite
def some_contents(draw: st.DrawFn) -> Contents:
    """Any small table: a few routes, zones, stops and fare sets, and trips over them."""
    zones = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    stops = tuple(Stop(f"s{place}", zone, zone, zone, zone, "") for place, zone in enumerate(zones))
    fares = st.fixed_dictionaries({"": st.integers(0, 9999)}, optional={"c": st.integers(0, 9999)})
    fare_sets = tuple(tuple(fares) for fares in draw(st.lists(st.lists(fares, min_size=1, max_size=3), min_size=1, max_size=5)))
    routes = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    cell = st.integers(0, len(fare_sets))
    squares = tuple(
        Square(route, tuple(zones), draw(st.lists(cell, min_size=len(zones) ** 2, max_size=len(zones) ** 2))) for route in routes
    )
    time = st.integers(0, 30 * 3600)
    call = st.builds(Call, st.sampled_from([stop.id for stop in stops]), time, time, st.booleans(), st.booleans())
    trip = st.builds(
        Trip,
        st.just("t"),
        st.sampled_from(routes),
        st.just("day"),
        st.lists(call, min_size=2, max_size=6).map(tuple),
        names,
        names,
        st.builds(Course, names, names, names),
    )
    trips = tuple(replace(one, id=f"t{place}") for place, one in enumerate(draw(st.lists(trip, max_size=4))))
    days = draw(st.frozensets(st.dates(date(2020, 1, 1), date(2030, 1, 1)), max_size=4))
    return Contents(
        feed=bytes(32),
        publisher="p",
        version="v",
        first_day=date(2026, 4, 1),
        last_day=date(2027, 3, 31),
        stops=stops,
        routes=tuple(Route(route, route) for route in routes),
        services=(Service("day", frozenset({0, 6}), date(2026, 4, 1), date(2027, 3, 31), days, days),),
        trips=trips,
        classes=(("c", "child"),),
        fare_sets=fare_sets,
        squares=squares,
    )


@settings(max_examples=40, deadline=None)
@given(some_contents())
def test_what_is_packed_is_what_the_table_answers(contents: Contents) -> None:
    table = FareTable.unpack(pack(contents))
    assert table.stops() == contents.stops
    assert table.routes() == contents.routes
    assert tuple(table.trips()) == contents.trips
    for square in contents.squares:
        size = len(square.zones)
        for place, number in enumerate(square.cells):
            price = table.price(square.route, f"s{place // size}", f"s{place % size}")
            if number == 0:
                assert price == NoPrice(NoPriceReason.NO_RULE)
            else:
                given = sorted({fare[""] for fare in contents.fare_sets[number - 1]})
                assert price == Price(given[0], tuple(given) if len(given) > 1 else ())


@settings(max_examples=20, deadline=None)
@given(some_contents())
def test_the_same_contents_make_the_same_file(contents: Contents) -> None:
    assert pack(contents) == pack(contents)


def test_a_pair_with_two_prices_keeps_both_and_shows_the_lower(town: FareTable) -> None:
    assert town.price("M1", "byoin_1", "onsen_1") == Price(270, (270, 300))
    assert town.price("M1", "byoin_1", "onsen_1", "child") == Price(140, (140, 150))


@pytest.mark.parametrize(
    ("route", "boarding", "alighting", "rider_class", "reason"),
    [
        ("M1", "shokudori_1", "onsen_1", "", NoPriceReason.NO_RULE),
        ("M1", "eki_1", "eki_2", "", NoPriceReason.NOT_ON_ROUTE),
        ("M1", "eki_1", "moon", "", NoPriceReason.NO_SUCH_STOP),
        ("M9", "eki_1", "misaki_1", "", NoPriceReason.NO_SUCH_ROUTE),
        ("M1", "eki_1", "misaki_1", "soldier", NoPriceReason.NO_CLASS_PRICE),
    ],
)
def test_a_price_that_is_not_there_says_why(
    *, town: FareTable, route: str, boarding: str, alighting: str, rider_class: str, reason: NoPriceReason
) -> None:
    assert town.price(route, boarding, alighting, rider_class) == NoPrice(reason)


def test_a_flat_route_is_known_as_flat_and_a_distance_route_is_not(town: FareTable) -> None:
    assert [town.flat(route) for route in ("G1", "M1", "M9")] == [True, False, False]


def test_a_late_trip_counts_past_midnight(town: FareTable) -> None:
    assert town.trip("M1-9").calls[-1].arrival_s == 24 * 3600 + 19 * 60


def test_the_digest_is_the_beginning_of_what_sha256sum_prints(town_contents: Contents, tmp_path: Path) -> None:
    path = tmp_path / "town.fares"
    path.write_bytes(pack(town_contents))
    assert FareTable.open(path).digest == sha256(path.read_bytes()).digest()[:8]


def test_a_table_that_is_cut_anywhere_or_changed_anywhere_does_not_open(town_contents: Contents) -> None:
    whole = pack(town_contents)
    for length in range(len(whole)):
        with pytest.raises(Unusable):
            FareTable.unpack(whole[:length])
    for place in range(len(whole)):
        with pytest.raises(Unusable):
            FareTable.unpack(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])


def test_what_is_wrong_with_a_table_is_one_sentence_with_its_name(town_contents: Contents) -> None:
    whole = pack(town_contents)
    cases = {
        b"PK\x03\x04": "is not a compiled fare table",
        whole[:7] + b"\x63" + whole[8:]: "is a table of version 99, this program reads 1",
        whole[:500]: f"has 500 bytes where its beginning says {len(whole)}",
        whole + b"\n": f"has {len(whole) + 1} bytes",
        whole[:-1] + bytes([whole[-1] ^ 1]): "its checksum does not fit",
    }
    for data, part in cases.items():
        with pytest.raises(Unusable) as refused:
            FareTable.unpack(data, "town.fares")
        told = str(refused.value)
        assert told.startswith("town.fares: ")
        assert part in told
        assert "\n" not in told


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_a_body_that_somebody_sealed_but_that_says_nonsense_is_refused(body: bytes) -> None:
    head = b"KZFARES\x01" + len(body).to_bytes(8, "big") + body
    with pytest.raises(Unusable):
        FareTable.unpack(head + sha256(head).digest())
