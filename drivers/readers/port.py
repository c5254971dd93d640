"""The line to a reader's chip: bytes out, bytes in, and a deadline on every wait."""

from typing import Protocol


class Port(Protocol):
    """An open serial line. Every method raises ``OSError`` once the device is unplugged."""

    def write(self, data: bytes) -> None:
        """Hand all of ``data`` to the line; returns before the last bit has left."""
        ...

    def read(self, size: int, timeout_s: float) -> bytes:
        """Wait up to ``timeout_s`` for the first byte, then return what is there, at most ``size`` bytes; ``b""`` when nothing came."""
        ...

    def set_baud(self, baud: int) -> None:
        """Bits a second from the next byte on, both ways."""
        ...

    def discard(self) -> None:
        """Forget what has come in and was not read."""
        ...

    def close(self) -> None:
        """Let go of the line. Idempotent; never raises."""
        ...
