"""``make image``: from the recipe, the locks and this tree to a disk and an update, step by step.

What comes out lies in ``build/image/ROLE-ARCH/``: ``root.img`` (the verified root), ``boot.img`` (a slot's kernel), ``disk.img``,
``update.raucb``, ``sbom.json``, ``image.json`` (its name is the root hash) and ``report.json`` (times and sizes).
"""

import json
import os
import shutil
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from images import base, bill, boot, bundle, disk, lock, pki, recipe, rootfs, verity, wheels
from images.apt import Apt
from images.command import ImageFailure, run
from images.pki import Signing
from images.steps import Steps, digest_of
from tools.audit import read_pins

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "image"
HERE = ROOT / "images"
# What an image's content depends on; its date is that of the last commit that touched any of it.
SOURCES = (*rootfs.OURS, "systemd", "images", "requirements/terminal.txt", "examples/keypad.toml", "examples/town", "pyproject.toml")
SQUASHFS_LEVEL = 8
"""zstd's. Level 15 would save 7 MB more and take three minutes instead of ten seconds."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to build. ``dev``: with a root shell on the first serial line. ``clips``: the rendered words.

    ``epoch``: its date, Unix seconds (else that of the last commit that touched it).
    """

    role: str
    architecture: str
    dev: bool = False
    clips: Path = ROOT / "build" / "clips"
    signing: Signing | None = None
    into: Path | None = None
    epoch: int | None = None

    @property
    def name(self) -> str:
        """As its folder is called."""
        return f"{self.role}-{self.architecture}"

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.into or BUILD / self.name


def read_recipe(role: str) -> recipe.Recipe:
    """The recipe of a role."""
    return recipe.read(f"{role}.toml", lambda name: (HERE / name).read_text(encoding="utf-8"))


def apt_for(suite: str, architecture: str) -> Apt:
    """The apt of an architecture, its state and its packages below ``build/image``."""
    return Apt(BUILD / f"apt-{architecture}", BUILD / "pool", suite, architecture)


def pin(role: str, architecture: str) -> Path:
    """Solve again and write the lock file."""
    recipe_ = read_recipe(role)
    path = HERE / "locks" / f"{role}-{architecture}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(lock.write(apt_for(recipe_.suite, architecture).solve(recipe_), f"{role} on {architecture}"), encoding="utf-8")
    return path


def date() -> int:
    """The time of the last commit that touched what the image is made of, Unix seconds (``SOURCE_DATE_EPOCH`` replaces it)."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return int(run(("git", "log", "-1", "--format=%ct", "--", *SOURCES), cwd=ROOT).strip() or 0)


def scratch_place() -> Path:
    """Memory, where there is room for a root tree several times over; else below ``build/``."""
    memory = Path("/dev") / "shm"
    if memory.is_dir() and shutil.disk_usage(memory).free > 4e9:
        return memory
    BUILD.mkdir(parents=True, exist_ok=True)
    return BUILD


def build(order: Order) -> None:
    """Build; prints each step with its time."""
    if os.geteuid() != 0:
        raise ImageFailure("an image's files belong to other users than you; run `sudo make image …`")
    start_s = time.monotonic()
    print(f"Kazashi's image: {order.role} for {order.architecture}{', DEV: a root shell on the serial line' if order.dev else ''}")
    order.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch_place(), prefix="kazashi-image-") as scratch:
        _Build(order, Path(scratch), Steps(print)).all(start_s)


class _Build:
    """One build: where things are, and the steps over them."""

    def __init__(self, order: Order, scratch: Path, steps: Steps) -> None:
        self._order, self._scratch, self._steps = order, scratch, steps
        self._recipe = read_recipe(order.role)
        self._apt = apt_for(self._recipe.suite, order.architecture)
        self._epoch = date() if order.epoch is None else order.epoch
        version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        self._version = f"{version}+{time.strftime('%Y%m%d%H%M%S', time.gmtime(self._epoch))}"
        self._compatible = f"kazashi-{order.name}"
        self._signing = order.signing or pki.made_for_tests(BUILD / "test-pki")
        locked = HERE / "locks" / f"{order.name}.txt"
        if not locked.exists():
            raise ImageFailure(f"there is no {locked.relative_to(ROOT)}; run `make image-pins ROLE={order.role} ARCH={order.architecture}`")
        self._pins = lock.read(locked.read_text(encoding="utf-8"), str(locked.relative_to(ROOT)))
        self._shared = BUILD / f"parts-{order.name}"
        self._shared.mkdir(parents=True, exist_ok=True)

    def all(self, start_s: float) -> None:
        """Every step, and the report."""
        folder, order = self._order.folder, self._order
        if self._signing.test:
            print("  NOT FOR VEHICLES: no signing key was given, so this image trusts a test authority made here (build/image/test-pki).")
        self._debian()
        self._root()
        self._boot()
        self._disk()
        self._update()
        sealed = json.loads((folder / "root.json").read_text())
        size = (folder / "root.img").stat().st_size
        self._steps.report(
            folder / "report.json",
            role=order.role,
            architecture=order.architecture,
            dev=order.dev,
            total_s=round(time.monotonic() - start_s, 1),
            root_hash=sealed["hash"],
            squashfs_mb=round(sealed["offset"] / 1e6, 1),
            boot_mb=round((folder / "boot.img").stat().st_size / 1e6, 1),
        )
        print(f"  {sealed['hash']}  ({size / 1e6:.0f} MB, {time.monotonic() - start_s:.0f} s in all)")
        print(f"  {_short(folder / 'disk.img')} is the disk, {_short(folder / 'update.raucb')} the update.")

    def _debian(self) -> None:
        pins = [(each.name, each.version, each.sha256, each.taken) for each in self._pins]
        asked = digest_of(pins, self._recipe.packages, self._recipe.suite, HERE / "base.py", HERE / "apt.py")
        self._steps.step("packages", self._shared / "taken", asked, self._fetch)
        self._steps.step(
            "debian",
            self._shared / "base.tar",
            asked,
            lambda: base.make(self._recipe, self._apt, self._pins, self._shared / "base.tar", self._scratch),
        )
        asked = digest_of(ROOT / "requirements/terminal.txt", wheels.wanted(ROOT), HERE / "wheels.py", self._order.architecture)
        self._steps.step(
            "wheels", self._shared / "wheels", asked, lambda: wheels.make(ROOT, self._order.architecture, self._shared / "wheels")
        )

    def _fetch(self) -> str:
        came = self._apt.fetch(self._pins)
        base.taken_files(self._apt, self._pins, self._shared / "taken")
        return f"{len(self._pins)} pinned, {came / 1e6:.0f} MB fetched"

    def _root(self) -> None:
        folder = self._order.folder
        asked = digest_of(
            *(self._shared / f"{name}.made-of" for name in ("base.tar", "wheels")),
            *(each for path in rootfs.source_files(ROOT) for each in (str(path.relative_to(ROOT)), path)),
            *(HERE / name for name in ("rootfs.py", "kernel.py", "verity.py", "bill.py", "recipe.py", "root")),
            *(ROOT / name for name in ("systemd", "examples/keypad.toml", "examples/town/operator.toml", "LICENSE", "NOTICE")),
            self._recipe,
            self._order.clips,
            self._signing.authority,
            (self._epoch, self._version, SQUASHFS_LEVEL),
        )
        self._steps.step("root", folder / "root.img", asked, self._make_root)

    def _make_root(self) -> str:
        folder, tree = self._order.folder, self._scratch / "tree"
        parts = rootfs.Parts(
            ROOT, self._shared / "base.tar", self._shared / "taken", self._shared / "wheels", self._order.clips, self._signing.authority
        )
        if not self._order.clips.is_dir():
            raise ImageFailure("the spoken words are not rendered; run `make words`")
        manifest: dict[str, object] = {
            "format": 1,
            "role": self._order.role,
            "architecture": self._order.architecture,
            "version": self._version,
            "made": self._epoch,
            "compatible": self._compatible,
        }
        rootfs.make(self._recipe, self._order.architecture, parts, manifest, tree)
        system = tree / "etc/rauc/system.conf"
        system.write_text(system.read_text(encoding="utf-8").replace("@COMPATIBLE@", self._compatible), encoding="utf-8")
        layers = read_pins({"terminal": (ROOT / "requirements/terminal.txt").read_text(encoding="utf-8")})
        materials = bill.make(tree, self._pins, layers, self._order.architecture, self._version)
        (tree / rootfs.SHARE / "sbom.json").write_text(materials, encoding="utf-8")
        (folder / "sbom.json").write_text(materials, encoding="utf-8")
        taken = self._shared / "taken"
        boot.initrd(self._recipe, tree, taken, folder / "initrd", source=ROOT, epoch=self._epoch, scratch=self._scratch)
        remark = verity.pack(tree, self._epoch, folder / "root.img", level=SQUASHFS_LEVEL)
        verified = verity.seal(folder / "root.img")
        (folder / "root.json").write_text(json.dumps({"hash": verified.hash, "offset": verified.offset}))
        (folder / "image.json").write_text(json.dumps({"name": verified.hash, **manifest}, indent=1, sort_keys=True) + "\n")
        shutil.rmtree(tree)
        return remark

    def _verified(self) -> verity.Verified:
        told = json.loads((self._order.folder / "root.json").read_text())
        return verity.Verified(told["hash"], told["offset"])

    def _boot(self) -> None:
        folder = self._order.folder
        asked = digest_of(folder / "root.img.made-of", HERE / "boot.py", HERE / "boot", self._order.dev)
        self._steps.step("boot", folder / "boot.img", asked, self._make_boot)

    def _make_boot(self) -> str:
        folder = self._order.folder
        boot.slot(
            next((self._shared / "taken").glob("linux-image-*/boot/vmlinuz-*")),
            folder / "initrd",
            self._verified(),
            folder / "boot.img",
            epoch=self._epoch,
            scratch=self._scratch,
            dev=self._order.dev,
        )
        return f"{(folder / 'boot.img').stat().st_size / 1e6:.1f} MB, initrd {(folder / 'initrd').stat().st_size / 1e6:.1f} MB"

    def _disk(self) -> None:
        folder = self._order.folder
        asked = digest_of(folder / "boot.img.made-of", HERE / "disk.py", self._recipe.sizes)
        self._steps.step("disk", folder / "disk.img", asked, self._make_disk)

    def _make_disk(self) -> str:
        folder, sizes = self._order.folder, self._recipe.sizes
        for name, size in (("root.img", sizes.root_mb), ("boot.img", sizes.boot_mb)):
            if (folder / name).stat().st_size > size << 20:
                raise ImageFailure(f"{name} has {(folder / name).stat().st_size >> 20} MiB and its partition {size}; correct [sizes]")
        loader = list(boot.loader(self._shared / "taken", ROOT, self._scratch, dev=self._order.dev))
        disk.esp(loader, sizes.esp_mb, self._epoch, self._scratch / "esp.img")
        disk.data(sizes.data_mb, self._epoch, self._scratch / "data.img")
        names = {"esp": str(self._scratch / "esp.img"), "data": str(self._scratch / "data.img")}
        names |= {f"{what}-{which}": str(folder / f"{what}.img") for what in ("boot", "root") for which in "ab"}
        disk.assemble(disk.config(self._compatible, sizes, names), folder, self._scratch, folder)
        return f"{(folder / 'disk.img').stat().st_size / 1e6:.0f} MB, both slots filled"

    def _update(self) -> None:
        folder = self._order.folder
        asked = digest_of(folder / "boot.img.made-of", HERE / "bundle.py", self._signing.certificate, self._version)
        images = (folder / "boot.img", folder / "root.img")
        self._steps.step(
            "update",
            folder / "update.raucb",
            asked,
            lambda: bundle.make(
                images,
                self._signing,
                folder / "update.raucb",
                compatible=self._compatible,
                version=self._version,
                scratch=self._scratch,
            ),
        )


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
