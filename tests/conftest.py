"""What every test may ask for: a proof that runs small here and in full under ``make prove``."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing about the product: speed lives in `make bench`.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

ROOT = Path(__file__).parent.parent
PACKAGES = ("drivers", "ledger", "fares", "validator", "backoffice", "firmware")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--prove", action="store_true", help="run the full numbers; resumable, remembered in .prove/")
    parser.addoption("--reader", help="address of a real reader on the desk, e.g. pn532:/dev/ttyS1@921600")


class Proof:
    """Seeds for one proof: few in a test, all of them under ``make prove``, where a finished seed is not run again for the same code.

    A test that is marked ``prove(parts=N)`` is N tests under ``make prove``, each with its share of the seeds, for two workers to run.
    """

    def __init__(self, name: str, *, full: bool, part: int = 0, parts: int = 1) -> None:
        self.full = full
        self._part, self._parts = part, parts
        self._done_file = ROOT / ".prove" / f"{name}.json"

    def seeds(self, small: int, full: int) -> Iterator[int]:
        """Yield 0, 1, … ; stop a proof at any time and start it again: it goes on where it was."""
        if not self.full:
            yield from range(small)
            return
        code = _code_hash()
        start, end = (full * each // self._parts for each in (self._part, self._part + 1))
        step = max(1, (end - start) // 100)
        if self._done_file.exists():
            state = json.loads(self._done_file.read_text())
            start = state["next"] if state["code"] == code else start
        self._done_file.parent.mkdir(exist_ok=True)
        for seed in range(start, end):
            yield seed
            if (seed + 1) % step == 0 or seed + 1 == end:
                self._done_file.write_text(json.dumps({"code": code, "next": seed + 1, "of": end}))


def _code_hash() -> str:
    total = hashlib.sha256()
    for folder in (*PACKAGES, "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".toml", ".sql"}:
                total.update(path.relative_to(ROOT).as_posix().encode())
                total.update(path.read_bytes())
    return total.hexdigest()


@pytest.fixture
def proof(request: pytest.FixtureRequest) -> Proof:
    """The numbers of this proof (``proof.seeds(small=…, full=…)``); the test is marked ``prove``."""
    name = request.node.nodeid.replace("/", "_").replace("::", "-")
    part, parts = getattr(request, "param", (0, 1))
    return Proof(name, full=bool(request.config.getoption("--prove")), part=part, parts=parts)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("prove")
    parts = marker.kwargs.get("parts", 1) if marker and metafunc.config.getoption("--prove") else 1
    if parts > 1:
        metafunc.parametrize("proof", [(part, parts) for part in range(parts)], indirect=True, ids=lambda each: f"part{each[0] + 1}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--reader"):
        for item in items:
            if item.get_closest_marker("real"):
                item.add_marker(pytest.mark.skip(reason="needs a reader on the desk: --reader pn532:/dev/ttyS1@921600"))
