"""A real feed, read a second time by code that knows nothing of ours: the counts, and every unambiguous price.

``KAZASHI_DONAN`` names the zip (道南バス, GTFS-JP second edition, CC BY-SA 3.0). It is not part of the project, so a plain test run says
aloud that it was skipped; the full proof fails without it.
"""

import csv
import io
import os
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from fares import files, gtfs
from fares.gtfs import Report
from fares.table import FareTable, NoPrice, NoPriceReason, Price, pack

pytestmark = pytest.mark.prove

Key = tuple[str, str, str]


@pytest.fixture(scope="module")
def donan(request: pytest.FixtureRequest) -> Path:
    named = os.environ.get("KAZASHI_DONAN", "")
    if named and Path(named).is_file():
        return Path(named)
    why = f"KAZASHI_DONAN={named!r} names no file; the real feed is not read"
    if request.config.getoption("--prove"):
        pytest.fail(why)
    pytest.skip(why)


class Raw:
    """The feed by the csv module alone."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self.price = {row["fare_id"]: int(row["price"]) for row in self.rows("fare_attributes")}
        self.child = {row["fare_id"]: int(row["price"]) for row in self.rows("fare_rider_categories")}
        self.rules = [((row["route_id"], row["origin_id"], row["destination_id"]), row["fare_id"]) for row in self.rows("fare_rules")]
        self.fares: dict[Key, set[str]] = defaultdict(set)
        for key, fare in self.rules:
            self.fares[key].add(fare)
        zone = {row["stop_id"]: row["zone_id"] for row in self.rows("stops")}
        self.route = {row["trip_id"]: row["route_id"] for row in self.rows("trips")}
        visits: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for row in self.rows("stop_times"):
            visits[row["trip_id"]].append((int(row["stop_sequence"]), zone[row["stop_id"]]))
        self.visits = {trip: [place for _, place in sorted(stops)] for trip, stops in visits.items()}
        self.rideable = {
            (self.route[trip], start, end)
            for trip, places in self.visits.items()
            for spot, start in enumerate(places)
            for end in places[spot + 1 :]
        }

    def rows(self, name: str) -> list[dict[str, str]]:
        text = self._zip.read(f"{name}.txt").decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text, newline="")))

    def yen(self, key: Key) -> list[int]:
        return sorted({self.price[fare] for fare in self.fares[key]})


@pytest.fixture(scope="module")
def raw(donan: Path) -> Raw:
    return Raw(donan)


@pytest.fixture(scope="module")
def ours(donan: Path) -> tuple[FareTable, Report]:
    contents, report = gtfs.compile_feed(files.open_feed(donan))
    return FareTable.unpack(pack(contents)), report


def test_the_counts_are_those_of_an_independent_reading_and_those_we_were_told(raw: Raw, ours: tuple[FareTable, Report]) -> None:
    _, report = ours
    several = [key for key in raw.fares if len(raw.yen(key)) > 1]
    unused = [key for key, _ in raw.rules if key not in raw.rideable]
    missing = [key for key in raw.rideable if key not in raw.fares]
    twice = [trip for trip, places in raw.visits.items() if max(Counter(places).values()) > 1]
    counted = (len(raw.rules), len(raw.fares), len(several), len(missing), len(unused), len(twice), len(raw.visits), len(raw.child))
    reported = (
        report.rules,
        report.keys,
        len(report.ambiguous),
        len(report.missing),
        len(report.unused),
        len(report.loops),
        report.trips,
        report.child_fares,
    )
    assert counted == reported == (63_745, 63_398, 347, 115, 45, 100, 541, 46)
    assert {odd.pair for odd in report.ambiguous} == set(several)
    assert set(report.missing) == set(missing)
    assert {pair for _, pair in report.unused} == set(unused)
    assert set(report.loops) == set(twice)
    assert (report.repeated_columns, report.duplicate_rows) == ((), ())


def test_every_price_is_the_feeds_own_and_a_contradiction_stays_one(raw: Raw, ours: tuple[FareTable, Report]) -> None:
    table, _ = ours
    for key, fares in raw.fares.items():
        yen, child = raw.yen(key), sorted({raw.child[fare] for fare in fares})
        assert table.price(*key) == Price(yen[0], tuple(yen) if len(yen) > 1 else ())
        assert table.price(*key, "2") == Price(child[0], tuple(child) if len(child) > 1 else ())


def test_a_rideable_pair_without_a_rule_stays_without_a_price(raw: Raw, ours: tuple[FareTable, Report]) -> None:
    table, _ = ours
    for key in raw.rideable - set(raw.fares):
        assert table.price(*key) == NoPrice(NoPriceReason.NO_RULE)


def test_every_trip_calls_where_the_feed_says_at_the_time_it_says(raw: Raw, ours: tuple[FareTable, Report]) -> None:
    table, _ = ours
    times: dict[str, dict[int, tuple[str, str]]] = defaultdict(dict)
    for row in raw.rows("stop_times"):
        times[row["trip_id"]][int(row["stop_sequence"])] = (row["stop_id"], row["departure_time"])
    for trip in table.trips():
        told = [
            (call.stop, f"{call.departure_s // 3600:02}:{call.departure_s // 60 % 60:02}:{call.departure_s % 60:02}") for call in trip.calls
        ]
        assert told == [stay for _, stay in sorted(times[trip.id].items())]


def test_every_reading_of_a_stop_is_kept_for_the_voice(raw: Raw, ours: tuple[FareTable, Report]) -> None:
    table, _ = ours
    readings = {row["trans_id"]: row["translation"] for row in raw.rows("translations") if row["lang"] == "ja-Hrkt"}
    assert all(stop.reading == readings.get(stop.name, "") for stop in table.stops())
    assert sum(bool(stop.reading) for stop in table.stops()) > 600


def test_a_tenth_of_a_megabyte_is_enough_for_it(donan: Path) -> None:
    assert len(pack(gtfs.compile_feed(files.open_feed(donan))[0])) < 100_000
