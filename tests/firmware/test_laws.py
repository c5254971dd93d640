"""The laws have teeth: a day that broke one is told so, in words."""

import hashlib
from dataclasses import replace

import pytest

from drivers.cards.purse import FULL, Counters, RegLog
from firmware import laws
from firmware.laws import Act, Book, CardStory, CityBooks, Number, Said, Verdict
from ledger.codec import encode
from ledger.entry import Entry, Fare, Intent, Kind, Medium, Outcome, Place, Versions, When
from validator.messages import Message, Shown

RIDER = b"rider--1"
RIDE = Place(vehicle="bus-1", shift=1, trip="M2-1", service_day=20_600)
RULES = Versions(table=b"t" * 8, scheme=b"s" * 8, operator=b"o" * 8, software="1", card_key=1, rider_key=1)
NOON = When(1, 60_000, 1_780_000_000_000, 4)
WINDOW_MIN = 90


def register(spent: int, debits: int, terminal: int = 1, time: int = 0) -> Counters:
    return Counters(FULL - spent, FULL - debits, RegLog(terminal, time, 1).block() if debits else b"\xff" * 8, debits)


FRESH, ONCE, TWICE = register(0, 0), register(190, 1, time=1), register(380, 2, time=2)


def paid(seq: int, before: Counters = FRESH, after: Counters = ONCE, **changes: object) -> Entry:
    points = before.rega - after.rega
    entry = Entry(
        Kind.PAID, NOON, RIDE, Medium(RIDER, before=before, after=after), Fare(points, points, 0, 1, 0), RULES, seq=seq, device=1, epoch=1
    )
    return replace(entry, **changes)


def card(*registers: Counters) -> CardStory:
    return CardStory(RIDER, tuple(one.reg_block() for one in registers))


def law_1(entries: tuple[Entry, ...], story: CardStory, acts: tuple[Act, ...] = (), intents: tuple[Intent, ...] = ()) -> Verdict:
    return laws.charged_once([Book(1, entries, intents)], [story], acts, WINDOW_MIN)


def test_a_debit_that_one_ledger_books_holds_the_first_law() -> None:
    assert law_1((paid(1),), card(FRESH, ONCE)).held


def test_a_debit_that_no_ledger_names_breaks_it() -> None:
    verdict = law_1((), card(FRESH, ONCE))
    assert not verdict.held
    assert verdict.why == "a debit of 190 points on a card that no ledger names"


def test_points_that_the_card_never_gave_break_it() -> None:
    assert law_1((paid(1),), card(FRESH)).why == "entry 1 of device 1 books 190 points that the card never gave"


def test_one_debit_claimed_twice_breaks_it() -> None:
    assert "claimed by entry 1 of device 1 and entry 2 of device 1" in law_1((paid(1), paid(2)), card(FRESH, ONCE)).why


def test_a_card_that_nobody_has_breaks_it() -> None:
    stranger = Medium(b"stranger", before=FRESH, after=ONCE)
    assert law_1((paid(1, medium=stranger),), card(FRESH)).why == "entry 1 of device 1 names a card that nobody has"


def test_a_second_debit_for_the_same_ride_breaks_it() -> None:
    verdict = law_1((paid(1), paid(2, ONCE, TWICE)), card(FRESH, ONCE, TWICE))
    assert verdict.why == "entry 2 of device 1 pays for 2 riders on one ride where the driver armed 1"


def test_a_second_debit_is_right_when_the_driver_armed_two() -> None:
    act = Act(1, "a card is laid down", RIDE, armed=2, riders=(RIDER,))
    assert law_1((paid(1), paid(2, ONCE, TWICE)), card(FRESH, ONCE, TWICE), (act,)).held


def test_a_second_debit_is_right_on_another_trip_and_after_the_window() -> None:
    both = card(FRESH, ONCE, TWICE)
    assert law_1((paid(1), paid(2, ONCE, TWICE, place=replace(RIDE, trip="M2-2"))), both).held
    later = replace(NOON, mono_ms=NOON.mono_ms + WINDOW_MIN * 60_000 + 1)
    assert law_1((paid(1), paid(2, ONCE, TWICE, when=later)), both).held


def test_of_another_boot_the_wall_clocks_are_asked_and_an_unset_one_never_takes_points() -> None:
    both = card(FRESH, ONCE, TWICE)
    hours_later = replace(NOON, boot=2, mono_ms=1, utc_ms=NOON.utc_ms + 7_200_000)
    assert law_1((paid(1), paid(2, ONCE, TWICE, when=hours_later)), both).held
    assert not law_1((paid(1), paid(2, ONCE, TWICE, when=replace(hours_later, clock=0))), both).held


@pytest.mark.parametrize("story", [card(FRESH), card(FRESH, ONCE)])
def test_an_unknown_and_an_open_intent_are_names_whatever_the_card_did(story: CardStory) -> None:
    assert law_1((paid(1, kind=Kind.UNKNOWN),), story).held
    assert law_1((), story, intents=(Intent(paid(0)),)).held


def test_an_unknown_that_was_resolved_wrongly_breaks_it() -> None:
    unknown = paid(1, kind=Kind.UNKNOWN)
    resolved = paid(2, kind=Kind.RESOLVED, ref=1, outcome=Outcome.PAID)
    unpaid = replace(resolved, outcome=Outcome.UNPAID)
    assert law_1((unknown, resolved), card(FRESH, ONCE)).held
    assert law_1((unknown, unpaid), card(FRESH)).held
    assert not law_1((unknown, resolved), card(FRESH)).held
    assert not law_1((unknown, unpaid), card(FRESH, ONCE)).held
    assert law_1((unknown, resolved, replace(resolved, seq=3)), card(FRESH, ONCE)).why == "entry 1 of device 1 was resolved twice"


def test_a_torn_register_needs_a_name() -> None:
    garbage = Counters.parse(bytes(range(16)), bytes(3))
    assert law_1((), card(FRESH, garbage)).why == "a torn register that no ledger names"
    assert law_1((paid(1, kind=Kind.UNKNOWN),), card(FRESH, garbage)).held
    patched = Counters(ONCE.rega, ONCE.regb, FRESH.regc, 1)
    assert law_1((), card(FRESH, patched)).why.endswith("that no ledger names")
    assert law_1((paid(1, kind=Kind.UNKNOWN),), card(FRESH, patched)).held


def law_2(shown: Shown, newest: Entry | None, entries: tuple[Entry, ...] = ()) -> bool:
    return laws.durable_before_ok([Book(1, entries, ())], [Said(1, shown, newest)]).held


def test_paid_is_said_of_the_newest_entry_only() -> None:
    said = Shown(Message.PAID, {"points": 190, "cash": 0, "balance": 1810, "riders": 1})
    assert law_2(said, paid(1))
    assert not law_2(said, None)
    assert not law_2(said, paid(1, kind=Kind.UNKNOWN))
    assert not law_2(said, paid(1, fare=Fare(200, 200)))
    assert not law_2(Shown(Message.CASH, {"points": 0, "cash": 190}), paid(1))
    assert law_2(Shown(Message.CASH, {"cash": 190}), paid(1, fare=Fare(190, 0, 190)))


def test_what_was_said_may_be_repeated() -> None:
    said = Shown(Message.RECOVERED, {"points": 190, "balance": 1810})
    later = Entry(Kind.STOP_SET, NOON, RIDE, seq=2)
    assert laws.durable_before_ok([], [Said(1, said, paid(1)), Said(1, said, later)]).held
    assert not laws.durable_before_ok([], [Said(1, said, paid(1)), Said(2, said, later)]).held


@pytest.mark.parametrize(("message", "kind"), [(Message.FREE, Kind.FREE), (Message.BOARDED, Kind.OPEN), (Message.ALREADY_PAID, Kind.PAID)])
def test_what_is_said_of_an_earlier_entry_needs_one(message: Message, kind: Kind) -> None:
    earlier, now = paid(3, kind=kind), Entry(Kind.STOP_SET, NOON, RIDE, seq=4)
    assert law_2(Shown(message), now, (earlier, now))
    assert not law_2(Shown(message), now, (now,))
    assert not law_2(Shown(message), replace(now, seq=2), (earlier,))


def test_an_act_without_an_answer_breaks_the_third_law() -> None:
    silent = Act(1, "pair", RIDE)
    assert laws.never_silent([silent]).why == "device 1: after 'pair' nothing was said"
    assert not laws.never_silent([replace(silent, said=(Message.SEEN,))]).held
    assert laws.never_silent([replace(silent, said=(Message.SEEN, Message.PAID))]).held
    for why_not in (Message.OUT_OF_ORDER, Message.CLOSING):
        assert laws.never_silent([replace(silent, standing=why_not)]).held
    assert not laws.never_silent([replace(silent, standing=Message.READY)]).held
    assert laws.never_silent([replace(silent, excused=True)]).held


def test_an_entry_that_names_no_rules_breaks_the_fifth_law() -> None:
    assert laws.dated_rules([Book(1, (paid(1),), ())], RULES).held
    for wrong in (Versions(), replace(RULES, scheme=b"x" * 8), replace(RULES, card_key=0)):
        verdict = laws.dated_rules([Book(1, (paid(7, versions=wrong),), ())], RULES)
        assert verdict.why == "entry 7 of device 1 does not name the rules that decided it"


@pytest.mark.parametrize("text", [b"..\x01\x2e\xab\xcd..", b"idm 012eabcd", b"idm 012EABCD"])
def test_a_secret_is_found_in_any_form(text: bytes) -> None:
    secrets = {"the number of card 1": bytes.fromhex("012EABCD")}
    verdict = laws.no_secrets({"the log": text}, secrets)
    assert verdict.why == "the number of card 1 stands in the log"
    assert verdict.number == 6
    assert laws.no_secrets({"the log": b"a rider"}, secrets).held


# --- laws 4 and 8 ---


def city(*entries: Entry, spent: int | None = None, aside: tuple[str, ...] = (), heard_ms: int = NOON.utc_ms + 1) -> CityBooks:
    """What a city has booked when these entries came."""
    digests = {Number(entry.device, entry.epoch, entry.seq): hashlib.sha256(encode(entry)).digest()[:16] for entry in entries}
    points = sum(entry.fare.points for entry in entries) if spent is None else spent
    return CityBooks(digests, {RIDER: points} if points else {}, aside, heard_ms)


def law_4(entries: tuple[Entry, ...], books: CityBooks) -> Verdict:
    return laws.nothing_lost([Book(1, entries, ())], books)


def test_books_that_hold_what_the_ledgers_hold_hold_the_fourth_law() -> None:
    assert law_4((paid(1), paid(2, ONCE, TWICE)), city(paid(1), paid(2, ONCE, TWICE))).held


@pytest.mark.parametrize(
    ("books", "why"),
    [
        (city(paid(1)), "entry 2 of device 1 is not in the city's books"),
        (city(paid(1), paid(2)), "entry 2 of device 1 is another one in the city's books"),
        (city(paid(1), paid(2, ONCE, TWICE), paid(3)), "entry 3 of device 1 stands in the city's books and in no ledger"),
        (city(paid(1), paid(2, ONCE, TWICE), spent=570), "380 points of one rider in the ledgers are 570 in the city's books"),
        (city(paid(1), paid(2, ONCE, TWICE), aside=("Entry 9 of device 1 is held.",)), "Entry 9 of device 1 is held."),
    ],
)
def test_what_the_city_lacks_changed_added_counted_twice_or_set_aside_breaks_it(books: CityBooks, why: str) -> None:
    verdict = law_4((paid(1), paid(2, ONCE, TWICE)), books)
    assert not verdict.held
    assert verdict.why == why


def test_a_ride_before_the_city_was_heard_of_holds_the_eighth_law_when_it_came() -> None:
    assert laws.offline_is_normal([Book(1, (paid(1),), ())], city(paid(1))).held


def test_a_day_on_which_nobody_rode_without_a_network_shows_nothing_of_it() -> None:
    verdict = laws.offline_is_normal([Book(1, (paid(1),), ())], city(paid(1), heard_ms=NOON.utc_ms))
    assert verdict.why == "nobody paid a ride before the city had heard of the vehicles"


def test_a_ride_without_a_network_that_never_came_breaks_it() -> None:
    verdict = laws.offline_is_normal([Book(1, (paid(1),), ())], city())
    assert verdict.why == "entry 1 of device 1, from before there was a network, never came"
