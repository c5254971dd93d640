"""A small town on emulated hardware: what the demo, the stories and the proofs stand on.

This is the composition root of everything emulated. It builds the same station as a vehicle has (the same reader driver, the same ledger on
a disk, the same table), with a PN532 twin on the other end of the line and cards that obey the chip's rules. All vehicles of a town share
one virtual clock, so that a morning takes as long as the computer needs, and the same seed gives the same morning.
"""

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from zoneinfo import ZoneInfo

from drivers.cards import issuing
from drivers.cards.purse import Counters
from drivers.devices.clock import ClockState, Instant
from drivers.devices.keypad import DriverKey, KeyPress
from drivers.emulated.air import Air
from drivers.emulated.clock import VirtualClock
from drivers.emulated.held_card import HeldCard
from drivers.emulated.line import ChipLine
from drivers.emulated.lite_s_card import CK, REG, Delay, LiteSCard, Traits, blank_memory
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.readers.pn532 import Pn532
from drivers.vault_file import DeskVaultFile, VaultFile, demo_keys
from fares import gtfs
from fares import scheme as schemes
from fares.files import open_feed
from fares.operator import load as load_operator
from fares.table import FareTable, Trip, pack
from firmware import VERSION, laws
from firmware.laws import Act, Book, CardStory, Said, Verdict
from ledger.entry import Entry, Kind, Versions
from ledger.errors import LedgerError
from ledger.store import Settings, Store
from validator.field import CROWD_GONE_AFTER_POLLS
from validator.journey import Tariff
from validator.messages import Message, Shown
from validator.station import Equipment, Station, Terms
from validator.tap import TABLE, Table
from validator.trip import resume

ROOT = Path(__file__).resolve().parent.parent
TOWN = ROOT / "examples" / "town"
SCHEME = ROOT / "fares" / "schemes" / "silver_emica.toml"
ZONE = ZoneInfo("Asia/Tokyo")
LINE_RATE = 921_600
SMALL_LEDGER = Settings(log_bytes=256 * 1024, low_space_bytes=1024 * 1024, ballast_bytes=64 * 1024)
"""A ledger that is quick to make; its promises are the same."""

FOREIGN_PMM = bytes.fromhex("100B4B428485D0FF")
TURNS_TO_EMPTY = 4
TURN_NS = 10_000_000
FISCAL_YEAR = 2026


def tariff(town: Path = TOWN, scheme: Path = SCHEME) -> Tariff:
    """The rules in force in a town: its feed compiled, its operator's file, the city's scheme."""
    contents, _ = gtfs.compile_feed(open_feed(town))
    return Tariff(FareTable.unpack(pack(contents)), load_operator(town / "operator.toml"), schemes.load(scheme))


@dataclass(slots=True)
class Heard:
    """What a rider saw and heard, with the time: a ``validator.messages.Presenter``.

    ``newest``: asked at each message for the ledger's last entry; the answers are ``stood``, one for each that was ``shown``.
    """

    now_ms: Callable[[], int]
    newest: Callable[[], Entry | None] = lambda: None
    shown: list[tuple[int, Shown]] = field(default_factory=list[tuple[int, Shown]])
    stood: list[Entry | None] = field(default_factory=list[Entry | None])

    def show(self, shown: Shown) -> None:
        self.shown.append((self.now_ms(), shown))
        self.stood.append(self.newest())

    def forget(self) -> None:
        """Begin anew: a proof of a million touches needs no memory of them."""
        self.shown.clear()
        self.stood.clear()

    def since(self, count: int) -> list[Message]:
        """The messages after the first ``count``."""
        return [shown.message for _, shown in self.shown[count:]]

    def last(self) -> Shown:
        """The last that was shown."""
        return self.shown[-1][1]


@dataclass(slots=True)
class Keys:
    """A driver's hands: a ``drivers.devices.keypad.Keypad``."""

    waiting: deque[KeyPress] = field(default_factory=deque[KeyPress])

    def pressed(self) -> tuple[KeyPress, ...]:
        pressed = tuple(self.waiting)
        self.waiting.clear()
        return pressed


class VehicleClock:
    """One vehicle's own clocks (``drivers.devices.clock.Clock``): time passes as in the town, but the wall clock may be wrong.

    ``error_ms`` is how far it goes ahead of the town's. ``boot`` and the monotonic count begin anew with each start.
    """

    def __init__(self, town: VirtualClock) -> None:
        self._town = town
        self._started_ns = town.monotonic_ns()
        self.boot = 1
        self.state = ClockState.NTP
        self.error_ms = 0

    def restart(self) -> None:
        """The vehicle starts again."""
        self.boot += 1
        self._started_ns = self._town.monotonic_ns()

    def now(self) -> Instant:
        since_ms = (self._town.monotonic_ns() - self._started_ns) // 1_000_000
        return Instant(self.boot, since_ms, self._town.utc_ms + self.error_ms, self.state)

    def monotonic_ns(self) -> int:
        return self._town.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self._town.sleep_until_ns(deadline_ns)


class Town:
    """Cards, a desk and vehicles that share one clock and one set of (public, demo) keys."""

    def __init__(self, folder: Path, rules: Tariff, *, seed: int = 0) -> None:
        self.folder = folder
        self.tariff = rules
        self.seed = seed
        self.clock = VirtualClock()
        self.keys = demo_keys(seed)
        self.desk = DeskVaultFile(self.keys)
        self.cards: list[LiteSCard] = []
        self.vehicles: list[Vehicle] = []
        self._registers: dict[bytes, list[bytes]] = {}
        self.rows: Table = TABLE
        self._drawn = 0

    def random(self, size: int) -> bytes:
        """Bytes that follow from the seed."""
        self._drawn += 1
        return hashlib.shake_256(f"kazashi rehearsal {self.seed} {self._drawn}".encode()).digest(size)

    def card(self, points: int = 2000, *, delay: Delay = Delay.MIN, seed: int | None = None) -> LiteSCard:
        """A card from the desk: issued under ``seed``'s keys (the town's by default) and granted ``points`` (0: none)."""
        idm = bytes.fromhex("012E") + self.random(6)
        card = LiteSCard(blank_memory(idm), Traits(delay=delay))
        desk = self.desk if seed is None else DeskVaultFile(demo_keys(seed))
        card.field_on()
        held = HeldCard(card)
        while _issue(held, desk, self.random) is issuing.Issued.LAY_AGAIN:
            held.lay_again()
        if points:
            issuing.grant(held, desk, desk.grants, self.random, key_id=desk.issuer_id, fiscal_year=FISCAL_YEAR, points=points)
        card.field_off()
        return self._known(card)

    def foreign_card(self) -> LiteSCard:
        """Somebody's card of another kind: the reader sees it, and it is none of ours."""
        return self._known(LiteSCard(blank_memory(bytes.fromhex("0114") + self.random(6), FOREIGN_PMM)))

    def _known(self, card: LiteSCard) -> LiteSCard:
        self.cards.append(card)
        self._registers[card.idm] = [card.memory.blocks[REG]]
        card.on_write = self._written
        return card

    def _written(self, card: LiteSCard) -> None:
        registers, now = self._registers[card.idm], card.memory.blocks[REG]
        if registers[-1] != now:
            registers.append(now)

    def rider(self, card: LiteSCard) -> bytes:
        """A card's pseudonym."""
        return self.desk.rider(card.idm)

    def trips(self, route: str) -> tuple[Trip, ...]:
        """The route's trips in the order of their first departure."""
        found = [trip for trip in self.tariff.table.trips() if trip.route == route]
        return tuple(sorted(found, key=lambda trip: trip.calls[0].departure_s))

    def vehicle(self, name: str = "bus-1", terminal: int = 1, route: str = "M1") -> "Vehicle":
        """A vehicle with a new ledger, its shift open, its first trip not."""
        return Vehicle(self, name, terminal, self.trips(route))

    # ── what is left of the day ──

    def verdicts(self, texts: Mapping[str, bytes] | None = None) -> list[Verdict]:
        """How laws 1, 2, 3, 5 and 6 stand. ``texts``: more places where no secret may stand, such as the log."""
        books = [vehicle.book() for vehicle in self.vehicles]
        acts = [act for vehicle in self.vehicles for act in vehicle.acts]
        said = [one for vehicle in self.vehicles for one in vehicle.said()]
        cards = [CardStory(self.rider(card), tuple(self._registers[card.idm])) for card in self.cards]
        places = dict(texts or {})
        for vehicle in self.vehicles:
            places |= vehicle.texts()
        return [
            laws.charged_once(books, cards, acts, self.tariff.operator.already_paid_min),
            laws.durable_before_ok(books, said),
            laws.never_silent(acts),
            laws.dated_rules(books, self.versions()),
            laws.no_secrets(places, self.secrets()),
        ]

    def versions(self) -> Versions:
        """What every entry of this town names."""
        rules = self.tariff
        return Versions(
            table=rules.table.digest,
            scheme=rules.scheme.digest,
            operator=rules.operator.digest,
            software=VERSION,
            rider_key=self.desk.rider_key_version,
        )

    def secrets(self) -> dict[str, bytes]:
        """What may stand nowhere: card numbers, card keys, the town's keys."""
        found = {"the rider key": self.keys.rider, "a card master key": self.keys.cards[0].master}
        found |= {f"the private key of issuer {issuer.id}": issuer.private for issuer in self.keys.issuers}
        for number, card in enumerate(self.cards, 1):
            found |= {f"the number of card {number}": card.idm, f"the key of card {number}": card.memory.blocks[CK]}
        return {what: secret for what, secret in found.items() if any(secret)}  # a blank card's key is none


class Vehicle:
    """One validator on twins. Everything a person does to it is a method: lay a card, lift it, press a key, cut the power."""

    def __init__(self, town: Town, name: str, terminal: int, trips: Sequence[Trip]) -> None:
        self.town = town
        self.name = name
        self.terminal = terminal
        self.trips = trips
        self.path = town.folder / f"{name}.ledger"
        self.clock = VehicleClock(town.clock)
        self.air = Air(seed=town.seed)
        self.chip = Pn532Chip(self.air)
        self.line = ChipLine(self.chip, town.clock, on_traffic=self._traffic)
        self._plans: list[tuple[int, Callable[[], None]]] = []
        self.heard = Heard(lambda: town.clock.monotonic_ns() // 1_000_000, self._newest)
        self.keys = Keys()
        self.acts: list[Act] = []
        self.denied: set[bytes] = set()
        Store.create(self.path, device=terminal, epoch=int.from_bytes(town.random(6), "big"), settings=SMALL_LEDGER).close()
        self.boots = 0
        town.vehicles.append(self)
        self.start()

    def start(self) -> None:
        """Power on: open the ledger, find the reader, go on where the ledger says."""
        town = self.town
        self.boots += 1
        self.store = Store.open(self.path, device=self.terminal, settings=SMALL_LEDGER)
        self.reader = Pn532(f"twin:{self.name}", self.line.reopen, town.clock.monotonic_ns, baud=LINE_RATE)
        vault = VaultFile(town.keys.for_terminal(town.random(32)))
        equipment = Equipment(
            reader=self.reader,
            vault=vault,
            grants=vault.grants,
            ledger=self.store,
            presenter=self.heard,
            keypad=self.keys,
            clock=self.clock,
            random=town.random,
            blocked=self.denied.__contains__,
        )
        rules = town.tariff
        duty = resume(rules.operator.id, self.name, self.trips, self.store.last)
        self.reader.revive()
        self.station = Station(equipment, Terms(rules, self.terminal, ZONE, town.versions()), duty, town.rows)
        self.station.open_shift()

    def crash(self) -> None:
        """The process dies between two instructions, as by kill -9; then it starts again.

        What the files held at this moment is what the next start finds: they are copied before the old process lets go of them.
        """
        before, self.path = self.path, self.town.folder / f"{self.name}-{self.boots}.ledger"
        for file in before.parent.glob(f"{before.name}*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, self.path.parent / file.name.replace(before.name, self.path.name))
        self.store.close()
        self.forget_plans()
        self.clock.restart()
        self.start()

    def cut_power(self) -> None:
        """The whole vehicle loses power, the reader and the card in its field too; then all of it starts again."""
        self.chip.restart(self.town.clock.monotonic_ns())
        self.crash()

    def turn_off(self) -> None:
        """The ordered way: no more taps, what is unknown is named, the end is recorded; then the vehicle starts again."""
        self.station.close_shift(Kind.POWER_LOSS)
        self.cut_power()

    def after_commands(self, count: int, act: Callable[[], None]) -> None:
        """Let something happen as soon as the reader has been sent ``count`` more commands (a poll is one)."""
        self._plans.append((self.chip.host_commands + count, act))

    def forget_plans(self) -> None:
        """Nothing that was planned for later commands happens any more."""
        self._plans.clear()

    def _traffic(self) -> None:
        due = [plan for plan in self._plans if self.chip.host_commands >= plan[0]]
        for plan in due:
            self._plans.remove(plan)
            plan[1]()

    # ── the driver ──

    def press(self, *keys: DriverKey | int) -> None:
        """The driver's keys; a number is its digits."""
        with self.noted(" ".join(key.value if isinstance(key, DriverKey) else str(key) for key in keys)):
            for key in keys:
                digits = str(key) if isinstance(key, int) else ""
                self.keys.waiting.extend(KeyPress(DriverKey.DIGIT, int(digit)) for digit in digits)
                if isinstance(key, DriverKey):
                    self.keys.waiting.append(KeyPress(key))
            self.turn()

    def ride_to(self, call: int) -> None:
        """Open a trip if none is, and go on to its stop number ``call`` (from 0)."""
        if self.station.duty.trip is None:
            self.press(DriverKey.TRIP)
        for _ in range(call - self.station.duty.at):
            self.press(DriverKey.NEXT_STOP)

    # ── the rider ──

    def turn(self, count: int = 1) -> None:
        """So many rounds of the station, 10 ms apart."""
        clock = self.town.clock
        for _ in range(count):
            self.station.turn()
            clock.sleep_until_ns(clock.monotonic_ns() + TURN_NS)

    def touch(self, *cards: LiteSCard) -> list[Message]:
        """Lay cards down, let the station turn, lift them; the messages that were shown meanwhile."""
        before = len(self.heard.shown)
        with self.noted("a card is laid down", *cards):
            for card in cards:
                self.air.lay(card)
            self.turn()
            for card in cards:
                self.air.lift(card.idm)
            self.turn(TURNS_TO_EMPTY if len(cards) == 1 else CROWD_GONE_AFTER_POLLS)
        return self.heard.since(before)

    @contextmanager
    def noted(self, what: str, *cards: LiteSCard) -> Generator[None]:
        """Remember what is done inside, and what was said to it, for law 3 (and what was armed, for law 1).

        Whoever ends it by an exception (the power goes) is excused.
        """
        duty, before = self.station.duty, len(self.heard.shown)
        riders = tuple(self.town.rider(card) for card in cards)
        act = Act(self.terminal, what, duty.place(), duty.armed.riders, riders, excused=True)
        self.acts.append(act)
        at = len(self.acts) - 1
        yield
        standing = self.heard.last().message if self.heard.shown else None
        self.acts[at] = replace(act, said=tuple(self.heard.since(before)), standing=standing, excused=False)

    # ── the books ──

    def book(self) -> Book:
        """The ledger as the laws see it."""
        return Book(self.terminal, tuple(self.entries()), tuple(self.store.intents()))

    def said(self) -> list[Said]:
        """Everything that was shown, with the entry that stood last in the ledger then."""
        return [Said(self.terminal, shown, stood) for (_, shown), stood in zip(self.heard.shown, self.heard.stood, strict=True)]

    def texts(self) -> dict[str, bytes]:
        """Everything this vehicle keeps: its ledger's files, byte by byte, and its messages."""
        files = {f"file {file.name}": file.read_bytes() for file in self.path.parent.glob(f"{self.path.name}*") if file.is_file()}
        messages = "\n".join(f"{shown.message.value} {shown.values}" for _, shown in self.heard.shown)
        return {**files, f"the messages of {self.name}": messages.encode()}

    def _newest(self) -> Entry | None:
        with suppress(LedgerError):
            seq = self.store.head().seq
            return next(iter(self.store.after(seq - 1, 1)), None)
        return None

    def entries(self) -> list[Entry]:
        """Everything in the ledger."""
        return self.store.after(0, 1_000_000)

    def of(self, card: LiteSCard) -> list[Entry]:
        """The entries of one card."""
        rider = self.town.rider(card)
        return [entry for entry in self.entries() if entry.medium is not None and entry.medium.rider == rider]

    def kinds(self, card: LiteSCard) -> list[Kind]:
        """Their kinds."""
        return [entry.kind for entry in self.of(card)]


def _issue(held: HeldCard, desk: DeskVaultFile, random: Callable[[int], bytes]) -> issuing.Issued:
    """Run the desk's generator to its end."""
    steps = issuing.issue(held, desk, random, desk.newest_card_key)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        issued: issuing.Issued = end.value
        return issued


def counters(card: LiteSCard) -> Counters:
    """What a card's REG and WCNT hold, read from its memory (a proof may look; a reader may not)."""
    return Counters.parse(card.memory.blocks[REG], card.memory.wcnt.to_bytes(3, "little"))
