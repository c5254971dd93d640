"""Makes ``firmware/self_tap/`` anew: the card, the fare table and the operator's file with which a terminal tries itself."""

import shutil
import tempfile
from pathlib import Path

from drivers.emulated import card_file
from fares import gtfs
from fares.files import open_feed
from fares.table import pack
from firmware.rehearsal import TOWN, Town, tariff
from firmware.selftap import CARD, FOLDER, OPERATOR, SEED, TABLE


def make(folder: Path) -> None:
    """The three files."""
    contents, _ = gtfs.compile_feed(open_feed(TOWN))
    (folder / TABLE).write_bytes(pack(contents))
    shutil.copy(TOWN / "operator.toml", folder / OPERATOR)
    with tempfile.TemporaryDirectory() as scratch:
        (folder / CARD).write_text(card_file.text(Town(Path(scratch), tariff(), seed=SEED).card()), encoding="utf-8")


if __name__ == "__main__":
    make(FOLDER)
