"""The town's feed, compiled once; and small feeds written for one test."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fares import files, gtfs, operator
from fares.operator import Operator
from fares.table import Contents, FareTable, pack

TOWN = Path(__file__).parents[2] / "examples" / "town"


@pytest.fixture(scope="session")
def town_contents() -> Contents:
    return gtfs.compile_feed(files.open_feed(TOWN))[0]


@pytest.fixture(scope="session")
def town(town_contents: Contents) -> FareTable:
    return FareTable.unpack(pack(town_contents))


@pytest.fixture(scope="session")
def minato() -> Operator:
    return operator.load(TOWN / "operator.toml")


SMALL = {
    "agency": "agency_id,agency_name\na,A\n",
    "stops": "stop_id,stop_name,zone_id\nS1,一番,Z1\nS2,二番,Z2\nS3,三番,Z3\n",
    "routes": "route_id,route_short_name,route_long_name\nR,,路線\n",
    "calendar": (
        "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\nday,1,1,1,1,1,0,0,20260401,20270331\n"
    ),
    "trips": "route_id,service_id,trip_id\nR,day,T\n",
    "stop_times": (
        "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
        "T,07:00:00,07:00:00,S1,1\nT,07:05:00,07:05:00,S2,2\nT,07:10:00,07:10:00,S3,3\n"
    ),
    "fare_attributes": "fare_id,price,currency_type,payment_method,transfers\nf100,100,JPY,0,0\nf200,200,JPY,0,0\n",
    "fare_rules": "fare_id,route_id,origin_id,destination_id,contains_id\nf100,R,Z1,Z2,\nf200,R,Z1,Z3,\nf100,R,Z2,Z3,\n",
}
"""A whole feed of one trip over three stops; a test replaces the tables it is about."""

WriteFeed = Callable[..., Path]


@pytest.fixture
def write_feed(tmp_path: Path) -> WriteFeed:
    """``write_feed(stops="…")`` writes the small feed with these tables instead (None: without it) and gives its folder."""

    def write(**tables: str | bytes | None) -> Path:
        folder = tmp_path / "feed"
        folder.mkdir(exist_ok=True)
        whole: Mapping[str, str | bytes | None] = {**SMALL, **tables}
        for name, text in whole.items():
            if text is not None:
                (folder / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder

    return write
