"""The PN532 driver against a line on which anything may be said. (Against a whole twin of the chip: test_pn532_on_the_twin.py.)"""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import CardLost, DriverError, MalformedReply, ReaderLost
from drivers.readers.pn532 import Pn532

ACK = bytes.fromhex("0000ff00ff00")
IDM = bytes.fromhex("012e4129358ba753")
PMM = bytes.fromhex("00f1000000014300")
OTHER = bytes.fromhex("012e000000000002")
WRITE = bytes.fromhex("20 08") + IDM + bytes(22)
WRITTEN = bytes.fromhex("0c09") + IDM + b"\x00\x00"


def frame(code: int, data: bytes) -> bytes:
    body = b"\xd5" + bytes([code]) + data
    return b"\x00\x00\xff" + bytes([len(body), -len(body) % 256]) + body + bytes([-sum(body) % 256, 0])


def target(number: int, idm: bytes) -> bytes:
    return bytes([number, 18, 1]) + idm + PMM


class Line:
    """A serial line in time of its own. ``on_card`` and ``on_poll`` are what the chip sends, acknowledgement included."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.baud = 0
        self.chip_baud = 115200
        self.version = "32010607"
        self.opened = 0
        self.sent: list[tuple[int, bytes]] = []
        self.waiting = b""
        self.plugged = True
        self.silent = False
        self.endless: bytes = b""
        self.on_poll: Callable[[], bytes] = lambda: ACK + frame(0x4B, b"\x01" + target(1, IDM))
        self.on_card: Callable[[], bytes] = lambda: ACK + frame(0x43, b"\x00" + WRITTEN)
        self._next_baud: int | None = None

    def open(self, baud: int) -> "Line":
        self._must_be_plugged()
        self.opened += 1
        self.baud = baud
        return self

    def write(self, data: bytes) -> None:
        self._must_be_plugged()
        if data == ACK and self._next_baud:
            self.chip_baud, self._next_baud = self._next_baud, None
        start = data.find(b"\x00\xff")
        if data[start + 2] == 0 or self.baud != self.chip_baud:
            return
        code, payload = data[start + 5], data[start + 6 : start + 4 + data[start + 2]]
        self.sent.append((code, payload))
        if not self.silent:
            self.waiting += self._answer(code, payload)

    def _answer(self, code: int, payload: bytes) -> bytes:
        match code:
            case 0x02:
                return ACK + frame(0x03, bytes.fromhex(self.version))
            case 0x10:
                self._next_baud = {4: 115200, 7: 921600}[payload[0]]
                return ACK + frame(0x11, b"")
            case 0x4A:
                return self.on_poll()
            case 0x42:
                return self.on_card()
            case _:
                return ACK + frame(code + 1, b"")

    def read(self, size: int, timeout_s: float) -> bytes:
        self._must_be_plugged()
        if self.endless and not self.waiting:
            self.now_ns += 10_850 * len(self.endless)
            return self.endless[:size]
        if not self.waiting:
            self.now_ns += int(timeout_s * 1e9)
            return b""
        self.now_ns += 1000
        taken, self.waiting = self.waiting[:size], self.waiting[size:]
        return taken

    def set_baud(self, baud: int) -> None:
        self._must_be_plugged()
        self.baud = baud

    def discard(self) -> None:
        self._must_be_plugged()
        self.waiting = b""

    def close(self) -> None:
        self.waiting = b""

    def _must_be_plugged(self) -> None:
        if not self.plugged:
            raise OSError("no such device")

    def commands(self, code: int) -> int:
        return sum(1 for sent, _ in self.sent if sent == code)


def reader_on(line: Line, baud: int = 921600) -> Pn532:
    reader = Pn532("pn532:/dev/ttyS1@921600", line.open, lambda: line.now_ns, baud=baud)
    assert reader.revive()
    line.sent.clear()
    return reader


def test_a_reader_fresh_from_power_up_is_brought_to_our_rate() -> None:
    line = Line()
    reader_on(line)
    assert (line.baud, line.chip_baud) == (921600, 921600)


def test_a_reader_that_kept_its_power_while_we_did_not_is_found_at_our_rate() -> None:
    line = Line()
    line.chip_baud = 921600
    assert Pn532("", line.open, lambda: line.now_ns, baud=921600).revive()
    assert line.commands(0x10) == 0


def test_opening_turns_the_field_on_and_nothing_later_turns_it_off() -> None:
    line = Line()
    reader = Pn532("", line.open, lambda: line.now_ns, baud=115200)
    reader.revive()
    for _ in range(3):
        reader.poll()[0].exchange(WRITE)
    field = [payload for code, payload in line.sent if code == 0x32 and payload[0] == 0x01]
    assert field == [b"\x01\x01"]


def test_the_chip_is_told_to_retry_nothing_and_to_wait_longer_than_a_write_may_take() -> None:
    line = Line()
    reader = Pn532("", line.open, lambda: line.now_ns, baud=115200)
    reader.revive()
    settings = {payload[0]: payload[1:] for code, payload in line.sent if code == 0x32}
    assert settings[4] == b"\x00"
    assert settings[5][2] == 0
    assert 7_250 < 100 * 2 ** (settings[2][2] - 1) < 20_000


def test_an_idle_poll_is_one_host_command_that_asks_for_two_cards_of_any_system() -> None:
    line = Line()
    reader = reader_on(line)
    before = reader.host_commands
    line.on_poll = lambda: ACK + frame(0x4B, b"\x00")
    assert reader.poll() == ()
    assert reader.host_commands == before + 1
    [(code, payload)] = line.sent
    assert code == 0x4A
    assert payload[0] == 2
    assert payload[3:5] == b"\xff\xff"
    assert payload[6] >= 1


def test_two_cards_are_seen_in_one_poll() -> None:
    line = Line()
    reader = reader_on(line)
    line.on_poll = lambda: ACK + frame(0x4B, b"\x02" + target(1, IDM) + target(2, OTHER))
    assert [card.idm for card in reader.poll()] == [IDM, OTHER]


def test_a_card_command_is_one_host_command() -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    before = reader.host_commands
    assert card.exchange(WRITE) == WRITTEN
    assert reader.host_commands == before + 1
    assert line.sent[-1] == (0x42, WRITE)


@pytest.mark.parametrize("status", [0x01, 0x02, 0x05, 0x06, 0x0B, 0x41])
def test_a_card_that_is_not_heard_is_lost_and_its_write_is_not_sent_again(status: int) -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    line.on_card = lambda: ACK + frame(0x43, bytes([status]))
    with pytest.raises(CardLost):
        card.exchange(WRITE)
    assert line.commands(0x42) == 1
    assert reader.poll()


@pytest.mark.parametrize("status", [0x0A, 0x0D, 0x10, 0x27, 0x2D])
def test_a_reader_that_has_lost_its_field_or_its_settings_is_lost_and_set_up_again(status: int) -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    line.on_card = lambda: ACK + frame(0x43, bytes([status]))
    with pytest.raises(ReaderLost):
        card.exchange(WRITE)
    assert reader.revive()
    assert (0x32, b"\x01\x01") in line.sent


@pytest.mark.parametrize("answer", [b"", b"\x0d" + WRITTEN[1:], WRITTEN + b"\x00", WRITTEN[:-1], b"\x00"])
def test_an_answer_that_lies_about_its_length_is_malformed(answer: bytes) -> None:
    line = Line()
    card = reader_on(line).poll()[0]
    line.on_card = lambda: ACK + frame(0x43, b"\x00" + answer)
    with pytest.raises(MalformedReply):
        card.exchange(WRITE)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        ACK,
        frame(0x43, b"\x00" + WRITTEN),
        bytes.fromhex("0000ffff0000"),
        ACK + bytes.fromhex("0000ff01ff7f8100"),
        ACK + frame(0x43, b""),
        ACK + frame(0x4B, b"\x00"),
        ACK + frame(0x43, b"\x00" + WRITTEN)[:-4],
        b"\x55" * 300,
    ],
    ids=["silence", "no answer", "no acknowledgement", "nack", "error", "no status", "another answer", "half an answer", "noise"],
)
def test_whatever_goes_wrong_on_the_line_a_write_is_sent_once_and_the_reader_is_lost_in_bounded_time(said: bytes) -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    line.on_card = lambda: said
    started_ns = line.now_ns
    with pytest.raises(ReaderLost):
        card.exchange(WRITE)
    assert line.commands(0x42) == 1
    assert line.now_ns - started_ns < 250_000_000
    with pytest.raises(ReaderLost):
        card.exchange(WRITE)
    with pytest.raises(ReaderLost):
        reader.poll()
    assert line.commands(0x42) == 1
    assert reader.revive()
    assert reader.poll()


@pytest.mark.parametrize("word", [b"\x00", b"\x55", b"\x00\xff", ACK, frame(0x4B, b"\x00"), b"\x00\x00\xff\xff\xff\x01\x09\xf6"])
def test_a_reader_that_talks_nonsense_for_ever_costs_a_bounded_time(word: bytes) -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    line.on_card = lambda: b""
    line.endless = word
    started_ns = line.now_ns
    with pytest.raises(ReaderLost):
        card.exchange(WRITE)
    assert line.now_ns - started_ns < 250_000_000
    started_ns = line.now_ns
    reader.revive()
    assert line.now_ns - started_ns < 500_000_000


def test_a_late_answer_is_never_taken_for_the_next_one() -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    line.on_card = lambda: ACK
    with pytest.raises(ReaderLost):
        card.exchange(WRITE)
    line.waiting = frame(0x43, b"\x00" + WRITTEN)
    assert reader.revive()
    line.waiting = frame(0x43, b"\x00" + WRITTEN)
    fresh = b"\x0c\x09" + OTHER + b"\x02\xb2"
    card = reader.poll()[0]
    line.waiting = frame(0x43, b"\x00" + WRITTEN)
    line.on_card = lambda: ACK + frame(0x43, b"\x00" + fresh)
    assert card.exchange(WRITE) == fresh


def test_an_unplugged_reader_is_an_event_and_comes_back_by_itself() -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    line.plugged = False
    with pytest.raises(ReaderLost, match="line broke"):
        reader.poll()
    assert not reader.revive()
    assert not reader.revive()
    line.plugged = True
    line.chip_baud = 115200
    line.baud = 0
    assert reader.revive()
    assert line.opened == 2
    assert reader.poll()[0].exchange(WRITE) == WRITTEN
    with pytest.raises(CardLost):
        card.exchange(WRITE)


def test_a_silent_reader_is_given_up_in_half_a_second_and_its_line_is_opened_anew_after_a_while() -> None:
    line = Line()
    reader = reader_on(line)
    line.silent = True
    with pytest.raises(ReaderLost, match="silent"):
        reader.poll()
    for _ in range(5):
        started_ns = line.now_ns
        assert not reader.revive()
        assert line.now_ns - started_ns <= 500_000_000
    assert line.opened == 2
    line.silent = False
    assert reader.revive()


def test_a_reader_not_there_at_the_start_is_the_same_event_as_later() -> None:
    line = Line()
    line.plugged = False
    reader = Pn532("", line.open, lambda: line.now_ns)
    with pytest.raises(ReaderLost):
        reader.poll()
    assert not reader.revive()
    with pytest.raises(ReaderLost, match="no such device"):
        reader.poll()
    line.plugged = True
    assert reader.revive()


def test_a_card_of_an_earlier_poll_is_lost_and_a_card_that_stayed_is_the_same_channel() -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    assert reader.poll()[0] is card
    line.on_poll = lambda: ACK + frame(0x4B, b"\x01" + target(1, OTHER))
    assert reader.poll()[0].idm == OTHER
    with pytest.raises(CardLost):
        card.exchange(WRITE)


def test_a_closed_reader_stays_closed_and_may_be_closed_again() -> None:
    reader = reader_on(Line())
    reader.close()
    reader.close()
    with pytest.raises(ReaderLost, match="closed"):
        reader.poll()


def test_something_else_on_the_line_is_not_taken_for_a_pn532() -> None:
    line = Line()
    line.version = "07010607"
    reader = Pn532("", line.open, lambda: line.now_ns)
    assert not reader.revive()
    with pytest.raises(ReaderLost, match="no PN532"):
        reader.poll()


@given(st.binary(max_size=60))
def test_a_card_with_any_polling_answer_never_costs_the_reader(said: bytes) -> None:
    line = Line()
    reader = reader_on(line)
    line.on_poll = lambda: ACK + frame(0x4B, said)
    assert len(reader.poll()) <= 2
    line.on_poll = lambda: ACK + frame(0x4B, b"\x01" + target(1, IDM))
    assert reader.poll()


def _lines() -> Iterator[st.SearchStrategy[bytes]]:
    yield st.just(ACK)
    yield st.binary(max_size=80)
    yield st.binary(max_size=60).map(lambda data: frame(0x43, data))
    yield st.just(bytes.fromhex("0000ffff0000"))


@given(st.lists(st.one_of(*_lines()), max_size=5).map(b"".join))
def test_whatever_the_line_says_only_driver_errors_come_up_and_time_is_bounded(said: bytes) -> None:
    line = Line()
    reader = reader_on(line)
    card = reader.poll()[0]
    line.on_card = lambda: said
    started_ns = line.now_ns
    try:
        answer = card.exchange(WRITE)
    except DriverError:
        pass
    else:
        assert answer[0] == len(answer)
    assert line.now_ns - started_ns < 250_000_000
    assert line.commands(0x42) == 1
