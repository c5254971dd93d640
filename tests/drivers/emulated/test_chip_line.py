"""A line on a clock that jumps; and the two clocks."""

import time

import pytest

from drivers.devices.clock import Clock, ClockState, Instant
from drivers.emulated.air import Air
from drivers.emulated.clock import RealClock, VirtualClock
from drivers.emulated.line import ChipLine
from drivers.emulated.pn532_chip import Pn532Chip

VERSION = bytes.fromhex("0000ff02fed4022a00")
ACK = bytes.fromhex("0000ff00ff00")
ANSWER = bytes.fromhex("0000ff06fad50332010607e800")


def line() -> tuple[ChipLine, VirtualClock]:
    clock = VirtualClock()
    return ChipLine(Pn532Chip(Air()), clock), clock


def test_each_frame_comes_when_its_last_byte_is_through() -> None:
    host, clock = line()
    host.write(VERSION)
    assert host.read(100, 1) == ACK
    assert clock.monotonic_ns() == pytest.approx(15 * 10e9 / 115200, abs=5)
    assert host.read(100, 1) == ANSWER
    assert clock.monotonic_ns() == pytest.approx(28 * 10e9 / 115200, abs=5)


def test_a_read_waits_no_longer_than_it_was_told() -> None:
    host, clock = line()
    assert host.read(100, 0.25) == b""
    assert clock.monotonic_ns() == 250_000_000
    host.write(VERSION)
    assert host.read(100, 0.0001) == b""
    assert host.read(100, 0) == b""
    assert host.read(2, 1) == ACK[:2]
    assert host.read(100, 0) == ACK[2:]


def test_what_was_not_read_can_be_forgotten() -> None:
    host, clock = line()
    host.write(VERSION)
    clock.advance_ms(10)
    host.discard()
    assert host.read(100, 0.1) == b""


def test_ends_at_different_rates_do_not_understand_each_other() -> None:
    host, _ = line()
    host.set_baud(921600)
    host.write(VERSION)
    assert host.read(100, 0.1) == b""
    host.set_baud(115200)
    host.write(b"\x00" * 300 + VERSION)
    assert host.read(100, 1) == ACK


def test_an_unplugged_line_is_an_error_until_it_is_plugged_and_opened_again() -> None:
    host, _ = line()
    host.unplug()
    for use in (lambda: host.write(VERSION), lambda: host.read(1, 0), lambda: host.set_baud(9600), host.discard):
        with pytest.raises(OSError, match="the line is gone"):
            use()
    with pytest.raises(OSError, match="no such line"):
        host.reopen(115200)
    host.close()
    host.plug()
    with pytest.raises(OSError, match="the line is gone"):
        host.write(VERSION)
    host.reopen(115200).write(VERSION)
    assert host.read(6, 1) == ACK


def test_somebody_may_watch_the_traffic() -> None:
    seen: list[int] = []
    host = ChipLine(Pn532Chip(Air()), VirtualClock(), on_traffic=lambda: seen.append(1))
    host.write(VERSION)
    host.read(6, 1)
    assert len(seen) == 2


def test_the_virtual_clock_jumps_and_never_goes_back() -> None:
    clock = VirtualClock(utc_ms=1000, state=ClockState.CARRIED, boot=7)
    clock.sleep_until_ns(5_000_000_000)
    clock.sleep_until_ns(1)
    assert clock.now() == Instant(7, 5000, 6000, ClockState.CARRIED)
    clock.utc_ms = 99_000
    clock.advance_ms(1)
    assert (clock.now().utc_ms, clock.now().mono_ms) == (99_001, 5001)


def test_the_real_clock_meets_a_deadline() -> None:
    clock: Clock = RealClock(ClockState.RTC)
    deadline = clock.monotonic_ns() + 2_000_000
    clock.sleep_until_ns(deadline)
    assert clock.monotonic_ns() >= deadline
    now = clock.now()
    assert now.state is ClockState.RTC
    assert abs(now.utc_ms - time.time_ns() // 1_000_000) < 1000
