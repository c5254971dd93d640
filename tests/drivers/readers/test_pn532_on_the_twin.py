"""The PN532 driver on a whole emulated chip, field and card, in virtual time. The twin knows nothing of the driver."""

import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulated.air import Air
from drivers.emulated.clock import VirtualClock
from drivers.emulated.line import ChipLine
from drivers.emulated.lite_s_card import Delay, Faults, LiteSCard, Traits, blank, blank_memory
from drivers.emulated.pn532_chip import ChipFaults, Pn532Chip
from drivers.errors import CardLost, MalformedReply, ReaderLost
from drivers.felica import parse_read, read_blocks, write_blocks
from drivers.readers.pn532 import Pn532

IDM = bytes.fromhex("012e4129358ba753")
OTHER = bytes.fromhex("012e000000000002")
VECTORS = tomllib.loads((Path(__file__).parents[2] / "vectors" / "lite_s.toml").read_text())
CONTENT = bytes(range(16))
WRITE = write_blocks(IDM, [0x0D], CONTENT)


@dataclass
class Desk:
    """A reader on a desk, a card on it, and eyes on the field."""

    baud: int = 921600
    air_rate: int = 424
    seed: int = 0
    card: LiteSCard = field(default_factory=lambda: blank(IDM))

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.air = Air(self.seed)
        self.chip = Pn532Chip(self.air)
        self.field_seen: list[bool] = []
        self.line = ChipLine(self.chip, self.clock, on_traffic=lambda: self.field_seen.append(self.air.is_on))
        self.reader = Pn532("twin", self.line.reopen, self.clock.monotonic_ns, baud=self.baud, air_rate=self.air_rate)
        assert self.reader.revive()
        self.chip.take_charged()
        self.air.lay(self.card)

    @property
    def stored(self) -> bytes:
        return self.card.memory.blocks[0x0D]

    def commands(self, code: int) -> int:
        return sum(1 for charge in self.chip.charged if charge.code == code)

    def elapsed_ns(self, start_ns: int) -> int:
        return self.clock.monotonic_ns() - start_ns


def issued() -> LiteSCard:
    tap = VECTORS["tap"]
    blanked = blank_memory(IDM)
    blocks = dict(blanked.blocks) | {0x88: bytes.fromhex(tap["mc"]), 0x0E: bytes.fromhex(tap["reg"]), 0x00: bytes.fromhex(tap["s_pad0"])}
    return LiteSCard(type(blanked)(blocks, tap["wcnt"]), Traits(delay=Delay.HALF))


@pytest.mark.parametrize("air_rate", [212, 424])
@pytest.mark.parametrize("baud", [115200, 230400, 460800, 921600])
def test_a_card_is_found_and_read_at_every_pair_of_rates(baud: int, air_rate: int) -> None:
    desk = Desk(baud=baud, air_rate=air_rate)
    [card] = desk.reader.poll()
    assert desk.chip.baud == baud
    assert parse_read(card.exchange(read_blocks(IDM, [0x83])), IDM, 1)[:8] == IDM


def test_the_worked_tap_passes_byte_for_byte_in_five_host_commands_and_five_exchanges() -> None:
    desk = Desk(card=issued())
    before = (desk.reader.host_commands, desk.reader.card_exchanges, desk.chip.host_commands, desk.chip.card_exchanges)
    [card] = desk.reader.poll()
    for step in VECTORS["tap"]["step"][1:5]:
        assert card.exchange(bytes.fromhex(step["command"])).hex().upper() == step["answer"]
    after = (desk.reader.host_commands, desk.reader.card_exchanges, desk.chip.host_commands, desk.chip.card_exchanges)
    assert [now - then for now, then in zip(after, before, strict=True)] == [5, 5, 5, 5]


def test_a_tap_takes_what_line_and_air_charge_and_nothing_more() -> None:
    desk = Desk(card=issued())
    start_ns = desk.clock.monotonic_ns()
    [card] = desk.reader.poll()
    for step in VECTORS["tap"]["step"][1:5]:
        card.exchange(bytes.fromhex(step["command"]))
    charged_ns = sum(charge.line_ns + charge.rf_ns + charge.card_ns for charge in desk.chip.charged)
    assert desk.elapsed_ns(start_ns) == pytest.approx(charged_ns, rel=0.0001)


def test_the_field_never_goes_off_after_opening_whatever_happens() -> None:
    desk = Desk()
    desk.field_seen.clear()
    card = desk.reader.poll()[0]
    desk.card.plan([Faults(lost=True), Faults(bad_crc=True), Faults()])
    for _ in range(3):
        try:
            card.exchange(WRITE)
        except CardLost:
            desk.reader.poll()
    desk.chip.faults = ChipFaults(silent=True)
    with pytest.raises(ReaderLost):
        desk.reader.poll()
    desk.chip.faults = ChipFaults()
    assert desk.reader.revive()
    desk.reader.poll()
    assert all(desk.field_seen)


def test_an_idle_poll_is_one_host_command_and_one_polling_on_the_air() -> None:
    desk = Desk()
    desk.air.lift(IDM)
    host, air = desk.chip.host_commands, desk.air.exchanges
    assert desk.reader.poll() == ()
    assert (desk.chip.host_commands - host, desk.air.exchanges - air) == (1, 1)


def test_two_cards_are_seen_in_one_command_and_each_answers_for_itself() -> None:
    desk = Desk()
    desk.air.lay(blank(OTHER))
    found = next(cards for cards in (desk.reader.poll() for _ in range(50)) if len(cards) == 2)
    assert {card.idm for card in found} == {IDM, OTHER}
    for card in found:
        assert parse_read(card.exchange(read_blocks(card.idm, [0x83])), card.idm, 1)[:8] == card.idm


def test_two_cards_are_mostly_seen_at_the_first_poll() -> None:
    seen = 0
    for seed in range(60):
        desk = Desk(seed=seed)
        desk.air.lay(blank(OTHER))
        seen += len(desk.reader.poll()) == 2
    assert 36 <= seen <= 54  # three of four, as four slots promise


@given(st.integers(0, 32 + 10 + 12 + 10 + 5))
def test_a_card_that_leaves_at_any_byte_is_written_once_or_not_at_all(at: int) -> None:
    desk = Desk()
    [card] = desk.reader.poll()
    desk.card.plan([Faults(removed_at=at)])
    try:
        card.exchange(WRITE)
    except CardLost:
        pass
    else:
        assert desk.stored == CONTENT
    assert desk.commands(0x42) == 1
    assert desk.card.memory.wcnt - 0xFFFE00 == int(desk.stored == CONTENT)
    assert desk.reader.poll() == ()


def test_a_card_that_has_gone_is_noticed_within_twenty_milliseconds() -> None:
    desk = Desk()
    [card] = desk.reader.poll()
    desk.air.lift(IDM)
    start_ns = desk.clock.monotonic_ns()
    with pytest.raises(CardLost):
        card.exchange(WRITE)
    assert desk.elapsed_ns(start_ns) < 20_000_000


def test_a_card_as_slow_as_its_kind_may_be_is_waited_for() -> None:
    card = issued()
    card.traits = Traits(delay=Delay.MAX)
    desk = Desk(card=card, air_rate=212)
    [channel] = desk.reader.poll()
    for step in VECTORS["tap"]["step"][1:5]:
        assert channel.exchange(bytes.fromhex(step["command"])).hex().upper() == step["answer"]


@pytest.mark.parametrize("said", [b"\x0c\x09", b"\xff" + bytes(20), b"\x00", bytes(250)])
def test_a_card_that_lies_about_its_length_is_malformed_and_the_reader_stays(said: bytes) -> None:
    desk = Desk()
    [card] = desk.reader.poll()
    desk.card.plan([Faults(script=said)])
    with pytest.raises((MalformedReply, CardLost)):
        card.exchange(WRITE)
    assert desk.reader.poll()


@pytest.mark.parametrize(
    "faults",
    [
        ChipFaults(silent=True),
        ChipFaults(no_ack=True),
        ChipFaults(nonsense=b"\x55" * 40),
        ChipFaults(nonsense=b"\x00\x00\xff\x05\xfb\xd5\x43"),
        ChipFaults(slow_ns=2_000_000_000),
    ],
    ids=["silent", "no acknowledgement", "nonsense", "half an answer", "slow"],
)
def test_a_sick_reader_is_lost_in_bounded_time_its_write_not_repeated_and_it_comes_back_by_itself(faults: ChipFaults) -> None:
    desk = Desk()
    [card] = desk.reader.poll()
    desk.chip.faults = faults
    start_ns = desk.clock.monotonic_ns()
    with pytest.raises(ReaderLost):
        card.exchange(WRITE)
    assert desk.elapsed_ns(start_ns) < 250_000_000
    start_ns = desk.clock.monotonic_ns()
    assert not desk.reader.revive()
    assert desk.elapsed_ns(start_ns) <= 500_000_000
    desk.chip.faults = ChipFaults()
    while not desk.reader.revive():
        assert desk.elapsed_ns(start_ns) < 5_000_000_000
    assert desk.card.memory.wcnt <= 0xFFFE01
    [card] = desk.reader.poll()
    assert card.exchange(read_blocks(IDM, [0x0D]))[1] == 0x07


def test_an_answer_later_than_its_deadline_is_not_taken_for_the_next_ones() -> None:
    desk = Desk()
    [card] = desk.reader.poll()
    desk.chip.faults = ChipFaults(slow_ns=230_000_000)
    with pytest.raises(ReaderLost):
        card.exchange(read_blocks(IDM, [0x83]))
    desk.chip.faults = ChipFaults()
    assert desk.reader.revive()
    [card] = desk.reader.poll()
    for number in range(14):
        answer = card.exchange(read_blocks(IDM, [number, 0x82]))
        assert parse_read(answer, IDM, 2)[:16] == desk.card.memory.blocks[number]


def test_an_unplugged_reader_comes_back_at_its_rate_with_its_field_on() -> None:
    desk = Desk()
    desk.line.unplug()
    with pytest.raises(ReaderLost):
        desk.reader.poll()
    assert not desk.reader.revive()
    desk.chip.restart(desk.clock.monotonic_ns())
    desk.line.plug()
    assert desk.reader.revive()
    assert desk.chip.baud == 921600
    assert desk.air.is_on
    desk.clock.advance_ms(20)
    assert [card.idm for card in desk.reader.poll()] == [IDM]


def test_a_reader_that_lost_its_power_unnoticed_is_lost_and_set_up_again() -> None:
    desk = Desk()
    desk.chip.restart(desk.clock.monotonic_ns())
    with pytest.raises(ReaderLost):
        desk.reader.poll()
    assert desk.reader.revive()
    desk.clock.advance_ms(20)
    assert len(desk.reader.poll()) == 1


def test_a_reader_that_was_only_silent_for_a_while_is_back_in_less_than_a_tenth_of_a_second() -> None:
    desk = Desk()
    desk.chip.faults = ChipFaults(silent=True)
    with pytest.raises(ReaderLost):
        desk.reader.poll()
    desk.chip.faults = ChipFaults()
    start_ns = desk.clock.monotonic_ns()
    assert desk.reader.revive()
    assert desk.elapsed_ns(start_ns) < 100_000_000


class Seeds(Protocol):
    def seeds(self, small: int, full: int) -> Iterator[int]: ...


def disturb(desk: Desk, draw: random.Random) -> None:
    """One thing that may happen to a card or a reader."""
    match draw.randrange(8):
        case 0:
            desk.card.plan(
                [draw.choice([Faults(lost=True), Faults(answer_lost=True), Faults(bad_crc=True), Faults(script=draw.randbytes(9))])]
            )
        case 1:
            desk.chip.faults = ChipFaults(silent=draw.random() < 0.3, nonsense=draw.randbytes(draw.randrange(60)))
        case 2:
            desk.chip.faults = ChipFaults(slow_ns=draw.randrange(400_000_000))
        case 3:
            desk.line.unplug()
        case 4:
            desk.chip.restart(desk.clock.monotonic_ns())
        case 5:
            desk.line.plug()
        case _:
            desk.chip.faults = ChipFaults()


def write_to_all(desk: Desk, draw: random.Random) -> None:
    """What a caller does: poll, write, revive; never more counted writes than commands."""
    writes, sent = desk.card.memory.wcnt, desk.reader.card_exchanges
    try:
        for card in desk.reader.poll():
            sent = desk.reader.card_exchanges
            card.exchange(write_blocks(card.idm, [0x0D], draw.randbytes(16)))
    except ReaderLost:
        desk.reader.revive()
    except (CardLost, MalformedReply):
        pass
    assert desk.card.memory.wcnt - writes <= desk.reader.card_exchanges - sent


@pytest.mark.prove
def test_whatever_happens_to_a_reader_nothing_is_written_twice_and_it_always_comes_back(proof: Seeds) -> None:
    for seed in proof.seeds(small=30, full=5000):
        draw = random.Random(seed)
        desk = Desk(seed=seed)
        for _ in range(30):
            started_ns = desk.clock.monotonic_ns()
            disturb(desk, draw)
            write_to_all(desk, draw)
            assert desk.elapsed_ns(started_ns) < 1_000_000_000
        desk.chip.faults = ChipFaults()
        desk.line.plug()
        assert any(desk.reader.revive() for _ in range(8))
        desk.clock.advance_ms(20)
        assert [card.idm for card in desk.reader.poll()] == [IDM]
