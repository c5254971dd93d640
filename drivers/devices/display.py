"""A screen as values: boxes, signs and lines of text in pixels, and the Protocol of whatever draws them.

A picture is complete: it says everything that is on the screen. So the next picture replaces it whole, and a twin can keep pictures and
compare them without drawing.

Widths are known here without a font. The two fixed-pitch faces give a full-width character one em and a half-width one half an em
(BIZ UD Gothic), so a layout can fit its lines in pure code; a test compares with the font itself.
"""

import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from drivers.devices.lamps import LampShape

Colour = tuple[int, int, int]
"""Red, green, blue; 0 to 255, sRGB."""


class Face(Enum):
    """The two faces of the screen: BIZ UD Gothic, made for readers with low vision."""

    BOLD = "BIZUDGothic-Bold.ttf"  # fixed pitch
    LATIN = "BIZUDPGothic-Regular.ttf"  # proportional; for lines without Japanese


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle; ``x``, ``y`` is its top left corner."""

    x: int
    y: int
    width: int
    height: int
    colour: Colour


@dataclass(frozen=True, slots=True)
class Sign:
    """A lamp's shape, drawn within a square of ``size`` pixels whose top left corner is ``x``, ``y``."""

    shape: LampShape
    x: int
    y: int
    size: int
    colour: Colour
    ground: Colour


@dataclass(frozen=True, slots=True)
class Text:
    """One line; ``x`` is its left end, ``y`` the top of a line ``size`` pixels high."""

    text: str
    x: int
    y: int
    size: int
    colour: Colour
    ground: Colour
    face: Face


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything on a screen, painted in order over ``ground``. ``name`` says what it is, for a file or a trace."""

    name: str
    width: int
    height: int
    ground: Colour
    items: tuple[Box | Sign | Text, ...]


class Display(Protocol):
    """A screen."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    def show(self, picture: Picture) -> None:
        """Replace what is on the screen, now."""
        ...

    def closed(self) -> bool:
        """Whether a person ended it (Esc, or the window's button); to be asked a few times a second."""
        ...


def width_em(text: str) -> float:
    """The width of a line in ``Face.BOLD``, in units of its size."""
    return sum(1.0 if unicodedata.east_asian_width(character) in "FWA" else 0.5 for character in text)


def contrast(one: Colour, other: Colour) -> float:
    """Contrast ratio from 1 to 21 (WCAG 2.2, "contrast ratio" and "relative luminance")."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    red, green, blue = (_linear(channel / 255) for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
