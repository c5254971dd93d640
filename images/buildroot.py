"""The other face: what Buildroot calls on a root that it has built, with the steps of the Debian image.

``buildroot-config/`` is a tree for Buildroot; nothing here builds anything of it. Buildroot brings a root with systemd, Python and the
rest, a kernel and a boot loader. What makes an appliance of it is done by the same functions over the same files as for the Debian image,
so that neither face can have a unit, a partition or a rule that the other lacks: what is taken out and which kernel modules stay
(``validator.toml``, ``kiosk.toml``), the initrd, the verified root, the slots, the disk, the update and its hook. Only the difference is
written here.

Two calls: ``root TREE``, inside Buildroot's fakeroot, on the copy that is about to be packed; ``disk``, afterwards. Buildroot says the
rest in the environment: ``BR2_CONFIG`` (its settings), ``TARGET_DIR``, ``BINARIES_DIR``, ``HOST_DIR``.

An image of this face is compatible with its own kind only: an update for one face is refused by the other. Our own users have the same
numbers in both (``sysusers.d``), but nobody has tried one face on a ``/data`` that the other filled.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images import boot, bundle, disk, recipe, rootfs, verity
from images.command import ImageFailure, run
from images.pki import Signing
from images.recipe import Recipe, RecipeError

ROOT = Path(__file__).resolve().parent.parent
EXTERNAL = "$(BR2_EXTERNAL_KAZASHI_PATH)"
PYTHON = "3.12"
"""Of the Buildroot release that the tree is written for; the recipe's paths name Debian's."""
KERNELS = {"x86_64": "bzImage", "aarch64": "Image"}
LOADERS = {"x86_64": ("bootx64.efi", "BOOTX64.EFI"), "aarch64": ("bootaa64.efi", "BOOTAA64.EFI")}
# Buildroot installs GRUB whole or not at all; RAUC needs the one program that writes the boot order.
_LEFT_OUT = ("usr/bin/grub-[!e]*", "usr/sbin/grub-*", "usr/lib/grub", "etc/grub.d", "share")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says of this image."""

    role: str
    architecture: str
    clips: Path
    keyring: Path | None
    certificate: Path | None
    key: str
    workshop: bool

    @property
    def compatible(self) -> str:
        """Which updates fit."""
        return f"kazashi-{self.role}-{self.architecture}-buildroot"


def settings(config: str) -> Settings:
    """Out of the text of a ``.config``. Raises ``ImageFailure``."""
    said = {name: value.strip('"') for name, value in re.findall(r"^BR2_(\w+)=(.*)$", config, re.MULTILINE)}

    def path(name: str) -> Path | None:
        told = said.get(name, "").replace(EXTERNAL, str(ROOT / "buildroot-config"))
        return Path(told) if told else None

    if said.get("PACKAGE_KAZASHI") != "y":
        raise ImageFailure("this configuration has no BR2_PACKAGE_KAZASHI; begin with a defconfig of buildroot-config/")
    architecture = next((each for each in KERNELS if said.get(each) == "y"), None)
    if architecture is None:
        raise ImageFailure(f"this configuration is for none of {', '.join(KERNELS)}; begin with a defconfig of buildroot-config/")
    return Settings(
        role=said["PACKAGE_KAZASHI_ROLE"],
        architecture=architecture,
        clips=path("PACKAGE_KAZASHI_CLIPS") or ROOT / "build/clips",
        keyring=path("PACKAGE_KAZASHI_KEYRING"),
        certificate=path("PACKAGE_KAZASHI_CERTIFICATE"),
        key=said.get("PACKAGE_KAZASHI_KEY", "").replace(EXTERNAL, str(ROOT / "buildroot-config")),
        workshop=said.get("PACKAGE_KAZASHI_WORKSHOP") == "y",
    )


def recipe_here(role: str) -> Recipe:
    """The role's recipe, its paths as they are in a root of Buildroot."""
    return recipe.read(f"{role}.toml", lambda name: (ROOT / "images" / name).read_text(encoding="utf-8").replace("3.11", PYTHON))


def finish_root(tree: Path, chosen: Settings, library: Path, host: Path, epoch: int) -> None:
    """Make an appliance's root of ``tree``. ``library``: the unpacked wheels. ``host``: Buildroot's own programs."""
    if chosen.keyring is None or not chosen.keyring.is_file():
        raise ImageFailure("BR2_PACKAGE_KAZASHI_KEYRING names no file; it is the certificate (PEM) that updates must be signed under")
    if not chosen.clips.is_dir():
        raise ImageFailure(f"there are no spoken words in {chosen.clips}; run `make words`, or correct BR2_PACKAGE_KAZASHI_CLIPS")
    wanted = recipe_here(chosen.role)
    shutil.copytree(library, tree / rootfs.LIBRARY, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(chosen.clips, tree / rootfs.SHARE / "clips", dirs_exist_ok=True)
    (tree / rootfs.LIBRARY / "build").mkdir(exist_ok=True)
    (tree / rootfs.LIBRARY / "build/clips").symlink_to(f"/{rootfs.SHARE}/clips")
    rootfs.write(tree / "etc/rauc/keyring.pem", chosen.keyring.read_text())
    system = tree / "etc/rauc/system.conf"
    system.write_text(system.read_text(encoding="utf-8").replace("@COMPATIBLE@", chosen.compatible), encoding="utf-8")
    rootfs.plain_modes(tree)
    rootfs.identity(tree, wanted, manifest(chosen, epoch))
    rootfs.keep_modules(tree, wanted.modules)
    for pattern in (*wanted.without, *_LEFT_OUT):
        rootfs.without(tree, pattern)
    rootfs.empty_files(tree)
    rootfs.no_setuid(tree)
    rootfs.compiled(tree, host / "bin/python3", tree / rootfs.LIBRARY)


def finish_disk(tree: Path, chosen: Settings, binaries: Path, epoch: int) -> str:
    """From the packed root to the disk and the update, in ``binaries/kazashi``. Returns a remark."""
    into, wanted = binaries / "kazashi", recipe_here(chosen.role)
    here, there = LOADERS[chosen.architecture]
    kernel, loader = binaries / KERNELS[chosen.architecture], binaries / "efi-part/EFI/BOOT" / here
    for path in (binaries / "rootfs.squashfs", kernel, loader):
        if not path.is_file():
            raise ImageFailure(f"Buildroot left no {path.name} in {path.parent}; begin with a defconfig of buildroot-config/")
    with tempfile.TemporaryDirectory(prefix="kazashi-") as folder:
        scratch = Path(folder)
        shutil.copyfile(binaries / "rootfs.squashfs", into / "root.img")
        verified = verity.seal(into / "root.img")
        nothing = scratch / "nothing"
        nothing.mkdir()
        boot.initrd(wanted, tree, nothing, scratch / "initrd.img", source=ROOT, epoch=epoch, scratch=scratch)
        boot.slot(
            kernel,
            scratch / "initrd.img",
            verified,
            into / "boot.img",
            epoch=epoch,
            scratch=scratch,
            dev=chosen.workshop,
        )
        images = (into / "boot.img", into / "root.img")
        for path, size in zip(images, (wanted.sizes.boot_mb, wanted.sizes.root_mb), strict=True):
            if path.stat().st_size > size << 20:
                raise ImageFailure(f"{path.name} has {path.stat().st_size >> 20} MiB and its partition {size}; correct [sizes]")
        files = [(f"EFI/BOOT/{there}", loader), *boot.choice(ROOT, scratch, dev=chosen.workshop)]
        disk.esp(files, wanted.sizes.esp_mb, epoch, scratch / "esp.img")
        disk.data(wanted.sizes.data_mb, epoch, scratch / "data.img")
        names = {"esp": str(scratch / "esp.img"), "data": str(scratch / "data.img")}
        names |= {f"{what}-{which}": str(into / f"{what}.img") for what in ("boot", "root") for which in "ab"}
        disk.assemble(disk.config(chosen.compatible, wanted.sizes, names), into, scratch, into)
        told = manifest(chosen, epoch)
        if chosen.certificate is not None and chosen.keyring is not None:
            signing = Signing(chosen.keyring, chosen.certificate, Path(chosen.key), test=False)
            update = into / "update.raucb"
            bundle.make(images, signing, update, compatible=chosen.compatible, version=str(told["version"]), scratch=scratch)
    (into / "image.json").write_text(json.dumps({"name": verified.hash, **told}, indent=1, sort_keys=True) + "\n")
    return verified.hash


def manifest(chosen: Settings, epoch: int) -> dict[str, object]:
    """What ``image.json`` says, as the Debian image's does."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return {
        "format": 1,
        "role": chosen.role,
        "architecture": chosen.architecture,
        "version": f"{version}+{time.strftime('%Y%m%d%H%M%S', time.gmtime(epoch))}",
        "made": epoch,
        "compatible": chosen.compatible,
    }


def date() -> int:
    """The time of this tree's last commit, Unix seconds.

    Not ``SOURCE_DATE_EPOCH``, which Buildroot sets to the day of its own release: the update's hook tells older from newer by this number.
    """
    return int(run(("git", "log", "-1", "--format=%ct"), cwd=ROOT).strip() or 0)


def main(environment: Mapping[str, str]) -> int:
    """The exit status is 0 when it did what was asked."""
    parser = argparse.ArgumentParser(prog="python -m images.buildroot", description="Called by Buildroot; see docs/buildroot.md.")
    calls = parser.add_subparsers(dest="call", required=True)
    calls.add_parser("root", help="in the fakeroot").add_argument("tree", type=Path)
    calls.add_parser("disk", help="when the root is packed")
    options = parser.parse_args()
    try:
        config, target, binaries, host = (_told(environment, name) for name in ("BR2_CONFIG", "TARGET_DIR", "BINARIES_DIR", "HOST_DIR"))
        chosen = settings(config.read_text(encoding="utf-8"))
        if options.call == "root":
            finish_root(options.tree, chosen, binaries / "kazashi/library", host, date())
        else:
            print(f"kazashi: {finish_disk(target, chosen, binaries, date())} in {binaries / 'kazashi'}")
    except (ImageFailure, RecipeError) as error:
        print(f"kazashi: {error}", file=sys.stderr)
        return 1
    return 0


def _told(environment: Mapping[str, str], name: str) -> Path:
    if not environment.get(name):
        raise ImageFailure(f"{name} is not set; Buildroot calls this, nobody else does")
    return Path(environment[name])


if __name__ == "__main__":
    sys.exit(main(os.environ))
