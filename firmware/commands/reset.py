"""``kazashi reset``: make a unit nobody again, when all that it knows alone is on a stick."""

import argparse
import sys
from pathlib import Path
from typing import cast

from firmware import compose
from firmware.config import load
from firmware.failure import Failure


def arguments(parser: argparse.ArgumentParser) -> None:
    """The unit, and the stick."""
    parser.description = (
        "Close the ledger with a last entry, write to a stick everything that the city has not signed for, and then erase who this unit "
        "is: its keys, its rules, its ledger. Stop the station and the courier first. It asks twice, and it can be cut off at any moment."
    )
    parser.epilog = "Afterwards tell the city (`kazashi backoffice revoke NAME`), and carry the stick there (`kazashi backoffice take`)."
    parser.add_argument("stick", type=Path, metavar="STICK", help="a folder on the stick")
    parser.add_argument(
        "--config", type=Path, action="append", required=True, metavar="FILE", help="configuration; repeat for layers, later ones win"
    )
    parser.add_argument("--data", type=Path, default=Path("/data"), metavar="FOLDER", help="the data partition; default %(default)s")


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when nothing of the unit is left here."""
    data, stick = cast("Path", options.data), cast("Path", options.stick)
    if compose.reset_begun(data):
        compose.finish_reset(data)
        print(f"{data}: what was begun is finished; this unit is nobody")
        return 0
    config = load(options.config)
    if not stick.is_dir():
        raise Failure(f"{stick}: is no folder; name one on the stick")
    _ask(f"This erases {config.vehicle}, terminal {config.terminal}. Write the vehicle's name to go on: ", config.vehicle)
    written = compose.close_ledger(config, stick)
    print(f"{stick}: {written} files with all that the city has not signed for, read back and whole")
    _ask(f"From here there is no way back. Write how many files are on the stick ({stick}): ", str(written))
    compose.finish_reset(data)
    print(f"{data}: this unit is nobody. Carry the stick to the city, and have {config.vehicle} revoked there.")
    return 0


def _ask(question: str, wanted: str) -> None:
    print(question, end="", flush=True)
    if sys.stdin.readline().strip() != wanted:
        print()
        raise Failure("that is not what was asked for; nothing was erased")
