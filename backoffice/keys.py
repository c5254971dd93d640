"""Whose key signed this, and for which entries it may: enrolment, rotation, revocation (pure).

A key speaks for a *range* of its device's ledger, never for "now": batches arrive weeks late and are read again years later, and they must
then be judged as on the day they were made. So a key has three marks, each a place in the ledger:

``since``    the first entry it may sign: behind the entry that announced it, or what the city lacked when it was enrolled;
``until``    the first entry it may not sign any more, because its successor does;
``revoked``  the first entry that nobody believes, because a thief may have the key. What lies before stays good.

Marks are set once. No function here, and no statement of the key book, takes one away or moves a revocation back: a device that is enrolled
again gets *another* key, and a public key that was ever known is refused for ever. A key that is announced inherits the end
and the revocation of the one that announces it, or a thief could announce his own in a hole below the mark and go on with that.

**Epochs have no order of their own** (a terminal draws them at random). Their order here is the order in which the city first heard of
them, and one it never heard of is the newest. For a revocation that errs on the side of refusing.

**The one-time code** is 80 random bits in 16 letters, of which the city keeps a hash. The device signs the code with its new key: whoever
copies a public key off a wire cannot enrol it. An unknown, a used and an expired code get the same sentence, and the code is compared with
every open one in constant time. A code that was used by *this very key* is answered once more as it was: the first answer may have been
lost.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from ledger.batch import Batch
from ledger.entry import Entry, Kind
from ledger.seal import Algorithm, key_id

PROOF_CONTEXT = b"kazashi enrol"
CODE_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's 32: no I, L, O, U, which people misread
CODE_LENGTH = 16
CODE_GROUP = 4
PUBLIC_BYTES = {Algorithm.EDDSA: 32, Algorithm.ES256: 65}
WORDS = {Algorithm.EDDSA: "eddsa", Algorithm.ES256: "es256"}

_ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


class Place(NamedTuple):
    """An entry of a device's ledger. Seq 0: before all there is, in every epoch."""

    epoch: int
    seq: int


BEFORE_ALL = Place(0, 0)


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A device's public key and the entries it speaks for: from ``since`` on, up to but without ``until`` and ``revoked``."""

    kid: bytes
    device: int
    algorithm: Algorithm
    public: bytes
    since: Place = BEFORE_ALL
    until: Place | None = None
    revoked: Place | None = None
    created_ms: int = 0


class Doubt(Enum):
    """Why a key does not speak for some entries."""

    OTHER_DEVICE = "other-device"
    NOT_YET = "key-not-yet-valid"
    REPLACED = "key-replaced"
    REVOKED = "key-revoked"


Order = Callable[[int], int | None]
"""The place of an epoch among its device's, in the order in which the city first heard of them; None for one it never heard of."""


def doubt(key: DeviceKey, ledger: tuple[int, int], entries: tuple[int, int], order: Order) -> Doubt | None:
    """Why ``key`` does not speak for the ``entries`` (first, last) of the ``ledger`` (device, epoch); None when it does."""
    (device, epoch), (first, last) = ledger, entries
    if device != key.device:
        return Doubt.OTHER_DEVICE
    if key.revoked is not None and reaches(Place(epoch, last), key.revoked, order):
        return Doubt.REVOKED
    if not reaches(Place(epoch, first), key.since, order):
        return Doubt.NOT_YET
    if key.until is not None and reaches(Place(epoch, last), key.until, order):
        return Doubt.REPLACED
    return None


def reaches(place: Place, mark: Place, order: Order) -> bool:
    """Whether ``place`` is at ``mark`` or behind it."""
    if mark.seq == 0 or place.seq == 0:
        return mark.seq == 0
    if place.epoch == mark.epoch:
        return place.seq >= mark.seq
    here, there = order(place.epoch), order(mark.epoch)
    return here is None or (there is not None and here > there)


def order_of(epochs: Sequence[int]) -> Order:
    """The order of ``epochs``, which are given as the city first heard of them."""
    ranks = {epoch: rank for rank, epoch in enumerate(epochs)}
    return ranks.get


# --- rotation -----------------------------------------------------------------------------------------------------------------------------


class NoKey(ValueError):
    """No public key; the message ends a sentence."""


def announced(entry: Entry, by: DeviceKey, now_ms: int) -> DeviceKey:
    """The key that the accepted ``entry`` of kind KEY announces, itself accepted because ``by`` had signed it. Raises ``NoKey``."""
    if entry.kind is not Kind.KEY:
        raise NoKey("is not an entry that announces a key")
    word, _, text = entry.reason.partition(":")
    algorithm = next((algorithm for algorithm, known in WORDS.items() if known == word), None)
    if algorithm is None:
        raise NoKey(f"names an algorithm that is none of {', '.join(WORDS.values())}")
    public = public_key(algorithm, text)
    return DeviceKey(key_id(public), by.device, algorithm, public, Place(entry.epoch, entry.seq + 1), by.until, by.revoked, now_ms)


def public_key(algorithm: Algorithm, text: str) -> bytes:
    """The public key in the base64url ``text``, of the right length for ``algorithm``. Raises ``NoKey``."""
    public = unbase64(text)
    if public is None:
        raise NoKey("has a public key that is not base64url")
    if len(public) != PUBLIC_BYTES[algorithm]:
        raise NoKey(f"has a public key of {len(public)} bytes; {WORDS[algorithm]} has {PUBLIC_BYTES[algorithm]}")
    return public


def base64url(data: bytes) -> str:
    """``data`` as base64url without padding (RFC 4648, section 5; RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unbase64(text: str) -> bytes | None:
    """The bytes of a base64url ``text`` without padding, which must be the one way to write them; None when it is not."""
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error):
        return None
    return data if base64url(data) == text else None


# --- enrolment ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OneTimeCode:
    """A code that the city gave out, by its hash. ``used_ms`` None: still open."""

    digest: bytes
    device: int
    expires_ms: int
    used_ms: int | None = None


def new_code(random: Callable[[int], bytes]) -> str:
    """A code to be read out and typed: 80 bits in four groups of four. ``random(n)`` must be the system's."""
    number = int.from_bytes(random(10), "big")
    letters = "".join(CODE_LETTERS[number >> 5 * place & 31] for place in range(CODE_LENGTH))
    return "-".join(letters[at : at + CODE_GROUP] for at in range(0, CODE_LENGTH, CODE_GROUP))


def code_digest(code: str) -> bytes:
    """What the city keeps of a code. Case, hyphens, and letters that look alike make no difference."""
    return hashlib.sha256(b"kazashi enrolment code" + code.upper().translate(_ALIKE).encode()).digest()


def proof_message(code: str) -> bytes:
    """What a device signs to prove that it has the key: the code as it sends it, in UTF-8."""
    return PROOF_CONTEXT + code.encode()


def find_code(code: str, known: Iterable[OneTimeCode]) -> OneTimeCode | None:
    """The one of ``known`` that ``code`` is; takes as long whichever it is, and when it is none."""
    digest, found = code_digest(code), None
    for one in known:
        if hmac.compare_digest(one.digest, digest):
            found = one
    return found


class Admission(Enum):
    """What a code does for the one who brings it."""

    ADMIT = "admit"
    AGAIN = "again"  # this key used it before: the same answer
    REFUSE = "refuse"


def admission(code: OneTimeCode | None, same_key: DeviceKey | None, now_ms: int) -> Admission:
    """Whether the bringer of ``code`` is let in; ``same_key`` is what the city already knows under the public key it brings."""
    if code is None or now_ms >= code.expires_ms:
        return Admission.REFUSE
    if code.used_ms is None:
        return Admission.ADMIT
    again = same_key is not None and same_key.device == code.device and same_key.created_ms == code.used_ms
    return Admission.AGAIN if again else Admission.REFUSE


@dataclass(frozen=True, slots=True)
class Device:
    """One terminal. ``contact_ms``: when anything last came from it."""

    id: int
    name: str
    operator: str
    created_ms: int
    revoked_ms: int | None
    keys: tuple[DeviceKey, ...]
    contact_ms: int | None


class NameTaken(ValueError):
    """The device, or its name, is another one's; the message is a sentence."""


class KeyBook(Protocol):
    """Where devices and their keys are written down. Nothing in it is ever unsaid."""

    def find_key(self, kid: bytes) -> DeviceKey | None: ...

    def epochs(self, device: int) -> tuple[int, ...]:
        """The device's epochs in the order in which the city first heard of them."""
        ...

    def codes(self, now_ms: int) -> tuple[OneTimeCode, ...]:
        """The codes that were given out and are worth comparing: not long expired."""
        ...

    def admit(self, code: OneTimeCode, key: DeviceKey) -> bool:
        """Use up ``code`` and write down ``key``, in one step; False when somebody used the code, or the key is known, meanwhile."""
        ...

    def succeed(self, old: DeviceKey, new: DeviceKey) -> bool:
        """Write down ``new``, and ``new.since`` as the end of ``old`` unless that has one; False when ``new`` is another known key."""
        ...


class DeviceBook(KeyBook, Protocol):
    """What a clerk does with devices."""

    def add_device(self, device: int, name: str, operator: str, now_ms: int) -> None:
        """A new device, or the same again. Raises ``NameTaken``."""
        ...

    def give_code(self, device: int, digest: bytes, now_ms: int, expires_ms: int) -> None:
        """Remember a code for ``device`` by its hash; an older one that nobody used is closed."""
        ...

    def revoke(self, device: int, place: Place | None, now_ms: int) -> Place:
        """Believe nothing that the device's keys sign from ``place`` on (None: from what the city lacks); where that is."""
        ...

    def devices(self) -> tuple[Device, ...]:
        """All devices, by name."""
        ...

    def find(self, name: str) -> int | None:
        """The device that people call ``name``."""
        ...


def key_entries(batch: Batch) -> Iterator[Entry]:
    """The entries of ``batch`` that announce a key. Hardly ever there is one, which the totals know."""
    if any(kind == Kind.KEY for kind, *_ in batch.told.sums):
        yield from (entry for entry in batch.read if isinstance(entry, Entry) and entry.kind is Kind.KEY)
