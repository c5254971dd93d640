"""Entries and their bytes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from cbor2 import dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import columns
from ledger.codec import MAX_BYTES, all_bytes, decode, encode, sheet, take_all_apart, typed
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


# --- many at once -------------------------------------------------------------------------------------------------------------------------

NASTY = st.sampled_from(
    (
        *(0, 1, -1, 99, 2**24, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**64), 2**64),
        *(True, None, 1.5, b"", bytes(8), bytes(9), "", "a", [], [1], {}),
    )
)


def read_all(sent: list[bytes]) -> list[Entry]:
    """As ``ledger.batch`` reads a batch."""
    entries = columns.table(take_all_apart(sent))
    return entries.in_order({length: sheet(typed(group)).entries(DEVICE, EPOCH) for length, group in entries.columns.items()})


def refused(data: bytes) -> bool:
    try:
        read(data)
    except MalformedEntry:
        return True
    return False


def with_field_changed(data: bytes, at: int, value: object) -> bytes:
    """The entry with one field replaced; counted on, the fields of its circumstances."""
    parts = loads(data)
    at %= len(parts) + 19
    if at < len(parts):
        parts[at] = value
    else:
        inner = loads(parts[12])
        inner[at - len(parts)] = value
        parts[12] = dumps(inner)
    return dumps(parts)


@settings(deadline=None, max_examples=50)
@given(st.lists(entries, min_size=1, max_size=6))
def test_many_read_at_once_are_what_each_is_by_itself(said: list[Entry]) -> None:
    sent = list(map(encode, said))
    again = read_all(sent)
    assert again == said == list(map(read, sent))
    assert list(map(repr, again)) == list(map(repr, said))
    for group in columns.table(take_all_apart(sent)).columns.values():
        assert set(all_bytes(group)) <= set(sent)


@settings(deadline=None, max_examples=150)
@given(st.lists(entries, min_size=1, max_size=3), st.integers(0, 100), st.integers(0, 43), NASTY)
def test_many_are_refused_at_once_when_one_is_and_only_then(said: list[Entry], which: int, field: int, value: object) -> None:
    sent = list(map(encode, said))
    sent[which % len(sent)] = with_field_changed(sent[which % len(sent)], field, value)
    if any(map(refused, sent)):
        with pytest.raises(MalformedEntry):
            read_all(sent)
    else:
        assert read_all(sent) == list(map(read, sent))


@settings(deadline=None, max_examples=50)
@given(st.lists(entries, min_size=2, max_size=4), st.data())
def test_entries_cut_elsewhere_are_refused_though_their_bytes_on_end_are_right(said: list[Entry], data: st.DataObject) -> None:
    sent = list(map(encode, said))
    at = data.draw(st.integers(0, len(sent) - 2))
    moved = data.draw(st.integers(1, len(sent[at]) - 1))
    sent[at : at + 2] = [sent[at][:-moved], sent[at][-moved:] + sent[at + 1]]
    with pytest.raises(MalformedEntry):
        read_all(sent)


@settings(deadline=None, max_examples=50)
@given(st.lists(entries, min_size=1, max_size=3), st.data())
def test_a_byte_that_one_reader_refuses_the_other_refuses_too(said: list[Entry], data: st.DataObject) -> None:
    sent = list(map(encode, said))
    which = data.draw(st.integers(0, len(sent) - 1))
    changed = bytearray(sent[which])
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    sent[which] = bytes(changed)
    if any(map(refused, sent)):
        with pytest.raises(MalformedEntry):
            read_all(sent)
    else:
        assert read_all(sent) == list(map(read, sent))


@pytest.mark.parametrize(
    "form",
    [
        lambda data: (
            b"\x99" + (data[1:2].rjust(2, b"\x00") if data[0] == 0x98 else bytes((0, data[0] & 31))) + data[2 if data[0] == 0x98 else 1 :]
        ),
        lambda data: b"\xd8\x1c" + data,
        lambda data: data + b"\x00",
        lambda _: b"",
        lambda _: b"\x80",
        lambda _: b"\x01",
        lambda data: data.ljust(MAX_BYTES + 1, b"\x00"),
    ],
    ids=["longer head", "tagged", "trailing byte", "nothing", "no field", "no array", "too long"],
)
def test_another_form_of_one_entry_makes_all_refused(ride: Ride, form: Callable[[bytes], bytes]) -> None:
    good = [encode(ride(number, seq=number)) for number in (1, 2, 3)]
    for at in range(3):
        with pytest.raises(MalformedEntry):
            read_all([form(data) if place == at else data for place, data in enumerate(good)])
