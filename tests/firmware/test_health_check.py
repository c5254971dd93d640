"""Whether this system may stay."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivers.emulated.clock import VirtualClock
from firmware import cli
from firmware.health import UNITS, Equipment, SlotTrouble, Standing, examine
from firmware.system import RaucSlots, SystemdUnits, TrialFile

SCREEN, STATION = UNITS
WORKS = Standing(works=True)


@dataclass
class Processes:
    """A ``firmware.health.Units`` whose processes work from a second on, or give up."""

    clock: VirtualClock
    ready_s: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(UNITS, 0))
    gave_up: str = ""

    def standing(self, unit: str) -> Standing:
        if unit == self.gave_up:
            return Standing(works=False, gave_up=True, status="no ledger")
        return Standing(self.clock.monotonic_ns() >= self.ready_s[unit] * 10**9)


@dataclass
class TwoSlots:
    """A ``firmware.health.Slots``."""

    trouble: str = ""
    good: int = 0

    def mark_good(self) -> None:
        if self.trouble:
            raise SlotTrouble(self.trouble)
        self.good += 1


@dataclass
class Start:
    """A ``firmware.health.Trial`` that remembers in which order it was called."""

    trial: bool = False
    done: list[str] = field(default_factory=list[str])

    def running(self) -> bool:
        return self.trial

    def over(self) -> None:
        self.done.append("over")

    def go_back(self) -> None:
        self.done.append("back")


class Machine:
    """Everything that the check asks, and what it did."""

    def __init__(self, *, trial: bool = False, tap: str = "", ledger: str = "", trouble: str = "") -> None:
        self.clock = VirtualClock()
        self.processes = Processes(self.clock)
        self.slots = TwoSlots(trouble)
        self.start = Start(trial)
        self.asked: list[str] = []
        self.tap = tap
        self.ledger = ledger

    def examined(self) -> tuple[str, ...]:
        def check(name: str, told: str) -> str:
            self.asked.append(name)
            return told

        return examine(
            Equipment(
                self.processes, lambda: check("tap", self.tap), lambda: check("ledger", self.ledger), self.slots, self.start, self.clock
            )
        )


@pytest.mark.parametrize("trial", [False, True])
def test_what_works_in_everything_is_marked_good(trial: bool) -> None:
    machine = Machine(trial=trial)

    assert machine.examined() == ()
    assert (machine.slots.good, machine.asked, machine.start.done) == (1, ["tap", "ledger"], ["over"] if trial else [])


def test_it_waits_for_the_first_frame_and_for_the_reader() -> None:
    machine = Machine()
    machine.processes.ready_s = {SCREEN: 20, STATION: 300}

    assert machine.examined() == ()
    assert 300 <= machine.clock.monotonic_ns() / 10**9 < 302


@pytest.mark.parametrize("unit", UNITS)
def test_a_part_that_never_works_is_named_after_ten_minutes(unit: str) -> None:
    machine = Machine()
    machine.processes.ready_s = {**dict.fromkeys(UNITS, 0), unit: 10**6}

    assert machine.examined() == (UNITS[unit],)
    assert (machine.slots.good, machine.asked) == (0, [])
    assert 600 <= machine.clock.monotonic_ns() / 10**9 < 602


def test_a_part_that_has_given_up_is_not_waited_for() -> None:
    machine = Machine()
    machine.processes.gave_up = STATION

    assert machine.examined() == ("the station takes no cards (no ledger)",)
    assert machine.clock.monotonic_ns() == 0


@pytest.mark.parametrize(
    ("tap", "ledger", "told"), [("no tap", "", ("no tap",)), ("", "no ledger", ("no ledger",)), ("a", "b", ("a", "b"))]
)
def test_a_tap_or_a_ledger_that_does_not_hold_keeps_the_slot_from_being_good(tap: str, ledger: str, told: tuple[str, ...]) -> None:
    machine = Machine(tap=tap, ledger=ledger)

    assert machine.examined() == told
    assert (machine.slots.good, machine.start.done) == (0, [])


def test_an_update_that_fails_goes_back_once_and_the_trial_is_over_before() -> None:
    machine = Machine(trial=True, tap="no tap")

    assert machine.examined() == ("no tap",)
    assert machine.start.done == ["over", "back"]


def test_a_boot_loader_that_cannot_be_told_is_a_fault() -> None:
    assert Machine(trouble="no service").examined() == ("all is well, but the boot loader could not be told: no service",)


# ── systemd and RAUC by their own commands; strangers that answer as those do ──


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs are found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("told", "standing"),
    [
        (
            "ActiveState=active\nStatusText=on trip M1-1; 3 cards since the start",
            Standing(True, False, "on trip M1-1; 3 cards since the start"),
        ),
        ("ActiveState=activating\nStatusText=the reader does not answer", Standing(False, False, "the reader does not answer")),
        ("ActiveState=failed\nStatusText=", Standing(False, True)),
        ("", Standing(False)),
    ],
)
def test_a_unit_stands_as_systemctl_says(commands: Path, told: str, standing: Standing) -> None:
    program(commands, "systemctl", f'[ "$2" = {STATION} ] && printf "%s\\n" "{told}"')

    assert SystemdUnits().standing(STATION) == standing


def test_without_systemd_nothing_works_and_it_is_said_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    standing = SystemdUnits().standing(STATION)
    assert not standing.works
    assert "systemd cannot be asked" in standing.status
    with pytest.raises(SlotTrouble, match="rauc cannot be run"):
        RaucSlots().mark_good()


def test_rauc_is_asked_to_mark_the_running_slot(commands: Path, tmp_path: Path) -> None:
    program(commands, "rauc", f'echo "$@" > {tmp_path}/asked; echo "rauc status: marked slot rootfs.0 as good"')
    RaucSlots().mark_good()

    assert (tmp_path / "asked").read_text() == "status mark-good\n"


def test_what_rauc_cannot_do_is_told_in_its_last_line(commands: Path) -> None:
    program(commands, "rauc", 'echo "rauc-WARNING **: x" >&2; echo "Failed to obtain D-Bus proxy" >&2; exit 1')

    with pytest.raises(SlotTrouble, match="rauc says: Failed to obtain D-Bus proxy"):
        RaucSlots().mark_good()


def test_a_trial_is_a_file_and_goes_back_only_when_it_is_gone(tmp_path: Path) -> None:
    trial = TrialFile(tmp_path / "trial", tmp_path / "back")
    assert not trial.running()
    (tmp_path / "trial").touch()
    assert trial.running()
    trial.go_back()
    assert not (tmp_path / "back").exists()
    trial.over()
    trial.go_back()
    assert ((tmp_path / "trial").exists(), (tmp_path / "back").exists()) == (False, True)


def test_the_command_tells_all_that_is_wrong_and_marks_nothing(commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(commands, "systemctl", "echo ActiveState=active")
    program(commands, "rauc", f"touch {tmp_path}/marked")
    (tmp_path / "unit.toml").write_text('[ledger]\nfile = "ledger"\n')
    given = ("health", "--config", str(Path(__file__).parents[2] / "examples" / "bus.toml"), "--config", str(tmp_path))

    assert cli.main([*given, "--data", str(tmp_path), "--run", str(tmp_path)]) == 1
    assert f"{tmp_path}/ledger" in capsys.readouterr().err
    assert not (tmp_path / "marked").exists()


def test_the_command_marks_a_system_whose_ledger_is_whole(commands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ledger.store import Store

    program(commands, "systemctl", "echo ActiveState=active")
    program(commands, "rauc", f"touch {tmp_path}/marked")
    (tmp_path / "unit.toml").write_text('[ledger]\nfile = "ledger"\n')
    Store.create(tmp_path / "ledger", device=12, epoch=7).close()
    given = ("health", "--config", str(Path(__file__).parents[2] / "examples" / "bus.toml"), "--config", str(tmp_path))

    assert cli.main([*given, "--data", str(tmp_path), "--run", str(tmp_path)]) == 0
    assert "this system is marked good" in capsys.readouterr().out
    assert (tmp_path / "marked").exists()
