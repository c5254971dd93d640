"""This machine's clock, and how far it is believed."""

import os
import time
from pathlib import Path

import pytest

from drivers.devices.clock import ClockState
from drivers.devices.clock_system import NOT_BEFORE_UTC_MS, STALE_AFTER_MS, SystemClock, leave, left


def test_a_synchronised_clock_says_so(tmp_path: Path) -> None:
    mark = tmp_path / "synchronized"
    clock = SystemClock(3, mark)
    assert clock.now().state is ClockState.RTC
    mark.touch()
    now = SystemClock(3, mark).now()
    assert (now.state, now.boot) == (ClockState.NTP, 3)
    assert now.utc_ms > NOT_BEFORE_UTC_MS


def test_monotonic_time_begins_with_the_terminal(tmp_path: Path) -> None:
    clock = SystemClock(1, tmp_path / "none")
    assert 0 <= clock.now().mono_ms < 1000
    before = clock.monotonic_ns()
    clock.sleep_until_ns(before + 200_000)
    assert clock.monotonic_ns() >= before + 200_000


def test_a_deadline_that_has_passed_is_not_waited_for(tmp_path: Path) -> None:
    clock = SystemClock(1, tmp_path / "none")
    began = clock.monotonic_ns()
    clock.sleep_until_ns(began - 10_000_000_000)
    assert clock.monotonic_ns() - began < 1_000_000_000


@pytest.mark.parametrize("state", [ClockState.NTP, ClockState.GNSS])
def test_the_word_that_was_left_is_believed_while_it_is_fresh(tmp_path: Path, state: ClockState) -> None:
    told, none = tmp_path / "told", tmp_path / "none"
    now_ms = time.monotonic_ns() // 1_000_000
    leave(told, state, now_ms)
    assert SystemClock(1, none, told, none).now().state is state
    leave(told, state, now_ms - STALE_AFTER_MS - 1000)
    assert SystemClock(1, none, told, none).now().state is ClockState.RTC


@pytest.mark.parametrize("text", ["", "ntp", "sun 5", "ntp five", "ntp 99999999999999999"])
def test_a_word_that_is_none_vouches_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "told").write_text(text)
    assert left(tmp_path / "told", 1000) is ClockState.UNSET


def test_a_clock_that_only_counts_from_the_systems_own_date_is_unset(tmp_path: Path) -> None:
    epoch, none = tmp_path / "clock-epoch", tmp_path / "none"
    epoch.touch()
    since_start_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    os.utime(epoch, (since_start_s, since_start_s))
    assert SystemClock(1, none, none, epoch).now().state is ClockState.UNSET
    os.utime(epoch, (since_start_s - 3600, since_start_s - 3600))
    assert SystemClock(1, none, none, epoch).now().state is ClockState.RTC
