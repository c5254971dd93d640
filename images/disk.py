"""The disk: a GPT with the ESP, two slots of two partitions each, and /data. genimage lays it out; nothing is mounted.

The numbers of the partitions are fixed (``boot/grub.cfg`` counts them). The partitions' own identifiers are derived from their names: a
disk is a copy of an image, and every copy has the same ones. The data partition has 4096-byte blocks, aligned to 1 MiB, as the pages of
the ledger are. It lies last and is of a kind of its own: the first start makes it as large as the disk (``kazashi-grow.service``).
"""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

from images.command import run
from images.recipe import Sizes

_NAMES = uuid.UUID("6b617a61-7368-4900-8000-000064697363")
_PARTITION = """\
    partition {name} {{
        partition-type-uuid = {kind}
        partition-uuid = {number}
        image = "{file}"
        size = {size}M
    }}
"""
_ESP, _LINUX = "U", "L"
DATA = "4cb0aced-a7dd-5b20-9895-049e830a6529"
"""The kind of the data partition, which ``systemd/usr/lib/repart.d`` lets grow."""


def config(role: str, sizes: Sizes, files: dict[str, str]) -> str:
    """What genimage is told; ``files`` names the image file of each partition."""
    parts = "".join(
        _PARTITION.format(name=name, kind=kind, number=uuid.uuid5(_NAMES, name), file=files[name], size=size)
        for name, kind, size in (
            ("esp", _ESP, sizes.esp_mb),
            ("boot-a", _LINUX, sizes.boot_mb),
            ("boot-b", _LINUX, sizes.boot_mb),
            ("root-a", _LINUX, sizes.root_mb),
            ("root-b", _LINUX, sizes.root_mb),
            ("data", DATA, sizes.data_mb),
        )
    )
    table = f'        partition-table-type = "gpt"\n        disk-uuid = {uuid.uuid5(_NAMES, role)}\n        align = 1M\n'
    return f"image disk.img {{\n    hdimage {{\n{table}    }}\n{parts}}}\n"


def esp(files: Sequence[tuple[str, Path]], size_mb: int, epoch: int, into: Path) -> None:
    """A FAT file system with these files."""
    into.unlink(missing_ok=True)
    run(("mkfs.vfat", "-C", "-F", "16", "-n", "KAZASHI-ESP", "-i", "4b5a5348", "--invariant", into, str(size_mb * 1024)))
    made: set[str] = set()
    for name, path in files:
        for parent in list(Path(name).parents)[-2::-1]:
            if str(parent) not in made:
                run(("mmd", "-i", into, f"::{parent}"), env={"SOURCE_DATE_EPOCH": str(epoch)})
                made.add(str(parent))
        run(("mcopy", "-i", into, path, f"::{name}"), env={"SOURCE_DATE_EPOCH": str(epoch)})


def data(size_mb: int, epoch: int, into: Path, content: Path | None = None) -> None:
    """An ext4 file system for /data, with the files below ``content``, if any."""
    into.unlink(missing_ok=True)
    filled = () if content is None else ("-d", content)
    run(
        (
            *("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "kazashi-data", "-U", str(uuid.uuid5(_NAMES, "data-fs"))),
            *("-E", f"hash_seed={uuid.uuid5(_NAMES, 'data-hash')},root_owner=0:0", "-m", "1", *filled, into, f"{size_mb}M"),
        ),
        env={"E2FSPROGS_FAKE_TIME": str(epoch)},
    )


def partition(disk: Path, name: str) -> tuple[int, int]:
    """Where the partition of this name begins on a disk, and its size, both in bytes."""
    table = json.loads(run(("sfdisk", "--json", disk)))["partitiontable"]
    (found,) = [each for each in table["partitions"] if each["name"] == name]
    return found["start"] * table["sectorsize"], found["size"] * table["sectorsize"]


def assemble(text: str, inputs: Path, scratch: Path, into: Path) -> None:
    """Have genimage write ``into/disk.img``; ``inputs`` holds the partitions' files."""
    plan = scratch / "genimage.cfg"
    plan.write_text(text)
    empty = scratch / "empty"
    empty.mkdir(exist_ok=True)
    where = (f"--inputpath={inputs}", f"--outputpath={into}", f"--rootpath={empty}", f"--tmppath={scratch / 'genimage'}")
    run(("genimage", f"--config={plan}", *where))
