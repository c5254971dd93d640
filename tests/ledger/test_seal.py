"""A message has one form, and everything else is refused in a sentence before anything of it is decoded."""

from collections.abc import Callable

import pytest
from cbor2 import CBORTag, dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.signing import Ed25519Key, P256Key, SignatureChecker
from drivers.vault_file import VaultFile, demo_keys
from ledger.errors import MalformedSeal
from ledger.seal import OVERHEAD, BadSignature, Content, Sealed, VaultSigner, check, key_id, parse, seal

KEYS = (Ed25519Key(bytes(range(32))), P256Key(bytes(range(1, 33))))
Key = Ed25519Key | P256Key
CHECKER = SignatureChecker()
LIMIT = 2**20
each_key = pytest.mark.parametrize("key", KEYS, ids=lambda key: key.algorithm.name)
PAYLOADS = st.binary(max_size=40) | st.sampled_from((23, 24, 255, 256, 65_535, 65_536)).map(bytes)


def opened(message: bytes, key: Key, content: Content = Content.BATCH) -> Sealed:
    sealed = parse(message, content, LIMIT)
    check(sealed, CHECKER, key.public)
    return sealed


@each_key
@settings(deadline=None)
@given(payload=PAYLOADS, content=st.sampled_from(Content))
def test_what_was_sealed_is_what_is_opened(key: Key, payload: bytes, content: Content) -> None:
    message = seal(key, content, payload)
    sealed = opened(message, key, content)
    assert (sealed.payload, sealed.content, sealed.kid, sealed.algorithm) == (payload, content, key_id(key.public), key.algorithm)
    assert len(message) <= len(payload) + OVERHEAD


@each_key
@settings(deadline=None)
@given(payload=PAYLOADS, content=st.sampled_from(Content))
def test_a_cbor_library_reads_it_as_rfc_9052_describes_it(key: Key, payload: bytes, content: Content) -> None:
    message = seal(key, content, payload)
    found = loads(message)
    protected, unprotected, inside, signature = found.value
    assert found.tag == 18
    assert loads(protected) == {1: int(key.algorithm), 3: content.value, 4: key_id(key.public)}
    assert (unprotected, inside, len(signature)) == ({}, payload, 64)
    assert dumps(found, canonical=True) == message
    assert parse(message, content, LIMIT).message == dumps(["Signature1", protected, b"", payload])


@each_key
@settings(deadline=None)
@given(payload=st.binary(max_size=30), data=st.data())
def test_no_flipped_bit_is_believed(key: Key, payload: bytes, data: st.DataObject) -> None:
    message = bytearray(seal(key, Content.BATCH, payload))
    at = data.draw(st.integers(0, 8 * len(message) - 1))
    message[at // 8] ^= 1 << at % 8
    with pytest.raises((MalformedSeal, BadSignature)):
        opened(bytes(message), key)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"\xd2\x84" + tail))
def test_random_bytes_are_malformed_and_nothing_else(data: bytes) -> None:
    with pytest.raises(MalformedSeal):
        parse(data, Content.BATCH, LIMIT)


@given(cut=st.integers(0, 140))
def test_a_message_that_stops_early_is_malformed(cut: int) -> None:
    message = seal(KEYS[0], Content.BATCH, b"payload")
    with pytest.raises(MalformedSeal):
        parse(message[: min(cut, len(message) - 1)], Content.BATCH, LIMIT)


def array(change: Callable[[list[object]], object]) -> bytes:
    """A good message with its array of four changed, signed as it was."""
    parts = list(loads(seal(KEYS[0], Content.BATCH, b"payload")).value)
    change(parts)
    return dumps(CBORTag(18, parts))


def other_header(header: dict[int, object]) -> bytes:
    return array(lambda parts: parts.__setitem__(0, dumps(header)))


KID = key_id(KEYS[0].public)
TEXT = Content.BATCH.value
OTHER_FORMS = {
    "without its tag": seal(KEYS[0], Content.BATCH, b"payload")[1:],
    "with another tag": b"\xd1" + seal(KEYS[0], Content.BATCH, b"payload")[1:],
    "with a tag in two bytes": b"\xd8\x12" + seal(KEYS[0], Content.BATCH, b"payload")[1:],
    "with three parts": array(list.pop),
    "with five parts": array(lambda parts: parts.append(b"")),
    "with something behind it": seal(KEYS[0], Content.BATCH, b"payload") + b"\x00",
    "with an unprotected key id": array(lambda parts: parts.__setitem__(1, {4: KID})),
    "without its payload": array(lambda parts: parts.__setitem__(2, None)),
    "with text for a payload": array(lambda parts: parts.__setitem__(2, "payload")),
    "with a short signature": array(lambda parts: parts.__setitem__(3, bytes(63))),
    "with a long head": seal(KEYS[0], Content.BATCH, b"payload").replace(b"\xa0\x47payload", b"\xa0\x58\x07payload"),
    "with an indefinite payload": seal(KEYS[0], Content.BATCH, b"payload").replace(b"\xa0\x47payload", b"\xa0\x5f\x47payload\xff"),
    "without a content type": other_header({1: -8, 4: KID}),
    "without a key id": other_header({1: -8, 3: TEXT}),
    "with a short key id": other_header({1: -8, 3: TEXT, 4: KID[1:]}),
    "with its header in another order": other_header({4: KID, 3: TEXT, 1: -8}),
    "with one more header": other_header({1: -8, 3: TEXT, 4: KID, 5: b""}),
    "with a header that must be understood": other_header({1: -8, 2: [9], 3: TEXT, 4: KID}),
    "with an algorithm of 1999": other_header({1: -65535, 3: TEXT, 4: KID}),
    "with no algorithm": other_header({1: 0, 3: TEXT, 4: KID}),
    "with a foreign content type": other_header({1: -8, 3: "text/plain", 4: KID}),
}


@pytest.mark.parametrize("message", OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_another_form_of_the_same_is_malformed(message: bytes) -> None:
    with pytest.raises(MalformedSeal) as refusal:
        parse(message, Content.BATCH, LIMIT)
    assert str(refusal.value).endswith(".")


def test_a_receipt_does_not_pass_for_a_batch() -> None:
    with pytest.raises(MalformedSeal, match=r"^The message holds a receipt, not a batch\.$"):
        parse(seal(KEYS[0], Content.RECEIPT, b"payload"), Content.BATCH, LIMIT)


def test_a_message_over_the_limit_is_not_looked_at() -> None:
    with pytest.raises(MalformedSeal, match="no batch has more than 100"):
        parse(bytes(101), Content.BATCH, 100)


def test_a_message_is_not_checked_with_a_key_that_it_does_not_name() -> None:
    with pytest.raises(BadSignature, match="another key"):
        check(parse(seal(KEYS[0], Content.BATCH, b""), Content.BATCH, LIMIT), CHECKER, KEYS[1].public)


def test_a_message_that_names_somebody_elses_key_has_not_his_signature() -> None:
    message = seal(KEYS[0], Content.BATCH, b"").replace(KID, key_id(KEYS[1].public))
    with pytest.raises(BadSignature):
        opened(message, KEYS[1])


def test_the_same_batch_sealed_twice_is_the_same_bytes() -> None:
    for key in KEYS:
        assert seal(key, Content.BATCH, b"payload") == seal(key, Content.BATCH, b"payload")


def test_a_terminals_vault_seals() -> None:
    keys = demo_keys(7)
    signer = VaultSigner(VaultFile(keys), Ed25519Key(keys.device).public)
    assert opened(seal(signer, Content.HEARTBEAT, b"alive"), Ed25519Key(keys.device), Content.HEARTBEAT).payload == b"alive"
