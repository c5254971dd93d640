"""Writes ``requirements/*.txt`` from ``pyproject.toml``: every version pinned, every file's hash, no index address.

What we depend on, and why, is said once, in ``pyproject.toml``; these files only say which versions were tried. *terminal* runs on a
vehicle; *voice* also renders the spoken words when a terminal's files are built; *backoffice* is the city's server; *demo* is both, and
*dev* also tests. The largest is solved first and holds the others to its versions; *peer-cwt*, which never shares an environment with them,
is solved alone. ``make pins`` (it needs the network; nothing else here
does).

The pip configuration of the machine is left out on purpose: a mirror or a folder of wheels would bring its own hashes.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of pins: its name, what it is for, and what it asks for."""

    name: str
    purpose: str
    wants: tuple[str, ...]


def layers(project: str) -> tuple[Layer, ...]:
    """The layers that the text of a ``pyproject.toml`` asks for, smallest first."""
    said = tomllib.loads(project)
    # The build backend is pinned too: our own package is installed without fetching one. PEP 660 with hatchling needs `editables`.
    build = (*said["build-system"]["requires"], "editables")
    terminal = (*build, *said["project"]["dependencies"])
    extras = said["project"]["optional-dependencies"]
    voice = (*terminal, *extras["voice"])
    backoffice = (*terminal, *extras["backoffice"])
    demo = (*voice, *extras["backoffice"], *extras["token"])
    dev = (*demo, *said["dependency-groups"]["dev"])
    return (
        Layer("terminal", "what runs on a vehicle, and no more", terminal),
        Layer("voice", "terminal, and what renders the spoken words when its files are built", voice),
        Layer("backoffice", "the city's server", backoffice),
        Layer("demo", "voice and backoffice, and what speaks to a token", demo),
        Layer("dev", "demo, and what tests, checks and measures", dev),
    )


def peer(project: str) -> Layer:
    """The stranger that tests run in an environment of its own."""
    wants = tomllib.loads(project)["dependency-groups"]["peer-cwt"]
    return Layer("peer-cwt", "another COSE implementation, in an environment of its own, that tests talk to", tuple(wants))


def main() -> int:
    """Write the files."""
    project = (ROOT / "pyproject.toml").read_text()
    with tempfile.TemporaryDirectory() as scratch:
        limits = Path(scratch, "limits.txt")
        limits.write_text("")
        _write(peer(project), limits, Path(scratch))
        for layer in reversed(layers(project)):
            pins = _write(layer, limits, Path(scratch))
            limits.write_text("".join(line.split(" ")[0] + "\n" for line in pins.splitlines() if not line.startswith(" ")))
    return 0


def _write(layer: Layer, limits: Path, scratch: Path) -> str:
    print(f"solving {layer.name} …", flush=True)
    pins = _solve(layer, limits, scratch)
    (FOLDER / f"{layer.name}.txt").write_text(_head(layer, pins, scratch) + pins)
    return pins


def _solve(layer: Layer, limits: Path, scratch: Path) -> str:
    wants = scratch / f"{layer.name}.in"
    wants.write_text("\n".join(layer.wants) + "\n")
    out = scratch / f"{layer.name}.txt"
    flags = "--generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet"
    command = [sys.executable, "-m", "piptools", "compile", *flags.split(), "-c", str(limits), "-o", str(out), str(wants)]
    subprocess.run(command, check=True, cwd=scratch, env=_plain_pip())
    return out.read_text()


def _head(layer: Layer, pins: str, scratch: Path) -> str:
    count = sum(not line.startswith((" ", "#")) for line in pins.splitlines())
    return (
        f"# {layer.name}: {layer.purpose}. Written by `make pins` from pyproject.toml; do not edit.\n"
        f"# {count} packages, {_megabytes(layer, pins, scratch)} MB to fetch (CPython 3.11, x86-64).\n"
    )


def _megabytes(layer: Layer, pins: str, scratch: Path) -> int:
    """What a new machine fetches, by fetching it."""
    wanted = scratch / f"{layer.name}-pins.txt"
    wanted.write_text(pins)
    fetched = scratch / layer.name
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-d", str(fetched), "-r", str(wanted)]
    subprocess.run(command, check=True, env=_plain_pip())
    return round(sum(path.stat().st_size for path in fetched.iterdir()) / 1e6)


def _plain_pip() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name in {"PIP_CERT", "PIP_DEFAULT_TIMEOUT"}}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


if __name__ == "__main__":
    sys.exit(main())
