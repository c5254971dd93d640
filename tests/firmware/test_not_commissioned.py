"""A unit that is nobody, one that its city does not know, one whose disk is gone or cannot be written: each says so and charges nobody."""

import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.vault_file import demo_keys, write_keys
from firmware import cli, compose, provision, selftap
from firmware.config import ENROLLED, UNIT
from firmware.failure import LedgerUnusable
from firmware.provision import FOLDER
from ledger.entry import Kind
from ledger.store import LedgerFile, Store
from validator.messages import Shown
from validator.standby import Reason

ROOT = Path(__file__).parents[2]


class Nobody:
    """A ``Presenter`` that nobody looks at."""

    def show(self, shown: Shown) -> None: ...


@pytest.fixture
def unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What a unit took from a stick: it seeks a city and has not come there. Its ledger lies in this test's folder."""
    write_keys(tmp_path / "desk.keys", demo_keys(3))
    (tmp_path / "tray").mkdir()
    arguments = [
        *("provision", "write", str(tmp_path), "--vehicle", "minato-12", "--reader", f"emulated:{tmp_path}/tray", "--routes", "M1"),
        *("--table", str(selftap.FOLDER / selftap.TABLE), "--operator", str(ROOT / "examples/town/operator.toml")),
        *("--scheme", str(selftap.SCHEME), "--keys", str(tmp_path / "desk.keys"), "--city", "https://points.minato.example"),
    ]
    assert cli.main(arguments) == 0
    unit = tmp_path / "unit"
    compose.take_unit(tmp_path / FOLDER, unit)
    text = (unit / UNIT).read_text().replace(provision.LEDGER, str(tmp_path / "ledger" / "ledger"))
    (unit / UNIT).write_text(text)
    capsys.readouterr()
    return unit


def enrolled(unit: Path) -> None:
    key = compose.base64url(compose.signer_of(bytes(range(32))).public)
    (unit / ENROLLED).write_text(f'format = 1\n[terminal]\nnumber = 12\n[city]\nkeys = [{{ algorithm = "eddsa", public_key = "{key}" }}]\n')


def ended(unit: Path, *, after: str = "", status: int) -> str:
    """What ``kazashi validator`` says until it ends by itself, or is told to when it has said ``after``."""
    command = [sys.executable, "-m", "firmware.cli", "validator", "--config", str(unit), "--no-screen", "--socket", str(unit / "screen")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = ""
        while after and after not in said:
            assert select.select([process.stdout], [], [], 15)[0], said
            line = process.stdout.readline()
            assert line, said  # it ended before it said that
            said += line
        if after:
            process.send_signal(signal.SIGTERM)
        said += process.stdout.read()
    assert process.returncode == status, said
    return said


def test_what_is_missing_is_known_in_this_order(unit: Path, tmp_path: Path) -> None:
    assert compose.why_not([tmp_path / "away"]) is Reason.NO_DISK
    (tmp_path / "empty").mkdir()
    assert compose.why_not([tmp_path / "empty"]) is Reason.NOBODY
    assert compose.why_not([unit]) is Reason.STRANGER
    enrolled(unit)
    assert compose.why_not([unit]) is None


def test_a_town_without_a_city_server_needs_nobody_to_enrol(unit: Path) -> None:
    text = (unit / UNIT).read_text()
    (unit / UNIT).write_text(text[: text.index("[city]")])
    assert compose.why_not([unit]) is None


def test_a_program_that_somebody_starts_by_hand_is_no_unit() -> None:
    assert not compose.is_unit([ROOT / "examples/bus.toml"])
    assert compose.why_not([ROOT / "examples/bus.toml"]) is None


def test_a_stranger_records_in_quarantine_and_knows_no_rider(unit: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with compose.open_standby([unit], Reason.STRANGER, Nobody()) as standby:
            standby.touched()
            standby.touched()

    with LedgerFile.open_read_only(tmp_path / "ledger/quarantine") as ledger:
        entries = ledger.after(0, 100)
    assert [(entry.kind, entry.reason, entry.when.boot) for entry in entries] == [
        (Kind.BOOT, "", 1),
        (Kind.ALARM, "quarantine:touch", 1),
        (Kind.ALARM, "quarantine:touch", 1),
        (Kind.BOOT, "", 2),
        (Kind.ALARM, "quarantine:touch", 2),
        (Kind.ALARM, "quarantine:touch", 2),
    ]
    assert all(entry.medium is None and entry.fare.points == 0 for entry in entries)
    assert compose.ledgers_beside(tmp_path / "ledger/ledger") == [tmp_path / "ledger/ledger"]  # no courier looks for it


def test_a_stranger_without_a_disk_to_write_still_says_so(unit: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("in the way")
    with compose.open_standby([unit], Reason.STRANGER, Nobody()) as standby:
        standby.touched()


@pytest.mark.parametrize("reason", [Reason.NO_DISK, Reason.NOBODY, Reason.STRANGER])
def test_whoever_comes_to_be_somebody_is_looked_at_anew(unit: Path, tmp_path: Path, reason: Reason) -> None:
    aside = tmp_path / "aside"
    if reason is Reason.NO_DISK:
        unit.rename(aside)
    if reason is Reason.NOBODY:
        (unit / UNIT).rename(aside)
    with compose.open_standby([unit], reason, Nobody()) as standby:
        assert not standby.over()
        match reason:
            case Reason.NO_DISK:
                aside.rename(unit)
            case Reason.NOBODY:
                aside.rename(unit / UNIT)
            case _:
                enrolled(unit)
        assert standby.over()


def test_a_ledger_that_cannot_be_written_is_waited_for(unit: Path, tmp_path: Path) -> None:
    enrolled(unit)
    (tmp_path / "ledger").write_text("in the way")
    with pytest.raises(LedgerUnusable, match="cannot be written"):
        compose.open_ledger(tmp_path / "ledger/ledger", 12)
    with compose.open_standby([unit], Reason.UNWRITABLE, Nobody()) as standby:
        assert standby.reader is not None
        assert not standby.over()
        (tmp_path / "ledger").unlink()
        assert standby.over()
    with Store.open(tmp_path / "ledger/ledger", device=12) as store:  # it was made, and let go again
        assert store.head().seq == 0


def test_a_ledger_that_somebody_else_writes_is_no_fault_of_the_disk(unit: Path, tmp_path: Path) -> None:
    enrolled(unit)
    with compose.open_ledger(tmp_path / "ledger/ledger", 12):
        said = ended(unit, status=1)
    assert "another program is writing the ledger" in said


def test_the_command_stands_by_and_ends_in_good_order(unit: Path, tmp_path: Path) -> None:
    enrolled(unit)
    (tmp_path / "ledger").write_text("in the way")
    said = ended(unit, after="no card is taken until it can be", status=0)
    assert "Traceback" not in said


def test_a_unit_that_is_nobody_is_healthy_and_has_no_ledger_to_look_at(unit: Path, tmp_path: Path) -> None:
    (unit / UNIT).unlink()
    equipment = compose.open_health(None, tmp_path, tmp_path)
    assert equipment.ledger() == ""
