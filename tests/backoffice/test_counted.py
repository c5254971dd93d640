"""Which of a vehicle's counts deserve a look, and in which words."""

from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.counted import GIVEN_UP, MOST, RULES, SOURCES, WORDS, detail, in_words, parts, read, worth_a_look
from ledger import counts

HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("counted", "up_s", "told"),
    [
        ({"station-starts": 1}, HOUR, []),
        ({"station-starts": 3}, HOUR, []),
        ({"station-starts": 4}, HOUR, [("station-starts", 3)]),
        ({"station-starts": 4}, DAY, []),  # three in two days
        ({"station-starts": 7}, DAY, [("station-starts", 6)]),
        ({"station-watchdogs": 1, "station-starts": 9}, 30 * DAY, [("station-watchdogs", 1)]),
        ({"station-failures": 3, "station-starts": 9}, HOUR, [("station-failures", 3)]),
        ({"courier-failures": 9}, HOUR, []),
        ({"courier-failures": 10}, HOUR, [("courier-failures", 10)]),
        ({"oom-kills": 1}, 365 * DAY, [("oom-kills", 1)]),
        ({GIVEN_UP: 1}, 365 * DAY, [(GIVEN_UP, 1)]),
        ({"other-warnings": 10**6, "kernel-warnings": 10**6}, HOUR, []),
        (
            {"oom-kills": 1, GIVEN_UP: 2, "disk-errors": 3, "data-failures": 4},
            HOUR,
            [(GIVEN_UP, 2), ("disk-errors", 3), ("data-failures", 4)],
        ),
    ],
    ids=str,
)
def test_from_how_many_on_a_person_should_look(counted: dict[str, int], up_s: int, told: list[tuple[str, int]]) -> None:
    assert list(worth_a_look(tuple(sorted(counted.items())), up_s)) == told


@given(st.dictionaries(st.sampled_from(sorted(counts.NAMES)), st.integers(1, counts.MOST_COUNT)), st.integers(0, 2**63 - 1))
def test_whatever_a_vehicle_counts_is_told_in_one_clause_of_both_languages(counted: dict[str, int], up_s: int) -> None:
    told = worth_a_look(counts.fitting(counted), up_s)
    assert len(told) <= MOST
    said = detail(told, 1_780_000_000_000, UTC)
    assert read(said)[1] == told
    assert all("{" not in in_words(said, language) and "\n" not in in_words(said, language) for language in WORDS)


def test_every_rule_is_about_something_that_vehicles_count_and_has_its_words() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        source, mark = parts(rule.name)
        assert rule.name in counts.NAMES
        assert all(mark in words for words in WORDS.values())
        assert not source or source in SOURCES, source


def test_the_time_is_the_towns() -> None:
    said = detail((("station-starts", 7),), 0, timezone(timedelta(hours=9)))
    assert said == "1970-01-01T09:00+09:00 station-starts:7"
    assert in_words(said, "en") == "station started again 7 times since Thursday 1 January 09:00"
    assert in_words(said, "ja") == "1月1日(木)09:00から、カード処理の再起動7回"
