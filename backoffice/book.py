"""Double entry: what an entry of a ledger means in yen and points (pure).

One posting has one debit, one credit and one positive amount. So the books balance by construction, no sign can be wrong, and the sum over
all purses is the sum over all operators without anybody's having to check it. Nothing is ever changed: what was wrong is put right by a
posting the other way round that points at the old one.

**Which entries post.** What was taken from a card (PAID, or RESOLVED as paid) posts its points; its cash is a memo, the coins are in the
box already. What nobody paid because a rule let the holder ride free posts its fare for the city's bill. Not the whole nominal fare: a
companion without a card pays cash, and the operator is not to be paid for that seat twice. UNKNOWN posts nothing until it is settled
(``backoffice.witness``), RESOLVED as unpaid posts nothing, and so do practice and everything without a card.

How much of a fare was waived is read off the entry without knowing any scheme: a rule that waives takes no points, so where no points
were taken it is the fare less the cash; and where points were taken, fare less cash is what the points paid. Points stay points here; what
a point is worth in yen is dated data of the scheme and enters when the bill is made.

**Legs.** A posting is known by its entry and its leg: ten times the turn, plus the kind. Turn 0 is what the entry itself says, later
turns are what the city concludes about it (odd: booked; even: taken back). The same conclusion twice is the same key, so a settlement that
runs again after a crash changes nothing.

``postings_of`` is called for each entry that arrives, so it is written to be quick: named tuples, and operators' accounts made once.
"""

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from ledger.entry import Entry, Fare, Flags, Kind, Outcome

TURN = 10
"""How far the legs of one turn lie from those of the next."""

THE_CITY = 0
"""The device under which grants are filed; no terminal has this number."""

GRANTS = "city:grants"
"""Where points come from."""

FREE_RIDES = "city:free"
"""Memo: what free rides would have cost."""

CASH_PAID = "riders:cash"
"""Memo: coins that riders put into boxes."""


class PostingKind(IntEnum):
    """What moved. Numbers are for ever; they are the last digit of a leg."""

    POINTS = 1  # from a purse to an operator: what the city owes
    CASH = 2  # memo, yen
    FREE = 3  # memo, yen: the fare of a free ride
    GRANT = 4  # from the city to a purse


class Posting(NamedTuple):
    """One movement of ``amount`` > 0 from ``debit`` to ``credit``; points for POINTS and GRANT, yen for CASH and FREE."""

    leg: int
    kind: PostingKind
    debit: str
    credit: str
    amount: int


_PRACTICE = int(Flags.PRACTICE)
_BOOKED = {int(Kind.PAID), int(Kind.FREE)}
_RESOLVED, _RESOLVED_PAID = int(Kind.RESOLVED), int(Outcome.PAID)
_POINTS, _CASH, _WAIVED = PostingKind.POINTS, PostingKind.CASH, PostingKind.FREE
_LEG_POINTS, _LEG_CASH, _LEG_WAIVED = int(_POINTS), int(_CASH), int(_WAIVED)


def purse(rider: bytes) -> str:
    """The account of a rider's purse: credited by grants, debited by rides."""
    return "rider:" + rider.hex()


@lru_cache(maxsize=4096)
def owed_to(operator: str) -> str:
    """The account of what the city owes an operator, in points."""
    return f"operator:{operator}:points"


@lru_cache(maxsize=4096)
def cash_of(operator: str) -> str:
    """The memo account of an operator's cash boxes, in yen."""
    return f"operator:{operator}:cash"


@lru_cache(maxsize=4096)
def free_of(operator: str) -> str:
    """The memo account of an operator's free rides, in yen."""
    return f"operator:{operator}:free"


def postings_of(entry: Entry) -> tuple[Posting, ...]:
    """What ``entry`` books by itself, on arrival. Most books have one or two postings; what books nothing has none."""
    if entry.medium is None or not books(entry.kind, entry.flags, entry.outcome):
        return ()
    return movements(entry.medium.rider, entry.place.operator, _amounts(entry.fare))


def books(kind: int, flags: int, outcome: int) -> bool:
    """Whether an entry with a medium books anything by itself, by its fields."""
    return not flags & _PRACTICE and (kind in _BOOKED or (kind == _RESOLVED and outcome == _RESOLVED_PAID))


def concluded(entry: Entry, turn: int) -> tuple[Posting, ...]:
    """What the city books for an UNKNOWN ``entry`` that is proven paid, in an odd ``turn``."""
    if entry.medium is None or entry.flags & Flags.PRACTICE:
        return ()
    return movements(entry.medium.rider, entry.place.operator, _amounts(entry.fare), turn * TURN)


def taken_back(posting: Posting) -> Posting:
    """The correction of ``posting``: the same amount the other way, in the next even turn. It points at the posting's leg."""
    leg, kind, debit, credit, amount = posting
    turn = 2 * (turn_of(leg) // 2 + 1)
    return Posting(turn * TURN + kind, kind, credit, debit, amount)


def turn_of(leg: int) -> int:
    """0: booked by the entry; odd: concluded by the city; even: taken back."""
    return leg // TURN


def granted(rider: bytes, points: int) -> Posting:
    """The posting of a grant of ``points`` > 0 to a purse."""
    return Posting(int(PostingKind.GRANT), PostingKind.GRANT, GRANTS, purse(rider), points)


def movements(rider: bytes, operator: str, amounts: tuple[int, int, int], first: int = 0) -> tuple[Posting, ...]:
    """What a ride moves: ``amounts`` are its nominal fare, points and cash, ``first`` is ten times the turn."""
    nominal, points, cash = amounts
    if points:
        paid = Posting(first + _LEG_POINTS, _POINTS, "rider:" + rider.hex(), owed_to(operator), points)
        return (paid, Posting(first + _LEG_CASH, _CASH, CASH_PAID, cash_of(operator), cash)) if cash else (paid,)
    waived = nominal - cash
    free = (Posting(first + _LEG_WAIVED, _WAIVED, FREE_RIDES, free_of(operator), waived),) if waived > 0 else ()
    return (Posting(first + _LEG_CASH, _CASH, CASH_PAID, cash_of(operator), cash), *free) if cash else free


def _amounts(fare: Fare) -> tuple[int, int, int]:
    return fare.nominal, fare.points, fare.cash
