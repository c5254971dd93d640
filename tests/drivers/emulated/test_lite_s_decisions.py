"""Each row of the table by which a Lite-S card refuses, in the table's order."""

from collections.abc import Callable
from typing import Any

import pytest

from drivers.emulated.lite_s_card import LiteSCard, Traits

SIXTEEN = bytes(range(16))
READ = 0x06
WRITE = 0x08


def flags(answer: bytes | None) -> str:
    return "silence" if answer is None else answer[:2].hex().upper()


# --- step 0: silence ---


@pytest.mark.parametrize("code", [0x02, 0x04, 0x0A, 0x0C, 0x10, 0x14, 0x3C])
def test_a_command_that_lite_s_does_not_know_meets_silence(fresh: Any, code: int) -> None:
    assert fresh.send(code, b"\x01\x0b\x00\x01\x80\x00") is None


def test_another_cards_idm_meets_silence(fresh: Any) -> None:
    frame = bytes((16, READ)) + bytes(8) + b"\x01\x0b\x00\x01\x80\x00"
    assert fresh.card.answer(frame) is None


@pytest.mark.parametrize("length", [0, 15, 17, 255])
def test_a_length_that_does_not_fit_meets_silence(fresh: Any, length: int) -> None:
    frame = bytes((length, READ)) + fresh.card.idm + b"\x01\x0b\x00\x01\x80\x00"
    assert fresh.card.answer(frame) is None


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        (READ, "010B00018000FF"),  # a byte too many
        (READ, "010B00028000"),  # a block too few
        (WRITE, "0109000180000011"),  # data too short
        (WRITE, "010900018000" + "00" * 17),
        (WRITE, "01090002800080" + "00" * 3),
    ],
)
def test_a_list_that_does_not_fill_its_frame_meets_silence(fresh: Any, code: int, payload: str) -> None:
    assert fresh.send(code, bytes.fromhex(payload)) is None


def test_an_empty_frame_meets_silence(fresh: Any) -> None:
    assert fresh.card.answer(b"") is None
    assert fresh.card.answer(b"\x01") is None


@pytest.mark.parametrize(
    ("poll", "answers"),
    [
        ("0600FFFF0000", True),
        ("060088B40000", True),
        ("060088FF0000", True),
        ("0600FFB40000", True),
        ("060000030000", False),
        ("060012FC0000", True),  # the factory's MC says so
        ("060088B40005", False),  # no such number of slots
    ],
)
def test_a_poll_is_answered_for_its_own_systems_only(fresh: Any, poll: str, answers: bool) -> None:
    assert (fresh.card.answer(bytes.fromhex(poll)) is not None) is answers


def test_a_poll_may_ask_for_the_system_code(fresh: Any) -> None:
    assert fresh.card.answer(bytes.fromhex("0600FFFF0100")) == b"\x14\x01" + fresh.card.idm + fresh.card.pmm + b"\x88\xb4"


def test_an_issued_card_answers_a_poll_for_ndef_only_when_its_mc_says_so(worked: Callable[[], LiteSCard]) -> None:
    assert worked().answer(bytes.fromhex("060012FC0000")) is None


def test_a_card_whose_polling_is_disabled_is_silent_until_the_field_goes(fresh: Any) -> None:
    poll = bytes.fromhex("0600FFFF0000")
    assert flags(fresh.write(0x92, bytes(8) + b"\x01" + bytes(7))) == "0000"
    assert fresh.card.answer(poll) is None
    fresh.restart()
    assert fresh.card.answer(poll) is not None


# --- steps 1 to 3: counts and service ---


@pytest.mark.parametrize("code", [READ, WRITE])
@pytest.mark.parametrize("services", [0, 2, 16])
def test_one_service_a_command(fresh: Any, code: int, services: int) -> None:
    payload = bytes((services,)) + b"\x0b\x00" * services + b"\x01\x80\x00"
    assert flags(fresh.send(code, payload)) == "FFA1"


@pytest.mark.parametrize("count", [0, 5, 255])
def test_a_read_asks_for_one_to_four_blocks(fresh: Any, count: int) -> None:
    payload = b"\x01\x0b\x00" + bytes((count,)) + b"\x80\x00" * min(count, 20)
    assert flags(fresh.send(READ, payload)) == "FFA2"


@pytest.mark.parametrize("count", [0, 3, 13])
def test_a_write_brings_one_or_two_blocks(fresh: Any, count: int) -> None:
    payload = b"\x01\x09\x00" + bytes((count,)) + b"\x80\x00" * count + SIXTEEN * min(count, 5)
    assert flags(fresh.send(WRITE, payload)) == "FFA2"


@pytest.mark.parametrize("service", [0x0000, 0x0008, 0x000A, 0x0049, 0x090F])
def test_there_are_two_services_to_read_through_and_one_to_write_through(fresh: Any, service: int) -> None:
    assert flags(fresh.read(0, service=service)) == "01A6"
    assert flags(fresh.send(WRITE, b"\x01" + service.to_bytes(2, "little") + b"\x01\x80\x00" + SIXTEEN)) == "01A6"


def test_the_read_only_service_cannot_be_written(fresh: Any) -> None:
    assert flags(fresh.send(WRITE, b"\x01\x0b\x00\x01\x80\x00" + SIXTEEN)) == "01A6"


# --- step 4: the block list ---


@pytest.mark.parametrize(
    ("listed", "want"),
    [
        ("8100", "01A3"),  # order
        ("8000 8F01", "02A3"),
        ("9000", "01A7"),  # access mode
        ("8000 8001 F002", "04A7"),
        ("800F", "01A8"),  # no such block
        ("8000 8000 8000 8089", "08A8"),
        ("80FF", "01A8"),
        ("000001", "01A8"),  # three bytes, high byte not zero
        ("8000 000E00 8010", "04A8"),
    ],
)
def test_a_read_names_its_bad_block_in_a_bit_map(fresh: Any, listed: str, want: str) -> None:
    blocks = bytes.fromhex(listed)
    payload = b"\x01\x0b\x00" + bytes((len(listed.split()),)) + blocks
    assert flags(fresh.send(READ, payload)) == want


def test_a_three_byte_element_reads_as_a_two_byte_one(fresh: Any) -> None:
    assert fresh.send(READ, b"\x01\x0b\x00\x01\x00\x00\x00") == fresh.read(0)


@pytest.mark.parametrize("block", [0x81, 0x83, 0x85, 0x90, 0xA0])
def test_a_read_only_block_is_not_read_through_the_writable_service(fresh: Any, block: int) -> None:
    assert flags(fresh.read(block, service=0x0009)) == "01A8"
    assert flags(fresh.read(block)) == "0000"


@pytest.mark.parametrize("block", [0x0F, 0x89, 0x93, 0x81, 0x83, 0x85, 0x90, 0x91, 0xA0])
def test_a_write_to_a_block_that_is_none_or_never_writable_is_refused(fresh: Any, block: int) -> None:
    assert flags(fresh.write(block, SIXTEEN)) == "01A8"


@pytest.mark.parametrize(
    ("elements", "want"),
    [("81", "01A3"), ("90", "01A7")],
)
def test_a_write_names_a_bad_element(fresh: Any, elements: str, want: str) -> None:
    assert flags(fresh.send(WRITE, b"\x01\x09\x00\x01" + bytes.fromhex(elements) + b"\x00" + SIXTEEN)) == want


def test_the_second_block_of_a_write_is_mac_a_or_nothing(fresh: Any) -> None:
    assert flags(fresh.send(WRITE, b"\x01\x09\x00\x02\x80\x00\x80\x01" + SIXTEEN * 2)) == "02A8"


def test_a_locked_block_is_refused(fresh: Any) -> None:
    fresh.card.rewrite(0x88, bytes.fromhex("FEFF0000070000000000000000000000"))
    assert flags(fresh.write(0, SIXTEEN)) == "01A8"
    assert flags(fresh.write(1, SIXTEEN)) == "0000"
    for block in (0x82, 0x84, 0x86, 0x87):
        assert flags(fresh.write(block, SIXTEEN)) == "01A8"


def test_a_block_that_needs_a_mac_is_refused_without(worked: Callable[[], LiteSCard], hand: Callable[[LiteSCard], Any]) -> None:
    assert flags(hand(worked()).write(0x0E, bytes(16))) == "01A8"
    assert flags(hand(worked()).write(0x92, bytes(16))) == "01A8"
    assert flags(hand(worked()).write(0x87, bytes(16))) == "01A8"  # MC says: only with MAC after the lock


# --- step 5: MAC ---


def test_mac_a_without_a_challenge_is_refused_at_its_place(fresh: Any) -> None:
    assert flags(fresh.read(0x91)) == "01B2"
    assert flags(fresh.read(0, 1, 0x91)) == "04B2"


def test_mac_without_a_challenge_reads_as_zeros(fresh: Any) -> None:
    assert fresh.read(0, 0x81) == b"\x00\x00\x02" + fresh.data(0) + bytes(16)


@pytest.mark.parametrize("block", [0x00, 0x0E, 0x80, 0x82, 0x88, 0x92])
def test_a_strict_card_refuses_a_mac_that_is_not_needed(fresh: Any, block: int) -> None:
    fresh.challenge()
    assert flags(fresh.write_with_mac(block, bytes(16))) == "02B2"


def test_a_lenient_card_accepts_a_mac_that_is_not_needed_if_it_is_right(fresh: Any) -> None:
    fresh.card.traits = Traits(strict=False)
    fresh.challenge()
    assert flags(fresh.write_with_mac(0, SIXTEEN)) == "0000"
    assert flags(fresh.write_with_mac(0, SIXTEEN, mac=bytes(8))) == "02B2"


def test_a_write_with_mac_needs_challenge_counter_and_key(worked: Callable[[], LiteSCard], hand: Callable[..., Any]) -> None:
    new = bytes.fromhex("FEFFFFFFFEFFFFFF") + bytes(8)
    one = hand(worked())
    one.rc = bytes(16)
    assert flags(one.write_with_mac(0x0E, new)) == "02B2"  # the card has heard no challenge
    one.challenge()
    assert flags(one.write_with_mac(0x0E, new, wcnt=1)) == "02B2"
    assert flags(one.write_with_mac(0x0E, new, mac=bytes(8))) == "02B2"
    other = hand(one.card, b"another key, 16 ")
    other.challenge()
    assert flags(other.write_with_mac(0x0E, new)) == "02B2"
    one.challenge()
    assert flags(one.write_with_mac(0x0E, new)) == "0000"


def test_the_five_bytes_after_the_counter_are_not_looked_at(worked: Callable[[], LiteSCard], vectors: dict[str, Any]) -> None:
    card = worked()
    steps = [bytes.fromhex(step["command"]) for step in vectors["tap"]["step"]]
    card.answer(steps[1])
    answer = card.answer(steps[3][:-5] + b"\x00\xcc\xcc\xcc\xcc")
    assert answer is not None
    assert answer[10:12] == b"\x00\x00"


# --- steps 6 to 8 ---


def test_a_block_may_ask_for_external_authentication_to_be_read_or_written(
    worked: Callable[[], LiteSCard], hand: Callable[..., Any]
) -> None:
    card = worked()
    card.rewrite(0x88, bytes.fromhex("FFFF0000070102000200000001000000".replace(" ", "")))
    one = hand(card)
    assert flags(one.read(0, 1)) == "02B1"
    assert flags(one.write(1, SIXTEEN)) == "01B1"
    assert flags(one.authenticate()) == "0000"
    assert flags(one.write(1, SIXTEEN)) == "0000"
    assert one.data(1) == SIXTEEN
    one.restart()
    assert flags(one.read(1)) == "01B1"


def test_both_macs_in_one_read_are_refused(fresh: Any) -> None:
    fresh.challenge()
    assert flags(fresh.read(0, 0x81, 0x91)) == "FFB0"


def test_an_earlier_mac_a_reads_as_zeros(fresh: Any) -> None:
    fresh.challenge()
    answer = fresh.read(0x91, 0)
    assert answer == b"\x00\x00\x02" + bytes(16) + fresh.data(0)


def test_a_refused_reg_write_says_what_the_card_is_set_to_say(fresh: Any) -> None:
    fresh.write(0x0E, bytes.fromhex("05000000050000000000000000000000"))
    fresh.card.traits = Traits(reg_refusal=(0x01, 0xA9))
    assert flags(fresh.write(0x0E, bytes.fromhex("06000000050000000000000000000000"))) == "01A9"


def test_a_worn_card_warns_and_has_written(fresh: Any) -> None:
    fresh.card.traits = Traits(worn_at=0)
    assert flags(fresh.write(3, SIXTEEN)) == "FF71"
    assert fresh.data(3) == SIXTEEN


@pytest.mark.parametrize("block", [0x80, 0x87])
def test_challenge_and_card_key_read_as_zeros(fresh: Any, block: int) -> None:
    assert flags(fresh.write(block, SIXTEEN)) == "0000"
    assert fresh.data(block) == bytes(16)
