"""The disk fails at the k-th step, for every k. The store says the truth about what is there."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from drivers.emulated.disk import Disk, DiskBeside, DiskVfs, Failure
from ledger.entry import Entry, Intent, Kind, When
from ledger.errors import Full, LedgerError, NotStored, StoreLost
from ledger.store import Settings, Store

Ride = Callable[..., Entry]
DEVICE, EPOCH, PATH = 7, 4711, "/ledger"
RIDER = (1).to_bytes(8, "big")
GIVEN = Settings(locking="EXCLUSIVE", log_bytes=100_000, ballast_bytes=4096, low_space_bytes=0)
numbers = itertools.count()


class Bench:
    """A store on a disk that will fail, and what it holds."""

    def __init__(self, disk: Disk) -> None:
        self.vfs = DiskVfs(f"bench{next(numbers)}", disk)
        self.given = replace(GIVEN, vfs=self.vfs.name)
        self.store = self.open()

    def open(self) -> Store:
        return Store.open(PATH, device=DEVICE, settings=self.given, beside=DiskBeside(self.vfs.disk, PATH))

    def fails(self, step: int, failure: Failure, steps: int = 1) -> None:
        disk = self.vfs.disk
        disk.fail_from, disk.fail_steps, disk.failure = disk.steps + step, steps, failure

    def holds(self) -> tuple[int, int]:
        """Entries and intents as a fresh look finds them after a power cut right now."""
        self.store._disconnect()
        self.vfs.disk = self.vfs.disk.after_power_cut(Random(1))
        store = self.open()
        found = store.head().seq, len(store.intents())
        store._disconnect()
        return found

    def end(self) -> None:
        self.store._disconnect()
        self.vfs.unregister()


@pytest.fixture(scope="module")
def prepared() -> Disk:
    """A ledger with one entry and one open intent."""
    disk = Disk()
    vfs = DiskVfs(f"bench{next(numbers)}", disk)
    store = Store.create(PATH, device=DEVICE, epoch=EPOCH, settings=replace(GIVEN, vfs=vfs.name), beside=DiskBeside(disk, PATH))
    store.append(Entry(Kind.BOOT, When(1, 2, 3, 0)))
    store.close()
    vfs.unregister()
    return disk


@pytest.fixture
def bench(prepared: Disk) -> Iterator[Callable[[], Bench]]:
    made: list[Bench] = []

    def make() -> Bench:
        made.append(Bench(prepared.copy()))
        return made[-1]

    yield make
    for each in made:
        each.end()


class Done:
    """The store said that it is stored."""


def answer_of(write: Callable[[], object]) -> type:
    try:
        write()
    except (NotStored, Full) as error:
        return type(error)
    return Done


WRITES: dict[str, tuple[Callable[[Store, Ride], object], tuple[int, int], tuple[int, int]]] = {
    "append": (lambda store, ride: store.append(ride(2)), (1, 1), (2, 1)),
    "intend": (lambda store, ride: store.intend(Intent(ride(2))), (1, 1), (1, 2)),
    "pay": (lambda store, ride: store.pay(RIDER, ride(1), b"8 bytes!"), (1, 1), (2, 0)),
    "withdraw": (lambda store, _: store.withdraw(RIDER), (1, 1), (1, 0)),
    "expire": (lambda store, _: store.expire_intents(When(1, 2, 3, 0)), (1, 1), (2, 0)),
}


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("name", WRITES)
def test_whatever_step_fails_once_the_answer_is_true(bench: Callable[[], Bench], ride: Ride, name: str, failure: Failure) -> None:
    write, before, after = WRITES[name]
    outcomes = set()
    for step in range(1, 15):
        at = bench()
        at.store.intend(Intent(ride(1)))
        at.fails(step, failure)
        answer = answer_of(lambda at=at: write(at.store, ride))
        outcomes.add(answer)
        assert at.holds() in {Done: {after}, StoreLost: {before, after}, NotStored: {before}, Full: {before}}[answer]
    assert Done in outcomes
    assert failure is Failure.FULL or NotStored in outcomes


@pytest.mark.parametrize("name", WRITES)
def test_a_disk_that_is_gone_makes_the_store_lost_until_it_is_back(bench: Callable[[], Bench], ride: Ride, name: str) -> None:
    write, _, after = WRITES[name]
    at = bench()
    at.store.intend(Intent(ride(1)))
    at.fails(2, Failure.REFUSES, steps=10_000)
    with pytest.raises(StoreLost, match="check the disk"):
        write(at.store, ride)
    with pytest.raises(StoreLost):
        write(at.store, ride)
    at.vfs.disk.fail_from = None
    write(at.store, ride)
    assert at.holds() == after


def test_after_any_failure_the_store_goes_on(bench: Callable[[], Bench], ride: Ride) -> None:
    for step in range(1, 30):
        at = bench()
        at.fails(step, Failure.REFUSES)
        for _ in range(4):
            try:
                at.store.append(ride())
            except NotStored:
                continue
        assert at.store.append(ride()).seq in (5, 6)


@pytest.mark.parametrize("failure", [Failure.REFUSES, Failure.FORGETS])
def test_a_checkpoint_that_fails_loses_nothing(bench: Callable[[], Bench], ride: Ride, failure: Failure) -> None:
    for step in range(1, 25):
        at = bench()
        at.store.append(ride())
        at.fails(step, failure)
        try:
            at.store.checkpoint()
        except StoreLost:
            at.vfs.disk.fail_from = None
        assert at.holds()[0] == 2


def test_opening_on_a_failing_disk_is_one_sentence_and_loses_nothing(prepared: Disk) -> None:
    for step in range(1, 15):
        disk = prepared.copy()
        disk.fail_from = step
        vfs = DiskVfs(f"bench{next(numbers)}", disk)
        given = replace(GIVEN, vfs=vfs.name)
        beside = DiskBeside(disk, PATH)
        try:
            store = Store.open(PATH, device=DEVICE, settings=given, beside=beside)
        except LedgerError:
            store = Store.open(PATH, device=DEVICE, settings=given, beside=beside)
        assert store.head().seq == 1
        store._disconnect()
        vfs.unregister()


def test_a_full_disk_is_full_for_rides_that_begin_and_not_for_rides_that_end(bench: Callable[[], Bench], ride: Ride) -> None:
    at = bench()
    at.store.intend(Intent(ride(1)))
    assert at.store.space().ballast == 4096
    at.fails(1, Failure.FULL, steps=10_000)
    with pytest.raises(Full, match="nothing was written"):
        at.store.append(ride(2))
    assert at.store.space().ballast == 0
    at.fails(1, Failure.FULL, steps=10_000)
    assert at.store.pay(RIDER, ride(1)).seq == 2
