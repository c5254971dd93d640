"""The rules of a station out of the city's packages: a ``validator.rulebook.Rulebook`` over ``firmware.packages``.

What the courier laid down (``ledger.letterbox.Parcels``) is judged here, in the station's process, because only the station knows when
nobody waits. A package for a later day waits in its parcel while another of its kind waits for an earlier one: there is one place for what
comes next, and the earlier one must not be lost.

Asking costs little when nothing has changed: whether something is due is known from the files' marks, and no package is opened for it.
"""

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from firmware import packages
from firmware.failure import Failure
from firmware.packages import Held, Judge, Refused, Staged
from ledger.letterbox import Parcels
from ledger.package import Package, PackageKind
from validator.rulebook import InForce, Noted

log = logging.getLogger(__name__)

_Mark = tuple[int, int]


@dataclass(slots=True)
class PackagedRules:
    """``judge()``: by what this terminal judges, now. ``build(sent)``: the rules in force with these packages; raises ``Failure``.

    ``words()``: what others on this machine left to be written into the ledger.
    """

    folder: Path
    parcels: Parcels
    judge: Callable[[], Judge]
    today: Callable[[], date | None]
    build: Callable[[Mapping[PackageKind, Package]], InForce]
    words: Callable[[], Sequence[Noted]] = tuple
    _later: set[str] = field(default_factory=set[str])
    _days: dict[PackageKind, tuple[_Mark, date | None]] = field(default_factory=dict[PackageKind, tuple[_Mark, date | None]])

    def judge_one(self) -> bool:
        waiting = [name for name in self.parcels.parcels() if name not in self._later]
        if not waiting:
            return False
        name, judge = waiting[0], self.judge()
        sealed = self.parcels.parcel(name).sealed
        if packages.must_wait(self.folder, sealed, judge):
            self._later.add(name)
            return True
        match packages.stage(self.folder, sealed, judge):
            case Staged(found):
                log.info("%s waits for its day", found)
            case Held(found, doubts):
                log.warning("%s is held for a person: %s", found, "; ".join(doubts))
            case Refused(why):
                log.warning("a package was not taken: %s", why)
        self.parcels.unpacked(name)
        return True

    def judge_all(self) -> None:
        """At a start: nobody waits."""
        while self.judge_one():
            pass

    def turn(self) -> InForce | None:
        today = self.today()
        if today is None or not any(day is not None and day <= today for day in map(self._day_of_next, PackageKind)):
            return None
        judge = self.judge()
        found = self.enter(judge)
        try:
            rules = self.build(found)
        except Failure as failure:
            log.warning("the rules that were in force stay: %s", failure)
            return None
        gc.collect()
        gc.freeze()  # as at the start: the collector need not look at them in the middle of a tap
        return rules

    def enter(self, judge: Judge) -> dict[PackageKind, Package]:
        """Bring into force what is due; all that is. Raises ``OSError``."""
        self._later.clear()
        found = packages.enter(self.folder, judge)
        for package in found.values():
            log.info("%s is in force", package)
        # One that could not be brought into force is not tried again before it changes.
        for kind in PackageKind:
            mark = self._mark(kind)
            if mark is not None:
                day = self._day_of_next(kind)
                self._days[kind] = mark, day if judge.today is None or day is None or day > judge.today else None
        return found

    def alarms(self) -> Sequence[Noted]:
        return [*packages.alarms(self.folder), *self.words()]

    def _mark(self, kind: PackageKind) -> _Mark | None:
        try:
            status = (self.folder / kind / packages.NEXT).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _day_of_next(self, kind: PackageKind) -> date | None:
        mark = self._mark(kind)
        if mark is None:
            return None
        before = self._days.get(kind)
        if before is None or before[0] != mark:
            found = packages.read(self.folder / kind / packages.NEXT, self.judge())
            self._days[kind] = before = mark, found.valid_from if found else None
        return before[1]
