"""``kazashi health``: try everything once, then tell the boot loader that this system may stay."""

import argparse
import logging
from pathlib import Path

from firmware import compose
from firmware.config import load
from firmware.failure import Failure
from firmware.health import PATIENCE_S, examine
from firmware.log import begin as begin_log


def arguments(parser: argparse.ArgumentParser) -> None:
    """``--config`` as for every command of the vehicle, and where it may write."""
    parser.description = (
        "Wait until the screen has drawn and the station takes cards, pay one ride with an emulated card, verify the ledger; when all of "
        "that is well, mark this slot as good. After an update that fails here the machine starts again with the system before it."
    )
    parser.add_argument(
        "--config", type=Path, action="append", required=True, metavar="FILE", help="configuration; repeat for layers, later ones win"
    )
    parser.add_argument("--data", type=Path, default=Path("/data/health"), metavar="FOLDER", help="where the self-test writes")
    parser.add_argument("--run", type=Path, default=Path("/run/kazashi/health"), metavar="FOLDER", help="where a restart is asked for")
    parser.add_argument("--patience", type=int, default=PATIENCE_S, metavar="SECONDS", help="for the other processes; default %(default)s")


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all is well and the slot is marked good; raises ``Failure`` with everything that is not."""
    begin_log()
    logging.getLogger("validator").setLevel(logging.WARNING)  # the self-test's tap must not look like a rider's
    reason = compose.why_not(options.config)
    config = load(options.config) if reason is None else None
    faults = examine(compose.open_health(config, options.data, options.run), options.patience)
    if faults:
        raise Failure("\n".join(faults))
    print("the screen draws, the station takes cards, a tap was paid, the ledger is whole: this system is marked good")
    return 0
