"""When the courier speaks to the city, as a table.

Why a table. A vehicle is offline whenever it likes: between two masts, in the garage, for a month. Whoever writes the sending as a loop
with tries in it finds out years later what it does when the city is full, when a café's network answers in the city's place, when a device
was blocked, or when a thousand buses come home at 18:00. Here each of these is a row that can be read, counted and tested.
``ledger.carrier`` performs the rows and comes back with the next event.

What holds in every row
    1. Nothing is believed that the city has not signed, and nothing is remembered as received before the city's receipt lies on the disk.
    2. Sending again is harmless: the city knows an entry by its device, epoch and number. So every doubt is a reason to send again, never
       to send less. The courier keeps no list of what it has sent.
    3. A contact begins with a heartbeat. Its receipt says what the city has, and only then is a batch cut.
    4. Whatever is wrong, the courier comes back by itself. There is no state without a way on, and no error that needs a restart.

Rules that look like choices, and their reasons
    * *Oldest first*, because only what is stored without a hole moves the watermark. But after a long silence one small batch of the newest
      goes first, the *canary*: a card that was cloned or blocked meanwhile is seen a day earlier.
    * Waits after failures grow exponentially up to five minutes and are drawn anew each time, from zero up (full jitter): a fleet that lost
      the city at the same moment does not come back at the same moment. The count of failures outlives a restart, or a terminal that is
      switched on and off would always knock at its fastest.
    * A city that says when to come back (Retry-After) is obeyed, and never asked earlier than that.
    * Who is refused as a stranger (401, 403) or is not understood (400, 415) waits a quarter of an hour: only a person or a new software
      helps, and each heartbeat that does not come tells the city which vehicle it is.
    * A lost ledger is told before anything else is sent, because it is the reason for the hole that the city will see. A city that does not
      understand it gets the entries all the same.
    * An answer that is too large is answered by half as many entries, at once; one entry alone always fits.
    * A city that has more than this ledger is no failure of the network. The receipt is laid down and the station acts on it.
    * While a key is exchanged the city accepts one of two, and which one depends on how far its books are, which a lost receipt or a stick
      may have moved without our knowing. So a refusal is answered by the same message under the other key, once, and only then believed.
    * What the city sends down is asked for last, when it lacks nothing of ours, and seldom. A list or a package that does not come is no
      failure of the contact: what was sent is sent. One that is no good is passed over, or it would keep the others away for ever. When the
      contact before this one failed, only what is small is fetched; what is small comes first anyhow.

Each row has a name, which the log carries. Two rows never share a (state, event); an event without a row raises ``NoSuchRow``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum


class State(Enum):
    """Where the courier is."""

    RESTING = "resting"
    BACKING_OFF = "backing off"  # the last contact failed
    SHUT_OUT = "shut out"  # the city knows us and will not have us, or does not know us
    GREETING = "greeting"  # a heartbeat is on its way
    IN_CONTACT = "in contact"
    TELLING = "telling"  # a lost ledger is on its way
    PROBING = "probing"  # the canary is on its way
    SENDING = "sending"  # a batch is on its way
    PAUSING = "pausing"  # between two batches, as long as the city asks for
    ASKING = "asking"  # the list of packages is on its way here
    FETCHING = "fetching"  # a package is on its way here


class Event(Enum):
    """What can happen to it."""

    # out of contact
    DUE = "the wait is over"
    FILLED = "a batch is full, or a ledger was lost"
    # in contact: what there is to do
    LOSS = "a lost ledger is to be told"
    SILENCE = "entries wait and the city has long not been heard"
    ENTRIES = "entries wait"
    BEAT = "a heartbeat is due"
    PACKAGES = "the city's packages were long not asked for"
    OFFER = "a package is to be fetched"
    NOTHING = "nothing is to be done"
    # what came back
    RECEIPT = "the city has signed for it"
    BUSY = "the city asks to come later"
    NO_ANSWER = "no answer, or a server's fault"
    NOT_THE_CITY = "an answer that the city has not signed"
    OTHER_KEY = "the city does not accept this key, and there is another"
    STRANGER = "the city does not accept this device's key"
    NOT_UNDERSTOOD = "the city finds it malformed"
    TOO_LARGE = "the batch is too large"
    LISTED = "the list of packages is here"
    PACKAGE = "a package is here that the city has signed"
    NOT_GIVEN = "the list or the package did not come"
    NO_GOOD = "what came is not the package that was asked for, or none that the city signed"
    # what was not sent
    UNREADABLE = "the ledger cannot be read now"


class Do(Enum):
    """What a row asks of the carrier."""

    GREET = "send a heartbeat"
    TELL = "send the note of a lost ledger"
    SEND_NEWEST = "send a few of the newest entries"
    SEND_OLDEST = "send the oldest that the city lacks"
    LAY = "lay the receipt beside the ledger; what was told is told"
    SUCCEED = "the city was heard: failures begin from zero"
    LOOK = "look what there is to do"
    SKIP = "leave this note until the next contact"
    SHRINK = "half as many entries"
    TURN_KEY = "sign the next message with the other key"
    ASK = "ask what the city sends down"
    FETCH = "fetch a package"
    LAY_PACKAGE = "lay the package beside the ledger"
    OVERLOOK = "leave this package until the list is asked for again"
    PUT_OFF = "leave all packages until later"
    PAUSE = "wait as long between batches as the city asks for"
    REST = "wait for the next heartbeat or a full batch"
    BACK_OFF = "one failure more; wait by their count"
    WAIT_AS_TOLD = "one failure more; wait as long as the city said, and by their count"
    STAY_AWAY = "wait long"


@dataclass(frozen=True, slots=True)
class Row:
    """One arrow: in ``state``, on ``event``, do ``does`` in this order, and be in ``target``."""

    name: str
    state: State
    event: Event
    target: State
    does: tuple[Do, ...]


class NoSuchRow(LookupError):
    """An event came in a state that has no row for it: our fault."""


Table = Mapping[tuple[State, Event], Row]
_S, _E = State, Event


def _answers(name: str, state: State, again: Do, understood: Row, too_large: Row) -> tuple[Row, ...]:
    """What is the same for everything that was sent; ``again`` sends it."""
    return (
        Row(f"{name}-other-key", state, _E.OTHER_KEY, state, (Do.TURN_KEY, again)),
        Row(f"{name}-busy", state, _E.BUSY, _S.BACKING_OFF, (Do.WAIT_AS_TOLD,)),
        Row(f"{name}-no-answer", state, _E.NO_ANSWER, _S.BACKING_OFF, (Do.BACK_OFF,)),
        Row(f"{name}-not-the-city", state, _E.NOT_THE_CITY, _S.BACKING_OFF, (Do.BACK_OFF,)),
        Row(f"{name}-stranger", state, _E.STRANGER, _S.SHUT_OUT, (Do.STAY_AWAY,)),
        Row(f"{name}-unreadable", state, _E.UNREADABLE, _S.RESTING, (Do.REST,)),
        understood,
        too_large,
    )


def _refused(name: str, state: State, event: Event) -> Row:
    return Row(name, state, event, _S.SHUT_OUT, (Do.STAY_AWAY,))


ROWS = (
    # ── out of contact ──
    Row("rest-over", _S.RESTING, _E.DUE, _S.GREETING, (Do.GREET,)),
    Row("rest-filled", _S.RESTING, _E.FILLED, _S.GREETING, (Do.GREET,)),
    Row("try-again", _S.BACKING_OFF, _E.DUE, _S.GREETING, (Do.GREET,)),
    Row("knock-again", _S.SHUT_OUT, _E.DUE, _S.GREETING, (Do.GREET,)),
    # ── a heartbeat ──
    Row("greeted", _S.GREETING, _E.RECEIPT, _S.IN_CONTACT, (Do.LAY, Do.LOOK)),
    *_answers(
        "greet",
        _S.GREETING,
        Do.GREET,
        _refused("greet-not-understood", _S.GREETING, _E.NOT_UNDERSTOOD),
        _refused("greet-too-large", _S.GREETING, _E.TOO_LARGE),
    ),
    # ── in contact ──
    Row("a-loss", _S.IN_CONTACT, _E.LOSS, _S.TELLING, (Do.TELL,)),
    Row("a-canary", _S.IN_CONTACT, _E.SILENCE, _S.PROBING, (Do.SEND_NEWEST,)),
    Row("a-batch", _S.IN_CONTACT, _E.ENTRIES, _S.SENDING, (Do.SEND_OLDEST,)),
    Row("a-heartbeat", _S.IN_CONTACT, _E.BEAT, _S.GREETING, (Do.GREET,)),
    Row("all-sent", _S.IN_CONTACT, _E.NOTHING, _S.RESTING, (Do.SUCCEED, Do.REST)),
    Row("look-unreadable", _S.IN_CONTACT, _E.UNREADABLE, _S.RESTING, (Do.REST,)),
    # ── a lost ledger ──
    Row("told", _S.TELLING, _E.RECEIPT, _S.IN_CONTACT, (Do.LAY, Do.SUCCEED, Do.LOOK)),
    *_answers(
        "tell",
        _S.TELLING,
        Do.TELL,
        Row("tell-not-understood", _S.TELLING, _E.NOT_UNDERSTOOD, _S.IN_CONTACT, (Do.SKIP, Do.LOOK)),
        Row("tell-too-large", _S.TELLING, _E.TOO_LARGE, _S.IN_CONTACT, (Do.SKIP, Do.LOOK)),
    ),
    # ── the newest few ──
    Row("probed", _S.PROBING, _E.RECEIPT, _S.PAUSING, (Do.LAY, Do.SUCCEED, Do.PAUSE)),
    *_answers(
        "probe",
        _S.PROBING,
        Do.SEND_NEWEST,
        _refused("probe-not-understood", _S.PROBING, _E.NOT_UNDERSTOOD),
        Row("probe-too-large", _S.PROBING, _E.TOO_LARGE, _S.IN_CONTACT, (Do.SHRINK, Do.LOOK)),
    ),
    # ── the oldest ──
    Row("sent", _S.SENDING, _E.RECEIPT, _S.PAUSING, (Do.LAY, Do.SUCCEED, Do.PAUSE)),
    *_answers(
        "send",
        _S.SENDING,
        Do.SEND_OLDEST,
        _refused("send-not-understood", _S.SENDING, _E.NOT_UNDERSTOOD),
        Row("send-too-large", _S.SENDING, _E.TOO_LARGE, _S.IN_CONTACT, (Do.SHRINK, Do.LOOK)),
    ),
    Row("pause-over", _S.PAUSING, _E.DUE, _S.IN_CONTACT, (Do.LOOK,)),
    # ── what the city sends down ──
    Row("a-list", _S.IN_CONTACT, _E.PACKAGES, _S.ASKING, (Do.ASK,)),
    Row("listed", _S.ASKING, _E.LISTED, _S.IN_CONTACT, (Do.LOOK,)),
    Row("list-not-given", _S.ASKING, _E.NOT_GIVEN, _S.RESTING, (Do.PUT_OFF, Do.SUCCEED, Do.REST)),
    Row("a-package", _S.IN_CONTACT, _E.OFFER, _S.FETCHING, (Do.FETCH,)),
    Row("fetched", _S.FETCHING, _E.PACKAGE, _S.IN_CONTACT, (Do.LAY_PACKAGE, Do.LOOK)),
    Row("package-no-good", _S.FETCHING, _E.NO_GOOD, _S.IN_CONTACT, (Do.OVERLOOK, Do.LOOK)),
    Row("package-not-given", _S.FETCHING, _E.NOT_GIVEN, _S.RESTING, (Do.PUT_OFF, Do.SUCCEED, Do.REST)),
)


def tabulate(rows: Iterable[Row]) -> Table:
    """The rows by (state, event); ``ValueError`` when two share one."""
    table: dict[tuple[State, Event], Row] = {}
    for row in rows:
        other = table.setdefault((row.state, row.event), row)
        if other is not row:
            raise ValueError(f"rows '{other.name}' and '{row.name}' share ({row.state.value}, {row.event.value})")
    return table


TABLE = tabulate(ROWS)


def step(state: State, event: Event, table: Table = TABLE) -> Row:
    """The row for ``event`` in ``state``; raises ``NoSuchRow``."""
    row = table.get((state, event))
    if row is None:
        raise NoSuchRow(f"the courier's table has no row for '{event.value}' while {state.value}")
    return row


# --- how long, how much -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pace:
    """The numbers behind the rows. A vehicle takes the defaults.

    ``rest_s``: from one heartbeat to the next. ``look_s``: how often the ledger is looked at meanwhile. ``batch``: entries a batch, at
    which a new contact is worth while too. ``canary``: entries of the first batch after ``silence_s`` without the city. ``base_s``,
    ``most_s``: the wait after the first failure, and the longest. ``away_s``: when we are refused. ``obey_s``: the longest Retry-After that
    is obeyed. ``settle_s``: a start waits up to that long, so that a depot's vehicles do not all call at once.
    ``ask_s``: from one question for packages to the next, on the average; ``ask_again_s``: when one did not come. ``small``: the most bytes
    of a package that is fetched over a bad network. ``slowest``: bytes a second that a download is waited for.
    """

    rest_s: float = 300
    look_s: float = 15
    batch: int = 200
    canary: int = 20
    silence_s: float = 12 * 3600
    base_s: float = 5
    most_s: float = 300
    away_s: float = 900
    obey_s: float = 24 * 3600
    settle_s: float = 15
    ask_s: float = 3600
    ask_again_s: float = 600
    small: int = 64 * 1024
    slowest: int = 4096


def back_off_s(failures: int, draw: float, pace: Pace) -> float:
    """The wait after the ``failures``-th failure in a row: uniformly from 0 to base · 2^(failures − 1), at most ``most_s``.

    ``draw``: random, 0 … 1.
    """
    return draw * min(pace.most_s, pace.base_s * 2.0 ** min(max(failures, 1) - 1, 32))


def obeyed_s(told_s: float | None, failures: int, draw: float, pace: Pace) -> float:
    """The wait that the city asked for, with our own behind it: those it sent away together must not come back together."""
    return min(max(told_s or 0.0, 0.0), pace.obey_s) + back_off_s(failures, draw, pace)


def spread_s(middle_s: float, draw: float) -> float:
    """From half of ``middle_s`` to one and a half times: a fleet that was started at one moment does not ask at one moment."""
    return middle_s * (0.5 + draw)


@dataclass(frozen=True, slots=True)
class Known:
    """What the city has of one ledger, by its newest receipt: everything below ``next_seq``, and above it all but the ``holes``."""

    next_seq: int
    head: bytes
    holes: tuple[tuple[int, int], ...] = ()
    min_interval_s: int = 0
    max_entries: int = 0

    def up_to(self, seq: int) -> "Known":
        """As it will be when the entries up to ``seq`` have arrived."""
        return replace(self, next_seq=seq + 1)


@dataclass(frozen=True, slots=True)
class Range:
    """Entries ``first`` … ``last`` of a ledger."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many."""
        return self.last - self.first + 1


def most_entries(known: Known, wished: int) -> int:
    """How many entries a batch may have; at least one."""
    return max(1, min(wished, known.max_entries) if known.max_entries else wished)


def missing(known: Known, head: int) -> int:
    """How many of the ledger's ``head`` entries the city lacks."""
    if not known.holes:
        return max(0, head - known.next_seq + 1)
    # Above the last hole the city has entries, up to where nobody said: what it lacks there shows when the holes are closed.
    return sum(min(last, head) - first + 1 for first, last in known.holes if first <= head)


def oldest(known: Known, head: int, wished: int) -> Range | None:
    """The next batch: the oldest entries that the city lacks, and no more than up to where it has them again. None: it lacks nothing."""
    first = known.next_seq
    if first > head:
        return None
    hole = next((last for begin, last in known.holes if begin == first), head)
    return Range(first, min(head, hole, first + most_entries(known, wished) - 1))


def newest(known: Known, head: int, pace: Pace) -> Range | None:
    """The canary; None when the backlog is not longer than one batch, which then tells as much."""
    few = min(pace.canary, most_entries(known, pace.canary))
    if known.holes or head - known.next_seq + 1 <= max(few, most_entries(known, pace.batch)):
        return None
    return Range(head - few + 1, head)


def long_silent(contact_ms: int, now_ms: int, pace: Pace) -> bool:
    """Whether the city's last receipt (Unix ms, 0 for never) is long ago by this clock."""
    return now_ms - contact_ms >= pace.silence_s * 1000
