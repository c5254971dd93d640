"""The emulated PN532 as a real device file: a program opens it, pulls it, kills it."""

import io
import json
import os
import select
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.emulated import card_file
from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import blank
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.emulated.pn532_pty import Pn532Pty, Saver, lay_file

VERSION = bytes.fromhex("0000ff02fed4022a00")
ACK = bytes.fromhex("0000ff00ff00")
ANSWER = ACK + bytes.fromhex("0000ff06fad50332010607e800")


@contextmanager
def opened(path: str | Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    try:
        yield fd
    finally:
        os.close(fd)


def ask(fd: int, data: bytes, size: int) -> bytes:
    os.write(fd, data)
    said = b""
    while len(said) < size and select.select([fd], [], [], 1)[0]:
        said += os.read(fd, 300)
    return said


def test_the_device_answers_and_a_program_may_close_and_reopen_it() -> None:
    with Pn532Pty(Pn532Chip(Air())) as twin:
        for _ in range(3):
            with opened(twin.path) as fd:
                assert ask(fd, VERSION, len(ANSWER)) == ANSWER


def test_an_answer_is_never_early_and_hardly_late() -> None:
    log = io.StringIO()
    late: list[int] = []
    with Pn532Pty(Pn532Chip(Air()), log=log) as twin, opened(twin.path) as fd:
        for _ in range(20):
            start = time.monotonic_ns()
            ask(fd, VERSION, len(ANSWER))
            late.append(time.monotonic_ns() - start)
    costs = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [cost["command"] for cost in costs] == [2] * 20
    charged = costs[0]["line_ns"] + costs[0]["rf_ns"] + costs[0]["card_ns"]
    assert min(late) >= charged
    assert sorted(late)[5] < charged + 2_000_000


def test_the_link_leads_to_the_device_and_goes_with_it(tmp_path: Path) -> None:
    link = tmp_path / "reader"
    link.symlink_to("/dev/pts/999999")  # left over by a twin that was killed
    with Pn532Pty(Pn532Chip(Air()), link) as twin:
        assert str(link.readlink()) == twin.path
        with opened(link) as fd:
            assert ask(fd, VERSION, len(ANSWER)) == ANSWER
    assert not link.is_symlink()


def test_a_link_does_not_replace_somebody_elses_file(tmp_path: Path) -> None:
    (tmp_path / "reader").write_text("mine")
    with pytest.raises(FileExistsError):
        Pn532Pty(Pn532Chip(Air()), tmp_path / "reader")
    assert (tmp_path / "reader").read_text() == "mine"


def test_an_unplugged_device_is_an_error_for_its_program_and_comes_back_fresh(tmp_path: Path) -> None:
    link = tmp_path / "reader"
    chip = Pn532Chip(Air())
    with Pn532Pty(chip, link) as twin:
        with opened(link) as fd:
            ask(fd, bytes.fromhex("0000ff03fdd410071500"), 15)
            ask(fd, ACK + VERSION, len(ANSWER))
            assert chip.baud == 921600
            twin.unplug()
            assert not link.is_symlink()
            with pytest.raises(OSError, match="Input/output error"):
                os.write(fd, VERSION)
        twin.plug()
        assert chip.baud == 115200
        with opened(link) as fd:
            assert ask(fd, VERSION, len(ANSWER)) == ANSWER


def test_a_card_file_is_made_when_missing_and_saved_behind_the_answers(tmp_path: Path) -> None:
    saver = Saver()
    path = tmp_path / "new.toml"
    card = lay_file(path, Air(), saver)
    card.answer(bytes((32, 0x08)) + card.idm + b"\x01\x09\x00\x01\x80\x03" + bytes(range(16)))
    saver.close()
    assert card_file.load(path).memory.blocks[3] == bytes(range(16))


def test_a_card_that_could_not_be_saved_is_told(tmp_path: Path) -> None:
    saver = Saver()
    saver.write(tmp_path / "gone" / "card.toml", card_file.text(blank(bytes(8))))
    saver.close()
    assert saver.problem is not None
    assert "was not saved" in saver.problem
