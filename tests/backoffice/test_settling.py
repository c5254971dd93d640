"""Settlement day and grant day, as commands over both databases: what they say before, what they do, and that they do it once."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest
import sqlalchemy as sa

from backoffice import queries, schema
from backoffice.bill import Month
from backoffice.billing import CannotBill, Setting, basis, bill_arguments, run_bill
from backoffice.settings import SCHEME, Told, read
from backoffice.settling import grant_arguments, run_grant, run_settle, settle_arguments
from backoffice.store import Store
from drivers.cards.purse import FULL, Counters, RegLog
from fares.faults import Unusable
from ledger.batch import Batch
from ledger.chain import genesis
from ledger.codec import encode
from ledger.entry import Entry, Fare, Kind, Medium, Place, When

JAPAN = timezone(timedelta(hours=9))


@dataclass(frozen=True, slots=True)
class Town:
    zone: tzinfo = JAPAN
    scheme: Path = SCHEME
    form: Path | None = None
    operators: Mapping[str, str] = field(default_factory=lambda: {"minato": "みなと町営バス"})
    told: Told = Told.EN


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=JAPAN).timestamp() * 1000)


def settle(store: Store, *words: str, now: str = "2026-12-16T09:00", town: Setting | None = None) -> int:
    return run_settle(asked(settle_arguments, *words), store, town or Town(), at(now))


def grant(store: Store, *words: str, now: str = "2027-04-10T09:00", town: Setting | None = None) -> int:
    return run_grant(asked(grant_arguments, *words), store, town or Town(), at(now))


def asked(arguments: Callable[[argparse.ArgumentParser], None], *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    arguments(parser)
    return parser.parse_args(words)


def a_ride(device: int, seq: int, day: str, kind: Kind, *, spent: int, points: int) -> Entry:
    """One card's ride: it had ``spent`` before, and ``points`` are taken."""
    before = Counters(FULL - spent, FULL - spent // 100, bytes(8) if not spent else RegLog(1, spent, 1).block(), 20 + spent // 100)
    after = replace(
        before, rega=before.rega - points, regb=before.regb - 1, regc=RegLog(1, spent + points, 1).block(), wcnt=before.wcnt + 1
    )
    medium = Medium(bytes(8), 2000, 1, bytes(8), before, after if points else None)
    service_day = (date.fromisoformat(day) - date(1970, 1, 1)).days
    fare = Fare(points, points, 0, 1, 0)
    place = Place("minato", service_day=service_day)
    return Entry(kind, When(1, seq, at(f"{day}T10:00"), 4), place, medium, fare, device=device, epoch=1, seq=seq)


def book(store: Store, received: str, *entries: Entry) -> None:
    """A vehicle's first entries arrive."""
    data = tuple(encode(entry) for entry in entries)
    sent = Batch(entries[0].device, 1, 1, genesis(entries[0].device, 1), data, at(received))
    store.receive(sent.entries[0], bytes(8), sent, at(received))


@pytest.fixture
def town_books(books: Store) -> Store:
    """A ride of November whose outcome its bus never learned; another bus read the card on 3 December."""
    with books.writing() as connection:
        device = {"name": "minato-1", "operator": "minato", "created_ms": at("2026-11-01T00:00")}
        connection.execute(sa.insert(schema.device), device | {"id": 1})
    book(
        books,
        "2026-11-10T20:00",
        a_ride(1, 1, "2026-11-10", Kind.PAID, spent=0, points=100),
        a_ride(1, 2, "2026-11-20", Kind.UNKNOWN, spent=100, points=100),
    )
    book(books, "2026-12-03T20:00", a_ride(2, 1, "2026-12-03", Kind.PAID, spent=200, points=100))
    return books


def count(store: Store, table: sa.Table) -> int:
    with store.reading() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_a_trial_says_what_would_be_booked_and_writes_nothing(town_books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = count(town_books, schema.posting)
    assert settle(town_books, "--dry-run") == 0
    told = capsys.readouterr().out
    assert told.startswith("(a trial; nothing was written into the books)\n")
    assert "みなと町営バス, ridden 2026-11: found to be paid: 1 rides, 100 points" in told
    assert (count(town_books, schema.posting), count(town_books, schema.settlement)) == (before, 0)


def test_settlement_day_books_once_and_closes_the_bills_that_are_due(town_books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert settle(town_books) == 0
    told = capsys.readouterr().out
    assert "found to be paid: 1 rides, 100 points" in told
    assert "みなと町営バス, 2026-11: closes with 2 rides, 200 points, 200 yen" in told
    assert "2026-12" not in told.replace("until 2026-12-16", "")
    before = count(town_books, schema.posting)
    assert settle(town_books) == 0
    assert "There is nothing new to book." in capsys.readouterr().out
    assert (count(town_books, schema.posting), count(town_books, schema.settlement)) == (before, 1)


def test_a_settlement_that_was_forgotten_is_made_as_of_its_day(town_books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    settle(town_books, "--until", "2026-12-02")
    told = capsys.readouterr().out
    assert "cannot be told: 1 payments, 100 points (on no bill)" in told
    assert "found to be paid" not in told
    assert count(town_books, schema.settlement) == 0
    settle(town_books, "--until", "2026-12-15")
    assert "closes with 2 rides" in capsys.readouterr().out


def test_a_month_without_rides_is_closed_too_once_there_is_a_vehicle(town_books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    settle(town_books, now="2027-02-20T09:00")
    told = capsys.readouterr().out
    assert [line.split(", ")[1][:7] for line in told.splitlines() if "closes with" in line] == ["2026-11", "2026-12", "2027-01"]


@pytest.mark.parametrize(
    "when",
    [
        When(1, 0, 253_402_300_000_000, 4),  # in Japan it is the year 10000 already
        When(1, 2**62, at("2026-11-12T10:00"), 0),  # has been running for a hundred million years
    ],
)
def test_a_clock_that_cannot_be_does_not_keep_the_others_from_their_bill(
    town_books: Store, when: When, capsys: pytest.CaptureFixture[str]
) -> None:
    ride = a_ride(3, 1, "1970-01-01", Kind.PAID, spent=700, points=100)  # its day is not known
    book(town_books, "2026-11-12T20:00", replace(ride, when=when), replace(ride, seq=2, when=When(1, 5, at("2026-11-12T10:00"), 4)))
    assert settle(town_books) == 0
    assert "2026-11: closes with 3 rides, 300 points, 300 yen" in capsys.readouterr().out
    assert count(town_books, schema.reject) == 1


def test_an_unknown_debit_of_no_card_is_nobody_s(town_books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    ride = a_ride(3, 1, "2026-11-12", Kind.UNKNOWN, spent=0, points=100)
    book(town_books, "2026-11-12T20:00", replace(ride, medium=None))
    settle(town_books)
    told = capsys.readouterr().out
    assert "unknown outcome: 1\n" in told  # the one of the town
    assert "cannot be told" not in told


def test_settling_speaks_the_citys_language_or_the_one_that_is_asked_for(town_books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    settle(town_books, "--dry-run", town=Town(told=Told.JA))
    assert "みなと町営バス　2026年11月乗車分: 支払い済みと確認 1件 100ポイント" in capsys.readouterr().out
    settle(town_books, "--dry-run", "--language", "both")
    told = capsys.readouterr().out
    assert told.index("試算") < told.index("a trial")


@pytest.mark.parametrize(("until", "why"), [("soon", "write a day as YYYY-MM-DD"), ("2027-01-01", "still to come")])
def test_a_day_that_is_none_or_to_come_is_told_in_a_sentence(town_books: Store, until: str, why: str) -> None:
    with pytest.raises(CannotBill, match=why):
        settle(town_books, "--until", until)


def test_a_closed_bill_that_comes_out_otherwise_later_is_not_made(town_books: Store, tmp_path: Path) -> None:
    settle(town_books)
    form = tmp_path / "other.toml"
    form.write_text("format = 1\n[terms]\nprovisional_at = 05:00:00\nfinal_after_days = 1\n")
    options = asked(bill_arguments, "--operator", "minato", "--month", "2026-11", "--form", str(form))
    with pytest.raises(CannotBill, match=r"closed on 2026-12-16 with 2 rides, 200 points and 200 yen, and now comes to 1, 100 and 100"):
        run_bill(options, town_books, Town(), at("2026-12-16T09:00"))


def test_what_a_point_is_worth_stands_in_the_scheme_alone(town_books: Store, tmp_path: Path) -> None:
    settle(town_books, "--until", "2026-12-10")
    scheme = tmp_path / "two.toml"
    text = SCHEME.read_text(encoding="utf-8")
    examples = text[text.index("# ── 乗ったとき") :]
    riding = examples.replace("points = 100, cash = 0", "points = 50, cash = 0").replace(
        "points = 300, cash = 440", "points = 300, cash = 140"
    )
    riding = riding.replace("points = 640, cash = 0", "points = 320, cash = 0")
    scheme.write_text(text.replace("yen_per_point = 1\n", "yen_per_point = 2\n").replace(examples, riding), encoding="utf-8")
    with town_books.reading() as connection:
        one, two = (
            basis(Town(scheme=file)).bill(connection, "minato", Month(2026, 11), at("2026-12-16T09:00")) for file in (SCHEME, scheme)
        )
    assert (one.points, one.yen, two.points, two.yen) == (200, 200, 200, 400)
    with pytest.raises(CannotBill, match=r"none\.toml: there is no such file"):
        basis(Town(scheme=tmp_path / "none.toml"))
    form = tmp_path / "old.toml"
    form.write_text("format = 1\n[terms]\nprovisional_at = 05:00:00\nfinal_after_days = 14\nyen_per_point = 1\n")
    with pytest.raises(CannotBill, match=r"terms\.yen_per_point: is not a setting"):
        basis(Town(), form)


# --- grant day ----------------------------------------------------------------------------------------------------------------------------


def test_grants_are_tried_made_once_and_corrected_by_a_late_ride(town_books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert grant(town_books, "--dry-run") == 0
    assert "yearly: 1 riders, 300 points" in capsys.readouterr().out
    assert count(town_books, schema.rider_grant) == 0
    assert grant(town_books) == 0
    assert capsys.readouterr().out == "Grants for fiscal year 2027\nyearly: 1 riders, 300 points\n"
    assert grant(town_books) == 0
    assert "There is nothing to grant." in capsys.readouterr().out
    book(town_books, "2027-04-10T10:00", a_ride(3, 1, "2027-03-31", Kind.PAID, spent=300, points=100))
    assert grant(town_books, now="2027-04-11T09:00", town=Town(told=Told.JA)) == 0
    assert "訂正: 1人 100ポイント" in capsys.readouterr().out
    with town_books.reading() as connection:
        assert [each.points for each in queries.granted_to(connection, bytes(8))] == [300, 100]


@pytest.mark.parametrize(
    ("year", "why"), [("2028", "from its 1 April on; name 2027"), ("0", "name 2027"), ("2010", "was not in force on 2010-04-01")]
)
def test_a_year_that_cannot_be_granted_is_told_in_a_sentence(town_books: Store, year: str, why: str) -> None:
    with pytest.raises(CannotBill, match=why):
        grant(town_books, "--year", year)


def test_records_that_are_missing_are_named_where_grants_are_made(town_books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with town_books.writing() as connection:
        island = {"device": 1, "epoch": 1, "first_seq": 6, "last_seq": 9, "previous": bytes(32), "head": bytes(32)}
        connection.execute(sa.insert(schema.island), island)
    grant(town_books, "--dry-run")
    assert "3 entries have not arrived." in capsys.readouterr().out


@pytest.mark.parametrize("month", ["9999-12", "2027-02", "1969-12", "0001-01"])
def test_a_month_that_has_not_begun_or_lies_before_all_books_is_told_in_a_sentence(town_books: Store, month: str) -> None:
    options = asked(bill_arguments, "--operator", "minato", "--month", month)
    with pytest.raises(CannotBill, match=f"--month {month}: name a month from 1970-01 to 2027-01"):
        run_bill(options, town_books, Town(), at("2027-01-16T09:00"))


def test_a_ride_that_only_clock_repair_can_date_lets_its_month_close(books: Store, capsys: pytest.CaptureFixture[str]) -> None:
    undated = a_ride(1, 1, "1970-01-01", Kind.PAID, spent=0, points=100)
    book(books, "2026-11-10T20:00", replace(undated, when=When(1, 1, at("2026-11-10T10:00"), 4)))
    book(books, "2026-12-03T20:00", a_ride(2, 1, "2026-12-03", Kind.PAID, spent=200, points=100))
    settle(books)
    assert "2026-11: closes with 1 rides, 100 points, 100 yen" in capsys.readouterr().out


# --- the settings -------------------------------------------------------------------------------------------------------------------------


def test_the_settings_name_scheme_form_operators_and_language_and_tell_every_fault(tmp_path: Path) -> None:
    operator = '[[operator]]\nid = "minato"\nname = "みなと"\n'
    text = f'format = 1\nlanguage = "ja"\n[scheme]\nfile = "town.toml"\n[bill]\nform = "form.toml"\n{operator}'
    found = read(text.encode(), "city.toml", tmp_path)
    assert (found.scheme, found.form) == (tmp_path / "town.toml", tmp_path / "form.toml")
    assert (found.operators, found.told.languages) == ({"minato": "みなと"}, ("ja",))
    assert read(b"format = 1\n", "city.toml", tmp_path).scheme == SCHEME
    with pytest.raises(Unusable) as caught:
        read((text + '[[operator]]\nid = "minato"\nname = ""\n').replace('"ja"', '"fr"').encode(), "city.toml", tmp_path)
    assert [fault.split(",")[1].split(":")[0].strip() for fault in caught.value.faults] == [
        "operator[2].name",
        "operator[2].id",
        "language",
    ]
