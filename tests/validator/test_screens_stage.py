"""What is on when: the newest result at once, rest afterwards, and no chatter."""

from hypothesis import given
from hypothesis import strategies as st

from firmware.compose import wordbook
from firmware.words import EXAMPLE
from validator.messages import Message, Shown
from validator.stage import Stage

WORDS = wordbook()
READY = Shown(Message.READY, {"stop": "港", "stop_reading": "ミナト"})
NEXT_STOP = Shown(Message.READY, {"stop": "寺前", "stop_reading": "テラマエ"})
PAID = Shown(Message.PAID, {"points": 100, "balance": 1900})
ARMED = Shown(Message.ARMED_PAIR, {"riders": 2})


def stage_at_rest() -> Stage:
    stage = Stage(WORDS)
    stage.take(READY, 0, 0)
    return stage


def on(stage: Stage) -> tuple[Shown, bool]:
    assert stage.cue is not None
    return stage.cue.shown, stage.cue.aloud


def test_the_next_result_replaces_the_one_that_is_shown_at_once() -> None:
    stage = stage_at_rest()
    stage.take(PAID, 1000, 1000)
    stage.take(Shown(Message.SEEN), 1200, 1200)
    assert on(stage) == (Shown(Message.SEEN), True)


def test_a_result_has_its_time_and_then_rest_comes_back_without_a_word() -> None:
    stage = stage_at_rest()
    stage.take(PAID, 1000, 1000)
    stage.advance(5999)
    assert on(stage) == (PAID, True)
    stage.advance(6000)
    assert on(stage) == (READY, False)


def test_ready_right_after_a_result_does_not_cut_it() -> None:
    stage = stage_at_rest()
    stage.take(PAID, 1000, 1000)
    stage.take(READY, 1300, 1300)
    assert on(stage) == (PAID, True)
    stage.advance(6000)
    assert on(stage) == (READY, False)


def test_the_next_stop_during_a_result_is_said_when_the_result_is_over() -> None:
    stage = stage_at_rest()
    stage.take(PAID, 1000, 1000)
    stage.take(NEXT_STOP, 2000, 2000)
    stage.advance(6000)
    assert on(stage) == (NEXT_STOP, True)


def test_ready_said_again_and_again_is_heard_once() -> None:
    stage = stage_at_rest()
    first = stage.cue
    for moment in range(100, 1000, 100):
        stage.take(READY, moment, moment)
    assert stage.cue is first


def test_what_the_driver_armed_is_said_at_once_and_is_rest_until_it_is_used() -> None:
    stage = stage_at_rest()
    stage.take(PAID, 1000, 1000)
    stage.take(ARMED, 2000, 2000)
    assert on(stage) == (ARMED, True)
    stage.take(Shown(Message.HOLD_AGAIN), 3000, 3000)
    stage.advance(13_000)
    assert on(stage) == (ARMED, False)


def test_an_arming_that_was_used_ends_silently_and_one_undone_by_a_key_is_said() -> None:
    used = stage_at_rest()
    used.take(ARMED, 1000, 1000)
    used.take(PAID, 2000, 2000)
    used.take(READY, 2100, 2100)
    used.advance(7000)
    assert on(used) == (READY, False)
    undone = stage_at_rest()
    undone.take(ARMED, 1000, 1000)
    undone.take(READY, 2000, 2000)
    assert on(undone) == (READY, True)


def test_out_of_order_stays_until_the_reader_is_back() -> None:
    stage = stage_at_rest()
    stage.take(Shown(Message.OUT_OF_ORDER), 1000, 1000)
    stage.advance(10_000_000)
    assert on(stage) == (Shown(Message.OUT_OF_ORDER), True)
    stage.take(READY, 20_000_000, 20_000_000)
    assert on(stage) == (READY, True)


def test_a_screen_that_was_away_does_not_announce_what_is_over() -> None:
    stage = Stage(WORDS)
    stage.take(READY, 0, 60_000)
    stage.take(PAID, 1000, 60_000)
    assert on(stage) == (READY, False)


def test_a_screen_that_was_away_shows_that_the_reader_is_dead() -> None:
    stage = Stage(WORDS)
    stage.take(Shown(Message.OUT_OF_ORDER), 0, 60_000)
    assert on(stage) == (Shown(Message.OUT_OF_ORDER), False)


def test_rest_is_known_even_if_nobody_said_it() -> None:
    stage = Stage(WORDS)
    stage.take(PAID, 0, 0)
    stage.advance(60_000)
    assert on(stage)[0] == Shown(Message.READY)


@given(st.lists(st.tuples(st.sampled_from(Message), st.integers(0, 3000)), min_size=1, max_size=40))
def test_whatever_comes_something_is_shown_and_the_last_tap_is_heard(events: list[tuple[Message, int]]) -> None:
    stage = Stage(WORDS)
    now = 0
    for message, wait in events:
        now += wait
        stage.advance(now)
        stage.take(Shown(message, dict(EXAMPLE)), now, now)
        assert stage.cue is not None
        if message is not Message.READY:
            assert stage.cue.shown.message is message
            assert stage.cue.aloud


def test_no_card_is_asked_for_where_none_is_taken() -> None:
    stage = Stage(WORDS)
    stage.take(Shown(Message.NO_TRIP), 0, 0)
    stage.advance(600_000)
    assert on(stage)[0] == Shown(Message.NO_TRIP)
    stage.take(Shown(Message.LEDGER_FULL), 700_000, 700_000)
    stage.advance(710_000)
    assert on(stage) == (Shown(Message.NO_TRIP), False)


def test_a_screen_without_a_station_says_that_it_is_not_ready_and_does_not_speak() -> None:
    stage = Stage(WORDS)
    stage.alone()
    assert on(stage) == (Shown(Message.NO_TRIP), False)
    stage.take(READY, 0, 0)
    stage.alone()
    stage.advance(600_000)
    assert on(stage) == (Shown(Message.NO_TRIP), False)


def test_a_kiosk_says_its_welcome_once() -> None:
    stage = Stage(WORDS, Message.WELCOME)
    stage.alone()
    assert on(stage) == (Shown(Message.WELCOME), True)
    stage.take(PAID, 0, 0)
    stage.alone()
    stage.advance(600_000)
    assert on(stage) == (Shown(Message.WELCOME), False)


def test_a_vehicle_that_closed_stays_closed_when_its_station_is_gone() -> None:
    stage = stage_at_rest()
    stage.take(Shown(Message.CLOSING), 1000, 1000)
    stage.alone()
    assert on(stage)[0] == Shown(Message.CLOSING)


def test_a_rider_still_sees_what_was_paid_when_the_station_dies() -> None:
    stage = stage_at_rest()
    stage.take(PAID, 1000, 1000)
    stage.alone()
    assert on(stage) == (PAID, True)
    stage.advance(60_000)
    assert on(stage) == (Shown(Message.NO_TRIP), False)
