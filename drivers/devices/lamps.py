"""The lamp beside the reader: colour, shape and motion, never colour alone.

One man in twenty cannot tell red from green. So two lights that mean different things differ in their shape (drawn on the screen) and in
how they move (on a lamp that has no shape).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class LampColour(Enum):
    """What a three-colour lamp can show."""

    OFF = "off"
    WHITE = "white"
    BLUE = "blue"
    GREEN = "green"
    AMBER = "amber"
    RED = "red"


class LampShape(Enum):
    """The sign drawn with the colour."""

    CARD = "card"  # a card and its waves: place it here
    SQUARE = "square"  # the driver prepared something
    RING = "ring"  # I have it, hold
    CIRCLE = "circle"  # taken
    TICK = "tick"  # was taken before
    ARROW = "arrow"  # go on
    LOOP = "loop"  # once more
    TRIANGLE = "triangle"  # turn to the driver
    CROSS = "cross"  # not this card
    BAR = "bar"  # closed


class LampMotion(Enum):
    """How the light moves; the comment gives the lamp's on and off times."""

    STEADY = "steady"
    BREATHE = "breathe"  # 1.5 s on, 0.5 s off
    SWEEP = "sweep"  # 0.1 s on, 0.1 s off: too quick to count, seen as a flicker that waits
    BLINK = "blink"  # 0.4 s on, 0.4 s off
    WINK = "wink"  # 0.2 s on, 0.8 s off


@dataclass(frozen=True, slots=True)
class Light:
    """One state of the lamp."""

    colour: LampColour
    shape: LampShape
    motion: LampMotion


class Lamp(Protocol):
    """A lamp that keeps its last light until the next one."""

    def show(self, light: Light) -> None:
        """Change the light at once; a lamp that fails stays dark and is no error."""
        ...
