"""What becomes of a batch's entries, and how far a ledger is stored."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.receive import (
    CONFLICT,
    IMPOSSIBLE,
    LATER,
    MALFORMED,
    MISPLACED,
    UNKNOWN,
    Known,
    Run,
    Standing,
    digest_of,
    sort_out,
    version_of,
    with_batch,
    with_loss,
)
from ledger.batch import Batch
from ledger.chain import genesis
from ledger.codec import encode
from ledger.entry import Entry, Fare, Kind, Place, When
from ledger.strict import MAX

MakeVehicle = Callable[..., Any]
COUNT = 40

cuts = st.lists(
    st.tuples(st.integers(1, COUNT), st.integers(1, COUNT)).map(lambda pair: (min(pair), max(pair))),
    max_size=12,
)


def missing_of(stored: set[int]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """The first number that is not stored, and the ranges missing below the highest: counted on fingers."""
    first = next(seq for seq in range(1, COUNT + 100) if seq not in stored)
    gone = [seq for seq in range(first, max(stored, default=0)) if seq not in stored]
    starts = [seq for seq in gone if seq - 1 not in gone]
    ends = [seq for seq in gone if seq + 1 not in gone]
    return first, tuple(zip(starts, ends, strict=True))


@given(sent=cuts)
def test_however_a_ledger_is_cut_what_is_stored_is_what_was_sent(sent: list[tuple[int, int]], vehicle: MakeVehicle) -> None:
    bus = vehicle(count=COUNT)
    now = Standing()
    stored: set[int] = set()
    for first, last in sent:
        now, breaks = with_batch(now, bus.batch(first, last))
        stored |= set(range(first, last + 1))
        assert breaks == ()
    assert (now.next_seq, now.holes) == missing_of(stored)
    assert now.head(bus.device, bus.epoch) == bus.hashes[now.next_seq - 1]
    assert all(run.head == bus.hashes[run.last] and run.previous == bus.hashes[run.first - 1] for run in now.runs)


@given(sent=cuts, lost=cuts, unknown_end=st.integers(1, COUNT))
def test_a_report_of_a_loss_closes_holes_and_nothing_else(
    sent: list[tuple[int, int]], lost: list[tuple[int, int]], unknown_end: int, vehicle: MakeVehicle
) -> None:
    bus = vehicle(count=COUNT)
    now = Standing()
    stored: set[int] = set()
    for first, last in sent:
        now, _ = with_batch(now, bus.batch(first, last))
        stored |= set(range(first, last + 1))
    for first, last in lost:
        now = with_loss(now, first, last)
        stored |= set(range(first, last + 1))
    now = with_loss(now, unknown_end, 0)
    stored |= set(range(unknown_end, max(stored, default=0) + 1))
    assert (now.next_seq, now.holes) == missing_of(stored)


def test_a_chain_that_breaks_behind_the_last_number_of_all_breaks_before_it(vehicle: MakeVehicle) -> None:
    bus = vehicle(count=COUNT)
    now, _ = with_batch(Standing(), replace(bus.batch(1, 2), first_seq=MAX - 1, previous=bytes(31) + b"1"))
    _, breaks = with_batch(now, replace(bus.batch(3, 4), first_seq=MAX - 1, previous=bytes(31) + b"1"))
    assert breaks == (MAX,)


@given(sent=st.permutations([(1, 10), (11, 20), (15, 30), (31, COUNT)]), changed=st.integers(1, COUNT - 1))
def test_a_ledger_that_was_written_anew_between_two_batches_breaks_the_chain(
    sent: list[tuple[int, int]], changed: int, vehicle: MakeVehicle
) -> None:
    bus = vehicle(count=COUNT)
    other = bus.rewritten(changed)
    now = Standing()
    told: set[int] = set()
    for turn, (first, last) in enumerate(sent):
        now, breaks = with_batch(now, (bus if turn < 2 else other).batch(first, last))
        told |= set(breaks)
    # Whoever has a hash behind the change from one telling, and the same place from the other, sees it; nobody sees it before the change.
    assert all(seq > changed for seq in told)
    assert now.next_seq == COUNT + 1


def test_a_hash_that_nobody_knows_agrees_with_all(vehicle: MakeVehicle) -> None:
    bus = vehicle(count=COUNT)
    now = with_loss(Standing(), 1, 10)
    assert now.head(bus.device, bus.epoch) == UNKNOWN
    now, breaks = with_batch(now, bus.batch(11, 20))
    assert breaks == ()
    assert (now.next_seq, now.head(bus.device, bus.epoch)) == (21, bus.hashes[20])


def test_an_end_that_nobody_can_have_reached_leaves_a_number_that_a_receipt_can_say() -> None:
    now = with_loss(Standing(), 1, 2**63 - 1)
    assert now.next_seq == 2**63 - 1
    now, _ = with_batch(now, Batch(1, 1, 2**63 - 1, bytes(32), (b"x",), 0))
    assert now.next_seq == 2**63 - 1


def test_nothing_stored_is_nothing_missing() -> None:
    assert (Standing().next_seq, Standing().holes, Standing().head(1, 2)) == (1, (), genesis(1, 2))


def test_a_batch_in_the_middle_of_what_is_stored_changes_nothing(vehicle: MakeVehicle) -> None:
    bus = vehicle(count=COUNT)
    before, _ = with_batch(Standing(), bus.batch(1, 30))
    assert with_batch(before, bus.batch(5, 9)) == (before, ())
    assert with_batch(before, bus.batch(5, 30)) == (before, ())
    assert before.runs == (Run(1, 30, bus.hashes[0], bus.hashes[30]),)


# --- one entry ----------------------------------------------------------------------------------------------------------------------------


def a_batch(*data: bytes) -> Batch:
    return Batch(7, 4711, 1, genesis(7, 4711), data, 0)


def encoded(seq: int = 1, **changes: object) -> bytes:
    return encode(replace(Entry(Kind.BOOT, When(1, 2, 3, 0), seq=seq, device=7, epoch=4711), **changes))  # type: ignore[arg-type]


def test_an_entry_whose_number_is_free_is_accepted_with_its_digest() -> None:
    found = sort_out(a_batch(encoded()), {})
    assert found.accepted == {1: digest_of(encoded())}
    assert not found.brings_nothing
    assert found.codes == ()


def test_the_same_bytes_again_are_a_duplicate_and_bring_nothing() -> None:
    found = sort_out(a_batch(encoded()), {1: Known(digest_of(encoded()), "")})
    assert (found.duplicates, found.brings_nothing, found.codes) == (1, True, ())


def test_what_was_set_aside_is_named_again_when_it_comes_again() -> None:
    found = sort_out(a_batch(b"rubbish"), {1: Known(digest_of(b"rubbish"), MALFORMED)})
    assert (found.duplicates, found.brings_nothing, found.codes) == (1, True, ((1, MALFORMED),))


@pytest.mark.parametrize("there", [Known(digest_of(b"x"), ""), Known(digest_of(b"x"), MALFORMED), Known(digest_of(b"x"), LATER)])
def test_other_content_under_a_stored_number_is_a_conflict_whatever_is_stored_there(there: Known) -> None:
    found = sort_out(a_batch(encoded()), {1: there})
    assert [(each.seq, each.code, each.data) for each in found.conflicts] == [(1, CONFLICT, encoded())]
    assert (found.accepted, found.codes) == ({}, ((1, CONFLICT),))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", MALFORMED),
        (b"\xff" * 9, MALFORMED),
        (encoded()[:-1], MALFORMED),
        (encoded(seq=2), MISPLACED),
        (encoded(fare=Fare(nominal=2**31)), IMPOSSIBLE),
        (encoded(fare=Fare(points=2**62)), IMPOSSIBLE),
        (encoded(place=Place(trip="T\0")), IMPOSSIBLE),
        (encoded(reason="\0"), IMPOSSIBLE),
        (encoded(place=Place(service_day=3_000_000)), IMPOSSIBLE),
        (encoded(when=When(1, 2, 2**60, 0)), IMPOSSIBLE),
        (encoded(when=When(1, 2, 3, 2**40)), IMPOSSIBLE),
    ],
)
def test_what_cannot_be_booked_is_set_aside_and_the_entry_behind_it_is_booked(data: bytes, code: str) -> None:
    found = sort_out(a_batch(data, encoded(seq=2, when=When(1, 9, 9, 0))), {})
    assert [(each.seq, each.code, each.data) for each in found.rejected] == [(1, code, data)]
    assert found.rejected[0].sentence.startswith("The ")
    assert found.accepted.keys() == {2}
    assert found.codes == ((1, code),)


def test_an_entry_of_a_newer_version_is_held_as_it_came() -> None:
    newer = bytes((0x83, 2, 1, 0xA0))
    found = sort_out(a_batch(newer), {})
    assert [(each.seq, each.data, each.version) for each in found.held] == [(1, newer, 2)]
    assert found.codes == ((1, LATER),)


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (encoded(), 1),
        (bytes((0x81, 2)), 2),
        (bytes((0x98, 30, 23)), 23),
        (bytes((0x99, 1, 0, 0x18, 24)), 24),
        (bytes((0x81, 0x18, 2)), 0),  # a number in a longer form than it needs is no CBOR of ours
        (bytes((0x81, 0x18)), 0),
        (bytes((0x81, 0x19, 1, 0)), 0),
        (bytes((0x81, 0x61)), 0),
        (b"\xa1\x02", 0),
        (b"\x80", 0),
        (b"", 0),
    ],
)
def test_only_a_beginning_that_says_a_version_says_one(data: bytes, version: int) -> None:
    assert version_of(data) == version
