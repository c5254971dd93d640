"""The laws of a bus tap, put as questions to what a day leaves behind (pure).

A day leaves four things: the ledgers of its vehicles, the cards with what was ever written on their registers, what was shown and said, and
texts (logs, files). The functions here join them and answer with a verdict. The proofs call them after each of thousands of days, the demo
prints the same verdicts after its morning, so that nobody's promise is checked by a friendlier copy of the rule.

Law 1 is a joining of two witnesses. A card's register can only be counted down, so each step of it is one debit (or one torn write); every
step must be *claimed* by exactly one ledger, and what a ledger books as paid must be a step. A claim is a PAID entry, an UNKNOWN with what
became of it, or an intent that is still open: the last two are the named ways of not knowing. A torn write may leave anything in the
register; then it is enough that a ledger names the debit it came from, or shows the register as it was left, which no genuine debit
explains (``drivers.cards.purse.contradiction``). Which rides were paid twice is asked separately, and of the riders: as many as the driver
had armed when the card was laid down, and no more.

Laws 4 and 8 are questions to a day and to the city's books together, as somebody reads them who shares no code with whoever wrote them.
"Nothing is lost, nothing counts twice" is a comparison of two sets: every entry of every ledger stands in the books with the same bytes,
the books hold no other, and of each rider the same points. "Offline" is a day on which people rode before the city had heard a word, and
all of it arrived.

Laws 7 and 9 are not questions to a day; they have proofs of their own.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from drivers.cards.purse import Counters
from drivers.devices.clock import ClockState
from ledger.codec import encode
from ledger.entry import Entry, Intent, Kind, Outcome, Place, Versions, When
from validator.messages import Message, Shown

ENDS_SILENTLY = frozenset({Message.SEEN})
"""A tick and amber light alone are no answer."""

SAYS_WHY_NOT = frozenset({Message.OUT_OF_ORDER, Message.CLOSING, Message.LEDGER_FULL})
"""A screen that stands on one of these answers whoever the reader cannot see."""

_PAYING = frozenset({Message.PAID, Message.PAID_PAIR, Message.PAID_AND_CASH, Message.CASH, Message.COMPANION_CASH, Message.RECOVERED})
_WINDOW_UNIT_MS = 60_000


@dataclass(frozen=True, slots=True)
class Book:
    """One vehicle's ledger at the end of the day: its entries in order, and the debits whose outcome is not booked."""

    device: int
    entries: tuple[Entry, ...]
    intents: tuple[Intent, ...]


@dataclass(frozen=True, slots=True)
class CardStory:
    """What a card's register held, oldest first, each value once (16 bytes of block REG)."""

    rider: bytes
    registers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """One thing shown and said. ``newest``: the last entry that stood in the vehicle's ledger at this moment."""

    device: int
    shown: Shown
    newest: Entry | None


@dataclass(frozen=True, slots=True)
class Act:
    """One thing a person did, and what followed.

    ``riders``: whose cards were laid down (empty for a key). ``place`` and ``armed``: the run, and how many people the driver had armed.
    ``said``: the messages that followed; ``standing``: what the screen shows at the end. ``excused``: nobody can have answered: the power
    was off, or the card was gone before the reader had heard it.
    """

    device: int
    what: str
    place: Place
    armed: int = 1
    riders: tuple[bytes, ...] = ()
    said: tuple[Message, ...] = ()
    standing: Message | None = None
    excused: bool = False


class Number(NamedTuple):
    """Which entry of which ledger."""

    device: int
    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"entry {self.seq} of device {self.device}"


@dataclass(frozen=True, slots=True)
class CityBooks:
    """What the city has booked.

    ``entries``: the first 16 bytes of the SHA-256 of each entry's bytes. ``spent``: points that are booked from each rider's purse.
    ``aside``: what was not booked and waits for a person, a sentence each. ``heard_ms``: when the city first heard of any vehicle (Unix
    ms).
    """

    entries: Mapping[Number, bytes]
    spent: Mapping[bytes, int]
    aside: tuple[str, ...]
    heard_ms: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a law was held, and if not, the first things that broke it."""

    number: int
    text: str
    held: bool
    why: str = ""


def charged_once(books: Sequence[Book], cards: Sequence[CardStory], acts: Sequence[Act], window_min: int) -> Verdict:
    """Law 1. ``window_min``: the operator's minutes within which the same card on the same run never pays again by itself."""
    return _verdict(
        1,
        "Charged once: a ride is paid once or not at all, and which of the two is known",
        _Charges(books, cards, acts, window_min).faults(),
    )


def durable_before_ok(books: Sequence[Book], said: Sequence[Said]) -> Verdict:
    """Law 2: what was said to be paid, free, boarded or found paid stood in the ledger when it was said."""
    return _verdict(2, "Durable before OK: no green light before the entry is on the disk", _premature(books, said))


def never_silent(acts: Sequence[Act]) -> Verdict:
    """Law 3: each touch and each key is followed by a message, or by a screen that says why not."""
    return _verdict(3, "Never silent: every touch and every key ends in light, sound and word", _silences(acts))


def nothing_lost(books: Sequence[Book], city: CityBooks) -> Verdict:
    """Law 4: what stands in the ledgers stands in the city's books, byte for byte and once, and nothing else does."""
    return _verdict(4, "Nothing is lost, nothing counts twice", _differences(books, city))


def offline_is_normal(books: Sequence[Book], city: CityBooks) -> Verdict:
    """Law 8, as far as one day can show it: people rode before the city had heard of any vehicle, and all of that arrived."""
    return _verdict(8, "Offline is normal: thirty days without a network", _not_offline(books, city))


def dated_rules(books: Sequence[Book], rules: Versions) -> Verdict:
    """Law 5, as far as a ledger can show it: every entry names the table, the scheme and the operator's file that decided it."""
    return _verdict(5, "Rules are dated data: every entry names the versions that decided it", _unnamed_rules(books, rules))


def no_secrets(texts: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> Verdict:
    """Law 6: none of the ``secrets`` (what it is, its bytes) stands in any of the ``texts`` (where, bytes), raw or in hexadecimal."""
    return _verdict(6, "Nobody's secret stays on a terminal: no card number and no key in ledger, log or message", _leaks(texts, secrets))


def _verdict(number: int, text: str, faults: Iterator[str]) -> Verdict:
    first = next(faults, None)
    return Verdict(number, text, first is None, first or "")


# --- law 1 --------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a ledger says of one debit. ``sure``: it was booked as paid."""

    entry: Entry
    device: int
    sure: bool

    @property
    def step(self) -> tuple[bytes, bytes]:
        medium = self.entry.medium
        if medium is None or medium.before is None or medium.after is None:
            return b"", b""
        return medium.before.reg_block(), medium.after.reg_block()

    @property
    def name(self) -> str:
        number = f"entry {self.entry.seq}" if self.entry.seq else "an open intent"
        return f"{number} of device {self.device}"


_Ride = tuple[int, bytes, str, int, int]


def _ride(device: int, rider: bytes, place: Place) -> _Ride:
    return device, rider, place.trip, place.service_day, place.shift


@dataclass(frozen=True, slots=True)
class _Charges:
    books: Sequence[Book]
    cards: Sequence[CardStory]
    acts: Sequence[Act]
    window_min: int

    def faults(self) -> Iterator[str]:
        claims: dict[bytes, list[_Claim]] = defaultdict(list)
        for book in self.books:
            yield from _resolved_twice(book)
            for claim in _claims(book):
                claims[_rider(claim.entry)].append(claim)
        stories = {card.rider: card for card in self.cards}
        for rider, of_rider in claims.items():
            if rider not in stories and any(claim.entry.fare.points for claim in of_rider):
                yield f"{of_rider[0].name} names a card that nobody has"
        done: list[_Claim] = []
        for rider, card in stories.items():
            taking = [claim for claim in claims[rider] if claim.entry.fare.points]
            yield from _unclaimed(card, taking)
            steps = set(pairwise(card.registers))
            yield from (
                f"{claim.name} books {_points(claim)} that the card never gave"
                for claim in taking
                if claim.sure and claim.step not in steps
            )
            done += [claim for claim in claims[rider] if claim.step in steps or (claim.sure and not claim.entry.fare.points)]
        yield from self._paid_again(done)

    def _paid_again(self, done: Sequence[_Claim]) -> Iterator[str]:
        rides: dict[_Ride, list[_Claim]] = defaultdict(list)
        for claim in done:
            rides[_ride(claim.device, _rider(claim.entry), claim.entry.place)].append(claim)
        allowed: dict[_Ride, int] = defaultdict(lambda: 1)
        for act in self.acts:
            for rider in act.riders:
                ride = _ride(act.device, rider, act.place)
                allowed[ride] = max(allowed[ride], act.armed)
        for ride, claims in rides.items():
            for at, claim in enumerate(claims):
                riders = sum(_people(one.entry) for one in claims[: at + 1] if self._inside(one.entry.when, claim.entry.when))
                if riders > allowed[ride]:
                    yield f"{claim.name} pays for {riders} riders on one ride where the driver armed {allowed[ride]}"

    def _inside(self, then: When, now: When) -> bool:
        window_ms = self.window_min * _WINDOW_UNIT_MS
        if then.boot == now.boot:
            return now.mono_ms - then.mono_ms <= window_ms
        if ClockState.UNSET in (then.clock, now.clock):
            return True
        return now.utc_ms - then.utc_ms <= window_ms


def _unclaimed(card: CardStory, claims: Sequence[_Claim]) -> Iterator[str]:
    for before, after in pairwise(card.registers):
        if not _is_debit(before, after):
            if not any(before == claim.step[0] or after == claim.step[0] for claim in claims):
                yield "a torn register that no ledger names"
            continue
        claiming = [claim for claim in claims if claim.step == (before, after)]
        if not claiming and not any(_left_torn(claim, before, after) for claim in claims):
            yield f"a debit of {_taken(before, after)} points on a card that no ledger names"
        if len(claiming) > 1:
            yield f"one debit of {_taken(before, after)} points is claimed by {' and '.join(claim.name for claim in claiming)}"


def _claims(book: Book) -> Iterator[_Claim]:
    resolved = {entry.ref: entry.outcome for entry in book.entries if entry.kind is Kind.RESOLVED}
    for entry in book.entries:
        match entry.kind, resolved.get(entry.seq):
            case Kind.PAID, _:
                yield _Claim(entry, book.device, sure=True)
            case Kind.UNKNOWN, None:
                yield _Claim(entry, book.device, sure=False)
            case Kind.UNKNOWN, Outcome.PAID:
                yield _Claim(entry, book.device, sure=True)
            case _:
                pass
    yield from (_Claim(intent.entry, book.device, sure=False) for intent in book.intents)


def _resolved_twice(book: Book) -> Iterator[str]:
    seen: set[int] = set()
    for entry in book.entries:
        if entry.kind is Kind.RESOLVED and entry.ref in seen:
            yield f"entry {entry.ref} of device {book.device} was resolved twice"
        if entry.kind is Kind.RESOLVED:
            seen.add(entry.ref)


def _left_torn(claim: _Claim, before: bytes, after: bytes) -> bool:
    """An unsure debit whose write was torn may leave a register patched together from the old and the new one."""
    old, new = claim.step
    return not claim.sure and old == before and all(byte in pair for byte, pair in zip(after, zip(old, new, strict=True), strict=True))


def _is_debit(before: bytes, after: bytes) -> bool:
    old, new = Counters.parse(before, bytes(3)), Counters.parse(after, bytes(3))
    return new.regb == old.regb - 1 and new.rega < old.rega


def _taken(before: bytes, after: bytes) -> int:
    return Counters.parse(before, bytes(3)).rega - Counters.parse(after, bytes(3)).rega


def _points(claim: _Claim) -> str:
    return f"{claim.entry.fare.points} points"


def _people(entry: Entry) -> int:
    return entry.fare.adults + entry.fare.children


def _rider(entry: Entry) -> bytes:
    return entry.medium.rider if entry.medium else b""


# --- laws 4 and 8 -------------------------------------------------------------------------------------------------------------------------


def _number(entry: Entry) -> Number:
    return Number(entry.device, entry.epoch, entry.seq)


def _differences(books: Sequence[Book], city: CityBooks) -> Iterator[str]:
    yield from city.aside
    own = {_number(entry): entry for book in books for entry in book.entries}
    for number, entry in own.items():
        if number not in city.entries:
            yield f"{number} is not in the city's books"
        elif city.entries[number] != hashlib.sha256(encode(entry)).digest()[:16]:
            yield f"{number} is another one in the city's books"
    yield from (f"{number} stands in the city's books and in no ledger" for number in city.entries if number not in own)
    spent: dict[bytes, int] = defaultdict(int)
    for entry in own.values():
        if entry.counts_as_paid:
            spent[_rider(entry)] += entry.fare.points
    for rider in {*spent, *city.spent}:
        ledgers, booked = spent.get(rider, 0), city.spent.get(rider, 0)
        if ledgers != booked:
            yield f"{ledgers} points of one rider in the ledgers are {booked} in the city's books"


def _not_offline(books: Sequence[Book], city: CityBooks) -> Iterator[str]:
    alone = [entry for book in books for entry in book.entries if entry.when.utc_ms < city.heard_ms]
    if not any(entry.counts_as_paid for entry in alone):
        yield "nobody paid a ride before the city had heard of the vehicles"
    yield from (f"{_number(entry)}, from before there was a network, never came" for entry in alone if _number(entry) not in city.entries)


# --- laws 2, 3, 5, 6 ----------------------------------------------------------------------------------------------------------------------


_EARLIER: dict[Message, Callable[[Entry], bool]] = {
    Message.FREE: lambda entry: entry.kind is Kind.FREE,
    Message.BOARDED: lambda entry: entry.kind is Kind.OPEN,
    Message.ALREADY_PAID: lambda entry: entry.counts_as_paid,
}
"""What may be said again of an entry that is not the newest: what kind it must be."""


def _premature(books: Sequence[Book], said: Sequence[Said]) -> Iterator[str]:
    entries = {book.device: book.entries for book in books}
    last: dict[int, Shown] = {}
    for one in said:
        message, newest = one.shown.message, one.newest
        stood = newest.seq if newest else 0
        if message in _EARLIER and not any(_EARLIER[message](entry) for entry in entries.get(one.device, ()) if entry.seq <= stood):
            yield f"device {one.device} said '{message.value}' before it was in its ledger"
        if message in _PAYING and last.get(one.device) != one.shown:
            if newest is None or not _backs(newest, one.shown):
                yield f"device {one.device} said '{message.value}' before it was in its ledger"
            last[one.device] = one.shown


def _backs(entry: Entry, shown: Shown) -> bool:
    """The entry is the one of which ``shown`` speaks."""
    if entry.kind is not Kind.PAID or entry.fare.points != shown.values.get("points", 0):
        return False
    return shown.message is Message.RECOVERED or entry.fare.cash == shown.values.get("cash")


def _silences(acts: Sequence[Act]) -> Iterator[str]:
    for act in acts:
        answered = any(message not in ENDS_SILENTLY for message in act.said) or act.standing in SAYS_WHY_NOT
        if not answered and not act.excused:
            yield f"device {act.device}: after '{act.what}' nothing was said"


def _unnamed_rules(books: Sequence[Book], rules: Versions) -> Iterator[str]:
    expected = (rules.table, rules.scheme, rules.operator, rules.software, rules.rider_key)
    for book in books:
        for entry in book.entries:
            versions = entry.versions
            named = (versions.table, versions.scheme, versions.operator, versions.software, versions.rider_key)
            if named != expected or (entry.medium is not None and not versions.card_key):
                yield f"entry {entry.seq} of device {book.device} does not name the rules that decided it"


def _leaks(texts: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> Iterator[str]:
    forms = [(what, form) for what, secret in secrets.items() for form in (secret, secret.hex().encode(), secret.hex().upper().encode())]
    for place, text in texts.items():
        for what, form in forms:
            if form in text:
                yield f"{what} stands in {place}"
