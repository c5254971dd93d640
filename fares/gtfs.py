"""Compiles a GTFS-JP feed into what a fare table holds, and reports what is odd about the feed.

Read are the forms of GTFS-JP 2, 3 and 4: fares v1 (``fare_attributes``, ``fare_rules``, zones from ``stops.zone_id``), child fares where
the feed has ``rider_categories`` and ``fare_rider_categories``, courses from ``pattern_jp`` or ``routes_jp``, offices, and readings
(``ja-Hrkt``) and English names from ``translations`` in its old form (by text) and its new one (by record).

Which rule prices a pair: route with origin and destination, else route alone, else origin and destination, else the rule that names nothing
(the order of GTFS-PLUS). A feed without rules has one fare for everything. All of it is resolved here, so that a vehicle only looks.

Two kinds of trouble are kept apart. A *fault* makes the feed unusable: a reference to nothing, a number that is none. It is told with file,
line and field. An *oddity* does not: two prices for a pair, a pair that people can ride and no rule prices, a rule that no trip uses. It is
counted and reported, and the operator's file says what to do about it. The compiler never mends a feed.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from fares.faults import Unusable
from fares.files import Feed, Row
from fares.table import ADULT, Call, Contents, Course, FareSet, Route, Service, Square, Stop, Trip

MOST_FAULTS = 20
MOST_FARE_SETS = 65_535  # a cell of a square is a u16, and 0 means "no rule"
READING, ENGLISH = "ja-Hrkt", "en"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NO_PICKUP, NO_DROP_OFF = "1", "1"  # GTFS stop_times.pickup_type and drop_off_type
NOT_READ = {
    "frequencies.txt": "trips that run every n minutes",
    "fare_products.txt": "fares v2",
    "fare_leg_rules.txt": "fares v2",
    "fare_transfer_rules.txt": "fares v2",
}

Pair = tuple[str, str, str]
"""(route, origin zone, destination zone); empty parts mean "any" in a rule."""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A key of the rules with several prices: adult yen, rising, and the lines of ``fare_rules.txt`` that say so."""

    pair: Pair
    yen: tuple[int, ...]
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What was read, and what is odd about it. ``rules``: rows of ``fare_rules.txt``; ``keys``: different (route, origin, destination)."""

    stops: int
    routes: int
    trips: int
    fares: int
    child_fares: int
    rules: int
    keys: int
    pairs: int  # rideable (route, origin zone, destination zone) of real trips
    ambiguous: tuple[Ambiguous, ...]
    missing: tuple[Pair, ...]
    unused: tuple[tuple[int, Pair], ...]  # (line of fare_rules.txt, key)
    loops: tuple[str, ...]  # trips that visit a zone twice
    repeated_columns: tuple[tuple[str, str], ...]
    duplicate_rows: tuple[tuple[str, int], ...]
    unused_fares: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Desk:
    """What piles up while a feed is read."""

    feed: Feed
    faults: list[str] = field(default_factory=list[str])
    duplicates: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    notes: list[str] = field(default_factory=list[str])

    def fault(self, sentence: str) -> None:
        """Note a fault; enough of them end the reading."""
        self.faults.append(sentence)
        if len(self.faults) >= MOST_FAULTS:
            self.faults.append(f"more than {MOST_FAULTS - 1} faults; the rest was not looked at.")
            self.check()

    def check(self) -> None:
        """Raise ``Unusable`` when there was any fault."""
        if self.faults:
            raise Unusable(f"{self.feed.name}: {fault}" for fault in self.faults)

    def unique(self, file: str, *key: str) -> Iterator[Row]:
        """The rows of a table with a key; an equal row again is noted, another row with the same key is a fault."""
        seen: dict[tuple[str, ...], Row] = {}
        for row in self.feed.rows(file):
            name = tuple(row[column] for column in key)
            first = seen.setdefault(name, row)
            if first is row:
                yield row
            elif first.values == row.values:
                self.duplicates.append((file, row.line))
            else:
                self.fault(row.fault(key[-1], f"'{name[-1]}' stands already in line {first.line} with other values; keep one of them."))


def compile_feed(feed: Feed) -> tuple[Contents, Report]:
    """The contents of a fare table, and a report. Raises ``Unusable`` with the feed's faults, at most 20 of them."""
    desk = _Desk(feed)
    _require(desk)
    texts = _texts(feed)
    stops = _stops(desk, texts)
    routes = _routes(desk, texts)
    services = _services(desk)
    trips = _trips(desk, routes, services, stops)
    fares, categories = _fares(desk)
    desk.check()
    tariff = _tariff(desk, fares)
    desk.check()
    zones = {stop.id: stop.zone for stop in stops.values()}
    fare_sets, squares = _squares(tariff, trips.values(), zones)
    if len(fare_sets) > MOST_FARE_SETS:
        desk.fault(f"fare_rules.txt: makes {len(fare_sets)} different prices; a table holds {MOST_FARE_SETS}.")
    publisher, version, first, last = _validity(desk, services)
    desk.check()
    contents = Contents(
        feed.digest(),
        publisher,
        version,
        first,
        last,
        tuple(stops.values()),
        tuple(routes.values()),
        tuple(services.values()),
        tuple(trips.values()),
        tuple(categories.items()),
        fare_sets,
        squares,
    )
    return contents, _report(desk, contents, tariff, _rideable(trips.values(), zones))


def _require(desk: _Desk) -> None:
    for file in ("stops.txt", "routes.txt", "trips.txt", "stop_times.txt"):
        if not desk.feed.has(file):
            desk.fault(f"{file}: is missing; a feed without it is no timetable.")
    if not desk.feed.has("fare_attributes.txt"):
        also = " (fares v2 are there, but they are not read)" if desk.feed.has("fare_products.txt") else ""
        desk.fault(f"fare_attributes.txt: is missing{also}; ask the publisher for a feed with fares as GTFS-JP requires.")
    desk.notes += [f"{file}: {what} are not read" for file, what in NOT_READ.items() if desk.feed.has(file)]
    desk.check()


# ── names and how to say them ──

_Texts = Callable[[str, str, str, str, str], str]


def _texts(feed: Feed) -> _Texts:
    """A function (table, field, record, text, language) → translation, empty when the feed has none."""
    by_text: dict[tuple[str, str], str] = {}
    by_value: dict[tuple[str, str, str, str], str] = {}
    by_record: dict[tuple[str, str, str, str], str] = {}
    for row in feed.rows("translations.txt"):
        language = row["lang"] or row["language"]
        if row["trans_id"]:
            by_text[row["trans_id"], language] = row["translation"]
        elif row["record_id"]:
            by_record[row["table_name"], row["field_name"], row["record_id"], language] = row["translation"]
        else:
            by_value[row["table_name"], row["field_name"], row["field_value"], language] = row["translation"]

    def look(table: str, column: str, record: str, text: str, language: str) -> str:
        return (
            by_record.get((table, column, record, language))
            or by_value.get((table, column, text, language))
            or by_text.get((text, language), "")
        )

    return look


def _stops(desk: _Desk, texts: _Texts) -> dict[str, Stop]:
    stops: dict[str, Stop] = {}
    for row in desk.unique("stops.txt", "stop_id"):
        name, text = row["stop_id"], row["stop_name"]
        if not name:
            desk.fault(row.fault("stop_id", "is empty; give the stop an id."))
            continue
        reading, english = (texts("stops", "stop_name", name, text, language) for language in (READING, ENGLISH))
        stops[name] = Stop(name, text, reading, english, row["zone_id"], row["platform_code"])
    return stops


def _routes(desk: _Desk, texts: _Texts) -> dict[str, Route]:
    routes: dict[str, Route] = {}
    for row in desk.unique("routes.txt", "route_id"):
        name = row["route_id"]
        column = "route_long_name" if row["route_long_name"] else "route_short_name"
        if not name or not row[column]:
            desk.fault(row.fault("route_id" if not name else column, "is empty; a route needs an id and a name."))
            continue
        reading, english = (texts("routes", column, name, row[column], language) for language in (READING, ENGLISH))
        routes[name] = Route(name, row[column], reading, english)
    return routes


# ── days ──


def _services(desk: _Desk) -> dict[str, Service]:
    services: dict[str, Service] = {}
    for row in desk.unique("calendar.txt", "service_id"):
        days = frozenset(number for number, column in enumerate(WEEKDAYS) if row[column] == "1")
        first, last = _day(desk, row, "start_date"), _day(desk, row, "end_date")
        services[row["service_id"]] = Service(row["service_id"], days, first, last)
    changes: dict[str, dict[str, set[date]]] = defaultdict(lambda: {"1": set(), "2": set()})
    for row in desk.unique("calendar_dates.txt", "service_id", "date"):
        kind = row["exception_type"]
        if kind not in {"1", "2"}:
            desk.fault(row.fault("exception_type", f"is '{kind}'; it must be 1 (runs) or 2 (does not run)."))
            continue
        changes[row["service_id"]][kind].add(_day(desk, row, "date"))
    for name, change in changes.items():
        added, removed = frozenset(change["1"]), frozenset(change["2"])
        regular = services.get(name)
        if regular is None:
            services[name] = Service(name, frozenset(), min(added | removed), max(added | removed), added, removed)
        else:
            services[name] = Service(name, regular.weekdays, regular.first, regular.last, added, removed)
    if not services and not desk.faults:
        desk.fault("calendar.txt: is missing or empty, and so is calendar_dates.txt; a feed needs days.")
    return services


def _day(desk: _Desk, row: Row, column: str) -> date:
    text = row[column]
    try:
        if re.fullmatch(r"[0-9]{8}", text):
            return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        pass
    desk.fault(row.fault(column, f"is '{text}'; it must be a day such as 20260401."))
    return date.min


def _validity(desk: _Desk, services: Mapping[str, Service]) -> tuple[str, str, date, date]:
    """(publisher, version, first day, last day): from ``feed_info``; its days, when empty, are those of the calendar."""
    row = next(desk.feed.rows("feed_info.txt"), Row("feed_info.txt", 2, {}))
    first = _day(desk, row, "feed_start_date") if row["feed_start_date"] else min(service.first for service in services.values())
    last = _day(desk, row, "feed_end_date") if row["feed_end_date"] else max(service.last for service in services.values())
    if last < first:
        desk.fault(row.fault("feed_end_date", "is before feed_start_date; correct one of the two."))
    return row["feed_publisher_name"], row["feed_version"], first, last


# ── trips ──


def _trips(desk: _Desk, routes: Mapping[str, Route], services: Mapping[str, Service], stops: Mapping[str, Stop]) -> dict[str, Trip]:
    patterns = {row["jp_pattern_id"]: _course(row) for row in desk.unique("pattern_jp.txt", "jp_pattern_id")}
    by_route = {row["route_id"]: _course(row) for row in desk.unique("routes_jp.txt", "route_id")}
    offices = {row["office_id"]: row["office_name"] for row in desk.unique("office_jp.txt", "office_id")}
    rows: dict[str, Row] = {}
    for row in desk.unique("trips.txt", "trip_id"):
        for column, known, file in (("route_id", routes, "routes.txt"), ("service_id", services, "calendar.txt")):
            if row[column] not in known:
                desk.fault(row.fault(column, f"'{row[column]}' is not in {file}; correct it or add it there."))
        rows[row["trip_id"]] = row
    calls = _calls(desk, rows, stops)
    trips: dict[str, Trip] = {}
    for name, row in rows.items():
        if len(calls.get(name, ())) < 2:
            desk.notes.append(f"trips.txt, line {row.line}: trip '{name}' has fewer than two stops and is left out")
            continue
        course = patterns.get(row["jp_pattern_id"]) or by_route.get(row["route_id"]) or Course()
        office = offices.get(row["jp_office_id"], "")
        trips[name] = Trip(name, row["route_id"], row["service_id"], calls[name], row["trip_headsign"], office, course)
    if not trips:
        desk.fault("stop_times.txt: no trip has two stops; there is nothing to ride.")
    return trips


def _course(row: Row) -> Course:
    return Course(row["origin_stop"], row["via_stop"], row["destination_stop"])


@dataclass(frozen=True, slots=True)
class _Stay:
    """A row of ``stop_times.txt``; times are None where the feed gives none."""

    sequence: int
    stop: str
    arrival_s: int | None
    departure_s: int | None
    boards: bool
    alights: bool


def _calls(desk: _Desk, trips: Mapping[str, Row], stops: Mapping[str, Stop]) -> dict[str, tuple[Call, ...]]:
    stays: dict[str, dict[int, _Stay]] = {name: {} for name in trips}
    for row in desk.feed.rows("stop_times.txt"):
        stay = _stay(desk, row)
        if stay.stop not in stops:
            desk.fault(row.fault("stop_id", f"'{stay.stop}' is not in stops.txt; correct it or add it there."))
        if row["trip_id"] not in stays:
            desk.fault(row.fault("trip_id", f"'{row['trip_id']}' is not in trips.txt; correct it or add it there."))
            continue
        first = stays[row["trip_id"]].setdefault(stay.sequence, stay)
        if first == stay and first is not stay:
            desk.duplicates.append(("stop_times.txt", row.line))
        elif first is not stay:
            desk.fault(row.fault("stop_sequence", f"{stay.sequence} stands twice in this trip; number its stops in their order."))
    return {name: _timed(desk, name, [stay for _, stay in sorted(found.items())]) for name, found in stays.items()}


def _stay(desk: _Desk, row: Row) -> _Stay:
    sequence = row["stop_sequence"]
    if not re.fullmatch(r"[0-9]{1,9}", sequence):
        desk.fault(row.fault("stop_sequence", f"is '{sequence}'; it must be a whole number."))
        sequence = "0"
    arrival_s, departure_s = _time(desk, row, "arrival_time"), _time(desk, row, "departure_time")
    return _Stay(
        int(sequence),
        row["stop_id"],
        departure_s if arrival_s is None else arrival_s,
        arrival_s if departure_s is None else departure_s,
        row["pickup_type"] != NO_PICKUP,
        row["drop_off_type"] != NO_DROP_OFF,
    )


def _time(desk: _Desk, row: Row, column: str) -> int | None:
    """Seconds of the service day; GTFS counts past 24 h, and writes 7:05:00 or 07:05:00."""
    text = row[column]
    if not text:
        return None
    found = re.fullmatch(r"([0-9]{1,2}):([0-5][0-9]):([0-5][0-9])", text)
    if found is None:
        desk.fault(row.fault(column, f"is '{text}'; it must be a time such as 07:05:00, after midnight 25:05:00."))
        return None
    hours, minutes, seconds = map(int, found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _timed(desk: _Desk, trip: str, stays: list[_Stay]) -> tuple[Call, ...]:
    """The calls with every time filled: a stop without one gets its even share of the time between its neighbours (GTFS timepoints)."""
    if not stays:
        return ()
    known = [place for place, stay in enumerate(stays) if stay.arrival_s is not None]
    if not known or known[0] != 0 or known[-1] != len(stays) - 1:
        desk.fault(f"stop_times.txt, trip '{trip}', arrival_time: the first and the last stop need a time; write them.")
        return ()
    calls: list[Call] = []
    for place, stay in enumerate(stays):
        arrival_s, departure_s = stay.arrival_s, stay.departure_s
        if arrival_s is None or departure_s is None:
            before = max(spot for spot in known if spot < place)
            after = min(spot for spot in known if spot > place)
            start, end = stays[before].departure_s or 0, stays[after].arrival_s or 0
            arrival_s = departure_s = start + (end - start) * (place - before) // (after - before)
        if departure_s < arrival_s or (calls and arrival_s < calls[-1].departure_s):
            desk.fault(f"stop_times.txt, trip '{trip}', arrival_time: the times run backwards at stop number {place + 1}; correct them.")
            return ()
        calls.append(Call(stay.stop, arrival_s, departure_s, stay.boards, stay.alights))
    return tuple(calls)


# ── fares ──

_Fare = Mapping[str, int]


def _fares(desk: _Desk) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Fare id → yen by rider class; and the rider classes with their descriptions."""
    fares = {row["fare_id"]: {ADULT: _yen(desk, row, "price")} for row in desk.unique("fare_attributes.txt", "fare_id")}
    categories = {
        row["rider_category_id"]: row["rider_category_description"] or row["rider_category_name"]
        for row in desk.unique("rider_categories.txt", "rider_category_id")
        if row["rider_category_id"]
    }
    for row in desk.unique("fare_rider_categories.txt", "fare_id", "rider_category_id"):
        fare, category = row["fare_id"], row["rider_category_id"]
        if fare not in fares:
            desk.fault(row.fault("fare_id", f"'{fare}' is not in fare_attributes.txt; correct it or add it there."))
        elif category not in categories:
            desk.fault(row.fault("rider_category_id", f"'{category}' is not in rider_categories.txt; correct it or add it there."))
        else:
            fares[fare][category] = _yen(desk, row, "price")
    return fares, categories


def _yen(desk: _Desk, row: Row, column: str) -> int:
    """A price in whole yen, also when written as 160.0 or 160.00."""
    currency = row["currency_type"]
    if currency != "JPY":
        desk.fault(row.fault("currency_type", f"is '{currency}'; only JPY is read."))
    found = re.fullmatch(r"([0-9]{1,6})(\.0*)?", row[column])
    if found is None:
        desk.fault(row.fault(column, f"is '{row[column]}'; it must be whole yen, such as 160."))
        return 0
    return int(found[1])


@dataclass(frozen=True, slots=True)
class _Tariff:
    """The feed's fares (id → yen by rider class) and its rules (key → line → fare id)."""

    fares: Mapping[str, _Fare]
    rules: Mapping[Pair, Mapping[int, str]]

    def winner(self, pair: Pair) -> Pair | None:
        """The key whose rules price this pair, in the order of GTFS-PLUS; none when no rule does."""
        route, start, end = pair
        return next((key for key in (pair, (route, "", ""), ("", start, end), ("", "", "")) if key in self.rules), None)

    def fare_set(self, key: Pair) -> FareSet:
        """The fares of a key that differ in any price, in rising order."""
        different = {tuple(sorted(self.fares[fare].items())) for fare in self.rules[key].values()}
        return tuple(dict(fare) for fare in sorted(different, key=lambda items: (dict(items)[ADULT], items)))


def _tariff(desk: _Desk, fares: Mapping[str, _Fare]) -> _Tariff:
    """The rules with their lines. A feed without rules gives its fares to everything."""
    rules: dict[Pair, dict[int, str]] = defaultdict(dict)
    for row in desk.feed.rows("fare_rules.txt"):
        if row["fare_id"] not in fares:
            desk.fault(row.fault("fare_id", f"'{row['fare_id']}' is not in fare_attributes.txt; correct it or add it there."))
        if bool(row["origin_id"]) != bool(row["destination_id"]):
            column = "destination_id" if row["origin_id"] else "origin_id"
            desk.fault(row.fault(column, "is empty while its partner is not; write both, or none for a fare that is the same everywhere."))
        if row["contains_id"]:
            desk.fault(row.fault("contains_id", "is not read (GTFS-JP leaves it empty); write a rule for each pair of zones."))
        key = (row["route_id"], row["origin_id"], row["destination_id"])
        if row["fare_id"] in rules[key].values():
            desk.duplicates.append(("fare_rules.txt", row.line))
        rules[key][row.line] = row["fare_id"]
    if not rules:
        desk.notes.append("fare_rules.txt: has no rules, so each fare of fare_attributes.txt is the fare of every ride")
        rules["", "", ""] = dict(enumerate(fares, 2))
    return _Tariff(fares, dict(rules))


def _rideable(trips: Iterable[Trip], zones: Mapping[str, str]) -> frozenset[Pair]:
    """Every (route, zone, zone) that somebody can ride: on at one call, off at a later one."""
    shapes = {(trip.route, tuple((zones[call.stop], call.boards, call.alights) for call in trip.calls)) for trip in trips}
    return frozenset(
        (route, start, end)
        for route, shape in shapes
        for place, (start, boards, _) in enumerate(shape)
        if boards
        for end, _, alights in shape[place + 1 :]
        if alights
    )


def _squares(tariff: _Tariff, trips: Iterable[Trip], zones: Mapping[str, str]) -> tuple[tuple[FareSet, ...], tuple[Square, ...]]:
    """The different fare sets, and a square for each route."""
    sets: dict[tuple[tuple[tuple[str, int], ...], ...], FareSet] = {}
    numbers: dict[tuple[tuple[tuple[str, int], ...], ...], int] = {}
    cell_of_key: dict[Pair, int] = {}
    for key in tariff.rules:
        fare_set = tariff.fare_set(key)
        same = tuple(tuple(fare.items()) for fare in fare_set)
        sets.setdefault(same, fare_set)
        cell_of_key[key] = numbers.setdefault(same, len(numbers) + 1)
    squares: list[Square] = []
    for route, names in _zones_of_routes(tariff, trips, zones).items():
        winners = (tariff.winner((route, start, end)) for start in names for end in names)
        squares.append(Square(route, names, [0 if key is None else cell_of_key[key] for key in winners]))
    return tuple(sets.values()), tuple(squares)


def _zones_of_routes(tariff: _Tariff, trips: Iterable[Trip], zones: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The zones that each route's trips visit or its rules name, each once."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for trip in trips:
        found[trip.route].update(dict.fromkeys(zones[call.stop] for call in trip.calls))
    for route, start, end in tariff.rules:
        if route in found and start:
            found[route].update({start: None, end: None})
    return {route: tuple(names) for route, names in found.items()}


# ── the report ──


def _report(desk: _Desk, contents: Contents, tariff: _Tariff, rideable: frozenset[Pair]) -> Report:
    zones = {stop.id: stop.zone for stop in contents.stops}
    winners = {pair: tariff.winner(pair) for pair in rideable}
    used = set(winners.values())
    given = {fare for lines in tariff.rules.values() for fare in lines.values()}
    return Report(
        stops=len(contents.stops),
        routes=len(contents.routes),
        trips=len(contents.trips),
        fares=len(tariff.fares),
        child_fares=sum(len(fare) > 1 for fare in tariff.fares.values()),
        rules=sum(map(len, tariff.rules.values())),
        keys=len(tariff.rules),
        pairs=len(rideable),
        ambiguous=tuple(_ambiguous(tariff)),
        missing=tuple(sorted(pair for pair, winner in winners.items() if winner is None)),
        unused=tuple(sorted((line, key) for key, lines in tariff.rules.items() if key not in used for line in lines)),
        loops=tuple(trip.id for trip in contents.trips if _loops(trip, zones)),
        repeated_columns=tuple(desk.feed.repeated),
        duplicate_rows=tuple(desk.duplicates),
        unused_fares=tuple(sorted(set(tariff.fares) - given)),
        notes=tuple(desk.notes),
    )


def _ambiguous(tariff: _Tariff) -> Iterator[Ambiguous]:
    for key, lines in tariff.rules.items():
        fare_set = tariff.fare_set(key)
        if len(fare_set) > 1:
            yield Ambiguous(key, tuple(sorted({fare[ADULT] for fare in fare_set})), tuple(sorted(lines)))


def _loops(trip: Trip, zones: Mapping[str, str]) -> bool:
    visited = [zones[call.stop] for call in trip.calls if zones[call.stop]]
    return len(set(visited)) < len(visited)


def lines(report: Report, first_few: int = 3) -> list[str]:
    """The report for a person: the counts, and under each oddity the first few of it."""
    told = [
        f"{report.stops:,} stops, {report.routes:,} routes, {report.trips:,} trips",
        f"{report.fares:,} fares, {report.child_fares:,} of them with another price for a class of riders",
        f"{report.rules:,} rules for {report.keys:,} keys (route, origin, destination); trips make {report.pairs:,} pairs rideable",
    ]
    oddities: tuple[tuple[str, list[str]], ...] = (
        ("keys with several prices", [f"{_key(odd.pair)}: {_or(odd.yen)} yen (lines {_or(odd.lines)})" for odd in report.ambiguous]),
        ("rideable pairs without a rule", [_key(pair) for pair in report.missing]),
        ("rules that no trip uses", [f"line {line}: {_key(pair)}" for line, pair in report.unused]),
        ("trips that visit a zone twice", list(report.loops)),
        ("columns named twice", [f"{file}: {column}" for file, column in report.repeated_columns]),
        ("rows that say what an earlier one said", [f"{file}, line {line}" for file, line in report.duplicate_rows]),
        ("fares that no rule gives", list(report.unused_fares)),
        ("other remarks", list(report.notes)),
    )
    for title, found in oddities:
        if found:
            told.append(f"{len(found):,} {title}")
            told += [f"    {one}" for one in found[:first_few]]
            told += ["    …"] if len(found) > first_few else []
    return told


def _key(pair: Pair) -> str:
    route, start, end = pair
    return f"route {route or '(any)'}, {start or '(any)'} → {end or '(any)'}"


def _or(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, numbers))
