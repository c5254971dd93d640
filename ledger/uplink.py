"""Adapter: one HTTPS request at a time, up or down, over the standard library's client.

No proxy is asked, no redirect followed, no cookie kept, and every wait ends. The city's own certificate authority is the only one believed
when it is configured, at TLS 1.3. Plain HTTP is for this machine only (the demo, a test, a tunnel that ends here).

A server that sends one byte a minute would keep a timeout for each read happy for ever; so a clock runs over the whole request and shuts
the connection down.
"""

import contextlib
import email.utils
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, urlsplit

from ledger.carrier import MEDIA_TYPE, Answer, NoAnswer, printable
from ledger.errors import LedgerError
from ledger.receipts import MAX_SEALED

CONNECT_S = 15.0
READ_S = 30.0
WHOLE_S = 120.0  # a sealed batch of 64 KiB takes 8 s at 64 kbit/s


class BadAddress(LedgerError):
    """The city cannot be reached by what is configured; the message names the setting."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files. ``authority``: who signs the city's certificate (None: whoever this machine trusts). ``own``, ``own_key``: this vehicle's."""

    authority: Path | None = None
    own: Path | None = None
    own_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a request may take: to connect, for one read, and as a whole, in seconds."""

    connect_s: float = CONNECT_S
    read_s: float = READ_S
    whole_s: float = WHOLE_S


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The most bytes of an answer, and the most seconds for the whole request."""

    most: int
    whole_s: float


class HttpUplink:
    """A ``ledger.carrier.Wire`` to the city's address ``url``, such as ``https://city.example/kazashi``. Raises ``BadAddress``.

    An answer is read one byte further than it may be long, and is then good for nothing.
    """

    def __init__(
        self,
        url: str,
        certificates: Certificates | None = None,
        limits: Limits | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._parts = _address(url)
        self._limits = limits or Limits()
        self._now_s = now_s
        self._context = _context(certificates or Certificates()) if self._parts.scheme == "https" else None

    def post(self, door: str, body: bytes, media_type: str = MEDIA_TYPE, accept: str = MEDIA_TYPE) -> Answer:
        """Send ``body`` to ``door`` and wait for the answer."""
        headers = {"Content-Type": media_type, "Accept": accept}
        return self._ask("POST", door, body, headers, _Bounds(MAX_SEALED, self._limits.whole_s))

    def get(self, door: str, media_type: str, limit: int, patience_s: float) -> Answer:
        """Fetch at most ``limit`` bytes from ``door`` in at most ``patience_s`` seconds."""
        # A problem document must fit, too.
        return self._ask("GET", door, None, {"Accept": media_type}, _Bounds(max(limit, MAX_SEALED), patience_s))

    def get_part(self, door: str, offset: int, most: int, patience_s: float) -> Answer:
        """Fetch at most ``most`` bytes from ``offset`` on (RFC 9110, section 14.2): status 206 from a server that can, 200 from another."""
        headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity", "Range": f"bytes={offset}-{offset + most - 1}"}
        return self._ask("GET", door, None, headers, _Bounds(most, patience_s))

    def _ask(self, method: str, door: str, body: bytes | None, headers: dict[str, str], bounds: "_Bounds") -> Answer:
        connection = self._connection()
        try:
            with _deadline(connection, bounds.whole_s) as ended:
                connection.connect()
                connection.sock.settimeout(self._limits.read_s)
                connection.request(method, self._parts.path.rstrip("/") + door, body, {**headers, "Connection": "close"})
                answer = self._answer(connection.getresponse(), bounds.most)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # Shut down by the deadline, the client finds its socket gone, each time in another place.
            raise NoAnswer(f"{self._parts.hostname}: {type(error).__name__}: {printable(str(error))}") from error
        finally:
            connection.close()
        if ended.is_set():  # an answer that ends there looks like a whole one
            raise NoAnswer(f"{self._parts.hostname}: it took longer than {bounds.whole_s:g} s")
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=self._limits.connect_s)
        return http.client.HTTPSConnection(host, port, timeout=self._limits.connect_s, context=self._context)

    def _answer(self, response: http.client.HTTPResponse, most: int) -> Answer:
        body = response.read(most + 1)
        if response.length and len(body) <= most:
            raise http.client.IncompleteRead(body, response.length)
        media_type = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        retry = retry_after_s(response.getheader("Retry-After"), self._now_s())
        return Answer(response.status, media_type, body, retry, _detail(media_type, body))


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Seconds from ``now_s`` (Unix) by a Retry-After header: a number, or a date (RFC 9110, section 10.2.3); None when it is neither."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text.strip()[:12])
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now_s)
    return None


def _detail(media_type: str, body: bytes) -> str:
    """The sentence in a problem document (RFC 9457), as a log may have it."""
    if media_type != "application/problem+json":
        return ""
    with contextlib.suppress(ValueError, RecursionError):
        problem = json.loads(body)
        detail = cast("dict[str, object]", problem).get("detail") if isinstance(problem, dict) else None
        return printable(detail) if isinstance(detail, str) else ""
    return ""


def _address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment or parts.username or parts.password)
    except ValueError:
        raise BadAddress(f"city.url: '{printable(url)}' is no address; write one such as https://city.example") from None
    if not good or parts.scheme not in {"http", "https"}:
        raise BadAddress(f"city.url: '{printable(parts.scheme)}' with such parts is no address; write one such as https://city.example")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname or ""):
        raise BadAddress("city.url: plain http goes to this machine only; write https://")
    return parts


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _context(files: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        if files.authority is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(files.authority)
    except (OSError, ssl.SSLError) as error:
        raise BadAddress(f"city.ca: {files.authority} is no certificate that can be read ({error}); name a PEM file") from error
    if files.own is not None:
        try:
            context.load_cert_chain(files.own, files.own_key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise BadAddress(f"city.certificate: {files.own} cannot be used ({error}); name PEM files that belong together") from error
    return context


def _no_password() -> str:
    """A key that asks for one is refused instead of asking a terminal for it."""
    return ""


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Generator[threading.Event]:
    """Shut the connection down when the time is over, wherever it waits, and set what is yielded."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        # None before it is connected, whatever its type says.
        sock = cast("socket.socket | None", connection.sock)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()
