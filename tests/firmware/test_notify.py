"""What a process says to systemd."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from firmware.notify import Nobody, Systemd, overseer


@dataclass
class Ear:
    """systemd's end, and the clock."""

    now_s: float = 0.0
    heard: list[list[str]] = field(default_factory=list[list[str]])

    def hear(self, data: bytes) -> None:
        self.heard.append(data.decode().split("\n"))

    def turn(self, systemd: Systemd, status: str, *, works: bool = True, after_s: float = 0.01) -> None:
        self.now_s += after_s
        systemd.turned(status, works=works)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def systemd(ear: Ear) -> Systemd:
    return Systemd(ear.hear, lambda: ear.now_s)


def test_ready_is_said_at_the_first_turn_that_works_and_never_again(ear: Ear, systemd: Systemd) -> None:
    ear.turn(systemd, "looks for the reader", works=False)
    ear.turn(systemd, "takes cards")
    ear.turn(systemd, "looks for the reader", works=False)
    ear.turn(systemd, "takes cards")

    assert [lines[0] for lines in ear.heard] == [f"EXTEND_TIMEOUT_USEC={20_000_000}", "READY=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_a_loop_that_waits_for_its_reader_asks_for_time_again_and_again_but_not_for_ever_at_once(ear: Ear, systemd: Systemd) -> None:
    for _ in range(1000):
        ear.turn(systemd, "looks for the reader", works=False, after_s=0.1)

    asked = [lines for lines in ear.heard if lines[0].startswith("EXTEND_TIMEOUT_USEC=")]
    assert 90 <= len(asked) <= 101


def test_a_loop_of_a_hundred_turns_a_second_feeds_the_watchdog_once_a_second(ear: Ear, systemd: Systemd) -> None:
    for _ in range(1000):
        ear.turn(systemd, "takes cards")

    assert 9 <= sum("WATCHDOG=1" in lines for lines in ear.heard) <= 11
    assert sum("STATUS=takes cards" in lines for lines in ear.heard) == 1


def test_a_loop_that_does_not_turn_feeds_nothing(ear: Ear, systemd: Systemd) -> None:
    ear.turn(systemd, "takes cards")
    said = len(ear.heard)
    ear.now_s += 3600

    assert len(ear.heard) == said


def test_a_status_is_one_line_whatever_stands_in_it(ear: Ear, systemd: Systemd) -> None:
    ear.turn(systemd, "trip M1\nMAINPID=1")

    assert ear.heard[-1] == ["READY=1", "WATCHDOG=1", "STATUS=trip M1MAINPID=1"]


def test_the_end_is_announced(ear: Ear, systemd: Systemd) -> None:
    systemd.stopping("closes the ledger")

    assert ear.heard == [["STOPPING=1", "STATUS=closes the ledger"]]


@pytest.mark.parametrize("place", [lambda folder: str(folder / "notify"), lambda folder: f"@kazashi-test-{folder.name}"])
def test_it_arrives_as_one_datagram_at_the_address_in_the_environment(tmp_path: Path, place: Callable[[Path], str]) -> None:
    address = place(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(address.replace("@", "\0"))
        overseer({"NOTIFY_SOCKET": address}, lambda: 0.0).turned("takes cards")

        assert ear.recv(4096) == b"READY=1\nWATCHDOG=1\nSTATUS=takes cards"


def test_a_systemd_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    overseer({"NOTIFY_SOCKET": str(tmp_path / "gone")}, lambda: 0.0).turned("takes cards")


def test_a_program_started_by_hand_has_no_overseer() -> None:
    by_hand = overseer({}, lambda: 0.0)

    assert isinstance(by_hand, Nobody)
    by_hand.turned("takes cards")
    by_hand.stopping("ends")
