"""Whether this system may stay: everything is tried once, and only then is it called good.

An update that starts is not yet one that works. What must hold, in this order:

1. the screen has drawn its first frame, and the station has its ledger open and its reader has answered: both say so to systemd, and they
   say it no sooner (``firmware.notify``);
2. one tap runs through the whole chain on this machine (``firmware.selftap``);
3. the vehicle's own ledger is whole, from its first entry to its last.

Then the boot loader is told. It gives a slot one try, so this happens at each start; a system that is never called good is left at the next
one. The first start after an update need not wait for that: it is a *trial*, and a trial that fails starts the machine again, once, into
the system that was good before. Outside a trial nothing is restarted: a reader that broke on the road is broken in both systems, and a bus
that starts again and again helps nobody.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from drivers.devices.clock import Clock

log = logging.getLogger(__name__)

UNITS: Mapping[str, str] = {
    "kazashi-screen.service": "the screen has not drawn its first frame",
    "kazashi-station.service": "the station takes no cards",
}
"""What has to work, and what is said when it does not."""

PATIENCE_S = 600
_LOOK_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How a unit stands. ``works``: it said that it is ready and has not ended; ``status``: what it says of itself."""

    works: bool
    gave_up: bool = False
    status: str = ""


class Units(Protocol):
    """The processes of this machine."""

    def standing(self, unit: str) -> Standing:
        """How it stands now; one that cannot be asked about does not work."""
        ...


class SlotTrouble(Exception):
    """The boot loader could not be told. The message says why."""


class Slots(Protocol):
    """The two systems on the disk."""

    def mark_good(self) -> None:
        """The one that runs may stay; raises ``SlotTrouble``."""
        ...


class Trial(Protocol):
    """The first start after an update."""

    def running(self) -> bool:
        """Whether this is one."""
        ...

    def over(self) -> None:
        """It is none any more, durably."""
        ...

    def go_back(self) -> None:
        """Start the machine again; the boot loader takes the other system."""
        ...


@dataclass(frozen=True, slots=True)
class Equipment:
    """What the check is made of. ``self_tap`` and ``ledger`` give what is wrong in one sentence, or nothing."""

    units: Units
    self_tap: Callable[[], str]
    ledger: Callable[[], str]
    slots: Slots
    trial: Trial
    clock: Clock


def examine(equipment: Equipment, patience_s: int = PATIENCE_S) -> tuple[str, ...]:
    """Try everything; what is wrong, nothing when all is well. Then, and only then, the slot is marked good."""
    faults = _faults(equipment, patience_s)
    if not faults:
        try:
            equipment.slots.mark_good()
        except SlotTrouble as trouble:
            faults = (f"all is well, but the boot loader could not be told: {trouble}",)
    if equipment.trial.running():
        equipment.trial.over()
        if faults:
            log.error("the update does not work here; the machine starts again with the system before it")
            equipment.trial.go_back()
    return faults


def _faults(equipment: Equipment, patience_s: int) -> tuple[str, ...]:
    waited = _wait(equipment, patience_s)
    if waited:
        return waited
    return tuple(fault for check in (equipment.self_tap, equipment.ledger) if (fault := check()))


def _wait(equipment: Equipment, patience_s: int) -> tuple[str, ...]:
    """Until all units work, one has given up, or it took too long; what does not work."""
    clock = equipment.clock
    until_ns = clock.monotonic_ns() + patience_s * 1_000_000_000
    while True:
        standing = {unit: equipment.units.standing(unit) for unit in UNITS}
        failing = {unit: one for unit, one in standing.items() if not one.works}
        if not failing:
            return ()
        if any(one.gave_up for one in failing.values()) or clock.monotonic_ns() >= until_ns:
            return tuple(f"{UNITS[unit]}{f' ({one.status})' if one.status else ''}" for unit, one in failing.items())
        clock.sleep_until_ns(clock.monotonic_ns() + _LOOK_NS)
