"""What lies beside the database: the writer's lock, the memory, the ballast.

The *memory* is the second copy of the epoch, with the highest entry that was certainly durable. It stands outside the database because a
restored database brings its old epoch along and would give numbers away a second time without anybody noticing. It may lie on another
medium.

The *ballast* is room that nobody else can take: when the disk is full in the middle of a ride, deleting it lets the ride be closed.
"""

import errno
import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ledger.chain import HASH_BYTES, Head
from ledger.errors import LedgerBusy, StoreRolledBack

_TITLE = "kazashi ledger memory 1"


@dataclass(frozen=True, slots=True)
class Memory:
    """Which epoch the ledger is in, and the highest entry known to be durable when this was written."""

    epoch: int
    head: Head

    def to_bytes(self) -> bytes:
        """Five lines of text; the last is the SHA-256 of the others."""
        body = f"{_TITLE}\nepoch {self.epoch}\nseq {self.head.seq}\nhash {self.head.hash.hex()}\n"
        return f"{body}check {hashlib.sha256(body.encode()).hexdigest()}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes, ledger: str) -> "Memory":
        """The inverse; ``StoreRolledBack`` says that the memory of ``ledger`` is damaged."""
        try:
            _, epoch, seq, digest, _ = (line.split(" ", 1)[1] for line in data.decode("ascii").splitlines())
            memory = cls(int(epoch), Head(int(seq), bytes.fromhex(digest)))
        except (ValueError, IndexError):
            memory = None
        if memory is None or memory.to_bytes() != data or len(memory.head.hash) != HASH_BYTES:
            raise StoreRolledBack(f"the memory beside the ledger {ledger} is damaged, so its age cannot be proven; it needs a new epoch")
        return memory


class Beside(Protocol):
    """The files beside one database. All raise ``OSError``, except where it says otherwise."""

    def lock(self) -> None:
        """Become the only writer, until ``unlock`` or death; ``LedgerBusy`` when there is one."""
        ...

    def unlock(self) -> None: ...

    def memory(self) -> bytes | None:
        """The bytes of the memory, or None when there is none."""
        ...

    def remember(self, data: bytes) -> None:
        """Replace the memory; durable and whole, whenever the power goes."""
        ...

    def database_bytes(self) -> int:
        """The size of the database, 0 when there is none."""
        ...

    def log_bytes(self) -> int:
        """The size of the write-ahead log, 0 when there is none."""
        ...

    def free_bytes(self) -> int:
        """Room on the file system, without the ballast."""
        ...

    def ballast_bytes(self) -> int:
        """The size of the ballast."""
        ...

    def keep_ballast(self, size: int) -> None:
        """Take ``size`` bytes out of the reach of everybody."""
        ...

    def drop_ballast(self) -> None:
        """Give them back."""
        ...


class BesideDatabase:
    """The files ``NAME.lock``, ``NAME.memory`` and ``NAME.ballast`` beside the database ``NAME``; ``memory``: another place for the
    memory.
    """

    def __init__(self, database: Path, memory: Path | None = None) -> None:
        self._database = database
        self._folder = str(database.parent)
        self._memory = memory or database.with_name(database.name + ".memory")
        self._ballast = database.with_name(database.name + ".ballast")
        self._lock = database.with_name(database.name + ".lock")
        self._lock_file = -1

    def lock(self) -> None:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno != errno.EWOULDBLOCK:
                raise
            raise LedgerBusy(f"another program is writing the ledger {self._database}; stop it first, a ledger has one writer") from None
        self._lock_file = descriptor

    def unlock(self) -> None:
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def memory(self) -> bytes | None:
        try:
            return self._memory.read_bytes()
        except FileNotFoundError:
            return None

    def remember(self, data: bytes) -> None:
        replace_file(self._memory, data)

    def database_bytes(self) -> int:
        return _size(self._database)

    def log_bytes(self) -> int:
        return _size(self._database.with_name(self._database.name + "-wal"))

    def free_bytes(self) -> int:
        room = os.statvfs(self._folder)
        return room.f_bavail * room.f_frsize

    def ballast_bytes(self) -> int:
        return _size(self._ballast)

    def keep_ballast(self, size: int) -> None:
        descriptor = os.open(self._ballast, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)

    def drop_ballast(self) -> None:
        self._ballast.unlink(missing_ok=True)


def replace_file(path: Path, data: bytes) -> None:
    """Give ``path`` the content ``data``: after a power cut it has the old content or the new one, never anything between."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        left = memoryview(data)
        while left:  # a disk that is just filling up takes a part before it says so
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
