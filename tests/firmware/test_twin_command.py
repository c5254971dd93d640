"""``kazashi twin`` as a person at a desk meets it, and a tray as a reader's address."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drivers.emulated import card_file
from drivers.emulated.lite_s_card import blank
from firmware.cli import main
from firmware.compose import open_reader
from firmware.failure import Failure

IDM = bytes.fromhex("0102030405060708")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_twin_says_when_it_is_ready_answers_and_ends_cleanly(tmp_path: Path, ending: signal.Signals) -> None:
    card, link = tmp_path / "card.toml", tmp_path / "reader"
    kazashi = [sys.executable, "-c", "import sys; from firmware.cli import main; sys.exit(main())"]
    command = [*kazashi, "twin", "pn532", "--card", str(card), "--link", str(link), "--log", str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as twin:
        assert twin.stdout is not None
        assert twin.stdout.readline().startswith(f"ready: {link} is a PN532 (/dev/pts/")
        reader = open_reader(f"pn532:{link}@921600")
        found = [channel.pmm for channel in reader.poll() or reader.poll()]
        reader.close()
        twin.send_signal(ending)
        assert twin.wait(5) == 0
    assert found == [blank(IDM).pmm]
    assert not link.is_symlink()
    assert card_file.load(card).pmm == blank(IDM).pmm
    assert (tmp_path / "log").read_text().startswith('{"command": ')


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--link", "x"], "no card: say --card FILE or --tray FOLDER"),
        (["--link", "x", "--card", "c.toml", "--baud", "0"], "--baud 0: a line has more than 0 bits a second"),
        (["--link", "x", "--tray", "nowhere"], "nowhere: it cannot be used (No such file or directory)"),
        (["--link", "x", "--card", "bad.toml"], "bad.toml: the field 'card' must be"),
        (["--link", "taken", "--card", "c.toml"], "taken: it cannot be used (File exists)"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("")
    (tmp_path / "taken").write_text("mine")
    assert main(["twin", "pn532", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"kazashi twin: {says}")
    assert error.count("\n") == 1


def test_a_tray_is_a_reader_by_its_address(tmp_path: Path) -> None:
    reader = open_reader(f"emulated:{tmp_path}")
    assert list(reader.poll()) == []
    card_file.save(tmp_path / "card.toml", blank(IDM))
    end = time.monotonic() + 2
    while not (found := reader.poll()) and time.monotonic() < end:
        pass
    assert [channel.idm for channel in found] == [IDM]
    assert found[0].exchange(bytes((16, 0x06)) + IDM + b"\x01\x0b\x00\x01\x80\x83")[13:21] == IDM
    reader.close()


def test_a_tray_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="the folder cannot be read"):
        open_reader(f"emulated:{tmp_path / 'nowhere'}")
