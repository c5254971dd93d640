"""What a guest did to its disk, and the disks that may be found when the plug is pulled.

The guest's disk is a network block device that ``nbdkit`` serves here; ``disk_log_server`` writes down each write with its bytes and each
flush, with the times at which it came and was answered, on this machine's monotonic clock. So anything else that is seen here, such as a
card's answer or the reader's next question, can be put into the same order.

What a flush promises: everything that was *answered before the flush came*. A write that was still under way then is not in it, and
neither is what the server happened to do first. When the plug is pulled, all that a flush which was answered has promised is there; of
everything else that had come, anything may be: nothing, all, any part in any order, and of a write that reached the medium any part of its
sectors. ``crashes`` draws from these.

Nothing here is about a medium that says "flushed" and lies.
"""

import contextlib
import itertools
import struct
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from random import Random
from typing import BinaryIO

from images.command import ImageFailure, run

SECTOR = 512
BLOCK = 4096
_RECORD = struct.Struct("<cxxxIQQQ")
"""``W`` or ``F``, bytes that follow, came, was answered (nanoseconds), where (bytes). Little-endian."""
_SERVER = Path(__file__).with_name("disk_log_server.py")
_STARTS_S = 20.0


@dataclass(frozen=True, slots=True)
class Write:
    """``data`` at ``offset`` (bytes), by a request that came at ``begin_ns`` and was answered at ``end_ns``."""

    begin_ns: int
    end_ns: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Flush:
    """A flush that came at ``begin_ns`` and was answered at ``end_ns``."""

    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class DiskLog:
    """All that was answered, in the order of the answers."""

    writes: tuple[Write, ...]
    flushes: tuple[Flush, ...]

    def promised_ns(self, at_ns: int) -> int:
        """Up to when what was answered is certainly on the disk, if the plug is pulled at ``at_ns``; 0 when nothing is."""
        return max((flush.begin_ns for flush in self.flushes if flush.end_ns <= at_ns), default=0)

    def within(self, offset: int, size: int) -> "DiskLog":
        """What was written to this part of the disk, as a log of the part alone. A flush is for the whole disk."""
        inside = (_clipped(write, offset, offset + size) for write in self.writes)
        return replace(self, writes=tuple(write for write in inside if write.data))

    def instants(self, from_ns: int, to_ns: int) -> list[int]:
        """The times at which something came or was answered."""
        came = {request.begin_ns for requests in (self.writes, self.flushes) for request in requests}
        answered = {request.end_ns for requests in (self.writes, self.flushes) for request in requests}
        return sorted(each for each in came | answered if from_ns <= each <= to_ns)


def _clipped(write: Write, begin: int, end: int) -> Write:
    skipped = max(0, begin - write.offset)
    return replace(write, offset=write.offset + skipped - begin, data=write.data[skipped : max(0, end - write.offset)])


def read(path: Path) -> DiskLog:
    """The log in this file; a last record that is not whole is left out."""
    writes: list[Write] = []
    flushes: list[Flush] = []
    with path.open("rb") as file:
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            kind, length, begin_ns, end_ns, offset = _RECORD.unpack(head)
            data = file.read(length)
            if len(data) < length:
                break
            if kind == b"F":
                flushes.append(Flush(begin_ns, end_ns))
            elif kind == b"W":
                writes.append(Write(begin_ns, end_ns, offset, data))
            else:
                raise ImageFailure(f"{path}: there is no log of a disk in it, or one in another form; record it again")
    return DiskLog(tuple(writes), tuple(flushes))


@contextlib.contextmanager
def served(disk: Path, log: Path) -> Generator[str]:
    """``disk`` as a network block device that is written down in ``log``; yields its name in QEMU's words (``nbd:unix:…``).

    The file is written to: give it a copy.
    """
    # A socket's name has at most 107 bytes, and a build folder may lie deep.
    with tempfile.TemporaryDirectory(prefix="kazashi-disk-") as folder, (Path(folder) / "said").open("w+b") as said:
        place = Path(folder) / "disk"
        words = ("nbdkit", "--foreground", "--exit-with-parent", "-U", place, "python", _SERVER, f"disk={disk}", f"log={log}")
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        except FileNotFoundError:
            raise ImageFailure("nbdkit is not installed here; run `tools/set_up image`") from None
        try:
            end_s = time.monotonic() + _STARTS_S
            while not place.exists():
                if process.poll() is not None or time.monotonic() > end_s:
                    said.seek(0)
                    raise ImageFailure(f"nbdkit did not start: {said.read().decode(errors='replace').strip()}")
                time.sleep(0.02)
            yield f"nbd:unix:{place}"
        finally:
            process.terminate()
            process.wait(_STARTS_S)


class Damage(Enum):
    """What becomes of the writes that no flush has promised."""

    NOTHING = "none of them reached the medium"
    ALL = "all of them did"
    SOME = "some did"
    TORN = "some did, in any order, and of the last only some of its 512-byte sectors"
    SHORN = "some did, in any order, and of the last only some of its 4096-byte blocks"
    RAGGED = "some did, and of each any sectors"


@dataclass(frozen=True, slots=True)
class Crash:
    """A disk as it may be found. ``landed``: of what was not promised, what reached the medium, in this order; it lies over the promised.

    ``open_writes``: how many writes were not promised.
    """

    at_ns: int
    damage: Damage
    landed: tuple[Write, ...]
    open_writes: int


def crash(log: DiskLog, at_ns: int, damage: Damage, random: Random) -> Crash:
    """The plug is pulled at ``at_ns``."""
    promised_ns = log.promised_ns(at_ns)
    unpromised = [write for write in log.writes if write.begin_ns <= at_ns and write.end_ns > promised_ns]
    return Crash(at_ns, damage, tuple(_landed(unpromised, damage, random)), len(unpromised))


def _landed(unpromised: Sequence[Write], damage: Damage, random: Random) -> Iterator[Write]:
    if damage is Damage.NOTHING or not unpromised:
        return
    if damage is Damage.ALL:
        yield from sorted(unpromised, key=lambda write: write.begin_ns)
        return
    share = random.random()
    chosen = [write for write in unpromised if random.random() < share] or [random.choice(unpromised)]
    if damage is Damage.RAGGED:
        for write in chosen:
            yield from _torn(write, SECTOR, random)
        return
    if damage is Damage.SOME:
        yield from chosen
        return
    random.shuffle(chosen)
    yield from chosen[:-1]
    yield from _torn(chosen[-1], SECTOR if damage is Damage.TORN else BLOCK, random)


def _torn(write: Write, grain: int, random: Random) -> Iterator[Write]:
    """Some of a write's pieces; ``grain`` is counted from the disk's beginning."""
    end = write.offset + len(write.data)
    edges = [write.offset, *range(write.offset // grain * grain + grain, end, grain), end]
    for begin, until in itertools.pairwise(edges):
        if random.random() < 0.5:
            yield replace(write, offset=begin, data=write.data[begin - write.offset : until - write.offset])


class Disks:
    """Makes the disks of crashes, in the order of time: what was promised is carried forward in ``scratch``, and copied for each.

    ``before``: the disk before the log began.
    """

    def __init__(self, before: Path, log: DiskLog, scratch: Path) -> None:
        self._log = log
        self._promised = scratch
        self._done_ns = 0
        self._next = 0
        copied(before, scratch)

    def make(self, found: Crash, into: Path) -> None:
        """Write the disk of ``found``; no earlier one may follow."""
        promised_ns = self._log.promised_ns(found.at_ns)
        if promised_ns < self._done_ns:
            raise ValueError("disks are made in the order of time")
        self._done_ns = promised_ns
        with self._promised.open("r+b") as file:
            while self._next < len(self._log.writes) and self._log.writes[self._next].end_ns <= promised_ns:
                _put(file, (self._log.writes[self._next],))
                self._next += 1
        copied(self._promised, into)
        with into.open("r+b") as file:
            _put(file, found.landed)


def _put(file: BinaryIO, writes: Iterable[Write]) -> None:
    for write in writes:
        file.seek(write.offset)
        file.write(write.data)


def copied(disk: Path, into: Path) -> None:
    """A copy of a disk; what is empty takes no room."""
    run(("cp", "--sparse=always", "--reflink=auto", disk, into))


@contextlib.contextmanager
def mounted(disk: Path, at: Path) -> Generator[Path]:
    """The file system on ``disk`` at the folder ``at``, as a vehicle mounts it; its journal is replayed. Needs root."""
    at.mkdir(exist_ok=True)
    run(("mount", "-o", "loop,noatime,nodev,nosuid,noexec,data=ordered,barrier=1,errors=remount-ro", disk, at))
    try:
        yield at
    finally:
        run(("umount", at))


def cut_out(disk: Path, offset: int, size: int, into: Path) -> None:
    """This part of a disk as a file of its own."""
    flags = ("iflag=skip_bytes,count_bytes", "conv=sparse", "status=none")
    run(("dd", f"if={disk}", f"of={into}", "bs=1M", f"skip={offset}", f"count={size}", *flags))
