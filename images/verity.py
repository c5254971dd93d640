"""The root as one verified file: squashfs, its hash tree behind it, and the one number that stands for all of it.

Salt and UUID are fixed. They are no secrets: the salt keeps one table of hashes from serving for many disks, and here the same root *shall*
have the same hash on every disk. The root hash is the image's name.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from images.command import ImageFailure, run

SALT = "6b617a61736869000000000000000000000000000000000000000000000000aa"
UUID = "6b617a61-7368-4900-8000-766572697479"
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Verified:
    """A verified root: its hash (hex), and where its hash tree begins."""

    hash: str
    offset: int


def pack(tree: Path, epoch: int, into: Path, *, level: int) -> str:
    """``tree`` as a squashfs in which every time is ``epoch``. Returns a remark."""
    into.unlink(missing_ok=True)
    run(
        (
            *("mksquashfs", tree, into, "-noappend", "-no-progress", "-quiet", "-no-xattrs", "-no-exports", "-comp", "zstd"),
            *("-Xcompression-level", str(level), "-b", "256K"),
        ),
        env={"SOURCE_DATE_EPOCH": str(epoch)},
    )
    return f"{into.stat().st_size / 1e6:.1f} MB"


def seal(file: Path) -> Verified:
    """Append the hash tree to the squashfs ``file``."""
    size = file.stat().st_size
    offset = -(-size // BLOCK) * BLOCK
    with file.open("ab") as padded:
        padded.write(bytes(offset - size))
    told = run(
        (
            *("veritysetup", "format", file, file, f"--hash-offset={offset}", f"--data-blocks={offset // BLOCK}"),
            *(f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}", "--hash=sha256", f"--salt={SALT}", f"--uuid={UUID}"),
        )
    )
    found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", told, re.MULTILINE)
    if found is None:
        raise ImageFailure("veritysetup did not say the root hash; is it another version than Debian 12's?")
    return Verified(found[1], offset)


def check(file: Path, verified: Verified) -> None:
    """Read all of ``file`` against its hash, without the kernel; raises ``ImageFailure``."""
    run(("veritysetup", "verify", file, file, verified.hash, f"--hash-offset={verified.offset}"))
