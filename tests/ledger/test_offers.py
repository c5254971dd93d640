"""The list of what the city sends down: what of it is worth fetching, and what is no list."""

import json
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import offers
from ledger.offers import MalformedOffers, Offer
from ledger.package import MAX_SEALED, PackageKind

TODAY = date(2026, 6, 15)
GOOD = {"kind": "deny-list", "version": 3, "valid_from": "2026-06-01", "digest": "ab" * 32, "size": 500}


def offer(version: int, days: int = -10, kind: PackageKind = PackageKind.FARE_TABLE) -> Offer:
    return Offer(kind, version, TODAY + timedelta(days=days), version.to_bytes(32, "big"), 1000)


def versions(*given: Offer, today: date | None = TODAY) -> list[int]:
    return [found.version for found in offers.worth(given, today)]


def test_a_list_is_read_and_a_kind_of_tomorrow_is_passed_over() -> None:
    rows = [GOOD, GOOD | {"kind": "holograms"}]
    assert offers.decode(json.dumps(rows).encode()) == (Offer(PackageKind.DENY_LIST, 3, date(2026, 6, 1), bytes.fromhex("ab" * 32), 500),)


@pytest.mark.parametrize(
    "change",
    [
        *({"version": 0}, {"version": True}, {"version": "3"}, {"size": 0}, {"size": MAX_SEALED + 1}, {"size": 1.5}),
        *({"digest": "ab"}, {"digest": None}, {"valid_from": "soon"}, {"kind": 7}),
    ],
)
def test_a_line_that_is_none_spoils_the_list(change: dict[str, object]) -> None:
    with pytest.raises(MalformedOffers, match="Line 1 of the list"):
        offers.decode(json.dumps([GOOD, GOOD | change]).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"<html>", b"[[]]", b"\xff", b"[" * 5000, b"[1]", b" " * (offers.MAX_LIST + 1), b"[" + b"1," * offers.MOST_OFFERS + b"1]"],
)
def test_what_is_no_list_is_said(data: bytes) -> None:
    with pytest.raises(MalformedOffers):
        offers.decode(data)


def test_of_those_in_force_the_last_and_of_those_to_come_all_that_will_be() -> None:
    assert versions(offer(1, -90), offer(2, -30), offer(3, -1), offer(4, 10), offer(5, 40)) == [3, 4, 5]
    assert versions(offer(3, 0), offer(4, 0)) == [4]


def test_what_a_higher_version_replaces_from_the_same_day_or_before_is_not_worth_fetching() -> None:
    assert versions(offer(3, -1), offer(4, 40), offer(5, 10)) == [3, 5]
    assert versions(offer(3, -1), offer(4, 10), offer(5, -1)) == [5]


def test_while_the_clock_is_unset_nothing_is_known_to_be_over() -> None:
    assert versions(offer(1, -90), offer(2, -30), offer(3, 30), today=None) == [1, 2, 3]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-5, 5)), unique_by=lambda pair: pair[0]))
def test_what_is_worth_fetching_rises_in_version_and_day_and_ends_with_the_highest(pairs: list[tuple[int, int]]) -> None:
    found = offers.worth([offer(version, days) for version, days in pairs], TODAY)
    assert all(one.version < two.version and one.valid_from < two.valid_from for one, two in pairwise(found))
    assert sum(one.valid_from <= TODAY for one in found) <= 1
    if pairs:
        assert found[-1].version == max(version for version, _ in pairs)
