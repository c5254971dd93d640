"""Adapter: a panel behind the kernel's framebuffer device (kernel documentation, "The Frame Buffer Device").

Every panel driver has one, and it needs no graphics library: a picture is drawn in memory and copied. What the panel is like stands in
``/sys/class/graphics/fbN``: ``modes`` (its size), ``stride`` (bytes a row) and ``bits_per_pixel``; 32 is asked for, as blue, green, red and
an unused byte.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from drivers.devices.display import Picture
from drivers.errors import DriverError

SYSFS = Path("/sys/class/graphics")
_BITS = 32
_MODE = re.compile(r"\A\w:(\d+)x(\d+)")


class NoFramebuffer(DriverError):
    """There is no such device, or it is none that we can draw on."""


class Framebuffer:
    """A Display on ``device`` (``/dev/fb0``); ``draw`` gives a picture's rows, four bytes a pixel. Raises ``NoFramebuffer``."""

    def __init__(self, device: Path, draw: Callable[[Picture], bytes], sysfs: Path = SYSFS) -> None:
        self._draw = draw
        about = sysfs / device.name
        try:
            mode = _MODE.match((about / "modes").read_text("ascii"))
            self._stride, bits = (int((about / name).read_text("ascii")) for name in ("stride", "bits_per_pixel"))
            self._device = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NoFramebuffer(
                f"{device}: there is no panel to draw on ({error.strerror}); plug one in, or leave --framebuffer out"
            ) from error
        if mode is None or bits != _BITS:
            os.close(self._device)
            raise NoFramebuffer(f"{device}: has {bits} bits a pixel, and 32 are needed; choose another mode for the panel (video=…-32)")
        self._size = int(mode[1]), int(mode[2])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    def show(self, picture: Picture) -> None:
        """Draw and copy. A panel that is pulled out shows nothing and is no error: the voice goes on."""
        rows, width = self._draw(picture), self._size[0] * 4
        if self._stride != width:
            lines = (rows[at : at + width] for at in range(0, len(rows), width))
            rows = b"".join(line.ljust(self._stride, b"\0") for line in lines)
        try:
            os.pwrite(self._device, rows, 0)
        except OSError:
            return

    def closed(self) -> bool:
        """Never: nobody can close a panel."""
        return False
