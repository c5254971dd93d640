"""What the key book promises, kept by both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date

from backoffice.keys import BEFORE_ALL, DeviceKey, OneTimeCode, Place, code_digest
from backoffice.registry import CityBooks
from backoffice.store import Store
from ledger.entry import Versions, When
from ledger.notes import PARTS, WORKS, Heartbeat
from ledger.seal import Algorithm, key_id

NOW_MS = 1_780_000_000_000


def key(number: int, device: int = 7, since: Place = BEFORE_ALL) -> DeviceKey:
    public = number.to_bytes(32, "big")
    return DeviceKey(key_id(public), device, Algorithm.EDDSA, public, since, created_ms=NOW_MS)


def admitted(city: CityBooks, number: int = 1) -> DeviceKey:
    code = OneTimeCode(code_digest(f"{number:016}"), 7, NOW_MS + 1000)
    city.add_device(7, "minato-7", "minato", NOW_MS)
    city.give_code(7, code.digest, NOW_MS, code.expires_ms)
    assert city.admit(code, key(number))
    return key(number)


def test_a_key_comes_back_as_it_was_written_down(books: Store) -> None:
    city = CityBooks(books)
    first = admitted(city)
    assert city.find_key(first.kid) == first
    assert city.find_key(b"unknown!") is None
    assert city.find("minato-7") == 7
    assert [(device.name, device.keys) for device in city.devices()] == [("minato-7", (first,))]


def test_of_many_that_bring_one_code_at_once_one_is_admitted(books: Store) -> None:
    city = CityBooks(books)
    code = OneTimeCode(code_digest("0" * 16), 7, NOW_MS + 1000)
    city.add_device(7, "minato-7", "minato", NOW_MS)
    city.give_code(7, code.digest, NOW_MS, code.expires_ms)
    with ThreadPoolExecutor(8) as crowd:
        let_in = list(crowd.map(lambda number: city.admit(code, key(number)), range(1, 9)))
    assert sum(let_in) == 1
    assert len(city.devices()[0].keys) == 1


def test_a_successor_takes_over_what_its_predecessor_has_of_marks(books: Store) -> None:
    city = CityBooks(books)
    first = admitted(city)
    city.revoke(7, Place(5, 90), NOW_MS)
    second = key(2, since=Place(5, 12))
    assert city.succeed(first, second)
    assert city.succeed(first, second)
    assert city.find_key(first.kid) == replace(first, until=Place(5, 12), revoked=Place(5, 90))
    assert city.find_key(second.kid) == replace(second, revoked=Place(5, 90))
    assert city.succeed(second, key(3, since=Place(5, 20)))
    assert not city.succeed(first, key(3, since=Place(5, 30)))


def test_a_revocation_and_a_succession_at_once_leave_no_key_that_is_believed(books: Store) -> None:
    city = CityBooks(books)
    first = admitted(city)
    with ThreadPoolExecutor(2) as both:
        for number in range(2, 22):
            fresh = key(number, since=Place(5, number))
            done = [both.submit(city.succeed, first, fresh), both.submit(city.revoke, 7, Place(5, 90), NOW_MS)]
            assert all(each.result() for each in done)
    assert {known.revoked for known in city.devices()[0].keys} == {Place(5, 90)}


def test_the_newest_heartbeat_is_what_the_report_judges_and_the_largest_numbers_fit(books: Store) -> None:
    city = CityBooks(books)
    admitted(city)
    most = 2**63 - 1
    selftest = tuple((part, WORKS) for part in PARTS)
    old = Heartbeat(7, 5, 1, bytes(32), When(1, 2, 3, 3), selftest, 9, Versions(), "old")
    new = Heartbeat(7, most, most, bytes(32), When(most, most, most, most), selftest, most, Versions(card_key=most, rider_key=most), "new")
    city.heard(new, NOW_MS + 1)
    city.heard(old, NOW_MS)
    city.heard(old, NOW_MS + 1)
    (condition,) = city.conditions(NOW_MS + 2, date(2026, 5, 29))
    assert condition.contact_ms == NOW_MS + 1
    assert condition.beat is not None
    assert (condition.beat.software, condition.beat.free_bytes, condition.beat.selftest) == ("new", most, selftest)


def test_what_a_vehicle_counts_is_kept_with_its_heartbeat_and_an_older_vehicle_counts_nothing(books: Store) -> None:
    city = CityBooks(books)
    admitted(city)
    selftest = tuple((part, WORKS) for part in PARTS)
    plain = Heartbeat(7, 5, 1, bytes(32), When(1, 2, 3, 3), selftest, 9, Versions(), "old")
    counting = replace(plain, counts=(("oom-kills", 2**32 - 1), ("station-starts", 8)), up_s=2**63 - 1)
    for number, beat in enumerate((plain, counting, plain)):
        city.heard(beat, NOW_MS + number)
        (condition,) = city.conditions(NOW_MS + number, date(2026, 5, 29))
        assert condition.beat == beat


def test_an_alarm_is_raised_once(books: Store) -> None:
    city = CityBooks(books)
    for _ in range(2):
        city.alarm("key", (7, 5, 9), "A sentence.", NOW_MS)
    with books.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM alarm").scalar() == 1
