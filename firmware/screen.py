"""The screen-and-sound process, and the wire to it.

Drawing and sounding live in a process of their own, because a tap must not wait for a graphics driver and because a library that crashes
must not take the ledger with it. The station knows one thing only: ``ScreenLink.show``, which never blocks and never raises.

The wire is a Unix SOCK_SEQPACKET connection that the screen listens on; one packet is one message with its number and its time
(CLOCK_MONOTONIC, one clock for the whole machine). The link remembers the last sixteen packets and the last resting one. When the screen
was away or too slow, the link sends all of them again once it can; the screen drops the numbers it has had, and ``validator.stage`` does
not say what is over. So the latest always arrives, at the price of one small thread that sleeps in ``poll`` while nothing is wrong. The
station may be started before the screen or after it, and either may be killed.
"""

import contextlib
import json
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

from drivers.devices.display import Display, Picture
from drivers.devices.lamps import Lamp
from drivers.devices.sound import Clip, Shelf, Sound, silence, speech, tone
from validator.feedback import Feedback, Wordbook
from validator.messages import Message, Shown
from validator.screens import picture
from validator.stage import RESTING, Cue, Stage

_REMEMBERED = 16
_LONGEST_PACKET = 4096
_RECONNECT_MS = 200
_IDLE_S = 0.1  # how often the screen asks whether somebody pressed Esc


def encode(number: int, at_ms: int, shown: Shown) -> bytes:
    """One packet: JSON of number, monotonic milliseconds, message and values."""
    return json.dumps([number, at_ms, shown.message.value, shown.values], ensure_ascii=False, separators=(",", ":")).encode()


class BadPacket(ValueError):
    """Bytes that no station of ours can have sent."""


def decode(packet: bytes) -> tuple[int, int, Shown]:
    """Number, time and message of a packet; raises ``BadPacket``."""
    try:
        return _decode(packet)
    except (ValueError, RecursionError) as error:
        raise BadPacket(f"a packet is [number, time, message, values]: {error}") from error


def _decode(packet: bytes) -> tuple[int, int, Shown]:
    document: object = json.loads(packet)
    parts = cast("list[object]", document) if isinstance(document, list) else []
    match parts:
        case [int() as number, int() as at_ms, str() as name, dict()]:
            return number, at_ms, Shown(Message(name), _values(cast("dict[str, object]", parts[3])))
        case _:
            raise ValueError("it has another shape")


def _values(written: dict[str, object]) -> dict[str, int | str]:
    values = {name: value for name, value in written.items() if isinstance(value, int | str)}
    if len(values) < len(written):
        raise ValueError("every value is a number or a text")
    return values


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class ScreenLink:
    """The station's end: a Presenter to a screen process that listens at ``path``.

    A dead, missing or stuck screen costs nothing but the message; the latest ones arrive when it is back. ``close`` ends the thread.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int] = _monotonic_ms) -> None:
        self._path = path
        self._now_ms = now_ms
        self._number = time.monotonic_ns()  # rises over a restart of the station too
        self._remembered: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._resting: tuple[bytes, ...] = ()
        self._lock = threading.Lock()  # held for assignments and one non-blocking send, never while waiting
        self._socket: socket.socket | None = None
        self._behind = False
        self._closed = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._thread = threading.Thread(target=self._mend, name="screen link", daemon=True)
        self._thread.start()

    def show(self, shown: Shown) -> None:
        """Send one message if the screen can take it now, and remember it if not."""
        with self._lock:
            if self._closed:
                return
            self._number += 1
            packet = encode(self._number, self._now_ms(), shown)
            self._remembered.append(packet)
            if shown.message in RESTING:
                self._resting = (packet,)
            if self._socket is not None and not self._behind:
                self._send((packet,))

    @property
    def answering(self) -> bool:
        """The screen is there and takes what it is sent."""
        return self._socket is not None and not self._behind

    def close(self) -> None:
        """Let go of the screen; later messages are dropped."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._wake()
        self._thread.join()
        self._drop()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _send(self, packets: tuple[bytes, ...]) -> None:
        """Hand packets to the kernel without waiting; the lock is held."""
        if self._socket is None:
            return
        try:
            for packet in packets:
                self._socket.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            self._behind = False
        except BlockingIOError:
            self._behind = True
            self._wake()
        except OSError:  # the screen is gone
            self._drop()
            self._wake()

    def _history(self) -> tuple[bytes, ...]:
        older = tuple(packet for packet in self._resting if packet not in self._remembered)
        return (*older, *self._remembered)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _mend(self) -> None:
        """The thread: connect, notice that the screen went away, and catch up; nothing while all is well."""
        while not self._closed:
            with self._lock:
                connected = self._socket
                behind = self._behind
            if connected is None:
                self._connect()
            else:
                self._watch(connected, behind=behind)

    def _connect(self) -> None:
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fresh.settimeout(0)
        try:
            fresh.connect(os.fspath(self._path))
        except OSError:
            fresh.close()
            self._sleep(_RECONNECT_MS)
            return
        with self._lock:
            self._socket = fresh
            self._send(self._history())

    def _watch(self, connected: socket.socket, *, behind: bool) -> None:
        poll = select.poll()
        try:
            poll.register(connected, select.POLLOUT if behind else 0)
        except ValueError:  # dropped by the station's thread a moment ago
            return
        poll.register(self._wake_read, select.POLLIN)
        ready = dict(poll.poll())
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        with self._lock:
            if self._socket is not connected:
                return
            what = ready.get(connected.fileno(), 0)
            if what & (select.POLLHUP | select.POLLERR):
                self._drop()
            elif what & select.POLLOUT:
                self._send(self._history())

    def _sleep(self, ms: int) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if poll.poll(ms):
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)


class Screen:
    """Shows and sounds messages on the devices given; also a Presenter for a program with one process and a virtual clock.

    ``tell`` gets one sentence for each thing that could not be said: a clip that is not on the shelf (once), a value that is missing.
    ``dim``: called with True when the vehicle is closing and its power may be a capacitor's, with False when it is back.
    """

    def __init__(
        self,
        wordbook: Wordbook,
        display: Display,
        sound: Sound,
        lamp: Lamp,
        shelf: Shelf,
        *,
        now_ms: Callable[[], int] = _monotonic_ms,
        tell: Callable[[str], None] = print,
        dim: Callable[[bool], None] = lambda _dimmed: None,
        alone: Message = Message.NO_TRIP,
    ) -> None:
        self._wordbook = wordbook
        self._display = display
        self._sound = sound
        self._lamp = lamp
        self._shelf = shelf
        self._now_ms = now_ms
        self._tell = tell
        self._dim = dim
        self._dimmed = False
        self._told: set[Clip] = set()
        self._stage = Stage(wordbook, alone)
        self._done = 0
        self._tones = {meaning.name: tone(meaning.tone) for meaning in {entry.meaning for entry in wordbook.entries.values()}}

    def show(self, shown: Shown) -> None:
        """Show and sound it now. A message that lacks a value is a fault of ours; it is told and changes nothing."""
        self.take(shown, self._now_ms())
        self.perform()

    def take(self, shown: Shown, at_ms: int) -> None:
        """Take in a message sent at ``at_ms`` without showing it yet; several may have come at once."""
        try:
            self._stage.take(shown, at_ms, self._now_ms())
        except ValueError as error:
            self._tell(f"not shown: {error}")

    def alone(self) -> None:
        """Show that nobody is there who would take a card: the first picture after the start, and when the station is gone."""
        self._stage.alone()
        self.perform()

    def advance(self) -> None:
        """Let time pass: go back to rest when a result has had its time."""
        self._stage.advance(self._now_ms())
        self.perform()

    @property
    def ends_ms(self) -> int | None:
        """When ``advance`` will have something to do, or None."""
        return self._stage.ends_ms

    def perform(self) -> None:
        """Sound and lamp at the same instant, the picture right after: drawing takes milliseconds, and nobody sees a frame's delay."""
        cue = self._stage.cue
        if cue is None or cue.number == self._done:
            return
        self._done = cue.number
        samples = self._samples(cue.feedback) if cue.aloud else b""
        if cue.aloud:
            self._sound.play(samples, cue.feedback.transcript)
        self._lamp.show(cue.feedback.light)
        self._display.show(self._picture(cue))
        closing = cue.shown.message is Message.CLOSING
        if closing is not self._dimmed:
            self._dimmed = closing
            self._dim(closing)

    @property
    def status(self) -> str:
        """What is on, for people who look at the process."""
        cue = self._stage.cue
        return f"shows {cue.feedback.message.value}" if cue else "shows nothing yet"

    def closed(self) -> bool:
        """Whether a person ended the screen."""
        return self._display.closed()

    def _picture(self, cue: Cue) -> Picture:
        return picture(cue.feedback, self._wordbook.palette, self._display.size)

    def _samples(self, feedback: Feedback) -> bytes:
        words, missing = speech(feedback.words, self._shelf)
        for clip in missing:
            if clip not in self._told:
                self._told.add(clip)
                self._tell(f"not spoken: the clip '{clip.text}' is not rendered (kazashi words render)")
        return self._tones[feedback.meaning] + silence(feedback.pause_ms) + words


def serve(screen: Screen, path: Path, stop: Callable[[], bool] = lambda: False) -> None:
    """Draw the first picture, listen at ``path`` and show what stations send, until a person ends it or ``stop`` says so.

    ``stop`` is asked once each turn. Whoever can connect knows that there was a picture.
    """
    screen.alone()
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(os.fspath(path))
        listener.listen(4)
        listener.settimeout(0)
        try:
            _serve(screen, listener, stop)
        finally:
            path.unlink(missing_ok=True)


def _serve(screen: Screen, listener: socket.socket, stop: Callable[[], bool]) -> None:
    stations: dict[int, socket.socket] = {}
    latest = 0
    try:
        while not stop() and not screen.closed():
            ready, _, _ = select.select([listener, *stations.values()], [], [], _wait_s(screen))
            if listener in ready:
                with contextlib.suppress(BlockingIOError):
                    station, _ = listener.accept()
                    station.settimeout(0)
                    stations[station.fileno()] = station
            for station in [one for one in ready if one is not listener]:
                latest, alive = _drain(screen, station, latest)
                if not alive:
                    del stations[station.fileno()]
                    station.close()
                    if not stations:
                        screen.alone()
            screen.perform()
            screen.advance()
    finally:
        for station in stations.values():
            station.close()


def _drain(screen: Screen, station: socket.socket, latest: int) -> tuple[int, bool]:
    """Take all that is waiting; the highest number had, and whether the station is still there."""
    while True:
        try:
            packet = station.recv(_LONGEST_PACKET)
        except BlockingIOError:
            return latest, True
        except OSError:
            return latest, False
        if not packet:
            return latest, False
        try:
            number, at_ms, shown = decode(packet)
        except BadPacket:
            continue
        if number > latest:
            latest = number
            screen.take(shown, at_ms)


def _wait_s(screen: Screen) -> float:
    if screen.ends_ms is None:
        return _IDLE_S
    return max(0.0, min(_IDLE_S, (screen.ends_ms - _monotonic_ms()) / 1000))
