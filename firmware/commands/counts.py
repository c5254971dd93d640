"""``kazashi counts``: add up what is new in this machine's journal, by a closed table, for the courier to tell the city."""

import argparse
from pathlib import Path

from firmware import compose
from firmware.counts import COUNTED


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where the sums are kept."""
    parser.description = (
        "Count what is new in the journal: starts, failures, watchdogs, errors and warnings of each part. The sums since the machine's "
        "start are kept in a file, from which the courier's heartbeats tell the city; no line of the journal leaves this machine."
    )
    parser.add_argument("--file", type=Path, default=COUNTED, metavar="FILE", help="default %(default)s")


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when it was counted; raises ``Failure``."""
    print(compose.count(options.file))
    return 0
