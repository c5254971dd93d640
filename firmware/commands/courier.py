"""``kazashi courier``: carries a vehicle's ledger to the city, until SIGTERM or Ctrl-C."""

import argparse
import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from firmware import compose
from firmware.config import load
from firmware.log import begin as begin_log
from ledger.courier import Pace

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    """``--config`` once for the vehicle's file, or twice: the city's, then the vehicle's."""
    parser.description = (
        "Send what the vehicle's ledger holds to the city, and lay the city's receipts beside it. It may be killed at any moment; "
        "a second one is refused."
    )
    parser.add_argument(
        "--config", type=Path, action="append", required=True, metavar="FILE", help="configuration; repeat for layers, later ones win"
    )
    parser.add_argument("--at-once", action="store_true", help="do not wait some seconds before the first contact")
    parser.add_argument(
        "--check-key", action="store_true", help="instead: sign something, say where the device's key is (TPM, token or file), then end"
    )
    parser.add_argument(
        "--rotate-key",
        action="store_true",
        help="instead: make the device's next key and announce it in the ledger (stop the validator first), then end",
    )


def run(options: argparse.Namespace) -> int:
    """Exit status 0 after an orderly end."""
    config = load(cast("Sequence[Path]", options.config))
    if options.rotate_key:
        print(f"announced in the ledger: {compose.make_next_key(config)}")
        print("The old key signs until the city has this entry; then the courier takes the new one.")
        return 0
    if options.check_key:
        print(compose.try_the_key(config))
        return 0
    begin_log()
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _: stopped.append(given))
    overseer = compose.open_overseer()
    with compose.open_courier(config, pace=Pace(settle_s=0) if options.at_once else None) as courier:

        def go_on() -> bool:
            overseer.turned(f"{courier.state.value}; {compose.where_the_key_is(courier.equipment.keyring)}")
            return not stopped

        log.info("%s", compose.where_the_key_is(courier.equipment.keyring))
        courier.run(go_on)
        overseer.stopping("ends")
    return 0
