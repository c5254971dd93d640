"""What a journal says is counted by a closed table, each entry once, and nothing else of it is kept.

The entries are journalctl's (systemd 252), with the fields that it is asked for; machine, boot and cursors are made up.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import compose, log
from firmware.counts import COUNTED, FIELDS, MOST_ENTRIES, Counted, NoCounts, counted_as, decode, encode, following, source_of, told
from firmware.failure import Failure
from firmware.system import Journal, JournalUnread
from ledger import counts

BOOT, NEXT_BOOT = "0" * 31 + "1", "0" * 31 + "2"
STARTED, ENDED, NOT_STARTED = "39f53479d3a045ac8e11786248231fbf", "d9b373ed55a64feb8242e02dbe79a49c", "be02cf6855d2428ba40df7e9d022f03d"
OUT_OF_MEMORY, DROPPED, EXITED = "fe6faa94e7774663a0da52717891d8ef", "a596d6fe7bfa4994828e72309e95d61e", "98e322203f7a4ed290d09fe03c09fe15"
STATION = "kazashi-station.service"

Entry = Mapping[str, object]


def cursor(number: int, boot: str = BOOT) -> str:
    return f"s=537efb9879d34f92aabae79391a5a54e;i={number:x};b={boot};m={number * 4096:x};t=66108bb73f5ec;x=79d88c1231bdc707"


def entry(number: int = 1, boot: str = BOOT, **fields: object) -> Entry:
    about = {"__CURSOR": cursor(number, boot), "__REALTIME_TIMESTAMP": "1795539992835564", "_BOOT_ID": boot}
    return {**about, "PRIORITY": "6", "SYSLOG_FACILITY": "3", **fields}


def systemds(message: str, unit: str, **fields: object) -> Entry:
    return entry(MESSAGE_ID=message, UNIT=unit, _PID="1", _SYSTEMD_UNIT="init.scope", _TRANSPORT="journal", **fields)


def line(unit: str, priority: str, **fields: object) -> Entry:
    return entry(PRIORITY=priority, _SYSTEMD_UNIT=unit, _PID="150", _TRANSPORT="stdout", **fields)


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (systemds(STARTED, STATION, JOB_RESULT="done"), "station-starts"),
        (systemds(STARTED, "kazashi-failed@kazashi-screen.service", JOB_RESULT="done"), "failed-starts"),
        (systemds(STARTED, "data.mount", JOB_RESULT="done"), "data-starts"),
        (systemds(STARTED, "chrony.service", JOB_RESULT="done"), ""),
        (systemds(STARTED, "systemd-networkd.service", JOB_RESULT="done"), ""),
        (systemds(ENDED, STATION, UNIT_RESULT="exit-code", PRIORITY="4"), "station-failures"),
        (systemds(ENDED, STATION, UNIT_RESULT="oom-kill", PRIORITY="4"), "station-failures"),
        (systemds(ENDED, STATION, UNIT_RESULT="watchdog", PRIORITY="4"), "station-watchdogs"),
        (systemds(ENDED, "pcscd.service", UNIT_RESULT="signal", PRIORITY="4"), "pcscd-failures"),
        (systemds(ENDED, "rauc.service", UNIT_RESULT="timeout", PRIORITY="4"), "rauc-failures"),
        (systemds(ENDED, "systemd-networkd.service", UNIT_RESULT="exit-code", PRIORITY="4"), "systemd-failures"),
        (systemds(ENDED, "chrony.service", UNIT_RESULT="exit-code", PRIORITY="4"), "other-failures"),
        (systemds(NOT_STARTED, "data.mount", JOB_RESULT="dependency", PRIORITY="3"), "data-failures"),
        (systemds(OUT_OF_MEMORY, "kazashi-screen.service", PRIORITY="5"), "oom-kills"),
        (entry(MESSAGE_ID=DROPPED, _PID="31", _SYSTEMD_UNIT="systemd-journald.service", _TRANSPORT="driver"), "journal-gaps"),
        (line("kazashi-courier.service", "3"), "courier-errors"),
        (line("kazashi-courier.service", "0"), "courier-errors"),
        (line("kazashi-courier.service", "4"), "courier-warnings"),
        (line("kazashi-courier.service", "5"), ""),
        (line("kazashi-novelty.service", "4"), "other-warnings"),
        (line("systemd-udevd.service", "4"), "systemd-warnings"),
        (line("dbus.service", "3"), "other-errors"),
        (entry(PRIORITY="2", SYSLOG_FACILITY="0", _TRANSPORT="kernel"), "kernel-errors"),
        (entry(PRIORITY="4", SYSLOG_FACILITY="3", _TRANSPORT="kernel"), "other-warnings"),
        (entry(PRIORITY="4", _PID="1", _SYSTEMD_UNIT="init.scope", _TRANSPORT="journal"), "systemd-warnings"),
        (entry(), ""),
        ({}, ""),
    ],
)
def test_an_entry_counts_under_one_name_or_none(one: Entry, name: str) -> None:
    assert counted_as(one) == name
    assert not name or name in counts.NAMES


@pytest.mark.parametrize(
    "again",
    [
        systemds("", STATION, PRIORITY="3"),  # "Watchdog timeout (limit 15s)!"
        systemds(EXITED, STATION, PRIORITY="4"),
        systemds(NOT_STARTED, STATION, JOB_RESULT="failed", PRIORITY="3"),
        systemds(OUT_OF_MEMORY, "system.slice", PRIORITY="5"),
    ],
)
def test_what_systemd_says_of_a_unit_in_other_words_is_not_counted_twice(again: Entry) -> None:
    assert counted_as(again) == ""


def test_a_program_that_says_what_only_systemd_may_say_is_not_believed() -> None:
    forged = {**systemds(ENDED, STATION, UNIT_RESULT="watchdog", PRIORITY="4"), "_PID": "666", "_SYSTEMD_UNIT": "kazashi-screen.service"}
    assert counted_as(forged) == "screen-warnings"
    assert counted_as({**forged, "MESSAGE_ID": DROPPED, "_TRANSPORT": "stdout"}) == "screen-warnings"


@pytest.mark.parametrize("odd", [None, ["4", "4"], [52, 255], 4, True])
def test_a_field_in_a_form_that_no_honest_entry_has_counts_for_nothing(odd: object) -> None:
    assert counted_as(line(STATION, "4") | {"PRIORITY": odd}) == ""
    assert counted_as(line(STATION, "4") | {"_SYSTEMD_UNIT": odd}) == "other-warnings"


def test_units_are_told_by_their_whole_names() -> None:
    assert source_of("kazashi-station.service") == "station"
    assert {source_of(unit) for unit in ("kazashi-station.timer", "kazashi-off.path", "my-kazashi-station.service", "")} == {"other"}


# --- each entry once --------------------------------------------------------------------------------------------------------------------


def warnings(first: int, last: int, boot: str = BOOT) -> list[Entry]:
    return [{**line(STATION, "4"), **entry(number, boot, PRIORITY="4")} for number in range(first, last + 1)]


def test_the_entry_at_the_cursor_was_counted_before() -> None:
    first = following(Counted(), warnings(1, 5))
    second = following(first, warnings(5, 9))
    third = following(second, warnings(9, 9))
    assert [each.sums for each in (first, second, third)] == [{"station-warnings": 5}, {"station-warnings": 9}, {"station-warnings": 9}]
    assert (third.cursor, third.boot) == (cursor(9), BOOT)


def test_a_cursor_that_the_journal_has_rotated_past_is_a_gap_and_no_entry_is_counted_twice() -> None:
    first = following(Counted(), warnings(1, 5))
    assert following(first, warnings(8, 9)).sums == {"journal-gaps": 1, "station-warnings": 7}


def test_a_journal_that_is_empty_all_at_once_is_a_gap_and_is_counted_from_its_beginning() -> None:
    emptied = following(following(Counted(), warnings(1, 5)), [])
    assert (emptied.cursor, emptied.sums) == ("", {"journal-gaps": 1, "station-warnings": 5})
    assert following(emptied, warnings(1, 2)).sums == {"journal-gaps": 1, "station-warnings": 7}


def test_the_machines_next_start_counts_from_nothing() -> None:
    first = following(Counted(), warnings(1, 5))
    later = following(first, [*warnings(5, 6), *warnings(7, 8, NEXT_BOOT)])
    assert (later.boot, later.sums) == (NEXT_BOOT, {"station-warnings": 2})


def test_a_disks_errors_are_what_the_disk_says_now() -> None:
    first = following(Counted(), warnings(1, 1), disk_errors=3)
    assert first.sums == {"disk-errors": 3, "station-warnings": 1}
    assert following(first, warnings(1, 1), disk_errors=0).sums == {"station-warnings": 1}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_a_journal_read_in_any_pieces_gives_the_same(cuts: list[int]) -> None:
    journal = warnings(1, 40)
    counted, at = Counted(), 0
    for upto in sorted(cuts):
        if upto:
            counted, at = following(counted, journal[max(0, at - 1) : upto]), upto
    assert counted.sums == ({"station-warnings": at} if at else {})


# --- the file ---------------------------------------------------------------------------------------------------------------------------

sums = st.dictionaries(st.sampled_from(sorted(counts.NAMES)), st.integers(1, counts.MOST_COUNT))


@given(st.builds(Counted, st.sampled_from(["", BOOT]), st.sampled_from(["", cursor(7)]), sums))
def test_what_was_counted_reads_back_the_same_and_what_is_told_fits_a_heartbeat(one: Counted) -> None:
    assert decode(encode(one)) == one
    assert told(encode(one)) == counts.fitting(one.sums)
    assert not told(encode(one)) or counts.fault(told(encode(one))) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": 2, "boot": "", "cursor": "", "counts": {}}',
        '{"format": 1, "boot": "", "cursor": ""}',
        '{"format": 1, "boot": "", "cursor": "--file=/etc/passwd", "counts": {}}',
        '{"format": 1, "boot": "a word", "cursor": "", "counts": {}}',
        '{"format": 1, "boot": "", "cursor": "", "counts": {"minato went home": 1}}',
        '{"format": 1, "boot": "", "cursor": "", "counts": {"oom-kills": true}}',
        '{"format": 1, "boot": "", "cursor": "", "counts": {"oom-kills": 0}}',
    ],
)
def test_a_file_that_counting_did_not_write_is_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(NoCounts):
        decode(text)
    (tmp_path / "counted").write_text(text)
    assert compose.counted_in(tmp_path / "counted") == ()


def test_where_nobody_counts_the_city_is_told_nothing(tmp_path: Path) -> None:
    assert compose.counted_in(tmp_path / "counted") == ()
    assert Path("/run/kazashi/counts/counted") == COUNTED


# --- the journal --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def journalctl(tmp_path: Path) -> Callable[[str], Sequence[str]]:
    """A journalctl of our own: says what it is given, and writes down with what it was asked."""

    def says(script: str) -> Sequence[str]:
        program = tmp_path / "journalctl"
        program.write_text(f"echo \"$@\" >> '{tmp_path}/asked'\n{script}\n")
        return ("sh", str(program))

    return says


def lines(entries: list[Entry]) -> str:
    text = "\n".join(map(json.dumps, entries))
    return f"cat <<'END'\n{text}\nEND"


def test_the_command_counts_what_is_new_and_never_asks_for_a_message(tmp_path: Path, journalctl: Callable[[str], Sequence[str]]) -> None:
    file = tmp_path / "counted"
    assert compose.count(file, journalctl(lines(warnings(1, 3)))) == "station-warnings 3"
    assert compose.count(file, journalctl(lines(warnings(3, 4)))) == "station-warnings 4"

    first, second = (tmp_path / "asked").read_text().splitlines()
    assert "--cursor" not in first
    assert f"--cursor={cursor(3)}" in second
    assert "MESSAGE" not in [field for asked in (first, second) for field in asked.split("fields=")[1].split()[0].split(",")]
    assert compose.counted_in(file) == (("station-warnings", 4),)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("counted")] == ["counted"]


def test_a_journal_that_cannot_be_read_leaves_the_sums_as_they_are(tmp_path: Path, journalctl: Callable[[str], Sequence[str]]) -> None:
    file = tmp_path / "counted"
    compose.count(file, journalctl(lines(warnings(1, 3))))
    with pytest.raises(Failure, match="nothing was counted: journalctl says: Failed to open files"):
        compose.count(file, journalctl("echo 'Failed to open files: No such file or directory' >&2; exit 1"))
    assert compose.counted_in(file) == (("station-warnings", 3),)


def test_a_user_who_may_not_read_the_journal_is_told_of_the_group(tmp_path: Path, journalctl: Callable[[str], Sequence[str]]) -> None:
    with pytest.raises(Failure, match="group systemd-journal"):
        compose.count(tmp_path / "counted", journalctl(""))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, journalctl: Callable[[str], Sequence[str]]) -> None:
    with pytest.raises(Failure, match="nowhere/counted: cannot be written"):
        compose.count(tmp_path / "nowhere" / "counted", journalctl(lines(warnings(1, 1))))


def test_a_journal_without_an_end_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    endless.write_text(f"exec yes '{json.dumps(warnings(1, 1)[0])}'\n")
    assert len(list(Journal(("sh", str(endless))).entries("", FIELDS, 500))) == 500
    assert MOST_ENTRIES >= 10_000


def test_a_machine_without_a_journal_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalUnread, match="journalctl cannot be run"):
        list(Journal((str(tmp_path / "journalctl"),)).entries("", FIELDS, 5))


def test_the_errors_of_all_file_systems_are_added_up(tmp_path: Path) -> None:
    for name, text in (("vda6", "2\n"), ("vdb1", "1\n"), ("dm-1", "many\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "errors_count").write_text(text)
    (tmp_path / "features").mkdir()
    assert Journal(ext4=tmp_path).disk_errors() == 3
    assert Journal(ext4=tmp_path / "nothing").disk_errors() == 0


# --- the lines that are counted -----------------------------------------------------------------------------------------------------------


def record(level: int, text: str) -> log.logging.LogRecord:
    return log.logging.LogRecord("ledger.carrier", level, __file__, 1, text, None, None)


def test_a_line_for_the_journal_says_its_priority_and_a_traceback_counts_once() -> None:
    form = log.ForTheJournal(log.FORMAT)
    assert form.format(record(log.logging.WARNING, "no answer")) == "<4>WARNING ledger.carrier: no answer"
    assert form.format(record(log.logging.CRITICAL, "one\ntwo")) == "<3>CRITICAL ledger.carrier: one\n<6>two"
    assert form.format(record(log.logging.INFO, "row")).startswith("<6>")
    assert form.format(record(log.logging.DEBUG, "row")).startswith("<7>")


def test_a_person_at_a_desk_is_shown_no_numbers(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        about = os.fstat(stream.fileno())
        assert log.is_the_journal(stream, {"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino}"})
        assert not log.is_the_journal(stream, {"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino + 1}"})
        assert not log.is_the_journal(stream, {})
    assert not log.is_the_journal(StringIO(), {"JOURNAL_STREAM": "1:2"})
    assert not log.is_the_journal(sys.__stderr__ or StringIO(), {})
