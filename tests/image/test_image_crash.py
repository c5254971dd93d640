"""Tier 4: the plug is pulled during taps, hundreds of times, and no ride that a rider was told of is lost.

A vehicle in QEMU takes cards while each write to its disk is written down (``images.disk_log``). From that log come the disks that may be
found if the power had gone at some instant. Each is mounted, so that its file system mends itself; `kazashi ledger verify` must call the
ledger whole, and the vehicle's own store must open it.

**When a ride is promised.** A rider is told "paid" by the tap table's row ``paid``, which comes after the commit. The next thing that the
station does and that is seen outside the guest is to poll for the next card; so when that poll's first byte is on the reader's line, the
rider has been told. From then on the ride must be in every disk. (Where a poll cannot tell, because the station looked for a card that
left, the promise begins later: when the station's log says ``paid`` on the serial line.) **A debit** is promised earlier: when the card has
changed, its intent or its entry must be in every disk. The reader's twin runs in this process, so these instants and the disk's log are
on one clock.

Short with ``make image-test TIERS=4``; ``make image-prove`` draws more than 500 disks and boots ten of them.
"""

import contextlib
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import pytest

from drivers.emulated import card_file
from drivers.emulated.air import Air
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.emulated.pn532_pty import Pn532Pty
from drivers.emulated.tray import Tray
from firmware import cli, compose
from images import disk, disk_log, guest, vehicle
from images.build import ROOT
from images.command import ImageFailure, run
from images.disk_log import Crash, Damage, DiskLog, Disks
from images.guest import Guest, LateError
from ledger.codec import encode
from ledger.entry import Entry, Kind
from ledger.errors import LedgerError
from ledger.store import Store

BOOT_LIMIT_S = 1200.0
TAP_LIMIT_S = 300.0
MONDAY_MORNING = "2026-11-22T22:05:00"
DEVICE = 12
POLL = b"\xd4\x4a"
"""InListPassiveTarget, PN532 User Manual §7.3.5."""
PULLED = 0.25
"""So many cards are pulled away while they are debited."""
CLEAN = "seen,read,due,intended,written,proven,paid"
STORE = "/usr/lib/kazashi/ledger"


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many cards are laid, disks are looked at, and disks are booted; and of the control."""

    taps: int
    disks: int
    boots: int
    control_taps: int
    control_disks: int


SHORT, FULL = Numbers(20, 40, 0, 10, 30), Numbers(72, 600, 10, 24, 150)


# ── what is seen from outside ──


@dataclass(frozen=True, slots=True)
class Balance:
    """A card's register after a debit: which card, and what is on it."""

    rider: bytes
    rega: int


@dataclass(frozen=True, slots=True)
class Seen:
    """At this instant (ns) a card had been debited, or its rider had been told that the ride is paid."""

    at_ns: int
    balance: Balance


class Chip(Pn532Chip):
    """A PN532 that remembers when it was asked to look for cards."""

    def __init__(self, air: Air) -> None:
        super().__init__(air)
        self.polls_ns: list[int] = []
        self._before = b""

    def feed(self, data: bytes, now_ns: int) -> None:
        if POLL in self._before + data:
            self.polls_ns.append(now_ns)
        self._before = data[-1:]
        super().feed(data, now_ns)


class Reader:
    """The reader's twin in this process, a hand, and a watch."""

    def __init__(self, folder: Path) -> None:
        self.tray, self.link = folder / "tray", folder / "pn532"
        self.tray.mkdir(parents=True, exist_ok=True)
        self.debits: list[tuple[int, str, int]] = []
        self.content: dict[str, str] = {}
        self.pulled: set[str] = set()
        air = Air()
        self.chip = Chip(air)
        self._pty = Pn532Pty(self.chip, self.link, Tray(self.tray, air, self._changed).look)

    def __enter__(self) -> Self:
        self._pty.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pty.__exit__(kind, error, trace)

    def lay(self, name: str, content: str, *, pulled: bool = False) -> None:
        """A card comes; a ``pulled`` one goes again as soon as it was debited."""
        self.content[name] = content
        if pulled:
            self.pulled.add(name)
        (self.tray / f".{name}").write_text(content)
        (self.tray / f".{name}").replace(self.tray / name)

    def lift(self, name: str) -> None:
        (self.tray / name).unlink(missing_ok=True)

    def _changed(self, path: Path, content: str) -> None:
        now_ns, name = time.monotonic_ns(), path.name
        before, after = rega(self.content[name]), rega(content)
        self.content[name] = content
        if after != before:
            self.debits.append((now_ns, name, after))
        if after != before and name in self.pulled:
            self.pulled.discard(name)
            path.unlink(missing_ok=True)
        else:
            card_file.write(path, content)


def balance_of(entry: Entry) -> Balance | None:
    """What the card has after it, if the entry is about a card that was written."""
    medium = entry.medium
    return Balance(medium.rider, medium.after.rega) if medium and medium.after else None


def rega(content: str) -> int:
    return int.from_bytes(card_file.parse(content, "a card").memory.blocks[0x0E][:4], "little")


@dataclass(slots=True)
class Morning:
    """What happened: the disk before, what was done to it, what was promised, and the ledger as it was in the end."""

    before: Path
    log: DiskLog
    began_ns: int
    ended_ns: int
    debited: list[Seen] = field(default_factory=list[Seen])
    told: list[Seen] = field(default_factory=list[Seen])
    entries: list[bytes] = field(default_factory=list[bytes])
    paid: dict[Balance, int] = field(default_factory=dict[Balance, int])
    trails: Counter[str] = field(default_factory=Counter[str])


# ── the morning ──


@dataclass(frozen=True, slots=True)
class Workshop:
    """What each of these tests works with. ``written``: a vehicle's disk before its first start; ``place``: in memory; ``kept``: stays."""

    written: Path
    place: Path
    kept: Path
    cards: list[Path]
    numbers: Numbers


@pytest.fixture(scope="module")
def workshop(image: Path, place: Path, desk: Path, kept: Path, pytestconfig: pytest.Config) -> Workshop:
    numbers = FULL if pytestconfig.getoption("--prove") else SHORT
    cards = issued(desk, place / "cards", max(numbers.taps, numbers.control_taps) + numbers.boots)
    return Workshop(vehicle.written_disk(ROOT, image / "disk.img", place, desk), place, kept, cards, numbers)


def issued(desk: Path, folder: Path, count: int) -> list[Path]:
    """Cards of the town with points."""
    keys = str(desk / "desk.keys")
    folder.mkdir()
    found = [folder / f"rider-{number}.card" for number in range(count)]
    with contextlib.redirect_stdout(io.StringIO()):
        for card in found:
            for words in (("new", str(card)), ("issue", "--card", str(card), "--keys", keys)):
                assert cli.main(["card", *words]) == 0
            assert cli.main(["card", "grant", "--card", str(card), "--keys", keys, "--points", "3000"]) == 0
    return found


@dataclass(frozen=True, slots=True)
class Done:
    """What the station's log said that it did with a card, and when that was heard here."""

    card: str
    trail: str
    heard_ns: int


def take_cards(machine: Guest, reader: Reader, cards: Sequence[Path], random: Random) -> list[Done]:
    """Lay each card; some are pulled away in the middle of their debit and come back."""
    done: list[Done] = []
    for number, card in enumerate(cards, 1):
        content, pulled = card.read_text(), random.random() < PULLED
        while True:
            reader.lay(card.name, content, pulled=pulled)
            said = hear(machine, card.name, TAP_LIMIT_S)
            reader.lift(card.name)
            # Long enough for the log to be carried into the database, now and then; and the system's own writing comes in between.
            time.sleep(7.0 if number % 16 == 0 else random.uniform(0.3, 1.5))
            said += hear(machine, card.name, 0.1)
            done += said
            if any(each.trail.endswith(",paid") for each in said):
                break
            assert len(done) < 3 * len(cards), f"cards do not pay: {[each.trail for each in done[-3:]]}"
            content, pulled = reader.content[card.name], False
    return done


def hear(machine: Guest, card: str, limit_s: float) -> list[Done]:
    """What the station says that it did: at least one thing within a long time, or whatever it said in the meantime."""
    heard: list[Done] = []
    try:
        while True:
            trail = machine.wait(r"tap rows=([a-z0-9,-]+) took_ms", 0.1 if heard else limit_s)[1]
            heard.append(Done(card, trail, time.monotonic_ns()))
    except LateError:
        if not heard and limit_s > 1:
            raise
    return heard


def come_up(machine: Guest) -> None:
    machine.wait("kazashi: slot [AB]", BOOT_LIMIT_S)
    machine.open_shell(BOOT_LIMIT_S)
    # Where others use the machine too, an emulated one is slow: a unit is given the time that it takes here.
    patience = "[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nTimeoutStartSec=20min\\nTimeoutStopSec=5min\\nWatchdogSec=20min\\n"
    place = "/run/systemd/system/kazashi-.service.d"
    machine.run(f"mkdir -p {place} && printf '{patience}' > {place}/patience.conf && systemctl daemon-reload", BOOT_LIMIT_S)
    try:
        machine.wait_for("the station takes cards", "systemctl is-active --quiet kazashi-station kazashi-screen", BOOT_LIMIT_S)
    finally:
        (machine.folder / "journal.txt").write_text(machine.run("journalctl -b --no-pager -o short-monotonic", BOOT_LIMIT_S))


def follow(machine: Guest) -> None:
    """Have the station's log on the serial line from now on; the last line of before says that it has begun."""
    machine.run("{ journalctl -f -n 1 -o cat -u kazashi-station > /dev/ttyS0 & }")
    machine.wait(r"\S[^\n]*\n", BOOT_LIMIT_S)


def make_hasty(machine: Guest) -> None:
    """The control: the same system, but its ledger does not wait for the disk. The product has no switch for that: a file is laid over."""
    change = f"""sed 's/synchronous: str = "FULL"/synchronous: str = "NORMAL"/' {STORE}/store.py > /run/hasty.py"""
    compiling = (
        "import py_compile as c; c.compile('/run/hasty.py', '/run/hasty.pyc', invalidation_mode=c.PycInvalidationMode.UNCHECKED_HASH)"
    )
    machine.run(f"{change} && python3 -c {json.dumps(compiling)} && mount --bind /run/hasty.pyc {STORE}/__pycache__/store.cpython-311.pyc")
    asking = "import sys; sys.path.insert(0, '/usr/lib/kazashi'); from ledger.store import Settings; print(Settings().synchronous)"
    assert machine.run(f"python3 -c {json.dumps(asking)}", 120) == "NORMAL"
    machine.run("systemctl restart kazashi-station", BOOT_LIMIT_S)


def morning(workshop: Workshop, name: str, cards: Sequence[Path], random: Random, *, hasty: bool = False) -> Morning:
    """A vehicle starts, takes cards, has its station started anew in between, and is switched off."""
    place, kept = workshop.place / name, workshop.kept / name
    place.mkdir()
    served = place / "served.img"
    disk_log.copied(workshop.written, served)
    shutil.rmtree(kept, ignore_errors=True)
    with Reader(place) as reader, disk_log.served(served, place / "disk.log") as device:
        plugs = [guest.serial_reader(reader.link), guest.keypad(), guest.clock(MONDAY_MORNING)]
        with Guest(device, kept, plugs, cores=2) as machine:
            come_up(machine)
            if hasty:
                make_hasty(machine)
            # The health check tries a card of its own; its writing is no part of the morning.
            machine.wait_for("the health check is over", "! systemctl is-active kazashi-health | grep activating", BOOT_LIMIT_S)
            machine.press("num_lock")
            machine.wait_for("the trip is open", "kazashi ledger show /data/ledger/ledger | grep 'trip open'", BOOT_LIMIT_S)
            for _ in range(3):
                machine.press("kp_add")
                time.sleep(1)
            follow(machine)
            began_ns = time.monotonic_ns()
            done = take_cards(machine, reader, cards[: len(cards) // 2], random)
            machine.run("systemctl restart kazashi-station", BOOT_LIMIT_S)
            machine.wait_for("the station takes cards again", "systemctl is-active --quiet kazashi-station", BOOT_LIMIT_S)
            done += take_cards(machine, reader, cards[len(cards) // 2 :], random)
            ended_ns = time.monotonic_ns()
            machine.send("systemctl poweroff")
            machine.wait_off(BOOT_LIMIT_S)
    made = Morning(workshop.written, disk_log.read(place / "disk.log"), began_ns, ended_ns)
    note_the_end(made, served, place)
    note_what_was_seen(made, reader, done, place)
    (kept / "seen.json").write_text(
        json.dumps({"trails": made.trails, "told": len(made.told), "debited": len(made.debited), "entries": len(made.entries)}, indent=1)
    )
    return made


def note_the_end(made: Morning, served: Path, place: Path) -> None:
    """The ledger in the end; and the log is all that happened to the disk, because with it the disk can be made again."""
    data = place / "end.img"
    disk_log.cut_out(served, *disk.partition(served, "data"), data)
    again = place / "again.img"
    Disks(made.before, made.log, again).make(Crash(2**63, Damage.ALL, made.log.writes, 0), place / "all.img")
    run(("cmp", served, place / "all.img"))
    with disk_log.mounted(data, place / "mnt"), compose.open_ledger_file(place / "mnt/ledger/ledger") as ledger:
        for entry in ledger.after(0, 100_000):
            made.entries.append(encode(entry))
            balance = balance_of(entry)
            if entry.kind is Kind.PAID and balance:
                made.paid[balance] = entry.seq
    for path in (data, again, place / "all.img"):
        path.unlink()


def note_what_was_seen(made: Morning, reader: Reader, done: Sequence[Done], place: Path) -> None:
    keys = place.parent / "data/unit/keys/station/station.keys"
    keys.chmod(0o600)
    vault = compose.open_vault(str(keys))
    riders = {name: vault.rider(card_file.parse(content, name).idm) for name, content in reader.content.items()}
    made.debited += [Seen(at_ns, Balance(riders[name], left)) for at_ns, name, left in reader.debits]
    last = {name: (at_ns, Balance(riders[name], left)) for at_ns, name, left in reader.debits}
    for each in done:
        made.trails[each.trail] += 1
        if each.trail.endswith(",paid"):
            debited_ns, balance = last[each.card]
            polled_ns = next((poll_ns for poll_ns in reader.chip.polls_ns if poll_ns > debited_ns), each.heard_ns)
            made.told.append(Seen(min(polled_ns, each.heard_ns) if each.trail == CLEAN else each.heard_ns, balance))


@pytest.fixture(scope="module")
def ridden(workshop: Workshop, figures: dict[str, object]) -> Iterator[Morning]:
    made = morning(workshop, "crash", workshop.cards[: workshop.numbers.taps], Random(1))
    figures["crash_writes"] = len(made.log.writes)
    figures["crash_flushes"] = len(made.log.flushes)
    figures["crash_rides_told"] = len(made.told)
    figures["crash_trails"] = dict(made.trails)
    yield made
    shutil.rmtree(workshop.place / "crash")


# ── the disks that may be found ──


def drawn(made: Morning, log: DiskLog, count: int, seed: int) -> list[Crash]:
    """In the order of time: a third each at the instants of promises, when a flush came, and when anything came or was answered."""
    random = Random(seed)
    promises = [seen.at_ns for seen in (*made.told, *made.debited)]
    instants = log.instants(made.began_ns, made.ended_ns)
    flushes = [flush.begin_ns for flush in log.flushes if made.began_ns <= flush.begin_ns <= made.ended_ns]
    moments = sorted(random.choice((promises, flushes, instants)[number % 3]) for number in range(count))
    kinds = [kind for kind in Damage for _ in range(count // len(Damage) + 1)]
    random.shuffle(kinds)
    return [disk_log.crash(log, at_ns, kind, random) for at_ns, kind in zip(moments, kinds, strict=False)]


def faults_of(made: Morning, found: Crash, data: Path, place: Path, *, by_command: bool) -> list[str]:
    """What is wrong with the data partition in the file ``data``, found after ``found``. It is mounted, mended and opened in here.

    ``by_command``: the command is also started as a program of its own.
    """
    faults: list[str] = []
    try:
        with disk_log.mounted(data, place) as mounted:
            if by_command:
                vehicle.kazashi(ROOT, "ledger", "verify", mounted / "ledger/ledger")
            faults += _ledger_faults(made, found, mounted / "ledger/ledger")
    except ImageFailure as failure:
        return [f"it cannot be mounted, or not be verified: {failure}"]
    try:
        run(("e2fsck", "-f", "-n", data))
    except ImageFailure as failure:
        faults.append(f"the file system is not whole after mounting: {failure}")
    return faults


def _ledger_faults(made: Morning, found: Crash, path: Path) -> list[str]:
    faults: list[str] = []
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = cli.main(["ledger", "verify", str(path)])
    if status or "whole: the chain holds" not in said.getvalue():
        faults.append(f"`kazashi ledger verify` is not content: {said.getvalue()}")
    try:
        with compose.open_ledger_file(path) as ledger:
            entries = ledger.after(0, 100_000)
            intents = [intent.entry for intent in ledger.intents()]
        with Store.open(path, device=DEVICE) as store:
            if store.head().seq != len(entries):
                faults.append("the store goes on elsewhere than where the ledger ends")
    except LedgerError as error:
        return [*faults, f"it cannot be opened: {error}"]
    return faults + _promises_broken(made, found, entries, intents)


def _promises_broken(made: Morning, found: Crash, entries: list[Entry], intents: list[Entry]) -> list[str]:
    if [encode(entry) for entry in entries] != made.entries[: len(entries)]:
        return ["it holds an entry that was never written"]
    told = [seen for seen in made.told if seen.at_ns <= found.at_ns]
    lost = [seen for seen in told if made.paid[seen.balance] > len(entries)]
    known = {balance_of(entry) for entry in (*entries, *intents)}
    unheard = [seen for seen in made.debited if seen.at_ns <= found.at_ns and seen.balance not in known]
    return [f"LOST: {len(lost)} of {len(told)} rides whose riders were told"] * bool(lost) + [
        f"UNHEARD OF: {len(unheard)} cards were debited without an intent or an entry"
    ] * bool(unheard)


def look_at(made: Morning, crashes: Sequence[Crash], log: DiskLog, place: Path, kept: Path) -> dict[int, list[str]]:
    """The faults of each of these disks that has any, by its number; the first of them is kept."""
    place.mkdir(exist_ok=True)
    before, data = place / "before.img", place / "data.img"
    disk_log.cut_out(made.before, *disk.partition(made.before, "data"), before)
    disks, bad = Disks(before, log, place / "promised.img"), dict[int, list[str]]()
    for number, found in enumerate(crashes):
        disks.make(found, data)
        faults = faults_of(made, found, data, place / "mnt", by_command=number % 40 == 0)
        if faults and not bad:
            disks.make(found, kept / "first-bad.img")
        if faults:
            bad[number] = [f"{found.damage.name} at {(found.at_ns - made.began_ns) / 1e9:.6f} s", *faults]
    shutil.rmtree(place)
    return bad


def test_no_ride_that_was_told_is_lost_on_any_disk_that_may_be_found(
    ridden: Morning, workshop: Workshop, figures: dict[str, object]
) -> None:
    log = ridden.log.within(*disk.partition(ridden.before, "data"))
    crashes = drawn(ridden, log, workshop.numbers.disks, seed=2)
    start_s = time.monotonic()
    bad = look_at(ridden, crashes, log, workshop.place / "look", workshop.kept / "crash")
    figures["crash_disks"] = len(crashes)
    figures["crash_disks_by_damage"] = dict(Counter(each.damage.name for each in crashes))
    figures["crash_disks_with_unpromised_writes"] = sum(each.open_writes > 0 for each in crashes)
    figures["crash_most_unpromised_writes"] = max(each.open_writes for each in crashes)
    figures["crash_disks_bad"] = len(bad)
    figures["crash_s_per_disk"] = round((time.monotonic() - start_s) / len(crashes), 2)
    assert len(ridden.told) >= workshop.numbers.taps
    assert sum(each.open_writes > 0 for each in crashes) > len(crashes) // 3, "a disk is always flushed: this proves nothing"
    assert bad == {}


def test_some_of_these_disks_boot_and_take_cards(ridden: Morning, workshop: Workshop, figures: dict[str, object]) -> None:
    """The whole disk, boot loader and all."""
    if not workshop.numbers.boots:
        pytest.skip("`make image-prove` boots ten of them")
    disks, path = Disks(ridden.before, ridden.log, workshop.place / "promised.img"), workshop.place / "found.img"
    crashes = drawn(ridden, ridden.log, workshop.numbers.boots, seed=3)
    took: list[float] = []
    for number, (found, card) in enumerate(zip(crashes, workshop.cards[workshop.numbers.taps :], strict=True)):
        disks.make(found, path)
        told = sum(seen.at_ns <= found.at_ns for seen in ridden.told)
        took.append(boot(path, workshop.place / f"boot-{number}", workshop.kept / f"crash/boot-{number}", card, told))
        path.unlink()
    figures["crash_boots_take_cards_s"] = took
    (workshop.place / "promised.img").unlink()


def boot(path: Path, place: Path, kept: Path, card: Path, told: int) -> float:
    """The disk starts, has at least ``told`` paid rides, and takes one more card; after how long it could."""
    with Reader(place) as reader:
        plugs = [guest.serial_reader(reader.link), guest.keypad(), guest.clock("2026-11-22T22:40:00")]
        with Guest(path, kept, plugs, cores=2) as machine:
            come_up(machine)
            took_s = round(time.monotonic() - machine.started_s, 1)
            assert "whole: the chain holds" in machine.run("kazashi ledger verify /data/ledger/ledger", BOOT_LIMIT_S)
            assert int(machine.run("kazashi ledger show /data/ledger/ledger | grep -c paid", BOOT_LIMIT_S)) >= told
            follow(machine)
            reader.lay(card.name, card.read_text())
            machine.wait(f"tap rows={CLEAN} took_ms", TAP_LIMIT_S)
    return took_s


def test_the_same_job_finds_lost_rides_when_the_ledger_does_not_wait_for_the_disk(workshop: Workshop, figures: dict[str, object]) -> None:
    made = morning(workshop, "hasty", workshop.cards[: workshop.numbers.control_taps], Random(4), hasty=True)
    log = made.log.within(*disk.partition(made.before, "data"))
    crashes = drawn(made, log, workshop.numbers.control_disks, seed=5)
    bad = look_at(made, crashes, log, workshop.place / "look", workshop.kept / "hasty")
    lost = [faults for faults in bad.values() if any("LOST" in fault for fault in faults)]
    figures["crash_control_disks"] = len(crashes)
    figures["crash_control_disks_with_lost_rides"] = len(lost)
    shutil.rmtree(workshop.place / "hasty")
    assert lost
