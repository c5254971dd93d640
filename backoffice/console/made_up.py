"""A small town that never was, as its books: for the pictures in ``docs/``, for showing the pages to a clerk, and for tests. Pure.

Everything that a page can say is said by something here. All times hang on one moment, ``NOW_MS``.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, timezone

from backoffice.bill import Bill, Closed, Month, Movement, Remarks, Terms, bill
from backoffice.book import PostingKind
from backoffice.city import BooksAway
from backoffice.console.facts import (
    Accounts,
    Alarm,
    Gaps,
    Grant,
    Lost,
    Missing,
    Reading,
    Ride,
    Rider,
    Sort,
    Tick,
    Trouble,
    Troubles,
    Vehicle,
    Waiting,
)
from backoffice.health import Condition
from drivers.devices.clock import ClockState
from ledger.counts import Counts
from ledger.entry import Kind, Outcome, Versions, When
from ledger.notes import BROKEN, NOT_TESTED, PARTS, WORKS, Heartbeat

ZONE = timezone(timedelta(hours=9))
NOW = datetime(2026, 11, 24, 10, 32, tzinfo=ZONE)
NOW_MS = int(NOW.timestamp() * 1000)
CARD = bytes.fromhex("0123456789ABCDEF")
"""The card that these books know, by its IDm. ``EVEN_CARD``: one whose purse and books agree."""
EVEN_CARD = bytes.fromhex("0123456789ABCD00")

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


_NAMES = {"kita": "北みなと交通", "minato": "みなと町営バス"}
_FIRST_MONTH = Month(2026, 4)
_TERMS = Terms(ZONE, time(5), 14, lambda _: 1)
_SAID = (Tick(NOW_MS - 20 * _HOUR, done=True, clerk="ito", note="事業者へ電話。車載機を外して保管してもらった。"),)
_ALARMS = (
    Trouble(
        Sort.ALARM, "conflict", "港09", 2, 77, NOW_MS - 2 * _HOUR, "Entry 77 is here with other content; the first one stands.", alarm=1
    ),
    Trouble(
        Sort.ALARM, "conflict", "港09", 2, 78, NOW_MS - 2 * _HOUR, "Entry 78 is here with other content; the first one stands.", alarm=2
    ),
    Trouble(Sort.ALARM, "chain", "港09", 2, 76, NOW_MS - 22 * _HOUR, "The chain before this entry is told in two ways.", alarm=3),
)


def rider_of(medium: bytes) -> bytes:
    """What stands for the vault here: the pseudonym of a card of this town."""
    return medium[::-1]


@dataclass(frozen=True, slots=True)
class MadeUpBooks:
    """The town's books; ``dark``: they do not answer; ``whole``: the same town on a day on which nothing is wrong.

    ``said``: what clerks said about alarms, by their numbers; the one thing here that changes.
    """

    dark: bool = False
    whole: bool = False
    said: dict[int, tuple[Tick, ...]] = field(default_factory=lambda: {3: _SAID})

    def vehicles(self, now_ms: int, today: date) -> tuple[Vehicle, ...]:
        del now_ms, today
        self._open()
        if self.whole:
            return tuple(_vehicle(number, taps=40 - number) for number in range(1, 6))
        return (
            _vehicle(1, taps=41),
            replace(_vehicle(2, taps=38), holes=1),
            _vehicle(3, taps=0, broken="antenna"),
            _vehicle(4, taps=0, quiet_ms=4 * _DAY + 3 * _HOUR),
            _vehicle(5, taps=12, untested="sound"),
            replace(_vehicle(6, taps=9), next_seq=9_350),
            _vehicle(7, taps=0),
            _vehicle(10, taps=33, counts=(("oom-kills", 2), ("other-warnings", 9), ("station-starts", 8))),
            replace(_vehicle(8, taps=0), condition=Condition(8, "港08", NOW_MS - 6 * _DAY), epoch=0, next_seq=1),
            replace(_vehicle(9, taps=0, quiet_ms=80 * _DAY), revoked=True),
        )

    def gaps(self) -> Gaps:
        self._open()
        if self.whole:
            return Gaps((), (), ())
        return Gaps(
            (Missing("港02", 1, 8_411, 8_436, NOW_MS - 50 * _MINUTE), Missing("港06", 1, 11_850, 11_850, NOW_MS - 3 * _HOUR)),
            (Waiting("港02", 1, 8_437, 8_502),),
            (
                Lost("港04", 3, 210, 388, "rolled-back", NOW_MS - 20 * _DAY),
                Lost("港09", 1, 5_021, 0, "unreadable", NOW_MS - 80 * _DAY),
            ),
        )

    def troubles(self, limit: int) -> Troubles:
        self._open()
        if self.whole:
            return Troubles((), 0)
        alarms = tuple(Alarm(trouble, self.said.get(trouble.alarm, ())) for trouble in _ALARMS)
        found = (
            *(each.trouble for each in alarms if not each.done),
            Trouble(Sort.REJECT, "malformed", "港05", 1, 3_310, NOW_MS - 5 * _HOUR, "Field 4 of the entry is no whole number."),
            Trouble(Sort.HELD, "later", "港02", 1, 8_450, NOW_MS - 40 * _MINUTE, "Version 2 of an entry."),
        )
        return Troubles(found[:limit], len(found), tuple(each for each in alarms if each.done))

    def alarm(self, number: int) -> Alarm | None:
        self._open()
        return next((Alarm(each, self.said.get(number, ())) for each in _ALARMS if each.alarm == number), None)

    def tick(self, alarm: int, seen: int, tick: Tick) -> bool:
        self._open()
        before = self.said.get(alarm, ())
        if len(before) != seen:
            return False
        self.said[alarm] = (*before, tick)
        return True

    def rider(self, rider: bytes, limit: int) -> Rider | None:
        self._open()
        if rider not in {rider_of(CARD), rider_of(EVEN_CARD)}:
            return None
        rides = _rides()
        booked = sum(ride.points for ride in rides if _counts(ride))
        even = rider == rider_of(EVEN_CARD)
        if even:
            rides = tuple(ride for ride in rides if ride.kind is not Kind.UNKNOWN)
        spent = booked if even else booked + 100
        reading = Reading(rides[0].at_ms, rides[0].vehicle, 4_200, spent)
        grants = (
            Grant(2026, 3, 200, correction=True, at_ms=_at(2026, 4, 15, 14, 20)),
            Grant(2026, 2, 2_000, correction=False, at_ms=_at(2026, 4, 1, 9, 0)),
            Grant(2025, 1, 2_000, correction=False, at_ms=_at(2025, 4, 1, 9, 0)),
        )
        return Rider(rides[:limit], len(rides), grants, booked, 0 if even else 1, 0 if even else 100, reading)

    def month(self, month: Month, now_ms: int) -> Accounts:
        self._open()
        bills = tuple(_bill(operator, month, now_ms) for operator in _NAMES) if month >= _FIRST_MONTH else ()
        closed = list[tuple[str, Closed]]()
        each = _FIRST_MONTH
        while _TERMS.closes_ms(each) <= now_ms:
            at_ms = _TERMS.closes_ms(each) + 4 * _HOUR
            told = [_bill(operator, each, at_ms) for operator in _NAMES]
            closed += [(one.whose, Closed(one.operator, each, at_ms, one.rides, one.points, one.yen)) for one in told]
            each = each.following
        return Accounts(bills, tuple(reversed(closed)))

    def _open(self) -> None:
        if self.dark:
            raise BooksAway


def _bill(operator: str, month: Month, as_of_ms: int) -> Bill:
    """A month with every kind of line that a clerk meets; the north has no free line."""
    large = operator == "minato"
    share = 4 if large else 1
    days = range(month.first_day, month.last_day + 1)
    moves = [
        move
        for day in days
        for move in (
            Movement(day, _day_ms(day), PostingKind.POINTS, 0, share * 4_340 + day % 7 * 10, share * 35 - day % 5),
            Movement(day, _day_ms(day), PostingKind.CASH, 0, 1_275, 9),
            Movement(day, _day_ms(day), PostingKind.CASH, 0, 200, 1, alone=True),
            *((Movement(day, _day_ms(day), PostingKind.FREE, 0, 3_050, 20),) if large else ()),
        )
    ]
    moves.append(Movement(month.first_day - 3, _day_ms(month.first_day + 20), PostingKind.POINTS, 0, 420, 3))
    moves.append(Movement(month.first_day + 4, _day_ms(month.first_day + 9), PostingKind.POINTS, 1, 150))
    remarks = Remarks(unknown=2, unknown_points=250, missing=27) if large and as_of_ms < _TERMS.closes_ms(month) else Remarks()
    return replace(bill(operator, month, moves, _TERMS, as_of_ms, remarks=remarks), name=_NAMES[operator])


def _day_ms(day: int) -> int:
    """That evening, when its rides had come."""
    return day * _DAY + 11 * _HOUR


def _vehicle(number: int, taps: int, quiet_ms: int = 0, *, broken: str = "", untested: str = "", counts: Counts = ()) -> Vehicle:
    head = 8_000 + 400 * number
    contact = NOW_MS - number * _MINUTE - quiet_ms
    state = {broken: BROKEN, untested: NOT_TESTED}
    selftest = tuple((part, state.get(part, WORKS)) for part in PARTS)
    at = When(3, 7 * _HOUR, contact, ClockState.NTP)
    versions = Versions(software="1.0.3")
    beat = Heartbeat(number, 1, head, bytes(32), at, selftest, 900_000_000, versions, "1.0.3", counts, 28 * 3600 if counts else 0)
    before = 55 if number == 7 else taps + 3
    condition = Condition(number, f"港{number:02}", NOW_MS - 300 * _DAY, contact, beat, contact, taps, before)
    return Vehicle(condition, "みなと町営バス", revoked=False, epoch=1, next_seq=head - number + 2, holes=0)


def _at(year: int, month: int, day: int, hour: int, minute: int) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=ZONE).timestamp() * 1000)


def _counts(ride: Ride) -> bool:
    return ride.kind is Kind.PAID or (ride.kind is Kind.RESOLVED and ride.outcome is Outcome.PAID)


def _rides() -> tuple[Ride, ...]:
    return (
        replace(_ride(NOW_MS - 12 * _MINUTE, Kind.FREE, (150, 0, 0), 3_200), route="G1", vehicle="港05"),
        _ride(NOW_MS - 95 * _MINUTE, Kind.UNKNOWN, (150, 100, 50), None),
        replace(_ride(_at(2026, 11, 21, 15, 40), Kind.PAID, (250, 250, 0), 3_300), recovered=True),
        replace(_ride(_at(2026, 11, 21, 9, 12), Kind.RESOLVED, (200, 200, 0), 3_550), outcome=Outcome.PAID),
        replace(_ride(_at(2026, 11, 20, 14, 3), Kind.RESOLVED, (200, 200, 0), 3_750), outcome=Outcome.UNPAID),
        replace(_ride(_at(2026, 11, 18, 8, 55), Kind.FREE, (150, 0, 0), 3_750), route="G1"),
        _ride(_at(2026, 11, 16, 10, 2), Kind.PAID, (400, 300, 100), 3_750),
        _ride(_at(2026, 11, 15, 10, 2), Kind.UNPRICED, (0, 0, 0), 4_050),
        _ride(_at(2026, 3, 30, 10, 2), Kind.PAID, (150, 150, 0), 1_850),
        _ride(_at(2026, 3, 28, 11, 45), Kind.REFUSED, (0, 0, 0), None),
    )


def _ride(at_ms: int, kind: Kind, yen: tuple[int, int, int], left: int | None) -> Ride:
    day = (datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZONE).date() - date(1970, 1, 1)).days
    where = ("港02", "minato", "M1", "みなと町", "市民病院前")
    return Ride(at_ms, day, kind, Outcome.NONE, *where, *yen, left)
