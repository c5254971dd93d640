"""The store on a real file system."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from ledger.beside import BesideDatabase, Memory
from ledger.chain import Fault, Head
from ledger.entry import Entry, Intent, Kind, Medium, Outcome, When
from ledger.errors import Full, LedgerBusy, LedgerError, LedgerUnreadable, MalformedEntry, StoreRolledBack
from ledger.store import LedgerFile, Settings, Store

Ride = Callable[..., Entry]
DEVICE, EPOCH = 7, 4711
RIDER = (1).to_bytes(8, "big")
OTHER = (2).to_bytes(8, "big")
TOLD = When(4, 1, 2, 0)
GRANT = b"8 bytes!"


def reopen(store: Store, path: Path, settings: Settings) -> Store:
    store.close()
    return Store.open(path, device=DEVICE, settings=settings)


# ── entries ──


def test_entries_are_numbered_from_one_and_say_whose_they_are(store: Store, ride: Ride) -> None:
    first, second = store.append(ride()), store.append(ride(2))
    assert [(entry.device, entry.epoch, entry.seq) for entry in (first, second)] == [(DEVICE, EPOCH, 1), (DEVICE, EPOCH, 2)]
    assert store.after(0, 10) == [first, second]
    assert store.after(1, 10) == [second]
    assert store.after(0, 1) == [first]
    assert store.head().seq == 2


def test_numbers_go_on_after_a_restart(store: Store, path: Path, small: Settings, ride: Ride) -> None:
    first = store.append(ride())
    with reopen(store, path, small) as again:
        assert again.append(ride()).seq == 2
        assert again.after(0, 1) == [first]


def test_an_entry_that_has_no_bytes_is_refused_and_nothing_changes(store: Store, ride: Ride) -> None:
    with pytest.raises(MalformedEntry):
        store.append(ride(row="x" * 2000))
    assert store.append(ride()).seq == 1


# ── intents ──


def test_an_intent_outlives_a_restart(store: Store, path: Path, small: Settings, ride: Ride) -> None:
    store.intend(Intent(ride()))
    with reopen(store, path, small) as again:
        found = again.intent_of(RIDER)
        assert found is not None
        assert replace(found.entry, device=0, epoch=0) == ride()
        assert again.intent_of(OTHER) is None
        assert again.head().seq == 0


def test_paying_takes_the_intent_away_and_remembers_the_grant(store: Store, ride: Ride) -> None:
    store.intend(Intent(ride()))
    paid = store.pay(RIDER, ride(), GRANT)
    assert (store.intents(), paid.seq) == ([], 1)
    assert store.knows_grant(RIDER, GRANT)


def test_nothing_can_be_paid_that_was_not_intended(store: Store, ride: Ride) -> None:
    with pytest.raises(ValueError, match="nothing is intended"):
        store.pay(RIDER, ride())
    assert store.head().seq == 0


def test_what_was_prepared_is_stored_only_as_it_is_and_where_it_stands(store: Store, path: Path, ride: Ride) -> None:
    store.intend(Intent(ride()))
    store.prepare(ride())
    assert (store.head().seq, store.latest(RIDER)) == (0, [])
    store.append(ride(2))
    paid = store.pay(RIDER, ride())
    store.prepare(ride(3))
    other = store.append(ride(3, reason="other"))
    assert [(entry.seq, entry.reason) for entry in store.after(0, 9)] == [(1, ""), (2, ""), (3, "other")]
    assert (paid.seq, other.seq) == (2, 3)
    store.checkpoint()
    with LedgerFile.open_read_only(path) as file:
        assert file.verify().findings == []


def test_a_rider_has_one_intent_and_the_later_one_counts(store: Store, ride: Ride) -> None:
    store.intend(Intent(ride()))
    store.intend(Intent(ride(reason="again")))
    assert [intent.entry.reason for intent in store.intents()] == ["again"]


def test_an_intent_without_a_rider_makes_no_sense(store: Store, ride: Ride) -> None:
    with pytest.raises(ValueError, match="needs a medium"):
        store.intend(Intent(ride(medium=None)))


def test_a_withdrawn_intent_leaves_nothing(store: Store, ride: Ride) -> None:
    store.intend(Intent(ride()))
    store.withdraw(RIDER)
    store.withdraw(RIDER)
    assert (store.intents(), store.head().seq) == ([], 0)


def test_open_intents_become_unknown_when_the_trip_ends(store: Store, ride: Ride) -> None:
    store.intend(Intent(ride(1)))
    store.intend(Intent(ride(2)))
    told = store.expire_intents(TOLD)
    assert [(entry.kind, entry.when, entry.seq) for entry in told] == [(Kind.UNKNOWN, TOLD, 1), (Kind.UNKNOWN, TOLD, 2)]
    assert [(entry.place, entry.fare, entry.medium) for entry in told] == [(r.place, r.fare, r.medium) for r in (ride(1), ride(2))]
    assert store.intents() == []
    assert store.expire_intents(TOLD) == []


def test_an_unknown_debit_is_unknown_until_it_is_resolved(store: Store, ride: Ride) -> None:
    for number in (1, 2, 1):
        store.intend(Intent(ride(number)))
        store.expire_intents(TOLD)
    assert [entry.seq for entry in store.unknown_of(RIDER)] == [1, 3]
    store.append(ride(1, Kind.RESOLVED, ref=1, outcome=Outcome.PAID))
    assert [entry.seq for entry in store.unknown_of(RIDER)] == [3]
    assert [entry.seq for entry in store.unknown_of(OTHER)] == [2]


# ── questions ──


def test_a_riders_latest_entries_are_found_newest_first(store: Store, ride: Ride) -> None:
    seqs = [store.append(ride(kind=kind)).seq for kind in (Kind.OPEN, Kind.PAID, Kind.FREE)]
    store.append(ride(2))
    assert [entry.seq for entry in store.latest(RIDER)] == seqs[::-1]


def test_the_last_shift_is_found_after_a_restart(store: Store, ride: Ride) -> None:
    assert store.last(Kind.SHIFT_OPEN) is None
    store.append(ride(kind=Kind.SHIFT_OPEN, medium=None))
    shift = store.append(ride(kind=Kind.SHIFT_OPEN, medium=None))
    store.append(ride())
    assert store.last(Kind.SHIFT_OPEN) == shift


def test_a_grant_is_known_by_its_rider_and_its_digest(store: Store, path: Path, small: Settings, ride: Ride) -> None:
    store.append(ride(), GRANT)
    store.append(ride(2), GRANT)
    assert store.knows_grant(RIDER, GRANT)
    assert store.knows_grant(OTHER, GRANT)
    assert not store.knows_grant(RIDER, b"another!")
    store.append(ride(), b"another!")
    with reopen(store, path, small) as again:
        assert again.knows_grant(RIDER, b"another!")
        assert not again.knows_grant(RIDER, GRANT)


# ── one writer, many readers ──


def test_a_second_writer_is_refused_in_one_sentence(store: Store, path: Path, small: Settings) -> None:
    with pytest.raises(LedgerBusy, match="another program is writing"):
        Store.open(path, device=DEVICE, settings=small)
    store.close()
    Store.open(path, device=DEVICE, settings=small).close()


def test_a_reader_sees_what_is_written_while_it_is_written(store: Store, path: Path, ride: Ride) -> None:
    with LedgerFile.open_read_only(path) as reader:
        assert reader.head().seq == 0
        store.append(ride())
        store.intend(Intent(ride(2)))
        assert [entry.seq for entry in reader.after(0, 10)] == [1]
        assert len(reader.intents()) == 1
        assert (reader.device, reader.epoch, reader.head()) == (DEVICE, EPOCH, store.head())
        store.checkpoint()
        store.append(ride())
        assert reader.verify().head == store.head()


def test_a_reader_never_changes_the_files(store: Store, path: Path, ride: Ride) -> None:
    store.append(ride())
    store.close()
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}
    with LedgerFile.open_read_only(path) as reader:
        assert reader.verify().count == 1
    assert {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")} == before


def test_a_reader_in_the_middle_of_reading_only_delays_a_checkpoint(path: Path, small: Settings, ride: Ride) -> None:
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=replace(small, busy_ms=0)) as store:
        for _ in range(5):
            store.append(ride())
        reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchall()
        store.append(ride())
        store.checkpoint()
        assert store.append(ride()).seq == 7
        reader.close()
        store.checkpoint()
        assert store.append(ride()).seq == 8


# ── rolled back, exchanged, meddled with ──


def copy_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def put_back(path: Path, files: dict[str, bytes], *, but: str = "") -> None:
    for file in path.parent.iterdir():
        if file.name != but:
            file.unlink()
    for name, data in files.items():
        if name != but:
            (path.parent / name).write_bytes(data)


def test_a_restored_database_is_noticed(store: Store, path: Path, small: Settings, ride: Ride) -> None:
    store.append(ride())
    store.close()
    image = copy_of(path)
    with Store.open(path, device=DEVICE, settings=small) as later:
        later.append(ride())
    put_back(path, image, but="ledger.db.memory")
    with pytest.raises(StoreRolledBack, match="ends at entry 1, but entries up to 2 were written"):
        Store.open(path, device=DEVICE, settings=small)


def test_a_database_that_went_another_way_is_noticed(store: Store, path: Path, small: Settings, ride: Ride) -> None:
    store.close()
    image = copy_of(path)
    with Store.open(path, device=DEVICE, settings=small) as one:
        one.append(ride())
    other_way = (path.parent / "ledger.db.memory").read_bytes()
    put_back(path, image)
    with Store.open(path, device=DEVICE, settings=small) as two:
        two.append(ride(2))
    (path.parent / "ledger.db.memory").write_bytes(other_way)
    with pytest.raises(StoreRolledBack, match="not the one remembered"):
        Store.open(path, device=DEVICE, settings=small)


def test_a_database_of_another_epoch_is_noticed(store: Store, path: Path, small: Settings) -> None:
    store.close()
    BesideDatabase(path).remember(Memory(EPOCH + 1, Head(0, bytes(32))).to_bytes())
    with pytest.raises(StoreRolledBack, match="another epoch"):
        Store.open(path, device=DEVICE, settings=small)


def test_a_lost_database_is_noticed(store: Store, path: Path, small: Settings, ride: Ride) -> None:
    store.append(ride())
    store.close()
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (path.parent / name).unlink(missing_ok=True)
    with pytest.raises(StoreRolledBack, match="is gone"):
        Store.open(path, device=DEVICE, settings=small)


def test_a_lost_or_damaged_memory_is_noticed(store: Store, path: Path, small: Settings) -> None:
    store.close()
    memory = path.with_name("ledger.db.memory")
    memory.write_bytes(memory.read_bytes().replace(b"seq 0", b"seq 1"))
    with pytest.raises(StoreRolledBack, match="damaged"):
        Store.open(path, device=DEVICE, settings=small)
    memory.unlink()
    with pytest.raises(StoreRolledBack, match="is gone"):
        Store.open(path, device=DEVICE, settings=small)


def test_the_memory_may_lie_on_another_medium(path: Path, small: Settings, tmp_path: Path, ride: Ride) -> None:
    elsewhere = tmp_path / "boot"
    elsewhere.mkdir()
    beside = BesideDatabase(path, memory=elsewhere / "memory")
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=small, beside=beside) as store:
        store.append(ride())
    assert Memory.from_bytes((elsewhere / "memory").read_bytes(), "it").head.seq == 1


def test_another_devices_ledger_is_refused(store: Store, path: Path, small: Settings) -> None:
    store.close()
    with pytest.raises(LedgerUnreadable, match="belongs to device 7, this is device 8"):
        Store.open(path, device=8, settings=small)


def test_a_ledger_is_created_once(store: Store, path: Path, small: Settings) -> None:
    store.close()
    with pytest.raises(LedgerUnreadable, match="is there already"):
        Store.create(path, device=DEVICE, epoch=1, settings=small)


def test_a_ledger_is_begun_only_where_there_never_was_one(path: Path, small: Settings, ride: Ride) -> None:
    epochs = itertools.count(1)
    path.with_name("ledger.db.lock").touch()

    def begin() -> Store:
        return Store.open_or_create(path, device=DEVICE, new_epoch=lambda: next(epochs), settings=small)

    with begin() as store:
        store.append(ride())
    with begin() as store:
        assert (store.epoch, store.head().seq) == (1, 1)
    for file in path.parent.glob("ledger.db*"):
        if not file.name.endswith(".memory"):
            file.unlink()
    with pytest.raises(StoreRolledBack):
        begin()


def test_a_ledger_that_does_not_exist_is_not_opened(tmp_path: Path, small: Settings) -> None:
    for open_it in (
        lambda: Store.open(tmp_path / "no.db", device=1, settings=small),
        lambda: LedgerFile.open_read_only(tmp_path / "no.db"),
    ):
        with pytest.raises(LedgerUnreadable, match="there is no ledger at"):
            open_it()


@pytest.mark.parametrize("numbers", [(-1, 0), (0, -1), (2**63, 0), (0, 2**63)])
def test_device_and_epoch_have_63_bits(path: Path, small: Settings, numbers: tuple[int, int]) -> None:
    with pytest.raises(LedgerUnreadable, match="not a number from 0 to"):
        Store.create(path, device=numbers[0], epoch=numbers[1], settings=small)


def test_what_is_no_ledger_is_called_so(tmp_path: Path, small: Settings) -> None:
    other = tmp_path / "other.db"
    apsw.Connection(str(other)).execute("CREATE TABLE x (y)")
    (tmp_path / "text.db").write_text("not a database at all, but long enough to be taken for one" * 20)
    for path in (other, tmp_path / "text.db"):
        with pytest.raises(LedgerUnreadable):
            LedgerFile.open_read_only(path)
        BesideDatabase(path).remember(Memory(EPOCH, Head(0, bytes(32))).to_bytes())
        with pytest.raises(LedgerUnreadable):
            Store.open(path, device=DEVICE, settings=small)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE entry SET data = (SELECT data FROM entry WHERE seq = 2) WHERE seq = 3", (Fault.MISFILED, 3)),
        ("UPDATE entry SET hash = zeroblob(32) WHERE seq = 3", (Fault.CHANGED, 3)),
        ("UPDATE entry SET rider = zeroblob(8) WHERE seq = 4", (Fault.MISFILED, 4)),
        ("UPDATE entry SET data = zeroblob(170) WHERE seq = 1", (Fault.UNREADABLE, 1)),
        ("DELETE FROM entry WHERE seq = 3", (Fault.MISSING, 3)),
        ("DELETE FROM entry WHERE seq = 5", (Fault.CUT, 5)),
        ("DELETE FROM entry", (Fault.CUT, 1)),
    ],
)
def test_meddling_with_a_row_is_found_and_named(store: Store, path: Path, ride: Ride, sql: str, named: tuple[Fault, int]) -> None:
    for number in range(5):
        store.append(ride(number + 1))
    store.close()
    apsw.Connection(str(path)).execute(sql)
    with LedgerFile.open_read_only(path) as reader:
        first = reader.verify().findings[0]
    assert (first.fault, first.first) == named


# ── room ──


class AlmostFull(BesideDatabase):
    """A file system that says how much room it has."""

    room = 10**9

    def free_bytes(self) -> int:
        return self.room


def test_no_ride_is_begun_when_the_disk_is_nearly_full_but_begun_ones_are_closed(path: Path, ride: Ride) -> None:
    given = Settings(log_bytes=0, ballast_bytes=4096, low_space_bytes=1_000_000)
    beside = AlmostFull(path)
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=given, beside=beside) as store:
        for number in (1, 2, 3):
            store.intend(Intent(ride(number)))
        assert not store.space().low
        beside.room = 999_999
        assert store.space().low
        for begin in (lambda: store.intend(Intent(ride(4))), lambda: store.append(ride(4)), lambda: store.append(ride(kind=Kind.FREE))):
            with pytest.raises(Full, match="nearly full"):
                begin()
        assert (store.head().seq, len(store.intents())) == (0, 3)
        store.pay(RIDER, ride(1))
        store.withdraw(OTHER)
        store.expire_intents(TOLD)
        store.append(ride(kind=Kind.SHIFT_CLOSE, medium=None))
        assert (store.head().seq, store.intents()) == (3, [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A real file system of 1 MiB, if this machine lets us mount one."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("cannot mount a small file system here (needs root); the twin's full disk is tested in any case")
    yield place  # type: ignore[misc]
    subprocess.run(["umount", str(place)], check=True)


def intend_for_ever(store: Store, ride: Ride) -> None:
    for number in itertools.count(10):
        store.intend(Intent(ride(number)))


def test_on_a_full_disk_every_open_ride_can_still_be_closed(small_disk: Path, ride: Ride) -> None:
    path = small_disk / "ledger.db"
    given = Settings(log_bytes=0, ballast_bytes=256 * 1024, low_space_bytes=0)
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=given) as store:
        for number in range(1, 6):
            store.intend(Intent(ride(number)))
        with (small_disk / "other").open("wb", buffering=0) as other:
            filled = 0
            try:
                while True:
                    filled += other.write(bytes(4096))
            except OSError:
                assert filled > 0
        with pytest.raises(Full):
            intend_for_ever(store, ride)
        for number in range(1, 6):
            store.pay(number.to_bytes(8, "big"), ride(number))
        assert store.head().seq == 5
        assert store.space().ballast == 0
    (small_disk / "other").unlink()
    with Store.open(path, device=DEVICE, settings=given) as store:
        assert store.append(ride()).seq == 6
        assert store.space().ballast == 256 * 1024
    with LedgerFile.open_read_only(path) as reader:
        assert reader.verify().findings == []


def test_a_medium_that_cannot_be_written_can_be_read(small_disk: Path, small: Settings, ride: Ride) -> None:
    path = small_disk / "ledger.db"
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=small) as store:
        store.append(ride())
    for name in ("ledger.db-wal", "ledger.db-shm"):
        path.with_name(name).unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with LedgerFile.open_read_only(path) as reader:
        assert (reader.verify().findings, reader.verify().count) == ([], 1)


# ── kill -9 ──

CHILD = """
import sys
from ledger.entry import Entry, Kind, When
from ledger.store import Settings, Store
store = Store.open(sys.argv[1], device=7, settings=Settings(log_bytes=0, ballast_bytes=0))
while True:
    print(store.append(Entry(Kind.BOOT, When(1, 2, 3, 0))).seq, flush=True)
"""


def test_a_killed_process_has_every_entry_it_was_told_of(store: Store, path: Path, small: Settings) -> None:
    store.close()
    told = 0
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(40):
            told = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split("\n")[:-1]
        told = int(rest[-1]) if rest else told
        child.stdout.close()
        child.wait()
        with Store.open(path, device=DEVICE, settings=small) as after:
            assert after.head().seq in (told, told + 1)
    with LedgerFile.open_read_only(path) as reader:
        assert reader.verify().findings == []


# ── the log ──


def test_the_log_keeps_its_size_over_restarts(path: Path, ride: Ride) -> None:
    given = Settings(log_bytes=300_000, ballast_bytes=0, low_space_bytes=0)
    Store.create(path, device=DEVICE, epoch=EPOCH, settings=given).close()
    log = path.with_name("ledger.db-wal")
    size = log.stat().st_size
    assert size >= 300_000
    with Store.open(path, device=DEVICE, settings=given) as store:
        assert not store.needs_checkpoint()
        while not store.needs_checkpoint():
            store.append(ride())
        assert log.stat().st_size == size
        store.checkpoint()
        assert not store.needs_checkpoint()
    assert log.stat().st_size == size


def test_an_entry_without_a_medium_or_purse_is_an_entry_too(store: Store, ride: Ride) -> None:
    store.append(ride(medium=None))
    store.append(ride(medium=Medium(RIDER)))
    assert [entry.medium for entry in store.after(0, 9)] == [None, Medium(RIDER)]


def test_a_closed_store_opens_again_by_itself(store: Store, ride: Ride) -> None:
    store._disconnect()
    assert store.append(ride()).seq == 1


def test_all_errors_are_ledger_errors() -> None:
    assert all(issubclass(error, LedgerError) for error in (Full, LedgerBusy, LedgerUnreadable, MalformedEntry, StoreRolledBack))
