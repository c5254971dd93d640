"""``kazashi reader qualify`` and the opening of readers, as somebody at a desk meets them."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from drivers.emulated import card_file
from drivers.emulated.lite_s_card import LiteSCard, Memory, blank, blank_memory
from firmware.cli import main
from firmware.compose import open_reader
from firmware.failure import Failure

IDM = bytes.fromhex("012e4129358ba753")


@pytest.fixture
def tray(tmp_path: Path) -> Path:
    folder = tmp_path / "tray"
    folder.mkdir()
    card_file.save(folder / "card.toml", blank(IDM))
    return folder


def test_the_twin_is_qualified_end_to_end_and_its_profile_written(tray: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "profile.toml"
    assert main(["reader", "qualify", "--reader", f"emulated:{tray}", "--yes", "--profile", str(profile)]) == 0
    said = capsys.readouterr().out
    assert " 0 not reached." in said
    assert "counted writes were spent" in said
    assert IDM.hex() not in said.lower()
    assert tomllib.loads(profile.read_text())["traits"]["strict"] is True


def test_without_consent_nothing_is_written(tray: Path) -> None:
    before = (tray / "card.toml").read_text()
    program = "import sys; from firmware.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "reader", "qualify", "--reader", f"emulated:{tray}"]
    asked = subprocess.run(command, input="n\n", capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert "nothing was written" in asked.stderr
    assert (tray / "card.toml").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--reader", "usb:1"], "no such kind of reader"),
        (["--reader", "emulated:/there/is/no/tray"], "/there/is/no/tray"),
        (["--reader", "pn532:/dev/there-is-no-such-line"], "cannot be used"),
        (["--reader", "emulated:x", "--card-role", "issued"], "--keys FILE"),
        (["--reader", "emulated:x", "--card-role", "issued", "--keys", "/there/are/no/keys"], "/there/are/no/keys"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reader", "qualify", "--yes", *arguments]) == 1
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_an_issued_card_in_place_of_a_blank_one_is_named_and_left_alone(tray: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = blank_memory(IDM)
    card_file.save(tray / "card.toml", LiteSCard(Memory({**made.blocks, 0x88: bytes.fromhex("ffff0000070100000000ff4301000000")}, 7)))
    before = (tray / "card.toml").read_text()
    assert main(["reader", "qualify", "--yes", "--reader", f"emulated:{tray}"]) == 1
    assert "the card is issued, not blank" in capsys.readouterr().err
    assert (tray / "card.toml").read_text() == before


def test_a_reader_that_is_not_there_yet_is_opened_all_the_same_and_lost() -> None:
    reader = open_reader("pn532:/dev/there-is-no-such-line@921600")
    assert reader.name == "pn532:/dev/there-is-no-such-line@921600"
    assert not reader.revive()


def test_a_wrong_address_is_a_failure_that_names_the_forms() -> None:
    with pytest.raises(Failure, match="emulated:FOLDER"):
        open_reader("nfc")
