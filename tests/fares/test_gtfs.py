"""Compiling a feed: what is read, what is reported, what is refused."""

import io
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fares import files, gtfs
from fares.faults import Unusable
from fares.gtfs import Report
from fares.table import FareTable, NoPrice, NoPriceReason, Price, pack

WriteFeed = Callable[..., Path]
TOWN = Path(__file__).parents[2] / "examples" / "town"
RULES = "fare_id,route_id,origin_id,destination_id,contains_id\n"


def compiled(path: Path) -> tuple[FareTable, Report]:
    contents, report = gtfs.compile_feed(files.open_feed(path))
    return FareTable.unpack(pack(contents)), report


def refusal(path: Path) -> str:
    with pytest.raises(Unusable) as refused:
        gtfs.compile_feed(files.open_feed(path))
    return str(refused.value)


def zipped(folder: Path, target: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for table in folder.iterdir():
            archive.write(table, inside + table.name)
    return target


def test_the_town_reports_exactly_its_oddities() -> None:
    _, report = compiled(TOWN)
    assert [(odd.pair, odd.yen) for odd in report.ambiguous] == [(("M1", "byoin_1", "onsen_1"), (270, 300))]
    assert report.missing == (("M1", "shokudori_1", "onsen_1"),)
    assert report.loops == ("G1-1", "G1-2", "G1-3", "G1-4")
    assert (report.stops, report.routes, report.trips, report.fares, report.child_fares) == (24, 3, 15, 18, 18)
    assert [*report.unused, *report.repeated_columns, *report.duplicate_rows, *report.unused_fares, *report.notes] == []


def test_a_folder_its_zip_and_a_zip_with_a_folder_give_the_same_bytes(tmp_path: Path) -> None:
    flat = zipped(TOWN, tmp_path / "flat.zip")
    nested = zipped(TOWN, tmp_path / "nested.zip", "town/")
    assert len({pack(gtfs.compile_feed(files.open_feed(path))[0]) for path in (TOWN, flat, nested)}) == 1


def test_stops_and_routes_carry_what_the_voice_and_the_screen_need() -> None:
    table, _ = compiled(TOWN)
    assert (table.stop("byoin_1").reading, table.stop("byoin_1").english) == ("みなとびょういん", "Minato Hospital")
    assert table.route("M1").reading == "みさきせん みさきこうえんゆき"
    trip = table.trip("M1-2")
    assert (trip.course.origin, trip.course.via, trip.course.destination) == ("みなと駅", "みなと病院", "岬公園")
    assert trip.office == "みなと町営バス車庫"


def test_the_second_edition_puts_courses_into_routes_jp_and_readings_beside_the_text(write_feed: WriteFeed) -> None:
    table, _ = compiled(
        write_feed(
            routes_jp="route_id,route_update_date,origin_stop,via_stop,destination_stop\nR,20200401,一番,二番,三番\n",
            translations="trans_id,lang,translation\n一番,ja-Hrkt,いちばん\n路線,en,The Line\n",
        )
    )
    assert table.trip("T").course.via == "二番"
    assert table.stop("S1").reading == "いちばん"
    assert table.route("R").english == "The Line"


def test_a_reading_for_one_record_wins_over_the_reading_of_the_text(write_feed: WriteFeed) -> None:
    head = "table_name,field_name,language,translation,record_id,record_sub_id,field_value\n"
    table, _ = compiled(
        write_feed(
            stops="stop_id,stop_name,zone_id\nS1,本町,Z1\nS2,本町,Z2\nS3,三番,Z3\n",
            translations=f"{head}stops,stop_name,ja-Hrkt,ほんちょう,,,本町\nstops,stop_name,ja-Hrkt,もとまち,S2,,\n",
        )
    )
    assert (table.stop("S1").reading, table.stop("S2").reading) == ("ほんちょう", "もとまち")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("f300,,,,\nf200,,Z1,Z2,\nf100,R,,,\nf50,R,Z1,Z2,\n", 50),
        ("f300,,,,\nf200,,Z1,Z2,\nf100,R,,,\n", 100),
        ("f300,,,,\nf200,,Z1,Z2,\n", 200),
        ("f300,,,,\n", 300),
    ],
)
def test_the_nearest_rule_prices_a_pair(write_feed: WriteFeed, rules: str, expected: int) -> None:
    attributes = "fare_id,price,currency_type\n" + "".join(f"f{yen},{yen},JPY\n" for yen in (50, 100, 200, 300))
    table, _ = compiled(write_feed(fare_attributes=attributes, fare_rules=RULES + rules))
    assert table.price("R", "S1", "S2") == Price(expected)


def test_a_feed_without_rules_has_one_fare_for_every_ride(write_feed: WriteFeed) -> None:
    table, report = compiled(write_feed(fare_attributes="fare_id,price,currency_type\nf,210,JPY\n", fare_rules=None))
    assert table.flat("R")
    assert table.price("R", "S1", "S3") == Price(210)
    assert "fare_rules.txt" in report.notes[0]


def test_a_stop_without_a_zone_is_priced_by_route_rules_only(write_feed: WriteFeed) -> None:
    stops = "stop_id,stop_name,zone_id\nS1,一番,\nS2,二番,Z2\nS3,三番,Z3\n"
    table, _ = compiled(write_feed(stops=stops, fare_rules=f"{RULES}f200,R,Z2,Z3,\n"))
    assert table.price("R", "S1", "S2") == NoPrice(NoPriceReason.NO_RULE)
    table, _ = compiled(write_feed(stops=stops, fare_rules=f"{RULES}f200,R,Z2,Z3,\nf100,R,,,\n"))
    assert table.price("R", "S1", "S2") == Price(100)


def test_rules_that_no_trip_uses_are_reported_with_their_line_and_still_answer(write_feed: WriteFeed) -> None:
    table, report = compiled(write_feed(fare_rules=f"{RULES}f100,R,Z1,Z2,\nf200,R,Z1,Z3,\nf100,R,Z2,Z3,\nf200,R,Z3,Z1,\nf100,X,,,\n"))
    assert report.unused == ((5, ("R", "Z3", "Z1")), (6, ("X", "", "")))
    assert table.price("R", "S3", "S1") == Price(200)


def test_where_nobody_may_get_on_or_off_no_rule_is_missed(write_feed: WriteFeed) -> None:
    rows = "T,07:00:00,07:00:00,S1,1,0,1\nT,07:05:00,07:05:00,S2,2,1,0\nT,07:10:00,07:10:00,S3,3,1,0\n"
    times = f"trip_id,arrival_time,departure_time,stop_id,stop_sequence,pickup_type,drop_off_type\n{rows}"
    _, report = compiled(write_feed(stop_times=times, fare_rules=f"{RULES}f100,R,Z1,Z2,\n"))
    assert report.missing == (("R", "Z1", "Z3"),)


def test_stops_are_taken_in_the_order_of_their_numbers_wherever_their_rows_stand(write_feed: WriteFeed) -> None:
    head = "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
    table, _ = compiled(write_feed(stop_times=f"{head}T,24:50:00,24:50:00,S3,30\nT,23:50:00,23:51:00,S1,4\nT,,,S2,10\n"))
    calls = table.trip("T").calls
    assert [call.stop for call in calls] == ["S1", "S2", "S3"]
    assert [call.arrival_s for call in calls] == [85_800, 87_630, 89_400]  # the middle one has half of the time between its neighbours


def test_rows_that_repeat_and_columns_named_twice_are_reported(write_feed: WriteFeed) -> None:
    _, report = compiled(
        write_feed(
            stops="stop_id,stop_name,zone_id,zone_id\nS1,一番,Z1,Z1\nS2,二番,Z2,Z2\nS3,三番,Z3,Z3\nS3,三番,Z3,Z3\n",
            fare_rules=f"{RULES}f100,R,Z1,Z2,\nf100,R,Z1,Z2,\nf200,R,Z1,Z3,\nf100,R,Z2,Z3,\n",
        )
    )
    assert report.repeated_columns == (("stops.txt", "zone_id"),)
    assert set(report.duplicate_rows) == {("stops.txt", 5), ("fare_rules.txt", 3)}


def test_days_come_from_the_calendar_when_feed_info_is_silent_and_from_feed_info_when_it_speaks(write_feed: WriteFeed) -> None:
    table, _ = compiled(write_feed())
    assert (table.first_day, table.last_day) == (date(2026, 4, 1), date(2027, 3, 31))
    told = "feed_publisher_name,feed_start_date,feed_end_date,feed_version\nP,20260501,20260831,v1\n"
    table, _ = compiled(write_feed(feed_info=told))
    assert table.valid(date(2026, 8, 31))
    assert not table.valid(date(2026, 9, 1))
    assert (table.publisher, table.version) == ("P", "v1")


def test_trips_of_a_day_follow_the_calendar_and_its_exceptions(write_feed: WriteFeed) -> None:
    table, _ = compiled(write_feed(calendar_dates="service_id,date,exception_type\nday,20260402,2\nday,20260404,1\n"))
    running = [day for day in range(1, 8) if [*table.trips(date(2026, 4, day))]]
    assert running == [1, 3, 4, 6, 7]  # 1 April 2026 is a Wednesday


FAULTS: list[tuple[dict[str, str | bytes | None], tuple[str, ...]]] = [
    ({"fare_attributes": "fare_id,price,currency_type\nf100,abc,JPY\nf200,200,JPY\n"}, ("fare_attributes.txt, line 2, price", "'abc'")),
    (
        {"fare_attributes": "fare_id,price,currency_type\nf100,1.5,USD\nf200,200,JPY\n"},
        ("line 2, price", "line 2, currency_type: is 'USD'"),
    ),
    ({"fare_attributes": None}, ("fare_attributes.txt: is missing",)),
    ({"fare_attributes": None, "fare_products": "x\n"}, ("fares v2 are there, but they are not read",)),
    ({"fare_rules": f"{RULES}f100,R,Z1,Z2,\nf999,R,Z1,Z3,\n"}, ("fare_rules.txt, line 3, fare_id: 'f999' is not in fare_attributes.txt",)),
    ({"fare_rules": f"{RULES}f100,R,Z1,,\n"}, ("fare_rules.txt, line 2, destination_id: is empty while its partner is not",)),
    ({"fare_rules": f"{RULES}f100,R,,,Z9\n"}, ("fare_rules.txt, line 2, contains_id",)),
    ({"trips": "route_id,service_id,trip_id\nR,day,T\nQ,night,U\n"}, ("trips.txt, line 3, route_id: 'Q'", "line 3, service_id: 'night'")),
    (
        {"stops": "stop_id,stop_name,zone_id\nS1,一番,Z1\nS1,別,Z1\nS2,二番,Z2\nS3,三,Z3\n"},
        ("stops.txt, line 3, stop_id: 'S1' stands already",),
    ),
    (
        {"stop_times": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\nT,7:61:00,,S1,1\nT,07:05:00,,S9,2\nU,08:00:00,,S2,x\n"},
        ("line 2, arrival_time: is '7:61:00'", "line 3, stop_id: 'S9'", "line 4, trip_id: 'U'", "line 4, stop_sequence: is 'x'"),
    ),
    (
        {"stop_times": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\nT,09:00:00,,S1,1\nT,08:00:00,,S2,2\n"},
        ("trip 'T'", "run backwards at stop number 2"),
    ),
    ({"calendar": None}, ("calendar.txt",)),
    ({"stops": "stop_id,stop_name,zone_id\nS1,一番,Z1,extra,more\n"}, ("stops.txt, line 2: has 5 fields, the first line names 3",)),
    ({"stops": "stop_id,zone_id,zone_id\nS1,Z1,Z9\n"}, ("stops.txt, line 2, zone_id: the column occurs twice",)),
    ({"stops": "stop_id,stop_name,zone_id\nS1,一番,Z1\n".encode("cp932")}, ("stops.txt", "is not UTF-8")),
    ({"stops": 'stop_id,stop_name,zone_id\nS1,"一番"x,Z1\n'}, ("stops.txt, line 2: is not CSV",)),
    ({"routes": None}, ("routes.txt: is missing",)),
    ({"feed_info": "feed_start_date,feed_end_date\n20260831,20260501\n"}, ("feed_info.txt, line 2, feed_end_date: is before",)),
    ({"feed_info": "feed_start_date,feed_end_date\n20260231,20260501\n"}, ("feed_info.txt, line 2, feed_start_date: is '20260231'",)),
]


@pytest.mark.parametrize(("tables", "expected"), FAULTS)
def test_a_fault_is_told_with_file_line_and_field(
    write_feed: WriteFeed, tables: dict[str, str | bytes | None], expected: tuple[str, ...]
) -> None:
    told = refusal(write_feed(**tables))
    for part in expected:
        assert part in told


def test_many_faults_are_told_at_once_but_not_without_end(write_feed: WriteFeed) -> None:
    rules = "".join(f"f{number},R,Z1,Z2,\n" for number in range(1000, 1100))
    assert len(refusal(write_feed(fare_rules=RULES + rules)).splitlines()) == gtfs.MOST_FAULTS + 1


def test_what_is_no_feed_is_refused_in_one_sentence(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.zip"
    whole = zipped(TOWN, tmp_path / "whole.zip").read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    wrong = tmp_path / "wrong.zip"
    with zipfile.ZipFile(wrong, "w") as archive:
        archive.writestr("readme.txt", "hello")
    for path, part in (
        (tmp_path / "none.zip", "there is no such file"),
        (damaged, "not a whole zip"),
        (wrong, "no stops.txt"),
        (tmp_path, "no GTFS feed"),
    ):
        told = refusal(path)
        assert part in told
        assert "\n" not in told


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for table in TOWN.glob("*.txt"):
            archive.write(table, table.name)
        place = archive.getinfo("stops.txt").header_offset + 30 + len("stops.txt") + 20
    data = bytearray(path.read_bytes())
    data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    assert "stops.txt" in refusal(path)


def test_progress_names_each_table_with_its_rows(write_feed: WriteFeed) -> None:
    told: list[tuple[str, int]] = []
    gtfs.compile_feed(files.open_feed(write_feed(), lambda file, rows: told.append((file, rows))))
    assert ("fare_rules.txt", 3) in told
    assert ("stop_times.txt", 3) in told


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(write_feed: WriteFeed) -> None:
    plain, _ = compiled(write_feed())
    odd = b"\xef\xbb\xbffare_id,route_id,origin_id,destination_id\r\nf100,R,Z1,Z2\r\n\r\nf200,R,Z1,Z3\r\nf100,R,Z2,Z3\r\n"
    other, _ = compiled(write_feed(fare_rules=odd))
    assert [other.price("R", "S1", stop) for stop in ("S2", "S3")] == [plain.price("R", "S1", stop) for stop in ("S2", "S3")]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_as_a_table_are_read_or_refused_but_never_crash(junk: bytes) -> None:
    feed = files.Feed("feed", lambda _file: io.BytesIO(junk), ("stops.txt",))
    faults: tuple[str, ...] = ()
    try:
        assert all(row.line > 1 for row in feed.rows("stops.txt"))
    except Unusable as refused:
        faults = refused.faults
    assert all(fault.startswith("stops.txt") for fault in faults)
