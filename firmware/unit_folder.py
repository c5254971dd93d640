"""A unit's folder on its data partition: a ``firmware.provision.Shelf``."""

import grp
import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from firmware.provision import Place
from ledger.beside import flush_folder

_THROUGH, _SHARED, _ALONE = 0o711, 0o750, 0o700


@dataclass(frozen=True, slots=True)
class UnitFolder:
    """``root``: /data/unit. Owners are given only by root, and only to users that this machine has; the image has them all."""

    root: Path

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def lay(self, name: str, data: bytes, place: Place) -> None:
        path = self.root / name
        self._folder(path.parent, place)
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, place.mode)
        try:
            os.fchmod(descriptor, place.mode)  # whatever the umask is
            _give(descriptor, place)
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(path)
        flush_folder(path.parent)

    def drop(self, name: str) -> None:
        path = self.root / name
        with suppress(FileNotFoundError):
            path.unlink()
            flush_folder(path.parent)

    def _folder(self, folder: Path, place: Place) -> None:
        if folder.is_dir():
            return
        _make(self.root, _SHARED)
        if folder.is_dir():
            return
        for above in reversed(folder.relative_to(self.root).parents[:-1]):
            _make(self.root / above, _THROUGH)
        _make(folder, _ALONE if place.user else _SHARED)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _give(descriptor, place)
        finally:
            os.close(descriptor)
        flush_folder(folder.parent)


def _make(folder: Path, mode: int) -> None:
    """A new folder with this mode, whatever the umask is; one that is there stays as it is."""
    if not folder.is_dir():
        folder.mkdir()
        folder.chmod(mode)


def _give(descriptor: int, place: Place) -> None:
    if os.geteuid() != 0:
        return
    with suppress(KeyError):
        user = pwd.getpwnam(place.user or "root")
        group = user.pw_gid if place.user else grp.getgrnam("kazashi").gr_gid
        os.fchown(descriptor, user.pw_uid, group)
