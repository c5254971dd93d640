"""The PN532 twin in a process of its own: ``python twin_process.py LINK CARDFILE…``; it says ``ready``, then obeys lines on its input.

``lay N``: the card of file N (from 0) lies on the reader, as it was left. ``renew N``: as its file has it. ``lift``: the field is empty.
``charged``: the cost of the host commands since it was last asked, a JSON list of [code, ns]. Every line is answered by one. The line is
charged as 921600 baud and the air as 424 kbit/s, whatever the program sets. It ends with its input.

A chip on a bench is hardware: it asks the system to run before everything else, so that its answers are not late because somebody draws.
"""

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from drivers.emulated import card_file
from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import LiteSCard
from drivers.emulated.pn532_chip import Pn532Chip, Timing
from drivers.emulated.pn532_pty import Pn532Pty

BAUD, AIR_RATE = 921_600, 424


class Desk:
    """The cards of this process and the hand that lays them."""

    def __init__(self, files: list[Path], chip: Pn532Chip) -> None:
        self._files = files
        self._cards = [card_file.load(file) for file in files]
        self._chip = chip
        self._lying: LiteSCard | None = None

    def obey(self, order: str) -> str:
        """Do one line; its answer."""
        match order.split():
            case ["lay", number]:
                self._lay(int(number))
            case ["renew", number]:
                self._cards[int(number)] = card_file.load(self._files[int(number)])
                self._lay(int(number))
            case ["lift"]:
                self._lift()
            case ["charged"]:
                return json.dumps([(cost.code, cost.line_ns + cost.rf_ns + cost.card_ns) for cost in self._chip.take_charged()])
            case _:
                return "what?"
        return "done"

    def _lay(self, number: int) -> None:
        self._lift()
        self._lying = self._cards[number]
        self._chip.air.lay(self._lying)

    def _lift(self) -> None:
        if self._lying is not None:
            self._chip.air.lift(self._lying.idm)
            self._lying = None


def main(link: str, *files: str) -> None:
    """Serve until the input ends."""
    chip = Pn532Chip(Air(), Timing(BAUD, AIR_RATE))
    desk = Desk([Path(file) for file in files], chip)
    twin = Pn532Pty(chip, Path(link))
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

    def listen() -> None:
        for line in sys.stdin:
            print(desk.obey(line), flush=True)
        twin.stop()

    threading.Thread(target=listen, daemon=True).start()
    print("ready", flush=True)
    try:
        twin.run()
    finally:
        twin.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
