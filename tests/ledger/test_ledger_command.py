"""``kazashi ledger`` as a person at a desk meets it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from firmware.cli import main
from ledger.entry import Entry, Intent, Kind
from ledger.store import Settings, Store

Ride = Callable[..., Entry]


@pytest.fixture
def ledger(path: Path, small: Settings, ride: Ride) -> Path:
    with Store.create(path, device=7, epoch=4711, settings=small) as store:
        store.append(ride(kind=Kind.SHIFT_OPEN, medium=None))
        for number in range(1, 5):
            store.append(ride(number))
        store.intend(Intent(ride(9)))
    return path


def test_a_whole_ledger_is_called_whole(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "verify", str(ledger)]) == 0
    told = capsys.readouterr().out
    assert "device 7, epoch 4711, 5 entries (1 shift open, 4 paid)" in told
    assert "1 debit(s) with an open outcome" in told
    assert "whole: the chain holds from the first entry to 5" in told


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE entry SET hash = zeroblob(32) WHERE seq = 5", "entry 5 was changed"),
        ("DELETE FROM entry WHERE seq IN (2, 3)", "each of the entries 2 to 3 is missing"),
        ("DELETE FROM entry WHERE seq > 3", "each of the entries 4 to 5 is missing: the end was cut off"),
        ("UPDATE entry SET data = zeroblob(3) WHERE seq = 2", "entry 2 cannot be read (field 'entry')"),
    ],
)
def test_a_broken_ledger_is_named_and_fails(ledger: Path, capsys: pytest.CaptureFixture[str], sql: str, told: str) -> None:
    apsw.Connection(str(ledger)).execute(sql)
    assert main(["ledger", "verify", str(ledger)]) == 1
    assert f"  BROKEN: {told}" in capsys.readouterr().out


def test_without_its_memory_a_ledger_says_what_cannot_be_seen(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.with_name("ledger.db.memory").unlink()
    assert main(["ledger", "verify", str(ledger)]) == 0
    assert "a cut-off end would not show" in capsys.readouterr().out


def test_one_broken_ledger_among_several_fails_and_the_others_are_told(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.db"
    apsw.Connection(str(ledger)).execute(f"VACUUM INTO '{copy}'")
    apsw.Connection(str(ledger)).execute("DELETE FROM entry WHERE seq = 2")
    assert main(["ledger", "verify", str(ledger), str(copy)]) == 1
    told = capsys.readouterr().out
    assert "BROKEN" in told
    assert "whole" in told


def test_show_tells_a_line_an_entry_and_the_open_debits(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "show", str(ledger)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [text.split()[0] for text in lines] == ["1", "2", "3", "4", "5", "open"]
    assert main(["ledger", "show", str(ledger), "--after", "2", "--limit", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[0] == "3"


def test_export_writes_json_lines_and_csv(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "export", str(ledger)]) == 0
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(entry["seq"], entry["kind"]) for entry in lines][:2] == [(1, "SHIFT_OPEN"), (2, "PAID")]
    table = tmp_path / "out.csv"
    assert main(["ledger", "export", str(ledger), "--format", "csv", "-o", str(table)]) == 0
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["seq"] for row in rows] == ["1", "2", "3", "4", "5"]


def test_export_leaves_out_what_cannot_be_believed_and_says_so(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apsw.Connection(str(ledger)).execute("UPDATE entry SET hash = zeroblob(32) WHERE seq = 5")
    assert main(["ledger", "export", str(ledger)]) == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert "entry 5 was changed; what cannot be believed was left out" in told.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "no-such.db"], "there is no ledger at no-such.db"),
        (["show", __file__], "cannot be read"),
        (["show", "x", "--limit", "0"], "--limit 1 or more"),
        (["export", "LEDGER", "-o", "/no/such/folder/out"], "cannot be written (No such file or directory)"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(ledger: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(["ledger", *(str(ledger) if word == "LEDGER" else word for word in arguments)]) == 1
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
