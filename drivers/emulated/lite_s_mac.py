"""Adapter: cryptography. The arithmetic of a FeliCa Lite-S card: session keys, MAC and MAC_A.

Single DES blocks chained to two-key triple DES are what the chip speaks; nothing stronger exists for it, hence the decrepit module. The
library takes three keys, so K1 stands at both ends (a key of 16 bytes is deprecated there).

Everything at this module's edge is in *card order*; inside, each 8-byte half is reversed into DES order (felica reference: Sony's published
application notes as reproduced by public vectors V1 to V10).
"""

from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

MAC_BLOCK = 0x81
MAC_A_BLOCK = 0x91


@dataclass(frozen=True, slots=True)
class Session:
    """One session: both 8-byte session keys and the initial value R1, in DES order."""

    sk1: bytes
    sk2: bytes
    r1: bytes

    @property
    def key(self) -> bytes:
        """The 16 bytes as published listings show them (card order)."""
        return self.sk1[::-1] + self.sk2[::-1]

    def mac(self, data: bytes) -> bytes:
        """MAC (block 81) over the ``data`` of whole blocks: 8 bytes."""
        return chain(self.sk1 + self.sk2, self.r1, data)[-8:][::-1]

    def mac_a_of_read(self, blocks: tuple[int, ...], data: bytes) -> bytes:
        """MAC_A of a read whose block list is ``blocks`` (with 91): 8 bytes."""
        head = b"".join(block.to_bytes(2, "little") for block in blocks).ljust(8, b"\xff")
        return chain(self.sk1 + self.sk2, self.r1, head + data)[-8:][::-1]

    def mac_a_of_write(self, block: int, data: bytes, wcnt: int) -> bytes:
        """MAC_A of a write of 16 bytes to ``block`` at the write counter ``wcnt``: 8 bytes; both keys change places."""
        head = wcnt.to_bytes(3, "little") + bytes((0, block, 0, MAC_A_BLOCK, 0))
        return chain(self.sk2 + self.sk1, self.r1, head + data)[-8:][::-1]


def open_session(key: bytes, rc: bytes) -> Session:
    """The session of card key ``key`` and random challenge ``rc``, 16 bytes each, card order."""
    keys = key[7::-1] + key[:7:-1]
    secret = chain(keys, bytes(8), rc)
    return Session(secret[:8], secret[8:], rc[7::-1])


def chain(keys: bytes, start: bytes, data: bytes) -> bytes:
    """Encrypt ``data`` (card order) in CBC with two keys and ``start`` (DES order); the cipher text is in DES order."""
    turned = b"".join(data[at : at + 8][::-1] for at in range(0, len(data), 8))
    encryptor = Cipher(TripleDES(keys + keys[:8]), modes.CBC(start)).encryptor()
    return encryptor.update(turned) + encryptor.finalize()
