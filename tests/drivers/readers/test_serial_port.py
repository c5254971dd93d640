"""The line adapter on a real terminal device."""

import os
import pty
import threading
import time
import tty
from collections.abc import Iterator

import pytest

from drivers.readers.serial_port import SerialPort


class Pair:
    """The far end of a pseudo-terminal, and the name of our end."""

    def __init__(self) -> None:
        self.far, near = pty.openpty()
        tty.setraw(near)
        self.name = os.ttyname(near)
        os.close(near)

    def hang_up(self) -> None:
        if self.far >= 0:
            os.close(self.far)
            self.far = -1


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.hang_up()


@pytest.fixture
def port(pair: Pair) -> Iterator[SerialPort]:
    opened = SerialPort(pair.name, 115200)
    yield opened
    opened.close()


def test_bytes_go_out_and_come_in_unchanged(pair: Pair, port: SerialPort) -> None:
    every = bytes(range(256))
    port.write(every)
    assert os.read(pair.far, 300) == every
    os.write(pair.far, every)
    assert port.read(300, 1.0) == every


def test_a_read_takes_at_most_what_was_asked_and_leaves_the_rest(pair: Pair, port: SerialPort) -> None:
    os.write(pair.far, b"abcdef")
    assert port.read(4, 1.0) == b"abcd"
    assert port.read(4, 1.0) == b"ef"


def test_a_silent_line_is_an_empty_read_at_the_deadline(port: SerialPort) -> None:
    started = time.monotonic()
    assert port.read(10, 0.02) == b""
    assert 0.015 < time.monotonic() - started < 0.5


def test_a_read_returns_when_the_first_byte_comes(pair: Pair, port: SerialPort) -> None:
    late = threading.Timer(0.02, os.write, (pair.far, b"x"))
    late.start()
    assert port.read(10, 5.0) == b"x"
    late.join()


def test_discarded_bytes_are_gone(pair: Pair, port: SerialPort) -> None:
    os.write(pair.far, b"old")
    port.discard()
    os.write(pair.far, b"new")
    assert port.read(10, 1.0) == b"new"


def test_another_rate_may_be_set_while_open(pair: Pair, port: SerialPort) -> None:
    port.set_baud(921600)
    os.write(pair.far, b"x")
    assert port.read(10, 1.0) == b"x"


def test_a_hung_up_line_is_an_operating_system_error_everywhere_and_may_be_closed(pair: Pair, port: SerialPort) -> None:
    pair.hang_up()
    with pytest.raises(OSError, match=r"hung up|Input/output"):
        port.read(10, 0.5)
    with pytest.raises(OSError, match=r"Input/output|hung up"):
        port.write(b"x")
    port.close()
    port.close()


def test_a_line_held_by_somebody_else_is_not_shared(pair: Pair, port: SerialPort) -> None:
    with pytest.raises(OSError, match="lock"):
        SerialPort(pair.name, 115200)
    port.close()


def test_a_missing_device_is_an_operating_system_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        SerialPort("/dev/there-is-no-such-line", 115200)


def test_a_line_that_takes_no_more_is_an_operating_system_error_and_not_a_hang(port: SerialPort) -> None:
    with pytest.raises(OSError, match="takes no more"):
        port.write(bytes(2_000_000))
