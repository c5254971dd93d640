"""Entries and their bytes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from cbor2 import dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.codec import MAX_BYTES, decode, encode
from ledger.entry import Counters, Entry, Fare, Flags, Kind, Medium, Outcome, Place, Versions, When
from ledger.errors import MalformedEntry

Ride = Callable[..., Entry]
DEVICE, EPOCH = 7, 4711

numbers = st.integers(0, 2**63 - 1)
words = st.text(max_size=12)
u32 = st.integers(0, 2**32 - 1)
purses = st.builds(Counters, u32, u32, st.binary(min_size=8, max_size=8), st.integers(0, 2**24 - 1))
media = st.builds(
    Medium, st.binary(min_size=8, max_size=8), numbers, numbers, st.binary(max_size=8), purses, st.none() | purses
) | st.builds(Medium, st.binary(min_size=8, max_size=8), numbers, numbers, st.binary(max_size=8))
entries = st.builds(
    Entry,
    kind=st.sampled_from(Kind),
    when=st.builds(When, numbers, numbers, numbers, st.integers(0, 4)),
    place=st.builds(Place, words, words, numbers, words, words, words, words, numbers),
    medium=st.none() | media,
    fare=st.builds(Fare, numbers, numbers, numbers, numbers, numbers),
    versions=st.builds(Versions, st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8), words, numbers, numbers),
    flags=st.integers(0, 63).map(Flags),
    outcome=st.sampled_from(Outcome),
    ref=numbers,
    row=words,
    reason=words,
    device=st.just(DEVICE),
    epoch=st.just(EPOCH),
    seq=numbers,
)


def read(data: bytes) -> Entry:
    return decode(data, device=DEVICE, epoch=EPOCH)


@settings(deadline=None)
@given(entries)
def test_what_is_written_reads_back_the_same(entry: Entry) -> None:
    assert read(encode(entry)) == entry


@settings(deadline=None)
@given(entries)
def test_what_was_read_is_as_frozen_and_as_hashable_as_what_was_made(entry: Entry) -> None:
    again = read(encode(entry))
    assert hash(again) == hash(entry)
    assert repr(again) == repr(entry)
    assert type(again) is Entry
    with pytest.raises(AttributeError):
        again.seq = 0  # type: ignore[misc]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_in_one_way_only(data: bytes) -> None:
    with pytest.raises(MalformedEntry):
        read(data)


@settings(deadline=None)
@given(entries, st.data())
def test_a_changed_byte_is_refused_or_another_entry(entry: Entry, data: st.DataObject) -> None:
    good = encode(entry)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    with suppress(MalformedEntry):
        assert read(bad) != entry


def test_a_typical_paid_ride_is_at_most_170_bytes(ride: Ride) -> None:
    assert len(encode(ride(seq=123_456))) <= 170


def test_a_free_ride_says_that_nothing_was_written(ride: Ride) -> None:
    paid = ride()
    assert paid.medium is not None
    free = replace(paid, kind=Kind.FREE, medium=replace(paid.medium, after=None))
    assert read(encode(replace(free, device=DEVICE, epoch=EPOCH))).medium == free.medium
    assert len(encode(free)) < len(encode(paid))


def test_the_first_number_of_an_entry_is_its_version(ride: Ride) -> None:
    assert loads(encode(ride()))[0] == 1


def changed(ride: Entry, position: int, value: object) -> bytes:
    parts = loads(encode(ride))
    parts[position] = value
    return dumps(parts)


@pytest.mark.parametrize(
    ("position", "value", "field"),
    [
        (0, 2, "version"),
        (0, True, "version"),
        (1, -1, "seq"),
        (1, 2**63, "seq"),
        (1, "1", "seq"),
        (2, 99, "kind"),
        (3, 64, "kind"),
        (4, 3, "kind"),
        (4, False, "outcome"),
        (5, -1, "seq"),
        (6, b"row", "row"),
        (8, -1, "boot"),
        (10, 2**63, "boot"),
        (10, 1.5, "utc_ms"),
        (12, b"", "entry"),
        (12, dumps([1]), "circumstances"),
        (12, dumps((*loads(dumps(["a", "b", 1, "c", "d", "e", "f", -1])), 0, 0, 0, 0, 0, b"", b"", b"", "", 0, 0)), "service_day"),
        (13, b"short", "rider"),
        (14, -1, "granted"),
        (16, None, "grant"),
        (17, 2**32, "purse"),
        (18, -1, "purse"),
        (19, b"", "purse"),
        (20, 2**24, "purse"),
        (21, 1501, "purse"),
        (23, bytes(8), "regc as written"),
        (24, -1000, "purse"),
    ],
)
def test_a_wrong_field_is_named(ride: Ride, position: int, value: object, field: str) -> None:
    with pytest.raises(MalformedEntry) as refused:
        read(changed(ride(), position, value))
    assert refused.value.field == field


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data + b"\x00",
        lambda data: data[:-1],
        lambda data: b"\x9f" + data[2:] + b"\xff",
        lambda data: data[:2] + b"\x18\x01" + data[3:],
        lambda data: dumps(loads(data)[:-1]),
        lambda data: dumps([*loads(data), 0]),
        lambda data: dumps({0: loads(data)}),
        lambda _: b"",
        lambda _: dumps([]),
        lambda _: dumps(1),
        lambda data: data + bytes(MAX_BYTES),
    ],
    ids=[
        "more",
        "less",
        "indefinite",
        "longer number",
        "a field less",
        "a field more",
        "a map",
        "nothing",
        "empty",
        "a number",
        "too long",
    ],
)
def test_there_is_only_one_way_to_write_an_entry(ride: Ride, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedEntry):
        read(spoil(encode(ride())))


def test_an_entry_that_could_not_be_read_back_is_not_written(ride: Ride) -> None:
    paid = ride()
    for bad in (
        replace(paid, ref=-1),
        replace(paid, row="x" * MAX_BYTES),
        replace(paid, seq=1.5),  # type: ignore[arg-type]
        replace(paid, reason=object()),  # type: ignore[arg-type]
        replace(paid, medium=Medium(b"8 bytes.", after=Counters(1, 2, bytes(8), 3))),
        replace(paid, fare=Fare(-1)),
    ):
        with pytest.raises(MalformedEntry):
            encode(bad)
