"""What the ledger costs: a write against the machine's own flush, the flushes themselves, and reading it back.

The disk is measured in the same run, turn by turn with the ledger, in the same folder: a busy machine slows both. Flushes are counted
twice: as SQLite asks for them, and where this machine lets us (root, loop devices) as a device under an ext4 of its own receives them.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rows import Row

from drivers.emulated.disk import SlowVfs
from ledger.entry import Counters, Entry, Fare, Intent, Kind, Medium, Place, Versions, When
from ledger.store import LedgerFile, Settings, Store

BUILD = Path(__file__).resolve().parents[2] / "build"
APPENDS = 1500
RATE_ENTRIES = 20_000
SETTINGS = Settings(ballast_bytes=0, low_space_bytes=0)


def rows() -> list[Row]:
    """All figures of the ledger."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        place = Path(folder)
        return [*append_against_flush(place), flushes_asked_for(place), flushes_received(place), slow_flush(place), *read_rate(place)]


def ride(number: int) -> Entry:
    before = Counters(1500, 0xFFFF_FFFF - number, bytes(8), 100 + number % 1000)
    after = replace(before, rega=1400, regb=before.regb - 1, regc=number.to_bytes(8, "big"), wcnt=before.wcnt + 1)
    medium = Medium((number * 2654435761 % 2**64).to_bytes(8, "big"), 2000, 1, b"granted!", before, after)
    place = Place("minato", "101", 12, "R1", f"T{number // 60}", "S03", f"S{number % 9}", 20_485)
    when = When(3, number * 900, 1_770_000_000_000 + number * 900, 3)
    return Entry(
        Kind.PAID,
        when,
        place,
        medium,
        Fare(200, 100, 100, 1, 0),
        Versions(b"table---", b"scheme--", b"operator", "0.1.0", 1, 1),
        row="proven",
    )


def append_against_flush(place: Path) -> list[Row]:
    """Turn by turn: one append, and one 4096-byte block overwritten and flushed."""
    mine: list[float] = []
    floor: list[float] = []
    block = os.urandom(4096)
    raw = os.open(place / "raw", os.O_RDWR | os.O_CREAT)
    os.pwrite(raw, bytes(1024 * 4096), 0)
    os.fsync(raw)
    with Store.create(place / "append.db", device=1, epoch=1, settings=SETTINGS) as store:
        for number in range(APPENDS):
            entry = ride(number)
            begin = time.perf_counter()
            store.append(entry)
            middle = time.perf_counter()
            os.pwrite(raw, block, number % 1024 * 4096)
            os.fdatasync(raw)
            end = time.perf_counter()
            mine.append((middle - begin) * 1000)
            floor.append((end - middle) * 1000)
            if store.needs_checkpoint():
                store.checkpoint()
    os.close(raw)
    p50, flush = statistics.median(mine), statistics.median(floor)
    ok = p50 <= 1.6 * flush or p50 <= flush + 0.15
    value = f"{p50:.3f} ms = {p50 / flush:.2f} × {flush:.3f} ms (+ {p50 - flush:.3f} ms)"
    return [Row("append, p50, against one 4 KiB fdatasync", value, "≤ 1.6 × or + 0.15 ms", ok)]


def flushes_asked_for(place: Path) -> Row:
    vfs = SlowVfs("counting", 0, time.sleep)
    with Store.create(place / "counted.db", device=1, epoch=1, settings=replace(SETTINGS, vfs=vfs.name)) as store:
        before = vfs.flushes
        for number in range(100):
            store.append(ride(number))
        counted = (vfs.flushes - before) / 100
    vfs.unregister()
    return Row("flushes an append, as SQLite asks for them", f"{counted:.2f}", "1", counted == 1)


def flushes_received(place: Path) -> Row:
    figure = "flushes an append, as a device under its own ext4 receives them"
    with own_file_system(place) as (folder, device):
        if folder is None:
            return Row(figure, "not counted: needs root and a loop device", "1", ok=True)
        with Store.create(folder / "ledger.db", device=1, epoch=1, settings=SETTINGS) as store:
            store.append(ride(0))
            os.sync()
            before = flushes_of(device)
            for number in range(1, 151):
                store.append(ride(number))
            counted = (flushes_of(device) - before) / 150
    return Row(figure, f"{counted:.2f}", "1 (± 0.05: the journal's own)", abs(counted - 1) <= 0.05)


def flushes_of(device: str) -> int:
    return int(Path(f"/sys/block/{device}/stat").read_text().split()[15])


@contextmanager
def own_file_system(place: Path) -> Iterator[tuple[Path | None, str]]:
    """A journaled ext4 of 64 MiB on a loop device that nobody else uses; None where that is not allowed."""
    image, folder = place / "image", place / "mounted"
    folder.mkdir()
    with image.open("wb") as stream:
        stream.truncate(64 * 1024 * 1024)
    made = mounted = False
    with suppress(OSError):
        made = done("mkfs.ext4", "-q", "-F", "-b", "4096", str(image))
        mounted = made and done("mount", "-o", "loop,noatime", str(image), str(folder))
    if not mounted:
        yield None, ""
        return
    try:
        source = subprocess.run(["findmnt", "-n", "-o", "SOURCE", str(folder)], capture_output=True, text=True, check=True).stdout.strip()
        yield folder, Path(source).name
    finally:
        done("umount", str(folder))


def done(*command: str) -> bool:
    path = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return path is not None and subprocess.run([path, *command[1:]], capture_output=True, check=False).returncode == 0


def slow_flush(place: Path) -> Row:
    """The two writes of a ride on a medium that takes 25 ms to flush."""
    vfs = SlowVfs("slow", 0, time.sleep)
    taken: list[float] = []
    with Store.create(place / "slow.db", device=1, epoch=1, settings=replace(SETTINGS, vfs=vfs.name)) as store:
        vfs.flush_s = 0.025
        for number in range(100):
            entry = ride(number)
            rider = entry.medium.rider if entry.medium else b""
            begin = time.perf_counter()
            store.intend(Intent(entry))
            store.pay(rider, entry)
            taken.append((time.perf_counter() - begin) * 1000)
        vfs.flush_s = 0
    vfs.unregister()
    p50, worst = statistics.median(taken), sorted(taken)[98]
    return Row("intent and paid, each flush 25 ms", f"p50 {p50:.1f} ms, p99 {worst:.1f} ms", "p99 ≤ 100 ms of the tap's 150", worst <= 100)


def read_rate(place: Path) -> list[Row]:
    """Entries a second of one core's time: read from the file, decoded strictly, chain checked. The best of five."""
    path = place / "rate.db"
    with Store.create(path, device=1, epoch=1, settings=replace(SETTINGS, synchronous="OFF")) as store:
        for number in range(RATE_ENTRIES):
            store.append(ride(number))
            if store.needs_checkpoint():
                store.checkpoint()
    rates: list[float] = []
    with LedgerFile.open_read_only(path) as ledger:
        bytes_each = sum(len(link.data) for link in ledger.links()) / RATE_ENTRIES
        for _ in range(5):
            begin = time.process_time()
            check = ledger.verify()
            rates.append(check.count / (time.process_time() - begin))
            if check.findings:
                raise RuntimeError(f"the bench's own ledger is broken: {check.findings[0]}")
    best = max(rates)
    return [
        Row(
            "ledger read, decoded and checked, entries a second of one core",
            f"{best:,.0f} (median {statistics.median(rates):,.0f})",
            "≥ 50,000",
            best >= 50_000,
        ),
        Row("bytes of a paid ride", f"{bytes_each:.0f}", "(no bar)", ok=True),
    ]
