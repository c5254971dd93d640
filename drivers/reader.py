"""A reader: cards come and go, and so does the reader."""

from collections.abc import Sequence
from typing import Protocol

from drivers.channel import Channel


class Reader(Protocol):
    """A contactless reader whose field stays on."""

    @property
    def name(self) -> str:
        """The address it was opened with, e.g. ``pn532:/dev/ttyS1@921600`` or ``emulated:FOLDER``."""
        ...

    def poll(self) -> Sequence[Channel]:
        """The cards in the field now: none, one, or two (two is all that is ever told apart). One host command.

        Raises ``ReaderLost``; after that only ``revive`` and ``close`` may be called.
        """
        ...

    def revive(self) -> bool:
        """Try once, quickly (≤ 500 ms), to get a lost reader back; True when it answers again."""
        ...

    def close(self) -> None:
        """Let go of the device. Idempotent."""
        ...
