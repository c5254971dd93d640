"""Config → objects: the only place that says real or emulated, and the only importer of adapters.

Adapters are imported inside the function that needs them, so that a vehicle loads no desk code and a desk needs no screen.
"""

import time
from functools import partial
from importlib import resources
from pathlib import Path

from drivers.reader import EmulatedAddress, Pn532Address, Reader, parse_address
from firmware.doctor import Machine, Wants, packages_named, pins_named
from firmware.failure import Failure
from firmware.screen import ScreenLink
from validator.feedback import Wordbook, WordbookError
from validator.feedback import parse as parse_wordbook

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
            raise Failure(f"reader address '{address}': trays are not built in yet")


def _open_pn532(address: Pn532Address) -> Reader:
    from drivers.readers.pn532 import Pn532
    from drivers.readers.serial_port import SerialPort

    reader = Pn532(address.text, partial(SerialPort, address.path), time.monotonic_ns, baud=address.baud, air_rate=address.air_rate)
    reader.revive()
    return reader


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
