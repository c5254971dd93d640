"""``kazashi demo``: a morning on one bus line and what the city makes of it, on emulated hardware."""

import argparse
import os
import signal
import sys

from firmware import demo, demo_tray
from firmware.demo_stage import BusDied
from firmware.failure import Failure

_NOTICE = """\
Plays a morning on a bus and its way to the city's books, on emulated hardware,
and says at the end whether each law held. Without a screen (DISPLAY, WAYLAND_DISPLAY) it draws into files and takes less
than a minute; in a window three minutes at most, and Esc skips. Everything it
makes lies in demo-out/, which is replaced. It needs no network and no root.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Chapter, language, seed; or play it oneself."""
    parser.description = _NOTICE
    parser.add_argument("--chapter", choices=demo.CHAPTERS, help="tell this one only (default: all)")
    parser.add_argument("--lang", choices=("ja", "en"), help="default: what LANG says")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another morning of the same town; default: %(default)s")
    parser.add_argument("--interactive", action="store_true", help="lay the cards and press the driver's keys oneself")
    parser.add_argument("--fast", action="store_true", help="in a window: wait for nothing")


def run(options: argparse.Namespace) -> int:
    """0: every law that was shown held. 1: one was broken. Ctrl-C and SIGTERM put everything away first."""
    if options.seed < 0:
        raise Failure(f"--seed {options.seed}: must be 0 or more")
    wish = demo.Wish(
        options.lang or demo.language(os.environ),
        options.seed,
        fast=options.fast,
        chapters=(options.chapter,) if options.chapter else demo.CHAPTERS,
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return demo_tray.perform(wish, _say) if options.interactive else demo.perform(wish, _say)
    except KeyboardInterrupt:
        _say(f"\nkazashi demo: stopped; nothing is left running. What there is so far lies in {wish.folder}/.")
        return 130
    except BusDied as died:
        raise Failure(f"{died}; what it said last is in {wish.folder}/*.log") from died
    except BrokenPipeError:  # whoever read along has gone; what is still to be flushed at the end must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    """One line, now. A terminal without Japanese letters still shows the rest."""
    encoding = sys.stdout.encoding
    print(line.encode(encoding, "replace").decode(encoding), flush=True)
