"""FeliCa frames: what is sent is the standard's bytes, what comes back is believed only whole."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers import felica
from drivers.errors import CardError, CardRefused, MalformedReply

IDM = bytes.fromhex("012E4129358BA753")
OTHER_IDM = bytes.fromhex("012E4129358BA754")


def reply(code: int, body: bytes, idm: bytes = IDM) -> bytes:
    payload = bytes((code,)) + idm + body
    return bytes((len(payload) + 1,)) + payload


def test_a_polling_frame_asks_for_a_lite_s_big_endian() -> None:
    assert felica.polling() == bytes.fromhex("060088B40000")
    assert felica.polling(felica.ANY_SYSTEM, request_code=1, slots=3) == bytes.fromhex("0600FFFF0103")


def test_a_polling_answer_gives_idm_pmm_and_the_request_data() -> None:
    pmm = bytes.fromhex("00F1000000014300")
    assert felica.parse_polling(bytes.fromhex("1201") + IDM + pmm) == felica.Polled(IDM, pmm)
    assert felica.parse_polling(bytes.fromhex("1401") + IDM + pmm + b"\x88\xb4").request_data == b"\x88\xb4"


@pytest.mark.parametrize("frame", ["", "12", "1201" + "00" * 15, "1202" + "00" * 16, "1301" + "00" * 17, "1301" + "00" * 16])
def test_a_polling_answer_of_another_shape_is_malformed(frame: str) -> None:
    with pytest.raises(MalformedReply):
        felica.parse_polling(bytes.fromhex(frame))


def test_a_read_frame_names_blocks_in_two_byte_elements_and_the_service_little_endian() -> None:
    assert felica.read_blocks(IDM, (0x82,)) == bytes.fromhex("1006012E4129358BA753010B00018082")


def test_a_write_needs_sixteen_bytes_for_each_block() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        felica.write_blocks(IDM, (0x0E, 0x91), bytes(16))


def test_a_read_gives_the_blocks_it_asked_for() -> None:
    assert felica.parse_read(reply(7, b"\x00\x00\x02" + bytes(range(32))), IDM, 2) == bytes(range(32))


def test_a_status_is_a_refusal_and_keeps_its_flags() -> None:
    with pytest.raises(CardRefused) as refused:
        felica.parse_read(reply(7, b"\x01\xa8"), IDM, 2)
    assert (refused.value.sf1, refused.value.sf2) == (0x01, 0xA8)
    assert "no such block" in felica.meaning(refused.value.sf2)
    assert felica.meaning(0x55) == "unknown status 55"


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(reply(7, b"\x00\x00\x01" + bytes(16)), id="one block instead of two"),
        pytest.param(reply(7, b"\x00\x00\x01" + bytes(32)), id="two blocks called one"),
        pytest.param(reply(7, b"\x00\x00"), id="success without data"),
        pytest.param(reply(7, b"\x01\xa8\x02" + bytes(32)), id="a refusal with data"),
        pytest.param(reply(9, b"\x00\x00\x02" + bytes(32)), id="the answer to a write"),
        pytest.param(reply(7, b"\x00\x00\x02" + bytes(32), OTHER_IDM), id="another card's answer"),
        pytest.param(b"\x10" + reply(7, b"\x00\x00\x02" + bytes(32))[1:], id="a LEN that lies"),
        pytest.param(reply(7, b"\x00\x00\x02" + bytes(32))[:-1], id="a byte short"),
    ],
)
def test_half_truths_about_a_read_are_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedReply):
        felica.parse_read(frame, IDM, 2)


def test_a_write_near_the_end_of_the_memorys_life_is_done_with_a_warning_whatever_the_first_flag() -> None:
    assert felica.parse_write(reply(9, b"\x00\x00"), IDM) is felica.Written.DONE
    assert felica.parse_write(reply(9, b"\xff\x71"), IDM) is felica.Written.DONE_WORN
    assert felica.parse_write(reply(9, b"\x00\x71"), IDM) is felica.Written.DONE_WORN


@pytest.mark.parametrize("status", [b"\x02\xb2", b"\x01\xa8", b"\xff\x70", b"\x00\xa9", b"\x01\x71"])
def test_a_write_with_any_other_status_is_refused(status: bytes) -> None:
    with pytest.raises(CardRefused):
        felica.parse_write(reply(9, status), IDM)


@given(st.binary(max_size=300), st.integers(1, 4))
@example(b"", 1)
@example(b"\x00", 1)
@example(reply(7, b"\x00\x00\x01" + bytes(16)), 1)
def test_no_bytes_from_a_card_raise_anything_but_a_card_error(frame: bytes, count: int) -> None:
    for parse in (felica.parse_polling, lambda f: felica.parse_read(f, IDM, count), lambda f: felica.parse_write(f, IDM)):
        with contextlib.suppress(CardError):
            parse(frame)


@given(st.binary(min_size=2, max_size=2), st.binary(max_size=40))
def test_a_well_addressed_lie_raises_nothing_but_a_card_error(status: bytes, rest: bytes) -> None:
    for code in (7, 9):
        with contextlib.suppress(CardError):
            felica.parse_read(reply(code, status + rest), IDM, 2)
        with contextlib.suppress(CardError):
            felica.parse_write(reply(code, status + rest), IDM)


def test_no_error_names_the_card() -> None:
    for lie in (reply(7, b"\x01\xa8"), reply(9, b""), reply(7, b"", OTHER_IDM)):
        with pytest.raises(CardError) as error:
            felica.parse_read(lie, IDM, 1)
        assert IDM.hex() not in str(error.value).lower()


def test_a_real_cards_pmm_gives_its_published_response_times() -> None:
    pmm = bytes.fromhex("00F1000000014300")
    reads = [round(felica.response_time_us(pmm, 0x06, count)) for count in (1, 2, 3, 4)]
    assert reads == [906, 1208, 1510, 1812]
    assert [round(felica.response_time_us(pmm, 0x08, count)) for count in (1, 2)] == [6041, 7250]
    assert round(felica.response_time_us(pmm, 0x0C, 0)) == 302
