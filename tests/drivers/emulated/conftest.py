"""The shared vectors, the card of the worked tap, and a hand that speaks to a card without any driver."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.emulated.lite_s_card import CK, MC, REG, LiteSCard, blank
from drivers.emulated.lite_s_mac import open_session

RC = bytes(range(16))


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parents[2] / "vectors" / "lite_s.toml").read_text())


@pytest.fixture
def worked(vectors: dict[str, Any]) -> Callable[[], LiteSCard]:
    """A maker of the card with which the worked tap begins."""

    def make() -> LiteSCard:
        tap = vectors["tap"]
        card = blank(bytes.fromhex(tap["idm"]), bytes.fromhex(tap["pmm"]))
        for block, name in ((CK, "key"), (MC, "mc"), (REG, "reg"), (0, "s_pad0")):
            card.rewrite(block, bytes.fromhex(tap[name]))
        card.set_wcnt(tap["wcnt"])
        return card

    return make


class Hand:
    """Speaks to one card in frames made here."""

    def __init__(self, card: LiteSCard, key: bytes = bytes(16)) -> None:
        self.card = card
        self.key = key

    def send(self, code: int, payload: bytes) -> bytes | None:
        frame = bytes((code,)) + self.card.idm + payload
        answer = self.card.answer(bytes((len(frame) + 1,)) + frame)
        return None if answer is None else answer[10:]

    def read(self, *blocks: int, service: int = 0x000B) -> bytes | None:
        listed = b"".join(bytes((0x80, block)) for block in blocks)
        return self.send(0x06, b"\x01" + service.to_bytes(2, "little") + bytes((len(blocks),)) + listed)

    def data(self, block: int) -> bytes:
        answer = self.read(block)
        assert answer is not None
        assert answer[:2] == b"\x00\x00"
        return answer[3:]

    def write(self, block: int, data: bytes) -> bytes | None:
        return self.send(0x08, b"\x01\x09\x00\x01\x80" + bytes((block,)) + data)

    def challenge(self, rc: bytes = RC) -> bytes | None:
        self.rc = rc
        return self.write(0x80, rc)

    def wcnt(self) -> int:
        return int.from_bytes(self.data(0x90)[:3], "little")

    def write_with_mac(self, block: int, data: bytes, wcnt: int | None = None, mac: bytes | None = None) -> bytes | None:
        count = self.wcnt() if wcnt is None else wcnt
        tag = open_session(self.key, self.rc).mac_a_of_write(block, data, count) if mac is None else mac
        tail = data + tag + count.to_bytes(3, "little") + bytes(5)
        return self.send(0x08, b"\x01\x09\x00\x02\x80" + bytes((block,)) + b"\x80\x91" + tail)

    def authenticate(self) -> bytes | None:
        self.challenge()
        return self.write_with_mac(0x92, b"\x01" + bytes(15))

    def restart(self) -> None:
        self.card.field_off()
        self.card.field_on()


@pytest.fixture
def hand() -> Callable[..., Hand]:
    """A maker of hands: ``hand(card)``."""
    return Hand


@pytest.fixture
def fresh() -> Hand:
    """A hand on a factory card."""
    return Hand(blank(bytes.fromhex("0102030405060708")))
