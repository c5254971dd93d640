"""What the tree for Buildroot asks for, weighed with Kconfig's own rules over a stub of Buildroot's symbols."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kconfiglib
import pytest

from images.build import read_recipe

CONFIGS = [f"{role}_{architecture}" for role in ("validator", "kiosk") for architecture in ("x86_64", "aarch64")]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "buildroot.md"
Load = Callable[[Path], Any]
Bend = Callable[[str, str, str], Path]


def ours(kconf: Any) -> list[Any]:
    return [each for each in kconf.unique_defined_syms if each.name.startswith("BR2_PACKAGE_KAZASHI")]


def undefined(kconf: Any) -> list[str]:
    return sorted(each.name for each in kconf.syms.values() if not each.nodes and each.name not in {"y", "m", "n", "MODULES"})


def conjuncts(expression: Any) -> Iterator[str]:
    if isinstance(expression, tuple) and expression[0] == kconfiglib.AND:
        yield from conjuncts(expression[1])
        yield from conjuncts(expression[2])
    elif isinstance(expression, kconfiglib.Choice):
        yield from conjuncts(expression.direct_dep)
    else:
        yield kconfiglib.expr_str(expression)


def granted(kconf: Any, symbol: Any) -> set[str]:
    """All that is sure to hold where ``symbol`` is set: what it depends on and what it selects, and so on for each of those."""
    found, waiting = {"y"}, [symbol]
    while waiting:
        each = waiting.pop()
        for term in (*conjuncts(each.direct_dep), *(target.name for target in selected(each))):
            # What is selected brings no dependencies along: that is what is asked here. What is depended on does.
            if term not in found:
                found.add(term)
                waiting += [kconf.syms[term]] if term in kconf.syms and term not in {target.name for target in selected(each)} else []
    return found


def selected(symbol: Any) -> list[Any]:
    return [target for node in symbol.nodes for target, _ in node.orig_selects]


def not_carried(kconf: Any) -> list[str]:
    return [
        f"{symbol.name} selects {target.name}, which needs {term}"
        for symbol in ours(kconf)
        for target in selected(symbol)
        for term in conjuncts(target.direct_dep)
        if term not in granted(kconf, symbol)
    ]


def loaded(load: Load, tree: Path, name: str) -> Any:
    kconf = load(tree)
    kconf.load_config(str(tree / "configs" / f"{name}_defconfig"))
    return kconf


def test_each_name_that_the_tree_uses_is_one_of_buildroots_or_its_own(kconfig: Load, tree: Path) -> None:
    kconf = kconfig(tree)
    assert (undefined(kconf), kconf.warnings) == ([], [])
    assert len(ours(kconf)) > 10


def test_a_misspelt_name_is_found(kconfig: Load, bend: Bend) -> None:
    tree = bend("package/kazashi/Config.in", "select BR2_PACKAGE_CHRONY ", "select BR2_PACKAGE_CHRONYD ")
    assert undefined(kconfig(tree)) == ["BR2_PACKAGE_CHRONYD"]


def test_whatever_is_selected_has_what_it_depends_on(kconfig: Load, tree: Path) -> None:
    assert not_carried(kconfig(tree)) == []


@pytest.mark.parametrize(
    ("file", "line", "what"),
    [
        ("package/kazashi/Config.in", "\tdepends on BR2_USE_WCHAR # python3, rauc\n", "BR2_PACKAGE_RAUC, which needs BR2_USE_WCHAR"),
        ("package/kazashi/Config.in", "\tdepends on BR2_TOOLCHAIN_HAS_SYNC_4 # cryptsetup\n", "which needs BR2_TOOLCHAIN_HAS_SYNC_4"),
        (
            "package/kazashi/Config.in",
            "\tselect BR2_PACKAGE_BUSYBOX_SHOW_OTHERS # bash\n",
            "BASH, which needs BR2_PACKAGE_BUSYBOX_SHOW_OTHERS",
        ),
        ("package/kazashi-cryptography/Config.in", "\tdepends on BR2_PACKAGE_PYTHON3\n", "CFFI, which needs BR2_PACKAGE_PYTHON3"),
    ],
)
def test_a_dependency_that_was_forgotten_is_found(kconfig: Load, bend: Bend, file: str, line: str, what: str) -> None:
    assert what in "\n".join(not_carried(kconfig(bend(file, line, ""))))


def test_a_package_that_needs_what_it_brings_goes_round_in_circles(kconfig: Load, bend: Bend) -> None:
    select = "\tselect BR2_PACKAGE_GPSD # runtime\n"
    tree = bend("package/kazashi/Config.in", select, f"\tdepends on BR2_PACKAGE_PYTHON3\n{select}")
    with pytest.raises(kconfiglib.KconfigError, match="ependency loop"):
        kconfig(tree)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_defconfig_is_what_savedefconfig_would_write(kconfig: Load, tree: Path, tmp_path: Path, name: str) -> None:
    kconf = loaded(kconfig, tree, name)
    kconf.write_min_config(str(tmp_path / "saved"))
    assert kconf.warnings == []
    assert (tmp_path / "saved").read_text() == (tree / "configs" / f"{name}_defconfig").read_text()


def test_a_line_that_says_nothing_new_is_found(kconfig: Load, bend: Bend, tmp_path: Path) -> None:
    tree = bend("configs/kiosk_aarch64_defconfig", "BR2_PACKAGE_KAZASHI=y\n", "BR2_PACKAGE_KAZASHI=y\nBR2_PACKAGE_KAZASHI_APSW=y\n")
    loaded(kconfig, tree, "kiosk_aarch64").write_min_config(str(tmp_path / "saved"))
    assert "APSW" not in (tmp_path / "saved").read_text()


def test_a_setting_that_buildroot_does_not_know_is_found(kconfig: Load, bend: Bend) -> None:
    tree = bend("configs/kiosk_aarch64_defconfig", "BR2_PACKAGE_HOST_RAUC=y", "BR2_PACKAGE_HOST_RAUCK=y")
    assert "BR2_PACKAGE_HOST_RAUCK" in "\n".join(loaded(kconfig, tree, "kiosk_aarch64").warnings)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_package_of_the_debian_image_has_its_like(kconfig: Load, tree: Path, name: str) -> None:
    role = name.partition("_")[0]
    told = dict(re.findall(r"^\| `([a-z0-9.+-]+)` \| `(BR2_\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    recipe = read_recipe(role)
    wanted = {*recipe.packages, *(each.package for each in recipe.taken_on("amd64" if name.endswith("x86_64") else "arm64"))}
    kconf = loaded(kconfig, tree, name)
    assert wanted - told.keys() == set(), "docs/buildroot.md has a row for each"
    assert {package: told[package] for package in wanted if kconf.syms[told[package]].str_value != "y"} == {}


@pytest.mark.parametrize("name", CONFIGS)
def test_nobody_logs_in_and_nothing_is_written_but_data(kconfig: Load, tree: Path, name: str) -> None:
    kconf = loaded(kconfig, tree, name)
    off = ("TARGET_ENABLE_ROOT_LOGIN", "TARGET_GENERIC_GETTY", "TARGET_GENERIC_REMOUNT_ROOTFS_RW", "PACKAGE_KAZASHI_WORKSHOP")
    assert {each: kconf.syms[f"BR2_{each}"].str_value for each in off} == dict.fromkeys(off, "n")
    assert kconf.syms["BR2_PACKAGE_KAZASHI_ROLE"].str_value == name.partition("_")[0]
    assert kconf.syms["BR2_PACKAGE_SYSTEMD_DEFAULT_TARGET"].str_value == read_recipe(name.partition("_")[0]).target
