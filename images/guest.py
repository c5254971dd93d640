"""The image in QEMU: a whole machine in software, started from the disk as a vehicle starts from it.

Always TCG. A machine's KVM device may be there and still hang a stock kernel; a test that tries it out waits for ever, so nobody looks.
Every wait has a pattern and a time; what the guest wrote on its serial line is kept in a file, and a guest that its test forgot ends with
us.
"""

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from images.command import ImageFailure

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_ESCAPES = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|\r|\x00")
_KNOCK_S = 3.0
_ASK_S = 0.5
# A line that came before the shell was ready may have lost any part of itself: nothing in it is quoted, and Ctrl-C ends what was left open.
_KNOCK = b"\x03\nk=cked; stty -echo cols 500; PS1=; PS2=; set +o history; bind set\\ enable-bracketed-paste\\ off; echo kno$k\n"


class LateError(ImageFailure):
    """What was waited for did not come; the text holds the end of what did."""


@dataclass(frozen=True, slots=True)
class Plug:
    """What is plugged into the guest besides its disk: QEMU's own words for it."""

    words: tuple[str, ...]


def serial_reader(link: Path) -> Plug:
    """A USB serial adapter; what is on its other end is the terminal device ``link`` here (``kazashi twin`` serves one)."""
    return Plug(("-chardev", f"serial,id=reader,path={link}", "-device", "usb-serial,bus=usb.0,chardev=reader"))


def keypad() -> Plug:
    """A USB keyboard, for ``Guest.press``."""
    return Plug(("-device", "usb-kbd,bus=usb.0"))


def stick(path: Path) -> Plug:
    """A USB stick with this content."""
    return Plug(("-drive", f"if=none,id=stick,format=raw,file={path}", "-device", "usb-storage,bus=usb.0,drive=stick,removable=on"))


def clock(utc: str) -> Plug:
    """The battery's clock says this at power-on (``2026-06-01T07:00:00``)."""
    return Plug(("-rtc", f"base={utc},clock=vm"))


def sound_file(path: Path) -> Plug:
    """A sound card; what is played is written to ``path`` (WAV)."""
    return Plug(("-audiodev", f"wav,id=sound,path={path}", "-device", "intel-hda", "-device", "hda-output,audiodev=sound"))


def network(guest_port: int, host_port: int) -> Plug:
    """A network with nobody in it but us: ``guest_port`` is reached on 127.0.0.1 at ``host_port``."""
    net = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{host_port}-:{guest_port}"
    return Plug(("-netdev", net, "-device", "virtio-net-pci,netdev=net,romfile="))


def machine(disk: Path | str, variables: Path, plugs: Sequence[Plug], *, memory_mb: int, cores: int) -> list[str]:
    """QEMU's command line for a vehicle's board, without what looks into it from outside.

    ``disk``: a file, or QEMU's words for one that somebody serves. The guest's disk has a write-back cache, so it sends flushes.
    """
    return [
        # Whatever ends us ends the guest too, or it would hold its disk for ever.
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi"),
        *("-cpu", "qemu64,+rdrand", "-smp", str(cores), "-m", str(memory_mb), "-nodefaults", "-no-user-config"),
        *("-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}", "-drive", f"if=pflash,format=raw,file={variables}"),
        *("-drive", f"if=virtio,format=raw,file={disk},cache=writeback", "-device", "virtio-rng-pci"),
        *("-device", "virtio-vga,xres=800,yres=480", "-device", "qemu-xhci,id=usb"),
        *(word for plug in plugs for word in plug.words),
    ]


class Guest:
    """A running guest, to be used in a ``with``. ``folder`` keeps its serial log, its pictures and its firmware's variables.

    ``disk`` is written to: give it a copy. ``cores``: one is enough, and leaves the other to a second guest.
    """

    def __init__(self, disk: Path | str, folder: Path, plugs: Sequence[Plug] = (), *, memory_mb: int = 768, cores: int = 1) -> None:
        self.folder = folder
        self.started_s = 0.0
        self._disk, self._plugs, self._memory_mb, self._cores = disk, plugs, memory_mb, cores
        self._heard = ""
        self._count = 0

    def __enter__(self) -> Self:
        """Switch it on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        variables = self.folder / "firmware-variables"
        # New ones each time: what the firmware noted down about other plugs sends it astray.
        shutil.copyfile(VARIABLES, variables)
        # A socket's name has at most 107 bytes, and a build folder may lie deep.
        self._place = tempfile.TemporaryDirectory(prefix="kazashi-guest-")
        place = Path(self._place.name)
        self._errors = (self.folder / "qemu.log").open("wb")
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(self._command(variables, place), stdin=subprocess.DEVNULL, stderr=self._errors)
        self._monitor = self._connected(place / "monitor")
        self._answers = self._monitor.makefile("r", encoding="utf-8")
        self._answers.readline()
        self.ask_monitor("qmp_capabilities")
        self._serial = self._connected(place / "serial")
        self.ask_monitor("cont")
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        """Pull the plug."""
        self.kill()
        for each in (self._serial, self._answers, self._monitor, self._errors):
            each.close()
        self._place.cleanup()

    def kill(self) -> None:
        """Pull the plug: what the guest had not yet on its disk is lost. QEMU ends in good order, so what was heard is a whole file."""
        if self._process.poll() is None:
            try:
                self.ask_monitor("quit")
                self._process.wait(10)
            except (OSError, ImageFailure, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait(10)

    def _command(self, variables: Path, place: Path) -> list[str]:
        serial = f"socket,id=serial,path={place / 'serial'},server=on,wait=off,logfile={self.folder / 'serial.log'}"
        ours = (
            "-display",
            "none",
            "-S",
            "-chardev",
            serial,
            "-serial",
            "chardev:serial",
            "-qmp",
            f"unix:{place / 'monitor'},server=on,wait=off",
        )
        return [*machine(self._disk, variables, self._plugs, memory_mb=self._memory_mb, cores=self._cores), *ours]

    def _connected(self, path: Path) -> socket.socket:
        found = socket.socket(socket.AF_UNIX)
        end_s = time.monotonic() + 20
        while True:
            try:
                found.connect(str(path))
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end_s:
                    raise ImageFailure(f"QEMU did not start: {(self.folder / 'qemu.log').read_text().strip()}") from None
                time.sleep(0.05)
            else:
                return found

    def ask_monitor(self, command: str, **arguments: object) -> object:
        """A QMP command's answer."""
        self._monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            try:
                line = self._answers.readline()
            except OSError:
                line = ""
            if not line:
                raise ImageFailure(f"QEMU has ended: {(self.folder / 'qemu.log').read_text(errors='replace').strip()}")
            told = cast("dict[str, object]", json.loads(line))
            if "error" in told:
                raise ImageFailure(f"QEMU refuses {command}: {told['error']}")
            if "return" in told:
                return told["return"]

    @property
    def running(self) -> bool:
        """Whether the machine is on."""
        return self._process.poll() is None

    def wait(self, pattern: str, limit_s: float) -> re.Match[str]:
        """The next text on the serial line that fits; what was before it is forgotten. Raises ``LateError``."""
        wanted = re.compile(pattern)
        end_s = time.monotonic() + limit_s
        while (found := wanted.search(self._heard)) is None:
            self._hear(pattern, end_s, limit_s)
        self._heard = self._heard[found.end() :]
        return found

    def _hear(self, pattern: str, end_s: float, limit_s: float) -> None:
        """Add what comes next; a terminal's escapes are left out, also where a piece ends in the middle of one."""
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise LateError(f"after {limit_s:.0f} s there was no '{pattern}'; the guest's last words: …{self._heard[-600:]!r}")
        self._serial.settimeout(left_s)
        try:
            heard = self._serial.recv(65536)
        except TimeoutError:
            return
        if not heard:
            raise LateError(f"the guest ended before '{pattern}'; its last words: …{self._heard[-600:]!r}")
        tail = self._heard[-16:] + heard.decode("utf-8", "replace")
        self._heard = self._heard[:-16] + _ESCAPES.sub("", tail)

    def wait_off(self, limit_s: float) -> None:
        """Return when the machine has switched itself off."""
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise LateError(f"the machine was still on after {limit_s:.0f} s") from None

    def open_shell(self, limit_s: float = 120) -> None:
        """Wait for the root shell of a ``dev`` image and make it a quiet one.

        It is asked until it answers, because a prompt drowns in the boot's log.
        """
        end_s = time.monotonic() + limit_s
        while True:
            self._serial.sendall(_KNOCK)
            try:
                self.wait("knocked\n", min(_KNOCK_S, max(0.0, end_s - time.monotonic())))
            except LateError:
                if time.monotonic() >= end_s or not self.running:
                    raise
            else:
                break
        self.run("dmesg -n 1")

    def send(self, command: str) -> None:
        """Type a command that ends the shell, such as a reboot; whatever comes after is for ``wait``."""
        self._serial.sendall(f"{command}\n".encode())

    def run(self, command: str, limit_s: float = 60) -> str:
        """What a command in the shell printed (both streams); raises ``ImageFailure`` with it when its exit status is not 0."""
        text, status = self.try_to(command, limit_s)
        if status:
            raise ImageFailure(f"in the guest, exit status {status} of: {command}\n{text}")
        return text

    def try_to(self, command: str, limit_s: float = 60) -> tuple[str, int]:
        """What a command in the shell printed, and its exit status."""
        self._count += 1
        begin, end = f"<{self._count}<", f">{self._count}>"
        # The marks are written in two halves, so that an echo of the command is not taken for its answer.
        self._serial.sendall(
            f"printf '%s%s\\n' '{begin[0]}' '{begin[1:]}'; {command} 2>&1; printf '%s%s%s\\n' '{end[0]}' '{end[1:]}' $?\n".encode()
        )
        end_s = time.monotonic() + limit_s
        self.wait(re.escape(begin) + "\n", limit_s)
        closing = re.compile(re.escape(end) + "([0-9]+)\n")
        searched = 0
        while (found := closing.search(self._heard, searched)) is None:
            searched = max(0, len(self._heard) - 64)
            self._hear(end, end_s, limit_s)
        text, self._heard = self._heard[: found.start()], self._heard[found.end() :]
        return text.removesuffix("\n"), int(found[1])

    def wait_for(self, what: str, command: str, limit_s: float) -> str:
        """What a command in the shell printed, once its exit status is 0; raises ``LateError``, which says that ``what`` did not come."""
        end_s = time.monotonic() + limit_s
        while True:
            text, status = self.try_to(command, max(60.0, end_s - time.monotonic()))
            if status == 0:
                return text
            if time.monotonic() > end_s:
                raise LateError(f"after {limit_s:.0f} s still not: {what}; {command} said: {text}")
            time.sleep(_ASK_S)

    def press(self, key: str) -> None:
        """Press a key of the ``keypad`` (QEMU's name of it: ``num_lock``, ``kp_enter``, ``kp_1``)."""
        self.ask_monitor("send-key", keys=[{"type": "qcode", "data": key}], **{"hold-time": 120})

    def picture(self, name: str) -> Path:
        """What the screen shows, as a PNG in the folder."""
        path = self.folder / f"{name}.png"
        self.ask_monitor("screendump", filename=str(path), format="png")
        return path
