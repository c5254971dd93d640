"""``firmware.packages``: a doubt keeps the old in force; a person's word ends it; the swap is whole."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from drivers.signing import Ed25519Key, SignatureChecker
from fares import files, gtfs
from fares.table import FareTable, pack
from firmware import packages
from firmware.packages import CityKey, Held, Judge, Refused, Staged
from ledger import package, seal
from ledger.package import Package, PackageKind
from validator.lists import DenyList

ROOT = Path(__file__).parents[2]
CONTENTS = gtfs.compile_feed(files.open_feed(ROOT / "examples" / "town"))[0]
TABLE = pack(CONTENTS)
CITY = Ed25519Key(bytes(range(32)))
DAY = date(2026, 5, 1)
RIDER_KEY = 2
RECENT = frozenset(number.to_bytes(8, "big") for number in range(1000))
JUDGE = Judge(
    keys=(CityKey(CITY.algorithm, CITY.public),),
    checker=SignatureChecker(),
    today=DAY,
    rider_key=RIDER_KEY,
    table=lambda: FareTable.unpack(TABLE),
    recent=lambda: RECENT,
)


def table(change: Callable[[int], int] = lambda yen: yen, version: str = "2") -> bytes:
    """The town's fares, changed."""
    sets = tuple(tuple({rider: change(yen) for rider, yen in fare.items()} for fare in fares) for fares in CONTENTS.fare_sets)
    return pack(replace(CONTENTS, fare_sets=sets, version=version))


def deny(*riders: int, rider_key: int = RIDER_KEY) -> bytes:
    listed = ", ".join(f'"{rider:016x}"' for rider in riders)
    return f"format = 1\nrider_key = {rider_key}\nriders = [{listed}]\n".encode()


def sealed(
    file: bytes,
    kind: PackageKind = PackageKind.FARE_TABLE,
    version: int = 1,
    valid_from: date = DAY,
    *,
    released: bool = False,
    key: Ed25519Key = CITY,
) -> bytes:
    return seal.seal(key, seal.Content.PACKAGE, package.encode(Package(kind, version, valid_from, 0, file, released)))


def in_force(folder: Path, kind: PackageKind = PackageKind.FARE_TABLE, judge: Judge = JUDGE) -> int:
    """The version in force; 0: the configuration's."""
    found = packages.enter(folder, judge).get(kind)
    return found.version if found else 0


def reasons(folder: Path) -> list[str]:
    return [alarm.reason for alarm in packages.alarms(folder)]


# ── the good way ──


def test_a_good_package_is_in_force_at_the_next_start_and_the_old_one_is_kept(tmp_path: Path) -> None:
    assert isinstance(packages.stage(tmp_path, sealed(table()), JUDGE), Staged)
    assert in_force(tmp_path) == 1
    assert isinstance(packages.stage(tmp_path, sealed(table(version="3"), version=2), JUDGE), Staged)
    assert in_force(tmp_path) == 2
    previous = packages.read(tmp_path / "fare-table" / packages.PREVIOUS, JUDGE)
    assert previous is not None
    assert previous.version == 1
    assert reasons(tmp_path) == []


def test_it_waits_for_its_day(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table(), valid_from=date(2026, 6, 1)), JUDGE)
    assert in_force(tmp_path) == 0
    assert in_force(tmp_path, judge=replace(JUDGE, today=date(2026, 5, 31))) == 0
    assert in_force(tmp_path, judge=replace(JUDGE, today=date(2026, 6, 1))) == 1


def test_while_the_clock_is_unset_nothing_changes(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table()), replace(JUDGE, today=None))
    assert in_force(tmp_path, judge=replace(JUDGE, today=None)) == 0
    assert in_force(tmp_path) == 1


def test_every_kind_is_taken_once_its_file_reads(tmp_path: Path) -> None:
    shipped = {
        PackageKind.SCHEME: (ROOT / "fares" / "schemes" / "silver_emica.toml").read_bytes(),
        PackageKind.WORDS: (ROOT / "validator" / "words" / "messages.toml").read_bytes(),
        PackageKind.DENY_LIST: deny(1),
        PackageKind.ENTITLEMENTS: b"format = 1\n",
        PackageKind.GRANTS: b"format = 1\n",
        PackageKind.FARE_TABLE: table(),
    }
    for kind, file in shipped.items():
        assert isinstance(packages.stage(tmp_path, sealed(file, kind), JUDGE), Staged), kind
        broken = packages.stage(tmp_path, sealed(b"\xff nothing of the kind", kind, version=2), JUDGE)
        assert isinstance(broken, Refused), kind
        assert broken.alarm is packages.Alarm.UNUSABLE
    assert packages.enter(tmp_path, JUDGE).keys() == set(PackageKind)


# ── what is refused ──


def test_hankyu_2015_a_half_transferred_table_changes_nothing_and_is_an_alarm(tmp_path: Path) -> None:
    """Fare data reached the fare box in part; riders noticed, months later (validator-domain 2.5, source J27; test 6 of section 7)."""
    packages.stage(tmp_path, sealed(table()), JUDGE)
    assert in_force(tmp_path) == 1
    whole = sealed(table(version="3"), version=2)
    for end in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        verdict = packages.stage(tmp_path, whole[:end], JUDGE)
        assert isinstance(verdict, Refused)
        assert "whole" in verdict.why
    assert in_force(tmp_path) == 1
    assert set(reasons(tmp_path)) == {"package-broken"}


def test_a_table_that_was_cut_before_it_was_signed_is_found_by_its_own_checksum(tmp_path: Path) -> None:
    verdict = packages.stage(tmp_path, sealed(table()[:-100]), JUDGE)
    assert isinstance(verdict, Refused)
    assert "cut" in verdict.why
    assert reasons(tmp_path) == ["package-unusable:fare-table"]


def test_any_changed_byte_is_refused(tmp_path: Path) -> None:
    whole = sealed(deny(1), PackageKind.DENY_LIST)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        assert isinstance(packages.stage(tmp_path, bytes(changed), JUDGE), Refused)
    assert in_force(tmp_path, PackageKind.DENY_LIST) == 0


def test_a_strangers_package_is_refused_and_said(tmp_path: Path) -> None:
    verdict = packages.stage(tmp_path, sealed(table(), key=Ed25519Key(bytes(32))), JUDGE)
    assert isinstance(verdict, Refused)
    assert reasons(tmp_path) == ["package-foreign"]


def test_a_receipt_of_the_city_is_no_package(tmp_path: Path) -> None:
    verdict = packages.stage(tmp_path, seal.seal(CITY, seal.Content.RECEIPT, b"x"), JUDGE)
    assert isinstance(verdict, Refused)


def test_an_older_package_never_comes_back(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table(), version=5), JUDGE)
    for version in (5, 4):
        again = packages.stage(tmp_path, sealed(table(version="other"), version=version), JUDGE)
        assert isinstance(again, Refused)
        assert "higher version" in again.why
    assert in_force(tmp_path) == 5
    assert isinstance(packages.stage(tmp_path, sealed(table(version="other"), version=4), JUDGE), Refused)


def test_the_same_package_again_is_no_alarm(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table()), JUDGE)
    verdict = packages.stage(tmp_path, sealed(table()), JUDGE)
    assert verdict == Refused("This terminal has fare-table 1 already.")
    assert reasons(tmp_path) == []


def test_omny_2023_a_table_that_is_not_in_force_on_its_day_is_refused(tmp_path: Path) -> None:
    """A fare was charged that was not yet in force (validator-domain 2.4, source O2; test 5 of section 7)."""
    early = packages.stage(tmp_path, sealed(table(), valid_from=date(2026, 3, 31)), JUDGE)
    assert isinstance(early, Refused)
    assert "in force from 2026-04-01" in early.why
    far = packages.stage(tmp_path, sealed(table(), valid_from=date(2028, 1, 1)), JUDGE)
    assert isinstance(far, Refused)


def test_a_list_made_with_another_rider_key_is_refused_because_it_would_block_nobody(tmp_path: Path) -> None:
    verdict = packages.stage(tmp_path, sealed(deny(1, rider_key=1), PackageKind.DENY_LIST), JUDGE)
    assert isinstance(verdict, Refused)
    assert "another rider key" in verdict.why


# ── what is held ──


def test_odakyu_2014_ten_times_the_fare_is_held_and_the_old_table_stays(tmp_path: Path) -> None:
    """2,160 yen instead of 216 (validator-domain 2.5, source J26; test 5 of section 7)."""
    packages.stage(tmp_path, sealed(table()), JUDGE)
    verdict = packages.stage(tmp_path, sealed(table(lambda yen: 10 * yen), version=2), JUDGE)
    assert isinstance(verdict, Held)
    assert "yen instead of" in verdict.doubts[0]
    assert in_force(tmp_path) == 1
    assert reasons(tmp_path) == ["package-held:fare-table"]
    assert packages.waiting(tmp_path, JUDGE) == [verdict]


def test_it_is_measured_against_the_configurations_table_when_there_is_no_package_yet(tmp_path: Path) -> None:
    assert isinstance(packages.stage(tmp_path, sealed(table(lambda yen: 10 * yen)), JUDGE), Held)


def test_london_2008_a_list_that_would_block_the_morning_is_held(tmp_path: Path) -> None:
    """65,000 cards switched off by one list, 12 July 2008 (validator-domain 2.4, source T5; test 7 of section 7)."""
    verdict = packages.stage(tmp_path, sealed(deny(*range(11)), PackageKind.DENY_LIST), JUDGE)
    assert isinstance(verdict, Held)
    assert "11 of the 1000" in verdict.doubts[0]
    assert in_force(tmp_path, PackageKind.DENY_LIST) == 0


def test_a_person_at_the_terminal_may_take_what_is_held(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(deny(*range(11)), PackageKind.DENY_LIST), JUDGE)
    assert packages.accept(tmp_path, PackageKind.DENY_LIST, JUDGE) is not None
    assert in_force(tmp_path, PackageKind.DENY_LIST) == 1
    assert packages.waiting(tmp_path, JUDGE) == []
    assert packages.accept(tmp_path, PackageKind.DENY_LIST, JUDGE) is None


def test_or_throw_it_away(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table(lambda yen: 10 * yen)), JUDGE)
    assert packages.reject(tmp_path, PackageKind.FARE_TABLE, JUDGE) is not None
    assert packages.waiting(tmp_path, JUDGE) == []
    assert in_force(tmp_path) == 0


def test_a_clerk_may_release_it_and_it_is_taken_without_asking(tmp_path: Path) -> None:
    big = table(lambda yen: 10 * yen)
    packages.stage(tmp_path, sealed(big), JUDGE)
    assert isinstance(packages.stage(tmp_path, sealed(big, released=True), JUDGE), Staged)
    assert packages.waiting(tmp_path, JUDGE) == []
    assert in_force(tmp_path) == 1


def test_a_release_is_for_the_very_package_that_is_held(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table(lambda yen: 10 * yen)), JUDGE)
    assert isinstance(packages.stage(tmp_path, sealed(table(lambda yen: 20 * yen), released=True), JUDGE), Refused)


def test_a_corrected_package_takes_the_place_of_one_that_is_held(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table(lambda yen: 10 * yen)), JUDGE)
    assert isinstance(packages.stage(tmp_path, sealed(table(), version=2), JUDGE), Staged)
    assert packages.waiting(tmp_path, JUDGE) == []


def test_the_replacement_for_a_blocked_card_rides_at_once(tmp_path: Path) -> None:
    """A rider in London waited for the lists (validator-domain 2.4, source T7; test 8 of section 7): a list names cards, not people."""
    lost, replacement = RECENT_LOST, (2**63).to_bytes(8, "big")
    packages.stage(tmp_path, sealed(deny(int.from_bytes(lost, "big")), PackageKind.DENY_LIST), JUDGE)
    found = packages.enter(tmp_path, JUDGE)[PackageKind.DENY_LIST]
    listed = packages.parsed(found, RIDER_KEY)
    assert isinstance(listed, DenyList)
    assert listed.blocks(lost)
    assert not listed.blocks(replacement)


RECENT_LOST = (7).to_bytes(8, "big")


# ── power cuts, rot ──


def test_a_package_that_rots_on_the_disk_gives_way_to_the_one_before(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table()), JUDGE)
    packages.enter(tmp_path, JUDGE)
    packages.stage(tmp_path, sealed(table(version="3"), version=2), JUDGE)
    packages.enter(tmp_path, JUDGE)
    current = tmp_path / "fare-table" / packages.CURRENT
    rotten = bytearray(current.read_bytes())
    rotten[len(rotten) // 2] ^= 1
    current.write_bytes(rotten)
    assert in_force(tmp_path) == 1
    assert reasons(tmp_path) == ["package-damaged:fare-table"]
    packages.stage(tmp_path, sealed(table(version="4"), version=3), JUDGE)
    assert in_force(tmp_path) == 3
    kept = packages.read(tmp_path / "fare-table" / packages.PREVIOUS, JUDGE)
    assert kept is not None
    assert kept.version == 1


@pytest.mark.parametrize("left", range(4))
def test_a_cut_at_any_step_of_the_swap_leaves_one_whole_table_in_force(tmp_path: Path, left: int) -> None:
    """The steps on the disk: previous.new written, renamed to previous, next renamed to current."""
    packages.stage(tmp_path, sealed(table()), JUDGE)
    packages.enter(tmp_path, JUDGE)
    packages.stage(tmp_path, sealed(table(version="3"), version=2), JUDGE)
    place = tmp_path / "fare-table"
    current = (place / packages.CURRENT).read_bytes()
    if left >= 1:
        (place / "previous.new").write_bytes(current[: len(current) // 2])
    if left >= 2:
        (place / packages.PREVIOUS).write_bytes(current)
    if left >= 3:
        (place / packages.NEXT).replace(place / packages.CURRENT)
    assert in_force(tmp_path) == 2
    assert in_force(tmp_path) == 2


def test_an_alarm_is_written_once_and_a_flood_does_not_fill_the_disk(tmp_path: Path) -> None:
    for number in range(packages.MOST_ALARMS + 50):
        packages.stage(tmp_path, number.to_bytes(4, "big"), JUDGE)
        packages.stage(tmp_path, number.to_bytes(4, "big"), JUDGE)
    found = packages.alarms(tmp_path)
    assert len(found) == packages.MOST_ALARMS
    for alarm in found:
        alarm.forget()
    assert packages.alarms(tmp_path) == []


def test_a_disk_that_fails_leaves_the_old_in_force(tmp_path: Path) -> None:
    packages.stage(tmp_path, sealed(table()), JUDGE)
    assert in_force(tmp_path) == 1
    (tmp_path / "fare-table" / "next.new").mkdir()
    with pytest.raises(IsADirectoryError):
        packages.stage(tmp_path, sealed(table(version="3"), version=2), JUDGE)
    assert in_force(tmp_path) == 1
