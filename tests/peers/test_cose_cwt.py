"""cwt, another's implementation of COSE, takes our messages for what they are, and we take its.

It runs as a program of its own in .venv/peers/cwt (``tools/set_up test`` makes it, from requirements/peer-cwt.txt): it needs an older CBOR
library than ours. Only hexadecimal crosses the line.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.signing import Ed25519Key, P256Key, SignatureChecker
from ledger.errors import MalformedSeal
from ledger.seal import BadSignature, Content, check, key_id, parse, seal

PYTHON = Path(__file__).parents[2] / ".venv" / "peers" / "cwt" / "bin" / "python"
PRIVATE = bytes(range(1, 33))
KEYS = (Ed25519Key(PRIVATE), P256Key(PRIVATE))
PAYLOADS = (b"", b"payload", bytes(23), bytes(24), bytes(255), bytes(256), bytes(65_536))
LIMIT = 2**20

STRANGER = """
import json, sys
from cwt import COSE, COSEKey, DecodeError, VerifyError

def key(params):
    return COSEKey.new({int(label): bytes.fromhex(value) if isinstance(value, str) else value for label, value in params.items()})

for line in sys.stdin:
    asked = json.loads(line)
    if asked["what"] == "check":
        try:
            protected, _, payload = COSE.new(verify_kid=True).decode_with_headers(bytes.fromhex(asked["message"]), key(asked["key"]))
            answer = {"payload": payload.hex(), "content": protected[3], "kid": protected[4].hex()}
        except (DecodeError, VerifyError, ValueError) as error:
            answer = {"refused": type(error).__name__}
    else:
        header = {1: asked["alg"], 3: asked["content"], 4: bytes.fromhex(asked["kid"])}
        answer = {"message": COSE.new().encode(bytes.fromhex(asked["payload"]), key(asked["key"]), protected=header, unprotected={}).hex()}
    print(json.dumps(answer), flush=True)
"""


@dataclass
class Cwt:
    """The stranger, asked and answering line by line."""

    process: subprocess.Popen[str]

    def asks(self, **question: object) -> dict[str, str]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        found: dict[str, str] = json.loads(self.process.stdout.readline())
        return found


@pytest.fixture(scope="module")
def cwt() -> Iterator[Cwt]:
    assert PYTHON.exists(), "the stranger is not installed; run tools/set_up test"
    with subprocess.Popen([PYTHON, "-c", STRANGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Cwt(process)
        assert process.stdin
        process.stdin.close()


def cose_key(key: Ed25519Key | P256Key, *, private: bool = False) -> dict[str, object]:
    """The key as RFC 9053, section 7, writes one: type, algorithm, key id, curve, and the coordinates."""
    common: dict[str, object] = {"2": key_id(key.public).hex(), "3": int(key.algorithm)}
    secret: dict[str, object] = {"-4": PRIVATE.hex()} if private else {}
    if isinstance(key, Ed25519Key):
        return {"1": 1, **common, "-1": 6, "-2": key.public.hex(), **secret}
    return {"1": 2, **common, "-1": 1, "-2": key.public[1:33].hex(), "-3": key.public[33:].hex(), **secret}


each_key = pytest.mark.parametrize("key", KEYS, ids=lambda key: key.algorithm.name)


@each_key
@pytest.mark.parametrize("payload", PAYLOADS, ids=len)
@pytest.mark.parametrize("content", Content)
def test_cwt_believes_our_messages(cwt: Cwt, key: Ed25519Key | P256Key, payload: bytes, content: Content) -> None:
    found = cwt.asks(what="check", key=cose_key(key), message=seal(key, content, payload).hex())
    assert found == {"payload": payload.hex(), "content": content.value, "kid": key_id(key.public).hex()}


@each_key
def test_cwt_believes_no_message_with_a_flipped_bit(cwt: Cwt, key: Ed25519Key | P256Key) -> None:
    message = seal(key, Content.BATCH, b"payload")
    begin = message.index(b"payload")
    signature = range(8 * (len(message) - 64), 8 * len(message), 3)
    for at in (*range(8 * begin, 8 * (begin + len(b"payload"))), *signature):
        flipped = bytearray(message)
        flipped[at // 8] ^= 1 << at % 8
        assert "refused" in cwt.asks(what="check", key=cose_key(key), message=flipped.hex())


@each_key
@pytest.mark.parametrize("payload", PAYLOADS, ids=len)
@pytest.mark.parametrize("content", Content)
def test_we_believe_what_cwt_sealed_as_we_would(cwt: Cwt, key: Ed25519Key | P256Key, payload: bytes, content: Content) -> None:
    header = {"alg": int(key.algorithm), "content": content.value, "kid": key_id(key.public).hex()}
    message = bytes.fromhex(cwt.asks(what="seal", key=cose_key(key, private=True), payload=payload.hex(), **header)["message"])
    sealed = parse(message, content, LIMIT)
    check(sealed, SignatureChecker(), key.public)
    assert sealed.payload == payload
    if isinstance(key, Ed25519Key):  # whose signatures have no choice in them
        assert message == seal(key, content, payload)


@each_key
def test_we_believe_no_message_of_cwt_with_a_flipped_bit(cwt: Cwt, key: Ed25519Key | P256Key) -> None:
    header = {"alg": int(key.algorithm), "content": Content.BATCH.value, "kid": key_id(key.public).hex()}
    message = bytes.fromhex(cwt.asks(what="seal", key=cose_key(key, private=True), payload=b"payload".hex(), **header)["message"])
    for at in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises((MalformedSeal, BadSignature)):
            check(parse(bytes(flipped), Content.BATCH, LIMIT), SignatureChecker(), key.public)
