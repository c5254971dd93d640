"""A hand over an emulated field: it lifts the cards and lays them back, and pulls one away in the middle of a command."""

from collections.abc import Callable

from drivers.emulated.air import Air, FieldCard
from drivers.emulated.lite_s_card import FRAME_OVERHEAD

_STATUS_ANSWER = 12


class AirHand:
    """Whoever moves the cards of an ``Air``. Card files in a tray stay where they are; only the field loses the card."""

    def __init__(self, air: Air) -> None:
        self._air = air
        self._held: tuple[FieldCard, ...] = ()

    def lift(self) -> None:
        """Take all cards out of the field."""
        self._held = self._air.cards
        for card in self._held:
            self._air.lift(card.idm)

    def lay(self) -> None:
        """Lay back what was lifted or pulled away; a card that is still there is lifted first, and so loses its session."""
        for card in self._held:
            self._air.lift(card.idm)
            self._air.lay(card)
        self._held = ()

    def pull_during(self, command: bytes, trial: int, probe: Callable[[], bool]) -> None:
        """Let the cards leave within the next command (``trial`` 0), while they work on it (1), or within their answer (2)."""
        del probe
        self._held = self._air.cards
        heard = len(command) + FRAME_OVERHEAD
        after = (heard // 2, heard + 1, heard + (_STATUS_ANSWER + FRAME_OVERHEAD) // 2)[trial % 3]
        for card in self._held:
            self._air.lift(card.idm, after_bytes=after)
