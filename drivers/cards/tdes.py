"""Adapter: the one file with DES in it.

FeliCa Lite-S (RC-S966, 2011) speaks two-key triple DES and nothing else, so a terminal that reads it must. `cryptography` keeps the cipher
in its "decrepit" module and may drop it one day; the version is therefore pinned in ``requirements/``, and nobody else in the project names
DES. Its strength here: the MAC is 8 bytes over a fresh challenge, a card's key is 112 bits and belongs to one card only; what a grant is
*worth* does not rest on it but on an Ed25519 signature (``drivers.cards.purse``).

The chip's factory key is all zero, a degenerate DES key that some libraries refuse; this one takes it, and issuing needs it.
"""

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes


def encrypt_cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    """3DES-CBC encryption without padding; ``key`` is 16 (K1‖K2) or 24 bytes, ``iv`` 8, ``data`` a multiple of 8; all in DES byte order."""
    return Cipher(TripleDES(key if len(key) == 24 else key + key[:8]), modes.CBC(iv)).encryptor().update(data)
