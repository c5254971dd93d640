"""Known vulnerabilities of what is pinned (``audit.py``), and the bill of materials (``audit.py sbom``).

**The audit** asks pip-audit about every pin of ``requirements/``. It needs the vulnerability service of the package index, which a
workshop, a mirror or a ministry's network may not reach; and a mirror that knows no vulnerabilities answers "not found", of which pip-audit
makes "No known vulnerabilities". So only what was really answered counts as asked. What was not is said, with exit status 0, because a
check that fails without a network would be switched off. A few pins are asked about first, so that this takes a second. A vulnerability is
exit status 1.

**The bill of materials** is CycloneDX 1.6 in ``build/sbom.json``: every pin with its hashes, the licence its own metadata names (where it
is installed here), and the files that pin it, so that a city can see what runs on a vehicle (``terminal``). Equal pins, equal bytes.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "requirements"
SBOM = ROOT / "build" / "sbom.json"
NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562, section 6.6: names that are URLs
AUDIT_LIMIT_S = 240
PROBE = 3
NOT_OURS_TO_MEND: Mapping[str, str] = {}
"""Vulnerabilities that do not touch us, each under its id with the reason; looked at again with each release."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned distribution, its SHA-256 hashes, and the layers (files of requirements/) that pin it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What the service said: of which pins it knew something, of which it did not, and what it knows to be wrong."""

    asked: tuple[str, ...]
    not_asked: tuple[str, ...]
    found: tuple[str, ...]


def main(wanted: Sequence[str]) -> int:
    """``[]``: the audit; ``["sbom"]``: the bill of materials."""
    pins = read_pins({path.stem: path.read_text(encoding="utf-8") for path in sorted(PINS.glob("*.txt"))})
    match list(wanted):
        case []:
            return _audit(pins)
        case ["sbom"]:
            SBOM.parent.mkdir(exist_ok=True)
            SBOM.write_text(bill(pins, _version(), _licence), encoding="utf-8")
            print(f"{SBOM.relative_to(ROOT)}: {len(pins)} components")
            return 0
        case _:
            print("audit: say nothing (known vulnerabilities), or sbom (the bill of materials)", file=sys.stderr)
            return 2


def read_pins(layers: Mapping[str, str]) -> tuple[Pin, ...]:
    """The pins of these files (name of the layer → text), by name and version."""
    seen: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for layer, text in layers.items():
        for line in text.replace("\\\n", " ").splitlines():
            if match := re.match(r"([\w.-]+)==(\S+)", line):
                hashes, where = seen.setdefault((match[1].lower(), match[2]), (set(), set()))
                hashes.update(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
                where.add(layer)
    return tuple(
        Pin(name, version, tuple(sorted(hashes)), tuple(sorted(where))) for (name, version), (hashes, where) in sorted(seen.items())
    )


# --- known vulnerabilities --------------------------------------------------------------------------------------------------------------


def _audit(pins: Sequence[Pin]) -> int:
    audit = _asked(pins[:PROBE])
    if audit is not None and audit.asked:
        audit = _asked(pins)
    for line in verdict(audit, len(pins)):
        print(line)
    return 1 if audit is not None and audit.found else 0


def _asked(pins: Sequence[Pin]) -> Audit | None:
    answer = _ask(pins)
    return None if answer is None else read_answer(answer)


def _ask(pins: Sequence[Pin]) -> str | None:
    """pip-audit's answer as JSON; None when it could not ask. A package that is pinned twice is asked about in two questions."""
    rounds: list[dict[str, Pin]] = []
    for pin in pins:
        free = next((known for known in rounds if pin.name not in known), None)
        if free is None:
            rounds.append(free := {})
        free[pin.name] = pin
    dependencies: list[object] = []
    for known in rounds:
        answer = _ask_once("".join(f"{pin.name}=={pin.version}\n" for pin in known.values()))
        if answer is None:
            return None
        dependencies += cast("list[object]", answer["dependencies"])
    return json.dumps({"dependencies": dependencies})


def _ask_once(requirements: str) -> dict[str, object] | None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(requirements)
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--no-deps", "--disable-pip", "--format", "json"]
        try:
            told = subprocess.run(
                [*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=AUDIT_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return None
    try:
        return cast("dict[str, object]", json.loads(told.stdout))
    except json.JSONDecodeError:
        return None


def read_answer(text: str) -> Audit:
    """What pip-audit's JSON says."""
    asked: list[str] = []
    not_asked: list[str] = []
    found: list[str] = []
    for dependency in cast("list[dict[str, object]]", json.loads(text)["dependencies"]):
        name = f"{dependency['name']} {dependency.get('version', '')}".strip()
        if "skip_reason" in dependency:
            not_asked.append(str(dependency["name"]))
            continue
        asked.append(name)
        for known in cast("list[dict[str, object]]", dependency["vulns"]):
            if str(known["id"]) not in NOT_OURS_TO_MEND:
                mended = ", ".join(map(str, cast("list[object]", known["fix_versions"]))) or "no version yet"
                found.append(f"{name}: {known['id']}, mended in {mended}")
    return Audit(tuple(asked), tuple(not_asked), tuple(found))


def verdict(audit: Audit | None, pins: int) -> Iterator[str]:
    """What to print. ``audit`` None: the service was not reached."""
    if audit is None:
        yield f"dependency audit: not asked, no network (or no vulnerability service behind it); {pins} pins were not looked up"
        return
    if not audit.asked:
        yield f"dependency audit: not asked, what answers here knows none of our {pins} pins (a mirror?); ask where the index answers"
        return
    yield from (f"dependency audit: {line}" for line in audit.found)
    if audit.not_asked:
        yield f"dependency audit: nobody knew {', '.join(audit.not_asked)}"
    yield f"dependency audit: {len(audit.asked)} of {pins} pins asked about, {len(audit.found)} known vulnerabilities"


# --- the bill of materials --------------------------------------------------------------------------------------------------------------


def bill(pins: Sequence[Pin], version: str, licence: Callable[[str, str], str]) -> str:
    """CycloneDX 1.6 as JSON (ECMA-424). ``licence(name, version)``: an SPDX expression, a licence's name, or nothing."""
    return document([component(pin, licence(pin.name, pin.version)) for pin in pins], version)


def document(components: Sequence[Mapping[str, object]], version: str) -> str:
    """CycloneDX 1.6 as JSON: Kazashi in this version, made of these components (each with a ``bom-ref``). Equal components, equal bytes."""
    said: dict[str, object] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "kazashi",
                "name": "kazashi",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": "kazashi", "dependsOn": [str(each["bom-ref"]) for each in components]}],
    }
    number = uuid.uuid5(NAMESPACE, json.dumps(said, sort_keys=True))
    return (
        json.dumps({"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "serialNumber": f"urn:uuid:{number}", **said}, indent=1)
        + "\n"
    )


def _licence(name: str, version: str) -> str:
    """What a distribution's own metadata names; empty when it is not installed here in this version, or says nothing."""
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    if about["Version"] != version:
        return ""
    said = {field: [str(text) for text in about.get_all(field) or []] for field in ("License-Expression", "Classifier", "License")}
    classified = [line.rpartition(" :: ")[2] for line in said["Classifier"] if line.startswith("License :: ")]
    texts = [*said["License-Expression"], ", ".join(classified), *said["License"]]
    return next((text.strip().splitlines()[0][:80] for text in texts if text.strip()), "")


def component(pin: Pin, licence: str) -> dict[str, object]:
    """One pin as a component."""
    purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', pin.name)}@{pin.version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": pin.name,
        "version": pin.version,
        "purl": purl,
        # Any of these files may be what is installed: the index has one for each kind of machine.
        "hashes": [{"alg": "SHA-256", "content": content} for content in pin.hashes],
        **({"licenses": [{"license": {"name": licence}}]} if licence else {}),
        "properties": [{"name": "kazashi:layer", "value": layer} for layer in pin.layers],
    }


def _version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
