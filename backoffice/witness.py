"""What other readings of a card prove about a debit whose outcome its own vehicle never learned (pure).

An entry carries the purse as it was read and as it was written, so every vehicle that meets a card testifies about all the others. The
city has all of their ledgers and can tell what no vehicle can. Rules, for an UNKNOWN that would have turned ``before`` into ``after``:

- **What counts as seen.** ``before`` of any entry was read with a good MAC. ``after`` was read back for PAID; for UNKNOWN it is only what
  would have been written, and proves nothing. A RESOLVED as paid saw the register of its ``after``, but not its write counter.
- **A register has one place in the story.** REGB falls by one with each debit, so the debit that started at REGB = r and what stands at
  r − 1 are one slot, and a genuine card puts one debit into it. Clocks and the order of arrival say nothing about order.
- **Paid**: the register was seen as ``after``, byte for byte; its log holds our terminal and our second. Nothing else proves it.
- **Unpaid**: the slot holds somebody else's debit; or less is gone than with ours would be (``drivers.cards.purse.compare``); or the
  register was seen unchanged *later*: with a higher write counter (the write was sealed for the counter as read and can never be done
  after another), or further down in the same ledger. An unchanged register with the same counter may have been read before, and is nothing.
- **Cannot be told**: the card was not seen since; or only after two debits and more, of which the next one's ledger is still missing (its
  ``before`` will tell); or the block was torn. On settlement day such a debit is not billed, as if unpaid: a rider is never charged on a
  guess. If proof comes later, it is booked then, on the later bill, and the rider's yearly grant follows what was used.
- **The vehicle's own word stands.** A RESOLVED books by itself. If the city had concluded "paid" before it came, the conclusion is taken
  back when it comes, so the ride stays booked once. If the two disagree there is an alarm; nothing is turned round without a person.
- **One debit is booked once**, however many ledgers tell of it. An image that was restored brings back an intent that its ledger had closed
  long ago, and the new epoch can only call it UNKNOWN. It is the same debit as that of the old entry: the register before and after is the
  same, byte for byte, and a genuine card shows that once. So it has one judgement, and of all entries that book it by themselves the first
  to come stands; the others are taken back.
- **First proof counts.** What was concluded is kept when a contrary reading comes later; that is an alarm too, because no genuine card can
  show both.

When a conclusion is known is a function of what had arrived, never of when somebody ran a program: a bill made again is the same bill.

A debit that a card shows and no ledger names (its vehicle has not reported, or burnt) is named here with the terminal, the second and the
points that the card remembers. With it the sum over a card holds exactly: spent = booked + unknown + unnamed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from drivers.cards.purse import FULL, Counters, RegLog, compare, contradiction
from drivers.cards.purse import Outcome as Debit
from ledger.entry import Entry, Flags, Kind, Outcome


class Arrived(NamedTuple):
    """An entry and when the city first had it, Unix ms. The city's order of things is (received_ms, device, epoch, seq)."""

    entry: Entry
    received_ms: int


class Key(NamedTuple):
    """Which entry: its ledger and its number."""

    device: int
    epoch: int
    seq: int


class Verdict(Enum):
    """What became of an unknown debit."""

    PAID = "paid"
    UNPAID = "unpaid"
    UNTOLD = "cannot be told"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one UNKNOWN (``entry``), and since when it is known (0 for UNTOLD).

    ``paid_since_ms``: when the city booked it by itself, 0 for never. ``booked_ms``: when an entry came that books this debit by its own
    word, 0 for none; what the city had booked before is then taken back.
    """

    entry: Entry
    verdict: Verdict
    since_ms: int = 0
    paid_since_ms: int = 0
    booked_ms: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Unnamed:
    """Points gone from a card that no ledger names. ``debits`` of them, the last one by ``log``."""

    rider: bytes
    debits: int
    points: int
    log: RegLog


@dataclass(frozen=True, slots=True)
class Account:
    """One card's story against the books, in points: ``spent`` = ``booked`` + ``unknown`` + ``unnamed``, as far as the card was seen."""

    rider: bytes
    spent: int
    booked: int
    unknown: int
    unnamed: tuple[Unnamed, ...]

    @property
    def whole(self) -> bool:
        """Every point is booked, unknown by name, or named as unnamed; and nothing is booked that the card does not show."""
        return self.spent == self.booked + self.unknown + sum(each.points for each in self.unnamed)


class _Sighting(NamedTuple):
    now: Counters
    key: Key
    received_ms: int


def key_of(entry: Entry) -> Key:
    """The entry's ledger and number."""
    return Key(entry.device, entry.epoch, entry.seq)


def in_order(history: Iterable[Arrived]) -> list[Arrived]:
    """The city's order; an entry that came twice stands where it came first."""
    first: dict[Key, Arrived] = {}
    for arrived in sorted(history, key=lambda each: (each.received_ms, key_of(each.entry))):
        first.setdefault(key_of(arrived.entry), arrived)
    return list(first.values())


def judge(history: Iterable[Arrived]) -> list[Judgement]:
    """The verdict on each debit that is UNKNOWN in the entries of *one* rider, from all ledgers, in any order."""
    story = in_order(each for each in history if not each.entry.flags & Flags.PRACTICE)
    sightings = [sighting for arrived in story for sighting in _sightings(arrived)]
    debits: dict[bytes | Key, Arrived] = {}
    for arrived in story:
        if arrived.entry.kind is Kind.UNKNOWN:
            debits.setdefault(_debit(arrived.entry) or key_of(arrived.entry), arrived)
    return [_judged(unknown, sightings, [word for word in story if _speaks_of(word.entry, unknown.entry)]) for unknown in debits.values()]


def resolved_again(history: Iterable[Arrived]) -> list[Arrived]:
    """RESOLVED entries for an UNKNOWN that had one already, in one rider's entries: no vehicle of ours does that."""
    seen: set[Key] = set()
    again: list[Arrived] = []
    for arrived in in_order(history):
        entry = arrived.entry
        if entry.kind is not Kind.RESOLVED:
            continue
        about = Key(entry.device, entry.epoch, entry.ref)
        if about in seen:
            again.append(arrived)
        seen.add(about)
    return again


def booked_again(history: Iterable[Arrived]) -> list[Arrived]:
    """The entries of one rider that book by themselves what another entry had booked, or had settled, when they came."""
    settled: set[bytes | Key] = set()
    paid: set[bytes] = set()
    resolved: set[bytes] = set()
    again: list[Arrived] = []
    for arrived in in_order(each for each in history if not each.entry.flags & Flags.PRACTICE):
        entry, debit = arrived.entry, _debit(arrived.entry)
        if entry.kind is Kind.PAID and debit is not None:
            paid.add(debit)
            if debit in resolved:
                again.append(arrived)
        elif entry.kind is Kind.RESOLVED and entry.outcome is not Outcome.NONE:
            about: list[bytes | Key] = [Key(entry.device, entry.epoch, entry.ref), *([debit] if debit else [])]
            if not settled.isdisjoint(about) or debit in paid:
                again.append(arrived)
            elif entry.outcome is Outcome.PAID and debit is not None:
                resolved.add(debit)
            settled.update(about)
    return again


def impossible(history: Iterable[Arrived]) -> tuple[Counters, Counters] | None:
    """Two readings in one rider's entries that no single genuine card can have shown; None when there are none."""
    return contradiction(sighting.now for arrived in in_order(history) for sighting in _sightings(arrived))


def account(rider: bytes, history: Iterable[Arrived]) -> Account:
    """The card's story against the books, from a new card (REGA and REGB full) to the lowest register seen."""
    story = in_order(history)
    states = {FULL: FULL} | {now.regb: now.rega for arrived in story for now, _, _ in _sightings(arrived)}
    logs = {now.regb: now.regc for arrived in story for now, _, _ in _sightings(arrived)}
    verdicts = {key_of(each.entry): each.verdict for each in judge(story)}
    booked: dict[int, int] = defaultdict(int)
    unknown: set[int] = set()
    counted: set[bytes | None] = set()
    for arrived in story:
        slot, points, sure = _claim(arrived.entry, verdicts)
        if not sure and points:
            unknown.add(slot)
        elif points and _debit(arrived.entry) not in counted:
            counted.add(_debit(arrived.entry))
            booked[slot] += points
    spent = sum_booked = sum_unknown = 0
    unnamed: list[Unnamed] = []
    for upper, lower in pairwise(sorted(states, reverse=True)):
        gone = states[upper] - states[lower]
        spent += gone
        named = sum(points for slot, points in booked.items() if lower < slot <= upper)
        sum_booked += named
        rest = gone - named
        doubtful = [slot for slot in unknown if lower < slot <= upper]
        if rest > 0 and doubtful:
            sum_unknown += rest
        elif rest > 0:
            debits = upper - lower - sum(lower < slot <= upper for slot in booked)
            unnamed.append(Unnamed(rider, debits, rest, RegLog.parse(logs[lower])))
    return Account(rider, spent, sum_booked, sum_unknown, tuple(unnamed))


# --- one unknown debit --------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Evidence:
    paid_ms: int = 0
    unpaid_ms: int = 0
    torn: bool = False
    unsure: bool = False


def _judged(unknown: Arrived, sightings: Sequence[_Sighting], words: Sequence[Arrived]) -> Judgement:
    entry = unknown.entry
    found = _evidence(unknown, sightings)
    paid, unpaid = ([word.received_ms for word in words if _says_paid(word.entry) is said] for said in (True, False))
    first_ms = min([*paid, *unpaid], default=0)
    # In the same batch the vehicle's own word goes first: then nothing needs to be taken back.
    told_first = bool(words) and (not found.paid_ms or first_ms <= found.paid_ms)
    # Only what is proven before a vehicle speaks, and before anything speaks against it, is booked by the city itself.
    paid_since = 0 if told_first or not found.paid_ms or (found.unpaid_ms and found.unpaid_ms < found.paid_ms) else found.paid_ms
    told = Judgement(entry, Verdict.UNTOLD, 0, paid_since, min(paid, default=0))
    for_it, against = [ms for ms in (found.paid_ms, *paid) if ms], [ms for ms in (found.unpaid_ms, *unpaid) if ms]
    if for_it and against:
        return replace(told, verdict=Verdict.CONTRADICTED, since_ms=max(min(for_it), min(against)), why="two stories")
    if for_it:
        return replace(told, verdict=Verdict.PAID, since_ms=min(for_it))
    if against:
        return replace(told, verdict=Verdict.UNPAID, since_ms=min(against))
    return replace(told, why="torn" if found.torn else "others debited" if found.unsure else "not seen since")


def _speaks_of(word: Entry, unknown: Entry) -> bool:
    """An entry that says by itself what became of the debit."""
    same = _debit(word) is not None and _debit(word) == _debit(unknown)
    if word.kind is Kind.RESOLVED and word.outcome is not Outcome.NONE:
        return same or Key(word.device, word.epoch, word.ref) == key_of(unknown)
    return word.kind is Kind.PAID and same


def _says_paid(word: Entry) -> bool:
    return word.kind is Kind.PAID or word.outcome is Outcome.PAID


def _debit(entry: Entry) -> bytes | None:
    """Which debit this is about: the register before and after it. None for an entry that knows of none."""
    medium = entry.medium
    if medium is None or medium.before is None or medium.after is None:
        return None
    return medium.before.reg_block() + medium.after.reg_block()


def _evidence(unknown: Arrived, sightings: Sequence[_Sighting]) -> _Evidence:
    found = _Evidence()
    medium = unknown.entry.medium
    if medium is None or medium.before is None or medium.after is None:
        return found
    about = key_of(unknown.entry)
    for sighting in sightings:
        known_ms = max(unknown.received_ms, sighting.received_ms)
        match _says(medium.before, medium.after, about, sighting):
            case Debit.DONE:
                found.paid_ms = min(found.paid_ms or known_ms, known_ms)
            case Debit.NOT_DONE | Debit.OTHERS_NOT_OURS:
                found.unpaid_ms = min(found.unpaid_ms or known_ms, known_ms)
            case Debit.NONSENSE:
                found.torn = True
            case Debit.OTHERS_UNSURE:
                found.unsure = True
            case None:
                pass
    return found


def _says(before: Counters, after: Counters, about: Key, sighting: _Sighting) -> Debit | None:
    """What one sighting says of the debit; None when it says nothing because it may be older."""
    now, key, _ = sighting
    if now.reg_block() == after.reg_block():
        return Debit.DONE
    if now.regb > before.regb:
        return None
    if now.regb == before.regb:
        further_down = key[:2] == about[:2] and key.seq > about.seq
        later = now.wcnt > before.wcnt or further_down
        return compare(before, after, now) if later else None
    return compare(before, after, now)


def _sightings(arrived: Arrived) -> Iterator[_Sighting]:
    """The counters that this entry proves a card to have shown."""
    entry = arrived.entry
    medium = entry.medium
    if medium is None or medium.before is None:
        return
    key = key_of(entry)
    before, after = medium.before, medium.after
    # A RESOLVED repeats the readings of its UNKNOWN; those are no later than it.
    if entry.kind is not Kind.RESOLVED:
        yield _Sighting(before, key, arrived.received_ms)
    if after is None:
        return
    if entry.kind is Kind.PAID:
        yield _Sighting(after, key, arrived.received_ms)
    elif entry.kind is Kind.RESOLVED and entry.outcome is Outcome.PAID:
        yield _Sighting(replace(after, wcnt=before.wcnt), key, arrived.received_ms)


def _claim(entry: Entry, verdicts: dict[Key, Verdict]) -> tuple[int, int, bool]:
    """The slot that an entry claims, how many points, and whether it is booked."""
    medium = entry.medium
    nothing = (0, 0, False)
    if medium is None or medium.before is None or medium.after is None or entry.flags & Flags.PRACTICE:
        return nothing
    slot, points = medium.before.regb, entry.fare.points
    match entry.kind:
        case Kind.PAID:
            return slot, points, True
        case Kind.UNKNOWN:
            verdict = verdicts.get(key_of(entry), Verdict.UNPAID)  # one that was judged under another entry's name is no claim of its own
            return nothing if verdict is Verdict.UNPAID else (slot, points, verdict is Verdict.PAID)
        case _:
            return nothing
