"""What the clerks' pages read from the city's tables: real tables in both databases, rows as the books write them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, insert, text
from sqlalchemy.exc import DatabaseError

from backoffice import rows, schema, settings
from backoffice.bill import Month, Tally
from backoffice.billing import basis
from backoffice.book import Posting, PostingKind, concluded, owed_to, purse
from backoffice.console.facts import Accounts, Gaps, Missing, Sort, Tick, Waiting
from backoffice.console_queries import ConsoleBooks
from backoffice.health import Condition
from backoffice.receive import alone
from backoffice.store import Store
from drivers.cards.purse import FULL, Counters
from ledger.codec import encode
from ledger.entry import Entry, Fare, Flags, Kind, Medium, Outcome, Place, When

RIDER = bytes(range(8))
OTHER = bytes(8)
NOVEMBER = Month(2026, 11)
TODAY = date(2026, 11, 24)
DAY = (TODAY - date(1970, 1, 1)).days
NOW = DAY * 86_400_000 + 3_600_000
GRANTED = 2_000
TOWN = settings.read('format = 1\n[[operator]]\nid = "minato"\nname = "みなと町営バス"\n'.encode(), "city.toml", Path())


@dataclass(frozen=True, slots=True)
class ATerminal:
    id: int
    name: str
    operator: str = "minato"
    created_ms: int = NOW - 10**9
    contact_ms: int | None = NOW


class Depot:
    """Two terminals, the second revoked."""

    def devices(self) -> tuple[ATerminal, ...]:
        return ATerminal(1, "港01"), ATerminal(2, "港02")

    def conditions(self, now_ms: int, today: date) -> tuple[Condition, ...]:
        del today
        return (Condition(1, "港01", now_ms - 10**9, now_ms, taps=3),)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        opened.migrate()
        add(opened, schema.device, *({"id": n, "name": f"港{n:02}", "operator": "minato", "created_ms": 1} for n in (1, 2)))
        yield opened


@pytest.fixture
def books(store: Store) -> ConsoleBooks:
    return ConsoleBooks(store, Depot(), basis(TOWN), TOWN.operators)


def add(store: Store, table: Table, *values: dict[str, Any]) -> None:
    with store.writing() as connection:
        connection.execute(insert(table), values)


def an_entry(seq: int, kind: Kind = Kind.PAID, points: int = 100, spent: int = 0, **change: Any) -> Entry:
    """Entry ``seq`` of terminal 1: a ride of ``points`` by a card that had spent ``spent`` before it."""
    before = Counters(FULL - spent, FULL - seq, bytes(8), seq)
    after = Counters(FULL - spent - points, FULL - seq - 1, bytes(8), seq + 1)
    entry = Entry(
        kind,
        When(1, seq, NOW + seq * 1000, 2),
        Place("minato", "港01", 1, "M1", "t1", "みなと町", "市民病院前", DAY),
        Medium(RIDER, GRANTED, 1, bytes(8), before, after if kind in {Kind.PAID, Kind.UNKNOWN, Kind.RESOLVED} else before),
        Fare(points or 150, points, 0, 1, 0),
        device=1,
        epoch=1,
        seq=seq,
    )
    return replace(entry, **change)


def book(store: Store, *entries: Entry) -> None:
    for entry in entries:
        batch = alone(entry.device, entry.epoch, entry.seq, encode(entry))
        for row in rows.entry_rows(batch, {entry.seq: bytes(16)}, NOW):
            add(store, schema.entry, dict(zip(rows.ENTRY, row, strict=True)))
        for row in rows.posting_rows(batch, {entry.seq: bytes(16)}, NOW):
            add(store, schema.posting, dict(zip(rows.POSTING, row, strict=True)))


def conclude(store: Store, entry: Entry, posting: Posting) -> None:
    place = {"device": entry.device, "epoch": entry.epoch, "seq": entry.seq, "service_day": entry.place.service_day, "at_ms": NOW}
    add(store, schema.posting, place | posting._asdict())


# --- vehicles and gaps ------------------------------------------------------------------------------------------------------------------


def test_every_terminal_is_told_with_its_newest_ledger_and_the_revoked_one_as_revoked(store: Store, books: ConsoleBooks) -> None:
    ledger = {"device": 1, "created_ms": 1, "contact_ms": 1, "closed": False, "head": bytes(32)}
    add(store, schema.ledger, *(ledger | {"epoch": epoch, "number": number, "next_seq": 10 + number} for epoch, number in ((9, 1), (4, 2))))
    first, second = books.vehicles(NOW, TODAY)
    assert (first.condition.name, first.revoked, first.epoch, first.next_seq, first.condition.taps) == ("港01", False, 4, 12, 3)
    assert (second.condition.name, second.revoked, second.epoch, second.next_seq) == ("港02", True, 0, 1)


def test_a_hole_lies_below_each_island_and_is_dated_by_the_batch_that_showed_it(store: Store, books: ConsoleBooks) -> None:
    add(
        store,
        schema.ledger,
        {"device": 1, "epoch": 1, "number": 1, "next_seq": 5, "created_ms": 1, "contact_ms": 1, "closed": False, "head": bytes(32)},
    )
    island = {"device": 1, "epoch": 1, "previous": bytes(32), "head": bytes(32)}
    add(store, schema.island, island | {"first_seq": 8, "last_seq": 9}, island | {"first_seq": 20, "last_seq": 20})
    batch = {"device": 1, "epoch": 1, "first_seq": 8, "last_seq": 9, "digest": bytes(32), "kid": bytes(8), "sealed": b""}
    add(store, schema.batch, batch | {"received_ms": 77})
    gaps = books.gaps()
    assert gaps.missing == (Missing("港01", 1, 5, 7, 77), Missing("港01", 1, 10, 19, None))
    assert gaps.waiting == (Waiting("港01", 1, 8, 9), Waiting("港01", 1, 20, 20))
    assert books.vehicles(NOW, TODAY)[0].holes == 2


def test_what_was_reported_lost_is_told_the_newest_first(store: Store, books: ConsoleBooks) -> None:
    lost = {"device": 1, "epoch": 1, "last_seq": 0, "boot": 1, "mono_ms": 1, "utc_ms": 1, "clock": 1, "kid": bytes(8), "sealed": b""}
    add(store, schema.loss, *(lost | {"first_seq": seq, "received_ms": seq, "reason": "missing"} for seq in (3, 9)))
    assert [(each.first, each.last, each.reason) for each in books.gaps().lost] == [(9, 0, "missing"), (3, 0, "missing")]


def test_a_city_without_anything_has_no_gaps_no_troubles_and_no_rides(books: ConsoleBooks) -> None:
    assert books.gaps() == Gaps((), (), ())
    assert (books.troubles(10).newest, books.troubles(10).total) == ((), 0)
    assert books.rider(RIDER, 10) is None
    assert books.month(NOVEMBER, NOW) == Accounts((), ())


# --- troubles ---------------------------------------------------------------------------------------------------------------------------


def test_a_conflict_is_told_once_and_what_was_ticked_off_or_released_no_more(store: Store, books: ConsoleBooks) -> None:
    place = {"device": 1, "epoch": 1}
    alarm = place | {"at_ms": 5, "kind": "conflict", "sentence": "Two."}
    add(store, schema.alarm, alarm | {"seq": 3}, alarm | {"seq": 4})
    (there,) = [each.alarm for each in books.troubles(10).newest if each.seq == 4]
    assert books.tick(there, 0, Tick(9, done=True, clerk="sato", note="Called."))
    aside = place | {"received_ms": 6, "data": b"", "sentence": "The entry."}
    add(
        store,
        schema.reject,
        aside | {"seq": 3, "digest": bytes(16), "code": "conflict"},
        aside | {"seq": 8, "digest": bytes(16), "code": "malformed"},
    )
    held = place | {"received_ms": 7, "version": 2, "digest": bytes(16), "data": b""}
    add(store, schema.held, held | {"seq": 9, "released_ms": None}, held | {"seq": 10, "released_ms": 8})
    told = books.troubles(10)
    assert [(each.sort, each.code, each.seq) for each in told.newest] == [
        (Sort.ALARM, "conflict", 3),
        (Sort.REJECT, "malformed", 8),
        (Sort.HELD, "later", 9),
    ]
    assert (told.total, len(books.troubles(2).newest)) == (3, 2)
    assert [(each.trouble.seq, each.ticks[-1].clerk) for each in told.ticked] == [(4, "sato")]


def test_what_clerks_say_about_an_alarm_is_added_and_never_changed_and_the_last_counts(store: Store, books: ConsoleBooks) -> None:
    add(store, schema.alarm, {"device": 1, "epoch": 1, "seq": 3, "at_ms": 5, "kind": "conflict", "sentence": "Two."})
    (number,) = [each.alarm for each in books.troubles(10).newest]
    done, undone = Tick(9, done=True, clerk="sato", note="Called."), Tick(11, done=False, clerk="ito", note="It goes on.")
    assert books.tick(number, 0, done)
    assert not books.tick(number, 0, undone)  # had not seen what sato said
    assert books.tick(number, 1, undone)
    alarm = books.alarm(number)
    assert alarm is not None
    assert (alarm.ticks, alarm.done) == ((done, undone), False)
    assert [each.alarm for each in books.troubles(10).newest] == [number]
    assert books.troubles(10).ticked == ()
    assert books.alarm(number + 1) is None
    for change in ("UPDATE tick SET note = ''", "DELETE FROM tick"):
        with pytest.raises(DatabaseError, match=r"written once|permission denied"), store.writing() as connection:
            connection.execute(text(change))


# --- one rider --------------------------------------------------------------------------------------------------------------------------


def test_a_riders_purse_and_books_agree_after_two_rides(store: Store, books: ConsoleBooks) -> None:
    book(store, an_entry(1, points=100), an_entry(2, points=150, spent=100), replace(an_entry(3), medium=Medium(OTHER)))
    rider = books.rider(RIDER, 10)
    assert rider is not None
    assert [(ride.points, ride.left) for ride in rider.rides] == [(150, 1_750), (100, 1_900)]
    assert rider.reading is not None
    assert (rider.booked, rider.reading.spent, rider.reading.granted) == (250, 250, GRANTED)


def test_an_unknown_debit_is_counted_and_shown_as_the_card_was_read_before_it(store: Store, books: ConsoleBooks) -> None:
    book(store, an_entry(1, points=100), an_entry(2, Kind.UNKNOWN, points=150, spent=100))
    rider = books.rider(RIDER, 10)
    assert rider is not None
    assert (rider.unknown, rider.unknown_points, rider.booked) == (1, 150, 100)
    assert rider.reading is not None
    assert rider.reading.spent == 100
    assert rider.rides[0].left is None


def test_a_debit_that_was_resolved_is_one_ride(store: Store, books: ConsoleBooks) -> None:
    book(store, an_entry(1, Kind.UNKNOWN), an_entry(2, Kind.RESOLVED, ref=1, outcome=Outcome.PAID))
    rider = books.rider(RIDER, 10)
    assert rider is not None
    assert [ride.kind for ride in rider.rides] == [Kind.RESOLVED]
    assert (rider.unknown, rider.booked) == (0, 100)


def test_a_debit_that_the_city_settled_is_booked_and_no_longer_unknown(store: Store, books: ConsoleBooks) -> None:
    unknown = an_entry(1, Kind.UNKNOWN)
    book(store, unknown, an_entry(2, Kind.FREE, points=0, spent=100))
    for posting in concluded(unknown, 1):
        conclude(store, unknown, posting)
    rider = books.rider(RIDER, 10)
    assert rider is not None
    assert [ride.settled for ride in rider.rides] == [False, True]
    assert (rider.unknown, rider.booked) == (0, 100)
    assert rider.reading is not None
    assert rider.reading.spent == 100


def test_a_correction_is_told_beside_its_ride(store: Store, books: ConsoleBooks) -> None:
    entry = an_entry(1)
    book(store, entry)
    back = {"device": 1, "epoch": 1, "seq": 1, "leg": 21, "service_day": DAY, "kind": int(PostingKind.POINTS), "at_ms": NOW, "amount": 30}
    add(store, schema.posting, back | {"debit": owed_to("minato"), "credit": purse(RIDER)})
    rider = books.rider(RIDER, 10)
    assert rider is not None
    assert (rider.rides[0].corrected, rider.booked) == (-30, 70)


def test_grants_are_told_even_when_the_card_never_rode_and_practice_is_not_a_ride(store: Store, books: ConsoleBooks) -> None:
    given = {"rider": RIDER, "fiscal_year": 2026, "points": 2_000, "at_ms": NOW, "ref": None}
    add(store, schema.rider_grant, given | {"number": 1, "kind": "yearly"}, given | {"number": 2, "kind": "correction"})
    book(store, an_entry(1, flags=Flags.PRACTICE))
    rider = books.rider(RIDER, 10)
    assert rider is not None
    assert (rider.rides, rider.reading) == ((), None)
    assert [(grant.number, grant.correction) for grant in rider.grants] == [(2, True), (1, False)]


def test_only_so_many_rides_are_told_and_how_many_there_are(store: Store, books: ConsoleBooks) -> None:
    book(store, *(an_entry(seq, points=1, spent=seq - 1) for seq in range(1, 6)))
    rider = books.rider(RIDER, 2)
    assert rider is not None
    assert (len(rider.rides), rider.rides_total, rider.booked) == (2, 5, 5)


# --- months -----------------------------------------------------------------------------------------------------------------------------


def test_a_month_on_the_page_is_the_bill_and_each_ride_is_counted_once(store: Store, books: ConsoleBooks) -> None:
    elsewhere = Place("kita", "北1", 1, "K1", "t", "", "", DAY)
    book(
        store,
        an_entry(1, points=100),
        an_entry(2, Kind.FREE, points=0),
        an_entry(3, Kind.UNKNOWN, points=50, spent=100),
        an_entry(4, points=70, place=elsewhere),
        an_entry(6, points=999, flags=Flags.PRACTICE),
        an_entry(7, points=0, fare=Fare(270, 0, 270, 1, 0)),  # coins alone
        an_entry(8, points=0, fare=Fare(200, 0, 100, 2, 0)),  # a holder who rides free, and a companion who pays coins
    )
    kita, minato = books.month(NOVEMBER, NOW + 86_400_000 * 5).bills
    assert (kita.whose, kita.tally) == ("kita", Tally(1, 70, 70))
    assert (minato.whose, minato.tally) == ("みなと町営バス", Tally(1, 100, 100, 2, 250, 1, 370))
    assert (minato.rides, minato.yen, minato.remarks.unknown) == (3, 350, 1)
    assert books.month(Month(2026, 10), NOW).bills == ()


def test_bills_that_were_closed_are_listed_the_newest_first(store: Store, books: ConsoleBooks) -> None:
    row = {"operator": "minato", "kind": "final", "figures": {"rides": 3, "points": 100, "yen": 350}}
    add(store, schema.settlement, *(row | {"month": month, "at_ms": month} for month in (202609, 202610)))
    assert [(name, each.month, each.yen) for name, each in books.month(NOVEMBER, NOW).closed] == [
        ("みなと町営バス", Month(2026, 10), 350),
        ("みなと町営バス", Month(2026, 9), 350),
    ]
