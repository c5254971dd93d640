"""The rider's screen: large, within its borders, and with enough contrast for eyes at eighty."""

import itertools

import pytest

from drivers.devices.display import Box, Colour, Face, Picture, Sign, Text, contrast, width_em
from firmware.compose import wordbook
from firmware.words import SIZES, pictures, sentences
from validator.feedback import Feedback
from validator.messages import Message, Shown
from validator.screens import LOWEST_CONTRAST, picture

WORDS = wordbook()
ALL = tuple(pictures(WORDS))


def texts(shown: Picture) -> list[Text]:
    return [item for item in shown.items if isinstance(item, Text)]


@pytest.mark.parametrize("shown", ALL, ids=lambda shown: f"{shown.name}-{shown.width}")
def test_every_line_and_sign_stands_out_from_its_ground(shown: Picture) -> None:
    for item in shown.items:
        if not isinstance(item, Box):
            assert contrast(item.colour, item.ground) >= LOWEST_CONTRAST, item


@pytest.mark.parametrize("shown", ALL, ids=lambda shown: f"{shown.name}-{shown.width}")
def test_no_line_is_cut_or_touches_another(shown: Picture) -> None:
    for text in texts(shown):
        assert text.x >= 0
        assert 0 <= text.y <= shown.height - text.size
        if text.face is Face.BOLD:
            assert text.x + width_em(text.text) * text.size <= shown.width
    lines = sorted(texts(shown), key=lambda text: text.y)
    assert all(upper.y + upper.size <= lower.y for upper, lower in itertools.pairwise(lines))


@pytest.mark.parametrize("shown", ALL, ids=lambda shown: f"{shown.name}-{shown.width}")
def test_the_ground_told_for_a_line_is_the_ground_it_stands_on(shown: Picture) -> None:
    for item in shown.items:
        if isinstance(item, Box):
            continue
        under = shown.ground
        for box in (one for one in shown.items if isinstance(one, Box)):
            if box.x <= item.x < box.x + box.width and box.y <= item.y < box.y + box.height:
                under = box.colour
        assert item.ground == under


@pytest.mark.parametrize("size", SIZES)
def test_the_large_words_are_a_seventh_of_the_height_of_the_screen(size: tuple[int, int]) -> None:
    for sentence in sentences(WORDS):
        shown = picture(sentence, WORDS.palette, size)
        assert texts(shown)[0].size >= size[1] / 7.5, sentence.message


def test_the_lamp_is_on_the_screen_as_a_sign_and_a_colour() -> None:
    for sentence in sentences(WORDS):
        shown = picture(sentence, WORDS.palette, (800, 480))
        field = next(item for item in shown.items if isinstance(item, Box))
        sign = next(item for item in shown.items if isinstance(item, Sign))
        assert (sign.shape, field.colour) == (sentence.light.shape, WORDS.palette.lamp[sentence.light.colour])


def test_english_takes_two_lines_at_most() -> None:
    for shown in ALL:
        assert len([text for text in texts(shown) if text.face is Face.LATIN]) <= 2


def large_numbers() -> list[Feedback]:
    values: dict[str, int | str] = {
        "points": 12_345,
        "balance": 98_765,
        "riders": 20,
        "cash": 12_345,
        "fare": 12_345,
        "ticket": 99,
        "number": 99,
        "hour": 23,
        "minute": 59,
        "stop": "みなと町総合福祉センター前",
        "stop_reading": "ミナトマチソーゴーフクシセンターマエ",
        "image": "dddddddddddd",
        "unit": 2**24 - 1,
        "waiting": 1_000_000,
        "clock": "carried",
    }
    return [WORDS.phrase(Shown(message, values)) for message in Message]


@pytest.mark.parametrize("size", SIZES)
def test_the_largest_numbers_and_long_names_still_fit(size: tuple[int, int]) -> None:
    for feedback in large_numbers():
        test_no_line_is_cut_or_touches_another(picture(feedback, WORDS.palette, size))


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [((255, 255, 255), (0, 0, 0), 21.0), ((119, 119, 119), (255, 255, 255), 4.48), ((10, 20, 30), (10, 20, 30), 1.0)],
)
def test_contrast_is_reckoned_as_wcag_reckons_it(one: Colour, other: Colour, ratio: float) -> None:
    assert contrast(one, other) == pytest.approx(ratio, abs=0.01)
    assert contrast(other, one) == contrast(one, other)
