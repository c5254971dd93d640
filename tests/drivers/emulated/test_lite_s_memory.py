"""What a Lite-S card remembers, what it forgets, and what nobody can undo."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.emulated.lite_s_card import Delay, LiteSCard, Memory, Traits, blank, longest_delay_ns

IDM = bytes.fromhex("0102030405060708")
BLOCK = st.binary(min_size=16, max_size=16)
SIXTEEN = bytes(range(16))


def write(card: LiteSCard, block: int, data: bytes) -> bytes:
    answer = card.answer(bytes((32, 0x08)) + card.idm + b"\x01\x09\x00\x01\x80" + bytes((block,)) + data)
    assert answer is not None
    return answer[10:]


def counters(card: LiteSCard) -> tuple[int, int]:
    reg = card.memory.blocks[0x0E]
    return int.from_bytes(reg[:4], "little"), int.from_bytes(reg[4:8], "little")


# --- REG ---


@settings(deadline=None)
@given(st.lists(BLOCK, max_size=12), st.booleans())
def test_the_subtraction_register_never_rises(writes: list[bytes], equal: bool) -> None:
    card = blank(IDM)
    card.traits = Traits(equal_reg=equal)
    for data in writes:
        before = counters(card)
        accepted = write(card, 0x0E, data) == b"\x00\x00"
        after = counters(card)
        assert after[0] <= before[0]
        assert after[1] <= before[1]
        assert (card.memory.blocks[0x0E] == data) or not accepted
        assert accepted or after == before


def test_equal_values_in_the_register_are_accepted_or_refused_as_the_card_is_set() -> None:
    card = blank(IDM)
    same = bytes.fromhex("FFFFFFFFFFFFFFFF") + bytes(8)
    assert write(card, 0x0E, same) == b"\x00\x00"
    card.traits = Traits(equal_reg=False)
    assert write(card, 0x0E, same) == b"\x01\xa8"
    assert write(card, 0x0E, bytes.fromhex("FEFFFFFFFFFFFFFF") + bytes(8)) == b"\x01\xa8"
    assert write(card, 0x0E, bytes.fromhex("FEFFFFFFFEFFFFFF") + bytes(8)) == b"\x00\x00"


def test_a_refused_register_write_changes_nothing_and_is_not_counted() -> None:
    card = blank(IDM)
    write(card, 0x0E, bytes(16))
    before = card.memory
    assert write(card, 0x0E, b"\x01" + bytes(15)) == b"\x01\xa8"
    assert card.memory == before


# --- MC ---


@settings(deadline=None)
@given(st.lists(st.tuples(BLOCK, st.booleans()), max_size=8))
def test_bits_of_the_memory_configuration_only_go_one_way(writes: list[tuple[bytes, bool]]) -> None:
    card = blank(IDM)
    for data, restart in writes:
        before = card.memory.blocks[0x88]
        write(card, 0x88, data)
        after = card.memory.blocks[0x88]
        writable, was = int.from_bytes(after[:2], "little"), int.from_bytes(before[:2], "little")
        assert writable & ~was == 0
        assert all(old & ~new == 0 for old, new in zip(before[6:13], after[6:13], strict=True))
        assert before[2] == 0xFF or after[2:6] == before[2:6]
        assert was >> 15 or (after[:2] == before[:2] and after[6:13] == before[6:13])
        assert after[4] == 0x07
        assert after[13:] == bytes(3)
        if restart:
            card.field_off()
            card.field_on()


def test_a_new_memory_configuration_counts_from_the_next_field_on(fresh: Any) -> None:
    assert fresh.write(0x88, bytes.fromhex("FEFF0000070100000000000001000000")) == b"\x00\x00"
    assert fresh.write(0, SIXTEEN) == b"\x00\x00"
    fresh.restart()
    assert fresh.write(0, SIXTEEN) == b"\x01\xa8"
    assert fresh.write(1, SIXTEEN) == b"\x00\x00"
    assert fresh.write(0x92, bytes(16)) == b"\x01\xa8"


def test_first_issuance_sets_the_write_counter_to_zero(fresh: Any) -> None:
    assert fresh.wcnt() == 0xFFFE00
    fresh.write(0x88, bytes.fromhex("FFFF0000070100000000000001000000"))
    fresh.restart()
    assert fresh.wcnt() == 0
    fresh.write(0, SIXTEEN)
    assert fresh.wcnt() == 1


def test_the_second_issuance_freezes_the_rest(fresh: Any) -> None:
    fresh.write(0x88, bytes.fromhex("FF7F0000070100000000000001000000"))
    fresh.restart()
    assert fresh.write(0x88, bytes(16)) == b"\x01\xa8"


def test_the_card_key_changes_only_with_mac_after_issuance_when_the_card_allows_it(
    worked: Callable[[], LiteSCard], hand: Callable[..., Any]
) -> None:
    one = hand(worked())
    one.challenge()
    assert one.write_with_mac(0x87, SIXTEEN) == b"\x00\x00"
    other = hand(one.card, SIXTEEN)
    assert other.authenticate() == b"\x00\x00"
    one.card.rewrite(0x88, bytes.fromhex("FFFF0000070000000000000001000000"))
    other.challenge()
    assert other.write_with_mac(0x87, bytes(16)) == b"\x01\xa8"


# --- WCNT ---


def test_every_accepted_write_but_the_challenge_is_counted(fresh: Any) -> None:
    for block in (0x00, 0x0D, 0x0E, 0x82, 0x84, 0x86, 0x87, 0x88, 0x92):
        before = fresh.wcnt()
        assert fresh.write(block, fresh.data(block)) == b"\x00\x00", hex(block)
        assert fresh.wcnt() == before + 1, hex(block)
    before = fresh.wcnt()
    fresh.challenge()
    assert fresh.wcnt() == before


def test_a_blank_card_stops_taking_macs_after_511_counted_writes(fresh: Any) -> None:
    fresh.card.traits = Traits(strict=False)
    fresh.challenge()
    for _ in range(511):
        assert fresh.write_with_mac(1, SIXTEEN) == b"\x00\x00"
    assert fresh.wcnt() == 0xFFFFFF
    assert fresh.write_with_mac(1, SIXTEEN) == b"\x02\xb2"
    assert fresh.write(1, SIXTEEN) == b"\x00\x00"
    assert fresh.wcnt() == 0xFFFFFF


def test_an_issued_card_stops_taking_macs_at_its_limit(worked: Callable[[], LiteSCard], hand: Callable[..., Any]) -> None:
    one = hand(worked())
    one.card.set_wcnt(0xFFFDFF)
    assert one.authenticate() == b"\x00\x00"
    assert one.wcnt() == 0xFFFE00
    assert one.authenticate() == b"\x02\xb2"


# --- ID, STATE, field ---


def test_the_id_block_keeps_the_idm(fresh: Any) -> None:
    fresh.write(0x82, b"\xee" * 16)
    assert fresh.data(0x82) == IDM + b"\xee" * 8
    assert fresh.data(0x83)[:8] == IDM


def test_authentication_lasts_until_the_field_goes(worked: Callable[[], LiteSCard], hand: Callable[..., Any]) -> None:
    one = hand(worked())
    assert one.authenticate() == b"\x00\x00"
    assert one.data(0x92)[0] == 1
    one.restart()
    assert one.data(0x92)[0] == 0
    assert one.read(0x91) == b"\x01\xb2"


@pytest.mark.parametrize("ends", [True, False])
def test_a_new_challenge_ends_authentication_as_the_card_is_set(
    worked: Callable[[], LiteSCard], hand: Callable[..., Any], ends: bool
) -> None:
    card = worked()
    card.traits = Traits(rc_ends_ext_auth=ends)
    one = hand(card)
    one.authenticate()
    one.challenge()
    assert one.data(0x92)[0] == (0 if ends else 1)


def test_without_a_field_there_is_no_answer_and_nothing_is_forgotten(fresh: Any) -> None:
    fresh.write(2, SIXTEEN)
    fresh.card.field_off()
    assert fresh.read(2) is None
    assert fresh.write(2, bytes(16)) is None
    fresh.card.field_on()
    assert fresh.data(2) == SIXTEEN


def test_a_change_of_memory_is_told_at_once_and_a_read_is_not() -> None:
    told: list[Memory] = []
    card = LiteSCard(blank(IDM).memory, on_write=lambda changed: told.append(changed.memory))
    write(card, 0x80, SIXTEEN)
    card.answer(bytes.fromhex("0600FFFF0000"))
    assert told == []
    write(card, 5, SIXTEEN)
    assert [memory.blocks[5] for memory in told] == [SIXTEEN]


def test_a_memory_that_no_card_has_is_refused() -> None:
    memory = blank(IDM).memory
    with pytest.raises(ValueError, match="each of them once"):
        Memory({0: bytes(16)}, 0)
    with pytest.raises(ValueError, match="block 03 has not"):
        Memory({**memory.blocks, 3: bytes(15)}, 0)
    with pytest.raises(ValueError, match="24 bits"):
        Memory(memory.blocks, 1 << 24)


# --- time ---


@pytest.mark.parametrize(
    ("frame", "longest_us"),
    [
        ("10 06 0102030405060708 01 0B00 01 8000", 906),
        ("12 06 0102030405060708 01 0B00 02 80008000", 1208),
        ("14 06 0102030405060708 01 0B00 03 800080008000", 1510),
        ("16 06 0102030405060708 01 0B00 04 8000800080008000", 1812),
        ("20 08 0102030405060708 01 0900 01 8000" + "00" * 16, 6041),
        ("32 08 0102030405060708 01 0900 02 80008091" + "00" * 32, 7249),
    ],
)
def test_a_card_thinks_as_long_as_it_declares(frame: str, longest_us: int) -> None:
    card = blank(IDM)
    command = bytes.fromhex(frame)
    assert longest_delay_ns(card.pmm, command) // 1000 == longest_us
    card.traits = Traits(delay=Delay.MAX)
    assert card.delay_ns(command) // 1000 == longest_us
    card.traits = Traits(delay=Delay.HALF)
    assert card.delay_ns(command) // 1000 == longest_us // 2
    card.traits = Traits(delay=Delay.MIN)
    assert card.delay_ns(command) == 197_050
