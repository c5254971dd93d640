"""``kazashi update``: the update agent of a unit, and the folder of bundles that the city's server offers."""

import argparse
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

from firmware import compose
from firmware.config import UNIT, Config, load
from firmware.failure import Failure
from firmware.log import begin as begin_log


def arguments(parser: argparse.ArgumentParser) -> None:
    """``run`` on the unit, ``offer`` at the city."""
    parser.description = (
        "A newer system comes from the city's server or from a stick, in parts; RAUC installs it into the other slot; the machine starts "
        "again when no trip is open; and if the new system does not work, the old one is back by itself."
    )
    actions = parser.add_subparsers(required=True, metavar="run|offer")
    running = actions.add_parser("run", help="on the unit: until SIGTERM")
    running.description = "Run the update agent. It may be killed at any moment, and so may the machine."
    running.add_argument("--config", type=Path, action="append", required=True, metavar="FILE", help="configuration; repeat for layers")
    running.add_argument("--data", type=Path, default=Path("/data"), metavar="FOLDER", help="default %(default)s")
    running.add_argument("--run", type=Path, default=Path("/run/kazashi"), metavar="FOLDER", help="default %(default)s")
    running.add_argument(
        "--stick", type=Path, default=Path("/run/kazashi/stick/kazashi-update"), metavar="FOLDER", help="default %(default)s"
    )
    running.add_argument(
        "--manifest", type=Path, default=Path("/usr/share/kazashi/image.json"), metavar="FILE", help="what runs; default %(default)s"
    )
    running.set_defaults(act=_run)
    offering = actions.add_parser("offer", help="at the city: add a bundle to the folder that the server offers")
    offering.description = "Copy a bundle into FOLDER under its hash and list it in index.json; any web server gives it as URL/v1/images/."
    offering.add_argument("bundle", type=Path, metavar="BUNDLE")
    offering.add_argument("folder", type=Path, metavar="FOLDER")
    offering.set_defaults(act=_offer)


def run(options: argparse.Namespace) -> int:
    """Do one of the two."""
    act = cast("Callable[[argparse.Namespace], int]", options.act)
    return act(options)


def _run(options: argparse.Namespace) -> int:
    begin_log()
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _: stopped.append(given))
    updater = compose.open_updater(_config(options.config), options.data, options.run, options.stick, options.manifest)
    overseer = compose.open_overseer()
    stick, seen = cast("Path", options.stick), False

    def go_on() -> bool:
        nonlocal seen
        there = os.access(stick, os.R_OK | os.X_OK)
        if there and not seen:
            updater.hurry()
        seen = there
        overseer.turned(updater.status)
        return not stopped

    updater.run(go_on)
    overseer.stopping("ends")
    return 0


def _config(files: list[Path]) -> Config | None:
    """A unit that is nobody yet has no city; a stick may still bring it a newer system."""
    if any(file.is_dir() and not (file / UNIT).exists() for file in files):
        return None
    try:
        return load(files)
    except Failure as failure:
        logging.getLogger(__name__).warning("%s; only a stick can bring a system", failure)
        return None


def _offer(options: argparse.Namespace) -> int:
    offer = compose.offer_bundle(options.bundle, options.folder)
    print(f"{options.folder}: offers {offer.version} for {offer.compatible}, {offer.size:,} bytes, SHA-256 {offer.digest.hex()}")
    return 0
