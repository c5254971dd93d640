"""Drives the tap table with a reader, a ledger and a presenter.

The station performs what a row says and comes back with the next event. It has no opinion about money: what a reading means is
``validator.journey``'s, what happens next is ``validator.tap``'s. One thread; the whole card session runs to its end here, with no queue
between two exchanges. Between taps it turns: the driver's keys, one poll, the idle picture, and the ledger's housekeeping when nobody is
near. Between two trips it also takes in what the city sent down (``validator.rulebook``).

It is written so that the loop cannot die of anything outside: a reader that is gone is polled for again, a ledger that is full, fails or
cannot even be asked is shown and said, a screen that is gone is not waited for.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

from drivers.cards import purse
from drivers.cards.purse import NoGoodGrant, PurseReading
from drivers.channel import Channel
from drivers.devices.clock import Clock, ClockState
from drivers.devices.keypad import DriverKey, Keypad, KeyPress
from drivers.errors import CardError, CardLost, CardRefused, MalformedReply, NotAuthentic, ReaderLost
from drivers.reader import Reader
from drivers.vault import GrantChecker, Vault
from ledger.book import Book
from ledger.entry import Entry, Intent, Kind, Versions
from ledger.errors import Full, NotStored, StoreRolledBack
from ledger.letterbox import StationsSide
from ledger.notes import BROKEN, NOT_TESTED, PARTS, WORKS, Heartbeat
from validator.field import Field, look, touch_again
from validator.journey import Decision, Known, Outlook, Scene, Tariff, decide, outlook, proven, renewed, same_run, service_day
from validator.messages import Message, Presenter, Shown
from validator.rulebook import InForce, Rulebook
from validator.tap import RESULT, TABLE, Do, Event, Row, State, Table, step
from validator.trip import Duty, by_timetable, call_reason, press, used

log = logging.getLogger(__name__)

OUR_CHIPS = (0xF1, 0xF2)
"""PMm IC types that can be a purse of ours: Lite-S, and FeliCa Link in Lite-S mode. Any other card is foreign and is not spoken to."""

MAX_ROWS_PER_TAP = 64
MAX_DEBITS_PER_TAP = 2
IDLE_POLL_GAP_NS = 10_000_000
RESULT_STAYS_NS = 4_000_000_000
QUIET_BEFORE_CHECKPOINT_NS = 5_000_000_000
REVIVE_GAP_NS = 1_000_000_000
RECORD_GAP_NS = 10_000_000_000
REPORT_GAP_NS = 20_000_000_000
LETTERS_GAP_NS = 5_000_000_000
RULES_GAP_NS = 5_000_000_000
FORGET_GAP_NS = 600_000_000_000
DAY_MS = 86_400_000
ASKS_FOR_ANOTHER_TOUCH = frozenset({Message.HOLD_AGAIN, Message.HOLD_AGAIN_UNSURE})
CLOSES = frozenset({Kind.TRIP_CLOSE, Kind.SHIFT_CLOSE, Kind.POWER_LOSS})
"""What is still unknown then becomes an UNKNOWN entry."""

USES_WHAT_WAS_ARMED = frozenset({"paid", "noted"})


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a station is made of.

    ``random(n)``: n bytes nobody can guess. ``blocked(rider)``: on the deny list. ``letterbox``: None where no courier is. ``parts()``: how
    the parts of ``ledger.notes.PARTS`` do that the station itself does not know. ``rulebook``: None where the rules never change.
    ``new_shift()``: called before a shift is opened; from there on the clock may be set back. ``image``: the name of what runs, short.
    """

    reader: Reader
    vault: Vault
    grants: GrantChecker
    ledger: Book
    presenter: Presenter
    keypad: Keypad
    clock: Clock
    random: Callable[[int], bytes]
    blocked: Callable[[bytes], bool]
    letterbox: StationsSide | None = None
    parts: Callable[[], Mapping[str, int]] = dict[str, int]
    rulebook: Rulebook | None = None
    new_shift: Callable[[], None] = lambda: None
    image: str = "-"


@dataclass(frozen=True, slots=True)
class Terms:
    """What it decides with.

    ``terminal``: u24, also the ledger's device; ``zone``: the operator's local time. ``keep_days``: what the city has stays here that long.
    """

    tariff: Tariff
    terminal: int
    zone: tzinfo
    versions: Versions
    keep_days: int = 60


class Stranded(Exception):
    """The tap table ended in a state from which nothing goes on: our fault."""

    def __init__(self, row: Row) -> None:
        super().__init__(f"row '{row.name}' of the tap table ends in {row.target.value}, and nothing goes on from there")


@dataclass(slots=True)
class _Tap:
    """One tap on its way through the table. ``intended``: the ledger holds an open intent of this rider."""

    row: Row
    channel: Channel | None = None
    reading: PurseReading | None = None
    decision: Decision | None = None
    debits: int = 0
    outlook: Outlook | None = None
    intended: bool = False
    trail: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.trail.append(self.row.name)

    def go(self, row: Row) -> None:
        """On to the next row."""
        self.row = row
        self.trail.append(row.name)

    def card(self) -> Channel:
        if self.channel is None:
            raise ValueError("the tap table asked for a card's effect without a card")
        return self.channel

    def decided(self) -> Decision:
        if self.decision is None:
            raise ValueError("the tap table asked for a decision's effect before there was a decision")
        return self.decision

    def read(self) -> PurseReading:
        if self.reading is None:
            raise ValueError("the tap table asked for a card's effect before the card was read")
        return self.reading

    def entry(self, row: Row | None = None) -> Entry:
        """The decision's entry, named after the row that stores it: this one, or ``row``."""
        entry = self.decided().entry
        if entry is None:
            raise ValueError("the tap table asked to store a decision that has no entry")
        return replace(entry, row=(row or self.row).name)


class Station:
    """A validator on duty. ``turn`` is one round; ``run`` turns until told to stop."""

    def __init__(self, equipment: Equipment, terms: Terms, duty: Duty, rows: Table = TABLE) -> None:
        self._rows = rows
        self.equipment = equipment
        self.terms = terms
        self.duty = duty
        self.taps = 0
        self._field = Field()
        self._said = Shown(Message.NO_TRIP)
        self._reader_ok = True
        self._reader_asked = False
        self._closing = False
        now = equipment.clock.monotonic_ns()
        self._idle_at_ns: int | None = now
        self._last_card_ns = now
        self._revive_at_ns = now
        self._record_start_at_ns: int | None = None
        self._report_at_ns = now
        self._letters_at_ns = now
        self._forget_at_ns = now
        self._rules_at_ns = now
        self._renew_at_ns: int | None = None  # the ledger is not the one the city has; no tap is taken
        self._effects: dict[Do, Callable[[_Tap], Event | None]] = {
            Do.READ: self._read,
            Do.DECIDE: self._decide,
            Do.INTEND: self._intend,
            Do.DEBIT: self._debit,
            Do.VERIFY: self._verify,
            Do.FIND: self._find,
            Do.BOOK: self._store_decision,
            Do.NOTE: self._store_decision,
            Do.WITHDRAW: self._withdraw,
        }

    @property
    def reader_answers(self) -> bool:
        """Whether the reader was asked and did answer."""
        return self._reader_asked and self._reader_ok

    @property
    def status(self) -> str:
        """What it is doing, as one line for people; nothing about a rider."""
        if not self._reader_ok:
            return "the reader does not answer; looked for each second"
        trip = f"on trip {self.duty.trip.id}" if self.duty.trip else "no trip is open"
        return f"{trip}; {self.taps} cards since the start"

    # ── the round ──

    def run(self, go_on: Callable[[], bool]) -> None:
        """Turn while ``go_on()``; between turns the line to the reader rests for a moment."""
        clock = self.equipment.clock
        while go_on():
            self.turn()
            clock.sleep_until_ns(clock.monotonic_ns() + IDLE_POLL_GAP_NS)

    def turn(self) -> None:
        """The driver's keys, one poll and the tap it finds, the idle picture, the ledger's housekeeping."""
        for key in self.equipment.keypad.pressed():
            self.press(key)
        self._look()
        self._rest()

    def press(self, key: KeyPress) -> None:
        """One key of the driver; none is obeyed any more once the end is recorded."""
        if self._closing:
            self._show(Shown(Message.CLOSING))
            return
        if key.key is DriverKey.REPEAT:
            self._show(self._said)
            return
        before = self.duty
        today = service_day(self.equipment.clock.now(), self.terms.zone, self.terms.tariff.operator)
        try:
            pressed = press(before, key, unsure=bool(self.equipment.ledger.intents()), service_day=today)
            if Kind.SHIFT_OPEN in pressed.notes:
                self.equipment.new_shift()
            for kind in pressed.notes:
                self._note_duty(kind, before if kind in CLOSES else pressed.duty)
        except (Full, NotStored):
            log.exception("a key of the driver could not be recorded; it is not obeyed")
            self._show(Shown(Message.LEDGER_FULL))
            return
        self.duty = pressed.duty
        if Kind.TRIP_CLOSE in pressed.notes:
            self._rules_at_ns = self.equipment.clock.monotonic_ns()  # the next trip may be opened any moment
        if pressed.says is not None:
            self._show(self._about() if pressed.says is Message.ABOUT else Shown(pressed.says))
        else:
            self._show_idle()

    def open_shift(self) -> None:
        """Record that the terminal started, and that a new shift is open unless this one was resumed.

        Debits that a power cut left open wait for their rider's next touch. A ledger without room does not keep the terminal from starting
        and saying so; the start is recorded as soon as there is room.
        """
        ledger = self.equipment.ledger
        self._record_start_at_ns = self.equipment.clock.monotonic_ns() + RECORD_GAP_NS
        try:
            ledger.append(self._duty_entry(Kind.BOOT, self.duty))
            opened = ledger.last(Kind.SHIFT_OPEN)
            if opened is None or opened.place.shift != self.duty.shift:
                ledger.append(self._duty_entry(Kind.SHIFT_OPEN, self.duty))
        except (Full, NotStored) as error:
            log.warning("the start could not be recorded: %s", error)
            self._show(Shown(Message.LEDGER_FULL))
        else:
            self._record_start_at_ns = None

    def close_shift(self, kind: Kind = Kind.SHIFT_CLOSE) -> None:
        """Take no more taps, name what is still unknown, record the end (SHIFT_CLOSE or POWER_LOSS).

        When the ledger fails, what is unknown stays an open intent, which the next start finds. The second time changes nothing.
        """
        if self._closing:
            return
        self._closing = True
        self._show(Shown(Message.CLOSING))
        try:
            self._note_duty(kind, self.duty)
        except (Full, NotStored) as error:
            log.warning("the end could not be recorded: %s", error)
        self._checkpoint()

    # ── the field ──

    def _look(self) -> None:
        if not self._reader_ok:
            self._revive()
            return
        try:
            cards = self.equipment.reader.poll()
        except ReaderLost as lost:
            log.warning("reader lost: %s", lost)
            self._reader_died()
            return
        self._reader_asked = True
        self._field, event = look(self._field, [card.idm for card in cards])
        if event is None:
            return
        self._last_card_ns = self.equipment.clock.monotonic_ns()
        if event is Event.CARD_SEEN:
            self.taps += 1
            self._walk(self._welcome(), cards[0])
        else:
            self._walk(event)

    def _welcome(self) -> Event:
        """CARD_SEEN, or why no card is taken now."""
        if self._closing:
            return Event.CLOSING
        return Event.CARD_SEEN if self.duty.trip else Event.NO_TRIP

    def _reader_died(self) -> None:
        self._reader_ok = False
        self._revive_at_ns = self.equipment.clock.monotonic_ns() + REVIVE_GAP_NS
        self._walk(Event.READER_DIED)

    def _revive(self) -> None:
        clock = self.equipment.clock
        if clock.monotonic_ns() < self._revive_at_ns:
            return
        self._revive_at_ns = clock.monotonic_ns() + REVIVE_GAP_NS
        if self.equipment.reader.revive():
            log.info("reader is back")
            self._reader_ok = True
            self._field = Field()
            self._walk(Event.READER_BACK)
            self._show_idle()

    # ── the table ──

    def _walk(self, event: Event, channel: Channel | None = None) -> None:
        """Walk the table from WAITING to WAITING."""
        clock = self.equipment.clock
        began_ns = clock.monotonic_ns()
        tap = _Tap(step(State.WAITING, event, self._rows), channel)
        for _ in range(MAX_ROWS_PER_TAP):
            following = self._perform(tap)
            if following is None:
                break
            tap.go(step(tap.row.target, following, self._rows))
        if tap.row.target is not State.WAITING:
            raise Stranded(tap.row)
        self._last_card_ns = clock.monotonic_ns()
        log.info("tap rows=%s took_ms=%.1f", ",".join(tap.trail), (self._last_card_ns - began_ns) / 1e6)

    def _perform(self, tap: _Tap) -> Event | None:
        following: Event | None = None
        if Do.READ not in tap.row.does:  # a card is greeted while it stores the challenge
            self._say(tap)
        for effect in tap.row.does:
            following = self._effect(effect, tap)
        if following is Event.READER_DIED:
            self._reader_ok = False
            self._revive_at_ns = self.equipment.clock.monotonic_ns()
        return following

    def _effect(self, effect: Do, tap: _Tap) -> Event | None:
        """Do it; a ledger that cannot even be read is an event like one that cannot be written."""
        try:
            return self._effects[effect](tap)
        except NotStored as error:
            log.warning("the ledger cannot be asked: %s", error)
            return Event.NOT_STORED

    def _say(self, tap: _Tap) -> None:
        says = tap.row.says
        if says is None:
            return
        shown = tap.decided().says if says is RESULT else Shown(says)
        if shown is None:
            return
        self._show(shown)
        if shown.message in ASKS_FOR_ANOTHER_TOUCH:
            self._field = touch_again(self._field)
        if tap.row.name in USES_WHAT_WAS_ARMED:
            self.duty = used(self.duty)

    # ── effects on the card ──

    def _read(self, tap: _Tap) -> Event:
        if tap.card().pmm[1] not in OUR_CHIPS:
            self._say(tap)
            return Event.FOREIGN
        try:
            tap.reading = self._read_purse(tap.card(), lambda: self._while_challenged(tap))
        except NoGoodGrant:
            return Event.BAD_GRANT
        except (CardError, ReaderLost) as error:
            return _card_event(error, refused=Event.UNREADABLE)
        return Event.PURSE_READ

    def _while_challenged(self, tap: _Tap) -> None:
        """What the card stores the challenge during: the rider waits for the card then, not for us."""
        self._say(tap)
        tap.outlook = self._outlook(self.equipment.vault.rider(tap.card().idm))

    def _read_purse(self, channel: Channel, meanwhile: Callable[[], None] = lambda: None) -> PurseReading:
        equipment = self.equipment
        return purse.read(channel, equipment.vault, equipment.grants, equipment.ledger.knows_grant, equipment.random, meanwhile=meanwhile)

    def _debit(self, tap: _Tap) -> Event:
        decision, entry = tap.decided(), tap.entry()
        if decision.log is None:
            raise ValueError("the tap table asked for a debit that was not decided")
        tap.debits += 1
        try:
            purse.debit(tap.card(), tap.read(), entry.fare.points, decision.log)
        except (CardError, ReaderLost) as error:
            return _card_event(error, refused=Event.WRITE_REFUSED)
        return Event.WRITTEN

    def _verify(self, tap: _Tap) -> Event:
        try:
            counters = purse.verify(tap.card(), tap.read(), meanwhile=lambda: self._expect_paid(tap))
        except (CardError, ReaderLost) as error:
            return _card_event(error, refused=Event.UNREADABLE)
        return self._judge(tap, counters)

    def _expect_paid(self, tap: _Tap) -> None:
        """Most debits are there: while the card says so, the ledger gets ready for the entry that the row after this one will store."""
        self.equipment.ledger.prepare(tap.entry(step(tap.row.target, Event.DONE, self._rows)))

    def _find(self, tap: _Tap) -> Event:
        """Whether the debit is there, by one fresh look for the same card."""
        idm = tap.card().idm
        try:
            tap.channel = next(card for card in self.equipment.reader.poll() if card.idm == idm)
            tap.reading = self._read_purse(tap.channel)
        except ReaderLost:
            return Event.READER_DIED
        except (StopIteration, CardError):
            return Event.NOT_FOUND
        event = self._judge(tap, tap.reading.counters)
        if event is not Event.UNDONE:
            return event
        if tap.debits >= MAX_DEBITS_PER_TAP:
            return Event.GAVE_UP
        tap.decision = renewed(tap.decided(), tap.reading)
        return Event.UNDONE

    def _judge(self, tap: _Tap, counters: purse.Counters) -> Event:
        event, entry = proven(tap.entry(), counters)
        tap.decision = replace(tap.decided(), entry=entry)
        return event

    # ── effects on the ledger ──

    def _decide(self, tap: _Tap) -> Event:
        reading = tap.read()
        ahead, tap.outlook = tap.outlook or self._outlook(reading.rider), None  # what is booked in between, a second decision must see
        tap.intended = ahead.known.intent is not None
        tap.decision = decide(reading, ahead)
        return tap.decision.event

    def _outlook(self, rider: bytes) -> Outlook:
        return outlook(self._known(rider), self._scene(self.duty), self.terms.tariff)

    def _known(self, rider: bytes) -> Known:
        ledger = self.equipment.ledger
        here = self.duty.place()
        on_run = [entry for entry in ledger.latest(rider) if same_run(entry.place, here)]
        return Known(
            intent=ledger.intent_of(rider),
            unknown=ledger.unknown_of(rider),
            rode=[entry for entry in on_run if entry.counts_as_paid or entry.kind is Kind.FREE],
            boarded=_still_aboard(on_run),
            unpriced=_newest(on_run, Kind.UNPRICED),
            blocked=self.equipment.blocked(rider),
        )

    def _intend(self, tap: _Tap) -> Event:
        event = self._stored(lambda: self.equipment.ledger.intend(Intent(tap.entry())))
        tap.intended = tap.intended or event is Event.STORED
        return event

    def _store_decision(self, tap: _Tap) -> Event:
        reading, entry, ledger = tap.read(), tap.entry(), self.equipment.ledger
        new_grant = reading.grant.digest if reading.grant and not reading.grant_known else None
        if not tap.intended:
            return self._stored(lambda: ledger.append(entry, new_grant))
        return self._stored(lambda: ledger.pay(reading.rider, entry, new_grant))

    def _withdraw(self, tap: _Tap) -> None:
        if not tap.intended:
            return
        try:
            self.equipment.ledger.withdraw(tap.read().rider)
            tap.intended = False
        except (Full, NotStored) as error:
            log.warning("an intent that was proven undone stays open: %s", error)

    @staticmethod
    def _stored(store: Callable[[], object]) -> Event:
        try:
            store()
        except Full:
            return Event.FULL
        except NotStored as error:
            log.warning("not stored: %s", error)
            return Event.NOT_STORED
        return Event.STORED

    # ── the duty ──

    def _note_duty(self, kind: Kind, duty: Duty) -> None:
        entry = self._duty_entry(kind, duty)
        if kind in CLOSES:
            self.equipment.ledger.expire_intents(entry.when)
        self.equipment.ledger.append(entry)

    def _duty_entry(self, kind: Kind, duty: Duty) -> Entry:
        reason = call_reason(duty) if kind is Kind.STOP_SET else ""
        return Entry(kind=kind, when=self._scene(duty).when, place=duty.place(), versions=self.terms.versions, reason=reason)

    def _scene(self, duty: Duty) -> Scene:
        return Scene(duty, self.equipment.clock.now(), self.terms.zone, self.terms.terminal, self.terms.versions)

    # ── light, sound, words ──

    def _show(self, shown: Shown) -> None:
        self.equipment.presenter.show(shown)
        self._said = self._said if shown.message is Message.SEEN else shown
        self._idle_at_ns = self.equipment.clock.monotonic_ns() + RESULT_STAYS_NS

    def _show_idle(self) -> None:
        """What the reader shows while nobody is near: what is armed, else the stop."""
        shown = self.duty.armed.shown() or Shown(Message.READY, self._stop())
        if self._closing:
            shown = Shown(Message.CLOSING)
        elif not self._reader_ok:
            shown = Shown(Message.OUT_OF_ORDER)
        elif self.duty.trip is None:
            shown = Shown(Message.NO_TRIP)
        self.equipment.presenter.show(shown)
        self._idle_at_ns = None

    def _about(self) -> Shown:
        """What a mechanic reads off a standing vehicle before he calls the office."""
        known = self.equipment.ledger.acknowledged()
        waiting = self.equipment.ledger.head().seq - (known.head.seq if known else 0)
        clock = ClockState(self._scene(self.duty).when.clock).name.lower()
        return Shown(Message.ABOUT, {"image": self.equipment.image, "unit": self.terms.terminal, "waiting": waiting, "clock": clock})

    def _stop(self) -> dict[str, int | str]:
        """The stop's name and, where the feed has it, its reading: a name is never read by guess."""
        if not self.duty.stop:
            return {}
        stop = self.terms.tariff.table.stop(self.duty.stop)
        return {"stop": stop.name, "stop_reading": stop.reading} if stop.reading else {"stop": stop.name}

    def _rest(self) -> None:
        now = self.equipment.clock.monotonic_ns()
        if self._idle_at_ns is not None and now >= self._idle_at_ns and not self._closing:
            self._show_idle()
        quiet = now - self._last_card_ns >= QUIET_BEFORE_CHECKPOINT_NS
        if quiet and self.equipment.ledger.needs_checkpoint():
            self._checkpoint()
        if self._record_start_at_ns is not None and now >= self._record_start_at_ns:
            self.open_shift()
        self._write_to_courier(now)
        if self._renew_at_ns is not None and now >= self._renew_at_ns:
            self._renew()
        elif quiet and now >= self._letters_at_ns:
            self._letters_at_ns = now + LETTERS_GAP_NS
            self._read_from_city()
        if self.duty.trip is None and not self._field.near and not self._closing and now >= self._rules_at_ns:
            self._rules_at_ns = now + RULES_GAP_NS
            self._change_rules(quiet=quiet)

    def _checkpoint(self) -> None:
        try:
            self.equipment.ledger.checkpoint()
        except NotStored as error:
            log.warning("the ledger's log could not be carried over: %s", error)

    # ── the city ──

    def _write_to_courier(self, now: int) -> None:
        """That the station turns, and how its parts do; the courier sends it."""
        letterbox = self.equipment.letterbox
        if letterbox is None or now < self._report_at_ns:
            return
        self._report_at_ns = now + REPORT_GAP_NS
        try:
            letterbox.report(self._state())
        except OSError as error:
            log.warning("the station's state could not be left for the courier: %s", error)

    def _state(self) -> Heartbeat:
        ledger, versions = self.equipment.ledger, self.terms.versions
        try:
            free, ledger_works = ledger.space().free, self._renew_at_ns is None and not ledger.space().low
        except NotStored:
            free, ledger_works = 0, False
        reader = WORKS if self._reader_ok else BROKEN
        # An antenna that has seen a card since the start works; one that has not may only have had no rider.
        mine = {"antenna": reader if self.taps or reader == BROKEN else NOT_TESTED, "reader": reader}
        states = {**self.equipment.parts(), **mine, "ledger": WORKS if ledger_works else BROKEN}
        selftest = tuple((part, states.get(part, NOT_TESTED)) for part in PARTS)
        head = ledger.head()
        when = self._scene(self.duty).when
        return Heartbeat(ledger.device, ledger.epoch, head.seq, head.hash, when, selftest, free, versions, versions.software)

    def _read_from_city(self) -> None:
        """One receipt into the ledger, or some old entries out of it: each a flush or two, in a moment without a card."""
        letterbox = self.equipment.letterbox
        if letterbox is None:
            return
        try:
            for waiting in letterbox.receipts()[:1]:
                self.equipment.ledger.acknowledge(waiting.receipt)
                letterbox.taken(waiting.name)
                return
            self._forget()
        except StoreRolledBack as error:
            log.warning("%s", error)
            self._renew()
        except (Full, NotStored, OSError) as error:
            log.warning("what the city sent could not be taken in: %s", error)

    # ── the rules ──

    def _change_rules(self, *, quiet: bool) -> None:
        """No trip is open and no card is near: what is due comes into force; when nobody was near for a while, a package is judged."""
        rulebook = self.equipment.rulebook
        try:
            if rulebook is None or self.equipment.ledger.intents():
                return
            if quiet and rulebook.judge_one():
                return  # one thing at a time
            rules = rulebook.turn()
        except (OSError, NotStored) as error:
            log.warning("what the city sent down could not be used: %s", error)
            return
        if rules is not None:
            self._obey(rules)
        self.note_alarms()

    def _obey(self, rules: InForce) -> None:
        self.equipment = replace(self.equipment, blocked=rules.blocked)
        self.terms = replace(self.terms, tariff=rules.tariff, versions=rules.versions)
        self.duty = by_timetable(self.duty, rules.trips)
        log.info("other rules are in force")

    def note_alarms(self) -> None:
        """What is wrong with packages goes into the ledger, where the city sees it; without room it waits."""
        rulebook = self.equipment.rulebook
        try:
            for alarm in rulebook.alarms() if rulebook else ():
                self.equipment.ledger.append(replace(self._duty_entry(Kind.ALARM, self.duty), reason=alarm.reason))
                alarm.forget()
        except (Full, NotStored, OSError) as error:
            log.warning("an alarm could not be recorded: %s", error)

    # ── old entries, and a new ledger ──

    def _forget(self) -> None:
        """Only the city's clock says that something is old: a clock of ours that jumps must not empty the ledger."""
        now, known = self.equipment.clock.monotonic_ns(), self.equipment.ledger.acknowledged()
        if known is None or now < self._forget_at_ns:
            return
        instant = self.equipment.clock.now()
        today_ms = known.issued_ms if instant.state is ClockState.UNSET else min(instant.utc_ms, known.issued_ms)
        if not self.equipment.ledger.forget(today_ms - self.terms.keep_days * DAY_MS):
            self._forget_at_ns = now + FORGET_GAP_NS

    def _renew(self) -> None:
        """Stop, say so, and go on in a new epoch. Until that is done no card is written: the ledger refuses every tap."""
        self._show(Shown(Message.LEDGER_FULL))
        letterbox = self.equipment.letterbox
        self._renew_at_ns = self.equipment.clock.monotonic_ns() + RECORD_GAP_NS
        if letterbox is None:
            return
        epoch = int.from_bytes(self.equipment.random(6), "big")
        try:
            self.equipment.ledger.renew(epoch, self._scene(self.duty).when, self.terms.versions, letterbox.tell)
        except NotStored as error:
            log.warning("%s", error)
            return
        log.warning("the ledger goes on in a new epoch; the old one was set aside")
        self._renew_at_ns = None


def _card_event(error: CardError | ReaderLost, *, refused: Event) -> Event:
    """Whose fault it was, as an event."""
    match error:
        case ReaderLost():
            return Event.READER_DIED
        case CardLost():
            return Event.CARD_LEFT
        case NotAuthentic():
            return Event.NOT_AUTHENTIC
        case CardRefused():
            return refused
        case MalformedReply() | CardError():
            return Event.UNREADABLE


def _still_aboard(on_run: Sequence[Entry]) -> Entry | None:
    """The last boarding tap, unless its ride was paid: on a loop the same rider may board again."""
    boarded = _newest(on_run, Kind.OPEN)
    return None if boarded is None or any(entry.ref == boarded.seq for entry in on_run if entry.counts_as_paid) else boarded


def _newest(entries: Sequence[Entry], kind: Kind) -> Entry | None:
    return next((entry for entry in entries if entry.kind is kind), None)
