"""How a new system comes onto a unit, as a table (pure).

Where it comes from. The city's server has a list of bundles beside its packages (``/v1/images/index.json``, docs/image.md), and each bundle
under its SHA-256; a stick has bundles in a folder. Neither is believed for more than a hint: a bundle is signed by whoever builds the
images, which is another key than the city's. The city's office may offer a system; it cannot make one.

Rules that look like choices, and their reasons
    * An older system is refused here, before RAUC is asked, and again by the bundle's own hook: it would bring back what was mended. What
      ``older`` says, that hook says (one test asks both). The same system again is nothing to do.
    * A bundle comes in parts, and what has come stays over a power cut. Only its whole hash says that it is the one that was offered.
    * What is another one, what RAUC refuses, what did not work here and what could not be installed in three tries is remembered and never
      fetched again: a vehicle must not start over and over, and a fleet must not fetch the same mistake each night.
    * The mark of a trial is laid *before* the bundle is installed. From the moment RAUC has written the other slot, any start (the driver
      turns the key) goes there, so the mark must already be there. If nothing was installed it costs at worst one look more.
    * A new system whose trial was cut short (the key was turned again at once) is the old one at the next start, by the boot loader's one
      try. It is installed again; only the health check's own word, or the third try, is the end of it.
    * A restart waits for a moment without a trip and without an open debit, as new rules do. It waits as long as it takes: at night the key
      is turned anyway.
    * Nothing is installed before the system that runs was called good: the other slot may be the only one that works.
    * What happened is told when it is known: an entry of the ledger says the word; which system wrote an entry, its software version says,
      and so does each heartbeat.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeGuard

DOOR = "/v1/images"
INDEX = f"{DOOR}/index.json"
MAX_INDEX = 64 * 1024
MOST_OFFERS = 100
MOST_BYTES = 1024 * 1024 * 1024
PART_BYTES = 512 * 1024
MOST_REFUSED = 16
MOST_TRIES = 3
_VERSION = re.compile(r"[0-9A-Za-z.~_-]{1,32}\+([0-9]{14})")
_COMPATIBLE = re.compile(r"[a-z0-9-]{1,48}")


class MalformedIndex(Exception):
    """No list of bundles; the message says why."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One bundle. ``version``: NAME+TIME, 14 digits of UTC; ``compatible``: for which machines; ``digest``: SHA-256 of ``size`` bytes."""

    compatible: str
    version: str
    size: int
    digest: bytes


class Verdict(StrEnum):
    """What an offer is to this unit."""

    WANTED = "newer than what runs"
    SAME = "what runs already"
    OLDER = "older than what runs, and refused"
    NOT_OURS = "for another kind of machine"
    BROKEN = "a version that nobody can compare"
    REFUSED = "tried here, and it did not work"


class Word(StrEnum):
    """What the ledger's entry says: a closed list."""

    INSTALLED = "update:installed"
    REFUSED = "update:refused"
    WENT_BACK = "update:went-back"


def built(version: str) -> int | None:
    """When what a version names was last changed, as a number of 14 digits; None for a text that is no version."""
    found = _VERSION.fullmatch(version)
    return int(found[1]) if found else None


def older(version: str, running: str) -> bool:
    """Whether ``version`` is older than what runs, by its time. What cannot be compared is older: it is not installed."""
    one, other = built(version), built(running)
    return one is None or other is None or one < other


def verdict(offer: Offer, running: str, compatible: str, refused: Iterable[bytes]) -> Verdict:
    """What ``offer`` is to a unit that runs ``running`` and takes bundles for ``compatible``."""
    if offer.compatible != compatible:
        return Verdict.NOT_OURS
    if built(offer.version) is None or built(running) is None:
        return Verdict.BROKEN
    if offer.version == running or built(offer.version) == built(running):
        return Verdict.SAME
    if older(offer.version, running):
        return Verdict.OLDER
    return Verdict.REFUSED if offer.digest in set(refused) else Verdict.WANTED


def best(offers: Iterable[Offer], running: str, compatible: str, refused: Iterable[bytes]) -> Offer | None:
    """The newest that is wanted, or none."""
    gone = set(refused)
    wanted = [offer for offer in offers if verdict(offer, running, compatible, gone) is Verdict.WANTED]
    return max(wanted, key=lambda offer: built(offer.version) or 0, default=None)


def decode(data: bytes) -> tuple[Offer, ...]:
    """The offers of an index (JSON). Raises ``MalformedIndex``."""
    try:
        rows: object = json.loads(data) if len(data) <= MAX_INDEX else None
    except (ValueError, RecursionError):
        rows = None
    if not _is_list(rows) or len(rows) > MOST_OFFERS:
        raise MalformedIndex(f"is no JSON list of at most {MOST_OFFERS} bundles in {MAX_INDEX} bytes")
    return tuple(_offer(row, at) for at, row in enumerate(rows))


def encode(offers: Iterable[Offer]) -> bytes:
    """The inverse."""
    return (json.dumps([_row(offer) for offer in offers], indent=1) + "\n").encode()


def _row(offer: Offer) -> dict[str, object]:
    return {"compatible": offer.compatible, "version": offer.version, "size": offer.size, "digest": offer.digest.hex()}


def _offer(row: object, at: int) -> Offer:
    wrong = MalformedIndex(f"row {at} has not compatible, version, size and digest of a bundle")
    if not _is_table(row):
        raise wrong
    compatible, version, size, digest = (row.get(name) for name in ("compatible", "version", "size", "digest"))
    try:
        fingerprint = bytes.fromhex(digest) if isinstance(digest, str) else b""
    except ValueError:
        raise wrong from None
    if not isinstance(compatible, str) or not _COMPATIBLE.fullmatch(compatible) or not isinstance(version, str):
        raise wrong
    if type(size) is not int or not 1 <= size <= MOST_BYTES or len(fingerprint) != 32 or built(version) is None:
        raise wrong
    return Offer(compatible, version, size, fingerprint)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


# ── what stays over a power cut ──


class Phase(Enum):
    """How far it has come. Written down before the step that it names begins."""

    NONE = "none"
    FETCHING = "fetching"
    INSTALLING = "installing"
    INSTALLED = "installed"  # the other slot is whole; the next start goes there


@dataclass(frozen=True, slots=True)
class Record:
    """``offer``: what is being brought; ``tries``: how often RAUC was asked for it; ``refused``: what is never tried again, in order."""

    phase: Phase = Phase.NONE
    offer: Offer | None = None
    refused: tuple[bytes, ...] = ()
    tries: int = 0

    def without(self, offer: Offer) -> "Record":
        """The same, with ``offer`` never to be tried again."""
        kept = tuple(digest for digest in self.refused if digest != offer.digest)
        return Record(Phase.NONE, None, (*kept, offer.digest)[-MOST_REFUSED:])


def record_bytes(record: Record) -> bytes:
    """One JSON object."""
    offer = None if record.offer is None else _row(record.offer)
    refused = [digest.hex() for digest in record.refused]
    return json.dumps({"phase": record.phase.value, "offer": offer, "refused": refused, "tries": record.tries}).encode()


def record_of(data: bytes) -> Record:
    """The inverse; one that cannot be read is an empty one: then a bundle is at worst fetched again."""
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return Record()
    if not _is_table(found):
        return Record()
    refused, tries = found.get("refused"), found.get("tries")
    try:
        offer = None if found.get("offer") is None else _offer(found.get("offer"), 0)
        digests = tuple(bytes.fromhex(str(digest)) for digest in refused) if _is_list(refused) else ()
        return Record(Phase(found.get("phase")), offer, digests[-MOST_REFUSED:], tries if type(tries) is int else MOST_TRIES)
    except (MalformedIndex, ValueError):
        return Record()


# ── the table ──


class State(Enum):
    """Where the agent is. ``value``: what `systemctl status` says."""

    STARTED = "looks what was begun before"
    RESTING = "waits to ask for a new system again"
    ASKING = "asks whether there is a new system"
    FETCHING = "fetches a new system"
    CHECKING = "looks whether it came whole"
    INSTALLING = "installs it into the other slot"
    WAITING = "waits for a moment without a trip, to start the machine again"
    TRYING = "waits for the word whether the new system works here"
    LEAVING = "the machine starts again"


class Event(Enum):
    """What can happen."""

    FRESH = "nothing was begun"
    HALF = "a bundle was on its way"
    WRITING = "the other slot was being written, or nobody came to try it"
    ARRIVED = "this is the new system"
    NOT_ARRIVED = "the new system was tried, did not work, and this is the old one"
    DUE = "it is time"
    OFFERED = "there is one"
    NOTHING = "there is none"
    NO_ANSWER = "no answer"
    PART = "a part came"
    WHOLE = "the last part came"
    GONE = "it is not offered any more"
    NO_ROOM = "the disk has no room"
    RIGHT = "it is the one that was offered"
    WRONG = "it is another one"
    DONE = "installed"
    REFUSED = "RAUC refuses it"
    FAILED = "RAUC could not do it now"
    BUSY = "a trip is open"
    QUIET = "no trip is open"
    UNDECIDED = "the health check still looks"
    GOOD = "it works here"


class Do(Enum):
    """What a row asks for; those before the last give no event."""

    RECALL = "read what was begun"
    ASK = "ask for offers"
    FETCH = "fetch a part"
    CHECK = "compare the whole hash"
    LAY_MARK = "the next start is a trial"
    LIFT_MARK = "the next start is none"
    INSTALL = "let RAUC write the other slot"
    KEEP = "write down that it is installed; the bundle stays until the new system is good"
    LOOK = "is a trip open?"
    RESTART = "start the machine again"
    HEAR = "has the health check spoken?"
    FORGET = "it is over; the bundle goes"
    NEVER_AGAIN = "it is over, the bundle goes, and this one is never tried again"
    TELL_INSTALLED = "the ledger gets to know that it works"
    TELL_REFUSED = "the ledger gets to know that it was refused"
    TELL_WENT_BACK = "the ledger gets to know that the old one is back"
    REST = "wait long"
    PAUSE = "wait a little"


@dataclass(frozen=True, slots=True)
class Row:
    """One arrow."""

    name: str
    state: State
    event: Event
    target: State
    does: tuple[Do, ...] = ()


ROWS = (
    Row("start", State.STARTED, Event.DUE, State.STARTED, (Do.RECALL,)),
    Row("fresh", State.STARTED, Event.FRESH, State.RESTING, (Do.PAUSE,)),
    Row("resume", State.STARTED, Event.HALF, State.FETCHING, (Do.FETCH,)),
    Row("again", State.STARTED, Event.WRITING, State.CHECKING, (Do.CHECK,)),
    Row("arrived", State.STARTED, Event.ARRIVED, State.TRYING, (Do.KEEP, Do.HEAR)),
    Row("went-back", State.STARTED, Event.NOT_ARRIVED, State.RESTING, (Do.TELL_WENT_BACK, Do.NEVER_AGAIN, Do.LIFT_MARK, Do.REST)),
    Row("still-tried", State.TRYING, Event.UNDECIDED, State.TRYING, (Do.PAUSE,)),
    Row("ask-health", State.TRYING, Event.DUE, State.TRYING, (Do.HEAR,)),
    Row("stays", State.TRYING, Event.GOOD, State.RESTING, (Do.TELL_INSTALLED, Do.FORGET, Do.REST)),
    Row("ask", State.RESTING, Event.DUE, State.ASKING, (Do.ASK,)),
    Row("nothing-new", State.ASKING, Event.NOTHING, State.RESTING, (Do.REST,)),
    Row("nobody-there", State.ASKING, Event.NO_ANSWER, State.RESTING, (Do.PAUSE,)),
    Row("begin", State.ASKING, Event.OFFERED, State.FETCHING, (Do.FETCH,)),
    Row("part", State.FETCHING, Event.PART, State.FETCHING, (Do.FETCH,)),
    Row("offline", State.FETCHING, Event.NO_ANSWER, State.FETCHING, (Do.PAUSE,)),
    Row("go-on", State.FETCHING, Event.DUE, State.FETCHING, (Do.FETCH,)),
    Row("withdrawn", State.FETCHING, Event.GONE, State.RESTING, (Do.FORGET, Do.REST)),
    Row("full", State.FETCHING, Event.NO_ROOM, State.RESTING, (Do.FORGET, Do.REST)),
    Row("whole", State.FETCHING, Event.WHOLE, State.CHECKING, (Do.CHECK,)),
    Row("damaged", State.CHECKING, Event.WRONG, State.RESTING, (Do.TELL_REFUSED, Do.LIFT_MARK, Do.NEVER_AGAIN, Do.REST)),
    Row("tried-enough", State.CHECKING, Event.REFUSED, State.RESTING, (Do.TELL_REFUSED, Do.LIFT_MARK, Do.NEVER_AGAIN, Do.REST)),
    Row("install", State.CHECKING, Event.RIGHT, State.INSTALLING, (Do.LAY_MARK, Do.INSTALL)),
    Row("refused", State.INSTALLING, Event.REFUSED, State.RESTING, (Do.TELL_REFUSED, Do.LIFT_MARK, Do.NEVER_AGAIN, Do.REST)),
    Row("not-now", State.INSTALLING, Event.FAILED, State.CHECKING, (Do.PAUSE,)),
    Row("not-good-yet", State.CHECKING, Event.UNDECIDED, State.CHECKING, (Do.PAUSE,)),
    Row("try-again", State.CHECKING, Event.DUE, State.CHECKING, (Do.CHECK,)),
    Row("installed", State.INSTALLING, Event.DONE, State.WAITING, (Do.KEEP, Do.LOOK)),
    Row("on-the-road", State.WAITING, Event.BUSY, State.WAITING, (Do.PAUSE,)),
    Row("look", State.WAITING, Event.DUE, State.WAITING, (Do.LOOK,)),
    Row("leave", State.WAITING, Event.QUIET, State.LEAVING, (Do.RESTART,)),
)
BY_KEY = {(row.state, row.event): row for row in ROWS}
