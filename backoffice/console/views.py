"""What each page shows, made from what the books say: the decisions of the pages. Pure.

What needs a person comes first and says what to do. A vehicle gets one word, the worst that is true of it; troubles of one kind stand
together under one explanation, because two hundred rows that each explain themselves explain nothing.
"""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from urllib.parse import quote

from backoffice import counted
from backoffice.bill import Bill, Closed, Month, Status
from backoffice.bill_words import what
from backoffice.console.facts import Accounts, Alarm, Gaps, Grant, Ride, Rider, Sort, Trouble, Troubles, Vehicle
from backoffice.console.parts import (
    ROOT,
    Cell,
    Column,
    Level,
    Link,
    Moment,
    Now,
    Number,
    Page,
    Place,
    Section,
    State,
    Table,
    Text,
    TickForm,
    day_name,
    moment,
    month_name,
)
from backoffice.console.words import Say
from backoffice.health import Finding, Ill, Rules, findings
from fares import dates
from ledger.entry import Kind, Outcome
from ledger.notes import BROKEN, WORKS

BEHIND = 500
"""More entries than this on a vehicle that has contact: they should have come."""

IDM_DIGITS = 16
NOTE_LETTERS = 200
CLOSED = 12
"""So many closed bills are listed."""


def _when(unix_ms: int | None, now: Now, say: Say) -> Cell:
    return Text(say("none.never")) if unix_ms is None else moment(unix_ms, now, say)


def _range(first: int, last: int, say: Say) -> str:
    if not last:
        return say("gaps.open_range", first=first)
    return f"{first:,}" if first == last else say("gaps.range", first=first, last=last)


# --- today's vehicles ---------------------------------------------------------------------------------------------------------------------

_ILLS = {
    Ill.NEVER_HEARD: Level.LOOK,
    Ill.SILENT: Level.ACT,
    Ill.BROKEN_PART: Level.ACT,
    Ill.UNTESTED_PART: Level.LOOK,
    Ill.NO_TAPS: Level.ACT,
    Ill.UNSTEADY: Level.LOOK,
    Ill.CLOCK_UNSET: Level.LOOK,
    Ill.CLOCK_OFF: Level.LOOK,
    Ill.OLD_TABLE: Level.LOOK,
}
_ORDER = (Level.ACT, Level.LOOK, Level.GOOD, Level.REST)


def vehicles_page(vehicles: Sequence[Vehicle], rules: Rules, now: Now, say: Say) -> Page:
    """Today's vehicles, those that need a person first."""
    judged = ((vehicle_state(each, rules, now, say), each) for each in vehicles)
    rows = sorted(judged, key=lambda row: (_ORDER.index(row[0].level), row[1].condition.name))
    columns = (
        Column(say("vehicles.vehicle"), header=True),
        Column(say("vehicles.state")),
        Column(say("vehicles.contact")),
        Column(say("vehicles.received"), number=True),
        Column(say("vehicles.waiting"), number=True),
        Column(say("vehicles.taps"), number=True),
        Column(say("vehicles.selftest")),
    )
    table = Table(say("vehicles.caption"), columns, tuple(_vehicle_row(each, state, now, say) for state, each in rows))
    heading = say("vehicles.heading", day=day_name(now.today, now.today, say))
    section = Section("vehicles", heading, table=table) if rows else Section("vehicles", heading, sentences=(say("vehicles.none"),))
    return Page(
        Place.VEHICLES,
        say("vehicles.title"),
        (section,),
        state=_fleet_state([state for state, _ in rows], say),
        sentences=(say("vehicles.total", taps=sum(each.condition.taps for each in vehicles)),),
        legend=tuple(State(level, say(f"level.{level.name.lower()}")) for level in Level),
        at=moment(now.unix_ms, now, say),
    )


def _fleet_state(states: Sequence[State], say: Say) -> State:
    act = sum(state.level is Level.ACT for state in states)
    look = sum(state.level is Level.LOOK for state in states)
    if act:
        return State(Level.ACT, say("vehicles.some_act", count=act), say("vehicles.some_look", count=look) if look else "")
    return State(Level.LOOK, say("vehicles.some_look", count=look)) if look else State(Level.GOOD, say("vehicles.all_good"))


def vehicle_state(vehicle: Vehicle, rules: Rules, now: Now, say: Say) -> State:
    """The one word for a vehicle, the worst that is true of it, and what to do. What else is true stands behind it."""
    condition = vehicle.condition
    if vehicle.revoked:
        return State(Level.REST, say("state.revoked"))
    ills = sorted(findings((condition,), now.unix_ms, now.zone, rules), key=lambda finding: _ORDER.index(_ILLS[finding.ill]))
    found = [(_ILLS[each.ill], f"ill.{each.ill.value}", _ill_detail(each, now, say)) for each in ills]
    if vehicle.holes:
        found.append((Level.LOOK, "ill.holes", ""))
    if condition.contact_ms is not None and _waiting(vehicle) > BEHIND:
        found.append((Level.LOOK, "ill.behind", ""))
    if found:
        level, name, detail = found[0]
        also = [say("state.also", what=say("state.and").join(say(f"{other}.word") for _, other, _ in found[1:]))] if found[1:] else []
        do = say(f"{name}.do", detail=detail) if detail else say(f"{name}.do")
        return State(level, say(f"{name}.word"), " ".join((do, *also)))
    if condition.contact_ms is None or now.local(condition.contact_ms).date() != now.today:
        return State(Level.REST, say("state.resting"))
    return State(Level.GOOD, say("state.good"))


def _ill_detail(finding: Finding, now: Now, say: Say) -> str:
    if finding.ill in {Ill.BROKEN_PART, Ill.UNTESTED_PART}:
        return say("state.and").join(say(f"part.{part}") for part in finding.detail.split())
    if finding.ill is Ill.UNSTEADY:
        return _counted(finding.detail, now, say)
    return finding.detail


def _counted(detail: str, now: Now, say: Say) -> str:
    since, found = counted.read(detail)
    told: list[str] = []
    for name, number in found:
        source, mark = counted.parts(name)
        whose = _either(say, f"source.{source}", "source.other") if source else ""
        told.append(say(f"counted.{mark}", count=number, source=whose))
    at = moment(int(since.timestamp() * 1000), now, say).text
    return say("counted.since", at=at, what=say("state.and").join(told))


def _waiting(vehicle: Vehicle) -> int:
    """What the vehicle said it has and has not sent; of another ledger than the one we read, nothing can be said."""
    beat = vehicle.condition.beat
    return max(0, beat.head_seq - (vehicle.next_seq - 1)) if beat is not None and beat.epoch == vehicle.epoch else 0


def _vehicle_row(vehicle: Vehicle, state: State, now: Now, say: Say) -> tuple[Cell, ...]:
    condition = vehicle.condition
    contact = Text(say("none.never")) if condition.contact_ms is None else moment(condition.contact_ms, now, say, ago=True)
    return (
        Text(condition.name, vehicle.operator),
        state,
        contact,
        Number(f"{vehicle.next_seq - 1:,}"),
        Text(say("none.unknown")) if condition.beat is None else Number(f"{_waiting(vehicle):,}"),
        Number(f"{condition.taps:,}"),
        _selftest(() if condition.beat is None else condition.beat.selftest, say),
    )


def _selftest(parts: Sequence[tuple[str, int]], say: Say) -> Cell:
    broken = [say(f"part.{part}") for part, state in parts if state == BROKEN]
    untested = [say(f"part.{part}") for part, state in parts if state not in {BROKEN, WORKS}]
    if broken:
        return State(Level.ACT, say("selftest.broken"), say("state.and").join(broken))
    if untested or not parts:
        return State(Level.LOOK, say("selftest.untested"), say("state.and").join(untested))
    return State(Level.GOOD, say("selftest.works"))


# --- gaps ---------------------------------------------------------------------------------------------------------------------------------


def gaps_page(gaps: Gaps, now: Now, say: Say) -> Page:
    """What is missing, what waits for it, and what can never come."""
    vehicle, entries, count = (
        Column(say("gaps.vehicle"), header=True),
        Column(say("gaps.entries")),
        Column(say("gaps.count"), number=True),
    )
    missing = tuple(
        (Text(each.vehicle), Text(_range(each.first, each.last, say)), _count(each.first, each.last, say), _when(each.since_ms, now, say))
        for each in gaps.missing
    )
    waiting = tuple(
        (Text(each.vehicle), Text(_range(each.first, each.last, say)), _count(each.first, each.last, say)) for each in gaps.waiting
    )
    lost = tuple(
        (
            Text(each.vehicle),
            Text(_range(each.first, each.last, say)),
            _count(each.first, each.last, say),
            Text(_either(say, f"loss.{each.reason}", "loss.other")),
            moment(each.received_ms, now, say),
        )
        for each in gaps.lost
    )
    sections = (
        _gap_section("missing", (vehicle, entries, count, Column(say("gaps.since"))), missing, Level.LOOK, say),
        _gap_section("waiting", (vehicle, entries, count), waiting, Level.REST, say),
        _gap_section("lost", (vehicle, entries, count, Column(say("gaps.reason")), Column(say("gaps.reported"))), lost, Level.ACT, say),
    )
    whole = State(Level.GOOD, say("gaps.whole"))
    found = State(Level.LOOK, say("gaps.found", count=len(missing), lost=len(lost)))
    return Page(
        Place.GAPS,
        say("gaps.title"),
        sections,
        state=found if missing or lost else whole,
        sentences=(say("gaps.what"),),
        at=moment(now.unix_ms, now, say),
    )


def _gap_section(name: str, columns: tuple[Column, ...], rows: tuple[tuple[Cell, ...], ...], level: Level, say: Say) -> Section:
    heading = say(f"gaps.{name}.heading")
    if not rows:
        return Section(name, heading, sentences=(say(f"gaps.{name}.none"),))
    table = Table(say(f"gaps.{name}.caption"), columns, rows)
    shown = State(level, say("gaps.items", count=len(rows)))
    return Section(name, heading, shown, (say(f"gaps.{name}.means"),), say(f"gaps.{name}.do"), table)


def _count(first: int, last: int, say: Say) -> Cell:
    return Number(f"{last - first + 1:,}") if last else Text(say("none.unknown"))


def _either(say: Say, name: str, otherwise: str) -> str:
    return say(name if say.has(name) else otherwise)


# --- troubles -----------------------------------------------------------------------------------------------------------------------------


_URGENCY = {Sort.ALARM: Level.ACT, Sort.REJECT: Level.LOOK, Sort.HELD: Level.REST}


def troubles_page(troubles: Troubles, now: Now, say: Say) -> Page:
    """What a person should look at: one section for each thing that can be wrong, with what it means and what to do."""
    order = list(Sort)
    newest = sorted(troubles.newest, key=lambda each: (order.index(each.sort), each.code, -each.at_ms))
    sections = tuple(
        _trouble_section(sort, code, tuple(group), now, say)
        for (sort, code), group in groupby(newest, key=lambda each: (each.sort, each.code))
    )
    urgent = any(each.sort is Sort.ALARM for each in newest)
    state = State(Level.ACT if urgent else Level.LOOK, say("troubles.found", count=troubles.total))
    shown = (say("troubles.shown", count=len(newest)),) if troubles.total > len(newest) else ()
    return Page(
        Place.TROUBLES,
        say("troubles.title"),
        (*sections, *((_ticked_section(troubles.ticked, now, say),) if troubles.ticked else ())),
        state=state if newest else State(Level.GOOD, say("troubles.none")),
        sentences=(*shown, say("troubles.what")),
        at=moment(now.unix_ms, now, say),
    )


def trouble_line(trouble: Trouble, say: Say) -> str:
    """One trouble on one line, for a report."""
    what = say(f"{_trouble_name(trouble, say)}.title")
    return say("troubles.line", vehicle=trouble.vehicle or say("none.unknown"), what=what, seq=trouble.seq, detail=trouble.sentence)


def _trouble_name(trouble: Trouble, say: Say) -> str:
    known = trouble.code.replace(" ", "-")
    return f"trouble.{known}" if say.has(f"trouble.{known}.title") else f"trouble.other_{trouble.sort.value}"


def _trouble_section(sort: Sort, code: str, troubles: Sequence[Trouble], now: Now, say: Say) -> Section:
    name = _trouble_name(troubles[0], say)
    heading = say(f"{name}.title")
    return Section(
        f"{sort.value}-{code.replace(' ', '-')}",
        heading,
        State(_URGENCY[sort], say(f"troubles.{sort.value}", count=len(troubles))),
        (say(f"{name}.means"),),
        say(f"{name}.do"),
        _trouble_table(say("troubles.caption", what=heading), troubles, now, say),
    )


def _trouble_table(caption: str, troubles: Sequence[Trouble], now: Now, say: Say, *, links: bool = True) -> Table:
    """Troubles of one kind; alarms lead to where they are ticked off, unless this is it."""
    links = links and any(each.alarm for each in troubles)
    columns = (
        Column(say("troubles.vehicle"), header=True),
        Column(say("troubles.entry"), number=True),
        Column(say("troubles.at")),
        Column(say("troubles.sentence")),
        *((Column(say("troubles.tick")),) if links else ()),
    )
    rows = tuple(
        (
            Text(each.vehicle or say("none.unknown")),
            Number(f"{each.seq:,}"),
            moment(each.at_ms, now, say),
            Text(each.sentence, language="en"),
            *((_alarm_link(each, say("tick.open"), say),) if links else ()),
        )
        for each in troubles
    )
    return Table(caption, columns, rows)


def _alarm_link(trouble: Trouble, text: str, say: Say) -> Link:
    return Link(text, alarm_path(trouble.alarm), say("tick.about", number=trouble.alarm, vehicle=trouble.vehicle, entry=trouble.seq))


def alarm_path(alarm: int) -> str:
    """The address of an alarm."""
    return f"{ROOT}/alarms/{alarm}"


def _ticked_section(ticked: Sequence[Alarm], now: Now, say: Say) -> Section:
    columns = (
        Column(say("tick.alarm"), header=True),
        Column(say("tick.clerk")),
        Column(say("tick.at")),
        Column(say("tick.note")),
        Column(say("troubles.tick")),
    )
    rows = tuple(
        (
            Text(say(f"{_trouble_name(each.trouble, say)}.title"), each.trouble.vehicle),
            Text(each.ticks[-1].clerk or say("none.unknown")),
            moment(each.ticks[-1].at_ms, now, say),
            Text(each.ticks[-1].note or say("none.unknown")),
            _alarm_link(each.trouble, say("tick.look"), say),
        )
        for each in ticked
    )
    caption = say("tick.ticked_caption", count=len(rows))
    return Section("ticked", say("tick.ticked"), sentences=(say("tick.ticked_what"),), table=Table(caption, columns, rows))


# --- one alarm ----------------------------------------------------------------------------------------------------------------------------


class NotANote(ValueError):
    """What was written about an alarm cannot be kept; ``name`` is the sentence that says why."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def note(typed: str) -> str:
    """What a clerk wrote, as it is kept. Raises ``NotANote``."""
    written = " ".join(typed.split())
    if not written:
        raise NotANote("tick.empty")
    if len(written) > NOTE_LETTERS:
        raise NotANote("tick.too_long")
    if not written.isprintable():
        raise NotANote("tick.not_text")
    return written


def alarm_page(alarm: Alarm, now: Now, say: Say, problem: str = "", typed: str = "") -> Page:
    """One alarm, what clerks said about it, and where to tick it off, or to put it back. ``problem``: the name of a sentence."""
    name = _trouble_name(alarm.trouble, say)
    heading = say(f"{name}.title")
    table = _trouble_table(say("tick.caption"), (alarm.trouble,), now, say, links=False)
    sections = [Section("alarm", heading, sentences=(say(f"{name}.means"),), to_do=say(f"{name}.do"), table=table)]
    if alarm.ticks:
        sections.append(_ticks_section(alarm, now, say))
    word = "undo" if alarm.done else "do"
    form = TickForm(alarm_path(alarm.trouble.alarm), len(alarm.ticks), say(f"tick.{word}"), say(f"tick.{word}_button"), typed)
    return Page(
        Place.TROUBLES,
        say("tick.title"),
        tuple(sections),
        state=State(Level.GOOD, say("tick.done")) if alarm.done else State(Level.ACT, say("tick.not_done")),
        tick=form,
        problem=say(problem) if problem else "",
        links=(Link(say("tick.back"), Place.TROUBLES.path),),
        at=moment(now.unix_ms, now, say),
    )


def _ticks_section(alarm: Alarm, now: Now, say: Say) -> Section:
    columns = (
        Column(say("tick.at"), header=True),
        Column(say("tick.said")),
        Column(say("tick.clerk")),
        Column(say("tick.note")),
    )
    rows = tuple(
        (
            moment(each.at_ms, now, say),
            Text(say("tick.done" if each.done else "tick.put_back")),
            Text(each.clerk or say("none.unknown")),
            Text(each.note or say("none.unknown")),
        )
        for each in reversed(alarm.ticks)
    )
    return Section("ticks", say("tick.history"), table=Table(say("tick.history_caption"), columns, rows))


# --- one rider ----------------------------------------------------------------------------------------------------------------------------


class NotAnIdm(ValueError):
    """What was typed is no IDm; ``name`` is the sentence that says why."""

    def __init__(self, name: str, found: int = 0) -> None:
        super().__init__(name)
        self.name = name
        self.found = found


def idm(typed: str) -> bytes:
    """The 8 bytes that somebody typed, or a reader that is a keyboard: full-width letters, spaces, hyphens and colons do not matter.

    Raises ``NotAnIdm``.
    """
    digits = "".join(char for char in unicodedata.normalize("NFKC", typed) if char not in " -:　‐－\t\r\n")
    if not digits:
        raise NotAnIdm("card.empty")
    if any(char not in "0123456789abcdefABCDEF" for char in digits):
        raise NotAnIdm("card.not_hex")
    if len(digits) != IDM_DIGITS:
        raise NotAnIdm("card.wrong_length", len(digits))
    return bytes.fromhex(digits)


def card_page(say: Say, problem: NotAnIdm | None = None, typed: str = "") -> Page:
    """The form that asks for a card."""
    told = "" if problem is None else say(problem.name, **({"count": problem.found} if problem.found else {}))
    return Page(Place.CARD, say("card.title"), (), sentences=(say("card.what"), say("card.privacy")), form=True, problem=told, typed=typed)


def unknown_card_page(say: Say) -> Page:
    """No entry and no grant names this card."""
    again = Link(say("card.another"), Place.CARD.path)
    return Page(
        Place.CARD,
        say("rider.title"),
        (),
        state=State(Level.REST, say("rider.unknown")),
        sentences=(say("rider.unknown_do"),),
        links=(again,),
    )


def rider_page(rider: Rider, now: Now, say: Say) -> Page:
    """One card's rides, its points, and the card's own counters against the books."""
    return Page(
        Place.CARD,
        say("rider.title"),
        (_purse_section(rider, now, say), _grants_section(rider.grants, now, say), _rides_section(rider, now, say)),
        state=purse_state(rider, say),
        sentences=(say("rider.shown_only_here"),),
        links=(Link(say("card.another"), Place.CARD.path),),
        at=moment(now.unix_ms, now, say),
    )


def purse_state(rider: Rider, say: Say) -> State:
    """Whether card and books say the same.

    The card was last read with some points spent in its life; the books have booked some. Equal: good. The card spent *more*: rides that
    have not reached the city yet, as a rule. *Less* than booked: the books have taken points that the card never lost, which must not be.
    """
    if rider.reading is None:
        return State(Level.REST, say("purse.unread"))
    apart = rider.reading.spent - rider.before_spent - rider.booked
    if apart == 0:
        return State(Level.GOOD, say("purse.equal"))
    if 0 < apart <= rider.unknown_points:
        return State(Level.LOOK, say("purse.unknown", points=apart), say("purse.unknown_do"))
    if apart > 0:
        return State(Level.LOOK, say("purse.more", points=apart), say("purse.more_do"))
    return State(Level.ACT, say("purse.less", points=-apart), say("purse.less_do"))


def _purse_section(rider: Rider, now: Now, say: Say) -> Section:
    columns = (Column(say("purse.what"), header=True), Column(say("purse.card"), number=True), Column(say("purse.books"), number=True))
    reading = rider.reading
    on_card: tuple[Cell, ...] = (
        (Text(say("none.unknown")),) * 3
        if reading is None
        else tuple(map(_points, (reading.granted, reading.spent, reading.granted - reading.spent)))
    )
    granted = sum(grant.points for grant in rider.grants) + rider.before_granted
    booked = rider.before_spent + rider.booked
    unknown = Text(say("none.unknown"))
    in_books: tuple[Cell, ...] = tuple(map(_points, (granted, booked, granted - booked)))
    if not granted:  # the desk's grants were never brought here
        in_books = (unknown, in_books[1], unknown)
    names = ("purse.granted", "purse.spent", "purse.left")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (Text(say(name)), card, books) for name, card, books in zip(names, on_card, in_books, strict=True)
    )
    sentences = list[str]()
    if reading is not None:
        at = moment(reading.at_ms, now, say)
        sentences.append(say("purse.read", at=at.text, vehicle=reading.vehicle))
    if rider.before_spent:
        sentences.append(say("purse.before", points=rider.before_spent))
    if rider.unknown:
        sentences.append(say("purse.open", count=rider.unknown, points=rider.unknown_points))
    return Section("purse", say("purse.heading"), sentences=tuple(sentences), table=Table(say("purse.caption"), columns, rows))


def _points(points: int) -> Number:
    return Number(f"{points:,}")


def _grants_section(grants: Sequence[Grant], now: Now, say: Say) -> Section:
    heading = say("grants.heading")
    if not grants:
        return Section("grants", heading, sentences=(say("grants.none"),))
    columns = (
        Column(say("grants.year"), header=True),
        Column(say("grants.kind")),
        Column(say("grants.points"), number=True),
        Column(say("grants.at")),
    )
    rows = tuple(
        (
            Text(say("grants.fiscal_year", year=str(each.fiscal_year))),
            Text(say("grants.correction" if each.correction else "grants.yearly")),
            _points(each.points),
            moment(each.at_ms, now, say),
        )
        for each in grants
    )
    return Section("grants", heading, table=Table(say("grants.caption"), columns, rows))


_OUTCOMES: dict[tuple[Kind, Outcome], tuple[str, Level]] = {
    (Kind.PAID, Outcome.NONE): ("ride.paid", Level.GOOD),
    (Kind.FREE, Outcome.NONE): ("ride.free", Level.GOOD),
    (Kind.OPEN, Outcome.NONE): ("ride.open", Level.REST),
    (Kind.UNKNOWN, Outcome.NONE): ("ride.unknown", Level.LOOK),
    (Kind.RESOLVED, Outcome.PAID): ("ride.resolved_paid", Level.GOOD),
    (Kind.RESOLVED, Outcome.UNPAID): ("ride.resolved_unpaid", Level.REST),
    (Kind.UNPRICED, Outcome.NONE): ("ride.unpriced", Level.LOOK),
    (Kind.REFUSED, Outcome.NONE): ("ride.refused", Level.LOOK),
}


def ride_state(ride: Ride, say: Say) -> State:
    """What became of a ride, in a word; what was put right later as its detail."""
    name, level = _OUTCOMES.get((ride.kind, ride.outcome), ("ride.other", Level.LOOK))
    if ride.settled:
        return State(Level.GOOD, say("ride.settled"), say("ride.settled_how"))
    if ride.corrected:
        return State(level, say(name), say("ride.corrected", points=ride.corrected))
    return State(level, say(name), say("ride.recovered") if ride.recovered else "")


def _rides_section(rider: Rider, now: Now, say: Say) -> Section:
    heading = say("rides.heading")
    if not rider.rides:
        return Section("rides", heading, sentences=(say("rides.none"),))
    columns = (
        Column(say("rides.at"), header=True),
        Column(say("rides.state")),
        Column(say("rides.where")),
        Column(say("rides.nominal"), number=True),
        Column(say("rides.points"), number=True),
        Column(say("rides.cash"), number=True),
        Column(say("rides.left"), number=True),
    )
    rows = tuple(_ride_row(ride, now, say) for ride in rider.rides)
    shown = len(rider.rides)
    total = say("rides.all", total=shown) if shown == rider.rides_total else say("rides.shown", count=shown, total=rider.rides_total)
    return Section("rides", heading, sentences=(total,), table=Table(say("rides.caption"), columns, rows))


def _ride_row(ride: Ride, now: Now, say: Say) -> tuple[Cell, ...]:
    day = dates.from_number(ride.service_day)
    at = now.local(ride.at_ms)
    when = Moment(f"{day_name(day, now.today, say)} {at:%H:%M}", at.isoformat(timespec="seconds"))
    where = _journey(ride, say)
    return (
        when,
        ride_state(ride, say),
        Text(where, " ".join(filter(None, (ride.route, ride.vehicle)))),
        Number(f"{ride.nominal:,}"),
        Number(f"{ride.points:,}" if ride.outcome is not Outcome.UNPAID else "0"),
        Number(f"{ride.cash:,}"),
        Text(say("none.unknown")) if ride.left is None else Number(f"{ride.left:,}"),
    )


def _journey(ride: Ride, say: Say) -> str:
    if ride.boarding and ride.alighting:
        return say("rides.from_to", boarding=ride.boarding, alighting=ride.alighting)
    if ride.boarding:
        return say("rides.from", boarding=ride.boarding)
    return say("rides.to", alighting=ride.alighting) if ride.alighting else say("none.unknown")


# --- months -------------------------------------------------------------------------------------------------------------------------------


_FIRST_MONTH = date(2000, 1, 1)


def month_of(text: str, today: date) -> date:
    """The first day of a month written "2026-11"; anything else, any month to come and any of another century is this month."""
    this = today.replace(day=1)
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        return this
    return first if _FIRST_MONTH <= first <= this else this


def months_page(first: date, accounts: Accounts, now: Now, say: Say, *, bills: bool) -> Page:
    """Each operator's bill of a month as it stands, line by line, and the bills that were closed; ``bills``: there are files of them."""
    running = first == now.today.replace(day=1)
    name = month_name(first, say)
    closed = {each.operator: each for _, each in accounts.closed if each.month == Month(first.year, first.month)}
    own = tuple(
        _bill_section(place, told, closed.get(told.operator), now, say, bills=bills) for place, told in enumerate(accounts.bills, 1)
    )
    before = (first - timedelta(days=1)).replace(day=1)
    after = (first + timedelta(days=31)).replace(day=1)
    links = [Link(say("months.before", month=month_name(before, say)), _month_path(before))]
    if not running:
        links.append(Link(say("months.after", month=month_name(after, say)), _month_path(after)))
    told = tuple(say(f"months.{each}") for each in (("running", "what") if running else ("what",)))
    return Page(
        Place.MONTHS,
        say("months.title_of", month=name),
        (*(own or (Section("none", name, sentences=(say("months.none"),)),)), _closed_section(accounts.closed, now, say)),
        sentences=told,
        links=tuple(links),
        at=moment(now.unix_ms, now, say),
    )


def _bill_section(place: int, told: Bill, closed: Closed | None, now: Now, say: Say, *, bills: bool) -> Section:
    columns = (
        Column(say("months.part"), header=True),
        Column(say("months.rides"), number=True),
        Column(say("months.points"), number=True),
        Column(say("months.yen"), number=True),
    )
    lines = [(what(line, told.month, say.language.value), line.rides, line.points, line.yen) for line in told.lines]
    rows: list[tuple[Cell, ...]] = [
        (Text(name), *(Number(f"{number:,}") for number in numbers))
        for name, *numbers in [*lines, (say("months.total"), told.rides, told.points, told.yen)]
    ]
    month = month_name(date(told.month.year, told.month.month, 1), say)
    about = say("months.about", operator=told.whose, month=month)
    path = f"{ROOT}/bills/{quote(told.operator, safe='')}/{told.month}"
    links = tuple(Link(say(f"months.{form}"), f"{path}.{form}", about) for form in ("pdf", "csv")) if bills else ()
    caption = say("months.caption", operator=told.whose, month=month)
    table = Table(caption, columns, tuple(rows))
    return Section(f"bill-{place}", told.whose, bill_state(told, closed, now, say), _asides(told, say), table=table, links=links)


def bill_state(told: Bill, closed: Closed | None, now: Now, say: Say) -> State:
    """Whether the bill can still change, and whether it is still the one that was closed."""
    if closed is not None:
        figures = {"rides": closed.rides, "points": closed.points, "yen": closed.yen}
        detail = say("months.closed_at", at=moment(closed.at_ms, now, say).text, **figures)
        if closed.agrees(told):
            return State(Level.GOOD, say("months.closed"), detail)
        return State(Level.ACT, say("months.differs"), f"{detail} {say('months.differs_do')}")
    if told.status is Status.FINAL:
        return State(Level.LOOK, say("months.unclosed"), say("months.unclosed_do"))
    return State(Level.REST, say("months.open"), say("months.open_until", at=moment(told.closes_ms, now, say).text))


def _asides(told: Bill, say: Say) -> tuple[str, ...]:
    """What stands beside the bill and is not on it."""
    tally, found = told.tally, told.remarks
    asides = (
        (tally.coins, say("months.coins", yen=tally.coins, rides=tally.coin_rides)),
        (found.unknown, say("months.unknown", count=found.unknown, points=found.unknown_points)),
        (found.repaired, say("months.repaired", count=len(found.repaired))),
        (found.missing, say("months.missing", count=found.missing)),
        (found.lost, say("months.lost", count=found.lost)),
    )
    return tuple(sentence for there, sentence in asides if there)


def _closed_section(closed: Sequence[tuple[str, Closed]], now: Now, say: Say) -> Section:
    heading = say("closed.heading")
    if not closed:
        return Section("closed", heading, sentences=(say("closed.none"),))
    columns = (
        Column(say("closed.bill"), header=True),
        Column(say("months.rides"), number=True),
        Column(say("months.points"), number=True),
        Column(say("months.yen"), number=True),
        Column(say("closed.at")),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            Link(f"{name} {month_name(date(*each.month, 1), say)}", _month_path(date(*each.month, 1))),
            *(Number(f"{number:,}") for number in (each.rides, each.points, each.yen)),
            moment(each.at_ms, now, say),
        )
        for name, each in closed[:CLOSED]
    )
    return Section("closed", heading, table=Table(say("closed.caption"), columns, rows))


def _month_path(first: date) -> str:
    return f"{Place.MONTHS.path}?month={first:%Y-%m}"
