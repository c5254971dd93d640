"""What happened, as a frozen record.

The names follow EN 1545 and Transmodel where those have one (trip, stop, service day). An entry is written once and never changed; what was
wrong is put right by a later entry that points at it. Bytes and back: ``ledger.codec``.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from drivers.cards import purse

VERSION = 1
Counters = purse.Counters


class Kind(IntEnum):
    """What an entry says. Numbers are for ever; they are what the city reads."""

    BOOT = 1
    SHIFT_OPEN = 2
    SHIFT_CLOSE = 3
    TRIP_OPEN = 4
    TRIP_CLOSE = 5
    STOP_SET = 6
    CLOCK = 7
    CONFIG = 8
    POWER_LOSS = 9
    ALARM = 10
    KEY = 11  # the device's next key; ``reason`` is "eddsa:" or "es256:" and the public key in base64url; the old key still signs this
    EPOCH = 12  # the first entry after a ledger was lost; ``reason`` is "after:<old epoch>:<last seq known>"
    OPEN = 20  # boarding tap: the card is unwritten, the alighting tap pays
    PAID = 21  # the card was debited and read back (or nothing was due from it: points 0)
    UNKNOWN = 22  # a debit was sent and its outcome could not be learned before trip end, shift close or power-off
    RESOLVED = 23  # ``ref`` points at the UNKNOWN; ``outcome`` says paid or unpaid
    FREE = 24  # a valid card, no fare due, nothing written
    UNPRICED = 25  # no price for this ride; the card is not written
    REFUSED = 26  # a card that may not pay here; ``reason`` says why


class Outcome(IntEnum):
    """How an unknown debit ended."""

    NONE = 0
    PAID = 1
    UNPAID = 2


class Flags(IntFlag):
    """What a reader of the entry must know beside its numbers."""

    NONE = 0
    RECOVERED = 1  # the debit was found on the card at a later touch
    AMBIGUOUS_PRICE = 2  # the table had several prices; the dated policy chose
    DRIVER_FARE = 4  # the driver named the fare
    ORIGIN_FARE = 8  # boarding unknown; priced from the trip's origin
    CLOCK_UNSET = 16
    PRACTICE = 32


@dataclass(frozen=True, slots=True)
class When:
    """Both clocks and their state (``drivers.devices.clock.ClockState`` as a number)."""

    boot: int
    mono_ms: int
    utc_ms: int
    clock: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the vehicle was, in the operator's own identifiers. ``service_day`` is days since 1970-01-01, decided here, for ever."""

    operator: str = ""
    vehicle: str = ""
    shift: int = 0
    route: str = ""
    trip: str = ""
    boarding: str = ""
    alighting: str = ""
    service_day: int = 0


@dataclass(frozen=True, slots=True)
class Fare:
    """Yen and points. ``nominal`` = fare of all riders before any scheme; ``points`` taken from the card; ``cash`` due in coins."""

    nominal: int = 0
    points: int = 0
    cash: int = 0
    adults: int = 0
    children: int = 0


@dataclass(frozen=True, slots=True)
class Versions:
    """What the entry was decided with: the first 8 bytes of the SHA-256 of table, scheme and operator file, and the software's version."""

    table: bytes = b""
    scheme: bytes = b""
    operator: bytes = b""
    software: str = ""
    card_key: int = 0
    rider_key: int = 0


@dataclass(frozen=True, slots=True)
class Medium:
    """Who paid.

    ``rider`` = keyed hash cut to 8 bytes; ``granted`` and ``grant_number`` come from the purse's grant; ``grant`` = first 8 bytes of the
    SHA-256 of the grant block. ``before``/``after``: the purse as read and as written (the same when nothing was written).
    """

    rider: bytes
    granted: int = 0
    grant_number: int = 0
    grant: bytes = b""
    before: Counters | None = None
    after: Counters | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the ledger.

    ``seq`` is dense from 1 within (device, epoch); 0 means "not yet appended". ``ref`` is the seq an entry points at, 0 for none.
    ``row`` names the row of the tap table that decided it, ``reason`` is a word from a closed list, never free text about a person.
    """

    kind: Kind
    when: When
    place: Place = Place()
    medium: Medium | None = None
    fare: Fare = Fare()
    versions: Versions = Versions()
    flags: Flags = Flags.NONE
    outcome: Outcome = Outcome.NONE
    ref: int = 0
    row: str = ""
    reason: str = ""
    device: int = 0
    epoch: int = 0
    seq: int = 0

    @property
    def counts_as_paid(self) -> bool:
        """The ride is paid: booked at once, or resolved so later."""
        return self.kind is Kind.PAID or (self.kind is Kind.RESOLVED and self.outcome is Outcome.PAID)


@dataclass(frozen=True, slots=True)
class Intent:
    """A debit that is about to be sent: on the disk before the card is written, gone when its entry is appended.

    ``entry`` is the PAID entry as it will be (``medium.before`` as read, ``medium.after`` as it will be written), without seq. At most one
    intent is open per rider. It holds no card identifier.
    """

    entry: Entry
