"""The demo's town hall, seen from outside: a process that is started, told the time, and ended."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Self

from firmware.demo_child import Child
from firmware.failure import Failure

_PATIENCE_S = 60.0


class TownHall:
    """A context; ``port`` is where its door is. ``origin_ns``, ``utc_ms``: the zero of the demo's clock; ``skipped_ns()``: see there."""

    def __init__(self, settings: Path, origin_ns: int, utc_ms: int, skipped_ns: Callable[[], int]) -> None:
        self._skipped_ns = skipped_ns
        self._where = settings.with_name("city.log")
        self._child = Child("firmware.demo_town_hall", _PATIENCE_S)
        self._first = json.dumps([str(settings.absolute()), origin_ns, utc_ms, skipped_ns()])
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self.port = self._say(self._first)
        except BaseException:
            self._child.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._child.end()

    def tell_time(self) -> None:
        """From now on it is there as late as it is here."""
        self._say(str(self._skipped_ns()))

    def _say(self, line: str) -> int:
        """The number that it answers."""
        try:
            self._child.say(line)
        except BrokenPipeError:
            pass
        else:
            answer = b""
            while part := self._child.hear():
                answer += part
                if answer.endswith(b"\n"):
                    return int(answer)
        raise Failure(f"the demo's town hall does not answer; what it said last is in {self._where}")
