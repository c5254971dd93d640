"""Adapter: Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256 (FIPS 186-5), over OpenSSL.

ES256 signatures are made the deterministic way (RFC 6979): the same batch sealed twice is the same bytes, and a board with a poor random
source gives no key away. When checking, any valid pair (r, s) is taken; whoever has (r, s) can also make (r, n − s), so equality of sealed
bytes says nothing, and nothing here relies on it.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drivers.cards import ed25519
from drivers.errors import NotAuthentic
from drivers.signer import SIGNATURE_BYTES, Algorithm, BadSignature

ED25519_PUBLIC_BYTES = 32
P256_PUBLIC_BYTES = 65
_HALF = SIGNATURE_BYTES // 2
_ES256_SIGN = ECDSA(Prehashed(SHA256()), deterministic_signing=True)
_ES256_CHECK = ECDSA(Prehashed(SHA256()))


class Ed25519Key:
    """A ``drivers.signer.Signer`` from the 32 bytes of an Ed25519 private key (the RFC's seed)."""

    algorithm = Algorithm.EDDSA

    def __init__(self, private: bytes) -> None:
        self._private = private
        self.public = ed25519.public_of(private)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over ``message``."""
        return ed25519.sign(self._private, message)


class P256Key:
    """A ``drivers.signer.Signer`` from a P-256 private key, a number of 1 … n − 1 in 32 bytes, big-endian; ``ValueError`` for another."""

    algorithm = Algorithm.ES256

    def __init__(self, private: bytes) -> None:
        if len(private) != _HALF:
            raise ValueError("a P-256 private key has 32 bytes")
        self._private = derive_private_key(int.from_bytes(private, "big"), SECP256R1())
        self.public = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, message: bytes) -> bytes:
        """The signature over ``message``: r and s, 32 bytes each, big-endian."""
        r, s = decode_dss_signature(self._private.sign(hashlib.sha256(message).digest(), _ES256_SIGN))
        return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")


class SignatureChecker:
    """A ``drivers.signer.Checker`` for both algorithms."""

    def check(self, algorithm: Algorithm, public: bytes, signature: bytes, message: bytes) -> None:
        """Return when the signature fits; raise ``BadSignature`` otherwise."""
        if len(signature) != SIGNATURE_BYTES:
            raise BadSignature(f"the signature has {len(signature)} bytes, not {SIGNATURE_BYTES}")
        match algorithm:
            case Algorithm.EDDSA:
                _check_ed25519(public, signature, message)
            case Algorithm.ES256:
                _check_p256(public, signature, message)


def _check_ed25519(public: bytes, signature: bytes, message: bytes) -> None:
    if len(public) != ED25519_PUBLIC_BYTES:
        raise BadSignature("the public key is no Ed25519 key")
    try:
        ed25519.verify(public, signature, message)
    except NotAuthentic as error:
        raise BadSignature("the signature does not fit") from error


def _check_p256(public: bytes, signature: bytes, message: bytes) -> None:
    if len(public) != P256_PUBLIC_BYTES:
        raise BadSignature("the public key is no uncompressed point of P-256")
    try:
        key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), public)
    except ValueError as error:
        raise BadSignature("the public key is no point of P-256") from error
    pair = encode_dss_signature(int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big"))
    try:
        key.verify(pair, hashlib.sha256(message).digest(), _ES256_CHECK)
    except InvalidSignature as error:
        raise BadSignature("the signature does not fit") from error
