"""This machine's clock, and how far it is believed."""

from pathlib import Path

from drivers.devices.clock import ClockState
from drivers.devices.clock_system import NOT_BEFORE_UTC_MS, SystemClock


def test_a_synchronised_clock_says_so(tmp_path: Path) -> None:
    mark = tmp_path / "synchronized"
    clock = SystemClock(3, mark)
    assert clock.now().state is ClockState.RTC
    mark.touch()
    now = clock.now()
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
