"""What starts before the root: initrd, boot slot, boot loader.

The boot slot is a small squashfs of its own, packed with gzip because GRUB reads no zstd: kernel, initrd, and ``slot.cfg`` with the
kernel's arguments, among them the root hash. So a slot's two partitions belong together by number, not by promise. The boot loader on the
ESP knows nothing of versions; it chooses a slot.

``dev`` is the one flag that tells a workshop's image from a vehicle's: the same root to the last bit, but the kernel is told to open a root
shell on the first serial line. It stands in ``slot.cfg`` and nowhere else.
"""

import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from images import kernel, rootfs
from images.command import ImageFailure, run
from images.recipe import Recipe
from images.verity import Verified

_ALWAYS = "ro panic=5 systemd.volatile=state fsck.mode=auto fsck.repair=yes vt.global_cursor_default=0"
_FIELD = "quiet loglevel=3 console=tty0"
_DEV = "console=tty0 console=ttyS0,115200 loglevel=4 systemd.show_status=no kazashi.dev"
GRUB_MODULES = (
    *("part_gpt", "fat", "squash4", "gzio", "search", "search_fs_file"),
    *("normal", "configfile", "loadenv", "test", "regexp", "echo", "minicmd", "reboot"),
    *("linux", "efi_gop", "serial", "terminal"),
)
_TOOLS = ("sh", "mount", "umount", "cat", "sleep", "reboot", "insmod", "grep", "head", "mkdir", "echo", "switch_root")


def initrd(recipe: Recipe, tree: Path, taken: Path, into: Path, *, source: Path, epoch: int, scratch: Path) -> None:
    """Write the initrd: busybox, veritysetup with its libraries out of the root ``tree``, and the early kernel modules.

    busybox is that of ``taken``, which needs no libraries; else the root's.
    """
    folder = scratch / "initrd"
    for name in ("bin", "dev", "proc", "sys", "run", "system", "modules"):
        (folder / name).mkdir(parents=True)
    if static := next(taken.glob("busybox-static/bin/busybox"), None):
        shutil.copy2(static, folder / "bin/busybox")
    else:
        _programs(tree, folder, "usr/bin/busybox")
    for name in _TOOLS:
        (folder / "bin" / name).symlink_to("busybox")
    _programs(tree, folder, "usr/sbin/veritysetup")
    _early_modules(recipe, tree, folder / "modules")
    shutil.copyfile(source / "images/boot/init", folder / "init")
    (folder / "init").chmod(0o755)
    _archive(folder, epoch, into)


def _programs(tree: Path, folder: Path, program: str) -> None:
    """A program and the libraries it names, found in the root's own library folders."""
    shutil.copy2(tree / program, folder / "bin" / Path(program).name)
    waiting = [tree / program]
    while waiting:
        told = run(("readelf", "--dynamic", "--program-headers", waiting.pop()))
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", told):
            found = next(iter(sorted([*(tree / "usr/lib").glob(f"*-linux-gnu*/{name}"), *(tree / "usr/lib").glob(name)])), None)
            if found is None:
                raise ImageFailure(f"{program} needs {name}, which is not in the root; add its package to the recipe")
            into = folder / "lib" / name
            if not into.exists():
                into.parent.mkdir(exist_ok=True)
                shutil.copyfile(found.resolve(), into)
                into.chmod(0o755)
                waiting.append(found)
        for name in re.findall(r"program interpreter: (/\S+?)\]", told):
            into = folder / name.lstrip("/")
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile((tree / "usr" / name.lstrip("/")).resolve(), into)
            into.chmod(0o755)


def _early_modules(recipe: Recipe, tree: Path, folder: Path) -> None:
    below = tree / "usr/lib/modules" / rootfs.kernel_version(tree)
    order = kernel.named(kernel.needs((below / "modules.dep").read_text()), recipe.early_modules)
    for path in order:
        shutil.copyfile(below / path, folder / Path(path).name)
    (folder / "order").write_text("".join(f"{Path(path).name}\n" for path in order))


def _archive(folder: Path, epoch: int, into: Path) -> None:
    """A cpio archive of the new ASCII kind (the kernel's initramfs buffer format), zstd-packed; equal folders give equal bytes."""
    archive = into.with_suffix(".cpio")
    with archive.open("wb") as file:
        for number, path in enumerate([*sorted(folder.rglob("*"))], 1):
            file.write(_member(path, path.relative_to(folder).as_posix(), number, epoch))
        file.write(_header("TRAILER!!!", 0, 0, 0, 0))
    run(("zstd", "--quiet", "--force", "-19", "--rm", archive, "-o", into))


def _member(path: Path, name: str, number: int, epoch: int) -> bytes:
    about = path.lstat()
    content = b"" if stat.S_ISDIR(about.st_mode) else str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
    return _header(name, number, about.st_mode, epoch, len(content)) + content + bytes(-len(content) % 4)


def _header(name: str, number: int, mode: int, epoch: int, size: int) -> bytes:
    fields = (number, mode, 0, 0, 1, epoch, size, 0, 0, 0, 0, len(name.encode()) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % each for each in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4)


def slot(vmlinuz: Path, initrd_file: Path, verified: Verified, into: Path, *, epoch: int, scratch: Path, dev: bool) -> None:
    """Write the boot slot, from a kernel and an initrd."""
    folder = scratch / "slot"
    folder.mkdir(parents=True)
    shutil.copyfile(vmlinuz, folder / "vmlinuz")
    shutil.copyfile(initrd_file, folder / "initrd")
    (folder / "slot.cfg").write_text(f'set arguments="{arguments(verified, dev=dev)}"\n')
    into.unlink(missing_ok=True)
    run(
        ("mksquashfs", folder, into, "-noappend", "-no-progress", "-quiet", "-all-root", "-no-xattrs", "-comp", "gzip"),
        env={"SOURCE_DATE_EPOCH": str(epoch)},
    )


def arguments(verified: Verified, *, dev: bool) -> str:
    """The kernel's arguments, but for those that depend on the slot."""
    return f"{_ALWAYS} {_DEV if dev else _FIELD} kazashi.hash={verified.hash} kazashi.offset={verified.offset}"


def loader(taken: Path, source: Path, scratch: Path, *, dev: bool) -> Iterator[tuple[str, Path]]:
    """The ESP's files: name there, and file here. Only amd64 has a loader of ours."""
    # Read by GRUB's rescue parser, which knows neither `if` nor a comment: find our partition and hand over.
    early = source / "images/boot/early.cfg"
    efi = scratch / "grub.efi"
    modules = next(taken.glob("grub-efi-amd64-bin/usr/lib/grub/x86_64-efi"))
    run(
        (
            *("grub-mkimage", "--format=x86_64-efi", f"--directory={modules}", "--prefix=/grub", f"--config={early}", f"--output={efi}"),
            *GRUB_MODULES,
        )
    )
    yield "EFI/BOOT/BOOTX64.EFI", efi
    yield from choice(source, scratch, dev=dev)


def choice(source: Path, scratch: Path, *, dev: bool) -> Iterator[tuple[str, Path]]:
    """The ESP's files that choose a slot, whatever loader reads them: its logic, and the note of what was tried."""
    config = scratch / "kazashi.cfg"
    serial = "serial --unit=0 --speed=115200\nterminal_output console serial\n" if dev else ""
    config.write_text(serial + (source / "images/boot/grub.cfg").read_text(encoding="utf-8"))
    environment = scratch / "grubenv"
    run(("grub-editenv", environment, "create"))
    run(("grub-editenv", environment, "set", "ORDER=A B", "A_OK=1", "B_OK=1", "A_TRY=0", "B_TRY=0"))
    yield "grub/kazashi.cfg", config
    yield "grub/grubenv", environment
