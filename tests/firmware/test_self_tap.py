"""A terminal that tries itself."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firmware.compose import ROOT
from firmware.selftap import CARD, FOLDER, OPERATOR, TABLE, self_tap


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the self-test's own files, to be spoilt."""
    return Path(shutil.copytree(FOLDER, tmp_path / "files"))


def test_one_ride_is_paid_and_nothing_is_left_behind(tmp_path: Path) -> None:
    assert self_tap(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_it_comes_to_the_same_each_time(tmp_path: Path) -> None:
    assert [self_tap(tmp_path) for _ in range(3)] == ["", "", ""]


def test_a_card_that_cannot_prove_our_key_is_noticed(files: Path, tmp_path: Path) -> None:
    text = (files / CARD).read_text()
    (files / CARD).write_text(text.replace('87 = "D1EB', '87 = "D1EC'))

    assert self_tap(tmp_path, files).startswith("the self-test's tap ended with wrong_card")


def test_another_price_is_noticed(files: Path, tmp_path: Path) -> None:
    text = (files / CARD).read_text()
    (files / CARD).write_text(text.replace('0E = "FFFFFFFF', '0E = "64000000'))  # 100 points are left on it

    assert "and not with paid" in self_tap(tmp_path, files)


def test_a_disk_that_cannot_be_written_is_noticed(tmp_path: Path) -> None:
    told = self_tap(tmp_path / "away")

    assert told.startswith(str(tmp_path / "away"))
    assert "the self-test cannot write there" in told


def test_its_files_are_what_the_town_makes(tmp_path: Path) -> None:
    making = "import runpy, sys, pathlib; runpy.run_path('tools/self_tap.py')['make'](pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", making, str(tmp_path)], cwd=ROOT, check=True)

    for name in (CARD, TABLE, OPERATOR):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), "run tools/self_tap.py"


def test_a_terminal_that_tries_itself_has_no_desk() -> None:
    looking = "import sys, firmware.selftap; print([name for name in sys.modules if name == 'drivers.cards.issuing'])"
    loaded = subprocess.run([sys.executable, "-c", looking], cwd=ROOT, capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"
