"""What the validator can say. Each Message becomes a lamp, a tone, words and a picture in ``validator.feedback`` (data)."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Message(Enum):
    """Everything a rider can see and hear. The comment names the values it carries."""

    READY = "ready"  # idle: place your card. stop
    ARMED_PAIR = "armed_pair"  # idle, the driver armed two people on one card: riders
    ARMED_CHILD = "armed_child"  # idle, the driver armed a child fare
    ARMED_TICKET = "armed_ticket"  # idle, the driver keyed a numbered ticket: ticket
    ARMED_STOP = "armed_stop"  # idle, the driver said where the rider got on: number
    ARMED_FARE = "armed_fare"  # idle, the driver named the fare: fare
    SEEN = "seen"  # a card is there: short neutral tick, amber
    PAID = "paid"  # points, balance
    PAID_PAIR = "paid_pair"  # two people on one card: points, balance, riders
    PAID_AND_CASH = "paid_and_cash"  # points first, the rest in cash: points, cash, balance
    CASH = "cash"  # no points on the card: cash
    COMPANION_CASH = "companion_cash"  # the holder rides free, who comes along pays in coins: cash
    FREE = "free"  # a valid card, nothing to pay
    ALREADY_PAID = "already_paid"  # same card, same trip: hour, minute, balance
    BOARDED = "boarded"  # boarding tap recorded; pay when alighting
    HOLD_AGAIN = "hold_again"  # the card left too early; nothing is known to be lost
    HOLD_AGAIN_UNSURE = "hold_again_unsure"  # the debit's outcome is unknown: touch again, you will not pay twice
    RECOVERED = "recovered"  # the earlier touch had paid; nothing is taken now: points, balance
    ONE_CARD = "one_card"  # two cards in the field
    FOREIGN_CARD = "foreign_card"  # not a card of ours
    WRONG_CARD = "wrong_card"  # looks like ours, cannot prove it
    BLOCKED_CARD = "blocked_card"  # on the deny list: to the town hall's desk
    DAMAGED_CARD = "damaged_card"  # its counters make no sense: to the desk
    CHECK_LATER = "check_later"  # outcome cannot be learned here; ride, nothing more is taken, the city settles
    ASK_DRIVER = "ask_driver"  # boarding stop not known: the driver names it
    ASK_FARE = "ask_fare"  # this ride has no price: the driver names it
    UNPRICED = "unpriced"  # no price; please ride, the card is not written
    OUT_OF_ORDER = "out_of_order"  # reader dead: please pay the driver
    NOT_COMMISSIONED = "not_commissioned"  # the unit has not come to its city: it charges nobody
    LEDGER_FULL = "ledger_full"  # cannot record: the card is not written, please pay the driver
    TROUBLE = "trouble"  # the store failed after the debit: touch again later; nothing is lost
    RETOUCH_FIRST = "retouch_first"  # to the driver: cancel refused while an outcome is unknown
    NO_TRIP = "no_trip"  # no trip is open: please wait for the driver
    ABOUT = "about"  # to the mechanic: what runs here: image, unit, waiting, clock
    CLOSING = "closing"  # power is going: no new taps
    WELCOME = "welcome"  # a kiosk without its services


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing to be shown and said now, with its numbers (yen, points, minutes; never an identifier)."""

    message: Message
    values: dict[str, int | str] = field(default_factory=dict[str, int | str])


class Presenter(Protocol):
    """Whoever shows and says things. ``show`` never blocks and never raises: a dead screen must not stop a tap."""

    def show(self, shown: Shown) -> None: ...
