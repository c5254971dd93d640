"""``kazashi screen``: the screen-and-sound process, until Esc, SIGTERM or Ctrl-C.

It may be started before the station or after it, and killed at any time; what is on the screen then comes back with its next start. Until a
station has spoken it shows that no card is taken yet.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from drivers.devices.display import Display
from drivers.devices.sound import Sound
from firmware import compose
from firmware.failure import Failure
from firmware.screen import Screen, serve
from validator.messages import Message


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where it listens, and what it shows and sounds on."""
    parser.description = "Shows and sounds what the station sends."
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH", help="where the station sends to")
    parser.add_argument(
        "--alone",
        type=Message,
        choices=(Message.NO_TRIP, Message.WELCOME),
        default=Message.NO_TRIP,
        metavar="no_trip|welcome",
        help="what it shows while no station is there",
    )
    outputs(parser)


def outputs(parser: argparse.ArgumentParser) -> None:
    """Glass, loudspeaker and lamp."""
    parser.add_argument("--size", type=_size, default=(800, 480), metavar="WxH", help="of the window or the pictures; default 800x480")
    parser.add_argument("--whole-screen", action="store_true", help="no window")
    parser.add_argument("--framebuffer", type=Path, metavar="DEVICE", help="draw on this panel, such as /dev/fb0, instead of in a window")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write pictures instead of opening a window")
    parser.add_argument("--sound", default="on", metavar="on|off|FILE.wav", help="default on")
    parser.add_argument("--clips", type=Path, default=compose.CLIPS, metavar="FOLDER", help="rendered words")
    parser.add_argument("--led", type=Path, nargs=3, default=(), metavar=("RED", "GREEN", "BLUE"), help="folders in /sys/class/leds")


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when it was ended; raises ``Failure`` when there is no screen or no font."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _: stopped.append(given))
    sound, finish = open_sound(options.sound)
    overseer = compose.open_overseer()
    screen = Screen(
        compose.wordbook(),
        open_glass(options),
        sound,
        compose.open_lamp(options.led),
        compose.open_clips(options.clips),
        tell=tell,
        dim=compose.open_backlight() if options.framebuffer else lambda _dimmed: None,
        alone=options.alone,
    )

    def stop() -> bool:
        overseer.turned(screen.status)
        return bool(stopped)

    serve(screen, options.socket, stop)
    overseer.stopping("ends")
    finish()
    return 0


def open_glass(options: argparse.Namespace) -> Display:
    """The display that the options name; raises ``Failure``."""
    if options.framebuffer is not None:
        return compose.open_framebuffer(options.framebuffer)
    return compose.open_display(options.size, pictures=options.pictures, whole_screen=options.whole_screen)


def open_sound(chosen: str) -> tuple[Sound, Callable[[], None]]:
    """The loudspeaker, and what to do at the end. A bus whose loudspeaker is broken still shows: that is told, and no failure."""
    if chosen.endswith(".wav"):
        speaker = compose.open_speaker_twin(time.monotonic_ns)
        return speaker, lambda: speaker.write_wav(Path(chosen))
    try:
        return compose.open_sound(aloud=chosen != "off"), _nothing
    except Failure as failure:
        tell(str(failure))
        return compose.open_sound(aloud=False), _nothing


def tell(sentence: str) -> None:
    """One line for whoever reads the log."""
    print(f"kazashi screen: {sentence}", file=sys.stderr, flush=True)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) >= 640 and int(height) >= 400):
        raise argparse.ArgumentTypeError(f"'{text}' must be WIDTHxHEIGHT, at least 640x400")
    return int(width), int(height)


def _nothing() -> None:
    pass
