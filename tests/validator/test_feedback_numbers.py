"""Japanese numbers are pronounced as Japanese pronounces them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.numbers_ja import HIGHEST, HIGHEST_OF, Counter, clips, every_clip, reading

# An independent reader: it goes from sounds to a number, and knows only digits, places and how sounds merge.
DIGIT = {"ゼロ": 0, "イチ": 1, "ニ": 2, "サン": 3, "ヨン": 4, "ゴ": 5, "ロク": 6, "ナナ": 7, "ハチ": 8, "キュー": 9}
MERGED = [
    ("ロッピャク", "ロクヒャク"),
    ("ハッピャク", "ハチヒャク"),
    ("サンビャク", "サンヒャク"),
    ("サンゼン", "サンセン"),
    ("ハッセン", "ハチセン"),
]
PLACE = {"マン": 10_000, "セン": 1000, "ヒャク": 100, "ジュー": 10}
SOUND = re.compile("|".join((*DIGIT, *PLACE)))


def understood(kana: str) -> int:
    for merged, apart in MERGED:
        kana = kana.replace(merged, apart)
    total, waiting, end = 0, None, 0
    for match in SOUND.finditer(kana):
        assert match.start() == end, kana
        end = match.end()
        if match[0] in PLACE:
            total += (1 if waiting is None else waiting) * PLACE[match[0]]
            waiting = None
        else:
            waiting = DIGIT[match[0]]
    assert end == len(kana), kana
    return total + (waiting or 0)


def test_every_number_is_understood_as_itself() -> None:
    assert all(understood(reading(number)) == number for number in range(HIGHEST + 1))


@given(st.integers(0, HIGHEST))
def test_points_are_the_number_and_its_counter(number: int) -> None:
    spoken = reading(number, Counter.POINTS)
    assert spoken.endswith("ポイント")
    assert understood(spoken.removesuffix("ポイント").replace("ジュッ", "ジュー")) == number


@given(st.integers(0, HIGHEST))
def test_yen_are_the_number_and_its_counter(number: int) -> None:
    spoken = reading(number, Counter.YEN)
    assert spoken.endswith("エン")
    bare = spoken.removesuffix("エン")
    assert understood(bare[:-1] + "ヨン" if number % 10 == 4 else bare) == number


@given(st.integers(0, HIGHEST), st.sampled_from([Counter.PLAIN, Counter.POINTS, Counter.YEN]))
def test_every_clip_of_a_number_is_one_that_is_rendered(number: int, counter: Counter) -> None:
    *first, last = clips(number, counter)
    assert set(first) <= set(every_clip(Counter.PLAIN))
    assert last in every_clip(counter)


def test_a_number_is_at_most_four_clips() -> None:
    assert max(len(clips(number)) for number in range(HIGHEST + 1)) == 4


@pytest.mark.parametrize(
    ("number", "counter", "expected"),
    [
        (0, Counter.PLAIN, "ゼロ"),
        (300, Counter.PLAIN, "サンビャク"),
        (600, Counter.PLAIN, "ロッピャク"),
        (800, Counter.PLAIN, "ハッピャク"),
        (3000, Counter.PLAIN, "サンゼン"),
        (8000, Counter.PLAIN, "ハッセン"),
        (10_000, Counter.PLAIN, "イチマン"),
        (11_111, Counter.PLAIN, "イチマンセンヒャクジューイチ"),
        (99_999, Counter.POINTS, "キューマンキューセンキューヒャクキュージューキューポイント"),
        (10, Counter.POINTS, "ジュッポイント"),
        (110, Counter.POINTS, "ヒャクジュッポイント"),
        (10, Counter.YEN, "ジューエン"),
        (104, Counter.YEN, "ヒャクヨエン"),
        (0, Counter.HOUR, "レージ"),
        (4, Counter.HOUR, "ヨジ"),
        (7, Counter.HOUR, "シチジ"),
        (9, Counter.HOUR, "クジ"),
        (14, Counter.HOUR, "ジューヨジ"),
        (1, Counter.MINUTE, "イップン"),
        (2, Counter.MINUTE, "ニフン"),
        (3, Counter.MINUTE, "サンプン"),
        (6, Counter.MINUTE, "ロップン"),
        (10, Counter.MINUTE, "ジュップン"),
        (30, Counter.MINUTE, "サンジュップン"),
        (1, Counter.PEOPLE, "ヒトリ"),
        (2, Counter.PEOPLE, "フタリ"),
        (3, Counter.PEOPLE, "サンニン"),
        (4, Counter.PEOPLE, "ヨニン"),
        (12, Counter.TICKET, "ジューニバン"),
    ],
)
def test_sounds_change_where_japanese_changes_them(number: int, counter: Counter, expected: str) -> None:
    assert reading(number, counter) == expected


@pytest.mark.parametrize("counter", Counter)
def test_what_cannot_be_spoken_is_refused(counter: Counter) -> None:
    for number in (-1, HIGHEST_OF[counter] + 1):
        with pytest.raises(ValueError, match="cannot be spoken"):
            clips(number, counter)
