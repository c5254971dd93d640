"""Cards come and go, and a frame takes its time."""

from collections.abc import Callable
from typing import Any

import pytest

from drivers.emulated.air import GAP_NS, SLOT_NS, START_UP_NS, Air, Outcome, air_ns
from drivers.emulated.lite_s_card import POLLING_DELAY_NS, Delay, Faults, LiteSCard, Traits, blank

MS = 1_000_000
POLL = bytes.fromhex("0600FFFF0000")
POLL_4 = bytes.fromhex("0600FFFF0003")
A = bytes.fromhex("0102030405060708")
B = bytes.fromhex("1112131415161718")
SIXTEEN = bytes(range(16))


def write(idm: bytes) -> bytes:
    return bytes((32, 0x08)) + idm + b"\x01\x09\x00\x01\x80\x03" + SIXTEEN


def field(*cards: LiteSCard) -> Air:
    air = Air()
    air.switch(on=True, now_ns=-START_UP_NS)
    for card in cards:
        air.lay(card)
    return air


# --- time ---


@pytest.mark.parametrize(
    ("rate", "delay", "tap_ms"),
    [(212, Delay.MIN, 20.7), (212, Delay.MAX, 36.5), (424, Delay.MIN, 13.0), (424, Delay.MAX, 28.8)],
)
def test_the_worked_tap_lasts_on_the_air_as_long_as_the_published_arithmetic(
    vectors: dict[str, Any], worked: Callable[[], LiteSCard], rate: int, delay: Delay, tap_ms: float
) -> None:
    card = worked()
    card.traits = Traits(delay=delay)
    air = field(card)
    now = rf = waited = 0
    for step in vectors["tap"]["step"][:5]:
        heard = air.exchange(bytes.fromhex(step["command"]), rate, now, 50 * MS)
        assert heard.frames == (bytes.fromhex(step["answer"]),)
        now, rf, waited = heard.end_ns, rf + heard.rf_ns, waited + heard.card_ns
    assert round(now / MS, 1) == tap_ms
    assert rf + waited == now
    assert air.bytes_on_air == 410
    assert air.exchanges == 5


@pytest.mark.parametrize(("rate", "byte_us"), [(212, 37.758), (424, 18.879)])
def test_a_byte_lasts_eight_bits_of_the_carrier(rate: int, byte_us: float) -> None:
    assert air_ns(1000, rate) / 1e6 == pytest.approx(byte_us, abs=0.001)


def test_the_gap_after_an_answer_is_charged_only_as_far_as_nobody_has_waited_yet() -> None:
    air = field(blank(A))
    first = air.exchange(POLL, 424, 0, 50 * MS)
    again = air.exchange(POLL, 424, first.end_ns, 50 * MS)
    later = air.exchange(POLL, 424, again.end_ns + GAP_NS, 50 * MS)
    assert again.rf_ns - first.rf_ns == GAP_NS
    assert later.rf_ns == first.rf_ns


def test_silence_lasts_as_long_as_the_reader_listens() -> None:
    heard = field().exchange(write(A), 424, 0, 5 * MS)
    assert (heard.outcome, heard.frames) == (Outcome.SILENCE, ())
    assert heard.card_ns == 5 * MS


def test_an_answer_that_begins_too_late_is_not_heard_though_the_card_has_written() -> None:
    card = blank(A)
    card.traits = Traits(delay=Delay.MAX)
    heard = field(card).exchange(write(A), 424, 0, 5 * MS)
    assert heard.outcome is Outcome.SILENCE
    assert card.memory.blocks[3] == SIXTEEN


# --- polls and slots ---


def test_a_poll_for_two_waits_for_every_slot_and_a_poll_for_one_does_not() -> None:
    air = field(blank(A))
    one = air.poll(POLL, 424, 0, 1)
    two = air.poll(POLL, 424, 100 * MS, 2)
    assert one.card_ns == POLLING_DELAY_NS
    assert two.end_ns == 100 * MS + air_ns(16, 424) + POLLING_DELAY_NS + SLOT_NS


def test_two_cards_in_different_slots_are_both_heard_and_in_the_same_slot_neither() -> None:
    air = field(blank(A), blank(B))
    counts = {len(air.poll(POLL_4, 424, at * 100 * MS, 2).frames) for at in range(50)}
    assert counts == {0, 2}
    assert not field(blank(A), blank(B)).poll(POLL, 424, 0, 2).frames


def test_two_copies_of_one_card_in_one_slot_are_heard_as_one() -> None:
    assert len(field(blank(A), blank(A)).poll(POLL, 424, 0, 2).frames) == 1


def test_two_cards_with_the_same_idm_damage_each_other_when_they_differ() -> None:
    other = blank(A)
    other.rewrite(0, bytes(16))
    read = bytes((16, 0x06)) + A + b"\x01\x0b\x00\x01\x80\x00"
    assert field(blank(A), other).exchange(read, 424, 0, 5 * MS).outcome is Outcome.DAMAGED


def test_a_command_reaches_the_card_with_its_idm_only() -> None:
    one, two = blank(A), blank(B)
    assert field(one, two).exchange(write(B), 424, 0, 50 * MS).outcome is Outcome.HEARD
    assert one.memory.blocks[3] == bytes(16)
    assert two.memory.blocks[3] == SIXTEEN


def test_the_same_seed_draws_the_same_slots() -> None:
    def slots(seed: int) -> list[int]:
        air = Air(seed)
        air.switch(on=True, now_ns=-START_UP_NS)
        air.lay(blank(A))
        return [air.poll(POLL_4, 424, at * 100 * MS, 1).card_ns for at in range(20)]

    assert slots(1) == slots(1) != slots(2)


# --- coming and going ---


def test_a_card_needs_a_moment_after_it_was_laid() -> None:
    air = field()
    air.lay(blank(A), at_ns=0)
    assert not air.poll(POLL, 424, START_UP_NS - 1, 1).frames
    assert air.poll(POLL, 424, 20 * MS, 1).frames


def test_a_card_that_comes_later_is_not_there_before() -> None:
    air = field()
    air.lay(blank(A), at_ns=100 * MS)
    assert not air.poll(POLL, 424, 50 * MS, 1).frames
    assert air.poll(POLL, 424, 150 * MS, 1).frames


def test_switching_the_field_off_takes_the_cards_power_and_what_it_knew_of_the_session() -> None:
    card = blank(A)
    air = field(card)
    air.exchange(bytes((32, 0x08)) + A + b"\x01\x09\x00\x01\x80\x80" + SIXTEEN, 424, 0, 50 * MS)
    read = bytes((16, 0x06)) + A + b"\x01\x0b\x00\x01\x80\x91"
    assert air.exchange(read, 424, 50 * MS, 5 * MS).frames[0][10:12] == b"\x00\x00"
    air.switch(on=False, now_ns=100 * MS)
    assert air.exchange(read, 424, 100 * MS, 5 * MS).outcome is Outcome.SILENCE
    air.switch(on=True, now_ns=200 * MS)
    assert air.exchange(read, 424, 300 * MS, 5 * MS).frames[0][10:12] == b"\x01\xb2"


def test_a_lifted_card_is_gone_and_has_no_power() -> None:
    card = blank(A)
    air = field(card)
    air.lift(A)
    assert not air.poll(POLL, 424, 0, 1).frames
    assert air.cards == ()
    assert card.answer(POLL) is None


def test_a_card_lifted_and_laid_again_answers_again() -> None:
    card = blank(A)
    air = field(card)
    air.lift(A)
    air.lay(card)
    assert air.poll(POLL, 424, 0, 1).frames


@pytest.mark.parametrize("at", range(42 + 22 + 1))
def test_a_card_can_be_taken_after_any_number_of_bytes_on_air(at: int) -> None:
    card = blank(A)
    air = field(card)
    air.lift(A, after_bytes=at)
    heard = air.exchange(write(A), 424, 0, 50 * MS)
    assert (card.memory.blocks[3] == SIXTEEN) is (at > 42)
    assert (heard.outcome is Outcome.HEARD) is (at == 64)
    assert not air.poll(POLL, 424, 200 * MS, 1).frames


def test_bytes_before_a_removal_are_counted_over_several_exchanges() -> None:
    card = blank(A)
    air = field(card)
    air.exchange(POLL, 424, 0, 50 * MS)
    air.lift(A, after_bytes=2 * (16 + 28) + 10)
    outcomes = [air.exchange(POLL, 424, at * 100 * MS, 5 * MS).outcome for at in range(1, 5)]
    assert outcomes == [Outcome.HEARD, Outcome.HEARD, Outcome.SILENCE, Outcome.SILENCE]


@pytest.mark.parametrize(
    ("at_us", "executed", "outcome"),
    [
        (0, False, Outcome.SILENCE),
        (500, False, Outcome.SILENCE),  # within the command: 42 bytes, 793 µs
        (900, False, Outcome.SILENCE),  # within the card's thinking: 197 µs
        (1100, True, Outcome.SILENCE),  # within the answer's preamble
        (1300, True, Outcome.DAMAGED),
        (1500, True, Outcome.HEARD),  # after the answer: 22 bytes, 415 µs
    ],
)
def test_a_card_can_be_taken_at_any_moment(at_us: int, executed: bool, outcome: Outcome) -> None:
    card = blank(A)
    air = field(card)
    air.lift(A, at_ns=at_us * 1000)
    assert air.exchange(write(A), 424, 0, 50 * MS).outcome is outcome
    assert (card.memory.blocks[3] == SIXTEEN) is executed
    assert not air.poll(POLL, 424, 200 * MS, 1).frames


def test_a_card_that_left_by_its_own_fault_is_no_longer_there() -> None:
    card = blank(A)
    card.plan([Faults(removed_at=5)])
    air = field(card)
    assert air.exchange(write(A), 424, 0, 5 * MS).outcome is Outcome.SILENCE
    assert air.cards == ()


def test_an_answer_with_a_wrong_crc_is_heard_as_damaged() -> None:
    card = blank(A)
    card.plan([Faults(bad_crc=True)])
    assert field(card).exchange(write(A), 424, 0, 50 * MS).outcome is Outcome.DAMAGED
