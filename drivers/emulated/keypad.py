"""The twin of a keypad: keys pressed by a script at set moments, or by a person at a terminal.

It speaks of keys as plain values that whoever builds it hands in, so it needs to know nothing of the driver's keys.
"""

import os
import select
import sys
import termios
import tty
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Generic, Self, TypeVar

KeyT = TypeVar("KeyT")


class ScriptedKeypad(Generic[KeyT]):
    """A keypad pressed by a script: (ms, key) in order of time, on the clock ``now_ms``; ``press`` presses one more, now."""

    def __init__(self, now_ms: Callable[[], int], script: Iterable[tuple[int, KeyT]] = ()) -> None:
        self._now_ms = now_ms
        self._script = deque(sorted(script, key=lambda entry: entry[0]))

    def press(self, key: KeyT) -> None:
        """Press a key at this moment."""
        now = self._now_ms()
        later = [entry for entry in self._script if entry[0] > now]
        self._script = deque([*(entry for entry in self._script if entry[0] <= now), (now, key), *later])

    def pressed(self) -> tuple[KeyT, ...]:
        """What the script has pressed since the last time."""
        keys: list[KeyT] = []
        while self._script and self._script[0][0] <= self._now_ms():
            keys.append(self._script.popleft()[1])
        return tuple(keys)


class TerminalKeypad(Generic[KeyT]):
    """A keypad whose keys are letters typed at a terminal; a context manager that gives the terminal back as it was.

    ``keys``: one character → key. ``others`` is told every character that is no key of the keypad (a demo lays cards with them).
    """

    def __init__(self, keys: Mapping[str, KeyT], others: Callable[[str], None], terminal: int | None = None) -> None:
        self._keys = keys
        self._others = others
        self._terminal = sys.stdin.fileno() if terminal is None else terminal
        self._before = termios.tcgetattr(self._terminal)

    def __enter__(self) -> Self:
        tty.setcbreak(self._terminal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)

    def pressed(self) -> tuple[KeyT, ...]:
        """What was typed since the last time; never waits."""
        keys: list[KeyT] = []
        while select.select([self._terminal], [], [], 0)[0]:
            typed = os.read(self._terminal, 64).decode(errors="ignore")
            if not typed:
                break
            for character in typed:
                if character in self._keys:
                    keys.append(self._keys[character])
                else:
                    self._others(character)
        return tuple(keys)
