"""A compiled fare table: one small read-only file, and the questions a vehicle asks of it.

Why a format of our own. A vehicle asks one thing in the middle of a tap: what does the ride from here to there cost on this route? The
feed answers with tens of thousands of rules and four ranks of precedence. ``fares.gtfs`` resolves all of that at the desk, so that here one
route is one square of numbers (from zone by to zone), a price is one look into it, and there is nothing left on the vehicle that could
choose. A database would bring locks, journals and a query planner to a file that nobody writes. The squares are full of equal numbers, so
deflate makes tens of thousands of pairs into some tens of kilobytes, which is what goes over the air.

What the file says is what the feed said: a pair with two prices keeps both, a pair without a rule stays without one. Choosing is the
operator's (``fares.operator``).

Layout, numbers big-endian:
    8   magic ``KZFARES`` and the version byte
    8   length of the body
    n   body, deflated (RFC 1950): u32 length of the directory; directory (JSON); cells of all squares (u16); times (u32)
    32  SHA-256 of everything before it
``digest`` is the first 8 bytes of the SHA-256 of the *whole* file, so that ``sha256sum`` shows the same.
"""

import hashlib
import json
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Self, TypeAlias, TypedDict, cast

from fares import files
from fares.faults import Unusable

MAGIC = b"KZFARES"
VERSION = 1
MOST_BODY_BYTES = 256 << 20  # what a hostile body may unpack to
ADULT = ""
"""The rider class of ``fare_attributes.price``; every other class is a ``rider_category_id`` of the feed."""

_Numbers: TypeAlias = "array[int]"
_HEAD = struct.Struct(">7sBQ")
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Stop:
    """A place where people get on or off. ``reading`` (ja-Hrkt) is for the voice, ``english`` for the screen; empty if not in the feed."""

    id: str
    name: str
    reading: str = ""
    english: str = ""
    zone: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the feed; its name as riders know it, and how to say it."""

    id: str
    name: str
    reading: str = ""
    english: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """Where a trip comes from, passes and goes, in the operator's own words (``pattern_jp`` or ``routes_jp``)."""

    origin: str = ""
    via: str = ""
    destination: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A trip's stay at a stop; seconds since noon minus 12 h of the service day, so 25:10 is 90,600. ``boards``/``alights``: may one."""

    stop: str
    arrival_s: int
    departure_s: int
    boards: bool = True
    alights: bool = True


@dataclass(frozen=True, slots=True)
class Trip:
    """A vehicle's run, with its calls in order; a loop calls at a stop twice."""

    id: str
    route: str
    service: str
    calls: tuple[Call, ...]
    headsign: str = ""
    office: str = ""
    course: Course = Course()


@dataclass(frozen=True, slots=True)
class Service:
    """The days a trip runs: on ``weekdays`` (0 = Monday) from ``first`` to ``last``, and ``added`` but never ``removed``."""

    id: str
    weekdays: frozenset[int]
    first: date
    last: date
    added: frozenset[date] = frozenset()
    removed: frozenset[date] = frozenset()

    def runs(self, day: date) -> bool:
        """Whether trips of this service run on ``day``."""
        regular = self.first <= day <= self.last and day.weekday() in self.weekdays
        return day in self.added or (regular and day not in self.removed)


FareSet = tuple[Mapping[str, int], ...]
"""All fares that rules give to one pair, each as yen by rider class. More than one: the feed contradicts itself."""


@dataclass(frozen=True, slots=True)
class Square:
    """A route's prices: row = zone of boarding, column = zone of alighting; 0 = no rule, n = the n-th fare set, from 1."""

    route: str
    zones: tuple[str, ...]
    cells: Sequence[int]


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything a table holds. ``feed``: SHA-256 of the feed it was compiled from."""

    feed: bytes
    publisher: str
    version: str
    first_day: date
    last_day: date
    stops: tuple[Stop, ...]
    routes: tuple[Route, ...]
    services: tuple[Service, ...]
    trips: tuple[Trip, ...]
    classes: tuple[tuple[str, str], ...]  # (rider class, its description)
    fare_sets: tuple[FareSet, ...]
    squares: tuple[Square, ...]


@dataclass(frozen=True, slots=True)
class Price:
    """Yen for one rider. ``ambiguous``: every price the feed gives, rising, when it gives several; ``yen`` is then the lowest."""

    yen: int
    ambiguous: tuple[int, ...] = ()


class NoPriceReason(Enum):
    """Why the table has no price."""

    NO_SUCH_ROUTE = "the route has no fares"
    NO_SUCH_STOP = "the stop is not in the table"
    NOT_ON_ROUTE = "the stop is not on this route"
    NO_RULE = "the feed has no rule for this pair"
    NO_CLASS_PRICE = "the feed has no price for this class of riders"


@dataclass(frozen=True, slots=True)
class NoPrice:
    """The table has no price, and never guesses one."""

    reason: NoPriceReason


_NO_SUCH_ROUTE, _NO_SUCH_STOP, _NOT_ON_ROUTE, _NO_RULE, _NO_CLASS_PRICE = (NoPrice(reason) for reason in NoPriceReason)


class FareTable:
    """A compiled table in memory. Everything it gives is a value; it never changes.

    ``digest``: first 8 bytes of the file's SHA-256, for the ledger.
    """

    __slots__ = (
        "_courses",
        "_flat",
        "_patterns",
        "_prices",
        "_routes",
        "_services",
        "_squares",
        "_stops",
        "_times",
        "_trips",
        "_zones",
        "classes",
        "digest",
        "feed",
        "first_day",
        "last_day",
        "publisher",
        "version",
    )

    def __init__(self, directory: "_Directory", cells: _Numbers, times: _Numbers, digest: bytes) -> None:
        self.digest = digest
        self.feed = bytes.fromhex(directory["feed"])
        self.publisher = directory["publisher"]
        self.version = directory["version"]
        self.first_day = date.fromisoformat(directory["days"][0])
        self.last_day = date.fromisoformat(directory["days"][1])
        self.classes = dict(directory["classes"])
        self._stops = {row[0]: Stop(*row) for row in directory["stops"]}
        self._routes = {row[0]: Route(*row) for row in directory["routes"]}
        self._services = {service.id: service for service in map(_service, directory["services"])}
        self._courses = [Course(*row) for row in directory["courses"]]
        self._patterns = directory["patterns"]
        self._trips = {row[0]: row for row in directory["trips"]}
        self._times = times
        self._zones = {stop.id: stop.zone for stop in self._stops.values()}
        self._prices = [_prices(fares) for fares in directory["fare_sets"]]
        self._squares, self._flat = _squares(directory["squares"], cells)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The table in a file; raises ``Unusable`` when the file is cut, changed, or of another version."""
        return cls.unpack(files.read(path), str(path))

    @classmethod
    def unpack(cls, data: bytes, name: str = "the fare table") -> Self:
        """The table in a file's bytes; raises ``Unusable`` with ``name`` in its sentence."""
        directory, cells, times = _take_apart(data, name)
        try:
            return cls(directory, cells, times, hashlib.sha256(data).digest()[:8])
        except (KeyError, IndexError, TypeError, ValueError):
            raise Unusable([f"{name}: is whole but says nothing this program understands; compile the feed again."]) from None

    def valid(self, day: date) -> bool:
        """Whether the feed claims to be true on ``day``."""
        return self.first_day <= day <= self.last_day

    def price(self, route: str, boarding: str, alighting: str, rider_class: str = ADULT) -> Price | NoPrice:
        """What one rider of ``rider_class`` pays on ``route`` from stop to stop, in yen; both prices where the feed gives two."""
        square = self._squares.get(route)
        if square is None:
            return _NO_SUCH_ROUTE
        rows, size, cells = square
        try:
            start, end = rows.get(self._zones[boarding]), rows.get(self._zones[alighting])
        except KeyError:
            return _NO_SUCH_STOP
        if start is None or end is None:
            return _NOT_ON_ROUTE
        number = cells[start * size + end]
        if not number:
            return _NO_RULE
        return self._prices[number - 1].get(rider_class, _NO_CLASS_PRICE)

    def flat(self, route: str) -> bool:
        """Whether every pair of this route costs the same."""
        return self._flat.get(route, False)

    def stop(self, stop: str) -> Stop:
        """The stop with this identifier; raises ``KeyError``."""
        return self._stops[stop]

    def stops(self) -> tuple[Stop, ...]:
        """All stops, in the feed's order."""
        return tuple(self._stops.values())

    def route(self, route: str) -> Route:
        """The route with this identifier; raises ``KeyError``."""
        return self._routes[route]

    def routes(self) -> tuple[Route, ...]:
        """All routes, in the feed's order."""
        return tuple(self._routes.values())

    def trip(self, trip: str) -> Trip:
        """The trip with this identifier, with its calls; raises ``KeyError``."""
        name, pattern, service, headsign, office, course, first = self._trips[trip]
        route, stops, shut = self._patterns[pattern]
        times = self._times[first : first + 2 * len(stops)]
        calls = tuple(
            Call(stop, times[2 * place], times[2 * place + 1], not door & 1, not door & 2)
            for place, (stop, door) in enumerate(zip(stops, shut, strict=True))
        )
        return Trip(name, route, service, calls, headsign, office, self._courses[course])

    def trips(self, day: date | None = None) -> Iterator[Trip]:
        """All trips, or those that run on ``day``, in the feed's order."""
        for name, row in self._trips.items():
            if day is None or self._services[row[2]].runs(day):
                yield self.trip(name)

    def has_trip(self, trip: str) -> bool:
        """Whether the table knows this trip."""
        return trip in self._trips

    def route_of(self, trip: str) -> str | None:
        """The route of a trip, none when the table does not know the trip; a cheap look."""
        row = self._trips.get(trip)
        return None if row is None else self._patterns[row[1]][0]

    def stops_of(self, trip: str) -> Sequence[str]:
        """The stops of a trip in their order, without its times; a cheap look. Raises ``KeyError``."""
        return self._patterns[self._trips[trip][1]][1]

    def has_stop(self, stop: str) -> bool:
        """Whether the table knows this stop."""
        return stop in self._stops

    def has_route(self, route: str) -> bool:
        """Whether the table knows this route."""
        return route in self._routes


# ── the file's directory ──

_TripRow = tuple[str, int, str, str, str, int, int]
_PatternRow = tuple[str, list[str], list[int]]
_ServiceRow = tuple[str, list[int], str, str, list[str], list[str]]
_Lookup = tuple[dict[str, int], int, _Numbers]


class _Directory(TypedDict):
    feed: str
    publisher: str
    version: str
    days: tuple[str, str]
    stops: list[tuple[str, str, str, str, str, str]]
    routes: list[tuple[str, str, str, str]]
    services: list[_ServiceRow]
    courses: list[tuple[str, str, str]]
    patterns: list[_PatternRow]  # (route, stops, doors: bit 0 = nobody boards, bit 1 = nobody alights)
    trips: list[_TripRow]  # (id, pattern, service, headsign, office, course, place of its first time)
    classes: list[tuple[str, str]]
    fare_sets: list[list[dict[str, int]]]
    squares: list[tuple[str, list[str]]]


def pack(contents: Contents) -> bytes:
    """The file that holds ``contents``. The same contents give the same bytes."""
    courses, patterns, trips, times = _timetable(contents.trips)
    directory: _Directory = {
        "feed": contents.feed.hex(),
        "publisher": contents.publisher,
        "version": contents.version,
        "days": (contents.first_day.isoformat(), contents.last_day.isoformat()),
        "stops": [(stop.id, stop.name, stop.reading, stop.english, stop.zone, stop.platform) for stop in contents.stops],
        "routes": [(route.id, route.name, route.reading, route.english) for route in contents.routes],
        "services": [_service_row(service) for service in contents.services],
        "courses": courses,
        "patterns": patterns,
        "trips": trips,
        "classes": list(contents.classes),
        "fare_sets": [[dict(sorted(fare.items())) for fare in fares] for fares in contents.fare_sets],
        "squares": [(square.route, list(square.zones)) for square in contents.squares],
    }
    words = json.dumps(directory, ensure_ascii=False, separators=(",", ":")).encode()
    cells = array("H", (cell for square in contents.squares for cell in square.cells))
    body = zlib.compress(struct.pack(">I", len(words)) + words + _big_endian(cells) + _big_endian(times), 9)
    whole = _HEAD.pack(MAGIC, VERSION, len(body)) + body
    return whole + hashlib.sha256(whole).digest()


def _timetable(trips: Sequence[Trip]) -> tuple[list[tuple[str, str, str]], list[_PatternRow], list[_TripRow], _Numbers]:
    """Trips as patterns (which many trips share) and a run of times."""
    courses: dict[Course, int] = {}
    patterns: dict[tuple[str, tuple[tuple[str, int], ...]], int] = {}
    rows: list[_TripRow] = []
    times = array("I")
    for trip in trips:
        shape = tuple((call.stop, (not call.boards) | (not call.alights) << 1) for call in trip.calls)
        pattern = patterns.setdefault((trip.route, shape), len(patterns))
        course = courses.setdefault(trip.course, len(courses))
        rows.append((trip.id, pattern, trip.service, trip.headsign, trip.office, course, len(times)))
        for call in trip.calls:
            times.extend((call.arrival_s, call.departure_s))
    pattern_rows: list[_PatternRow] = [(route, [stop for stop, _ in shape], [door for _, door in shape]) for route, shape in patterns]
    return [(course.origin, course.via, course.destination) for course in courses], pattern_rows, rows, times


def _service_row(service: Service) -> _ServiceRow:
    return (
        service.id,
        sorted(service.weekdays),
        service.first.isoformat(),
        service.last.isoformat(),
        sorted(day.isoformat() for day in service.added),
        sorted(day.isoformat() for day in service.removed),
    )


def _service(row: _ServiceRow) -> Service:
    name, weekdays, first, last, added, removed = row
    return Service(
        name,
        frozenset(weekdays),
        date.fromisoformat(first),
        date.fromisoformat(last),
        frozenset(map(date.fromisoformat, added)),
        frozenset(map(date.fromisoformat, removed)),
    )


def _take_apart(data: bytes, name: str) -> tuple[_Directory, _Numbers, _Numbers]:
    """Check the file from the outside in; raises ``Unusable``."""
    if not data.startswith(MAGIC) or len(data) <= len(MAGIC):
        raise Unusable([f"{name}: is not a compiled fare table; make one with `kazashi fares compile FEED -o TABLE`."])
    if data[len(MAGIC)] != VERSION:
        raise Unusable([f"{name}: is a table of version {data[len(MAGIC)]}, this program reads {VERSION}; compile the feed again."])
    body_bytes = _HEAD.unpack_from(data)[2] if len(data) >= _HEAD.size else 1
    whole = _HEAD.size + body_bytes + _HASH_BYTES
    if len(data) != whole:
        raise Unusable([f"{name}: has {len(data)} bytes where its beginning says {whole}; it was cut or grew on its way, copy it again."])
    if hashlib.sha256(data[:-_HASH_BYTES]).digest() != data[-_HASH_BYTES:]:
        raise Unusable([f"{name}: its checksum does not fit, so it was changed or damaged; copy it again."])
    try:
        return _read_body(data[_HEAD.size : -_HASH_BYTES])
    except (zlib.error, struct.error, KeyError, TypeError, ValueError):
        raise Unusable([f"{name}: is whole but says nothing this program understands; compile the feed again."]) from None


def _read_body(body: bytes) -> tuple[_Directory, _Numbers, _Numbers]:
    inflate = zlib.decompressobj()
    raw = inflate.decompress(body, MOST_BODY_BYTES)
    if not inflate.eof:
        raise ValueError("the body unpacks to more than a table may hold")
    (length,) = struct.unpack_from(">I", raw)
    directory = cast("_Directory", json.loads(raw[4 : 4 + length]))
    cell_bytes = 2 * sum(len(zones) ** 2 for _, zones in directory["squares"])
    rest = raw[4 + length :]
    if len(rest) < cell_bytes:
        raise ValueError("the squares are cut")
    return directory, _native("H", rest[:cell_bytes]), _native("I", rest[cell_bytes:])


def _prices(fares: Sequence[Mapping[str, int]]) -> dict[str, Price]:
    """The price of each rider class that every fare of the set knows; a class that only some know has no certain price."""
    known = set(fares[0]).intersection(*fares)
    return {rider_class: _price(sorted({fare[rider_class] for fare in fares})) for rider_class in sorted(known)}


def _price(yen: list[int]) -> Price:
    return Price(yen[0], tuple(yen) if len(yen) > 1 else ())


def _squares(rows: Sequence[tuple[str, list[str]]], cells: _Numbers) -> tuple[dict[str, _Lookup], dict[str, bool]]:
    squares: dict[str, _Lookup] = {}
    flat: dict[str, bool] = {}
    first = 0
    for route, zones in rows:
        end = first + len(zones) ** 2
        square = cells[first:end]
        squares[route] = ({zone: place for place, zone in enumerate(zones)}, len(zones), square)
        flat[route] = bool(square) and square[0] != 0 and len(set(square)) == 1
        first = end
    return squares, flat


def _big_endian(numbers: _Numbers) -> bytes:
    copy = array(numbers.typecode, numbers)
    if sys.byteorder == "little":
        copy.byteswap()
    return copy.tobytes()


def _native(typecode: str, data: bytes) -> _Numbers:
    numbers: _Numbers = array(typecode)
    numbers.frombytes(data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
