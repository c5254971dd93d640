"""Which Debian packages an image is made of, to the byte: ``locks/ROLE-ARCH.txt``, read and written. Pure.

A line is ``name=version sha256:… bytes N``, and ``taken`` at its end for a package that gives files and is not installed. The hash is that
of the ``.deb``, so whatever mirror it comes from, it is this one or the build stops.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9.+-]+)=(?P<version>\S+) sha256:(?P<sha256>[0-9a-f]{64}) bytes (?P<size>\d+)(?P<taken> taken)?")


class LockError(ValueError):
    """A lock that cannot be read; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """One ``.deb``: its SHA-256 in hex and its size in bytes. ``taken``: it gives files and is not installed."""

    name: str
    version: str
    sha256: str
    size: int
    taken: bool = False


def read(text: str, name: str) -> tuple[Pinned, ...]:
    """The pins of a lock file called ``name``; raises ``LockError``."""
    found: list[Pinned] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise LockError(f"{name}, line {number}: is no pin; run `make image-pins` again instead of editing this file")
        found.append(Pinned(match["name"], match["version"], match["sha256"], int(match["size"]), match["taken"] is not None))
    return tuple(found)


def write(pins: Iterable[Pinned], what: str) -> str:
    """The text of a lock file; ``what`` it is for."""
    ordered = sorted(pins, key=lambda each: (each.taken, each.name))
    total = sum(each.size for each in ordered)
    lines = [f"# {what}: {len(ordered)} Debian packages, {total / 1e6:.0f} MB to fetch. Written by `make image-pins`; do not edit."]
    lines += [f"{each.name}={each.version} sha256:{each.sha256} bytes {each.size}{' taken' if each.taken else ''}" for each in ordered]
    return "\n".join(lines) + "\n"
