"""The demo's town hall, seen from outside: a process that is started, told the time, and ended.

It has a session of its own, so that Ctrl-C at the terminal is for the demo alone; and it ends with its input, so it ends even when the demo
is killed.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from firmware.failure import Failure
from firmware.rehearsal import ROOT

_COMMAND = (sys.executable, "-m", "firmware.demo_town_hall")
_PATIENCE_S = 60.0
_READ_SIZE = 4096


class TownHall:
    """A context; ``port`` is where its door is. ``origin_ns``, ``utc_ms``: the zero of the demo's clock; ``skipped_ns()``: see there."""

    def __init__(self, settings: Path, origin_ns: int, utc_ms: int, skipped_ns: Callable[[], int]) -> None:
        self._skipped_ns = skipped_ns
        self._where = settings.with_name("city.log")
        to_read, self._in = os.pipe()
        self._out, to_write = os.pipe()
        self._process = subprocess.Popen(_COMMAND, stdin=to_read, stdout=to_write, cwd=ROOT, start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        self._first = json.dumps([str(settings.absolute()), origin_ns, utc_ms, skipped_ns()])
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self.port = self._say(self._first)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def tell_time(self) -> None:
        """From now on it is there as late as it is here."""
        self._say(str(self._skipped_ns()))

    def _say(self, line: str) -> int:
        """The number that it answers."""
        try:
            os.write(self._in, line.encode() + b"\n")
        except BrokenPipeError:
            pass
        else:
            answer = b""
            while select.select([self._out], [], [], _PATIENCE_S)[0] and (part := os.read(self._out, _READ_SIZE)):
                answer += part
                if answer.endswith(b"\n"):
                    return int(answer)
        raise Failure(f"the demo's town hall does not answer; what it said last is in {self._where}")

    def _end(self) -> None:
        os.close(self._in)
        try:
            self._process.wait(_PATIENCE_S / 4)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
