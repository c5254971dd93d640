"""The emulated PN532 by its bytes and by its time."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import Delay, Faults, LiteSCard, Traits, blank
from drivers.emulated.pn532_chip import BAUD_RATES, ChipFaults, Pn532Chip, Timing

MS = 1_000_000
ACK = bytes.fromhex("0000ff00ff00")
NACK = bytes.fromhex("0000ffff0000")
ERROR = bytes.fromhex("0000ff01ff7f8100")
LIST_F = "4a010100ffff0000"
IDM = bytes.fromhex("0102030405060708")
READ_0 = bytes((16, 0x06)) + IDM + b"\x01\x0b\x00\x01\x80\x00"


def frame(content: str | bytes) -> bytes:
    body = b"\xd4" + (bytes.fromhex(content) if isinstance(content, str) else content)
    size = len(body)
    head = bytes((size, -size & 0xFF)) if size < 256 else bytes((0xFF, 0xFF, size >> 8, size & 0xFF, -((size >> 8) + size) & 0xFF))
    return b"\x00\x00\xff" + head + body + bytes((-sum(body) & 0xFF, 0))


class Host:
    """Sends a command and returns what the answer holds after its code."""

    def __init__(self, chip: Pn532Chip) -> None:
        self.chip = chip
        self.now = 0

    def raw(self, data: bytes, wait_ns: int = 1_000 * MS) -> bytes:
        self.chip.feed(data, self.now)
        end = self.now + wait_ns
        said = b""
        while (due := self.chip.due()) is not None and due <= end:
            self.now = max(self.now, due)
            said += self.chip.take(self.now)
        return said

    def ask(self, content: str | bytes) -> str:
        said = self.raw(frame(content))
        assert said.startswith(ACK)
        answer = said[6:]
        assert answer[5] == 0xD5, answer.hex()
        assert sum(answer[5:-1]) & 0xFF == 0
        return answer[7:-2].hex()


@pytest.fixture
def air() -> Air:
    return Air()


@pytest.fixture
def host(air: Air) -> Host:
    return Host(Pn532Chip(air))


# --- commands ---


@pytest.mark.parametrize(
    ("sent", "answered"),
    [  # an opening of a public driver with a real chip, byte by byte
        ("00000000000000000000 0000ff02fed4022a00", "0000ff06fad50332010607e800"),
        ("00000000000000000000 0000ff05fbd4140100001700", "0000ff02fed5151600"),
        ("0000ff03fdd412001a00", "0000ff02fed5131800"),
        ("0000ff06fad43202000b0ae300", "0000ff02fed533f800"),
        ("0000ff04fcd4320400f600", "0000ff02fed533f800"),
        ("0000ff06fad43205010001f300", "0000ff02fed533f800"),
        ("0000ff0ef2d4320a59f43f114d85616f266287a200", "0000ff02fed533f800"),
        ("0000ff0bf5d4320b69ff3f114185616fa100", "0000ff02fed533f800"),
        ("0000ff06fad4320cff04856600", "0000ff02fed533f800"),
        ("0000ff0cf4d4320d85158a8508b28501da2a00", "0000ff02fed533f800"),
        ("0000ff04fcd4320102f700", "0000ff02fed533f800"),
        ("0000ff03fdd410041800", "0000ff02fed5111a00"),
        ("0000ff04fcd416b0006600", "0000ff03fdd517001400"),
    ],
)
def test_a_real_opening_is_answered_as_a_real_chip_did(host: Host, sent: str, answered: str) -> None:
    assert host.raw(bytes.fromhex(sent)) == ACK + bytes.fromhex(answered)


def test_the_line_test_comes_back_in_an_extended_frame(host: Host) -> None:
    data = bytes((0,)) + bytes(at & 0xFF for at in range(262))
    said = host.raw(frame(b"\x00" + data))
    assert said[:16].hex() == "0000ff00ff00" + "0000ffffff0109f6d501"
    assert said[16:-2] == data


@pytest.mark.parametrize("test", ["01", "02"])
def test_the_memory_tests_find_nothing_wrong(host: Host, test: str) -> None:
    assert host.ask("00" + test) == "00"


@pytest.mark.parametrize(
    "content",
    [
        "5a",
        "8600",
        "00",
        "1009",
        "10",
        "3299",
        "320200",
        "3202000b11",
        "06",
        "0601",
        "080101",
        "4a",
        "4a0301",
        "4a0007",
        "42",
        "40",
        "12",
        "1400",
    ],
)
def test_what_the_chip_does_not_know_ends_in_a_syntax_error(host: Host, content: str) -> None:
    assert host.raw(frame(content)) == ACK + ERROR


def test_registers_remember_and_the_field_shows_in_tx_control(host: Host) -> None:
    assert host.ask("08 6305 41 6302 12".replace(" ", "")) == ""
    assert host.ask("0663056302") == "4112"
    assert host.ask("066304") == "80"
    host.ask("320101")
    assert host.ask("066304") == "83"
    host.ask("320100")
    assert host.ask("066304") == "80"


def test_a_vain_search_for_type_a_leaves_its_mark_in_the_fifo(host: Host) -> None:
    host.ask("3205000000")
    assert host.ask("4a0100") == "00"
    assert host.ask("066339") == "26"
    assert host.ask("4a010300") == "00"


def test_a_card_is_found_selected_and_spoken_to(host: Host, air: Air) -> None:
    card = blank(IDM)
    air.lay(card)
    assert host.ask("4a010100ffff0100") == "0101" + "1401" + IDM.hex() + card.pmm.hex() + "88b4"
    assert host.ask("4a010200ffff0000") == "0101" + "1201" + IDM.hex() + card.pmm.hex()
    assert host.ask("04") == "00010101020210" + "00"
    want = "001d07" + IDM.hex() + "000001" + card.memory.blocks[0].hex()
    assert host.ask(b"\x42" + READ_0) == want
    assert host.ask(b"\x40\x01" + READ_0) == want
    assert host.ask(b"\x40\x02" + READ_0) == "27"
    assert host.ask("5401") == "00"
    assert host.ask("4402") == "27"
    assert host.ask("5200") == "00"
    assert host.ask(b"\x40\x01" + READ_0) == "27"


def test_two_cards_are_found_with_two_slots_or_more(host: Host, air: Air) -> None:
    air.lay(blank(IDM))
    air.lay(blank(bytes(8)))
    host.ask("3205000000")
    answers = {host.ask("4a020200ffff0003")[:2] for _ in range(40)}
    assert answers == {"00", "02"}


def test_without_a_passive_activation_no_card_hears_a_command(host: Host, air: Air) -> None:
    air.lay(blank(IDM))
    assert host.ask(b"\x42" + READ_0) == "0a"
    host.ask("320101")
    assert host.ask(b"\x42" + READ_0) == "01"
    host.ask(LIST_F)
    assert host.ask(b"\x42" + READ_0)[:2] == "00"


def test_a_card_that_is_away_times_out_after_the_set_time(host: Host) -> None:
    host.ask("3205000000")
    host.ask(LIST_F)
    host.ask("3202000b08")
    assert host.ask(b"\x42" + READ_0) == "01"
    assert host.chip.charged[-1].card_ns == 12_800_000


def test_a_damaged_answer_is_a_crc_error_and_not_asked_for_again(host: Host, air: Air) -> None:
    card = blank(IDM)
    air.lay(card)
    host.ask(LIST_F)
    host.ask("320400")
    card.plan([Faults(bad_crc=True)])
    assert host.ask(b"\x42" + READ_0) == "02"
    assert host.ask(b"\x42" + READ_0)[:2] == "00"


def test_the_chip_itself_asks_again_when_it_was_told_to(host: Host, air: Air) -> None:
    card = blank(IDM)
    air.lay(card)
    host.ask(LIST_F)
    host.ask("320402")
    card.plan([Faults(lost=True), Faults(lost=True)])
    assert host.ask(b"\x42" + READ_0)[:2] == "00"


def test_an_answer_that_never_ends_does_not_fit_the_chips_buffer(host: Host, air: Air) -> None:
    card = blank(IDM)
    air.lay(card)
    host.ask(LIST_F)
    card.plan([Faults(script=bytes(262)), Faults(script=bytes(263), forever=True)])
    assert bytes.fromhex("0000ffffff0109f6d543") + bytes(263) in host.raw(frame(b"\x42" + READ_0))
    assert [host.ask(b"\x42" + READ_0) for _ in range(3)] == ["07"] * 3


def test_after_power_up_the_chip_looks_for_a_card_until_one_comes_or_the_host_ends_it(host: Host, air: Air) -> None:
    said = host.raw(frame(LIST_F), 300 * MS)
    assert said == ACK
    air.lay(blank(IDM), host.now)
    assert host.raw(b"", 300 * MS)[:8].hex() == "0000ff16ead54b01"[:16]
    air.lift(IDM)
    assert host.raw(frame(LIST_F), 300 * MS) == ACK
    assert host.raw(ACK, 300 * MS) == b""
    assert host.chip.due() is None


def test_without_a_time_limit_the_chip_listens_until_the_next_command(host: Host) -> None:
    host.ask("3205000000")
    host.ask(LIST_F)
    host.ask("3202000000")
    assert host.raw(frame(b"\x42" + READ_0)) == ACK
    assert host.ask("02") == "32010607"


# --- the line ---


def test_a_nack_brings_the_last_answer_again(host: Host) -> None:
    said = host.raw(frame("02"))
    assert host.raw(NACK) == said[6:]


def test_an_ack_ends_a_running_command_though_the_card_has_executed_it(host: Host, air: Air) -> None:
    card = blank(IDM)
    card.traits = Traits(delay=Delay.MAX)
    air.lay(card)
    host.ask(LIST_F)
    write = bytes((32, 0x08)) + IDM + b"\x01\x09\x00\x01\x80\x03" + bytes(range(16))
    assert host.raw(frame(b"\x42" + write), 5 * MS) == ACK
    assert host.raw(ACK) == b""
    assert card.memory.blocks[3] == bytes(range(16))


@pytest.mark.parametrize("code", range(9))
def test_a_new_rate_counts_from_the_hosts_ack(host: Host, code: int) -> None:
    host.ask(f"10{code:02x}")
    assert host.chip.baud == 115200
    host.raw(ACK)
    assert host.chip.baud == BAUD_RATES[code]


@pytest.mark.parametrize(("wake", "wakes"), [("5555" + "00" * 14, True), ("00" * 10, True), ("", False)])
def test_a_sleeping_chip_is_woken_by_edges_and_loses_them(host: Host, wake: str, wakes: bool) -> None:
    host.ask("16b0")
    assert host.chip.air.is_on is False
    said = host.raw(bytes.fromhex(wake) + bytes.fromhex("0000ff02fed4022a00"))
    assert (said == ACK + bytes.fromhex("0000ff06fad50332010607e800")) is wakes


def test_losing_power_sets_everything_back(host: Host, air: Air) -> None:
    host.ask("1007")
    host.raw(ACK)
    host.ask("320101")
    host.chip.restart(host.now)
    assert (host.chip.baud, air.is_on, host.chip.due()) == (115200, False, None)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), max_size=40), st.binary(max_size=6).filter(lambda noise: b"\xff" not in noise))
def test_frames_are_found_in_slices_of_any_size_behind_any_noise(cuts: list[int], noise: bytes) -> None:
    stream = noise + frame("02") + noise + frame("0c") + frame(b"\x00\x00" + bytes(range(256)))
    chip = Pn532Chip(Air())
    now = 0
    said = b""
    sizes = iter(cuts)
    while stream:
        size = next(sizes, 300)
        chip.feed(stream[:size], now)
        stream = stream[size:]
        now += 100 * MS
        said += chip.take(now)
    assert said.count(ACK) == 3
    assert chip.host_commands == 3


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_confuse_the_chip_for_good(noise: bytes) -> None:
    host = Host(Pn532Chip(Air()))
    host.raw(noise)
    host.raw(bytes(300), 10_000 * MS)
    host.raw(ACK)
    host.chip._asleep = False
    assert bytes.fromhex("d50332010607") in host.raw(frame("02"))


@pytest.mark.parametrize("broken", ["0000ff02fdd4022a00", "0000ff02fed4022b00", "0000ff02fed5022900", "0000ffffff01ff00d4022a00"])
def test_a_frame_whose_check_bytes_do_not_fit_is_not_even_acknowledged(host: Host, broken: str) -> None:
    assert host.raw(bytes.fromhex(broken) + bytes(300)) == b""
    assert host.ask("02") == "32010607"


# --- faults ---


def test_a_silent_chip_hears_and_says_nothing(host: Host) -> None:
    host.chip.faults = ChipFaults(silent=True)
    assert host.raw(frame("02")) == b""
    host.chip.faults = ChipFaults()
    assert host.ask("02") == "32010607"


def test_a_chip_may_forget_to_acknowledge_talk_nonsense_or_be_slow(host: Host) -> None:
    host.chip.faults = ChipFaults(no_ack=True)
    assert host.raw(frame("02"))[5:7].hex() == "d503"
    host.chip.faults = ChipFaults(nonsense=b"\x55" * 9)
    assert host.raw(frame("02")) == ACK + b"\x55" * 9
    host.chip.faults = ChipFaults(slow_ns=50 * MS)
    before = host.now
    host.raw(frame("02"))
    assert host.now - before > 50 * MS


# --- time ---


def tap(host: Host, vectors: dict[str, Any], baud: int) -> tuple[list[int], int]:
    """Line bytes of each step of the worked tap by InCommunicateThru alone, and its end."""
    host.ask("4a010200ffff0000")
    host.ask(f"10{BAUD_RATES.index(baud):02x}")
    host.raw(ACK)
    host.now += 10 * MS
    start = host.now
    count = len(host.chip.charged)
    for step in vectors["tap"]["step"][:5]:
        assert host.ask(b"\x42" + bytes.fromhex(step["command"])) == "00" + step["answer"].lower()
    return [round(cost.line_ns * baud / 1e10) for cost in host.chip.charged[count:]], host.now - start


@pytest.fixture
def worked_host(host: Host, air: Air, worked: Callable[[], LiteSCard]) -> Host:
    air.lay(worked())
    return host


def test_the_worked_tap_costs_on_the_line_what_the_published_arithmetic_says(vectors: dict[str, Any], worked_host: Host) -> None:
    assert tap(worked_host, vectors, 921600)[0] == [49, 69, 124, 87, 106]


@pytest.mark.parametrize(("baud", "line_ms"), [(115200, 37.8), (230400, 18.9), (460800, 9.4), (921600, 4.7)])
def test_everything_charged_adds_up_to_what_the_host_has_waited(
    vectors: dict[str, Any], worked_host: Host, baud: int, line_ms: float
) -> None:
    _, waited_ns = tap(worked_host, vectors, baud)
    costs = worked_host.chip.charged[-5:]
    assert round(sum(cost.line_ns for cost in costs) / MS, 1) == pytest.approx(line_ms, abs=0.051)
    assert sum(cost.line_ns + cost.rf_ns + cost.card_ns for cost in costs) == pytest.approx(waited_ns, abs=50)


def test_line_and_air_can_be_charged_at_rates_of_their_own(air: Air) -> None:
    host = Host(Pn532Chip(air, Timing(baud=9600, air_rate=212)))
    air.lay(blank(IDM))
    host.ask("320101")
    host.now += 10 * MS
    host.ask("4a010200ffff0000")
    cost = host.chip.charged[-1]
    assert cost.line_ns == pytest.approx((16 + 6 + 29) * 10e9 / 9600, abs=10)
    assert cost.rf_ns == pytest.approx((16 + 28) * 37_758, abs=50)


def test_costs_can_be_taken_and_are_then_forgotten(host: Host) -> None:
    host.ask("02")
    assert [cost.code for cost in host.chip.take_charged()] == [0x02]
    assert host.chip.charged == []
