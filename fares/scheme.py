"""A city's scheme: a dated TOML file that proves itself on its own examples or is refused.

Why examples in the file. The people who answer for a scheme do not read programs, but they can say what should come out: "fare 740, 300
points left: 300 points and 440 yen". They write that beside the rules, and a file whose rules say otherwise is not taken, with the example,
what it expects and what came out. A rule without an example is not taken either: nobody has said what it should do.

Why versions in the file. Such schemes change on the first of April. A version is complete and in force from its day on until that of the
next one; nothing is inherited, so that one screen shows all that held on a day.

``decide`` is pure and does not look at clocks: the day comes with the question; no day (the clock was never set) means the newest version.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

from fares import fields, files
from fares.dates import first_day
from fares.explain import Step, total
from fares.faults import Unusable
from fares.fields import Fields
from fares.rules import AgeRule, Due, Free, Party, PointsFirst, ReachedBy, RideRule, YearlyGrant

FORMAT = 1
PAYMENTS = ("points_first", "free")


@dataclass(frozen=True, slots=True)
class Question:
    """One tap, as a scheme sees it.

    ``fare``: yen for all riders; ``holder``: the card holder's part of it (``fares.ride.Priced`` has both). ``balance``: points on the
    card, which has been proven. ``day``: the service day, None when unknown. ``lines``: the route's words from the operator's file.
    """

    fare: int
    holder: int
    balance: int
    day: date | None
    lines: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 <= self.holder <= self.fare or self.balance < 0:
            raise ValueError("a question has a fare, a part of it for the holder, and a balance, none below zero")


@dataclass(frozen=True, slots=True)
class Decision:
    """``points`` from the card and ``cash`` in yen. ``steps`` lead from the fare down to the cash.

    ``free``: a rule lets the holder ride free; ``cash`` is then what others on the card owe.
    """

    points: int
    cash: int
    steps: tuple[Step, ...]
    free: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """All that holds from ``first_day`` on. ``yen_per_point``: what a point pays, on a ride and on the operator's bill."""

    first_day: date
    yen_per_point: int
    holder: AgeRule
    points_at_issue: int
    grant: YearlyGrant
    rides: tuple[RideRule, ...]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A proven scheme. ``digest``: first 8 bytes of its file's SHA-256. ``versions`` rise by their first day."""

    name: str
    versions: tuple[Version, ...]
    sources: tuple[str, ...] = ()
    examples: int = 0
    digest: bytes = b""

    def version(self, day: date | None) -> Version | None:
        """What holds on ``day``: the newest version when the day is unknown, none before the first one."""
        if day is None:
            return self.versions[-1]
        return next((version for version in reversed(self.versions) if version.first_day <= day), None)

    def decide(self, question: Question) -> Decision:
        """Points, cash and the steps to them. Before the first version, and where no rule fits, all of the fare is cash."""
        version = self.version(question.day)
        rule = next((rule for rule in version.rides if rule.fits(question.lines)), None) if version else None
        if rule is None:
            return Decision(0, question.fare, ())
        due = Due(question.fare, question.holder, question.balance)
        steps = rule.payment.steps(due, rule.line(question.lines))
        return Decision(rule.payment.points(due), question.fare + total(steps), steps, isinstance(rule.payment, Free))

    def eligible(self, born: date, day: date) -> bool:
        """Whether somebody born on ``born`` may hold a card on ``day``, by age; residence is the desk's to see."""
        version = self.version(day)
        return version is not None and version.holder.allows(born, day)

    def yen_per_point(self, day: date) -> int:
        """What a point that was taken on ``day`` is worth. Before the first version no points are taken; it is that version's then."""
        return (self.version(day) or self.versions[0]).yen_per_point

    def points_at_issue(self, day: date) -> int:
        """The points of a new card; 0 before the first version."""
        version = self.version(day)
        return version.points_at_issue if version else 0


def yearly_grant(
    scheme: Scheme, fiscal_year: int, used_previous_year: int, balance_now: int, already_granted: int, *, used_this_year: int = 0
) -> int:
    """The points that are still to be granted to one card for ``fiscal_year``, by the version of its first day.

    ``already_granted``: all grants made for this card and this year so far, so that asking again gives 0, and a record of late March that
    arrives in April gives just its difference, once. ``used_this_year``: points used since 1 April; with it the limit on the balance is
    that of 1 April and the answer does not depend on the day of asking; without it the limit is today's. Below zero only where unused
    points lapse: that many lapse. Where they stay, nothing that was once given is taken back.
    """
    version = scheme.version(first_day(fiscal_year))
    if version is None:
        return 0
    return version.grant.points(used_previous_year, balance_now, already_granted, used_this_year)


# ── the file ──


def load(path: Path) -> Scheme:
    """The scheme in a file, proven on its examples; raises ``Unusable`` with all that is wrong."""
    return parse(files.read(path), str(path))


def parse(data: bytes, name: str) -> Scheme:
    """The scheme from its file's bytes, proven on its examples; raises ``Unusable`` with all that is wrong."""
    source = fields.parse(data, name)
    root = source.root
    root.number("format", least=FORMAT, most=FORMAT)
    versions = sorted((_version(table) for table in root.each("version")), key=lambda version: version.first_day)
    if not versions:
        root.fault("version", "is missing; write at least one [[version]].")
    for earlier, later in pairwise(versions):
        if earlier.first_day == later.first_day:
            root.fault("version", f"two versions are in force from {later.first_day}; keep one.")
    examples = [_example(table) for table in root.each("example")]
    scheme = Scheme(root.text("name"), tuple(versions), root.texts("sources", ()), len(examples), source.digest)
    source.finish()
    faults = [*failures(scheme, examples), *_unproven(scheme, examples)]
    if faults:
        raise Unusable(f"{name}, {fault}" for fault in faults)
    return scheme


def _version(table: Fields) -> Version:
    holder, points, grant = table.inner("holder"), table.inner("points"), table.inner("grant")
    yen_per_point = points.number("yen_per_point", least=1)
    rides = tuple(_ride_rule(ride, yen_per_point) for ride in table.each("ride"))
    if not rides:
        table.fault("ride", "is missing; write at least one [[version.ride]].")
    return Version(
        table.day("from"),
        yen_per_point,
        AgeRule(holder.number("age", most=150), holder.choice("reached_by", ReachedBy)),
        points.number("at_issue"),
        YearlyGrant(grant.number("most"), points.number("most"), grant.flag("carry_over")),
        rides,
    )


def _ride_rule(table: Fields, yen_per_point: int) -> RideRule:
    pay = table.text("pay")
    if pay not in PAYMENTS:
        table.fault("pay", f"is '{pay}'; it must be one of {', '.join(PAYMENTS)}.")
    party = table.choice("for", Party)
    payment = Free(party) if pay == "free" else PointsFirst(yen_per_point, party)
    return RideRule(payment, frozenset(table.texts("lines", ())))


# ── examples ──


@dataclass(frozen=True, slots=True)
class RideExample:
    """A tap and what should come out."""

    question: Question
    points: int
    cash: int
    free: bool

    def told(self, scheme: Scheme) -> Iterator[tuple[str, object, object]]:
        """(what, expected, got)."""
        decision = scheme.decide(self.question)
        yield "points", self.points, decision.points
        yield "cash", self.cash, decision.cash
        yield "free", self.free, decision.free


@dataclass(frozen=True, slots=True)
class YearExample:
    """A year's end and what should be granted for the next: ``left`` on 31 March, ``used_since`` between then and the grant."""

    year: int
    used: int
    left: int
    used_since: int
    added: int
    balance: int

    def told(self, scheme: Scheme) -> Iterator[tuple[str, object, object]]:
        """(what, expected, got); the same grant asked for again must give nothing."""
        now = self.left - self.used_since
        added = yearly_grant(scheme, self.year, self.used, now, 0, used_this_year=self.used_since)
        yield "added", self.added, added
        yield "balance", self.balance, now + added
        yield "added when asked again", 0, yearly_grant(scheme, self.year, self.used, now + added, added, used_this_year=self.used_since)


@dataclass(frozen=True, slots=True)
class HolderExample:
    """A birthday, whether its owner may hold a card on a day, and the points of a card that is issued then."""

    born: date
    day: date
    eligible: bool
    points: int

    def told(self, scheme: Scheme) -> Iterator[tuple[str, object, object]]:
        """(what, expected, got)."""
        eligible = scheme.eligible(self.born, self.day)
        yield "eligible", self.eligible, eligible
        yield "points of the new card", self.points, scheme.points_at_issue(self.day) if eligible else 0


Case = RideExample | YearExample | HolderExample


@dataclass(frozen=True, slots=True)
class Example:
    """One example of the file, with its path and the sentence it begins with."""

    path: str
    says: str
    case: Case | None = None


def _example(table: Fields) -> Example:
    says = table.text("says")
    kinds = [kind for kind in ("ride", "year", "holder") if table.has(kind)]
    if len(kinds) != 1:
        table.fault("ride", "an example has one of the tables ride, year or holder; write exactly one.")
        return Example(table.path, says)
    return Example(table.path, says, _CASES[kinds[0]](table.inner(kinds[0])))


def _ride_example(table: Fields) -> RideExample:
    fare = table.number("fare")
    holder = table.number("holder", fare, most=max(fare, 0))
    question = Question(fare, holder, table.number("balance"), table.day("day"), frozenset(table.texts("lines", ())))
    return RideExample(question, table.number("points"), table.number("cash"), table.flag("free", default=False))


def _year_example(table: Fields) -> YearExample:
    year, used, left = table.number("year", least=1900, most=9000), table.number("used"), table.number("left")
    used_since = table.number("used_since", 0, most=left)
    return YearExample(year, used, left, used_since, table.number("added", least=-10_000_000), table.number("balance"))


def _holder_example(table: Fields) -> HolderExample:
    eligible = table.flag("eligible")
    return HolderExample(table.day("born"), table.day("day"), eligible, table.number("points", None if eligible else 0))


_CASES: Mapping[str, Callable[[Fields], Case]] = {"ride": _ride_example, "year": _year_example, "holder": _holder_example}


def failures(scheme: Scheme, examples: Sequence[Example]) -> list[str]:
    """A sentence for each thing that an example expects and the rules do not give."""
    return [
        f"{example.path} ({example.says}): expected {what} {expected}, the rules give {got}; correct the rules or the example."
        for example in examples
        if example.case is not None
        for what, expected, got in example.case.told(scheme)
        if expected != got
    ]


def _unproven(scheme: Scheme, examples: Sequence[Example]) -> list[str]:
    """A sentence for each rule that no example tries."""
    cases = [example.case for example in examples]
    faults: list[str] = []
    for version in scheme.versions:
        where = f"version from {version.first_day}"
        questions = [case.question for case in cases if isinstance(case, RideExample) and scheme.version(case.question.day) is version]
        years = [case for case in cases if isinstance(case, YearExample) and scheme.version(first_day(case.year)) is version]
        answers = {case.eligible for case in cases if isinstance(case, HolderExample) and scheme.version(case.day) is version}
        faults += [
            f"{where}, ride[{place}]: no example rides by this rule; write one."
            for place, rule in enumerate(version.rides, 1)
            if not any(_first_fit(version, question) is rule for question in questions)
        ]
        if not years:
            faults.append(f"{where}, grant: no example of a year; write one.")
        if answers != {True, False}:
            faults.append(f"{where}, holder: needs an example of somebody who may hold a card and of somebody who may not.")
    return faults


def _first_fit(version: Version, question: Question) -> RideRule | None:
    return next((rule for rule in version.rides if rule.fits(question.lines)), None)
