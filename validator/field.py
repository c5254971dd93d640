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

CROWD_TOLD_AGAIN_AFTER_POLLS = 150
"""Somebody took one of two cards away and left the other: after some three seconds it is said again. Nobody waits for a silent reader."""


@dataclass(frozen=True, slots=True)
class Field:
    """What was seen so far.

    ``handled``: the card whose touch was taken. ``crowded``: two cards were seen and the field was not empty since. ``lingering_polls``:
    how long cards have lain there since the crowd was last told of.
    """

    handled: bytes = b""
    crowded: bool = False
    absent_polls: int = 0
    lingering_polls: int = 0

    @property
    def near(self) -> bool:
        """Whether a card that was handled, or two cards, may still lie there."""
        return bool(self.handled) or self.crowded


def look(field: Field, cards: Sequence[bytes]) -> tuple[Field, Event | None]:
    """The field after a poll that saw these cards (their IDm), and CARD_SEEN or TWO_CARDS when that is a new touch."""
    match len(cards):
        case 0:
            absent = field.absent_polls + 1
            gone = absent >= (CROWD_GONE_AFTER_POLLS if field.crowded else GONE_AFTER_POLLS)
            return (Field() if gone else replace(field, absent_polls=absent)), None
        case _ if field.crowded:
            lingering = field.lingering_polls + 1
            again = lingering >= CROWD_TOLD_AGAIN_AFTER_POLLS
            still = replace(field, absent_polls=0, lingering_polls=0 if again else lingering)
            return still, Event.TWO_CARDS if again else None
        case 1 if cards[0] == field.handled:
            return replace(field, absent_polls=0), None
        case 1:
            return Field(handled=cards[0]), Event.CARD_SEEN
        case _:
            return Field(crowded=True), Event.TWO_CARDS


def touch_again(field: Field) -> Field:
    """The field when the rider was asked to touch again: the same card is welcome at once."""
    return replace(field, handled=b"")
