"""Adapter: pygame draws pictures, in a window or into files.

Fonts are found by their file names below the usual font folders, so that a small image needs no font service.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pygame
import pygame.freetype

from drivers.devices.display import Box, Colour, Face, Picture, Sign, Text
from drivers.devices.lamps import LampShape
from drivers.errors import DriverError

FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
FONT_PACKAGE = "fonts-morisawa-bizud-gothic"
_BASELINE = 0.86  # of the size, below the top of a line: capitals and kana then stand in its middle
_SMOOTH = 4  # signs are drawn this many times larger and scaled down: pygame draws without smoothing


class FontMissing(DriverError):
    """A font file is not on this machine."""


class DisplayMissing(DriverError):
    """There is no screen to open a window on."""


def find_fonts(folders: Iterable[Path] = FONT_FOLDERS) -> dict[Face, Path]:
    """Where the two faces lie; raises ``FontMissing``."""
    wanted = {face.value: face for face in Face}
    found = {wanted[path.name]: path for folder in folders for path in folder.rglob("*.ttf") if path.name in wanted}
    for face in Face:
        if face not in found:
            raise FontMissing(f"the font {face.value} is not on this machine: apt-get install {FONT_PACKAGE}")
    return found


class Painter:
    """Turns a picture into a surface.

    Text goes through ``pygame.freetype``, which places a line by its baseline and draws each letter whole, whatever height the font file
    claims; sizes then need no font object each.
    """

    def __init__(self, fonts: dict[Face, Path]) -> None:
        pygame.freetype.init()
        self._fonts = {face: pygame.freetype.Font(str(path)) for face, path in fonts.items()}
        for font in self._fonts.values():
            font.origin = True

    def paint(self, picture: Picture) -> pygame.Surface:
        """A new surface of the picture's size."""
        surface = pygame.Surface((picture.width, picture.height))
        surface.fill(picture.ground)
        for item in picture.items:
            match item:
                case Box(x, y, width, height, colour):
                    surface.fill(colour, (x, y, width, height))
                case Sign(shape, x, y, size, colour, ground):
                    surface.blit(_sign(shape, size, colour, ground), (x, y))
                case Text(text, x, y, size, colour, _, face):
                    self._fonts[face].render_to(surface, (x, y + round(_BASELINE * size)), text, colour, size=size)
        return surface

    def width(self, text: Text) -> int:
        """How wide a line is drawn, in pixels."""
        return self._fonts[text.face].get_rect(text.text, size=text.size).width


class Window:
    """A Display in a window, or over the whole screen; raises ``DisplayMissing``."""

    def __init__(self, size: tuple[int, int], painter: Painter, *, whole_screen: bool = False) -> None:
        try:
            pygame.display.init()
            self._surface = pygame.display.set_mode(size, pygame.FULLSCREEN | pygame.SCALED if whole_screen else 0)
        except pygame.error as error:
            raise DisplayMissing(f"no screen to draw on ({error}): set DISPLAY, or choose --pictures FOLDER") from error
        pygame.display.set_caption("Kazashi")
        pygame.mouse.set_visible(not whole_screen)
        self._painter = painter
        self._size = size

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    def show(self, picture: Picture) -> None:
        """Draw and flip."""
        self._surface.blit(self._painter.paint(picture), (0, 0))
        pygame.display.flip()

    def closed(self) -> bool:
        """Whether Esc or the window's button was pressed."""
        return any(
            event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE) for event in pygame.event.get()
        )


class PictureFiles:
    """A Display that writes each picture as ``0001-paid.png``, ``0002-…`` into a folder and never closes."""

    def __init__(self, size: tuple[int, int], painter: Painter, folder: Path, label: Callable[[], str] = lambda: "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._size = size
        self._painter = painter
        self._folder = folder
        self._label = label
        self._count = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    def show(self, picture: Picture) -> None:
        """Write one file; ``label`` is asked for a word to put between number and name."""
        self._count += 1
        label = self._label()
        name = "-".join(part for part in (f"{self._count:04}", label, picture.name) if part)
        pygame.image.save(self._painter.paint(picture), str(self._folder / f"{name}.png"))

    def closed(self) -> bool:
        """Never."""
        return False


def pixels(surface: pygame.Surface) -> bytes:
    """The surface as rows of red, green, blue."""
    return pygame.image.tobytes(surface, "RGB")


def glass(surface: pygame.Surface) -> bytes:
    """The surface as rows of blue, green, red and a byte that nobody looks at: what a framebuffer of 32 bits shows."""
    return pygame.image.tobytes(surface, "BGRA")


def without_a_screen() -> None:
    """Let SDL draw into memory; to be called before anything is opened."""
    os.environ["SDL_VIDEODRIVER"] = "dummy"


# ── signs ──


def _sign(shape: LampShape, size: int, colour: Colour, ground: Colour) -> pygame.Surface:
    side = size * _SMOOTH
    surface = pygame.Surface((side, side))
    surface.fill(ground)
    _SIGNS[shape](_Pen(surface, side, colour, ground))
    return pygame.transform.smoothscale(surface, (size, size))


class _Pen:
    """Draws on a square whose side is 1.0."""

    def __init__(self, surface: pygame.Surface, side: int, colour: Colour, ground: Colour) -> None:
        self._surface = surface
        self._side = side
        self._colour = colour
        self._ground = ground

    def polygon(self, *points: tuple[float, float]) -> None:
        pygame.draw.polygon(self._surface, self._colour, [(x * self._side, y * self._side) for x, y in points])

    def disc(self, x: float, y: float, radius: float, *, cut_out: bool = False) -> None:
        colour = self._ground if cut_out else self._colour
        pygame.draw.circle(self._surface, colour, (x * self._side, y * self._side), radius * self._side)

    def box(self, x: float, y: float, width: float, height: float, *, round_by: float = 0.0, cut_out: bool = False) -> None:
        colour = self._ground if cut_out else self._colour
        side = self._side
        area = pygame.Rect(round(x * side), round(y * side), round(width * side), round(height * side))
        pygame.draw.rect(self._surface, colour, area, border_radius=round(round_by * side))

    def stroke(self, *points: tuple[float, float], width: float) -> None:
        """A line with round ends and corners."""
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            length = math.hypot(x1 - x0, y1 - y0)
            across, along = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
            self.polygon((x0 + across, y0 + along), (x1 + across, y1 + along), (x1 - across, y1 - along), (x0 - across, y0 - along))
        for x, y in points:
            self.disc(x, y, width / 2)

    def arc(self, x: float, y: float, radius: float, start_deg: float, end_deg: float, *, width: float) -> None:
        """Clockwise from ``start_deg``; 0 is to the right, 90 is down."""
        steps = [math.radians(start_deg + (end_deg - start_deg) * step / 60) for step in range(61)]
        self.stroke(*((x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in steps), width=width)


def _card(pen: _Pen) -> None:
    pen.box(0.08, 0.50, 0.84, 0.46, round_by=0.06)
    pen.box(0.08, 0.60, 0.84, 0.09, cut_out=True)
    for radius in (0.13, 0.27, 0.41):
        pen.arc(0.5, 0.46, radius, 215, 325, width=0.065)


def _square(pen: _Pen) -> None:
    pen.box(0.12, 0.12, 0.76, 0.76, round_by=0.06)


def _ring(pen: _Pen) -> None:
    pen.disc(0.5, 0.5, 0.45)
    pen.disc(0.5, 0.5, 0.30, cut_out=True)


def _circle(pen: _Pen) -> None:
    pen.disc(0.5, 0.5, 0.45)


def _tick(pen: _Pen) -> None:
    pen.stroke((0.12, 0.54), (0.40, 0.80), (0.88, 0.22), width=0.17)


def _arrow(pen: _Pen) -> None:
    pen.polygon((0.06, 0.38), (0.50, 0.38), (0.50, 0.14), (0.96, 0.50), (0.50, 0.86), (0.50, 0.62), (0.06, 0.62))


def _loop(pen: _Pen) -> None:
    pen.arc(0.5, 0.52, 0.33, -20, 270, width=0.13)
    pen.polygon((0.46, 0.00), (0.46, 0.38), (0.76, 0.19))


def _triangle(pen: _Pen) -> None:
    pen.polygon((0.5, 0.06), (0.98, 0.92), (0.02, 0.92))
    pen.box(0.455, 0.34, 0.09, 0.30, cut_out=True)
    pen.disc(0.5, 0.76, 0.058, cut_out=True)


def _cross(pen: _Pen) -> None:
    pen.stroke((0.17, 0.17), (0.83, 0.83), width=0.19)
    pen.stroke((0.83, 0.17), (0.17, 0.83), width=0.19)


def _bar(pen: _Pen) -> None:
    pen.disc(0.5, 0.5, 0.46)
    pen.box(0.19, 0.41, 0.62, 0.18, cut_out=True)


_SIGNS: dict[LampShape, Callable[[_Pen], None]] = {
    LampShape.CARD: _card,
    LampShape.SQUARE: _square,
    LampShape.RING: _ring,
    LampShape.CIRCLE: _circle,
    LampShape.TICK: _tick,
    LampShape.ARROW: _arrow,
    LampShape.LOOP: _loop,
    LampShape.TRIANGLE: _triangle,
    LampShape.CROSS: _cross,
    LampShape.BAR: _bar,
}
