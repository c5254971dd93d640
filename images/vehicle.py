"""A vehicle for tests and for ``make image-run``: its data partition's first content, a rider's card, a reader.

All of it is made with the desk's own commands.
"""

import shutil
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from images import disk
from images.command import ImageFailure, run

_UNIT = """\
# A vehicle that exists in tests only.
format = 1

[terminal]
number = 12
vehicle = "minato-12"

[reader]
address = "{reader}"

[rules]
table = "rules/town.table"
operator = "/usr/share/kazashi/operator.toml"
scheme = "/usr/lib/kazashi/fares/schemes/silver_emica.toml"

[keys]
file = "keys/station/station.keys"

[ledger]
file = "/data/ledger/ledger"

[duty]
routes = ["M1", "M2", "G1"]

[keypad]
device = "{keypad}"
mapping = "/usr/share/kazashi/keypad.toml"
"""
DATE = 1_780_000_000
"""When a test's data partition was made, Unix seconds: 28 May 2026."""
USB_READER = "pn532:/dev/ttyUSB0@921600"
USB_KEYPAD = "/dev/kazashi/keypad"


def kazashi(root: Path, *words: str | Path) -> str:
    """One of our commands, here on the desk."""
    return run((sys.executable, "-m", "firmware.cli", *words), cwd=root)


def furnish(root: Path, data: Path, desk: Path, *, reader: str = USB_READER, keypad: str = USB_KEYPAD) -> None:
    """Put into the folder ``data`` what a technician would: who this unit is, its fare table, its card keys.

    ``desk`` keeps the issuer's keys.
    """
    shutil.rmtree(data, ignore_errors=True)
    unit = data / "unit"
    (unit / "rules").mkdir(parents=True)
    (unit / "keys/station").mkdir(parents=True)
    desk.mkdir(parents=True, exist_ok=True)
    keys = desk / "desk.keys"
    if not keys.exists():
        kazashi(root, "card", "keys", "--new", keys)
    kazashi(root, "card", "keys", "--keys", keys, "--terminal", unit / "keys/station/station.keys")
    town = root / "examples/town"
    kazashi(root, "fares", "compile", town, "-o", unit / "rules/town.table", "--operator", town / "operator.toml")
    (unit / "unit.toml").write_text(_UNIT.format(reader=reader, keypad=keypad), encoding="utf-8")
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def card(root: Path, desk: Path, into: Path, *, points: int = 3000) -> None:
    """An issued card with points, as a file that lies on no reader yet."""
    keys = desk / "desk.keys"
    kazashi(root, "card", "new", into)
    kazashi(root, "card", "issue", "--card", into, "--keys", keys)
    kazashi(root, "card", "grant", "--card", into, "--keys", keys, "--points", str(points))


def written_disk(root: Path, image: Path, folder: Path, desk: Path, more: Sequence[Path] = ()) -> Path:
    """The disk as a technician leaves it: the image, and who this unit is. ``more``: files that lie in /data as well."""
    path = folder / "disk.img"
    run(("cp", "--sparse=always", image, path))
    furnish(root, folder / "data", desk)
    for each in more:
        shutil.copyfile(each, folder / "data" / each.name)
    begin, size = disk.partition(path, "data")
    content = folder / "data.img"
    disk.data(size >> 20, DATE, content, folder / "data")
    with path.open("r+b") as file, content.open("rb") as source:
        file.seek(begin)
        shutil.copyfileobj(source, file, 1 << 20)
    content.unlink()
    return path


@contextmanager
def reader_twin(root: Path, tray: Path, link: Path) -> Generator[None]:
    """A PN532 behind the terminal device ``link``; what lies in ``tray`` lies on it."""
    tray.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "firmware.cli", "twin", "pn532", "--tray", str(tray), "--link", str(link)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "ready" not in line:
                raise ImageFailure(f"the emulated reader did not start: {line.strip()}")
            yield
        finally:
            process.terminate()
            process.wait(10)
