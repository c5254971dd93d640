"""Changes the code in small ways and asks whether a test notices: the purse, the chain, the fare rules.

Which files, and which tests may notice, stands in ``[tool.mutmut]`` in pyproject.toml. A file passes when 85 of 100 changes are noticed
by its own unit tests. Changes that are not noticed are listed, so that somebody can look whether a test is missing or the change means
nothing. mutmut remembers what it has tried in ``mutants/`` and goes on where it was.
"""

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BAR_PERCENT = 85
# Exit codes of a mutant's test run, as mutmut writes them down: 0 = the tests passed; 5 and 33 = no test reaches the place.
UNNOTICED = {0, 5, 33}


@dataclass(frozen=True, slots=True)
class Score:
    """One file: how many changes were tried, and which of them nobody noticed."""

    path: str
    tried: int
    unnoticed: tuple[str, ...]

    @property
    def percent(self) -> float:
        """How many of a hundred changes were noticed."""
        return 100 * (1 - len(self.unnoticed) / self.tried) if self.tried else 0.0


def score(path: str, written: str) -> Score:
    """The score of one file from what mutmut wrote beside it (JSON text); untried changes do not count as noticed."""
    codes: dict[str, int | None] = json.loads(written)["exit_code_by_key"]
    return Score(path, len(codes), tuple(name for name, code in sorted(codes.items()) if code is None or code in UNNOTICED))


def main() -> int:
    """Run, print one line a file, and the changes that nobody noticed; 1 when a file is below the bar."""
    ran = subprocess.run([sys.executable, "-m", "mutmut", "run"], cwd=ROOT, check=False)
    files: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
    written = {path: ROOT / "mutants" / f"{path}.meta" for path in files}
    absent = [path for path, meta in written.items() if not meta.exists()]
    if absent:
        print(f"mutation: nothing was tried on {' '.join(absent)}; what mutmut says is above.", file=sys.stderr)
        return ran.returncode or 1
    scores = [score(path, meta.read_text()) for path, meta in written.items()]
    print()
    for each in scores:
        for name in each.unnoticed:
            print(f"unnoticed: {name}   (mutmut show {name})")
    for each in scores:
        verdict = "kept" if each.percent >= BAR_PERCENT else "BROKEN"
        print(f"{each.path:<26} {each.tried:>5} changes, {each.percent:.1f} % noticed   bar {BAR_PERCENT} %   {verdict}")
    return 0 if all(each.percent >= BAR_PERCENT for each in scores) else 1


if __name__ == "__main__":
    sys.exit(main())
