"""Receipts, heartbeats and reports of a loss: there and back, and nothing else taken."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from cbor2 import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from ledger import counts, notes, receipt
from ledger.chain import genesis
from ledger.entry import Versions, When
from ledger.errors import Malformed, MalformedNote, MalformedReceipt
from ledger.notes import Heartbeat, Loss, LossReason
from ledger.receipt import Receipt

numbers = st.integers(0, 2**63 - 1)
hashes = st.binary(min_size=32, max_size=32)
times = st.builds(When, numbers, numbers, numbers, numbers)
codes = st.text("abcxyz019-", min_size=1, max_size=receipt.MAX_CODE)


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    edges = sorted(draw(st.sets(st.integers(2, 10_000), max_size=40)))
    holes = tuple((a, b - 1) for a, b in zip(edges[::2], edges[1::2], strict=False))
    device, epoch = draw(numbers), draw(numbers)
    next_seq = draw(st.integers(1, holes[0][0] if holes else 10_000))
    head = genesis(device, epoch) if next_seq == 1 else draw(hashes)
    rejects = tuple(sorted(draw(st.dictionaries(st.integers(1, 10_000), codes, max_size=9)).items()))
    return Receipt(device, epoch, next_seq, head, holes, rejects, draw(numbers), draw(numbers), draw(numbers))


counted = st.dictionaries(st.sampled_from(sorted(counts.NAMES)), st.integers(1, counts.MOST_COUNT), min_size=1, max_size=counts.MOST)
heartbeats = st.builds(
    Heartbeat,
    device=numbers,
    epoch=numbers,
    head_seq=numbers,
    head_hash=hashes,
    at=times,
    selftest=st.lists(st.tuples(st.sampled_from(notes.PARTS), st.integers(0, 2)), unique_by=lambda row: row[0]).map(
        lambda rows: tuple(sorted(rows, key=lambda row: notes.PARTS.index(row[0])))
    ),
    free_bytes=numbers,
    versions=st.builds(
        Versions, st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8), st.text(max_size=9), numbers, numbers
    ),
    software=st.text(max_size=notes.MAX_SOFTWARE),
)
counting_heartbeats = st.builds(
    lambda beat, found, up_s: replace(beat, counts=counts.fitting(found), up_s=up_s), heartbeats, counted, numbers
)
losses = st.builds(Loss, numbers, numbers, st.integers(1, 99), st.just(0) | st.integers(99, 2**63 - 1), st.sampled_from(LossReason), times)

RECEIPT = Receipt(7, 4711, 5, bytes(32), ((6, 6), (8, 9)), ((2, "unreadable"), (4, "too-new")), 1_770_000_000_000, 60, 500)
HEARTBEAT = Heartbeat(7, 4711, 5, bytes(32), When(1, 2, 3, 0), (("antenna", 0), ("screen", 2)), 10**9, Versions(), "0.1.0")
COUNTING = replace(HEARTBEAT, counts=(("oom-kills", 1), ("station-starts", 8)), up_s=90_000)
LOSS = Loss(7, 4711, 1, 0, LossReason.MISSING, When(1, 2, 3, 0))
DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "receipt": (receipt.decode, receipt.encode(RECEIPT)),
    "heartbeat": (notes.decode_heartbeat, notes.encode_heartbeat(HEARTBEAT)),
    "counting heartbeat": (notes.decode_heartbeat, notes.encode_heartbeat(COUNTING)),
    "loss": (notes.decode_loss, notes.encode_loss(LOSS)),
}
each_kind = pytest.mark.parametrize(("decode", "good"), DECODERS.values(), ids=DECODERS)


@given(receipts())
def test_a_receipt_reads_back_the_same(one: Receipt) -> None:
    assert receipt.decode(receipt.encode(one)) == one


@given(heartbeats | counting_heartbeats)
def test_a_heartbeat_reads_back_the_same(one: Heartbeat) -> None:
    assert notes.decode_heartbeat(notes.encode_heartbeat(one)) == one


@given(losses)
def test_a_loss_reads_back_the_same(one: Loss) -> None:
    assert notes.decode_loss(notes.encode_loss(one)) == one


@pytest.mark.parametrize(
    "changes",
    [
        {"next_seq": 0},
        {"next_seq": 1},  # with a head that is not the genesis
        {"next_seq": 7},  # above the first hole
        {"head": bytes(31)},
        {"holes": ((6, 5),)},
        {"holes": ((6, 6), (7, 9))},  # one hole written as two
        {"holes": ((8, 9), (6, 6))},
        {"holes": tuple((number, number) for number in range(6, 6 + 2 * receipt.MAX_HOLES + 2, 2))},
        {"rejects": ((4, "a"), (4, "b"))},
        {"rejects": ((0, "a"),)},
        {"rejects": ((4, "a word"),)},
        {"rejects": ((4, ""),)},
        {"rejects": ((4, "x" * 25),)},
        {"device": -1},
        {"issued_ms": 2**63},
        {"min_interval_s": True},
        {"head": "text"},
        {"epoch": 1.5},
    ],
    ids=str,
)
def test_a_receipt_that_makes_no_sense_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedReceipt, match=r"\.$"):
        receipt.encode(replace(RECEIPT, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"head_hash": b""},
        {"selftest": (("screen", 0), ("antenna", 0))},
        {"selftest": (("antenna", 0), ("antenna", 1))},
        {"selftest": (("rider", 0),)},
        {"selftest": (("antenna", 3),)},
        {"selftest": ("antenna",)},
        {"software": "x" * 65},
        {"versions": Versions(software="x" * 65)},
        {"at": When(-1, 0, 0, 0)},
        {"free_bytes": -1},
    ],
    ids=str,
)
def test_a_heartbeat_that_makes_no_sense_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedNote, match=r"\.$"):
        notes.encode_heartbeat(replace(HEARTBEAT, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"first": 0}, {"first": 9, "last": 8}, {"reason": "dropped in a lake"}, {"epoch": -1}], ids=str)
def test_a_loss_that_makes_no_sense_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedNote, match=r"\.$"):
        notes.encode_loss(replace(LOSS, **changes))  # type: ignore[arg-type]


@each_kind
@given(data=st.data())
def test_other_bytes_are_malformed_or_another_that_reads_back(decode: Callable[[bytes], object], good: bytes, data: st.DataObject) -> None:
    at, value = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 255))
    changed = data.draw(st.sampled_from((good[:at], good[:at] + bytes((value,)) + good[at + 1 :], good + bytes((value,)))))
    if changed == good:
        return
    with suppress(Malformed):
        assert decode(changed) != decode(good)


@each_kind
@given(data=st.binary(max_size=300))
def test_random_bytes_are_malformed_and_nothing_else(decode: Callable[[bytes], object], good: bytes, data: bytes) -> None:
    assert data != good
    with pytest.raises(Malformed):
        decode(data)


@each_kind
def test_a_later_version_is_named(decode: Callable[[bytes], object], good: bytes) -> None:
    with pytest.raises(Malformed, match="of version 3; this software knows version 1"):
        decode(good[:1] + b"\x03" + good[2:])


def test_a_heartbeat_that_counts_nothing_is_the_one_that_older_cities_read() -> None:
    assert loads(notes.encode_heartbeat(HEARTBEAT))[0] == 1
    assert loads(notes.encode_heartbeat(COUNTING))[0] == 2
    with pytest.raises(MalformedNote, match="version 3; this software knows version 1 and 2"):
        notes.decode_heartbeat(dumps([3, *loads(notes.encode_heartbeat(COUNTING))[1:]]))


@pytest.mark.parametrize("version", [1, 2])
def test_a_heartbeat_of_one_version_with_the_fields_of_the_other_is_refused(version: int) -> None:
    other = COUNTING if version == 1 else HEARTBEAT
    with pytest.raises(MalformedNote, match=r"an array of \d\d fields where \d\d belong\.$"):
        notes.decode_heartbeat(dumps([version, *loads(notes.encode_heartbeat(other))[1:]]))


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([], "has 0 counts"),
        ([["minato went home", 1]], "no name in this software's table"),
        ([["station-starts", 1], ["oom-kills", 1]], "not in the order of their names"),
        ([["oom-kills", 1], ["oom-kills", 1]], "not in the order of their names"),
        ([["oom-kills", 0]], "a count that is not from 1"),
        ([["oom-kills", 2**32]], "a count that is not from 1"),
        ([["oom-kills", -1]], "a number that is out of range"),
        ([["oom-kills"]], "an array of 1 fields where 2 belong"),
        ([["oom-kills", 1.5]], "wrong type"),
        ([["oom-kills", b"1"]], "wrong type"),
        (["oom-kills", 1], "an item that is not an array"),
        ([[name, 1] for name in sorted(counts.NAMES)], f"has {len(counts.NAMES)} counts, where 1 to 32 belong"),
        ({"oom-kills": 1}, "not CBOR as this house uses it"),
    ],
    ids=str,
)
def test_counts_of_any_other_form_are_refused_in_one_sentence(found: object, sentence: str) -> None:
    parts = loads(notes.encode_heartbeat(COUNTING))
    with pytest.raises(MalformedNote, match=sentence) as refused:
        notes.decode_heartbeat(dumps([*parts[:10], found, parts[11]]))
    assert str(refused.value).count(".") == 1
    with pytest.raises(MalformedNote):
        notes.encode_heartbeat(replace(COUNTING, counts=found))  # type: ignore[arg-type]


def test_a_unit_on_which_everything_goes_wrong_still_says_so_and_the_gravest_first() -> None:
    everything = dict.fromkeys(counts.NAMES, 2**40)
    wide = "\N{OLD PERSIAN NUMBER TWO}" * notes.MAX_SOFTWARE
    most = 2**63 - 1
    at, versions = When(most, most, most, most), Versions(bytes(8), bytes(8), bytes(8), wide, most, most)
    selftest = tuple((part, notes.BROKEN) for part in notes.PARTS)
    told = counts.fitting(everything)
    names = {name for name, _ in told}

    beat = Heartbeat(most, most, most, bytes(32), at, selftest, most, versions, wide, told, most)

    assert len(notes.encode_heartbeat(beat)) <= notes.MAX_BYTES
    assert names > {*counts.MACHINE, *(f"{source}-watchdogs" for source in counts.SOURCES)}
    assert not any(name.endswith("warnings") for name in names)


@each_kind
@pytest.mark.parametrize("form", ["indefinite", "long number", "tag", "map", "trailing", "nothing", "not an array"])
def test_another_form_of_the_same_is_malformed(decode: Callable[[bytes], object], good: bytes, form: str) -> None:
    parts = loads(good)
    other = {
        "indefinite": b"\x9f" + good[1:] + b"\xff",
        "long number": good[:1] + b"\x18\x01" + good[2:],
        "tag": b"\xc1" + good,
        "map": dumps([*parts[:2], {1: 2}, *parts[3:]]),
        "trailing": good + b"\x00",
        "nothing": b"",
        "not an array": dumps(good),
    }[form]
    with pytest.raises(Malformed, match=r"\.$"):
        decode(other)


@each_kind
def test_too_many_bytes_are_not_looked_at(decode: Callable[[bytes], object], good: bytes) -> None:
    with pytest.raises(Malformed, match="no more than"):
        decode(good + bytes(100_000))
