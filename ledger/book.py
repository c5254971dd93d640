"""The ledger as its user sees it. The one real book is ``ledger.store.Store``; whoever writes into a ledger asks for a ``Book``.

Every method that writes returns when the write is durable. It raises ``ledger.errors.Full`` before anything is written when there is no
room, ``NotStored`` when the store failed and the request is proven not to be there, and ``StoreLost`` (a ``NotStored``) when it cannot be
known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ledger.chain import Head
from ledger.entry import Entry, Intent, Kind, Versions, When
from ledger.notes import Loss
from ledger.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Space:
    """Room on the ledger's file system, in bytes. Below ``limit`` no new ride is begun; ``ballast`` is what closing the open ones may
    use.
    """

    free: int
    limit: int
    ballast: int

    @property
    def low(self) -> bool:
        """No new ride may begin."""
        return self.free < self.limit


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The city's newest word: it has every entry up to ``head`` durably. ``issued_ms``: when it said so, Unix ms by its own clock."""

    head: Head
    issued_ms: int


class Book(Protocol):
    """Entries, intents and known grants of one device in one epoch. One thread uses it."""

    @property
    def device(self) -> int: ...

    @property
    def epoch(self) -> int: ...

    def append(self, entry: Entry, grant_digest: bytes | None = None) -> Entry:
        """Append ``entry``; return it with device, epoch and seq. ``grant_digest`` (8 bytes): remember this verified grant of its rider
        too.
        """
        ...

    def intend(self, intent: Intent) -> None:
        """Write down a debit that is about to be sent. Replaces the rider's open intent, which must be proven not done."""
        ...

    def pay(self, rider: bytes, entry: Entry, grant_digest: bytes | None = None) -> Entry:
        """Delete the rider's intent and append ``entry`` in one transaction. ``ValueError``: nothing is intended for this rider."""
        ...

    def prepare(self, entry: Entry) -> None:
        """Work out beforehand what ``append`` or ``pay`` of exactly this entry needs; nothing is written. It may never come."""
        ...

    def withdraw(self, rider: bytes) -> None:
        """Delete the rider's intent: the debit is proven not done."""
        ...

    def intents(self) -> list[Intent]:
        """All open intents."""
        ...

    def intent_of(self, rider: bytes) -> Intent | None:
        """The rider's open intent."""
        ...

    def expire_intents(self, when: When) -> list[Entry]:
        """Turn all open intents into UNKNOWN entries, in one transaction. Each keeps the place, fare and counters of its ride."""
        ...

    def unknown_of(self, rider: bytes) -> list[Entry]:
        """The rider's UNKNOWN entries that no RESOLVED points at, oldest first."""
        ...

    def latest(self, rider: bytes) -> list[Entry]:
        """The rider's last 64 entries of any kind, newest first: more than one run of a vehicle can bring."""
        ...

    def knows_grant(self, rider: bytes, digest: bytes) -> bool:
        """Whether the rider's grant with this digest (8 bytes) was verified before."""
        ...

    def last(self, kind: Kind) -> Entry | None:
        """The last entry of a kind that has no rider (shift, trip, stop, boot …)."""
        ...

    def after(self, seq: int, limit: int) -> list[Entry]:
        """Up to ``limit`` entries that follow ``seq``."""
        ...

    def head(self) -> Head:
        """The last entry's seq and hash."""
        ...

    def needs_checkpoint(self) -> bool:
        """The log is nearly full: checkpoint at the next pause between two cards, however short."""
        ...

    def checkpoint(self) -> None:
        """Carry the log into the database; for moments without a card (5 s). Costs several flushes."""
        ...

    def space(self) -> Space:
        """Room left."""
        ...

    def acknowledge(self, receipt: Receipt) -> None:
        """Take in what the city has signed; one of another ledger, or an older one, changes nothing.

        Raises ``StoreRolledBack`` when the city has other entries under these numbers, or more than there are: an old image or a copy.
        From then on every call raises ``StoreLost``, until ``renew``.
        """
        ...

    def acknowledged(self) -> Acknowledged | None:
        """What the city has, as far as it was taken in."""
        ...

    def forget(self, before_ms: int) -> int:
        """Delete some of the oldest entries and return how many; call again until 0.

        Only what the city has, what happened before ``before_ms`` (Unix ms), and what nobody here will ask for again. The chain then begins
        where they ended.
        """
        ...

    def renew(self, epoch: int, when: When, versions: Versions, tell: Callable[[Loss], None]) -> None:
        """Set this ledger aside and go on in a new one of the epoch ``epoch``, a number that this device never had.

        The new ledger begins with an EPOCH entry. Then come the entries that say which shift and trip goes on, and UNKNOWN for each debit
        that was open. ``tell`` is given what cannot be sent any more, perhaps twice, and must keep it durably. May be called again after
        any failure.
        """
        ...
