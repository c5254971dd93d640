"""A card that lies: random bytes, random lengths, frames that look right, wrong MACs, answers of yesterday, answers without end.

Nothing that a card sends may end the station, book anything, or keep the next rider waiting: without our key a tap is over within
``STRANGER_LIMIT_MS`` on the reader's own clock, and with a genuine card whose answers somebody changes on the way, within ``TAP_LIMIT_MS``
(two debits and two searches at most; the slowest card and the chip's own time limit included).
"""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from drivers.channel import Channel
from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.lite_s_card import FACTORY_PMM, REG, Delay, Faults, LiteSCard, Traits, blank_memory
from drivers.errors import CardLost, MalformedReply
from firmware.rehearsal import Town, Vehicle
from validator.messages import Message

NewTown = Callable[[int], AbstractContextManager[Town]]

INPUTS_A_SEED = 1000
STRANGER_LIMIT_MS = 50
TAP_LIMIT_MS = 200
REFUSALS = {Message.HOLD_AGAIN, Message.WRONG_CARD, Message.FOREIGN_CARD}
READ, WRITE = 0x06, 0x08


class Hand:
    """A reader that sees what is laid on it, and nothing in between: the shortest way from a card's answer to the station."""

    name = "hand"

    def __init__(self) -> None:
        self.card: Channel | None = None

    def poll(self) -> Sequence[Channel]:
        return (self.card,) if self.card else ()

    def revive(self) -> bool:
        return True

    def close(self) -> None:
        pass


def holding(bus: Vehicle) -> Hand:
    hand = Hand()
    bus.station.equipment = replace(bus.station.equipment, reader=hand)
    return hand


def laid(bus: Vehicle, hand: Hand, card: Channel) -> list[Message]:
    """One touch; what was said to it."""
    before = len(bus.heard.shown)
    hand.card = card
    bus.station.turn()
    hand.card = None
    bus.station.turn()
    bus.station.turn()
    return [message for message in bus.heard.since(before) if message is not Message.READY]


def frame(body: bytes) -> bytes:
    return bytes((len(body) + 1 & 0xFF,)) + body


@dataclass
class Liar:
    """A card that knows the protocol and not the key. ``said`` counts its answers, ``earlier`` keeps some to say again."""

    dice: random.Random
    idm: bytes = b""
    pmm: bytes = FACTORY_PMM
    said: int = 0
    earlier: list[bytes] = field(default_factory=list[bytes])

    def turn_into_another(self) -> None:
        self.idm = self.dice.randbytes(8)
        self.pmm = FACTORY_PMM if self.dice.random() < 0.98 else self.dice.randbytes(8)

    def exchange(self, command: bytes) -> bytes:
        self.said += 1
        answer = self._answer(command)
        if answer is None:
            raise CardLost("no answer in time")
        if not answer or answer[0] != len(answer):
            raise MalformedReply("the length byte lies")
        if self.dice.random() < 0.1:
            self.earlier = [*self.earlier[-20:], answer]
        return answer

    def _answer(self, command: bytes) -> bytes | None:
        dice, code = self.dice, command[1] + 1
        chance = dice.random()
        if chance < 0.70:  # as it should be, to get further
            return self._well_formed(command)
        if chance < 0.76:
            return frame(dice.randbytes(dice.randrange(255)))
        if chance < 0.80:
            return dice.randbytes(dice.randrange(300))
        if chance < 0.84:
            return frame(bytes((code,)) + self.idm + dice.randbytes(dice.randrange(60)))
        if chance < 0.87:
            return frame(bytes((code,)) + dice.randbytes(8) + bytes((0, 0)))
        if chance < 0.90:
            return frame(bytes((code,)) + self.idm + dice.randbytes(2))
        if chance < 0.93 and self.earlier:
            return dice.choice(self.earlier)
        if chance < 0.97:
            return changed(self._well_formed(command), dice)
        return None

    def _well_formed(self, command: bytes) -> bytes:
        head = bytes((command[1] + 1,)) + self.idm + bytes(2)
        if command[1] == WRITE:
            return frame(head)
        count = command[13]
        fill = self.dice.choice((b"\x00", b"\xff", b""))
        data = fill * 16 * count if fill else self.dice.randbytes(16 * count)
        return frame(head + bytes((count,)) + data)


def changed(answer: bytes, dice: random.Random) -> bytes:
    """The answer with something else in it."""
    match dice.randrange(4):
        case 0:
            at = dice.randrange(len(answer))
            return answer[:at] + bytes((answer[at] ^ 1 << dice.randrange(8),)) + answer[at + 1 :]
        case 1:
            return frame(answer[1 : dice.randrange(1, len(answer) + 1)])
        case 2:
            return frame(answer[1:] + dice.randbytes(dice.randrange(1, 20)))
        case _:
            return frame(answer[1:10] + dice.randbytes(len(answer) - 10)) if len(answer) > 10 else frame(dice.randbytes(12))


@pytest.mark.prove(parts=4)
def test_a_card_without_our_key_ends_in_a_refusal_and_leaves_no_trace(proof: Any, passing_town: NewTown) -> None:
    """A thousand answers a seed, a million in full."""
    with passing_town(0) as town:
        bus = town.vehicle("bus-1", 1, "M2")
        bus.ride_to(1)
        hand, head = holding(bus), bus.store.head()
        bus.heard.newest = lambda: None
        for seed in proof.seeds(small=4, full=1000):
            liar = Liar(random.Random(seed))
            while liar.said < INPUTS_A_SEED:
                liar.turn_into_another()
                seen, *said = laid(bus, hand, liar)
                assert seen is Message.SEEN
                assert len(said) == 1
                assert said[0] in REFUSALS
            bus.heard.forget()
        assert bus.store.head() == head
        assert bus.store.intents() == []


@dataclass
class Tampered:
    """A genuine card behind somebody who changes answer number ``at`` of a touch, loses it, or sends an older one instead."""

    card: LiteSCard
    dice: random.Random
    at: int = -1
    older: list[bytes] = field(default_factory=list[bytes])

    @property
    def idm(self) -> bytes:
        return self.card.idm

    @property
    def pmm(self) -> bytes:
        return self.card.pmm

    def lay(self) -> None:
        self.card.field_off()
        self.card.field_on()
        self.at = self.dice.randrange(7)

    def exchange(self, command: bytes) -> bytes:
        answer = self.card.answer(command)
        if answer is not None:
            self.older.append(answer)
        self.at -= 1
        if self.at < 0 and self.dice.random() < 0.7:
            answer = self._instead(answer)
        if answer is None:
            raise CardLost("no answer in time")
        if not answer or answer[0] != len(answer):
            raise MalformedReply("the length byte lies")
        return answer

    def _instead(self, answer: bytes | None) -> bytes | None:
        chance = self.dice.random()
        if chance < 0.2:
            return None
        if chance < 0.5 and self.older:
            return self.dice.choice(self.older)
        return changed(answer or bytes(12), self.dice)


@pytest.mark.prove(parts=4)
def test_a_genuine_card_whose_answers_are_changed_pays_only_what_it_gave(proof: Any, passing_town: NewTown) -> None:
    for seed in proof.seeds(small=15, full=5000):
        with passing_town(seed) as town:
            bus, dice = town.vehicle("bus-1", 1, "M2"), random.Random(seed)
            bus.ride_to(1)
            hand = holding(bus)
            for _ in range(3):
                tampered = Tampered(town.card(), dice)
                for _ in range(5):
                    tampered.lay()
                    seen, *said = laid(bus, hand, tampered)
                    assert seen is Message.SEEN
                    assert len(said) == 1
                    town.clock.advance_ms(2000)
                tampered.card.field_off()
            bus.press(Key.SHIFT)
            assert [verdict for verdict in town.verdicts() if not verdict.held] == []


@pytest.mark.prove(parts=4)
def test_through_the_reader_a_lying_card_costs_no_more_than_its_time(proof: Any, passing_town: NewTown) -> None:
    for seed in proof.seeds(small=5, full=2000):
        with passing_town(seed) as town:
            bus, dice = town.vehicle("bus-1", 1, "M2"), random.Random(seed)
            bus.ride_to(1)
            head = bus.store.head()
            for _ in range(25):
                card = LiteSCard(blank_memory(dice.randbytes(8)), Traits(delay=dice.choice(tuple(Delay))))
                card.plan([*[Faults()] * dice.randrange(2), Faults(script=script(card, dice), forever=True)])
                bus.air.lay(card)
                began = town.clock.monotonic_ns()
                before = len(bus.heard.shown)
                bus.station.turn()
                assert (town.clock.monotonic_ns() - began) / 1e6 <= STRANGER_LIMIT_MS
                assert bus.heard.since(before)[0] is Message.SEEN
                assert bus.heard.last().message in REFUSALS
                bus.air.lift(card.idm)
                bus.turn(3)
            assert bus.store.head() == head
            assert [verdict for verdict in town.verdicts() if not verdict.held] == []


def script(card: LiteSCard, dice: random.Random) -> bytes:
    """What a lying card says to everything; the longest never fit into the chip."""
    match dice.randrange(5):
        case 0:
            return dice.randbytes(dice.randrange(1, 600))
        case 1:
            return frame(dice.randbytes(dice.randrange(1, 255)))
        case 2:
            return frame(bytes((WRITE + 1,)) + card.idm + bytes(2))
        case 3:
            return frame(bytes((READ + 1,)) + card.idm + bytes(2) + b"\x04" + dice.randbytes(64))
        case _:
            return frame(bytes((dice.choice((READ, WRITE)) + 1,)) + card.idm + dice.randbytes(dice.randrange(80)))


@pytest.mark.prove(parts=4)
def test_through_the_reader_a_faulty_genuine_card_costs_no_more_than_its_time(proof: Any, passing_town: NewTown) -> None:
    for seed in proof.seeds(small=15, full=3000):
        with passing_town(seed) as town:
            bus, dice = town.vehicle("bus-1", 1, "M2"), random.Random(seed)
            bus.ride_to(1)
            card = town.card(delay=dice.choice(tuple(Delay)))
            for _ in range(6):
                card.plan(Faults(**dice.choice(({}, {}, {"lost": True}, {"answer_lost": True}, {"bad_crc": True}))) for _ in range(20))
                began = town.clock.monotonic_ns()
                bus.air.lay(card)
                bus.station.turn()
                assert (town.clock.monotonic_ns() - began) / 1e6 <= TAP_LIMIT_MS
                bus.air.lift(card.idm)
                bus.turn(4)
            bus.press(Key.SHIFT)
            assert card.memory.blocks[REG] in {entry.medium.after.reg_block() for entry in bus.of(card)} | {b"\xff" * 16}
            assert [verdict for verdict in town.verdicts() if not verdict.held] == []


EDGES = (0, 1, 190, 0x7FFFFFFF, 0x80000000, 0xFFFFFF40, 0xFFFFFFFE, 0xFFFFFFFF)
WRITE_COUNTS = (0, 1, 2, 0xFFFDFE, 0xFFFDFF, 0xFFFE00, 0xFFFFFE, 0xFFFFFF)


def imitate(card: LiteSCard, dice: random.Random) -> None:
    """What somebody who has the keys may put on a chip of their own: any register, any write counter, any grant."""
    if dice.random() < 0.8:
        spent, debits = (dice.choice(EDGES) if dice.random() < 0.8 else dice.getrandbits(32) for _ in range(2))
        card.rewrite(REG, spent.to_bytes(4, "little") + debits.to_bytes(4, "little") + dice.randbytes(8))
    if dice.random() < 0.6:
        card.set_wcnt(dice.choice(WRITE_COUNTS))
    for block in range(10):
        if dice.random() < 0.1:
            old = card.memory.blocks[block]
            at = dice.randrange(16)
            card.rewrite(block, dice.choice((bytes(16), dice.randbytes(16), old[:at] + bytes((old[at] ^ 1,)) + old[at + 1 :])))


@pytest.mark.prove(parts=4)
def test_a_chip_that_has_our_keys_and_any_memory_ends_in_a_message(proof: Any, passing_town: NewTown) -> None:
    for seed in proof.seeds(small=15, full=5000):
        with passing_town(seed) as town:
            bus, dice = town.vehicle("bus-1", 1, "M2"), random.Random(seed)
            bus.ride_to(1)
            for _ in range(4):
                card = town.card(dice.choice((0, 100, 2000)))
                for _ in range(3):
                    imitate(card, dice)
                    seen, *said = bus.touch(card)
                    assert seen is Message.SEEN
                    assert len(said) == 1
            bus.press(Key.SHIFT)
            assert bus.store.intents() == []
