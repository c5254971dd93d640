"""The house rules that no linter knows."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from firmware import cli
from firmware.doctor import packages_named

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
LAYERS = ("terminal", "voice", "dev")
COMMANDS = [name for chapter in cli.CONTENTS for name in chapter.commands]

# Written so that they do not find themselves.
UNWANTED = {
    "the folder of one developer": re.compile(r"(?<![\w.~-])/(?:home/[a-z]|root[/]|Users[/]|work[/]|opt/py)"),
    "the address of a package index": re.compile(r"pypi[.]org|pythonhosted[.]org|deb[.]debian[.]org|registry[.]npmjs", re.IGNORECASE),
    "a rule silenced in place": re.compile(r"#\s*no" + r"qa|#\s*type:\s*igno" + r"re(?!\[)|#\s*pyri" + r"ght:"),
    "a thing left to do": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
}


def tracked() -> list[Path]:
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in told.split("\0") if name and (ROOT / name).is_file()]


def pins(layer: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{layer}.txt").read_text()
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def wanted(layer: str) -> list[Requirement]:
    said = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]
    if layer != "terminal":
        said = said + PROJECT["project"]["optional-dependencies"]["voice"]
    if layer == "dev":
        said = said + PROJECT["dependency-groups"]["dev"]
    return [Requirement(text) for text in said]


# --- Names -----------------------------------------------------------------------------------------------------------------------------


def test_no_other_installed_distribution_provides_our_top_level_names() -> None:
    providers = importlib.metadata.packages_distributions()
    assert {name: set(providers.get(name, [])) - {PROJECT["project"]["name"]} for name in PACKAGES} == {name: set() for name in PACKAGES}


def test_no_top_level_name_of_ours_is_one_of_pythons() -> None:
    assert not set(PACKAGES) & sys.stdlib_module_names


def test_tests_are_no_package_and_no_two_test_files_share_a_name() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


# --- What we depend on -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
def test_every_pin_has_its_hashes_and_no_file_names_an_index(layer: str) -> None:
    text = (ROOT / "requirements" / f"{layer}.txt").read_text()
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.!+-]+(\s+--hash=sha256:[0-9a-f]{64})+", line), line
    assert "://" not in text


@pytest.mark.parametrize("layer", LAYERS)
def test_the_pins_answer_what_the_project_asks_for(layer: str) -> None:
    found = pins(layer)
    for requirement in wanted(layer):
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), requirement


def test_the_three_layers_agree_on_every_version() -> None:
    assert pins("terminal").items() <= pins("voice").items() <= pins("dev").items()


def test_what_runs_the_tests_is_what_is_pinned() -> None:
    other = {
        name: version
        for name, version in pins("dev").items()
        if importlib.metadata.version(name) != version and name not in {"pip", "setuptools"}
    }
    assert other == {}, "run tools/set_up test"


def test_every_dependency_stands_under_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for name in ("dependencies", "voice", "dev"):
        (block,) = re.findall(rf"^{name} = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
        assert block.lstrip().startswith("# "), name
    (rules,) = re.findall(r"^ignore = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert [line for line in rules.splitlines() if "# " not in line] == []


def test_every_debian_package_stands_beside_its_reason() -> None:
    lines = [line for line in (ROOT / "apt-packages.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"(demo|test|image) +[a-z0-9.+-]+ +# .+", line)] == []
    assert len(packages_named("\n".join(lines))) == len([line for line in lines if not line.startswith("image")])


# --- What is in the tree -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", UNWANTED)
def test_no_tracked_file_holds(what: str) -> None:
    found = []
    for path in tracked():
        if path.suffix in {".py", ".toml", ".md", ".txt", ".sql", ".in", ".csv", ".service", ".sh", ""}:
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(lines, 1) if UNWANTED[what].search(line)]
    assert found == []


def links() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        if path.suffix == ".md":
            text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'<img src="([^"]+)"', text):
                if "://" not in target and not target.startswith("mailto:"):
                    yield path, target


def test_every_link_between_our_pages_leads_somewhere() -> None:
    assert [f"{page.relative_to(ROOT)} → {target}" for page, target in links() if not (page.parent / target).exists()] == []


def test_every_decision_says_why_what_and_what_follows() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        assert re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name


# --- Floors that the import linter cannot see --------------------------------------------------------------------------------------------


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), ast.parse(path.read_text())


def outside_imports(tree: ast.Module) -> set[str]:
    named = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            named.add(node.module.split(".")[0])
    return named - sys.stdlib_module_names - set(PACKAGES)


def contract(name: str) -> dict[str, Any]:
    contracts: list[dict[str, Any]] = PROJECT["tool"]["importlinter"]["contracts"]
    (found,) = [each for each in contracts if each["name"] == name]
    return found


def test_the_adapters_in_the_contracts_are_the_modules_that_import_an_outside_library() -> None:
    libraries = contract("Outside libraries are met in adapters only")
    adapters = {name for name, tree in modules() if outside_imports(tree)}
    assert adapters == set(libraries["allowed_importers"])
    assert {library for _, tree in modules() for library in outside_imports(tree)} == set(libraries["protected_modules"])


def test_every_adapter_is_closed_to_all_but_a_composition_root() -> None:
    # What meets a pure library and is pure itself, or asks only a connection that it is given, may be imported by whoever speaks of
    # entries, or of tables. Twins have their own contract.
    pure = {"ledger.codec", "ledger.compress", "ledger.strict", "backoffice.schema", "backoffice.histories"}
    adapters = set(contract("Outside libraries are met in adapters only")["allowed_importers"]) - pure
    closed = set(contract("Adapters are imported by a composition root only")["protected_modules"])
    assert {name for name in adapters if not name.startswith("drivers.emulated.")} <= closed


def loaded_by(*names: str, without: str = "-") -> set[str]:
    """The modules that a fresh interpreter holds after importing ``names``, with one package made impossible to import."""
    script = (
        "import sys, importlib\n"
        f"sys.modules[{without!r}] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print('\\n'.join(name for name, module in sys.modules.items() if module))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert told.returncode == 0, told.stderr
    return set(told.stdout.split())


def test_a_terminal_needs_no_back_office() -> None:
    everything = [name for name, _ in modules() if name.split(".")[0] == "firmware" and not name.endswith("__main__")]
    loaded_by(*everything, without="backoffice")


def test_a_vehicle_loads_neither_issuing_nor_synthesiser_nor_twin() -> None:
    loaded = loaded_by("firmware.cli", "firmware.compose", "firmware.commands.validator")
    assert {
        name for name in loaded if name.startswith(("drivers.cards.issuing", "drivers.emulated.", "pyopenjtalk", "backoffice"))
    } == set()


# --- The command -------------------------------------------------------------------------------------------------------------------------


def test_the_table_of_contents_names_every_command_there_is() -> None:
    files = {path.stem for path in (ROOT / "firmware" / "commands").glob("*.py")} - {"__init__"}
    assert files == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    assert stopped.value.code == 0
    assert f"usage: kazashi {name}" in capsys.readouterr().out


def test_help_is_a_table_of_contents(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.main(["--help"]) == 0
    told = capsys.readouterr().out
    for chapter in cli.CONTENTS:
        assert chapter.title in told
        for name, text in chapter.commands.items():
            assert re.search(rf"^  {name} +{re.escape(text)}$", told, re.MULTILINE)


def test_an_unknown_command_is_answered_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fly"]) == 2
    assert capsys.readouterr().err == "kazashi: there is no command 'fly'. `kazashi --help` lists them.\n"


# --- Set-up ------------------------------------------------------------------------------------------------------------------------------


def test_the_second_set_up_does_nothing_and_says_nothing() -> None:
    if not (ROOT / ".venv" / ".set-up-test").exists():
        pytest.skip("these tests do not run in a .venv that tools/set_up made")
    told = subprocess.run(["sh", "tools/set_up", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("", "")


def test_set_up_asks_what_for() -> None:
    told = subprocess.run(["sh", "tools/set_up"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "tools/set_up demo" in told.stderr


def test_make_alone_prints_what_there_is() -> None:
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for goal in ("demo", "test", "prove", "check", "fix", "bench"):
        assert f"make {goal}" in told


def test_a_proof_without_a_part_lists_the_parts() -> None:
    told = subprocess.run(["make", "prove"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "PART=" in told
    assert "mutation" in told
