"""The build as steps: each is named and timed, and is left out when what it depends on has not changed.

A step's result stands beside a stamp, the hash of its inputs (values, and files by their content). The stamp is removed before a step
starts and written when it is done, so a build that was broken off never leaves a half result that looks whole.
"""

import hashlib
import json
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path


def digest_of(*values: object) -> str:
    """SHA-256 of values; a ``Path`` stands for its content: a file's bytes, or all the names, modes and bytes below a folder."""
    total = hashlib.sha256()
    for value in values:
        if isinstance(value, Path):
            for path in _files(value):
                total.update(f"{path.relative_to(value)}\0{_kind(path)}\0".encode())
                total.update(hashlib.sha256(_content(path)).digest())
        else:
            total.update(repr(value).encode())
        total.update(b"\1")
    return total.hexdigest()


def _files(path: Path) -> Iterable[Path]:
    return sorted(each for each in path.rglob("*") if "__pycache__" not in each.parts) if path.is_dir() else (path,)


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    return f"{stat.S_IFMT(mode):o}{mode & 0o111:o}"


def _content(path: Path) -> bytes:
    if path.is_symlink():
        return str(path.readlink()).encode()
    return path.read_bytes() if path.is_file() else b""


@dataclass(slots=True)
class Steps:
    """A running build. ``seconds``: what each step that was not left out took."""

    say: Callable[[str], object]
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    kept: list[str] = field(default_factory=list[str])

    def step(self, name: str, result: Path, inputs: str, make: Callable[[], str]) -> None:
        """Have ``result`` made by ``make`` unless it is there and was made of ``inputs`` (``digest_of``). ``make`` returns a remark."""
        stamp = result.with_name(result.name + ".made-of")
        if result.exists() and stamp.exists() and stamp.read_text() == inputs:
            self.kept.append(name)
            self.say(f"  {name:<10} as before")
            return
        stamp.unlink(missing_ok=True)
        start_s = time.monotonic()
        remark = make()
        self.seconds[name] = round(time.monotonic() - start_s, 2)
        stamp.write_text(inputs)
        self.say(f"  {name:<10} {self.seconds[name]:6.1f} s  {remark}")

    def report(self, path: Path, **facts: object) -> None:
        """Write the times and these facts as JSON."""
        path.write_text(json.dumps({"seconds": self.seconds, "as_before": self.kept, **facts}, indent=1) + "\n", encoding="utf-8")
