"""Who vouches for the wall clock, and what is done when nobody does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.devices import clock_told
from drivers.devices.clock import ClockState
from drivers.devices.clock_sources import Fix, fix_in, followed, vouched
from drivers.devices.clock_steady import SteadyClock
from drivers.emulated.clock import VirtualClock

NTP = "C0A80001,192.168.0.1,3,1775001600.123456789,0.000012,0.000034,0.000056,-1.2,0.001,0.05,0.012,0.003,64.5,Normal"
PPS = "50505300,PPS,1,1775001600.123456789,0.000012,0.000034,0.000056,-1.2,0.001,0.05,0.012,0.003,16.0,Normal"
NMEA = PPS.replace("50505300,PPS", "4E4D4541,NMEA")
NOBODY = "00000000,,0,0.000000000,0.000000000,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised"
ITSELF = "7F7F0101,,10,1775001600.1,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,Normal"
NOON_MS = 1_775_001_600_000
TPV = '{"class":"TPV","device":"/dev/ttyS1","mode":3,"time":"2026-04-01T00:00:00.000Z","lat":35.0,"lon":139.0}'


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (NTP, ClockState.NTP),
        (PPS, ClockState.GNSS),
        (NMEA, ClockState.GNSS),
        (NOBODY, ClockState.UNSET),
        (ITSELF, ClockState.UNSET),
        ("", ClockState.UNSET),
        ("506 Cannot talk to daemon", ClockState.UNSET),
    ],
)
def test_chrony_follows_a_server_a_receiver_or_nobody(told: str, state: ClockState) -> None:
    assert followed(told) is state


@given(st.text(max_size=200))
def test_whatever_chrony_and_gpsd_say_nothing_breaks(text: str) -> None:
    followed(text)
    fix_in(text)
    vouched(text, fix_in(text), 0)


def test_a_receivers_time_is_in_its_reports_with_a_fix_only() -> None:
    assert fix_in(TPV) == Fix(NOON_MS)
    assert fix_in(TPV.replace('"mode":3', '"mode":1')) is None
    assert fix_in('{"class":"VERSION","release":"3.22"}') is None
    assert fix_in(TPV.replace("2026-04-01T00:00:00.000Z", "yesterday")) is None


def test_a_receiver_vouches_only_for_a_clock_that_agrees_with_it() -> None:
    assert vouched("", Fix(NOON_MS), NOON_MS + 1500) is ClockState.GNSS
    assert vouched("", Fix(NOON_MS), NOON_MS + 3000) is ClockState.UNSET
    assert vouched(NTP, Fix(NOON_MS), NOON_MS + 3000) is ClockState.NTP


@contextmanager
def gpsd(*pieces: bytes) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """A stranger that answers as gpsd does, in the given slices, and remembers what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                asked.append(client.recv(4096))
                for piece in pieces:
                    client.sendall(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname(), asked
        thread.join()


def test_gpsd_is_asked_to_report_and_read_in_any_slices() -> None:
    report = ('{"class":"VERSION","release":"3.22"}\n' + TPV + "\n").encode()
    with gpsd(report[:20], report[20:70], report[70:]) as (address, asked):
        assert clock_told.fix(address) == Fix(NOON_MS)
    assert asked == [b'?WATCH={"enable":true,"json":true};\n']


def test_a_gpsd_without_a_fix_or_that_is_not_there_has_no_time() -> None:
    with gpsd(b'{"class":"TPV","mode":0}\n') as (address, _):
        assert clock_told.fix(address) is None
    assert clock_told.fix(address) is None


def test_chrony_is_asked_by_its_own_command(tmp_path: Path) -> None:
    program = tmp_path / "chronyc"
    program.write_text(f"#!/bin/sh\necho {NTP}\n")
    program.chmod(0o755)
    assert followed(clock_told.tracking([str(program)])) is ClockState.NTP
    program.write_text("#!/bin/sh\necho 506 Cannot talk to daemon\nexit 1\n")
    assert clock_told.tracking([str(program)]) == ""
    assert clock_told.tracking([str(tmp_path / "none")]) == ""


# ── over a power cut, and within a shift ──


def test_a_clock_with_an_empty_battery_carries_the_time_that_was_known_last() -> None:
    inner = VirtualClock(utc_ms=NOON_MS - 86_400_000, state=ClockState.RTC)
    clock = SteadyClock(inner, kept_ms=NOON_MS)
    inner.advance_ms(5000)

    assert (clock.now().utc_ms, clock.now().state) == (NOON_MS + 5000, ClockState.CARRIED)


def test_a_clock_that_never_was_set_is_carried_or_unset() -> None:
    inner = VirtualClock(utc_ms=0, state=ClockState.UNSET)

    assert SteadyClock(inner).now().state is ClockState.UNSET
    assert SteadyClock(inner, NOON_MS).now().state is ClockState.CARRIED


def test_a_clock_that_is_vouched_for_is_believed_whatever_was_kept() -> None:
    inner = VirtualClock(utc_ms=NOON_MS, state=ClockState.NTP)

    assert SteadyClock(inner, kept_ms=NOON_MS + 86_400_000).now() == inner.now()


def test_within_a_shift_the_time_is_set_forward_at_once_and_back_only_with_the_next_shift() -> None:
    inner = VirtualClock(utc_ms=NOON_MS, state=ClockState.RTC)
    clock = SteadyClock(inner)
    clock.now()
    inner.utc_ms, inner.state = NOON_MS + 60_000, ClockState.NTP
    assert clock.now() == inner.now()
    inner.utc_ms = NOON_MS
    inner.advance_ms(1000)
    assert (clock.now().utc_ms, clock.now().state) == (NOON_MS + 61_000, ClockState.CARRIED)
    clock.new_shift()
    assert clock.now() == inner.now()


def test_a_small_step_back_is_held_and_needs_no_other_word() -> None:
    inner = VirtualClock(utc_ms=NOON_MS, state=ClockState.NTP)
    clock = SteadyClock(inner)
    clock.now()
    inner.utc_ms = NOON_MS - 300

    assert (clock.now().utc_ms, clock.now().state) == (NOON_MS, ClockState.NTP)


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.sampled_from(list(ClockState)), st.integers(0, 10**6)), max_size=30))
def test_whatever_happens_to_the_wall_clock_no_known_time_of_a_shift_is_before_another(steps: list[tuple[int, ClockState, int]]) -> None:
    inner = VirtualClock(utc_ms=NOON_MS)
    clock = SteadyClock(inner, kept_ms=NOON_MS)
    last_ms = 0
    for by_ms, state, passes_ms in steps:
        inner.utc_ms += by_ms
        inner.state = state
        inner.advance_ms(passes_ms)
        now = clock.now()
        if now.state is not ClockState.UNSET:
            assert now.utc_ms >= last_ms
            last_ms = now.utc_ms
