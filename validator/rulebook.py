"""How the rules of a station change while it runs: what it asks for, and when it may (pure).

Rules change *between two trips*: no trip is open, no debit's outcome is open, and no card lies on the reader. A rider who boards under one
table gets off under it, and nothing changes between what a driver presses and the tap that uses it. Judging a package takes a while, so it
is done then too, when nobody was near for some seconds, and one package at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fares.table import Trip
from ledger.entry import Versions
from validator.journey import Tariff


@dataclass(frozen=True, slots=True)
class InForce:
    """Rules, and what follows from them. ``versions``: as each entry names them; ``trips``: those this vehicle drives, in order."""

    tariff: Tariff
    versions: Versions
    blocked: Callable[[bytes], bool]
    trips: tuple[Trip, ...]


@dataclass(frozen=True, slots=True)
class Noted:
    """An alarm that waits to be written into the ledger: the ``reason`` of its entry. Call ``forget`` when that is durable."""

    reason: str
    forget: Callable[[], None]


class Rulebook(Protocol):
    """Where new rules come from. All raise ``OSError``; then the rules that are in force stay."""

    def judge_one(self) -> bool:
        """Judge one package that the courier laid here; False when there is none to judge now."""
        ...

    def turn(self) -> InForce | None:
        """Bring into force, durably, what is due; None when nothing is."""
        ...

    def alarms(self) -> Sequence[Noted]:
        """What is to be written into the ledger."""
        ...
