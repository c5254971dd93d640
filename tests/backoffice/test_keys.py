"""A key speaks for a range of its device's ledger; marks are set once and a revocation is for ever."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice import keys
from backoffice.keys import BEFORE_ALL, Admission, DeviceKey, Doubt, OneTimeCode, Place, admission, announced, doubt, order_of
from ledger.entry import Entry, Kind, When
from ledger.seal import Algorithm, key_id

PUBLIC = bytes(range(32))
KEY = DeviceKey(key_id(PUBLIC), 7, Algorithm.EDDSA, PUBLIC)
ORDER = order_of((11, 22, 33))

RANGES = (
    # since, until, revoked, epoch, first, last, doubt
    (BEFORE_ALL, None, None, 99, 1, 200, None),
    (Place(22, 50), None, None, 22, 50, 60, None),
    (Place(22, 50), None, None, 22, 49, 60, Doubt.NOT_YET),
    (Place(22, 50), None, None, 11, 900, 901, Doubt.NOT_YET),
    (Place(22, 50), None, None, 33, 1, 2, None),
    (Place(22, 50), None, None, 44, 1, 2, None),
    (BEFORE_ALL, Place(22, 50), None, 22, 1, 49, None),
    (BEFORE_ALL, Place(22, 50), None, 22, 1, 50, Doubt.REPLACED),
    (BEFORE_ALL, Place(22, 50), None, 33, 1, 1, Doubt.REPLACED),
    (BEFORE_ALL, None, Place(22, 50), 22, 1, 49, None),
    (BEFORE_ALL, None, Place(22, 50), 22, 40, 50, Doubt.REVOKED),
    (BEFORE_ALL, None, Place(22, 50), 11, 900, 901, None),
    (BEFORE_ALL, None, Place(22, 50), 33, 1, 1, Doubt.REVOKED),
    (BEFORE_ALL, None, Place(22, 50), 44, 1, 1, Doubt.REVOKED),
    (BEFORE_ALL, None, BEFORE_ALL, 11, 1, 1, Doubt.REVOKED),
    (Place(22, 60), None, Place(22, 50), 22, 60, 61, Doubt.REVOKED),
)


@pytest.mark.parametrize("case", RANGES)
def test_a_key_speaks_from_since_up_to_until_and_never_from_its_revocation_on(
    case: tuple[Place, Place | None, Place | None, int, int, int, Doubt | None],
) -> None:
    since, until, revoked, epoch, first, last, expected = case
    assert doubt(replace(KEY, since=since, until=until, revoked=revoked), (7, epoch), (first, last), ORDER) is expected


def test_a_key_never_speaks_for_another_device() -> None:
    assert doubt(KEY, (8, 11), (1, 1), ORDER) is Doubt.OTHER_DEVICE


def key_entry(reason: str) -> Entry:
    return Entry(Kind.KEY, When(1, 2, 3, 4), reason=reason, device=7, epoch=22, seq=50)


NEXT = hashlib.sha256(b"next").digest()


def test_an_announced_key_is_valid_from_the_following_entry() -> None:
    new = announced(key_entry("eddsa:" + keys.base64url(NEXT)), KEY, 123)
    assert (new.device, new.public, new.kid, new.since, new.revoked, new.created_ms) == (7, NEXT, key_id(NEXT), Place(22, 51), None, 123)


def test_a_key_that_a_revoked_key_announces_is_revoked_at_the_same_entry() -> None:
    stolen = replace(KEY, revoked=Place(22, 60))
    new = announced(key_entry("eddsa:" + keys.base64url(NEXT)), stolen, 123)
    assert doubt(new, (7, 22), (51, 59), ORDER) is None
    assert doubt(new, (7, 22), (51, 60), ORDER) is Doubt.REVOKED
    assert doubt(new, (7, 44), (1, 1), ORDER) is Doubt.REVOKED


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("rsa:AAAA", "names an algorithm that is none of eddsa, es256"),
        ("eddsa:" + keys.base64url(b"short"), "has a public key of 5 bytes; eddsa has 32"),
        ("es256:" + keys.base64url(NEXT), "has a public key of 32 bytes; es256 has 65"),
        ("eddsa:" + keys.base64url(NEXT) + "=", "has a public key that is not base64url"),
        ("eddsa:鍵", "has a public key that is not base64url"),
        ("", "names an algorithm that is none of eddsa, es256"),
    ],
)
def test_an_entry_that_announces_no_key_is_told_in_words(reason: str, says: str) -> None:
    with pytest.raises(keys.NoKey, match=says):
        announced(key_entry(reason), KEY, 123)


@given(st.binary(max_size=80))
def test_base64url_has_one_way_to_write_bytes(data: bytes) -> None:
    assert keys.unbase64(keys.base64url(data)) == data


@given(st.text(max_size=12))
def test_any_text_is_base64url_or_is_none(text: str) -> None:
    data = keys.unbase64(text)
    assert data is None or keys.base64url(data) == text


@given(st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_different_random_bytes_make_different_codes(one: bytes, two: bytes) -> None:
    assert (keys.new_code(lambda _: one) == keys.new_code(lambda _: two)) == (one == two)


def test_a_code_is_read_as_a_person_types_it() -> None:
    code = keys.new_code(lambda n: bytes(range(n)))
    assert len(code) == 19
    assert keys.code_digest(code) == keys.code_digest(code.lower().replace("-", " "))
    assert keys.code_digest("O0IL" * 4) == keys.code_digest("0011" * 4)


@pytest.mark.parametrize(
    ("used_ms", "same", "now_ms", "expected"),
    [
        (None, None, 999, Admission.ADMIT),
        (None, None, 1000, Admission.REFUSE),
        (500, None, 999, Admission.REFUSE),
        (500, replace(KEY, created_ms=500), 999, Admission.AGAIN),
        (500, replace(KEY, created_ms=501), 999, Admission.REFUSE),
        (500, replace(KEY, created_ms=500, device=8), 999, Admission.REFUSE),
        (500, replace(KEY, created_ms=500), 1000, Admission.REFUSE),
    ],
)
def test_a_code_lets_one_key_in_until_it_expires(used_ms: int | None, same: DeviceKey | None, now_ms: int, expected: Admission) -> None:
    assert admission(OneTimeCode(b"", 7, 1000, used_ms), same, now_ms) is expected


def test_an_unknown_code_lets_nobody_in() -> None:
    code = keys.new_code(bytes)
    other = OneTimeCode(keys.code_digest("1" * 16), 7, 1000)
    assert keys.find_code(code, [other]) is None
    assert keys.find_code("iiii-iiii-iiii-iiii", [other]) is other
    assert admission(None, KEY, 0) is Admission.REFUSE
