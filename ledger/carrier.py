"""Drives the courier's table with a ledger, an uplink and a letterbox.

It performs what a row says and comes back with the next event; when to send and when to wait is ``ledger.courier``'s. It reads the ledger
only, opens it for one answer at a time, and writes nothing but the letterbox. Killed anywhere it has lost nothing: what the city has, the
city says again.

``turn`` is one step, so whoever runs it can stop between two batches; ``wakes_ns`` says until when there is nothing to do.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from drivers.devices.clock import Clock
from ledger.batch import Batch, pack
from ledger.book import Acknowledged
from ledger.chain import Head, Link
from ledger.courier import (
    TABLE,
    Do,
    Event,
    Known,
    Pace,
    Range,
    State,
    Table,
    back_off_s,
    long_silent,
    missing,
    newest,
    obeyed_s,
    oldest,
    step,
)
from ledger.entry import Entry, Kind, Versions, When
from ledger.errors import BatchTooLarge, LedgerError
from ledger.letterbox import ALL_BROKEN, STALE_AFTER_S, CouriersSide, Memory, Told
from ledger.notes import Heartbeat, encode_heartbeat, encode_loss
from ledger.receipt import Receipt
from ledger.seal import Content, Signer, seal

log = logging.getLogger(__name__)

BATCHES, HEARTBEATS, LOSSES = "/v1/batches", "/v1/heartbeats", "/v1/losses"
MEDIA_TYPE = "application/cose"
_TOLD_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``retry_after_s``: as told, None when nothing was; ``detail``: the city's sentence, printable and short."""

    status: int
    media_type: str
    body: bytes
    retry_after_s: float | None = None
    detail: str = ""


class NoAnswer(Exception):
    """Nothing came back, or not all of it. The message says where it ended and names no secret."""


class Uplink(Protocol):
    """One way to the city."""

    def post(self, door: str, body: bytes) -> Answer:
        """Send one sealed message and wait for the answer; raises ``NoAnswer``, in bounded time."""
        ...


class Reading(Protocol):
    """A ledger as it is read; ``ledger.store.LedgerFile``. Raises ``LedgerError``."""

    @property
    def device(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    def head(self) -> Head: ...
    def start(self) -> Head: ...
    def hash_at(self, seq: int) -> bytes | None: ...
    def acknowledged(self) -> Acknowledged | None: ...
    def links(self, seq: int = 0, batch: int = 500) -> Iterable[Link]: ...
    def last(self, kind: Kind) -> Entry | None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Keyring(Protocol):
    """The device's key, and the next one while it is being announced."""

    def signer(self) -> Signer:
        """The key that the city knows."""
        ...

    def next_signer(self) -> Signer | None:
        """The key that a KEY entry announces, until ``change``."""
        ...

    def next_reason(self) -> str:
        """The ``reason`` of that KEY entry."""
        ...

    def change(self) -> None:
        """The city knows the next key: it is the key now, durably. Raises ``OSError``."""
        ...


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a courier is made of.

    ``ledgers()``: where they lie, those that were set aside first and the one in use last. ``believe(sealed)``: the receipt in a message
    that the city signed; raises ``LedgerError`` for any other. ``draw()``: random, 0 … 1. ``free_bytes()``: room for the ledger.
    """

    device: int
    software: str
    ledgers: Callable[[], Sequence[Path]]
    open: Callable[[Path], Reading]
    uplink: Uplink
    believe: Callable[[bytes], Receipt]
    letterbox: CouriersSide
    keyring: Keyring
    clock: Clock
    draw: Callable[[], float]
    free_bytes: Callable[[], int]


@dataclass(frozen=True, slots=True)
class _Ledger:
    """One ledger as it was a moment ago, and what the city has of it. ``fits``: up to there it is the one the city has."""

    path: Path
    epoch: int
    start: Head
    head: Head
    known: Known
    fits: bool


class Carrier:
    """A courier on duty."""

    def __init__(self, equipment: Equipment, pace: Pace | None = None, rows: Table = TABLE) -> None:
        self.equipment = equipment
        self.state = State.RESTING
        self._pace = pace or Pace()
        self._rows = rows
        self._memory = equipment.letterbox.memory()
        self._event: Event | None = None
        self._known: dict[int, Known] = {}
        self._laid: dict[int, Receipt] = {}
        self._sent_to: dict[int, int] = {}
        self._epochs: dict[Path, int] = {}
        self._answer: tuple[bytes, Receipt] | None = None
        self._retry_after_s: float | None = None
        self._telling: Told | None = None
        self._skipped: set[str] = set()
        self._wished = self._pace.batch
        self._silent = False
        self._asks_with_next_key = False
        now_ns = equipment.clock.monotonic_ns()
        self._beat_at_ns: int | None = None
        self._due_ns = self._look_at_ns = now_ns + _ns(equipment.draw() * self._pace.settle_s)
        if self._memory.failures:
            self.state = State.BACKING_OFF
            self._due_ns = now_ns + _ns(back_off_s(self._memory.failures, equipment.draw(), self._pace))
        self._effects: dict[Do, Callable[[], Event | None]] = {
            Do.GREET: self._greet,
            Do.TELL: self._tell,
            Do.SEND_NEWEST: lambda: self._send(self._newest),
            Do.SEND_OLDEST: lambda: self._send(self._oldest),
            Do.LAY: self._lay,
            Do.SUCCEED: self._succeed,
            Do.LOOK: self._look,
            Do.SKIP: self._skip,
            Do.SHRINK: self._shrink,
            Do.PAUSE: self._pause,
            Do.REST: lambda: self._wait(self._pace.rest_s),
            Do.BACK_OFF: self._back_off,
            Do.WAIT_AS_TOLD: self._wait_as_told,
            Do.STAY_AWAY: self._stay_away,
        }

    # ── the step ──

    @property
    def wakes_ns(self) -> int:
        """The monotonic moment before which ``turn`` does nothing."""
        if self._event is not None:
            return self.equipment.clock.monotonic_ns()
        return min(self._due_ns, self._look_at_ns) if self.state is State.RESTING else self._due_ns

    def run(self, go_on: Callable[[], bool], nap_s: float = 1.0) -> None:
        """Turn while ``go_on()``, which is asked between two messages and at least every ``nap_s``."""
        clock = self.equipment.clock
        while go_on():
            self.turn()
            clock.sleep_until_ns(min(self.wakes_ns, clock.monotonic_ns() + _ns(nap_s)))

    def turn(self) -> None:
        """One row of the table, if it is time for one."""
        event, self._event = self._event or self._waited(), None
        if event is None:
            return
        row = step(self.state, event, self._rows)
        log.info("courier row=%s", row.name)
        self.state = row.target
        for do in row.does:
            self._event = self._effects[do]() or self._event

    def _waited(self) -> Event | None:
        now_ns = self.equipment.clock.monotonic_ns()
        if now_ns >= self._due_ns:
            return Event.DUE
        if self.state is State.RESTING and now_ns >= self._look_at_ns:
            self._look_at_ns = now_ns + _ns(self._pace.look_s)
            return Event.FILLED if self._filled() else None
        return None

    def _filled(self) -> bool:
        if self._losses():
            return True
        try:
            ledgers = self._survey()
        except LedgerError:
            return False
        return any(ledger.fits and missing(ledger.known, ledger.head.seq) >= self._pace.batch for ledger in ledgers)

    # ── what there is ──

    def _survey(self) -> list[_Ledger]:
        """The ledgers that may have something to send; raises ``LedgerError`` when the one in use cannot be read."""
        *aside, current = self.equipment.ledgers()
        found: list[_Ledger] = []
        for path in aside:
            if self._epochs.get(path) in self._memory.done:
                continue
            try:
                ledger = self._seen(path)
            except LedgerError as error:
                log.warning("a ledger that was set aside cannot be read: %s", error)
                continue
            if ledger.epoch not in self._memory.done:
                found.append(ledger)
        return [*found, self._seen(current)]

    def _seen(self, path: Path) -> _Ledger:
        with self.equipment.open(path) as ledger:
            self._epochs[path] = ledger.epoch
            start, head = ledger.start(), ledger.head()
            known = self._known.get(ledger.epoch) or known_before(ledger)
            if known.next_seq <= start.seq:  # the city lost what was forgotten here: what is here goes on from where it begins
                begin = max(start.seq, min(self._sent_to.get(ledger.epoch, 0), head.seq))
                known = replace(known, next_seq=begin + 1, head=ledger.hash_at(begin) or start.hash)
            fits = ledger.device == self.equipment.device and ledger.hash_at(known.next_seq - 1) == known.head
            return _Ledger(path, ledger.epoch, start, head, known, fits)

    def _losses(self) -> list[Told]:
        try:
            return [told for told in self.equipment.letterbox.losses() if told.name not in self._skipped]
        except OSError as error:
            log.warning("the notes of lost ledgers cannot be read: %s", error)
            return []

    def _look(self) -> Event:
        if self._losses():
            return Event.LOSS
        now_ns = self.equipment.clock.monotonic_ns()
        if self._beat_at_ns is None or now_ns - self._beat_at_ns >= _ns(self._pace.rest_s):
            return Event.BEAT
        try:
            if self._silent and self._newest() is not None:
                return Event.SILENCE
            return Event.ENTRIES if self._oldest() is not None else Event.NOTHING
        except LedgerError as error:
            log.warning("the ledger cannot be read now: %s", error)
            return Event.UNREADABLE

    def _oldest(self) -> tuple[_Ledger, Range] | None:
        for ledger in self._survey():
            wanted = oldest(ledger.known, ledger.head.seq, self._wished) if ledger.fits else None
            if wanted is not None:
                return ledger, wanted
        return None

    def _newest(self) -> tuple[_Ledger, Range] | None:
        self._silent, silent = False, self._silent  # once in a contact
        ledger = self._survey()[-1]
        wanted = newest(ledger.known, ledger.head.seq, self._pace) if ledger.fits else None
        self._silent = silent and wanted is not None and self.state is not State.PROBING
        return None if wanted is None else (ledger, wanted)

    # ── what is sent ──

    def _greet(self) -> Event:
        self._silent = long_silent(self._memory.contact_ms, self.equipment.clock.now().utc_ms, self._pace)
        self._skipped.clear()
        self._wished = self._pace.batch
        self._telling = None
        try:
            with self.equipment.open(self.equipment.ledgers()[-1]) as ledger:
                self._epochs[self.equipment.ledgers()[-1]] = ledger.epoch
                beat = self._heartbeat(ledger.epoch, ledger.head())
        except LedgerError as error:
            log.warning("the ledger cannot be read now: %s", error)
            return Event.UNREADABLE
        self._beat_at_ns = self.equipment.clock.monotonic_ns()
        return self._post(HEARTBEATS, Content.HEARTBEAT, encode_heartbeat(beat), beat.epoch)

    def _heartbeat(self, epoch: int, head: Head) -> Heartbeat:
        """The station's state, or that it has none: a station that does not turn is broken in every part."""
        now, said = self.equipment.clock.now(), self._said()
        mine = When(0, 0, max(now.utc_ms, 0), int(now.state))
        about = (self.equipment.device, epoch, head.seq, head.hash)
        if said is None or said[1] > STALE_AFTER_S:
            versions = said[0].versions if said else Versions()
            return Heartbeat(*about, mine, ALL_BROKEN, max(self.equipment.free_bytes(), 0), versions, self.equipment.software)
        state, age_s = said
        at = replace(mine, boot=state.at.boot, mono_ms=state.at.mono_ms + int(age_s * 1000))
        return Heartbeat(*about, at, state.selftest, max(self.equipment.free_bytes(), 0), state.versions, self.equipment.software)

    def _said(self) -> tuple[Heartbeat, float] | None:
        try:
            return self.equipment.letterbox.state()
        except OSError as error:
            log.warning("the station's state cannot be read: %s", error)
            return None

    def _tell(self) -> Event:
        waiting = self._losses()
        if not waiting:
            return Event.UNREADABLE
        self._telling = waiting[0]
        return self._post(LOSSES, Content.LOSS, encode_loss(self._telling.loss), self._telling.loss.epoch)

    def _send(self, choose: Callable[[], tuple[_Ledger, Range] | None]) -> Event:
        try:
            wanted = choose()
            if wanted is None:  # the ledger changed since it was looked at
                return Event.UNREADABLE
            ledger, entries = wanted
            with self.equipment.open(ledger.path) as reading:
                payload, last = batch_of(reading, entries, max(self.equipment.clock.now().utc_ms, 0))
        except BatchTooLarge as error:
            log.info("%s", error)
            return Event.TOO_LARGE
        except LedgerError as error:
            log.warning("nothing can be sent now: %s", error)
            return Event.UNREADABLE
        event = self._post(BATCHES, Content.BATCH, payload, ledger.epoch)
        if event is Event.RECEIPT:
            self._sent_to[ledger.epoch] = last
        return event

    def _post(self, door: str, content: Content, payload: bytes, epoch: int) -> Event:
        following = self.equipment.keyring.next_signer()
        signer = following if following and self._asks_with_next_key else self.equipment.keyring.signer()
        self._answer, self._retry_after_s = None, None
        try:
            answer = self.equipment.uplink.post(door, seal(signer, content, payload))
        except NoAnswer as error:
            log.info("no answer from %s: %s", door, error)
            return Event.NO_ANSWER
        self._retry_after_s = answer.retry_after_s
        event = meaning(answer)
        if event is not Event.RECEIPT:
            log.warning("%s answered %s: %s", door, answer.status, answer.detail or "no reason given")
            return event
        try:
            receipt = self.equipment.believe(answer.body)
        except LedgerError as error:
            log.warning("%s gave what the city did not sign: %s", door, error)
            return Event.NOT_THE_CITY
        if (receipt.device, receipt.epoch) != (self.equipment.device, epoch):
            log.warning("%s gave a receipt of another ledger", door)
            return Event.NOT_THE_CITY
        self._answer = answer.body, receipt
        return Event.RECEIPT

    # ── what came back ──

    def _lay(self) -> None:
        if self._answer is None:
            return
        sealed, receipt = self._answer
        try:
            self._keep(sealed, receipt)
            if self._telling is not None:
                self.equipment.letterbox.told(self._telling.name)
            self._change_key()
            self._finish()
        except (OSError, LedgerError) as error:
            log.warning("a receipt could not be kept: %s; the city will say it again", error)
        self._telling = None

    def _keep(self, sealed: bytes, receipt: Receipt) -> None:
        epoch = receipt.epoch
        before = self._laid.get(epoch)
        news = before is None or receipt.rejects or (before.next_seq, before.head) != (receipt.next_seq, receipt.head)
        if news and epoch == self._epochs.get(self.equipment.ledgers()[-1], epoch):
            self.equipment.letterbox.lay(sealed, receipt)
            self._laid[epoch] = receipt
        self._known[epoch] = Known(receipt.next_seq, receipt.head, receipt.holes, receipt.min_interval_s, receipt.max_entries)

    def _change_key(self) -> None:
        """The next key is the key once the city has the entry that announces it, or has answered to it."""
        keyring = self.equipment.keyring
        if keyring.next_signer() is None:
            return
        known = self._asks_with_next_key or any(self._announced(path) for path in self.equipment.ledgers())
        if known:
            keyring.change()
            log.info("the city knows the device's next key; it is used from now on")
        self._asks_with_next_key = False

    def _announced(self, path: Path) -> bool:
        with self.equipment.open(path) as ledger:
            entry, known = ledger.last(Kind.KEY), self._known.get(ledger.epoch)
        return (
            entry is not None and known is not None and entry.reason == self.equipment.keyring.next_reason() and entry.seq < known.next_seq
        )

    def _finish(self) -> None:
        """Ledgers that were set aside and of which nothing is left to send are not looked at again."""
        *aside, _ = self._survey()
        done = [
            ledger.epoch
            for ledger in aside
            if (not ledger.fits and ledger.epoch in self._known) or oldest(ledger.known, ledger.head.seq, 1) is None
        ]
        if done:
            self._remember(replace(self._memory, done=(*self._memory.done, *done)))

    def _succeed(self) -> None:
        now_ms = max(self.equipment.clock.now().utc_ms, 0)
        if self._memory.failures or now_ms - self._memory.contact_ms >= self._pace.rest_s * 1000 or now_ms < self._memory.contact_ms:
            self._remember(replace(self._memory, failures=0, contact_ms=now_ms))

    def _skip(self) -> None:
        if self._telling is not None:
            self._skipped.add(self._telling.name)
            self._telling = None

    def _shrink(self) -> None:
        self._wished = max(1, self._wished // 2)

    # ── waiting ──

    def _wait(self, seconds: float) -> None:
        now_ns = self.equipment.clock.monotonic_ns()
        self._due_ns = now_ns + _ns(seconds)
        self._look_at_ns = now_ns + _ns(self._pace.look_s)

    def _pause(self) -> None:
        epoch = self._answer[1].epoch if self._answer else -1
        self._wait(self._known[epoch].min_interval_s if epoch in self._known else 0)

    def _back_off(self) -> None:
        self._fail()
        self._wait(back_off_s(self._memory.failures, self.equipment.draw(), self._pace))

    def _wait_as_told(self) -> None:
        self._fail()
        self._wait(obeyed_s(self._retry_after_s, self._memory.failures, self.equipment.draw(), self._pace))

    def _stay_away(self) -> None:
        self._asks_with_next_key = not self._asks_with_next_key  # its announcement may have arrived, and the receipt not
        self._wait(self._pace.away_s)

    def _fail(self) -> None:
        self._remember(replace(self._memory, failures=self._memory.failures + 1))

    def _remember(self, memory: Memory) -> None:
        self._memory = memory
        try:
            self.equipment.letterbox.remember(memory)
        except OSError as error:
            log.warning("the courier's memory could not be written: %s", error)


def meaning(answer: Answer) -> Event:
    """What an answer says by its status, before anything in it is believed."""
    match answer.status:
        case 200 if answer.media_type == MEDIA_TYPE:
            return Event.RECEIPT
        case 200:
            return Event.NOT_THE_CITY
        case 401 | 403:
            return Event.STRANGER
        case 400 | 415:
            return Event.NOT_UNDERSTOOD
        case 413:
            return Event.TOO_LARGE
        case 429 | 503:
            return Event.BUSY
        case status if 300 <= status < 400:  # a network that wants a person to sign in first
            return Event.NOT_THE_CITY
        case _:
            return Event.NO_ANSWER


def printable(text: str) -> str:
    """A stranger's sentence as a log may have it."""
    return "".join(sign for sign in text if sign.isprintable())[:_TOLD_CHARACTERS]


def known_before(ledger: Reading) -> Known:
    """What the city had when the station last heard of it."""
    acknowledged = ledger.acknowledged()
    head = acknowledged.head if acknowledged else Head(0, ledger.hash_at(0) or b"")
    return Known(head.seq + 1, head.hash)


def batch_of(ledger: Reading, wanted: Range, now_ms: int) -> tuple[bytes, int]:
    """The payload of the batch, and its last entry. It ends with an entry that announces a key: the next ones are signed with that."""
    previous = ledger.hash_at(wanted.first - 1)
    if previous is None:
        raise LedgerError(f"the entry before {wanted.first} is not in the ledger; `kazashi ledger verify` names what is missing")
    entries: list[bytes] = []
    for link in islice(ledger.links(wanted.first - 1, wanted.count), wanted.count):
        if link.seq != wanted.first + len(entries):
            break
        entries.append(link.data)
        if link.kind == Kind.KEY:
            break
    if not entries:
        raise LedgerError(f"entry {wanted.first} is not in the ledger; `kazashi ledger verify` names what is missing")
    batch = Batch(ledger.device, ledger.epoch, wanted.first, previous, tuple(entries), now_ms)
    return pack(batch), batch.last_seq


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
