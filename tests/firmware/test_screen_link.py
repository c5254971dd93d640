"""The wire to the screen never holds up a tap, and the latest result always arrives."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.devices.display import Picture
from drivers.devices.lamps import Light
from drivers.devices.sound import Clip
from drivers.emulated.display import RememberedDisplay
from drivers.emulated.lamp import RememberedLamp
from drivers.emulated.speaker import Speaker
from firmware.compose import ROOT, screen_link, wordbook
from firmware.screen import BadPacket, Screen, decode, encode, serve
from firmware.words import EXAMPLE
from validator.messages import Message, Shown

WORDS = wordbook()
PAID = Shown(Message.PAID, {"points": 100, "balance": 1900})


class FullShelf:
    """A shelf on which every clip lies."""

    def samples(self, clip: Clip) -> bytes | None:
        del clip
        return b"\1\0" * 2400


class EmptyShelf:
    """A shelf that nobody filled."""

    def samples(self, clip: Clip) -> bytes | None:
        del clip
        return None


class Devices:
    """A screen process's devices, all twins, on a clock that a test moves (or the real one)."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.display = RememberedDisplay[Picture]((800, 480), lambda: now_ns() // 1_000_000)
        self.speaker = Speaker(now_ns)
        self.lamp = RememberedLamp[Light](lambda: now_ns() // 1_000_000)
        self.told: list[str] = []

    @property
    def pictures(self) -> list[str]:
        return [seen.picture.name for seen in self.display.seen]

    @property
    def words(self) -> list[str]:
        return [heard.transcript for heard in self.speaker.heard]


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread or process; a test that waits in vain fails."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.005)


@contextmanager
def running_screen(path: Path) -> Iterator[Devices]:
    devices = Devices(time.monotonic_ns)
    screen = Screen(WORDS, devices.display, devices.speaker, devices.lamp, FullShelf(), tell=devices.told.append)
    thread = threading.Thread(target=serve, args=(screen, path))
    thread.start()
    try:
        until(path.exists)
        yield devices
    finally:
        devices.display.close()
        thread.join()


@given(
    st.integers(0, 2**63),
    st.integers(0, 2**63),
    st.sampled_from(Message),
    st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=20), max_size=5),
)
def test_a_packet_is_read_as_it_was_written(number: int, at_ms: int, message: Message, values: dict[str, int | str]) -> None:
    shown = Shown(message, values)
    assert decode(encode(number, at_ms, shown)) == (number, at_ms, shown)


@given(st.binary(max_size=100))
def test_any_other_bytes_are_refused_in_one_way(packet: bytes) -> None:
    with pytest.raises(BadPacket):
        decode(packet)


@pytest.mark.parametrize(
    "packet", [b'[1,2,"paid",[]]', b'[1,2,"dance",{}]', b'[1,2,"paid",{"points":null}]', b'[1,"x","paid",{}]', b"{}", b"[" * 4000]
)
def test_a_packet_of_the_wrong_shape_is_refused(packet: bytes) -> None:
    with pytest.raises(BadPacket):
        decode(packet)


def test_a_message_goes_to_screen_lamp_and_loudspeaker(tmp_path: Path) -> None:
    with running_screen(tmp_path / "s") as devices:
        link = screen_link(tmp_path / "s")
        link.show(PAID)
        until(lambda: devices.pictures == ["no_trip", "paid"])
        link.close()
    assert devices.words == ["100ポイント、残り1900"]
    assert [light.colour.value for _, light in devices.lamp.lights] == ["red", "green"]
    assert devices.lamp.lights[1][0] <= devices.display.seen[1].at_ms


def test_a_screen_that_was_never_there_costs_a_tap_nothing(tmp_path: Path) -> None:
    link = screen_link(tmp_path / "nobody")
    start = time.perf_counter()
    for _ in range(2000):
        link.show(PAID)
    assert time.perf_counter() - start < 1
    link.close()


def test_a_screen_that_hangs_costs_a_tap_nothing_and_sees_the_latest_when_it_wakes(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        link = screen_link(tmp_path / "s")
        station, _ = listener.accept()
        slowest = 0.0
        for points in range(5000):
            start = time.perf_counter()
            link.show(Shown(Message.PAID, {"points": points, "balance": 0}))
            slowest = max(slowest, time.perf_counter() - start)
        assert slowest < 0.25  # a busy machine may take the processor away; a wait for the screen would never end
        station.settimeout(5)
        latest = -1
        while latest != 4999:
            _, _, shown = decode(station.recv(4096))
            latest = int(shown.values["points"])
        station.close()
        link.close()


def test_a_screen_that_died_in_the_middle_is_forgotten_and_its_successor_knows_what_is_on(tmp_path: Path) -> None:
    link = screen_link(tmp_path / "s")
    with running_screen(tmp_path / "s") as first:
        link.show(Shown(Message.READY, {"stop": "寺前", "stop_reading": "テラマエ"}))
        until(lambda: first.pictures == ["no_trip", "ready"])
    for _ in range(100):
        link.show(Shown(Message.OUT_OF_ORDER))
    with running_screen(tmp_path / "s") as second:
        until(lambda: second.pictures[-1:] == ["out_of_order"])
    link.close()


def test_a_successor_shows_the_stop_however_many_riders_came_meanwhile(tmp_path: Path) -> None:
    link = screen_link(tmp_path / "s")
    link.show(Shown(Message.READY, {"stop": "寺前", "stop_reading": "テラマエ"}))
    for _ in range(100):
        link.show(Shown(Message.SEEN))
    seen: list[Shown] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        station, _ = listener.accept()
        station.settimeout(5)
        seen = [decode(station.recv(4096))[2] for _ in range(17)]
        station.close()
    link.close()
    assert seen[0].values["stop"] == "寺前"
    assert {one.message for one in seen[1:]} == {Message.SEEN}


def test_a_restarted_station_is_heard_by_the_screen_that_stayed(tmp_path: Path) -> None:
    with running_screen(tmp_path / "s") as devices:
        before = screen_link(tmp_path / "s")
        before.show(PAID)
        until(lambda: devices.pictures == ["no_trip", "paid"])
        before.close()
        after = screen_link(tmp_path / "s")
        after.show(Shown(Message.FREE))
        until(lambda: devices.pictures == ["no_trip", "paid", "free"])
        after.close()


def test_the_first_picture_comes_before_any_station_and_says_that_no_card_is_taken(tmp_path: Path) -> None:
    with running_screen(tmp_path / "s") as devices:
        assert devices.pictures == ["no_trip"]
    assert devices.words == []


def test_a_station_that_died_leaves_no_invitation_behind(tmp_path: Path) -> None:
    with running_screen(tmp_path / "s") as devices:
        link = screen_link(tmp_path / "s")
        link.show(Shown(Message.READY))
        until(lambda: devices.pictures == ["no_trip", "ready"])
        link.close()
        until(lambda: devices.pictures == ["no_trip", "ready", "no_trip"])


def test_nonsense_on_the_wire_changes_nothing(tmp_path: Path) -> None:
    with running_screen(tmp_path / "s") as devices, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(tmp_path / "s"))
        stranger.send(b"nonsense")
        stranger.send(encode(1, time.monotonic_ns() // 1_000_000, Shown(Message.PAID)))
        stranger.send(encode(2, time.monotonic_ns() // 1_000_000, Shown(Message.FREE)))
        until(lambda: devices.pictures == ["no_trip", "free"])
    assert devices.told == ["not shown: message 'paid' lacks balance, points"]


def test_after_close_nothing_is_sent_and_nothing_fails(tmp_path: Path) -> None:
    link = screen_link(tmp_path / "s")
    link.close()
    link.close()
    link.show(PAID)


class Time:
    """A clock that a test moves."""

    ms = 0

    def now_ns(self) -> int:
        return self.ms * 1_000_000

    def now_ms(self) -> int:
        return self.ms


def test_a_screen_in_one_process_with_a_virtual_clock_tells_the_same_story() -> None:
    clock = Time()
    devices = Devices(clock.now_ns)
    screen = Screen(WORDS, devices.display, devices.speaker, devices.lamp, FullShelf(), now_ms=clock.now_ms)
    screen.show(Shown(Message.READY))
    clock.ms = 2000
    screen.show(Shown(Message.SEEN))
    clock.ms = 2030
    screen.show(PAID)
    assert screen.ends_ms == 7030
    clock.ms = 7030
    screen.advance()
    assert devices.pictures == ["ready", "seen", "paid", "ready"]
    assert devices.words == ["カードをかざしてください", "そのまま、お待ちください", "100ポイント、残り1900"]
    assert [heard.cut for heard in devices.speaker.heard] == [False, True, False]


def test_the_panel_dims_when_the_vehicle_closes_and_is_bright_again_with_the_next_thing() -> None:
    clock = Time()
    devices, dimmed = Devices(clock.now_ns), list[bool]()
    screen = Screen(WORDS, devices.display, devices.speaker, devices.lamp, FullShelf(), now_ms=clock.now_ms, dim=dimmed.append)
    for message in (Message.READY, Message.CLOSING, Message.CLOSING, Message.NO_TRIP, Message.READY):
        screen.show(Shown(message))
    assert dimmed == [True, False]


def test_a_bus_without_rendered_words_still_sounds_its_tone_and_says_so_once() -> None:
    clock = Time()
    devices = Devices(clock.now_ns)
    screen = Screen(WORDS, devices.display, devices.speaker, devices.lamp, EmptyShelf(), now_ms=clock.now_ms, tell=devices.told.append)
    screen.show(Shown(Message.FREE))
    screen.show(Shown(Message.FREE))
    clock.ms = 10_000
    assert len(devices.speaker.heard) == 1  # the same instant twice: the second replaces the first
    assert devices.told == ["not spoken: the clip 'お代は、いりません' is not rendered (kazashi words render)"]


@pytest.mark.parametrize("message", Message)
def test_no_message_is_ever_silent(message: Message) -> None:
    clock = Time()
    devices = Devices(clock.now_ns)
    screen = Screen(WORDS, devices.display, devices.speaker, devices.lamp, FullShelf(), now_ms=clock.now_ms)
    screen.show(Shown(message, dict(EXAMPLE)))
    clock.ms = 100
    assert len(devices.lamp.lights) == len(devices.pictures) == len(devices.words) == 1


def pss_kib(pid: int) -> int:
    """A process's own and its share of common memory (proc(5), smaps_rollup)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def test_the_screen_process_draws_without_a_screen_and_ends_when_asked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "firmware.cli", "screen", "--socket", str(tmp_path / "s"), "--pictures", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--sound", str(tmp_path / "out.wav"), "--clips", str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    link = screen_link(tmp_path / "s")
    try:
        link.show(Shown(Message.HOLD_AGAIN))
        until((tmp_path / "out" / "0002-hold_again.png").exists)
        assert pss_kib(process.pid) < 80_000  # half of what the whole validator may take
    finally:
        link.close()
        process.terminate()
        assert process.wait(10) == 0
    assert (tmp_path / "out.wav").exists()
    assert not (tmp_path / "s").exists()


def test_a_screen_process_asked_wrongly_says_so_in_one_sentence() -> None:
    command = [sys.executable, "-m", "firmware.cli", "screen", "--socket", "s", "--size", "8x4"]
    wrong = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "'8x4' must be WIDTHxHEIGHT, at least 640x400" in wrong.stderr
