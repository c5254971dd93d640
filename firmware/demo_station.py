"""The demo's bus: a whole station in a process of its own, so that it can be killed as a real one can.

Everything in it is what a vehicle has: the PN532 driver on a serial device, the ledger on the disk, the tap table. Only its loop is led
from outside, by lines of JSON on the standard input (turns, keys, a pause to be skipped), each answered by a line that says where the
station is; what it shows goes out at once, as a line of its own. When the input ends, so does the process: whoever started it need not be
alive.
"""

import hashlib
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import cast

from drivers.devices.clock import Clock
from drivers.devices.keypad import DriverKey, KeyPress
from drivers.emulated.skipping_clock import SkippingClock
from drivers.signing import SignatureChecker
from drivers.vault_file import VaultFile, demo_keys
from fares.table import FareTable, Trip
from firmware import VERSION, compose
from firmware.packages import CityKey, Judge
from firmware.rehearsal import SMALL_LEDGER, ZONE, Keys, tariff
from firmware.rulebook import PackagedRules
from ledger.entry import Versions
from ledger.notes import WORKS
from ledger.package import Package, PackageKind
from ledger.receipts import CityKeys, LetterboxBeside
from ledger.seal import Algorithm, key_id
from ledger.store import Store
from validator.journey import Tariff
from validator.messages import Shown
from validator.rulebook import InForce
from validator.station import Equipment, Station, Terms
from validator.trip import resume


@dataclass(frozen=True, slots=True)
class Post:
    """Where a demo's station stands.

    ``blocked``: riders on the deny list. ``origin_ns``, ``skipped_ns``, ``utc_ms``: its clock's. ``city``: the public key of the city,
    empty while there is none; then nothing is laid down for a courier.
    """

    ledger: Path
    reader: str
    seed: int
    name: str
    terminal: int
    trips: tuple[str, ...]
    blocked: frozenset[bytes]
    origin_ns: int
    skipped_ns: int
    utc_ms: int
    city: bytes = b""

    def text(self) -> str:
        """One line of JSON."""
        return json.dumps(
            [
                str(self.ledger),
                self.reader,
                self.seed,
                self.name,
                self.terminal,
                self.trips,
                sorted(rider.hex() for rider in self.blocked),
                self.origin_ns,
                self.skipped_ns,
                self.utc_ms,
                self.city.hex(),
            ]
        )

    @classmethod
    def parse(cls, line: str) -> "Post":
        """``text`` and back."""
        ledger, reader, seed, name, terminal, trips, blocked, origin_ns, skipped_ns, utc_ms, city = json.loads(line)
        riders = frozenset(bytes.fromhex(rider) for rider in cast("list[str]", blocked))
        return cls(Path(ledger), reader, seed, name, terminal, tuple(trips), riders, origin_ns, skipped_ns, utc_ms, bytes.fromhex(city))


def device_secret(seed: int, terminal: int) -> bytes:
    """The private device key of a demo's vehicle: it follows from the seed, so it is no secret."""
    return hashlib.sha256(f"kazashi demo device {seed} {terminal}".encode()).digest()


def packages_of(ledger: Path) -> Path:
    """Where the packages of a demo's vehicle lie."""
    return ledger.with_suffix(".packages")


def judge_of(rules: Tariff, city: bytes, rider_key: int, clock: Clock) -> Judge:
    """By what a demo's vehicle judges packages, now. ``city``: the city's public key."""
    now = clock.now()
    today = rules.operator.service_day(datetime.fromtimestamp(now.utc_ms / 1000, ZONE))
    return Judge((CityKey(Algorithm.EDDSA, city),), SignatureChecker(), today, rider_key, table=lambda: rules.table)


def letterbox(ledger: Path, city: bytes, clock: Clock) -> LetterboxBeside:
    """What lies between a demo's station and its courier; both see the demo's clock. ``city``: the city's public key."""
    return LetterboxBeside(ledger, CityKeys(SignatureChecker(), {key_id(city): city}), lambda: clock.monotonic_ns() / 1e9)


@dataclass(slots=True)
class _Teller:
    """A ``validator.messages.Presenter`` that writes each message, its time and the ledger's last number as a line."""

    clock: Clock
    ledger_seq: Callable[[], int]

    def show(self, shown: Shown) -> None:
        _write(
            {
                "shown": shown.message.value,
                "values": shown.values,
                "at_ms": self.clock.monotonic_ns() // 1_000_000,
                "seq": self.ledger_seq(),
            }
        )


@dataclass(slots=True)
class _Random:
    """Bytes nobody can guess are not wanted here: the same seed gives the same challenges."""

    seed: str
    drawn: int = field(default=0)

    def __call__(self, size: int) -> bytes:
        self.drawn += 1
        return hashlib.shake_256(f"kazashi demo station {self.seed} {self.drawn}".encode()).digest(size)


def main() -> int:
    """Read the post from the first line, serve the lines that follow, end with the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever leads the demo; this process ends with its input
    post = Post.parse(sys.stdin.readline())
    logging.basicConfig(filename=post.ledger.with_suffix(".log"), level=logging.INFO, format="%(name)s %(message)s")
    station, keys, clock, store = _build(post)
    try:
        _serve(station, keys, clock)
    except BrokenPipeError:
        pass  # nobody is there any more to be answered
    finally:
        station.equipment.reader.close()
        store.close()
    return 0


def _serve(station: Station, keys: Keys, clock: SkippingClock) -> None:
    _write(_done(station))
    for line in sys.stdin:
        _obey(cast("dict[str, object]", json.loads(line)), station, keys, clock)
        _write(_done(station))


def _done(station: Station) -> dict[str, object]:
    duty = station.duty
    trip = duty.trip.id if duty.trip else ""
    return {"done": True, "trip": trip, "service_day": duty.service_day, "shift": duty.shift, "armed": duty.armed.riders}


def _obey(order: dict[str, object], station: Station, keys: Keys, clock: SkippingClock) -> None:
    for pressed in cast("list[tuple[str, int]]", order.get("keys", [])):
        keys.waiting.append(KeyPress(DriverKey(pressed[0]), pressed[1]))
    clock.skip_ms(cast("int", order.get("skip_ms", 0)))
    for _ in range(cast("int", order.get("turns", 0))):
        station.turn()


def _build(post: Post) -> tuple[Station, Keys, SkippingClock, Store]:
    clock = SkippingClock(post.origin_ns, post.utc_ms, post.skipped_ns)
    random = _Random(f"{post.seed} {post.skipped_ns}")
    vault = VaultFile(demo_keys(post.seed).for_terminal(device_secret(post.seed, post.terminal)))
    if not post.ledger.exists():
        Store.create(post.ledger, device=post.terminal, epoch=int.from_bytes(random(6), "big"), settings=SMALL_LEDGER).close()
    store = Store.open(post.ledger, device=post.terminal, settings=SMALL_LEDGER)
    rules = tariff()
    keys = Keys(deque[KeyPress]())
    post_box = letterbox(post.ledger, post.city, clock) if post.city else None
    equipment = Equipment(
        reader=compose.open_reader(post.reader),
        vault=vault,
        grants=vault.grants,
        ledger=store,
        presenter=_Teller(clock, lambda: store.head().seq),
        keypad=keys,
        clock=clock,
        random=random,
        blocked=post.blocked.__contains__,
        letterbox=post_box,
        rulebook=_rulebook(post, post_box, rules, vault, clock) if post_box else None,
        parts=lambda: {"screen": WORKS, "sound": WORKS},
    )
    duty = resume(rules.operator.id, post.name, _trips(rules, post.trips), store.last)
    station = Station(equipment, Terms(rules, post.terminal, ZONE, _versions(rules, vault)), duty)
    station.open_shift()
    return station, keys, clock, store


def _rulebook(post: Post, box: LetterboxBeside, rules: Tariff, vault: VaultFile, clock: SkippingClock) -> PackagedRules:
    def judge() -> Judge:
        return judge_of(rules, post.city, vault.rider_key_version, clock)

    def build(sent: Mapping[PackageKind, Package]) -> InForce:
        found = sent.get(PackageKind.FARE_TABLE)
        now = rules if found is None else replace(rules, table=FareTable.unpack(found.file, str(found)))
        return InForce(now, _versions(now, vault), post.blocked.__contains__, _trips(now, post.trips))

    return PackagedRules(packages_of(post.ledger), box, judge, lambda: judge().today, build)


def _versions(rules: Tariff, vault: VaultFile) -> Versions:
    return Versions(
        table=rules.table.digest,
        scheme=rules.scheme.digest,
        operator=rules.operator.digest,
        software=VERSION,
        rider_key=vault.rider_key_version,
    )


def _trips(rules: Tariff, names: tuple[str, ...]) -> tuple[Trip, ...]:
    by_name = {trip.id: trip for trip in rules.table.trips()}
    return tuple(by_name[name] for name in names)


def _write(line: dict[str, object]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
