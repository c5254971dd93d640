"""A channel written down and played back, with nothing in it that names or opens a card."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import CardLost, DriverError, MalformedReply
from drivers.felica import parse_read, read_blocks, write_blocks
from drivers.trace import PSEUDONYM, RecordingChannel, ReplayedChannel

IDM = bytes.fromhex("012e4129358ba753")
SECRET = bytes.fromhex("a1b2c3d4e5f60718293a4b5c6d7e8f90")
PLAIN = bytes.fromhex("00112233445566778899aabbccddeeff")


class Card:
    """Answers what it is told to answer."""

    def __init__(self, *answers: bytes | DriverError) -> None:
        self.idm = IDM
        self.pmm = bytes.fromhex("00f1000000014300")
        self.answers = list(answers)

    def exchange(self, command: bytes) -> bytes:
        assert command
        match self.answers.pop(0):
            case bytes(answer):
                return answer
            case error:
                raise error


def read_answer(idm: bytes, *blocks: bytes) -> bytes:
    body = b"\x07" + idm + b"\x00\x00" + bytes([len(blocks)]) + b"".join(blocks)
    return bytes([len(body) + 1]) + body


def written(idm: bytes) -> bytes:
    return b"\x0c\x09" + idm + b"\x00\x00"


def trace_of(*steps: tuple[bytes, bytes]) -> list[str]:
    lines: list[str] = []
    channel = RecordingChannel(Card(*(answer for _, answer in steps)), lines.append)
    for command, answer in steps:
        assert channel.exchange(command) == answer
    return lines


@pytest.mark.parametrize("block", [0x80, 0x87, 0x01, 0x04, 0x06, 0x09])
def test_keys_challenges_and_signatures_are_not_in_a_trace(block: int) -> None:
    text = "".join(
        trace_of((write_blocks(IDM, [block], SECRET), written(IDM)), (read_blocks(IDM, [0x0E, block]), read_answer(IDM, PLAIN, SECRET)))
    )
    assert SECRET.hex() not in text
    assert PLAIN.hex() in text


def test_a_mac_is_not_in_a_trace_but_the_write_counter_beside_it_is() -> None:
    mac = SECRET[:8] + bytes.fromhex("7ffeff0000000000")
    text = "".join(trace_of((write_blocks(IDM, [0x0E, 0x91], PLAIN + mac), written(IDM))))
    assert SECRET[:8].hex() not in text
    assert "7ffeff0000000000" in text


def test_the_card_has_one_pseudonym_also_in_its_id_blocks_and_backwards() -> None:
    text = "".join(trace_of((read_blocks(IDM, [0x82, 0x83]), read_answer(IDM, IDM + IDM[::-1], IDM + PLAIN[:8]))))
    assert IDM.hex() not in text
    assert IDM[::-1].hex() not in text
    assert text.count(PSEUDONYM.hex()) == 4


def test_of_a_transit_card_only_the_shape_is_kept() -> None:
    history = read_blocks(IDM, [0], service=0x090F)
    text = "".join(trace_of((history, read_answer(IDM, PLAIN))))
    assert PLAIN.hex() not in text
    assert len(json.loads(text.splitlines()[1])["from"]) == 2 * 29


def test_of_an_unknown_command_only_its_code_is_kept() -> None:
    text = "".join(trace_of((b"\x1a\x10" + IDM + SECRET, b"\x1a\x11" + IDM + SECRET)))
    assert SECRET.hex() not in text
    assert '"1a10' in text


def test_the_driver_that_made_a_trace_can_run_on_it() -> None:
    lines = trace_of(
        (write_blocks(IDM, [0x80], SECRET), written(IDM)),
        (read_blocks(IDM, [0x0E, 0x91]), read_answer(IDM, PLAIN, SECRET[:8] + bytes(8))),
    )
    replayed = ReplayedChannel(lines)
    assert replayed.exchange(write_blocks(replayed.idm, [0x80], PLAIN)) == written(replayed.idm)
    answer = replayed.exchange(read_blocks(replayed.idm, [0x0E, 0x91]))
    assert parse_read(answer, replayed.idm, 2)[:16] == PLAIN


@pytest.mark.parametrize("error", [CardLost("gone"), MalformedReply("short")])
def test_a_lost_answer_is_lost_again(error: DriverError) -> None:
    lines: list[str] = []
    recording = RecordingChannel(Card(error), lines.append)
    with pytest.raises(type(error)):
        recording.exchange(read_blocks(IDM, [0]))
    with pytest.raises(type(error)):
        ReplayedChannel(lines).exchange(read_blocks(PSEUDONYM, [0]))


def test_another_command_than_the_recorded_one_is_named_with_its_line() -> None:
    lines = trace_of((read_blocks(IDM, [0]), read_answer(IDM, PLAIN)))
    with pytest.raises(LookupError, match="line 2"):
        ReplayedChannel(lines).exchange(read_blocks(PSEUDONYM, [1]))


def test_a_trace_that_is_over_says_so() -> None:
    with pytest.raises(LookupError, match="ends"):
        ReplayedChannel(trace_of()).exchange(read_blocks(PSEUDONYM, [0]))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("nonsense", 1),
        ('{"trace": 2, "pmm": "00"}', 1),
        ('{"trace": 1, "pmm": "00f1000000014300"}\n[]', 2),
        ('{"trace": 1, "pmm": "00f1000000014300"}\n{"to": "06"}', 2),
        ('{"trace": 1, "pmm": "00f1000000014300"}\n{"to": "06", "error": "Sunday"}', 2),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=f"line {line}"):
        ReplayedChannel(text.splitlines())


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_can_be_recorded_and_their_length_is_kept(command: bytes, answer: bytes) -> None:
    lines: list[str] = []
    RecordingChannel(Card(answer), lines.append).exchange(command + b"\x00")
    step = json.loads(lines[1])
    assert len(step["to"]) == 2 * len(command) + 2
    assert len(step["from"]) == 2 * len(answer)
