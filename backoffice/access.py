"""What the city tells a person about all that it keeps under their card: values, and a text that can be printed and read (pure).

One text, not a table for a spreadsheet: the person who asks is eighty, comes with a card to a counter, and goes home with paper. Japanese
first; English after it. The same facts as JSON are for whoever wants to compute with them, or to hand them to another city.

A person sees every field that an entry about them has and that means anything outside our programs; what is left out (hashes of tables, the
chain) says nothing about anybody. A raw batch is named and not shown: beside this person's entries it holds those of everybody who rode
that bus that hour.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, tzinfo

from backoffice.book import PostingKind
from backoffice.console.words import Say
from backoffice.letting_go import Periods, goes_on
from drivers.cards.purse import FULL
from fares.dates import first_day, fiscal_year, from_number
from ledger.entry import Flags, Kind, Outcome

CITY = "city"
_UNSET = 0


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """Under what was looked: the 8 bytes, and the version of the rider key that made them of a card (None: somebody named them)."""

    rider: bytes
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """One entry about the person. ``rega``: the balance register as last read; ``granted``: the sum of grants on the card; None: unread."""

    device: int
    epoch: int
    seq: int
    vehicle: str
    operator: str
    route: str
    trip: str
    boarding: str
    alighting: str
    utc_ms: int
    clock: int
    service_day: int
    received_ms: int
    kind: int
    outcome: int
    flags: int
    ref: int
    nominal: int
    points: int
    cash: int
    adults: int
    children: int
    rider_key: int
    granted: int | None
    rega: int | None
    reason: str

    @property
    def left(self) -> int | None:
        """Points left on the card as it was read."""
        return None if self.granted is None or self.rega is None else self.granted - (FULL - self.rega)


@dataclass(frozen=True, slots=True)
class Moved:
    """One posting about the person's purse or rides. ``ref_leg``: the leg that it takes back, 0 for none."""

    device: int
    epoch: int
    seq: int
    leg: int
    service_day: int
    at_ms: int
    kind: int
    debit: str
    credit: str
    amount: int
    ref_leg: int


@dataclass(frozen=True, slots=True)
class Given:
    """One grant."""

    fiscal_year: int
    number: int
    points: int
    correction: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class Aside:
    """An entry about the person that could not be booked (``code``), or is on hold (empty). ``data``: as it came."""

    device: int
    epoch: int
    seq: int
    received_ms: int
    code: str
    sentence: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A raw sealed batch with entries about the person in it: ``seqs``; those of ``forgotten`` are in the books no more. ``last_day``,
    ``last_ms``: of the youngest of all entries in it, the person's or not.
    """

    id: int
    device: int
    epoch: int
    first_seq: int
    last_seq: int
    received_ms: int
    seqs: tuple[int, ...]
    forgotten: tuple[int, ...]
    last_day: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A package that names the pseudonym. ``valid_from``: days since 1970-01-01."""

    kind: str
    version: str
    valid_from: int


@dataclass(frozen=True, slots=True)
class Alarmed:
    """An alarm about one of the person's entries."""

    device: int
    epoch: int
    seq: int
    at_ms: int
    kind: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept under some pseudonyms. ``begins``: the day from which all is kept, 0: from ever. ``versions``: rider keys under
    which rides of anybody are kept; ``ended``: those under which none is left.
    """

    touches: tuple[Touch, ...] = ()
    moved: tuple[Moved, ...] = ()
    given: tuple[Given, ...] = ()
    aside: tuple[Aside, ...] = ()
    envelopes: tuple[Envelope, ...] = ()
    listed: tuple[Listed, ...] = ()
    alarmed: tuple[Alarmed, ...] = ()
    begins: int = 0
    versions: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()

    @property
    def nothing(self) -> bool:
        """Nothing at all is kept."""
        return not any((self.touches, self.moved, self.given, self.aside, self.envelopes, self.listed))


@dataclass(frozen=True, slots=True)
class Answer:
    """What is told, by whom, when (Unix ms) and where, and how long things are kept."""

    pseudonyms: tuple[Pseudonym, ...]
    kept: Kept
    clerk: str
    at_ms: int
    zone: tzinfo
    periods: Periods


# --- for a machine ------------------------------------------------------------------------------------------------------------------------


def document(answer: Answer) -> dict[str, object]:
    """The answer for JSON: every field, bytes in hexadecimal, and the day on or after which each thing goes."""
    kept = answer.kept
    return {
        "format": 1,
        "made_ms": answer.at_ms,
        "clerk": answer.clerk,
        "pseudonyms": [{"rider": each.rider.hex(), "rider_key": each.version} for each in answer.pseudonyms],
        "nothing": kept.nothing,
        "kept_from": from_number(kept.begins).isoformat() if kept.begins else None,
        "entries": [asdict(each) | _goes(_entry_goes(answer, each)) for each in kept.touches],
        "postings": [asdict(each) for each in kept.moved],
        "grants": [asdict(each) | _goes(_grant_goes(answer, each)) for each in kept.given],
        "set_aside": [
            asdict(each) | {"data": each.data.hex()} | _goes(_aside_goes(answer, each) if each.code else None) for each in kept.aside
        ],
        "raw_batches": [asdict(each) | _goes(_envelope_goes(answer, each)) for each in kept.envelopes],
        "lists": [asdict(each) for each in kept.listed],
        "alarms": [asdict(each) for each in kept.alarmed],
    }


def _goes(day: date | None) -> dict[str, object]:
    return {"goes_on": day.isoformat() if day else None}


def _entry_goes(answer: Answer, touch: Touch) -> date:
    return goes_on(touch.service_day, touch.received_ms, answer.periods, answer.zone)


def _envelope_goes(answer: Answer, envelope: Envelope) -> date:
    last_ms = max(envelope.last_ms, envelope.received_ms)
    return goes_on(envelope.last_day, last_ms, answer.periods, answer.zone)


def _grant_goes(answer: Answer, grant: Given) -> date:
    day = (first_day(grant.fiscal_year) - date(1970, 1, 1)).days
    return goes_on(day, grant.at_ms, answer.periods, answer.zone)


def _aside_goes(answer: Answer, aside: Aside) -> date:
    return _local(answer, aside.received_ms + (answer.periods.quarantine_days + 1) * 86_400_000).date()


# --- for a person -------------------------------------------------------------------------------------------------------------------------


def text(answer: Answer, say: Say) -> str:
    """The answer in one language, to be printed."""
    kept = answer.kept
    lines = [say("access.title"), "", say("access.law"), say("access.made", at=_at(answer, answer.at_ms), clerk=answer.clerk)]
    lines += [_pseudonym(each, say) for each in answer.pseudonyms]
    lines += ["", *_keys(answer, say)]
    if kept.nothing:
        gone = say("access.nothing_before", day=str(from_number(kept.begins))) if kept.begins else say("access.nothing_never")
        return "\n".join([*lines, say("access.nothing"), gone, ""])
    writer = _Writer(answer, say)
    sections: tuple[tuple[str, Sequence[object], Callable[[], Iterator[str]]], ...] = (
        ("rides", kept.touches, writer.touches),
        ("postings", kept.moved, writer.moved),
        ("grants", kept.given, writer.given),
        ("aside", kept.aside, writer.aside),
        ("batches", kept.envelopes, writer.envelopes),
        ("lists", kept.listed, writer.listed),
        ("alarms", kept.alarmed, writer.alarmed),
    )
    lines += [say("access.no_names"), say("access.until"), say("access.elsewhere")]
    lines += [say("access.begins", day=str(from_number(kept.begins)))] if kept.begins else []
    lines += ["", f"■ {say('access.heading.purse')}", *writer.purse()]
    for name, rows, told in sections:
        count = say("access.count", count=len(rows)) if rows else ""
        lines += ["", f"■ {say(f'access.heading.{name}')}{count}"]
        lines += list(told()) or [f"  {say('access.empty')}"]
    return "\n".join([*lines, ""])


def _pseudonym(each: Pseudonym, say: Say) -> str:
    if each.version is None:
        return say("access.pseudonym_given", rider=each.rider.hex())
    return say("access.pseudonym", rider=each.rider.hex(), version=str(each.version))


def _keys(answer: Answer, say: Say) -> list[str]:
    """What other rider keys may hide: records under another pseudonym of the same card."""
    asked = {each.version for each in answer.pseudonyms}
    if None in asked:
        return []
    others = [str(version) for version in answer.kept.versions if version not in asked]
    told = [say("access.other_keys", versions=", ".join(others)), ""] if others else []
    ended = [str(version) for version in answer.kept.ended]
    return told + ([say("access.ended_keys", versions=", ".join(ended)), ""] if ended else [])


@dataclass(frozen=True, slots=True)
class _Writer:
    """Each section's lines."""

    answer: Answer
    say: Say

    def purse(self) -> Iterator[str]:
        read = [touch for touch in self.answer.kept.touches if touch.left is not None and touch.kind != Kind.UNKNOWN]
        if not read:
            yield f"  {self.say('access.empty')}"
            return
        # The register only falls, so the lowest reading is the last, whatever a clock said.
        last = min(read, key=lambda touch: (touch.rega or 0, -touch.utc_ms))
        granted = max(touch.granted or 0 for touch in read)
        spent = FULL - (last.rega or 0)
        yield "  " + self.say(
            "access.line.purse",
            granted=granted,
            spent=spent,
            left=granted - spent,
            at=_at(self.answer, last.utc_ms),
            vehicle=last.vehicle,
        )

    def touches(self) -> Iterator[str]:
        for day, rows in _by_day(self.answer.kept.touches, lambda touch: _entry_goes(self.answer, touch)):
            year = fiscal_year(day) - 1 - self.answer.periods.books_years
            yield "  " + self.say("access.line.year", year=str(year), day=str(day))
            for touch in rows:
                yield from (f"    {line}" for line in self._touch(touch))

    def _touch(self, touch: Touch) -> Iterator[str]:
        say, unknown = self.say, self.say("access.note.unknown")
        what = Kind(touch.kind).name
        if touch.kind == Kind.RESOLVED and touch.outcome != Outcome.NONE:
            what = f"{what}_{Outcome(touch.outcome).name}"
        at = _at(self.answer, touch.utc_ms) if touch.utc_ms else unknown
        names = {"vehicle": touch.vehicle, "operator": touch.operator, "route": touch.route, "trip": touch.trip}
        stops = {"boarding": touch.boarding, "alighting": touch.alighting}
        shown = {name: value or unknown for name, value in (names | stops).items()}
        kind = say(f"access.kind.{what}") if say.has(f"access.kind.{what}") else what
        yield say("access.line.ride", at=at, what=kind, **shown)
        left = unknown if touch.left is None else touch.left
        people = {"adults": touch.adults, "children": touch.children}
        yield "  " + say("access.line.fare", nominal=touch.nominal, points=touch.points, cash=touch.cash, **people, left=left)
        record, received = _record(touch), _at(self.answer, touch.received_ms)
        yield "  " + say("access.line.record", record=record, received=received, version=str(touch.rider_key), note=self._notes(touch))

    def _notes(self, touch: Touch) -> str:
        notes = [
            self.say("access.note.practice") if touch.flags & Flags.PRACTICE else "",
            self.say("access.note.recovered") if touch.flags & Flags.RECOVERED else "",
            self.say("access.note.clock") if touch.clock == _UNSET else "",
            self.say("access.note.closes", ref=str(touch.ref)) if touch.ref else "",
            self.say("access.note.reason", reason=touch.reason) if touch.reason else "",
        ]
        return "".join(notes)

    def moved(self) -> Iterator[str]:
        for each in self.answer.kept.moved:
            note = self.say("access.note.corrects", leg=str(each.ref_leg)) if each.ref_leg else ""
            yield "  " + self.say(
                "access.line.posting",
                day=str(from_number(each.service_day)) if each.service_day else self.say("access.note.unknown"),
                kind=self.say(f"access.posting.{PostingKind(each.kind).name}"),
                amount=each.amount,
                debit=self._account(each.debit),
                credit=self._account(each.credit),
                record=_record(each) if each.device else CITY,
                leg=str(each.leg),
                at=_at(self.answer, each.at_ms),
                note=note,
            )

    def _account(self, name: str) -> str:
        return self.say("access.note.purse") if name.startswith("rider:") else name

    def given(self) -> Iterator[str]:
        for each in self.answer.kept.given:
            yield "  " + self.say(
                "access.line.grant",
                year=str(each.fiscal_year),
                number=str(each.number),
                points=each.points,
                at=_at(self.answer, each.at_ms),
                day=str(_grant_goes(self.answer, each)),
                note=self.say("access.note.correction") if each.correction else "",
            )

    def aside(self) -> Iterator[str]:
        for each in self.answer.kept.aside:
            record, received = _record(each), _at(self.answer, each.received_ms)
            if each.code:
                day = str(_aside_goes(self.answer, each))
                yield "  " + self.say("access.line.aside", record=record, code=each.code, received=received, day=day)
            else:
                yield "  " + self.say("access.line.held", record=record, received=received)

    def envelopes(self) -> Iterator[str]:
        for each in self.answer.kept.envelopes:
            seqs = [str(seq) for seq in each.seqs if seq not in each.forgotten]
            seqs += [f"{seq}{self.say('access.note.forgotten')}" for seq in each.forgotten]
            yield "  " + self.say(
                "access.line.batch",
                number=str(each.id),
                device=str(each.device),
                first=str(each.first_seq),
                last=str(each.last_seq),
                received=_at(self.answer, each.received_ms),
                records=", ".join(seqs),
                day=str(_envelope_goes(self.answer, each)),
            )

    def listed(self) -> Iterator[str]:
        for each in self.answer.kept.listed:
            valid = str(from_number(each.valid_from))
            yield "  " + self.say("access.line.list", kind=each.kind, version=each.version, valid=valid)

    def alarmed(self) -> Iterator[str]:
        for each in self.answer.kept.alarmed:
            at = _at(self.answer, each.at_ms)
            yield "  " + self.say("access.line.alarm", record=_record(each), at=at, sentence=each.sentence)


def _by_day(touches: Iterable[Touch], day_of: Callable[[Touch], date]) -> list[tuple[date, list[Touch]]]:
    found: dict[date, list[Touch]] = {}
    for touch in touches:
        found.setdefault(day_of(touch), []).append(touch)
    return sorted(found.items())


def _record(each: Touch | Moved | Aside | Alarmed) -> str:
    return f"{each.device}:{each.epoch}:{each.seq}"


def _local(answer: Answer, at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(answer.zone)


def _at(answer: Answer, at_ms: int) -> str:
    return f"{_local(answer, at_ms):%Y-%m-%d %H:%M}"
