"""The public vectors on nfcpy's own arithmetic: what the twin is measured by is what others compute."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

VECTORS: dict[str, Any] = tomllib.loads((Path(__file__).parents[1] / "vectors" / "lite_s.toml").read_text())
sony = pytest.importorskip("nfc.tag.tt3_sony", reason="nfcpy, a test peer, is not installed")
des = pytest.importorskip("pyDes", reason="nfcpy's DES is not installed")

h = bytes.fromhex


def turned(data: bytes) -> bytes:
    return data[7::-1] + data[:7:-1]


def session(key: str, rc: str) -> tuple[bytes, bytes]:
    """Session key and initial value as nfcpy makes them: DES order."""
    challenge = turned(h(rc))
    return bytes(des.triple_des(turned(h(key)), des.CBC, bytes(8)).encrypt(challenge)), challenge[:8]


def mac(data: bytes, keys: tuple[bytes, bytes], *, flip: bool = False) -> bytes:
    return bytes(sony.FelicaLite.generate_mac(data, keys[0], keys[1], flip))


def test_the_session_keys_of_the_vectors_are_what_nfcpys_des_makes() -> None:
    for one in VECTORS["session"]:
        assert turned(session(one["key"], one["rc"])[0]) == h(one["session_key"]), one["name"]


def test_the_macs_of_the_vectors_are_what_nfcpy_makes() -> None:
    for one in VECTORS["mac_read"]:
        assert mac(h(one["data"]), session(one["key"], one["rc"])) == h(one["mac"]), one["name"]
    for one in VECTORS["mac"]:
        keys = h(one["key_des"]), h(one["iv_des"])
        assert mac(h(one["data"]), keys) == h(one["mac"])
        assert mac(h(one["data"]), keys, flip=True) == h(one["mac_flipped"])


def test_the_mac_a_of_the_vectors_are_what_nfcpy_makes() -> None:
    for one in VECTORS["mac_a_read"]:
        head = b"".join(bytes((block, 0)) for block in (*one["blocks"], 0x91)).ljust(8, b"\xff")
        assert mac(head + h(one["data"]), session(one["key"], one["rc"])) == h(one["mac"]), one["name"]
    for one in VECTORS["mac_a_write"]:
        head = h(one["wcnt"]) + bytes((0, one["block"], 0, 0x91, 0))
        assert mac(head + h(one["data"]), session(one["key"], one["rc"]), flip=True) == h(one["mac"]), one["name"]
