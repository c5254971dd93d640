"""What a process of the image says to systemd: that it works, that it still turns, what it is doing.

Why a datagram of ours and no library. ``python-sdnotify`` has had no release since 2017; ``systemd-python`` is well kept, but it is C
against libsystemd, has no wheels, and would bring a compiler into the image's build for one ``sendto``. The protocol is three lines of
text in one datagram, its page (sd_notify(3), "Notes") promises that it stays so and says that programs may speak it themselves.

Two rules give the words their worth.

* *Ready* is said when the thing really works: a card could be read, the first frame is on the glass, the ledger's lock is held. A start
  that takes longer, because somebody has yet to plug the reader in, asks for more time at each turn; it is not killed for waiting, but it
  is when it hangs.
* The watchdog is fed by the loop that does the work, once a turn, never by a thread: a thread would live on beside a loop that hangs.
"""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

_GAP_S = 1.0
_PATIENCE_S = 20
_LONGEST_STATUS = 200


class Overseer(Protocol):
    """Whoever started this program and waits for word from it."""

    def turned(self, status: str, *, works: bool = True) -> None:
        """The loop has turned. ``status``: one line for people; ``works``: False as long as the thing does not yet do what it is for."""
        ...

    def stopping(self, status: str) -> None:
        """The loop will not turn again; what is left takes a moment."""
        ...


class Nobody:
    """No overseer: the program was started by hand."""

    def turned(self, status: str, *, works: bool = True) -> None:
        """Nobody hears it."""

    def stopping(self, status: str) -> None:
        """Nobody hears it."""


class Systemd:
    """An ``Overseer`` by the protocol of sd_notify(3). ``send``: one datagram; ``now_s``: any monotonic clock.

    It speaks at most once a second, whatever the loop's pace, and at once when what it would say is another thing than before.
    """

    def __init__(self, send: Callable[[bytes], None], now_s: Callable[[], float]) -> None:
        self._send = send
        self._now_s = now_s
        self._ready = False
        self._status = ""
        self._next_s = now_s()

    def turned(self, status: str, *, works: bool = True) -> None:
        now_s, gets_ready = self._now_s(), works and not self._ready
        if not gets_ready and status == self._status and now_s < self._next_s:
            return
        self._next_s = now_s + _GAP_S
        lines = ["READY=1"] if gets_ready else []
        self._ready = self._ready or works
        lines.append("WATCHDOG=1" if self._ready else f"EXTEND_TIMEOUT_USEC={_PATIENCE_S * 1_000_000}")
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={_one_line(status)}")
        self._say(lines)

    def stopping(self, status: str) -> None:
        self._say(["STOPPING=1", f"STATUS={_one_line(status)}"])

    def _say(self, lines: list[str]) -> None:
        self._send("\n".join(lines).encode())


class Datagrams:
    """The way to systemd: a Unix datagram socket at ``address`` (an abstract one begins with @)."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def __call__(self, data: bytes) -> None:
        """Send without waiting. One that cannot be sent is not missed: the next turn says it again, and if none can, the watchdog bites."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
            way.sendto(data, socket.MSG_DONTWAIT, self._address)


def overseer(environment: Mapping[str, str], now_s: Callable[[], float]) -> Overseer:
    """The one that ``environment`` names in NOTIFY_SOCKET, or nobody."""
    address = environment.get("NOTIFY_SOCKET", "")
    return Systemd(Datagrams(address), now_s) if address else Nobody()


def _one_line(status: str) -> str:
    return "".join(sign for sign in status if sign.isprintable())[:_LONGEST_STATUS]
