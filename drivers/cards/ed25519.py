"""Adapter: Ed25519 (RFC 8032), for the issuer's signature on a grant and for a device's own signature."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drivers.errors import NotAuthentic


def sign(private: bytes, message: bytes) -> bytes:
    """The 64-byte signature over ``message`` by the 32-byte private key (the RFC's seed)."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(message)


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Return when the signature fits the 32-byte public key; raise ``NotAuthentic`` otherwise."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise NotAuthentic("the signature does not fit") from error


def public_of(private: bytes) -> bytes:
    """The 32-byte public key that belongs to a private key."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
