"""Lite-S cryptography against the ten public vectors (four of them from a real card's log), and our own key vectors."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.cards import lite_s
from drivers.cards.lite_s import LiteSSession, MemoryConfiguration
from drivers.cards.tdes import encrypt_cbc
from drivers.errors import NotAuthentic
from drivers.vault import MacRead

VECTORS = Path(__file__).parents[2] / "vectors"
PUBLIC = tomllib.loads((VECTORS / "lite_s.toml").read_text())
KEYS = tomllib.loads((VECTORS / "card_keys.toml").read_text())


def named(kind: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in PUBLIC[kind]]


def session(vector: dict[str, Any]) -> LiteSSession:
    key_des = lite_s.swap_halves(bytes.fromhex(vector["key"]))
    return lite_s.session_of(encrypt_cbc, key_des, 0, bytes.fromhex(vector["rc"]))


def test_all_ten_public_vectors_are_here() -> None:
    kinds = ("session", "mac_a_read", "mac_a_write", "mac_read", "mac")
    assert sorted(vector["name"] for kind in kinds for vector in PUBLIC[kind]) == sorted(f"V{n}" for n in range(1, 11))


@pytest.mark.parametrize("vector", named("session"))
def test_the_session_key_is_the_published_one(vector: dict[str, Any]) -> None:
    assert lite_s.swap_halves(session(vector).key_des) == bytes.fromhex(vector["session_key"])


@pytest.mark.parametrize("vector", named("mac_a_read"))
def test_mac_a_of_a_read_is_the_published_one(vector: dict[str, Any]) -> None:
    read = MacRead(tuple(vector["blocks"]), bytes.fromhex(vector["data"]), bytes.fromhex(vector["mac"]))
    assert session(vector).mac_read(read) == read.mac
    session(vector).check(read)


@pytest.mark.parametrize("vector", named("mac_a_write"))
def test_mac_a_of_a_write_is_the_published_one(vector: dict[str, Any]) -> None:
    wcnt = int.from_bytes(bytes.fromhex(vector["wcnt"]), "little")
    assert session(vector).mac_write(vector["block"], bytes.fromhex(vector["data"]), wcnt) == bytes.fromhex(vector["mac"])


@pytest.mark.parametrize("vector", named("mac_read"))
def test_the_old_mac_of_a_read_is_the_published_one(vector: dict[str, Any]) -> None:
    assert session(vector).mac(bytes.fromhex(vector["data"])) == bytes.fromhex(vector["mac"])


@pytest.mark.parametrize("vector", named("mac"))
def test_the_bare_mac_is_the_published_one_both_ways_round(vector: dict[str, Any]) -> None:
    key, data = bytes.fromhex(vector["key_des"]), bytes.fromhex(vector["data"])
    rc = lite_s.swap_halves(bytes.fromhex(vector["iv_des"])) + bytes(8)
    assert LiteSSession(encrypt_cbc, key, rc, 0).mac(data) == bytes.fromhex(vector["mac"])
    assert LiteSSession(encrypt_cbc, key[8:] + key[:8], rc, 0).mac(data) == bytes.fromhex(vector["mac_flipped"])


@given(st.integers(0, 24 * 8 - 1))
def test_one_changed_bit_anywhere_in_a_read_does_not_pass(bit: int) -> None:
    vector = PUBLIC["mac_a_read"][0]
    said = bytes.fromhex(vector["data"]) + bytes.fromhex(vector["mac"])
    changed = (int.from_bytes(said, "big") ^ 1 << bit).to_bytes(24, "big")
    with pytest.raises(NotAuthentic):
        session(vector).check(MacRead((0x82,), changed[:16], changed[16:]))


def test_the_right_data_from_another_block_does_not_pass() -> None:
    vector = PUBLIC["mac_a_read"][0]
    with pytest.raises(NotAuthentic):
        session(vector).check(MacRead((0x83,), bytes.fromhex(vector["data"]), bytes.fromhex(vector["mac"])))


def test_a_session_shows_no_key_when_it_is_printed() -> None:
    opened = session(PUBLIC["session"][0])
    assert opened.key_des.hex() not in repr(opened)
    assert str(opened.key_des) not in repr(opened)


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in KEYS["card_key"]])
def test_a_cards_key_is_the_one_we_publish(vector: dict[str, Any]) -> None:
    master, idm = bytes.fromhex(vector["master"]), bytes.fromhex(vector["idm"])
    key_des = lite_s.card_key_des(encrypt_cbc, master, idm, vector["version"])
    assert key_des == bytes.fromhex(vector["key_des"])
    assert lite_s.swap_halves(key_des) == bytes.fromhex(vector["ck"])


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in KEYS["card_key"]])
def test_a_token_derives_the_same_key_with_ecb_and_one_derivation(vector: dict[str, Any]) -> None:
    """The recipe of docs/card-keys.md, written out: everything but the last step handles public blocks; the last one is the key."""
    master = bytes.fromhex(vector["master"])

    def ecb(block: bytes) -> bytes:
        return encrypt_cbc(master, bytes(8), block)

    def xor(a: bytes, b: bytes) -> bytes:
        return bytes(x ^ y for x, y in zip(a, b, strict=True))

    doubled = int.from_bytes(ecb(bytes(8)), "big") << 1
    k1 = (doubled % (1 << 64) ^ (0x1B if doubled >> 64 else 0)).to_bytes(8, "big")
    m1 = bytes.fromhex(vector["idm"])
    m2 = xor(vector["version"].to_bytes(2, "little") + bytes(6), k1)
    given_to_the_token = xor(ecb(m1), m2) + xor(ecb(xor(m1, b"\x80" + bytes(7))), m2)
    assert ecb(given_to_the_token[:8]) + ecb(given_to_the_token[8:]) == bytes.fromhex(vector["key_des"])


def test_a_weak_key_is_refused_and_a_good_one_is_not() -> None:
    good = bytes.fromhex("0123456789ABCDEF")
    weak, semi_weak = bytes.fromhex("1F1F1F1F0E0E0E0E"), bytes.fromhex("01FE01FE01FE01FE")
    assert not lite_s.is_weak(good + good[::-1])
    assert lite_s.is_weak(good + weak)
    assert lite_s.is_weak(semi_weak + good)
    assert lite_s.is_weak(good + bytes(byte ^ 1 for byte in good)), "halves that differ in parity only are equal"


def test_the_published_semi_weak_keys_are_all_known() -> None:
    published = [
        "0101010101010101",
        "FEFEFEFEFEFEFEFE",
        "1F1F1F1F0E0E0E0E",
        "E0E0E0E0F1F1F1F1",
        "01FE01FE01FE01FE",
        "FE01FE01FE01FE01",
        "1FE01FE00EF10EF1",
        "E01FE01FF10EF10E",
        "01E001E001F101F1",
        "E001E001F101F101",
        "1FFE1FFE0EFE0EFE",
        "FE1FFE1FFE0EFE0E",
        "011F011F010E010E",
        "1F011F010E010E01",
        "E0FEE0FEF1FEF1FE",
        "FEE0FEE0FEF1FEF1",
    ]
    good = bytes.fromhex("0123456789ABCDEF")
    assert len(set(published)) == 16
    assert all(lite_s.is_weak(good + bytes.fromhex(key)) for key in published)


def test_a_card_whose_key_would_be_weak_is_refused_by_name() -> None:
    with pytest.raises(lite_s.WeakCardKey, match="take another card"):
        lite_s.card_key_des(lambda _key, _iv, data: bytes(len(data)), bytes(24), bytes(8), 1)


def test_the_memory_configuration_of_a_purse_is_these_sixteen_bytes_and_back() -> None:
    purse = MemoryConfiguration(open_system=False, keys_with_mac=True, write_needs_mac=0x43FF, state_needs_mac=True)
    assert purse.block() == bytes.fromhex("FFFF0000070100000000FF4301000000")
    assert MemoryConfiguration.parse(purse.block()) == purse
    assert not purse.frozen


@given(
    st.builds(
        MemoryConfiguration,
        writable=st.integers(0, 0xFFFF),
        open_system=st.booleans(),
        answers_ndef=st.booleans(),
        keys_with_mac=st.booleans(),
        read_needs_auth=st.integers(0, 0x7FFF),
        write_needs_auth=st.integers(0, 0x7FFF),
        write_needs_mac=st.integers(0, 0x7FFF),
        state_needs_mac=st.booleans(),
    )
)
def test_every_memory_configuration_survives_its_block(configuration: MemoryConfiguration) -> None:
    assert MemoryConfiguration.parse(configuration.block()) == configuration


def test_a_lite_s_is_told_by_its_ic_type() -> None:
    assert lite_s.is_lite_s(bytes.fromhex("00F1000000014300"))
    assert not lite_s.is_lite_s(bytes.fromhex("00F0000000014300"))
    assert not lite_s.is_lite_s(b"")


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in KEYS["card_key"]])
def test_the_documented_vectors_are_these(vector: dict[str, Any]) -> None:
    page = (VECTORS.parents[1] / "docs" / "card-keys.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| {vector['name']} |"))
    assert all(f"`{vector[field]}`" in row for field in ("master", "idm", "key_des", "ck"))
    assert f"| {vector['version']} |" in row
