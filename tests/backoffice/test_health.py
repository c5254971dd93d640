"""The vehicle that is silent, frozen, or lives in another time is named."""

from dataclasses import replace
from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest

from backoffice.health import WORDS, Condition, Finding, Ill, Rules, Service, findings, service_ms, told
from ledger.entry import Versions, When
from ledger.notes import BROKEN, NOT_TESTED, PARTS, WORKS, Heartbeat

TOKYO = ZoneInfo("Asia/Tokyo")
RULES = Rules(Service(time(5), time(23)), silent_hours=3, many_taps=20, clock_off_s=120)
TABLE = bytes(8)


def ms(day: int, hour: int, minute: int = 0) -> int:
    return round(datetime(2026, 6, day, hour, minute, tzinfo=TOKYO).timestamp() * 1000)


NOON = ms(10, 12)
BEAT = Heartbeat(7, 1, 10, bytes(32), When(1, 0, NOON, 3), tuple((part, WORKS) for part in PARTS), 10**9, Versions(TABLE), "1")
WELL = Condition(7, "minato-7", ms(1, 9), NOON, BEAT, NOON, taps=12, taps_before=100)


def ills(condition: Condition, now_ms: int = NOON, table: bytes = TABLE) -> list[Ill]:
    return [finding.ill for finding in findings([condition], now_ms, TOKYO, RULES, table)]


def test_nothing_is_said_of_a_vehicle_that_is_well() -> None:
    assert ills(WELL) == []


def test_three_hours_of_service_without_contact_are_silence_and_a_night_in_the_depot_is_not() -> None:
    evening = replace(WELL, contact_ms=ms(9, 22))
    assert ills(evening, ms(10, 6, 59)) == []
    assert ills(evening, ms(10, 7)) == [Ill.SILENT]


def test_a_vehicle_that_was_never_heard_of_is_named_from_its_enrolment_on() -> None:
    new = Condition(7, "minato-7", ms(10, 10))
    assert ills(new) == []
    assert ills(new, ms(10, 13)) == [Ill.NEVER_HEARD]


@pytest.mark.parametrize(("state", "ill"), [(BROKEN, Ill.BROKEN_PART), (NOT_TESTED, Ill.UNTESTED_PART)])
def test_each_part_of_the_chain_of_a_tap_that_does_not_work_is_named(state: int, ill: Ill) -> None:
    beat = replace(BEAT, selftest=tuple((part, state if part == "antenna" else WORKS) for part in PARTS))
    found = findings([replace(WELL, beat=beat)], NOON, TOKYO, RULES, TABLE)
    assert found == (Finding(7, "minato-7", ill, "antenna"),)
    assert "アンテナ" in told(found[0], "ja")
    assert "antenna" in told(found[0], "en")


def test_contact_without_a_tap_where_the_day_before_had_many_is_a_frozen_vehicle() -> None:
    assert ills(replace(WELL, taps=0)) == [Ill.NO_TAPS]
    assert ills(replace(WELL, taps=0, taps_before=19)) == []
    assert ills(replace(WELL, taps=1)) == []


def test_a_silent_vehicle_is_not_called_frozen_too() -> None:
    assert ills(replace(WELL, taps=0, contact_ms=ms(10, 7))) == [Ill.SILENT]


@pytest.mark.parametrize(("off_s", "expected"), [(120, []), (121, [Ill.CLOCK_OFF]), (-121, [Ill.CLOCK_OFF])])
def test_a_clock_that_differs_from_ours_is_named(off_s: int, expected: list[Ill]) -> None:
    assert ills(replace(WELL, beat=replace(BEAT, at=When(1, 0, NOON + off_s * 1000, 3)))) == expected


def test_a_clock_that_does_not_know_the_time_is_told_as_that() -> None:
    assert ills(replace(WELL, beat=replace(BEAT, at=When(1, 0, 0, 0)))) == [Ill.CLOCK_UNSET]


def test_an_old_fare_table_is_named_when_the_one_in_force_is_known() -> None:
    assert ills(WELL, table=b"12345678") == [Ill.OLD_TABLE]
    assert ills(WELL, table=b"") == []


def test_a_vehicle_that_starts_again_and_again_is_named_in_one_line_with_since_when() -> None:
    beat = replace(BEAT, counts=(("oom-kills", 1), ("other-warnings", 900), ("station-starts", 8)), up_s=30 * 3600)
    (found,) = findings([replace(WELL, beat=beat)], NOON, TOKYO, RULES, TABLE)
    assert found.ill is Ill.UNSTEADY
    assert told(found, "en") == "minato-7: memory ran out once, station started again 7 times since Tuesday 9 June 06:00."
    assert told(found, "ja") == "minato-7:動作が不安定です。6月9日(火)06:00から、メモリ不足による終了1回、カード処理の再起動7回。"


def test_what_a_good_day_counts_too_is_not_worth_a_word() -> None:
    beat = replace(BEAT, counts=(("courier-starts", 2), ("kernel-errors", 12), ("station-errors", 3), ("station-starts", 2)), up_s=3600)
    assert ills(replace(WELL, beat=beat)) == []


def test_a_vehicle_that_claims_to_run_since_before_there_were_clocks_breaks_nothing() -> None:
    beat = replace(BEAT, counts=(("oom-kills", 1),), up_s=2**63 - 1)
    (found,) = findings([replace(WELL, beat=beat)], NOON, TOKYO, RULES, TABLE)
    assert "1 January" in told(found, "en")


def test_the_most_urgent_comes_first() -> None:
    old = replace(WELL, name="a", beat=replace(BEAT, versions=Versions(b"87654321")))
    silent = replace(WELL, name="b", contact_ms=ms(9, 12))
    assert [finding.name for finding in findings([old, silent], NOON, TOKYO, RULES, TABLE)] == ["b", "a"]


def test_service_hours_are_counted_over_days_and_their_ends() -> None:
    hour = 3_600_000
    assert service_ms(ms(1, 0), ms(4, 0), TOKYO, RULES.service) == 3 * 18 * hour
    assert service_ms(ms(1, 23), ms(2, 5), TOKYO, RULES.service) == 0
    assert service_ms(ms(1, 6), ms(1, 7, 30), TOKYO, RULES.service) == 3 * hour // 2


def test_every_finding_has_its_sentence_in_both_languages() -> None:
    for ill in Ill:
        for language, words in WORDS.items():
            detail = "2026-06-09T06:00+09:00 station-starts:7" if ill is Ill.UNSTEADY else "5"
            assert told(Finding(7, "minato-7", ill, detail), language).startswith("minato-7:"), (ill, words)
