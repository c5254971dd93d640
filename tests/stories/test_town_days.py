"""Ten thousand days in a town, none of them quiet: after each, the laws hold.

A day is drawn from its seed: which buses run, which cards there are, what the driver presses, what goes wrong with clocks, readers, power,
hands, cards and disks. At its end everything is mended and the shifts are closed, as somebody would in the evening; then
``firmware.laws`` joins what is left. Nothing here knows how a tap works.
"""

import io
import logging
import random
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from drivers.devices.clock import ClockState
from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.lite_s_card import Delay, Faults, LiteSCard, Tear, Torn
from drivers.emulated.pn532_chip import ChipFaults
from firmware.rehearsal import TURNS_TO_EMPTY, Town, Vehicle
from ledger.entry import Kind
from ledger.errors import Full, NotStored, StoreLost
from validator.messages import Message
from validator.tap import RESULT, TABLE, Do, Event, State

NewTown = Callable[[int], AbstractContextManager[Town]]

BEGINNINGS = tuple(
    int(datetime.fromisoformat(when).astimezone(UTC).timestamp() * 1000)
    for when in (
        "2026-04-01T06:20+09:00",
        "2026-07-15T09:00+09:00",
        "2026-12-31T23:40+09:00",
        "2027-03-31T23:50+09:00",  # the fiscal year ends
        "2027-04-01T02:50+09:00",  # and so does its last service day, at three
        "2026-10-10T02:58+09:00",
        "2028-02-29T12:00+09:00",
    )
)
POINTS = (0, 50, 190, 400, 2000, 2000)
ROUTES = ("M1", "M1", "M2", "M2", "M2", "G1")
LIKELY_KEYS = (
    (Key.NEXT_STOP,),
    (Key.NEXT_STOP,),
    (Key.PREVIOUS_STOP,),
    (Key.PAIR,),
    (Key.CHILD,),
    (Key.CLEAR,),
    (Key.REPEAT,),
)
RARE_KEYS = (
    (Key.TRIP,),
    (Key.TRIP, Key.TRIP),
    (Key.FARE, 230, Key.ENTER),
    (Key.FARE, 99999, Key.ENTER),
    (Key.FARE, 0, Key.ENTER),
    (Key.FARE, Key.ENTER),
    (Key.TICKET, 2, Key.ENTER),
    (Key.TICKET, 77, Key.ENTER),
    (Key.TICKET, Key.PAIR),
    (Key.PAIR, Key.CHILD, Key.FARE, 310, Key.ENTER),
    (Key.STOP, 1, Key.ENTER),
    (Key.SHIFT,),
    (Key.ENTER,),
)
READS = ("latest", "intent_of", "unknown_of", "knows_grant", "intents", "last")
WRITES = ("append", "intend", "pay", "withdraw")
TURNS_AFTER_A_WALLET = 20
"""A crowd is believed to be gone when nobody was seen for a while."""

POLL_BYTES = 60
"""Whoever pulls the card away within so many bytes was never seen."""


class PowerCut(Exception):
    """The power goes here."""


class FailingBook:
    """The vehicle's book on a bad disk: the next call of one method fails, before or after it was done."""

    def __init__(self, book: object, method: str, error: Exception, *, done: bool) -> None:
        self._book, self._method, self._error, self._done = book, method, error, done

    def __getattr__(self, name: str) -> object:
        method: Any = getattr(self._book, name)
        if name != self._method:
            return method
        self._method = ""

        def fail(*given: object) -> None:
            if self._done:
                method(*given)
            raise self._error

        return fail


@dataclass
class Day:
    """One day in one town."""

    town: Town
    dice: random.Random
    buses: list[Vehicle] = field(default_factory=list[Vehicle])
    cards: list[LiteSCard] = field(default_factory=list[LiteSCard])

    def begins(self) -> None:
        self.town.clock.utc_ms = self.dice.choice(BEGINNINGS)
        for terminal in range(1, self.dice.choice((2, 3, 3))):
            bus = self.town.vehicle(f"bus-{terminal}", terminal, self.dice.choice(ROUTES))
            self.buses.append(bus)
            if self.dice.random() < 0.9:
                bus.ride_to(self.dice.randrange(4))
        for _ in range(self.dice.randrange(2, 5)):
            seed = 77 if self.dice.random() < 0.05 else None
            self.cards.append(self.town.card(self.dice.choice(POINTS), delay=self.dice.choice(tuple(Delay)), seed=seed))
        if self.dice.random() < 0.1:
            self.cards.append(self.town.foreign_card())

    def passes(self) -> None:
        chances = (
            (self.touch, 40),
            (self.pulled_away, 14),
            (self.a_faulty_card, 14),
            (self.a_wallet, 3),
            (self.keys, 30),
            (self.time_passes, 10),
            (self.the_clock, 5),
            (self.the_reader, 3),
            (self.the_reader_within_a_tap, 4),
            (self.the_power, 4),
            (self.power_within_a_tap, 5),
            (self.the_disk, 6),
            (self.the_deny_list, 1),
        )
        happenings = self.dice.choices([what for what, _ in chances], [weight for _, weight in chances], k=self.dice.randrange(10, 22))
        for happening in happenings:
            bus = self.dice.choice(self.buses)
            if bus.station.duty.trip is None and self.dice.random() < 0.7:
                bus.press(Key.CLEAR)
                bus.press(Key.TRIP)
                bus.press(Key.NEXT_STOP)
            happening(bus)

    def ends(self) -> None:
        for bus in self.buses:
            self.mended(bus)
            bus.press(Key.CLEAR)
            if bus.station.duty.on_shift:
                bus.press(Key.SHIFT)
            assert bus.store.intents() == []

    def mended(self, bus: Vehicle) -> None:
        """The reader works, the disk has room."""
        bus.station.equipment = replace(bus.station.equipment, ledger=bus.store)
        bus.chip.faults = ChipFaults()
        bus.line.plug()
        bus.turn(250)

    # ── riders ──

    def touch(self, bus: Vehicle) -> None:
        bus.touch(self.dice.choice(self.cards))

    def again(self, bus: Vehicle, card: LiteSCard) -> None:
        """What a rider does whose touch went wrong: mostly touch again, mostly here."""
        self.town.clock.advance_ms(self.dice.choice((1, 2, 50, 70)) * 1000)
        if self.dice.random() < 0.3:
            bus.press(*self.dice.choice(((Key.TRIP,), (Key.TRIP, Key.TRIP, Key.NEXT_STOP), (Key.PAIR,), (Key.CHILD,), (Key.CLEAR,))))
        for _ in range(self.dice.randrange(3)):
            (bus if self.dice.random() < 0.7 else self.dice.choice(self.buses)).touch(card)

    def pulled_away(self, bus: Vehicle) -> None:
        card, after_bytes = self.dice.choice(self.cards), self.dice.randrange(1000)
        with bus.noted(f"a card is pulled away after {after_bytes} bytes", card):
            bus.air.lay(card)
            bus.air.lift(card.idm, after_bytes=after_bytes)
            bus.turn()
            bus.air.lift(card.idm)
            bus.turn(TURNS_TO_EMPTY)
        if after_bytes < POLL_BYTES:
            bus.acts[-1] = replace(bus.acts[-1], excused=True)
        self.again(bus, card)

    def a_faulty_card(self, bus: Vehicle) -> None:
        card = self.dice.choice(self.cards)
        card.plan([*[Faults()] * self.dice.choice((0, 1, 2, 2, 3, 3, 3, 4, 4)), self.fault(card)])
        if self.dice.random() < 0.3:
            card.plan([self.fault(card)])
        bus.touch(card)
        self.again(bus, card)

    def fault(self, card: LiteSCard) -> Faults:
        faults = (
            Faults(lost=True),
            Faults(answer_lost=True),
            Faults(lost=True, lifted=True),
            Faults(answer_lost=True, lifted=True),
            Faults(bad_crc=True),
            Faults(warn=True),
            Faults(idm=bytes(8)),
            Faults(removed_at=self.dice.randrange(80)),
            Faults(script=self.dice.randbytes(self.dice.randrange(1, 40))),
            Faults(script=bytes.fromhex("0C09") + card.idm + bytes.fromhex("01A8")),
            Faults(tear=Tear(self.dice.choice((Torn.OLD, Torn.NEW)), counted=self.dice.random() < 0.5), lifted=self.dice.random() < 0.5),
            Faults(tear=Tear(self.dice.choice((Torn.OLD, Torn.NEW)), counted=self.dice.random() < 0.5)),
            Faults(tear=Tear(Torn.GARBAGE, counted=True, seed=self.dice.randrange(99))),
        )
        return self.dice.choice(faults)

    def a_wallet(self, bus: Vehicle) -> None:
        one, other = self.dice.sample(self.cards, 2)
        with bus.noted("two cards in a wallet", one, other):
            bus.air.lay(one)
            bus.air.lay(other)
            bus.turn(20)  # cards that choose the same slot are not seen; they choose anew each time
            for card in self.dice.sample([one, other], 2):
                bus.air.lift(card.idm)
                bus.turn(self.dice.randrange(4))
            bus.turn(TURNS_AFTER_A_WALLET)

    def the_deny_list(self, bus: Vehicle) -> None:
        bus.denied.add(self.town.rider(self.dice.choice(self.cards)))

    # ── the driver ──

    def keys(self, bus: Vehicle) -> None:
        bus.press(*self.dice.choice(LIKELY_KEYS if self.dice.random() < 0.75 else RARE_KEYS))

    # ── what goes wrong ──

    def time_passes(self, bus: Vehicle) -> None:
        self.town.clock.advance_ms(self.dice.choice((2, 10, 50, 70, 300, 1200, 3600, 6000)) * 1000)
        bus.turn(3)

    def the_clock(self, bus: Vehicle) -> None:
        clock, minute_ms = bus.clock, 60_000
        match self.dice.randrange(5):
            case 0:
                clock.error_ms += 15 * minute_ms
            case 1:
                clock.error_ms = max(clock.error_ms - 15 * minute_ms, -self.town.clock.utc_ms)  # no clock goes before 1970
            case 2:
                clock.state, clock.error_ms = ClockState.UNSET, -self.town.clock.utc_ms
            case 3:
                clock.state = ClockState.CARRIED
                clock.error_ms = max(clock.error_ms - self.dice.randrange(600) * minute_ms, -self.town.clock.utc_ms)
            case _:
                clock.state, clock.error_ms = ClockState.NTP, 0

    def the_reader(self, bus: Vehicle) -> None:
        match self.dice.randrange(4):
            case 0:
                bus.line.unplug()
            case 1:
                bus.chip.faults = ChipFaults(silent=True)
            case 2:
                bus.chip.faults = ChipFaults(nonsense=self.dice.randbytes(self.dice.randrange(1, 60)))
            case _:
                bus.chip.faults = ChipFaults(no_ack=True)
        self.touch(bus)
        if self.dice.random() < 0.8:
            self.mended(bus)

    def the_reader_within_a_tap(self, bus: Vehicle) -> None:
        card = self.dice.choice(self.cards)
        bus.after_commands(self.dice.randrange(1, 8), bus.line.unplug)
        bus.touch(card)
        bus.forget_plans()
        self.mended(bus)
        self.again(bus, card)

    def the_power(self, bus: Vehicle) -> None:
        self.dice.choice((bus.crash, bus.cut_power, bus.turn_off, lambda: self.turned_off_under_a_card(bus)))()
        bus.turn()

    def turned_off_under_a_card(self, bus: Vehicle) -> None:
        bus.station.close_shift(Kind.POWER_LOSS)
        self.touch(bus)
        bus.cut_power()

    def power_within_a_tap(self, bus: Vehicle) -> None:
        def cut() -> None:
            raise PowerCut

        card = self.dice.choice(self.cards)
        bus.after_commands(self.dice.randrange(1, 7), cut)
        try:
            bus.touch(card)
        except PowerCut:
            self.dice.choice((bus.crash, bus.cut_power))()
        bus.forget_plans()
        bus.air.lift(card.idm)
        bus.turn(TURNS_TO_EMPTY)
        self.again(bus, card)

    def the_disk(self, bus: Vehicle) -> None:
        """The next read or write fails; a write may have been done all the same."""
        method = self.dice.choice(WRITES + READS)
        done = method in WRITES and self.dice.random() < 0.5
        error = (
            StoreLost("the disk is gone") if done or method in READS else self.dice.choice((Full("no room"), NotStored("the disk failed")))
        )
        book: Any = FailingBook(bus.store, method, error, done=done)
        bus.station.equipment = replace(bus.station.equipment, ledger=book)
        self.dice.choice((self.touch, self.touch, self.a_faulty_card, self.keys))(bus)
        bus.station.equipment = replace(bus.station.equipment, ledger=bus.store)


@contextmanager
def a_log() -> Generator[io.StringIO]:
    """Everything that is logged meanwhile, at every level, with its traces."""
    text = io.StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.prove(parts=10)
def test_after_any_day_the_laws_hold(proof: Any, passing_town: NewTown) -> None:
    for seed in proof.seeds(small=30, full=10_000):
        with passing_town(seed) as town, a_log() as log:
            day = Day(town, random.Random(seed))
            day.begins()
            day.passes()
            day.ends()
            verdicts = town.verdicts({"the log": log.getvalue().encode()})
            assert [(seed, verdict) for verdict in verdicts if not verdict.held] == []


def test_the_days_are_not_all_alike(passing_town: NewTown) -> None:
    """A sample of days has seen every kind of entry that riders leave."""
    kinds: set[Kind] = set()
    for seed in range(12):
        with passing_town(seed) as town:
            day = Day(town, random.Random(seed))
            day.begins()
            day.passes()
            day.ends()
            kinds |= {entry.kind for bus in day.buses for entry in bus.entries()}
    assert {Kind.OPEN, Kind.PAID, Kind.FREE, Kind.UNPRICED, Kind.POWER_LOSS} <= kinds


BREAKERS = {
    "paid is said and nothing is booked": replace(TABLE[State.CHECKING, Event.DONE], target=State.WAITING, says=RESULT, does=()),
    "a hand that pulled away is told nothing": replace(TABLE[State.READING, Event.CARD_LEFT], says=None),
    "an unknown debit is forgotten": replace(TABLE[State.SEARCHING, Event.NOT_FOUND], does=(Do.WITHDRAW,)),
    "a lost answer counts as undone": replace(
        TABLE[State.DEBITING, Event.CARD_LEFT], target=State.WAITING, says=Message.HOLD_AGAIN, does=(Do.WITHDRAW,)
    ),
    "who has paid pays again": replace(TABLE[State.DECIDING, Event.PAID_BEFORE], says=Message.PAID),
}


@pytest.mark.parametrize("what", BREAKERS)
def test_days_on_a_broken_table_break_a_law(what: str, passing_town: NewTown) -> None:
    changed = BREAKERS[what]
    for seed in range(60):
        with passing_town(seed) as town:
            town.rows = {**TABLE, (changed.state, changed.event): changed}
            day = Day(town, random.Random(seed))
            day.begins()
            day.passes()
            day.ends()
            if not all(verdict.held for verdict in town.verdicts()):
                return
    pytest.fail("no law noticed it")
