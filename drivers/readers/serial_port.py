"""Adapter: pyserial. Opens the line, keeps it to ourselves and sets its rate; the bytes themselves go by the shortest way.

pyserial's own ``read`` waits until *all* asked bytes are there, which an answer of unknown length cannot use, and asks the kernel several
times per call. Here one answer costs one wait and one read.
"""

import contextlib
import os
import select
import termios
import time

import serial

WRITE_TIMEOUT_S = 0.2
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class SerialPort:
    """An open serial device (``drivers.readers.port.Port``), raw, 8N1, no flow control, locked against other programs."""

    def __init__(self, path: str, baud: int) -> None:
        """Open ``path`` at ``baud`` bits a second; raises ``OSError`` when it cannot (also when another program holds it)."""
        try:
            self._line = serial.Serial(path, baud, timeout=0, exclusive=True)
        except (ValueError, termios.error) as error:
            raise OSError(f"{path} cannot run at {baud} baud") from error
        with contextlib.suppress(ValueError, NotImplementedError, OSError):
            self._line.set_low_latency_mode(True)  # a USB adapter else keeps each answer for up to 16 ms
        self._fd = self._line.fileno()
        self._incoming = select.poll()
        self._incoming.register(self._fd, select.POLLIN)

    def write(self, data: bytes) -> None:
        written = self._write_some(data)
        deadline = time.monotonic() + WRITE_TIMEOUT_S
        while written < len(data):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select((), (self._fd,), (), left_s)[1]:
                raise OSError("the line takes no more bytes")
            written += self._write_some(data[written:])

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def read(self, size: int, timeout_s: float) -> bytes:
        ready = self._incoming.poll(max(0.0, timeout_s * 1000))
        if not ready:
            return b""
        if ready[0][1] & _GONE and not ready[0][1] & select.POLLIN:
            raise OSError("the line hung up")
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return b""
        if not data:
            raise OSError("the line hung up")
        return data

    def set_baud(self, baud: int) -> None:
        try:
            self._line.baudrate = baud
        except (ValueError, termios.error) as error:
            raise OSError(f"the line cannot run at {baud} baud") from error

    def discard(self) -> None:
        try:
            self._line.reset_input_buffer()
        except termios.error as error:
            raise OSError("the line hung up") from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._line.close()
