"""The tree under test, bent copies of it, and what a stand-in for Buildroot makes of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import kconfiglib
import pytest

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1] / "buildroot-config"


class Bend(Protocol):
    def __call__(self, file: str, old: str, new: str) -> Path: ...


@pytest.fixture(scope="session")
def tree() -> Path:
    return TREE


@pytest.fixture
def bend(tmp_path: Path) -> Bend:
    """A copy of the tree in which one file says something else."""

    def bent(file: str, old: str, new: str) -> Path:
        copy = tmp_path / "buildroot-config"
        shutil.copytree(TREE, copy)
        (tmp_path / "systemd").symlink_to(TREE.parent / "systemd")
        text = (copy / file).read_text(encoding="utf-8")
        assert old in text, f"{file} does not say {old!r} any more"
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")
        return copy

    return bent


@pytest.fixture(scope="session")
def packages() -> Callable[[Path, str], dict[str, dict[str, str]]]:
    """What GNU make finds in a tree's packages, by name."""

    def found(tree: Path, architecture: str) -> dict[str, dict[str, str]]:
        # A make that runs this test hands its own flags down.
        clean = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
        told = subprocess.run(
            ["make", "-s", "-f", str(HERE / "stand_in.mk"), f"BR2_EXTERNAL_KAZASHI_PATH={tree}", f"ARCH={architecture}"],
            capture_output=True,
            text=True,
            check=True,
            env=clean,
        )
        assert told.stderr == ""
        return {each["name"]: each for each in map(json.loads, told.stdout.splitlines())}

    return found


@pytest.fixture
def kconfig(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """The stub of Buildroot with a tree below it, as a ``kconfiglib.Kconfig``. Raises ``kconfiglib.KconfigError``."""

    def loaded(tree: Path) -> Any:
        monkeypatch.setenv("BR2_EXTERNAL_KAZASHI_PATH", str(tree))
        monkeypatch.setenv("CONFIG_", "")
        monkeypatch.setenv("KCONFIG_CONFIG_HEADER", "")
        found = kconfiglib.Kconfig(str(HERE / "upstream.kconfig"), warn_to_stderr=False)
        found.warn_assign_undef = True
        return found

    return loaded
