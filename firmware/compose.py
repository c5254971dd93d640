"""Config → objects: the only place that says real or emulated, and the only importer of adapters.

Adapters are imported inside the function that needs them, so that a vehicle loads no desk code and a desk needs no screen.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.reader import EmulatedAddress, Pn532Address, Reader, parse_address
from firmware.doctor import Machine, Wants, packages_named, pins_named
from firmware.failure import Failure
from firmware.screen import ScreenLink
from validator.feedback import Wordbook, WordbookError
from validator.feedback import parse as parse_wordbook

if TYPE_CHECKING:
    from drivers.emulated.pn532_pty import Pn532Pty

ROOT = Path(__file__).resolve().parent.parent


def open_reader(address: str) -> Reader:
    """The reader that ``address`` names; raises ``Failure`` when there is no such kind of address.

    A PN532 that does not answer yet is no failure: the reader is then lost, as it may be at any later time, and ``revive`` is the way.
    """
    try:
        named = parse_address(address)
    except ValueError as error:
        raise Failure(str(error)) from error
    match named:
        case Pn532Address():
            return _open_pn532(named)
        case EmulatedAddress():
            return _open_tray(named)


def _open_pn532(address: Pn532Address) -> Reader:
    from drivers.readers.pn532 import Pn532
    from drivers.readers.serial_port import SerialPort

    reader = Pn532(address.text, partial(SerialPort, address.path), time.monotonic_ns, baud=address.baud, air_rate=address.air_rate)
    reader.revive()
    return reader


def _open_tray(address: EmulatedAddress) -> Reader:
    """The emulated reader in this process, on the machine's clock: our own driver talks to the twin's chip."""
    from drivers.emulated.air import Air
    from drivers.emulated.clock import RealClock
    from drivers.emulated.line import ChipLine
    from drivers.emulated.pn532_chip import Pn532Chip
    from drivers.emulated.tray import Tray
    from drivers.readers.pn532 import Pn532

    air = Air()
    clock = RealClock()
    try:
        tray = Tray(Path(address.folder), air)
    except OSError as error:
        raise Failure(f"reader address '{address.text}': the folder cannot be read ({error.strerror}); make it first") from error
    line = ChipLine(Pn532Chip(air), clock, on_traffic=lambda: tray.look(clock.monotonic_ns()))
    reader = Pn532(address.text, line.reopen, clock.monotonic_ns, baud=921600)
    reader.revive()
    return reader


@contextmanager
def serve_pn532(
    *,
    cards: Sequence[Path],
    tray: Path | None,
    link: Path,
    baud: int | None = None,
    air_rate: int | None = None,
    delay: str | None = None,
    lenient: bool = False,
    log: Path | None = None,
) -> Generator["Pn532Pty"]:
    """An emulated PN532 behind ``link``, with ``cards`` on it and whatever lies in ``tray``; call its ``run``.

    A card file that does not exist is made: a blank card. Raises ``Failure``.
    """
    from drivers.emulated.air import Air
    from drivers.emulated.card_file import BadCardFile
    from drivers.emulated.lite_s_card import Delay, LiteSCard
    from drivers.emulated.pn532_chip import Pn532Chip, Timing
    from drivers.emulated.pn532_pty import Pn532Pty, Saver, lay_file
    from drivers.emulated.tray import Tray

    def pose(card: LiteSCard) -> None:
        wish = replace(card.traits, strict=card.traits.strict and not lenient)
        card.posing = wish if delay is None else replace(wish, delay=Delay(delay))

    air = Air()
    saver = Saver()
    with ExitStack() as undo:
        undo.callback(saver.close)
        try:
            for at, path in enumerate(cards):
                pose(lay_file(path, air, saver, at))
            folder = None if tray is None else Tray(tray, air, saver.write, pose)
            written = None if log is None else undo.enter_context(log.open("w", encoding="ascii"))
            twin = Pn532Pty(Pn532Chip(air, Timing(baud, air_rate)), link, None if folder is None else folder.look, written)
        except BadCardFile as problem:
            raise Failure(str(problem)) from problem
        except OSError as problem:
            raise Failure(f"{problem.filename}: it cannot be used ({problem.strerror})") from problem
        undo.callback(twin.close)
        yield twin
    if saver.problem is not None:
        raise Failure(saver.problem)


def machine() -> Machine:
    """The machine we run on, as the doctor sees it."""
    from firmware.machine import LinuxMachine

    return LinuxMachine()


def wants(data: str) -> Wants:
    """What this tree asks of a machine whose ledger lies in the folder ``data``."""
    return Wants(
        packages=packages_named((ROOT / "apt-packages.txt").read_text()),
        distributions=pins_named((ROOT / "requirements" / "terminal.txt").read_text()),
        clips=str(ROOT / "build" / "clips"),
        data=data,
    )


def wordbook() -> Wordbook:
    """All that the validator shows and says (``validator/words/messages.toml``); raises ``Failure`` with every fault of the file."""
    file = resources.files("validator") / "words" / "messages.toml"
    try:
        return parse_wordbook(file.read_text(encoding="utf-8"), file.name)
    except WordbookError as error:
        raise Failure(str(error)) from error


def screen_link(path: Path) -> ScreenLink:
    """The station's end of the wire to the screen process that listens (now or later) at ``path``."""
    return ScreenLink(path)
