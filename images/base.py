"""The Debian part: from the pinned packages to ``base.tar``, without a network.

mmdebstrap is given a repository of exactly the pinned files, so it cannot choose another one. The tar is the same for the same pins
(``SOURCE_DATE_EPOCH``); everything that is ours comes later, so that this, the slow part, is made once for one lock file.
"""

import gzip
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images.apt import Apt
from images.command import run
from images.lock import Pinned
from images.recipe import Recipe

_HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
# Left out while packages are unpacked, because writing them and taking them out again is half the time.
_UNREAD = ("usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*")
_LICENCES = "usr/share/doc/*/copyright"
EPOCH_OF_BASE = 0
"""The Debian part's own date: the pins say what it is, not the day it was unpacked."""


def make(recipe: Recipe, apt: Apt, pins: Sequence[Pinned], into: Path, scratch: Path) -> str:
    """Write ``into`` (a tar); ``scratch`` is a folder in memory, if there is one. Returns a remark."""
    installed = [pin for pin in pins if not pin.taken]
    with tempfile.TemporaryDirectory(dir=scratch, prefix="base-") as folder:
        repository = Path(folder) / "repository"
        _repository(apt, installed, repository, recipe.suite)
        run(
            (
                "mmdebstrap",
                "--mode=root",
                "--variant=essential",
                "--format=tar",
                f"--architectures={apt.architecture}",
                f"--hook-dir={_HOOKS}",
                "--dpkgopt=force-unsafe-io",
                *(f"--dpkgopt=path-exclude=/{path}" for path in _UNREAD),
                f"--dpkgopt=path-include=/{_LICENCES}",
                '--aptopt=APT::Install-Recommends "false"',
                '--aptopt=APT::Sandbox::User "root"',
                '--customize-hook=rm "$1/etc/apt/sources.list"',  # it names the scratch folder, and no unit fetches packages
                f"--include={','.join(recipe.packages)}",
                recipe.suite,
                into,
                f"deb [trusted=yes] copy:{repository} ./",
            ),
            env={"TMPDIR": folder, "SOURCE_DATE_EPOCH": str(EPOCH_OF_BASE)},
            limit_s=1800,
        )
    return f"{len(installed)} packages, {into.stat().st_size / 1e6:.0f} MB"


def _repository(apt: Apt, pins: Sequence[Pinned], folder: Path, suite: str) -> None:
    """A flat repository of these files: what apt wants to know of each, and the hashes that bind it together."""
    folder.mkdir()
    paragraphs: list[str] = []
    for pin in pins:
        name = f"{pin.sha256}.deb"
        shutil.copyfile(apt.path(pin), folder / name)
        control = run(("dpkg-deb", "--field", folder / name)).rstrip("\n")
        paragraphs.append(f"{control}\nFilename: ./{name}\nSize: {pin.size}\nSHA256: {pin.sha256}\n")
    packages = "\n".join(paragraphs).encode()
    files = {"Packages": packages, "Packages.gz": gzip.compress(packages, mtime=0)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    hashes = "".join(f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}\n" for name, content in files.items())
    (folder / "Release").write_text(
        f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n{hashes}"
    )


def taken_files(apt: Apt, pins: Sequence[Pinned], into: Path) -> str:
    """Unpack the packages that only give files, each into ``into/NAME``. Returns a remark."""
    shutil.rmtree(into, ignore_errors=True)
    taken = [pin for pin in pins if pin.taken]
    for pin in taken:
        (into / pin.name).mkdir(parents=True)
        run(("dpkg-deb", "--extract", apt.path(pin), into / pin.name))
    return ", ".join(f"{pin.name} {pin.version}" for pin in taken)
