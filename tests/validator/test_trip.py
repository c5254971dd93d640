"""Where the vehicle is and what the driver has armed."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.devices.keypad import DriverKey as Key
from drivers.devices.keypad import KeyPress
from fares.table import Call, Trip
from firmware.compose import wordbook
from ledger.entry import Entry, Kind, When
from validator.messages import Message
from validator.trip import ONE_ADULT, Armed, Duty, Pressed, call_reason, press, resume, used

TRIPS = tuple(Trip(f"T{number}", "R", "daily", tuple(Call(f"s{stop}", 0, 0) for stop in range(4))) for number in (1, 2))
START = Duty("operator", "vehicle", 7, coming=TRIPS)
TODAY = 20_600


def pressed(duty: Duty, *keys: Key | int, unsure: bool = False) -> Pressed:
    result = Pressed(duty)
    for key in keys:
        for one in [KeyPress(key)] if isinstance(key, Key) else [KeyPress(Key.DIGIT, int(digit)) for digit in str(key)]:
            result = press(result.duty, one, unsure=unsure, service_day=TODAY)
    return result


ON_TRIP = pressed(START, Key.TRIP).duty


def test_the_trip_key_opens_the_next_trip_with_its_service_day_and_closes_it() -> None:
    opened = pressed(START, Key.TRIP)
    assert (opened.notes, opened.duty.stop, opened.duty.service_day) == ((Kind.TRIP_OPEN,), "s0", TODAY)
    closed = pressed(opened.duty, Key.TRIP)
    assert (closed.notes, closed.duty.stop, closed.duty.coming) == ((Kind.TRIP_CLOSE,), "", TRIPS[1:])


def test_after_the_last_trip_the_trip_key_opens_nothing() -> None:
    done = pressed(START, Key.TRIP, Key.TRIP, Key.TRIP, Key.TRIP)
    assert pressed(done.duty, Key.TRIP) == Pressed(done.duty)


def test_stops_are_stepped_and_never_beyond_the_ends() -> None:
    assert pressed(ON_TRIP, Key.NEXT_STOP, Key.NEXT_STOP, Key.PREVIOUS_STOP).duty.stop == "s1"
    assert pressed(ON_TRIP, Key.PREVIOUS_STOP) == Pressed(ON_TRIP)
    last = pressed(ON_TRIP, *[Key.NEXT_STOP] * 9)
    assert (last.duty.stop, last.notes) == ("s3", ())


@pytest.mark.parametrize(
    ("keys", "armed"),
    [
        ((Key.PAIR,), Armed(2, 0)),
        ((Key.PAIR, Key.PAIR), ONE_ADULT),
        ((Key.CHILD,), Armed(0, 1)),
        ((Key.CHILD, Key.CHILD), ONE_ADULT),
        ((Key.PAIR, Key.CHILD), Armed(1, 1)),
        ((Key.PAIR, Key.CHILD, Key.CHILD), Armed(0, 2)),
        ((Key.TICKET, 12, Key.ENTER), Armed(ticket=12)),
        ((Key.FARE, 320, Key.ENTER), Armed(fare_yen=320)),
        ((Key.FARE, 320, Key.CLEAR), ONE_ADULT),
        ((Key.FARE, Key.ENTER), ONE_ADULT),
        ((Key.FARE, 1234567, Key.ENTER), Armed(fare_yen=12345)),
        ((Key.NEXT_STOP, Key.NEXT_STOP, Key.STOP, 2, Key.ENTER), Armed(boarded_at=2)),
        ((Key.NEXT_STOP, Key.STOP, 3, Key.ENTER), ONE_ADULT),
        ((Key.STOP, 0, Key.ENTER), ONE_ADULT),
        ((Key.PAIR, Key.CLEAR), ONE_ADULT),
        ((Key.PAIR, Key.NEXT_STOP), ONE_ADULT),
        ((Key.PAIR, Key.TRIP), ONE_ADULT),
    ],
)
def test_what_the_driver_arms(keys: Sequence[Key | int], armed: Armed) -> None:
    assert pressed(ON_TRIP, *keys).duty.armed == armed


@pytest.mark.parametrize(
    ("armed", "message"),
    [
        (ONE_ADULT, None),
        (Armed(2, 0), Message.ARMED_PAIR),
        (Armed(1, 1), Message.ARMED_PAIR),
        (Armed(0, 1), Message.ARMED_CHILD),
        (Armed(ticket=3), Message.ARMED_TICKET),
        (Armed(boarded_at=3), Message.ARMED_STOP),
        (Armed(2, 0, fare_yen=500), Message.ARMED_FARE),
    ],
)
def test_what_is_armed_is_shown_before_the_tap(armed: Armed, message: Message | None) -> None:
    shown = armed.shown()
    assert (shown.message if shown else None) is message


@pytest.mark.parametrize(
    ("armed", "spoken"),
    [
        (Armed(2, 0), "2人。カードをかざしてください"),
        (Armed(1, 1), "2人。子どもを含みます。カードをかざしてください"),
        (Armed(0, 2), "2人。子ども料金です。カードをかざしてください"),
        (Armed(2, 0, ticket=3), "整理券3番。2人。カードをかざしてください"),
        (Armed(0, 1, boarded_at=4), "乗った停留所4番。子ども料金です。カードをかざしてください"),
        (Armed(1, 1, fare_yen=500), "料金500円。2人。子どもを含みます。カードをかざしてください"),
        (Armed(fare_yen=500), "料金500円。カードをかざしてください"),
    ],
)
def test_whatever_is_armed_together_is_said_together(armed: Armed, spoken: str) -> None:
    shown = armed.shown()
    assert shown is not None
    assert wordbook().phrase(shown).transcript == spoken


def test_a_tap_uses_up_what_was_armed() -> None:
    assert used(pressed(ON_TRIP, Key.PAIR, Key.FARE, 3).duty) == ON_TRIP


def test_the_driver_said_boarding_stop_is_the_trips_own() -> None:
    duty = pressed(ON_TRIP, Key.NEXT_STOP, Key.NEXT_STOP, Key.STOP, 2, Key.ENTER).duty
    assert (duty.boarded_at, duty.stop) == ("s1", "s2")
    assert ON_TRIP.boarded_at == ""


def test_clear_is_refused_while_an_outcome_is_unknown() -> None:
    assert pressed(ON_TRIP, Key.CLEAR, unsure=True).says is Message.RETOUCH_FIRST
    assert pressed(ON_TRIP, Key.CLEAR).says is None
    assert pressed(pressed(ON_TRIP, Key.PAIR).duty, Key.CLEAR, unsure=True) == Pressed(ON_TRIP)


def test_the_shift_key_closes_trip_and_shift_and_opens_a_new_shift() -> None:
    closed = pressed(ON_TRIP, Key.SHIFT)
    assert (closed.notes, closed.duty.on_shift, closed.duty.trip) == ((Kind.TRIP_CLOSE, Kind.SHIFT_CLOSE), False, None)
    assert pressed(closed.duty, Key.TRIP) == Pressed(closed.duty)
    opened = pressed(closed.duty, Key.SHIFT)
    assert (opened.notes, opened.duty.shift) == ((Kind.SHIFT_OPEN,), 8)


KEYS = st.lists(st.one_of(st.sampled_from([key for key in Key if key is not Key.DIGIT]), st.integers(0, 9)), max_size=40)


@given(KEYS)
def test_no_keys_ever_arm_nobody_or_leave_the_trip(keys: list[Key | int]) -> None:
    duty = pressed(START, *keys).duty
    assert 1 <= duty.armed.riders <= 2
    assert duty.trip is None or 0 <= duty.at < len(duty.trip.calls)
    assert duty.on_shift or duty.trip is None


# ── a start after a power cut ──


def book(*entries: Entry) -> dict[Kind, Entry]:
    return {entry.kind: replace(entry, seq=seq) for seq, entry in enumerate(entries, 1)}


def entry(kind: Kind, duty: Duty = ON_TRIP) -> Entry:
    return Entry(kind, When(1, 0, 0, 4), duty.place(), reason=call_reason(duty) if kind is Kind.STOP_SET else "")


def resumed(*entries: Entry) -> Duty:
    return resume("operator", "vehicle", TRIPS, book(*entries).get)


def test_a_new_ledger_begins_with_shift_one() -> None:
    assert resumed() == replace(START, shift=1)


def test_a_closed_shift_is_followed_by_the_next() -> None:
    assert resumed(entry(Kind.SHIFT_OPEN), entry(Kind.SHIFT_CLOSE)) == replace(START, shift=8)


def test_an_open_shift_goes_on_with_its_trip_at_its_stop() -> None:
    at_two = pressed(ON_TRIP, Key.NEXT_STOP, Key.NEXT_STOP).duty
    assert resumed(entry(Kind.SHIFT_OPEN), entry(Kind.TRIP_OPEN)) == ON_TRIP
    assert resumed(entry(Kind.SHIFT_OPEN), entry(Kind.TRIP_OPEN), entry(Kind.STOP_SET, at_two)) == at_two


def test_a_closed_trip_is_not_opened_again() -> None:
    duty = resumed(entry(Kind.SHIFT_OPEN), entry(Kind.TRIP_OPEN), entry(Kind.TRIP_CLOSE))
    assert (duty.trip, duty.coming) == (None, TRIPS[1:])


def test_a_trip_that_the_table_no_longer_has_is_not_resumed() -> None:
    unknown = replace(ON_TRIP, trip=replace(TRIPS[0], id="gone"))
    assert resumed(entry(Kind.SHIFT_OPEN), entry(Kind.TRIP_OPEN, unknown)) == START


def test_between_two_trips_enter_asks_what_runs_here_and_on_a_trip_it_asks_nothing() -> None:
    between = press(replace(ON_TRIP, trip=None), KeyPress(Key.ENTER), unsure=False, service_day=1)
    assert (between.says, between.notes) == (Message.ABOUT, ())
    assert press(ON_TRIP, KeyPress(Key.ENTER), unsure=False, service_day=1).says is None
