"""What lies between the station and the courier: two processes, and files beside the ledger that only one of them writes.

The courier may be killed at any moment, and so may the station. Neither waits for the other, and neither has a say in what the other is
doing: a receipt waits until the station has a quiet moment, a note of a lost ledger until the courier has the city. What each writes is
there whole or not at all.

The *state* is a heartbeat as the station would send it, with the machine's monotonic clock beside. Older than a minute it says only that
the station does not turn any more; then every part is broken, whatever it says of itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ledger.notes import BROKEN, PARTS, Heartbeat, Loss
from ledger.offers import Offer
from ledger.receipt import Receipt

STALE_AFTER_S = 60
ALL_BROKEN = tuple((part, BROKEN) for part in PARTS)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A receipt that lies there, checked; ``name`` is what ``taken`` is called with."""

    name: str
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Told:
    """A lost ledger that the city does not know of yet; ``name`` is what ``told`` is called with."""

    name: str
    loss: Loss


@dataclass(frozen=True, slots=True)
class Parcel:
    """A sealed package that lies there; ``name`` is what ``unpacked`` is called with. Whoever reads it checks it again."""

    name: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Memory:
    """What the courier knows over a restart. Losing it costs a batch sent twice.

    ``failures``: contacts that failed in a row. ``contact_ms``: when the city was last heard, Unix ms by this clock, 0 for never.
    ``done``: epochs of set-aside ledgers of which nothing is left to send. ``packages``: digests of those that were laid for the station,
    as long as the city offers them.
    """

    failures: int = 0
    contact_ms: int = 0
    done: tuple[int, ...] = field(default=())
    packages: tuple[bytes, ...] = field(default=())


class Parcels(Protocol):
    """Packages that the courier left for the station; all raise ``OSError``."""

    def parcels(self) -> Sequence[str]:
        """Their names, in the order in which they are to be opened."""
        ...

    def parcel(self, name: str) -> Parcel:
        """One of them."""
        ...

    def unpacked(self, name: str) -> None:
        """The station has judged it, and what it keeps of it is durable."""
        ...


class StationsSide(Protocol):
    """What the station does here; all raise ``OSError``."""

    def receipts(self) -> Sequence[Waiting]:
        """The receipts that wait, the oldest first. What is not signed by the city is not among them."""
        ...

    def taken(self, name: str) -> None:
        """The receipt is in the ledger, durably."""
        ...

    def report(self, state: Heartbeat) -> None:
        """Leave the station's state for the next heartbeat; not flushed, an old one says enough."""
        ...

    def tell(self, loss: Loss) -> None:
        """Leave word of a lost ledger, durably; the same one twice is one."""
        ...


class CouriersSide(Protocol):
    """What the courier does here; all raise ``OSError``, ``lock`` also ``ledger.errors.LedgerBusy``."""

    def lock(self) -> None:
        """Become the only courier, until ``unlock`` or death."""
        ...

    def unlock(self) -> None: ...

    def lay(self, sealed: bytes, receipt: Receipt) -> None:
        """Leave a receipt for the station, durably; it must have been checked."""
        ...

    def lay_package(self, sealed: bytes, offer: Offer) -> None:
        """Leave a package for the station, durably; it must have been checked."""
        ...

    def losses(self) -> Sequence[Told]:
        """The lost ledgers that the city does not know of."""
        ...

    def told(self, name: str) -> None:
        """The city knows of it now."""
        ...

    def state(self) -> tuple[Heartbeat, float] | None:
        """What the station said last, and its age in seconds; None when it never did."""
        ...

    def memory(self) -> Memory:
        """What the courier remembered; an empty one when that is lost."""
        ...

    def remember(self, memory: Memory) -> None:
        """Remember, durably."""
        ...
