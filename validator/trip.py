"""Where the vehicle is and what the driver has armed: the driver's side of a tap (pure).

The order is always: the driver arms, the reader shows it and says it, the rider taps. What is armed falls back to "one adult" as soon as a
tap has used it, and when the vehicle goes on to another stop, so that nobody pays for what was meant for the rider before.

There is no cancel for a debit. CLEAR takes back what is being typed or armed; while an outcome is unknown and nothing is armed it says
"touch again first": a reset key before the second touch is what charged 60,000 rides twice (PASMO on buses, 2007-2008).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from drivers.devices.keypad import DriverKey, KeyPress
from fares.table import Trip
from ledger.entry import Entry, Kind, Place
from validator.messages import Message, Shown

MAX_TYPED_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Armed:
    """Who the next tap pays for, and by what.

    ``ticket``: number of a 整理券. ``boarded_at``: where the rider got on, as the number of the stop on this trip, from 1.
    ``fare_yen``: named by the driver, for all riders together.
    """

    adults: int = 1
    children: int = 0
    ticket: int | None = None
    boarded_at: int | None = None
    fare_yen: int | None = None

    @property
    def riders(self) -> int:
        return self.adults + self.children

    def shown(self) -> Shown | None:
        """What the reader says before the tap: all that is armed, so that nobody pays for two unseen; None when nothing special is."""
        told = self._told()
        if self.fare_yen is not None:
            return Shown(Message.ARMED_FARE, {"fare": self.fare_yen, **told})
        if self.boarded_at is not None:
            return Shown(Message.ARMED_STOP, {"number": self.boarded_at, **told})
        if self.ticket is not None:
            return Shown(Message.ARMED_TICKET, {"ticket": self.ticket, **told})
        if self.riders > 1:
            return Shown(Message.ARMED_PAIR, told)
        return Shown(Message.ARMED_CHILD) if self.children else None

    def _told(self) -> dict[str, int | str]:
        """Who rides, where it is not one adult."""
        told: dict[str, int | str] = {"riders": self.riders} if self.riders > 1 else {}
        if self.children:
            told["with_child" if self.adults else "child"] = self.children
        return told


ONE_ADULT = Armed()
_WITH_ONE_MORE_CHILD = {(1, 0): (0, 1), (0, 1): (1, 0), (2, 0): (1, 1), (1, 1): (0, 2), (0, 2): (2, 0)}


@dataclass(frozen=True, slots=True)
class Duty:
    """A vehicle's day: its trips in order, the open one, the stop it is at, what is armed and what is being typed.

    ``shift``: its number, the last one's when ``on_shift`` is false.
    ``coming``: trips not yet opened. ``at``: index into the open trip's calls. ``service_day``: days since 1970-01-01, decided when the
    trip was opened and the same until it is closed, whatever the clock does; 0 when the clock was unset. ``typed``: digits so far for
    ``typing`` (TICKET, STOP or FARE).
    """

    operator: str
    vehicle: str
    shift: int
    on_shift: bool = True
    coming: tuple[Trip, ...] = ()
    trip: Trip | None = None
    at: int = 0
    service_day: int = 0
    armed: Armed = ONE_ADULT
    typing: DriverKey | None = None
    typed: str = ""

    @property
    def boarded_at(self) -> str:
        """The stop at which the driver said the rider got on; empty when nothing was said."""
        number = self.armed.boarded_at
        return self.trip.calls[number - 1].stop if self.trip and number else ""

    @property
    def stop(self) -> str:
        """The stop the vehicle is at; empty while no trip is open."""
        return self.trip.calls[self.at].stop if self.trip else ""

    def place(self, boarding: str = "") -> Place:
        """Where an entry happens: ``boarding`` if it is known, alighting here."""
        return Place(
            operator=self.operator,
            vehicle=self.vehicle,
            shift=self.shift,
            route=self.trip.route if self.trip else "",
            trip=self.trip.id if self.trip else "",
            boarding=boarding,
            alighting=self.stop,
            service_day=self.service_day,
        )


@dataclass(frozen=True, slots=True)
class Pressed:
    """What a key did: the duty as it is now, the kinds of entries to append, and what is said to the driver beside the idle picture."""

    duty: Duty
    notes: tuple[Kind, ...] = ()
    says: Message | None = None


def press(duty: Duty, key_press: KeyPress, *, unsure: bool, service_day: int) -> Pressed:
    """What one key of the driver does. A key that means nothing now changes nothing.

    ``unsure``: a debit's outcome is unknown on this trip. ``service_day``: today's, for a trip that is opened now.
    """
    key = key_press.key
    if duty.typing is not None:
        return _type(duty, key_press)
    match key:
        case DriverKey.SHIFT:
            return _turn_shift(duty)
        case DriverKey.TRIP:
            return _turn_trip(duty, service_day)
        case DriverKey.NEXT_STOP | DriverKey.PREVIOUS_STOP if duty.trip:
            return _move(duty, duty.trip, 1 if key is DriverKey.NEXT_STOP else -1)
        case DriverKey.PAIR | DriverKey.CHILD:
            return Pressed(replace(duty, armed=_with_more_riders(duty.armed, key)))
        case DriverKey.TICKET | DriverKey.FARE | DriverKey.STOP:
            return Pressed(replace(duty, typing=key, typed=""))
        case DriverKey.CLEAR if duty.armed != ONE_ADULT:
            return Pressed(replace(duty, armed=ONE_ADULT))
        case DriverKey.ENTER if duty.trip is None:
            return Pressed(duty, says=Message.ABOUT)
        case DriverKey.CLEAR if unsure:
            return Pressed(duty, says=Message.RETOUCH_FIRST)
        case _:
            return Pressed(duty)


def used(duty: Duty) -> Duty:
    """The duty after a tap has used what was armed."""
    return replace(duty, armed=ONE_ADULT, typing=None, typed="")


def call_reason(duty: Duty) -> str:
    """How a STOP_SET entry names the place in the trip: a loop passes the same stop twice, its name alone would not do."""
    return f"call-{duty.at}"


def resume(operator: str, vehicle: str, trips: Sequence[Trip], last: Callable[[Kind], Entry | None]) -> Duty:
    """The duty after a start: the same shift, trip and stop as before a power cut, or a new shift.

    ``last(kind)``: what the ledger says last of each kind.
    """
    opened, closed = last(Kind.SHIFT_OPEN), last(Kind.SHIFT_CLOSE)
    if opened is None or _comes_after(closed, opened):
        return Duty(operator, vehicle, opened.place.shift + 1 if opened else 1, coming=tuple(trips))
    duty = Duty(operator, vehicle, opened.place.shift, coming=tuple(trips))
    begun, ended, moved = last(Kind.TRIP_OPEN), last(Kind.TRIP_CLOSE), last(Kind.STOP_SET)
    if not _comes_after(begun, opened) or begun is None:
        return duty
    names = [trip.id for trip in trips]
    if begun.place.trip not in names:
        return duty
    place = names.index(begun.place.trip)
    duty = replace(duty, coming=tuple(trips[place + 1 :]))
    if _comes_after(ended, begun):
        return duty
    trip = trips[place]
    at = int(moved.reason.removeprefix("call-")) if moved is not None and _comes_after(moved, begun) else 0
    return replace(duty, trip=trip, at=min(at, len(trip.calls) - 1), service_day=begun.place.service_day)


def by_timetable(duty: Duty, trips: Sequence[Trip]) -> Duty:
    """The duty between two trips, by another timetable: it goes on with the trip that would have come, or else the first after its time."""
    if not duty.coming:
        return duty
    first, names = duty.coming[0], [trip.id for trip in trips]
    departs_s = first.calls[0].departure_s
    later = (at for at, trip in enumerate(trips) if trip.calls[0].departure_s >= departs_s)
    place = names.index(first.id) if first.id in names else next(later, len(trips))
    return replace(duty, coming=tuple(trips[place:]))


def _comes_after(entry: Entry | None, earlier: Entry) -> bool:
    return entry is not None and entry.seq > earlier.seq


def _with_more_riders(armed: Armed, key: DriverKey) -> Armed:
    if key is DriverKey.PAIR:
        return ONE_ADULT if armed.riders > 1 else replace(armed, adults=2, children=0)
    adults, children = _WITH_ONE_MORE_CHILD[armed.adults, armed.children]
    return replace(armed, adults=adults, children=children)


def _keyed(duty: Duty, number: int) -> Armed:
    """What is armed after a number was keyed.

    A stop that this trip has not passed yet is no place to have got on: nothing is armed by it.
    """
    if duty.typing is DriverKey.TICKET:
        return replace(duty.armed, ticket=number)
    if duty.typing is DriverKey.FARE:
        return replace(duty.armed, fare_yen=number)
    return replace(duty.armed, boarded_at=number) if 1 <= number <= duty.at else duty.armed


def _turn_shift(duty: Duty) -> Pressed:
    if duty.on_shift:
        closing = (Kind.TRIP_CLOSE, Kind.SHIFT_CLOSE) if duty.trip else (Kind.SHIFT_CLOSE,)
        return Pressed(replace(used(duty), trip=None, at=0, on_shift=False), closing)
    return Pressed(replace(duty, shift=duty.shift + 1, on_shift=True), (Kind.SHIFT_OPEN,))


def _turn_trip(duty: Duty, service_day: int) -> Pressed:
    if duty.trip:
        return Pressed(replace(used(duty), trip=None, at=0), (Kind.TRIP_CLOSE,))
    if duty.coming and duty.on_shift:
        first, *rest = duty.coming
        return Pressed(replace(used(duty), trip=first, at=0, service_day=service_day, coming=tuple(rest)), (Kind.TRIP_OPEN,))
    return Pressed(duty)


def _move(duty: Duty, trip: Trip, by: int) -> Pressed:
    at = min(max(duty.at + by, 0), len(trip.calls) - 1)
    return Pressed(duty) if at == duty.at else Pressed(replace(used(duty), at=at), (Kind.STOP_SET,))


def _type(duty: Duty, key_press: KeyPress) -> Pressed:
    match key_press.key:
        case DriverKey.DIGIT if len(duty.typed) < MAX_TYPED_DIGITS:
            return Pressed(replace(duty, typed=f"{duty.typed}{key_press.digit}"))
        case DriverKey.ENTER if duty.typed:
            return Pressed(replace(duty, armed=_keyed(duty, int(duty.typed)), typing=None, typed=""))
        case DriverKey.CLEAR:
            return Pressed(replace(duty, typing=None, typed=""))
        case _:
            return Pressed(duty)
