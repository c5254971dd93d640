"""`kazashi validator` as on a vehicle: its own process, a PN532 twin on a terminal device, its ledger on a disk."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.devices.clock import ClockState
from firmware import cli
from ledger.entry import Entry, Kind, When
from ledger.store import LedgerFile, Store

ROOT = Path(__file__).parents[2]
PATIENCE_S = 15


@pytest.fixture
def bus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A vehicle's configuration with everything it names beside it."""
    assert cli.main(["fares", "compile", str(ROOT / "examples" / "town"), "-o", str(tmp_path / "town.table")]) == 0
    assert cli.main(["card", "keys", "--new", str(tmp_path / "desk.keys")]) == 0
    assert cli.main(["card", "keys", "--keys", str(tmp_path / "desk.keys"), "--terminal", str(tmp_path / "bus.keys")]) == 0
    (tmp_path / "tray").mkdir()
    capsys.readouterr()
    config = tmp_path / "vehicle.toml"
    config.write_text(
        f'[reader]\naddress = "pn532:{tmp_path}/pn532@921600"\n[rules]\ntable = "town.table"\n[keys]\nfile = "bus.keys"\n'
        '[ledger]\nfile = "bus.ledger"\n'
    )
    return config


@pytest.fixture
def twin(bus: Path) -> Iterator[None]:
    with _started("twin", "pn532", "--tray", str(bus.parent / "tray"), "--link", str(bus.parent / "pn532")) as process:
        _wait_for(process, "ready")
        yield
        _stop(process)


@contextlib.contextmanager
def _started(*arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A command in a process of its own, which does not outlive its test."""
    command = [sys.executable, "-m", "firmware.cli", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def _stop(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE_S)


def _wait_for(process: "subprocess.Popen[bytes]", word: str) -> None:
    """Read its lines until one has the word."""
    output = process.stdout
    assert output is not None
    said = ""
    while word not in said:
        assert select.select([output], [], [], PATIENCE_S)[0], said
        piece = os.read(output.fileno(), 4096).decode()
        assert piece, said
        said += piece


def validator(bus: Path) -> "contextlib.AbstractContextManager[subprocess.Popen[bytes]]":
    return _started("validator", "--config", str(ROOT / "examples" / "bus.toml"), "--config", str(bus), "--no-screen")


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        threading.Event().wait(0.02)


def kinds(bus: Path) -> list[Kind]:
    with LedgerFile.open_read_only(bus.parent / "bus.ledger") as book:
        return [entry.kind for entry in book.after(0, 100)]


@pytest.mark.usefixtures("twin")
def test_it_serves_until_sigterm_closes_in_order_and_goes_on_with_the_same_shift(bus: Path) -> None:
    for _ in range(2):
        with validator(bus) as process:
            card = bus.parent / "tray" / "one.card"
            assert cli.main(["card", "new", str(card)]) == 0
            _wait_for(process, "no-trip")
            assert _stop(process) == 0
            card.unlink()
    assert kinds(bus) == [Kind.BOOT, Kind.SHIFT_OPEN, Kind.POWER_LOSS, Kind.BOOT, Kind.POWER_LOSS]


def test_it_serves_without_a_reader_too(bus: Path) -> None:
    with validator(bus) as process:
        _wait_for(process, "reader-died")
        assert _stop(process) == 0


def test_a_second_one_on_the_same_ledger_is_refused_in_a_sentence(bus: Path) -> None:
    with validator(bus) as first:
        _wait_for(first, "reader-died")
        with validator(bus) as second:
            _wait_for(second, "kazashi validator: ")
            assert second.wait(PATIENCE_S) == 1
        assert _stop(first) == 0


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The other end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield ear


def _hears(systemd: socket.socket, word: str) -> list[str]:
    """What systemd was told up to the datagram with the word, this one included."""
    heard: list[str] = []
    while not heard or word not in heard[-1]:
        heard.append(systemd.recv(4096).decode())
    return heard


@pytest.mark.usefixtures("twin")
def test_systemd_hears_that_it_is_ready_when_the_reader_answered_and_then_at_each_turn(bus: Path, systemd: socket.socket) -> None:
    with validator(bus) as process:
        assert _hears(systemd, "READY=1")[-1].startswith("READY=1\nWATCHDOG=1")
        assert _hears(systemd, "WATCHDOG=1") == ["WATCHDOG=1"]
        assert _stop(process) == 0
    _hears(systemd, "STOPPING=1\nSTATUS=closes the shift")


def test_without_a_reader_it_is_never_ready_asks_for_time_and_says_why(bus: Path, systemd: socket.socket) -> None:
    with validator(bus) as process:
        heard = [*_hears(systemd, "STATUS=the reader does not answer"), systemd.recv(4096).decode()]
        assert _stop(process) == 0
    assert not any("READY" in one or "WATCHDOG" in one for one in heard)
    assert heard[-1] == "EXTEND_TIMEOUT_USEC=20000000"


@pytest.mark.usefixtures("twin")
def test_a_loop_that_hangs_feeds_no_watchdog(bus: Path, systemd: socket.socket) -> None:
    with validator(bus) as process:
        _hears(systemd, "READY=1")
        process.send_signal(signal.SIGSTOP)
        systemd.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while systemd.recv(4096):
                pass
        systemd.settimeout(2.5)
        with pytest.raises(TimeoutError):
            systemd.recv(4096)
        process.send_signal(signal.SIGCONT)
        systemd.settimeout(PATIENCE_S)
        _hears(systemd, "WATCHDOG=1")
        assert _stop(process) == 0


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("back", [False, True])
def test_a_turned_key_closes_the_day_and_asks_to_be_switched_off_unless_the_driver_comes_back(
    bus: Path, systemd: socket.socket, back: bool
) -> None:
    online = bus.parent / "online"
    online.write_text("1")
    bus.write_text(bus.read_text() + f'[power]\nline = "supply:{online}"\nsettle_ms = 100\nhold_ms = {60_000 if back else 100}\n')
    files = ("--config", str(ROOT / "examples" / "bus.toml"), "--config", str(bus))
    with _started("validator", *files, "--no-screen", "--off", str(bus.parent / "off")) as process:
        _hears(systemd, "READY=1")
        online.write_text("0")
        if back:
            until(lambda: kinds(bus)[-1] is Kind.POWER_LOSS)
            online.write_text("1")
        assert process.wait(PATIENCE_S) == (75 if back else 0)
    assert kinds(bus) == [Kind.BOOT, Kind.SHIFT_OPEN, Kind.POWER_LOSS]
    assert (bus.parent / "off").exists() is not back


def test_a_start_with_an_empty_battery_goes_on_from_the_time_in_the_ledger(bus: Path) -> None:
    later_ms = time.time_ns() // 1_000_000 + 3 * 86_400_000
    boot = Entry(Kind.BOOT, When(1, 0, later_ms, int(ClockState.NTP)))
    with Store.open_or_create(bus.parent / "bus.ledger", device=12, new_epoch=lambda: 7) as ledger:
        ledger.append(boot)
    with validator(bus) as process:
        _wait_for(process, "reader-died")
        assert _stop(process) == 0
    with LedgerFile.open_read_only(bus.parent / "bus.ledger") as book:
        _, *started = book.after(0, 100)
    assert {entry.when.clock for entry in started} == {int(ClockState.CARRIED)}
    assert all(later_ms <= entry.when.utc_ms < later_ms + 60_000 for entry in started)


def test_the_clock_command_leaves_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "chronyc"
    program.write_text("#!/bin/sh\necho 50505300,PPS,1,1775001600.1,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,16.0,Normal\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert cli.main(["clock", "--once", "--told", str(tmp_path / "told")]) == 0
    assert capsys.readouterr().out == "gnss\n"
    assert (tmp_path / "told").read_text().startswith("gnss ")
    assert cli.main(["clock", "--once", "--told", str(tmp_path / "away" / "told")]) == 1
