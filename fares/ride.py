"""The price of one ride, by the compiled table and the operator's decisions.

The order matters and is this:
    1. A fare that the driver named is the fare. The driver has seen the rider; the table has not.
    2. Table and operator's file must be in force. A day that nobody knows (clock unset) does not stop a bus: it is not checked.
    3. Where the rider got on: a stop that is known (boarding tap, or picked by the driver), else the numbered ticket, else what the
       operator says about unknown boarding: ask, or the fare from the origin, marked.
    4. The stop of boarding must come before the stop of alighting on this trip. A driver who forgot to step on is asked, not believed: a
       wrong stop is worse than an unknown one.
    5. The table. Several prices: the operator's choice, marked. None: never guessed.

The answer is the sum for all riders on the card, with the steps that made it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum

from fares.explain import Step, Why, total
from fares.operator import AmbiguousPair, KnownBy, MissingPair, Operator, UnknownBoarding
from fares.table import ADULT, FareTable, NoPrice, NoPriceReason, Price


class Flag(Enum):
    """What must be marked in the entry."""

    AMBIGUOUS = "the table had several prices"
    ORIGIN = "boarding unknown, priced from the origin"
    DRIVER = "the driver named the fare"


class Reason(Enum):
    """Why there is no price yet (``NeedsDriver``) or none at all (``NoFare``). The value goes into the ledger."""

    BOARDING_UNKNOWN = "boarding-unknown"
    ALIGHTING_UNKNOWN = "alighting-unknown"
    UNKNOWN_TICKET = "unknown-ticket"
    NOT_FORWARD = "not-forward"
    TWO_PRICES = "two-prices"
    NO_RULE = "no-rule"
    NO_SUCH_ROUTE = "no-such-route"
    NO_SUCH_TRIP = "no-such-trip"
    NO_SUCH_STOP = "no-such-stop"
    TABLE_NOT_IN_FORCE = "table-not-in-force"
    OPERATOR_NOT_IN_FORCE = "operator-file-not-in-force"


@dataclass(frozen=True, slots=True)
class Ride:
    """What is known about a ride when the card lies on the reader.

    ``trip`` may be empty when only the route is known. ``boarding``: from the boarding tap, or picked by the driver. ``ticket``: the number
    the driver keyed. ``driver_fare``: yen for *all* riders of this tap. ``day``: the service day; None when the clock was never set.
    The card's holder is an adult, or the first child when no adult rides.
    """

    route: str
    trip: str
    boarding: str | None
    alighting: str | None
    adults: int = 1
    children: int = 0
    driver_fare: int | None = None
    day: date | None = None
    ticket: int | None = None

    def __post_init__(self) -> None:
        if self.adults < 0 or self.children < 0 or self.adults + self.children == 0:
            raise ValueError("a ride has at least one rider")
        if self.driver_fare is not None and self.driver_fare < 0:
            raise ValueError("a fare is not below zero")


@dataclass(frozen=True, slots=True)
class Priced:
    """``yen`` for all riders (the sum of ``steps``), of which ``holder`` is the card holder's own fare; ``boarding`` as priced."""

    yen: int
    holder: int
    flags: frozenset[Flag]
    steps: tuple[Step, ...]
    boarding: str
    alighting: str


@dataclass(frozen=True, slots=True)
class NeedsDriver:
    """The driver can help: pick a stop, key a ticket or name the fare."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class NoFare:
    """There is no price, because the operator says so or the files do not fit; the ride is UNPRICED unless the driver names a fare."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class _Segment:
    """Where the ride is priced: several possible stops of boarding when they share a ticket number."""

    boardings: tuple[str, ...]
    alighting: str
    flags: frozenset[Flag] = frozenset()


def price_ride(table: FareTable, operator: Operator, ride: Ride) -> Priced | NeedsDriver | NoFare:
    """What the riders of one tap pay together, or who can help, or why nobody can."""
    if ride.driver_fare is not None:
        return _named(ride, ride.driver_fare)
    fault = _unfit(table, operator, ride)
    if fault is not None:
        return NoFare(fault)
    segment = _segment(table, operator, ride)
    if isinstance(segment, NeedsDriver):
        return segment
    return _sum(table, operator, ride, segment)


def _named(ride: Ride, yen: int) -> Priced:
    """The driver's word. One rider owns all of it; several share it, and the holder's share is rounded down."""
    step = Step(Why.DRIVER, yen)
    holder = yen // (ride.adults + ride.children)
    return Priced(yen, holder, frozenset({Flag.DRIVER}), (step,), ride.boarding or "", ride.alighting or "")


def _unfit(table: FareTable, operator: Operator, ride: Ride) -> Reason | None:
    if ride.day is not None and not table.valid(ride.day):
        return Reason.TABLE_NOT_IN_FORCE
    if ride.day is not None and not operator.valid(ride.day):
        return Reason.OPERATOR_NOT_IN_FORCE
    if not table.has_route(ride.route):
        return Reason.NO_SUCH_ROUTE
    if ride.trip and table.route_of(ride.trip) != ride.route:
        return Reason.NO_SUCH_TRIP
    return None


def _segment(table: FareTable, operator: Operator, ride: Ride) -> _Segment | NeedsDriver:
    policy = operator.policy(ride.route)
    stops = table.stops_of(ride.trip) if ride.trip else ()
    if policy.known_by is KnownBy.FLAT:
        return _flat_segment(table, ride, stops)
    if ride.alighting is None:
        return NeedsDriver(Reason.ALIGHTING_UNKNOWN)
    flags: frozenset[Flag] = frozenset()
    if ride.boarding is not None:
        boardings: tuple[str, ...] = (ride.boarding,)
    elif ride.ticket is not None:
        boardings = operator.ticket_stops(ride.route, ride.trip, ride.ticket)
        if not boardings:
            return NeedsDriver(Reason.UNKNOWN_TICKET)
    elif policy.unknown is UnknownBoarding.ORIGIN and stops:
        boardings, flags = (stops[0],), frozenset({Flag.ORIGIN})
    else:
        return NeedsDriver(Reason.BOARDING_UNKNOWN)
    if stops:
        boardings = tuple(stop for stop in boardings if _forward(stops, stop, ride.alighting))
    return _Segment(boardings, ride.alighting, flags) if boardings else NeedsDriver(Reason.NOT_FORWARD)


def _flat_segment(table: FareTable, ride: Ride, stops: Sequence[str]) -> _Segment | NeedsDriver:
    """Every pair costs the same, so any pair of the trip will do; a known stop is kept for the record."""
    if not table.flat(ride.route):
        return NeedsDriver(Reason.NO_RULE)
    if stops:
        return _Segment((ride.boarding or stops[0],), ride.alighting or stops[-1])
    known = ride.boarding or ride.alighting
    return _Segment((known,), ride.alighting or known) if known else NeedsDriver(Reason.ALIGHTING_UNKNOWN)


def _forward(stops: Sequence[str], boarding: str, alighting: str) -> bool:
    """Whether ``alighting`` comes after ``boarding`` on a trip over ``stops``; a loop may bring the same stop again."""
    return boarding in stops and alighting in stops[stops.index(boarding) + 1 :]


def _sum(table: FareTable, operator: Operator, ride: Ride, segment: _Segment) -> Priced | NeedsDriver | NoFare:
    flags = set(segment.flags)
    steps: list[Step] = []
    unit_yen: list[int] = []
    for why, count, prices_of in ((Why.ADULTS, ride.adults, _adult_prices), (Why.CHILDREN, ride.children, _child_prices)):
        if not count:
            continue
        prices = _all_prices(table, operator, ride.route, segment, prices_of)
        if isinstance(prices, NoPriceReason):
            return _unpriced(operator, prices)
        if len(prices) > 1 and operator.ambiguous_pair is AmbiguousPair.ASK:
            return NeedsDriver(Reason.TWO_PRICES)
        yen = prices[-1] if operator.ambiguous_pair is AmbiguousPair.HIGHER else prices[0]
        if len(prices) > 1:
            flags.add(Flag.AMBIGUOUS)
        steps.append(Step(why, count * yen, {"count": count, "unit": yen, **_words(table, segment)}, _notes(prices, segment)))
        unit_yen.append(yen)
    return Priced(total(steps), unit_yen[0], frozenset(flags), tuple(steps), segment.boardings[0], segment.alighting)


_PricesOf = Callable[[FareTable, Operator, str, str, str], "tuple[int, ...] | NoPriceReason"]


def _all_prices(table: FareTable, operator: Operator, route: str, segment: _Segment, prices_of: _PricesOf) -> list[int] | NoPriceReason:
    """Every price of the pair, rising; over all stops that share the ticket's number."""
    found: set[int] = set()
    for boarding in segment.boardings:
        prices = prices_of(table, operator, route, boarding, segment.alighting)
        if isinstance(prices, NoPriceReason):
            return prices
        found.update(prices)
    return sorted(found)


def _adult_prices(table: FareTable, _operator: Operator, route: str, boarding: str, alighting: str) -> tuple[int, ...] | NoPriceReason:
    return _prices(table.price(route, boarding, alighting, ADULT))


def _child_prices(table: FareTable, operator: Operator, route: str, boarding: str, alighting: str) -> tuple[int, ...] | NoPriceReason:
    """The feed's own price for children; where it has none, the operator's share of the adult's."""
    child = operator.child
    if child.category:
        prices = _prices(table.price(route, boarding, alighting, child.category))
        if prices is not NoPriceReason.NO_CLASS_PRICE or not child.percent:
            return prices
    adult = _prices(table.price(route, boarding, alighting, ADULT))
    return adult if isinstance(adult, NoPriceReason) else tuple(sorted({child.of(yen) for yen in adult}))


def _prices(price: Price | NoPrice) -> tuple[int, ...] | NoPriceReason:
    match price:
        case Price(yen, ambiguous):
            return ambiguous or (yen,)
        case NoPrice(reason):
            return reason


def _unpriced(operator: Operator, reason: NoPriceReason) -> NeedsDriver | NoFare:
    match reason:
        case NoPriceReason.NO_SUCH_ROUTE:
            return NoFare(Reason.NO_SUCH_ROUTE)
        case NoPriceReason.NO_SUCH_STOP | NoPriceReason.NOT_ON_ROUTE:
            return NeedsDriver(Reason.NO_SUCH_STOP)
        case NoPriceReason.NO_RULE | NoPriceReason.NO_CLASS_PRICE:
            asks = operator.missing_pair is MissingPair.DRIVER
            return NeedsDriver(Reason.NO_RULE) if asks else NoFare(Reason.NO_RULE)


def _words(table: FareTable, segment: _Segment) -> dict[str, int | str]:
    boarding = " or ".join(table.stop(stop).name for stop in segment.boardings)
    return {"boarding": boarding, "alighting": table.stop(segment.alighting).name}


def _notes(prices: Sequence[int], segment: _Segment) -> tuple[str, ...]:
    notes: list[str] = []
    if len(prices) > 1:
        notes.append(f"the table has {' and '.join(map(str, prices))}; the operator's rule took this one")
    if Flag.ORIGIN in segment.flags:
        notes.append("boarding unknown: priced from the first stop")
    return tuple(notes)
