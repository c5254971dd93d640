"""The bill from raw batches alone is the bill of the books, to the yen."""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import partial
from pathlib import Path
from random import Random
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice import queries, raw, schema
from backoffice.bill import Bill, Month, Part, Terms, bill
from backoffice.billing import CannotBill, basis, bill_arguments, run_bill
from backoffice.book import PostingKind, postings_of
from backoffice.console_queries import ConsoleBooks
from backoffice.grants import GrantKind, RiderGrant
from backoffice.registry import CityBooks
from backoffice.rows import flaw
from backoffice.settings import SCHEME, Told
from backoffice.settle import days_of, movements, settle
from backoffice.store import Store
from backoffice.witness import Arrived, key_of
from drivers.cards.purse import FULL, Counters, RegLog, compare
from drivers.cards.purse import Outcome as Debit
from drivers.devices.clock import ClockState
from fares.scheme import load
from ledger import batch, seal
from ledger.batch import Batch
from ledger.chain import follow, genesis
from ledger.codec import decode, encode
from ledger.entry import Entry, Fare, Flags, Kind, Medium, Outcome, Place, When
from ledger.errors import MalformedBatch, MalformedSeal
from ledger.seal import Algorithm, Content, Sealed

JAPAN = timezone(timedelta(hours=9))
STARTS = time(3)
SCHEME_CHANGES = date(2026, 12, 1)
HOUR, DAY = 3_600_000, 86_400_000
EPOCH_DAY = date(1970, 1, 1)


def worth(day: date) -> int:
    return 1 if day < SCHEME_CHANGES else 2


def one_yen(_: date) -> int:
    return 1


TERMS = Terms(JAPAN, time(5), 14, worth)
RULES = raw.Rules(JAPAN, time(5), 14, worth, STARTS)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=JAPAN).timestamp() * 1000)


def day_of(_: Entry, utc_ms: int) -> int:
    local = datetime.fromtimestamp(utc_ms / 1000, JAPAN)
    return (local.date() - EPOCH_DAY).days - (local.time() < STARTS)


class Seeds(Protocol):
    def seeds(self, small: int, full: int) -> Iterator[int]: ...


class Stamp:
    """A signer whose signatures nobody checks."""

    algorithm = Algorithm.EDDSA
    public = bytes(32)

    def sign(self, message: bytes) -> bytes:
        return bytes(64) if message else b""


# --- a month as it may happen -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Vehicle:
    device: int
    operator: str
    entries: list[bytes] = field(default_factory=list[bytes])
    times: list[int] = field(default_factory=list[int])
    unknown: dict[int, Entry] = field(default_factory=dict[int, Entry])
    boot: int = 0
    booted_ms: int = 0
    clock: ClockState = ClockState.NTP
    epoch: int = 1
    image: list[Entry] = field(default_factory=list[Entry])  # debits that were open when its disk was copied


@dataclass(slots=True)
class World:
    """Vehicles and cards from 25 October to 5 December; ``sent``: what the city got, and when."""

    random: Random
    taps: int
    cards: dict[int, Counters] = field(default_factory=dict[int, Counters])
    sent: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])

    def live(self) -> "World":
        random = self.random
        vehicles = [Vehicle(number, operator) for number, operator in enumerate(("sanko", "north", "sanko"), 1)]
        begin, end = at("2026-10-25T00:00"), at("2026-12-05T00:00")
        lost: list[Vehicle] = []
        for now in sorted(random.randrange(begin, end) for _ in range(self.taps)):
            number = random.randrange(len(vehicles))
            if random.random() < 0.03:
                lost.append(vehicles[number])
                vehicles[number] = self._restored(vehicles[number], now)
            self._tap(vehicles[number], now)
        for vehicle in (*vehicles, *lost):
            self._send(vehicle)
        random.shuffle(self.sent)
        return self

    def _restored(self, old: Vehicle, now: int) -> Vehicle:
        """The vehicle on an image of its disk: it begins a new epoch, and the debits that were open in the image are unknown to it."""
        new = Vehicle(old.device, old.operator, boot=old.boot, booted_ms=old.booted_ms, clock=old.clock, epoch=old.epoch + 1)
        when = replace(self._when(new, now), boot=0, mono_ms=0)
        self._keep(new, Entry(Kind.EPOCH, when, device=new.device, epoch=new.epoch, seq=1, reason=f"after:{old.epoch}:9"), now)
        stale = {entry.medium.rider: entry for entry in old.image if entry.medium}
        for rider, intent in sorted(stale.items()):
            unknown = replace(intent, kind=Kind.UNKNOWN, when=when, epoch=new.epoch, seq=len(new.entries) + 1)
            self._keep(new, unknown, now)
            new.unknown[int.from_bytes(rider, "big")] = unknown
        return new

    def _tap(self, vehicle: Vehicle, now: int) -> None:
        random = self.random
        if vehicle.boot == 0 or random.random() < 0.2:
            vehicle.boot, vehicle.booted_ms, vehicle.clock = vehicle.boot + 1, now, random.choice(list(ClockState))
        elif random.random() < 0.1:
            vehicle.clock = ClockState.GNSS
        card = random.randrange(5)
        purse = self.cards.setdefault(card, Counters(FULL, FULL, bytes(8), 20))
        open_debit = vehicle.unknown.pop(card, None)
        if open_debit is not None:
            self._resolve(vehicle, card, open_debit, now)
        points = random.choice([0, 100, 320])
        after = Counters(purse.rega - points, purse.regb - 1, RegLog(vehicle.device, now // 1000 & 0xFFFFFFFF, 1).block(), purse.wcnt + 1)
        kind = random.choice([Kind.PAID, Kind.PAID, Kind.FREE, Kind.UNKNOWN, Kind.OPEN, Kind.REFUSED])
        written = after if points and kind in {Kind.PAID, Kind.UNKNOWN} else None
        if kind is Kind.UNKNOWN and written is None:
            return
        cash = random.choice([0, 0, 100])
        fare = Fare(points + cash if written else cash + random.choice([0, 200]), points if written else 0, cash, 1, 0)
        entry = self._append(vehicle, kind, now, Medium(card.to_bytes(8, "big"), 2000, 1, bytes(8), purse, written), fare)
        if written and random.random() < 0.3:
            vehicle.image.append(entry)
        if kind is Kind.PAID and written:
            self.cards[card] = after
        if kind is Kind.UNKNOWN:
            vehicle.unknown[card] = entry
            if random.random() < 0.5:
                self.cards[card] = after

    def _resolve(self, vehicle: Vehicle, card: int, unknown: Entry, now: int) -> None:
        medium = unknown.medium
        assert medium is not None
        assert medium.before is not None
        assert medium.after is not None
        found = compare(medium.before, medium.after, self.cards[card])
        outcome = {Debit.DONE: Outcome.PAID, Debit.NOT_DONE: Outcome.UNPAID, Debit.OTHERS_NOT_OURS: Outcome.UNPAID}.get(found)
        if outcome is None:
            vehicle.unknown[card] = unknown
            return
        for _ in range(2 if self.random.random() < 0.05 else 1):
            word = replace(
                unknown, kind=Kind.RESOLVED, outcome=outcome, ref=unknown.seq, seq=len(vehicle.entries) + 1, when=self._when(vehicle, now)
            )
            self._keep(vehicle, word, now)

    def _append(self, vehicle: Vehicle, kind: Kind, now: int, medium: Medium, fare: Fare) -> Entry:
        when = self._when(vehicle, now)
        told = when.utc_ms
        entry = Entry(
            kind,
            when,
            Place(vehicle.operator, service_day=day_of(_ANY, told) if told else 0),
            medium,
            fare,
            flags=Flags.PRACTICE if self.random.random() < 0.03 and kind is not Kind.UNKNOWN and not medium.after else Flags.NONE,
            device=vehicle.device,
            epoch=vehicle.epoch,
            seq=len(vehicle.entries) + 1,
        )
        self._keep(vehicle, entry, now)
        return entry

    def _when(self, vehicle: Vehicle, now: int) -> When:
        clock = vehicle.clock
        drift = self.random.choice([0, 15 * 60_000, -15 * 60_000]) if clock is ClockState.RTC else 0
        told = {ClockState.UNSET: 0, ClockState.CARRIED: now - HOUR}.get(clock, now + drift)
        boot = 0 if self.random.random() < 0.05 else vehicle.boot
        return When(boot, now - vehicle.booted_ms, told, clock)

    def _keep(self, vehicle: Vehicle, entry: Entry, now: int) -> None:
        vehicle.entries.append(encode(entry))
        vehicle.times.append(now)

    def _send(self, vehicle: Vehicle) -> None:
        """Every entry at least once, in cuts that overlap, up to fifty days late."""
        count, hashes = len(vehicle.entries), [genesis(vehicle.device, vehicle.epoch)]
        for data in vehicle.entries:
            hashes.append(follow(hashes[-1], data))
        first = 0
        while first < count:
            start, stop = max(0, first - self.random.randrange(3)), min(count, first + self.random.randrange(1, 12))
            cut = Batch(
                vehicle.device, vehicle.epoch, start + 1, hashes[start], tuple(vehicle.entries[start:stop]), vehicle.times[stop - 1]
            )
            message = seal.seal(Stamp(), Content.BATCH, batch.pack(cut))
            for _ in range(self.random.randrange(1, 3)):
                self.sent.append((vehicle.times[stop - 1] + 1000 + int(50 * DAY * self.random.random() ** 4), message))
            first = stop


_ANY = Entry(Kind.BOOT, When(0, 0, 0, 0))


# --- the two roads ------------------------------------------------------------------------------------------------------------------------


def booked(sent: list[tuple[int, bytes]], operator: str, month: Month, as_of_ms: int, terms: Terms = TERMS) -> Bill:
    came = arrived(sent, as_of_ms)
    bookings = [booking for history in by_rider(came).values() for booking in settle(history).bookings]
    days = days_of(came, day_of)
    return bill(operator, month, movements(operator, came, bookings, days), terms, as_of_ms)


def arrived(sent: list[tuple[int, bytes]], as_of_ms: int) -> list[Arrived]:
    came: dict[tuple[int, int, int], Arrived] = {}
    for received_ms, message in sorted(sent, key=lambda each: each[0]):
        if received_ms <= as_of_ms:
            parts = batch.unpack(seal.parse(message, Content.BATCH, batch.MAX_SEALED).payload)
            for seq, data in enumerate(parts.entries, parts.first_seq):
                came.setdefault(
                    (parts.device, parts.epoch, seq), Arrived(decode(data, device=parts.device, epoch=parts.epoch), received_ms)
                )
    return list(came.values())


def by_rider(came: list[Arrived]) -> dict[bytes, list[Arrived]]:
    riders: dict[bytes, list[Arrived]] = defaultdict(list)
    for each in came:
        if each.entry.medium:
            riders[each.entry.medium.rider].append(each)
    return riders


def both_roads_agree(world: World, as_of_ms: int) -> int:
    """Every month's bill of both operators is the same by both roads; the yen of all of them."""
    total = 0
    for operator in ("sanko", "north"):
        for month in (Month(1970, 1), Month(2026, 10), Month(2026, 11), Month(2026, 12), Month(2027, 1)):
            by_books = booked(world.sent, operator, month, as_of_ms)
            by_raw = raw.recompute(world.sent, operator, (month.year, month.month), RULES, as_of_ms)
            assert (by_books.rides, by_books.points, by_books.yen) == (by_raw.rides, by_raw.points, by_raw.yen), (operator, month)
            total += by_raw.yen
    return total


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False), st.integers(1, 25), st.integers(at("2026-11-01T00:00"), at("2027-02-20T00:00")))
def test_the_raw_batches_give_the_same_yen_as_the_books(random: Random, taps: int, as_of_ms: int) -> None:
    both_roads_agree(World(random, taps).live(), as_of_ms)


@pytest.mark.prove(parts=6)
def test_a_busy_month_with_every_mistake_gives_the_same_yen_by_both_roads(proof: Seeds) -> None:
    for seed in proof.seeds(small=2, full=300):
        assert both_roads_agree(World(Random(seed), 250).live(), at("2027-02-20T00:00")) > 0


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(at("2026-11-01T00:00"), at("2027-02-20T00:00")))
def test_no_debit_is_booked_twice_whatever_image_was_restored(random: Random, as_of_ms: int) -> None:
    for history in by_rider(arrived(World(random, 60).live().sent, as_of_ms)).values():
        entries = {key_of(each.entry): each.entry for each in history}
        moved = [(key, posting) for key, entry in entries.items() for posting in postings_of(entry)]
        moved += [(booking.key, booking.posting) for booking in settle(history).bookings]
        times: dict[bytes, int] = defaultdict(int)
        for key, posting in moved:
            medium = entries[key].medium
            if posting.kind is PostingKind.POINTS and medium and medium.before and medium.after:
                times[medium.before.reg_block() + medium.after.reg_block()] += 1 if posting.debit.startswith("rider:") else -1
        assert set(times.values()) <= {0, 1}


def test_a_write_that_the_card_did_not_count_speaks_against_no_later_debit() -> None:
    """The power went within the card: the register was stored and WCNT was not. What RESOLVED says WCNT would be was never seen."""
    first = Counters(FULL, FULL, bytes(8), 20)
    second = Counters(FULL - 100, FULL - 1, RegLog(1, 1000, 1).block(), 21)
    third = Counters(FULL - 200, FULL - 2, RegLog(1, 2000, 1).block(), 21)
    now, world = at("2026-11-10T09:00"), World(Random(5), 0)
    one, other = Vehicle(1, "sanko", boot=1, booted_ms=now), Vehicle(2, "sanko", boot=1, booted_ms=now)

    def card(before: Counters, after: Counters) -> Medium:
        return Medium(bytes(8), 2000, 1, bytes(8), before, after)

    unknown = world._append(one, Kind.UNKNOWN, now, card(first, second), Fare(100, 100, 0, 1, 0))
    world._keep(one, replace(unknown, kind=Kind.RESOLVED, outcome=Outcome.PAID, ref=1, seq=2), now)
    uncounted = replace(second, wcnt=20)
    world._append(one, Kind.UNKNOWN, now, card(uncounted, third), Fare(100, 100, 0, 1, 0))
    world._append(other, Kind.FREE, now + DAY, card(third, third), Fare(0, 0, 0, 1, 0))
    world._send(one)
    world.sent = [(now + HOUR, message) for _, message in world.sent]
    told = len(world.sent)
    world._send(other)
    world.sent[told:] = [(now + 2 * DAY, message) for _, message in world.sent[told:]]
    assert both_roads_agree(world, at("2027-02-20T00:00")) == 200


def test_a_batch_that_comes_three_times_counts_once() -> None:
    world = World(Random(5), 60).live()
    once = raw.recompute(world.sent, "sanko", (2026, 11), RULES, at("2027-02-20T00:00"))
    thrice = [(received_ms + later, message) for received_ms, message in world.sent for later in (0, 60 * DAY, 70 * DAY)]
    assert raw.recompute(thrice, "sanko", (2026, 11), RULES, at("2027-02-20T00:00")) == once


_FREE = Entry(
    Kind.FREE, When(1, 5, at("2026-11-02T10:00"), int(ClockState.NTP)), Place("sanko", service_day=20_759), Medium(bytes(8)), Fare(100)
)


@pytest.mark.parametrize(
    "entry",
    [
        *(replace(_FREE, place=Place("sanko", service_day=day)) for day in (376_200, 2**60)),
        replace(_FREE, when=replace(_FREE.when, mono_ms=2**62)),
        replace(_FREE, when=replace(_FREE.when, clock=2**31)),
        *(replace(_FREE, fare=fare) for fare in (Fare(2**31), Fare(100, adults=2**31), Fare(100, children=2**31))),
        replace(_FREE, versions=replace(_FREE.versions, card_key=2**40)),
        replace(_FREE, versions=replace(_FREE.versions, rider_key=2**40)),
        replace(_FREE, place=replace(_FREE.place, vehicle="a\0b")),
        replace(_FREE, place=replace(_FREE.place, route="a\0b")),
        replace(_FREE, place=replace(_FREE.place, trip="a\0b")),
        replace(_FREE, place=replace(_FREE.place, boarding="a\0b")),
        replace(_FREE, place=replace(_FREE.place, alighting="a\0b")),
        replace(_FREE, versions=replace(_FREE.versions, software="\0")),
        replace(_FREE, row="\0"),
        replace(_FREE, reason="\0"),
    ],
)
def test_what_the_city_set_aside_because_it_cannot_be_counts_on_neither_road(entry: Entry) -> None:
    assert flaw(entry)
    assert not flaw(_FREE)

    def come_to(entry: Entry) -> raw.Sum:
        payload = batch.pack(Batch(1, 1, 1, genesis(1, 1), (encode(replace(entry, device=1, epoch=1, seq=1)),), 0))
        sent = [(at("2026-11-02T20:00"), seal.seal(Stamp(), Content.BATCH, payload))]
        return raw.recompute(sent, "sanko", (2026, 11), RULES, at("2027-02-20T00:00"))

    assert come_to(_FREE) == raw.Sum(1, 0, 100)
    assert come_to(entry) == raw.Sum(0, 0, 0)


def test_who_wants_to_check_the_seals_again_is_asked_for_each() -> None:
    world = World(Random(5), 20).live()
    asked: list[Sealed] = []
    raw.recompute(world.sent, "sanko", (2026, 11), RULES, at("2027-02-20T00:00"), trusted=asked.append)
    assert len(asked) == len(world.sent)


def test_what_no_city_can_have_accepted_is_refused() -> None:
    with pytest.raises(MalformedSeal):
        raw.recompute([(1, b"nothing")], "sanko", (2026, 11), RULES, at("2027-02-20T00:00"))
    with pytest.raises(MalformedBatch):
        raw.recompute([(1, seal.seal(Stamp(), Content.BATCH, b"nothing"))], "sanko", (2026, 11), RULES, at("2027-02-20T00:00"))


def test_the_made_up_months_have_every_kind_of_line_and_late_months() -> None:
    told = [
        booked(world.sent, operator, Month(2026, month), at("2027-02-20T00:00"))
        for world in [World(Random(seed), 200).live() for seed in range(3)]
        for operator in ("sanko", "north")
        for month in (10, 11, 12)
    ]
    assert {line.part for each in told for line in each.lines} == set(Part)
    assert any(line.month != each.month for each in told for line in each.lines)
    assert any(each.tally.coin_rides for each in told)
    assert all(each.tally.point_rides + each.tally.free_rides == each.rides for each in told)


# --- through the database and the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def store(books: Store) -> Store:
    """Empty books, once in each database."""
    return books


def deliver(store: Store, world: World) -> None:
    for received_ms, message in sorted(world.sent, key=lambda each: each[0]):
        parts = seal.parse(message, Content.BATCH, batch.MAX_SEALED)
        store.receive(message, parts.kid, batch.unpack(parts.payload), received_ms)


@dataclass(frozen=True, slots=True)
class Town:
    zone: tzinfo = JAPAN
    scheme: Path = SCHEME
    form: Path | None = None
    operators: Mapping[str, str] = field(default_factory=lambda: {"sanko": "三交バス"})
    told: Told = Told.EN


def ask(store: Store, *words: str, now: str = "2027-02-20T00:00") -> int:
    parser = argparse.ArgumentParser()
    bill_arguments(parser)
    return run_bill(parser.parse_args(["--operator", "sanko", *words]), store, Town(), at(now))


@pytest.mark.parametrize("month", [10, 11, 12])
def test_the_database_gives_the_bill_of_the_lists_and_the_command_compares_it_with_the_raw_batches(
    store: Store, month: int, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(Random(11), 90).live()
    deliver(store, world)
    assert ask(store, "--month", f"2026-{month}", "--from-raw") == 0
    assert "the same." in capsys.readouterr().out
    flat = replace(TERMS, yen_per_point=one_yen)
    with store.reading() as connection:
        told = queries.bill_of(connection, "sanko", Month(2026, month), flat, at("2027-02-20T00:00"), day_of=partial(day_of, _ANY))
    expected = booked(world.sent, "sanko", Month(2026, month), at("2027-02-20T00:00"), flat)
    assert (told.lines, told.days, told.tally) == (expected.lines, expected.days, expected.tally)


@pytest.mark.parametrize("month", [10, 11, 12])
def test_the_clerks_page_shows_the_bill_of_a_simulated_month(store: Store, month: int, tmp_path: Path) -> None:
    deliver(store, World(Random(11), 90).live())
    assert ask(store, "--month", f"2026-{month}", "--csv", str(tmp_path / "bill.csv")) == 0
    csv_rows = list(csv.reader((tmp_path / "bill.csv").read_text(encoding="utf-8-sig").splitlines()))[1:]
    page = ConsoleBooks(store, CityBooks(store), basis(Town()), Town().operators).month(Month(2026, month), at("2027-02-20T00:00"))
    (shown,) = (each for each in page.bills if each.operator == "sanko")
    assert csv_rows[-1] == ["三交バス", f"2026-{month}", "確定", "合計", "", "", str(shown.rides), str(shown.points), str(shown.yen)]
    free = [row for row in csv_rows if "無料" in row[3]]
    assert sum(int(row[6]) for row in free) == sum(line.rides for line in shown.lines if line.part in {Part.FREE, Part.LATE_FREE})
    ((name, closed),) = page.closed
    assert (name, closed.agrees(shown)) == ("三交バス", True)
    assert shown.tally.point_rides + shown.tally.free_rides == shown.rides


def test_settling_again_adds_nothing(store: Store) -> None:
    deliver(store, World(Random(14), 90).live())
    first = queries.settle_all(store)
    assert first.bookings > 0
    assert queries.settle_all(store) == queries.Added(first.riders, 0, 0)


def test_the_command_writes_csv_and_pdf(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(store, World(Random(11), 60).live())
    words = ("--csv", str(tmp_path / "bill.csv"), "--encoding", "cp932", "--pdf", str(tmp_path / "bill.pdf"))
    assert ask(store, "--month", "2026-11", *words) == 0
    assert (tmp_path / "bill.csv").read_bytes().decode("cp932").startswith("事業者,")
    assert (tmp_path / "bill.pdf").read_bytes().startswith(b"%PDF-")
    assert "三交バス, 2026-11: final" in capsys.readouterr().out


def test_what_cannot_be_billed_is_told_in_a_sentence(store: Store, tmp_path: Path) -> None:
    deliver(store, World(Random(11), 60).live())
    with pytest.raises(CannotBill, match=r"--month 2026-13: write a month as YYYY-MM"):
        ask(store, "--month", "2026-13")
    with pytest.raises(CannotBill, match=r"--operator nobody: no vehicle and no ride"):
        ask(store, "--operator", "nobody", "--month", "2026-11")
    with pytest.raises(CannotBill, match=r"cannot be written"):
        ask(store, "--month", "2026-11", "--csv", str(tmp_path / "no" / "bill.csv"))
    with pytest.raises(CannotBill, match=r"cannot be read"):
        ask(store, "--month", "2026-11", "--form", str(tmp_path / "none.toml"))


def test_books_that_differ_from_the_raw_batches_are_not_billed(store: Store) -> None:
    deliver(store, World(Random(11), 60).live())
    row = {"device": 1, "epoch": 1, "seq": 1, "leg": 91, "service_day": day_of(_ANY, at("2026-11-05T12:00")), "kind": 1}
    with store.writing() as connection:
        connection.execute(
            schema.posting.insert(),
            row | {"debit": "rider:00", "credit": "operator:sanko:points", "amount": 7, "at_ms": at("2026-11-06T12:00")},
        )
    with pytest.raises(CannotBill, match=r"do not send this bill"):
        ask(store, "--month", "2026-11", "--from-raw")


def test_a_grant_is_written_once(store: Store) -> None:
    grant = RiderGrant(bytes(8), 2027, 2, 700, GrantKind.YEARLY, 1)
    assert [queries.keep_grant(store, grant), queries.keep_grant(store, grant)] == [True, False]
    with store.reading() as connection:
        assert queries.granted_to(connection, bytes(8)) == [grant]


def test_grants_over_the_citys_entries_are_brought_up_to_date_once(store: Store) -> None:
    world = World(Random(3), 60).live()
    deliver(store, world)
    scheme = load(SCHEME)
    first = list(queries.grants_due(store, scheme, 2027, 1, day_of=partial(day_of, _ANY)))
    assert first
    assert all(queries.keep_grant(store, grant) for grant in first)
    assert all(grant.kind is GrantKind.YEARLY and 0 < grant.points <= 2000 for grant in first)
    assert list(queries.grants_due(store, scheme, 2027, 2, day_of=partial(day_of, _ANY))) == []
    with store.reading() as connection:
        found = connection.execute(schema.posting.select().where(schema.posting.c.kind == int(PostingKind.GRANT))).all()
    assert sum(row.amount for row in found) == sum(grant.points for grant in first)
    assert {row.debit for row in found} == {"city:grants"}
