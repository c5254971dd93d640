"""One tap through the whole chain, by this program on this machine: what must work before an update may stay.

The card is a twin, because nobody stands there with one; everything else is what a tap runs through: the reader's driver and its frames,
the session keys and MACs, the fare table and the scheme, the table of a tap, a ledger on the data partition with its flushes. The rules,
the card (``firmware/self_tap/``) and the day are always the same, so the result is known: 190 of 2,000 points. Whether *this* vehicle's
reader, keys and rules are good, the station says itself: it is not ready before.

A composition root, like ``firmware.rehearsal``, which also knows how cards are issued and therefore stays in the town hall.
"""

import secrets
import shutil
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from drivers.devices.keypad import DriverKey, KeyPress
from drivers.emulated import card_file
from drivers.emulated.air import Air
from drivers.emulated.clock import VirtualClock
from drivers.emulated.line import ChipLine
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.readers.pn532 import Pn532
from drivers.vault_file import VaultFile, demo_keys
from fares import operator, scheme
from fares.table import FareTable
from firmware import VERSION
from ledger.entry import Entry, Kind, Versions
from ledger.errors import LedgerError
from ledger.store import LedgerFile, Settings, Store
from validator.journey import Tariff
from validator.messages import Message, Shown
from validator.station import Equipment, Station, Terms
from validator.trip import resume

FOLDER = Path(__file__).with_name("self_tap")
SCHEME = Path(scheme.__file__).with_name("schemes") / "silver_emica.toml"
CARD, TABLE, OPERATOR = "self-test.card", "town.table", "operator.toml"
SEED = 20260401
ROUTE, CALLS = "M2", 1
EXPECTED = Shown(Message.PAID, {"points": 190, "cash": 0, "balance": 1810, "riders": 1})
_LINE_RATE = 921_600
_LEDGER = Settings(log_bytes=256 * 1024, low_space_bytes=1024 * 1024, ballast_bytes=64 * 1024)


@dataclass(slots=True)
class _Said:
    """What a rider would have seen and heard: a ``validator.messages.Presenter``."""

    shown: list[Shown] = field(default_factory=list[Shown])

    def show(self, shown: Shown) -> None:
        self.shown.append(shown)


@dataclass(slots=True)
class _Keys:
    """A driver's hands: a ``drivers.devices.keypad.Keypad``."""

    waiting: deque[KeyPress] = field(default_factory=deque[KeyPress])

    def pressed(self) -> tuple[KeyPress, ...]:
        pressed = tuple(self.waiting)
        self.waiting.clear()
        return pressed


def self_tap(folder: Path, files: Path = FOLDER) -> str:
    """Pay one ride with a ledger in ``folder``; what was wrong in one sentence, or nothing. Leaves no file behind."""
    try:
        with tempfile.TemporaryDirectory(prefix="self-tap-", dir=folder) as scratch:
            ledger = Path(scratch) / "ledger"
            said = _tap(ledger, files)
            return said or _proven(ledger)
    except LedgerError as error:
        return f"the self-test's ledger failed: {error}"
    except OSError as error:
        return f"{error.filename or folder}: the self-test cannot write there ({error.strerror})"


def _tap(path: Path, files: Path) -> str:
    clock, air, said, keys = VirtualClock(), Air(), _Said(), _Keys()
    line = ChipLine(Pn532Chip(air), clock)
    vault = VaultFile(demo_keys(SEED).for_terminal(secrets.token_bytes(32)))
    rules = Tariff(FareTable.open(files / TABLE), operator.load(files / OPERATOR), scheme.load(SCHEME))
    Store.create(path, device=1, epoch=secrets.randbits(48), settings=_LEDGER).close()
    reader = Pn532("self-test", line.reopen, clock.monotonic_ns, baud=_LINE_RATE)
    with Store.open(path, device=1, settings=_LEDGER) as store:
        equipment = Equipment(
            reader=reader,
            vault=vault,
            grants=vault.grants,
            ledger=store,
            presenter=said,
            keypad=keys,
            clock=clock,
            random=secrets.token_bytes,
            blocked=lambda _rider: False,
        )
        trips = sorted((trip for trip in rules.table.trips() if trip.route == ROUTE), key=lambda trip: trip.calls[0].departure_s)
        duty = resume(rules.operator.id, "self-test", trips, store.last)
        reader.revive()
        station = Station(equipment, Terms(rules, 1, ZoneInfo("Asia/Tokyo"), Versions(software=VERSION)), duty)
        station.open_shift()
        keys.waiting.extend([KeyPress(DriverKey.TRIP), *[KeyPress(DriverKey.NEXT_STOP)] * CALLS])
        card = shutil.copy(files / CARD, path.with_name(CARD))
        station.turn()
        air.lay(card_file.load(Path(card)))
        station.turn()
        heard = said.shown[-1]
        station.close_shift()
    if heard != EXPECTED:
        return f"the self-test's tap ended with {heard.message.value} {heard.values}, and not with paid {EXPECTED.values}"
    return ""


def _proven(path: Path) -> str:
    entries: list[Entry] = []
    with LedgerFile.open_read_only(path) as ledger:
        findings = ledger.verify(entries.append).findings
    paid = [entry.fare.points for entry in entries if entry.kind is Kind.PAID]
    if findings:
        return f"the self-test's ledger does not hold: {findings[0]}"
    return "" if paid == [EXPECTED.values["points"]] else "the self-test's ride is not in its ledger"
