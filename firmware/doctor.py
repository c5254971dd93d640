"""What a machine lacks for Kazashi, and how to get it: a table of checks over what can be seen of a machine.

A check only looks. It opens no serial line and asks no reader anything, because a byte sent to the wrong device can do harm and the doctor
is run by people who do not know yet what is plugged in where. ``kazashi reader qualify`` is what talks to a reader.

Three findings are told apart. *OK*. *MISSING*: without it ``make demo`` or a tap cannot work; the exit status says so. *LOOK*: it works
here, but not as it should on a vehicle (a desk has no screen, a laptop has btrfs), or nobody can tell from outside.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

OLDEST_PYTHON = (3, 11)
# A clock that shows an earlier day than this release was never set. 2026-01-01T00:00:00Z, Unix seconds.
RELEASED_S = 1_767_225_600
# A thirty-day ledger, its ballast file and a day's log fit many times over.
ENOUGH_BYTES = 200_000_000
PAGE_BYTES = 4096
FONT_FILES = ("BIZUDGothic-Regular.ttf", "BIZUDGothic-Bold.ttf")
SERIAL_LINES = ("/dev/ttyUSB*", "/dev/ttyACM*", "/dev/ttyAMA*", "/dev/ttyS*")


class State(Enum):
    """How one thing stands."""

    OK = "ok"
    LOOK = "look"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: what was looked at, how it stands, what was seen, and what to do (empty when nothing is)."""

    subject: str
    state: State
    seen: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class FileSystem:
    """The file system under a folder: its type as the kernel names it, its block size and free space in bytes."""

    kind: str
    block_bytes: int
    free_bytes: int


class Machine(Protocol):
    """What can be seen of a machine from outside, without asking a device anything."""

    @property
    def python(self) -> tuple[int, int]:
        """The version of the running Python."""
        ...

    def now_s(self) -> float:
        """The wall clock, Unix seconds."""
        ...

    def package(self, name: str) -> bool | None:
        """Whether a Debian package is installed; None where there is no dpkg."""
        ...

    def distribution(self, name: str) -> str | None:
        """The version of an installed Python distribution."""
        ...

    def paths(self, pattern: str) -> Sequence[str]:
        """The paths that fit a shell pattern, sorted."""
        ...

    def text(self, path: str) -> str | None:
        """What a small file says; None when it cannot be read."""
        ...

    def may_use(self, path: str) -> bool:
        """Whether this user may read and write a path."""
        ...

    def setting(self, name: str) -> str:
        """An environment variable, or the empty text."""
        ...

    def file_system(self, folder: str) -> FileSystem | None:
        """The file system a folder lies on; None when there is no such folder."""
        ...


@dataclass(frozen=True, slots=True)
class Wants:
    """What this tree asks of a machine: Debian packages, Python distributions, the folder of clips, the folder of the ledger."""

    packages: tuple[str, ...]
    distributions: tuple[str, ...]
    clips: str
    data: str


Check = Callable[[Machine, Wants], Iterator[Finding]]


def packages_named(text: str) -> tuple[str, ...]:
    """The Debian packages that the text of ``apt-packages.txt`` names (second word of each line; ``#`` starts a comment).

    Those for building an image are left out: whoever builds one is told by the build.
    """
    words = (line.split("#")[0].split() for line in text.splitlines())
    return tuple(line[1] for line in words if len(line) > 1 and line[0] != "image")


def pins_named(text: str) -> tuple[str, ...]:
    """The Python distributions that the text of a ``requirements/*.txt`` pins."""
    return tuple(line.split("==")[0] for line in text.splitlines() if "==" in line and not line.startswith((" ", "#")))


def examine(machine: Machine, wants: Wants) -> tuple[Finding, ...]:
    """Every finding, in the order of the table."""
    return tuple(finding for check in CHECKS for finding in check(machine, wants))


def _python(machine: Machine, _: Wants) -> Iterator[Finding]:
    seen = ".".join(map(str, machine.python))
    if machine.python >= OLDEST_PYTHON:
        yield Finding("Python", State.OK, seen)
    else:
        yield Finding("Python", State.MISSING, f"{seen} is too old", "install Python 3.11 or newer (Debian 12 has it)")


def _debian_packages(machine: Machine, wants: Wants) -> Iterator[Finding]:
    states = {name: machine.package(name) for name in wants.packages}
    absent = [name for name, there in states.items() if there is False]
    if None in states.values():
        yield Finding("Debian packages", State.LOOK, "this is not Debian", "find what stands for: " + " ".join(wants.packages))
    elif absent:
        yield Finding("Debian packages", State.MISSING, " ".join(absent), "sudo apt-get install " + " ".join(absent))
    else:
        yield Finding("Debian packages", State.OK, f"all {len(states)} of apt-packages.txt")


def _python_packages(machine: Machine, wants: Wants) -> Iterator[Finding]:
    absent = [name for name in wants.distributions if machine.distribution(name) is None]
    if absent:
        yield Finding("Python packages", State.MISSING, " ".join(absent), "make demo (or: tools/set_up demo)")
    else:
        yield Finding("Python packages", State.OK, f"all {len(wants.distributions)} of requirements/terminal.txt")


def _fonts(machine: Machine, _: Wants) -> Iterator[Finding]:
    absent = [name for name in FONT_FILES if not machine.paths(f"/usr/share/fonts/**/{name}")]
    if absent:
        yield Finding("Fonts", State.MISSING, " ".join(absent), "sudo apt-get install fonts-morisawa-bizud-gothic")
    else:
        yield Finding("Fonts", State.OK, "BIZ UD Gothic")


def _clips(machine: Machine, wants: Wants) -> Iterator[Finding]:
    count = len(machine.paths(f"{wants.clips}/**/*.wav"))
    if count:
        yield Finding("Spoken words", State.OK, f"{count} clips")
    else:
        yield Finding("Spoken words", State.MISSING, f"no clips in {wants.clips}", "kazashi words render")


def _serial_lines(machine: Machine, _: Wants) -> Iterator[Finding]:
    lines = [path for pattern in SERIAL_LINES for path in machine.paths(pattern) if _is_wired(machine, path)]
    if not lines:
        yield Finding("Serial lines", State.LOOK, "none", "the demo needs none; a USB adapter with a PN532 appears as /dev/ttyUSB0")
    for path in lines:
        if machine.may_use(path):
            yield Finding("Serial line", State.OK, path)
        else:
            yield Finding("Serial line", State.MISSING, f"{path} is closed to you", "sudo usermod -aG dialout $USER, then log in again")


def _is_wired(machine: Machine, path: str) -> bool:
    """Linux makes /dev/ttyS0 to ttyS3 whether or not there is a UART; type 0 is "none" (PORT_UNKNOWN, linux/serial_core.h)."""
    kind = machine.text(f"/sys/class/tty/{path.removeprefix('/dev/')}/type")
    return kind is None or kind.strip() != "0"


def _latency_timers(machine: Machine, _: Wants) -> Iterator[Finding]:
    for path in machine.paths("/sys/bus/usb-serial/devices/*/latency_timer"):
        line = path.split("/")[-2]
        told = (machine.text(path) or "").strip()
        if told == "1":
            yield Finding("USB serial timer", State.OK, f"{line}: 1 ms")
        else:
            yield Finding("USB serial timer", State.LOOK, f"{line}: each answer may wait {told} ms", f"echo 1 | sudo tee {path}")


def _driver_keys(machine: Machine, _: Wants) -> Iterator[Finding]:
    devices = machine.paths("/dev/input/event*")
    if not devices:
        yield Finding("Driver's keypad", State.LOOK, "no input device", "the demo needs none")
    elif any(machine.may_use(path) for path in devices):
        yield Finding("Driver's keypad", State.OK, f"{len(devices)} input devices")
    else:
        yield Finding("Driver's keypad", State.LOOK, "input devices are closed to you", "sudo usermod -aG input $USER, then log in again")


def _screen(machine: Machine, _: Wants) -> Iterator[Finding]:
    if machine.setting("WAYLAND_DISPLAY") or machine.setting("DISPLAY"):
        yield Finding("Screen", State.OK, "a window")
    elif cards := [path for path in machine.paths("/dev/dri/card*") if machine.may_use(path)]:
        yield Finding("Screen", State.OK, cards[0])
    else:
        yield Finding("Screen", State.LOOK, "none", "the demo draws its pictures into demo-out/ instead")


def _sound(machine: Machine, _: Wants) -> Iterator[Finding]:
    if machine.paths("/dev/snd/pcmC*p"):
        yield Finding("Sound", State.OK, "a sound card")
    else:
        yield Finding("Sound", State.LOOK, "no sound card", "the demo writes what is heard into demo-out/ instead")


def _data_folder(machine: Machine, wants: Wants) -> Iterator[Finding]:
    found = machine.file_system(wants.data)
    if found is None:
        yield Finding("Ledger's folder", State.MISSING, f"there is no {wants.data}", f"mkdir -p {wants.data}")
        return
    seen = f"{wants.data} on {found.kind}, blocks of {found.block_bytes} bytes, {found.free_bytes // 1_000_000} MB free"
    if not machine.may_use(wants.data):
        yield Finding("Ledger's folder", State.MISSING, f"{wants.data} is closed to you", f"sudo chown $USER {wants.data}")
    elif found.free_bytes < ENOUGH_BYTES:
        yield Finding("Ledger's folder", State.MISSING, seen, f"make {ENOUGH_BYTES // 1_000_000} MB free")
    elif found.kind == "ext4" and found.block_bytes == PAGE_BYTES:
        yield Finding("Ledger's folder", State.OK, seen)
    else:
        yield Finding("Ledger's folder", State.LOOK, seen, _better_file_system(found))


def _better_file_system(found: FileSystem) -> str:
    match found.kind:
        case "ext4":
            return "for a vehicle make it with 4096-byte blocks (mkfs.ext4 -b 4096): a smaller block can tear a database page"
        case "btrfs":
            return "for a vehicle use ext4: btrfs needs two flushes and eight times the bytes for each ride"
        case "tmpfs" | "ramfs":
            return "this is memory: nothing here survives the power; use a disk"
        case _:
            return "for a vehicle use ext4 with 4096-byte blocks: the power-cut proofs were made on it"


def _clock(machine: Machine, _: Wants) -> Iterator[Finding]:
    if machine.now_s() < RELEASED_S:
        yield Finding("Clock", State.MISSING, "it shows a day before this release", "sudo timedatectl set-ntp true, or set it by hand")
    elif machine.paths("/run/systemd/timesync/synchronized") or machine.paths("/run/chrony/chronyd.sock"):
        yield Finding("Clock", State.OK, "set from the network")
    else:
        yield Finding("Clock", State.LOOK, "plausible, but nothing keeps it right", "sudo timedatectl set-ntp true")
    if not machine.paths("/sys/class/rtc/rtc*"):
        yield Finding(
            "Battery clock", State.LOOK, "none", "after a power cut the time is only a lower bound until GNSS or the network sets it"
        )


CHECKS: tuple[Check, ...] = (
    _python,
    _debian_packages,
    _python_packages,
    _fonts,
    _clips,
    _serial_lines,
    _latency_timers,
    _driver_keys,
    _screen,
    _sound,
    _data_folder,
    _clock,
)
