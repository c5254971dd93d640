"""The whole way for real: our driver, pyserial, a terminal device of the operating system, and the emulated chip at its other end."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import blank
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.emulated.pn532_pty import Pn532Pty
from drivers.errors import ReaderLost
from drivers.felica import parse_read, parse_write, read_blocks, write_blocks
from drivers.readers.pn532 import Card, Pn532
from drivers.readers.serial_port import SerialPort

IDM = bytes.fromhex("012e4129358ba753")


def until_found(reader: Pn532, within_s: float = 5.0) -> Card:
    """What a caller does: revive and poll until a card is there."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if cards := reader.poll():
                return cards[0]
        except ReaderLost:
            reader.revive()
    raise AssertionError("no card was found")


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Pn532Pty]:
    air = Air()
    air.lay(blank(IDM))
    with Pn532Pty(Pn532Chip(air), tmp_path / "reader") as served:
        yield served


@pytest.fixture
def reader(twin: Pn532Pty, tmp_path: Path) -> Iterator[Pn532]:
    assert twin.path
    opened = Pn532("pn532:reader@921600", partial(SerialPort, str(tmp_path / "reader")), time.monotonic_ns, baud=921600)
    yield opened
    opened.close()


def test_a_card_is_found_written_and_read_through_a_terminal_device(reader: Pn532) -> None:
    card = until_found(reader)
    assert parse_write(card.exchange(write_blocks(IDM, [0x0D], bytes(range(16)))), IDM).value == "done"
    assert parse_read(card.exchange(read_blocks(IDM, [0x0D, 0x90])), IDM, 2)[:16] == bytes(range(16))


def test_a_reader_pulled_out_and_plugged_in_again_comes_back_by_itself(twin: Pn532Pty, reader: Pn532) -> None:
    until_found(reader)
    twin.unplug()
    with pytest.raises(ReaderLost):
        reader.poll()
    assert not reader.revive()
    twin.plug()
    assert until_found(reader).idm == IDM


def test_the_twin_in_a_process_of_its_own_is_opened_by_its_address(tmp_path: Path) -> None:
    from firmware.compose import open_reader

    link = tmp_path / "reader"
    program = "import sys; from firmware.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "twin", "pn532", "--card", str(tmp_path / "card.toml"), "--link", str(link)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as served:
        assert served.stdout is not None
        try:
            assert "ready" in served.stdout.readline()
            reader = open_reader(f"pn532:{link}@921600")
            assert isinstance(reader, Pn532)
            card = until_found(reader)
            assert parse_read(card.exchange(read_blocks(card.idm, [0x83])), card.idm, 1)[:8] == card.idm
            reader.close()
        finally:
            served.terminate()
    assert not link.exists()
