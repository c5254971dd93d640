"""A sealed message: whose it is and that nobody changed it. COSE_Sign1 (RFC 9052, section 4.2), tagged 18, the payload inside.

Of all that COSE allows there is one form here, so a reader compares instead of decoding::

    D2 84                                     tag 18, an array of four
      58 xx  A3 01 alg 03 content 04 48 kid   protected, a byte string: {1: algorithm, 3: content type, 4: key id}
      A0                                      unprotected: empty
      5x …   payload                          a byte string
      58 40  signature                        64 bytes, over the Sig_structure ["Signature1", protected, h'', payload]

Two algorithms times one content type make two possible headers, and the key id is the only thing in them that varies. What a stranger sends
therefore meets no CBOR decoder at all before its signature fits: the lengths are checked, two byte strings are cut out, and that is that.
Heads of byte strings must be the shortest possible (RFC 8949, section 4.2.1), so a message has one form only.

The content type says what the payload is; it is signed, so a receipt cannot be passed off as a batch.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from drivers import signer as signing
from drivers.vault import Vault
from ledger.errors import MalformedSeal

Algorithm = signing.Algorithm
BadSignature = signing.BadSignature
Checker = signing.Checker
Signer = signing.Signer

KID_BYTES = 8
SIGNATURE_BYTES = signing.SIGNATURE_BYTES
OVERHEAD = 192  # no message is longer than its payload by more

_OPENING = b"\xd2\x84"
_UNPROTECTED = b"\xa0"
_CONTEXT = b"\x84\x6aSignature1"
_NO_EXTERNAL = b"\x40"


class Content(StrEnum):
    """What a payload is; a media type, as COSE's header 3 asks for."""

    BATCH = "application/vnd.kazashi.batch"
    RECEIPT = "application/vnd.kazashi.receipt"
    HEARTBEAT = "application/vnd.kazashi.heartbeat"
    LOSS = "application/vnd.kazashi.loss"
    PACKAGE = "application/vnd.kazashi.package"


@dataclass(frozen=True, slots=True)
class Sealed:
    """The parts of a message whose form is right. ``message`` is what the signature is over; nothing is believed before ``check``."""

    algorithm: Algorithm
    kid: bytes
    content: Content
    payload: bytes
    signature: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class VaultSigner:
    """A terminal's ``Signer``: its vault signs, and ``public`` (32 bytes, Ed25519) is what the city knows it by."""

    vault: Vault
    public: bytes
    algorithm: Algorithm = Algorithm.EDDSA

    def sign(self, message: bytes) -> bytes:
        """The device's signature, 64 bytes."""
        return self.vault.sign(message)


def key_id(public: bytes) -> bytes:
    """The name of a public key in a message: the first 8 bytes of its SHA-256."""
    return hashlib.sha256(public).digest()[:KID_BYTES]


def seal(signer: Signer, content: Content, payload: bytes) -> bytes:
    """The message that holds ``payload``, signed by ``signer``."""
    protected = _protected(signer.algorithm, content) + key_id(signer.public)
    signature = signer.sign(signed_message(protected, payload))
    return b"".join((_OPENING, _string(protected), _UNPROTECTED, _string(payload), _string(signature)))


def parse(data: bytes, content: Content, limit: int) -> Sealed:
    """The parts of the message ``data``, which must hold ``content`` and be ``limit`` bytes long at most. Raises ``MalformedSeal``.

    Call ``check`` before believing any of it.
    """
    if len(data) > limit:
        raise MalformedSeal(f"The message has {len(data)} bytes; no {content.name.lower()} has more than {limit}.")
    if data[:2] != _OPENING:
        raise MalformedSeal("The message does not begin as a tagged COSE_Sign1 message does.")
    protected, at = _cut(data, 2, "protected header")
    algorithm, kid = _header(protected, content)
    if data[at : at + 1] != _UNPROTECTED:
        raise MalformedSeal("The unprotected header of the message is not the empty map.")
    payload, at = _cut(data, at + 1, "payload")
    signature, at = _cut(data, at, "signature")
    if len(signature) != SIGNATURE_BYTES:
        raise MalformedSeal(f"The signature of the message has {len(signature)} bytes, not {SIGNATURE_BYTES}.")
    if at != len(data):
        raise MalformedSeal(f"The message goes on for {len(data) - at} bytes after its signature.")
    return Sealed(algorithm, kid, content, payload, signature, signed_message(protected, payload))


def check(sealed: Sealed, checker: Checker, public: bytes) -> None:
    """Return when ``sealed`` was signed with the private half of ``public``; raise ``BadSignature`` otherwise."""
    if sealed.kid != key_id(public):
        raise BadSignature("The message names another key than the one it is checked with.")
    checker.check(sealed.algorithm, public, sealed.signature, sealed.message)


def signed_message(protected: bytes, payload: bytes) -> bytes:
    """The Sig_structure of RFC 9052, section 4.4, encoded: what the signature of a COSE_Sign1 without external data is over."""
    return b"".join((_CONTEXT, _string(protected), _NO_EXTERNAL, _string(payload)))


def _head(major: int, size: int) -> bytes:
    """The shortest head of a string: ``major`` is 0x40 for bytes, 0x60 for text (RFC 8949, section 3)."""
    if size < 24:
        return bytes((major + size,))
    if size < 0x100:
        return bytes((major + 24, size))
    if size < 0x1_0000:
        return bytes((major + 25,)) + size.to_bytes(2, "big")
    return bytes((major + 26,)) + size.to_bytes(4, "big")


def _protected(algorithm: Algorithm, content: Content) -> bytes:
    """The protected header up to the key id's own bytes. A negative number −1 − n is written 0x20 + n."""
    text = content.value.encode("ascii")
    return bytes((0xA3, 0x01, 0x1F - algorithm, 0x03)) + _head(0x60, len(text)) + text + b"\x04" + _head(0x40, KID_BYTES)


_HEADERS = {content: tuple((algorithm, _protected(algorithm, content)) for algorithm in Algorithm) for content in Content}


def _header(protected: bytes, content: Content) -> tuple[Algorithm, bytes]:
    start, kid = protected[:-KID_BYTES], protected[-KID_BYTES:]
    for algorithm, expected in _HEADERS[content]:
        if start == expected:
            return algorithm, kid
    for other, headers in _HEADERS.items():
        if any(start == expected for _, expected in headers):
            raise MalformedSeal(f"The message holds a {other.name.lower()}, not a {content.name.lower()}.")
    raise MalformedSeal("The protected header of the message is not an algorithm, a content type and a key id as this house writes them.")


def _string(value: bytes) -> bytes:
    return _head(0x40, len(value)) + value


def _cut(data: bytes, at: int, what: str) -> tuple[bytes, int]:
    """The byte string whose head is at ``at``, and where it ends."""
    wide = {0x58: 1, 0x59: 2, 0x5A: 4}.get(data[at], 0) if at < len(data) else 0
    begin = at + 1 + wide
    size = int.from_bytes(data[at + 1 : begin], "big") if wide else (data[at] - 0x40 if at < len(data) else -1)
    end = begin + size
    if size < 0 or end > len(data) or data[at:begin] != _head(0x40, size):
        raise MalformedSeal(f"The {what} of the message is not a byte string, or the message ends within it.")
    return data[begin:end], end
