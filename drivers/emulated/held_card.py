"""A twin card held still in the field: a ``drivers.channel.Channel`` with no reader between.

What the reader's chip would do for a caller is here in its shortest form: silence is ``CardLost``, an answer whose LEN lies is
``MalformedReply``. It remembers each command it was handed, so that a test can count and compare them.
"""

from drivers.emulated.lite_s_card import LiteSCard
from drivers.errors import CardLost, MalformedReply


class HeldCard:
    """One card, one channel. ``heard``: every command frame so far, in order."""

    def __init__(self, card: LiteSCard) -> None:
        self.card = card
        self.heard: list[bytes] = []

    @property
    def idm(self) -> bytes:
        return self.card.idm

    @property
    def pmm(self) -> bytes:
        return self.card.pmm

    def exchange(self, command: bytes) -> bytes:
        """Hand the card one frame and return its answer."""
        self.heard.append(command)
        answer = self.card.answer(command)
        if answer is None:
            raise CardLost("the card did not answer")
        if not answer or answer[0] != len(answer):
            raise MalformedReply("the answer's length byte does not fit the answer")
        return answer

    def lay_again(self) -> None:
        """Lift the card and lay it down: it loses power and everything volatile, and has power again."""
        self.card.field_off()
        self.card.field_on()
