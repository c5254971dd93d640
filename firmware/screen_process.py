"""The screen-and-sound process: ``python -m firmware.screen_process --socket PATH``.

It may be started before the station or after it, and killed at any time; what is on the screen then comes back with its next start.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from drivers.devices.sound import Sound
from firmware import compose
from firmware.failure import Failure
from firmware.screen import Screen, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Esc or SIGTERM; exit status 0, or 1 with one sentence when there is no screen or no font."""
    options = _parser().parse_args(arguments)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))
    try:
        display = compose.open_display(options.size, pictures=options.pictures, whole_screen=options.whole_screen)
        sound, finish = _sound(options.sound)
        screen = Screen(compose.wordbook(), display, sound, compose.open_lamp(options.led), compose.open_clips(options.clips), tell=_tell)
        serve(screen, options.socket, stop=lambda: bool(stopped))
        finish()
    except Failure as failure:
        print(f"kazashi screen: {failure}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kazashi screen", description="Shows and sounds what the station sends.")
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH", help="where the station sends to")
    parser.add_argument("--size", type=_size, default=(800, 480), metavar="WxH", help="default 800x480")
    parser.add_argument("--whole-screen", action="store_true", help="no window")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write pictures instead of opening a window")
    parser.add_argument("--sound", default="on", metavar="on|off|FILE.wav", help="default on")
    parser.add_argument("--clips", type=Path, default=compose.CLIPS, metavar="FOLDER", help="rendered words")
    parser.add_argument("--led", type=Path, nargs=3, default=(), metavar=("RED", "GREEN", "BLUE"), help="folders in /sys/class/leds")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) >= 640 and int(height) >= 400):
        raise argparse.ArgumentTypeError(f"'{text}' must be WIDTHxHEIGHT, at least 640x400")
    return int(width), int(height)


def _sound(chosen: str) -> tuple[Sound, Callable[[], None]]:
    """The loudspeaker, and what to do at the end. A bus whose loudspeaker is broken still shows: that is told, and no failure."""
    if chosen.endswith(".wav"):
        speaker = compose.open_speaker_twin(time.monotonic_ns)
        return speaker, lambda: speaker.write_wav(Path(chosen))
    try:
        return compose.open_sound(aloud=chosen != "off"), _nothing
    except Failure as failure:
        _tell(str(failure))
        return compose.open_sound(aloud=False), _nothing


def _nothing() -> None:
    pass


def _tell(sentence: str) -> None:
    print(f"kazashi screen: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
