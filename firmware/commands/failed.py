"""``kazashi failed``: a part has given up, and the people around hear it, until SIGTERM.

When it is the station, the screen process lives: it gets the message as from a station, and again when it comes back. When it is the screen
itself, this process takes its place as far as lamp, loudspeaker and glass still work; each that does not is told in the log and left out.
"""

import argparse
import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drivers.devices.display import Display
from firmware import compose
from firmware.commands import screen
from firmware.failure import Failure
from firmware.log import begin as begin_log
from firmware.screen import Screen
from validator.messages import Message, Presenter, Shown

_NAP_S = 0.2
_AGAIN_S = 60.0
_THE_SCREEN = "kazashi-screen"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which unit, and what to say it on."""
    parser.description = "Say on lamp, screen and loudspeaker that a unit of the image has given up; once a minute, until it is ended."
    parser.add_argument("unit", help="the unit without its suffix, such as kazashi-station")
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH", help="where the screen process listens")
    screen.outputs(parser)


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when it was ended."""
    begin_log()
    logging.getLogger(__name__).error("%s has given up; it is not started again until somebody does it or the power was off", options.unit)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _: stopped.append(given))
    if options.unit == _THE_SCREEN:
        _say(_stand_in(options), lambda: not stopped)
        return 0
    link = compose.screen_link(options.socket)
    try:
        _say(link, lambda: not stopped)
    finally:
        link.close()
    return 0


def _say(presenter: Presenter, go_on: Callable[[], bool]) -> None:
    overseer = compose.open_overseer()
    again_s = time.monotonic()
    while go_on():
        if time.monotonic() >= again_s:
            presenter.show(Shown(Message.OUT_OF_ORDER))
            again_s += _AGAIN_S
        overseer.turned("says that the machine is out of order")
        time.sleep(_NAP_S)


def _stand_in(options: argparse.Namespace) -> Screen:
    sound, _ = screen.open_sound(options.sound)
    glass: Display = compose.no_display()
    with suppress(Failure):
        glass = screen.open_glass(options)
    return Screen(compose.wordbook(), glass, sound, compose.open_lamp(options.led), compose.open_clips(options.clips), tell=screen.tell)
