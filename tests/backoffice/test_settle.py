"""What the city books by itself about unknown debits, and what it takes back."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from backoffice.book import owed_to, postings_of
from backoffice.settle import DATED_AFTER_MS, Dated, Settled, Trouble, days_of, settle
from backoffice.witness import Arrived, Key, Verdict
from drivers.cards.purse import FULL, Counters, RegLog
from drivers.devices.clock import ClockState
from ledger.entry import Entry, Fare, Kind, Medium, Outcome, Place, When

BEFORE = Counters(FULL, FULL, bytes(8), 20)
AFTER = Counters(FULL - 300, FULL - 1, RegLog(1, 1000, 1).block(), 21)
UNKNOWN = Entry(
    kind=Kind.UNKNOWN,
    when=When(1, 1000, 1_790_000_000_000, 4),
    place=Place(operator="sanko", service_day=20_700),
    medium=Medium(bytes(8), 2000, 1, bytes(8), BEFORE, AFTER),
    fare=Fare(nominal=300, points=300, adults=1),
    device=1,
    epoch=1,
    seq=5,
)
WORD = replace(UNKNOWN, kind=Kind.RESOLVED, outcome=Outcome.PAID, ref=5, seq=9)
SEEN = replace(UNKNOWN, kind=Kind.FREE, medium=Medium(bytes(8), 2000, 1, bytes(8), AFTER), fare=Fare(), device=2, seq=3)


def owed(entries: list[Arrived]) -> int:
    settled = settle(entries)
    postings = [posting for each in entries for posting in postings_of(each.entry)]
    own = owed_to("sanko")
    moved = [*postings, *(booking.posting for booking in settled.bookings)]
    return sum(posting.amount * ((posting.credit == own) - (posting.debit == own)) for posting in moved)


def troubles(settled: Settled) -> list[Trouble]:
    return [alarm.trouble for alarm in settled.alarms]


def test_an_unknown_debit_is_booked_when_another_bus_has_seen_it() -> None:
    assert owed([Arrived(UNKNOWN, 10)]) == 0
    (booking,) = settle([Arrived(UNKNOWN, 10), Arrived(SEEN, 50)]).bookings
    assert (booking.key, booking.posting.leg, booking.at_ms, booking.service_day) == (Key(1, 1, 5), 11, 50, 20_700)


def test_what_the_city_concluded_gives_way_to_the_vehicles_own_word_and_the_ride_stays_booked_once() -> None:
    told = [Arrived(UNKNOWN, 10), Arrived(SEEN, 50), Arrived(WORD, 80)]
    assert owed(told) == 300
    assert [(booking.posting.leg, booking.at_ms, booking.corrects) for booking in settle(told).bookings] == [(11, 50, 0), (21, 80, 11)]


def test_a_word_that_came_first_leaves_nothing_to_conclude() -> None:
    told = [Arrived(UNKNOWN, 10), Arrived(WORD, 30), Arrived(SEEN, 50)]
    assert (owed(told), settle(told).bookings) == (300, ())


def test_a_debit_that_is_settled_twice_is_booked_once_and_somebody_is_told() -> None:
    told = [Arrived(UNKNOWN, 10), Arrived(WORD, 30), Arrived(replace(WORD, seq=11), 40)]
    assert owed(told) == 300
    assert troubles(settle(told)) == [Trouble.RESOLVED_AGAIN]


def test_two_stories_raise_an_alarm_and_turn_nothing_round() -> None:
    other = Counters(FULL - 100, FULL - 1, RegLog(3, 900, 1).block(), 21)
    claims = replace(SEEN, kind=Kind.PAID, medium=Medium(bytes(8), 2000, 1, bytes(8), BEFORE, other), fare=Fare(100, 100), device=3)
    told = [Arrived(UNKNOWN, 10), Arrived(SEEN, 50), Arrived(claims, 60)]
    assert owed(told) == 400
    assert troubles(settle(told)) == [Trouble.CONTRADICTED, Trouble.IMPOSSIBLE]


STALE = replace(UNKNOWN, when=When(0, 0, 1_790_100_000_000, 4), epoch=2, seq=2)
"""The same debit after an image was restored in which it was open: an UNKNOWN of the new epoch."""

STALE_WORD = replace(STALE, kind=Kind.RESOLVED, outcome=Outcome.PAID, ref=2, seq=7)
PAID = replace(UNKNOWN, kind=Kind.PAID)


def test_a_debit_that_an_old_image_brings_back_was_booked_by_its_own_ledger() -> None:
    told = [Arrived(PAID, 10), Arrived(STALE, 90)]
    assert (owed(told), settle(told).bookings) == (300, ())
    assert [judgement.verdict for judgement in settle(told).judgements] == [Verdict.PAID]
    resolved = [*told, Arrived(STALE_WORD, 95)]
    assert owed(resolved) == 300
    assert [(booking.key, booking.posting.leg, booking.corrects) for booking in settle(resolved).bookings] == [(Key(1, 2, 7), 21, 1)]
    assert settle(resolved).alarms == ()


def test_a_debit_that_an_old_image_brings_back_is_settled_by_what_another_bus_saw() -> None:
    assert owed([Arrived(STALE, 10)]) == 0
    assert owed([Arrived(STALE, 10), Arrived(SEEN, 50)]) == 300
    before = replace(SEEN, medium=Medium(bytes(8), 2000, 1, bytes(8), replace(BEFORE, wcnt=30)))
    assert [judgement.verdict for judgement in settle([Arrived(STALE, 10), Arrived(before, 50)]).judgements] == [Verdict.UNPAID]


def test_a_debit_that_is_unknown_in_two_epochs_is_one_debit() -> None:
    told = [Arrived(UNKNOWN, 10), Arrived(STALE, 20), Arrived(SEEN, 50)]
    assert owed(told) == 300
    assert len(settle(told).judgements) == 1
    assert owed([*told, Arrived(STALE_WORD, 80)]) == 300


@given(
    st.lists(st.sampled_from([UNKNOWN, WORD, STALE, STALE_WORD, PAID, SEEN]), unique_by=lambda entry: (entry.kind, entry.epoch, entry.seq)),
    st.integers(0, 6),
)
def test_a_debit_told_in_two_epochs_is_booked_once_in_whatever_order_it_comes(entries: list[Entry], count: int) -> None:
    if PAID in entries:  # which has the number of its UNKNOWN here; no ledger has both
        entries = [entry for entry in entries if entry not in {UNKNOWN, WORD}]
    told = [Arrived(entry, 10 * number) for number, entry in enumerate(entries, 1)]
    assert owed(told) in {0, 300}
    assert owed(told) == 300 or not {Kind.PAID, Kind.RESOLVED} & {entry.kind for entry in entries}
    assert set(settle(told[:count]).bookings) <= set(settle(told).bookings)
    assert troubles(settle(told)) == []


def test_an_honest_card_raises_no_alarm() -> None:
    assert settle([Arrived(UNKNOWN, 10), Arrived(SEEN, 50), Arrived(WORD, 80)]).alarms == ()


def test_an_entry_that_came_twice_is_settled_as_if_it_had_come_once() -> None:
    told = [Arrived(UNKNOWN, 10), Arrived(SEEN, 50), Arrived(WORD, 80)]
    assert settle([*told, *told]) == settle(told)


@given(st.permutations([Arrived(UNKNOWN, 10), Arrived(SEEN, 50), Arrived(WORD, 80), Arrived(replace(WORD, seq=11), 90)]), st.integers(0, 4))
def test_settling_again_after_more_has_come_never_unsays_what_was_booked(told: list[Arrived], count: int) -> None:
    by_time = sorted(told, key=lambda each: each.received_ms)
    before, after = settle(by_time[:count]), settle(told)
    assert set(before.bookings) <= set(after.bookings)
    assert len({(booking.key, booking.posting.leg) for booking in after.bookings}) == len(after.bookings)


def test_days_are_found_ledger_by_ledger() -> None:
    good = replace(SEEN, when=When(1, 60_000, 1_790_000_060_000, ClockState.NTP))
    unset = replace(SEEN, seq=2, place=Place(operator="sanko"), when=When(1, 0, 0, ClockState.UNSET))
    elsewhere = replace(unset, device=7)
    days = days_of(
        [Arrived(good, 1_790_000_100_000), Arrived(unset, 1_790_000_100_000), Arrived(elsewhere, 1_790_000_100_000)],
        lambda _, ms: ms // 86_400_000,
    )
    assert days == {Key(2, 1, 2): Dated(20_717, 1_790_086_500_000), Key(7, 1, 2): Dated(0, 1_790_086_500_000)}


def test_a_day_is_fixed_a_day_after_the_entry_came_whatever_tells_it_later() -> None:
    unset = replace(SEEN, seq=2, place=Place(operator="sanko"), when=When(1, 0, 0, ClockState.UNSET))
    good = replace(SEEN, when=When(1, 60_000, 1_790_000_060_000, ClockState.NTP))
    came_ms = 1_790_000_100_000
    in_time = [Arrived(unset, came_ms), Arrived(good, came_ms + DATED_AFTER_MS)]
    too_late = [Arrived(unset, came_ms), Arrived(good, came_ms + DATED_AFTER_MS + 1)]
    assert days_of(in_time, lambda _, ms: ms // 86_400_000)[Key(2, 1, 2)].service_day == 20_717
    assert days_of(too_late, lambda _, ms: ms // 86_400_000)[Key(2, 1, 2)].service_day == 0
