"""A disk whose power can be cut: the twin of a storage medium and its file system, as SQLite sees them through a VFS.

What it believes
    * What was flushed stays, whole.
    * Of the writes since the last flush of a file, any may have reached the medium and any may not, in any order; one may be torn at any
      512-byte sector; and one 4096-byte block that was being written may hold garbage, also where nobody wrote.
    * Changes of the directory (creating, renaming, deleting) become durable in order; any flush makes the earlier ones durable, as on a
      journaling file system. Without one, any number of the last ones may be missing.
    * A flush that fails may have dropped what it should have written (``Failure.FORGETS``), and the next flush does not tell.

What it does not model: a medium that says "flushed" and lies, and damage to blocks that nobody touched.

``steps`` counts what could be interrupted: writes, flushes, truncations, deletions, renamings.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import cast

import apsw

BLOCK = 4096
SECTOR = 512


class PowerCut(Exception):
    """The power is gone. Every later call to the disk is in vain."""


class Failure(Enum):
    """How a step fails without the power being cut."""

    REFUSES = "an I/O error; what was written before may or may not be flushed later"
    FORGETS = "an I/O error; a failed flush drops what was written, and later flushes do not tell"
    FULL = "no room for a write"


@dataclass(slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(slots=True)
class _Truncate:
    size: int


_Change = _Write | _Truncate


class _Content:
    """Bytes in blocks, so that a copy costs no more than its list of blocks."""

    def __init__(self, blocks: dict[int, bytes] | None = None, size: int = 0) -> None:
        self.size = size
        self._blocks = blocks or {}

    def copy(self) -> "_Content":
        return _Content(dict(self._blocks), self.size)

    def read(self, offset: int, amount: int) -> bytes:
        end = min(offset + amount, self.size)
        first = offset // BLOCK
        last = max(first, (end - 1) // BLOCK)
        found = b"".join(self._blocks.get(number, _EMPTY) for number in range(first, last + 1))
        return found[offset - first * BLOCK : max(offset, end) - first * BLOCK]

    def apply(self, change: _Change) -> None:
        match change:
            case _Write(offset, data):
                self._write(offset, data)
            case _Truncate(size) if size < self.size:
                self._write(size, bytes(-size % BLOCK))
                self._blocks = {number: block for number, block in self._blocks.items() if number * BLOCK < size}
                self.size = size
            case _Truncate(size):
                self.size = size

    def _write(self, offset: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, start = divmod(offset + at, BLOCK)
            part = data[at : at + BLOCK - start]
            block = self._blocks.get(number, _EMPTY)
            self._blocks[number] = block[:start] + part + block[start + len(part) :]
            at += len(part)
        self.size = max(self.size, offset + len(data))


_EMPTY = bytes(BLOCK)


@dataclass(slots=True, eq=False)
class _File:
    now: _Content = field(default_factory=_Content)
    safe: _Content = field(default_factory=_Content)
    pending: list[_Change] = field(default_factory=list[_Change])


@dataclass(slots=True)
class _Named:
    """A change of the directory: ``name`` now stands for ``file``, or for nothing; ``before`` (a renaming) for nothing any more."""

    name: str
    file: _File | None
    before: str = ""


class Disk:
    """Files by name, as they are (``now``) and as they would be found after a power cut (chosen by ``after_power_cut``)."""

    def __init__(self) -> None:
        self.steps = 0
        self.cut_at: int | None = None
        self.fail_from: int | None = None
        self.fail_steps = 1
        self.failure = Failure.REFUSES
        self.on_step: Callable[[], None] | None = None
        self.free = 10**9
        self.dead = False
        self._names: dict[str, _File] = {}
        self._safe_names: dict[str, _File] = {}
        self._pending_names: list[_Named] = []

    # ── what happens to it ──

    def copy(self) -> "Disk":
        """Another disk with the same files and all of it flushed."""
        twin = Disk()
        for name, file in self._names.items():
            twin._put(name, file.now)
        return twin

    def after_power_cut(self, random: Random) -> "Disk":
        """The disk as it may be found when the power comes back."""
        found = Disk()
        names = dict(self._safe_names)
        for named in self._pending_names[: random.randint(0, len(self._pending_names))]:
            _rename(names, named)
        for name, file in names.items():
            found._put(name, _survivor(file, random))
        return found

    # ── files, as a VFS and its neighbour use them ──

    def exists(self, name: str) -> bool:
        return name in self._names

    def size(self, name: str) -> int:
        return self._names[name].now.size if name in self._names else 0

    def content(self, name: str) -> bytes:
        now = self._names[name].now
        return now.read(0, now.size)

    def opened(self, name: str) -> _File:
        """The file ``name``; created if need be."""
        if name not in self._names:
            self._name(_Named(name, _File()))
        return self._names[name]

    def write(self, file: _File, offset: int, data: bytes) -> None:
        if self._step(room=True):
            change = _Write(offset, data)
            file.pending.append(change)
            file.now.apply(change)
            self._cut()

    def truncate(self, file: _File, size: int) -> None:
        if self._step():
            change = _Truncate(size)
            file.pending.append(change)
            file.now.apply(change)
            self._cut()

    def flush(self, file: _File) -> None:
        if not self._step(flushed=file):
            return
        self._cut()
        for change in file.pending:
            file.safe.apply(change)
        file.pending.clear()
        self.flush_names()

    def flush_names(self) -> None:
        for named in self._pending_names:
            _rename(self._safe_names, named)
        self._pending_names.clear()

    def delete(self, name: str, *, durable: bool) -> None:
        if self._step():
            self._name(_Named(name, None))
            self._cut()
            if durable:
                self.flush_names()

    def rename(self, name: str, new: str) -> None:
        """One step; a file that has the name ``new`` is gone."""
        if self._step():
            self._name(_Named(new, self._names[name], name))
            self._cut()

    def replace(self, name: str, data: bytes) -> None:
        """The usual five steps: write another file, flush it, rename it, flush the directory."""
        fresh = _File()
        self.write(fresh, 0, data)
        self.flush(fresh)
        if self._step():
            self._name(_Named(name, fresh))
            self._cut()
        if self._step():
            self._cut()
            self.flush_names()

    # ── inside ──

    def _put(self, name: str, content: _Content) -> None:
        file = _File(content.copy(), content.copy())
        self._names[name] = self._safe_names[name] = file

    def _name(self, named: _Named) -> None:
        _rename(self._names, named)
        self._pending_names.append(named)

    def _step(self, *, room: bool = False, flushed: _File | None = None) -> bool:
        """Count a step; raise if it fails; False when the power is gone and nothing can happen any more."""
        if self.dead:
            return False
        self.steps += 1
        if self.on_step is not None:
            self.on_step()
        if self.fail_from is not None and self.fail_from <= self.steps < self.fail_from + self.fail_steps:
            if self.failure is Failure.FULL:
                if room:
                    raise apsw.FullError("the twin has no room")
                return True
            if self.failure is Failure.FORGETS and flushed is not None:
                flushed.pending.clear()
            raise apsw.IOError("the twin fails")
        return True

    def _cut(self) -> None:
        if self.cut_at is not None and self.steps >= self.cut_at:
            self.dead = True
            raise PowerCut


class DiskBeside:
    """What lies beside a database on the twin: memory, ballast, room; there is never a second writer."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name

    def lock(self) -> None:
        """Nothing to lock against."""

    def unlock(self) -> None:
        """Nothing was locked."""

    def memory(self) -> bytes | None:
        name = self._name + ".memory"
        return self._disk.content(name) if self._disk.exists(name) else None

    def remember(self, data: bytes) -> None:
        try:
            self._disk.replace(self._name + ".memory", data)
        except apsw.Error as error:
            raise OSError(str(error)) from error

    def database_bytes(self) -> int:
        return self._disk.size(self._name)

    def log_bytes(self) -> int:
        return self._disk.size(self._name + "-wal")

    def free_bytes(self) -> int:
        return self._disk.free

    def ballast_bytes(self) -> int:
        return self._disk.size(self._name + ".ballast")

    def keep_ballast(self, size: int) -> None:
        self._ballast().apply(_Truncate(size))

    def drop_ballast(self) -> None:
        """The room is there again: writes that failed for want of it go through."""
        self._ballast().apply(_Truncate(0))
        if self._disk.failure is Failure.FULL:
            self._disk.fail_from = None

    def _ballast(self) -> _Content:
        return self._disk.opened(self._name + ".ballast").now


class DiskVfs(apsw.VFS):
    """The VFS ``name``: files of ``disk``, which may be exchanged between two connections."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.disk = disk
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary"
        asked = name.uri_parameter("psow") if isinstance(name, apsw.URIFilename) else None
        if not flags[0] & apsw.SQLITE_OPEN_CREATE and not self.disk.exists(path):
            raise apsw.CantOpenError("no such file")
        flags[1] = flags[0]
        return cast("apsw.VFSFile", _OpenFile(self.disk, self.disk.opened(path), psow=asked != "0"))

    def xDelete(self, filename: str, syncdir: object) -> None:
        if not self.disk.exists(filename):
            raise apsw.IOError("no such file")
        self.disk.delete(filename, durable=bool(syncdir))

    def xAccess(self, pathname: str, flags: int) -> bool:
        del flags  # whoever runs this may read and write
        return self.disk.exists(pathname)

    def xFullPathname(self, name: str) -> str:
        return name


class SlowVfs(apsw.VFS):
    """The VFS ``name``: the machine's own files, but each flush takes ``flush_s`` longer, as on an eMMC; ``flushes`` counts them."""

    def __init__(self, name: str, flush_s: float, sleep: Callable[[float], None]) -> None:
        self.name = name
        self.flush_s = flush_s
        self.flushes = 0
        self._sleep = sleep
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _SlowFile(self, name, flags)

    def flushing(self) -> None:
        self.flushes += 1
        if self.flush_s > 0:
            self._sleep(self.flush_s)


class _SlowFile(apsw.VFSFile):
    def __init__(self, vfs: SlowVfs, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._vfs = vfs
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        self._vfs.flushing()
        super().xSync(flags)


class _OpenFile:
    def __init__(self, disk: Disk, file: _File, *, psow: bool) -> None:
        self._disk = disk
        self._file = file
        self._psow = psow
        self._persist = 0

    def xRead(self, amount: int, offset: int) -> bytes:
        return self._file.now.read(offset, amount)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.write(self._file, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        self._disk.truncate(self._file, newsize)

    def xSync(self, _flags: int) -> None:
        self._disk.flush(self._file)

    def xFileSize(self) -> int:
        return self._file.now.size

    def xClose(self) -> None:
        """Nothing is flushed by closing."""

    def xLock(self, level: int) -> None:
        """One connection at a time."""

    def xUnlock(self, level: int) -> None:
        """One connection at a time."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xSectorSize(self) -> int:
        return BLOCK

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE if self._psow else 0

    def xFileControl(self, op: int, ptr: int) -> bool:
        if op != apsw.SQLITE_FCNTL_PERSIST_WAL:
            return False
        asked = ctypes.cast(ptr, ctypes.POINTER(ctypes.c_int)).contents
        if asked.value < 0:
            asked.value = self._persist
        else:
            self._persist = asked.value
        return True


def _rename(names: dict[str, _File], named: _Named) -> None:
    names.pop(named.before, None)
    if named.file is None:
        names.pop(named.name, None)
    else:
        names[named.name] = named.file


def _survivor(file: _File, random: Random) -> _Content:
    content = file.safe.copy()
    if not file.pending:
        return content
    share = random.choice((0.0, 0.5, 0.9, 1.0))
    for change in file.pending:
        if random.random() < share:
            content.apply(change)
        elif isinstance(change, _Write) and random.random() < 0.3:
            _tear(content, change, random)
    writes = [change for change in file.pending if isinstance(change, _Write)]
    if writes and random.random() < 0.5:
        _spoil(content, random.choice(writes[-3:] if random.random() < 0.5 else writes), random)
    return content


def _tear(content: _Content, write: _Write, random: Random) -> None:
    """Some sectors of the write arrive."""
    at = write.offset
    while at < write.offset + len(write.data):
        end = min((at // SECTOR + 1) * SECTOR, write.offset + len(write.data))
        if random.random() < 0.5:
            content.apply(_Write(at, write.data[at - write.offset : end - write.offset]))
        at = end


def _spoil(content: _Content, write: _Write, random: Random) -> None:
    """One block that the write touches becomes garbage, in all its 4096 bytes."""
    first, last = write.offset // BLOCK, (write.offset + max(1, len(write.data)) - 1) // BLOCK
    content.apply(_Write(random.randint(first, last) * BLOCK, random.randbytes(BLOCK)))
