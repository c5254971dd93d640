"""The twin of a screen: it keeps every picture with its moment, and draws nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

PictureT = TypeVar("PictureT")


@dataclass(frozen=True, slots=True)
class Seen(Generic[PictureT]):
    """One picture and when it appeared (ms)."""

    at_ms: int
    picture: PictureT


class NoDisplay:
    """A screen that nobody plugged in."""

    size = (800, 480)

    def show(self, picture: object) -> None:
        """Nobody sees it."""

    def closed(self) -> bool:
        """Never."""
        return False


class RememberedDisplay(Generic[PictureT]):
    """A screen of ``size`` pixels whose pictures are kept in ``seen``; ``close`` is a person pressing Esc."""

    def __init__(self, size: tuple[int, int], now_ms: Callable[[], int]) -> None:
        self._size = size
        self._now_ms = now_ms
        self._closed = False
        self.seen: list[Seen[PictureT]] = []

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    def show(self, picture: PictureT) -> None:
        """Keep it."""
        self.seen.append(Seen(self._now_ms(), picture))

    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """End it as a person would."""
        self._closed = True
