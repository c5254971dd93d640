"""Config → objects: the only place that says real or emulated, and the only importer of adapters.

Adapters are imported inside the function that needs them, so that a vehicle loads no desk code and a desk needs no screen.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from importlib import resources
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.devices.display import Display, Picture
from drivers.devices.keypad import Keypad, KeypadMappingError, NoKeypad, parse_keys
from drivers.devices.lamps import Lamp
from drivers.devices.sound import Shelf, Sound
from drivers.reader import AIR_RATES, EmulatedAddress, Pn532Address, Reader, parse_address
from drivers.vault import Challenge, FileAddress, TerminalVault, TokenAddress, VaultAddress
from drivers.vault import parse_address as parse_vault_address
from firmware import VERSION
from firmware.doctor import Machine, Wants, packages_named, pins_named
from firmware.failure import Failure, LedgerUnusable
from firmware.screen import ScreenLink
from firmware.words import Synthesiser, misread_from
from validator.feedback import Wordbook, WordbookError
from validator.feedback import parse as parse_wordbook

if TYPE_CHECKING:
    from datetime import date
    from zoneinfo import ZoneInfo

    from drivers.devices.clock import Clock
    from drivers.devices.display_pygame import Painter
    from drivers.devices.power import PowerLine
    from drivers.emulated.air import Air
    from drivers.emulated.pn532_pty import Pn532Pty
    from drivers.emulated.speaker import Speaker
    from drivers.qualify import Bench, Hand
    from drivers.readers.pn532 import Pn532
    from drivers.signer import Algorithm
    from drivers.vault_file import KeySet
    from fares.scheme import Scheme
    from fares.table import FareTable, Trip
    from firmware.config import CitySettings, Config, DeviceKeySettings, Rules, Unenrolled
    from firmware.desk import Desk, DeskVault
    from firmware.enrolment import Enrolled
    from firmware.health import Equipment as Health
    from firmware.keyring import VaultKeyring
    from firmware.notify import Overseer
    from firmware.packages import Judge
    from firmware.power import Watch
    from firmware.provision import Identity
    from firmware.rulebook import PackagedRules
    from firmware.simulation import Simulation, Wish
    from firmware.update import Offer as UpdateOffer
    from firmware.update_files import Words as UpdateWords
    from firmware.updater import Updater
    from ledger.carrier import Carrier, Keyring, Wire
    from ledger.counts import Counts
    from ledger.courier import Pace
    from ledger.entry import Entry
    from ledger.package import Package, PackageKind
    from ledger.receipts import LetterboxBeside
    from ledger.seal import Signer
    from ledger.store import LedgerFile, Store
    from ledger.uplink import HttpUplink
    from validator.journey import Tariff
    from validator.lists import DenyList
    from validator.messages import Presenter
    from validator.rulebook import InForce
    from validator.standby import Reason, Standby
    from validator.station import Station

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ROOT / "build" / "clips"
_TRAY_BAUD = 921600
_GIVES_WAY = 10  # nice
_NEWEST = 64  # entries


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


def _open_pn532(address: Pn532Address) -> "Pn532":
    from drivers.readers.pn532 import Pn532
    from drivers.readers.serial_port import SerialPort

    reader = Pn532(address.text, partial(SerialPort, address.path), time.monotonic_ns, baud=address.baud, air_rate=address.air_rate)
    reader.revive()
    return reader


def _open_tray(address: EmulatedAddress) -> Reader:
    """The emulated reader in this process, on the machine's clock: our own driver talks to the twin's chip."""
    return _lay_tray(address)[0]


def _lay_tray(address: EmulatedAddress, write: Callable[[Path, str], None] | None = None) -> "tuple[Pn532, Air]":
    """``write`` replaces a card's file; else it is written and flushed before the card's answer."""
    from drivers.emulated import card_file
    from drivers.emulated.air import Air
    from drivers.emulated.clock import RealClock
    from drivers.emulated.line import ChipLine
    from drivers.emulated.pn532_chip import Pn532Chip
    from drivers.emulated.tray import Tray
    from drivers.readers.pn532 import Pn532

    air = Air()
    clock = RealClock()
    try:
        tray = Tray(Path(address.folder), air, write or card_file.write)
    except OSError as error:
        raise Failure(f"reader address '{address.text}': the folder cannot be read ({error.strerror}); make it first") from error
    line = ChipLine(Pn532Chip(air), clock, on_traffic=lambda: tray.look(clock.monotonic_ns()))
    reader = Pn532(address.text, line.reopen, clock.monotonic_ns, baud=_TRAY_BAUD)
    reader.revive()
    return reader, air


@contextmanager
def workbench(address: str, keys: Path | None, say: Callable[[str], object]) -> Generator["tuple[Pn532, Bench]"]:
    """A reader and what ``kazashi reader qualify`` works with: a person's hand, or on a tray the twin's own.

    ``keys``: the file with the keys of an issued card; without it the session is a factory card's. A tray's files are written beside the
    measuring, because a disk's flush is no card's delay. Raises ``Failure``.
    """
    from drivers.cards.lite_s import FACTORY_KEY, session_of
    from drivers.cards.tdes import encrypt_cbc
    from drivers.emulated.clock import RealClock
    from drivers.emulated.hand import AirHand
    from drivers.emulated.pn532_pty import Saver
    from drivers.qualify import Bench, Pace, Person
    from drivers.vault_file import ChallengeFile

    def factory(_idm: bytes, rc: bytes) -> Challenge:
        return ChallengeFile(iter((session_of(encrypt_cbc, FACTORY_KEY, 0, rc),)))

    try:
        challenge = factory if keys is None else open_vault(str(keys)).challenge
        named = parse_address(address)
    except ValueError as error:
        raise Failure(str(error)) from error
    with ExitStack() as undo:
        match named:
            case Pn532Address():
                reader = _open_pn532(named)
                hand: Hand = Person(reader, say, RealClock())
                pace = Pace(named.baud, named.air_rate)
            case EmulatedAddress():
                saver = Saver()
                undo.callback(saver.close)
                reader, air = _lay_tray(named, saver.write)
                hand = AirHand(air, time.monotonic_ns)
                pace = Pace(_TRAY_BAUD, AIR_RATES[-1])
        undo.callback(reader.close)
        yield reader, Bench(reader, hand, challenge, os.urandom, time.monotonic_ns, pace=pace, workshop=reader)


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


def software() -> str:
    """What each entry and each heartbeat says of the software: the image's version, or ours where no image runs."""
    from firmware.update_files import MANIFEST, running

    return running(MANIFEST)[1] or VERSION


def image_name() -> str:
    """The beginning of the name of the image that runs, which is the hash of its root; our version where no image runs."""
    try:
        return Path("/run/kazashi-image/name").read_text(encoding="ascii").strip()[:12]
    except OSError:
        return VERSION


def machine() -> Machine:
    """The machine we run on, as the doctor sees it."""
    from firmware.machine import LinuxMachine

    return LinuxMachine()


def wants(data: str) -> Wants:
    """What this tree asks of a machine whose ledger lies in the folder ``data``; raises ``Failure`` outside a source tree."""
    try:
        packages = (ROOT / "apt-packages.txt").read_text()
        pins = (ROOT / "requirements" / "terminal.txt").read_text()
    except FileNotFoundError as error:
        raise Failure(f"there is no {error.filename}, which says what a machine needs; run the doctor in Kazashi's source tree") from error
    return Wants(
        packages=packages_named(packages),
        distributions=pins_named(pins),
        clips=str(CLIPS),
        data=data,
    )


def wordbook() -> Wordbook:
    """All that the validator shows and says (``validator/words/messages.toml``); raises ``Failure`` with every fault of the file."""
    file = resources.files("validator") / "words" / "messages.toml"
    try:
        return parse_wordbook(file.read_text(encoding="utf-8"), file.name)
    except WordbookError as error:
        raise Failure(str(error)) from error


def open_overseer() -> "Overseer":
    """Whoever started this program and waits for word from it: systemd, or nobody."""
    from firmware.notify import overseer

    return overseer(os.environ, time.monotonic)


def screen_link(path: Path) -> ScreenLink:
    """The station's end of the wire to the screen process that listens (now or later) at ``path``."""
    return ScreenLink(path)


def open_synthesiser() -> Synthesiser:
    """Open JTalk with our user dictionary, for the workshop; raises ``Failure`` when it is not installed."""
    file = resources.files("validator") / "words" / "user_dictionary.toml"
    try:
        with redirect_stdout(StringIO()):  # it prints which of its extras are missing; we use none
            from drivers.devices.speech_openjtalk import OpenJTalk
        return OpenJTalk(misread_from(file.read_text(encoding="utf-8"), file.name))
    except ImportError as error:
        raise Failure("the synthesiser is not installed: pip install pyopenjtalk-plus (the extra 'voice')") from error
    except ValueError as error:
        raise Failure(str(error)) from error


def write_wav(path: Path, samples: bytes) -> None:
    """Samples (16-bit mono at ``drivers.devices.sound.RATE_HZ``) as a WAV file; raises ``Failure``."""
    from drivers.devices.sound_clips import write_wav as write

    try:
        write(path, samples)
    except OSError as error:
        raise Failure(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def open_painter() -> Callable[[Picture], bytes]:
    """Pictures as small PNG files, drawn without a screen; raises ``Failure`` when the font is missing."""
    _hush_pygame()
    from drivers.devices import display_png
    from drivers.devices.display_pygame import pixels, without_a_screen

    without_a_screen()
    painter = _painter()
    return lambda picture: display_png.encode(picture.width, picture.height, pixels(painter.paint(picture)))


def no_display() -> Display:
    """A screen that nobody plugged in."""
    from drivers.emulated.display import NoDisplay

    return NoDisplay()


def open_framebuffer(device: Path) -> Display:
    """The glass behind a framebuffer device, drawn on without a graphics driver of ours; raises ``Failure``."""
    _hush_pygame()
    from drivers.devices.display_framebuffer import Framebuffer, NoFramebuffer
    from drivers.devices.display_pygame import glass, without_a_screen

    without_a_screen()
    painter = _painter()
    try:
        return Framebuffer(device, lambda picture: glass(painter.paint(picture)))
    except NoFramebuffer as error:
        raise Failure(str(error)) from error


def open_display(size: tuple[int, int], *, pictures: Path | None = None, whole_screen: bool = False) -> Display:
    """A window (or the whole screen), or files in the folder ``pictures``; raises ``Failure``."""
    _hush_pygame()
    from drivers.devices.display_pygame import DisplayMissing, PictureFiles, Window, without_a_screen

    painter = _painter()
    if pictures is not None:
        without_a_screen()
        return PictureFiles(size, painter, pictures)
    try:
        return Window(size, painter, whole_screen=whole_screen)
    except DisplayMissing as error:
        raise Failure(str(error)) from error


def open_sound(*, aloud: bool) -> Sound:
    """The machine's loudspeaker, or nothing; raises ``Failure`` when there is no sound device."""
    if not aloud:
        from drivers.emulated.speaker import Mute

        return Mute()
    _hush_pygame()
    from drivers.devices.sound_pygame import Mixer, SoundMissing

    try:
        return Mixer()
    except SoundMissing as error:
        raise Failure(str(error)) from error


def open_speaker_twin(now_ns: Callable[[], int]) -> "Speaker":
    """A loudspeaker that remembers what it played on the clock ``now_ns``, and writes it as one WAV file."""
    from drivers.emulated.speaker import Speaker

    return Speaker(now_ns)


def open_lamp(leds: Sequence[Path] = ()) -> Lamp:
    """The lamp of three LED folders (red, green, blue), or none."""
    if not leds:
        from drivers.emulated.lamp import NoLamp

        return NoLamp()
    from drivers.devices.lamps_leds import LedLamp

    red, green, blue = leds
    return LedLamp(red, green, blue)


def open_backlight() -> Callable[[bool], None]:
    """The light behind the machine's panels: call it with True to dim them."""
    from drivers.devices.backlight_linux import Backlights

    lights = Backlights()
    return lambda dimmed: lights.dim(dimmed=dimmed)


def open_clips(folder: Path = CLIPS) -> Shelf:
    """The rendered clips."""
    from drivers.devices.sound_clips import ClipFolder

    return ClipFolder(folder)


def open_keypad(device: Path, mapping: Path) -> Keypad:
    """The driver's keypad: an input device (``/dev/input/event3``) and its mapping file; raises ``Failure``.

    A keypad that is not plugged in yet is no failure: its keys come when it is.
    """
    from drivers.devices.keypad_input import InputDevice

    try:
        return InputDevice(device, parse_keys(mapping.read_text(encoding="utf-8"), str(mapping)))
    except OSError as error:
        raise Failure(f"{mapping}: cannot be read ({error.strerror}); give a keypad mapping file") from error
    except KeypadMappingError as error:
        raise Failure(str(error)) from error


def _painter() -> "Painter":
    from drivers.devices.display_pygame import FontMissing, Painter, find_fonts

    try:
        return Painter(find_fonts())
    except FontMissing as error:
        raise Failure(str(error)) from error


def _hush_pygame() -> None:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")


def make_blank_card(path: Path) -> None:
    """The file of a blank emulated card with a number of its own; raises ``Failure`` when there is such a file already."""
    import secrets

    from drivers.emulated import card_file
    from drivers.emulated.lite_s_card import blank

    if path.exists():
        raise Failure(f"{path}: there is a file already; name another one")
    try:
        card_file.save(path, blank(b"\x01\x2e" + secrets.token_bytes(6)))
    except OSError as error:
        raise Failure(f"{path}: it cannot be written ({error.strerror})") from error


def open_card_file(path: Path) -> "Desk":
    """An emulated card as the card on the desk; its file follows each change. Raises ``Failure``."""
    from drivers.emulated import card_file
    from drivers.emulated.held_card import HeldCard
    from firmware.desk import FileDesk

    try:
        return FileDesk(HeldCard(card_file.open_card(path)))
    except card_file.BadCardFile as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{path}: it cannot be read ({error.strerror}); `kazashi card new {path}` makes a blank card") from error


def open_desk(address: str, tell: Callable[[str], None]) -> "Desk":
    """A reader with a person beside it, to whom ``tell`` speaks; raises ``Failure``."""
    from firmware.desk import ReaderDesk

    return ReaderDesk(open_reader(address), tell)


def open_desk_vault(path: Path) -> "DeskVault":
    """The desk's vault; raises ``Failure``."""
    from drivers.vault_file import DeskVaultFile, VaultFileRefused

    try:
        return DeskVaultFile.open(path)
    except VaultFileRefused as refused:
        raise Failure(str(refused)) from refused


def make_desk_keys(path: Path) -> None:
    """A new town's keys in a file; raises ``Failure``."""
    import secrets

    from drivers.vault_file import VaultFileRefused, new_keys, write_keys

    try:
        write_keys(path, new_keys(secrets.token_bytes))
    except VaultFileRefused as refused:
        raise Failure(str(refused)) from refused


def make_terminal_keys(desk: Path, path: Path) -> None:
    """A vehicle's key file from the desk's, with a device key of its own; raises ``Failure``."""
    import secrets

    from drivers.vault_file import VaultFileRefused, read_keys, write_keys

    try:
        write_keys(path, read_keys(desk).for_terminal(secrets.token_bytes(32)))
    except VaultFileRefused as refused:
        raise Failure(str(refused)) from refused


def open_vault(address: VaultAddress | str) -> TerminalVault:
    """A terminal's vault, a file or a token (``drivers.vault.parse_address``); raises ``Failure``."""
    from drivers.vault_file import VaultFile, VaultFileRefused

    try:
        named = parse_vault_address(address) if isinstance(address, str) else address
    except ValueError as error:
        raise Failure(str(error)) from error
    if isinstance(named, FileAddress):
        try:
            return VaultFile.open(named.path)
        except VaultFileRefused as refused:
            raise Failure(str(refused)) from refused
    _want_pkcs11()
    from drivers.vault_pkcs11 import VaultPkcs11, VaultTokenRefused

    try:
        return VaultPkcs11(named)
    except VaultTokenRefused as refused:
        raise Failure(str(refused)) from refused


def fill_token(desk: Path, text: str) -> Sequence[str]:
    """Bring a token to what a vehicle needs, from the desk's keys; what was done, a line each. Raises ``Failure``."""
    from drivers.vault_file import VaultFileRefused, read_keys

    token = _token_named(text)
    from drivers.vault_pkcs11 import VaultTokenRefused, fill

    try:
        return fill(token, read_keys(desk))
    except (VaultFileRefused, VaultTokenRefused) as refused:
        raise Failure(str(refused)) from refused


def empty_token(text: str) -> int:
    """Destroy what is ours in a token; how many objects. Raises ``Failure``."""
    token = _token_named(text)
    from drivers.vault_pkcs11 import VaultTokenRefused, empty

    try:
        return empty(token)
    except VaultTokenRefused as refused:
        raise Failure(str(refused)) from refused


def _token_named(text: str) -> TokenAddress:
    try:
        named = parse_vault_address(text)
    except ValueError as error:
        raise Failure(str(error)) from error
    if isinstance(named, FileAddress):
        raise Failure(f"'{text}' names a file; a token is written pkcs11:MODULE?token=LABEL&pin-file=PATH")
    _want_pkcs11()
    return named


def _want_pkcs11() -> None:
    if find_spec("pkcs11") is None:
        raise Failure("python-pkcs11 is not installed, so no token can be asked; install the extra: pip install 'kazashi[token]'")


def open_scheme(path: Path) -> "Scheme":
    """A city's scheme, proven on its own examples; raises ``Failure``."""
    from fares.faults import Unusable
    from fares.scheme import load

    try:
        return load(path)
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable


def open_ledger_file(path: Path) -> "LedgerFile":
    """A ledger to read from, while somebody may be writing it; raises ``ledger.errors.LedgerError``."""
    from ledger.store import LedgerFile

    return LedgerFile.open_read_only(path)


def entries_of(ledgers: Sequence[Path]) -> "list[Entry]":
    """All entries of ledgers whose chains hold; raises ``Failure`` for one that cannot be read or believed."""
    from ledger.errors import LedgerError
    from ledger.store import LedgerFile

    entries: list[Entry] = []
    for path in ledgers:
        try:
            with LedgerFile.open_read_only(path) as ledger:
                findings = ledger.verify(entries.append).findings
        except LedgerError as error:
            raise Failure(str(error)) from error
        if findings:
            raise Failure(f"{path}: {findings[0]}; no points are worked out from a ledger that does not hold, see `kazashi ledger verify`")
    return entries


def open_tariff(rules: "Rules", sent: "Mapping[PackageKind, Package] | None" = None) -> "Tariff":
    """The rules in force on a vehicle: what the city ``sent``, else the files that ``rules`` names. Raises ``Failure`` with every fault."""
    from fares import operator, scheme
    from fares.faults import Unusable
    from fares.table import FareTable
    from ledger.package import PackageKind
    from validator.journey import Tariff

    table, terms = (sent or {}).get(PackageKind.FARE_TABLE), (sent or {}).get(PackageKind.SCHEME)
    try:
        return Tariff(
            FareTable.unpack(table.file, str(table)) if table else FareTable.open(rules.table),
            operator.load(rules.operator),
            scheme.parse(terms.file, str(terms)) if terms else scheme.load(rules.scheme),
        )
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable


def open_ledger(path: Path, terminal: int) -> "Store":
    """The vehicle's ledger for writing; a new one, in a new epoch, where none has ever been. Raises ``Failure``.

    One that was exchanged, restored or is gone is set aside; the vehicle goes on in a new epoch, and the courier finds word of the loss.
    """
    import secrets

    from ledger.errors import LedgerBusy, LedgerError, StoreRolledBack
    from ledger.store import Store

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return Store.open_or_create(path, device=terminal, new_epoch=partial(secrets.randbits, 48))
        except StoreRolledBack as error:
            return _open_anew(path, terminal, error)
    except LedgerBusy as error:
        raise Failure(str(error)) from error
    except LedgerError as error:
        raise LedgerUnusable(str(error)) from error
    except OSError as error:
        raise LedgerUnusable(f"{path}: cannot be written ({error.strerror}); choose a place on the data partition") from error


def _open_anew(path: Path, terminal: int, why: Exception) -> "Store":
    import logging
    import secrets

    from drivers.devices.clock_system import SystemClock
    from ledger.entry import Versions, When
    from ledger.store import Store

    logging.getLogger(__name__).warning("%s; what is there is set aside", why)
    now = SystemClock(0).now()
    when = When(0, 0, max(now.utc_ms, 0), int(now.state))  # this start has no number yet
    epoch = secrets.randbits(48)
    return Store.open_anew(
        path, device=terminal, epoch=epoch, when=when, versions=Versions(software=software()), tell=_letterbox(path).tell
    )


def open_deny_list(path: Path | None, rider_key: int) -> "DenyList":
    """The deny list; nobody when no file is named. Raises ``Failure``."""
    from validator.lists import NOBODY, BadList, parse

    if path is None:
        return NOBODY
    try:
        return parse(path.read_text(encoding="utf-8"), str(path), rider_key)
    except BadList as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{path}: cannot be read ({error.strerror}); name the deny list, or none") from error


@contextmanager
def open_station(config: "Config", presenter: "Presenter") -> Generator["Station"]:
    """A vehicle's station with its shift open; closed in good order at the end. Raises ``Failure``."""
    import secrets

    from drivers.devices.clock_steady import SteadyClock
    from drivers.devices.clock_system import SystemClock
    from ledger.entry import Kind
    from validator.station import Equipment, Station, Terms
    from validator.trip import resume

    vault = open_vault(config.keys)
    rulebook = _open_rulebook(config, vault.rider_key_version)
    rules = _rules_by_now(rulebook)
    tariff, versions = rules.tariff, rules.versions
    keypad = open_keypad(config.keypad_device, config.keypad_mapping) if config.keypad_device and config.keypad_mapping else NoKeypad()
    with ExitStack() as undo:
        undo.callback(vault.close)
        ledger = undo.enter_context(open_ledger(config.ledger, config.terminal))
        reader = open_reader(config.reader)
        undo.callback(reader.close)
        started = ledger.last(Kind.BOOT)
        clock = SteadyClock(SystemClock(started.when.boot + 1 if started else 1), _time_known_last(ledger))
        equipment = Equipment(
            reader=reader,
            vault=vault,
            grants=vault.grants,
            ledger=ledger,
            presenter=presenter,
            keypad=keypad,
            clock=clock,
            random=secrets.token_bytes,
            blocked=rules.blocked,
            letterbox=open_letterbox(config) if config.city_keys else None,
            parts=partial(_parts_of, presenter),
            rulebook=rulebook,
            new_shift=clock.new_shift,
            image=image_name(),
        )
        duty = resume(tariff.operator.id, config.vehicle, rules.trips, ledger.last)
        station = Station(equipment, Terms(tariff, config.terminal, config.zone, versions, config.city.keep_days), duty)
        station.open_shift()
        station.note_alarms()
        yield station
        station.close_shift(Kind.POWER_LOSS)


def _time_known_last(ledger: "Store") -> int:
    """The latest time in a ledger's newest entries that was more than a guess, Unix ms; 0 when there is none."""
    from drivers.devices.clock import ClockState

    newest = ledger.after(max(0, ledger.head().seq - _NEWEST), _NEWEST)
    return max((entry.when.utc_ms for entry in newest if entry.when.clock >= ClockState.CARRIED), default=0)


def vouch(told: Path) -> str:
    """Ask chrony and gpsd about the wall clock, and leave their word in ``told`` for every process; the word. Raises ``Failure``."""
    from drivers.devices.clock_sources import vouched
    from drivers.devices.clock_system import leave
    from drivers.devices.clock_told import fix, tracking

    state = vouched(tracking(), fix(), time.time_ns() // 1_000_000)
    try:
        leave(told, state, time.monotonic_ns() // 1_000_000)
    except OSError as error:
        raise Failure(f"{told}: cannot be written ({error.strerror}); name a file in a folder that exists") from error
    return state.name.lower()


def count(file: Path, command: Sequence[str] = ("journalctl",)) -> str:
    """Count what is new in the journal, leave the sums in ``file`` for the courier; a sentence. Raises ``Failure``."""
    from firmware.counts import FIELDS, MOST_BYTES, MOST_ENTRIES, Counted, NoCounts, decode, encode, following
    from firmware.system import Journal, JournalUnread

    before, journal = Counted(), Journal(command)
    try:
        with file.open(encoding="ascii", errors="replace") as kept, suppress(NoCounts):
            before = decode(kept.read(MOST_BYTES))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Failure(f"{file}: cannot be read ({error.strerror}); take it away, and the journal is counted anew") from error
    try:
        counted = following(before, journal.entries(before.cursor, FIELDS, MOST_ENTRIES), journal.disk_errors())
    except JournalUnread as error:
        raise Failure(f"nothing was counted: {error}; the same again later") from error
    fresh = file.with_name(f"{file.name}.new")
    try:
        fresh.write_text(encode(counted), encoding="ascii")
        fresh.replace(file)
    except OSError as error:
        raise Failure(f"{file}: cannot be written ({error.strerror}); name a file in a folder that exists") from error
    if not counted.cursor:
        raise Failure("the journal is empty, or this user may not read it; put the user into the group systemd-journal")
    return ", ".join(f"{name} {number}" for name, number in counted.sums.items()) or "nothing is counted yet"


def counted_in(file: Path) -> "Counts":
    """What the city is told of the counts in ``file``; nothing where nobody counts, or what lies there makes no sense."""
    from firmware.counts import MOST_BYTES, NoCounts, told

    with suppress(OSError, NoCounts), file.open(encoding="ascii", errors="replace") as kept:
        return told(kept.read(MOST_BYTES))
    return ()


def open_health(config: "Config | None", data: Path, run: Path) -> "Health":
    """What the health check is made of; it writes into ``data`` and asks for a restart in ``run``.

    ``config`` None: nobody has said yet who this unit is, and there is no ledger to look at.
    """
    from drivers.devices.clock_system import SystemClock
    from firmware.health import Equipment
    from firmware.selftap import self_tap
    from firmware.system import RaucSlots, SystemdUnits, TrialFile

    return Equipment(
        units=SystemdUnits(),
        self_tap=partial(self_tap, data),
        ledger=lambda: "" if config is None else _broken(config.ledger),
        slots=RaucSlots(run / "good"),
        trial=TrialFile(data / "trial", run / "back"),
        clock=SystemClock(0),
    )


def _broken(path: Path) -> str:
    """The first thing that is wrong with a ledger, or nothing."""
    from ledger.errors import LedgerError
    from ledger.store import LedgerFile

    try:
        with LedgerFile.open_read_only(path) as ledger:
            findings = ledger.verify().findings
    except LedgerError as error:
        return str(error)
    return f"{path}: {findings[0]}" if findings else ""


def open_power(config: "Config", station: "Station") -> "Watch | None":
    """Whoever watches the ignition's line for this station; None where there is no line."""
    from drivers.devices.power import SerialAddress, SupplyAddress
    from drivers.devices.power_linux import SerialLine, SupplyFile
    from firmware.power import Do, Pace, Watch
    from ledger.entry import Kind

    match config.power.line:
        case None:
            return None
        case SupplyAddress(path):
            line: PowerLine = SupplyFile(path)
        case SerialAddress(path, modem):
            line = SerialLine(path, modem)
    perform = {Do.CLOSE: lambda: station.close_shift(Kind.POWER_LOSS), Do.SYNC: os.sync}
    return Watch(line, station.equipment.clock, perform, Pace(config.power.settle_ms, config.power.hold_ms))


def trips_of(table: "FareTable", routes: Sequence[str]) -> "tuple[Trip, ...]":
    """The trips of these routes by their first departure; raises ``Failure`` for a route that the table lacks."""
    for route in routes:
        if not table.has_route(route):
            raise Failure(f"duty.routes: the fare table has no route '{route}'; it has {', '.join(known.id for known in table.routes())}")
    return tuple(sorted((trip for trip in table.trips() if trip.route in routes), key=lambda trip: trip.calls[0].departure_s))


def take_precedence() -> bool:
    """Let this thread run before everything ordinary on the machine; False when the system does not allow it (then nothing changes).

    A tap waits twenty times for the reader or the disk, and after each wait an ordinary thread may stand behind whatever else wants to run
    just then. The station's thread asks for little and sleeps in between, so it takes nothing from others that they would miss. Threads and
    processes started from here stay ordinary.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return False
    return True


def start_screen(config: "Config", socket: Path) -> "subprocess.Popen[bytes]":
    """The screen-and-sound process, listening on ``socket``. It gives way to the station: a frame may be late, a tap may not."""
    screen = config.screen
    width, height = screen.size
    wanted = ["--socket", str(socket), "--size", f"{width}x{height}", "--sound", screen.sound]
    whole = ["--whole-screen"] if screen.whole_screen else []
    process = subprocess.Popen([sys.executable, "-m", "firmware.cli", "screen", *wanted, *whole])
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _GIVES_WAY)
    return process


def open_simulation(wish: "Wish", feed: Path, operators: Sequence[Path], scheme: Path) -> "Simulation":
    """A town to be simulated by a feed and the files of its operators; raises ``Failure`` with every fault of the files."""
    from zoneinfo import ZoneInfo

    from fares import gtfs, operator
    from fares import scheme as schemes
    from fares.faults import Unusable
    from fares.files import open_feed
    from fares.table import FareTable, pack
    from firmware.simulation import Simulation
    from validator.journey import Tariff

    try:
        contents, _ = gtfs.compile_feed(open_feed(feed))
        table, rules = FareTable.unpack(pack(contents)), schemes.load(scheme)
        tariffs = [Tariff(table, operator.load(file), rules) for file in operators]
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable
    return Simulation(wish, tariffs, ZoneInfo("Asia/Tokyo"), VERSION)


def signer_of(private: bytes) -> "Signer":
    """The Ed25519 key of these 32 bytes as a signer."""
    from drivers.signing import Ed25519Key

    return Ed25519Key(private)


# ── the road to the city ──


def _letterbox(ledger: Path, keys: "Sequence[tuple[Algorithm, bytes]]" = ()) -> "LetterboxBeside":
    from drivers.signing import SignatureChecker
    from ledger.receipts import CityKeys, LetterboxBeside
    from ledger.seal import key_id

    return LetterboxBeside(ledger, CityKeys(SignatureChecker(), {key_id(public): public for _, public in keys}))


def open_letterbox(config: "Config") -> "LetterboxBeside":
    """What lies between a vehicle's station and its courier, beside the ledger."""
    return _letterbox(config.ledger, config.city_keys)


def _parts_of(presenter: "Presenter") -> dict[str, int]:
    """The screen, as far as this process sees it; what the loudspeaker does nobody here can hear."""
    from ledger.notes import BROKEN, WORKS

    return {"screen": WORKS if presenter.answering else BROKEN} if isinstance(presenter, ScreenLink) else {}


def open_keyring(config: "Config | Unenrolled") -> "Keyring":
    """The vehicle's device key; raises ``Failure`` when the vault cannot be used."""
    if isinstance(config.keys, TokenAddress):
        from firmware.keyring import OneKey

        return OneKey(_vault_signer(config.keys, config.device_key))
    return _open_key_file(config.keys, config.city.enrolled_key, config.device_key)


def _open_key_file(keys: FileAddress, enrolled: bytes, wish: "DeviceKeySettings") -> "VaultKeyring":
    from firmware.keyring import VaultKeyring, settle

    keyring = VaultKeyring(keys.path, lambda path: _vault_signer(FileAddress(path), wish))
    try:
        settle(keys.path, enrolled, keyring.open)
        keyring.signer()
    except OSError as error:
        raise Failure(f"{keys.path}: cannot be used ({error.strerror}); look at the disk") from error
    return keyring


def _vault_signer(keys: VaultAddress, wish: "DeviceKeySettings") -> "Signer":
    from drivers.signing_tpm import TpmKey, read_wrapped
    from drivers.vault_file import VaultFile, VaultFileRefused, read_signing_keys
    from ledger.seal import VaultSigner

    try:
        if isinstance(keys, FileAddress) and (wrapped := read_wrapped(keys.path)) is not None:
            if wish.tpm is None:
                raise Failure(
                    f'keys.tpm: is missing, and the device key in {keys.path} is a TPM\'s; write tpm = "/dev/tpmrm0" under [keys]'
                )
            return TpmKey(wish.tpm, wrapped)
        vault = VaultFile(read_signing_keys(keys.path)) if isinstance(keys, FileAddress) else open_vault(keys)
    except VaultFileRefused as refused:
        raise Failure(str(refused)) from refused
    return VaultSigner(vault, vault.device_public_key(), vault.device_algorithm)


def where_the_key_is(keyring: "Keyring") -> str:
    """A few words: in the TPM, a token or a file; or why it signs nothing now. It asks the TPM nothing by itself."""
    from drivers.errors import VaultLost
    from drivers.signing_tpm import TpmKey
    from firmware.keyring import VaultKeyring

    try:
        signer = keyring.signer()
    except VaultLost as lost:
        return str(lost)
    if isinstance(signer, TpmKey):
        return signer.trouble or f"the device key is in the TPM at {signer.device} and cannot leave it"
    return (
        "the device key is in a file: whoever copies the disk has it"
        if isinstance(keyring, VaultKeyring)
        else "the device key is in a token"
    )


def try_the_key(config: "Config") -> str:
    """Sign something with the device's key; where it is, and its id. Raises ``Failure`` with why it does not sign."""
    from drivers.errors import VaultLost
    from drivers.signing import SignatureChecker
    from ledger.seal import key_id

    keyring, tried = open_keyring(config), b"kazashi does the key sign?"
    try:
        signer = keyring.signer()
        SignatureChecker().check(signer.algorithm, signer.public, signer.sign(tried), tried)
    except VaultLost as lost:
        raise Failure(str(lost)) from lost
    return f"{where_the_key_is(keyring)}; it signs by {signer.algorithm.name}, its id is {key_id(signer.public).hex()}"


def enrol(seeker: "Unenrolled", code: str, output: Path) -> "Enrolled":
    """Bring this terminal to its city, and write what the city gave into ``output``. Raises ``Failure``.

    Run again after a power cut, or with the same code, it does what is left to do.
    """
    from firmware.enrolment import KnownKey, layer
    from firmware.keyring import enrolling_file, settle
    from ledger.beside import replace_file
    from ledger.seal import key_id

    uplink = _open_wire(seeker.city)
    before = _enrolled_before(output)
    try:
        signer = _enrolling_signer(seeker, before)
        try:
            enrolled = _ask_in(uplink, code, signer, seeker.city.url)
        except KnownKey:
            if isinstance(seeker.keys, TokenAddress):
                raise
            enrolling_file(seeker.keys.path).unlink(missing_ok=True)  # known to the city, by this enrolment or by one before
            signer = _enrolling_signer(seeker, b"")
            enrolled = _ask_in(uplink, code, signer, seeker.city.url)
        _expect_same_terminal(seeker, enrolled)
        kid = key_id(signer.public)
        replace_file(output, layer(enrolled, kid, seeker.city.url, str(seeker.city.authority or "")))
        if isinstance(seeker.keys, FileAddress):
            settle(seeker.keys.path, kid, lambda path: _vault_signer(FileAddress(path), seeker.device_key))
    except OSError as error:
        raise Failure(f"{error.filename or output}: cannot be written ({error.strerror}); correct that and run the same again") from error
    return enrolled


def _enrolling_signer(seeker: "Unenrolled", before: bytes) -> "Signer":
    """The key to be enrolled: a token's own, or one made here, which lies beside the key file until it is enrolled.

    The key that was enrolled ``before`` (its id) is shown once more: whoever runs the command twice is told the same. Not so a key of
    another TPM than the one that is here: it never signs again.
    """
    from drivers.vault_file import VaultFileRefused
    from firmware.keyring import enrolling_file, lay_whole
    from ledger.seal import key_id

    keys, wish = seeker.keys, seeker.device_key
    if isinstance(keys, TokenAddress):
        return _vault_signer(keys, wish)
    beside, signer = enrolling_file(keys.path), _vault_signer(keys, wish)
    if before and not beside.exists() and key_id(signer.public) == before and _belongs_here(signer, wish):
        return signer
    try:
        kept = _kept_beside_the_device_key(keys.path)
        if not (
            beside.exists()
            and kept == _kept_beside_the_device_key(beside)
            and _belongs_here(_vault_signer(FileAddress(beside), wish), wish)
        ):
            lay_whole(beside, _new_device_key(kept, wish))
    except VaultFileRefused as refused:
        raise Failure(str(refused)) from refused
    return _vault_signer(FileAddress(beside), wish)


def _belongs_here(signer: "Signer", wish: "DeviceKeySettings") -> bool:
    """False for a key of another TPM, or of one where none is now. Raises ``Failure`` when the TPM that is here cannot be asked."""
    from drivers.errors import VaultLost
    from drivers.signing_tpm import TpmKey
    from drivers.tpm import KeyElsewhere

    if isinstance(signer, TpmKey):
        if _tpm_for(wish) is None:
            return False
        try:
            signer.sign(b"kazashi does the key sign?")
        except KeyElsewhere:
            return False
        except VaultLost as lost:
            raise Failure(str(lost)) from lost
    return True


def _kept_beside_the_device_key(path: Path) -> "KeySet":
    """What a key file holds but the device's key; a TPM's holds nothing else. Raises ``VaultFileRefused``."""
    from drivers.signing_tpm import read_wrapped
    from drivers.vault_file import KeySet, read_signing_keys

    return KeySet.device_only(b"") if read_wrapped(path) is not None else read_signing_keys(path).for_terminal(b"")


def _new_device_key(kept: "KeySet", wish: "DeviceKeySettings") -> Callable[[Path], None]:
    """What makes a new device key in a file, with what is ``kept`` there: made by the TPM, or drawn here. Raises ``Failure``."""
    import secrets

    from drivers.signing_tpm import new_key, write_wrapped
    from drivers.tpm import TpmLost
    from drivers.vault_file import write_keys

    tpm = _tpm_for(wish)
    if tpm is None:
        return lambda path: write_keys(path, kept.for_terminal(secrets.token_bytes(32)))
    if kept.cards:
        raise Failure(
            "keys.file: holds cards' keys, too, and a TPM keeps none; give the device's key a file of its own, or leave keys.tpm out"
        )
    try:
        made = new_key(tpm)
    except TpmLost as lost:
        raise Failure(f"no device key could be made: {lost}") from lost
    return lambda path: write_wrapped(path, made)


def _tpm_for(wish: "DeviceKeySettings") -> Path | None:
    """The TPM in which a new device key is to be made; None: in a file. Raises ``Failure`` rather than take the weaker one unasked."""
    from drivers.signing_tpm import is_expected, is_there
    from firmware.config import KeyHome

    if wish.home is KeyHome.FILE:
        return None
    if wish.tpm is None:
        if wish.home is KeyHome.TPM:
            raise Failure('keys.tpm: is missing, and keys.device_key asks for a TPM; write tpm = "/dev/tpmrm0" under [keys]')
        return None
    if is_there(wish.tpm):
        return wish.tpm
    in_a_file = 'switch it on in the machine\'s setup, or write device_key = "file" under [keys]'
    if wish.home is KeyHome.TPM:
        raise Failure(f"{wish.tpm}: there is no TPM here, and keys.device_key asks for one; {in_a_file}")
    if is_expected(wish.tpm):
        raise Failure(f"{wish.tpm}: the machine's firmware names a TPM, and it is not there (yet); {in_a_file}")
    return None


def _ask_in(uplink: "HttpUplink", code: str, signer: "Signer", url: str) -> "Enrolled":
    from drivers.errors import VaultLost
    from drivers.tpm import TpmLost
    from firmware.enrolment import DOOR, application, understood
    from ledger.carrier import JSON, NoAnswer

    try:
        return understood(uplink.post(DOOR, application(code, signer), JSON, JSON), url)
    except TpmLost as error:
        raise Failure(str(error)) from error
    except VaultLost as error:
        raise Failure(f"{error}; plug the token in and run the same again") from error
    except NoAnswer as error:
        raise Failure(f"no answer from {error}; look at the network and the address and run the same again, the code stays good") from error


def _enrolled_before(output: Path) -> bytes:
    """The id of the key that was enrolled when ``output`` was written; empty when there is no such file yet."""
    from firmware.enrolment import FIRST_LINE, key_in

    try:
        text = output.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Failure(f"{output}: cannot be read ({error.strerror}); name another file with --output") from error
    if not text.startswith(FIRST_LINE):
        raise Failure(f"{output}: `kazashi enrol` did not write this file and does not replace it; name another one with --output")
    return key_in(text)


def _expect_same_terminal(seeker: "Unenrolled", enrolled: "Enrolled") -> None:
    """The number that the city gives must be the one that is already on cards and in the ledger here, if there is one."""
    from ledger.errors import LedgerError

    told = f"the city gave the code for number {enrolled.device}, {enrolled.name}; nothing was changed here"
    if seeker.number not in {None, enrolled.device}:
        raise Failure(f"terminal.number: is {seeker.number}, and {told}. Correct it, or take that terminal's code")
    if seeker.ledger is None or not seeker.ledger.exists():
        return
    try:
        with open_ledger_to_send(seeker.ledger) as ledger:
            device = ledger.device
    except LedgerError as error:
        raise Failure(str(error)) from error
    if device != enrolled.device:
        raise Failure(
            f"{seeker.ledger}: is the ledger of terminal {device}, and {told}. Take that terminal's code, or move the ledger away"
        )


def make_next_key(config: "Config") -> str:
    """Make the vehicle's next device key and announce it in the ledger, which nobody else may have open; raises ``Failure``.

    The announcement's ``reason``; the same one again when it was made before and the city does not know it yet.
    """
    from drivers.devices.clock_system import SystemClock
    from drivers.vault_file import VaultFileRefused
    from firmware.keyring import lay_whole
    from ledger.entry import Entry, Kind, Versions, When
    from ledger.errors import LedgerError

    if isinstance(config.keys, TokenAddress):
        raise Failure("keys.file: a token keeps its one device key; to exchange it, fill a new token and enrol the vehicle again")
    keyring = _open_key_file(config.keys, config.city.enrolled_key, config.device_key)
    try:
        with open_ledger(config.ledger, config.terminal) as ledger:
            if keyring.next_signer() is None:
                lay_whole(keyring.next_file, _new_device_key(_kept_beside_the_device_key(config.keys.path), config.device_key))
            announced, reason = ledger.last(Kind.KEY), keyring.next_reason()
            if announced is None or announced.reason != reason:
                started = ledger.last(Kind.BOOT)
                now = SystemClock(started.when.boot + 1 if started else 1).now()
                when = When(now.boot, now.mono_ms, max(now.utc_ms, 0), int(now.state))
                entry = Entry(Kind.BOOT, when, versions=Versions(software=software()))
                ledger.append(entry)  # the clock's count begins anew with this program, so its boot has a number of its own
                ledger.append(replace(entry, kind=Kind.KEY, reason=reason))
            return reason
    except (VaultFileRefused, LedgerError) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{keyring.next_file}: cannot be written ({error.strerror}); look at the disk") from error


def open_uplink(config: "Config") -> "HttpUplink":
    """The wire to the city; raises ``Failure``."""
    if not config.city.url:
        raise Failure("city.url: is missing; write the city's address, or carry batches by `kazashi ledger stick`")
    return _open_wire(config.city)


def _open_wire(city: "CitySettings") -> "HttpUplink":
    from ledger.uplink import BadAddress, Certificates, HttpUplink

    try:
        return HttpUplink(city.url, Certificates(city.authority, city.certificate, city.certificate_key))
    except BadAddress as error:
        raise Failure(str(error)) from error


@contextmanager
def open_courier(config: "Config", uplink: "Wire | None" = None, pace: "Pace | None" = None) -> Generator["Carrier"]:
    """The vehicle's one courier, by the configured wire or another; raises ``Failure``."""
    import random

    from drivers.devices.clock_system import SystemClock
    from firmware.counts import COUNTED
    from ledger.beside import BesideDatabase
    from ledger.carrier import Carrier, Down, Equipment
    from ledger.errors import LedgerError

    letterbox, clock, wire = open_letterbox(config), SystemClock(0), uplink or open_uplink(config)
    equipment = Equipment(
        device=config.terminal,
        software=software(),
        ledgers=partial(ledgers_beside, config.ledger),
        open=open_ledger_to_send,
        uplink=wire,
        believe=letterbox.city.receipt,
        letterbox=letterbox,
        keyring=open_keyring(config),
        clock=clock,
        draw=random.SystemRandom().random,
        free_bytes=BesideDatabase(config.ledger).free_bytes,
        down=Down(wire, letterbox.city.package, lambda: _today(clock, config.zone)),
        counts=partial(counted_in, COUNTED),
    )
    try:
        letterbox.lock()
    except LedgerError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{config.ledger}: nothing can be written beside it ({error.strerror}); correct ledger.file") from error
    try:
        yield Carrier(equipment, pace)
    finally:
        letterbox.unlock()


def _today(clock: "Clock", zone: "ZoneInfo") -> "date | None":
    """The day by the calendar; None while the clock is unset."""
    from datetime import datetime

    from drivers.devices.clock import ClockState

    now = clock.now()
    return None if now.state is ClockState.UNSET else datetime.fromtimestamp(now.utc_ms / 1000, zone).date()


def ledgers_beside(path: Path) -> list[Path]:
    """The ledgers that were set aside beside ``path``, and ``path`` last."""
    from ledger.renewal import set_aside_ledgers

    return [*set_aside_ledgers(path), path]


def open_ledger_to_send(path: Path) -> "LedgerFile":
    """A ledger whose entries are sent, whether or not a memory lies beside it; raises ``ledger.errors.LedgerError``."""
    from ledger.store import LedgerFile

    return LedgerFile.open_read_only(path, remembered=False)


# ── who a unit is ──


def is_unit(files: Sequence[Path]) -> bool:
    """Whether this is an appliance with a folder of its own, and not a program that somebody started by hand."""
    return any(not file.suffix for file in files)


def why_not(files: Sequence[Path]) -> "Reason | None":
    """Why this unit takes no card; None when it does, or when its files are at fault, which whoever reads them tells."""
    from firmware.config import ENROLLED, UNIT
    from validator.standby import Reason

    for folder in (file for file in files if not file.suffix):
        if not folder.is_dir():
            return Reason.NO_DISK
        if not (folder / UNIT).exists() or reset_begun(folder.parent):
            return Reason.NOBODY
        if not (folder / ENROLLED).exists() and _seeks_a_city(folder / UNIT):
            return Reason.STRANGER
    return None


def _seeks_a_city(file: Path) -> bool:
    """Whether the unit's own file names a city, and nobody wrote that city's keys into it."""
    import tomllib

    try:
        told = tomllib.loads(file.read_text(encoding="utf-8")).get("city", {})
    except (OSError, ValueError):
        return False
    return bool(told.get("url")) and "keys" not in told


@contextmanager
def open_standby(files: Sequence[Path], reason: "Reason", presenter: "Presenter") -> Generator["Standby"]:
    """A validator that takes no card and says why. What it sees goes into a ledger of its own, never to the city. Raises ``Failure``."""
    from drivers.devices.clock_system import SystemClock
    from firmware.config import provisional
    from validator.standby import Reason, Standby

    config = provisional(files) if reason in {Reason.STRANGER, Reason.UNWRITABLE} else None
    with ExitStack() as undo:
        reader = open_reader(config.reader) if config else None
        if reader is not None:
            undo.callback(reader.close)
        standby = Standby(reason, reader, presenter, SystemClock(0), lambda: why_not(files) is not reason)
        if config is not None and reason is Reason.UNWRITABLE:
            standby.over = partial(_can_write, config)
        elif config is not None:
            standby.touched = undo.enter_context(_quarantine(config))
        yield standby


def _can_write(config: "Config") -> bool:
    try:
        open_ledger(config.ledger, config.terminal).close()
    except Failure:
        return False
    return True


@contextmanager
def _quarantine(config: "Config") -> Generator[Callable[[], None]]:
    """A ledger beside the vehicle's that no courier looks for: the starts, and how often a card was seen. It knows no rider.

    A disk on which it cannot be kept keeps nobody from being told that this unit is not commissioned.
    """
    import logging

    from drivers.devices.clock_system import SystemClock
    from ledger.entry import Entry, Kind, Versions, When
    from ledger.errors import Full, NotStored

    log = logging.getLogger(__name__)
    try:
        store = open_ledger(config.ledger.with_name("quarantine"), config.terminal)
    except Failure as failure:
        log.warning("%s; nothing is recorded in quarantine", failure)
        yield lambda: None
        return
    started = store.last(Kind.BOOT)
    clock = SystemClock(started.when.boot + 1 if started else 1)

    def note(kind: Kind = Kind.ALARM, reason: str = "quarantine:touch") -> None:
        now = clock.now()
        when = When(now.boot, now.mono_ms, max(now.utc_ms, 0), int(now.state))
        try:
            store.append(Entry(kind, when, versions=Versions(software=software()), reason=reason))
        except (Full, NotStored) as error:
            log.warning("not recorded in quarantine: %s", error)

    with closing(store):
        note(Kind.BOOT, "")
        yield note


def write_unit(folder: Path, identity: "Identity", files: Mapping[str, bytes], desk: Path) -> None:
    """Make the folder of a unit, with a vehicle's keys from the desk's. What a unit would refuse is not written. Raises ``Failure``."""
    import secrets
    import tempfile

    from drivers.vault_file import VaultFileRefused, read_keys
    from firmware.provision import STATION_KEYS, unit_file, write
    from ledger.beside import replace_file

    try:
        keys = read_keys(desk).for_terminal(secrets.token_bytes(32))
    except VaultFileRefused as refused:
        raise Failure(str(refused)) from refused
    whole = {**files, STATION_KEYS: keys.text().encode(), "unit.toml": unit_file(identity, files)}
    with tempfile.TemporaryDirectory(prefix="kazashi-") as scratch:
        write(Path(scratch) / folder.name, whole, replace_file)
        _expect_a_unit(Path(scratch) / folder.name)
    write(folder, whole, replace_file)


def _expect_a_unit(folder: Path) -> None:
    """All of a unit's files are what they should be; raises ``Failure`` with what is not."""
    from firmware.config import UNIT, provisional

    config = provisional([folder / UNIT])
    tariff = open_tariff(config.rules)
    trips_of(tariff.table, config.routes)
    if config.keypad_device and config.keypad_mapping:
        open_keypad(config.keypad_device, config.keypad_mapping)


def take_unit(folder: Path, unit: Path, release: Path = Path("/usr/lib/os-release")) -> Sequence[str]:
    """Make this machine the unit of ``folder``; the files that were taken, none when it is somebody already.

    Then the secrets leave the stick, also those that a power cut left there. Raises ``Failure`` and ``OSError``.
    """
    import secrets

    from drivers.vault_file import KeySet
    from firmware.config import UNIT
    from firmware.provision import SECRETS, expect_role, read, take
    from firmware.unit_folder import UnitFolder

    if reset_begun(unit.parent):
        finish_reset(unit.parent)
    shelf = UnitFolder(unit)
    taken: Sequence[str] = ()
    if not shelf.has(UNIT):
        files = read(folder)
        expect_role(files, release.read_text(encoding="utf-8") if release.exists() else "")
        taken = take(files, shelf, lambda: KeySet.device_only(secrets.token_bytes(32)).text().encode())
    stick = folder / UNIT
    if stick.is_file() and stick.read_bytes() == shelf.read(UNIT):
        for name in SECRETS:
            (folder / name).unlink(missing_ok=True)
        os.sync()
    return taken


def reset_begun(data: Path) -> bool:
    """Whether somebody ordered that this unit becomes nobody, and it is not finished."""
    from firmware.reset import begun

    return begun(data)


def close_ledger(config: "Config", stick: Path) -> int:
    """Close the epoch, and write to ``stick`` all that the city has not signed for; how many files. Raises ``Failure``."""
    from drivers.devices.clock_system import SystemClock
    from drivers.errors import VaultLost
    from firmware.reset import REASON
    from ledger import stick as sticks
    from ledger.beside import replace_file
    from ledger.entry import Entry, Kind, Versions, When
    from ledger.errors import LedgerError

    keyring, letters = open_keyring(config), open_letterbox(config)
    written: dict[str, bytes] = {}
    try:
        letters.lock()
        try:
            with closing(open_ledger(config.ledger, config.terminal)) as store:
                now, last = SystemClock(0).now(), store.last(Kind.ALARM)
                if last is None or (last.reason, last.seq) != (REASON, store.head().seq):
                    started = store.last(Kind.BOOT)
                    when = When(started.when.boot + 1 if started else 1, now.mono_ms, max(now.utc_ms, 0), int(now.state))
                    store.append(Entry(Kind.BOOT, when, versions=Versions(software=software())))
                    store.expire_intents(when)  # a debit whose outcome is open goes to the city as one
                    store.append(Entry(Kind.ALARM, when, versions=Versions(software=software()), reason=REASON))
            written |= dict(sticks.loss(told.loss, keyring.signer()) for told in letters.losses())
            for path in ledgers_beside(config.ledger):
                with open_ledger_to_send(path) as ledger:
                    written |= dict(sticks.batches(ledger, keyring, max(now.utc_ms, 0)))
        finally:
            letters.unlock()
        for name, sealed in written.items():
            replace_file(stick / name, sealed)
        os.sync()
        wrong = [name for name, sealed in written.items() if (stick / name).read_bytes() != sealed]
    except (LedgerError, VaultLost) as error:
        raise Failure(f"{error}; nothing was erased") from error
    except OSError as error:
        raise Failure(f"{error.filename or stick}: cannot be used ({error.strerror}); nothing was erased, take another stick") from error
    if wrong:
        raise Failure(f"{stick / wrong[0]}: does not read back as it was written; nothing was erased, take another stick")
    return len(written)


def finish_reset(data: Path) -> None:
    """Erase who this unit is, and its ledger; raises ``Failure``. Cut anywhere, it is done again."""
    from firmware.reset import erase
    from ledger.beside import flush_folder, replace_file

    def remove(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        flush_folder(path.parent)

    try:
        erase(data, lambda note: replace_file(note, b"kazashi reset 1\n"), remove)
    except OSError as error:
        raise Failure(f"{error.filename or data}: cannot be erased ({error.strerror}); destroy the disk, it holds keys") from error


def admit_unit(unit: Path) -> bool:
    """Let what the city gave be the unit's, once; whether something waited. Raises ``OSError``."""
    from firmware.config import ENROLLED
    from firmware.provision import admit
    from firmware.unit_folder import UnitFolder

    return admit(UnitFolder(unit), ENROLLED)


# ── packages from the city ──


def packages_of(config: "Config") -> Path:
    """The folder of what the city sent: beside the ledger."""
    return config.ledger.parent / "packages"


def open_judge(config: "Config") -> "Judge":
    """By what this terminal judges packages; raises ``Failure``."""
    with closing(open_vault(config.keys)) as vault:
        return _judge(config, vault.rider_key_version)


def _judge(config: "Config", rider_key: int) -> "Judge":
    from drivers.devices.clock_system import SystemClock
    from drivers.signing import SignatureChecker
    from fares.faults import Unusable
    from fares.table import FareTable
    from firmware.packages import CityKey, Judge

    def table() -> "FareTable | None":
        with suppress(Unusable):  # one that cannot be opened is no measure for another
            return FareTable.open(config.rules.table)
        return None

    return Judge(
        keys=tuple(CityKey(algorithm, public) for algorithm, public in config.city_keys),
        checker=SignatureChecker(),
        today=_service_day(config)(),
        rider_key=rider_key,
        table=table,
        denied=lambda: open_deny_list(config.rules.deny_list, rider_key),
        recent=lambda: _recent_riders(config.ledger, SystemClock(1).now().utc_ms),
        routes=config.routes,
    )


def _service_day(config: "Config") -> "Callable[[], date | None]":
    """Today by the operator's rules; None while the clock is unset. Raises ``Failure``."""
    from datetime import datetime

    from drivers.devices.clock import ClockState
    from drivers.devices.clock_system import SystemClock
    from fares import operator
    from fares.faults import Unusable

    try:
        rules = operator.load(config.rules.operator)
    except Unusable as error:
        raise Failure(str(error)) from error

    def today() -> "date | None":
        now = SystemClock(1).now()
        return None if now.state is ClockState.UNSET else rules.service_day(datetime.fromtimestamp(now.utc_ms / 1000, config.zone))

    return today


def _recent_riders(ledger: Path, now_ms: int) -> set[bytes]:
    """Who rode here in the last days, by this terminal's ledger; nobody when there is none yet or it cannot be read."""
    from ledger.errors import LedgerError
    from ledger.store import LedgerFile
    from validator.bounds import MOST_RECENT_ENTRIES, RECENT_DAYS

    since_ms = now_ms - RECENT_DAYS * 86_400_000
    try:
        with LedgerFile.open_read_only(ledger) as book:
            first = max(0, book.head().seq - MOST_RECENT_ENTRIES)
            entries = book.after(first, MOST_RECENT_ENTRIES)
    except LedgerError:
        return set()
    return {entry.medium.rider for entry in entries if entry.medium and (entry.when.utc_ms >= since_ms or not entry.when.clock)}


def _open_rulebook(config: "Config", rider_key: int) -> "PackagedRules":
    """Where a station's rules come from; raises ``Failure``."""
    from firmware.rulebook import PackagedRules

    return PackagedRules(
        folder=packages_of(config),
        parcels=open_letterbox(config),
        judge=lambda: _judge(config, rider_key),
        today=_service_day(config),
        build=lambda sent: _rules_with(config, sent, rider_key),
        words=_words_of_update(config).noted,
    )


def _words_of_update(config: "Config") -> "UpdateWords":
    """What the update agent leaves for the station: beside the ledger's folder."""
    from firmware.update_files import Words

    return Words(config.ledger.parent.parent / "update" / "words")


def open_updater(config: "Config | None", data: Path, run: Path, stick: Path, manifest: Path) -> "Updater":
    """The update agent of this machine; without a ``config`` it has a stick only. Raises ``Failure`` where no image of ours runs."""
    import random

    from drivers.devices.clock_system import SystemClock
    from firmware.system import RaucInstaller, TrialFile
    from firmware.update_files import CitySource, ImageUnit, Staging, StickSource, Words, running
    from firmware.updater import Equipment, Updater

    compatible, version = running(manifest)
    if not version:
        raise Failure(f"{manifest}: does not say which image this machine runs; updates are for Kazashi's images only")
    stage = Staging(data / "update")
    sticks = StickSource(stick, RaucInstaller.facts)
    city = [CitySource(_open_wire(config.city))] if config is not None and config.city.url else []
    unit = ImageUnit(
        version=version,
        compatible=compatible,
        trip=lambda: config is not None and _on_trip(config.ledger),
        mark=TrialFile(data / "health" / "trial", run / "health" / "back"),
        good=run / "health" / "good",
        request=run / "update" / "restart",
        words=Words(data / "update" / "words"),
    )
    return Updater(Equipment([sticks, *city], stage, RaucInstaller(stage.bundle), unit, SystemClock(0), random.SystemRandom().random))


def offer_bundle(bundle: Path, folder: Path) -> "UpdateOffer":
    """Copy a bundle to where the city's server offers it, and list it; raises ``Failure``."""
    from firmware.system import RaucInstaller
    from firmware.update import MalformedIndex
    from firmware.update_files import publish
    from firmware.updater import InstallFailed, InstallRefused

    try:
        return publish(bundle, folder, RaucInstaller.told(bundle))
    except (InstallRefused, InstallFailed) as error:
        raise Failure(f"{bundle}: is no bundle that could be offered; {error}") from error
    except MalformedIndex as error:
        raise Failure(f"{folder / 'index.json'} {error}; correct it, or delete it and offer the bundles again") from error
    except OSError as error:
        raise Failure(f"{error.filename or folder}: cannot be used ({error.strerror}); name a folder of the city's server") from error


def _on_trip(path: Path) -> bool:
    """Whether a trip or a debit is open by the vehicle's ledger. One that cannot be read says nothing, and then nothing is risked."""
    from ledger.entry import Kind
    from ledger.errors import LedgerError
    from ledger.store import LedgerFile

    if not path.exists():
        return False
    try:
        with LedgerFile.open_read_only(path) as ledger:
            last = {kind: entry.seq if (entry := ledger.last(kind)) else 0 for kind in (Kind.TRIP_OPEN, Kind.TRIP_CLOSE, Kind.SHIFT_CLOSE)}
            return bool(ledger.intents()) or last[Kind.TRIP_OPEN] > max(last[Kind.TRIP_CLOSE], last[Kind.SHIFT_CLOSE])
    except LedgerError:
        return True


def _sent_by_now(rulebook: "PackagedRules") -> "dict[PackageKind, Package]":
    """What the city sent and is in force from now on. A disk that fails here must not keep a bus from starting."""
    import logging

    try:
        rulebook.judge_all()
        if not rulebook.folder.is_dir():
            return {}
        sent = rulebook.enter(rulebook.judge())
        rulebook.judge_all()  # what waited for those
    except OSError as error:
        logging.getLogger(__name__).warning("packages cannot be used (%s); the configuration's files are in force", error.strerror)
        return {}
    return sent


def _rules_by_now(rulebook: "PackagedRules") -> "InForce":
    """The rules at a start: with what the city sent, or without it when that cannot be used. Raises ``Failure``."""
    import logging

    sent = _sent_by_now(rulebook)
    try:
        return rulebook.build(sent)
    except Failure as failure:
        if not sent:
            raise
        logging.getLogger(__name__).warning("%s; the configuration's files are in force", failure)
        return rulebook.build({})


def _rules_with(config: "Config", sent: "Mapping[PackageKind, Package]", rider_key: int) -> "InForce":
    from ledger.entry import Versions
    from validator.rulebook import InForce

    tariff = open_tariff(config.rules, sent)
    versions = Versions(
        table=tariff.table.digest,
        scheme=tariff.scheme.digest,
        operator=tariff.operator.digest,
        software=software(),
        rider_key=rider_key,
    )
    return InForce(tariff, versions, _denied(config, sent, rider_key).blocks, trips_of(tariff.table, config.routes))


def _denied(config: "Config", sent: "Mapping[PackageKind, Package]", rider_key: int) -> "DenyList":
    from ledger.package import PackageKind
    from validator.lists import parse

    found = sent.get(PackageKind.DENY_LIST)  # it was parsed when it came into force
    return parse(found.file.decode(), str(found), rider_key) if found else open_deny_list(config.rules.deny_list, rider_key)


def make_city_key(path: Path) -> None:
    """A new Ed25519 key of the city in a file that only its owner can read; raises ``Failure``. An existing file is never replaced."""
    import secrets

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Failure(f"{path}: there is a file already; keys are never overwritten, name another file") from None
    except OSError as error:
        raise Failure(f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write("# The city's signing key. Whoever has it can give every terminal new rules.\n")
        file.write(f'format = 1\nprivate = "{secrets.token_hex(32)}"\n')
        file.flush()
        os.fsync(file.fileno())


def open_city_key(path: Path) -> "Signer":
    """The city's key in a file; raises ``Failure``."""
    from fares.faults import Unusable
    from fares.fields import parse

    try:
        if path.stat().st_mode & 0o077:
            raise Failure(f"{path}: others can read this key; make it yours alone with `chmod 600 {path}`")
        source = parse(path.read_bytes(), str(path))
        source.root.number("format", least=1, most=1)
        private = source.root.text("private")
        if len(private) != 64 or set(private) - set("0123456789abcdef"):
            source.root.fault("private", "must be 64 hex digits; take the file from its backup.")
        source.finish()
    except Unusable as unusable:
        raise Failure(str(unusable)) from unusable
    except OSError as error:
        raise Failure(f"{path}: cannot be read ({error.strerror}); `kazashi publish keys --new {path}` makes a key") from error
    return signer_of(bytes.fromhex(private))


def base64url(data: bytes) -> str:
    """As public keys are written in configurations."""
    import base64

    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
