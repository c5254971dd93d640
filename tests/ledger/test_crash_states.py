"""The power is cut anywhere, and nothing that was promised is lost.

A *life* is a ledger on the twin disk that is used, cut off in the middle of something, found again as the disk may be then, and used on.
Beside it, at any step, a *state* is drawn: the disk as it would be found if the power went now. In each of them the store's own code opens
the ledger and must find exactly what was promised, or that plus the one thing that was under way.

What the city has signed for is forgotten now and then, and in the end the ledger may have to begin a new epoch; both are cut off anywhere,
too. Then nothing above the city's watermark may be missing, nothing may be there twice, and every open debit is in one epoch only.

The same job on settings that are known to lose rows must find lost rows; otherwise it proves nothing.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Protocol

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from drivers.emulated.disk import Disk, DiskBeside, DiskVfs, PowerCut
from ledger.chain import Head, follow, genesis
from ledger.codec import encode
from ledger.entry import Counters, Entry, Fare, Intent, Kind, Medium, Place, Versions, When
from ledger.errors import LedgerError, StoreLost, StoreRolledBack
from ledger.notes import Loss
from ledger.receipt import Receipt
from ledger.renewal import Note
from ledger.store import LedgerFile, Settings, Store, _read_only

DEVICE, EPOCH = 7, 4711
PATH = "/ledger"
WHEN = When(boot=3, mono_ms=123_456, utc_ms=1_770_000_000_000, clock=3)
VEHICLE = Settings(locking="EXCLUSIVE", ballast_bytes=0)
CONTROLS = {
    "WAL with NORMAL": replace(VEHICLE, synchronous="NORMAL"),
    "DELETE with FULL": replace(VEHICLE, journal="DELETE", locking="NORMAL"),
    "trusting the neighbours of a written byte": replace(VEHICLE, powersafe_overwrite=True),
}
numbers = itertools.count()


class Seeds(Protocol):
    def seeds(self, small: int, full: int) -> Iterator[int]: ...


class Lost(Exception):
    """Something that was promised is not there, or something is there that nobody wrote."""


@dataclass(frozen=True)
class Content:
    """``cut``: how many of the oldest entries were forgotten, and the chain's hash there; ``signed``: how far the city has them.

    What is still asked for outlives its entry: ``unknown`` debits by rider, and the number of the last ``boot``.
    """

    entries: tuple[bytes, ...] = ()
    intents: dict[bytes, bytes] = field(default_factory=dict)
    grants: dict[bytes, bytes] = field(default_factory=dict)
    cut: Head = field(default_factory=lambda: Head(0, genesis(DEVICE, EPOCH)))
    signed: int = 0
    unknown: tuple[bytes, ...] = ()
    boot: int = 0

    @property
    def size(self) -> tuple[int, int, int, int]:
        return len(self.entries), len(self.intents), self.cut.seq, self.signed

    @property
    def head(self) -> Head:
        return self.at(self.cut.seq + len(self.entries))

    def at(self, seq: int) -> Head:
        """The chain after the entry ``seq``."""
        hashed = self.cut.hash
        for data in self.entries[: seq - self.cut.seq]:
            hashed = follow(hashed, data)
        return Head(seq, hashed)

    def plus(self, *entries: Entry) -> "Content":
        first = self.cut.seq + len(self.entries) + 1
        numbered = [replace(entry, device=DEVICE, epoch=EPOCH, seq=seq) for seq, entry in enumerate(entries, first)]
        unknown = tuple(encode(entry) for entry in numbered if entry.kind is Kind.UNKNOWN)
        boot = max((entry.seq for entry in numbered if entry.kind is Kind.BOOT), default=self.boot)
        return replace(
            self, entries=self.entries + tuple(map(encode, numbered)), unknown=tuple(sorted((*self.unknown, *unknown))), boot=boot
        )

    def without(self, seq: int) -> "Content":
        """Everything up to the entry ``seq`` is forgotten."""
        return replace(self, entries=self.entries[seq - self.cut.seq :], cut=self.at(seq))

    def intending(self, rider: bytes, intent: Intent | None) -> "Content":
        others = {other: data for other, data in self.intents.items() if other != rider}
        mine = {rider: encode(replace(intent.entry, device=DEVICE, epoch=EPOCH))} if intent else {}
        return replace(self, intents=others | mine)


def content_of(store: Store, grants: dict[bytes, bytes]) -> Content:
    intents = {intent.entry.medium.rider: encode(intent.entry) for intent in store.intents() if intent.entry.medium}
    known = {rider: digest for rider, digest in grants.items() if store.knows_grant(rider, digest)}
    entries = tuple(encode(entry) for entry in store.after(0, 10_000))
    unknown = [encode(entry) for number in range(1, 7) for entry in store.unknown_of(number.to_bytes(8, "big"))]
    signed, boot = store.acknowledged(), store.last(Kind.BOOT)
    found = Content(
        entries,
        intents,
        known,
        store._cut or Head(0, genesis(DEVICE, EPOCH)),
        signed.head.seq if signed else 0,
        tuple(sorted(unknown)),
        boot.seq if boot else 0,
    )
    if store.head() != found.head:
        raise Lost("the head is not the chain's")
    return found


def a_ride(rider: int, kind: Kind = Kind.PAID) -> Entry:
    before = Counters(1500, 0xFFFF_FFFF, bytes(8), 100)
    after = replace(before, rega=1400, regb=before.regb - 1, regc=rider.to_bytes(8, "big"), wcnt=101)
    medium = Medium(rider.to_bytes(8, "big"), 2000, 1, b"granted!", before, after)
    place = Place("minato", "101", 12, "R1", "T0815", "S03", "S07", 20_485)
    return Entry(kind, WHEN, place, medium, Fare(200, 100), Versions(b"table---", b"scheme--", b"operator", "0.1.0"), row="proven")


class Life:
    """A store on a disk, what it has promised, and what it was about to promise."""

    def __init__(self, given: Settings, template: Disk, kind: type[Store] = Store) -> None:
        self.kind = kind
        self.vfs = DiskVfs(f"life{next(numbers)}", template.copy())
        self.probe_vfs = DiskVfs(f"probe{next(numbers)}", Disk())
        self.given = given
        self.promised = Content()
        self.under_way = Content()
        self.store = self.open(self.disk, self.vfs)
        self.states = 0
        self.drawn: list[tuple[Disk, Content, Content]] = []

    @property
    def disk(self) -> Disk:
        return self.vfs.disk

    def open(self, disk: Disk, vfs: DiskVfs) -> Store:
        vfs.disk = disk
        return self.kind.open(PATH, device=DEVICE, settings=replace(self.given, vfs=vfs.name), beside=DiskBeside(disk, PATH))

    def do(self, act: Callable[[Store], object], then: Content) -> None:
        self.under_way = then
        act(self.store)
        self.still_on()
        self.promised = then

    def still_on(self) -> None:
        """SQLite swallows the power cut where an error would not matter (closing a file); then nobody was promised anything."""
        if self.disk.dead:
            raise PowerCut

    def draw(self, random: Random) -> None:
        """Keep the disk as it may be found if the power went now, with what would then have been promised."""
        self.drawn.append((self.disk.after_power_cut(random), self.promised, self.under_way))

    def look(self, random: Random) -> None:
        """Look at the states drawn; in some of them write on, and cut that off too."""
        for disk, promised, under_way in self.drawn:
            store = self.found(disk, self.probe_vfs, promised, under_way)
            if random.random() < 0.3:
                self.look_deeper(store, random)
            disk.dead = True
            store._disconnect()
        self.drawn.clear()

    def look_deeper(self, store: Store, random: Random) -> None:
        disk = self.probe_vfs.disk
        promised = content_of(store, self.under_way.grants)
        under_way = promised.plus(a_ride(999))
        disk.cut_at = disk.steps + random.randint(1, 12)
        try:
            store.append(a_ride(999))
            promised = promised if disk.dead else under_way
        except PowerCut:
            pass
        disk.dead = True
        store._disconnect()
        self.found(disk.after_power_cut(random), self.probe_vfs, promised, under_way)._disconnect()

    def found(self, disk: Disk, vfs: DiskVfs, promised: Content, under_way: Content) -> Store:
        """The store on ``disk``, after a cut; ``Lost`` unless it holds what was promised, or also what was under way."""
        self.states += 1
        try:
            store = self.open(disk, vfs)
            content = content_of(store, under_way.grants)
        except LedgerError as error:
            raise Lost(str(error)) from error
        if content not in (promised, under_way):
            raise Lost(f"promised were {promised.size} entries and intents, there are {content.size}")
        return store

    def revive(self, random: Random) -> None:
        """Power comes back, on the disk as it may be."""
        self.disk.dead = True
        self.store._disconnect()
        self.store = self.found(self.disk.after_power_cut(random), self.vfs, self.promised, self.under_way)
        self.promised = self.under_way = content_of(self.store, self.under_way.grants)

    def end(self) -> None:
        self.disk.dead = True
        self.store._disconnect()
        self.vfs.unregister()
        self.probe_vfs.unregister()

    # ── what a vehicle does ──

    def act_for_ever(self, random: Random) -> None:
        while True:
            self.act(random)
            self.look(random)

    def act(self, random: Random) -> None:
        number = random.randint(1, 6)
        choices = (
            *(self.tap, self.tap, self.tap, self.note, self.begin, self.give_up, self.trip_end, self.pause, self.restart),
            *(self.start, self.letter, self.forget),
        )
        random.choice(choices)(number)

    def tap(self, number: int) -> None:
        self.begin(number)
        ride = a_ride(number)
        rider = number.to_bytes(8, "big")
        paid = self.promised.intending(rider, None).plus(ride)
        self.do(lambda store: store.pay(rider, ride, b"digest!!"), replace(paid, grants=paid.grants | {rider: b"digest!!"}))

    def begin(self, number: int) -> None:
        rider = number.to_bytes(8, "big")
        intent = Intent(a_ride(number))
        self.do(lambda store: store.intend(intent), self.promised.intending(rider, intent))

    def give_up(self, number: int) -> None:
        rider = number.to_bytes(8, "big")
        self.do(lambda store: store.withdraw(rider), self.promised.intending(rider, None))

    def note(self, number: int) -> None:
        free = replace(a_ride(number), kind=Kind.FREE)
        self.do(lambda store: store.append(free), self.promised.plus(free))

    def trip_end(self, _: int) -> None:
        unknown = [replace(a_ride(int.from_bytes(rider, "big")), kind=Kind.UNKNOWN) for rider in sorted(self.promised.intents)]
        self.do(lambda store: store.expire_intents(WHEN), replace(self.promised, intents={}).plus(*unknown))

    def start(self, _: int) -> None:
        boot = replace(a_ride(1), kind=Kind.BOOT, medium=None)
        self.do(lambda store: store.append(boot), self.promised.plus(boot))

    def letter(self, number: int) -> None:
        """The city signs for some more entries."""
        now = self.promised
        upto = now.at(min(now.head.seq, max(now.signed, now.cut.seq) + number))
        receipt = Receipt(DEVICE, EPOCH, upto.seq + 1, upto.hash, issued_ms=upto.seq)
        self.do(lambda store: store.acknowledge(receipt), replace(now, signed=max(now.signed, upto.seq)))

    def forget(self, number: int) -> None:
        """The oldest entries are older than the keeping time; never one that the city has not, nor the last, nor one remembered outside."""
        self.letter(number)
        self.pause(number)
        now = self.promised
        most = min(now.signed, now.head.seq - 1, self.store._remembered.head.seq)
        self.do(lambda store: store.forget(WHEN.utc_ms + 1), now.without(most) if most > now.cut.seq else now)

    def pause(self, _: int) -> None:
        self.do(Store.checkpoint, self.promised)

    def restart(self, _: int) -> None:
        self.under_way = self.promised
        self.store.close()
        self.still_on()
        self.store = self.open(self.disk, self.vfs)
        self.still_on()


def a_new_disk(given: Settings) -> Disk:
    disk = Disk()
    vfs = DiskVfs(f"new{next(numbers)}", disk)
    beside = DiskBeside(disk, PATH)
    Store.create(PATH, device=DEVICE, epoch=EPOCH, settings=replace(given, vfs=vfs.name), beside=beside).close()
    vfs.unregister()
    return disk


def live(given: Settings, template: Disk, number: int, kind: type[Store] = Store) -> int:
    """One life of three power cuts; the number of states that were looked at."""
    random = Random(number)
    life = Life(given, template, kind)

    def draw() -> None:
        if random.random() < 0.6:
            life.draw(random)

    try:
        for _ in range(3):
            disk = life.disk
            disk.on_step = draw
            disk.cut_at = disk.steps + random.randint(1, 150)
            with pytest.raises(PowerCut):
                life.act_for_ever(random)
            life.look(random)
            life.revive(random)
        return life.states
    finally:
        life.end()


def live_often(given: Settings, template: Disk, lives: int, kind: type[Store] = Store) -> None:
    for number in range(lives):
        live(given, template, number, kind)


@pytest.fixture(scope="module")
def template() -> Disk:
    return a_new_disk(VEHICLE)


@pytest.mark.prove
def test_no_promise_is_lost_in_any_crash_state(proof: Seeds, template: Disk) -> None:
    states = lives = 0
    for number in proof.seeds(small=10, full=650):
        states += live(VEHICLE, template, number)
        lives += 1
    assert states >= lives * 154  # so 650 lives are at least 100,000 states


def test_the_job_also_clears_settings_that_are_only_slow() -> None:
    given = replace(VEHICLE, journal="DELETE", locking="NORMAL", synchronous="EXTRA")
    template = a_new_disk(given)
    live_often(given, template, 3)


@pytest.mark.parametrize("control", CONTROLS)
def test_the_same_job_finds_lost_rows_on_settings_that_lose_rows(control: str) -> None:
    given = CONTROLS[control]
    template = a_new_disk(given)
    with pytest.raises(Lost):
        live_often(given, template, 200)


class Hasty(Store):
    """A store that writes on at once where the log ended, instead of restarting the log first."""

    def _make_room(self, connection: object) -> None:
        """Do nothing."""


def test_the_same_job_finds_lost_rows_when_the_log_is_not_restarted_at_opening(template: Disk) -> None:
    with pytest.raises(Lost):
        live_often(VEHICLE, template, 200, Hasty)


def test_a_creation_cut_off_anywhere_can_be_finished() -> None:
    whole = a_new_disk(VEHICLE).steps
    for cut in [*range(1, 60, 2), *range(60, whole, 100)]:
        random = Random(cut)
        disk = Disk()
        vfs = DiskVfs(f"cut{next(numbers)}", disk)
        given = replace(VEHICLE, vfs=vfs.name)
        disk.cut_at = cut
        with suppress(PowerCut):
            Store.create(PATH, device=DEVICE, epoch=EPOCH, settings=given, beside=DiskBeside(disk, PATH))
        found = vfs.disk = disk.after_power_cut(random)
        beside = DiskBeside(found, PATH)
        if beside.memory() is None:
            store = Store.create(PATH, device=DEVICE, epoch=EPOCH + 1, settings=given, beside=beside)
        else:
            store = Store.open(PATH, device=DEVICE, settings=given, beside=beside)
        assert store.append(a_ride(1)).seq == 1
        store._disconnect()
        vfs.unregister()


# ── a new epoch ──


class RenewalOnDisk:
    """A ``ledger.renewal.Renewal`` on the twin disk: the same names and steps as beside a database on a real one."""

    parts: tuple[str, ...] = ("", "-wal")

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def pending(self) -> Note | None:
        return Note.from_bytes(self.disk.content(NOTE), NOTE) if self.disk.exists(NOTE) else None

    def free_name(self, epoch: int) -> str:
        return f"{PATH}.epoch-{epoch}"

    def begin(self, note: Note) -> None:
        self.disk.replace(NOTE, note.to_bytes())

    def set_aside(self, note: Note) -> None:
        for suffix in self.parts:
            if self.disk.exists(PATH + suffix):
                self.disk.rename(PATH + suffix, note.name + suffix)
        self.disk.flush_names()

    def old_database(self, note: Note) -> Path:
        return Path(note.name if self.disk.exists(note.name) else PATH)

    def end(self) -> None:
        self.disk.delete(NOTE, durable=True)


NOTE = PATH + ".renewal"
NEW_EPOCH = 815
VERSIONS = Versions(software="0.1.0")


class Renewing:
    """A ledger that has to begin a new epoch: the city has more of it (``behind``), or nobody knows any more how old it is."""

    def __init__(self, template: Disk, random: Random, kind: type[RenewalOnDisk], *, behind: bool) -> None:
        self.kind = kind
        self.life = Life(SMALL, template)
        for _ in range(random.randint(3, 12)):
            self.life.act(random)
        self.life.begin(random.randint(1, 6))
        self.before = self.life.promised
        self.told: list[Loss] = []
        self.lacks = self.before.head.seq + (9 if behind else 1)
        self.store = self.life.store
        if behind:
            self.store._renewal = kind(self.life.disk)
            with pytest.raises(StoreRolledBack):
                self.store.acknowledge(Receipt(DEVICE, EPOCH, self.lacks, b"h" * 32, issued_ms=10**6))
        else:
            disk = self.life.disk.copy()  # as it was when the power went: the log still holds what was written last
            disk.delete(PATH + ".memory", durable=True)
            self.life.disk.dead = True
            self.store._disconnect()
            self.life.vfs.disk = disk
            self.store = self.on(disk, self.life.vfs)

    def on(self, disk: Disk, vfs: DiskVfs) -> Store:
        store = Store(PATH, DiskBeside(disk, PATH), replace(SMALL, vfs=vfs.name), DEVICE)
        store._renewal = self.kind(disk)
        return store

    def renew(self, store: Store, epoch: int) -> None:
        store._begin(renew=lambda: store._renew(epoch, WHEN, VERSIONS, self.told.append))

    def found(self, disk: Disk, epoch: int, random: Random, depth: int = 2) -> None:
        """After a cut: whoever opens the ledger finds the old one whole, or finishes the new one; now and then that is cut off, too."""
        self.life.probe_vfs.disk = disk
        store = self.on(disk, self.life.probe_vfs)
        note = self.kind(disk).pending()
        try:
            store._begin()
        except StoreRolledBack:
            if depth and random.random() < 0.5:
                disk.cut_at = disk.steps + random.randint(1, 60)
            try:
                self.renew(store, epoch)
            except (PowerCut, StoreLost):
                disk.dead = True
            if disk.dead:
                store._disconnect()
                self.found(disk.after_power_cut(random), epoch + 1, random, depth - 1)
                return
            if store.epoch != (note.new if note else epoch):
                raise Lost("a renewal that was begun goes on in another epoch") from None
        if store.epoch == EPOCH:
            if disk.exists(NOTE) or content_of(store, self.before.grants) != self.before:
                raise Lost("the old ledger is not what it was")
        else:
            self.new_epoch_is_whole(store, disk)
        disk.dead = True
        store._disconnect()

    def new_epoch_is_whole(self, store: Store, disk: Disk) -> None:
        entries = store.after(0, 100)
        if [entry.kind for entry in entries if entry.seq == 1] != [Kind.EPOCH] or {entry.epoch for entry in entries} != {store.epoch}:
            raise Lost("the new epoch does not begin as one")
        unknown = sorted(encode(replace(entry, kind=Kind.PAID, when=WHEN, epoch=EPOCH, seq=0)) for entry in entries if entry.medium)
        if unknown != sorted(self.before.intents.values()) or store.intents():
            raise Lost("an open debit is lost, or there twice")
        if sum(entry.kind is Kind.BOOT for entry in entries) != bool(self.before.boot):
            raise Lost("what stood is not taken over once")
        if disk.exists(NOTE) or {(loss.epoch, loss.first) for loss in self.told} != {(EPOCH, self.lacks)}:
            raise Lost("the city is not told what it lacks")
        aside = f"{PATH}.epoch-{EPOCH}"
        with LedgerFile(_read_only(Path(aside), replace(SMALL, vfs=self.life.probe_vfs.name)), aside, None) as old:
            kept = tuple(encode(entry) for entry in old.after(0, 10_000))
            if (old.epoch, old.start(), kept, old.verify().findings) != (EPOCH, self.before.cut, self.before.entries, []):
                raise Lost("the old ledger is not whole where it lies now")


SMALL = replace(VEHICLE, log_bytes=0)


def renew_and_cut(template: Disk, number: int, kind: type[RenewalOnDisk] = RenewalOnDisk) -> int:
    """A renewal, and what is found when the power goes at each of its steps; how many states that was."""
    random = Random(number)
    renewing = Renewing(template, random, kind, behind=number % 2 == 0)
    states: list[Disk] = []
    disk = renewing.life.disk
    disk.on_step = lambda: states.extend(disk.after_power_cut(random) for _ in range(2))
    try:
        renewing.renew(renewing.store, NEW_EPOCH)
        disk.on_step = None
        states.append(disk.after_power_cut(random))
        for state in states:
            renewing.found(state, NEW_EPOCH + 1, random)
        return len(states)
    finally:
        renewing.store._disconnect()
        renewing.life.end()


@pytest.mark.prove(parts=4)
def test_a_new_epoch_that_is_cut_off_anywhere_loses_nothing_and_has_nothing_twice(proof: Seeds) -> None:
    template = a_new_disk(SMALL)
    for number in proof.seeds(small=2, full=400):
        assert renew_and_cut(template, number) > 80


def renew_often(template: Disk, numbers: Iterable[int], kind: type[RenewalOnDisk]) -> None:
    for number in numbers:
        renew_and_cut(template, number, kind)


class WithoutItsLog(RenewalOnDisk):
    """Sets the database aside, and leaves behind what was written last."""

    parts = ("",)


def test_the_same_job_finds_what_is_lost_when_a_log_is_left_behind() -> None:
    template = a_new_disk(SMALL)
    with pytest.raises(Lost):
        renew_often(template, range(1, 20, 2), WithoutItsLog)


# ── the same, with Hypothesis looking for the sequence ──

riders = st.integers(1, 4)
seeds = st.integers(0, 2**32)
steps = st.integers(1, 20)


class Vehicle(RuleBasedStateMachine):
    """Taps, cuts between taps, cuts inside taps."""

    given = VEHICLE
    template = Disk()

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(self.given, self.template)

    def teardown(self) -> None:
        self.life.end()

    def cut_inside(self, what: Callable[[int], None], rider: int, step: int, number: int) -> None:
        disk = self.life.disk
        disk.cut_at = disk.steps + step
        try:
            what(rider)
        except PowerCut:
            self.life.revive(Random(number))
        else:
            disk.cut_at = None

    @rule(rider=riders)
    def tap(self, rider: int) -> None:
        self.life.tap(rider)

    @rule(rider=riders)
    def hand_pulls_away(self, rider: int) -> None:
        self.life.begin(rider)

    @rule(rider=riders)
    def proven_not_done(self, rider: int) -> None:
        self.life.give_up(rider)

    @rule()
    def trip_ends(self) -> None:
        self.life.trip_end(0)

    @rule()
    def nobody_for_five_seconds(self) -> None:
        self.life.pause(0)

    @rule(entries=st.integers(1, 20))
    def the_city_signs(self, entries: int) -> None:
        self.life.letter(entries)

    @rule()
    def the_terminal_starts(self) -> None:
        self.life.start(0)

    @rule(step=steps, number=seeds)
    def power_goes_while_old_entries_are_forgotten(self, step: int, number: int) -> None:
        self.cut_inside(self.life.forget, 0, step, number)

    @rule(entries=st.integers(1, 20), step=steps, number=seeds)
    def power_goes_while_a_receipt_is_taken_in(self, entries: int, step: int, number: int) -> None:
        self.cut_inside(self.life.letter, entries, step, number)

    @rule(number=seeds)
    def power_goes_between_taps(self, number: int) -> None:
        self.life.revive(Random(number))

    @rule(rider=riders, step=steps, number=seeds)
    def power_goes_inside_a_tap(self, rider: int, step: int, number: int) -> None:
        self.cut_inside(self.life.tap, rider, step, number)

    @rule(rider=riders, step=steps, number=seeds)
    def power_goes_inside_a_note(self, rider: int, step: int, number: int) -> None:
        self.cut_inside(self.life.note, rider, step, number)

    @rule(step=steps, number=seeds)
    def power_goes_inside_a_checkpoint(self, step: int, number: int) -> None:
        self.cut_inside(self.life.pause, 0, step, number)

    @rule(step=steps, number=seeds)
    def power_goes_while_closing_or_opening(self, step: int, number: int) -> None:
        self.cut_inside(self.life.restart, 0, step, number)

    @invariant()
    def what_was_promised_is_there(self) -> None:
        if content_of(self.life.store, self.life.promised.grants) != self.life.promised:
            raise Lost("a running store forgot something")


def run(given: Settings, template: Disk, number: int, runs: int) -> None:
    machine = seed(number)(type("Vehicle", (Vehicle,), {"given": given, "template": template}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=20,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


def run_often(given: Settings, template: Disk, times: int) -> None:
    for number in range(times):
        run(given, template, number, runs=30)


@pytest.mark.prove(parts=4)
def test_no_sequence_of_taps_and_cuts_loses_a_promise(proof: Seeds, template: Disk) -> None:
    for number in proof.seeds(small=1, full=100):
        run(VEHICLE, template, number, runs=30)


@pytest.mark.parametrize("control", CONTROLS)
def test_the_same_runs_find_lost_rows_on_settings_that_lose_rows(control: str) -> None:
    given = CONTROLS[control]
    template = a_new_disk(given)
    with pytest.raises(Lost):
        run_often(given, template, 20)
