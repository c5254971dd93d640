"""A stranger, nfcpy, opens the emulated PN532 by its own serial driver and does with the emulated card what it does with real ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.emulated.air import Air
from drivers.emulated.lite_s_card import LiteSCard, Traits, blank
from drivers.emulated.pn532_chip import Pn532Chip
from drivers.emulated.pn532_pty import Pn532Pty

nfc = pytest.importorskip("nfc", reason="nfcpy, a test peer, is not installed")

IDM = bytes.fromhex("0102030405060708")
SIXTEEN = bytes(range(16))
PASSWORD = b"0123456789abcdef"
KEY = PASSWORD[7::-1] + PASSWORD[:7:-1]


class Desk:
    """The twin behind a device link, and nfcpy's front end on it."""

    def __init__(self, link: Path) -> None:
        from nfc.clf import pn532, transport

        self.air = Air()
        self.twin = Pn532Pty(Pn532Chip(self.air), link)
        self.twin.__enter__()
        device = pn532.init(transport.TTY(str(link)))
        device._path = str(link)
        self.frontend = nfc.ContactlessFrontend()
        self.frontend.device = device

    def tag(self, card: LiteSCard) -> Any:
        """What nfcpy makes of this card, which is laid alone."""
        for lying in self.air.cards:
            self.air.lift(lying.idm)
        self.air.lay(card)
        target = self.frontend.sense(nfc.clf.RemoteTarget("212F"))
        assert target is not None
        return nfc.tag.activate(self.frontend, target)

    def close(self) -> None:
        self.frontend.close()
        self.twin.__exit__(None, None, None)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    one = Desk(tmp_path_factory.mktemp("dev") / "reader")
    yield one
    one.close()


def lenient(key: bytes = bytes(16)) -> LiteSCard:
    card = blank(IDM)
    card.traits = Traits(strict=False)
    card.rewrite(0x87, key)
    return card


def issued(key: bytes = KEY) -> LiteSCard:
    """A strict card whose blocks 0, 1, 3, 8, 9 and 14 and whose STATE are written with MAC only."""
    card = blank(IDM)
    card.rewrite(0x87, key)
    card.rewrite(0x88, bytes.fromhex("FFFF0000070100000000") + b"\x0b\x43" + bytes.fromhex("01000000"))
    card.set_wcnt(0)
    return card


def test_nfcpy_finds_a_lite_s_card(desk: Desk) -> None:
    tag = desk.tag(blank(IDM))
    assert "Lite-S" in str(tag)
    assert (bytes(tag.idm), bytes(tag.pmm), tag.sys) == (IDM, blank(IDM).pmm, 0x88B4)
    assert tag.is_present


def test_nfcpy_finds_nothing_where_nothing_lies(desk: Desk) -> None:
    desk.tag(blank(IDM))
    desk.air.lift(IDM)
    assert desk.frontend.sense(nfc.clf.RemoteTarget("212F"), nfc.clf.RemoteTarget("106A")) is None


def test_nfcpy_polls_at_424_too(desk: Desk) -> None:
    desk.tag(blank(IDM))
    target = desk.frontend.sense(nfc.clf.RemoteTarget("424F"))
    assert target is not None
    assert target.brty == "424F"


def test_nfcpy_reads_and_writes_without_mac(desk: Desk) -> None:
    card = blank(IDM)
    tag = desk.tag(card)
    tag.write_without_mac(SIXTEEN, 5)
    assert card.memory.blocks[5] == SIXTEEN
    assert bytes(tag.read_without_mac(5, 0)) == SIXTEEN + card.memory.blocks[0]


def test_nfcpy_reads_the_ndef_of_a_card_as_it_leaves_the_factory(desk: Desk) -> None:
    tag = desk.tag(blank(IDM))
    assert tag.ndef is not None
    assert (tag.ndef.length, tag.ndef.capacity) == (0, 13 * 16)


@pytest.mark.parametrize("make", [lenient, issued])
def test_nfcpy_and_the_card_prove_themselves_to_each_other(desk: Desk, make: Callable[[bytes], LiteSCard]) -> None:
    card = make(KEY)
    tag = desk.tag(card)
    assert tag.authenticate(PASSWORD) is True
    assert tag.is_authenticated
    tag.write_with_mac(SIXTEEN, 3)
    assert card.memory.blocks[3] == SIXTEEN
    assert bytes(tag.read_with_mac(3, 0)) == SIXTEEN + card.memory.blocks[0]


@pytest.mark.parametrize("make", [lenient, issued])
def test_nfcpy_refuses_a_card_with_another_key(desk: Desk, make: Callable[[bytes], LiteSCard]) -> None:
    tag = desk.tag(make(SIXTEEN))
    assert tag.authenticate(PASSWORD) is False
    assert not tag.is_authenticated


def test_nfcpy_cannot_authenticate_to_a_strict_card_as_it_leaves_the_factory(desk: Desk) -> None:
    tag = desk.tag(blank(IDM))
    with pytest.raises(nfc.tag.tt3.Type3TagCommandError) as refusal:
        tag.authenticate(b"")  # its write of STATE carries a MAC that such a card does not want
    assert refusal.value.errno == 0x02B2


def test_nfcpy_is_refused_where_a_mac_is_missing(desk: Desk) -> None:
    tag = desk.tag(issued())
    with pytest.raises(nfc.tag.tt3.Type3TagCommandError) as refusal:
        tag.write_without_mac(SIXTEEN, 3)
    assert refusal.value.errno == 0x01A8


def test_nfcpy_meets_a_card_that_went_away(desk: Desk) -> None:
    tag = desk.tag(blank(IDM))
    desk.air.lift(IDM)
    with pytest.raises(nfc.tag.tt3.Type3TagCommandError) as silence:
        tag.read_without_mac(0)
    assert silence.value.errno == nfc.tag.TIMEOUT_ERROR
