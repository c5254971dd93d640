"""What the city signed, what may then be forgotten, and what becomes of a ledger that is not the one the city has."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.beside import BesideDatabase
from ledger.chain import Fault, genesis
from ledger.entry import Entry, Intent, Kind, Outcome, Versions, When
from ledger.errors import LedgerUnreadable, StoreLost, StoreRolledBack
from ledger.notes import Loss, LossReason
from ledger.receipt import Receipt
from ledger.renewal import Note, RenewalBeside, set_aside_ledgers
from ledger.store import LedgerFile, Settings, Store

Ride = Callable[..., Entry]
DEVICE, EPOCH, NEW = 7, 4711, 4712
SMALL = Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0)
DAY_MS = 86_400_000
NOW_MS = 1_770_000_000_000
RIDER = (1).to_bytes(8, "big")
VERSIONS = Versions(software="0.2.0")
WHEN = When(4, 1, NOW_MS, 3)


def at(utc_ms: int, clock: int = 3) -> When:
    return When(3, 5, utc_ms, clock)


def receipt(store: Store, seq: int, *, issued_ms: int = NOW_MS, rejects: tuple[tuple[int, str], ...] = ()) -> Receipt:
    return Receipt(store.device, store.epoch, seq + 1, hash_of(store, seq), rejects=rejects, issued_ms=issued_ms)


def hash_of(store: Store, seq: int) -> bytes:
    if seq == 0:
        return genesis(DEVICE, store.epoch)
    found = apsw.Connection(store._path, apsw.SQLITE_OPEN_READONLY).execute("SELECT hash FROM entry WHERE seq = ?", (seq,)).fetchall()
    return found[0][0] if found else bytes(32)


def filled(store: Store, ride: Ride, count: int) -> None:
    for number in range(1, count + 1):
        store.append(ride(number, when=at(NOW_MS + number)))


def forget_all(store: Store, before_ms: int) -> int:
    forgotten = 0
    while more := store.forget(before_ms):
        forgotten += more
    return forgotten


def reopened(store: Store, path: Path) -> Store:
    store.close()
    return Store.open(path, device=DEVICE, settings=SMALL)


# ── the watermark ──


def test_what_the_city_signed_is_remembered_over_a_restart(store: Store, path: Path, ride: Ride) -> None:
    filled(store, ride, 5)
    store.acknowledge(receipt(store, 3, rejects=((2, "unknown-trip"),)))
    with reopened(store, path) as again:
        known = again.acknowledged()
        assert known is not None
        assert (known.head.seq, known.issued_ms, again.rejected()) == (3, NOW_MS, [(2, "unknown-trip")])


def test_an_older_receipt_and_one_of_another_ledger_change_nothing(store: Store, ride: Ride) -> None:
    filled(store, ride, 5)
    store.acknowledge(receipt(store, 4))
    store.acknowledge(receipt(store, 2, issued_ms=NOW_MS - 1))
    store.acknowledge(replace(receipt(store, 5), epoch=EPOCH + 1))
    store.acknowledge(replace(receipt(store, 5), device=8))
    known = store.acknowledged()
    assert known is not None
    assert known.head.seq == 4


def test_a_city_that_was_restored_takes_its_word_back_and_nothing_more_is_forgotten(store: Store, ride: Ride) -> None:
    filled(store, ride, 5)
    store.acknowledge(receipt(store, 4))
    store.acknowledge(receipt(store, 2, issued_ms=NOW_MS + 1))
    store.checkpoint()
    assert forget_all(store, NOW_MS + DAY_MS) == 2


# ── forgetting ──


def test_nothing_is_forgotten_that_the_city_does_not_have(store: Store, ride: Ride) -> None:
    filled(store, ride, 10)
    store.checkpoint()
    assert forget_all(store, NOW_MS + DAY_MS) == 0
    store.acknowledge(receipt(store, 6))
    assert forget_all(store, NOW_MS + DAY_MS) == 6
    assert [entry.seq for entry in store.after(0, 100)] == [7, 8, 9, 10]


def test_what_is_young_stays_and_so_does_all_behind_it(store: Store, ride: Ride) -> None:
    for when in (at(NOW_MS), at(NOW_MS + 9), at(NOW_MS + 1), at(NOW_MS + 2)):
        store.append(ride(when=when))
    store.checkpoint()
    store.acknowledge(receipt(store, 4))
    assert forget_all(store, NOW_MS + 5) == 1


def test_an_entry_without_a_clock_is_as_old_as_the_next_that_had_one(store: Store, ride: Ride) -> None:
    for when in (at(5, 0), at(NOW_MS), at(5, 0), at(NOW_MS + 9), at(NOW_MS + 10)):
        store.append(ride(when=when))
    store.checkpoint()
    store.acknowledge(receipt(store, 5))
    assert forget_all(store, NOW_MS + 5) == 2


def test_the_chain_holds_from_the_cut_on_and_new_entries_go_on_from_it(store: Store, path: Path, ride: Ride) -> None:
    filled(store, ride, 9)
    store.checkpoint()
    store.acknowledge(receipt(store, 7))
    assert forget_all(store, NOW_MS + DAY_MS) == 7
    with reopened(store, path) as again:
        assert again.append(ride()).seq == 10
        again.checkpoint()
        with LedgerFile.open_read_only(path) as file:
            check = file.verify()
            assert (check.findings, check.count, check.head.seq, file.start().seq) == ([], 3, 10, 7)
            assert file.hash_at(7) == file.start().hash


def test_entries_that_are_missing_behind_the_cut_are_named(store: Store, path: Path, ride: Ride) -> None:
    filled(store, ride, 9)
    store.checkpoint()
    store.acknowledge(receipt(store, 7))
    forget_all(store, NOW_MS + DAY_MS)
    store.close()
    apsw.Connection(str(path)).execute("DELETE FROM entry WHERE seq = 8")
    with LedgerFile.open_read_only(path) as file:
        assert [finding.fault for finding in file.verify().findings] == [Fault.MISSING]


def test_the_last_entry_is_never_forgotten(store: Store, path: Path, ride: Ride) -> None:
    filled(store, ride, 3)
    store.checkpoint()
    store.acknowledge(receipt(store, 3))
    assert forget_all(store, NOW_MS + DAY_MS) == 2
    with reopened(store, path) as again:
        assert again.head().seq == 3


def test_a_debit_that_nobody_knows_the_end_of_is_asked_for_until_it_is_resolved(store: Store, path: Path, ride: Ride) -> None:
    unknown = store.append(ride(1, Kind.UNKNOWN))
    filled(store, ride, 4)
    store.checkpoint()
    store.acknowledge(receipt(store, 3))
    forget_all(store, NOW_MS + DAY_MS)
    assert store.after(0, 1)[0].seq == 4
    assert store.unknown_of(RIDER) == [unknown]
    with reopened(store, path) as again:
        assert again.unknown_of(RIDER) == [unknown]
        again.append(ride(1, Kind.RESOLVED, outcome=Outcome.PAID, ref=unknown.seq))
        assert again.unknown_of(RIDER) == []
        again.append(ride(2))
        again.checkpoint()
        again.acknowledge(receipt(again, 6))
        forget_all(again, NOW_MS + DAY_MS)
        assert again.unknown_of(RIDER) == []


def test_the_shift_and_the_boot_are_still_known_when_their_entries_are_forgotten(store: Store, path: Path, ride: Ride) -> None:
    for kind in (Kind.BOOT, Kind.SHIFT_OPEN, Kind.BOOT, Kind.TRIP_OPEN):
        store.append(ride(kind=kind, medium=None))
    last_boot = store.last(Kind.BOOT)
    filled(store, ride, 3)
    store.checkpoint()
    store.acknowledge(receipt(store, 6))
    assert forget_all(store, NOW_MS + DAY_MS) == 6
    with reopened(store, path) as again:
        assert again.last(Kind.BOOT) == last_boot
        assert [entry.seq for kind in (Kind.SHIFT_OPEN, Kind.TRIP_OPEN) if (entry := again.last(kind))] == [2, 4]
        newer = again.append(ride(kind=Kind.BOOT, medium=None))
        assert again.last(Kind.BOOT) == newer


def test_a_memory_that_is_older_than_the_cut_is_still_a_true_one(store: Store, path: Path, ride: Ride) -> None:
    filled(store, ride, 3)
    store.checkpoint()
    old = path.with_name("ledger.db.memory").read_bytes()
    filled(store, ride, 6)
    store.checkpoint()
    store.acknowledge(receipt(store, 8))
    forget_all(store, NOW_MS + DAY_MS)
    store.close()
    path.with_name("ledger.db.memory").write_bytes(old)
    with Store.open(path, device=DEVICE, settings=SMALL) as again:
        assert again.head().seq == 9


def test_what_was_forgotten_is_not_to_be_found_in_the_file(store: Store, path: Path, ride: Ride) -> None:
    filled(store, lambda number, **rest: ride(number, row="rare-row-name", **rest), 200)
    for number in range(100):
        store.append(ride(number))
    store.checkpoint()
    store.acknowledge(receipt(store, 250))
    forget_all(store, NOW_MS + DAY_MS)
    store.checkpoint()
    store.close()
    assert b"rare-row-name" not in path.read_bytes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_signed_and_forgotten_nothing_above_the_watermark_goes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("any") / "ledger.db"
    signed = 0
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=replace(SMALL, synchronous="OFF")) as store:
        for _ in range(data.draw(st.integers(1, 12))):
            match data.draw(st.sampled_from(("append", "sign", "forget", "checkpoint"))):
                case "append":
                    store.append(Entry(Kind.BOOT, at(data.draw(st.integers(0, 20)), data.draw(st.sampled_from((0, 3))))))
                case "sign" if store.head().seq:
                    seq = data.draw(st.integers(1, store.head().seq))
                    digest = hash_of(store, seq)
                    if digest != bytes(32):
                        store.acknowledge(Receipt(DEVICE, EPOCH, seq + 1, digest, issued_ms=data.draw(st.integers(0, 5))))
                        signed = max(signed, seq)
                case "forget":
                    store.forget(data.draw(st.integers(0, 25)))
                case _:
                    store.checkpoint()
            present = [entry.seq for entry in store.after(0, 1000)]
            assert present == list(range(present[0], store.head().seq + 1)) if present else store.head().seq == 0
            assert not present or present[0] <= signed + 1
            store.checkpoint()
            with LedgerFile.open_read_only(path) as file:
                assert file.verify().findings == []


# ── a ledger that is not the one the city has ──


@pytest.fixture
def told() -> list[Loss]:
    return []


def ahead(seq: int = 9) -> Receipt:
    return Receipt(DEVICE, EPOCH, seq + 1, b"h" * 32, issued_ms=NOW_MS)


def test_a_ledger_that_ends_below_the_citys_watermark_takes_nothing_more(store: Store, ride: Ride) -> None:
    filled(store, ride, 3)
    with pytest.raises(StoreRolledBack, match="the city has 9 entries"):
        store.acknowledge(ahead())
    for ask in (lambda: store.append(ride()), lambda: store.latest(RIDER), lambda: store.intend(Intent(ride())), store.checkpoint):
        with pytest.raises(StoreLost, match="needs a new epoch"):
            ask()


def test_a_ledger_with_another_entry_at_the_watermark_takes_nothing_more(store: Store, ride: Ride) -> None:
    filled(store, ride, 12)
    with pytest.raises(StoreRolledBack):
        store.acknowledge(ahead())


def test_it_goes_on_in_a_new_epoch_that_says_so_first(store: Store, path: Path, ride: Ride, told: list[Loss]) -> None:
    filled(store, ride, 3)
    with pytest.raises(StoreRolledBack):
        store.acknowledge(ahead())
    store.renew(NEW, WHEN, VERSIONS, told.append)
    first = store.after(0, 1)[0]
    assert (store.epoch, first.kind, first.seq, first.epoch, first.reason) == (NEW, Kind.EPOCH, 1, NEW, f"after:{EPOCH}:9")
    assert told == [Loss(DEVICE, EPOCH, 10, 0, LossReason.ROLLED_BACK, WHEN)]
    assert store.append(ride()).seq == 2
    (aside,) = set_aside_ledgers(path)
    assert aside.name == f"ledger.db.epoch-{EPOCH}"
    with LedgerFile.open_read_only(aside, remembered=False) as old:
        assert (old.epoch, old.head().seq, old.verify().findings) == (EPOCH, 3, [])
    with reopened(store, path) as again:
        assert (again.epoch, again.head().seq) == (NEW, 2)


def test_who_paid_on_this_shift_is_still_known_after_a_new_epoch(store: Store, path: Path, ride: Ride, told: list[Loss]) -> None:
    store.append(ride(1))
    store.append(ride(kind=Kind.SHIFT_OPEN, medium=None))
    store.append(ride(2))
    paid = store.append(ride(1, row="second"))
    with suppress(StoreRolledBack):
        store.acknowledge(ahead())
    store.renew(NEW, WHEN, VERSIONS, told.append)
    assert store.latest(RIDER) == [replace(paid, epoch=NEW, seq=0)]
    newer = store.append(ride(1))
    with reopened(store, path) as again:
        assert again.latest(RIDER) == [newer, replace(paid, epoch=NEW, seq=0)]


def test_the_shift_and_the_trip_go_on_and_open_debits_are_named(store: Store, ride: Ride, told: list[Loss]) -> None:
    for kind in (Kind.BOOT, Kind.SHIFT_OPEN, Kind.TRIP_OPEN):
        store.append(ride(kind=kind, medium=None))
    store.intend(Intent(ride(1)))
    with suppress(StoreRolledBack):
        store.acknowledge(ahead())
    store.renew(NEW, WHEN, VERSIONS, told.append)
    assert [entry.kind for entry in store.after(0, 10)] == [Kind.EPOCH, Kind.BOOT, Kind.SHIFT_OPEN, Kind.TRIP_OPEN, Kind.UNKNOWN]
    assert (store.intents(), len(store.unknown_of(RIDER))) == ([], 1)


def an_old_image(path: Path, ride: Ride) -> None:
    """The ledger was copied after 2 entries, written on to 5, and the copy put back."""
    with Store.create(path, device=DEVICE, epoch=EPOCH, settings=SMALL) as store:
        filled(store, ride, 2)
    image = path.read_bytes()
    with Store.open(path, device=DEVICE, settings=SMALL) as store:
        filled(store, ride, 3)
    path.write_bytes(image)


def gone(path: Path, ride: Ride) -> None:
    an_old_image(path, ride)
    path.unlink()


def forgotten(path: Path, ride: Ride) -> None:
    an_old_image(path, ride)
    path.with_name("ledger.db.memory").unlink()


def exchanged(path: Path, ride: Ride) -> None:
    an_old_image(path, ride)
    other = path.with_name("other.db")
    with Store.create(other, device=DEVICE, epoch=99, settings=SMALL) as store:
        filled(store, ride, 4)
    shutil.copy(other, path)


@pytest.mark.parametrize(
    ("spoil", "loss", "reason"),
    [
        (an_old_image, Loss(DEVICE, EPOCH, 3, 0, LossReason.ROLLED_BACK, WHEN), f"after:{EPOCH}:5"),
        (gone, Loss(DEVICE, EPOCH, 1, 0, LossReason.MISSING, WHEN), f"after:{EPOCH}:5"),
        (forgotten, Loss(DEVICE, EPOCH, 3, 0, LossReason.FORGOTTEN, WHEN), f"after:{EPOCH}:2"),
        (exchanged, Loss(DEVICE, EPOCH, 1, 0, LossReason.REPLACED, WHEN), f"after:{EPOCH}:5"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_go_on_at_a_start_begins_anew(
    path: Path, ride: Ride, spoil: Callable[[Path, Ride], None], loss: Loss, reason: str
) -> None:
    told: list[Loss] = []
    spoil(path, ride)
    with pytest.raises(StoreRolledBack):
        Store.open(path, device=DEVICE, settings=SMALL)
    with Store.open_anew(path, device=DEVICE, epoch=NEW, when=WHEN, versions=VERSIONS, tell=told.append, settings=SMALL) as store:
        assert (store.epoch, store.after(0, 1)[0].reason, told) == (NEW, reason, [loss])
    with Store.open(path, device=DEVICE, settings=SMALL) as store:
        assert store.head().seq == 1


class Cut(Exception):
    """The program ends here."""


class Breaking:
    """A renewal whose every step may be the last one that is done, or the first that is not."""

    def __init__(self, real: RenewalBeside, step: int) -> None:
        self._real = real
        self._left = step

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*values: object) -> object:
            self._tick()
            done = getattr(self._real, name)(*values)
            self._tick()
            return done

        return call

    def _tick(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Cut


@pytest.mark.parametrize("step", range(14))
def test_a_renewal_that_was_cut_off_anywhere_is_finished_by_the_next(path: Path, ride: Ride, told: list[Loss], step: int) -> None:
    an_old_image(path, ride)
    store = Store(str(path), BesideDatabase(path), SMALL, DEVICE)
    store._renewal = Breaking(RenewalBeside(path), step)  # type: ignore[assignment]
    with suppress(Cut):
        store._begin(renew=lambda: store._renew(NEW, WHEN, VERSIONS, told.append))
    store._disconnect()
    store._beside.unlock()

    def again(epoch: int) -> Iterator[Store]:
        try:
            yield Store.open(path, device=DEVICE, settings=SMALL)
        except StoreRolledBack:
            yield Store.open_anew(path, device=DEVICE, epoch=epoch, when=WHEN, versions=VERSIONS, tell=told.append, settings=SMALL)

    with next(again(NEW + 1)) as found:
        assert found.epoch in {NEW, NEW + 1}
        assert [entry.kind for entry in found.after(0, 10)] == [Kind.EPOCH]
        assert found.head().seq == 1
    assert set(told) == {Loss(DEVICE, EPOCH, 3, 0, LossReason.ROLLED_BACK, WHEN)}
    (aside,) = set_aside_ledgers(path)
    with LedgerFile.open_read_only(aside, remembered=False) as old:
        assert (old.epoch, old.head().seq) == (EPOCH, 2)


def test_while_a_renewal_is_unfinished_nobody_makes_a_new_ledger_instead(path: Path) -> None:
    RenewalBeside(path).begin(Note(EPOCH, NEW, 1, 5, LossReason.MISSING, "ledger.db.epoch-4711"))
    with pytest.raises(StoreRolledBack, match="needs to be finished"):
        Store.open_or_create(path, device=DEVICE, new_epoch=lambda: 5, settings=SMALL)


def test_a_damaged_note_is_not_guessed_at(path: Path) -> None:
    path.with_name("ledger.db.renewal").write_bytes(b"kazashi ledger renewal 1\n")
    with pytest.raises(LedgerUnreadable, match="is damaged"):
        RenewalBeside(path).pending()


def test_a_second_lost_ledger_of_the_same_epoch_gets_a_name_of_its_own(path: Path) -> None:
    path.with_name("ledger.db.epoch-5-wal").write_bytes(b"")
    assert RenewalBeside(path).free_name(5) == "ledger.db.epoch-5.2"
    assert RenewalBeside(path).free_name(6) == "ledger.db.epoch-6"
