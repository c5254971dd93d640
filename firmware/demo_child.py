"""A process that a demo starts and leads: a line in, bytes out.

It has a session of its own, so that Ctrl-C at the terminal is for the demo alone, which then puts everything away; and it ends with its
input, so it ends even when the demo is killed.
"""

import os
import select
import signal
import subprocess
import sys

from firmware.rehearsal import ROOT

_READ_SIZE = 65536


class Child:
    """The module ``module`` as a program; it is waited for ``patience_s``."""

    def __init__(self, module: str, patience_s: float) -> None:
        self.patience_s = patience_s
        to_read, self._in = os.pipe()
        self._out, to_write = os.pipe()
        self._process = subprocess.Popen((sys.executable, "-m", module), stdin=to_read, stdout=to_write, cwd=ROOT, start_new_session=True)
        os.close(to_read)
        os.close(to_write)

    def say(self, line: str) -> None:
        """A line goes in; raises ``BrokenPipeError`` when nobody listens any more."""
        os.write(self._in, line.encode() + b"\n")

    def hear(self) -> bytes | None:
        """What comes next; empty when it has ended, None when it says nothing for so long."""
        return os.read(self._out, _READ_SIZE) if select.select([self._out], [], [], self.patience_s)[0] else None

    def kill(self) -> None:
        """Kill -9, by its number."""
        self._process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Let it close its books and go; whatever happens, it is gone afterwards."""
        os.close(self._in)
        try:
            self._process.wait(self.patience_s / 4)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
