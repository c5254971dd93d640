"""Programs that we run: one way to start them, one way to say that they failed."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ImageFailure(Exception):
    """What went wrong, in a sentence that says what to do."""


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, limit_s: float = 900) -> str:
    """A program's standard output; raises ``ImageFailure`` with its last lines when it fails, is missing, or takes too long.

    ``env`` is added to ours. The programs see the C locale and UTC, whatever the machine's are.
    """
    words = [str(word) for word in command]
    try:
        told = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(env or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise ImageFailure(f"{words[0]} is not installed here; run `tools/set_up image`") from None
    except subprocess.TimeoutExpired:
        raise ImageFailure(f"{words[0]} was not done after {limit_s:.0f} s and was stopped; try again on a quieter machine") from None
    if told.returncode:
        last = "\n".join((told.stdout + told.stderr).strip().splitlines()[-15:])
        raise ImageFailure(f"{last}\n{words[0]} failed with exit status {told.returncode}; above is what it said last")
    return told.stdout
