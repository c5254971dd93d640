"""Two buses, one card, power: whatever is cut off anywhere, each point that left a card is billed once or has a name.

A rider touches on one bus, and in the middle of it something goes: the power, the process, the hand, a write within the card's own memory.
The next touch is on the *other* bus, which knows nothing of it, and may be cut off as well. In the evening both ledgers go up to the city
as sealed batches, cut in two ways, shuffled, some of them twice, with a settlement now and then in between; the door, the books and the
settlement are the real ones.

Then the cards are laid beside the books. A card twin remembers every value that its register ever had, so each step down is one debit (or
one torn write) and there is no arguing about it. Of each step exactly one of two things must hold: one entry is booked for it, for as many
points as were taken; or the city names a debit that it cannot tell, from this register, of this card, and says why. Nothing is booked
without a step. Sums then cannot but agree; they are compared all the same, for each card and in total, with the bill and with the city's
own account of the card.

Small in a test. Under ``make prove`` thousands of days in one process, and hundreds of ``kill -9`` of real stations on a real serial line
and a real disk, at random microseconds.
"""

import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from datetime import time as hour
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from backoffice import keys, queries, raw
from backoffice.bill import Month, Terms
from backoffice.city import Application, City, Pace
from backoffice.histories import history
from backoffice.registry import CityBooks
from backoffice.settle import Trouble
from backoffice.store import Store
from backoffice.witness import Judgement, Verdict, account, judge
from drivers.cards.purse import digest
from drivers.devices.keypad import DriverKey as Key
from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import REG, Delay, Faults, LiteSCard, Tear, Torn
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.emulated.pn532_pty import Pn532Pty
from drivers.signing import Ed25519Key, SignatureChecker
from firmware.demo_stage import BusDied, Crew
from firmware.demo_station import Post
from firmware.keyring import OneKey
from firmware.laws import CardStory
from firmware.rehearsal import LINE_RATE, TURNS_TO_EMPTY, Town, Vehicle
from ledger import stick
from ledger.entry import Counters, Entry
from ledger.store import LedgerFile
from validator.journey import Tariff

NewTown = Callable[[int], AbstractContextManager[Town]]
Block = bytes

JAPAN = ZoneInfo("Asia/Tokyo")
APRIL = Month(2026, 4)
ARRIVES_MS = int(datetime(2026, 4, 2, 5, 0, tzinfo=JAPAN).timestamp() * 1000)
BILLED_MS = int(datetime(2026, 7, 1, tzinfo=JAPAN).timestamp() * 1000)
TERMS = Terms(JAPAN, hour(5), 14, lambda _: 1)
RULES = raw.Rules(JAPAN, hour(5), 14, lambda _: 1, hour(3))
CITY = Ed25519Key(bytes(range(32)))
POINTS = 2000
REASONS = frozenset({"not seen since", "others debited", "torn"})


def key_of_device(device: int) -> Ed25519Key:
    return Ed25519Key(device.to_bytes(32, "big"))


# ── the city ──


@dataclass
class Office:
    """The city: its door with the books behind it. Its clock stands where a test puts it."""

    store: Store
    now_ms: int = ARRIVES_MS
    city: City = field(init=False)

    def __post_init__(self) -> None:
        self._books = CityBooks(self.store)
        self.city = City(self._books, (CITY,), SignatureChecker(), lambda: self.now_ms, Pace())

    def enrols(self, device: int) -> None:
        code, key = keys.new_code(lambda size: device.to_bytes(size, "big")), key_of_device(device)
        self._books.add_device(device, f"bus-{device}", "minato", self.now_ms)
        self._books.give_code(device, keys.code_digest(code), self.now_ms, self.now_ms + 3_600_000)
        self.city.enrol(Application(code, key.algorithm, key.public, key.sign(keys.proof_message(code))))

    def hears(self, dice: random.Random, ledgers: Sequence[Path]) -> None:
        """All of these ledgers, in batches of two cuts, in any order, some of them twice, and a settlement here and there."""
        batches = [sealed for path in ledgers for size in (dice.randrange(3, 16), 200) for sealed in batches_of(path, size)]
        batches += dice.sample(batches, len(batches) // 4)
        dice.shuffle(batches)
        for sealed in batches:
            self.now_ms += dice.randrange(7_200_000)
            self.city.batch(sealed)
            if dice.random() < 0.2:
                self.settles()
        self.settles()

    def settles(self) -> None:
        """What the city books by itself."""
        queries.settle_all(self.store)

    def execute(self, statement: str) -> None:
        """Meddle with the books, as nobody can who comes through the program."""
        with self.store.writing() as connection:
            for trigger in connection.scalars(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                connection.execute(sa.text(f"DROP TRIGGER {trigger}"))
            connection.execute(sa.text(statement))


def batches_of(path: Path, size: int) -> list[bytes]:
    with LedgerFile.open_read_only(path) as ledger:
        assert ledger.verify().findings == []
        return [sealed for _, sealed in stick.batches(ledger, OneKey(key_of_device(ledger.device)), ARRIVES_MS, size)]


# ── the cards beside the books ──


@dataclass(frozen=True)
class Claim:
    """What is booked for one entry: the step of the register that it says, and the points."""

    step: tuple[Block, Block]
    points: int


@dataclass(frozen=True)
class Sums:
    """Points of some cards: gone by the cards themselves, booked, and gone in debits that nobody can tell."""

    spent: int
    booked: int
    unknown: int

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.spent + other.spent, self.booked + other.booked, self.unknown + other.unknown)


def compared(store: Store, cards: Sequence[CardStory]) -> Sums:
    """The cards beside the books; fails where one of the two says what the other does not."""
    total = sum((compare_one(store, card) for card in cards), Sums(0, 0, 0))
    with store.reading() as connection:
        told = queries.bill_of(connection, "minato", APRIL, TERMS, BILLED_MS, day_of=lambda _: 0)
        by_raw = raw.recompute(queries.raw_batches(connection), "minato", (2026, 4), RULES, BILLED_MS)
        aside = connection.scalar(sa.text("SELECT (SELECT count(*) FROM reject) + (SELECT count(*) FROM held)"))
        alarms = set(connection.scalars(sa.text("SELECT kind FROM alarm")))
    assert total.spent == total.booked + total.unknown
    assert told.points == total.booked
    assert (by_raw.rides, by_raw.points, by_raw.yen) == (told.rides, told.points, told.yen), "the raw batches give another bill"
    assert aside == 0
    garbage = any(not is_debit(step) for card in cards for step in pairwise(card.registers))
    assert alarms <= ({Trouble.IMPOSSIBLE.value} if garbage else set()), "an honest card is suspected"
    return total


def compare_one(store: Store, card: CardStory) -> Sums:
    steps = list(pairwise(card.registers))
    claims = booked_for(store, card.rider)
    with store.reading() as connection:
        told = history(connection, card.rider)
    named = untold(judge(told))
    for judgement in named:
        assert judgement.why in REASONS
        assert judgement.entry.medium is not None
        assert judgement.entry.medium.rider == card.rider
    names = [step_of(judgement.entry) for judgement in named]
    booked, unknown = 0, 0
    for step in steps:
        found = [claim for claim in claims if claim.step == step]
        if found:
            assert [claim.points for claim in found] == [taken(step)], "booked twice, or more or less was booked than was taken"
            claims.remove(found[0])
            booked += taken(step)
        else:
            assert names_it(names, step), f"{taken(step)} points left a card and neither an entry nor an unknown says so"
            unknown += taken(step)
    assert claims == [], "booked, and never taken"
    own = account(card.rider, told)
    assert own.whole
    assert own.booked == booked
    assert own.unnamed == ()
    return Sums(taken((card.registers[0], card.registers[-1])), booked, unknown)


def booked_for(store: Store, rider: bytes) -> list[Claim]:
    """What was booked from a purse, entry by entry, read by plain SQL; what was taken back is not there any more."""
    purse = f"rider:{rider.hex()}"
    asked = """SELECT e.rega_before, e.regb_before, e.regc_before, e.rega_after, e.regb_after, e.regc_after,
                      sum(CASE WHEN p.debit = :purse THEN p.amount ELSE -p.amount END) AS points
               FROM posting p JOIN entry e ON e.device = p.device AND e.epoch = p.epoch AND e.seq = p.seq
               WHERE p.kind = 1 AND (p.debit = :purse OR p.credit = :purse)
               GROUP BY 1, 2, 3, 4, 5, 6, e.device, e.epoch, e.seq"""
    with store.reading() as connection:
        rows = connection.execute(sa.text(asked), {"purse": purse}).all()
    return [Claim((block(*row[:3]), block(*row[3:6])), int(row.points)) for row in rows if row.points]


def block(rega: int, regb: int, regc: bytes) -> Block:
    return Counters(rega, regb, bytes(regc), 0).reg_block()


def untold(judgements: Sequence[Judgement]) -> list[Judgement]:
    return [each for each in judgements if each.verdict in {Verdict.UNTOLD, Verdict.CONTRADICTED} and not each.paid_since_ms]


def step_of(entry: Entry) -> tuple[Block, Block]:
    """The register as the entry read it, and as it wrote it or would have."""
    medium = entry.medium
    assert medium is not None
    assert medium.before is not None
    assert medium.after is not None
    return medium.before.reg_block(), medium.after.reg_block()


def names_it(names: Sequence[tuple[Block, Block]], step: tuple[Block, Block]) -> bool:
    """One of these debits is this step; or began at its register and was torn, so that nobody's debit leads to where the card is now."""
    return names.count(step) == 1 or (not is_debit(step) and any(before == step[0] for before, _ in names))


def is_debit(step: tuple[Block, Block]) -> bool:
    """A step that a debit makes: the counter one down, no more points than a card can have."""
    before, after = (int.from_bytes(register[4:8], "little") for register in step)
    return before - after == 1 and 0 < taken(step) <= POINTS


def taken(step: tuple[Block, Block]) -> int:
    before, after = (int.from_bytes(register[:4], "little") for register in step)
    return before - after


# ── a day ──


class PowerCut(Exception):
    """The power goes here."""


def cut() -> None:
    raise PowerCut


WRITES = ("append", "intend", "pay", "withdraw", "expire_intents")


class CutBook:
    """The vehicle's book; the power goes before or after its write number ``at`` is durable."""

    def __init__(self, book: object, at: int, *, after: bool) -> None:
        self._book, self._at, self._after = book, at, after

    def __getattr__(self, name: str) -> object:
        method: Any = getattr(self._book, name)
        if name not in WRITES:
            return method
        self._at -= 1
        return self._cut(method) if self._at < 0 else method

    def _cut(self, method: Callable[..., object]) -> Callable[..., None]:
        def cut(*given: object) -> None:
            if self._after:
                method(*given)
            raise PowerCut

        return cut


def torn(dice: random.Random) -> Tear:
    """A write within the card that its power did not last for; one in ten leaves garbage."""
    block = Torn.GARBAGE if dice.random() < 0.1 else dice.choice((Torn.OLD, Torn.NEW))
    return Tear(block, counted=dice.random() < 0.5, seed=dice.randrange(1000))


@dataclass
class Day:
    """Two buses on one line and a rider or two, all of it drawn from the dice."""

    town: Town
    dice: random.Random
    buses: list[Vehicle] = field(default_factory=list[Vehicle])
    cards: list[LiteSCard] = field(default_factory=list[LiteSCard])
    _last: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def lived(self) -> "Day":
        dice = self.dice
        for terminal in (1, 2):
            bus = self.town.vehicle(f"bus-{terminal}", terminal, "M2")
            bus.ride_to(1)
            self.buses.append(bus)
        self.cards += [self.town.card(POINTS, delay=dice.choice(tuple(Delay))) for _ in range(dice.choice((1, 1, 2)))]
        for _ in range(dice.randrange(2, 9)):
            self.touched(dice.choice(self.cards))
        if dice.random() < 0.5:  # a free ride in the evening, on a bus that met nobody before
            bus = self.town.vehicle("bus-3", 3, "G1")
            bus.ride_to(1)
            self.buses.append(bus)
            for card in self.cards:
                bus.touch(card)
        for bus in self.buses:
            bus.press(Key.SHIFT)
            assert bus.store.intents() == []
        return self

    def touched(self, card: LiteSCard) -> None:
        """One touch, mostly on another bus than the last, and mostly cut off."""
        dice = self.dice
        last = self._last.get(card.idm, dice.randrange(2))
        self._last[card.idm] = at = 1 - last if dice.random() < 0.8 else last
        bus = self.buses[at]
        if dice.random() < 0.5:
            self.next_trip(bus)
        way = dice.choice((self.power, self.power, self.power_at_the_disk, self.tear, self.tear, self.hand, self.nothing))
        try:
            way(bus, card)
        except PowerCut:
            self.town.clock.advance_ms(100)
            dice.choice((bus.cut_power, bus.cut_power, bus.crash))()
            if dice.random() < 0.5:
                bus.turn(TURNS_TO_EMPTY)  # the card lies there still
        bus.forget_plans()
        bus.station.equipment = replace(bus.station.equipment, ledger=bus.store)
        bus.air.lift(card.idm)
        bus.turn(TURNS_TO_EMPTY)
        card._plan.clear()  # what did not come to happen
        self.town.clock.advance_ms(dice.choice((2, 2, 50, 70, 600)) * 1000)

    def next_trip(self, bus: Vehicle) -> None:
        if bus.station.duty.trip is not None:
            bus.press(Key.TRIP)
        if not bus.station.duty.coming:
            bus.press(Key.SHIFT)
            bus.cut_power()  # and another day's trips
        bus.ride_to(1)

    def nothing(self, bus: Vehicle, card: LiteSCard) -> None:
        bus.touch(card)

    def power(self, bus: Vehicle, card: LiteSCard) -> None:
        """It goes at any of the line's writes and reads."""
        at_traffic(bus, self.dice.randrange(26), cut)
        bus.air.lay(card)
        bus.turn(12)

    def power_at_the_disk(self, bus: Vehicle, card: LiteSCard) -> None:
        """It goes before or after a write of the ledger is durable."""
        book: Any = CutBook(bus.store, self.dice.randrange(3), after=self.dice.random() < 0.5)
        bus.station.equipment = replace(bus.station.equipment, ledger=book)
        bus.air.lay(card)
        bus.turn(12)

    def hand(self, bus: Vehicle, card: LiteSCard) -> None:
        """It pulls away after any byte."""
        bus.air.lay(card)
        bus.air.lift(card.idm, after_bytes=self.dice.randrange(800))
        bus.turn()

    def tear(self, bus: Vehicle, card: LiteSCard) -> None:
        """The card loses power within the write of its register; often because the whole vehicle does."""
        known = bus.store.knows_grant(self.town.rider(card), digest(card.memory.blocks[0]))
        commands_before = 2 if known else 3
        power_too = self.dice.random() < 0.6
        card.plan([*[Faults()] * commands_before, Faults(tear=torn(self.dice), lifted=self.dice.random() < 0.7)])
        followed = card.on_write
        assert followed is not None
        left = commands_before + 2  # each planned fault is told when it is used, and the torn write itself

        def follow(changed: LiteSCard) -> None:
            nonlocal left
            followed(changed)
            left -= 1
            if left == 0 and power_too:
                raise PowerCut

        card.on_write = follow
        try:
            bus.air.lay(card)
            bus.turn(12)
        finally:
            card.on_write = followed


def at_traffic(bus: Vehicle, count: int, act: Callable[[], None]) -> None:
    """Let something happen at the line's traffic number ``count`` from now (each write and each read is one)."""
    bus.after_commands(0, act if count == 0 else lambda: at_traffic(bus, count - 1, act))


def stories(town: Town) -> list[CardStory]:
    return [CardStory(town.rider(card), tuple(town._registers[card.idm])) for card in town.cards]


# ── the days ──


class Seeds(Protocol):
    full: bool

    def seeds(self, small: int, full: int) -> Iterator[int]: ...


@pytest.fixture(scope="session")
def empty_books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the city's tables, to be copied."""
    path = tmp_path_factory.mktemp("city") / "books.db"
    with Store.open(f"sqlite:///{path}") as store:
        store.migrate()
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A PostgreSQL of the test run's own, whose tables are in its database ``books_1``; skipped, aloud, where there is none."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "backoffice"))
    from postgresql_server import Server

    if not Server.is_here():
        pytest.skip("PostgreSQL 15 is not installed here (apt-packages.txt); this story was told to SQLite only")
    server = Server(safe=False)
    with Store.open(server.url(server.new_database())) as store:
        store.migrate()
    yield server
    server.close()


@contextmanager
def city_in_sqlite(empty: Path, folder: Path) -> Iterator[Office]:
    file = folder / "city.db"
    shutil.copy(empty, file)
    with Store.open(f"sqlite:///{file}") as store:
        yield Office(store)


def told(office: Office, day: Day) -> None:
    """The evening: both ledgers go up."""
    for bus in day.buses:
        office.enrols(bus.terminal)
    office.hears(day.dice, [bus.path for bus in day.buses])


@pytest.mark.prove(parts=4)
def test_each_point_that_left_a_card_is_billed_once_or_named(proof: Seeds, passing_town: NewTown, empty_books: Path) -> None:
    total, days = Sums(0, 0, 0), 0
    for seed in proof.seeds(small=6, full=2500):
        with passing_town(seed) as town:
            day = Day(town, random.Random(seed)).lived()
            with city_in_sqlite(empty_books, town.folder) as office:
                told(office, day)
                total, days = total + compared(office.store, stories(town)), days + 1
    assert total.booked > 190 * days // 2


@pytest.mark.prove(parts=4)
def test_postgresql_tells_the_same(proof: Seeds, passing_town: NewTown, postgresql: Any) -> None:
    for seed in proof.seeds(small=1, full=150):
        with passing_town(10_000 + seed) as town:
            day = Day(town, random.Random(10_000 + seed)).lived()
            with Store.open(postgresql.url(postgresql.new_database("books_1"))) as store:
                office = Office(store)
                told(office, day)
                compared(store, stories(town))


# ── kill -9 ──

PATIENCE_TURNS = 12


@dataclass
class Yard:
    """Two real stations, each a process of its own with its ledger on this machine's disk and a reader twin on a terminal device.

    The cards and the readers live here, so they outlive whoever is killed. Time is real, but for what is skipped between two touches.
    """

    folder: Path
    seed: int
    town: Town
    trips: tuple[str, ...]
    dice: random.Random
    registers: dict[bytes, list[Block]] = field(default_factory=dict[bytes, list[Block]])
    written: threading.Event = field(default_factory=threading.Event)
    kills: int = 0
    _origin_ns: int = field(default_factory=time.monotonic_ns)
    _skipped_ns: int = 0
    _airs: list[Air] = field(default_factory=list[Air])
    _links: list[Path] = field(default_factory=list[Path])
    _crews: list[Crew | None] = field(default_factory=list[Crew | None])

    @contextmanager
    def opened(self) -> Iterator["Yard"]:
        with ExitStack() as undo:
            for number in range(2):
                air, link = Air(seed=self.seed + number), self.folder / f"reader-{number}"
                undo.enter_context(Pn532Pty(Pn532Chip(air), link))
                self._airs.append(air)
                self._links.append(link)
                self._crews.append(None)
                undo.callback(self._leave, number)
            yield self

    def card(self) -> LiteSCard:
        card = self.town.card(POINTS)
        held = self.registers.setdefault(card.idm, [card.memory.blocks[REG]])

        def follow(changed: LiteSCard) -> None:
            if changed.memory.blocks[REG] != held[-1]:
                held.append(changed.memory.blocks[REG])
                self.written.set()

        card.on_write = follow
        return card

    def ledger(self, number: int) -> Path:
        return self.folder / f"bus-{number}.ledger"

    def stories(self) -> list[CardStory]:
        return [CardStory(self.town.rider(card), tuple(self.registers[card.idm])) for card in self.town.cards]

    def serve(self, number: int) -> Crew:
        """The station of this bus, started if it is not there; on duty, with a trip at its second stop."""
        crew = self._crews[number]
        if crew is None:
            self._skipped_ns += 2_000_000_000
            address = f"pn532:{self._links[number]}@{LINE_RATE}"
            clock = (self._origin_ns, self._skipped_ns, ARRIVES_MS - 20 * 3_600_000)
            post = Post(self.ledger(number), address, self.seed, f"bus-{number}", number + 1, self.trips, frozenset(), *clock)
            crew = self._crews[number] = Crew(post, lambda _shown, _at_ms, _seq: None)
            crew.begin()
        if not crew.duty["trip"]:
            crew.order(keys=[(Key.TRIP.value, 0)], turns=1)
            crew.order(keys=[(Key.NEXT_STOP.value, 0)], turns=1)
        return crew

    def next_trip(self, number: int) -> None:
        self.serve(number).order(keys=[(Key.TRIP.value, 0)], turns=1)
        self.serve(number)

    def touch(self, number: int, card: LiteSCard) -> None:
        """Lay the card down, let the station turn, lift the card."""
        crew = self.serve(number)
        self._airs[number].lay(card)
        crew.order(turns=PATIENCE_TURNS)
        self._airs[number].lift(card.idm)
        crew.order(turns=TURNS_TO_EMPTY)
        card._plan.clear()

    def touch_and_kill(self, number: int, card: LiteSCard, after_s: float, *, at_write: bool) -> None:
        """Lay the card down and let the station turn; kill it so long after that, or after its card was written. The card is lifted."""
        crew = self.serve(number)
        self.written.clear()

        def kill() -> None:
            if at_write:
                self.written.wait(0.2)
            time.sleep(after_s)
            crew.kill()

        killer = threading.Thread(target=kill)
        self._airs[number].lay(card)
        killer.start()
        with suppress(BusDied):
            crew.order(turns=PATIENCE_TURNS)
        killer.join()
        self.kills += 1
        self._leave(number)
        self._airs[number].lift(card.idm)
        card._plan.clear()

    def ends(self) -> None:
        for number in range(2):
            self.serve(number).order(keys=[(Key.SHIFT.value, 0)], turns=2)
            self._leave(number)

    def _leave(self, number: int) -> None:
        crew, self._crews[number] = self._crews[number], None
        if crew is not None:
            crew.end()


@pytest.mark.prove(parts=4)
def test_stations_killed_at_any_microsecond_lose_no_point(proof: Seeds, rules: Tariff, empty_books: Path, tmp_path: Path) -> None:
    """A rider goes from bus to bus; kill -9 falls on the stations at a random microsecond of the touch, and some writes are torn."""
    total = Sums(0, 0, 0)
    for seed in proof.seeds(small=1, full=120):
        dice, folder = random.Random(seed), tmp_path / str(seed)
        folder.mkdir()
        town = Town(folder, rules, seed=seed)
        with Yard(folder, seed, town, tuple(trip.id for trip in town.trips("M2")), dice).opened() as yard:
            card = yard.card()
            for touch in range(4):
                number = touch % 2
                if touch > 1 and dice.random() < 0.5:
                    yard.next_trip(number)
                if dice.random() < 0.4:
                    card.plan([*[Faults()] * dice.choice((2, 3)), Faults(tear=torn(dice), lifted=dice.random() < 0.7)])
                if touch == 3:
                    yard.touch(number, card)
                elif dice.random() < 0.5:
                    yard.touch_and_kill(number, card, dice.random() * 0.09, at_write=False)
                else:
                    yard.touch_and_kill(number, card, dice.random() * 0.006, at_write=True)
            yard.ends()
            assert yard.kills == 3
        with city_in_sqlite(empty_books, folder) as office:
            for device in (1, 2):
                office.enrols(device)
            office.hears(dice, [yard.ledger(0), yard.ledger(1)])
            total = total + compared(office.store, yard.stories())
        shutil.rmtree(folder)


# ── the control: bookkeeping that is wrong is found ──


def nobody_settles(office: Office, _: list[CardStory]) -> None:
    office.execute("DELETE FROM posting WHERE leg >= 10")


def a_guess_is_booked(office: Office, _: list[CardStory]) -> None:
    """Every debit of which nobody knows is taken to be paid."""
    office.execute(
        """INSERT INTO posting (device, epoch, seq, leg, service_day, kind, debit, credit, amount, at_ms)
           SELECT device, epoch, seq, 91, service_day, 1, 'rider:' || lower(hex(rider)), 'operator:minato:points', points, 1 FROM entry
           WHERE kind = 22 AND NOT EXISTS (SELECT 1 FROM posting p WHERE p.device = entry.device AND p.seq = entry.seq)"""
    )


def a_ride_is_booked_twice(office: Office, _: list[CardStory]) -> None:
    office.execute(
        """INSERT INTO posting (device, epoch, seq, leg, service_day, kind, debit, credit, amount, at_ms)
           SELECT device, epoch, seq, 91, service_day, kind, debit, credit, amount, at_ms FROM posting WHERE kind = 1 LIMIT 1"""
    )


def a_ride_is_not_booked(office: Office, _: list[CardStory]) -> None:
    office.execute("DELETE FROM posting WHERE leg < 10 AND device = 1")


def a_card_is_debited_behind_the_ledgers_backs(_: Office, cards: list[CardStory]) -> None:
    card = cards[0]
    last = Counters.parse(card.registers[-1], bytes(3))
    cards[0] = replace(card, registers=(*card.registers, block(last.rega - 190, last.regb - 1, last.regc)))


WRONGS: tuple[Callable[[Office, list[CardStory]], None], ...] = (
    nobody_settles,
    a_guess_is_booked,
    a_ride_is_booked_twice,
    a_ride_is_not_booked,
    a_card_is_debited_behind_the_ledgers_backs,
)


@pytest.fixture(scope="module")
def settled_days(rules: Tariff, empty_books: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Town, Path]]]:
    """Days with the city's file of each, until the city has concluded something itself in one, and cannot tell something in one."""
    made: list[tuple[Town, Path]] = []
    concluded = untellable = 0
    for seed in range(6, 60):
        folder = tmp_path_factory.mktemp("day")
        town = Town(folder, rules, seed=seed)
        day = Day(town, random.Random(seed)).lived()
        with city_in_sqlite(empty_books, folder) as office:
            told(office, day)
            untellable += compared(office.store, stories(town)).unknown > 0
            with office.store.reading() as connection:
                concluded += connection.scalar(sa.text("SELECT count(*) FROM posting WHERE leg >= 10 AND leg < 20")) or 0
        made.append((town, folder / "city.db"))
        if concluded and untellable:
            break
    yield made
    for town, _ in made:
        for bus in town.vehicles:
            bus.store.close()


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_wrong_bookkeeping_is_found(
    wrong: Callable[[Office, list[CardStory]], None], settled_days: list[tuple[Town, Path]], tmp_path: Path
) -> None:
    found = 0
    for number, (town, file) in enumerate(settled_days):
        folder = tmp_path / str(number)
        folder.mkdir()
        with city_in_sqlite(file, folder) as office:
            cards = stories(town)
            wrong(office, cards)
            try:
                compared(office.store, cards)
            except AssertionError:
                found += 1
    assert found > 0
