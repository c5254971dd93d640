from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch

import pytest

from firmware.doctor import FileSystem, Finding, State, Wants, examine, packages_named, pins_named

WANTS = Wants(
    packages=("python3-venv", "fonts-morisawa-bizud-gothic"), distributions=("pyserial",), clips="/kazashi/build/clips", data="/data"
)


@dataclass(frozen=True, slots=True)
class PaperMachine:
    """A machine on paper: everything on it is a value."""

    python: tuple[int, int] = (3, 11)
    time_s: float = 1_780_000_000.0
    packages: dict[str, bool | None] = field(default_factory=lambda: dict.fromkeys(WANTS.packages, True))
    distributions: dict[str, str] = field(default_factory=lambda: {"pyserial": "3.5"})
    files: dict[str, str] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    settings: dict[str, str] = field(default_factory=lambda: {"DISPLAY": ":0"})
    data: FileSystem | None = field(default_factory=lambda: FileSystem("ext4", 4096, 10**9))

    def now_s(self) -> float:
        return self.time_s

    def package(self, name: str) -> bool | None:
        return self.packages[name]

    def distribution(self, name: str) -> str | None:
        return self.distributions.get(name)

    def paths(self, pattern: str) -> Sequence[str]:
        return sorted(path for path in self.files if fnmatch(path, pattern))

    def text(self, path: str) -> str | None:
        return self.files.get(path)

    def may_use(self, path: str) -> bool:
        return path not in self.closed

    def setting(self, name: str) -> str:
        return self.settings.get(name, "")

    def file_system(self, folder: str) -> FileSystem | None:
        return self.data if folder == WANTS.data else None


WHOLE = PaperMachine(
    files=dict.fromkeys(
        (
            "/usr/share/fonts/truetype/bizud-gothic/BIZUDGothic-Regular.ttf",
            "/usr/share/fonts/truetype/bizud-gothic/BIZUDGothic-Bold.ttf",
            "/kazashi/build/clips/ja/points.wav",
            "/dev/ttyUSB0",
            "/dev/input/event0",
            "/dev/snd/pcmC0D0p",
            "/run/systemd/timesync/synchronized",
            "/sys/class/rtc/rtc0",
        ),
        "",
    )
    | {"/sys/bus/usb-serial/devices/ttyUSB0/latency_timer": "1\n"}
)


def findings(machine: PaperMachine, subject: str) -> list[Finding]:
    return [finding for finding in examine(machine, WANTS) if finding.subject == subject]


def the(machine: PaperMachine, subject: str) -> Finding:
    (finding,) = findings(machine, subject)
    return finding


def with_files(**changes: str) -> PaperMachine:
    return replace(WHOLE, files=WHOLE.files | changes)


def without(*patterns: str) -> PaperMachine:
    return replace(WHOLE, files={path: text for path, text in WHOLE.files.items() if not any(fnmatch(path, each) for each in patterns)})


def test_a_whole_machine_has_nothing_to_do() -> None:
    assert {(finding.state, finding.remedy) for finding in examine(WHOLE, WANTS)} == {(State.OK, "")}


def test_whatever_is_not_well_comes_with_what_to_do() -> None:
    empty = PaperMachine(
        python=(3, 9),
        time_s=0,
        packages=dict.fromkeys(WANTS.packages, False),
        distributions={},
        settings={},
        data=FileSystem("btrfs", 4096, 10),
    )
    for machine in (empty, replace(empty, data=None), replace(empty, packages=dict.fromkeys(WANTS.packages))):
        for finding in examine(machine, WANTS):
            assert finding.state is not State.OK, finding
            assert finding.remedy, finding
            assert finding.seen, finding


def test_only_the_missing_debian_packages_are_asked_for() -> None:
    finding = the(replace(WHOLE, packages={"python3-venv": True, "fonts-morisawa-bizud-gothic": False}), "Debian packages")
    assert (finding.state, finding.remedy) == (State.MISSING, "sudo apt-get install fonts-morisawa-bizud-gothic")


def test_another_distribution_is_told_what_to_look_for() -> None:
    finding = the(replace(WHOLE, packages=dict.fromkeys(WANTS.packages)), "Debian packages")
    assert finding.state is State.LOOK
    assert "python3-venv" in finding.remedy


def test_a_machine_without_screen_and_sound_can_still_show_the_demo() -> None:
    machine = replace(without("/dev/snd/*"), settings={})
    assert [the(machine, subject).state for subject in ("Screen", "Sound")] == [State.LOOK, State.LOOK]


def test_a_serial_line_closed_to_the_user_names_the_group() -> None:
    finding = the(replace(WHOLE, closed=frozenset({"/dev/ttyUSB0"})), "Serial line")
    assert finding.state is State.MISSING
    assert "dialout" in finding.remedy


def test_serial_lines_without_a_chip_behind_them_are_not_listed() -> None:
    machine = with_files(**{"/dev/ttyS0": "", "/sys/class/tty/ttyS0/type": "0\n", "/dev/ttyS1": "", "/sys/class/tty/ttyS1/type": "4\n"})
    assert [finding.seen for finding in findings(machine, "Serial line")] == ["/dev/ttyUSB0", "/dev/ttyS1"]


def test_a_slow_usb_timer_comes_with_the_command_that_mends_it() -> None:
    path = "/sys/bus/usb-serial/devices/ttyUSB0/latency_timer"
    finding = the(with_files(**{path: "16\n"}), "USB serial timer")
    assert (finding.state, finding.remedy) == (State.LOOK, f"echo 1 | sudo tee {path}")


@pytest.mark.parametrize(
    ("found", "state", "word"),
    [
        (FileSystem("ext4", 1024, 10**9), State.LOOK, "mkfs.ext4 -b 4096"),
        (FileSystem("btrfs", 4096, 10**9), State.LOOK, "ext4"),
        (FileSystem("tmpfs", 4096, 10**9), State.LOOK, "memory"),
        (FileSystem("xfs", 4096, 10**9), State.LOOK, "ext4"),
        (FileSystem("ext4", 4096, 10**6), State.MISSING, "200 MB"),
        (None, State.MISSING, "mkdir"),
    ],
)
def test_the_ledgers_folder_is_judged_by_its_file_system(found: FileSystem | None, state: State, word: str) -> None:
    finding = the(replace(WHOLE, data=found), "Ledger's folder")
    assert finding.state is state
    assert word in finding.remedy


def test_a_clock_before_this_release_was_never_set() -> None:
    assert the(replace(WHOLE, time_s=0), "Clock").state is State.MISSING
    assert the(without("/run/*"), "Clock").state is State.LOOK


def test_the_lists_that_the_doctor_reads_are_the_ones_that_set_up_installs() -> None:
    assert packages_named("# a\ndemo  git   # why\n\ntest  x11  \n") == ("git", "x11")
    assert pins_named("# 2 packages\na==1 \\\n    --hash=sha256:00\nb-c==2.0\n") == ("a", "b-c")
