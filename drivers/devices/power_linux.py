"""Adapter: a power line as a file of the power supply class, or as an input line of a serial port."""

import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drivers.devices.power import Modem


class SupplyFile:
    """A ``PowerLine`` that is a file with 1 or 0 (kernel documentation, "Linux power supply class", ``online``)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fed(self) -> bool:
        try:
            return self._path.read_text("ascii").strip() != "0"
        except (OSError, UnicodeDecodeError):
            return True


def modem_lines(port: int) -> int:
    """The lines of an open serial port, as bits (tty_ioctl(4), TIOCMGET); raises ``OSError``."""
    told: tuple[int] = struct.unpack("=i", fcntl.ioctl(port, termios.TIOCMGET, bytes(4)))
    return told[0]


class SerialLine:
    """A ``PowerLine`` that is an input line of a serial port: high is fed. The port is opened again when it was away."""

    def __init__(self, path: Path, line: Modem, lines: Callable[[int], int] = modem_lines) -> None:
        self._path = path
        self._line = line
        self._lines = lines
        self._port = -1

    def fed(self) -> bool:
        try:
            if self._port < 0:
                self._port = os.open(self._path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            return bool(self._lines(self._port) & self._line)
        except OSError:
            self.close()
            return True

    def close(self) -> None:
        """Let go of the port."""
        if self._port >= 0:
            with suppress(OSError):
                os.close(self._port)
            self._port = -1
