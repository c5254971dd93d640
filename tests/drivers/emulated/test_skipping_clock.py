"""The demo's clock: this machine's, and put forward."""

import time

from drivers.emulated.skipping_clock import SkippingClock

MORNING_MS = 1_776_209_880_000


def test_it_runs_as_the_machine_does() -> None:
    clock = SkippingClock(time.monotonic_ns(), MORNING_MS)
    before = clock.now()
    clock.sleep_until_ns(clock.monotonic_ns() + 2_000_000)
    after = clock.now()
    assert after.mono_ms - before.mono_ms >= 2
    assert after.utc_ms - after.mono_ms == MORNING_MS


def test_what_is_skipped_is_gone_at_once_on_both_its_faces() -> None:
    clock = SkippingClock(time.monotonic_ns(), MORNING_MS)
    before = clock.now()
    clock.skip_ms(3_600_000)
    after = clock.now()
    assert 3_600_000 <= after.mono_ms - before.mono_ms < 3_610_000
    assert after.utc_ms - before.utc_ms == after.mono_ms - before.mono_ms


def test_a_deadline_that_was_skipped_is_not_waited_for() -> None:
    clock = SkippingClock(time.monotonic_ns(), MORNING_MS)
    deadline = clock.monotonic_ns() + 3_600_000_000_000
    clock.skip_ms(3_600_000)
    clock.sleep_until_ns(deadline)
    assert clock.monotonic_ns() >= deadline


def test_two_processes_with_the_same_zero_show_the_same_time() -> None:
    origin = time.monotonic_ns()
    one, other = SkippingClock(origin, MORNING_MS), SkippingClock(origin, MORNING_MS, skipped_ns=5_000_000_000)
    one.skip_ms(5_000)
    assert abs(one.monotonic_ns() - other.monotonic_ns()) < 1_000_000_000
