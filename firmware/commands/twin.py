"""``kazashi twin``: offer an emulated reader, with cards on it, to a program that is not ours."""

import argparse
import signal
from pathlib import Path

from firmware.compose import serve_pn532
from firmware.failure import Failure

_EXAMPLES = """\
examples:
  kazashi twin pn532 --card rider.toml --link /tmp/reader
      a PN532 at /tmp/reader; the card in rider.toml (made if there is no such file) lies on it for ever
  kazashi twin pn532 --tray tray/ --link /tmp/reader --delay max --rf 212
      cards come and go as files in tray/; they are slow, and so is the air

A program opens the link like any serial device. The twin charges time as a real chip's line, air and card do, writes each card back to
its file, and ends with Ctrl-C or SIGTERM.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after ``kazashi twin``."""
    parser.description = __doc__
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("reader", choices=["pn532"], help="which reader: a PN532 on a serial line")
    add("--card", metavar="FILE", type=Path, action="append", default=[], help="a card file; twice for two cards")
    add("--tray", metavar="FOLDER", type=Path, help="a folder: a card lies on the reader while its file lies in it")
    add("--link", metavar="PATH", type=Path, required=True, help="the symbolic link to open; removed at the end")
    add("--baud", type=int, metavar="N", help="charge the line as N bits a second (else: as the program sets it)")
    add("--rf", type=int, choices=[212, 424], help="charge the air as N kbit/s (else: as the program polls)")
    add("--delay", choices=["min", "half", "max"], help="how long cards think, of what they declare (else: see the card file)")
    add("--lenient", action="store_true", help="cards accept a MAC where none is needed, as some programs expect")
    add("--log", metavar="FILE", type=Path, help="write what each host command cost: a line of JSON each, in nanoseconds")


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    if not options.card and options.tray is None:
        raise Failure("no card: say --card FILE or --tray FOLDER")
    if options.baud is not None and options.baud <= 0:
        raise Failure(f"--baud {options.baud}: a line has more than 0 bits a second")
    with serve_pn532(
        cards=options.card,
        tray=options.tray,
        link=options.link,
        baud=options.baud,
        air_rate=options.rf,
        delay=options.delay,
        lenient=options.lenient,
        log=options.log,
    ) as twin:
        signal.signal(signal.SIGTERM, lambda _number, _frame: twin.stop())
        signal.signal(signal.SIGINT, lambda _number, _frame: twin.stop())
        print(f"ready: {options.link} is a PN532 ({twin.path}); Ctrl-C ends it", flush=True)
        twin.run()
    return 0
