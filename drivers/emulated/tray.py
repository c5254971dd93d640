"""A folder as a reader's tray: a card lies there while its file does.

Putting, renaming or copying a card file into the folder lays the card; taking it away lifts it; a file that somebody has changed is another
card. What the twin itself writes back is no change: it is known by its text. A file that is no card lies there without effect and is
named in ``problems``; a reader does not fail because somebody dropped a letter on it.
"""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from drivers.emulated import card_file
from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import LiteSCard

LOOK_EVERY_NS = 20_000_000
_REMEMBERED = 64


@dataclass(slots=True)
class _Lying:
    """A file in the tray: what it looked like, its card if it is one, and the texts that are our own."""

    stamp: tuple[int, int, int]
    card: LiteSCard | None
    own: deque[str] = field(default_factory=lambda: deque[str](maxlen=_REMEMBERED))


class Tray:
    """Keeps an ``Air`` as full as a folder. ``problems``: for each file that is no card one sentence."""

    def __init__(
        self,
        folder: Path,
        air: Air,
        write: Callable[[Path, str], None] = card_file.write,
        prepare: Callable[[LiteSCard], None] | None = None,
        look_every_ns: int = LOOK_EVERY_NS,
    ) -> None:
        """``write`` replaces a card's file after each change of the card, ``prepare`` sees each card before it is laid. Raises ``OSError``
        when there is no such folder.
        """
        os.scandir(folder).close()
        self.problems: dict[str, str] = {}
        self._folder = folder
        self._air = air
        self._write = write
        self._prepare = prepare
        self._look_every_ns = look_every_ns
        self._next_ns: int | None = None
        self._lying: dict[str, _Lying] = {}

    def look(self, now_ns: int) -> None:
        """Lay and lift what has come and gone since the last look (at most every ``look_every_ns``)."""
        if self._next_ns is not None and now_ns < self._next_ns:
            return
        self._next_ns = now_ns + self._look_every_ns
        there = self._there()
        for name in [name for name in self._lying if name not in there]:
            self._lift(name, now_ns)
        for name, stamp in there.items():
            known = self._lying.get(name)
            if known is None or known.stamp != stamp:
                self._changed(name, stamp, now_ns)

    def _there(self) -> dict[str, tuple[int, int, int]]:
        there: dict[str, tuple[int, int, int]] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.is_file() and not entry.name.startswith("."):
                        status = entry.stat()
                        there[entry.name] = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            pass  # taken away while we looked
        return dict(sorted(there.items()))

    def _changed(self, name: str, stamp: tuple[int, int, int], now_ns: int) -> None:
        path = self._folder / name
        try:
            content = path.read_text("utf-8", errors="replace")
        except OSError:
            return  # gone again; the next look says so
        known = self._lying.get(name)
        if known is not None and content in known.own:
            known.stamp = stamp
            return
        self._lift(name, now_ns)
        self.problems.pop(name, None)
        lying = _Lying(stamp, None)
        self._lying[name] = lying
        try:
            card = card_file.parse(content, str(path))
        except card_file.BadCardFile as problem:
            self.problems[name] = str(problem)
            return
        lying.card = card
        lying.own.append(content)
        card.on_write = partial(self._keep, path, lying)
        if self._prepare is not None:
            self._prepare(card)
        self._air.lay(card, now_ns)

    def _keep(self, path: Path, lying: _Lying, card: LiteSCard) -> None:
        content = card_file.text(card)
        lying.own.append(content)
        if path.exists():  # a card lifted in this very moment must not come back as a copy
            self._write(path, content)

    def _lift(self, name: str, now_ns: int) -> None:
        lying = self._lying.pop(name, None)
        self.problems.pop(name, None)
        if lying is not None and lying.card is not None:
            self._air.lift(lying.card.idm, now_ns)
