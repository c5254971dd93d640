"""When things happened, put right after the fact."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.clock_repair import Repaired, Source, Stamp, repair
from drivers.devices.clock import ClockState
from fares.operator import PLAIN
from ledger.entry import When

JAPAN = timezone(timedelta(hours=9))
NIGHT_BUSES = replace(PLAIN, service_day_starts=time(3))
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def day_of(utc_ms: int) -> int:
    return (NIGHT_BUSES.service_day(datetime.fromtimestamp(utc_ms / 1000, JAPAN)) - date(1970, 1, 1)).days


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=JAPAN).timestamp() * 1000)


def day(text: str) -> int:
    return day_of(at(text + "T12:00"))


LATER = at("2027-05-01T00:00")


def stamp(seq: int, boot: int, mono_ms: int, clock: ClockState, utc_ms: int, *, signed: int = 0, received_ms: int = LATER) -> Stamp:
    return Stamp(seq, When(boot, mono_ms, utc_ms, clock), signed, received_ms)


def one(stamps: list[Stamp], seq: int) -> Repaired:
    return next(each for each in repair(stamps, day_of) if each.seq == seq)


def test_one_good_pair_tells_the_whole_boot() -> None:
    known = at("2026-11-24T08:00")
    told = repair(
        [stamp(1, 1, 0, ClockState.UNSET, 0), stamp(2, 1, HOUR, ClockState.NTP, known), stamp(3, 1, 2 * HOUR, ClockState.UNSET, 0)], day_of
    )
    assert [each.earliest_ms for each in told] == [known - HOUR, known, known + HOUR]
    assert all(each.source is Source.KNOWN and each.earliest_ms == each.latest_ms for each in told)


@pytest.mark.parametrize("wrong_min", [15, -15])
def test_a_battery_clock_that_is_fifteen_minutes_wrong_gives_way_to_the_network(wrong_min: int) -> None:
    true = at("2026-11-24T08:00")
    wrong = stamp(1, 1, 0, ClockState.RTC, true + wrong_min * MINUTE, signed=day("2026-11-24"))
    assert one([wrong, stamp(2, 1, MINUTE, ClockState.GNSS, true + MINUTE, signed=day("2026-11-24"))], 1).earliest_ms == true


def test_a_battery_clock_is_taken_when_there_is_nothing_better() -> None:
    true = at("2026-11-24T08:00")
    told = one([stamp(1, 1, 0, ClockState.UNSET, 0), stamp(2, 1, MINUTE, ClockState.RTC, true)], 1)
    assert (told.earliest_ms, told.source) == (true - MINUTE, Source.RTC)


def test_a_battery_clock_that_contradicts_the_boot_before_is_not_believed() -> None:
    before = at("2026-11-24T08:00")
    told = one([stamp(1, 1, 0, ClockState.NTP, before), stamp(2, 2, 0, ClockState.RTC, before - HOUR)], 2)
    assert (told.source, told.earliest_ms) == (Source.BOUNDED, before)


def test_nineteen_seventy_is_no_time() -> None:
    before, after = at("2026-11-24T20:00"), at("2026-11-25T06:00")
    told = one(
        [
            stamp(1, 1, 0, ClockState.NTP, before, signed=day("2026-11-24")),
            stamp(2, 2, 0, ClockState.RTC, 5000),
            stamp(3, 2, MINUTE, ClockState.RTC, 5000 + MINUTE),
            stamp(4, 3, 0, ClockState.GNSS, after, signed=day("2026-11-25")),
        ],
        3,
    )
    assert (told.source, told.earliest_ms, told.latest_ms) == (Source.BOUNDED, before + MINUTE, after)


def test_what_nobody_knows_lies_between_its_neighbours_and_keeps_its_distances() -> None:
    before, after = at("2026-11-24T08:00"), at("2026-11-24T12:00")
    stamps = [
        stamp(1, 1, 0, ClockState.NTP, before),
        stamp(2, 2, 0, ClockState.UNSET, 0),
        stamp(3, 2, HOUR, ClockState.UNSET, 0),
        stamp(4, 3, 0, ClockState.NTP, after),
    ]
    assert [(each.earliest_ms, each.latest_ms) for each in repair(stamps, day_of)[1:3]] == [
        (before, after - HOUR),
        (before + HOUR, after),
    ]


def test_nothing_happened_after_the_city_had_it() -> None:
    received = at("2026-11-24T12:00")
    told = one([stamp(1, 1, 0, ClockState.UNSET, 0, received_ms=received), stamp(2, 1, HOUR, ClockState.UNSET, 0, received_ms=received)], 1)
    assert told.latest_ms == received - HOUR


def test_a_time_carried_over_a_power_cut_is_a_lower_bound() -> None:
    carried = at("2026-11-24T07:00")
    told = one([stamp(1, 4, 0, ClockState.CARRIED, carried, signed=day("2026-11-24")), stamp(2, 4, MINUTE, ClockState.UNSET, 0)], 2)
    assert (told.earliest_ms, told.source) == (carried + MINUTE, Source.BOUNDED)


@pytest.mark.parametrize(
    ("local", "service_day"),
    [
        ("2026-11-24T23:59", "2026-11-24"),
        ("2026-11-25T00:00", "2026-11-24"),
        ("2026-11-25T01:10", "2026-11-24"),  # the 25:10 bus
        ("2026-11-25T02:59", "2026-11-24"),
        ("2026-11-25T03:00", "2026-11-25"),
        ("2027-03-31T23:59", "2027-03-31"),
        ("2027-04-01T02:59", "2027-03-31"),
        ("2027-04-01T03:00", "2027-04-01"),
    ],
)
def test_a_day_that_the_vehicle_could_not_decide_is_that_of_the_repaired_time(local: str, service_day: str) -> None:
    known = at(local)
    told = one([stamp(1, 1, 0, ClockState.UNSET, 0), stamp(2, 1, 8 * HOUR, ClockState.NTP, known + 8 * HOUR, signed=day("2026-11-25"))], 1)
    assert (told.service_day, told.named) == (day(service_day), True)


def test_an_entry_of_an_unknown_start_bounds_nobody_and_is_bounded_by_nobody() -> None:
    # A new epoch begins with an entry of a start that has no number yet; behind it stands what went on before, with its own times.
    before, renewed, after = at("2026-11-24T08:00"), at("2026-11-24T12:00"), at("2026-11-24T12:05")
    stamps = [
        stamp(1, 0, 0, ClockState.NTP, renewed),
        stamp(2, 3, HOUR, ClockState.RTC, before, signed=day("2026-11-24")),
        stamp(3, 4, MINUTE, ClockState.NTP, after, signed=day("2026-11-24")),
    ]
    told = repair(stamps, day_of)
    assert [(each.earliest_ms, each.latest_ms, each.source) for each in told] == [
        (renewed, renewed, Source.KNOWN),
        (before, before, Source.RTC),
        (after, after, Source.KNOWN),
    ]
    late = stamp(4, 0, 0, ClockState.UNSET, 0, received_ms=after)
    assert one([*stamps, late], 4) == Repaired(4, 0, after, Source.BOUNDED, day_of(0), named=True)


def test_two_entries_of_unknown_starts_tell_nothing_of_each_other() -> None:
    known, other = at("2026-11-24T08:00"), at("2027-01-10T20:00")
    told = repair([stamp(1, 0, 0, ClockState.GNSS, known), stamp(2, 0, 0, ClockState.GNSS, other)], day_of)
    assert [each.earliest_ms for each in told] == [known, other]
    unsure = one([stamp(1, 0, 0, ClockState.GNSS, known), stamp(2, 0, MINUTE, ClockState.UNSET, 0)], 2)
    assert (unsure.source, unsure.earliest_ms, unsure.latest_ms) == (Source.BOUNDED, 0, LATER)


def test_a_day_that_the_vehicle_decided_never_changes() -> None:
    true = at("2027-04-01T09:00")
    told = one(
        [stamp(1, 1, 0, ClockState.RTC, true - DAY, signed=day("2027-03-31")), stamp(2, 1, MINUTE, ClockState.NTP, true + MINUTE)], 1
    )
    assert (told.service_day, told.named, told.earliest_ms) == (day("2027-03-31"), False, true)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, HOUR), st.sampled_from(ClockState)), min_size=1, max_size=20))
def test_the_truth_always_lies_within_the_bounds(taps: list[tuple[int, int, ClockState]]) -> None:
    now, mono, boot = at("2027-03-31T20:00"), 0, 1
    stamps: list[Stamp] = []
    truth: dict[int, int] = {}
    for seq, (restarts, pause_ms, clock) in enumerate(taps, 1):
        boot, mono = (boot + restarts, 0) if restarts else (boot, mono + pause_ms)
        now += pause_ms
        truth[seq] = now
        said = {ClockState.UNSET: 0, ClockState.CARRIED: now - HOUR, ClockState.RTC: 1000}.get(clock, now)
        stamps.append(stamp(seq, boot, mono, clock, said, received_ms=now + DAY))
    for each in repair(stamps, day_of):
        assert each.earliest_ms <= truth[each.seq] <= each.latest_ms
        if each.source is Source.KNOWN:
            assert each.earliest_ms == each.latest_ms == truth[each.seq]
