import re
from pathlib import Path

import pytest

from firmware import cli, compose
from firmware.doctor import State, examine


def test_this_machine_can_be_looked_at_without_being_touched(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = cli.main(["doctor", "--data", str(tmp_path)])
    told = capsys.readouterr().out
    missing = len(re.findall(r"^missing ", told, re.MULTILINE))
    assert status == (1 if missing else 0)
    for subject in ("Python", "Debian packages", "Python packages", "Fonts", "Spoken words", "Ledger's folder", "Clock"):
        assert re.search(rf"^(ok|look|missing) +{subject}  ", told, re.MULTILINE), told


def test_the_machine_that_runs_these_tests_has_what_set_up_installs() -> None:
    found = {finding.subject: finding.state for finding in examine(compose.machine(), compose.wants("."))}
    assert found["Python"] is State.OK
    assert found["Python packages"] is State.OK


def test_a_folder_that_is_not_there_is_said_to_be_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    assert cli.main(["doctor", "--data", str(folder)]) == 1
    assert f"mkdir -p {folder}" in capsys.readouterr().out
