"""The image's bill of materials: every Debian package, every wheel, the kernel and the boot loader, each to the version and hash.

It is read from the root itself (dpkg's status, the wheels' dist-info), not from what was asked for; the hash of each ``.deb`` comes from
the lock file. A package that only gave files is marked ``kazashi:taken``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from images import rootfs
from images.lock import Pinned
from tools.audit import Pin, component, document


def make(tree: Path, pins: Sequence[Pinned], wheel_pins: Sequence[Pin], architecture: str, version: str) -> str:
    """CycloneDX 1.6 as JSON."""
    return document([*_debian(tree, pins, architecture), *_python(tree, wheel_pins)], version)


def _debian(tree: Path, pins: Sequence[Pinned], architecture: str) -> Iterator[dict[str, object]]:
    by_name = {pin.name: pin for pin in pins}
    status = (tree / "var/lib/dpkg/status").read_text(encoding="utf-8")
    for about in sorted(rootfs.packages(status), key=lambda each: each["Package"]):
        yield _package(about["Package"], about["Version"], about["Architecture"], by_name[about["Package"]].sha256)
    for pin in pins:
        if pin.taken:
            taken = _package(pin.name, pin.version, architecture, pin.sha256)
            yield {**taken, "properties": [{"name": "kazashi:taken", "value": "some of its files, not installed"}]}


def _package(name: str, version: str, architecture: str, sha256: str) -> dict[str, object]:
    purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={architecture}&distro=debian-12"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }


def _python(tree: Path, wheel_pins: Sequence[Pin]) -> Iterator[dict[str, object]]:
    by_name = {pin.name: pin for pin in wheel_pins}
    for each in rootfs.distributions(tree):
        yield component(by_name[each.name], each.licence)
