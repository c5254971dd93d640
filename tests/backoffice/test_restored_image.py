"""An old image of a vehicle's disk is restored while a debit was open in it: the city settles what the new epoch cannot know."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from backoffice import queries, schema
from backoffice.book import PostingKind
from backoffice.settle import accounts_of
from backoffice.store import Store as Books
from drivers.cards.purse import FULL, Counters, RegLog
from ledger.batch import Batch, pack, unpack
from ledger.chain import follow, genesis
from ledger.codec import encode
from ledger.entry import Entry, Fare, Intent, Kind, Medium, Outcome, Place, Versions, When
from ledger.errors import StoreRolledBack
from ledger.notes import Loss
from ledger.receipt import Receipt
from ledger.store import Settings, Store

DEVICE, OTHER, EPOCH, NEW = 7, 8, 4711, 4712
RIDER = b"rider---"
WHEN = When(boot=3, mono_ms=123_456, utc_ms=1_770_000_000_000, clock=4)
SMALL = Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0)
BEFORE = Counters(FULL, FULL, bytes(8), 20)
AFTER = Counters(FULL - 300, FULL - 1, RegLog(DEVICE, 1000, 1).block(), 21)
RIDE = Entry(
    Kind.PAID,
    WHEN,
    Place("sanko", "101", 12, "R1", "T0815", "S03", "S07", 20_485),
    Medium(RIDER, 2000, 1, b"granted!", BEFORE, AFTER),
    Fare(300, 300, 0, 1, 0),
    Versions(b"table---", b"scheme--", b"operator", "0.1.0", 1, 1),
)
BOOT = replace(RIDE, kind=Kind.BOOT, medium=None, fare=Fare())


@dataclass
class Vehicle:
    """A vehicle with a ledger on a disk, and the city that hears from it now and then."""

    folder: Path
    books: Books
    now_ms: int = 1_770_000_100_000

    @property
    def path(self) -> Path:
        return self.folder / "ledger.db"

    def open(self) -> Store:
        return Store.open(self.path, device=DEVICE, settings=SMALL)

    def send(self, ledger: Store) -> Receipt:
        """Everything that the ledger holds goes up; what the city says to it."""
        found = tuple(encode(entry) for entry in ledger.after(0, 100))
        return self.sent(Batch(ledger.device, ledger.epoch, 1, genesis(ledger.device, ledger.epoch), found, self.now_ms))

    def sent(self, batch: Batch) -> Receipt:
        self.now_ms += 60_000
        sealed = pack(batch)
        told = self.books.receive(sealed, b"kid-----", unpack(sealed), self.now_ms)
        return Receipt(batch.device, batch.epoch, told.next_seq, told.head, told.holes, told.rejects, self.now_ms)

    def other_bus(self, entry: Entry) -> None:
        """Another vehicle meets the card."""
        data = encode(replace(entry, device=OTHER, epoch=1, seq=1))
        self.sent(Batch(OTHER, 1, 1, genesis(OTHER, 1), (data,), self.now_ms))

    def image_with_an_open_debit(self) -> Path:
        """A copy of the disk, made between the writing of the intent and that of the ride."""
        with Store.create(self.path, device=DEVICE, epoch=EPOCH, settings=SMALL) as ledger:
            ledger.append(BOOT)
            ledger.intend(Intent(RIDE))
        image = self.folder / "image"
        image.mkdir()
        for file in self.folder.glob("ledger.db*"):
            shutil.copy(file, image)
        return image

    def restore(self, image: Path, receipt: Receipt) -> Store:
        """The image is put on the disk; the vehicle hears from the city, and goes on in a new epoch."""
        for file in self.folder.glob("ledger.db*"):
            file.unlink()
        for file in image.iterdir():
            shutil.copy(file, self.folder)
        ledger, lost = self.open(), list[Loss]()
        with pytest.raises(StoreRolledBack):
            ledger.acknowledge(receipt)
        ledger.renew(NEW, replace(WHEN, boot=0, mono_ms=0), RIDE.versions, lost.append)
        assert [(loss.epoch, loss.first) for loss in lost] == [(EPOCH, receipt.next_seq)]
        return ledger

    def owed(self) -> int:
        """What the city owes the operator, in points, after everything is settled."""
        queries.settle_all(self.books)
        posting, own = schema.posting, accounts_of("sanko")
        with self.books.reading() as connection:
            rows = connection.execute(select(posting).where(posting.c.kind == int(PostingKind.POINTS))).all()
        return sum(row.amount if row.credit in own else -row.amount for row in rows)

    def alarms(self) -> int:
        with self.books.reading() as connection:
            return len(connection.execute(select(schema.alarm)).all())


@pytest.fixture
def vehicle(tmp_path: Path, books: Books) -> Vehicle:
    return Vehicle(tmp_path, books)


def unknown_in(ledger: Store) -> Entry:
    (unknown,) = [entry for entry in ledger.after(0, 100) if entry.kind is Kind.UNKNOWN]
    return unknown


def test_a_ride_that_was_booked_before_the_image_was_restored_is_not_booked_again(vehicle: Vehicle) -> None:
    image = vehicle.image_with_an_open_debit()
    with vehicle.open() as ledger:
        ledger.pay(RIDER, RIDE)
        receipt = vehicle.send(ledger)
    assert vehicle.owed() == 300
    with vehicle.restore(image, receipt) as ledger:
        unknown = unknown_in(ledger)
        vehicle.send(ledger)
        assert vehicle.owed() == 300
        vehicle.other_bus(replace(RIDE, kind=Kind.FREE, medium=replace_after(RIDE), fare=Fare(200)))
        assert vehicle.owed() == 300
        ledger.append(replace(unknown, kind=Kind.RESOLVED, outcome=Outcome.PAID, ref=unknown.seq, seq=0))
        vehicle.send(ledger)
        assert vehicle.owed() == 300
    assert vehicle.alarms() == 0


def replace_after(ride: Entry) -> Medium:
    """The card as another bus finds it after ``ride``."""
    assert ride.medium is not None
    return replace(ride.medium, before=AFTER, after=None)


@pytest.mark.parametrize(
    ("found", "points"),
    [(AFTER, 300), (replace(BEFORE, wcnt=30), 0), (Counters(FULL - 100, FULL - 1, RegLog(OTHER, 900, 1).block(), 21), 0)],
    ids=["with our debit", "unchanged, later", "with another debit"],
)
def test_a_ride_that_only_the_lost_ledger_knew_is_settled_by_the_card(vehicle: Vehicle, found: Counters, points: int) -> None:
    image = vehicle.image_with_an_open_debit()
    with vehicle.open() as ledger:
        for _ in range(2):
            ledger.append(BOOT)
        receipt = vehicle.send(ledger)  # the fate of the debit never left the vehicle
    with vehicle.restore(image, receipt) as ledger:
        vehicle.send(ledger)
        assert vehicle.owed() == 0
        vehicle.other_bus(replace(RIDE, kind=Kind.FREE, medium=Medium(RIDER, 2000, 1, b"granted!", found), fare=Fare(200)))
        assert vehicle.owed() == points
    assert vehicle.alarms() == 0


def test_a_conclusion_gives_way_when_the_old_ledger_is_found_after_all(vehicle: Vehicle) -> None:
    image = vehicle.image_with_an_open_debit()
    with vehicle.open() as ledger:
        ledger.append(BOOT)
        receipt = vehicle.send(ledger)
        ledger.pay(RIDER, RIDE)
        whole = [encode(entry) for entry in ledger.after(0, 100)]
    with vehicle.restore(image, receipt) as ledger:
        vehicle.send(ledger)
    vehicle.other_bus(replace(RIDE, kind=Kind.FREE, medium=replace_after(RIDE), fare=Fare(200)))
    assert vehicle.owed() == 300
    head = genesis(DEVICE, EPOCH)
    for data in whole[:-1]:
        head = follow(head, data)
    vehicle.sent(Batch(DEVICE, EPOCH, len(whole), head, (whole[-1],), vehicle.now_ms))
    assert vehicle.owed() == 300
    assert vehicle.alarms() == 0
