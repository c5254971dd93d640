"""One activated card, as everybody above a reader sees it."""

from collections.abc import Callable
from typing import Protocol, cast


class Channel(Protocol):
    """One activated FeliCa card in the field.

    ``idm`` and ``pmm`` are the 8-byte identifiers of its polling answer (JIS X 6319-4). A channel is valid until its reader polls again
    with another result; using it later raises ``CardLost``.
    """

    @property
    def idm(self) -> bytes: ...

    @property
    def pmm(self) -> bytes: ...

    def exchange(self, command: bytes) -> bytes:
        """Send one frame and return the card's frame, both *with* their leading LEN byte and without preamble, sync and CRC.

        Exactly one command reaches the air: nothing is ever resent below this line, because a write that was executed must not be
        executed again. Raises ``CardLost`` (no answer; execution unknown), ``MalformedReply`` (the answer's LEN does not fit its
        bytes) and ``ReaderLost``.
        """
        ...


class PatientChannel(Channel, Protocol):
    """A channel whose caller may work while the card thinks."""

    def exchange_while(self, command: bytes, work: Callable[[], None]) -> bytes:
        """As ``exchange``; ``work`` runs once, after the command has left, unless the reader or the line is lost before.

        What it raises ends the exchange, the answer is lost.
        """
        ...


def exchange_while(channel: Channel, command: bytes, work: Callable[[], None]) -> bytes:
    """``channel.exchange(command)`` with ``work`` done once meanwhile, or before where the channel cannot wait beside it."""
    if hasattr(channel, "exchange_while"):  # isinstance with a Protocol takes as long as what is to be saved
        return cast("PatientChannel", channel).exchange_while(command, work)
    work()
    return channel.exchange(command)
