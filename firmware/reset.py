"""A unit becomes nobody again: the order in which that is safe.

Rides are money, and a unit's ledger is their only copy until the city has signed for them. So, in this order:

1. a last entry closes the epoch (ALARM, ``reset:ordered``). It is chained and its batch is signed like all others; behind it comes nothing;
2. everything that the city has not signed for, that entry with it, lies on a stick, read back and found whole;
3. a note on the data partition. From here on the unit is nobody, whatever else is still there;
4. who it was goes first, then keys, rules, ledgers and what waited; the note goes last.

A cut before the note changes nothing but for one entry; the same command does it again. A cut after it is finished by the same command, or
by whatever makes this machine a unit again: nobody takes a new name while something of the old one lies there. What belongs to the machine
and not to the unit stays: RAUC's slots and their state.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from firmware.config import UNIT

NOTE = "reset"
REASON = "reset:ordered"
ERASED = ("unit", "ledger", "update", "health")
"""Folders of the data partition. They stay, and what is in them goes."""


def begun(data: Path) -> bool:
    """Whether somebody ordered it and it is not finished."""
    return (data / NOTE).exists()


def erase(data: Path, lay_note: Callable[[Path], None], remove: Callable[[Path], None]) -> None:
    """Steps 3 and 4. ``remove`` takes a file or an empty folder away, durably enough that the order is kept. Raises ``OSError``."""
    if not begun(data):
        lay_note(data / NOTE)
    for path in _in_order(data):
        remove(path)
    remove(data / NOTE)


def _in_order(data: Path) -> Iterator[Path]:
    unit = data / "unit" / UNIT
    if unit.exists():
        yield unit
    for name in ERASED:
        folder = data / name
        if folder.is_dir():
            # A folder behind what is in it; one that is a link is a file.
            yield from sorted(folder.rglob("*"), key=lambda path: (-len(path.parts), path.name))
