"""Adapter: what the health check, the update agent and the counting ask of systemd and of RAUC, by their own commands."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from firmware.health import SlotTrouble, Standing
from firmware.updater import InstallFailed, InstallRefused
from ledger.beside import flush_folder

_PATIENCE_S = 60
_INSTALL_S = 30 * 60
_LONGEST_ENTRY = 64 * 1024
_REFUSALS = re.compile(r"signature|compatible|hook|manifest|certificate|bundle format|verif", re.IGNORECASE)
"""What RAUC's last word has in it when the bundle is at fault and not the machine."""


class SystemdUnits:
    """``firmware.health.Units``, by ``systemctl show`` (systemctl(1))."""

    def standing(self, unit: str) -> Standing:
        try:
            told = _run(["systemctl", "show", unit, "--property=ActiveState,StatusText"])
        except (OSError, subprocess.SubprocessError) as error:
            return Standing(works=False, status=f"systemd cannot be asked: {error}")
        facts = {name: value for name, _, value in (line.partition("=") for line in told.stdout.splitlines())}
        state = facts.get("ActiveState", "")
        return Standing(state == "active", state == "failed", facts.get("StatusText", ""))


class RaucSlots:
    """``firmware.health.Slots``, by ``rauc status mark-good`` (rauc(1)); it speaks with RAUC's service over D-Bus.

    ``good``: a file that then says so to the update agent, until the next start.
    """

    def __init__(self, good: Path | None = None) -> None:
        self._good = good

    def mark_good(self) -> None:
        try:
            told = _run(["rauc", "status", "mark-good"])
        except (OSError, subprocess.SubprocessError) as error:
            raise SlotTrouble(f"rauc cannot be run: {error}") from error
        if told.returncode:
            lines = told.stderr.strip().splitlines()
            raise SlotTrouble(f"rauc says: {lines[-1] if lines else f'status {told.returncode}'}")
        if self._good is not None:
            with suppress(OSError):  # then the word about this update comes with the next start
                self._good.touch()


@dataclass(frozen=True, slots=True)
class RaucInstaller:
    """``firmware.updater.Installer`` of the bundle in the file ``bundle``."""

    bundle: Path

    def install(self) -> None:
        self.facts(self.bundle)
        _rauc(["rauc", "install", str(self.bundle)], _INSTALL_S)

    @staticmethod
    def facts(bundle: Path) -> tuple[str, str]:
        """Compatible and version, of a bundle whose signature holds. Raises ``InstallRefused`` and ``InstallFailed``."""
        return RaucInstaller.told(bundle, verify=True)

    @staticmethod
    def told(bundle: Path, *, verify: bool = False) -> tuple[str, str]:
        """The same; without ``verify`` for a machine that does not know by whom bundles are signed."""
        told = _rauc(["rauc", "info", "--output-format=json", *(() if verify else ("--no-verify",)), str(bundle)], _PATIENCE_S)
        try:
            found: object = json.loads(told)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InstallRefused("rauc says nothing about this bundle")
        facts = cast("dict[str, object]", found)
        return str(facts.get("compatible", "")), str(facts.get("version", ""))


def _rauc(command: Sequence[str], patience_s: int) -> str:
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience_s)
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallFailed(f"rauc cannot be run: {error}") from error
    if told.returncode == 0:
        return told.stdout
    said = told.stderr.strip() or told.stdout.strip()
    last = said.splitlines()[-1] if said else f"status {told.returncode}"
    raise (InstallRefused if _REFUSALS.search(said) else InstallFailed)(f"rauc says: {last}")


class TrialFile:
    """``firmware.health.Trial``: the update agent leaves the file ``mark`` before it starts the machine into another system.

    ``request``: a file that systemd waits for (``kazashi-back.path``).
    """

    def __init__(self, mark: Path, request: Path) -> None:
        self._mark = mark
        self._failed = mark.with_name("failed")
        self._request = request

    def running(self) -> bool:
        return self._mark.exists()

    def begin(self) -> None:
        """The next start is one, durably. Raises ``OSError``."""
        self._failed.unlink(missing_ok=True)
        self._mark.touch()
        flush_folder(self._mark.parent)

    def failed(self) -> bool:
        """Whether the last one was given up."""
        return self._failed.exists()

    def over(self) -> None:
        with suppress(OSError):  # a disk that fails here fails the check already; then the next start is one more trial
            self._mark.unlink(missing_ok=True)
            flush_folder(self._mark.parent)

    def go_back(self) -> None:
        if self._mark.exists():  # else it would go round for ever
            return
        with suppress(OSError):  # then the update agent tries it again, three times at most
            self._failed.touch()
            flush_folder(self._failed.parent)
        self._request.touch()


class JournalUnread(Exception):
    """The journal could not be read; the message says why."""


class Journal:
    """What journald holds, by journalctl(1), and what ext4 counts by itself (Documentation/ABI/testing/sysfs-fs-ext4)."""

    def __init__(self, command: Sequence[str] = ("journalctl",), ext4: Path = Path("/sys/fs/ext4")) -> None:
        self._command = tuple(command)
        self._ext4 = ext4

    def entries(self, cursor: str, fields: Sequence[str], most: int) -> Iterator[Mapping[str, object]]:
        """``most`` entries, from the one at ``cursor`` on (that one too, if it is still there), or from the oldest.

        journalctl is ended with them. Raises ``JournalUnread``.
        """
        place = (f"--cursor={cursor}",) if cursor else ()
        command = [*self._command, "--output=json", f"--output-fields={','.join(fields)}", "--no-pager", "--quiet", *place]
        try:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
                told, said = cast("IO[bytes]", reading.stdout), cast("IO[bytes]", reading.stderr)
                given = 0
                while given < most and (line := told.readline(_LONGEST_ENTRY)):
                    with suppress(ValueError):
                        found: object = json.loads(line)
                        if isinstance(found, dict):
                            yield cast("dict[str, object]", found)
                            given += 1
                if given == most:
                    reading.kill()
                elif reading.wait():
                    lines = said.read(_LONGEST_ENTRY).decode(errors="replace").strip().splitlines()
                    raise JournalUnread(f"journalctl says: {lines[-1] if lines else f'status {reading.returncode}'}")
        except OSError as error:
            raise JournalUnread(f"journalctl cannot be run: {error}") from error

    def disk_errors(self) -> int:
        """ext4's errors since the last check of each file system, together."""
        found = 0
        for file in self._ext4.glob("*/errors_count"):
            with suppress(OSError, ValueError):
                found += int(file.read_text())
        return found


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
