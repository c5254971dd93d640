"""What one reading of a purse means for the ride: who owes what, and what was paid already (pure).

``decide`` answers with the event for the tap table, the entry that goes with it and what is said. It asks in this order, and the order is
the point:

    1. Is a debit of ours open for this rider? What the card says about it comes first: a debit that was done is *paid*, whatever else has
       changed meanwhile (``drivers.cards.purse.compare`` has the reasoning). Only when it is proven undone is the ride judged afresh.
    2. Has an UNKNOWN of an earlier trip become known? It is settled by an entry that points at it, and the ride is judged afresh.
    3. Do the counters make sense, and is the card welcome?
    4. Was this ride paid already? The same card on the same trip inside the operator's window never pays again by itself, whatever is
       armed, except for the second person of an armed pair. A frightened rider who taps three times pays once.
    5. Where did the rider get on, and what does it cost? Then points first, the rest in cash, as the scheme says.

"On the same trip" is looked up among PAID entries, those RESOLVED as paid, and FREE ones. When a time cannot be compared (another boot,
clock unset) the entry counts as inside the window: an unknown age must not take points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, tzinfo

from drivers.cards.purse import Counters, PurseReading, RegLog, compare, debited
from drivers.cards.purse import Outcome as Debit
from drivers.devices.clock import ClockState, Instant
from fares.operator import KnownBy, Operator
from fares.ride import Flag, NeedsDriver, NoFare, Priced, Reason, Ride, price_ride
from fares.scheme import Question, Scheme
from fares.table import FareTable
from ledger.entry import Entry, Fare, Flags, Intent, Kind, Medium, Outcome, Place, Versions, When
from validator.messages import Message, Shown
from validator.tap import Event
from validator.trip import Armed, Duty

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FLAGS = {Flag.AMBIGUOUS: Flags.AMBIGUOUS_PRICE, Flag.ORIGIN: Flags.ORIGIN_FARE, Flag.DRIVER: Flags.DRIVER_FARE}
_KNOWN_DEBIT = {
    Debit.DONE: Outcome.PAID,
    Debit.NOT_DONE: Outcome.UNPAID,
    Debit.OTHERS_NOT_OURS: Outcome.UNPAID,
}
_WHERE_FROM = frozenset({Reason.BOARDING_UNKNOWN, Reason.UNKNOWN_TICKET, Reason.NOT_FORWARD})
"""What the rider can tell the driver: where they got on. Anything else is about the fare."""

LOG_KIND_RIDE = 1
"""The last byte of REGC: a ride."""

PAIR = 2
"""From this many armed riders on, a tap pays for several people."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """The rules in force, one of each: compiled fare table, the operator's decisions, the city's scheme."""

    table: FareTable
    operator: Operator
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and when the card was laid down. ``terminal``: u24; ``zone``: local time of the operator."""

    duty: Duty
    now: Instant
    zone: tzinfo
    terminal: int
    versions: Versions

    @property
    def when(self) -> When:
        """The moment, as an entry writes it."""
        return When(self.now.boot, self.now.mono_ms, self.now.utc_ms, int(self.now.state))

    @property
    def day(self) -> date | None:
        """The open trip's service day; None when it was opened with the clock unset."""
        return date.fromordinal(_EPOCH_DAY + self.duty.service_day) if self.duty.service_day else None


@dataclass(frozen=True, slots=True)
class Known:
    """What this terminal's ledger and lists know of a rider.

    ``intent``: a debit of ours whose outcome is not booked. ``unknown``: UNKNOWN entries not yet resolved. ``rode``: entries of the open
    trip, newest first, that need no second payment: PAID, RESOLVED as paid, FREE. ``boarded``: OPEN on this trip. ``unpriced``: UNPRICED
    on this trip. ``blocked``: on the deny list.
    """

    intent: Intent | None = None
    unknown: Sequence[Entry] = ()
    rode: Sequence[Entry] = ()
    boarded: Entry | None = None
    unpriced: Entry | None = None
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """All that bears on a tap and does not hang on what the card says: it can be had while the card is still busy. Made by ``outlook``.

    ``rode``: this card's rides on this trip that the operator's window still covers. ``adults`` and ``children`` are still to be paid for.
    """

    known: Known
    scene: Scene
    tariff: Tariff
    rode: Sequence[Entry]
    adults: int
    children: int
    price: Priced | NeedsDriver | NoFare


def outlook(known: Known, scene: Scene, tariff: Tariff) -> Outlook:
    """Who is still to be paid for, and what their ride costs."""
    rode = [entry for entry in known.rode if _inside_window(entry, scene, tariff.operator)]
    adults, children = _riders_to_price(rode, scene.duty.armed)
    duty = scene.duty
    ride = Ride(
        route=duty.trip.route if duty.trip else "",
        trip=duty.trip.id if duty.trip else "",
        boarding=duty.boarded_at or (known.boarded.place.boarding if known.boarded else None),
        alighting=duty.stop or None,
        adults=adults,
        children=children,
        driver_fare=duty.armed.fare_yen,
        day=scene.day,
        ticket=duty.armed.ticket,
    )
    return Outlook(known, scene, tariff, rode, adults, children, price_ride(tariff.table, tariff.operator, ride))


def _inside_window(entry: Entry, scene: Scene, operator: Operator) -> bool:
    now, then = scene.when, entry.when
    window_ms = operator.already_paid_min * 60_000
    if now.boot == then.boot:
        return now.mono_ms - then.mono_ms <= window_ms
    if ClockState.UNSET in (now.clock, then.clock):
        return True
    return now.utc_ms - then.utc_ms <= window_ms


def _riders_to_price(rode: Sequence[Entry], armed: Armed) -> tuple[int, int]:
    """Adults and children still to be paid for: of an armed pair, those not paid before on this trip, and never more than are left."""
    paid = [entry.fare for entry in rode] if armed.riders >= PAIR else []
    due = max(0, armed.riders - sum(fare.adults + fare.children for fare in paid))
    children = min(max(0, armed.children - sum(fare.children for fare in paid)), due)
    return (due - children, children) if due else (armed.adults, armed.children)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reading means: the event for the tap table, the entry that the row's effect stores, what is said, and REGC of a debit."""

    event: Event
    says: Shown | None = None
    entry: Entry | None = None
    log: RegLog | None = None


def decide(reading: PurseReading, outlook: Outlook) -> Decision:
    """Judge one reading; the order of the questions opens this file."""
    case = _Case(reading, outlook.known, outlook.scene, outlook.tariff, outlook)
    return case.open_debit() or case.old_unknown() or case.unwelcome() or case.paid_before() or case.boarding() or case.charge()


def proven(entry: Entry, now: Counters) -> tuple[Event, Entry]:
    """What the counters read after a debit say of it, and the entry with those counters."""
    medium = entry.medium
    if medium is None or medium.before is None or medium.after is None:
        raise ValueError("an intent without counters cannot be judged")
    match compare(medium.before, medium.after, now):
        case Debit.DONE:
            return Event.DONE, replace(entry, medium=replace(medium, after=now))
        case Debit.NOT_DONE:
            return Event.UNDONE, entry
        case _:
            return Event.NONSENSE, entry


def renewed(decision: Decision, reading: PurseReading) -> Decision:
    """The same debit for counters read afresh, after the first try was proven undone."""
    entry, log = decision.entry, decision.log
    if entry is None or entry.medium is None or log is None:
        raise ValueError("only a debit can be renewed")
    medium = replace(entry.medium, before=reading.counters, after=debited(reading, entry.fare.points, log))
    return replace(decision, entry=replace(entry, medium=medium))


def service_day(now: Instant, zone: tzinfo, operator: Operator) -> int:
    """Days since 1970-01-01 of the service day that it is now; 0 while the clock is unset."""
    if now.state is ClockState.UNSET:
        return 0
    return operator.service_day(datetime.fromtimestamp(now.utc_ms / 1000, zone)).toordinal() - _EPOCH_DAY


def same_run(one: Place, other: Place) -> bool:
    """Whether two entries belong to the same run of a vehicle: a trip's name comes back every day, a shift's number does not."""
    return (one.trip, one.service_day, one.shift) == (other.trip, other.service_day, other.shift)


@dataclass(frozen=True, slots=True)
class _Case:
    """One reading with everything that bears on it; each method is one question and answers None when it has nothing to say."""

    reading: PurseReading
    known: Known
    scene: Scene
    tariff: Tariff
    outlook: Outlook

    # ── 1. a debit of ours that is still open ──
    def open_debit(self) -> Decision | None:
        intent = self.known.intent
        medium = intent.entry.medium if intent else None
        if intent is None or medium is None or medium.before is None or medium.after is None:
            return None
        here = same_run(intent.entry.place, self.scene.duty.place())
        match compare(medium.before, medium.after, self.reading.counters):
            case Debit.DONE:
                entry = replace(
                    intent.entry,
                    when=self.scene.when,
                    flags=intent.entry.flags | Flags.RECOVERED,
                    medium=replace(medium, after=self.reading.counters),
                )
                values: dict[str, int | str] = {"points": entry.fare.points, "balance": self.reading.balance}
                return Decision(Event.RECOVERED if here else Event.OLD_KNOWN, Shown(Message.RECOVERED, values), entry)
            case Debit.OTHERS_UNSURE:
                entry = self._unknown(intent, "others-debited")
                return Decision(Event.UNSURE if here else Event.OLD_KNOWN, Shown(Message.CHECK_LATER), entry)
            case Debit.NONSENSE:
                return Decision(Event.DAMAGED, Shown(Message.DAMAGED_CARD), self._unknown(intent, "nonsense"))
            case Debit.NOT_DONE | Debit.OTHERS_NOT_OURS:
                return None

    def _unknown(self, intent: Intent, reason: str) -> Entry:
        return replace(intent.entry, kind=Kind.UNKNOWN, when=self.scene.when, reason=reason)

    # ── 2. a debit that was noted as unknown ──
    def old_unknown(self) -> Decision | None:
        for entry in self.known.unknown:
            medium = entry.medium
            if medium is None or medium.before is None or medium.after is None:
                continue
            debit = compare(medium.before, medium.after, self.reading.counters)
            outcome = _KNOWN_DEBIT.get(debit)
            if debit is Debit.NONSENSE and self._not_repaired(medium):
                return Decision(Event.DAMAGED, Shown(Message.DAMAGED_CARD), self._entry(Kind.REFUSED, reason="damaged"))
            if outcome is not None:
                resolved = replace(entry, kind=Kind.RESOLVED, when=self.scene.when, outcome=outcome, ref=entry.seq, reason="")
                return Decision(Event.OLD_KNOWN, None, resolved)
            if same_run(entry.place, self.scene.duty.place()):
                return Decision(Event.UNSURE_BEFORE, Shown(Message.CHECK_LATER))
        return None

    def _not_repaired(self, medium: Medium) -> bool:
        """No desk has given this card a grant since: a torn purse is repaired by raising what was granted."""
        return self.reading.grant is None or self.reading.grant.number <= medium.grant_number

    # ── 3. cards that may not pay ──
    def unwelcome(self) -> Decision | None:
        if self.reading.damaged:
            return Decision(Event.DAMAGED, Shown(Message.DAMAGED_CARD), self._entry(Kind.REFUSED, reason="damaged"))
        if self.known.blocked:
            return Decision(Event.BLOCKED, Shown(Message.BLOCKED_CARD), self._entry(Kind.REFUSED, reason="deny-list"))
        return None

    # ── 4. paid already ──
    def paid_before(self) -> Decision | None:
        inside = self.outlook.rode
        if not inside or self._riders_due(inside) > 0:
            return None
        if inside[0].kind is Kind.FREE:
            return Decision(Event.PAID_BEFORE, Shown(Message.FREE))
        at = datetime.fromtimestamp(inside[0].when.utc_ms / 1000, self.scene.zone)
        values: dict[str, int | str] = {"hour": at.hour, "minute": at.minute, "balance": self.reading.balance}
        return Decision(Event.PAID_BEFORE, Shown(Message.ALREADY_PAID, values))

    def _riders_due(self, paid: Sequence[Entry]) -> int:
        """Riders still to be paid for: only an armed pair asks for more than what was paid."""
        armed = self.scene.duty.armed
        if armed.riders < PAIR:
            return 0
        return armed.riders - sum(entry.fare.adults + entry.fare.children for entry in paid)

    # ── 5. boarding ──
    def boarding(self) -> Decision | None:
        duty = self.scene.duty
        policy = self.tariff.operator.policy(duty.trip.route if duty.trip else "")
        armed = duty.armed
        if policy.known_by is not KnownBy.BOARDING_TAP or any(
            told is not None for told in (armed.fare_yen, armed.ticket, armed.boarded_at)
        ):
            return None
        if self.known.boarded is None:
            entry = self._entry(Kind.OPEN, boarding=duty.stop)
            return Decision(Event.BOARDING, Shown(Message.BOARDED), entry)
        if self.known.boarded.place.boarding == duty.stop:
            return Decision(Event.BOARDED_BEFORE, Shown(Message.BOARDED))
        return None

    # ── 6. the price, and who pays it ──
    def charge(self) -> Decision:
        match self.outlook.price:
            case Priced() as priced:
                return self._charged(priced)
            case NeedsDriver(reason):
                return self._unpriced(reason, Message.ASK_DRIVER if reason in _WHERE_FROM else Message.ASK_FARE)
            case NoFare(reason):
                return self._unpriced(reason, Message.UNPRICED)

    def _unpriced(self, reason: Reason, says: Message) -> Decision:
        if self.known.unpriced is not None:
            return Decision(Event.NO_PRICE_BEFORE, Shown(says))
        return Decision(Event.NO_PRICE, Shown(says), self._entry(Kind.UNPRICED, reason=reason.value))

    def _charged(self, priced: Priced) -> Decision:
        policy = self.tariff.operator.policy(self.scene.duty.trip.route if self.scene.duty.trip else "")
        # Who pays for a second person now is not riding free a second time: the holder's own ride is booked already.
        holder = 0 if self.outlook.rode else priced.holder
        question = Question(priced.yen, holder, self.reading.balance, self.scene.day, policy.lines)
        due = self.tariff.scheme.decide(question)
        fare = Fare(priced.yen, due.points, due.cash, self.outlook.adults, self.outlook.children)
        flags = Flags.NONE
        for flag in priced.flags:
            flags |= _FLAGS[flag]
        answers = self.known.boarded or self.known.unpriced
        paid = self._entry(Kind.PAID, fare=fare, flags=flags, boarding=priced.boarding, ref=answers.seq if answers else 0)
        if due.points:
            log = RegLog(self.scene.terminal, self.scene.now.utc_ms // 1000 & 0xFFFFFFFF, LOG_KIND_RIDE)
            after = debited(self.reading, due.points, log)
            medium = None if paid.medium is None else replace(paid.medium, after=after)
            return Decision(Event.DUE, _receipt(fare, self.reading.balance - due.points), replace(paid, medium=medium), log)
        if due.cash:
            receipt = Shown(Message.COMPANION_CASH, {"cash": due.cash}) if due.free else _receipt(fare, self.reading.balance)
            return Decision(Event.CASH_ONLY, receipt, paid)
        return Decision(Event.NOTHING_DUE, Shown(Message.FREE), replace(paid, kind=Kind.FREE))

    # ── the entry all decisions share ──
    def _entry(
        self, kind: Kind, *, fare: Fare | None = None, flags: Flags = Flags.NONE, boarding: str = "", reason: str = "", ref: int = 0
    ) -> Entry:
        scene, reading, armed = self.scene, self.reading, self.scene.duty.armed
        unset = Flags.CLOCK_UNSET if scene.now.state is ClockState.UNSET else Flags.NONE
        return Entry(
            kind=kind,
            when=scene.when,
            place=scene.duty.place(boarding),
            medium=Medium(
                rider=reading.rider,
                granted=reading.granted,
                grant_number=reading.grant.number if reading.grant else 0,
                grant=reading.grant.digest if reading.grant else b"",
                before=reading.counters,
                after=reading.counters,
            ),
            fare=fare or Fare(adults=armed.adults, children=armed.children),
            versions=replace(scene.versions, card_key=reading.session.key_version),
            flags=flags | unset,
            reason=reason,
            ref=ref,
        )


def _receipt(fare: Fare, balance: int) -> Shown:
    """What is said when it is paid."""
    riders = fare.adults + fare.children
    values: dict[str, int | str] = {"points": fare.points, "cash": fare.cash, "balance": balance, "riders": riders}
    if not fare.points:
        return Shown(Message.CASH, values)
    if fare.cash:
        return Shown(Message.PAID_AND_CASH, values)
    return Shown(Message.PAID_PAIR if riders >= PAIR else Message.PAID, values)
