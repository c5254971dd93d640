"""Adapter: what the health check asks of systemd and of RAUC, by their own commands."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from firmware.health import SlotTrouble, Standing
from ledger.beside import flush_folder

_PATIENCE_S = 60


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
    """``firmware.health.Slots``, by ``rauc status mark-good`` (rauc(1)); it speaks with RAUC's service over D-Bus."""

    def mark_good(self) -> None:
        try:
            told = _run(["rauc", "status", "mark-good"])
        except (OSError, subprocess.SubprocessError) as error:
            raise SlotTrouble(f"rauc cannot be run: {error}") from error
        if told.returncode:
            lines = told.stderr.strip().splitlines()
            raise SlotTrouble(f"rauc says: {lines[-1] if lines else f'status {told.returncode}'}")


class TrialFile:
    """``firmware.health.Trial``: the update agent leaves the file ``mark`` before it starts the machine into another system.

    ``request``: a file that systemd waits for (``kazashi-back.path``).
    """

    def __init__(self, mark: Path, request: Path) -> None:
        self._mark = mark
        self._request = request

    def running(self) -> bool:
        return self._mark.exists()

    def over(self) -> None:
        with suppress(OSError):  # a disk that fails here fails the check already; then the next start is one more trial
            self._mark.unlink(missing_ok=True)
            flush_folder(self._mark.parent)

    def go_back(self) -> None:
        if not self._mark.exists():  # else it would go round for ever
            self._request.touch()


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
