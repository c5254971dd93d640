"""Adapter: three LEDs (red, green, blue) of the Linux LED class as one lamp (kernel documentation, "LED handling under Linux").

Motion is the kernel's ``timer`` trigger, so a blinking lamp needs no thread and keeps blinking if this process stops.
"""

import contextlib
from pathlib import Path

from drivers.devices.lamps import LampColour, LampMotion, Light

_FULL = 255
_COLOURS: dict[LampColour, tuple[int, int, int]] = {
    LampColour.OFF: (0, 0, 0),
    LampColour.WHITE: (255, 255, 255),
    LampColour.BLUE: (0, 60, 255),
    LampColour.GREEN: (0, 255, 40),
    LampColour.AMBER: (255, 120, 0),
    LampColour.RED: (255, 0, 0),
}
_ON_OFF_MS: dict[LampMotion, tuple[int, int]] = {
    LampMotion.BREATHE: (1500, 500),
    LampMotion.SWEEP: (100, 100),
    LampMotion.BLINK: (400, 400),
    LampMotion.WINK: (200, 800),
}


class LedLamp:
    """A Lamp made of the three LED folders ``/sys/class/leds/NAME``. A missing LED stays dark and is no error: a tap must go on."""

    def __init__(self, red: Path, green: Path, blue: Path) -> None:
        self._leds = (red, green, blue)

    def show(self, light: Light) -> None:
        """Colour and motion; the shape is the screen's."""
        for led, level in zip(self._leds, _COLOURS[light.colour], strict=True):
            with contextlib.suppress(OSError):
                _set(led, level, light.motion)


def _set(led: Path, level: int, motion: LampMotion) -> None:
    (led / "trigger").write_text("none")  # resets a timer that runs
    highest = int((led / "max_brightness").read_text())
    (led / "brightness").write_text(str(level * highest // _FULL))
    if level and motion in _ON_OFF_MS:
        on_ms, off_ms = _ON_OFF_MS[motion]
        (led / "trigger").write_text("timer")
        (led / "delay_on").write_text(str(on_ms))
        (led / "delay_off").write_text(str(off_ms))
