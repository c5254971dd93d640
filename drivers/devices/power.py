"""The line that says whether the vehicle feeds us: the ignition, or what stands behind it (a UPS, a supervisor, a large capacitor).

It is written as a short text, as readers are:

``supply:PATH``
    A file of the kernel's power supply class that holds 1 or 0, such as ``/sys/class/power_supply/ignition/online``. A GPIO becomes one by
    the driver ``gpio-charger``, a UPS by its own.
``serial:PATH:LINE``
    An input line of a serial port, ``cts``, ``dsr``, ``dcd`` or ``ri``: high is fed. A UPS box has such a plug.
"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol


class PowerLine(Protocol):
    """The line as it is now."""

    def fed(self) -> bool:
        """False when the vehicle feeds us no longer. A line that cannot be read counts as fed: a loose plug must not stop a bus."""
        ...


class Modem(IntEnum):
    """Input lines of a serial port, as bits of TIOCMGET (Linux, asm-generic/termios.h)."""

    CTS = 0x020
    DCD = 0x040
    RI = 0x080
    DSR = 0x100


@dataclass(frozen=True, slots=True)
class SupplyAddress:
    """``supply:PATH``."""

    path: Path


@dataclass(frozen=True, slots=True)
class SerialAddress:
    """``serial:PATH:LINE``."""

    path: Path
    line: Modem


PowerAddress = SupplyAddress | SerialAddress


def parse_address(text: str) -> PowerAddress:
    """The line that ``text`` names; raises ``ValueError`` with what to write."""
    kind, _, rest = text.partition(":")
    path, _, line = rest.rpartition(":")
    if kind == "supply" and rest.startswith("/"):
        return SupplyAddress(Path(rest))
    if kind == "serial" and path.startswith("/") and line.upper() in Modem.__members__:
        return SerialAddress(Path(path), Modem[line.upper()])
    raise ValueError(f"'{text}' is no power line; write supply:/sys/class/power_supply/NAME/online or serial:/dev/ttyS2:dsr")
