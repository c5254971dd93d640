"""One source for both faces: what the tree for Buildroot lays down is what the Debian image lays down."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images import boot, buildroot, rootfs
from images.build import read_recipe
from images.buildroot import Settings, settings
from images.command import ImageFailure

ROOT = Path(__file__).resolve().parents[2]
DEFCONFIGS = [f"{role}_{architecture}_defconfig" for role in ("validator", "kiosk") for architecture in ("x86_64", "aarch64")]
Bend = Callable[[str, str, str], Path]


def said(tree: Path, name: str) -> dict[str, str]:
    """A defconfig's texts, with the tree's place put in."""
    text = (tree / "configs" / name).read_text().replace("$(BR2_EXTERNAL_KAZASHI_PATH)", str(tree))
    return dict(re.findall(r'^(BR2_\w+)="(.*)"$', text, re.MULTILINE))


# --- Files that are laid down ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEFCONFIGS)
def test_the_overlays_and_the_boot_loader_are_the_debian_images(tree: Path, name: str) -> None:
    told = said(tree, name)
    assert [Path(each).resolve() for each in told["BR2_ROOTFS_OVERLAY"].split()] == [ROOT / each for each in rootfs.OVERLAYS]
    assert Path(told["BR2_TARGET_GRUB2_BUILTIN_CONFIG_EFI"]).resolve() == ROOT / "images/boot/early.cfg"
    assert tuple(told["BR2_TARGET_GRUB2_BUILTIN_MODULES_EFI"].split()) == boot.GRUB_MODULES


@pytest.mark.parametrize("name", DEFCONFIGS)
def test_every_file_that_a_defconfig_names_is_there(tree: Path, name: str) -> None:
    named = [each for text in said(tree, name).values() for each in text.split() if each.startswith("/")]
    assert len(named) >= 7
    assert [each for each in named if not Path(each).exists()] == []


def copies(tree: Path) -> list[str]:
    """Files of the tree that are also elsewhere in the repository, byte for byte."""
    there = {
        hashlib.sha256(path.read_bytes()).digest()
        for folder in ("images", "systemd")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    return [path.name for path in tree.rglob("*") if path.is_file() and hashlib.sha256(path.read_bytes()).digest() in there]


def test_no_unit_and_no_setting_is_there_twice(tree: Path, tmp_path: Path) -> None:
    assert copies(tree) == []
    shutil.copytree(tree, tmp_path / "tree")
    shutil.copy(ROOT / "images/boot/grub.cfg", tmp_path / "tree/board")
    assert copies(tmp_path / "tree") == ["grub.cfg"]


# --- The kernel --------------------------------------------------------------------------------------------------------------------------


def groups(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each path of a fragment (a comment that is a path of [[modules]]), and the lines under it."""
    for part in re.split(r"^# (?=[a-z0-9_/-]+$)", text, flags=re.MULTILINE)[1:]:
        path, *lines = part.split("\n\n", maxsplit=1)[0].splitlines()
        yield path, lines


def kernel_faults(tree: Path) -> list[str]:
    recipe, linux = read_recipe("kiosk"), tree / "board/kazashi/linux"
    fragments = {each: dict(groups((linux / f"{each}.config").read_text())) for each in ("kazashi", "x86_64", "aarch64")}
    everywhere = {path for fragment in fragments.values() for path in fragment}
    found = [f"nothing is said of {path}" for path in recipe.modules if path not in everywhere]
    found += [f"{path} is not in the recipe" for path in sorted(everywhere - {*recipe.modules})]
    found += [
        f"{path} has no setting"
        for each in fragments.values()
        for path, lines in each.items()
        if not any(line[:7] == "CONFIG_" for line in lines)
    ]
    early: set[str] = set()
    for lines in (lines for each in fragments.values() for lines in each.values()):
        for at, line in enumerate(lines):
            if name := line.removeprefix("# early: ") if line.startswith("# early: ") else "":
                early.add(name)
                found += [f"{name} is early and not built in"] * (not lines[at + 1].endswith("=y"))
    found += [f"{name} is not said to be early" for name in recipe.early_modules if name not in early]
    found += [f"{name} is not early in the recipe" for name in sorted(early - {*recipe.early_modules})]
    for each in ("x86_64", "aarch64"):
        symbols = re.findall(r"^(CONFIG_\w+)=", "".join((linux / f"{name}.config").read_text() for name in ("kazashi", each)), re.MULTILINE)
        found += sorted(f"{symbol} is set twice" for symbol in {*symbols} if symbols.count(symbol) > 1)
    return found


def test_the_kernel_fragments_say_the_recipes_modules_and_no_other(tree: Path) -> None:
    assert kernel_faults(tree) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        ("kazashi", "# fs/overlayfs\nCONFIG_OVERLAY_FS=m\n", "", "nothing is said of fs/overlayfs"),
        ("aarch64", "# drivers/pwm\n", "# drivers/pvm\n", "drivers/pvm is not in the recipe"),
        ("kazashi", "CONFIG_SQUASHFS=y", "CONFIG_SQUASHFS=m", "squashfs is early and not built in"),
        ("kazashi", "# early: nvme\n", "", "nvme is not said to be early"),
        ("x86_64", "CONFIG_DRM_I915=m\n", "", "drivers/gpu/drm/i915 has no setting"),
        ("x86_64", "CONFIG_FB=y", "CONFIG_EXT4_FS=y", "CONFIG_EXT4_FS is set twice"),
    ],
)
def test_a_fragment_that_says_otherwise_is_found(bend: Bend, file: str, old: str, new: str, what: str) -> None:
    assert what in kernel_faults(bend(f"board/kazashi/linux/{file}.config", old, new))


# --- What Buildroot calls ----------------------------------------------------------------------------------------------------------------

CONFIG = """\
BR2_aarch64=y
# BR2_x86_64 is not set
BR2_PACKAGE_KAZASHI=y
BR2_PACKAGE_KAZASHI_ROLE="kiosk"
BR2_PACKAGE_KAZASHI_CLIPS="$(BR2_EXTERNAL_KAZASHI_PATH)/../build/clips"
BR2_PACKAGE_KAZASHI_KEYRING="/keys/authority.pem"
"""


def test_the_settings_are_read_from_buildroots_configuration() -> None:
    found = settings(CONFIG)
    assert (found.role, found.architecture, found.workshop, found.certificate) == ("kiosk", "aarch64", False, None)
    assert found.keyring == Path("/keys/authority.pem")
    assert found.clips.resolve() == ROOT / "build/clips"
    assert found.compatible == "kazashi-kiosk-aarch64-buildroot"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("BR2_PACKAGE_KAZASHI=y", "# BR2_PACKAGE_KAZASHI is not set", "has no BR2_PACKAGE_KAZASHI; begin with a defconfig"),
        ("BR2_aarch64=y", "BR2_arm=y", "is for none of x86_64, aarch64; begin with"),
    ],
)
def test_a_configuration_that_is_no_appliances_is_refused(old: str, new: str, what: str) -> None:
    with pytest.raises(ImageFailure, match=what):
        settings(CONFIG.replace(old, new))


@pytest.mark.parametrize("script", ["post-fakeroot.sh", "post-image.sh"])
def test_a_script_that_buildroot_did_not_call_says_so(tree: Path, tmp_path: Path, script: str) -> None:
    called = subprocess.run(
        [tree / "board/kazashi" / script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in {"BR2_CONFIG", "TARGET_DIR", "BINARIES_DIR", "HOST_DIR"}},
    )
    assert (called.returncode, called.stdout) == (1, "")
    assert called.stderr == "kazashi: BR2_CONFIG is not set; Buildroot calls this, nobody else does\n"


def test_a_root_without_an_authority_or_without_words_is_refused(tmp_path: Path) -> None:
    nobody = Settings("validator", "x86_64", tmp_path, None, None, "", workshop=False)
    with pytest.raises(ImageFailure, match="BR2_PACKAGE_KAZASHI_KEYRING names no file"):
        buildroot.finish_root(tmp_path, nobody, tmp_path, tmp_path, 0)
    (tmp_path / "authority.pem").write_text("")
    mute = Settings("validator", "x86_64", tmp_path / "clips", tmp_path / "authority.pem", None, "", workshop=False)
    with pytest.raises(ImageFailure, match="there are no spoken words in"):
        buildroot.finish_root(tmp_path, mute, tmp_path, tmp_path, 0)


def test_a_disk_of_which_buildroot_left_no_kernel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rootfs.squashfs").write_bytes(b"")
    with pytest.raises(ImageFailure, match="Buildroot left no bzImage in"):
        buildroot.finish_disk(tmp_path, Settings("validator", "x86_64", tmp_path, None, None, "", workshop=False), tmp_path, 0)


def test_what_is_taken_out_is_what_the_recipe_takes_out_for_buildroots_python() -> None:
    debian, here = read_recipe("validator"), buildroot.recipe_here("validator")
    assert here.modules == debian.modules
    assert [each for each in here.without if "3.11" in each] == []
    assert sum("python3.12" in each for each in here.without) == sum("python3.11" in each for each in debian.without) > 0


def test_the_version_tells_older_from_newer_as_the_debian_images_does() -> None:
    told = buildroot.manifest(Settings("validator", "x86_64", Path(), None, None, "", workshop=False), 1_700_000_000)
    assert re.fullmatch(r"\d+\.\d+\.\d+\+20231114221320", str(told["version"]))
