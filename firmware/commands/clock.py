"""``kazashi clock``: who vouches for this machine's clock, asked every quarter of a minute, until SIGTERM or Ctrl-C."""

import argparse
import signal
import threading
from pathlib import Path

from firmware import compose

_EVERY_S = 15.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where the word is left."""
    parser.description = (
        "Ask chrony and gpsd how far the wall clock can be trusted, and leave the word where every process of this machine reads it."
    )
    parser.add_argument("--told", type=Path, default=Path("/run/kazashi/clock/told"), metavar="FILE", help="default %(default)s")
    parser.add_argument("--once", action="store_true", help="ask once, print the word, and end")


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when it was ended; raises ``Failure`` when the word cannot be left."""
    if options.once:
        print(compose.vouch(options.told))
        return 0
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopped.set())
    overseer = compose.open_overseer()
    while not stopped.is_set():
        overseer.turned(f"the clock is vouched for by: {compose.vouch(options.told)}")
        stopped.wait(_EVERY_S)
    overseer.stopping("ends")
    return 0
