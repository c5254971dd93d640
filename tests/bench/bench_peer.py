"""The same work through a stranger's library: prove the card, read the purse, take a point, prove that it is gone.

Both work on the same issued card at the same twin, in turn, from the moment at which the card is known (each library's search for cards is
left out). The stranger is nfcpy 1.0.4 by its documented Lite-S calls: ``authenticate``, ``read_with_mac``, ``write_with_mac``,
``read_with_mac``; once as it is, once with its pure Python cipher replaced by the one we use.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nfc
from bus import BAUD, Outfit, outfit
from nfc.clf import pn532, transport
from nfc.tag import tt3_sony
from rows import Row

from drivers.cards import purse
from drivers.cards.lite_s import Block, swap_halves
from drivers.cards.purse import Counters, RegLog
from drivers.cards.tdes import encrypt_cbc
from drivers.emulated.lite_s_card import Delay
from drivers.readers.pn532 import Card, Pn532
from drivers.readers.serial_port import SerialPort

ROUNDS = 60
AS_IT_IS_BAR, WITH_OUR_CIPHER_BAR = 2.5, 1.7


class FastCipher:
    """What nfcpy uses of pyDes' ``triple_des``, done by our cipher."""

    def __init__(self, key: bytes, _mode: int, iv: bytes) -> None:
        self._key, self._iv = key, iv

    def encrypt(self, text: bytes) -> bytes:
        return encrypt_cbc(bytes(self._key), bytes(self._iv), bytes(text))


def rows() -> list[Row]:
    """Ours against nfcpy, card delays at half of PMm."""
    with outfit(1, Delay.HALF) as made:
        made.twin.lay(0)
        ours_s, theirs_s, faster_s = _rounds(made)
    return [
        _row("authenticated read, one debit, verified: nfcpy's time over ours", theirs_s, ours_s, AS_IT_IS_BAR),
        _row("the same, nfcpy with our cipher", faster_s, ours_s, WITH_OUR_CIPHER_BAR),
    ]


def _row(figure: str, theirs_s: list[float], ours_s: list[float], bar: float) -> Row:
    theirs, ours = _middle(theirs_s), _middle(ours_s)
    return Row(figure, f"{theirs / ours:.2f} × ({theirs * 1000:.1f} ms; ours {ours * 1000:.1f} ms)", f"≥ {bar} ×", theirs / ours >= bar)


def _middle(figures: list[float]) -> float:
    return sorted(figures)[len(figures) // 2]


def _rounds(made: Outfit) -> tuple[list[float], list[float], list[float]]:
    """Ours, nfcpy's, nfcpy's with our cipher; one after the other, five at a time, because they share the line."""
    ours_s: list[float] = []
    theirs_s: list[float] = []
    faster_s: list[float] = []
    gc.collect()
    for _ in range(ROUNDS // 5):
        ours_s += _ours(made, 5)
        theirs_s += _theirs(made, 5)
        with _our_cipher():
            faster_s += _theirs(made, 5)
    return ours_s, theirs_s, faster_s


def _ours(made: Outfit, count: int) -> list[float]:
    reader = Pn532("bench", lambda baud: SerialPort(str(made.twin.link), baud), time.monotonic_ns, baud=BAUD)
    if not reader.revive():
        raise AssertionError("the twin was not found")
    card = _found(reader)
    taken_s = [_timed(lambda: _our_debit(made, card)) for _ in range(count)]
    reader.close()
    return taken_s


def _found(reader: Pn532) -> Card:
    """The card; after the field came on it needs a few milliseconds."""
    for _ in range(10):
        for card in reader.poll():
            return card
    raise AssertionError("the card was not found")


def _our_debit(made: Outfit, card: Card) -> None:
    vault = made.town.desk
    reading = purse.read(card, vault, vault.grants, lambda _rider, _digest: True, made.town.random)
    log = RegLog(1, int(time.time()), 0)
    purse.debit(card, reading, 1, log)
    if purse.verify(card, reading) != purse.debited(reading, 1, log):
        raise AssertionError("our debit is not there")


def _theirs(made: Outfit, count: int) -> list[float]:
    device: Any = pn532.init(transport.TTY(str(made.twin.link)))
    device._path = str(made.twin.link)  # as its own `connect` does
    frontend = nfc.ContactlessFrontend()
    frontend.device = device
    try:
        target = frontend.sense(nfc.clf.RemoteTarget("424F"))
        tag: Any = nfc.tag.activate(frontend, target)
        password = swap_halves(made.town.desk.card_key(bytes(tag.idm), made.town.desk.newest_card_key))
        return [_timed(lambda: _their_debit(tag, password)) for _ in range(count)]
    finally:
        frontend.close()


def _their_debit(tag: Any, password: bytes) -> None:
    if not tag.authenticate(password):
        raise AssertionError("nfcpy could not prove the card")
    found = bytes(tag.read_with_mac(Block.REG, Block.S_PAD0))
    now = Counters.parse(found[:16], bytes(3))
    wanted = Counters(now.rega - 1, now.regb - 1, RegLog(1, int(time.time()), 0).block(), 0).reg_block()
    tag.write_with_mac(wanted, int(Block.REG))
    if bytes(tag.read_with_mac(Block.REG)) != wanted:
        raise AssertionError("nfcpy's debit is not there")


@contextmanager
def _our_cipher() -> Iterator[None]:
    before = tt3_sony.triple_des
    tt3_sony.triple_des = FastCipher
    try:
        yield
    finally:
        tt3_sony.triple_des = before


def _timed(work: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s
