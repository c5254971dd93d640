"""What a demo plays on: cards, a hand, a PN532 twin on a pseudo-terminal, the station in a process of its own, a screen and a loudspeaker.

The reader is the real driver on a serial device and the twin answers in real time; the ledger is on this machine's disk. Only the time
between two riders is skipped, on both sides at once (``drivers.emulated.skipping_clock``), so that a morning takes less than a minute.

``Stage.close`` leaves nothing behind: no process, no device, no link. The station's process ends with its input, so it ends even when this
one is killed.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Self, cast

from drivers.cards import issuing
from drivers.devices.display import Display, Picture
from drivers.devices.keypad import DriverKey
from drivers.devices.sound import Sound
from drivers.emulated.air import Air
from drivers.emulated.held_card import HeldCard
from drivers.emulated.keypad import TerminalKeypad
from drivers.emulated.lite_s_card import REG, Faults, LiteSCard, blank_memory
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.emulated.pn532_pty import Pn532Pty
from drivers.emulated.skipping_clock import SkippingClock
from drivers.emulated.speaker import Speaker
from drivers.vault_file import DeskVaultFile, demo_keys
from firmware import VERSION, compose
from firmware.demo_child import Child
from firmware.demo_station import Post, device_secret
from firmware.failure import Failure
from firmware.laws import Act, Book, CardStory, Said
from firmware.rehearsal import FISCAL_YEAR, LINE_RATE, Town, counters, tariff
from firmware.screen import Screen
from ledger.entry import Entry, Place, Versions
from ledger.store import LedgerFile
from validator.field import CROWD_GONE_AFTER_POLLS
from validator.messages import Message, Shown
from validator.stage import RESTING

SIZE = (800, 480)
_TRANSIT_PMM = bytes.fromhex("100B4B428485D0FF")
_PATIENCE_S = 20.0
_TURNS_A_TOUCH = 60
_TURNS_TO_EMPTY = 3
_WINDOW_STEP_S = 0.05
_IDLE = RESTING | {Message.SEEN}


class Pull(Enum):
    """When a hand comes away, in the order of a tap."""

    AT_CHALLENGE = "as the reader begins to speak to the card"
    AT_READ = "while the purse is read"
    BEFORE_WRITE = "before the card has heard the debit"
    AFTER_WRITE = "after the debit, before its answer is heard"
    AT_CHECK = "while the debit is read back"
    SLIP = "the debit's answer is lost, and the card lies still"


_GONE = Faults(lost=True, lifted=True)
_UNHEARD_AND_GONE = Faults(answer_lost=True, lifted=True)
_CARD_COMMANDS_BEFORE_DEBIT = 2  # the challenge and the purse; one more where the grant is seen for the first time


class BusDied(Exception):
    """The station's process is gone."""


class Crew:
    """The station's process, seen from outside: orders go in as lines, what it shows comes out."""

    def __init__(self, post: Post, heard: Callable[[Shown, int, int], None]) -> None:
        """``heard(shown, at_ms, ledger_seq)`` is called for each message as it comes. Raises ``BusDied``."""
        self._heard = heard
        self._rest = b""
        self.duty: dict[str, object] = {}
        self._child = Child("firmware.demo_station", _PATIENCE_S)
        self._post = post.text()

    def begin(self) -> None:
        """Wait until it is ready. Raises ``BusDied``."""
        self._send(self._post)

    def order(self, **wish: object) -> None:
        """Let it do something and return when it has. Raises ``BusDied``."""
        self._send(json.dumps(wish))

    def kill(self) -> None:
        """Kill -9, by its number."""
        self._child.kill()

    def end(self) -> None:
        """Let it close its books and go; whatever happens, it is gone afterwards."""
        self._child.end()

    def _send(self, line: str) -> None:
        try:
            self._child.say(line)
        except BrokenPipeError as error:
            raise BusDied("the station does not listen any more") from error
        came: list[dict[str, object]] = []
        try:
            came.extend(self._answers())
        finally:
            # Only now, for drawing takes this process for itself, and the reader's twin in it must answer within milliseconds.
            for answer in came:
                shown = Shown(Message(answer["shown"]), cast("dict[str, int | str]", answer["values"]))
                self._heard(shown, cast("int", answer["at_ms"]), cast("int", answer["seq"]))

    def _answers(self) -> Iterator[dict[str, object]]:
        """What comes before "done"."""
        while True:
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                answer = cast("dict[str, object]", json.loads(line))
                if "done" in answer:
                    self.duty = answer
                    return
                yield answer
            self._rest += self._more()

    def _more(self) -> bytes:
        data = self._child.hear()
        if data is None:
            raise BusDied(f"the station has not answered for {_PATIENCE_S:.0f} seconds")
        if not data:
            raise BusDied("the station's process has ended")
        return data


class Both:
    """Two loudspeakers that play the same."""

    def __init__(self, *sounds: Sound) -> None:
        self._sounds = sounds

    def play(self, samples: bytes, transcript: str) -> None:
        """Sound on each."""
        for sound in self._sounds:
            sound.play(samples, transcript)

    def stop(self) -> None:
        """Be silent on each."""
        for sound in self._sounds:
            sound.stop()


class Gallery:
    """A ``Display`` that keeps each distinct picture as a file, and shows all of them in a window if there is one."""

    def __init__(self, folder: Path, window: Display | None) -> None:
        self._window = window
        self._files = compose.open_display(SIZE, pictures=folder)
        self._kept: set[Picture] = set()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return SIZE

    @property
    def count(self) -> int:
        """Pictures so far."""
        return len(self._kept)

    def show(self, picture: Picture) -> None:
        """Draw it, and keep it if it is new."""
        if self._window is not None:
            self._window.show(picture)
        if picture not in self._kept:
            self._kept.add(picture)
            self._files.show(picture)

    def closed(self) -> bool:
        """Whether a person ended the window."""
        return self._window is not None and self._window.closed()


@dataclass(frozen=True, slots=True)
class House:
    """Where things are kept. ``folder`` is the demo's own; ``window`` and ``aloud`` are None where there is none."""

    folder: Path
    window: Display | None = None
    aloud: Sound | None = None

    @property
    def link(self) -> Path:
        """The reader's device link, while the demo runs."""
        return self.folder / "reader"


@dataclass(slots=True)
class Bus:
    """One vehicle: its name, its ledger, who has been seen there (its grant is known), what was said and how far the ledger had come."""

    name: str
    terminal: int
    trips: tuple[str, ...]
    ledger: Path
    said: list[tuple[Shown, int]] = field(default_factory=list[tuple[Shown, int]])
    known: set[bytes] = field(default_factory=set[bytes])


@dataclass(frozen=True, slots=True)
class Dealt:
    """Somebody's card, what kind it is (see ``Stage.deal``), and the points it began with."""

    card: LiteSCard
    kind: str
    points: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A vehicle's ledger when it is over; ``faults`` is empty if the chain holds."""

    name: str
    path: Path
    book: Book
    faults: tuple[str, ...]


class Stage:
    """Everything a chapter needs, one vehicle at a time. A context that leaves nothing behind."""

    def __init__(self, house: House, seed: int, utc_ms: int, *, quick: bool, tell: Callable[[str], None]) -> None:
        """``quick``: nothing is waited for, not even in a window. ``city``, once it is set: the public key of the vehicles' city."""
        self.house = house
        self.seed = seed
        self.quick = quick
        self._undo = ExitStack()
        self.utc_ms = utc_ms
        self.origin_ns = time.monotonic_ns()
        self.clock = SkippingClock(self.origin_ns, utc_ms)
        self.town = Town(house.folder, tariff(), seed=seed)
        self.buses: list[Bus] = []
        self.city = b""
        self.blocked: set[bytes] = set()
        self.heard: list[tuple[int, Shown]] = []
        self.acts: list[Act] = []
        self.cards: dict[str, Dealt] = {}
        self.registers: dict[bytes, list[bytes]] = {}
        self.wordbook = compose.wordbook()
        self.gallery = Gallery(house.folder / "pictures", house.window)
        self.speaker = Speaker(self.clock.monotonic_ns)
        sound = self.speaker if house.aloud is None else Both(self.speaker, house.aloud)
        self.screen = Screen(self.wordbook, self.gallery, sound, compose.open_lamp(), compose.open_clips(), now_ms=self.now_ms, tell=tell)
        self.air = Air(seed=seed)
        self._crew: Crew | None = None
        self._at = -1

    def __enter__(self) -> Self:
        self.reader = self._undo.enter_context(Pn532Pty(Pn532Chip(self.air), self.house.link))
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._undo.close()

    def now_ms(self) -> int:
        """Milliseconds since the demo's zero."""
        return self.clock.monotonic_ns() // 1_000_000

    # ── vehicles ──

    def enter(self, name: str, terminal: int, trips: Sequence[str]) -> None:
        """Start a vehicle's station on a new ledger."""
        self.buses.append(Bus(name, terminal, tuple(trips), self.house.folder / f"{name}.ledger"))
        self._at = -1
        self.restart()

    def board(self, name: str) -> None:
        """Start the station of a vehicle that was on duty before, on its ledger."""
        self._at = [bus.name for bus in self.buses].index(name)
        self.restart()

    @property
    def bus(self) -> Bus:
        """The present vehicle."""
        return self.buses[self._at]

    def calls(self, trip: str) -> tuple[tuple[str, int], ...]:
        """A trip's stops: name, and departure in seconds of the service day."""
        table = self.town.tariff.table
        found = next(one for one in table.trips() if one.id == trip)
        return tuple((table.stop(call.stop).name, call.departure_s) for call in found.calls)

    def restart(self) -> None:
        """Start the present vehicle's station on its ledger, as its service would after it died."""
        self.leave()
        bus = self.bus
        address = f"pn532:{self.house.link.absolute()}@{LINE_RATE}"
        blocked = frozenset(self.blocked)
        skipped_ns = self.clock.skipped_ns
        clock = (self.origin_ns, skipped_ns, self.utc_ms)
        post = Post(bus.ledger.absolute(), address, self.seed, bus.name, bus.terminal, bus.trips, blocked, *clock, self.city)
        self._crew = Crew(post, self._take)
        self._crew.begin()

    def leave(self) -> None:
        """End the present vehicle's station."""
        if self._crew is not None:
            crew, self._crew = self._crew, None
            crew.end()

    def kill(self) -> None:
        """Kill -9 to the present vehicle's station; may be called by the reader's thread."""
        if self._crew is not None:
            self._crew.kill()

    def turn(self, turns: int = 1, keys: Sequence[tuple[str, int]] = (), skip_ms: int = 0) -> None:
        """Let the station turn. Raises ``BusDied``."""
        if self._crew is None:
            raise BusDied("no vehicle is on duty")
        self.clock.skip_ms(skip_ms)
        self.screen.advance()
        self._crew.order(turns=turns, keys=list(keys), skip_ms=skip_ms)

    def press(self, *keys: DriverKey | int) -> list[Shown]:
        """The driver's keys, one after the other; a number is its digits. What was shown."""
        before = len(self.heard)
        for key in keys:
            presses = [(DriverKey.DIGIT.value, int(digit)) for digit in str(key)] if isinstance(key, int) else [(key.value, 0)]
            self.turn(keys=presses)
        return [shown for _, shown in self.heard[before:]]

    def pause(self, duration_ms: int, look_s: float = 0.0) -> None:
        """Let time pass: at most ``look_s`` of it is waited for in a window, the rest is skipped."""
        self._watch(look_s)
        until_ms = self.now_ms() + duration_ms
        while (left_ms := until_ms - self.now_ms()) > 0:
            ends_ms = self.screen.ends_ms
            step_ms = left_ms if ends_ms is None or ends_ms >= until_ms else max(1, ends_ms - self.now_ms())
            self.turn(skip_ms=min(step_ms, left_ms))
            self.screen.advance()

    def _watch(self, look_s: float) -> None:
        if self.house.window is None:
            return
        until_s = time.monotonic() + look_s
        while not self.quick and time.monotonic() < until_s:
            self.quick = self.screen.closed()
            self.screen.advance()
            time.sleep(_WINDOW_STEP_S)

    def _take(self, shown: Shown, at_ms: int, ledger_seq: int) -> None:
        self.heard.append((at_ms, shown))
        self.bus.said.append((shown, ledger_seq))
        self.screen.take(shown, at_ms)
        self.screen.perform()

    def act(self, what: str, names: Sequence[str], place: Place, armed: int, said: Sequence[Shown], *, excused: bool = False) -> None:
        """Remember what a person did and what followed, for the laws."""
        messages = tuple(shown.message for shown in said)
        standing = self.heard[-1][1].message if self.heard else None
        riders = tuple(self.rider(name) for name in names)
        self.acts.append(Act(self.bus.terminal, what, place, armed, riders, messages, standing, excused))

    @property
    def where(self) -> Place:
        """The run, as the station's ledger would write it."""
        return Place(trip=str(self._duty("trip", "")), service_day=int(self._duty("service_day", 0)), shift=int(self._duty("shift", 0)))

    @property
    def armed(self) -> int:
        """How many people the driver has armed."""
        return int(self._duty("armed", 1))

    def _duty(self, name: str, default: int | str) -> int | str:
        return default if self._crew is None else cast("int | str", self._crew.duty.get(name, default))

    # ── cards and hands ──

    def deal(self, name: str, points: int, kind: str = "plain") -> None:
        """Give somebody a card with ``points``; they are called ``name`` from now on.

        ``kind``: "plain"; "blocked", on the deny list; "strange", issued with another town's keys; "forged", its grant signed by nobody we
        know; "foreign", a railway's card.
        """
        match kind:
            case "foreign":
                card = LiteSCard(blank_memory(b"\x01\x10" + self.town.random(6), _TRANSIT_PMM))
            case "forged":
                card = self._forged(points)
            case _:
                card = self.town.card(points, seed=self.seed + 1 if kind == "strange" else None)
        if kind == "blocked":
            self.blocked.add(self.town.rider(card))
        self.cards[name] = Dealt(card, kind, points)
        self._followed(card)

    def _forged(self, points: int) -> LiteSCard:
        town = self.town
        card = town.card(0)
        false = DeskVaultFile(replace(town.keys, issuers=demo_keys(self.seed + 1).issuers))
        card.field_on()
        issuing.grant(HeldCard(card), false, false.grants, town.random, key_id=false.issuer_id, fiscal_year=FISCAL_YEAR, points=points)
        card.field_off()
        return card

    def _followed(self, card: LiteSCard, then: Callable[[], None] | None = None) -> None:
        """Write down each value of the card's register from now on; ``then`` is called after each change of the card."""
        held = self.registers.setdefault(card.idm, [card.memory.blocks[REG]])

        def follow(changed: LiteSCard) -> None:
            if changed.memory.blocks[REG] != held[-1]:
                held.append(changed.memory.blocks[REG])
            if then is not None:
                then()

        card.on_write = follow

    def touch(self, names: Sequence[str], pull: Pull | None = None, *, kill: bool = False) -> list[Shown]:
        """Lay their cards down, wait for an answer, lift them: what was shown.

        ``pull``: the hand comes away then. ``kill``: kill -9 falls on the station as soon as the card is written, or with BEFORE_WRITE just
        before. Raises ``BusDied``.
        """
        before = len(self.heard)
        cards = [self.cards[name].card for name in names]
        card = cards[0]
        if pull is not None:
            card.plan(self._faults(card, pull))
        if kill:
            self._kill_at_write(card)
        for one in cards:
            self.air.lay(one)
        try:
            for _ in range(_TURNS_A_TOUCH):
                self.turn()
                if any(shown.message not in _IDLE for _, shown in self.heard[before:]):
                    break
        finally:
            for one in cards:
                self._followed(one)
                self.air.lift(one.idm)
        self.turn(_TURNS_TO_EMPTY if len(cards) == 1 else CROWD_GONE_AFTER_POLLS)
        self.bus.known.add(card.idm)
        return [shown for _, shown in self.heard[before:]]

    def check_antenna(self) -> list[Shown]:
        """Somebody lays down a card that is nobody's, and lifts it: what was shown."""
        before, card = len(self.heard), self.town.card(0)
        self.air.lay(card)
        for _ in range(_TURNS_A_TOUCH):
            self.turn()
            if any(shown.message not in _IDLE for _, shown in self.heard[before:]):
                break
        self.air.lift(card.idm)
        self.turn(_TURNS_TO_EMPTY)
        return [shown for _, shown in self.heard[before:]]

    def lay(self, name: str) -> None:
        """Lay somebody's card down, and leave it there."""
        self.air.lay(self.cards[name].card)

    def lift(self, name: str) -> None:
        """Lift it."""
        self.air.lift(self.cards[name].card.idm)

    def _faults(self, card: LiteSCard, pull: Pull) -> list[Faults]:
        reads = [Faults()] * (_CARD_COMMANDS_BEFORE_DEBIT + (card.idm not in self.bus.known))
        match pull:
            case Pull.AT_CHALLENGE:
                return [_GONE]
            case Pull.AT_READ:
                return [Faults(), _GONE]
            case Pull.BEFORE_WRITE:
                return [*reads, _GONE]
            case Pull.AFTER_WRITE:
                return [*reads, _UNHEARD_AND_GONE]
            case Pull.AT_CHECK:
                return [*reads, Faults(), _GONE]
            case Pull.SLIP:
                return [*reads, Faults(answer_lost=True)]

    def _kill_at_write(self, card: LiteSCard) -> None:
        """The process dies when the card's points change, or when the last planned fault (a lost write) has happened."""
        before, planned = counters(card).spent, len(card.planned)

        def look() -> None:
            if counters(card).spent != before or (planned and not card.planned):
                self.kill()

        self._followed(card, look)

    # ── when it is over ──

    def rider(self, name: str) -> bytes:
        """Somebody's pseudonym."""
        return self.town.rider(self.cards[name].card)

    def spent(self, name: str) -> int:
        """Points that left somebody's card, as it says itself."""
        return counters(self.cards[name].card).spent

    def stories(self) -> list[CardStory]:
        """What each card's register held."""
        return [CardStory(self.rider(name), tuple(self.registers[dealt.card.idm])) for name, dealt in self.cards.items()]

    def verified(self) -> list[Verified]:
        """Each vehicle's ledger, read and checked by another program's eyes. Its station must have left."""
        found: list[Verified] = []
        for bus in self.buses:
            entries: list[Entry] = []
            with LedgerFile.open_read_only(bus.ledger) as ledger:
                check = ledger.verify(entries.append)
                intents = tuple(ledger.intents())
            faults = tuple(str(finding) for finding in check.findings)
            found.append(Verified(bus.name, bus.ledger, Book(bus.terminal, tuple(entries), intents), faults))
        return found

    def said(self, books: Sequence[Book]) -> list[Said]:
        """What was said, with the entry that was the newest at that moment."""
        return [
            Said(bus.terminal, shown, book.entries[seq - 1] if seq else None)
            for bus, book in zip(self.buses, books, strict=True)
            for shown, seq in bus.said
        ]

    def secrets(self) -> dict[str, bytes]:
        """What no file of a terminal may hold: card numbers, the town's keys, the vehicles' own."""
        keys = self.town.keys
        cards = {f"the number of card {number}": card.idm for number, card in enumerate((dealt.card for dealt in self.cards.values()), 1)}
        masters = {f"card key {card.version}": card.master for card in keys.cards}
        own = {f"the device key of {bus.name}": device_secret(self.seed, bus.terminal) for bus in self.buses}
        return {**cards, **masters, **own, "the rider key": keys.rider}

    def rules(self) -> Versions:
        """What every entry must name as what decided it."""
        rules = self.town.tariff
        return Versions(rules.table.digest, rules.scheme.digest, rules.operator.digest, VERSION, rider_key=self.town.keys.rider_version)

    @property
    def window_min(self) -> int:
        """The operator's minutes within which nobody pays twice."""
        return self.town.tariff.operator.already_paid_min


def open_window() -> Display | None:
    """A window, if this machine has a screen."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    try:
        return compose.open_display(SIZE)
    except Failure:
        return None


def open_loudspeaker() -> Sound | None:
    """This machine's loudspeaker, if it has one."""
    try:
        return compose.open_sound(aloud=True)
    except Failure:
        return None


def open_keys(typed: Callable[[str], None]) -> TerminalKeypad[str]:
    """Keys typed at this terminal, one by one; ``pressed`` hands each to ``typed``. A context that gives the terminal back as it was."""
    return TerminalKeypad({}, typed)
