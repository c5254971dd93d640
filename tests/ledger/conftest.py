"""Synthetic rides, and a store on a real disk."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.entry import Counters, Entry, Fare, Kind, Medium, Place, Versions, When
from ledger.store import Settings, Store

DEVICE, EPOCH = 7, 4711
WHEN = When(boot=3, mono_ms=123_456, utc_ms=1_770_000_000_000, clock=3)
PLACE = Place("minato", "101", 12, "R1", "T0815", "S03", "S07", 20_485)
VERSIONS = Versions(b"table---", b"scheme--", b"operator", "0.1.0", 1, 1)
Ride = Callable[..., Entry]


def make_ride(number: int = 1, kind: Kind = Kind.PAID, **changes: object) -> Entry:
    before = Counters(1500, 0xFFFF_FFFF - number, bytes(8), 100 + number)
    after = replace(before, rega=1400, regb=before.regb - 1, regc=number.to_bytes(8, "big"), wcnt=before.wcnt + 1)
    medium = Medium(number.to_bytes(8, "big"), 2000, 1, b"granted!", before, after)
    entry = Entry(kind, WHEN, PLACE, medium, Fare(200, 100, 100, 1, 0), VERSIONS, row="proven")
    return replace(entry, **changes)  # type: ignore[arg-type]


@pytest.fixture
def ride() -> Ride:
    """A paid ride of the rider with this number; any field may be given another value."""
    return make_ride


@pytest.fixture
def small() -> Settings:
    """As on a vehicle, but without growing files first, and content with a small disk."""
    return Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path: Path, small: Settings) -> Iterator[Store]:
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=small) as store:
        yield store
