"""Entries in words, and as records."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from ledger.entry import Entry, Flags, Kind, Medium, Outcome, When
from ledger.telling import FIELDS, line, record, totals

Ride = Callable[..., Entry]


def test_a_paid_ride_is_told_in_one_line(ride: Ride) -> None:
    assert line(ride(seq=12)) == (
        "     12  2026-02-02T02:40:00Z  paid         000000  T0815 S03→S07                 100 points, 100 yen in cash, balance 1500→1400"
    )


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"kind": Kind.RESOLVED, "ref": 3, "outcome": Outcome.PAID}, "entry 3 was paid, balance 1500→1400"),
        ({"kind": Kind.UNKNOWN}, "100 points sent to the card, outcome not known, balance 1500→1400"),
        ({"kind": Kind.REFUSED, "reason": "deny list", "medium": None}, "100 yen in cash, deny list"),
        ({"ref": 4, "flags": Flags.RECOVERED}, "belongs to entry 4, recovered"),
    ],
)
def test_what_happened_is_said(ride: Ride, changes: dict[str, object], end: str) -> None:
    assert line(ride(**changes)).endswith(end)


def test_without_a_clock_the_time_since_the_start_is_told(ride: Ride) -> None:
    assert "boot 3 + 123 s" in line(ride(when=When(3, 123_456, 0, 0)))


def test_a_record_has_all_fields_in_order_and_no_identifier_but_the_riders_hash(ride: Ride) -> None:
    flat = record(ride())
    assert tuple(flat) == FIELDS
    assert (flat["rider"], flat["balance_before"], flat["balance_after"], flat["debits_after"]) == ("0000000000000001", 1500, 1400, 2)
    assert b"granted!".hex() not in json.dumps(flat)


def test_a_record_without_a_medium_or_purse_has_empty_fields(ride: Ride) -> None:
    assert record(ride(medium=None))["rider"] == ""
    bare = record(ride(medium=Medium(bytes(8))))
    assert (bare["rider"], bare["balance_before"]) == ("00" * 8, "")


def test_a_purse_that_was_not_written_is_the_same_before_and_after(ride: Ride) -> None:
    free = ride()
    assert free.medium is not None
    flat = record(replace(free, medium=replace(free.medium, after=None)))
    assert flat["balance_before"] == flat["balance_after"] == 1500


def test_numbers_that_no_calendar_has_are_told_as_numbers(ride: Ride) -> None:
    strange = ride(when=When(1, 1, 2**62, 9), place=replace(ride().place, service_day=2**62))
    flat = record(strange)
    assert (flat["utc"], flat["clock"], flat["service_day"]) == (f"{2**62} ms", "9", f"day {2**62}")


def test_totals_are_in_words() -> None:
    assert totals({Kind.PAID: 3, Kind.SHIFT_OPEN: 1}) == "1 shift open, 3 paid"
