"""The city's door as an application object: what happens with a batch, a heartbeat, a lost ledger, an enrolment (pure over Protocols).

A stranger's bytes are believed step by step, and each step costs more than the one before, so the order is the defence: size, form of the
seal, the key by its name, the signature, and only then a decompressor and a decoder. Whether the key speaks for *these* entries can be
asked only when they are known; it comes last, before the books.

Every refusal is a ``Refused`` with a reason from a closed list and one sentence. What the sentence says is for whoever mends the terminal;
it names the device, epochs and numbers, never a rider.

A batch whose entries are all stored already may be signed by a key that was replaced, or by its successor: it is a batch sent again because
a receipt was lost on the way. The books compare it byte by byte and nothing new can come of it; refusing it would leave a terminal waiting
for a receipt for ever. A revoked key gets no such answer.

After a batch is booked, the keys that its accepted entries announce are written down, before the receipt is made: the terminal may use a
new key as soon as it holds a receipt that covers the announcement. If this process dies between the two, no receipt was sent, the batch
comes again, and the same entries announce the same keys. So it is with what a terminal tells of in an ALARM entry.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

from backoffice import cautions, keys
from backoffice.keys import Admission, DeviceKey, Doubt, KeyBook
from ledger import batch as batches
from ledger import notes, package, receipt, seal
from ledger.batch import Batch
from ledger.errors import MalformedBatch, MalformedNote, MalformedSeal
from ledger.notes import Heartbeat, Loss
from ledger.offers import Offer, worth
from ledger.package import Package
from ledger.receipt import Receipt
from ledger.seal import Algorithm, BadSignature, Checker, Content, Sealed, Signer

MAX_NOTE = 4096
log = logging.getLogger("kazashi.door")


class BooksAway(Exception):
    """The database does not answer now; the same request may be sent again later, whether or not it was booked."""


class Reason(Enum):
    """Why something is refused: the last word of a problem's type."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown-key"
    BAD_SIGNATURE = "bad-signature"
    REVOKED = "revoked"
    KEY_RANGE = "key-range"
    CODE = "enrolment-code"
    KNOWN_KEY = "known-key"
    NOT_FOUND = "not-found"


class Refused(Exception):
    """The request is refused, and would be again; the message is one sentence."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Stored(Protocol):
    """How far a ledger is stored, durably: what a receipt says."""

    @property
    def next_seq(self) -> int: ...
    @property
    def head(self) -> bytes: ...
    @property
    def holes(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def rejects(self) -> tuple[tuple[int, str], ...]: ...


class Books(KeyBook, Protocol):
    """What the door asks of the books. Every call may raise ``BooksAway``; what returned is durable."""

    def receive(self, sealed: bytes, kid: bytes, batch: Batch, received_ms: int) -> Stored:
        """Book a batch, exactly once."""
        ...

    def stored(self, device: int, epoch: int) -> Stored:
        """How far this ledger is stored; nothing of an unknown one."""
        ...

    def holds(self, device: int, epoch: int, seq: int, digest: bytes) -> bool:
        """Whether entry ``seq`` is stored with these 16 first bytes of its SHA-256."""
        ...

    def heard(self, beat: Heartbeat, received_ms: int) -> None:
        """Keep a heartbeat."""
        ...

    def lost(self, loss: Loss, sealed: bytes, kid: bytes, received_ms: int) -> object:
        """Keep the report of a lost ledger, and close the holes that it names."""
        ...

    def name(self, device: int) -> str:
        """What people call the device."""
        ...

    def offers(self) -> Sequence[Offer]:
        """All packages in the order in which they were offered."""
        ...

    def package(self, digest: bytes) -> bytes | None:
        """The sealed package with this SHA-256."""
        ...

    def offer(self, found: Package, sealed: bytes, now_ms: int) -> bool:
        """Put the package ``found``, which ``sealed`` holds, on the list; False when it is there already."""
        ...

    def alarm(self, kind: str, place: tuple[int, int, int], sentence: str, at_ms: int) -> None:
        """Put a sentence before the clerks; ``place`` is device, epoch and seq."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """What receipts ask of terminals: seconds between two batches and entries in one, 0 for as they like."""

    min_interval_s: int = 0
    max_entries: int = 0


@dataclass(frozen=True, slots=True)
class Application:
    """What a terminal brings to be enrolled. ``proof``: its signature over ``keys.proof_message(code)``."""

    code: str
    algorithm: Algorithm
    public: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What it gets: its number and name, and the keys by which it will know the city."""

    device: int
    name: str
    city_keys: tuple[tuple[Algorithm, bytes], ...]


class City:
    """The city's door. ``signers``: the city's keys, the one in use first. ``now_ms``: Unix ms UTC."""

    def __init__(self, books: Books, signers: Sequence[Signer], checker: Checker, now_ms: Callable[[], int], pace: Pace) -> None:
        self.books = books
        self._signers = tuple(signers)
        self._checker = checker
        self._now_ms = now_ms
        self._pace = pace

    # --- up -----------------------------------------------------------------------------------------------------------------------------

    def batch(self, data: bytes) -> bytes:
        """A sealed batch in, the sealed receipt out. Raises ``Refused`` and ``BooksAway``."""
        sealed, key = self._opened(data, Content.BATCH, batches.MAX_SEALED)
        try:
            batch = batches.unpack(sealed.payload)
        except MalformedBatch as error:
            raise _refusal(Reason.MALFORMED, str(error), key) from error
        self._ask_key(key, batch.device, batch.epoch, (batch.first_seq, batch.last_seq))
        now_ms = self._now_ms()
        stored = self.books.receive(data, sealed.kid, batch, now_ms)
        self._announce(key, batch, now_ms)
        self._warn(batch, now_ms)
        log.info(
            "batch device=%d epoch=%d entries=%d-%d next=%d", batch.device, batch.epoch, batch.first_seq, batch.last_seq, stored.next_seq
        )
        return self._receipt(batch.device, batch.epoch, stored, now_ms)

    def heartbeat(self, data: bytes) -> bytes:
        """A sealed heartbeat in, a sealed receipt for the ledger that it names out. Raises ``Refused`` and ``BooksAway``."""
        sealed, key = self._opened(data, Content.HEARTBEAT, MAX_NOTE)
        try:
            beat = notes.decode_heartbeat(sealed.payload)
        except MalformedNote as error:
            raise _refusal(Reason.MALFORMED, str(error), key) from error
        if "\0" in beat.software + beat.versions.software:
            raise _refusal(Reason.MALFORMED, "The heartbeat names a software version with a NUL in it.", key)
        self._ask_present_key(key, beat.device)
        now_ms = self._now_ms()
        self.books.heard(beat, now_ms)
        return self._receipt(beat.device, beat.epoch, self.books.stored(beat.device, beat.epoch), now_ms)

    def loss(self, data: bytes) -> bytes:
        """A sealed report of a lost ledger in, a sealed receipt for that ledger out. Raises ``Refused`` and ``BooksAway``."""
        sealed, key = self._opened(data, Content.LOSS, MAX_NOTE)
        try:
            loss = notes.decode_loss(sealed.payload)
        except MalformedNote as error:
            raise _refusal(Reason.MALFORMED, str(error), key) from error
        self._ask_present_key(key, loss.device)
        now_ms = self._now_ms()
        self.books.lost(loss, data, sealed.kid, now_ms)
        log.warning("loss device=%d epoch=%d entries=%d-%d reason=%s", loss.device, loss.epoch, loss.first, loss.last, loss.reason)
        return self._receipt(loss.device, loss.epoch, self.books.stored(loss.device, loss.epoch), now_ms)

    # --- enrolment ----------------------------------------------------------------------------------------------------------------------

    def enrol(self, application: Application) -> Enrolled:
        """Let a terminal in by its one-time code. Raises ``Refused`` and ``BooksAway``."""
        try:
            self._checker.check(application.algorithm, application.public, application.proof, keys.proof_message(application.code))
        except BadSignature as error:
            raise _refusal(Reason.BAD_SIGNATURE, "The proof is not a signature over the code by the key that is to be enrolled.") from error
        now_ms = self._now_ms()
        kid = seal.key_id(application.public)
        code = keys.find_code(application.code, self.books.codes(now_ms))
        known = self.books.find_key(kid)
        match keys.admission(code, known, now_ms):
            case Admission.REFUSE:
                raise _refusal(Reason.CODE, "The enrolment code is unknown, used or expired; ask the city for a new one.")
            case Admission.ADMIT if code is not None:
                self._admit(code, application, kid, known, now_ms)
            case _:
                pass
        device = code.device if code is not None else 0
        log.info("enrolled device=%d key=%s", device, kid.hex())
        return Enrolled(device, self.books.name(device), self.city_keys())

    def _admit(self, code: keys.OneTimeCode, application: Application, kid: bytes, known: DeviceKey | None, now_ms: int) -> None:
        if known is not None:
            raise _refusal(Reason.KNOWN_KEY, "This key was enrolled before; make a new key for the terminal and enrol that one.", known)
        # From the oldest ledger on: a vehicle that set one aside still has what the city lacks of it, and sends that first. What is stored
        # stays as it is, whatever the new key signs.
        epochs = self.books.epochs(code.device)
        since = keys.Place(epochs[0], self.books.stored(code.device, epochs[0]).next_seq) if epochs else keys.BEFORE_ALL
        key = DeviceKey(kid, code.device, application.algorithm, application.public, since, None, None, now_ms)
        if not self.books.admit(code, key):
            raise _refusal(Reason.CODE, "The enrolment code is unknown, used or expired; ask the city for a new one.")

    def city_keys(self) -> tuple[tuple[Algorithm, bytes], ...]:
        """The city's public keys, the one in use first."""
        return tuple((signer.algorithm, signer.public) for signer in self._signers)

    # --- down ---------------------------------------------------------------------------------------------------------------------------

    def offers(self) -> Sequence[Offer]:
        """What a vehicle may still want: of each kind the package in force, and those to come. Raises ``BooksAway``.

        A package counts as superseded a day late, so that no vehicle's idea of today asks for one that is gone.
        """
        yesterday = datetime.fromtimestamp(self._now_ms() / 1000, UTC).date() - timedelta(days=1)
        return worth(self.books.offers(), yesterday)

    def offer(self, data: bytes) -> tuple[Package, bool]:
        """Put a package that the city sealed on the list; False beside it when it was there. Raises ``Refused`` and ``BooksAway``."""
        try:
            sealed = seal.parse(data, Content.PACKAGE, package.MAX_SEALED)
            signer = next((signer for signer in self._signers if seal.key_id(signer.public) == sealed.kid), None)
            if signer is None:
                raise _refusal(Reason.UNKNOWN_KEY, "The package was signed with another key than the city's; sign it again.")
            seal.check(sealed, self._checker, signer.public)
            found = package.decode(sealed.payload)
        except (MalformedSeal, package.MalformedPackage) as error:
            raise _refusal(Reason.MALFORMED, str(error)) from error
        except BadSignature as error:
            raise _refusal(Reason.BAD_SIGNATURE, "The signature of the package does not fit the city's key.") from error
        return found, self.books.offer(found, data, self._now_ms())

    def package(self, digest: bytes) -> bytes:
        """A sealed package. Raises ``Refused`` and ``BooksAway``."""
        sealed = self.books.package(digest)
        if sealed is None:
            raise Refused(Reason.NOT_FOUND, "There is no package with this digest; fetch the list again.")
        return sealed

    # --- steps --------------------------------------------------------------------------------------------------------------------------

    def _opened(self, data: bytes, content: Content, limit: int) -> tuple[Sealed, DeviceKey]:
        """The message whose signature fits a known key, and that key."""
        try:
            sealed = seal.parse(data, content, limit)
        except MalformedSeal as error:
            raise _refusal(Reason.MALFORMED, str(error)) from error
        key = self.books.find_key(sealed.kid)
        if key is None:
            raise _refusal(Reason.UNKNOWN_KEY, f"No device has a key with the name {sealed.kid.hex()}; enrol the terminal.")
        if key.algorithm is not sealed.algorithm:
            raise _refusal(Reason.BAD_SIGNATURE, "The message names another algorithm than its key has.", key)
        if key.revoked is not None and key.revoked.seq == 0:
            raise _refusal(Reason.REVOKED, f"The key of device {key.device} is revoked; enrol the terminal again.", key)
        try:
            seal.check(sealed, self._checker, key.public)
        except BadSignature as error:
            raise _refusal(Reason.BAD_SIGNATURE, f"The signature does not fit the key of device {key.device}.", key) from error
        return sealed, key

    def _ask_key(self, key: DeviceKey, device: int, epoch: int, entries: tuple[int, int]) -> None:
        """Refuse what ``key`` does not speak for."""
        order = keys.order_of(self.books.epochs(device)) if _has_marks(key) else _no_order
        match keys.doubt(key, (device, epoch), entries, order):
            case None:
                return
            case Doubt.REVOKED:
                where = f" from entry {key.revoked.seq} of epoch {key.revoked.epoch} on" if key.revoked else ""
                raise _refusal(Reason.REVOKED, f"The key of device {key.device} is revoked{where}; enrol the terminal again.", key)
            case Doubt.OTHER_DEVICE:
                raise _refusal(Reason.KEY_RANGE, f"The key is that of device {key.device}, the entries are those of device {device}.", key)
            case Doubt.NOT_YET | Doubt.REPLACED:
                if entries[1] < self.books.stored(device, epoch).next_seq:
                    return
                span = f"{_place(key.since)} up to {_place(key.until) if key.until else 'its end'}"
                sentence = (
                    f"The key speaks for the entries of device {device} from {span}, not for {entries[0]} to {entries[1]} of epoch {epoch}."
                )
                raise _refusal(Reason.KEY_RANGE, sentence, key)

    def _ask_present_key(self, key: DeviceKey, device: int) -> None:
        """Refuse a note by a key that does not speak for the present any more."""
        if key.revoked is not None:
            raise _refusal(Reason.REVOKED, f"The key of device {key.device} is revoked; enrol the terminal again.", key)
        if device != key.device:
            raise _refusal(Reason.KEY_RANGE, f"The key is that of device {key.device}, the note is about device {device}.", key)
        if key.until is not None:
            raise _refusal(Reason.KEY_RANGE, f"The key of device {device} has a successor; sign with that one.", key)

    def _announce(self, key: DeviceKey, batch: Batch, now_ms: int) -> None:
        """Write down the keys that the batch's accepted entries announce."""
        for entry in keys.key_entries(batch):
            digest = hashlib.sha256(batch.entries[entry.seq - batch.first_seq]).digest()[:16]
            if not self.books.holds(batch.device, batch.epoch, entry.seq, digest):
                continue  # another entry has this number: the books raised the alarm
            place = (batch.device, batch.epoch, entry.seq)
            try:
                new = keys.announced(entry, key, now_ms)
            except keys.NoKey as problem:
                self.books.alarm("key", place, f"The entry announces a key but {problem}; the old key stays in force.", now_ms)
                continue
            if not self.books.succeed(key, new):
                self.books.alarm("key", place, "The entry announces a key that is known already; the old key stays in force.", now_ms)

    def _warn(self, batch: Batch, now_ms: int) -> None:
        """Put what the batch's accepted entries tell of before the clerks."""
        for seq, data, reason in cautions.entries(batch):
            if self.books.holds(batch.device, batch.epoch, seq, hashlib.sha256(data).digest()[:16]):
                kind, sentence = cautions.told(reason)
                self.books.alarm(kind, (batch.device, batch.epoch, seq), sentence, now_ms)

    def _receipt(self, device: int, epoch: int, stored: Stored, now_ms: int) -> bytes:
        holes = stored.holes[: receipt.MAX_HOLES]
        rejects = stored.rejects[: receipt.MAX_REJECTS]
        pace = self._pace
        said = Receipt(device, epoch, stored.next_seq, stored.head, holes, rejects, now_ms, pace.min_interval_s, pace.max_entries)
        return seal.seal(self._signers[0], Content.RECEIPT, receipt.encode(said))


def _has_marks(key: DeviceKey) -> bool:
    return key.since.seq > 0 or key.until is not None or key.revoked is not None


def _no_order(_epoch: int) -> int | None:
    return None


def _place(place: keys.Place) -> str:
    return f"{place.seq} of epoch {place.epoch}" if place.seq else "the first"


def _refusal(reason: Reason, sentence: str, key: DeviceKey | None = None) -> Refused:
    """A refusal, told to the log with the device when it is known."""
    log.warning("refused reason=%s device=%s: %s", reason.value, key.device if key else "?", sentence)
    return Refused(reason, sentence)
