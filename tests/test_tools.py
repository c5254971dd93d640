"""The scripts in ``tools/``, as far as they decide anything."""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parent.parent / "tools"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PROJECT = """
[build-system]
requires = ["hatchling"]
[project]
dependencies = ["a>=1"]
[project.optional-dependencies]
voice = ["b"]
token = ["t"]
backoffice = ["o"]
[dependency-groups]
dev = ["c"]
"""


def test_each_layer_of_pins_holds_what_it_stands_on() -> None:
    layers = tool("pins").layers(PROJECT)
    assert [(layer.name, layer.wants) for layer in layers] == [
        ("terminal", ("hatchling", "editables", "a>=1")),
        ("voice", ("hatchling", "editables", "a>=1", "b")),
        ("backoffice", ("hatchling", "editables", "a>=1", "o")),
        ("demo", ("hatchling", "editables", "a>=1", "b", "o", "t")),
        ("dev", ("hatchling", "editables", "a>=1", "b", "o", "t", "c")),
    ]


def test_a_change_that_no_test_reaches_or_that_was_not_tried_is_not_noticed() -> None:
    written = json.dumps({"exit_code_by_key": {"killed": 1, "crashed": 3, "timed out": 36, "survived": 0, "no test": 33, "untried": None}})
    score = tool("mutation").score("purse.py", written)
    assert score.unnoticed == ("no test", "survived", "untried")
    assert score.percent == pytest.approx(50)


def test_a_file_on_which_nothing_was_tried_is_below_any_bar() -> None:
    assert tool("mutation").score("purse.py", '{"exit_code_by_key": {}}').percent == 0


@dataclass(frozen=True, slots=True)
class Row:
    figure: str
    value: str
    bar: str
    ok: bool


def test_a_broken_bar_stands_out_in_the_table() -> None:
    table = list(tool("bench")._table([Row("append p50", "1.2 ×", "≤ 1.6 ×", ok=True), Row("whole tap", "1.4 ×", "≤ 1.15 ×", ok=False)]))
    assert table[1].endswith("kept")
    assert table[2].endswith("BROKEN")
    assert {line.index("1") for line in table[1:]} == {table[0].index("measured")}


def test_measuring_what_nobody_measures_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool("bench").main(["the weather"]) == 2
    assert "the weather" in capsys.readouterr().err
