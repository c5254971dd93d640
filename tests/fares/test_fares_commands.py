"""`kazashi fares` and `kazashi scheme`, as a person at a desk uses them."""

from pathlib import Path

import pytest

from fares.table import FareTable
from firmware.cli import main

ROOT = Path(__file__).parents[2]
TOWN = ROOT / "examples" / "town"
OPERATOR = TOWN / "operator.toml"
SILVER = ROOT / "fares" / "schemes" / "silver_emica.toml"


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "town.fares"
    assert main(["fares", "compile", str(TOWN), "-o", str(path), "--operator", str(OPERATOR)]) == 0
    capsys.readouterr()
    return path


def test_compile_writes_a_table_and_reports_the_oddities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "town.fares"
    assert main(["fares", "compile", str(TOWN), "-o", str(path)]) == 0
    told = capsys.readouterr().out
    for part in (
        "57 rules for 56 keys",
        "1 keys with several prices",
        "270 or 300 yen (lines 21 or 22)",
        "1 rideable pairs without a rule",
        "G1-1",
    ):
        assert part in told
    assert FareTable.open(path).digest.hex() in told
    assert [entry.name for entry in tmp_path.iterdir()] == ["town.fares"]


def test_a_feed_with_a_fault_leaves_the_old_table_alone(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = table.read_bytes()
    broken = tmp_path / "broken"
    broken.mkdir()
    for source in TOWN.glob("*.txt"):
        (broken / source.name).write_bytes(source.read_bytes().replace(b",JPY,", b",EUR,"))
    assert main(["fares", "compile", str(broken), "-o", str(table)]) == 1
    assert "fare_attributes.txt, line 2, currency_type: is 'EUR'; only JPY is read." in capsys.readouterr().err
    assert table.read_bytes() == before


def test_an_operators_file_that_does_not_fit_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "operator.toml"
    other.write_text(OPERATOR.read_text(encoding="utf-8").replace('id = "G1"', 'id = "G9"'), encoding="utf-8")
    assert main(["fares", "compile", str(TOWN), "-o", str(tmp_path / "t"), "--operator", str(other)]) == 0
    assert "route 'G9': the fare table has no such route" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fares", "compile", str(TOWN), "-o", str(tmp_path / "no" / "where")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_price_comes_with_its_reasons_and_the_card_pays_points_first(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ride = ["--route", "M1", "--from", "みなと病院", "--to", "磯の湯温泉", "--date", "2026-06-01"]
    assert main(["fares", "price", str(table), *ride, "--operator", str(OPERATOR), "--scheme", str(SILVER), "--points", "200"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "M1 みさき線 岬公園ゆき"
    assert told[2:] == [
        "   +270 yen  1 × adult, みなと病院 to 磯の湯温泉, 270 yen each (the table has 270 and 300; the operator's rule took this one)",
        "   -200 yen  200 points from the card, 1 yen each",
        "     70 yen  in cash",
    ]


def test_a_child_is_priced_by_the_tables_only_class(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fares", "price", str(table), "--route", "M1", "--from", "eki_1", "--to", "misaki_1", "--child"]) == 0
    assert "200 yen  in all" in capsys.readouterr().out


def test_a_pair_without_a_rule_has_no_price_and_the_exit_status_says_so(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fares", "price", str(table), "--route", "M1", "--from", "港町商店街", "--to", "磯の湯温泉"]) == 1
    assert "no price: the feed has no rule for this pair" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["--route", "M8", "--from", "a", "--to", "b"], "has no route 'M8' (it has M1, M2, G1)"),
        (["--route", "G1", "--from", "町役場前", "--to", "みなと駅"], "several of that name; name one of yakuba_1, yakuba_2"),
        (["--route", "M1", "--from", "月", "--to", "みなと駅"], "no stop with this id or name"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(table: Path, given: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fares", "price", str(table), *given]) == 1
    assert part in capsys.readouterr().err


def test_a_scheme_that_holds_and_one_that_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scheme", "check", str(SILVER)]) == 0
    assert "15 examples hold" in capsys.readouterr().out
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(SILVER.read_text(encoding="utf-8").replace("age = 65", "age = 70"), encoding="utf-8")
    assert main(["scheme", "check", str(wrong), str(tmp_path / "none.toml"), str(SILVER)]) == 1
    told = capsys.readouterr()
    assert "wrong.toml: refused" in told.err
    assert "expected eligible True, the rules give False" in told.err
    assert "there is no such file" in told.err
    assert "15 examples hold" in told.out
