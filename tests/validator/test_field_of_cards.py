"""What the cards in the field mean."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from validator.field import CROWD_GONE_AFTER_POLLS, CROWD_TOLD_AGAIN_AFTER_POLLS, Field, look, touch_again
from validator.tap import Event

A, B = b"card A..", b"card B.."
EMPTY: list[list[bytes]] = [[]] * CROWD_GONE_AFTER_POLLS


def events(*polls: Sequence[bytes]) -> list[Event]:
    field, seen = Field(), []
    for cards in polls:
        field, event = look(field, cards)
        if event is not None:
            seen.append(event)
    return seen


def test_a_card_that_lies_there_is_one_touch() -> None:
    assert events([A], [A], [A], []) == [Event.CARD_SEEN]


def test_a_trembling_hand_is_no_second_touch() -> None:
    assert events([A], [], [A], [], [A]) == [Event.CARD_SEEN]


def test_a_card_that_left_and_came_back_is_a_second_touch() -> None:
    assert events([A], [], [], [A]) == [Event.CARD_SEEN] * 2


def test_the_next_card_needs_no_pause() -> None:
    assert events([A], [B]) == [Event.CARD_SEEN] * 2


def test_of_two_cards_the_last_to_leave_is_not_taken() -> None:
    assert events([A, B], [A, B], [B], [B], *EMPTY, [B]) == [Event.TWO_CARDS, Event.CARD_SEEN]


def test_two_cards_that_garble_each_other_have_not_left() -> None:
    assert events([A, B], [], [], [], [], [B]) == [Event.TWO_CARDS]


def test_a_card_that_was_left_lying_after_two_is_told_again_and_again() -> None:
    lying = [[B]] * CROWD_TOLD_AGAIN_AFTER_POLLS
    assert events([A, B], *lying, *lying) == [Event.TWO_CARDS] * 3


def test_a_second_card_beside_a_taken_one_is_said() -> None:
    assert events([A], [A, B], [B]) == [Event.CARD_SEEN, Event.TWO_CARDS]


def test_after_please_touch_again_the_same_card_is_welcome_at_once() -> None:
    field, _ = look(Field(), [A])
    assert look(touch_again(field), [A])[1] is Event.CARD_SEEN


@given(st.lists(st.sampled_from([(), (A,), (B,), (A, B)]), max_size=30))
def test_two_cards_are_never_taken_before_the_field_was_empty(polls: list[tuple[bytes, ...]]) -> None:
    field, crowded = Field(), False
    for cards in polls:
        field, event = look(field, cards)
        crowded = len(cards) > 1 or (crowded and field.crowded)
        assert not (crowded and event is Event.CARD_SEEN)
