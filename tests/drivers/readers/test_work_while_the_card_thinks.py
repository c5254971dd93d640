"""While a card thinks, the caller may do what it has to do anyway; the exchange is the same."""

import pytest

from drivers import felica
from drivers.channel import Channel, exchange_while
from drivers.emulated.air import Air
from drivers.emulated.clock import VirtualClock
from drivers.emulated.held_card import HeldCard
from drivers.emulated.line import ChipLine
from drivers.emulated.lite_s_card import blank
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.errors import CardLost
from drivers.readers.pn532 import Pn532

IDM = bytes.fromhex("0102030405060708")
READ = felica.read_blocks(IDM, (0x82,))


class Refused(Exception):
    """What a test's work raises."""


def reader_with_a_card() -> tuple[Pn532, Pn532Chip]:
    air, clock = Air(), VirtualClock()
    chip = Pn532Chip(air)
    reader = Pn532("twin", ChipLine(chip, clock).reopen, clock.monotonic_ns)
    assert reader.revive()
    air.lay(blank(IDM))
    return reader, chip


def test_the_work_is_done_once_and_the_answer_is_the_same() -> None:
    reader, chip = reader_with_a_card()
    (card,) = reader.poll()
    plain, commands, done = card.exchange(READ), chip.host_commands, list[int]()
    assert exchange_while(card, READ, lambda: done.append(chip.host_commands)) == plain
    assert len(done) == 1
    assert chip.host_commands == commands + 1


def test_work_that_fails_ends_the_exchange_and_the_next_answer_is_its_own() -> None:
    reader, _chip = reader_with_a_card()
    (card,) = reader.poll()

    def fail() -> None:
        raise Refused

    with pytest.raises(Refused):
        exchange_while(card, READ, fail)
    other = felica.read_blocks(IDM, (0x88,))
    assert felica.parse_read(card.exchange(other), IDM, 1) == blank(IDM).memory.blocks[0x88]
    assert [found.idm for found in reader.poll()] == [IDM]


def test_a_card_polled_away_is_not_spoken_to_and_no_work_is_done() -> None:
    reader, chip = reader_with_a_card()
    (card,) = reader.poll()
    chip.air.lift(IDM)
    assert reader.poll() == ()
    done = list[int]()
    with pytest.raises(CardLost):
        exchange_while(card, READ, lambda: done.append(1))
    assert done == []


def test_where_a_channel_cannot_wait_beside_the_work_it_is_done_before() -> None:
    held: Channel = HeldCard(blank(IDM))
    done = list[int]()
    assert exchange_while(held, READ, lambda: done.append(1)) == held.exchange(READ)
    assert done == [1]
