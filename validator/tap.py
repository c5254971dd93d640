"""One tap, as a table.

Why a table. A tap is over in 30 ms on the reader and may break anywhere: the hand pulls away, the reader is unplugged, the disk refuses,
the power goes. What each break means for the rider's points is decided here and nowhere else, as rows that can be read, drawn, counted and
mutated by a test. ``validator.station`` only performs what a row says and comes back with the next event; it has no opinion about money.

The order that keeps the promises
    1. The purse is read and proven before anything is decided.
    2. The *intent* (the debit as it will be) is on the disk before the card is written. If the power goes now, the next start knows exactly
       which debit may or may not have happened.
    3. The card is written by one command, and never by a second one while the outcome of the first is unknown.
    4. The card's own counters, read back under its MAC, say whether the debit happened. A "done" in the answer to the write is not
       believed: that answer carries no MAC.
    5. PAID is on the disk, in the transaction that deletes the intent, before the lamp turns green.

So at every arrow one of three things holds: the card was not written (nothing to undo), the debit is proven (PAID is booked), or an intent
is on the disk (the outcome is *unknown*, which is a state with a way out: touch again). No row leaves a written card without an intent.

Rules that look like choices, and their reasons
    * ``CardLeft`` after the write goes to SEARCHING: the answer may be lost while the card still lies there; one fresh look costs 15 ms and
      turns most unknown outcomes into known ones. It looks, it does not write.
    * A debit found undone is *intended again* with the counters just read: a torn write may have moved WCNT, and an intent must say what
      will really be sent.
    * When the store fails after the debit (``BOOKING``/``NotStored``) nothing is shown as paid. The intent is still there and the card
      carries the proof; the next touch books it.
    * Two cards: nothing is read. The station then waits for an empty field, because a wallet that is pulled away loses its cards one by
      one, and the last to leave must not pay.
    * A card that cannot prove our key is not written into the ledger: anybody can show a thousand such cards.
    * A ride without a price becomes UNPRICED at once and the driver is asked; if the driver names the fare, the next touch pays and points
      at it. So the ride is not lost when nobody does anything.

Each row has a name, which the log and the entry carry. Two rows never share a (state, event); an event without a row is a fault of ours and
raises ``NoSuchRow``. Every row can be reached (a test walks them all).
"""

from dataclasses import dataclass
from enum import Enum

from validator.messages import Message


class State(Enum):
    """Where a tap is. WAITING includes "a result is being shown": the next card is taken meanwhile."""

    WAITING = "waiting"
    READING = "reading"
    DECIDING = "deciding"
    SETTLING = "settling"  # what an earlier run left open is being put down
    INTENDING = "intending"
    DEBITING = "debiting"
    CHECKING = "checking"
    SEARCHING = "searching"
    BOOKING = "booking"
    NOTING = "noting"


class Event(Enum):
    """What can happen to a tap; the comment says who says so."""

    # the field
    CARD_SEEN = "card seen"
    TWO_CARDS = "two cards"
    NO_TRIP = "card seen while no trip is open"
    CLOSING = "card seen while power is going"
    READER_DIED = "reader died"
    READER_BACK = "reader is back"
    # the card
    PURSE_READ = "purse read"
    CARD_LEFT = "card left"
    FOREIGN = "not a card of this system"
    NOT_AUTHENTIC = "cannot prove our key"
    UNREADABLE = "answers what such a card cannot answer"
    BAD_GRANT = "neither copy of the grant is signed"
    WRITTEN = "write answered"
    WRITE_REFUSED = "write refused"
    DONE = "debit proven done"
    UNDONE = "debit proven not done"
    NONSENSE = "counters make no sense"
    NOT_FOUND = "card not found again"
    GAVE_UP = "debit proven not done, and tried often enough"
    # the decision (validator.journey)
    DUE = "points are due"
    CASH_ONLY = "only cash is due"
    NOTHING_DUE = "nothing is due"
    BOARDING = "boarding"
    BOARDED_BEFORE = "boarded before at this stop"
    PAID_BEFORE = "paid before on this trip"
    RECOVERED = "the open intent was done"
    UNSURE = "the earlier debit cannot be judged here"
    UNSURE_BEFORE = "the earlier debit was already noted as unknown"
    OLD_KNOWN = "what an earlier run left open can be put down"
    NO_PRICE = "no price"
    NO_PRICE_BEFORE = "no price, already noted"
    BLOCKED = "on the deny list"
    DAMAGED = "counters make no sense, nothing of ours is open"
    # the store
    STORED = "durable"
    FULL = "no room"
    NOT_STORED = "not stored, or the ledger cannot be asked"


class Do(Enum):
    """What a row asks of the station. All but WITHDRAW come back with the next event."""

    READ = "read and prove the purse"
    DECIDE = "decide by the journey's rules"
    INTEND = "make the intent durable"
    DEBIT = "write the card, once"
    VERIFY = "read the counters back"
    FIND = "look for the same card and read it afresh"
    BOOK = "append PAID and delete the intent, in one transaction"
    NOTE = "append the decision's entry; a still open intent of this rider ends with it, in the same transaction"
    WITHDRAW = "delete the intent, if one is open: proven not done"


@dataclass(frozen=True, slots=True)
class Row:
    """One arrow: in ``state``, on ``event``, say ``says`` and do ``does`` in this order, and be in ``target``.

    ``says`` is a message, or RESULT: the message that the decision made (``validator.journey``).
    """

    name: str
    state: State
    event: Event
    target: State
    says: "Message | Result | None" = None
    does: tuple[Do, ...] = ()


class Result(Enum):
    """Stands in a row for "what the decision says"."""

    RESULT = "result"


RESULT = Result.RESULT
_S, _E, _D, _M = State, Event, Do, Message


class NoSuchRow(Exception):
    """The station produced an event that the table does not expect here: our fault."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"the tap table has no row for '{event.value}' while {state.value}")


ROWS = (
    # ── a card comes ──
    Row("seen", _S.WAITING, _E.CARD_SEEN, _S.READING, _M.SEEN, (_D.READ,)),
    Row("two-cards", _S.WAITING, _E.TWO_CARDS, _S.WAITING, _M.ONE_CARD),
    Row("no-trip", _S.WAITING, _E.NO_TRIP, _S.WAITING, _M.NO_TRIP),
    Row("closing", _S.WAITING, _E.CLOSING, _S.WAITING, _M.CLOSING),
    Row("reader-died", _S.WAITING, _E.READER_DIED, _S.WAITING, _M.OUT_OF_ORDER),
    Row("reader-back", _S.WAITING, _E.READER_BACK, _S.WAITING),  # the idle picture follows
    # ── it is read ──
    Row("read", _S.READING, _E.PURSE_READ, _S.DECIDING, None, (_D.DECIDE,)),
    Row("read-left", _S.READING, _E.CARD_LEFT, _S.WAITING, _M.HOLD_AGAIN),
    Row("read-foreign", _S.READING, _E.FOREIGN, _S.WAITING, _M.FOREIGN_CARD),
    Row("read-not-ours", _S.READING, _E.NOT_AUTHENTIC, _S.WAITING, _M.WRONG_CARD),
    Row("read-unreadable", _S.READING, _E.UNREADABLE, _S.WAITING, _M.WRONG_CARD),
    Row("read-bad-grant", _S.READING, _E.BAD_GRANT, _S.WAITING, _M.DAMAGED_CARD),
    Row("read-no-ledger", _S.READING, _E.NOT_STORED, _S.WAITING, _M.LEDGER_FULL),
    Row("read-reader-died", _S.READING, _E.READER_DIED, _S.WAITING, _M.OUT_OF_ORDER),
    # ── it is judged ──
    Row("due", _S.DECIDING, _E.DUE, _S.INTENDING, None, (_D.INTEND,)),
    Row("cash", _S.DECIDING, _E.CASH_ONLY, _S.NOTING, None, (_D.NOTE,)),
    Row("free", _S.DECIDING, _E.NOTHING_DUE, _S.NOTING, None, (_D.NOTE,)),
    Row("boarding", _S.DECIDING, _E.BOARDING, _S.NOTING, None, (_D.NOTE,)),
    Row("boarded-before", _S.DECIDING, _E.BOARDED_BEFORE, _S.WAITING, RESULT, (_D.WITHDRAW,)),
    Row("paid-before", _S.DECIDING, _E.PAID_BEFORE, _S.WAITING, RESULT, (_D.WITHDRAW,)),
    Row("recovered", _S.DECIDING, _E.RECOVERED, _S.BOOKING, None, (_D.BOOK,)),
    Row("unsure", _S.DECIDING, _E.UNSURE, _S.NOTING, None, (_D.NOTE,)),
    Row("unsure-before", _S.DECIDING, _E.UNSURE_BEFORE, _S.WAITING, RESULT),
    Row("old-known", _S.DECIDING, _E.OLD_KNOWN, _S.SETTLING, None, (_D.NOTE,)),
    Row("no-price", _S.DECIDING, _E.NO_PRICE, _S.NOTING, None, (_D.NOTE,)),
    Row("no-price-before", _S.DECIDING, _E.NO_PRICE_BEFORE, _S.WAITING, RESULT, (_D.WITHDRAW,)),
    Row("blocked", _S.DECIDING, _E.BLOCKED, _S.NOTING, None, (_D.NOTE,)),
    Row("damaged", _S.DECIDING, _E.DAMAGED, _S.NOTING, None, (_D.NOTE,)),
    Row("judge-no-ledger", _S.DECIDING, _E.NOT_STORED, _S.WAITING, _M.LEDGER_FULL),
    # ── what an earlier run left open is put down; then the present ride is judged afresh ──
    Row("settled", _S.SETTLING, _E.STORED, _S.DECIDING, None, (_D.DECIDE,)),
    Row("settle-full", _S.SETTLING, _E.FULL, _S.WAITING, _M.LEDGER_FULL),
    Row("settle-failed", _S.SETTLING, _E.NOT_STORED, _S.WAITING, _M.LEDGER_FULL),
    # ── the intent ──
    Row("intended", _S.INTENDING, _E.STORED, _S.DEBITING, None, (_D.DEBIT,)),
    Row("intend-full", _S.INTENDING, _E.FULL, _S.WAITING, _M.LEDGER_FULL),
    Row("intend-failed", _S.INTENDING, _E.NOT_STORED, _S.WAITING, _M.LEDGER_FULL),
    # ── the debit; from here on the intent is open ──
    Row("written", _S.DEBITING, _E.WRITTEN, _S.CHECKING, None, (_D.VERIFY,)),
    Row("write-refused", _S.DEBITING, _E.WRITE_REFUSED, _S.CHECKING, None, (_D.VERIFY,)),
    Row("write-unreadable", _S.DEBITING, _E.UNREADABLE, _S.CHECKING, None, (_D.VERIFY,)),
    Row("write-left", _S.DEBITING, _E.CARD_LEFT, _S.SEARCHING, None, (_D.FIND,)),
    Row("write-reader-died", _S.DEBITING, _E.READER_DIED, _S.WAITING, _M.HOLD_AGAIN_UNSURE),
    # ── the card says what happened ──
    Row("proven", _S.CHECKING, _E.DONE, _S.BOOKING, None, (_D.BOOK,)),
    Row("not-written", _S.CHECKING, _E.UNDONE, _S.WAITING, _M.WRONG_CARD, (_D.WITHDRAW,)),
    Row("torn", _S.CHECKING, _E.NONSENSE, _S.WAITING, _M.DAMAGED_CARD),
    Row("check-left", _S.CHECKING, _E.CARD_LEFT, _S.SEARCHING, None, (_D.FIND,)),
    Row("check-unreadable", _S.CHECKING, _E.UNREADABLE, _S.SEARCHING, None, (_D.FIND,)),
    Row("check-not-authentic", _S.CHECKING, _E.NOT_AUTHENTIC, _S.SEARCHING, None, (_D.FIND,)),
    Row("check-reader-died", _S.CHECKING, _E.READER_DIED, _S.WAITING, _M.HOLD_AGAIN_UNSURE),
    # ── or has to be found first ──
    Row("found-done", _S.SEARCHING, _E.DONE, _S.BOOKING, None, (_D.BOOK,)),
    Row("found-undone", _S.SEARCHING, _E.UNDONE, _S.INTENDING, None, (_D.INTEND,)),
    Row("gave-up", _S.SEARCHING, _E.GAVE_UP, _S.WAITING, _M.HOLD_AGAIN, (_D.WITHDRAW,)),
    Row("found-torn", _S.SEARCHING, _E.NONSENSE, _S.WAITING, _M.DAMAGED_CARD),
    Row("search-no-ledger", _S.SEARCHING, _E.NOT_STORED, _S.WAITING, _M.TROUBLE),
    Row("unknown", _S.SEARCHING, _E.NOT_FOUND, _S.WAITING, _M.HOLD_AGAIN_UNSURE),
    Row("search-reader-died", _S.SEARCHING, _E.READER_DIED, _S.WAITING, _M.HOLD_AGAIN_UNSURE),
    # ── paid, on the disk, and only now said ──
    Row("paid", _S.BOOKING, _E.STORED, _S.WAITING, RESULT),
    Row("book-full", _S.BOOKING, _E.FULL, _S.WAITING, _M.TROUBLE),
    Row("book-failed", _S.BOOKING, _E.NOT_STORED, _S.WAITING, _M.TROUBLE),
    # ── what needs no write to the card ──
    Row("noted", _S.NOTING, _E.STORED, _S.WAITING, RESULT),
    Row("note-full", _S.NOTING, _E.FULL, _S.WAITING, _M.LEDGER_FULL),
    Row("note-failed", _S.NOTING, _E.NOT_STORED, _S.WAITING, _M.LEDGER_FULL),
)

Table = dict[tuple[State, Event], Row]


def table(rows: tuple[Row, ...] = ROWS) -> Table:
    """The rows by (state, event). Two rows for the same pair are refused."""
    by_key = {(row.state, row.event): row for row in rows}
    if len(by_key) != len(rows):
        raise ValueError("two rows of the tap table share a state and an event")
    return by_key


TABLE = table()


def step(state: State, event: Event, rows: Table = TABLE) -> Row:
    """The row for ``event`` in ``state``; raises ``NoSuchRow``."""
    try:
        return rows[state, event]
    except KeyError:
        raise NoSuchRow(state, event) from None
