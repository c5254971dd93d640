"""Drives the courier's table with a ledger, an uplink and a letterbox.

It performs what a row says and comes back with the next event; when to send and when to wait is ``ledger.courier``'s. It reads the ledger
only, opens it for one answer at a time, and writes nothing but the letterbox. Killed anywhere it has lost nothing: what the city has, the
city says again.

**Two keys.** While a key is exchanged each message is signed with the one that speaks for it: entries up to the announcement with the
old one, those behind it with the next, notes with the one that the city accepted last. Where that is wrong, the table says to try the
other. The old key goes only when the city has all that it alone may sign: everything up to the announcement, and what older ledgers hold.

**A key that is away.** A token that was pulled out signs nothing. That is as good as no answer: the courier backs off and tries again.

``turn`` is one step, so whoever runs it can stop between two batches; ``wakes_ns`` says until when there is nothing to do.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from drivers.devices.clock import Clock
from drivers.errors import VaultLost
from ledger import offers
from ledger.batch import Batch, pack
from ledger.book import Acknowledged
from ledger.chain import Head, Link
from ledger.counts import Counts
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
    spread_s,
    step,
)
from ledger.entry import Entry, Kind, Versions, When
from ledger.errors import BatchTooLarge, LedgerError
from ledger.letterbox import ALL_BROKEN, STALE_AFTER_S, CouriersSide, Memory, Told
from ledger.notes import Heartbeat, encode_heartbeat, encode_loss
from ledger.offers import Offer
from ledger.package import Package
from ledger.receipt import Receipt
from ledger.seal import Content, Signer, seal

log = logging.getLogger(__name__)

BATCHES, HEARTBEATS, LOSSES, PACKAGES = "/v1/batches", "/v1/heartbeats", "/v1/losses", "/v1/packages"
MEDIA_TYPE, JSON = "application/cose", "application/json"
_LEAST_PATIENCE_S = 30.0
_LATER = frozenset({408, 429, 500, 502, 503, 504})
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


class Downlink(Protocol):
    """One way from the city."""

    def get(self, door: str, media_type: str, limit: int, patience_s: float) -> Answer:
        """Fetch at most ``limit`` bytes in at most ``patience_s`` seconds; raises ``NoAnswer``."""
        ...


class Wire(Uplink, Downlink, Protocol):
    """Both ways."""


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
    """The device's key, and the next one while it is being announced. A signer raises ``VaultLost`` while its token is away."""

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
class Down:
    """How packages come. ``believe(sealed)``: the package in a message that the city signed; raises ``LedgerError`` for any other.

    ``today()``: None while the clock is unset.
    """

    link: Downlink
    believe: Callable[[bytes], Package]
    today: Callable[[], date | None]


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a courier is made of.

    ``ledgers()``: where they lie, those that were set aside first and the one in use last. ``believe(sealed)``: the receipt in a message
    that the city signed; raises ``LedgerError`` for any other. ``draw()``: random, 0 … 1. ``free_bytes()``: room for the ledger.
    ``down``: None where packages come by stick only. ``counts()``: what the machine counted of its journal since its start; nothing where
    nobody counts.
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
    down: Down | None = None
    counts: Callable[[], Counts] = tuple


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
        self._unkept = False  # the last receipt could not be kept, and the city would only say the same again
        self._retry_after_s: float | None = None
        self._telling: Told | None = None
        self._skipped: set[str] = set()
        self._wished = self._pace.batch
        self._silent = False
        self._next_is_known = False  # the city accepted the next key last
        self._turned = False  # the next message is signed with the other key
        self._signed_with_next = False
        self._offers: tuple[Offer, ...] = ()
        self._package: tuple[bytes, Offer] | None = None
        self._bad_network = False
        now_ns = equipment.clock.monotonic_ns()
        self._ask_at_ns = now_ns
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
            Do.TURN_KEY: self._turn_key,
            Do.ASK: self._ask,
            Do.FETCH: self._fetch,
            Do.LAY_PACKAGE: self._lay_package,
            Do.OVERLOOK: self._pass_over,
            Do.PUT_OFF: self._put_off,
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
        if self._unkept:
            return Event.UNREADABLE
        if self._losses():
            return Event.LOSS
        now_ns = self.equipment.clock.monotonic_ns()
        if self._beat_at_ns is None or now_ns - self._beat_at_ns >= _ns(self._pace.rest_s):
            return Event.BEAT
        try:
            if self._silent and self._newest() is not None:
                return Event.SILENCE
            if self._oldest() is not None:
                return Event.ENTRIES
        except (LedgerError, VaultLost) as error:
            log.warning("the ledger cannot be read now: %s", error)
            return Event.UNREADABLE
        if self._offers:
            return Event.OFFER
        return Event.PACKAGES if self.equipment.down is not None and now_ns >= self._ask_at_ns else Event.NOTHING

    def _oldest(self) -> tuple[_Ledger, Range] | None:
        for ledger in self._survey():
            wanted = oldest(ledger.known, ledger.head.seq, self._wished) if ledger.fits else None
            if wanted is not None:
                return ledger, wanted
        return None

    def _newest(self) -> tuple[_Ledger, Range] | None:
        self._silent, silent = False, self._silent  # once in a contact
        ledger = self._survey()[-1]
        # While a key is announced, entries behind the announcement have no key yet that the city knows.
        wanted = newest(ledger.known, ledger.head.seq, self._pace) if ledger.fits and self.equipment.keyring.next_signer() is None else None
        self._silent = silent and wanted is not None and self.state is not State.PROBING
        return None if wanted is None else (ledger, wanted)

    # ── what is sent ──

    def _greet(self) -> Event:
        self._silent = long_silent(self._memory.contact_ms, self.equipment.clock.now().utc_ms, self._pace)
        self._bad_network = self._memory.failures > 0
        self._skipped.clear()
        self._wished = self._pace.batch
        self._telling = None
        try:
            with self.equipment.open(self.equipment.ledgers()[-1]) as ledger:
                self._epochs[self.equipment.ledgers()[-1]] = ledger.epoch
                beat = self._counting(self._heartbeat(ledger.epoch, ledger.head()))
        except LedgerError as error:
            log.warning("the ledger cannot be read now: %s", error)
            return Event.UNREADABLE
        event = self._post(HEARTBEATS, Content.HEARTBEAT, encode_heartbeat(beat), beat.epoch)
        self._beat_at_ns = self.equipment.clock.monotonic_ns()
        return event

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

    def _counting(self, beat: Heartbeat) -> Heartbeat:
        """With what the machine counted. The monotonic clock began with the machine."""
        counts = self.equipment.counts()
        return replace(beat, counts=counts, up_s=self.equipment.clock.monotonic_ns() // 1_000_000_000) if counts else beat

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
        except (LedgerError, VaultLost) as error:
            log.warning("nothing can be sent now: %s", error)
            return Event.UNREADABLE
        event = self._post(BATCHES, Content.BATCH, payload, ledger.epoch, (ledger.path, entries.first))
        if event is Event.RECEIPT and entries.first == ledger.known.next_seq:  # not the newest few: what lies before those waits
            self._sent_to[ledger.epoch] = last
        return event

    def _post(self, door: str, content: Content, payload: bytes, epoch: int, about: tuple[Path, int] | None = None) -> Event:
        """``about``: in which ledger the entries stand, and the first of them; None for a note, which is about the present."""
        turned, self._turned = self._turned, False
        self._answer, self._retry_after_s = None, None
        try:
            sealed, others = self._sealed(content, payload, about, turned=turned)
            answer = self.equipment.uplink.post(door, sealed)
        except (VaultLost, LedgerError) as error:
            log.warning("nothing can be signed now: %s", error)
            return Event.NO_ANSWER
        except NoAnswer as error:
            log.info("no answer from %s: %s", door, error)
            return Event.NO_ANSWER
        self._retry_after_s = answer.retry_after_s
        event = meaning(answer)
        if event is not Event.RECEIPT:
            log.warning("%s answered %s: %s", door, answer.status, answer.detail or "no reason given")
            return Event.OTHER_KEY if event is Event.STRANGER and others and not turned else event
        try:
            receipt = self.equipment.believe(answer.body)
        except LedgerError as error:
            log.warning("%s gave what the city did not sign: %s", door, error)
            return Event.NOT_THE_CITY
        if (receipt.device, receipt.epoch) != (self.equipment.device, epoch):
            log.warning("%s gave a receipt of another ledger", door)
            return Event.NOT_THE_CITY
        self._answer = answer.body, receipt
        self._next_is_known = self._signed_with_next or (self._next_is_known and about is not None)
        return Event.RECEIPT

    def _sealed(self, content: Content, payload: bytes, about: tuple[Path, int] | None, *, turned: bool) -> tuple[bytes, bool]:
        """The message under the key that speaks for it, or under the other when ``turned``; and whether there are two keys at all."""
        following = self.equipment.keyring.next_signer()
        if following is None:
            self._signed_with_next = self._next_is_known = False
            return seal(self.equipment.keyring.signer(), content, payload), False
        self._signed_with_next = self._next_speaks(about) is not turned
        signer = following if self._signed_with_next else self.equipment.keyring.signer()
        return seal(signer, content, payload), True

    def _next_speaks(self, about: tuple[Path, int] | None) -> bool:
        announced = None if about is None else self._announced(about[0])
        return self._next_is_known if about is None or announced is None else about[1] > announced

    def _turn_key(self) -> None:
        self._turned = True

    # ── what comes down ──

    def _ask(self) -> Event:
        down = self.equipment.down
        if down is None:
            return Event.NOT_GIVEN
        now_ns, draw = self.equipment.clock.monotonic_ns(), self.equipment.draw()
        self._ask_at_ns = now_ns + _ns(spread_s(self._pace.ask_s, draw))
        try:
            answer = down.link.get(PACKAGES, JSON, offers.MAX_LIST, _LEAST_PATIENCE_S + offers.MAX_LIST / self._pace.slowest)
            if (answer.status, answer.media_type) != (200, JSON):
                log.info("no list of packages: %s answered %s: %s", PACKAGES, answer.status, answer.detail or "no reason given")
                return Event.NOT_GIVEN
            listed = offers.decode(answer.body)
        except (NoAnswer, LedgerError) as error:
            log.info("no list of packages: %s", error)
            return Event.NOT_GIVEN
        worth = offers.worth(listed, down.today())
        had = tuple(offer.digest for offer in worth if offer.digest in self._memory.packages)
        if len(had) != len(self._memory.packages):
            self._remember(replace(self._memory, packages=had))
        wanted = [offer for offer in worth if offer.digest not in had]
        small_first = sorted(wanted, key=lambda offer: offer.size)
        self._offers = tuple(offer for offer in small_first if offer.size <= self._pace.small or not self._bad_network)
        if len(self._offers) < len(wanted):
            log.info("%d packages are too large for this network; they are asked for again later", len(wanted) - len(self._offers))
            self._ask_at_ns = now_ns + _ns(spread_s(self._pace.ask_again_s, draw))
        return Event.LISTED

    def _fetch(self) -> Event:
        down = self.equipment.down
        if down is None or not self._offers:
            return Event.NOT_GIVEN
        offer, *_ = self._offers
        patience_s = _LEAST_PATIENCE_S + offer.size / self._pace.slowest
        try:
            answer = down.link.get(f"{PACKAGES}/{offer.digest.hex()}", MEDIA_TYPE, offer.size, patience_s)
        except NoAnswer as error:
            log.info("%s %d did not come: %s", offer.kind, offer.version, error)
            return Event.NOT_GIVEN
        if answer.status in _LATER:
            log.info("%s %d was not given: %s: %s", offer.kind, offer.version, answer.status, answer.detail or "no reason given")
            return Event.NOT_GIVEN
        try:
            found = down.believe(answer.body)
        except LedgerError as error:
            log.warning("%s %d is passed over, status %d: %s", offer.kind, offer.version, answer.status, answer.detail or error)
            return Event.NO_GOOD
        if (found.kind, sha256(answer.body).digest()) != (offer.kind, offer.digest):
            log.warning("%s %d is passed over: what came is another package", offer.kind, offer.version)
            return Event.NO_GOOD
        self._package = answer.body, offer
        return Event.PACKAGE

    def _lay_package(self) -> None:
        if self._package is None:
            return
        (sealed, offer), self._package = self._package, None
        self._pass_over()
        try:
            self.equipment.letterbox.lay_package(sealed, offer)
        except OSError as error:
            log.warning("%s %d could not be kept: %s; it is fetched again later", offer.kind, offer.version, error)
            return
        log.info("%s %d lies beside the ledger for the station", offer.kind, offer.version)
        self._remember(replace(self._memory, packages=(*self._memory.packages, offer.digest)))

    def _pass_over(self) -> None:
        """The first offer was taken, or is no good."""
        self._offers = self._offers[1:]

    def _put_off(self) -> None:
        self._offers = ()
        self._ask_at_ns = self.equipment.clock.monotonic_ns() + _ns(spread_s(self._pace.ask_again_s, self.equipment.draw()))

    # ── what came back ──

    def _lay(self) -> None:
        if self._answer is None:
            return
        sealed, receipt = self._answer
        self._unkept = True
        try:
            self._keep(sealed, receipt)
            if self._telling is not None:
                self.equipment.letterbox.told(self._telling.name)
            self._unkept = False
            self._change_key()
            self._finish()
        except (OSError, LedgerError, VaultLost) as error:
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
        """The next key is the key once nothing is left that only the old one may sign."""
        keyring = self.equipment.keyring
        if keyring.next_signer() is None or not self._old_key_is_done():
            return
        keyring.change()
        self._next_is_known = False
        log.info("the city knows the device's next key; it is used from now on")

    def _old_key_is_done(self) -> bool:
        *aside, current = self._survey()
        for ledger in (*aside, current):
            announced = self._announced(ledger.path)
            if announced is not None and ledger.fits:
                return announced < ledger.known.next_seq
            if ledger is not current and ledger.fits and oldest(ledger.known, ledger.head.seq, 1) is not None:
                return False
        return self._next_is_known  # the announcement is in no ledger any more

    def _announced(self, path: Path) -> int | None:
        """The entry of this ledger that announces the next key."""
        with self.equipment.open(path) as ledger:
            entry = ledger.last(Kind.KEY)
        return entry.seq if entry is not None and entry.reason == self.equipment.keyring.next_reason() else None

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
