"""Books in both databases, and ledgers to fill them with."""

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from backoffice.store import Store
from ledger.batch import Batch
from ledger.chain import follow, genesis
from ledger.codec import encode
from ledger.entry import Counters, Entry, Fare, Kind, Medium, Outcome, Place, Versions, When

DAY = 20_485
VERSIONS = Versions(b"table---", b"scheme--", b"operator", "0.1.0", 1, 1)


def a_ride(seq: int, kind: Kind = Kind.PAID, **changes: object) -> Entry:
    chance = random.Random(seq)
    before = Counters(1500, 0xFFFF_FFFF - seq, bytes(8), 100 + seq)
    after = replace(before, rega=1400, regb=before.regb - 1, regc=seq.to_bytes(8, "big"), wcnt=before.wcnt + 1)
    medium = Medium(chance.randbytes(8), 2000, 1, b"granted!", before, after if kind in {Kind.PAID, Kind.UNKNOWN} else None)
    when = When(3, 60_000 * seq, 1_770_000_000_000 + 60_000 * seq, 3)
    place = Place("minato", "101", 12, "R1", "T0815", "S03", "S07", DAY + seq // 300)
    entry = Entry(kind, when, place, medium, Fare(200, 100 if kind is Kind.PAID else 0, 100, 1, 0), VERSIONS, row="proven", seq=seq)
    return replace(entry, **changes)  # type: ignore[arg-type]


def any_entry(seq: int) -> Entry:
    """Rides, mostly; and the rest of a vehicle's day."""
    match seq % 10:
        case 1:
            return Entry(Kind.BOOT, When(3, 60_000 * seq, 0, 0), Place("minato", "101"), versions=VERSIONS, seq=seq)
        case 4:
            return a_ride(seq, Kind.FREE, fare=Fare(200, 0, 0, 1, 0))
        case 6:
            return a_ride(seq, Kind.UNKNOWN, fare=Fare(200, 100, 100, 1, 0))
        case 7:
            return a_ride(seq, Kind.RESOLVED, ref=seq - 1, outcome=Outcome.PAID, fare=Fare(200, 100, 100, 1, 0))
        case _:
            return a_ride(seq)


@dataclass
class Vehicle:
    """A ledger to be cut into batches."""

    device: int
    epoch: int
    entries: list[bytes]
    hashes: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hashes = list(accumulate(self.entries, follow, initial=genesis(self.device, self.epoch)))

    @property
    def count(self) -> int:
        return len(self.entries)

    def batch(self, first: int, last: int) -> Batch:
        data = tuple(self.entries[first - 1 : last])
        return Batch(self.device, self.epoch, first, self.hashes[first - 1], data, 1_770_000_000_000)

    def rewritten(self, seq: int, data: bytes | None = None) -> "Vehicle":
        """The same ledger with another entry ``seq``, and the chain made anew: what a copied or edited storage sends."""
        other = a_ride(seq, fare=Fare(210, 110, 100, 1, 0), device=self.device, epoch=self.epoch)
        entries = self.entries.copy()
        entries[seq - 1] = encode(other) if data is None else data
        return Vehicle(self.device, self.epoch, entries)


def make_vehicle(device: int = 7, epoch: int = 4711, count: int = 40) -> Vehicle:
    return Vehicle(device, epoch, [encode(replace(any_entry(seq), device=device, epoch=epoch)) for seq in range(1, count + 1)])


@pytest.fixture(scope="session")
def vehicle() -> Callable[..., Vehicle]:
    """A vehicle's ledger: device, epoch, how many entries."""
    return make_vehicle


def a_server(*, safe: bool) -> Any:
    sys.path.insert(0, str(Path(__file__).parent))
    from postgresql_server import Server

    if not Server.is_here():
        pytest.skip("PostgreSQL 15 is not installed here (apt-packages.txt); its half of the books is untested")
    return Server(safe=safe)


@pytest.fixture
def postgresql_to_kill() -> Iterator[Any]:
    """A PostgreSQL that flushes as a real one does, and that the test may kill."""
    server = a_server(safe=True)
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A PostgreSQL of the test run's own; a test that wants it is skipped, aloud, where there is none."""
    server = a_server(safe=False)
    with Store.open(server.url(server.new_database())) as store:
        store.migrate()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where empty books are: once in each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'books.db'}"
    server = request.getfixturevalue("postgresql")
    return str(server.url(server.new_database("books_1")))


@pytest.fixture
def books(url: str) -> Iterator[Store]:
    """Empty books: once in each database."""
    with Store.open(url) as store:
        store.migrate()
        yield store
