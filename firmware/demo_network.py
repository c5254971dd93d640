"""A bad network on this machine: what lies between a vehicle and the city, as a script.

A real socket on loopback stands before the city's door and passes whole HTTP messages on. What happens to the next one is said beforehand:
it is cut on its way, its answer is lost, somebody else answers in the city's place. ``go_away`` closes the socket, so that nobody is there;
``come_back`` opens the same address again. What reached the city is kept, because networks deliver things twice.

It is for the demo and decides nothing by chance: the same script gives the same accidents.
"""

import contextlib
import socket
import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Self

HOST = "127.0.0.1"
_PATIENCE_S = 20.0
_READ_SIZE = 65536
_STRANGERS_PAGE = b"<html><body>Welcome to the cafe. Please sign in.</body></html>"


class Fate(Enum):
    """What becomes of one request."""

    ARRIVES = "it arrives, and so does the answer"
    CUT_GOING = "it is cut after some bytes"
    ANSWER_LOST = "it arrives; of the answer nothing does"
    CUT_COMING = "it arrives; the answer is cut after some bytes"
    STRANGER = "somebody else answers"


@dataclass(frozen=True, slots=True)
class Accident:
    """A fate; ``after``: how many bytes get through before the cut."""

    fate: Fate = Fate.ARRIVES
    after: int = 0


FAIR = Accident()


@dataclass(frozen=True, slots=True)
class Passage:
    """A request that reached the city whole: its path and its body."""

    path: str
    body: bytes


class Network:
    """Between ``url`` and the city's door at ``port`` on this machine. A context; there is no network until ``come_back``."""

    def __init__(self, port: int) -> None:
        self.arrived: list[Passage] = []
        self._city = (HOST, port)
        self._coming: deque[Accident] = deque()
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """The address at which a vehicle looks for its city."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def expect(self, *accidents: Accident) -> None:
        """What becomes of the next requests, one after the other; all that follow arrive."""
        self._coming = deque(accidents)

    def come_back(self) -> None:
        """Somebody listens again."""
        if self._listener is None:
            self._listener = _listening(self.port)
            self._thread = threading.Thread(target=self._run, args=(self._listener,), daemon=True)
            self._thread.start()

    def go_away(self) -> None:
        """Nobody listens any more; who comes is refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept; close alone does not
            listener.close()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
            self._thread = None

    def _run(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # the network has gone away
                return
            with client, contextlib.suppress(OSError):
                client.settimeout(_PATIENCE_S)
                self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        request = _whole(client)
        accident = self._coming.popleft() if self._coming else FAIR
        match accident.fate:
            case Fate.STRANGER:
                client.sendall(_answer_of_a_stranger())
            case Fate.CUT_GOING:
                with socket.create_connection(self._city, _PATIENCE_S) as city:
                    city.sendall(request[: accident.after])
            case fate:
                answer = self._ask(request)
                self.arrived.append(_passage(request))
                if fate is not Fate.ANSWER_LOST:
                    client.sendall(answer[: accident.after] if fate is Fate.CUT_COMING else answer)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(self._city, _PATIENCE_S) as city:
            city.sendall(request)
            answer = b""
            while part := city.recv(_READ_SIZE):
                answer += part
        return answer


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen()
    return listener


def _free_port() -> int:
    with _listening(0) as listener:
        return int(listener.getsockname()[1])


def _whole(client: socket.socket) -> bytes:
    """One HTTP request, head and body; raises ``OSError`` when it ends before that."""
    message = b""
    while b"\r\n\r\n" not in message or len(message) < _length(message):
        part = client.recv(_READ_SIZE)
        if not part:
            raise ConnectionError("the request ended within itself")
        message += part
    return message


def _length(message: bytes) -> int:
    """How long the request is by its own word."""
    head, _, _ = message.partition(b"\r\n\r\n")
    fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    body = next((int(value) for name, _, value in fields if name.strip().lower() == b"content-length"), 0)
    return len(head) + 4 + body


def _passage(request: bytes) -> Passage:
    head, _, body = request.partition(b"\r\n\r\n")
    return Passage(head.split(b" ", 2)[1].decode("ascii"), body)


def _answer_of_a_stranger() -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(_STRANGERS_PAGE)}\r\nConnection: close\r\n\r\n"
    return head.encode() + _STRANGERS_PAGE
