"""What the laws say about a finished day: verdicts over ledgers, cards and what was said (pure).

Each function looks at what is left when everything is over and answers with what is wrong, one sentence each; nothing means that the law
held as far as these things can show it. A law that nothing here could show is no verdict at all: ``Verdict.held`` is then None.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ledger.entry import Entry, Kind
from validator.messages import Message, Shown


@dataclass(frozen=True, slots=True)
class Verdict:
    """One law: its number, its short text, whether it held (None: not shown), and why one can say so."""

    number: int
    text: str
    held: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class Purse:
    """What a card says when everything is over: points granted, points spent, debits counted."""

    granted: int
    spent: int
    debits: int


@dataclass(frozen=True, slots=True)
class Said:
    """One message, and how far the ledger had come (seq of its last entry) when it was sent."""

    shown: Shown
    ledger_seq: int


SAYS_PAID = frozenset(
    {Message.PAID, Message.PAID_PAIR, Message.PAID_AND_CASH, Message.CASH, Message.RECOVERED, Message.FREE, Message.BOARDED}
)
"""A green light or a "go on": what must be durable before it is said."""

_BOOKED = frozenset({Kind.PAID, Kind.FREE, Kind.OPEN, Kind.RESOLVED})


def named_unknown(entries: Iterable[Entry]) -> list[Entry]:
    """UNKNOWN entries that nothing has resolved yet."""
    kept = list(entries)
    resolved = {(entry.device, entry.epoch, entry.ref) for entry in kept if entry.kind is Kind.RESOLVED}
    return [entry for entry in kept if entry.kind is Kind.UNKNOWN and (entry.device, entry.epoch, entry.seq) not in resolved]


def purse_against_ledger(entries: Sequence[Entry], purses: Mapping[bytes, Purse]) -> list[str]:
    """Law 1, the sum: what left each card is what the ledgers booked, but for a named UNKNOWN. ``purses``: by rider."""
    booked: dict[bytes, list[int]] = defaultdict(list)
    for entry in entries:
        if entry.counts_as_paid and entry.medium is not None and entry.fare.points:
            booked[entry.medium.rider].append(entry.fare.points)
    unsure = {entry.medium.rider for entry in named_unknown(entries) if entry.medium is not None}
    return [
        f"a card spent {purse.spent} points in {purse.debits} debits, and {sum(booked[rider])} in {len(booked[rider])} are booked"
        for rider, purse in purses.items()
        if (sum(booked[rider]), len(booked[rider])) != (purse.spent, purse.debits) and rider not in unsure
    ]


def paid_twice(entries: Sequence[Entry]) -> list[str]:
    """Law 1, the ride: nobody paid for the same person on the same run twice; a pair may pay in two touches."""
    runs: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.counts_as_paid and entry.medium is not None:
            place = entry.place
            runs[entry.medium.rider, place.vehicle, place.trip, place.service_day, place.shift].append(entry)
    return [
        f"a card paid {len(paid)} times on trip {paid[0].place.trip} for one person"
        for paid in runs.values()
        if len(paid) > 1 and not any(entry.fare.adults + entry.fare.children > 1 for entry in paid)
    ]


def said_too_early(said: Sequence[Said], entries: Sequence[Entry]) -> list[str]:
    """Law 2: each "paid" (or "go on") was said when one more entry of that kind was in the ledger. ``said``: of one ledger, in order."""
    booked = [entry.seq for entry in entries if entry.kind in _BOOKED]
    faults: list[str] = []
    count = 0
    for one in said:
        if one.shown.message not in SAYS_PAID:
            continue
        count += 1
        if sum(seq <= one.ledger_seq for seq in booked) == 0:
            faults.append(f"'{one.shown.message.value}' was said (the {count}th such) before anything was booked")
    return faults


def gaps(entries: Sequence[Entry]) -> list[str]:
    """Law 4: a ledger's numbers run from 1 without a gap or a repetition. ``entries``: of one ledger, in order."""
    return [f"entry {place} is missing or repeated" for place, entry in enumerate(entries, 1) if entry.seq != place][:1]


def secrets_in(contents: Mapping[str, bytes], secrets: Sequence[bytes]) -> list[str]:
    """Law 6: names of the ``contents`` that hold one of the ``secrets``, as bytes or as hex digits in either case."""
    shapes = [shape for secret in secrets for shape in (secret, secret.hex().encode(), secret.hex().upper().encode())]
    return [f"{name} holds a card's number or a key" for name, content in contents.items() if any(shape in content for shape in shapes)]
