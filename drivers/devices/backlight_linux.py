"""Adapter: the light behind the panel (kernel ABI, "sysfs-class-backlight"). A panel without one, or one not ours, stays as it is."""

from contextlib import suppress
from pathlib import Path

FOLDER = Path("/sys/class/backlight")
_DIM = 10  # of a hundred


class Backlights:
    """All backlights of the machine: full, or dim."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    def dim(self, *, dimmed: bool) -> None:
        """Change them at once."""
        for light in self._folder.glob("*"):
            with suppress(OSError, ValueError):
                highest = int((light / "max_brightness").read_text("ascii"))
                (light / "brightness").write_text(str(max(1, highest * _DIM // 100) if dimmed else highest), encoding="ascii")
