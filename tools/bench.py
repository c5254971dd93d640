"""Measures the bars of ``make bench`` and says whether they are kept: a table here, the same rows in ``build/bench.json``.

Each ``tests/bench/bench_*.py`` gives ``rows()``: what was measured, on this machine, in this run. A bar is a ratio to something measured in
the same run wherever it can be, so that a slow machine is not a failure. ``make bench ARGS=ledger`` measures one file.
"""

import importlib.util
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "bench"


class Row(Protocol):
    """One figure: its name, its value and its bar as a person reads them, and whether the bar is kept."""

    @property
    def figure(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def bar(self) -> str: ...
    @property
    def ok(self) -> bool: ...


class _Bench(Protocol):
    def rows(self) -> list[Row]: ...


def main(wanted: list[str]) -> int:
    """Measure, print and write; 1 when a bar is broken."""
    sys.path.insert(0, str(FOLDER))
    measured: list[Row] = []
    for path in sorted(FOLDER.glob("bench_*.py")):
        if not wanted or path.stem.removeprefix("bench_") in wanted:
            print(f"measuring {path.stem.removeprefix('bench_')} …", file=sys.stderr, flush=True)
            measured += _load(path).rows()
    if not measured:
        print(f"bench: nothing to measure is called {' '.join(wanted)} in tests/bench.", file=sys.stderr)
        return 2
    print("\n".join(_table(measured)))
    _write(measured)
    return 0 if all(row.ok for row in measured) else 1


def _load(path: Path) -> _Bench:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return cast("_Bench", module)


def _table(rows: list[Row]) -> Iterator[str]:
    cells = [("figure", "measured", "bar", ""), *((row.figure, row.value, row.bar, "kept" if row.ok else "BROKEN") for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _write(rows: list[Row]) -> None:
    out = ROOT / "build" / "bench.json"
    out.parent.mkdir(exist_ok=True)
    said = [{"figure": row.figure, "value": row.value, "bar": row.bar, "ok": row.ok} for row in rows]
    about = {"python": platform.python_version(), "machine": platform.machine(), "kernel": platform.release()}
    out.write_text(json.dumps({"machine": about, "rows": said}, ensure_ascii=False, indent=1) + "\n")
    print(f"also in {out.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
