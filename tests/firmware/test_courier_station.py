"""A vehicle's station and what the city sends it: receipts in a quiet moment, a new epoch when the ledger is not the city's."""

from dataclasses import replace
from pathlib import Path

import pytest

from drivers.signing import Ed25519Key, SignatureChecker
from firmware.rehearsal import Town, Vehicle, counters, tariff
from ledger.chain import Head
from ledger.entry import Kind
from ledger.notes import NOT_TESTED, WORKS, LossReason
from ledger.receipt import Receipt, encode
from ledger.receipts import CityKeys, LetterboxBeside
from ledger.renewal import set_aside_ledgers
from ledger.seal import Content, key_id, seal
from ledger.store import LedgerFile
from validator.journey import Tariff
from validator.messages import Message
from validator.station import DAY_MS

CITY = Ed25519Key(bytes(range(32)))


@pytest.fixture(scope="module")
def rules() -> Tariff:
    return tariff()


@pytest.fixture
def town(rules: Tariff, tmp_path: Path) -> Town:
    return Town(tmp_path, rules)


@pytest.fixture
def bus(town: Town, request: pytest.FixtureRequest) -> Vehicle:
    bus = town.vehicle(route=request.param if hasattr(request, "param") else "M2")
    keys = CityKeys(SignatureChecker(), {key_id(CITY.public): CITY.public})
    letterbox = LetterboxBeside(bus.path, keys, lambda: town.clock.monotonic_ns() / 1e9)
    bus.station.equipment = replace(bus.station.equipment, letterbox=letterbox, parts=lambda: {"screen": WORKS})
    bus.ride_to(1)
    return bus


def box(bus: Vehicle) -> LetterboxBeside:
    found = bus.station.equipment.letterbox
    assert isinstance(found, LetterboxBeside)
    return found


def lay(bus: Vehicle, head: Head, issued_ms: int | None = None) -> None:
    now_ms = bus.clock.now().utc_ms if issued_ms is None else issued_ms
    receipt = Receipt(bus.terminal, bus.store.epoch, head.seq + 1, head.hash, issued_ms=now_ms)
    box(bus).lay(seal(CITY, Content.RECEIPT, encode(receipt)), receipt)


def pause(bus: Vehicle, seconds: int) -> None:
    """Nobody is near for so long; the station turns once a second."""
    for _ in range(seconds):
        bus.town.clock.advance_ms(1000)
        bus.turn()


def acknowledged(bus: Vehicle) -> int:
    known = bus.store.acknowledged()
    return known.head.seq if known else 0


def test_a_receipt_waits_for_a_quiet_moment(bus: Vehicle, town: Town) -> None:
    bus.touch(town.card())
    head = bus.store.head()
    lay(bus, head)
    bus.turn()
    assert acknowledged(bus) == 0
    pause(bus, 6)
    assert acknowledged(bus) == head.seq
    assert box(bus).receipts() == []


def test_what_the_city_has_is_forgotten_after_the_keeping_time_by_the_citys_clock(bus: Vehicle, town: Town) -> None:
    bus.touch(town.card())
    bus.store.checkpoint()
    lay(bus, bus.store.head())
    pause(bus, 20)
    town.clock.advance_ms(70 * DAY_MS)  # our clock says so, the city's does not
    pause(bus, 20)
    assert bus.store.after(0, 1)[0].seq == 1
    lay(bus, bus.store.head())
    pause(bus, 20)
    town.clock.advance_ms(700_000)
    pause(bus, 20)
    assert bus.store.after(0, 1)[0].seq == bus.store.head().seq


def test_a_ledger_that_is_not_the_citys_is_said_and_replaced_and_the_next_rider_pays(bus: Vehicle, town: Town) -> None:
    old = bus.store.epoch
    bus.touch(town.card())
    seq = bus.store.head().seq
    lay(bus, Head(seq + 5, b"h" * 32))
    pause(bus, 6)
    assert Message.LEDGER_FULL in [said.shown.message for said in bus.said()]
    assert bus.store.epoch != old
    kinds = [entry.kind for entry in bus.store.after(0, 100)]
    assert kinds[0] is Kind.EPOCH
    assert Kind.TRIP_OPEN in kinds
    assert bus.touch(town.card())[-1] is Message.PAID
    (told,) = box(bus).losses()
    assert (told.loss.epoch, told.loss.first, told.loss.reason) == (old, seq + 6, LossReason.ROLLED_BACK)
    (aside,) = set_aside_ledgers(bus.path)
    with LedgerFile.open_read_only(aside, remembered=False) as ledger:
        assert (ledger.epoch, ledger.head().seq) == (old, seq)


def test_while_the_new_ledger_cannot_be_begun_no_card_is_written(bus: Vehicle, town: Town) -> None:
    card = town.card()
    untouched = counters(card)
    lay(bus, Head(99, b"h" * 32))
    folder = bus.path.with_name(bus.path.name + ".losses")
    folder.write_text("a file where the folder should be")
    pause(bus, 6)
    assert Message.LEDGER_FULL in bus.touch(card)
    assert counters(card) == untouched
    folder.unlink()
    pause(bus, 12)
    assert bus.touch(card)[-1] is Message.PAID


def test_a_rider_who_paid_before_the_new_epoch_does_not_pay_again(bus: Vehicle, town: Town) -> None:
    card = town.card()
    assert bus.touch(card)[-1] is Message.PAID
    lay(bus, Head(99, b"h" * 32))
    pause(bus, 6)
    assert bus.touch(card)[-1] is Message.ALREADY_PAID


@pytest.mark.parametrize("bus", ["M1"], indirect=True)
def test_a_rider_who_boarded_before_the_new_epoch_pays_from_there(bus: Vehicle, town: Town) -> None:
    card = town.card()
    assert bus.touch(card)[-1] is Message.BOARDED
    boarding = bus.store.latest(town.rider(card))[0].place.boarding
    lay(bus, Head(99, b"h" * 32))
    pause(bus, 6)
    bus.ride_to(3)
    assert bus.touch(card)[-1] is Message.PAID
    assert bus.store.latest(town.rider(card))[0].place.boarding == boarding


def test_the_station_says_how_its_parts_do(bus: Vehicle, town: Town) -> None:
    pause(bus, 21)
    said = box(bus).state()
    assert said is not None
    assert dict(said[0].selftest) == {"antenna": NOT_TESTED, "reader": WORKS, "ledger": WORKS, "sound": NOT_TESTED, "screen": WORKS}
    assert said[0].head_seq == bus.store.head().seq
    bus.touch(town.card())
    pause(bus, 21)
    said = box(bus).state()
    assert said is not None
    assert dict(said[0].selftest)["antenna"] == WORKS
