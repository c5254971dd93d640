"""Which disks may be found when the plug is pulled: nothing that a flush promised is missing, and anything else may be."""

import struct
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images import disk_log
from images.command import ImageFailure
from images.disk_log import BLOCK, SECTOR, Crash, Damage, DiskLog, Disks, Flush, Write

SIZE = 8 * BLOCK


def a_write(begin_ns: int, end_ns: int, block: int, letter: bytes) -> Write:
    return Write(begin_ns, end_ns, block * BLOCK, letter * BLOCK)


LOG = DiskLog(
    writes=(a_write(10, 12, 0, b"a"), a_write(13, 22, 1, b"b"), a_write(30, 32, 0, b"c"), a_write(33, 35, 2, b"d")),
    flushes=(Flush(20, 24), Flush(40, 44)),
)
"""The first flush came when ``b`` was still under way."""


def letters(write: Write) -> bytes:
    return write.data[:1]


def landed(at_ns: int, damage: Damage, seed: int = 0) -> set[bytes]:
    return {letters(write) for write in disk_log.crash(LOG, at_ns, damage, Random(seed)).landed}


def test_a_flush_promises_what_was_answered_before_it_came_once_it_is_answered_itself() -> None:
    assert [LOG.promised_ns(at_ns) for at_ns in (0, 23, 24, 43, 44)] == [0, 0, 20, 20, 40]


def test_what_was_under_way_when_the_flush_came_may_be_missing() -> None:
    assert landed(29, Damage.ALL) == {b"b"}
    assert landed(29, Damage.NOTHING) == set()


def test_what_has_not_come_cannot_be_there() -> None:
    assert landed(31, Damage.ALL) == {b"b", b"c"}


@given(st.sampled_from(list(Damage)), st.integers(0, 50), st.integers(0, 10_000))
def test_whatever_lands_was_written_there_and_not_promised(damage: Damage, at_ns: int, seed: int) -> None:
    found = disk_log.crash(LOG, at_ns, damage, Random(seed))
    for piece in found.landed:
        origin = next(write for write in LOG.writes if letters(write) == letters(piece))
        assert origin.begin_ns <= at_ns
        assert origin.end_ns > LOG.promised_ns(at_ns)
        assert origin.offset <= piece.offset
        assert piece.offset + len(piece.data) <= origin.offset + len(origin.data)


@pytest.mark.parametrize(("damage", "grain"), [(Damage.TORN, SECTOR), (Damage.RAGGED, SECTOR), (Damage.SHORN, BLOCK)])
def test_a_write_tears_at_the_edges_that_the_medium_has(damage: Damage, grain: int) -> None:
    long = DiskLog((Write(1, 9, 512, bytes(range(256)) * 64),), ())
    edges = {
        edge
        for seed in range(200)
        for piece in disk_log.crash(long, 5, damage, Random(seed)).landed
        for edge in (piece.offset, piece.offset + len(piece.data))
    }
    assert {edge % grain for edge in edges - {512, 512 + 256 * 64}} == {0}
    assert len(edges) == (33 if grain == SECTOR else 6)


def test_every_order_and_every_part_is_drawn_some_time() -> None:
    drawn = {tuple(map(letters, disk_log.crash(LOG, 36, Damage.SHORN, Random(seed)).landed)) for seed in range(500)}
    assert {(), (b"b",), (b"c", b"d"), (b"d", b"c"), (b"d", b"b", b"c"), (b"c", b"d", b"b")} <= drawn


def test_disks_are_made_from_what_was_promised_and_what_landed(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.write_bytes(b"." * SIZE)
    disks = Disks(before, LOG, tmp_path / "promised")

    def made(at_ns: int, damage: Damage) -> bytes:
        disks.make(disk_log.crash(LOG, at_ns, damage, Random(0)), tmp_path / "found")
        return (tmp_path / "found").read_bytes()[::BLOCK]

    assert made(5, Damage.ALL) == b"........"
    assert made(23, Damage.NOTHING) == b"........"
    assert made(29, Damage.NOTHING) == b"a......."
    assert made(29, Damage.ALL) == b"ab......"
    assert made(36, Damage.ALL) == b"cbd....."
    assert made(36, Damage.NOTHING) == b"a......."
    assert made(50, Damage.NOTHING) == b"cbd....."
    with pytest.raises(ValueError, match="order of time"):
        disks.make(Crash(5, Damage.ALL, (), 0), tmp_path / "found")


def test_a_partition_has_its_part_of_the_log() -> None:
    wide = DiskLog((Write(1, 2, 100, bytes(range(100))), Write(3, 4, 500, b"outside")), (Flush(5, 6),))
    assert wide.within(150, 20) == DiskLog((Write(1, 2, 0, bytes(range(50, 70))),), (Flush(5, 6),))
    assert wide.within(50, 100).writes == (Write(1, 2, 50, bytes(range(50))),)


def test_a_log_is_read_up_to_its_last_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "log"
    record = struct.Struct("<cxxxIQQQ")
    whole = record.pack(b"W", 3, 1, 2, 512) + b"abc" + record.pack(b"F", 0, 3, 4, 0)
    path.write_bytes(whole + record.pack(b"W", 9, 5, 6, 0) + b"cut")
    assert disk_log.read(path) == DiskLog((Write(1, 2, 512, b"abc"),), (Flush(3, 4),))


def test_another_file_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ImageFailure, match="record it again"):
        disk_log.read(path)
