"""An operator's decisions, as a dated file: what the feed leaves open, and how a vehicle knows where somebody got on.

A feed says what rides cost; it does not say what to take when it says two things, nor what to do when nobody knows where a rider boarded.
Those are decisions of people, they change on a date, and they must be readable by the people who made them. So they stand in a TOML file,
and its digest stands in every entry that was decided with it.

Three things this file can *not* say, because no operator may want them: a price for a pair that the feed does not price, a boarding stop
guessed from where the last rider got on, and silence when a choice was made (every choice marks the entry).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import Enum
from pathlib import Path

from fares import fields, files
from fares.fields import Fields
from fares.table import FareTable

FORMAT = 1


class AmbiguousPair(Enum):
    """What to take when the feed gives a pair several prices."""

    LOWER = "lower"
    HIGHER = "higher"
    ASK = "ask"


class MissingPair(Enum):
    """What to do when the feed gives a pair no price."""

    DRIVER = "driver"  # ask the driver to name the fare
    UNPRICED = "unpriced"  # let the rider ride, write nothing to the card


class KnownBy(Enum):
    """How it is known where a rider boarded."""

    FLAT = "flat"  # it does not matter
    BOARDING_TAP = "boarding_tap"
    NUMBERED_TICKET = "numbered_ticket"  # the driver keys the number on the rider's ticket
    DRIVER = "driver"  # the driver picks the stop


class UnknownBoarding(Enum):
    """What to do when it is not known after all."""

    ASK = "ask"
    ORIGIN = "origin"  # the fare from the trip's first stop; the entry is marked


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """How one route is ridden. ``lines``: words that a scheme's rules may name, such as "community"."""

    known_by: KnownBy
    unknown: UnknownBoarding
    lines: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ChildFare:
    """Where a child's fare comes from: a rider category of the feed, or else (``category`` empty) a share of the adult's, rounded up.

    ``percent`` of the adult fare, rounded up to ``round_up_to_yen``.
    """

    category: str = ""
    percent: int = 0
    round_up_to_yen: int = 1

    def of(self, adult_yen: int) -> int:
        """The child's yen as a share of the adult's."""
        unit = 100 * self.round_up_to_yen
        return -(-adult_yen * self.percent // unit) * self.round_up_to_yen


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator's file. ``digest``: first 8 bytes of its SHA-256. Dates are inclusive."""

    id: str
    name: str
    first_day: date
    last_day: date
    ambiguous_pair: AmbiguousPair
    missing_pair: MissingPair
    already_paid_min: int
    child: ChildFare
    usual: RoutePolicy
    routes: Mapping[str, RoutePolicy]
    tickets: Mapping[tuple[str, str, int], tuple[str, ...]]  # (route, trip or "", number) -> stops
    service_day_starts: time
    digest: bytes = b""

    def valid(self, day: date) -> bool:
        """Whether these decisions are in force on ``day``."""
        return self.first_day <= day <= self.last_day

    def policy(self, route: str) -> RoutePolicy:
        """How ``route`` is ridden."""
        return self.routes.get(route, self.usual)

    def ticket_stops(self, route: str, trip: str, number: int) -> tuple[str, ...]:
        """The stops at which the ticket machine gives ``number``: the trip's own list, else the route's; none if unknown."""
        return self.tickets.get((route, trip, number)) or self.tickets.get((route, "", number), ())

    def with_child(self, child: ChildFare) -> "Operator":
        """The same decisions with another fare for children."""
        return replace(self, child=child)

    def service_day(self, local: datetime) -> date:
        """The service day that a local time belongs to: before ``service_day_starts`` it is still yesterday's."""
        day = local.date()
        return day - timedelta(days=1) if local.time() < self.service_day_starts else day


PLAIN = Operator(
    id="",
    name="",
    first_day=date.min,
    last_day=date.max,
    ambiguous_pair=AmbiguousPair.LOWER,
    missing_pair=MissingPair.DRIVER,
    already_paid_min=0,
    child=ChildFare(),
    usual=RoutePolicy(KnownBy.DRIVER, UnknownBoarding.ASK),
    routes={},
    tickets={},
    service_day_starts=time.min,
)
"""Nobody's decisions: for asking a table at a desk. A child then costs nothing certain; see ``Operator.with_child``."""


def load(path: Path) -> Operator:
    """The operator's file; raises ``Unusable`` with all its faults."""
    return parse(files.read(path), str(path))


def parse(data: bytes, name: str) -> Operator:
    """The operator's file from its bytes; raises ``Unusable`` with all its faults."""
    source = fields.parse(data, name)
    root = source.root
    root.number("format", least=FORMAT, most=FORMAT)
    fares = root.inner("fares")
    usual = _policy(root.inner("boarding"), None)
    operator = Operator(
        id=root.text("operator"),
        name=root.text("name"),
        first_day=root.day("from"),
        last_day=root.day("until", date.max),
        ambiguous_pair=fares.choice("ambiguous_pair", AmbiguousPair, AmbiguousPair.LOWER),
        missing_pair=fares.choice("missing_pair", MissingPair, MissingPair.DRIVER),
        already_paid_min=fares.number("already_paid_min", most=24 * 60),
        child=_child(root.inner("child")),
        usual=usual,
        routes=_routes(root, usual),
        tickets=_tickets(root),
        service_day_starts=root.clock_time("service_day_starts", time.min),
        digest=source.digest,
    )
    if operator.last_day < operator.first_day:
        root.fault("until", "is before 'from'; correct one of the two.")
    source.finish()
    return operator


def _policy(table: Fields, usual: RoutePolicy | None) -> RoutePolicy:
    known_by = table.choice("known_by", KnownBy, usual.known_by if usual else None)
    unknown = table.choice("unknown", UnknownBoarding, usual.unknown if usual else UnknownBoarding.ASK)
    return RoutePolicy(known_by, unknown, frozenset(table.texts("lines", ())))


def _routes(root: Fields, usual: RoutePolicy) -> dict[str, RoutePolicy]:
    routes: dict[str, RoutePolicy] = {}
    for table in root.each("route"):
        route = table.text("id")
        if route in routes:
            table.fault("id", f"route '{route}' stands here twice; keep one.")
        routes[route] = _policy(table, usual)
    return routes


def _child(table: Fields) -> ChildFare:
    """``rider_category``, or ``percent`` with ``round_up_to_yen``, or both: the share then helps where the feed has no child price."""
    if not table.has("rider_category") and not table.has("percent"):
        table.fault("rider_category", "is missing; write the feed's rider_category_id of children, or 'percent' of the adult fare.")
    return ChildFare(table.text("rider_category", ""), table.number("percent", 0, most=100), table.number("round_up_to_yen", 1, least=1))


def _tickets(root: Fields) -> dict[tuple[str, str, int], tuple[str, ...]]:
    tickets: dict[tuple[str, str, int], tuple[str, ...]] = {}
    for table in root.each("numbered_ticket"):
        key = (table.text("route"), table.text("trip", ""), table.number("number", least=1, most=999))
        if key in tickets:
            table.fault("number", f"number {key[2]} stands twice for this route and trip; put all its stops into one list.")
        tickets[key] = table.texts("stops")
        if not tickets[key]:
            table.fault("stops", "names no stop; write the stops at which this number is given.")
    return tickets


def disagreements(operator: Operator, table: FareTable) -> list[str]:
    """What the operator's file says that the table knows nothing of, or otherwise; one sentence each, with the path in the file."""
    return [*_route_disagreements(operator, table), *_ticket_disagreements(operator, table), *_child_disagreements(operator, table)]


def _route_disagreements(operator: Operator, table: FareTable) -> list[str]:
    unknown = [
        f"route '{route}': the fare table has no such route; correct the id or compile the newer feed."
        for route in operator.routes
        if not table.has_route(route)
    ]
    not_flat = [
        f"route '{route.id}': known_by is flat, but its fares differ by stop or are missing; choose how boarding is known."
        for route in table.routes()
        if operator.policy(route.id).known_by is KnownBy.FLAT and not table.flat(route.id)
    ]
    return unknown + not_flat


def _ticket_disagreements(operator: Operator, table: FareTable) -> list[str]:
    faults: list[str] = []
    for (route, trip, number), stops in operator.tickets.items():
        where = f"numbered_ticket {number} of route '{route}'"
        if not table.has_route(route):
            faults.append(f"{where}: the fare table has no such route.")
        if trip and not table.has_trip(trip):
            faults.append(f"{where}: the fare table has no trip '{trip}'.")
        faults += [f"{where}: the fare table has no stop '{stop}'." for stop in stops if not table.has_stop(stop)]
    return faults


def _child_disagreements(operator: Operator, table: FareTable) -> list[str]:
    category = operator.child.category
    if not category or category in table.classes:
        return []
    known = ", ".join(sorted(table.classes)) or "none"
    return [f"child.rider_category: the fare table has no rider category '{category}' (it has: {known})."]
