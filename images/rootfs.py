"""From the Debian part to the root: our files in, what nobody uses out, and everything that would differ between two builds made equal.

The order matters. Packages are taken out before ours come in, so that no name of ours can be lost with theirs; Python is compiled last,
when no file moves any more. Compiled files are of the unchecked kind (PEP 552): the usual kind holds its source's time, all times in the
image are one and the same, and Python would compile its own library anew at each start of each process.
"""

import json
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from images import kernel, wheels
from images.command import ImageFailure, run
from images.recipe import Recipe, alternatives

OURS = ("drivers", "ledger", "fares", "validator", "kiosk_ui", "firmware")
SHARED = ("examples/keypad.toml", "examples/town/operator.toml", "LICENSE", "NOTICE")
"""Files that lie in ``SHARE``."""
OVERLAYS = ("images/root", "systemd")
"""Folders in the layout of the root, laid over it in this order."""
LIBRARY = "usr/lib/kazashi"
SHARE = "usr/share/kazashi"
UNITS = "usr/lib/systemd/system"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a root is made of: a tar, folders, and the keyring (PEM) that updates must be signed under."""

    source: Path
    base: Path
    taken: Path
    wheels: Path
    clips: Path
    keyring: Path


def make(recipe: Recipe, architecture: str, parts: Parts, manifest: dict[str, object], tree: Path) -> None:
    """The root's tree in the new folder ``tree``; ``manifest`` becomes ``image.json``. Needs root."""
    tree.mkdir(parents=True)
    run(("tar", "--extract", "--numeric-owner", "--file", parts.base, "--directory", tree))
    licences = _licences(tree)
    for package in recipe.left_out:
        _leave_out(tree, package)
    _take(tree, recipe, architecture, parts.taken)
    keep_modules(tree, recipe.modules)
    _ours(tree, parts)
    identity(tree, recipe, manifest)
    run(("systemd-sysusers", f"--root={tree}"))
    run(("systemctl", f"--root={tree}", "preset-all", "--preset-mode=full"))
    _start_with(tree, recipe.target)
    for pattern in recipe.without:
        without(tree, pattern)
    for name, text in licences.items():
        write(tree / SHARE / "licences" / name, text)
    empty_files(tree)
    no_setuid(tree)
    _compile(tree)


def source_files(source: Path) -> tuple[Path, ...]:
    """Our own files that a terminal has: what git knows of or would add, below ``OURS``."""
    told = run(("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *OURS), cwd=source)
    return tuple(source / name for name in sorted(set(told.split("\0"))) if name and (source / name).is_file())


def packages(status: str) -> Iterator[dict[str, str]]:
    """The paragraphs of dpkg's status file that are installed."""
    for paragraph in status.strip().split("\n\n"):
        about = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
        if about.get("Status", "").endswith(" installed"):
            yield about


def _licences(tree: Path) -> dict[str, str]:
    found = sorted((tree / "usr/share/doc").glob("*/copyright"))
    return {path.parent.name: path.read_text(encoding="utf-8", errors="replace") for path in found if path.is_file()}


def _leave_out(tree: Path, package: str) -> None:
    """Remove a package's files and its paragraph in dpkg's status; what is not installed is not there to be left out."""
    lists = [*(tree / "var/lib/dpkg/info").glob(f"{package}.list"), *(tree / "var/lib/dpkg/info").glob(f"{package}:*.list")]
    for listed in lists:
        for name in sorted(listed.read_text().splitlines(), key=len, reverse=True):
            path = tree / name.lstrip("/")
            if path.is_dir() and path.is_symlink():
                continue  # /bin and its like, which are ways into /usr
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()) and name not in {"/.", "/var/lib/dpkg"}:
                path.rmdir()
    status = tree / "var/lib/dpkg/status"
    kept = [each for each in status.read_text().strip().split("\n\n") if not each.startswith(f"Package: {package}\n")]
    status.write_text("\n\n".join(kept) + "\n")


def _take(tree: Path, recipe: Recipe, architecture: str, taken: Path) -> None:
    """Copy what the recipe takes of other packages; the boot loader and the kernel itself go elsewhere."""
    for each in recipe.taken_on(architecture):
        for folder in taken.glob(each.follow or each.package):
            for pattern in each.files:
                if pattern.startswith(("boot/", "usr/lib/grub/")) or each.package.startswith("busybox"):
                    continue
                for path in folder.glob(pattern):
                    into = tree / _merged(path.relative_to(folder))
                    into.parent.mkdir(parents=True, exist_ok=True)
                    if path.is_dir():
                        shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True)
                    else:
                        shutil.copy2(path, into)


def _merged(path: Path) -> Path:
    return Path("usr") / path if path.parts[0] in {"bin", "sbin", "lib"} else path


def kernel_version(tree: Path) -> str:
    """The version of the one kernel in this root."""
    (found,) = (path.name for path in (tree / "usr/lib/modules").iterdir())
    return found


def keep_modules(tree: Path, prefixes: Sequence[str]) -> None:
    """Remove every kernel module but those below ``prefixes`` and what they need."""
    version = kernel_version(tree)
    folder = tree / "usr/lib/modules" / version
    run(("depmod", "--basedir", tree / "usr", version))
    kept = kernel.kept(kernel.needs((folder / "modules.dep").read_text()), prefixes)
    if not kept:
        raise ImageFailure("the recipe keeps no kernel module at all; its [[modules]] do not fit this kernel")
    for path in sorted(folder.rglob("*.ko*")):
        if path.relative_to(folder).as_posix() not in kept:
            path.unlink()
    for path in sorted(folder.rglob("*"), key=lambda each: len(each.parts), reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
    for name in ("build", "source"):
        (folder / name).unlink(missing_ok=True)
    run(("depmod", "--basedir", tree / "usr", version))


def _ours(tree: Path, parts: Parts) -> None:
    library = tree / LIBRARY
    shutil.copytree(parts.wheels, library)
    for path in source_files(parts.source):
        into = library / path.relative_to(parts.source)
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into)
    shutil.copytree(parts.clips, tree / SHARE / "clips")
    (library / "build").mkdir()
    (library / "build/clips").symlink_to(f"/{SHARE}/clips")
    for name in SHARED:
        write(tree / SHARE / Path(name).name, (parts.source / name).read_text(encoding="utf-8"))
    for overlay in OVERLAYS:
        shutil.copytree(parts.source / overlay, tree, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    write(tree / "etc/rauc/keyring.pem", parts.keyring.read_text())
    plain_modes(tree)


def plain_modes(tree: Path) -> None:
    """Our library and what lies beside it: readable by all, executable by nobody."""
    for path in (tree / LIBRARY, tree / SHARE):
        for each in (path, *path.rglob("*")):
            if not each.is_symlink():
                each.chmod(0o755 if each.is_dir() else 0o644)


def identity(tree: Path, recipe: Recipe, manifest: dict[str, object]) -> None:
    """What this image says of itself, and the places that a partition is mounted on."""
    write(tree / SHARE / "image.json", json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    release = tree / "usr/lib/os-release"
    release.write_text(
        f'{release.read_text().rstrip()}\nIMAGE_ID=kazashi-{recipe.role}\nIMAGE_VERSION="{manifest["version"]}"\nVARIANT_ID={recipe.role}\n'
    )
    write(tree / f"{UNITS}/kazashi-screen.service.d/70-role.conf", f"[Service]\nEnvironment=ALONE={recipe.alone}\n")
    write(tree / "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    for name in ("data", "efi"):
        (tree / name).mkdir(exist_ok=True)


def _start_with(tree: Path, target: str) -> None:
    there = (tree / UNITS / target).exists()
    link = tree / "etc/systemd/system/default.target"
    link.unlink(missing_ok=True)
    link.symlink_to(f"/{UNITS}/{target if there else 'multi-user.target'}")


def without(tree: Path, pattern: str) -> None:
    """Remove what fits ``pattern``, a shell's with braces, from the root."""
    for each in alternatives(pattern):
        for path in tree.glob(each):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def empty_files(tree: Path) -> None:
    """What must be there and says nothing: systemd then makes a machine's number for this start only."""
    write(tree / "etc/machine-id", "", mode=0o444)
    write(tree / "etc/hostname", "kazashi\n")
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    (tree / "etc/resolv.conf").symlink_to("/run/systemd/resolve/resolv.conf")


def no_setuid(tree: Path) -> None:
    """Take from every file the right to run as another user."""
    for path in tree.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


def _compile(tree: Path) -> None:
    python = Path("/usr/bin/python3.11")
    if not python.exists():
        raise ImageFailure("there is no /usr/bin/python3.11 here, which compiles for the image's; install python3 of Debian 12")
    compiled(tree, python, tree / "usr/lib/python3.11", tree / "usr/lib/python3", tree / LIBRARY)


def compiled(tree: Path, python: Path, *folders: Path) -> None:
    """Compile what is in ``folders`` of ``tree`` for good, with a Python of the image's version."""
    for folder in folders:
        for cache in [*folder.rglob("__pycache__")]:
            shutil.rmtree(cache)
    compiling = (python, "-I", "-m", "compileall", "-q", "-f", "-j", "1", "--invalidation-mode", "unchecked-hash")
    run((*compiling, "-s", tree, "-p", "/", *(folder for folder in folders if folder.exists())))


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def distributions(tree: Path) -> tuple[wheels.Distribution, ...]:
    """The Python distributions of a root."""
    return wheels.installed(tree / LIBRARY)
