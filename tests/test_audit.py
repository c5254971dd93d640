"""What the audit says when it was answered, half answered or not at all; and the bill of materials, read by a stranger."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

from cyclonedx.model import HashAlgorithm
from cyclonedx.model.bom import Bom

ROOT = Path(__file__).parent.parent
PINS = {
    "terminal": f"a==1 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n",
    "dev": f"a==1 \\\n    --hash=sha256:{'0' * 64}\nb==2\n",
}


def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools_audit", ROOT / "tools" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def answer(*dependencies: dict[str, object]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


def said(text: str | None) -> str:
    tool = audit()
    return "\n".join(tool.verdict(None if text is None else tool.read_answer(text), 2))


def test_without_a_network_the_audit_says_that_it_did_not_ask() -> None:
    assert "not asked, no network" in said(None)


def test_a_mirror_that_knows_nothing_does_not_pass_for_no_vulnerabilities() -> None:
    assert "not asked" in said(answer({"name": "a", "skip_reason": "not found"}, {"name": "b", "skip_reason": "not found"}))


def test_a_vulnerability_is_named_with_the_version_that_mends_it() -> None:
    text = answer({"name": "a", "version": "1", "vulns": [{"id": "GHSA-x", "fix_versions": ["1.1"]}]}, {"name": "b", "skip_reason": "?"})
    assert "a 1: GHSA-x, mended in 1.1" in said(text)
    assert "nobody knew b" in said(text)
    assert "1 of 2 pins asked about, 1 known vulnerabilities" in said(text)


def test_every_pin_is_in_the_bill_with_all_its_hashes_and_layers() -> None:
    tool = audit()
    text = tool.bill(tool.read_pins(PINS), "0.1", lambda name, _version: "MIT" if name == "a" else "")
    bom = Bom.from_json(json.loads(text))
    first, second = sorted(bom.components, key=lambda component: component.name)
    assert (first.name, first.version, str(first.purl)) == ("a", "1", "pkg:pypi/a@1")
    assert {(known.alg, known.content) for known in first.hashes} == {(HashAlgorithm.SHA_256, "0" * 64), (HashAlgorithm.SHA_256, "1" * 64)}
    assert [entry.value for entry in first.properties] == ["dev", "terminal"]
    assert [licence.name for licence in first.licenses] == ["MIT"]
    assert not second.licenses
    assert text == tool.bill(tool.read_pins(PINS), "0.1", lambda name, _version: "MIT" if name == "a" else "")


def test_the_projects_own_pins_make_a_bill() -> None:
    tool = audit()
    layers = {path.stem: path.read_text() for path in (ROOT / "requirements").glob("*.txt")}
    pins = tool.read_pins(layers)
    assert len(pins) > 100
    assert all(pin.hashes for pin in pins)
    assert {"cryptography", "apsw", "cbor2"} <= {pin.name for pin in pins if "terminal" in pin.layers}
