"""The image in a container: the real root, the real systemd, this machine's kernel. A second to start, and nothing emulated.

The verified root is mounted as it is (the hash tree behind it is not asked), with memory over /var as on a vehicle. A container has not:
the kernel of the image, the hash check, devices that come and go.
"""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from images.command import ImageFailure, run
from images.guest import LateError


class Container:
    """A running container, to be used in a ``with``. ``binds``: ``HOST:CONTAINER`` paths; ``data``: the folder that is its /data."""

    def __init__(self, root: Path, data: Path, binds: Sequence[str] = (), arguments: Sequence[str] = ()) -> None:
        self.started_s = 0.0
        self._root, self._data, self._binds, self._arguments = root, data, binds, arguments

    def __enter__(self) -> Self:
        """Start it."""
        self._place = tempfile.TemporaryDirectory(prefix="kazashi-container-")
        self._tree = Path(self._place.name)
        run(("mount", "-t", "squashfs", "-o", "loop,ro", self._root, self._tree))
        self._errors = tempfile.TemporaryFile()
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(
            [
                *(
                    "setpriv",
                    "--pdeathsig",
                    "TERM",
                    "systemd-nspawn",
                    "--register=no",
                    "--keep-unit",
                    "--quiet",
                    "--boot",
                    f"--directory={self._tree}",
                    "--read-only",
                ),
                *("--volatile=state", "--private-network", "--console=pipe", "--kill-signal=SIGRTMIN+3", f"--bind={self._data}:/data"),
                *(f"--bind={each}" for each in self._binds),
                *self._arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        self._init = self._first_process()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it, and unmount."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._errors.close()
        run(("umount", "--lazy", self._tree))
        self._place.cleanup()

    def _first_process(self) -> int:
        """The container's first process: nspawn's child's child, as this machine counts it."""
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            if self._process.poll() is not None:
                self._errors.seek(0)
                raise ImageFailure(f"systemd-nspawn ended: {self._errors.read().decode('utf-8', 'replace').strip()}")
            for child in _children(self._process.pid):
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return child
            time.sleep(0.02)
        raise LateError("the container's systemd did not start within 30 s")

    def try_to(self, *command: str, limit_s: float = 60) -> tuple[str, int]:
        """What a command in the container printed, and its exit status."""
        told = subprocess.run(
            ["nsenter", "-t", str(self._init), "-m", "-p", "-u", "-i", "-n", "-C", *command],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
        return told.stdout + told.stderr, told.returncode

    def run(self, *command: str, limit_s: float = 60) -> str:
        """What a command printed; raises ``ImageFailure`` with it when its exit status is not 0."""
        text, status = self.try_to(*command, limit_s=limit_s)
        if status:
            raise ImageFailure(f"in the container, exit status {status} of: {' '.join(command)}\n{text}")
        return text

    def wait(self, state: Sequence[str], limit_s: float) -> str:
        """The state of the system (systemctl(1), is-system-running) when it is one of these; raises ``LateError``."""
        end_s = time.monotonic() + limit_s
        said = ""
        while time.monotonic() < end_s:
            said = self.try_to("systemctl", "is-system-running")[0].strip()
            if said in state:
                return said
            time.sleep(0.05)
        raise LateError(f"after {limit_s:.0f} s the container is '{said}' and not one of {', '.join(state)}")


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []
