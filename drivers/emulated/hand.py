"""A hand over an emulated field: it lifts the cards and lays them back, and pulls one away in the middle of a command."""

from collections.abc import Callable

from drivers.emulated.air import Air, FieldCard
from drivers.emulated.lite_s_card import FRAME_OVERHEAD

_STATUS_ANSWER = 12


class AirHand:
    """Moves the cards of an ``Air``, in the reader's own thread. Card files in a tray stay where they are; only the field loses a card."""

    def __init__(self, air: Air, monotonic_ns: Callable[[], int]) -> None:
        self._air = air
        self._monotonic_ns = monotonic_ns
        self._held: tuple[FieldCard, ...] = ()

    def lift(self) -> None:
        """Take all cards out of the field."""
        self._settle()
        self._held = self._air.cards
        self._lift_held()

    def lay(self) -> None:
        """Lay back what was lifted or pulled away; a card that did not leave in time is lifted first, and so loses its session."""
        self._lift_held()
        for card in self._held:
            self._air.lay(card)
        self._held = ()
        self._settle()

    def pull_during(self, command: bytes, trial: int, probe: Callable[[], bool]) -> None:
        """Let the cards leave within the next command (``trial`` 0), while they work on it (1), or within their answer (2)."""
        del probe
        self._settle()
        self._held = self._air.cards
        heard = len(command) + FRAME_OVERHEAD
        after = (heard // 2, heard + 1, heard + (_STATUS_ANSWER + FRAME_OVERHEAD) // 2)[trial % 3]
        for card in self._held:
            self._air.lift(card.idm, after_bytes=after)

    def _lift_held(self) -> None:
        for card in self._held:
            self._air.lift(card.idm)
        self._settle()

    def _settle(self) -> None:
        """Let the field take note now: it does so whenever it is switched, also to what it is."""
        self._air.switch(on=self._air.is_on, now_ns=self._monotonic_ns())
