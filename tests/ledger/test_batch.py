"""A batch is its entries' exact bytes; whatever else arrives is refused in one way, quickly, and without room being made for it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cbor2 import dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import columns, compress
from ledger.batch import LEVEL, MAX_BYTES, MAX_ENTRIES, MAX_PAYLOAD, Batch, Total, opened, pack, totals, unpack
from ledger.chain import follow, genesis
from ledger.codec import MAX_BYTES as ENTRY_BYTES
from ledger.codec import decode, encode, take_apart
from ledger.entry import Counters, Entry, Fare, Kind, Medium, Place, Versions, When
from ledger.errors import BatchTooLarge, MalformedBatch, MalformedEntry

Ride = Callable[..., Entry]
DEVICE, EPOCH = 7, 4711
BEGIN = genesis(DEVICE, EPOCH)

numbers = st.integers(0, 2**63 - 1)
small = st.integers(0, 300)
u32 = st.integers(0, 2**32 - 1)
bytes_8 = st.binary(min_size=8, max_size=8)
purses = st.builds(Counters, u32, u32, bytes_8, st.integers(0, 2**24 - 1))
media = (
    st.none()
    | st.builds(Medium, bytes_8, small, small, bytes_8 | st.binary(max_size=8))
    | st.builds(Medium, bytes_8, small, small, bytes_8, purses, st.none() | purses)
)
said = st.builds(
    Entry,
    kind=st.sampled_from(Kind),
    when=st.builds(When, small, numbers, numbers, st.integers(0, 4)),
    place=st.builds(Place, operator=st.text(max_size=4), service_day=small),
    medium=media,
    fare=st.builds(Fare, numbers, small, small, small, small),
    versions=st.just(Versions()),
    device=st.just(DEVICE),
    epoch=st.just(EPOCH),
)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Entries as they should be, and some as a damaged file has them: bytes, another entry's number, one that stops early."""
    first = draw(st.integers(1, 2**40))
    entries: list[bytes] = []
    for seq, entry in enumerate(draw(st.lists(said, min_size=1, max_size=12)), first):
        good = encode(replace(entry, seq=seq))
        bad = st.binary(max_size=40) | st.just(encode(replace(entry, seq=0))) | st.just(good[:-1])
        entries.append(draw(st.just(good) | bad) if draw(st.booleans()) else good)
    return Batch(DEVICE, EPOCH, first, BEGIN if first == 1 else draw(st.binary(min_size=32, max_size=32)), tuple(entries), draw(numbers))


@pytest.fixture
def batch(ride: Ride) -> Batch:
    """Three rides and two entries without a card."""
    kinds = (Kind.BOOT, Kind.PAID, Kind.PAID, Kind.FREE, Kind.SHIFT_CLOSE)
    return a_batch(ride, kinds)


def a_batch(ride: Ride, kinds: tuple[Kind, ...]) -> Batch:
    entries = [ride(number, kind, seq=number, device=DEVICE, epoch=EPOCH) for number, kind in enumerate(kinds, 1)]
    bare = [replace(entry, medium=None) if entry.kind < Kind.OPEN else entry for entry in entries]
    return Batch(DEVICE, EPOCH, 1, BEGIN, tuple(map(encode, bare)), 1_770_000_000_000)


@settings(deadline=None)
@given(batches())
def test_what_was_packed_is_what_is_unpacked(batch: Batch) -> None:
    payload = pack(batch)
    again = unpack(payload)
    assert again == batch
    assert again.head == batch.head
    assert list(map(str, again.read)) == list(map(str, batch.read))
    assert totals(again) == totals(batch)
    assert pack(again) == payload


@settings(deadline=None)
@given(batches())
def test_each_entry_is_opened_as_the_codec_reads_it_or_not_at_all(batch: Batch) -> None:
    for seq, data, entry in opened(unpack(pack(batch))):
        if isinstance(entry, Entry):
            assert entry == decode(data, device=DEVICE, epoch=EPOCH)
            assert entry.seq == seq
        else:
            assert isinstance(entry, MalformedEntry)


@settings(deadline=None)
@given(batches())
def test_folded_entries_unfold_to_the_same(batch: Batch) -> None:
    rows: list[columns.Row] = []
    for data in batch.entries:
        try:
            rows.append(take_apart(data))
        except MalformedEntry:
            rows.append(data)
    assert columns.unfold(*columns.fold(columns.table(rows))).rows == rows


@settings(deadline=None, max_examples=300)
@given(batches(), st.data())
def test_no_flipped_bit_of_a_payload_passes_for_the_batch(batch: Batch, data: st.DataObject) -> None:
    payload = bytearray(pack(batch))
    at = data.draw(st.integers(0, 8 * len(payload) - 1))
    payload[at // 8] ^= 1 << at % 8
    try:
        found = unpack(bytes(payload))
    except MalformedBatch:
        return
    # The chain holds the entries, the totals hold the rest of what counts; what is left is what the signature alone protects.
    assert found.entries == batch.entries or found.head != batch.head


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_malformed_and_nothing_else(data: bytes) -> None:
    for payload in (data, b"\x28\xb5\x2f\xfd" + data, compress.compress(data, LEVEL)):
        with pytest.raises(MalformedBatch):
            unpack(payload)


def test_the_totals_are_by_kind(batch: Batch) -> None:
    assert totals(batch).rows == (
        Total(Kind.BOOT, 1, 200, 100, 100),
        Total(Kind.SHIFT_CLOSE, 1, 200, 100, 100),
        Total(Kind.PAID, 2, 400, 200, 200),
        Total(Kind.FREE, 1, 200, 100, 100),
    )


def test_a_batch_knows_where_it_ends(batch: Batch) -> None:
    hashed = BEGIN
    for data in batch.entries:
        hashed = follow(hashed, data)
    assert (batch.count, batch.last_seq, batch.head) == (5, 5, (5, hashed))


def test_an_entry_that_cannot_be_read_travels_with_the_others_and_counts_as_kind_0(batch: Batch) -> None:
    broken = replace(batch, entries=(*batch.entries[:2], b"\xffbroken", *batch.entries[3:]))
    again = unpack(pack(broken))
    assert again.entries == broken.entries
    assert totals(again).rows[0] == Total(0, 1, 0, 0, 0)
    assert [type(entry) for _, _, entry in opened(again)] == [Entry, Entry, MalformedEntry, Entry, Entry]


def test_an_entry_of_a_later_software_travels_too(batch: Batch) -> None:
    later = bytearray(batch.entries[1])
    later[2:4] = b"\x02\x02"  # version 2
    again = unpack(pack(replace(batch, entries=(batch.entries[0], bytes(later), *batch.entries[2:]))))
    assert again.entries[1] == later


def test_an_entry_in_another_ones_place_counts_as_unreadable(batch: Batch) -> None:
    swapped = replace(batch, entries=(*batch.entries[:1], batch.entries[2], batch.entries[1], *batch.entries[3:]))
    again = unpack(pack(swapped))
    assert totals(again).rows[0] == Total(0, 2, 0, 0, 0)
    assert [str(entry) for _, _, entry in opened(again) if isinstance(entry, MalformedEntry)] == [
        "ledger entry, field 'seq': is 3 where entry 2 belongs",
        "ledger entry, field 'seq': is 2 where entry 3 belongs",
    ]


def test_no_fare_is_so_large_that_its_batch_cannot_be_sent(ride: Ride) -> None:
    rich = [encode(ride(number, seq=number, device=DEVICE, epoch=EPOCH, fare=Fare(2**63 - 1, 1, 0, 1, 0))) for number in (1, 2)]
    again = unpack(pack(Batch(DEVICE, EPOCH, 1, BEGIN, tuple(rich), 0)))
    assert totals(again).rows == (Total(Kind.PAID, 2, 2**63 - 1, 2, 0),)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"entries": ()}, "has no entry"),
        ({"first_seq": 0}, "begins with entry 0"),
        ({"first_seq": 2**63 - 2}, "begins with entry"),
        ({"previous": bytes(31)}, "has 31 bytes, not 32"),
        ({"previous": bytes(32)}, "begins a ledger, but not with the hash"),
        ({"device": -1}, "out of range"),
        ({"epoch": 2**63}, "out of range"),
        ({"created_ms": -1}, "out of range"),
    ],
    ids=str,
)
def test_a_batch_that_the_city_would_refuse_is_not_sent(batch: Batch, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MalformedBatch, match=sentence):
        pack(replace(batch, **changes))


def test_a_batch_of_the_largest_size_fits_and_one_more_is_too_much(ride: Ride) -> None:
    most = a_batch(ride, (Kind.PAID,) * MAX_ENTRIES)
    assert unpack(pack(most)) == most
    with pytest.raises(BatchTooLarge, match="send fewer at once"):
        pack(replace(most, entries=(*most.entries, most.entries[0])))


def test_entries_that_compress_badly_are_sent_a_few_at_a_time_and_one_always_goes(batch: Batch) -> None:
    noise = zstandard.compress(dumps(list(range(100_000))))
    bad = tuple(noise[at : at + ENTRY_BYTES] for at in range(0, 100 * ENTRY_BYTES, ENTRY_BYTES))
    with pytest.raises(BatchTooLarge, match="send fewer at once"):
        pack(replace(batch, entries=bad))
    assert unpack(pack(replace(batch, entries=bad[:1]))).entries == bad[:1]


# --- what a stranger may send -------------------------------------------------------------------------------------------------------------


def changed(batch: Batch, position: int, value: object) -> bytes:
    """The payload of ``batch`` with one of its parts replaced."""
    parts = loads(compress.decompress(pack(batch), MAX_BYTES))
    parts[position] = value(parts[position]) if callable(value) else value
    return compress.compress(dumps(parts), LEVEL)


def column_changed(batch: Batch, group: int, column: int, change: Callable[[Any], Any]) -> bytes:
    def of(groups: list[Any]) -> list[Any]:
        groups[group][column] = change(groups[group][column])
        return groups

    return changed(batch, 10, of)


@pytest.mark.parametrize(
    ("position", "value", "sentence"),
    [
        (0, 2, "of version 2; this software knows version 1"),
        (1, 8, "not with the hash that its device and epoch begin with"),
        (1, -1, "out of range"),
        (1, "7", "wrong type in field 1"),
        (1, True, "wrong type in field 1"),
        (1, 2**63, "out of range"),
        (3, 2, "does not end with the hash|totals"),
        (4, 6, "says 6 entries and has 5"),
        (5, bytes(32), "not with the hash"),
        (6, bytes(32), "does not end with the hash"),
        (8, [], "totals are not those"),
        (8, lambda rows: rows[::-1], "totals are not those"),
        (8, lambda rows: [[1.0, *rows[0][1:]], *rows[1:]], "wrong type"),
        (8, lambda rows: [[*rows[0], 0], *rows[1:]], "6 fields where 5 belong"),
        (8, lambda rows: [*rows[:-1], 5], "not an array"),
        (9, b"", "says 5 entries and has 0"),
        (9, lambda lengths: lengths[:-1] + b"\x0e", "group"),
        (9, lambda lengths: lengths[:-1] + b"\x00", "group"),
        (10, [], "one group for each"),
        (10, lambda groups: groups[::-1], "not one column for each"),
        (10, lambda groups: [*groups[:1], groups[1][:-1]], "not one column for each"),
        (10, lambda groups: [*groups[:1], {}], "is not CBOR as this house uses it"),
        (10, lambda groups: [*groups[:1], b"bytes"], "not one column for each"),
    ],
)
def test_a_batch_whose_parts_do_not_add_up_is_malformed(batch: Batch, position: int, value: object, sentence: str) -> None:
    with pytest.raises(MalformedBatch, match=sentence):
        unpack(changed(batch, position, value))


@pytest.mark.parametrize(
    ("column", "change", "sentence"),
    [
        (0, lambda _: [1, 1, 2], "another version"),
        (1, lambda seqs: seqs[:-1], "does not hold 3 values"),
        (1, lambda seqs: [*seqs, 1], "does not hold 3 values"),
        (1, lambda _: ["a", "b", "c"], "of one type"),
        (1, lambda _: [True, 1, 1], "of one type"),
        (1, lambda _: [2, 1.0, 1], "of one type"),
        (1, lambda _: [2, 2**65, 1], "is not CBOR as this house uses it"),
        (1, lambda _: [2, 2**63, 1], "among those that can be decoded that cannot"),
        (2, lambda _: [21, 21, 99], "among those that can be decoded that cannot"),
        (6, lambda _: ["proven", "proven", "x" * ENTRY_BYTES], "too long for one"),
        (9, lambda _: [0, -1, 0], "among those that can be decoded that cannot"),
        (12, lambda texts: [*texts[:2], b""], "among those that can be decoded that cannot"),
        (13, lambda riders: riders[:-1], "does not hold 3 values"),
        (13, lambda riders: [riders[:8], riders[8:16], riders[16:]], "not in their one form"),
    ],
)
def test_columns_that_nobody_folded_are_malformed(ride: Ride, column: int, change: Callable[[Any], Any], sentence: str) -> None:
    batch = a_batch(ride, (Kind.BOOT, Kind.PAID, Kind.PAID, Kind.PAID))
    with pytest.raises(MalformedBatch, match=sentence):
        unpack(column_changed(batch, 1, column, change))


def test_a_good_entry_among_the_broken_ones_is_malformed(batch: Batch) -> None:
    broken = replace(batch, entries=(*batch.entries[:-1], b"broken"))
    with pytest.raises(MalformedBatch, match="among those that cannot be decoded that can"):
        unpack(column_changed(broken, 0, 0, lambda _: [batch.entries[-1]]))


def frame(content: bytes, **settings_of_zstd: bool) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, **settings_of_zstd).compress(content)


def test_another_form_of_the_same_frame_is_malformed(batch: Batch) -> None:
    payload = pack(batch)
    content = compress.decompress(payload, MAX_BYTES)
    streamed = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    dictionary = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    for other, sentence in (
        (frame(content, write_content_size=False), "does not say how long"),
        (streamed.compress(content) + streamed.flush(), "does not say how long"),
        (payload + b"\x00", "more than one"),
        (payload + payload, "more than one"),
        (b"\x50\x2a\x4d\x18\x00\x00\x00\x00" + payload, "does not begin as a zstd frame"),
        (payload[:-1], "broken zstd frame"),
        (content, "does not begin as a zstd frame"),
        (b"", "does not begin as a zstd frame"),
        (payload[:5], "broken zstd head"),
        (zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary).compress(content), "broken zstd frame|dictionary"),
        (frame(content + b"\x00"), "is not CBOR as this house uses it|one deterministic form"),
        (frame(b"\xc1" + content), "is not CBOR as this house uses it|not an array"),
        (frame(b"\x9f" + content[1:] + b"\xff"), "is not CBOR as this house uses it"),
    ):
        with pytest.raises(MalformedBatch, match=sentence):
            unpack(other)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small things that would be large."""
    yield "a gigabyte of zeros in one frame", gigabyte()
    yield "a frame that says an exabyte", b"\x28\xb5\x2f\xfd\xe0" + (2**60).to_bytes(8, "little") + b"\x01\x00\x00"
    yield "a megabyte of zeros", frame(bytes(MAX_BYTES))
    yield "one byte more than is allowed", frame(bytes(MAX_BYTES + 1))
    yield "an array of 2^48 items", frame(b"\x9b\x00\x01" + bytes(6))
    yield "an array of a million numbers", frame(b"\x9a\x00\x0f\xff\x00" + bytes(0xFFF00))
    yield "a byte string of 2^62 bytes", frame(b"\x8b\x01\x5b\x40" + bytes(7))
    yield "arrays in arrays", frame(b"\x81" * 500_000)
    yield "tags in tags", frame(b"\xc1" * 500_000)
    yield "maps in maps", frame(b"\xa1" * 500_000)
    yield "a number of a megabyte", frame(b"\xc2\x5a\x00\x0f\x00\x00" + b"\xff" * 0xF0000)
    yield "a power of ten", frame(b"\xc4\x82\x1a\x7f\xff\xff\xff\x01")
    yield "a regular expression", frame(b"\xd8\x23\x67(a+)+$b")
    yield "itself in itself", frame(b"\xd8\x1c\x81\xd8\x1d\x00")
    yield "a million maps", frame(often(b"\xa0"))
    yield "maps with something in them", frame(often(b"\xa1\x00\x00"))
    yield "sets", frame(often(b"\xd9\x01\x02\x80"))
    yield "letters with heads", frame(often(b"\xd8\x24\x61a"))
    yield "times", frame(often(b"\xc1\x00"))
    yield "tags that nobody knows", frame(often(b"\xd9\xff\xff\x00"))
    yield "simple values", frame(often(b"\xe0"))
    yield "arrays of arrays of arrays", frame(often(b"\x81\x81\x00"))
    yield "maps where the circumstances stand", in_a_column(12, often(b"\xa0"))
    yield "a letter where the circumstances stand", in_a_column(12, b"\xd8\x24\x7a" + (900_000).to_bytes(4, "big") + b"\n" * 900_000)
    yield "noise of the largest size", b"\x28\xb5\x2f\xfd" + bytes(MAX_PAYLOAD - 4)


def often(item: bytes) -> bytes:
    """An array of as many ``item`` as a batch has room for."""
    count = (MAX_BYTES - 64 * 1024) // len(item)
    return b"\x9a" + count.to_bytes(4, "big") + item * count


def in_a_column(column: int, data: bytes) -> bytes:
    """A batch of one entry that has ``data`` in a column of byte strings."""
    columns: list[Any] = [[1], [2], [21], [0], [0], [0], ["row"], [""], [1], [1], [1], [1], [b""]]
    columns[column] = [data]
    return frame(dumps([1, DEVICE, EPOCH, 2, 1, bytes(32), bytes(32), 5, [[21, 1, 0, 0, 0]], b"\x0d", [columns]]))


def gigabyte() -> bytes:
    """A complete frame whose content is 2^30 zeros: blocks of one repeated byte (RFC 8878, section 3.1.1.2.2)."""
    head = b"\x28\xb5\x2f\xfd\xa0" + (2**30).to_bytes(4, "little")
    size = 2**17
    block = (size << 3 | 1 << 1).to_bytes(3, "little") + b"\x00"
    last = (size << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\x00"
    return head + block * (2**30 // size - 1) + last


@pytest.mark.parametrize("bomb", [bomb for _, bomb in bombs()], ids=[name for name, _ in bombs()])
def test_a_bomb_is_refused_and_takes_no_room(bomb: bytes) -> None:
    FORGET_THE_PEAK.write_text("5")
    before = memory("VmRSS")
    with pytest.raises(MalformedBatch, match=r"\.$") as refused:
        unpack(bomb)
    assert memory("VmHWM") - before < 96 * 1024  # KiB; a million simple values take 62 MiB
    assert len(str(refused.value)) < 200


FORGET_THE_PEAK = Path("/proc/self/clear_refs")


def memory(field: str) -> int:
    """KiB of this process: VmRSS now, VmHWM at most since the peak was forgotten (proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def test_a_version_that_is_no_number_is_not_repeated_to_anybody(batch: Batch) -> None:
    for version in (2, -1, 2**63, 2**20_000, "x" * 10_000, b"\xff" * 10_000, [[[]]], 1.5, None):
        with pytest.raises(MalformedBatch) as refused:
            unpack(changed(batch, 0, version))
        assert len(str(refused.value)) < 90


def test_the_steps_of_a_column_cannot_be_made_to_fill_the_memory(batch: Batch) -> None:
    huge = 1 << 8 * 100_000
    with pytest.raises(MalformedBatch, match="is not CBOR as this house uses it"):  # a number beyond 64 bits is a tag too many
        unpack(column_changed(batch, 1, 9, lambda _: [huge, 1, 1]))
