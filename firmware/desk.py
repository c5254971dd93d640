"""A card on the desk: from a reader, where a person lays and lifts it, or from a card file, where that takes no hand.

A desk has time. It waits for one card and says what it waits for; two cards, none, or a card that is not a Lite-S end in one sentence.
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from drivers.cards import issuing
from drivers.cards.lite_s import is_lite_s
from drivers.channel import Channel
from drivers.errors import ReaderLost
from drivers.reader import Reader
from drivers.vault import GrantChecker
from firmware.failure import Failure

WAIT_S = 30.0
_LOOK_EVERY_S = 0.1
_Found = TypeVar("_Found")


class DeskVault(issuing.Desk, Protocol):
    """The desk's secrets, and which of them are used for something new."""

    @property
    def grants(self) -> GrantChecker:
        """The public half of the issuers' keys."""
        ...

    @property
    def newest_card_key(self) -> int:
        """The key version that new cards get."""
        ...

    @property
    def issuer_id(self) -> int:
        """The key id that new grants are signed with."""
        ...


class Desk(Protocol):
    """Where a card lies."""

    def card(self) -> Channel:
        """The card that lies there, waited for; raises ``Failure``."""
        ...

    def lay_again(self) -> Channel:
        """The same card, lifted and laid down again: it has lost power between; raises ``Failure``."""
        ...

    def close(self) -> None:
        """Let go of the reader."""
        ...


class RestartableChannel(Channel, Protocol):
    """A channel whose card can be lifted and laid without a hand: a twin's."""

    def lay_again(self) -> None: ...


class FileDesk:
    """A card file as the card on the desk."""

    def __init__(self, held: RestartableChannel) -> None:
        self._held = held

    def card(self) -> Channel:
        return self._held

    def lay_again(self) -> Channel:
        self._held.lay_again()
        return self._held

    def close(self) -> None:
        """Nothing is held: the file was written after each change."""


class ReaderDesk:
    """A reader with a person beside it; ``tell`` speaks to the person."""

    def __init__(
        self,
        reader: Reader,
        tell: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reader = reader
        self._tell = tell
        self._now_s = now_s
        self._sleep = sleep
        self._idm = b""

    def card(self) -> Channel:
        channel = self._first()
        if channel is None:
            self._tell("lay the card on the reader")
            channel = self._wait(self._first, "no card was laid on the reader; lay it down and run this again")
        if not is_lite_s(channel.pmm):
            raise Failure("this is not a FeliCa Lite-S card; take one of the town's cards")
        self._idm = channel.idm
        return channel

    def lay_again(self) -> Channel:
        self._tell("lift the card")
        self._wait(lambda: None if self._poll() else True, "the card was not lifted; run this again")
        self._tell("lay the same card down again")
        channel = self._wait(self._first, "the card was not laid down again; run this again")
        if channel.idm != self._idm:
            raise Failure("this is another card; run this again with the first one")
        return channel

    def close(self) -> None:
        self._reader.close()

    def _first(self) -> Channel | None:
        cards = self._poll()
        if len(cards) > 1:
            raise Failure("there are two cards on the reader; lay down one")
        return cards[0] if cards else None

    def _poll(self) -> list[Channel]:
        try:
            return list(self._reader.poll())
        except ReaderLost as lost:
            raise Failure(f"{self._reader.name}: {lost}; `kazashi reader qualify` looks closer") from lost

    def _wait(self, look: Callable[[], _Found | None], otherwise: str) -> _Found:
        deadline_s = self._now_s() + WAIT_S
        while self._now_s() < deadline_s:
            found = look()
            if found is not None:
                return found
            self._sleep(_LOOK_EVERY_S)
        raise Failure(otherwise)
