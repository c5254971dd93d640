"""A town's buses for days on end, without buses: entries as stations write them, at the speed of arithmetic (pure).

What books, bills and uploads are tried on must be what a city will get: purses whose counters go on from vehicle to vehicle, rides that
answer boarding taps, debits whose outcome came to light a week later somewhere else. So this makes no random entries. It lets people ride:
riders with purses, drivers with keys, a timetable from the feed; and what each touch means is decided by ``validator.journey``, as on the
bus. Then it knows the truth beside what the ledgers say, and writes it down for whoever wants to compare (``Truth``).

Two shortcuts make it fast. Most touches are plain: nothing open, not paid before, not refused. Their decision depends on few things, so it
is looked up instead of worked out (``_Plain``); anything else goes to ``decide``. And entries are not read back as they are written. Both
are checked by tests: with ``quick=False`` every touch goes to ``decide``, and the ledgers come out the same, byte for byte.

People err here as they do in towns; each kind is a rate in ``Mistakes``. Three things are not as on a vehicle: no card is torn, nobody's
ledger is lost (an epoch ends with a day, everything in it is uploaded), and a practising vehicle marks its entries and writes no card,
which stations cannot do yet.

The same wish gives the same bytes: chance comes from SHAKE-256 over the seed, never from the machine.
"""

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import count

from drivers.cards.purse import FULL, Counters, Grant, PurseReading, RegLog
from drivers.devices.clock import ClockState, Instant
from drivers.vault import MacRead
from fares.dates import fiscal_year
from fares.operator import KnownBy
from fares.ride import Flag, Priced, Ride, price_ride
from fares.scheme import Question, yearly_grant
from fares.table import Call, Trip
from ledger.batch import MAX_ENTRIES, Batch
from ledger.chain import follow, genesis
from ledger.codec import write
from ledger.entry import Entry, Fare, Flags, Intent, Kind, Medium, Outcome, Place, Versions, When
from validator.journey import LOG_KIND_RIDE, Decision, Known, Scene, Tariff, decide, outlook, same_run, service_day
from validator.tap import TABLE, Do, Event, State, step
from validator.trip import ONE_ADULT, Armed, Duty, call_reason

CARD_KEY = 1
RIDER_KEY = 1
ISSUER = 1
BLOCKS_OF_A_GRANT = 10
DAY_MS = 86_400_000
_MOST_PRICES = 200_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
FLAGS = {Flag.AMBIGUOUS: Flags.AMBIGUOUS_PRICE, Flag.ORIGIN: Flags.ORIGIN_FARE, Flag.DRIVER: Flags.DRIVER_FARE}
_SETTLED = frozenset({Event.DUE, Event.CASH_ONLY, Event.NOTHING_DUE, Event.RECOVERED, Event.PAID_BEFORE})
_GIVEN_UP = frozenset({Event.BLOCKED, Event.DAMAGED, Event.UNSURE, Event.UNSURE_BEFORE})
_CONFUSED = frozenset({Event.BOARDING, Event.BOARDED_BEFORE})


@dataclass(frozen=True, slots=True)
class Mistakes:
    """How often things go wrong, per 10,000 of what stands behind each."""

    forgot_stop: int = 60  # stops: the driver does not step on
    overshot: int = 30  # stops: the driver steps on twice, and back when it is noticed
    no_boarding_tap: int = 150  # rides
    lost_ticket: int = 300  # rides on routes with numbered tickets
    touched_twice: int = 300  # rides
    pulled_hand: int = 40  # debits: the card left before it was read back
    found_again: int = 80  # debits: it left, and was found by the next poll
    power_cut: int = 8  # debits
    walked_off: int = 3000  # debits of unknown outcome after which the rider does not touch again
    pair: int = 250  # rides
    child: int = 100  # rides
    clock_off: int = 200  # days of a vehicle: ±15 minutes
    clock_unset: int = 200  # days of a vehicle; on half of them it is set at some time
    practice: int = 50  # days of a vehicle
    late: int = 400  # days of a vehicle: uploaded up to 20 days later
    new_epoch: int = 40  # days of a vehicle
    blocked: int = 20  # riders
    short: int = 1500  # riders who have little left at the beginning


NO_MISTAKES = Mistakes(*[0] * len(fields(Mistakes)))


@dataclass(frozen=True, slots=True)
class Wish:
    """What to simulate. ``rides``: per vehicle and day, about. ``riders`` 0: so many that most purses last. ``batch``: entries in one."""

    vehicles: int
    days: int
    seed: int
    first_day: date
    rides: int = 300
    riders: int = 0
    batch: int = 200
    mistakes: Mistakes = Mistakes()

    def __post_init__(self) -> None:
        if not (self.vehicles >= 1 and self.days >= 1 and self.rides >= 1 and self.riders >= 0 and 1 <= self.batch <= MAX_ENTRIES):
            raise ValueError(f"there must be a vehicle, a day and a ride, and 1 to {MAX_ENTRIES} entries in a batch")

    @property
    def population(self) -> int:
        """How many riders there are."""
        return self.riders or max(40, self.vehicles * self.days * self.rides // 6)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of entries of one ledger, ready to be sealed, and when it reaches the city (Unix ms)."""

    batch: Batch
    arrives_ms: int


@dataclass(slots=True)
class Month:
    """What an operator's riders did in a month, by the true service day. Practice is not in it.

    ``rides``, ``points``, ``cash``, ``nominal``: entries that count as paid, as they stand in the ledgers. ``without_day``: those of them,
    and of the free ones, whose entry names no service day, because the clock was unset. ``unknown_done``, ``unknown_done_points``: debits
    that were done though no entry of their own ledger says so in the end.
    """

    rides: int = 0
    points: int = 0
    cash: int = 0
    nominal: int = 0
    free_rides: int = 0
    free_nominal: int = 0
    without_day: int = 0
    unknown: int = 0
    unknown_done: int = 0
    unknown_done_points: int = 0
    resolved: int = 0
    recovered: int = 0
    unpriced: int = 0
    refused: int = 0


@dataclass(slots=True)
class Fate:
    """An UNKNOWN entry and what came of it: ``done`` on the card; ``resolved``: seq of the RESOLVED entry in the same ledger, or 0."""

    device: int
    epoch: int
    seq: int
    rider: bytes
    points: int
    done: bool
    day: date
    operator: str
    resolved: int = 0


@dataclass(frozen=True, slots=True)
class WrongStop:
    """A PAID or FREE entry that was made while the driver's display stood at another stop than the vehicle."""

    device: int
    epoch: int
    seq: int
    true_stop: str


@dataclass(slots=True)
class Truth:
    """What really happened, complete when the last batch has been had."""

    entries: int = 0
    touches: int = 0
    silent: int = 0  # touches without an entry: paid before, boarded before
    practice: int = 0  # entries
    months: defaultdict[tuple[str, str], Month] = field(default_factory=lambda: defaultdict(Month))
    unknown: list[Fate] = field(default_factory=list[Fate])
    wrong_stops: list[WrongStop] = field(default_factory=list[WrongStop])


@dataclass(slots=True)
class Rider:
    """A rider and the purse, as the card has it. ``booked``: points in entries that count as paid."""

    id: bytes
    counters: Counters
    grant: Grant
    digest: bytes
    blocked: bool
    rode_until_ms: int = 0
    year: int = 0
    spent_before: int = 0  # at the beginning of ``year``
    booked: int = 0


class Dice:
    """Chance that follows from a seed."""

    def __init__(self, seed: str) -> None:
        self._words = _words(seed)

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` − 1."""
        return next(self._words) * limit >> 32

    def falls(self, per_10000: int) -> bool:
        """Whether it happens this time."""
        return next(self._words) * 10_000 >> 32 < per_10000


def _words(seed: str) -> Iterator[int]:
    for block in count():
        yield from struct.unpack(">16384I", hashlib.shake_256(f"kazashi simulation {seed} {block}".encode()).digest(65_536))


class _NoCard:
    """The session that a reading names; nobody asks a simulated card anything."""

    key_version = CARD_KEY

    def check(self, read: MacRead) -> None:
        raise NotImplementedError

    def mac_write(self, block: int, data: bytes, wcnt: int) -> bytes:
        raise NotImplementedError


_NO_CARD = _NoCard()


@dataclass(slots=True)
class _Ledger:
    """One epoch of one device: its chain, and what a station asks of it."""

    device: int
    epoch: int
    seq: int = 0
    before: bytes = b""
    first: int = 1
    waiting: list[bytes] = field(default_factory=list[bytes])
    intents: dict[bytes, tuple[Entry, bool]] = field(default_factory=dict[bytes, tuple[Entry, bool]])  # and whether it was done
    unknown: dict[bytes, list[Entry]] = field(default_factory=dict[bytes, list[Entry]])
    fates: dict[int, Fate] = field(default_factory=dict[int, Fate])

    def __post_init__(self) -> None:
        self.before = genesis(self.device, self.epoch)

    def append(self, entry: Entry) -> Entry:
        """The entry with its number; one that has it already is taken as it is."""
        self.seq += 1
        if entry.seq != self.seq:
            entry = replace(entry, device=self.device, epoch=self.epoch, seq=self.seq)
        self.waiting.append(write(entry))
        return entry

    def cut(self, size: int, created_ms: int) -> Batch:
        """The next ``size`` entries that wait, or all."""
        entries = tuple(self.waiting[:size])
        batch = Batch(self.device, self.epoch, self.first, self.before, entries, created_ms)
        self.waiting = self.waiting[size:]
        self.first += len(entries)
        for data in entries:
            self.before = follow(self.before, data)
        return batch


@dataclass(slots=True)
class _OnRun:
    """What a ledger knows of the riders of the trip that is open."""

    rode: dict[bytes, list[Entry]] = field(default_factory=dict[bytes, list[Entry]])
    boarded: dict[bytes, Entry] = field(default_factory=dict[bytes, Entry])
    unpriced: dict[bytes, Entry] = field(default_factory=dict[bytes, Entry])
    places: dict[tuple[int, str], Place] = field(default_factory=dict[tuple[int, str], Place])

    def note(self, entry: Entry, rider: bytes) -> None:
        """An entry of this run."""
        if entry.counts_as_paid or entry.kind is Kind.FREE:
            self.rode.setdefault(rider, []).insert(0, entry)
            boarded = self.boarded.get(rider)
            if boarded is not None and entry.counts_as_paid and entry.ref == boarded.seq:
                del self.boarded[rider]
        elif entry.kind is Kind.OPEN:
            self.boarded[rider] = entry
        elif entry.kind is Kind.UNPRICED:
            self.unpriced[rider] = entry


@dataclass(slots=True)
class _Vehicle:
    """A vehicle with its driver. ``now_ms``: true time; what its clock says is ``instant``."""

    tariff: Tariff
    versions: Versions
    ledger: _Ledger
    duty: Duty
    dice: Dice
    now_ms: int = 0
    boot: int = 0
    booted_ms: int = 0
    error_ms: int = 0
    state: ClockState = ClockState.NTP
    set_at_ms: int = 0  # when an unset clock is set; 0: never
    practice: bool = False
    late_ms: int = 0
    run: _OnRun = field(default_factory=_OnRun)
    day: date = date.min
    tap_versions: Versions = field(default_factory=Versions)  # what an entry about a card names
    known_by: KnownBy = KnownBy.FLAT  # on the trip that is open

    def __post_init__(self) -> None:
        self.tap_versions = replace(self.versions, card_key=CARD_KEY)

    def instant(self) -> Instant:
        """What its clocks say."""
        since = self.now_ms - self.booted_ms
        if self.state is ClockState.UNSET:
            if not self.set_at_ms or self.now_ms < self.set_at_ms:
                return Instant(self.boot, since, since, ClockState.UNSET)
            self.state = ClockState.NTP
        return Instant(self.boot, since, self.now_ms + self.error_ms, self.state)

    def scene(self, zone: tzinfo) -> Scene:
        """Where and when."""
        return Scene(self.duty, self.instant(), zone, self.ledger.device, self.versions)

    def note(self, kind: Kind, reason: str = "") -> Entry:
        """An entry without a rider."""
        now = self.instant()
        when = When(now.boot, now.mono_ms, now.utc_ms, int(now.state))
        ledger = self.ledger
        place = self.duty.place()
        return ledger.append(
            Entry(
                kind=kind,
                when=when,
                place=place,
                versions=self.versions,
                reason=reason,
                device=ledger.device,
                epoch=ledger.epoch,
                seq=ledger.seq + 1,
            )
        )

    def place(self, boarding: str) -> Place:
        """Where an entry happens."""
        key = self.duty.at, boarding
        place = self.run.places.get(key)
        if place is None:
            place = self.run.places[key] = self.duty.place(boarding)
        return place


@dataclass(frozen=True, slots=True)
class _Ride:
    """A rider's way on one trip, by the numbers of its calls. ``armed``: what the driver keys before the touch that pays."""

    rider: Rider
    boards: int
    alights: int
    armed: Armed


_PriceKey = tuple[str, int, str, tuple[int | None, ...], int]
_Marked = tuple[Priced, Flags]


@dataclass(slots=True)
class _Fares:
    """What plain touches cost, worked out once: prices by place and party, then what the scheme takes by the balance."""

    prices: dict[_PriceKey, _Marked | None] = field(default_factory=dict[_PriceKey, "_Marked | None"])
    dues: dict[tuple[int, int, int, str, int], tuple[int, int]] = field(
        default_factory=dict[tuple[int, int, int, str, int], "tuple[int, int]"]
    )


class Simulation:
    """The town that ``wish`` describes. ``runs`` lets it live, once; ``truth`` is complete afterwards.

    ``tariffs``: one for each operator; vehicles are theirs in turn. ``software``: what entries name as such. ``quick``: see the opening.
    """

    def __init__(self, wish: Wish, tariffs: Sequence[Tariff], zone: tzinfo, software: str, *, quick: bool = True) -> None:
        self.wish = wish
        self.truth = Truth()
        self._zone = zone
        self._quick = quick
        self._dice = Dice(str(wish.seed))
        self.riders = [self._rider(number, tariffs[0]) for number in range(wish.population)]
        self._fares = [_Fares() for _ in tariffs]
        self._vehicles = [self._vehicle(number, tariffs[number % len(tariffs)], software) for number in range(wish.vehicles)]
        self._fares_of = {id(vehicle): self._fares[number % len(tariffs)] for number, vehicle in enumerate(self._vehicles)}
        self._trips: dict[tuple[int, date], list[Trip]] = {}

    @property
    def vehicles(self) -> list[tuple[int, str, str]]:
        """Each vehicle's device number, its name and its operator."""
        return [(vehicle.ledger.device, vehicle.duty.vehicle, vehicle.duty.operator) for vehicle in self._vehicles]

    def runs(self) -> Iterator[Run]:
        """Every entry of every ledger, in runs; of one ledger in order."""
        for number in range(self.wish.days):
            yield from self._day(self.wish.first_day + timedelta(days=number))
        self._reckon()

    # ── who there is ──

    def _rider(self, number: int, tariff: Tariff) -> Rider:
        wish, day = self.wish, self.wish.first_day
        points = tariff.scheme.points_at_issue(day)
        if self._dice.falls(wish.mistakes.short):
            points = self._dice.below(points // 4 + 1)
        year = fiscal_year(day)
        grant = Grant(ISSUER, year, points, 1)
        name = hashlib.sha256(f"kazashi simulation rider {wish.seed} {number}".encode()).digest()[:8]
        counters = Counters(FULL, FULL, bytes(8), BLOCKS_OF_A_GRANT)
        return Rider(name, counters, grant, grant.digest, self._dice.falls(wish.mistakes.blocked), year=year)

    def _vehicle(self, number: int, tariff: Tariff, software: str) -> _Vehicle:
        versions = Versions(tariff.table.digest, tariff.scheme.digest, tariff.operator.digest, software, 0, RIDER_KEY)
        duty = Duty(tariff.operator.id, f"{tariff.operator.id}-{number + 1}", 0, on_shift=False)
        return _Vehicle(tariff, versions, self._ledger(number + 1, 0), duty, Dice(f"{self.wish.seed} vehicle {number}"))

    def _ledger(self, device: int, generation: int) -> _Ledger:
        name = f"kazashi simulation epoch {self.wish.seed} {device} {generation}"
        return _Ledger(device, int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big"))

    # ── a day ──

    def _day(self, day: date) -> Iterator[Run]:
        noon = datetime.combine(day, time(12), self._zone)
        begins_ms = int(noon.timestamp()) * 1000 - DAY_MS // 2
        plan: list[tuple[int, int, Trip]] = []
        for number, vehicle in enumerate(self._vehicles):
            trips = self._choose(vehicle, day)
            self._prepare(vehicle, day, begins_ms + trips[0].calls[0].departure_s * 1000 if trips else 0)
            plan += [(trip.calls[0].departure_s, number, trip) for trip in trips]
        share = {number: sum(one == number for _, one, _ in plan) for number in range(len(self._vehicles))}
        for _, number, trip in sorted(plan, key=lambda planned: planned[:2]):
            vehicle = self._vehicles[number]
            self._drive(vehicle, trip, begins_ms, -(-self.wish.rides // share[number]))
            yield from self._ready(vehicle, self.wish.batch)
        for number, vehicle in enumerate(self._vehicles):
            if share[number]:
                self._end(vehicle)
                yield from self._ready(vehicle, 1)

    def _choose(self, vehicle: _Vehicle, day: date) -> list[Trip]:
        """The trips of a vehicle's day: those of its operator that do not overlap, not all of them."""
        key = id(vehicle.tariff), day
        if key not in self._trips:
            self._trips = {} if len(self._trips) > 8 else self._trips
            self._trips[key] = sorted(vehicle.tariff.table.trips(day), key=lambda trip: trip.calls[0].departure_s)
        chosen: list[Trip] = []
        for trip in self._trips[key]:
            free = not chosen or trip.calls[0].departure_s > chosen[-1].calls[-1].arrival_s + 120
            if free and len(trip.calls) > 1 and vehicle.dice.falls(8000):
                chosen.append(trip)
        return chosen

    def _prepare(self, vehicle: _Vehicle, day: date, departs_ms: int) -> None:
        """The morning: what is wrong with this vehicle today; it is started and its shift opened."""
        mistakes, dice = self.wish.mistakes, vehicle.dice
        renewed = dice.falls(mistakes.new_epoch)
        vehicle.error_ms = (-900_000, 900_000)[dice.below(2)] if dice.falls(mistakes.clock_off) else 0
        unset, mended, after_ms = dice.falls(mistakes.clock_unset), dice.falls(5000), dice.below(6 * 3_600_000)
        vehicle.practice = dice.falls(mistakes.practice)
        vehicle.late_ms = (1 + dice.below(20)) * DAY_MS if dice.falls(mistakes.late) else 0
        if not departs_ms:
            return
        vehicle.day = day
        vehicle.now_ms = departs_ms - 1_200_000
        vehicle.state = ClockState.UNSET if unset else (ClockState.NTP, ClockState.GNSS)[dice.below(2)]
        vehicle.set_at_ms = departs_ms + after_ms if unset and mended else 0
        vehicle.duty = replace(vehicle.duty, shift=vehicle.duty.shift + 1, on_shift=True)
        vehicle.boot, vehicle.booted_ms = vehicle.boot + 1, vehicle.now_ms - 20_000
        if renewed and vehicle.ledger.seq:
            self._renew(vehicle)
        vehicle.note(Kind.BOOT)
        vehicle.note(Kind.SHIFT_OPEN)

    def _renew(self, vehicle: _Vehicle) -> None:
        """A new epoch: shifts and starts are counted anew, and what was unknown stays so."""
        old = vehicle.ledger
        vehicle.ledger = self._ledger(old.device, old.epoch)
        vehicle.boot = 1
        vehicle.duty = replace(vehicle.duty, shift=1)
        vehicle.note(Kind.EPOCH, f"after:{old.epoch}:{old.seq}")

    def _end(self, vehicle: _Vehicle) -> None:
        """The evening."""
        vehicle.now_ms += 60_000
        vehicle.note(Kind.SHIFT_CLOSE)
        vehicle.duty = replace(vehicle.duty, on_shift=False)
        vehicle.now_ms += 30_000
        vehicle.note(Kind.POWER_LOSS)

    def _ready(self, vehicle: _Vehicle, least: int) -> Iterator[Run]:
        ledger = vehicle.ledger
        while len(ledger.waiting) >= least:
            self.truth.entries += min(len(ledger.waiting), self.wish.batch)
            batch = ledger.cut(self.wish.batch, vehicle.instant().utc_ms)
            yield Run(batch, vehicle.now_ms + vehicle.late_ms + vehicle.dice.below(600_000))

    # ── a trip ──

    def _drive(self, vehicle: _Vehicle, trip: Trip, begins_ms: int, rides: int) -> None:
        vehicle.now_ms = max(vehicle.now_ms + 1000, begins_ms + trip.calls[0].departure_s * 1000 - 300_000)
        vehicle.run = _OnRun()
        today = service_day(vehicle.instant(), self._zone, vehicle.tariff.operator)
        vehicle.duty = replace(vehicle.duty, trip=trip, at=0, service_day=today)
        vehicle.known_by = vehicle.tariff.operator.policy(trip.route).known_by
        vehicle.note(Kind.TRIP_OPEN)
        on, off = self._passengers(vehicle, trip, begins_ms, rides)
        for place, call in enumerate(trip.calls):
            vehicle.now_ms = max(vehicle.now_ms + 1000, begins_ms + call.arrival_s * 1000)
            _step_to(vehicle, self._displayed(vehicle, place))
            for ride in off.get(place, ()):
                self._get_off(vehicle, ride)
            for ride in on.get(place, ()):
                self._get_on(vehicle, ride)
        vehicle.now_ms += 20_000
        self._close_trip(vehicle)

    def _close_trip(self, vehicle: _Vehicle) -> None:
        now, ledger = vehicle.instant(), vehicle.ledger
        when = When(now.boot, now.mono_ms, now.utc_ms, int(now.state))
        for rider in sorted(ledger.intents):
            entry, done = ledger.intents[rider]
            self._unknown(vehicle, replace(entry, kind=Kind.UNKNOWN, when=when), done=done)
        ledger.intents.clear()
        vehicle.note(Kind.TRIP_CLOSE)
        vehicle.duty = replace(vehicle.duty, trip=None, at=0, armed=ONE_ADULT)

    def _displayed(self, vehicle: _Vehicle, place: int) -> int:
        """The stop that the driver steps to on arriving at the call ``place``."""
        mistakes, dice = self.wish.mistakes, vehicle.dice
        if place and dice.falls(mistakes.forgot_stop):
            return min(vehicle.duty.at, place)
        if dice.falls(mistakes.overshot) and vehicle.duty.trip:
            return min(place + 1, len(vehicle.duty.trip.calls) - 1)
        return place

    def _passengers(
        self, vehicle: _Vehicle, trip: Trip, begins_ms: int, rides: int
    ) -> tuple[dict[int, list[_Ride]], dict[int, list[_Ride]]]:
        """Who gets on and off at which call."""
        dice, mistakes = vehicle.dice, self.wish.mistakes
        on: dict[int, list[_Ride]] = {}
        off: dict[int, list[_Ride]] = {}
        places = range(len(trip.calls))
        boards = [place for place in places if trip.calls[place].boards and any(call.alights for call in trip.calls[place + 1 :])]
        if not boards:
            return on, off
        for _ in range(rides * 3 // 4 + dice.below(rides // 2 + 1)):
            first = boards[dice.below(len(boards))]
            ends = [place for place in places[first + 1 :] if trip.calls[place].alights]
            last = ends[dice.below(len(ends))]
            rider = self._free_rider(dice, vehicle.now_ms)
            if rider is None:
                continue
            rider.rode_until_ms = max(vehicle.now_ms, begins_ms + trip.calls[last].arrival_s * 1000) + 1_800_000
            self._grant_of_the_year(rider, vehicle)
            armed = Armed(2) if dice.falls(mistakes.pair) else Armed(1, 1) if dice.falls(mistakes.child) else ONE_ADULT
            ride = _Ride(rider, first, last, armed)
            on.setdefault(first, []).append(ride)
            off.setdefault(last, []).append(ride)
        return on, off

    def _free_rider(self, dice: Dice, now_ms: int) -> Rider | None:
        """Somebody who is not on a bus now; some ride far more often than others."""
        for _ in range(8):
            limit = len(self.riders)
            rider = self.riders[dice.below(limit) if dice.falls(7000) else dice.below(dice.below(limit) + 1)]
            if rider.rode_until_ms < now_ms:
                return rider
        return None

    def _grant_of_the_year(self, rider: Rider, vehicle: _Vehicle) -> None:
        """The first ride of a fiscal year comes after a visit to the desk."""
        year = fiscal_year(vehicle.day)
        if year == rider.year:
            return
        spent = rider.counters.spent
        points = yearly_grant(vehicle.tariff.scheme, year, spent - rider.spent_before, rider.grant.total - spent, 0)
        rider.year, rider.spent_before = year, spent
        if points > 0:
            rider.grant = Grant(ISSUER, year, rider.grant.total + points, rider.grant.number + 1)
            rider.digest = rider.grant.digest
            rider.counters = replace(rider.counters, wcnt=rider.counters.wcnt + BLOCKS_OF_A_GRANT)

    # ── touches ──

    def _get_on(self, vehicle: _Vehicle, ride: _Ride) -> None:
        known_by, dice = vehicle.known_by, vehicle.dice
        if known_by is KnownBy.BOARDING_TAP and not dice.falls(self.wish.mistakes.no_boarding_tap):
            self._touch(vehicle, ride.rider, ONE_ADULT)
            if dice.falls(self.wish.mistakes.touched_twice):
                self._touch(vehicle, ride.rider, ONE_ADULT)
        if known_by is KnownBy.FLAT:
            self._pay(vehicle, ride, ride.armed, ride.boards)

    def _get_off(self, vehicle: _Vehicle, ride: _Ride) -> None:
        match vehicle.known_by:
            case KnownBy.FLAT:
                return
            case KnownBy.BOARDING_TAP:
                armed = ride.armed
            case KnownBy.NUMBERED_TICKET:
                armed = replace(ride.armed, ticket=self._ticket(vehicle, ride.boards))
            case KnownBy.DRIVER:
                armed = replace(ride.armed, boarded_at=ride.boards + 1)
        self._pay(vehicle, ride, armed, ride.alights)

    def _ticket(self, vehicle: _Vehicle, boards: int) -> int | None:
        """The number on the ticket of somebody who got on there; some have lost it."""
        trip = vehicle.duty.trip
        if trip is None or vehicle.dice.falls(self.wish.mistakes.lost_ticket):
            return None
        stop, tickets = trip.calls[boards].stop, vehicle.tariff.operator.tickets
        fits = (number for (route, name, number), stops in tickets.items() if route == trip.route and not name and stop in stops)
        return next(fits, None)

    def _pay(self, vehicle: _Vehicle, ride: _Ride, armed: Armed, place: int) -> None:
        """Touch until it is paid, with the driver's help; at most four times."""
        twice = vehicle.dice.falls(self.wish.mistakes.touched_twice)
        for _ in range(4):
            event = self._touch(vehicle, ride.rider, armed, place)
            if event in _SETTLED and twice:
                twice = False
                self._touch(vehicle, ride.rider, ONE_ADULT, place)
            if event in _SETTLED or event in _GIVEN_UP:
                return
            if event is Event.CARD_LEFT and vehicle.dice.falls(self.wish.mistakes.walked_off):
                return
            if event is Event.CARD_LEFT:
                continue
            if vehicle.duty.at != place:
                _step_to(vehicle, place)
            elif event in _CONFUSED:
                armed = replace(armed, boarded_at=ride.boards + 1)
            else:
                armed = replace(armed, fare_yen=200 * armed.riders)

    def _touch(self, vehicle: _Vehicle, rider: Rider, armed: Armed, place: int = -1) -> Event:
        """One touch of a card; what came of it. ``place``: where the vehicle truly is, when a payment is expected."""
        self.truth.touches += 1
        vehicle.now_ms += 1_500
        if vehicle.duty.armed != armed:
            vehicle.duty = replace(vehicle.duty, armed=armed)
        while True:
            decision = self._decide(vehicle, rider)
            row = _ROWS[decision.event]
            entry = decision.entry
            if entry is None:
                self.truth.silent += 1
                if Do.WITHDRAW in row.does:
                    vehicle.ledger.intents.pop(rider.id, None)
                return decision.event
            if decision.event is Event.DUE:
                return self._debit(vehicle, rider, entry, place)
            self._book(vehicle, rider, entry if entry.row == row.name else replace(entry, row=row.name), place)
            if decision.event is not Event.OLD_KNOWN:
                return decision.event

    def _debit(self, vehicle: _Vehicle, rider: Rider, entry: Entry, place: int) -> Event:
        """The write, and how the reading after it goes."""
        mistakes, dice, medium = self.wish.mistakes, vehicle.dice, entry.medium
        if medium is None or medium.after is None:
            raise ValueError("a debit without counters")
        if vehicle.practice:
            self._book(vehicle, rider, replace(entry, row=_PROVEN, medium=replace(medium, after=medium.before)), place)
            return Event.DUE
        cut, pulled = dice.falls(mistakes.power_cut), dice.falls(mistakes.pulled_hand)
        if cut or pulled:
            done = dice.falls(5000)
            if done:
                rider.counters = medium.after
            vehicle.ledger.intents[rider.id] = replace(entry, row=_DUE, device=0, epoch=0, seq=0), done
            if cut:
                _restart(vehicle)
            return Event.CARD_LEFT
        rider.counters = medium.after
        name = _FOUND if dice.falls(mistakes.found_again) else _PROVEN
        self._book(vehicle, rider, entry if entry.row == name else replace(entry, row=name), place)
        return Event.DUE

    # ── what a touch means ──

    def _decide(self, vehicle: _Vehicle, rider: Rider) -> Decision:
        ledger, run, who = vehicle.ledger, vehicle.run, rider.id
        plain = self._quick and not rider.blocked and who not in ledger.intents and who not in ledger.unknown and who not in run.rode
        decision = self._plain(vehicle, rider) if plain else None
        return decision or self._in_full(vehicle, rider)

    def _in_full(self, vehicle: _Vehicle, rider: Rider) -> Decision:
        ledger, run, who = vehicle.ledger, vehicle.run, rider.id
        intent = ledger.intents.get(who)
        known = Known(
            intent=Intent(intent[0]) if intent else None,
            unknown=tuple(ledger.unknown.get(who, ())),
            rode=tuple(run.rode.get(who, ())),
            boarded=run.boarded.get(who),
            unpriced=run.unpriced.get(who),
            blocked=rider.blocked,
        )
        reading = PurseReading(who, rider.counters, rider.grant, grant_known=True, session=_NO_CARD)
        return decide(reading, outlook(known, vehicle.scene(self._zone), vehicle.tariff))

    def _plain(self, vehicle: _Vehicle, rider: Rider) -> Decision | None:
        """The decision of ``journey.decide`` for a rider of whom nothing is open and nothing paid; None when it is not that plain."""
        duty, run, armed, trip = vehicle.duty, vehicle.run, vehicle.duty.armed, vehicle.duty.trip
        if trip is None:
            return None
        boarded = run.boarded.get(rider.id)
        told = armed.fare_yen is not None or armed.ticket is not None or armed.boarded_at is not None
        if not told and vehicle.known_by is KnownBy.BOARDING_TAP:
            if boarded is None:
                return Decision(
                    Event.BOARDING,
                    entry=_entry(vehicle, rider, Kind.OPEN, _fare(0, 0, 0, armed.adults, armed.children), duty.stop, row=_BOARDING),
                )
            if boarded.place.boarding == duty.stop:
                return Decision(Event.BOARDED_BEFORE)
        boarding = duty.boarded_at or (boarded.place.boarding if boarded else "")
        marked = self._price(vehicle, trip, boarding)
        return None if marked is None else self._charge(vehicle, rider, trip, *marked)

    def _charge(self, vehicle: _Vehicle, rider: Rider, trip: Trip, priced: Priced, flags: Flags) -> Decision:
        armed, run = vehicle.duty.armed, vehicle.run
        balance = max(0, rider.grant.total - rider.counters.spent)
        points, cash = self._due(vehicle, trip, priced, balance)
        fare = _fare(priced.yen, points, cash, armed.adults, armed.children)
        answers = run.boarded.get(rider.id) or run.unpriced.get(rider.id)
        seq = answers.seq if answers else 0
        if not points:
            kind, event, name = (Kind.PAID, Event.CASH_ONLY, _CASH) if cash else (Kind.FREE, Event.NOTHING_DUE, _FREE)
            return Decision(event, entry=_entry(vehicle, rider, kind, fare, priced.boarding, row=name, flags=flags, ref=seq))
        before, now = rider.counters, vehicle.instant()
        log = RegLog(vehicle.ledger.device, now.utc_ms // 1000 & 0xFFFFFFFF, LOG_KIND_RIDE)
        after = Counters(before.rega - points, before.regb - 1, log.block(), before.wcnt + 1)
        return Decision(
            Event.DUE, entry=_entry(vehicle, rider, Kind.PAID, fare, priced.boarding, row=_PROVEN, flags=flags, ref=seq, after=after)
        )

    def _price(self, vehicle: _Vehicle, trip: Trip, boarding: str) -> _Marked | None:
        duty, prices = vehicle.duty, self._fares_of[id(vehicle)].prices
        armed = duty.armed
        party = armed.adults, armed.children, armed.fare_yen, armed.ticket, armed.boarded_at  # hashed sooner than the whole
        key = trip.id, duty.at, boarding, party, duty.service_day
        if key not in prices:
            day = date.fromordinal(_EPOCH_DAY + duty.service_day) if duty.service_day else None
            ride = Ride(
                trip.route, trip.id, boarding or None, duty.stop or None, armed.adults, armed.children, armed.fare_yen, day, armed.ticket
            )
            price = price_ride(vehicle.tariff.table, vehicle.tariff.operator, ride)
            if len(prices) > _MOST_PRICES:
                prices.clear()
            prices[key] = (price, _flags(price)) if isinstance(price, Priced) else None
        return prices[key]

    def _due(self, vehicle: _Vehicle, trip: Trip, priced: Priced, balance: int) -> tuple[int, int]:
        """Points and cash. A scheme cannot tell balances apart that are above the fare."""
        day, dues = vehicle.duty.service_day, self._fares_of[id(vehicle)].dues
        key = priced.yen, priced.holder, min(balance, priced.yen), trip.route, day
        if key not in dues:
            lines = vehicle.tariff.operator.policy(trip.route).lines
            on = date.fromordinal(_EPOCH_DAY + day) if day else None
            due = vehicle.tariff.scheme.decide(Question(priced.yen, priced.holder, key[2], on, lines))
            if len(dues) > _MOST_PRICES:
                dues.clear()
            dues[key] = due.points, due.cash
        return dues[key]

    # ── what is written, and what is true ──

    def _book(self, vehicle: _Vehicle, rider: Rider, entry: Entry, place: int) -> None:
        intent = vehicle.ledger.intents.pop(rider.id, None)
        if entry.kind is Kind.UNKNOWN:
            self._unknown(vehicle, entry, done=intent is not None and intent[1])
            return
        practice = vehicle.practice and entry.kind is not Kind.RESOLVED  # which is about a ride of another day
        if practice:
            entry = replace(entry, flags=entry.flags | Flags.PRACTICE)
            self.truth.practice += 1
        numbered = vehicle.ledger.append(entry)
        day = vehicle.day
        if entry.kind is Kind.RESOLVED:
            day = self._resolved(vehicle.ledger, rider.id, numbered)
        if same_run(entry.place, vehicle.duty.place()) if entry.kind is Kind.RESOLVED else True:
            vehicle.run.note(numbered, rider.id)
        if not practice:
            self._tell(vehicle, rider, numbered, day)
        if place >= 0 and vehicle.duty.at != place and (numbered.counts_as_paid or numbered.kind is Kind.FREE):
            self._slipped(vehicle, numbered, place)

    def _slipped(self, vehicle: _Vehicle, entry: Entry, place: int) -> None:
        calls: Sequence[Call] = vehicle.duty.trip.calls if vehicle.duty.trip else ()
        if entry.kind is not Kind.RESOLVED and not entry.flags & Flags.RECOVERED:
            self.truth.wrong_stops.append(WrongStop(entry.device, entry.epoch, entry.seq, calls[place].stop))

    def _tell(self, vehicle: _Vehicle, rider: Rider, entry: Entry, day: date) -> None:
        if entry.kind is Kind.OPEN:
            return
        month, fare = self._month(vehicle, day), entry.fare
        if entry.counts_as_paid:
            month.rides += 1
            month.points += fare.points
            month.cash += fare.cash
            month.nominal += fare.nominal
            rider.booked += fare.points
            month.recovered += entry.flags is not Flags.NONE and Flags.RECOVERED in entry.flags
        elif entry.kind is Kind.FREE:
            month.free_rides += 1
            month.free_nominal += fare.nominal
        month.without_day += not entry.place.service_day and (entry.counts_as_paid or entry.kind is Kind.FREE)
        month.resolved += entry.kind is Kind.RESOLVED
        month.unpriced += entry.kind is Kind.UNPRICED
        month.refused += entry.kind is Kind.REFUSED

    def _month(self, vehicle: _Vehicle, day: date) -> Month:
        return self.truth.months[vehicle.duty.operator, _named(day)]

    def _unknown(self, vehicle: _Vehicle, entry: Entry, *, done: bool) -> None:
        numbered, ledger = vehicle.ledger.append(entry), vehicle.ledger
        rider = entry.medium.rider if entry.medium else b""
        ledger.unknown.setdefault(rider, []).append(numbered)
        operator, points = vehicle.duty.operator, entry.fare.points
        fate = Fate(numbered.device, numbered.epoch, numbered.seq, rider, points, done, vehicle.day, operator)
        ledger.fates[numbered.seq] = fate
        self.truth.unknown.append(fate)

    def _resolved(self, ledger: _Ledger, rider: bytes, entry: Entry) -> date:
        """Put the UNKNOWN down that ``entry`` answers; its day."""
        left = [unknown for unknown in ledger.unknown.pop(rider, []) if unknown.seq != entry.ref]
        if left:
            ledger.unknown[rider] = left
        fate = ledger.fates[entry.ref]
        fate.resolved = entry.seq
        return fate.day

    def _reckon(self) -> None:
        for fate in self.truth.unknown:
            month = self.truth.months[fate.operator, _named(fate.day)]
            month.unknown += 1
            if fate.done and not fate.resolved:
                month.unknown_done += 1
                month.unknown_done_points += fate.points


def _entry(
    vehicle: _Vehicle,
    rider: Rider,
    kind: Kind,
    fare: Fare,
    boarding: str,
    *,
    row: str,
    flags: Flags = Flags.NONE,
    ref: int = 0,
    after: Counters | None = None,
) -> Entry:
    ledger, now, counters, grant = vehicle.ledger, vehicle.instant(), rider.counters, rider.grant
    if now.state is ClockState.UNSET:
        flags |= Flags.CLOCK_UNSET
    return Entry(
        kind,
        When(now.boot, now.mono_ms, now.utc_ms, int(now.state)),
        vehicle.place(boarding),
        Medium(rider.id, grant.total, grant.number, rider.digest, counters, after or counters),
        fare,
        vehicle.tap_versions,
        flags,
        Outcome.NONE,
        ref,
        row,
        "",
        ledger.device,
        ledger.epoch,
        ledger.seq + 1,
    )


def _step_to(vehicle: _Vehicle, place: int) -> None:
    """The driver steps to the call ``place``, key by key."""
    while vehicle.duty.at != place:
        vehicle.now_ms += 400
        by = 1 if vehicle.duty.at < place else -1
        vehicle.duty = replace(vehicle.duty, at=vehicle.duty.at + by, armed=ONE_ADULT)
        vehicle.note(Kind.STOP_SET, call_reason(vehicle.duty))


def _restart(vehicle: _Vehicle) -> None:
    """The power went, and came back: another boot on the same trip. The clock goes on from the battery."""
    vehicle.now_ms += 20_000 + vehicle.dice.below(70_000)
    vehicle.boot, vehicle.booted_ms = vehicle.boot + 1, vehicle.now_ms - 15_000
    if vehicle.state is not ClockState.UNSET:
        vehicle.state = ClockState.RTC
    vehicle.duty = replace(vehicle.duty, armed=ONE_ADULT)
    vehicle.note(Kind.BOOT)


def _flags(priced: Priced) -> Flags:
    flags = Flags.NONE
    for flag in priced.flags:
        flags |= FLAGS[flag]
    return flags


@lru_cache(maxsize=64)
def _named(day: date) -> str:
    return f"{day:%Y-%m}"


@lru_cache(maxsize=65_536)
def _fare(nominal: int, points: int, cash: int, adults: int, children: int) -> Fare:
    return Fare(nominal, points, cash, adults, children)


_ROWS = {event: row for (state, event), row in TABLE.items() if state is State.DECIDING}
_DUE = step(State.DECIDING, Event.DUE).name
_BOARDING = step(State.DECIDING, Event.BOARDING).name
_CASH = step(State.DECIDING, Event.CASH_ONLY).name
_FREE = step(State.DECIDING, Event.NOTHING_DUE).name
_PROVEN = step(State.CHECKING, Event.DONE).name
_FOUND = step(State.SEARCHING, Event.DONE).name
