"""The Python part: the pinned wheels of ``requirements/terminal.txt`` in a folder, for another machine's Python.

The pins also hold what builds our own package on a desk (hatchling and what it needs); a vehicle only gets what ``[project]`` in
``pyproject.toml`` names, and what that needs in turn.
"""

import csv
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path

from images.command import run

PYTHON = (3, 11)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Debian 12 has glibc 2.36: a wheel for any glibc up to that one runs there.
_NEWEST_GLIBC, _OLDEST_GLIBC = 36, 17
_OLD_NAMES = {"amd64": ("manylinux2014", "manylinux2010", "manylinux1"), "arm64": ("manylinux2014",)}
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Distribution:
    """One installed distribution, as its ``dist-info`` describes it."""

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]
    folder: Path


def make(root: Path, architecture: str, into: Path) -> str:
    """Install the terminal's wheels into ``into``. Returns a remark."""
    shutil.rmtree(into, ignore_errors=True)
    run(
        (
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile", "--no-deps", "--only-binary=:all:"),
            *("--require-hashes", "--requirement", root / "requirements" / "terminal.txt", "--target", into),
            *(f"--python-version={PYTHON[0]}.{PYTHON[1]}", "--implementation=cp"),
            *(f"--abi={abi}" for abi in (f"cp{PYTHON[0]}{PYTHON[1]}", "abi3", "none")),
            *(f"--platform={name}" for name in _platforms(architecture)),
        ),
        env={"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    kept = reached({each.name: each for each in installed(into)}, wanted(root))
    for each in installed(into):
        if each.name not in kept:
            _remove(each)
    shutil.rmtree(into / "bin", ignore_errors=True)
    return ", ".join(f"{each.name} {each.version}" for each in installed(into))


def wanted(root: Path) -> list[str]:
    """What our own package asks for, as requirement lines."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [str(each) for each in project["dependencies"]]


def _platforms(architecture: str) -> Iterator[str]:
    machine = MACHINES[architecture]
    for glibc in range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1):
        yield f"manylinux_2_{glibc}_{machine}"
    for name in _OLD_NAMES[architecture]:
        yield f"{name}_{machine}"


def installed(folder: Path) -> tuple[Distribution, ...]:
    """The distributions below ``folder``, by name."""
    found = (_described(path.parent) for path in sorted(folder.glob("*.dist-info/METADATA")))
    return tuple(sorted(found, key=lambda each: each.name))


def _described(folder: Path) -> Distribution:
    about = message_from_string((folder / "METADATA").read_text(encoding="utf-8"))
    classified = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if line.startswith("License :: ")]
    licences = [about.get("License-Expression", ""), ", ".join(classified), about.get("License", "")]
    return Distribution(
        name=_canonical(str(about["Name"])),
        version=str(about["Version"]),
        licence=next((text.strip().splitlines()[0][:80] for text in licences if text.strip()), ""),
        needs=tuple(str(line) for line in about.get_all("Requires-Dist", [])),
        folder=folder,
    )


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def reached(there: dict[str, Distribution], wanted: list[str]) -> set[str]:
    """The names of what ``wanted`` (requirement lines) needs, directly or not; extras are nobody's need."""
    found: set[str] = set()
    lines = list(wanted)
    while lines:
        line = lines.pop()
        match = _NAME.match(line)
        if match is None or "extra ==" in line:
            continue
        name = _canonical(match[0])
        if name in there and name not in found:
            found.add(name)
            lines += there[name].needs
    return found


def _remove(each: Distribution) -> None:
    """Its files (``RECORD`` names them), and the folders that are empty afterwards."""
    parent = each.folder.parent
    with (each.folder / "RECORD").open(encoding="utf-8", newline="") as file:
        names = [row[0] for row in csv.reader(file) if row]
    for name in names:
        path = parent / name
        if path.resolve().is_relative_to(parent.resolve()):
            path.unlink(missing_ok=True)
    for name in sorted({str(Path(name).parent) for name in names}, key=len, reverse=True):
        folder = parent / name
        while folder != parent and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
