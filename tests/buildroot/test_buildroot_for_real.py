"""With a real Buildroot, by hand before a release: ``KAZASHI_BUILDROOT=FOLDER python -m pytest tests/buildroot``.

It is loaded; nothing is built.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kconfiglib
import pytest

RELEASE = "2025.02."
BUILDROOT = Path(os.environ.get("KAZASHI_BUILDROOT", ""))
CONFIGS = [f"{role}_{architecture}" for role in ("validator", "kiosk") for architecture in ("x86_64", "aarch64")]
pytestmark = pytest.mark.skipif("KAZASHI_BUILDROOT" not in os.environ, reason="needs a real Buildroot: KAZASHI_BUILDROOT=FOLDER")
# Said in the stub as their answer for our boards, or as the part of a choice that we use.
ANSWERS = re.compile(
    r"BR2_(USE_|TOOLCHAIN_|HOST_GCC|STATIC_LIBS|ROOTFS_SKELETON|PACKAGE_SYSTEMD_ARCH|INSTALL_LIB|TARGET_GRUB2_(HAS|ARCH)|i386)"
)


def make(out: Path, tree: Path, *goals: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    command = ["make", "-s", "-C", str(BUILDROOT), f"O={out}", f"BR2_EXTERNAL={tree}", *goals]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=clean)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> Path:
    """An output folder of Buildroot's for the validator."""
    folder = tmp_path_factory.mktemp("out")
    make(folder, tree, "validator_x86_64_defconfig")
    return folder


def test_it_is_the_release_that_the_tree_is_written_for() -> None:
    (version,) = re.findall(r"^export BR2_VERSION := (.*)$", (BUILDROOT / "Makefile").read_text(), re.MULTILINE)
    assert version.startswith(RELEASE)


@pytest.mark.parametrize("name", CONFIGS)
def test_buildroot_loads_a_defconfig_without_a_word_and_saves_the_same(out: Path, tree: Path, tmp_path: Path, name: str) -> None:
    loaded = make(out, tree, f"{name}_defconfig")
    assert loaded.stderr == ""
    make(out, tree, "savedefconfig", f"BR2_DEFCONFIG={tmp_path / 'saved'}")
    assert (tmp_path / "saved").read_text() == (tree / "configs" / f"{name}_defconfig").read_text()


def test_buildroot_sees_our_packages_in_their_versions(out: Path, tree: Path) -> None:
    make(out, tree, "validator_x86_64_defconfig")
    info: dict[str, Any] = json.loads(make(out, tree, "show-info").stdout)
    ours = {name: each["version"] for name, each in info.items() if name.startswith("kazashi")}
    assert len(ours) == len(list((tree / "package").iterdir()))
    assert info["python-serial"]["version"] == "3.5"
    assert info["python3"]["version"].startswith("3.12.")


def test_check_package_has_nothing_to_say(tree: Path) -> None:
    files = [str(path) for path in tree.rglob("*") if path.is_file()]
    told = subprocess.run([sys.executable, BUILDROOT / "utils/check-package", "-b", *files], capture_output=True, text=True, check=False)
    if "No module named" in told.stderr:
        pytest.skip("check-package asks for python-magic and flake8")
    assert "\n0 warnings generated" in told.stdout + told.stderr


def test_the_stub_says_what_buildroot_says(out: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BR2_EXTERNAL_KAZASHI_PATH", str(tree))
    stub = kconfiglib.Kconfig(str(Path(__file__).parent / "upstream.kconfig"), warn_to_stderr=False)
    monkeypatch.setenv("srctree", str(BUILDROOT))
    monkeypatch.setenv("BR2_BASE_DIR", str(out))
    monkeypatch.setenv("BR2_VERSION_FULL", RELEASE)
    monkeypatch.setenv("HOSTARCH", "x86_64")
    real = kconfiglib.Kconfig("Config.in", warn_to_stderr=False)
    faults: list[str] = []
    for name, mine in ((each.name, each) for each in stub.unique_defined_syms if not each.name.startswith("BR2_PACKAGE_KAZASHI")):
        if name not in real.syms or not real.syms[name].nodes:
            faults.append(f"{name} is none of Buildroot's")
        elif not ANSWERS.match(name):
            theirs = real.syms[name]
            asked, told = (kconfiglib.expr_str(each.direct_dep).replace(" ", "") for each in (theirs, mine))
            if mine.type != theirs.type or not {*terms(asked)} - {"y"} <= {*terms(told)}:
                faults.append(f"{name}: Buildroot asks for {asked}, the stub for {told}")
    assert faults == []


def terms(expression: str) -> list[str]:
    """Those that must hold, and could fail to."""
    return [each for each in expression.split("&&") if "choice" not in each and not re.fullmatch(r"(\w+)\|\|!\1", each)]
