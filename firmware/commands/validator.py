"""``kazashi validator``: the tap validator of one vehicle, until SIGTERM or Ctrl-C."""

import argparse
import gc
import logging
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from firmware import compose
from firmware.config import Config, load
from firmware.failure import LedgerUnusable
from firmware.log import begin as begin_log
from firmware.power import State
from validator.standby import Reason

_SCREEN_REST_S = 2.0
_START_ANEW = 75  # EX_TEMPFAIL (sysexits.h)


def arguments(parser: argparse.ArgumentParser) -> None:
    """``--config`` once for the vehicle's file, or twice: the city's, then the vehicle's."""
    parser.description = "Run the tap validator of one vehicle. SIGTERM closes it in good order; the next start goes on with the same trip."
    parser.add_argument(
        "--config", type=Path, action="append", required=True, metavar="FILE", help="configuration; repeat for layers, later ones win"
    )
    parser.add_argument("--no-screen", action="store_true", help="do not start the screen-and-sound process")
    parser.add_argument("--off", type=Path, metavar="FILE", help="make this file when the ignition's line is off and all is on the disk")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="where the screen listens (default: a private folder)")


def run(options: argparse.Namespace) -> int:
    """Exit status 0 after an orderly end, 75 when it is to be started anew.

    That is when the vehicle is fed again after its end was recorded, and when what kept it from taking cards is over.
    """
    begin_log()
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _: stopped.append(given))
    reason = compose.why_not(options.config)
    if reason is not None:
        return _stand_by(options, reason, stopped)
    config = load(options.config)
    with tempfile.TemporaryDirectory(prefix="kazashi-") as folder:
        socket = options.socket or Path(folder) / "screen"
        screen = None if options.no_screen else _Screen(config, socket)
        try:
            left = _serve(config, socket, screen, stopped)
        except LedgerUnusable as unusable:
            if not compose.is_unit(options.config):
                raise
            logging.getLogger(__name__).warning("%s; no card is taken until it can be", unusable)
            return _stand_by(options, Reason.UNWRITABLE, stopped)
        finally:
            if screen is not None:
                screen.stop()
    if left is State.OFF and options.off is not None:
        os.sync()  # the ledger is closed now
        options.off.touch()
    return _START_ANEW if left is State.AGAIN else 0


def _stand_by(options: argparse.Namespace, reason: Reason, stopped: list[int]) -> int:
    """Take no card and say why, until the reason is gone; then it is to be started anew."""
    overseer, link = compose.open_overseer(), compose.screen_link(options.socket or Path(tempfile.gettempdir()) / "screen")
    try:
        with compose.open_standby(options.config, reason, link) as standby:

            def go_on() -> bool:
                overseer.turned(reason.value, works=standby.works)
                return not stopped

            return _START_ANEW if standby.run(go_on) else 0
    finally:
        link.close()


def _serve(config: Config, socket: Path, screen: "_Screen | None", stopped: list[int]) -> State:
    link = compose.screen_link(socket)
    overseer = compose.open_overseer()
    with compose.open_station(config, link) as station:
        power = compose.open_power(config, station)
        # Whatever was made by now lives as long as the process: the collector need not look at it again in the middle of a tap.
        gc.collect()
        gc.freeze()
        compose.take_precedence()

        def go_on() -> bool:
            if screen is not None:
                screen.look_after()
            overseer.turned(station.status, works=station.reader_answers)
            if power is not None:
                power.turn()
            return not stopped and not (power is not None and power.ended)

        station.run(go_on)
        overseer.stopping("closes the shift")
    link.close()
    return power.state if power is not None else State.FED


class _Screen:
    """The screen-and-sound process: started, and started again when it dies, but not more often than every two seconds."""

    def __init__(self, config: Config, socket: Path) -> None:
        self._config = config
        self._socket = socket
        self._process: subprocess.Popen[bytes] = compose.start_screen(config, socket)
        self._look_at_s = 0.0

    def look_after(self) -> None:
        now_s = time.monotonic()
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + _SCREEN_REST_S
        if self._process.poll() is not None:
            logging.getLogger(__name__).warning("the screen process ended; it is started again")
            self._process = compose.start_screen(self._config, self._socket)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
