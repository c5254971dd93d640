"""A courier, a ledger on the disk, and a small city that speaks receipts. The clock is virtual; nothing leaves the process."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from random import Random

import pytest

from drivers.emulated.clock import VirtualClock
from drivers.signing import Ed25519Key, SignatureChecker
from ledger.batch import MAX_SEALED, Batch, opened, unpack
from ledger.carrier import BATCHES, HEARTBEATS, JSON, LOSSES, MEDIA_TYPE, PACKAGES, Answer, Carrier, Down, Equipment, NoAnswer
from ledger.chain import follow, genesis
from ledger.courier import Pace, State
from ledger.entry import Entry, Kind, Versions, When
from ledger.errors import LedgerBusy, StoreRolledBack
from ledger.letterbox import Memory
from ledger.notes import BROKEN, WORKS, Heartbeat, Loss, LossReason, decode_heartbeat, decode_loss
from ledger.package import Package, PackageKind
from ledger.package import encode as encode_package
from ledger.receipt import Receipt, encode
from ledger.receipts import CityKeys, Foreign, LetterboxBeside
from ledger.renewal import set_aside_ledgers
from ledger.seal import Content, Signer, check, key_id, parse, seal
from ledger.store import LedgerFile, Settings, Store

Ride = Callable[..., Entry]
DEVICE, EPOCH = 7, 4711
NOW_MS = 1_770_000_000_000
CITY, STRANGER = Ed25519Key(bytes(range(32))), Ed25519Key(bytes(32))
DEVICE_KEY, NEXT_KEY = Ed25519Key(bytes([1] * 32)), Ed25519Key(bytes([2] * 32))
CHECKER = SignatureChecker()
KEYS = CityKeys(CHECKER, {key_id(CITY.public): CITY.public})
SMALL = Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0, synchronous="OFF")
PACE = Pace(settle_s=0)


@dataclass
class City:
    """Stores each entry once, says what it has, and misbehaves as told. ``script``: what to do instead with the next requests."""

    signer: Signer = CITY
    accepted: dict[bytes, bytes] = field(default_factory=lambda: {key_id(DEVICE_KEY.public): DEVICE_KEY.public})
    entries: dict[tuple[int, int], bytes] = field(default_factory=dict)
    asked: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    beats: list[Heartbeat] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    script: list[Answer | Exception | Callable[[Answer], Answer | Exception]] = field(default_factory=list)
    min_interval_s: int = 0
    max_entries: int = 0
    hashes: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def post(self, door: str, body: bytes) -> Answer:
        planned = self.script.pop(0) if self.script else None
        if isinstance(planned, Exception):
            self.asked.append((door, (0, 0)))
            raise planned
        if isinstance(planned, Answer):
            self.asked.append((door, (0, 0)))
            return planned
        answer = self.answer(door, body)
        if planned is not None:
            changed = planned(answer)
            if isinstance(changed, Exception):
                raise changed
            return changed
        return answer

    def answer(self, door: str, body: bytes) -> Answer:
        content = {BATCHES: Content.BATCH, HEARTBEATS: Content.HEARTBEAT, LOSSES: Content.LOSS}[door]
        parts = parse(body, content, MAX_SEALED)
        public = self.accepted.get(parts.kid)
        if public is None:
            self.asked.append((door, (0, 0)))
            return Answer(401, "application/problem+json", b"{}", None, "unknown key")
        check(parts, CHECKER, public)
        match content:
            case Content.BATCH:
                return self.take(unpack(parts.payload))
            case Content.HEARTBEAT:
                self.beats.append(decode_heartbeat(parts.payload))
                epoch = self.beats[-1].epoch
            case _:
                self.losses.append(decode_loss(parts.payload))
                epoch = self.losses[-1].epoch
        self.asked.append((door, (0, 0)))
        return self.receipt(epoch)

    def take(self, batch: Batch) -> Answer:
        self.asked.append((BATCHES, (batch.first_seq, batch.last_seq)))
        for seq, data, entry in opened(batch):
            assert self.entries.setdefault((batch.epoch, seq), data) == data
            if isinstance(entry, Entry) and entry.kind is Kind.KEY:
                self.accepted[key_id(NEXT_KEY.public)] = NEXT_KEY.public
        return self.receipt(batch.epoch)

    def receipt(self, epoch: int) -> Answer:
        have = {seq for of, seq in self.entries if of == epoch}
        next_seq, head = 1, genesis(DEVICE, epoch)
        while next_seq in have:
            head = follow(head, self.entries[epoch, next_seq])
            next_seq += 1
        head = self.hashes.get((epoch, next_seq - 1), head)
        lacking = [seq for seq in range(next_seq, max(have, default=0)) if seq not in have]
        holes: list[tuple[int, int]] = []
        for seq in lacking:
            holes = [*holes[:-1], (holes[-1][0], seq)] if holes and holes[-1][1] == seq - 1 else [*holes, (seq, seq)]
        receipt = Receipt(DEVICE, epoch, next_seq, head, tuple(holes), (), NOW_MS + len(self.asked), self.min_interval_s, self.max_entries)
        return Answer(200, MEDIA_TYPE, seal(self.signer, Content.RECEIPT, encode(receipt)))

    def batches(self) -> list[tuple[int, int]]:
        return [about for door, about in self.asked if door == BATCHES]


@dataclass
class Keyring:
    following: Ed25519Key | None = None
    now: Ed25519Key = DEVICE_KEY

    def signer(self) -> Signer:
        return self.now

    def next_signer(self) -> Signer | None:
        return self.following

    def next_reason(self) -> str:
        return "eddsa:next"

    def change(self) -> None:
        assert self.following is not None
        self.now, self.following = self.following, None


class Vehicle:
    """A ledger, its letterbox, a courier and the road to the city."""

    def __init__(self, path: Path, city: City) -> None:
        self.path, self.city = path, city
        self.store = Store.create(path, device=DEVICE, epoch=EPOCH, settings=SMALL)
        self.clock = VirtualClock(utc_ms=NOW_MS)
        self.letterbox = LetterboxBeside(path, KEYS, lambda: self.clock.monotonic_ns() / 1e9)
        self.keyring = Keyring()
        self.random = Random(1)
        self.down: Down | None = None
        self.courier = self.new_courier()

    def new_courier(self) -> Carrier:
        equipment = Equipment(
            device=DEVICE,
            software="0.2.0",
            ledgers=lambda: [*set_aside_ledgers(self.path), self.path],
            open=lambda path: LedgerFile.open_read_only(path, remembered=False),
            uplink=self.city,
            believe=KEYS.receipt,
            letterbox=self.letterbox,
            keyring=self.keyring,
            clock=self.clock,
            draw=self.random.random,
            free_bytes=lambda: 10**9,
            down=self.down,
        )
        return Carrier(equipment, PACE)

    def ride(self, ride: Ride, count: int) -> None:
        for number in range(count):
            self.store.append(ride(number + 1))

    def work(self, seconds: float) -> None:
        end_ns = self.clock.monotonic_ns() + int(seconds * 1e9)
        while self.clock.monotonic_ns() < end_ns:
            self.courier.turn()
            if self.courier.wakes_ns > self.clock.monotonic_ns():
                self.clock.sleep_until_ns(min(self.courier.wakes_ns, end_ns))

    def take_receipts(self) -> None:
        for waiting in self.letterbox.receipts():
            self.store.acknowledge(waiting.receipt)
            self.letterbox.taken(waiting.name)

    @property
    def acknowledged(self) -> int:
        known = self.store.acknowledged()
        return known.head.seq if known else 0


@pytest.fixture
def city() -> City:
    return City()


@pytest.fixture
def bus(path: Path, city: City) -> Vehicle:
    return Vehicle(path, city)


# ── the way there ──


def test_a_vehicle_greets_then_sends_its_oldest_entries_until_all_are_there(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.letterbox.remember(Memory(0, NOW_MS))
    bus.courier = bus.new_courier()
    bus.ride(ride, 450)
    bus.work(1)
    assert [door for door, _ in city.asked] == [HEARTBEATS, BATCHES, BATCHES, BATCHES]
    assert city.batches() == [(1, 200), (201, 400), (401, 450)]
    bus.take_receipts()
    assert (bus.acknowledged, bus.letterbox.receipts()) == (450, [])


def test_after_a_long_silence_a_few_of_the_newest_go_first_and_are_not_sent_again(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 450)
    bus.work(1)
    assert city.batches() == [(431, 450), (1, 200), (201, 400), (401, 430)]
    bus.take_receipts()
    assert bus.acknowledged == 450


def test_the_newest_few_hide_nothing_from_a_city_that_lost_what_is_forgotten_here(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.letterbox.remember(Memory(0, NOW_MS))
    bus.courier = bus.new_courier()
    bus.ride(ride, 100)
    bus.work(1)
    bus.take_receipts()
    bus.store.close()
    bus.store = Store.open(bus.path, device=DEVICE, settings=SMALL)
    while bus.store.forget(2**60):
        pass
    city.entries.clear()  # from a backup that is older than what is kept here
    bus.clock.sleep_until_ns(bus.clock.monotonic_ns() + int(13 * 3600e9))
    bus.courier = bus.new_courier()
    bus.ride(ride, 450)
    bus.work(1)
    assert {seq for _, seq in city.entries} == set(range(100, 551))


def test_a_heartbeat_goes_every_five_minutes_and_a_full_batch_does_not_wait(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.work(901)
    assert [door for door, _ in city.asked] == [HEARTBEATS] * 4
    bus.ride(ride, 200)
    bus.work(20)
    assert city.batches() == [(1, 200)]


def test_a_few_entries_wait_for_the_next_heartbeat(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.work(1)
    bus.ride(ride, 3)
    bus.work(290)
    assert city.batches() == []
    bus.work(15)
    assert city.batches() == [(1, 3)]


def test_lost_answers_are_asked_for_again_and_nothing_counts_twice(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 100)
    city.script = [lambda answer: answer, lambda _: NoAnswer("cut")]
    bus.work(600)
    bus.take_receipts()
    assert (bus.acknowledged, len(city.entries)) == (100, 100)


def test_a_disk_that_takes_no_receipt_is_no_reason_to_send_the_same_again_at_once(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.letterbox.remember(Memory(0, NOW_MS))
    bus.courier = bus.new_courier()
    bus.ride(ride, 300)
    folder = bus.path.with_name("ledger.db.receipts")
    folder.write_text("a file where the folder should be")
    for _ in range(100):
        bus.courier.turn()
    assert city.batches() in ([], [(1, 200)])
    folder.unlink()
    bus.work(700)
    bus.take_receipts()
    assert bus.acknowledged == 300


def test_a_loss_that_cannot_be_ticked_off_waits_for_the_next_contact(bus: Vehicle, city: City) -> None:
    bus.letterbox.tell(Loss(DEVICE, EPOCH, 1, 0, LossReason.MISSING, When(1, 1, 1, 0)))
    bus.path.with_name("ledger.db.receipts").write_text("a file where the folder should be")
    for _ in range(100):
        bus.courier.turn()
    assert len(city.losses) <= 1


def test_a_courier_killed_anywhere_goes_on_from_what_the_city_says(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 700)
    for turns in range(12):
        for _ in range(turns):
            bus.courier.turn()
        bus.courier = bus.new_courier()
    bus.work(600)
    bus.take_receipts()
    assert (bus.acknowledged, len(city.entries)) == (700, 700)


# ── the city says ──


def test_the_citys_wishes_are_kept(bus: Vehicle, city: City, ride: Ride) -> None:
    city.max_entries, city.min_interval_s = 40, 30
    bus.letterbox.remember(Memory(0, NOW_MS))
    bus.courier = bus.new_courier()
    bus.ride(ride, 100)
    bus.work(29)
    assert city.batches() == [(1, 40)]
    bus.work(32)
    assert city.batches() == [(1, 40), (41, 80), (81, 100)]


@pytest.mark.parametrize("status", [429, 503])
def test_who_is_asked_to_come_later_comes_later(bus: Vehicle, city: City, status: int) -> None:
    city.script = [Answer(status, "text/html", b"", 100.0)]
    bus.work(99)
    assert (len(city.asked), bus.courier.state) == (1, State.BACKING_OFF)
    bus.work(7)
    assert len(city.asked) == 2
    assert bus.courier.state is State.RESTING


def test_waits_grow_over_failures_and_over_restarts(bus: Vehicle, city: City) -> None:
    bus.random.random = lambda: 1.0  # type: ignore[method-assign]
    city.script = [NoAnswer("no network")] * 5
    bus.work(5 + 10 + 1)
    assert len(city.asked) == 3
    bus.courier = bus.new_courier()  # and it was off meanwhile
    assert bus.letterbox.memory().failures == 3
    bus.work(19)
    assert len(city.asked) == 3
    bus.work(2)
    assert len(city.asked) == 4
    bus.work(40 + 80 + 2)
    assert bus.letterbox.memory() == Memory(0, bus.letterbox.memory().contact_ms)
    assert bus.courier.state is State.RESTING


@pytest.mark.parametrize("status", [401, 403, 400, 415])
def test_who_is_refused_knocks_again_in_a_quarter_of_an_hour(bus: Vehicle, city: City, ride: Ride, status: int) -> None:
    bus.ride(ride, 10)
    city.script = [Answer(status, "application/problem+json", b"{}")]
    bus.work(899)
    assert (len(city.asked), bus.courier.state) == (1, State.SHUT_OUT)
    bus.work(2)
    assert city.batches() == [(1, 10)]


def test_a_batch_that_is_too_large_is_halved(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 200)
    city.script = [lambda answer: answer, Answer(413, "", b""), Answer(413, "", b"")]
    bus.work(1)
    assert city.batches()[2:] == [(1, 50), (51, 100), (101, 150), (151, 200)]


@pytest.mark.parametrize(
    "forged",
    [
        lambda answer: replace(answer, media_type="text/html", body=b"<html>sign in first"),
        lambda answer: replace(answer, status=302),
        lambda answer: replace(answer, body=answer.body[:-1] + bytes([answer.body[-1] ^ 1])),
        lambda _: Answer(200, MEDIA_TYPE, seal(STRANGER, Content.RECEIPT, encode(Receipt(DEVICE, EPOCH, 1, genesis(DEVICE, EPOCH))))),
        lambda _: Answer(200, MEDIA_TYPE, seal(CITY, Content.RECEIPT, encode(Receipt(8, EPOCH, 1, genesis(8, EPOCH))))),
        lambda _: Answer(200, MEDIA_TYPE, seal(CITY, Content.RECEIPT, encode(Receipt(DEVICE, 99, 1, genesis(DEVICE, 99))))),
        lambda _: Answer(200, MEDIA_TYPE, b""),
    ],
    ids=["portal", "redirect", "bent", "stranger", "other device", "other epoch", "empty"],
)
def test_what_the_city_did_not_sign_for_us_is_laid_nowhere(bus: Vehicle, city: City, forged: Callable[[Answer], Answer]) -> None:
    city.script = [forged]
    bus.courier.turn()
    bus.courier.turn()
    assert (bus.courier.state, bus.letterbox.receipts(), bus.letterbox.memory().failures) == (State.BACKING_OFF, [], 1)


# ── the state of the vehicle ──


def state() -> Heartbeat:
    parts = (("reader", WORKS), ("ledger", WORKS))
    return Heartbeat(DEVICE, EPOCH, 0, genesis(DEVICE, EPOCH), When(5, 1000, NOW_MS, 3), parts, 10**9, Versions(software="s"), "0.1.9")


def test_a_heartbeat_carries_the_stations_self_test_and_its_clock(bus: Vehicle, city: City) -> None:
    bus.letterbox.report(state())
    bus.clock.sleep_until_ns(bus.clock.monotonic_ns() + 30 * 10**9)
    bus.work(1)
    (beat,) = city.beats
    assert (beat.selftest, beat.at.boot, beat.versions.software) == ((("reader", WORKS), ("ledger", WORKS)), 5, "s")
    assert 30_900 <= beat.at.mono_ms <= 31_100


def test_a_heartbeat_carries_what_the_machine_counts_and_nothing_where_nobody_counts(bus: Vehicle, city: City) -> None:
    bus.work(1)
    counted = (("station-failures", 2), ("station-starts", 3))
    bus.courier.equipment = replace(bus.courier.equipment, counts=lambda: counted)
    bus.clock.sleep_until_ns(bus.clock.monotonic_ns() + 301 * 10**9)
    bus.work(1)
    before, beat = city.beats
    assert (before.counts, before.up_s) == ((), 0)
    assert beat.counts == counted
    assert beat.up_s == pytest.approx(bus.clock.monotonic_ns() / 10**9, abs=2)


@pytest.mark.parametrize("said", [True, False])
def test_a_station_that_is_frozen_or_was_never_there_is_broken_in_every_part(bus: Vehicle, city: City, said: bool) -> None:
    if said:
        bus.letterbox.report(state())
    bus.clock.sleep_until_ns(bus.clock.monotonic_ns() + 61 * 10**9)
    bus.work(1)
    assert {condition for _, condition in city.beats[0].selftest} == {BROKEN}
    assert len(city.beats[0].selftest) == 5


# ── lost ledgers ──


def renewed(bus: Vehicle, epoch: int = 5000) -> None:
    bus.store.renew(epoch, When(5, 1, NOW_MS, 3), Versions(), bus.letterbox.tell)


def test_a_ledger_below_the_citys_watermark_begins_anew_and_the_city_is_told(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 20)
    bus.work(1)
    image = bus.path.read_bytes()
    bus.ride(ride, 10)
    bus.store.checkpoint()
    bus.work(301)
    assert len(city.entries) == 30
    bus.store.close()
    with Store.create(bus.path.with_name("other"), device=DEVICE, epoch=EPOCH, settings=SMALL) as other:
        for number in range(20):
            other.append(ride(number + 1))
        image, memory = other._path, bus.path.with_name("other.memory").read_bytes()
    bus.path.write_bytes(Path(image).read_bytes())
    bus.path.with_name("ledger.db.memory").write_bytes(memory)
    bus.store = Store.open(bus.path, device=DEVICE, settings=SMALL)
    bus.courier = bus.new_courier()
    bus.work(1)
    with pytest.raises(StoreRolledBack):
        bus.take_receipts()
    renewed(bus)
    bus.ride(ride, 5)
    bus.work(16)
    assert city.losses == [Loss(DEVICE, EPOCH, 31, 0, LossReason.ROLLED_BACK, When(5, 1, NOW_MS, 3))]
    assert [seq for epoch, seq in sorted(city.entries) if epoch == 5000] == [1, 2, 3, 4, 5, 6]
    assert bus.letterbox.losses() == []


def test_what_a_ledger_that_was_set_aside_still_holds_is_sent_first(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 30)
    bus.store.close()
    bus.path.with_name("ledger.db.memory").unlink()
    when = When(5, 1, NOW_MS, 3)
    bus.store = Store.open_anew(
        bus.path, device=DEVICE, epoch=5000, when=when, versions=Versions(), tell=bus.letterbox.tell, settings=SMALL
    )
    bus.courier = bus.new_courier()
    bus.work(1)
    assert [door for door, _ in city.asked] == [HEARTBEATS, LOSSES, BATCHES, BATCHES]
    assert len([1 for epoch, _ in city.entries if epoch == EPOCH]) == 30
    assert bus.letterbox.memory().done == (EPOCH,)
    before = len(city.asked)
    bus.courier = bus.new_courier()
    bus.work(1)
    assert [door for door, _ in city.asked[before:]] == [HEARTBEATS]


def test_a_city_that_does_not_understand_a_loss_gets_the_entries_all_the_same(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 5)
    bus.letterbox.tell(Loss(DEVICE, 99, 1, 0, LossReason.MISSING, When(1, 1, 1, 0)))
    city.script = [lambda answer: answer, Answer(400, "", b"")]
    bus.work(1)
    assert city.batches() == [(1, 5)]
    assert len(bus.letterbox.losses()) == 1


# ── the key ──


def test_the_next_key_signs_after_the_entry_that_announces_it(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 10)
    bus.store.append(ride(kind=Kind.KEY, medium=None, reason="eddsa:next"))
    bus.ride(ride, 10)
    bus.keyring.following = NEXT_KEY
    bus.work(1)
    assert city.batches() == [(1, 11), (12, 21)]
    assert (bus.keyring.now, bus.keyring.following) == (NEXT_KEY, None)


def test_a_receipt_that_was_lost_does_not_lock_the_old_key_in(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.store.append(ride(kind=Kind.KEY, medium=None, reason="eddsa:next"))
    bus.keyring.following = NEXT_KEY

    def took_it_and_forgot_the_old(_: Answer) -> Exception:
        del city.accepted[key_id(DEVICE_KEY.public)]
        return NoAnswer("cut")

    city.script = [lambda answer: answer, took_it_and_forgot_the_old]
    bus.work(2000)
    assert (bus.keyring.now, bus.courier.state) == (NEXT_KEY, State.RESTING)


# ── what comes down ──


@dataclass
class Shelf:
    """The city's list and its packages. ``script``: what to answer instead with the next requests."""

    sealed: dict[bytes, bytes] = field(default_factory=dict)
    listed: list[dict[str, object]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    script: list[Answer | Exception] = field(default_factory=list)

    def get(self, door: str, media_type: str, limit: int, patience_s: float) -> Answer:
        assert patience_s > 0
        self.asked.append(door)
        planned = self.script.pop(0) if self.script else None
        if isinstance(planned, Exception):
            raise planned
        if planned is not None:
            return planned
        if door == PACKAGES:
            assert media_type == JSON
            return Answer(200, JSON, json.dumps(self.listed).encode())
        body = self.sealed[bytes.fromhex(door.rpartition("/")[2])]
        assert len(body) <= limit
        return Answer(200, media_type, body)

    def offer(self, kind: PackageKind, version: int, size: int = 100, signer: Signer = CITY, day: str = "2026-01-01") -> bytes:
        """A package of some bytes that no compressor makes shorter."""
        made = Package(kind, version, date.fromisoformat(day), 0, Random(f"{kind} {version}").randbytes(size))
        sealed = seal(signer, Content.PACKAGE, encode_package(made))
        address = hashlib.sha256(sealed).digest()
        self.sealed[address] = sealed
        self.listed.append({"kind": kind, "version": version, "valid_from": day, "digest": address.hex(), "size": len(sealed)})
        return sealed


@pytest.fixture
def shelf(bus: Vehicle) -> Shelf:
    shelf = Shelf()
    bus.down = Down(shelf, KEYS.package, lambda: date(2026, 2, 2))
    bus.courier = bus.new_courier()
    return shelf


def parcels(bus: Vehicle) -> list[bytes]:
    return [bus.letterbox.parcel(name).sealed for name in bus.letterbox.parcels()]


def test_packages_come_last_once_and_whole(bus: Vehicle, city: City, shelf: Shelf, ride: Ride) -> None:
    bus.ride(ride, 300)
    old, new = (shelf.offer(PackageKind.FARE_TABLE, version) for version in (1, 2))
    denied = shelf.offer(PackageKind.DENY_LIST, 9)
    bus.work(1)
    assert (len(city.entries), len(shelf.asked)) == (300, 3)
    assert sorted(parcels(bus)) == sorted([new, denied])
    assert old not in parcels(bus)
    for name in bus.letterbox.parcels():
        bus.letterbox.unpacked(name)
    bus.courier = bus.new_courier()
    bus.work(3 * 3600)
    assert parcels(bus) == []
    assert set(shelf.asked[3:]) == {PACKAGES}


def test_they_are_asked_for_about_once_an_hour(bus: Vehicle, shelf: Shelf) -> None:
    bus.work(5 * 3600)
    assert 3 <= len(shelf.asked) <= 10


def test_over_a_bad_network_only_what_is_small_is_fetched_and_the_rest_later(bus: Vehicle, city: City, shelf: Shelf) -> None:
    small, large = shelf.offer(PackageKind.DENY_LIST, 1), shelf.offer(PackageKind.FARE_TABLE, 1, 100_000)
    city.script = [NoAnswer("no network")]
    bus.work(30)
    assert parcels(bus) == [small]
    bus.work(1800)
    assert parcels(bus) == [small, large]


@pytest.mark.parametrize(
    "trouble",
    [NoAnswer("cut"), Answer(404, "", b""), Answer(503, "", b"", 9.0), Answer(200, "text/html", b"<html>"), Answer(200, JSON, b"{}")],
    ids=["cut", "no such door", "busy", "portal", "no list"],
)
def test_a_list_that_does_not_come_costs_nothing_but_time(
    bus: Vehicle, city: City, shelf: Shelf, ride: Ride, trouble: Answer | Exception
) -> None:
    bus.ride(ride, 10)
    package = shelf.offer(PackageKind.DENY_LIST, 1)
    shelf.script = [trouble]
    bus.work(1)
    assert (bus.courier.state, bus.letterbox.memory().failures, len(city.entries)) == (State.RESTING, 0, 10)
    bus.work(1800)
    assert parcels(bus) == [package]


@pytest.mark.parametrize("what", ["stranger", "cut", "other", "receipt", "lost"])
def test_what_the_city_did_not_sign_or_was_not_asked_for_is_laid_nowhere(bus: Vehicle, shelf: Shelf, what: str) -> None:
    good = shelf.offer(PackageKind.DENY_LIST, 2)
    bad = {
        "stranger": Answer(200, MEDIA_TYPE, Shelf().offer(PackageKind.DENY_LIST, 2, signer=STRANGER)),
        "cut": Answer(200, MEDIA_TYPE, good[:-1]),
        "other": Answer(200, MEDIA_TYPE, Shelf().offer(PackageKind.DENY_LIST, 3)),
        "receipt": City().receipt(EPOCH),
        "lost": NoAnswer("cut"),
    }[what]
    shelf.script = [Answer(200, JSON, json.dumps(shelf.listed).encode()), bad]
    bus.work(1)
    assert (parcels(bus), bus.courier.state, bus.letterbox.memory().packages) == ([], State.RESTING, ())
    bus.work(5500)
    assert parcels(bus) == [good]


def test_one_package_that_is_no_good_does_not_keep_the_others_away(bus: Vehicle, shelf: Shelf) -> None:
    good = shelf.offer(PackageKind.DENY_LIST, 2, 1000)
    shelf.offer(PackageKind.FARE_TABLE, 2, 10, signer=STRANGER)
    bus.work(3 * 3600)
    assert parcels(bus) == [good]


def test_a_courier_killed_between_two_packages_fetches_what_is_left(bus: Vehicle, shelf: Shelf) -> None:
    for kind in (PackageKind.DENY_LIST, PackageKind.FARE_TABLE, PackageKind.SCHEME):
        shelf.offer(kind, 1)
    for turns in range(2, 9):
        bus.courier = bus.new_courier()
        for _ in range(turns):
            bus.courier.turn()
    bus.work(3600)
    assert len(parcels(bus)) == 3


def test_a_disk_that_is_full_is_tried_again(bus: Vehicle, shelf: Shelf) -> None:
    package = shelf.offer(PackageKind.DENY_LIST, 1)
    folder = bus.path.with_name("ledger.db.parcels")
    folder.write_text("a file where the folder should be")
    bus.work(1)
    assert bus.courier.state is State.RESTING
    folder.unlink()
    bus.work(2 * 3600)
    assert parcels(bus) == [package]


# ── the letterbox ──


def test_there_is_one_courier(bus: Vehicle) -> None:
    bus.letterbox.lock()
    with pytest.raises(LedgerBusy, match="another courier"):
        LetterboxBeside(bus.path, KEYS).lock()
    bus.letterbox.unlock()
    LetterboxBeside(bus.path, KEYS).lock()


def test_a_receipt_that_somebody_else_laid_is_not_believed(bus: Vehicle) -> None:
    forged = seal(STRANGER, Content.RECEIPT, encode(Receipt(DEVICE, EPOCH, 1, genesis(DEVICE, EPOCH))))
    with pytest.raises(Foreign, match="none of the city's"):
        KEYS.receipt(forged)
    bus.letterbox.lay(forged, Receipt(DEVICE, EPOCH, 1, genesis(DEVICE, EPOCH)))
    assert (bus.letterbox.receipts(), list(bus.path.parent.glob("*.receipts/*"))) == ([], [])


def test_a_courier_without_a_memory_begins_with_an_empty_one(bus: Vehicle) -> None:
    for text in ("", "[]", "{", '{"failures": "3"}', '{"failures": 1, "contact_ms": 2, "done": 3}'):
        bus.path.with_name("ledger.db.courier").write_text(text)
        assert bus.letterbox.memory() == Memory()
    bus.path.with_name("ledger.db.courier").write_text('{"failures": 1, "contact_ms": 2, "done": [], "packages": ["ab", "x", 7]}')
    assert bus.letterbox.memory() == Memory(1, 2, (), (b"\xab",))
    bus.letterbox.remember(Memory(3, 4, (5, 6), (b"digest",)))
    assert bus.letterbox.memory() == Memory(3, 4, (5, 6), (b"digest",))


def test_a_ledger_that_cannot_be_read_now_is_asked_again_later(bus: Vehicle, city: City, ride: Ride) -> None:
    bus.ride(ride, 3)
    bus.store.close()
    away = bus.path.rename(bus.path.with_name("away"))
    bus.work(1)
    assert (city.asked, bus.courier.state) == ([], State.RESTING)
    away.rename(bus.path)
    bus.work(301)
    assert city.batches() == [(1, 3)]


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_trouble_for_days_and_every_entry_arrives_once(bus: Vehicle, city: City, ride: Ride, seed: int) -> None:
    random = Random(seed)
    troubles = [
        NoAnswer("cut"),
        Answer(503, "", b"", 20.0),
        Answer(413, "", b""),
        Answer(500, "", b""),
        lambda _: NoAnswer("the receipt was lost"),
        lambda answer: replace(answer, body=b"?"),
    ]
    for _ in range(25):
        bus.ride(ride, random.randrange(60))
        city.script = [random.choice([*troubles, lambda answer: answer]) for _ in range(random.randrange(5))]
        bus.work(random.randrange(1, 400))
        if random.random() < 0.3:
            bus.courier = bus.new_courier()
        bus.take_receipts()
    bus.work(4000)
    bus.take_receipts()
    assert bus.acknowledged == len(city.entries) == bus.store.head().seq
