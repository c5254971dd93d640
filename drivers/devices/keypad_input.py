"""Adapter: a keypad as a Linux input device (kernel documentation, "Input event interface"); no library.

The device is opened when it is there and given up when it goes, so a plug that shakes loose costs the keys pressed meanwhile and nothing
else.
"""

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

from drivers.devices.keypad import KeyPress, read_events

_MANY_EVENTS = 64 * 24
_EVIOCGRAB = 0x40044590  # _IOW('E', 0x90, int): no other program gets these keys, a console login least of all


class InputDevice:
    """A Keypad that reads ``path`` (``/dev/input/event3``, better a link below ``/dev/input/by-id``)."""

    def __init__(self, path: Path, keys: Mapping[int, KeyPress]) -> None:
        self._path = path
        self._keys = keys
        self._file: int | None = None

    def pressed(self) -> tuple[KeyPress, ...]:
        """What was pressed since the last time; nothing while the device is away."""
        if self._file is None:
            self._file = _open(self._path)
        if self._file is None:
            return ()
        try:
            return read_events(os.read(self._file, _MANY_EVENTS), self._keys)
        except BlockingIOError:
            return ()
        except OSError:  # unplugged
            self.close()
            return ()

    def close(self) -> None:
        """Let go of the device."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open(path: Path) -> int | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # a pipe in the workshop, or somebody else holds it: its keys are still ours to read
        fcntl.ioctl(file, _EVIOCGRAB, 1)
    return file
