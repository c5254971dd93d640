"""What the cards in the field mean: a new touch, the same card still lying there, too many (pure).

One touch is one event, however long the card lies. A card counts as gone after two polls without it, because a hand that trembles is not a
second touch. After two cards the field must be empty before anything is a touch again: a wallet that is pulled away loses its cards one by
one, and the last to leave must not pay. After "please touch again" the very next sight of the card is a touch, even if it never seemed to
leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from validator.tap import Event

GONE_AFTER_POLLS = 2
CROWD_GONE_AFTER_POLLS = 12
"""Two cards that answer in the same time slot garble each other, and the poll sees nobody: one poll of four.

Twelve such polls in a row are one in 17 million, and a quarter of a second.
"""


@dataclass(frozen=True, slots=True)
class Field:
    """What was seen so far.

    ``handled``: the card whose touch was taken. ``crowded``: two cards were seen and the field was not empty since.
    """

    handled: bytes = b""
    crowded: bool = False
    absent_polls: int = 0


def look(field: Field, cards: Sequence[bytes]) -> tuple[Field, Event | None]:
    """The field after a poll that saw these cards (their IDm), and CARD_SEEN or TWO_CARDS when that is a new touch."""
    match len(cards):
        case 0:
            absent = field.absent_polls + 1
            gone = absent >= (CROWD_GONE_AFTER_POLLS if field.crowded else GONE_AFTER_POLLS)
            return (Field() if gone else replace(field, absent_polls=absent)), None
        case 1 if field.crowded or cards[0] == field.handled:
            return replace(field, absent_polls=0), None
        case 1:
            return Field(handled=cards[0]), Event.CARD_SEEN
        case _ if field.crowded:
            return replace(field, absent_polls=0), None
        case _:
            return Field(crowded=True), Event.TWO_CARDS


def touch_again(field: Field) -> Field:
    """The field when the rider was asked to touch again: the same card is welcome at once."""
    return replace(field, handled=b"")
