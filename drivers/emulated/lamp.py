"""The twin of a lamp: it remembers every light with its moment."""

from collections.abc import Callable
from typing import Generic, TypeVar

LightT = TypeVar("LightT")


class RememberedLamp(Generic[LightT]):
    """A lamp whose lights are kept in ``lights`` as (ms, light)."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.lights: list[tuple[int, LightT]] = []

    def show(self, light: LightT) -> None:
        """Keep it."""
        self.lights.append((self._now_ms(), light))


class NoLamp:
    """A vehicle without a lamp: the sign on the screen is the lamp."""

    def show(self, light: object) -> None:
        """Nothing shines."""
