"""From what arrived to what is booked and billed, beyond what each entry books by itself (pure).

An entry books on arrival (``backoffice.book``). What is left is worked out here for one rider at a time, over all vehicles: the city's
conclusions about unknown debits, what is taken back because a vehicle spoke later, and what a person has to look at. All of it is a
function of the entries and of when they arrived, so a run that was killed is simply run again: bookings have their keys, and one that is
there already is the same one.

A debit that two entries book by themselves (a second RESOLVED, or the old entry and the new epoch's after an image was restored) is booked
twice when they arrive, because an entry cannot know about others; the later one is taken back here. Where two stories contradict each
other nothing is turned round: there is an alarm, and what was booked first stays until somebody decides.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple

from backoffice.bill import BESIDE_COINS, Movement
from backoffice.book import Posting, concluded, owed_to, postings_of, taken_back, turn_of
from backoffice.clock_repair import Stamp, repair
from backoffice.witness import Arrived, Judgement, Key, Verdict, account, booked_again, impossible, in_order, judge, key_of, resolved_again
from drivers.cards.purse import Counters
from ledger.entry import Entry

CONCLUDED = 1
"""The turn of what the city books by itself."""


DATED_AFTER_MS = 24 * 3_600_000
"""How long after an entry without a day the city waits for what tells it; then the day is fixed, or closed bills would change."""


class Dated(NamedTuple):
    """The day found for an entry whose vehicle did not know it, and from when it is fixed (Unix ms): it is billed from then on."""

    service_day: int
    since_ms: int


class Booking(NamedTuple):
    """A posting of the city's own about the entry ``key``, with the day it belongs to and when it became known (Unix ms).

    ``corrects``: the leg of the same entry that it takes back, 0 for none.
    """

    key: Key
    posting: Posting
    service_day: int
    at_ms: int
    corrects: int = 0


class Trouble(Enum):
    """What a person has to look at."""

    CONTRADICTED = "contradicted"
    IMPOSSIBLE = "impossible card"
    RESOLVED_AGAIN = "resolved again"
    OVERBOOKED = "overbooked"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One trouble with one entry, in a sentence without names or numbers of cards. The same trouble is the same alarm."""

    trouble: Trouble
    key: Key
    at_ms: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What follows from one rider's entries."""

    bookings: tuple[Booking, ...]
    alarms: tuple[Alarm, ...]
    judgements: tuple[Judgement, ...]


def settle(history: Iterable[Arrived]) -> Settled:
    """All that the city books by itself about one rider, and all alarms; from *all* entries of this rider, in any order."""
    story = in_order(history)
    judgements = judge(story)
    bookings = [booking for judgement in judgements for booking in _concluded(judgement)]
    bookings += [
        Booking(key_of(entry), taken_back(posting), entry.place.service_day, at_ms, posting.leg)
        for entry, at_ms in booked_again(story)
        for posting in postings_of(entry)
    ]
    return Settled(tuple(bookings), tuple(_alarms(story, judgements)), tuple(judgements))


def days_of(entries: Iterable[Arrived], day_of: Callable[[Entry, int], int]) -> dict[Key, Dated]:
    """The days of those ``entries`` whose vehicle did not know the day. All that came of a ledger, or at least whole boots and what lies
    beside them. ``day_of``: the operator's day of a time in Unix ms, for an entry.
    """
    ledgers: dict[tuple[int, int], list[Arrived]] = defaultdict(list)
    for arrived in in_order(entries):
        ledgers[arrived.entry.device, arrived.entry.epoch].append(arrived)
    found: dict[Key, Dated] = {}
    for (device, epoch), own in ledgers.items():
        stamps = [Stamp(entry.seq, entry.when, entry.place.service_day, at_ms) for entry, at_ms in own]
        found |= {Key(device, epoch, seq): dated for seq, dated in dated_by(stamps, partial(day_of, own[0].entry)).items()}
    return found


def dated_by(stamps: Sequence[Stamp], day_of: Callable[[int], int]) -> dict[int, Dated]:
    """The days, by seq, of those entries of one ledger that have none."""
    found: dict[int, Dated] = {}
    for came_ms in sorted({stamp.received_ms for stamp in stamps if not stamp.service_day}):
        until = came_ms + DATED_AFTER_MS
        mine = {stamp.seq for stamp in stamps if not stamp.service_day and stamp.received_ms == came_ms}
        repaired = repair([stamp for stamp in stamps if stamp.received_ms <= until], day_of)
        found |= {each.seq: Dated(each.service_day, until) for each in repaired if each.seq in mine}
    return found


def movements(operator: str, entries: Iterable[Arrived], bookings: Iterable[Booking], days: Mapping[Key, Dated]) -> Iterator[Movement]:
    """What moved for ``operator``: by its entries (each once), and by the city's bookings. ``days``: of entries without a day."""
    for entry, at_ms in in_order(entries):
        if entry.place.operator == operator:
            day, since_ms = days.get(key_of(entry), (entry.place.service_day, 0))
            postings = postings_of(entry)
            for posting in postings:
                yield Movement(day, max(at_ms, since_ms), posting.kind, 0, posting.amount, alone=len(postings) == 1)
    own = accounts_of(operator)
    bookings = list(bookings)
    legs = {(booking.key, booking.posting.leg) for booking in bookings}
    for key, posting, signed_day, at_ms, _ in bookings:
        if posting.debit in own or posting.credit in own:
            day, since_ms = days.get(key, (signed_day, 0))
            alone = not any((key, posting.leg + step) in legs for step in BESIDE_COINS)
            yield Movement(day, max(at_ms, since_ms), posting.kind, turn_of(posting.leg), posting.amount, alone=alone)


def accounts_of(operator: str) -> frozenset[str]:
    """All accounts of one operator."""
    owed = owed_to(operator)
    stem = owed.removesuffix("points")
    return frozenset({owed, stem + "free", stem + "cash"})


def _concluded(judgement: Judgement) -> Iterator[Booking]:
    entry = judgement.entry
    if not judgement.paid_since_ms:
        return
    for posting in concluded(entry, CONCLUDED):
        yield Booking(key_of(entry), posting, entry.place.service_day, judgement.paid_since_ms)
        if judgement.booked_ms:
            yield Booking(key_of(entry), taken_back(posting), entry.place.service_day, judgement.booked_ms, posting.leg)


def _alarms(story: list[Arrived], judgements: Iterable[Judgement]) -> Iterator[Alarm]:
    for judgement in judgements:
        if judgement.verdict is Verdict.CONTRADICTED:
            key = key_of(judgement.entry)
            yield Alarm(
                Trouble.CONTRADICTED, key, judgement.since_ms, f"Whether {_name(key)} was paid is told in two ways; look at the card."
            )
    for entry, at_ms in resolved_again(story):
        key = key_of(entry)
        yield Alarm(Trouble.RESOLVED_AGAIN, key, at_ms, f"{_name(key)} settles entry {entry.ref} a second time; it was taken back.")
    pair = impossible(story)
    if pair is not None:
        last = _where(story, pair[1])
        sentence = (
            f"{_name(key_of(last.entry))} read a card that no whole card can be after what was read before; look at it: a write was torn, "
            "or it is an imitation."
        )
        yield Alarm(Trouble.IMPOSSIBLE, key_of(last.entry), last.received_ms, sentence)
    elif (medium := next((each.entry.medium for each in story if each.entry.medium), None)) and not account(medium.rider, story).whole:
        last = story[-1]
        sentence = f"More is booked for the card of {_name(key_of(last.entry))} than it shows; compare the ledgers."
        yield Alarm(Trouble.OVERBOOKED, key_of(last.entry), last.received_ms, sentence)


def _where(story: list[Arrived], counters: Counters) -> Arrived:
    return next(
        each
        for each in story
        if each.entry.medium and counters.reg_block() in {_block(each.entry.medium.before), _block(each.entry.medium.after)}
    )


def _block(counters: Counters | None) -> bytes:
    return counters.reg_block() if counters else b""


def _name(key: Key) -> str:
    return f"Entry {key.seq} of device {key.device} (epoch {key.epoch})"
