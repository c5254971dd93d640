"""A serial line to an emulated chip inside this process, on any clock: with a virtual one, nobody waits.

The line hears whether both ends run at the same rate: bytes sent at another rate than the receiver's arrive as other bytes.
"""

import errno
from collections.abc import Callable
from typing import Protocol

from drivers.emulated.pn532_chip import POWER_UP_BAUD


class Chip(Protocol):
    """What can be at the other end."""

    baud: int

    def feed(self, data: bytes, now_ns: int) -> None: ...

    def due(self) -> int | None: ...

    def take(self, now_ns: int) -> bytes: ...


class LineClock(Protocol):
    """What the line asks of a clock."""

    def monotonic_ns(self) -> int: ...

    def sleep_until_ns(self, deadline_ns: int) -> None: ...


class ChipLine:
    """The host's end of the line. After ``unplug`` everything but ``close`` raises ``OSError``, until ``plug``.

    ``on_traffic``, if given, is called after each write and each read: a place for a test to let something happen just then.
    """

    def __init__(self, chip: Chip, clock: LineClock, baud: int = POWER_UP_BAUD, on_traffic: Callable[[], None] | None = None) -> None:
        self.chip = chip
        self.baud = baud
        self.is_open = True
        self._clock = clock
        self._plugged = True
        self._come = bytearray()
        self._on_traffic = on_traffic

    def write(self, data: bytes) -> None:
        """Hand ``data`` to the line."""
        self._check()
        now_ns = self._clock.monotonic_ns()
        self._come += self._as_heard(self.chip.take(now_ns))
        self.chip.feed(self._as_heard(data), now_ns)
        self._tell()

    def read(self, size: int, timeout_s: float) -> bytes:
        """Wait up to ``timeout_s`` for the first byte, then return what is there, at most ``size`` bytes; ``b""`` when nothing came."""
        self._check()
        deadline_ns = self._clock.monotonic_ns() + round(max(0.0, timeout_s) * 1e9)
        while not self._come:
            due_ns = self.chip.due()
            until_ns = deadline_ns if due_ns is None else min(due_ns, deadline_ns)
            self._clock.sleep_until_ns(until_ns)
            self._check()
            self._come += self._as_heard(self.chip.take(self._clock.monotonic_ns()))
            if until_ns == deadline_ns:
                break
        data = bytes(self._come[:size])
        del self._come[:size]
        self._tell()
        return data

    def set_baud(self, baud: int) -> None:
        """Bits a second from the next byte on, both ways."""
        self._check()
        self.baud = baud

    def discard(self) -> None:
        """Forget what has come in and was not read."""
        self._check()
        self.chip.take(self._clock.monotonic_ns())
        self._come.clear()

    def close(self) -> None:
        """Let go of the line."""
        self.is_open = False

    def reopen(self, baud: int) -> "ChipLine":
        """Open the line again at ``baud`` (fits a driver's ``open_port``); raises ``OSError`` while it is unplugged."""
        if not self._plugged:
            raise OSError(errno.ENOENT, "there is no such line")
        self.is_open = True
        self.baud = baud
        self._come.clear()
        return self

    def unplug(self) -> None:
        """The cable is pulled."""
        self._plugged = False
        self._come.clear()

    def plug(self) -> None:
        """The cable is back; a line that was open must be opened again."""
        self._plugged = True
        self.is_open = False

    def _check(self) -> None:
        if not self._plugged or not self.is_open:
            raise OSError(errno.EIO, "the line is gone")

    def _as_heard(self, data: bytes) -> bytes:
        return data if self.baud == self.chip.baud else bytes(byte ^ 0x5A for byte in data if byte)

    def _tell(self) -> None:
        if self._on_traffic is not None:
            self._on_traffic()
