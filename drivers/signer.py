"""Who signs and who checks, for every signature that leaves this machine or reaches it.

Two algorithms, because the world has two kinds of keys: Ed25519 is what a terminal makes for itself; P-256 is what most secure elements,
PKCS#11 tokens and municipal certificate authorities can keep. The numbers are COSE's (RFC 9053, sections 2.1 and 2.2; RFC 8152 before it).
"""

from enum import IntEnum
from typing import Protocol

from drivers.errors import DriverError

SIGNATURE_BYTES = 64


class Algorithm(IntEnum):
    """A signature algorithm under its COSE number."""

    EDDSA = -8
    ES256 = -7


class BadSignature(DriverError):
    """The signature does not fit the message and the key, or the key is none."""


class Signer(Protocol):
    """A private key that signs and never shows itself."""

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def public(self) -> bytes:
        """Ed25519: the 32 bytes of RFC 8032. P-256: the uncompressed point, 0x04 and 64 bytes (SEC 1, section 2.3.3)."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over ``message``; for ES256 r and s, 32 bytes each, big-endian."""
        ...


class Checker(Protocol):
    """Checks signatures by anybody's public key."""

    def check(self, algorithm: Algorithm, public: bytes, signature: bytes, message: bytes) -> None:
        """Return when ``signature`` fits; raise ``BadSignature`` otherwise, also for a ``public`` that is no key of ``algorithm``."""
        ...
