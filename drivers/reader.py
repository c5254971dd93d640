"""A reader: cards come and go, and so does the reader. And the short text that says which one.

An address is ``KIND:WHERE``. The rate on the air may follow only a rate on the line (``pn532:/dev/ttyS1@921600/212``): a bare
``/212`` after a path would be a path of its own, as ``/dev/pts/212`` is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
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


LINE_RATES = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1288000)
"""Bits a second a PN532 can be told to use on its serial line; the place in the list is its code (UM0701-02 §7.2.8)."""

POWER_UP_RATE = 115200
"""Bits a second of a PN532 that has just got power."""

AIR_RATES = (212, 424)
"""kbit/s of a FeliCa card."""

FORMS = "pn532:PATH[@BAUD[/212|/424]] (as in pn532:/dev/ttyS1@921600) or emulated:FOLDER"

_PN532 = re.compile(r"(?P<path>/[^@]*)(?:@(?P<baud>[0-9]{1,9})(?:/(?P<air>[0-9]{1,9}))?)?")


@dataclass(frozen=True, slots=True)
class Pn532Address:
    """A PN532 on a serial line: device file, bits a second on the line, kbit/s on the air."""

    text: str
    path: str
    baud: int
    air_rate: int


@dataclass(frozen=True, slots=True)
class EmulatedAddress:
    """A tray: a folder in which a card lies while its file does."""

    text: str
    folder: str


def parse_address(text: str) -> Pn532Address | EmulatedAddress:
    """Which reader ``text`` names; raises ``ValueError`` with one sentence: what is wrong and which forms there are."""
    kind, colon, where = text.partition(":")
    match kind:
        case "pn532" if colon:
            return _pn532(text, where)
        case "emulated" if where:
            return EmulatedAddress(text, where)
        case "emulated" if colon:
            raise ValueError(f"reader address '{text}': the folder is missing; write {FORMS}")
        case _:
            raise ValueError(f"reader address '{text}': there is no such kind of reader; write {FORMS}")


def _pn532(text: str, where: str) -> Pn532Address:
    found = _PN532.fullmatch(where)
    if found is None:
        raise ValueError(f"reader address '{text}': after 'pn532:' comes the full path of a device file; write {FORMS}")
    baud = int(found["baud"] or POWER_UP_RATE)
    air_rate = int(found["air"] or AIR_RATES[-1])
    if baud not in LINE_RATES:
        raise ValueError(f"reader address '{text}': a PN532 cannot run at {baud} baud; it can at {', '.join(map(str, LINE_RATES))}")
    if air_rate not in AIR_RATES:
        raise ValueError(f"reader address '{text}': a FeliCa card speaks 212 or 424 kbit/s, not {air_rate}")
    return Pn532Address(text, found["path"], baud, air_rate)
