"""What a page is made of, and times as a clerk reads them. Pure values.

A page is made of few kinds of things, so that one template draws all of them and each is made right for a screen reader once. **A state is
never a colour alone**: it has one of four levels, each with a shape and a word.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import Enum
from typing import ClassVar

from backoffice.console.words import Language, Say

ROOT = "/console"
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Level(Enum):
    """How much a state asks of a person; the shape that is printed before its word."""

    GOOD = "●"
    REST = "○"
    LOOK = "▲"
    ACT = "■"


class Place(Enum):
    """The pages, as they stand in the navigation."""

    VEHICLES = "vehicles"
    TROUBLES = "troubles"
    GAPS = "gaps"
    CARD = "card"
    MONTHS = "months"

    @property
    def path(self) -> str:
        """Its address."""
        return f"{ROOT}/" if self is Place.VEHICLES else f"{ROOT}/{self.value}"


# --- what a page is made of -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """Words, or a number already in words. ``language``: of words that are not in the page's."""

    kind: ClassVar[str] = "text"
    text: str
    small: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A number; they stand under one another by their last digit."""

    kind: ClassVar[str] = "number"
    text: str


@dataclass(frozen=True, slots=True)
class State:
    """A shape and a word. ``detail``: what exactly."""

    kind: ClassVar[str] = "state"
    level: Level
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in the town's zone; ``iso`` for machines, ``ago`` how long since."""

    kind: ClassVar[str] = "moment"
    text: str
    iso: str
    ago: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """Somewhere to go. ``about`` is said, not shown, after the text: links with one text and many targets must differ to the ear."""

    kind: ClassVar[str] = "link"
    text: str
    href: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Links:
    """Several links in one place."""

    kind: ClassVar[str] = "links"
    links: tuple[Link, ...]


Cell = Text | Number | State | Moment | Link | Links


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title; ``header``: its cells name their rows; ``number``: its cells are numbers."""

    title: str
    number: bool = False
    header: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns, under a caption. A table without rows is not drawn; a section says so in a sentence."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    name: str
    heading: str
    state: State | None = None
    sentences: tuple[str, ...] = ()
    to_do: str = ""
    table: Table | None = None
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class TickForm:
    """Where a clerk says what became of an alarm, to be sent to ``action``. ``seen``: how often clerks had said something before."""

    action: str
    seen: int
    heading: str
    button: str
    typed: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    ``title`` is its heading and the window's title. ``form``: the card's form stands on it, ``tick``: an alarm's, behind all sections;
    ``problem``: what was wrong with what was sent.
    """

    place: Place
    title: str
    sections: tuple[Section, ...]
    state: State | None = None
    sentences: tuple[str, ...] = ()
    legend: tuple[State, ...] = ()
    form: bool = False
    problem: str = ""
    typed: str = ""
    tick: TickForm | None = None
    links: tuple[Link, ...] = ()
    at: Moment | None = None


# --- times --------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Now:
    """This moment in the town's zone."""

    unix_ms: int
    zone: tzinfo
    today: date = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "today", self.local(self.unix_ms).date())

    def local(self, unix_ms: int) -> datetime:
        """A Unix time in the town's zone."""
        return (_EPOCH + timedelta(milliseconds=unix_ms)).astimezone(self.zone)

    def since(self, unix_ms: int) -> timedelta:
        """How long ago that was; never negative, whatever a clock said."""
        return max(timedelta(), timedelta(milliseconds=self.unix_ms - unix_ms))


def day_name(day: date, today: date, say: Say) -> str:
    """A day, with its year only when it is another one."""
    if say.language is Language.JA:
        return f"{day.month}月{day.day}日" if day.year == today.year else f"{day.year}年{day.month}月{day.day}日"
    name = _MONTHS[day.month - 1][:3]
    return f"{day.day} {name}" if day.year == today.year else f"{day.day} {name} {day.year}"


def moment(unix_ms: int, now: Now, say: Say, *, ago: bool = False) -> Moment:
    """A Unix time: today's by the clock, others with their day."""
    at = now.local(unix_ms)
    clock = f"{at:%H:%M}"
    text = clock if at.date() == now.today else f"{day_name(at.date(), now.today, say)} {clock}"
    return Moment(text, at.isoformat(timespec="seconds"), ago_text(now.since(unix_ms), say) if ago else "")


def ago_text(passed: timedelta, say: Say) -> str:
    """How long ago, in the largest unit that says enough."""
    minutes = int(passed.total_seconds()) // 60
    if minutes < 1:
        return say("time.now")
    if minutes < 60:
        return say("time.minutes", count=minutes)
    hours = minutes // 60
    return say("time.hours", count=hours) if hours < 48 else say("time.days", count=hours // 24)


def month_name(first: date, say: Say) -> str:
    """The month that begins with ``first``: 2026年11月, November 2026."""
    return f"{first.year}年{first.month}月" if say.language is Language.JA else f"{_MONTHS[first.month - 1]} {first.year}"
