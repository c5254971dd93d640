"""Adapter: pseudo-terminals. Offers an emulated PN532 as a serial device to a program that is not ours.

**Deadlines are absolute.** The loop sleeps until shortly before the chip has something to say and spins the rest, so that an answer is late
by microseconds; it never adds up. It belongs into a process or a thread of its own; a process for measurements.

**The device end stays open here**, too: programs close and reopen the port when they change its rate, and a pseudo-terminal whose last user
has left reads as broken. It has no rate of its own: any program at any rate is understood, and the chip charges the rate it was told
(``pn532_chip.Timing`` overrides it).

**Files are written by another thread**, because a disk's flush would make an answer late.
"""

import errno
import json
import os
import queue
import select
import threading
import time
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from drivers.emulated import card_file
from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import LiteSCard, blank
from drivers.emulated.pn532_chip import Pn532Chip

_SPIN_NS = 150_000
_LOOK_NS = 20_000_000
_READ_SIZE = 4096
_BLANK_IDM = bytes.fromhex("02FE4B415A4153")
"""The first seven bytes of a blank card's IDm: 02FE is the manufacturer code for cards that a program plays."""


class Saver:
    """Writes files in a thread of its own, in order; ``close`` waits for the last. ``problem``: why the last write failed, if it did."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self._queue: queue.SimpleQueue[tuple[Path, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="card files", daemon=True)
        self._thread.start()

    def write(self, path: Path, content: str) -> None:
        """Let ``content`` replace the file."""
        self._queue.put((path, content))

    def close(self) -> None:
        """Return when everything is written."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (order := self._queue.get()) is not None:
            path, content = order
            try:
                card_file.write(path, content)
            except OSError as error:
                self.problem = f"{path}: the card was not saved ({error.strerror})"


def lay_file(path: Path, air: Air, saver: Saver, number: int = 0) -> LiteSCard:
    """Lay a card file's card into the field for good; it is written back by ``saver``. A file that does not exist is made: a blank card.

    ``number`` tells the blank cards of one reader apart. Raises ``card_file.BadCardFile`` and ``OSError``.
    """
    if not path.exists():
        card_file.save(path, blank(_BLANK_IDM + bytes((number,))))
    card = card_file.load(path)

    def keep(changed: LiteSCard) -> None:
        saver.write(path, card_file.text(changed))

    card.on_write = keep
    air.lay(card)
    return card


class Pn532Pty:
    """A chip behind a pseudo-terminal; ``path`` is what a program opens.

    As a context it runs in a thread; or call ``run``, which returns after ``stop``. ``look``, if given, is called with the present (ns) at
    least every 20 ms: there a tray is looked at. ``log``, if given, gets a line of JSON for each finished host command: its cost in
    nanoseconds.
    """

    def __init__(
        self,
        chip: Pn532Chip,
        link: Path | None = None,
        look: Callable[[int], None] | None = None,
        log: TextIO | None = None,
    ) -> None:
        """Open the pseudo-terminal; ``link``: a symbolic link to it, removed at the end. Raises ``OSError``."""
        self.chip = chip
        self._look = look
        self._log = log
        self._link = link
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._master, self._slave = -1, -1
        self.path = ""
        self._appear()
        self._wake_read, self._wake_write = os.pipe()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, name="emulated PN532", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.close()

    def plug(self) -> None:
        """Reappear: a new pseudo-terminal, the chip freshly powered."""
        self._ask(b"p", self._appear)

    def unplug(self) -> None:
        """Disappear: a program that has the device open gets an error."""
        self._ask(b"u", self._disappear)

    def _ask(self, letter: bytes, act: Callable[[], None]) -> None:
        """Do it here, or let the serving thread do it."""
        if self._thread is None:
            act()
            return
        self._done.clear()
        os.write(self._wake_write, letter)
        self._done.wait(1)

    def _appear(self) -> None:
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        if self._link is not None:
            try:
                _point(self._link, self.path)
            except OSError:
                self._disappear()
                raise

    def _disappear(self) -> None:
        if self._master < 0:
            return
        master, slave = self._master, self._slave
        self._master, self._slave = -1, -1
        os.close(slave)
        os.close(master)
        self._unlink()
        self.chip.restart(time.monotonic_ns())

    def stop(self) -> None:
        """Let ``run`` return; may be called by another thread or a signal's handler."""
        os.write(self._wake_write, b"x")

    def close(self) -> None:
        """Disappear for good."""
        self._disappear()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def run(self) -> None:
        """Serve until ``stop``."""
        while self._wait():
            now_ns = time.monotonic_ns()
            said = self.chip.take(now_ns)
            if said and self._master >= 0:
                with suppress(BlockingIOError):  # nobody reads what is said: it is lost, as on a real line
                    os.write(self._master, said)
            if self._look is not None:
                self._look(now_ns)
            self._note()

    def _wait(self) -> bool:
        """Sleep until the host speaks or the chip has something to say; False when it is time to end."""
        due_ns = self.chip.due()
        now_ns = time.monotonic_ns()
        left_ns = _LOOK_NS if due_ns is None else min(due_ns - now_ns, _LOOK_NS)
        if due_ns is not None and left_ns <= _SPIN_NS:
            while time.monotonic_ns() < due_ns:
                pass
            left_ns = 0
        listening = [self._wake_read] if self._master < 0 else [self._wake_read, self._master]
        pause_s = max(0, left_ns - (_SPIN_NS if left_ns < _LOOK_NS else 0)) / 1e9
        ready, _, _ = select.select(listening, (), (), pause_s)
        if self._master in ready:
            self._hear()
        return self._wake_read not in ready or self._obey(os.read(self._wake_read, 1))

    def _obey(self, letter: bytes) -> bool:
        match letter:
            case b"p":
                self._appear()
            case b"u":
                self._disappear()
            case _:
                return False
        self._done.set()
        return True

    def _hear(self) -> None:
        try:
            data = os.read(self._master, _READ_SIZE)
        except OSError as error:
            if error.errno not in {errno.EIO, errno.EAGAIN, errno.EBADF}:
                raise
            return
        self.chip.feed(data, time.monotonic_ns())

    def _note(self) -> None:
        if self._log is not None:
            for cost in self.chip.take_charged():
                line = {"command": cost.code, "line_ns": cost.line_ns, "rf_ns": cost.rf_ns, "card_ns": cost.card_ns}
                self._log.write(json.dumps(line) + "\n")

    def _unlink(self) -> None:
        if self._link is not None and self._link.is_symlink() and str(self._link.readlink()) == self.path:
            self._link.unlink()


def _point(link: Path, path: str) -> None:
    """Make the link; an old one to some pseudo-terminal is a leftover and is replaced. Raises ``OSError`` that names the link."""
    if link.is_symlink() and str(link.readlink()).startswith("/dev/pts/"):
        link.unlink()
    try:
        link.symlink_to(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(link)) from error
