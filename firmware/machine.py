"""Adapter: the machine this runs on, as the doctor sees it. Only looks."""

import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from firmware.doctor import FileSystem


class LinuxMachine:
    """The machine we run on (``firmware.doctor.Machine``)."""

    @property
    def python(self) -> tuple[int, int]:
        return sys.version_info[0], sys.version_info[1]

    def now_s(self) -> float:
        return time.time()

    def package(self, name: str) -> bool | None:
        command = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return told.stdout == "installed"

    def distribution(self, name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    def paths(self, pattern: str) -> Sequence[str]:
        return sorted(map(str, Path("/").glob(pattern.removeprefix("/"))))

    def text(self, path: str) -> str | None:
        try:
            return Path(path).read_text()
        except (OSError, UnicodeDecodeError):
            return None

    def may_use(self, path: str) -> bool:
        return os.access(path, os.R_OK | os.W_OK)

    def setting(self, name: str) -> str:
        return os.environ.get(name, "")

    def file_system(self, folder: str) -> FileSystem | None:
        try:
            about = os.statvfs(folder)
        except OSError:
            return None
        return FileSystem(_kind(Path(folder).resolve()), about.f_bsize, about.f_bavail * about.f_frsize)


def _kind(folder: Path) -> str:
    """The type of the nearest mount above ``folder``. /proc/self/mounts: device, place, type (proc(5)); a space is octal 040."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    above = [(Path(place.replace("\\040", " ")), kind) for _, place, kind, *_ in mounts]
    return max(
        (found for found in above if folder.is_relative_to(found[0])), key=lambda found: len(found[0].parts), default=(folder, "unknown")
    )[1]
