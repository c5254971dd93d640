"""The PN532's serial frames, by the byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.readers.pn532_frames import (
    ACK,
    LONGEST,
    NACK,
    Ack,
    ErrorFrame,
    Event,
    Garbage,
    Nack,
    Parser,
    Reply,
    command,
)

ERROR = bytes.fromhex("0000ff01ff7f8100")


def answer(code: int, data: bytes) -> bytes:
    """A frame from the chip, written here a second time so that one slip cannot hide in both."""
    body = b"\xd5" + bytes([code]) + data
    size = len(body)
    head = bytes([size, 256 - size]) if size < 256 else b"\xff\xff" + bytes([size >> 8, size & 255, (-(size >> 8) - (size & 255)) % 256])
    return b"\x00\x00\xff" + head + body + bytes([-sum(body) % 256]) + b"\x00"


def heard(stream: bytes) -> list[Event]:
    return Parser().feed(stream)


@pytest.mark.parametrize(
    ("code", "data", "frame"),
    [
        (0x02, "", "0000ff02fed4022a00"),
        (0x14, "010000", "0000ff05fbd4140100001700"),
        (0x10, "07", "0000ff03fdd410071500"),
        (0x32, "0101", "0000ff04fcd4320101f800"),
        (0x4A, "010100ffff0100", "0000ff09f7d44a010100ffff0100e100"),
        (0x06, "630263036305", "0000ff08f8d406630263036305f300"),
    ],
)
def test_a_command_is_framed_as_a_real_host_frames_it(code: int, data: str, frame: str) -> None:
    assert command(code, bytes.fromhex(data)).hex() == frame


def test_a_command_too_long_for_a_normal_frame_goes_into_an_extended_one() -> None:
    line_test = b"\x00" + bytes(i & 0xFF for i in range(262))
    assert command(0x00, line_test).hex().startswith("0000ffffff0109f6d400000001")


def test_a_command_longer_than_the_chip_takes_is_refused_here() -> None:
    with pytest.raises(ValueError, match="at most 263 bytes"):
        command(0x42, bytes(LONGEST - 1))


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (ACK, [Ack()]),
        (NACK, [Nack()]),
        (ERROR, [ErrorFrame()]),
        (bytes.fromhex("0000ff06fad50332010607e800"), [Reply(0x03, bytes.fromhex("32010607"))]),
        (bytes.fromhex("0000ff02fed5151600"), [Reply(0x15, b"")]),
        (ACK + bytes.fromhex("0000ff03fdd54b00e000"), [Ack(), Reply(0x4B, b"\x00")]),
        (bytes(40) + ACK, [Ack()]),
        (b"\xaa\xbb" + ACK, [Garbage(2), Ack()]),
    ],
)
def test_each_kind_of_frame_is_told(stream: bytes, events: list[Event]) -> None:
    assert heard(stream) == events


def test_an_answer_does_not_wait_for_its_postamble() -> None:
    assert heard(answer(0x43, b"\x00hello")[:-1]) == [Reply(0x43, b"\x00hello")]


def test_a_damaged_answer_is_dropped_whole_even_when_a_perfect_one_lies_inside() -> None:
    planted = answer(0x43, b"\x00paid")
    damaged = bytearray(answer(0x43, b"\x00" + planted))
    damaged[-2] ^= 0x01
    assert Reply(0x43, b"\x00paid") not in heard(bytes(damaged) + ACK)
    assert heard(bytes(damaged) + ACK)[-1] == Ack()


def test_a_length_no_chip_can_send_is_noise_and_the_next_frame_is_heard() -> None:
    absurd = bytes.fromhex("00ffffff ff00 01")
    assert heard(absurd + ACK)[-1] == Ack()


def test_our_own_command_echoed_back_is_no_answer() -> None:
    assert heard(command(0x02)) == [Garbage(3)]


answers = st.builds(answer, st.integers(0, 255), st.binary(max_size=LONGEST - 2))
pieces = st.one_of(st.just(ACK), st.just(NACK), st.just(ERROR), answers)


@given(st.lists(pieces, max_size=6), st.data())
def test_the_slices_in_which_bytes_come_do_not_matter(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    parser = Parser()
    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += parser.feed(stream[start:end])
    assert events == heard(stream)
    assert len(events) == len(frames)
    assert not [event for event in events if isinstance(event, Garbage)]


@given(st.integers(0, 255), st.binary(max_size=LONGEST - 2))
def test_whatever_the_chip_frames_is_read_back(code: int, data: bytes) -> None:
    assert heard(answer(code, data)) == [Reply(code, data)]


@given(st.lists(st.binary(max_size=400), max_size=20))
def test_endless_noise_never_fills_the_memory(chunks: list[bytes]) -> None:
    parser = Parser()
    for chunk in chunks:
        parser.feed(chunk)
        assert len(parser._held) <= LONGEST + 8


@given(st.binary(max_size=600))
def test_noise_is_sliced_alike_byte_by_byte_and_at_once(noise: bytes) -> None:
    parser = Parser()
    one_by_one: list[Event] = []
    for i in range(len(noise)):
        one_by_one += parser.feed(noise[i : i + 1])

    def frames_only(events: list[Event]) -> list[Event]:
        return [event for event in events if not isinstance(event, Garbage)]

    assert frames_only(one_by_one) == frames_only(heard(noise))
