"""Signatures as the rest of the world makes and checks them."""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cbor2 import loads
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.signer import Algorithm, BadSignature
from drivers.signing import Ed25519Key, P256Key, SignatureChecker
from ledger.errors import MalformedSeal
from ledger.seal import Content, key_id, parse, signed_message

VECTORS = tomllib.loads((Path(__file__).parent.parent / "vectors" / "cose_sign1.toml").read_text())["message"]
CHECKER = SignatureChecker()
KEYS = (Ed25519Key(bytes(range(32))), P256Key(bytes(range(1, 33))))
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def parts_of(vector: dict[str, Any]) -> tuple[int | None, bytes, bytes, bytes]:
    """The tag (None: untagged), the protected header, the payload and the signature of a working group's message."""
    found = loads(bytes.fromhex(vector["message"]))
    tag = getattr(found, "tag", None)
    protected, _, payload, signature = found if tag is None else found.value
    return tag, protected, payload, signature


def fits(vector: dict[str, Any], message: bytes) -> bool:
    tag, _, _, signature = parts_of(vector)
    try:
        CHECKER.check(Algorithm[vector["algorithm"]], bytes.fromhex(vector["public"]), signature, message)
    except BadSignature:
        return False
    return tag in {18, None}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_working_groups_messages_fit_exactly_when_it_says_so(vector: dict[str, Any]) -> None:
    _, protected, payload, _ = parts_of(vector)
    if protected == b"\xa0":
        protected = b""  # an empty header is signed as no bytes at all (RFC 9052, section 4.4)
    message = bytes.fromhex(vector["to_be_signed"]) if vector["external"] else signed_message(protected, payload)
    assert fits(vector, message) == vector["fits"]
    if vector["fits"]:
        assert message.hex().upper() == vector["to_be_signed"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("content", Content)
def test_what_is_a_message_elsewhere_is_not_yet_one_of_ours(vector: dict[str, Any], content: Content) -> None:
    with pytest.raises(MalformedSeal):
        parse(bytes.fromhex(vector["message"]), content, 1000)


def test_ed25519_signs_as_rfc_8032_does() -> None:
    # RFC 8032, section 7.1, TEST 2.
    key = Ed25519Key(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_es256_signs_as_rfc_6979_does() -> None:
    # RFC 6979, appendix A.2.5, SHA-256, message "sample".
    key = P256Key(bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"))
    assert key.public.hex().upper() == (
        "0460FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB67903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
    )
    assert key.sign(b"sample").hex().upper() == (
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.algorithm.name)
@settings(deadline=None, max_examples=30)
@given(message=st.binary(max_size=100), at=st.integers(0, 511))
def test_a_signature_fits_its_message_and_no_flipped_bit_of_it_does(key: Ed25519Key | P256Key, message: bytes, at: int) -> None:
    signature = key.sign(message)
    CHECKER.check(key.algorithm, key.public, signature, message)
    flipped = bytearray(signature)
    flipped[at // 8] ^= 1 << at % 8
    with pytest.raises(BadSignature):
        CHECKER.check(key.algorithm, key.public, bytes(flipped), message)
    with pytest.raises(BadSignature):
        CHECKER.check(key.algorithm, key.public, signature, message + b"!")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.algorithm.name)
@given(public=st.binary(max_size=70), signature=st.binary(max_size=70) | st.binary(min_size=64, max_size=64))
def test_nonsense_for_a_key_or_a_signature_is_a_bad_signature_and_nothing_else(
    key: Ed25519Key | P256Key, public: bytes, signature: bytes
) -> None:
    with pytest.raises(BadSignature):
        CHECKER.check(key.algorithm, public, key.sign(b""), b"")
    with pytest.raises(BadSignature):
        CHECKER.check(key.algorithm, key.public, signature, b"")


def test_a_key_of_one_algorithm_is_no_key_of_the_other() -> None:
    one, other = KEYS
    with pytest.raises(BadSignature, match="no Ed25519 key"):
        CHECKER.check(Algorithm.EDDSA, other.public, one.sign(b""), b"")
    with pytest.raises(BadSignature, match="no uncompressed point"):
        CHECKER.check(Algorithm.ES256, one.public, other.sign(b""), b"")


def test_a_point_off_the_curve_is_no_key() -> None:
    with pytest.raises(BadSignature, match="no point of P-256"):
        CHECKER.check(Algorithm.ES256, b"\x04" + bytes(63) + b"\x01", KEYS[1].sign(b""), b"")


@pytest.mark.parametrize("private", [b"", bytes(31), bytes(32), P256_ORDER.to_bytes(32, "big"), bytes(33)])
def test_what_is_no_private_key_of_p_256_makes_no_signer(private: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        P256Key(private)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.algorithm.name)
def test_a_key_is_named_by_what_anybody_can_compute_from_its_public_half(key: Ed25519Key | P256Key) -> None:
    assert key_id(key.public) == hashlib.sha256(key.public).digest()[:8]
