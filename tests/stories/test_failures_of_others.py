"""What went wrong on other people's buses, played here on whole vehicles: none of it happens again, or somebody is told.

Each story names its source: the incident (validator-domain 2.4, 2.5) and the acceptance test drawn from it (section 7). docs/stories.md is
the table of all of them, also of those that are told elsewhere.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path

import pytest

from drivers.devices.clock import ClockState
from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.lite_s_card import Faults, LiteSCard
from drivers.emulated.pn532_chip import ChipFaults
from fares.recheck import Named, Rules, faults
from fares.table import Price
from firmware import cli
from firmware.rehearsal import SCHEME, TOWN, TURNS_TO_EMPTY, Town, Vehicle, counters
from ledger.entry import Entry, Flags, Kind, Outcome
from validator.journey import Tariff
from validator.messages import Message

NewTown = Callable[[int], AbstractContextManager[Town]]
FARE = 190  # misaki to onsen on M2
HEARD = Faults()
UNHEARD_AND_GONE = Faults(answer_lost=True, lifted=True)


def at_second_stop(town: Town, route: str = "M2") -> Vehicle:
    bus = town.vehicle(route=route)
    bus.ride_to(1)
    return bus


def interrupted(bus: Vehicle, card: LiteSCard) -> None:
    """The debit happens; its answer is not heard, because the hand has pulled away."""
    card.plan([HEARD, HEARD, HEARD, UNHEARD_AND_GONE])
    bus.touch(card)
    bus.air.lift(card.idm)
    bus.turn(TURNS_TO_EMPTY)


# ── PASMO and Suica on buses, March 2007 to July 2008: 60,000 riders paid twice ──


@pytest.mark.parametrize("wait_s", [2, 50, 70])
def test_pasmo_2007_a_reset_before_the_second_touch_charges_nobody_twice(town: Town, wait_s: int) -> None:
    """The card was written, the machine did not know it, and the driver pressed reset (2.5, J20-J22; tests 1 and 2 of section 7)."""
    bus, card = at_second_stop(town), town.card()
    interrupted(bus, card)
    assert bus.heard.last().message is Message.HOLD_AGAIN_UNSURE
    bus.press(Key.CLEAR)
    assert bus.heard.last().message is Message.RETOUCH_FIRST
    town.clock.advance_ms(wait_s * 1000)
    assert bus.touch(card)[-1] is Message.RECOVERED
    assert (counters(card).spent, counters(card).debits) == (FARE, 1)
    assert bus.kinds(card) == [Kind.PAID]


def test_pasmo_2007_no_key_takes_an_unknown_debit_back(town: Town) -> None:
    """Whatever the driver presses, nothing is voided without a settled record to point at (2.5, J20; test 2 of section 7)."""
    bus, card = at_second_stop(town), town.card()
    interrupted(bus, card)
    for key in Key:
        if key not in {Key.TRIP, Key.SHIFT}:
            bus.press(key)
            assert len(bus.store.intents()) == 1
    bus.press(Key.CLEAR)
    bus.press(Key.SHIFT)
    (unknown,) = bus.of(card)
    assert (unknown.kind, bus.store.intents()) == (Kind.UNKNOWN, [])
    bus.press(Key.SHIFT)
    bus.press(Key.TRIP)
    bus.press(Key.NEXT_STOP)
    bus.touch(card)
    resolved = next(entry for entry in bus.of(card) if entry.kind is Kind.RESOLVED)
    assert (resolved.ref, resolved.outcome) == (unknown.seq, Outcome.PAID)


# ── Hiroshima PASPY, March 2008 to March 2010: a fare was taken during a top-up ──


def test_paspy_2008_a_terminal_has_no_top_up_and_no_key_moves_points(town: Town) -> None:
    """Two keys in a row, a card within a second of them, the door shut (2.5, J23; test 3 of section 7): nothing is taken without a trip."""
    bus, card = town.vehicle(route="M2"), town.card()
    granted = dict(card.memory.blocks)
    for keys in product(set(Key) - {Key.TRIP, Key.SHIFT}, repeat=2):
        bus.press(*keys)
        town.clock.advance_ms(900)
        assert bus.touch(card)[-1] is Message.NO_TRIP
        assert dict(card.memory.blocks) == granted
        bus.press(Key.CLEAR, Key.CLEAR)


def test_paspy_2008_a_key_within_a_second_of_a_touch_costs_no_second_fare(passing_town: NewTown) -> None:
    """On the road, the same: the card pays once, whatever is pressed just before and just after it (2.5, J23; test 3 of section 7)."""
    for number, key in enumerate(Key):
        if key in {Key.TRIP, Key.SHIFT, Key.PAIR, Key.FARE, Key.TICKET, Key.STOP, Key.DIGIT}:
            continue  # another ride, or more riders, or a wish that the driver has not ended
        with passing_town(number) as town:
            bus, card = at_second_stop(town), town.card()
            bus.ride_to(2)
            for _ in range(2):
                bus.press(key)
                town.clock.advance_ms(400)
                bus.touch(card)
                town.clock.advance_ms(400)
            assert counters(card).debits == 1
            assert all(verdict.held for verdict in town.verdicts())


# ── Nagano "Kururu", November 2012 to June 2013: the stop slipped by one ──

MISHAPS = {"skipped": (Key.NEXT_STOP,), "doubled": (Key.NEXT_STOP,) * 2, "reversed": (Key.PREVIOUS_STOP,) * 2}


def put_right(bus: Vehicle, stop: str) -> None:
    """The driver looks at the screen and steps until it shows where the bus is."""
    for key in (Key.PREVIOUS_STOP, Key.NEXT_STOP):
        for _ in range(8):
            if bus.station.duty.stop != stop:
                bus.press(key)


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("corrected", [True, False], ids=["and put right", "and nobody noticed"])
def test_nagano_2012_the_stop_that_is_shown_is_the_stop_that_is_charged(town: Town, rules: Tariff, mishap: str, *, corrected: bool) -> None:
    """Under some conditions the stop code slipped by one, and nobody saw it (2.5, J25; test 4 of section 7).

    At each stop the key is skipped, doubled or reversed, and the power goes in between. Where the driver puts it right, the fare is that
    of the true stop; in any case it is that of the stop which reader and driver see, and the entry names it.
    """
    bus = town.vehicle(route="M2")
    bus.press(Key.TRIP)
    trip = bus.station.duty.trip
    assert trip is not None
    for at in range(1, len(trip.calls)):
        true_stop = trip.calls[at].stop
        put_right(bus, true_stop)
        bus.press(*MISHAPS[mishap])
        bus.cut_power()
        if corrected:
            put_right(bus, true_stop)
            assert bus.station.duty.stop == true_stop
        bus.turn(500)
        said = bus.heard.last()
        card = town.card()
        bus.touch(card)
        (entry,) = bus.of(card)
        assert said.message is Message.READY
        assert said.values["stop"] == rules.table.stop(entry.place.alighting).name
        assert entry.place.alighting == true_stop or not corrected
        price = rules.table.price("M2", trip.calls[0].stop, entry.place.alighting)
        if isinstance(price, Price):
            assert entry.fare.nominal == min(price.ambiguous or (price.yen,))
        else:
            assert entry.kind is Kind.UNPRICED
    assert list(faults(bus.entries(), rules_by_name(rules))) == []


def test_nagano_2012_a_ride_that_goes_nowhere_is_asked_about_and_never_guessed(town: Town) -> None:
    """A driver who has not stepped on since the rider got on is asked: a wrong stop is worse than an unknown one (2.5, J25; test 4)."""
    bus, card = at_second_stop(town), town.card()
    bus.press(Key.STOP, 1, Key.ENTER)
    bus.press(Key.PREVIOUS_STOP)
    assert bus.touch(card)[-1] in {Message.ASK_DRIVER, Message.ASK_FARE}
    assert counters(card).spent == 0
    assert bus.kinds(card) == [Kind.UNPRICED]


def rules_by_name(tariff: Tariff) -> dict[Named, Rules]:
    known = Rules(tariff.table, tariff.operator, tariff.scheme)
    return {known.named: known}


# ── every fare once more (three nightly checks would have shown all five early) ──


def a_varied_day(town: Town) -> list[Vehicle]:
    buses = [town.vehicle("bus-1", 1, "M1"), town.vehicle("bus-2", 2, "M2"), town.vehicle("bus-3", 3, "G1")]
    for bus in buses:
        bus.press(Key.TRIP)
    boarded = [town.card(points) for points in (2000, 60, 0)]
    for at in range(1, 7):
        for card in boarded:
            buses[0].touch(card)
        for bus in buses:
            bus.press(Key.NEXT_STOP)
        buses[1].press(*((Key.PAIR,), (Key.CHILD,), (Key.TICKET, 2, Key.ENTER), (Key.FARE, 230, Key.ENTER), (Key.CLEAR,))[at % 5])
        buses[1].touch(town.card((2000, 100, 0)[at % 3]))
        buses[2].touch(town.card())
    return buses


def test_every_fare_of_a_day_is_what_its_table_and_scheme_say(
    town: Town, rules: Tariff, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recomputed from stops, class, date and the versions that each entry names (2.5, "Pattern"; test 19 of section 7)."""
    buses = a_varied_day(town)
    entries = [entry for bus in buses for entry in bus.entries()]
    charged = [entry for entry in entries if entry.kind in {Kind.PAID, Kind.FREE}]
    assert len({(entry.fare, entry.flags) for entry in charged}) > 8
    assert list(faults(entries, rules_by_name(rules))) == []
    for bus in buses:
        bus.store.close()
    assert cli.main(["fares", "compile", str(TOWN), "-o", str(tmp_path / "town.table")]) == 0
    files = ["--table", str(tmp_path / "town.table"), "--operator", str(TOWN / "operator.toml"), "--scheme", str(SCHEME)]
    capsys.readouterr()
    assert cli.main(["fares", "recheck", *(str(bus.path) for bus in buses), *files]) == 0
    assert "0 with another fare than their rules say" in capsys.readouterr().out


WRONG_FARES: dict[str, Callable[[Entry], Entry]] = {
    "ten times": lambda entry: replace(entry, fare=replace(entry.fare, nominal=entry.fare.nominal * 10, points=entry.fare.points * 10)),
    "the next stop's": lambda entry: replace(entry, place=replace(entry.place, alighting="todai_2")),
    "cash where there were points": lambda entry: replace(entry, fare=replace(entry.fare, points=0, cash=entry.fare.nominal)),
    "a day of no calendar": lambda entry: replace(entry, place=replace(entry.place, service_day=2**60)),
    "another table's": lambda entry: replace(entry, versions=replace(entry.versions, table=b"another!")),
}


@pytest.mark.parametrize("wrong", WRONG_FARES)
def test_a_fare_that_its_rules_do_not_give_is_named(town: Town, rules: Tariff, wrong: str) -> None:
    """The check wakes up (2.5, J20-J27; test 19 of section 7)."""
    bus, card = at_second_stop(town), town.card()
    bus.touch(card)
    (entry,) = bus.of(card)
    (fault,) = faults([WRONG_FARES[wrong](entry)], rules_by_name(rules))
    assert fault.startswith(f"Entry {entry.seq} of device 1 ")


# ── clocks ──


def jst(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+09:00").astimezone(UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("begins", "day"),
    [
        ("2026-04-10T23:59:30", date(2026, 4, 10)),  # midnight comes during the trip
        ("2027-03-31T23:59:30", date(2027, 3, 31)),  # and the fiscal year ends
        ("2027-04-01T02:59:30", date(2027, 3, 31)),  # its last service day ends at three
        ("2027-04-01T03:00:30", date(2027, 4, 1)),
        ("2026-04-11T01:10:00", date(2026, 4, 10)),  # the 25:10 trip
    ],
)
def test_a_ride_over_a_border_belongs_to_the_day_on_which_its_trip_began(town: Town, begins: str, day: date) -> None:
    """Midnight, 31 March, three o'clock, 25:10 (2.4, TT1, Q4; test 10 of section 7): one ride, one day, one fare."""
    town.clock.utc_ms = jst(begins)
    bus, card = at_second_stop(town), town.card()
    assert bus.touch(card)[-1] is Message.PAID
    town.clock.advance_ms(60_000)
    assert bus.touch(card)[-1] is Message.ALREADY_PAID
    (entry,) = bus.of(card)
    assert date.fromordinal(date(1970, 1, 1).toordinal() + entry.place.service_day) == day


@pytest.mark.parametrize("jump_min", [15, -15])
def test_a_clock_that_jumps_a_quarter_of_an_hour_charges_nobody_twice(town: Town, jump_min: int) -> None:
    """A machine that was 15 minutes fast made a pass worthless (2.4, M1; test 10 of section 7). Here it changes no fare and no day."""
    bus, card = at_second_stop(town), town.card()
    assert bus.touch(card)[-1] is Message.PAID
    bus.clock.error_ms = jump_min * 60_000
    town.clock.advance_ms(2000)
    assert bus.touch(card)[-1] is Message.ALREADY_PAID
    other = town.card()
    assert bus.touch(other)[-1] is Message.PAID
    assert bus.of(other)[0].place.service_day == bus.of(card)[0].place.service_day
    assert all(verdict.held for verdict in town.verdicts())


def test_a_clock_that_says_1970_takes_fares_and_the_day_is_left_to_the_city(town: Town) -> None:
    """The battery was empty (2.4, TT1; test 10 of section 7)."""
    bus = town.vehicle(route="M2")
    bus.clock.state, bus.clock.error_ms = ClockState.UNSET, -town.clock.utc_ms
    bus.ride_to(1)
    card = town.card()
    assert bus.touch(card)[-1] is Message.PAID
    town.clock.advance_ms(2000)
    assert bus.touch(card)[-1] is Message.ALREADY_PAID
    (entry,) = bus.of(card)
    assert entry.place.service_day == 0
    assert entry.flags & Flags.CLOCK_UNSET


# ── a reader that is dead ──


@pytest.mark.parametrize("faults_of_chip", [ChipFaults(silent=True), ChipFaults(nonsense=b"\xff\x00\x55")], ids=["silent", "nonsense"])
def test_a_driver_hears_of_a_dead_reader_within_seconds_and_riders_are_not_held_up(town: Town, faults_of_chip: ChipFaults) -> None:
    """300 readers were frozen and counted as working (2.4, P1; test 9 of section 7): the screen says so, and whom to pay."""
    bus, card = at_second_stop(town), town.card()
    bus.chip.faults = faults_of_chip
    before = town.clock.monotonic_ns()
    bus.touch(card)
    bus.turn(50)
    assert bus.heard.last().message is Message.OUT_OF_ORDER
    assert town.clock.monotonic_ns() - before < 5_000_000_000
    assert counters(card).spent == 0


# ── a mechanic, between two trips ──


def test_a_mechanic_reads_what_runs_here_off_a_standing_bus(town: Town) -> None:
    bus = at_second_stop(town)
    bus.press(Key.TRIP)
    bus.press(Key.ENTER)
    said = bus.heard.last()
    assert said.message is Message.ABOUT
    assert said.values == {"image": "-", "unit": bus.terminal, "waiting": bus.store.head().seq, "clock": "ntp"}
