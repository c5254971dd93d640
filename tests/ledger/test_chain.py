"""A ledger that was meddled with says where."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.chain import Fault, Finding, Head, Link, follow, genesis, origin, verify
from ledger.codec import encode
from ledger.entry import Entry, Kind, When

Ride = Callable[..., Entry]
DEVICE, EPOCH = 7, 4711
RIDER = (1).to_bytes(8, "big")


@pytest.fixture
def links(ride: Ride) -> list[Link]:
    return chained([encode(ride(device=DEVICE, epoch=EPOCH, seq=seq)) for seq in range(1, 11)])


def chained(entries: list[bytes]) -> list[Link]:
    head, links = genesis(DEVICE, EPOCH), []
    for seq, data in enumerate(entries, 1):
        head = follow(head, data)
        links.append(Link(seq, data, head, RIDER, Kind.PAID))
    return links


def found(links: list[Link], *remembered: Head) -> list[tuple[Fault, int, int]]:
    return [(finding.fault, finding.first, finding.last) for finding in verify(links, DEVICE, EPOCH, remembered).findings]


def test_a_whole_ledger_has_no_findings(links: list[Link]) -> None:
    check = verify(links, DEVICE, EPOCH, [Head(10, links[-1].hash), Head(3, links[2].hash)])
    assert (check.findings, check.count, check.head) == ([], 10, Head(10, links[-1].hash))


def test_an_empty_ledger_is_whole() -> None:
    check = verify([], DEVICE, EPOCH)
    assert (check.findings, check.head) == ([], origin(DEVICE, EPOCH))


@pytest.mark.parametrize("seq", [1, 5, 10])
def test_a_changed_entry_is_named(links: list[Link], ride: Ride, seq: int) -> None:
    richer = encode(ride(device=DEVICE, epoch=EPOCH, seq=seq, reason="changed"))
    links[seq - 1] = links[seq - 1]._replace(data=richer)
    assert found(links) == [(Fault.CHANGED, seq, seq)]


def test_a_changed_entry_with_its_own_hash_made_right_breaks_at_the_next(links: list[Link], ride: Ride) -> None:
    data = encode(ride(device=DEVICE, epoch=EPOCH, seq=5, reason="changed"))
    links[4] = links[4]._replace(data=data, hash=follow(links[3].hash, data))
    assert found(links) == [(Fault.CHANGED, 6, 6)]


def test_missing_entries_are_named_and_the_rest_still_checked(links: list[Link]) -> None:
    links[8] = links[8]._replace(hash=bytes(32))
    del links[2:5]
    assert found(links) == [(Fault.MISSING, 3, 5), (Fault.CHANGED, 9, 9), (Fault.CHANGED, 10, 10)]


def test_a_missing_beginning_is_named(links: list[Link]) -> None:
    assert found(links[3:]) == [(Fault.MISSING, 1, 3)]


def test_a_cut_tail_shows_against_what_is_remembered(links: list[Link]) -> None:
    assert found(links[:7], Head(10, links[-1].hash)) == [(Fault.CUT, 8, 10)]
    assert found(links[:7]) == []


def test_a_chain_written_anew_shows_against_what_is_remembered(links: list[Link], ride: Ride) -> None:
    forged = chained([encode(ride(device=DEVICE, epoch=EPOCH, seq=seq, reason="forged")) for seq in range(1, 11)])
    assert found(forged) == []
    assert found(forged, Head(10, links[-1].hash)) == [(Fault.REWRITTEN, 10, 10)]


def test_an_entry_that_stands_there_twice_is_named(links: list[Link]) -> None:
    assert found([*links[:4], links[3], *links[4:]]) == [(Fault.REPEATED, 4, 4)]


def test_two_exchanged_entries_are_named(links: list[Link]) -> None:
    links[3], links[4] = links[3]._replace(data=links[4].data), links[4]._replace(data=links[3].data)
    assert {(fault, first) for fault, first, _ in found(links)} == {
        (Fault.MISFILED, 4),
        (Fault.CHANGED, 4),
        (Fault.MISFILED, 5),
        (Fault.CHANGED, 5),
    }


def test_search_keys_that_say_something_else_are_named(links: list[Link]) -> None:
    links[1] = links[1]._replace(kind=Kind.FREE)
    links[2] = links[2]._replace(rider=None)
    assert found(links) == [(Fault.MISFILED, 2, 2), (Fault.MISFILED, 3, 3)]


def test_an_unreadable_entry_is_named_with_its_field(links: list[Link]) -> None:
    links[1] = links[1]._replace(data=b"\x00")
    assert str(verify(links, DEVICE, EPOCH).findings[0]) == "entry 2 cannot be read (field 'entry')"


def test_a_ledger_of_another_epoch_does_not_begin_here(links: list[Link]) -> None:
    assert [finding.fault for finding in verify(links, DEVICE, EPOCH + 1).findings] == [Fault.CHANGED]


def test_findings_are_sentences() -> None:
    assert str(Finding(Fault.MISSING, 3, 5)) == "each of the entries 3 to 5 is missing"
    assert str(Finding(Fault.CHANGED, 4, 4)) == "entry 4 was changed"


def test_not_more_findings_are_kept_than_somebody_reads(links: list[Link]) -> None:
    assert len(verify([link._replace(hash=bytes(32)) for link in links * 9], DEVICE, EPOCH).findings) == 20


@settings(deadline=None)
@given(st.data())
def test_whatever_row_is_taken_away_changed_or_doubled_is_noticed(data: st.DataObject) -> None:
    at = data.draw(st.integers(1, 6))
    ways: dict[str, Callable[[list[Link]], list[Link]]] = {
        "gone": lambda rows: rows[: at - 1] + rows[at:],
        "twice": lambda rows: [*rows[:at], rows[at - 1], *rows[at:]],
        "hash": lambda rows: [*rows[: at - 1], rows[at - 1]._replace(hash=bytes(32)), *rows[at:]],
        "data": lambda rows: [*rows[: at - 1], rows[at - 1]._replace(data=rows[at].data), *rows[at:]],
    }
    way = data.draw(st.sampled_from(sorted(ways)))
    plain = Entry(Kind.BOOT, When(1, 2, 3, 0), device=DEVICE, epoch=EPOCH)
    rows = [link._replace(rider=None, kind=Kind.BOOT) for link in chained([encode(replace(plain, seq=seq)) for seq in range(1, 8)])]
    assert verify(rows, DEVICE, EPOCH).findings == []
    first = verify(ways[way](rows), DEVICE, EPOCH).findings[0]
    assert first.first == at
