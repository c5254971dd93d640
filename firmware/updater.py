"""Drives the update's table with sources, a stage, RAUC and the machine. One thread; ``turn`` is one row."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from drivers.devices.clock import Clock
from firmware.update import BY_KEY, MOST_TRIES, PART_BYTES, Do, Event, Offer, Phase, Record, State, Word, best

log = logging.getLogger(__name__)

_NS = 1_000_000_000
_SPARE_BYTES = 64 * 1024 * 1024


class NotThere(Exception):
    """Nobody answers, or the stick is away. The message says what was tried."""


class Gone(Exception):
    """The bundle is not offered any more."""


class InstallRefused(Exception):
    """RAUC does not take this bundle and never will: its signature, its kind, its age. The message is RAUC's."""


class InstallFailed(Exception):
    """RAUC could not be asked, or could not write. The message says why."""


class Source(Protocol):
    """Where bundles come from. Both raise ``NotThere``, in bounded time."""

    def offers(self) -> Sequence[Offer]:
        """What there is."""
        ...

    def part(self, offer: Offer, offset: int, most: int) -> bytes:
        """The bytes from ``offset``, at least one and at most ``most``; raises ``Gone`` too."""
        ...


class Stage(Protocol):
    """The folder in which a bundle is made whole. All raise ``OSError``."""

    def record(self) -> Record: ...

    def remember(self, record: Record) -> None:
        """Durably, whole or not at all."""
        ...

    def size(self) -> int:
        """How much of the bundle is there."""
        ...

    def add(self, data: bytes) -> None:
        """More of it, durably."""
        ...

    def digest(self) -> bytes:
        """SHA-256 of what is there."""
        ...

    def drop(self) -> None:
        """Nothing is there any more."""
        ...

    def free_bytes(self) -> int: ...


class Installer(Protocol):
    """RAUC."""

    def install(self) -> None:
        """Write what is staged into the other slot, and let the next start go there; raises ``InstallRefused`` and ``InstallFailed``."""
        ...


class Unit(Protocol):
    """The machine around it. All raise ``OSError``."""

    @property
    def version(self) -> str:
        """What runs."""
        ...

    @property
    def compatible(self) -> str:
        """Which bundles are for it."""
        ...

    def on_trip(self) -> bool:
        """Whether a trip or a debit is open."""
        ...

    def lay_mark(self) -> None:
        """The next start is a trial, durably."""
        ...

    def lift_mark(self) -> None:
        """The next start is none."""
        ...

    def is_good(self) -> bool:
        """Whether the health check has called this system good since the machine started."""
        ...

    def has_failed(self) -> bool:
        """Whether the health check gave up the last trial."""
        ...

    def restart(self) -> None:
        """Ask for it."""
        ...

    def tell(self, word: Word) -> None:
        """Leave a word for the station, which writes it into the ledger; the same word twice is one."""
        ...


class Wait(Enum):
    """How long until it is time again, in seconds."""

    LONG = 4 * 3600
    SHORT = 60


@dataclass(frozen=True, slots=True)
class Equipment:
    """``sources``: the first that has something wins; sticks come before the city. ``draw()``: random, 0 … 1."""

    sources: Sequence[Source]
    stage: Stage
    installer: Installer
    unit: Unit
    clock: Clock
    draw: Callable[[], float]


class Updater:
    """An agent on duty."""

    def __init__(self, equipment: Equipment) -> None:
        self.equipment = equipment
        self.state = State.STARTED
        self._event: Event | None = None
        self._due_ns = equipment.clock.monotonic_ns()
        self._record = Record()
        self._source: Source | None = None
        self._effects: dict[Do, Callable[[], Event | None]] = {
            Do.RECALL: self._recall,
            Do.ASK: self._ask,
            Do.FETCH: self._fetch,
            Do.CHECK: self._check,
            Do.LAY_MARK: self._lay_mark,
            Do.LIFT_MARK: equipment.unit.lift_mark,
            Do.INSTALL: self._install,
            Do.KEEP: self._keep,
            Do.LOOK: lambda: Event.BUSY if equipment.unit.on_trip() else Event.QUIET,
            Do.RESTART: equipment.unit.restart,
            Do.HEAR: lambda: Event.GOOD if equipment.unit.is_good() else Event.UNDECIDED,
            Do.FORGET: self._forget,
            Do.NEVER_AGAIN: self._never_again,
            Do.TELL_INSTALLED: lambda: equipment.unit.tell(Word.INSTALLED),
            Do.TELL_REFUSED: lambda: equipment.unit.tell(Word.REFUSED),
            Do.TELL_WENT_BACK: lambda: equipment.unit.tell(Word.WENT_BACK),
            Do.REST: lambda: self._wait(Wait.LONG),
            Do.PAUSE: lambda: self._wait(Wait.SHORT),
        }

    @property
    def status(self) -> str:
        """One line for people."""
        offer = self._record.offer
        return f"{self.state.value} ({offer.version}, {self.equipment.stage.size() * 100 // offer.size} %)" if offer else self.state.value

    def run(self, go_on: Callable[[], bool], nap_s: float = 1.0) -> None:
        """Turn while ``go_on()``, which is asked between two rows and at least every ``nap_s``."""
        clock = self.equipment.clock
        while go_on():
            self.turn()
            if self._event is None:
                clock.sleep_until_ns(min(self._due_ns, clock.monotonic_ns() + int(nap_s * _NS)))

    def hurry(self) -> None:
        """A stick was plugged in: it is time now."""
        if self.state is State.RESTING:
            self._due_ns = self.equipment.clock.monotonic_ns()

    def turn(self) -> None:
        """One row, if it is time for one. A disk that fails is waited for: the next row reads again what was written down."""
        event, self._event = self._event, None
        if event is None and self.equipment.clock.monotonic_ns() >= self._due_ns:
            event = Event.DUE
        row = BY_KEY.get((self.state, event)) if event else None
        if row is None:
            return
        log.info("update row=%s", row.name)
        try:
            for do in row.does:
                self._event = self._effects[do]()
        except OSError as error:
            log.warning("the update waits for the disk: %s", error)
            self.state, self._event = State.STARTED, None
            self._wait(Wait.SHORT)
            return
        self.state = row.target

    # ── what was begun ──

    def _recall(self) -> Event:
        self._record = record = self.equipment.stage.record()
        offer = record.offer
        if offer is None or record.phase is Phase.NONE:
            return Event.FRESH
        if offer.version == self.equipment.unit.version:
            return Event.ARRIVED  # also when nobody came to write down that it was installed
        match record.phase:
            case Phase.INSTALLED | Phase.INSTALLING:
                return Event.NOT_ARRIVED if self.equipment.unit.has_failed() else Event.WRITING
            case _:
                return Event.HALF

    def _remember(self, record: Record) -> None:
        self.equipment.stage.remember(record)
        self._record = record

    # ── bringing ──

    def _ask(self) -> Event:
        unit, answered = self.equipment.unit, False
        for source in self.equipment.sources:
            try:
                offers = source.offers()
            except NotThere as why:
                log.info("%s", why)
                continue
            answered = True
            offer = best(offers, unit.version, unit.compatible, self._record.refused)
            if offer is not None:
                self._source = source
                self.equipment.stage.drop()
                self._remember(replace(self._record, phase=Phase.FETCHING, offer=offer, tries=0))
                return Event.OFFERED
        return Event.NOTHING if answered else Event.NO_ANSWER

    def _fetch(self) -> Event:
        stage, offer = self.equipment.stage, self._offer()
        have = stage.size()
        if have >= offer.size:
            return Event.WHOLE
        if stage.free_bytes() < offer.size - have + _SPARE_BYTES:
            log.warning("there is no room for %d bytes more", offer.size - have)
            return Event.NO_ROOM
        gone = 0
        sources = [self._source] if self._source else self.equipment.sources
        for source in sources:
            try:
                data = source.part(offer, have, min(PART_BYTES, offer.size - have))
            except NotThere as why:
                log.info("%s", why)
                continue
            except Gone:
                gone += 1
                continue
            self._source = source
            stage.add(data)
            return Event.PART
        self._source = None  # perhaps another one has it
        return Event.GONE if gone == len(self.equipment.sources) else Event.NO_ANSWER

    def _check(self) -> Event:
        offer, stage = self._offer(), self.equipment.stage
        if self._record.tries >= MOST_TRIES:
            return Event.REFUSED
        if not self.equipment.unit.is_good():
            return Event.UNDECIDED
        return Event.RIGHT if stage.size() == offer.size and stage.digest() == offer.digest else Event.WRONG

    # ── installing ──

    def _lay_mark(self) -> None:
        self.equipment.unit.lay_mark()
        self._remember(replace(self._record, phase=Phase.INSTALLING, tries=self._record.tries + 1))

    def _install(self) -> Event:
        try:
            self.equipment.installer.install()
        except InstallRefused as refused:
            log.warning("%s is refused: %s", self._offer().version, refused)
            return Event.REFUSED
        except InstallFailed as failed:
            log.warning("%s could not be installed now: %s", self._offer().version, failed)
            return Event.FAILED
        return Event.DONE

    def _keep(self) -> None:
        self._remember(replace(self._record, phase=Phase.INSTALLED))

    def _forget(self) -> None:
        self._remember(replace(self._record, phase=Phase.NONE, offer=None, tries=0))
        self.equipment.stage.drop()

    def _never_again(self) -> None:
        self._remember(self._record.without(self._offer()))
        self.equipment.stage.drop()

    def _offer(self) -> Offer:
        if self._record.offer is None:
            raise ValueError("the update's table asked for an offer where there is none")
        return self._record.offer

    def _wait(self, how: Wait) -> None:
        seconds = how.value * (0.8 + 0.4 * self.equipment.draw())  # a fleet must not ask in one second
        self._due_ns = self.equipment.clock.monotonic_ns() + int(seconds * _NS)
