"""The packages of the tree for Buildroot, as GNU make reads them: pinned as the terminal's are, and written as Buildroot's own are."""

import hashlib
import re
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images import lock
from images.rootfs import OURS, SHARED
from images.wheels import wanted
from tools.audit import read_pins

ROOT = Path(__file__).resolve().parents[2]
# Those that Buildroot itself has, in the version that it has: 2025.02.16.
BUILDROOT_HAS = {"pyserial": "3.5"}
Packages = Callable[[Path, str], dict[str, dict[str, str]]]
Bend = Callable[[str, str, str], Path]
ARCHITECTURES = ("x86_64", "aarch64")


def hashes(tree: Path, name: str) -> dict[str, str]:
    text = (tree / "package" / name / f"{name}.hash").read_text()
    return {file: digest for digest, file in re.findall(r"^sha256  ([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)}


def pins() -> dict[str, tuple[str, set[str]]]:
    """Each pin of a terminal, and the file of the Debian image's font: version and hashes."""
    found = {
        each.name: (each.version, set(each.hashes)) for each in read_pins({"terminal": (ROOT / "requirements/terminal.txt").read_text()})
    }
    locked = lock.read((ROOT / "images/locks/validator-amd64.txt").read_text(), "validator-amd64.txt")
    (font,) = (each for each in locked if each.name == "fonts-morisawa-bizud-gothic")
    return found | {"font": (font.version, {font.sha256})}


def pin_faults(tree: Path, packages: Packages) -> Iterator[str]:
    pinned = pins()
    for architecture in ARCHITECTURES:
        for name, each in packages(tree, architecture).items():
            listed = hashes(tree, name)
            if name != "kazashi":
                version, known = pinned[name.removeprefix("kazashi-")]
                if each["version"] != version:
                    yield f"{name} is {each['version']}, pinned is {version}"
                if listed.get(each["source"]) not in known:
                    yield f"{name}: {each['source']} has no hash, or not a pinned one"
            for licence in each["licence_files"].split():
                if licence not in listed:
                    yield f"{name}: {licence} has no hash"
            if not each["licence"] or not each["licence_files"].split():
                yield f"{name} names no licence"


def test_every_package_is_pinned_as_the_terminals_are_and_its_licence_too(tree: Path, packages: Packages) -> None:
    assert list(pin_faults(tree, packages)) == []


@pytest.mark.parametrize(
    ("bent", "what"),
    [
        (("package/kazashi-cbor2/kazashi-cbor2.mk", "VERSION = 6.3.0", "VERSION = 6.2.0"), "cbor2 is 6.2.0, pinned is 6.3.0"),
        (("package/kazashi-font/kazashi-font.mk", "VERSION = 1.05-2", "VERSION = 1.05-1"), "font is 1.05-1"),
        (
            ("package/kazashi-apsw/kazashi-apsw.hash", "aarch64", "armv7l"),
            "kazashi-apsw: apsw-3.54.1.0-cp312-cp312-manylinux_2_28_aarch64.whl",
        ),
        (("package/kazashi-cffi/kazashi-cffi.hash", "sha256  c", "sha256  d"), "kazashi-cffi: cffi-2.1.1-cp312"),
        (("package/kazashi-zstandard/kazashi-zstandard.hash", "licenses/LICENSE", "LICENSE"), "licenses/LICENSE has no hash"),
        (("package/kazashi-pygame/kazashi-pygame.mk", "LICENSE = LGPL-2.1+, Zlib (SDL)", "LICENSE ="), "kazashi-pygame names no licence"),
    ],
)
def test_a_package_that_is_pinned_otherwise_is_found(bend: Bend, packages: Packages, bent: tuple[str, str, str], what: str) -> None:
    assert what in "\n".join(pin_faults(bend(*bent), packages))


def test_what_a_terminal_asks_for_is_a_package_here_or_one_of_buildroots(tree: Path, packages: Packages) -> None:
    here = {name.removeprefix("kazashi-") for name in packages(tree, "x86_64")}
    asked = {re.split(r"[<>=]", line)[0] for line in wanted(ROOT)}
    assert asked - here == BUILDROOT_HAS.keys()
    assert {name: pins()[name][0] for name in BUILDROOT_HAS} == BUILDROOT_HAS


def test_our_own_part_is_what_the_debian_image_has_of_us(tree: Path, packages: Packages) -> None:
    ours = packages(tree, "x86_64")["kazashi"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (ours["version"], ours["licence"]) == (project["version"], project["license"])
    assert (tuple(ours["ours"].split()), tuple(ours["shared"].split())) == (OURS, SHARED)
    assert hashes(tree, "kazashi") == {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in ("LICENSE", "NOTICE")}


def test_the_users_are_those_of_the_units(tree: Path, packages: Packages) -> None:
    listed = [
        line.split() for line in (ROOT / "systemd/usr/lib/sysusers.d/kazashi.conf").read_text().splitlines() if line[:1] in {"g", "u", "m"}
    ]
    rows = [line.split(maxsplit=8) for line in packages(tree, "x86_64")["kazashi"]["users"].splitlines() if line.strip()]
    assert {len(row) for row in rows} == {9}
    assert [row[2] for row in rows if row[0] == "-"] == [line[1] for line in listed if line[0] == "g"]
    assert [row[0] for row in rows if row[0] != "-"] == [line[1] for line in listed if line[0] == "u"]
    members = {(row[0], group) for row in rows for group in row[7].split(",") if group != "-"}
    assert members == {(line[1], line[2]) for line in listed if line[0] == "m"}
    assert {row[4] for row in rows} == {"*"}


def test_a_wheel_goes_around_the_folder_where_libraries_are_stripped(tree: Path, packages: Packages) -> None:
    for name, each in packages(tree, "x86_64").items():
        if each["source"].endswith(".whl"):
            assert (each["to_target"], each["to_images"]) == ("NO", "YES"), name
            assert "/target" not in each["install_images"], name


def test_what_a_wheel_holds_is_laid_down_without_its_headers(tree: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "cbor2.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in ("cbor2/__init__.py", "cbor2-6.3.0.dist-info/METADATA", "cbor2-6.3.0.data/headers/cbor2.h"):
            file.writestr(name, "")
    mine = tmp_path / "run.mk"
    mine.write_text(
        "qstrip = $(1)\ngeneric-package =\nUNZIP = unzip -q\nBINARIES_DIR = images\nPKG = ONE\nONE_DL_DIR = .\nONE_SOURCE = cbor2.whl\n"
        f"include {tree}/package/kazashi/kazashi.mk\n"
        "built/done:\n\tmkdir built\n\t$(KAZASHI_WHEEL_EXTRACT)\n\t$(KAZASHI_WHEEL_INSTALL)\n"
    )
    subprocess.run(["make", "-s", "-f", mine.name, "built/done"], cwd=tmp_path, check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert sorted(path.name for path in (tmp_path / "images/kazashi/library").iterdir()) == ["cbor2", "cbor2-6.3.0.dist-info"]


def refusal(tree: Path, **said: str) -> str:
    """What make says when Buildroot builds with these settings."""
    told = subprocess.run(
        [
            "make",
            "-s",
            "-f",
            str(Path(__file__).parent / "stand_in.mk"),
            f"BR2_EXTERNAL_KAZASHI_PATH={tree}",
            "BR2_PACKAGE_KAZASHI=y",
            "BR_BUILDING=y",
        ]
        + [f"{name}={value}" for name, value in said.items()],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    return told.stderr


def test_another_python_and_a_missing_authority_are_said_before_anything_is_built(tree: Path) -> None:
    assert "are for Python 3.12 and this Buildroot has 3.14; take" in refusal(tree, PYTHON3_VERSION_MAJOR="3.14")
    assert "set BR2_PACKAGE_KAZASHI_KEYRING" in refusal(tree)
    assert refusal(tree, BR2_PACKAGE_KAZASHI_KEYRING='"/authority.pem"') == ""


# --- As Buildroot's own files are written ------------------------------------------------------------------------------------------------


def style_faults(tree: Path) -> list[str]:
    found: list[str] = []
    for path in sorted(each for each in tree.rglob("*") if each.is_file()):
        name = path.relative_to(tree).as_posix()
        lines = path.read_text(encoding="utf-8").split("\n")
        if lines[-1] or not lines[-2].strip():
            found.append(f"{name}: ends otherwise than with one newline")
        found += [f"{name}:{at}: space at the end" for at, line in enumerate(lines, 1) if line != line.rstrip()]
        found += [f"{name}:{at}: two empty lines" for at in range(1, len(lines) - 1) if not lines[at].strip() and not lines[at - 1].strip()]
        if path.suffix == ".mk" and path.name != "external.mk":
            found += [f"{name}: {fault}" for fault in makefile_faults(path.stem, lines)]
        if path.name == "Config.in":
            found += [f"{name}: {fault}" for fault in kconfig_faults(lines)]
        if path.suffix == ".hash":
            found += [f"{name}: {line}" for line in lines if line and not re.fullmatch(r"#.*|sha256  [0-9a-f]{64}  \S+", line)]
        if path.name.endswith("_defconfig") and "BR2_DOWNLOAD_FORCE_CHECK_HASHES=y" not in lines:
            found.append(f"{name}: takes files without a hash")
        if bool(path.stat().st_mode & 0o111) != (path.suffix == ".sh"):
            found.append(f"{name}: may be run, or may not, wrongly")
    return found


def makefile_faults(package: str, lines: list[str]) -> Iterator[str]:
    if lines[:6] != ["#" * 80, "#", f"# {package}", "#", "#" * 80, ""]:
        yield "does not begin with the package's name in its frame"
    inside = continued = False
    for at, line in enumerate(lines, 1):
        deep = (inside and line != "endef") or continued
        if line and deep != line.startswith("\t"):
            yield f"{at}: indented {'without' if deep else 'with'} a tab"
        variable = re.match(r"(?:define )?([A-Z][A-Z0-9_]*_[A-Z0-9_]+)\b", line)
        if variable and not variable[1].startswith(package.replace("-", "_").upper() + "_"):
            yield f"{at}: {variable[1]} is not one of this package's"
        if re.match(r"\s*(else )?ifn?def\b", line):
            yield f"{at}: ifdef, where ifeq is meant"
        if re.search(r"(  |\t)\\$", line):
            yield f"{at}: more than a space before the backslash"
        inside = line.startswith("define ") or (inside and line != "endef")
        continued = line.endswith("\\") and not line.startswith("#")
    if "$(eval $(generic-package))" not in lines:
        yield "evaluates no package"


def kconfig_faults(lines: list[str]) -> Iterator[str]:
    order, seen, sources = ("bool", "string", "prompt", "default", "depends", "select", "help"), 0, []
    for at, line in enumerate(lines, 1):
        if re.match(r"(config|choice|comment|endchoice|if|endif|source)\b", line):
            seen = 0
            sources += re.findall(r'^source "(.+)"', line)
        elif line.startswith("\t  "):
            if len(line) > len("\t  ") + 62:
                yield f"{at}: help is wider than 72 columns"
        elif line.startswith("\t") and not line.startswith("\t\t"):
            word = line.split()[0]
            rank = {"string": 0, "prompt": 0}.get(word, order.index(word) if word in order else -1)
            if rank < 0 or rank < seen:
                yield f"{at}: {word} does not stand here"
            seen = max(seen, rank)
        elif line and not line.startswith("\t"):
            yield f"{at}: what is this"
    if sources != sorted(sources, key=lambda path: path.split("/")):
        yield "packages are not in the order of their names"


def test_every_file_is_written_as_buildroots_are(tree: Path) -> None:
    assert style_faults(tree) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        ("package/kazashi-apsw/kazashi-apsw.mk", "# kazashi-apsw", "# kazashi_apsw", "does not begin with the package's name"),
        ("package/kazashi-apsw/kazashi-apsw.mk", "KAZASHI_APSW_SITE =", "KAZASHI_APWS_SITE =", "KAZASHI_APWS_SITE is not one"),
        ("package/kazashi/kazashi.mk", "\tmkdir -p", "        mkdir -p", "indented without a tab"),
        ("package/kazashi/kazashi.mk", "ifeq ($(call", "ifdef ($(call", "ifdef, where ifeq"),
        ("package/kazashi-cffi/kazashi-cffi.hash", "sha256  ", "sha256 ", "kazashi-cffi.hash: sha256 "),
        (
            "package/kazashi-font/Config.in",
            "\t  badly: ",
            "\t  badly, and for all others who stand in the sun of noon: ",
            "wider than 72 columns",
        ),
        ("package/kazashi-cffi/Config.in", "\thelp\n", "\thelp \n", "space at the end"),
        (
            "package/kazashi-cffi/Config.in",
            '\tbool "kazashi-cffi"\n',
            '\tselect BR2_PACKAGE_ZLIB\n\tbool "kazashi-cffi"\n',
            "bool does not stand here",
        ),
        ("configs/kiosk_x86_64_defconfig", "BR2_DOWNLOAD_FORCE_CHECK_HASHES=y\n", "", "takes files without a hash"),
        ("external.desc", "terminal: tap", "terminal:\n\n\ntap", "two empty lines"),
        ("Config.in", "kazashi-apsw", "kazashi-zapsw", "not in the order of their names"),
    ],
)
def test_a_file_that_is_written_otherwise_is_found(bend: Bend, file: str, old: str, new: str, what: str) -> None:
    assert what in "\n".join(style_faults(bend(file, old, new)))


def test_a_script_that_may_not_be_run_is_found(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree")
    (tmp_path / "tree/board/kazashi/post-image.sh").chmod(0o644)
    assert style_faults(tmp_path / "tree") == ["board/kazashi/post-image.sh: may be run, or may not, wrongly"]


def test_the_tree_names_itself_as_buildroot_asks(tree: Path) -> None:
    told = dict(line.split(": ", 1) for line in (tree / "external.desc").read_text().splitlines())
    assert (told["name"], sorted(told)) == ("KAZASHI", ["desc", "name"])
