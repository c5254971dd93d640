"""Every row of the tap table is walked by a scene below, and every change to a row is noticed by one.

A scene plays a few touches on a whole vehicle (reader twin, real driver, real ledger) and says what the rider hears, what the ledger holds
and what became of the card's points. The mutation job plays the scenes that walk a row on a table in which this row has another target or
lacks one of its effects: a change that no scene notices is a rule that nobody has asked for.
"""

import contextlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.lite_s_card import REG, Faults, LiteSCard, Tear, Torn, blank_memory
from firmware.rehearsal import Town, Vehicle, counters
from ledger.entry import Kind, Outcome
from ledger.errors import Full, NotStored, StoreLost
from validator.messages import Message
from validator.tap import ROWS, TABLE, Row, State, table
from validator.trip import ONE_ADULT

FINE = Faults()
LOST = Faults(lost=True)
UNHEARD = Faults(answer_lost=True)
UNHEARD_AND_GONE = Faults(answer_lost=True, lifted=True)
LOST_AND_GONE = Faults(lost=True, lifted=True)
NOISE = Faults(script=bytes.fromhex("0300 00"))
READ = (FINE, FINE, FINE)  # write RC, read the purse, and at first sight the grant's signature
FARE = 190  # misaki to onsen on M2
FULL_CARD = 2000


@dataclass
class Stage:
    """What a scene plays on."""

    town: Town
    bus: Vehicle

    def hears(self, card: LiteSCard, *messages: Message) -> None:
        assert self.bus.touch(card) == [Message.SEEN, *messages]

    def holds(self, card: LiteSCard, *kinds: Kind) -> None:
        assert self.bus.kinds(card) == list(kinds)

    def spent(self, card: LiteSCard, points: int, debits: int = 1) -> None:
        now = counters(card)
        assert (now.spent, now.debits) == (points, debits if points else 0)

    def no_intent(self) -> None:
        assert self.bus.store.intents() == []

    def nothing_is_armed(self) -> None:
        assert self.bus.station.duty.armed == ONE_ADULT

    def one_intent(self) -> None:
        assert len(self.bus.store.intents()) == 1


class FlakyBook:
    """The vehicle's book, which fails the next call of one method, or one after ``good`` calls of it: nothing of it is stored."""

    def __init__(self, book: object, method: str, error: Exception, good: int) -> None:
        self._book, self._method, self._error, self._good = book, method, error, good

    def __getattr__(self, name: str) -> object:
        if name == self._method:
            self._good -= 1
        if name == self._method and self._good < 0:
            self._method = ""

            def fail(*_given: object) -> None:
                raise self._error

            return fail
        return getattr(self._book, name)


class CountingBook:
    """The vehicle's book, which counts the calls of each method."""

    def __init__(self, book: object) -> None:
        self._book = book
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> object:
        self.calls[name] += 1
        return getattr(self._book, name)


def counted(bus: Vehicle) -> CountingBook:
    book = CountingBook(bus.store)
    bus.station.equipment = replace(bus.station.equipment, ledger=book)
    return book


def flaky(bus: Vehicle, method: str, error: Exception, good: int = 0) -> None:
    bus.station.equipment = replace(bus.station.equipment, ledger=FlakyBook(bus.store, method, error, good))


def at_onsen(stage: Stage) -> LiteSCard:
    """A full card at the second stop of M2, where 190 yen are due from the origin."""
    stage.bus.ride_to(1)
    return stage.town.card(FULL_CARD)


# ── a card comes ──


def a_full_card_pays(stage: Stage) -> None:
    card = at_onsen(stage)
    stage.hears(card, Message.PAID)
    assert stage.bus.heard.last().values == {"points": FARE, "cash": 0, "balance": FULL_CARD - FARE, "riders": 1}
    stage.holds(card, Kind.PAID)
    stage.spent(card, FARE)
    stage.no_intent()


def a_second_touch_pays_nothing(stage: Stage) -> None:
    card = at_onsen(stage)
    stage.hears(card, Message.PAID)
    stage.hears(card, Message.ALREADY_PAID)
    stage.holds(card, Kind.PAID)
    stage.spent(card, FARE)


def two_cards_pay_nothing(stage: Stage) -> None:
    one, other = at_onsen(stage), stage.town.card()
    assert stage.bus.touch(one, other) == [Message.ONE_CARD]
    stage.spent(one, 0)
    stage.spent(other, 0)
    stage.hears(one, Message.PAID)


def no_trip_is_open(stage: Stage) -> None:
    card = stage.town.card()
    stage.bus.turn()
    assert stage.bus.touch(card) == [Message.NO_TRIP]
    stage.holds(card)
    stage.bus.ride_to(1)
    stage.hears(card, Message.PAID)


def power_is_going(stage: Stage) -> None:
    card = at_onsen(stage)
    stage.bus.station.close_shift(Kind.POWER_LOSS)
    before = len(stage.bus.heard.shown)
    stage.bus.touch(card)
    assert stage.bus.heard.since(before) == [Message.CLOSING]
    stage.spent(card, 0)


def the_reader_dies_and_comes_back(stage: Stage) -> None:
    card = at_onsen(stage)
    stage.bus.line.unplug()
    stage.bus.turn()
    assert stage.bus.heard.last().message is Message.OUT_OF_ORDER
    stage.bus.line.plug()
    before = len(stage.bus.heard.shown)
    stage.bus.turn(150)
    assert stage.bus.heard.since(before)[0] is Message.READY
    stage.hears(card, Message.PAID)


# ── it is read ──


def the_card_leaves_while_it_is_read(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([FINE, LOST_AND_GONE])
    stage.hears(card, Message.HOLD_AGAIN)
    stage.holds(card)
    stage.hears(card, Message.PAID)
    stage.spent(card, FARE)


def a_foreign_card(stage: Stage) -> None:
    stage.bus.ride_to(1)
    card = LiteSCard(blank_memory(bytes.fromhex("0110020304050607"), bytes.fromhex("100B4B428485D0FF")))
    stage.hears(card, Message.FOREIGN_CARD)
    assert stage.bus.air.exchanges == stage.bus.chip.host_commands - _other_commands(stage.bus)


def _other_commands(bus: Vehicle) -> int:
    return sum(charged.rf_ns == 0 for charged in bus.chip.charged)


def a_card_under_another_key(stage: Stage) -> None:
    stage.bus.ride_to(1)
    stranger = stage.town.card(seed=99)
    stage.hears(stranger, Message.WRONG_CARD)
    stage.holds(stranger)


def a_card_that_answers_noise(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([FINE, NOISE])
    stage.hears(card, Message.WRONG_CARD)
    stage.spent(card, 0)


def a_grant_that_nobody_signed(stage: Stage) -> None:
    card = at_onsen(stage)
    for block in (1, 6):
        card.rewrite(block, bytes(16))
    stage.hears(card, Message.DAMAGED_CARD)
    stage.spent(card, 0)


def the_reader_dies_while_it_reads(stage: Stage) -> None:
    card = at_onsen(stage)
    stage.bus.after_commands(2, stage.bus.line.unplug)
    stage.hears(card, Message.OUT_OF_ORDER)
    stage.bus.line.plug()
    stage.bus.turn(150)
    stage.hears(card, Message.PAID)


# ── it is judged ──


def a_card_without_points_pays_in_cash(stage: Stage) -> None:
    stage.bus.ride_to(1)
    card = stage.town.card(0)
    stage.hears(card, Message.CASH)
    assert stage.bus.heard.last().values["cash"] == FARE
    stage.holds(card, Kind.PAID)
    stage.spent(card, 0)
    stage.hears(card, Message.ALREADY_PAID)


def a_free_line_does_not_write_the_card(stage: Stage) -> None:
    bus = stage.town.vehicle("community", 2, "G1")
    bus.ride_to(1)
    card = stage.town.card()
    before = counters(card)
    bus.press(Key.CHILD)
    assert bus.touch(card) == [Message.SEEN, Message.FREE]
    assert bus.station.duty.armed == ONE_ADULT
    assert bus.touch(card) == [Message.SEEN, Message.FREE]
    assert bus.kinds(card) == [Kind.FREE]
    assert counters(card) == before


def boarding_is_recorded_and_paid_when_alighting(stage: Stage) -> None:
    bus = stage.town.vehicle("downhill", 2, "M1")
    bus.ride_to(0)
    card = stage.town.card()
    assert bus.touch(card) == [Message.SEEN, Message.BOARDED]
    assert bus.touch(card) == [Message.SEEN, Message.BOARDED]
    assert bus.kinds(card) == [Kind.OPEN]
    stage.spent(card, 0)
    bus.ride_to(2)
    assert bus.touch(card) == [Message.SEEN, Message.PAID]
    assert bus.kinds(card) == [Kind.OPEN, Kind.PAID]
    boarded, paid = bus.of(card)
    assert (paid.ref, paid.place.boarding, paid.fare.points) == (boarded.seq, "eki_1", 160)
    stage.spent(card, 160)
    assert bus.touch(card) == [Message.SEEN, Message.ALREADY_PAID]
    stage.town.clock.advance_ms(stage.town.tariff.operator.already_paid_min * 60_000 + 1)
    assert bus.touch(card) == [Message.SEEN, Message.BOARDED]


def an_unheard_debit_is_recovered(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, UNHEARD_AND_GONE])
    stage.hears(card, Message.HOLD_AGAIN_UNSURE)
    stage.one_intent()
    stage.holds(card)
    stage.spent(card, FARE)
    stage.hears(card, Message.RECOVERED)
    assert stage.bus.heard.last().values == {"points": FARE, "balance": FULL_CARD - FARE}
    stage.holds(card, Kind.PAID)
    stage.spent(card, FARE)
    stage.no_intent()
    stage.hears(card, Message.ALREADY_PAID)


def a_debit_that_never_arrived_is_made_at_the_next_touch(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, LOST_AND_GONE])
    stage.hears(card, Message.HOLD_AGAIN_UNSURE)
    stage.spent(card, 0)
    stage.hears(card, Message.PAID)
    stage.holds(card, Kind.PAID)
    stage.spent(card, FARE)
    stage.no_intent()


def other_buses_debited_since(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, UNHEARD_AND_GONE])
    stage.hears(card, Message.HOLD_AGAIN_UNSURE)
    for number in (2, 3):
        other = stage.town.vehicle(f"other-{number}", number, "M2")
        other.ride_to(1)
        assert other.touch(card) == [Message.SEEN, Message.PAID]
    stage.hears(card, Message.CHECK_LATER)
    stage.holds(card, Kind.UNKNOWN)
    stage.no_intent()
    stage.hears(card, Message.CHECK_LATER)
    stage.holds(card, Kind.UNKNOWN)
    stage.spent(card, 3 * FARE, 3)


def an_unknown_debit_is_resolved_on_a_later_trip(stage: Stage) -> None:
    for fault, outcome, spent in ((UNHEARD_AND_GONE, Outcome.PAID, FARE), (LOST_AND_GONE, Outcome.UNPAID, 0)):
        card = at_onsen(stage)
        card.plan([*READ, fault])
        stage.hears(card, Message.HOLD_AGAIN_UNSURE)
        stage.bus.press(Key.TRIP)
        stage.holds(card, Kind.UNKNOWN)
        stage.bus.ride_to(1)
        stage.hears(card, Message.PAID)
        stage.holds(card, Kind.UNKNOWN, Kind.RESOLVED, Kind.PAID)
        unknown, resolved, _ = stage.bus.of(card)
        assert (resolved.ref, resolved.outcome) == (unknown.seq, outcome)
        stage.spent(card, spent + FARE, 2 if spent else 1)
        stage.bus.press(Key.TRIP)


def a_pair_without_a_price(stage: Stage) -> None:
    bus = stage.town.vehicle("downhill", 2, "M1")
    bus.ride_to(1)
    card = stage.town.card()
    bus.touch(card)
    bus.ride_to(6)
    assert bus.touch(card) == [Message.SEEN, Message.ASK_FARE]
    assert bus.kinds(card) == [Kind.OPEN, Kind.UNPRICED]
    assert bus.touch(card) == [Message.SEEN, Message.ASK_FARE]
    assert bus.kinds(card) == [Kind.OPEN, Kind.UNPRICED]
    stage.spent(card, 0)
    bus.press(Key.FARE, 320, Key.ENTER)
    assert bus.touch(card) == [Message.SEEN, Message.PAID]
    assert bus.kinds(card) == [Kind.OPEN, Kind.UNPRICED, Kind.PAID]
    stage.spent(card, 320)


def of_two_children_one_is_left_when_an_adult_has_paid(stage: Stage) -> None:
    card = at_onsen(stage)
    stage.hears(card, Message.PAID)
    stage.bus.press(Key.CHILD)
    stage.bus.press(Key.PAIR)
    stage.bus.press(Key.CHILD)
    stage.bus.press(Key.CHILD)
    assert (stage.bus.station.duty.armed.adults, stage.bus.station.duty.armed.children) == (0, 2)
    stage.hears(card, Message.PAID)
    second = stage.bus.of(card)[1].fare
    assert (second.adults, second.children) == (0, 1)
    stage.bus.press(Key.PAIR)
    stage.hears(card, Message.ALREADY_PAID)


def a_card_on_the_deny_list(stage: Stage) -> None:
    card = at_onsen(stage)
    stage.bus.denied.add(stage.town.rider(card))
    stage.hears(card, Message.BLOCKED_CARD)
    stage.holds(card, Kind.REFUSED)
    stage.spent(card, 0)


def counters_that_make_no_sense(stage: Stage) -> None:
    card = at_onsen(stage)
    card.rewrite(REG, (5000).to_bytes(4, "little") + b"\xf0\xff\xff\xff" + bytes(8))
    stage.hears(card, Message.DAMAGED_CARD)
    stage.holds(card, Kind.REFUSED)


# ── the store fails ──


def no_room_for_the_intent(stage: Stage) -> None:
    for error in (Full("no room"), NotStored("the disk failed")):
        card = at_onsen(stage)
        flaky(stage.bus, "intend", error)
        stage.hears(card, Message.LEDGER_FULL)
        stage.holds(card)
        stage.spent(card, 0)
        stage.hears(card, Message.PAID)


def the_store_fails_after_the_debit(stage: Stage) -> None:
    for error in (Full("no room"), NotStored("the disk failed")):
        card = at_onsen(stage)
        flaky(stage.bus, "pay", error)
        stage.hears(card, Message.TROUBLE)
        stage.holds(card)
        stage.one_intent()
        stage.hears(card, Message.RECOVERED)
        stage.holds(card, Kind.PAID)
        stage.spent(card, FARE)


def no_room_for_a_note(stage: Stage) -> None:
    for error in (Full("no room"), NotStored("the disk failed")):
        stage.bus.ride_to(1)
        card = stage.town.card(0)
        flaky(stage.bus, "append", error)
        stage.hears(card, Message.LEDGER_FULL)
        stage.holds(card)
        stage.hears(card, Message.CASH)


def no_room_to_resolve(stage: Stage) -> None:
    for error in (Full("no room"), NotStored("the disk failed")):
        card = at_onsen(stage)
        card.plan([*READ, UNHEARD_AND_GONE])
        stage.hears(card, Message.HOLD_AGAIN_UNSURE)
        stage.bus.press(Key.TRIP)
        stage.bus.ride_to(1)
        flaky(stage.bus, "append", error)
        stage.hears(card, Message.LEDGER_FULL)
        stage.holds(card, Kind.UNKNOWN)
        stage.spent(card, FARE)
        stage.hears(card, Message.PAID)
        stage.holds(card, Kind.UNKNOWN, Kind.RESOLVED, Kind.PAID)
        stage.bus.press(Key.TRIP)


# ── the debit ──


def refused(card: LiteSCard) -> Faults:
    return Faults(script=bytes.fromhex("0C09") + card.idm + bytes.fromhex("01A8"))


def the_card_refuses_the_write(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, refused(card)])
    stage.hears(card, Message.WRONG_CARD)
    stage.holds(card)
    stage.no_intent()
    stage.hears(card, Message.PAID)


def the_card_answers_the_write_with_noise(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, NOISE])
    stage.hears(card, Message.WRONG_CARD)
    stage.no_intent()
    stage.spent(card, 0)
    stage.hears(card, Message.PAID)


def the_write_is_unheard_but_the_card_stays(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, UNHEARD])
    stage.hears(card, Message.PAID)
    stage.holds(card, Kind.PAID)
    stage.spent(card, FARE)
    stage.no_intent()


def the_write_is_lost_but_the_card_stays(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, LOST])
    book = counted(stage.bus)
    stage.hears(card, Message.PAID)
    assert book.calls["intend"] == 2
    stage.holds(card, Kind.PAID)
    stage.spent(card, FARE)


def the_write_is_lost_twice(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, LOST, *READ, LOST])
    before = len(stage.bus.heard.shown)
    stage.bus.air.lay(card)
    stage.bus.turn()
    assert stage.bus.heard.since(before) == [Message.SEEN, Message.HOLD_AGAIN]
    stage.no_intent()
    stage.holds(card)
    stage.spent(card, 0)
    stage.bus.turn()
    assert stage.bus.heard.last().message is Message.PAID
    stage.spent(card, FARE)


def a_torn_purse_is_named(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, Faults(tear=Tear(Torn.GARBAGE, counted=True, seed=1))])
    stage.hears(card, Message.DAMAGED_CARD)
    stage.one_intent()
    stage.hears(card, Message.DAMAGED_CARD)
    stage.holds(card, Kind.UNKNOWN)
    stage.no_intent()


def the_counters_read_back_make_no_sense(stage: Stage) -> None:
    card = at_onsen(stage)
    # The sixth command reads back; by the first traffic after it was sent the debit is long done, and the answer not yet made.
    stage.bus.after_commands(5, lambda: stage.bus.after_commands(0, lambda: card.rewrite(REG, (7).to_bytes(4, "little") + bytes(12))))
    stage.hears(card, Message.DAMAGED_CARD)
    stage.one_intent()
    stage.holds(card)


def the_card_leaves_before_it_is_read_back(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, FINE, LOST_AND_GONE])
    stage.hears(card, Message.HOLD_AGAIN_UNSURE)
    stage.one_intent()
    stage.spent(card, FARE)
    stage.hears(card, Message.RECOVERED)
    stage.spent(card, FARE)


def the_read_back_is_noise_once(stage: Stage) -> None:
    for wrong in (NOISE, None):
        card = at_onsen(stage)
        forged = Faults(script=bytes.fromhex("3D07") + card.idm + bytes.fromhex("000003") + bytes(48))
        card.plan([*READ, FINE, wrong or forged])
        stage.hears(card, Message.PAID)
        stage.holds(card, Kind.PAID)
        stage.spent(card, FARE)
        stage.no_intent()


def the_reader_dies_around_the_debit(stage: Stage) -> None:
    for commands in (5, 6):
        card = at_onsen(stage)
        stage.bus.after_commands(commands, stage.bus.line.unplug)
        stage.hears(card, Message.HOLD_AGAIN_UNSURE)
        stage.one_intent()
        stage.holds(card)
        stage.bus.turn(500)
        assert stage.bus.heard.last().message is Message.OUT_OF_ORDER
        stage.bus.line.plug()
        stage.bus.turn(150)
        (again,) = stage.bus.touch(card)[1:]
        assert again in {Message.PAID, Message.RECOVERED}
        stage.holds(card, Kind.PAID)
        stage.spent(card, FARE)


def the_reader_dies_while_it_searches(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, UNHEARD])
    stage.bus.after_commands(6, stage.bus.line.unplug)
    stage.hears(card, Message.HOLD_AGAIN_UNSURE)
    stage.one_intent()
    stage.bus.line.plug()
    stage.bus.turn(150)
    stage.hears(card, Message.RECOVERED)
    stage.spent(card, FARE)


def the_card_leaves_after_noise_was_read_back(stage: Stage) -> None:
    for noise in ("0300 00", None):
        card = at_onsen(stage)
        forged = "3D07" + card.idm.hex() + "000003" + "00" * 48
        card.plan([*READ, FINE, Faults(script=bytes.fromhex(noise or forged), lifted=True)])
        stage.hears(card, Message.HOLD_AGAIN_UNSURE)
        stage.one_intent()
        stage.hears(card, Message.RECOVERED)
        stage.spent(card, FARE)


# ── what was open and proven undone is withdrawn, whatever else is said ──


def already_paid_withdraws_the_second_persons_lost_debit(stage: Stage) -> None:
    card = at_onsen(stage)
    stage.hears(card, Message.PAID)
    stage.bus.press(Key.PAIR)
    card.plan([FINE, FINE, LOST_AND_GONE])
    stage.hears(card, Message.HOLD_AGAIN_UNSURE)
    stage.one_intent()
    stage.bus.press(Key.CLEAR)
    stage.hears(card, Message.ALREADY_PAID)
    stage.no_intent()
    stage.spent(card, FARE)


def boarded_again_withdraws_a_lost_debit(stage: Stage) -> None:
    bus = stage.town.vehicle("downhill", 2, "M1")
    bus.ride_to(0)
    card = stage.town.card()
    bus.touch(card)
    bus.ride_to(1)
    card.plan([FINE, FINE, LOST_AND_GONE])
    assert bus.touch(card) == [Message.SEEN, Message.HOLD_AGAIN_UNSURE]
    bus.press(Key.PREVIOUS_STOP)
    assert bus.touch(card) == [Message.SEEN, Message.BOARDED]
    assert bus.store.intents() == []


def no_price_again_withdraws_a_lost_debit(stage: Stage) -> None:
    bus = stage.town.vehicle("downhill", 2, "M1")
    bus.ride_to(1)
    card = stage.town.card()
    bus.touch(card)
    bus.ride_to(6)
    bus.touch(card)
    bus.press(Key.FARE, 320, Key.ENTER)
    card.plan([FINE, FINE, LOST_AND_GONE])
    assert bus.touch(card) == [Message.SEEN, Message.HOLD_AGAIN_UNSURE]
    bus.press(Key.CLEAR)
    assert bus.touch(card) == [Message.SEEN, Message.ASK_FARE]
    assert bus.store.intents() == []


# ── a note that cannot be stored says so, a debit that cannot be booked says something else ──


def each_note_that_cannot_be_stored_is_refused(stage: Stage) -> None:
    error = Full("no room")
    community, downhill = stage.town.vehicle("community", 2, "G1"), stage.town.vehicle("downhill", 3, "M1")
    community.ride_to(1)
    downhill.ride_to(1)
    card = stage.town.card()
    for bus in (community, downhill):
        flaky(bus, "append", error)
        assert bus.touch(card) == [Message.SEEN, Message.LEDGER_FULL]
    downhill.touch(card)
    downhill.ride_to(6)
    flaky(downhill, "append", error)
    assert downhill.touch(card) == [Message.SEEN, Message.LEDGER_FULL]
    stage.bus.ride_to(1)
    blocked = stage.town.card()
    stage.bus.denied.add(stage.town.rider(blocked))
    damaged = stage.town.card()
    damaged.rewrite(REG, (5000).to_bytes(4, "little") + b"\xf0\xff\xff\xff" + bytes(8))
    for refused_card in (blocked, damaged):
        flaky(stage.bus, "append", error)
        stage.hears(refused_card, Message.LEDGER_FULL)


def an_unknown_that_cannot_be_stored_is_refused(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, UNHEARD_AND_GONE])
    stage.hears(card, Message.HOLD_AGAIN_UNSURE)
    for number in (2, 3):
        other = stage.town.vehicle(f"other-{number}", number, "M2")
        other.ride_to(1)
        other.touch(card)
    flaky(stage.bus, "pay", Full("no room"))
    stage.hears(card, Message.LEDGER_FULL)
    stage.one_intent()
    stage.bus.press(Key.CHILD)
    stage.hears(card, Message.CHECK_LATER)
    stage.nothing_is_armed()


def a_found_debit_that_cannot_be_booked_is_kept(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, UNHEARD])
    flaky(stage.bus, "pay", Full("no room"))
    stage.hears(card, Message.TROUBLE)
    flaky(stage.bus, "pay", NotStored("the disk failed"))
    stage.hears(card, Message.TROUBLE)
    stage.one_intent()
    stage.hears(card, Message.RECOVERED)
    stage.spent(card, FARE)


def a_ledger_that_cannot_be_asked_is_said(stage: Stage) -> None:
    card = at_onsen(stage)
    for method in ("knows_grant", "latest", "intent_of"):
        flaky(stage.bus, method, StoreLost("the disk is gone"))
        stage.hears(card, Message.LEDGER_FULL)
        stage.holds(card)
        stage.spent(card, 0)
        stage.no_intent()
    stage.hears(card, Message.PAID)


def a_ledger_that_cannot_be_asked_again_is_said(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, UNHEARD_AND_GONE])
    stage.hears(card, Message.HOLD_AGAIN_UNSURE)
    stage.bus.press(Key.TRIP)
    stage.bus.ride_to(1)
    flaky(stage.bus, "latest", StoreLost("the disk is gone"), good=1)
    stage.hears(card, Message.LEDGER_FULL)
    stage.holds(card, Kind.UNKNOWN, Kind.RESOLVED)
    stage.spent(card, FARE)
    stage.hears(card, Message.PAID)


def a_ledger_that_cannot_be_asked_whether_the_debit_was_done_is_trouble(stage: Stage) -> None:
    card = at_onsen(stage)
    card.plan([*READ, UNHEARD])
    stage.bus.after_commands(5, lambda: flaky(stage.bus, "knows_grant", StoreLost("the disk is gone")))
    stage.hears(card, Message.TROUBLE)
    stage.one_intent()
    stage.spent(card, FARE)
    stage.hears(card, Message.RECOVERED)
    stage.spent(card, FARE)


def what_was_armed_is_used_up_by_a_note(stage: Stage) -> None:
    bus = stage.town.vehicle("downhill", 2, "M1")
    bus.ride_to(1)
    bus.press(Key.CHILD)
    card = stage.town.card()
    assert bus.touch(card) == [Message.SEEN, Message.BOARDED]
    assert bus.station.duty.armed == ONE_ADULT
    bus.ride_to(6)
    bus.press(Key.CHILD)
    assert bus.touch(card) == [Message.SEEN, Message.ASK_FARE]
    assert bus.station.duty.armed == ONE_ADULT


SCENES: dict[str, Callable[[Stage], None]] = {
    scene.__name__: scene
    for scene in (
        a_full_card_pays,
        a_second_touch_pays_nothing,
        two_cards_pay_nothing,
        no_trip_is_open,
        power_is_going,
        the_reader_dies_and_comes_back,
        the_card_leaves_while_it_is_read,
        a_foreign_card,
        a_card_under_another_key,
        a_card_that_answers_noise,
        a_grant_that_nobody_signed,
        the_reader_dies_while_it_reads,
        a_card_without_points_pays_in_cash,
        a_free_line_does_not_write_the_card,
        boarding_is_recorded_and_paid_when_alighting,
        an_unheard_debit_is_recovered,
        a_debit_that_never_arrived_is_made_at_the_next_touch,
        other_buses_debited_since,
        an_unknown_debit_is_resolved_on_a_later_trip,
        a_pair_without_a_price,
        of_two_children_one_is_left_when_an_adult_has_paid,
        a_card_on_the_deny_list,
        counters_that_make_no_sense,
        no_room_for_the_intent,
        the_store_fails_after_the_debit,
        no_room_for_a_note,
        no_room_to_resolve,
        the_card_refuses_the_write,
        the_card_answers_the_write_with_noise,
        the_write_is_unheard_but_the_card_stays,
        the_write_is_lost_but_the_card_stays,
        the_write_is_lost_twice,
        a_torn_purse_is_named,
        the_counters_read_back_make_no_sense,
        the_card_leaves_before_it_is_read_back,
        the_read_back_is_noise_once,
        the_reader_dies_around_the_debit,
        the_reader_dies_while_it_searches,
        the_card_leaves_after_noise_was_read_back,
        already_paid_withdraws_the_second_persons_lost_debit,
        boarded_again_withdraws_a_lost_debit,
        no_price_again_withdraws_a_lost_debit,
        each_note_that_cannot_be_stored_is_refused,
        an_unknown_that_cannot_be_stored_is_refused,
        a_found_debit_that_cannot_be_booked_is_kept,
        a_ledger_that_cannot_be_asked_is_said,
        a_ledger_that_cannot_be_asked_again_is_said,
        a_ledger_that_cannot_be_asked_whether_the_debit_was_done_is_trouble,
        what_was_armed_is_used_up_by_a_note,
    )
}


@pytest.fixture
def play(new_town: Callable[[int], Town]) -> Callable[..., None]:
    """Plays one scene on a new town with the given table."""

    def play(name: str, rows: tuple[Row, ...] = ROWS) -> None:
        town = new_town(len(name))
        town.rows = table(rows)
        SCENES[name](Stage(town, town.vehicle("bus-1", 1, "M2")))

    return play


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_of_the_tap(name: str, play: Callable[..., None]) -> None:
    play(name)


def _walked(name: str, play: Callable[..., None], caplog: pytest.LogCaptureFixture) -> set[str]:
    caplog.clear()
    play(name)
    return {row for record in caplog.records for row in re.split(",", _rows_of(record.getMessage()))}


def _rows_of(line: str) -> str:
    found = re.match(r"tap rows=(\S+)", line)
    return found.group(1) if found else ""


def test_every_row_is_walked_by_a_scene(play: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "validator.station")
    walked = set().union(*(_walked(name, play, caplog) for name in SCENES))
    assert {row.name for row in ROWS} - walked == set()


def mutants() -> Iterator[tuple[str, Row]]:
    """Each row with each other target, without each of its effects, and without its words."""
    for row in ROWS:
        yield from ((f"{row.name} goes to {state.value}", replace(row, target=state)) for state in State if state is not row.target)
        for place in range(len(row.does)):
            yield f"{row.name} lacks {row.does[place].name}", replace(row, does=row.does[:place] + row.does[place + 1 :])
        if row.says is not None:
            yield f"{row.name} says nothing", replace(row, says=None)


@pytest.mark.prove(parts=6)
def test_every_change_to_a_row_is_noticed(proof: Any, play: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "validator.station")
    walks = {name: _walked(name, play, caplog) for name in SCENES}
    every = list(mutants())
    chosen = proof.seeds(small=12, full=len(every))
    unnoticed = []
    for number in chosen:
        what, changed = every[number if proof.full else number * 47 % len(every)]
        rows = tuple(changed if row.name == changed.name else row for row in ROWS)
        scenes = [name for name, walked in walks.items() if changed.name in walked]
        if not any(_notices(name, rows, play) for name in scenes):
            unnoticed.append(what)
    assert "\n".join(unnoticed) == ""


def _notices(name: str, rows: tuple[Row, ...], play: Callable[..., None]) -> bool:
    with contextlib.suppress(Exception):  # whatever the change breaks, it was noticed
        play(name, rows)
        return False
    return True


def test_two_rows_for_one_event_are_refused() -> None:
    with pytest.raises(ValueError, match="share a state"):
        table((*ROWS, replace(ROWS[0], name="again")))


def test_a_written_card_always_leaves_an_intent_or_a_booking() -> None:
    """From DEBIT on, every way back to WAITING either stores, keeps the intent, or withdraws what is proven undone."""
    after_debit = {State.DEBITING, State.CHECKING, State.SEARCHING}
    withdrawing = {row.name for row in ROWS if row.state in after_debit and row.target is State.WAITING and row.does}
    assert withdrawing == {"not-written", "gave-up"}
    assert {row.event.name for row in ROWS if row.name in withdrawing} == {"UNDONE", "GAVE_UP"}


def test_paid_is_said_only_after_it_is_durable() -> None:
    results = [row for row in ROWS if row.says is not None and not isinstance(row.says, Message)]
    assert {row.event.name for row in results} == {"STORED", "PAID_BEFORE", "BOARDED_BEFORE", "UNSURE_BEFORE", "NO_PRICE_BEFORE"}


def test_rows_have_names_of_their_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) == len(TABLE)
    assert not [a for a, b in itertools.pairwise(sorted(row.name for row in ROWS)) if a == b]
