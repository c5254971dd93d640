"""FeliCa Lite-S (RC-S966): its memory, its session keys, its MACs, and the key of each card. Pure; the cipher is given.

**Byte order.** The chip reverses each 8-byte half between the bytes on the air ("card order") and the bytes DES sees ("DES order").
Everything in this file's interface is in card order unless its name ends in ``des``; the reversal happens here and nowhere else.

**Session.** A reader writes 16 random bytes to block RC. Both sides then know the session key: SK = CBC-3DES under the card's key CK, IV 0,
over RC. MAC_A of a read covers the *numbers* of the blocks and their data; MAC_A of a write covers the write counter, the block number and
the data, under SK with its halves swapped. The old MAC (block 81) covers data only, so somebody on the air can exchange blocks under it; it
is here because the factory's card and the public vectors speak it, and no purse uses it.

**A card's own key.** CK = T‖T' from the issuer's 24-byte master key, the card's IDm and the key version, by the CMAC-like form that Lite-S
tools share: K1 from 3DES(0) as in CMAC, M = IDm ‖ CKV ‖ zeros as one full message. Two choices are ours, because the public programs
differ: M is taken unreversed, and T‖T' is the key in *DES order*. So a token that holds the master derives the card's key inside, with
nothing but 3DES-ECB: three encryptions of public blocks, two XORs, and one "derive by encrypting data" whose 16 bytes are the key
(``docs/card-keys.md`` has the recipe and the vectors).

**Weak keys.** A derived key whose half is one of DES's sixteen weak or semi-weak keys, or whose halves are equal, is refused: one card in
2^51. It is refused at the desk ("take another card") and not stepped to a next candidate: a token that derives inside cannot look at the
key, so a terminal with a token and a terminal with a file would step differently.
"""

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from drivers.errors import NotAuthentic
from drivers.vault import MacRead

Cipher = Callable[[bytes, bytes, bytes], bytes]
"""3DES-CBC encryption: key (16 or 24 bytes), IV, data; DES order (``drivers.cards.tdes.encrypt_cbc``)."""

ZERO_HALF = bytes(8)
FACTORY_KEY = bytes(16)
COUNTER_LIMIT = 0xFFFE00
"""Once an issued card's WCNT is here, it refuses every write with a MAC."""


class Block(IntEnum):
    """Block numbers. S_PAD0 to S_PAD13 are 00 to 0D."""

    S_PAD0 = 0x00
    REG = 0x0E
    RC = 0x80
    MAC = 0x81
    ID = 0x82
    D_ID = 0x83
    SER_C = 0x84
    SYS_C = 0x85
    CKV = 0x86
    CK = 0x87
    MC = 0x88
    WCNT = 0x90
    MAC_A = 0x91
    STATE = 0x92
    CRC_CHECK = 0xA0


class WeakCardKey(ValueError):
    """DES is broken under the key derived for this card: do not issue it, take another one."""


def is_lite_s(pmm: bytes) -> bool:
    """Whether a PMm is that of a Lite-S, or of a FeliCa Link in Lite-S mode (IC type F1, F2)."""
    return len(pmm) == 8 and pmm[1] in {0xF1, 0xF2}


def version_bytes(key_version: int) -> bytes:
    """Bytes 0-1 of block CKV: u16 little endian."""
    return key_version.to_bytes(2, "little")


# --- session -----------------------------------------------------------------------------------------------------------------------------


def write_mac_block(mac_a: bytes, wcnt: int) -> bytes:
    """The 16 bytes for block 91 of a write with MAC: MAC_A, the write counter, zeros."""
    return mac_a + wcnt.to_bytes(3, "little") + bytes(5)


def swap_halves(data: bytes) -> bytes:
    """Card order to DES order and back: each 8-byte half reversed."""
    count = len(data) // 8
    return struct.pack(f">{count}Q", *struct.unpack(f"<{count}Q", data))


@dataclass(frozen=True, slots=True)
class LiteSSession:
    """One tap's session: a ``drivers.vault.CardSession``. Holds the session key of this tap (DES order) and no key of the card."""

    cipher: Cipher
    key_des: bytes
    rc: bytes
    key_version: int

    def mac(self, data: bytes) -> bytes:
        """The MAC of block 81 over the data of the blocks read before it. Weak: block numbers are not covered."""
        return self._cbc_mac(self.key_des, data)

    def mac_read(self, read: MacRead) -> bytes:
        """MAC_A of a read: over the numbers of its blocks, block 91 among them, and their data."""
        numbers = b"".join(bytes((block, 0)) for block in (*read.blocks, Block.MAC_A)).ljust(8, b"\xff")
        return self._cbc_mac(self.key_des, numbers + read.data)

    def mac_write(self, block: int, data: bytes, wcnt: int) -> bytes:
        """MAC_A of a write of 16 bytes to ``block`` while the card's write counter is ``wcnt`` (u24)."""
        head = wcnt.to_bytes(3, "little") + bytes((0, block, 0, Block.MAC_A, 0))
        return self._cbc_mac(self.key_des[8:] + self.key_des[:8], head + data)

    def check(self, read: MacRead) -> None:
        """Return when the read's MAC_A fits; raise ``NotAuthentic`` otherwise."""
        if not hmac.compare_digest(self.mac_read(read), read.mac):
            raise NotAuthentic("the card's MAC_A does not fit what it said")

    def _cbc_mac(self, key_des: bytes, text: bytes) -> bytes:
        return self.cipher(key_des, self.rc[7::-1], swap_halves(text))[:-9:-1]

    def __repr__(self) -> str:
        return f"LiteSSession(key_version={self.key_version})"


def session_of(cipher: Cipher, key_des: bytes, key_version: int, rc: bytes) -> LiteSSession:
    """The session, not yet proven, of a card with this key (16 bytes, DES order) after ``rc`` (16 bytes) went to block RC."""
    return LiteSSession(cipher, cipher(key_des, ZERO_HALF, swap_halves(rc)), rc, key_version)


# --- a card's own key ---------------------------------------------------------------------------------------------------------------------


def card_key_des(cipher: Cipher, master: bytes, idm: bytes, key_version: int) -> bytes:
    """The 16 bytes K1‖K2 of a card in DES order; raises ``WeakCardKey`` (see the reasoning above)."""
    first = idm
    last = _xor(version_bytes(key_version) + bytes(6), _subkey(cipher, master))
    flipped = bytes((first[0] ^ 0x80,)) + first[1:]
    key = cipher(master, ZERO_HALF, first + last)[8:] + cipher(master, ZERO_HALF, flipped + last)[8:]
    if is_weak(key):
        raise WeakCardKey("the key derived for this card is a weak DES key; take another card")
    return key


def is_weak(key_des: bytes) -> bool:
    """Whether a two-key 3DES key is degenerate: a weak or semi-weak half, or equal halves. Parity bits do not count."""
    bits = key_des.translate(_NO_PARITY)
    left, right = bits[:8], bits[8:]
    return left == right or left in _WEAK_HALVES or right in _WEAK_HALVES


@lru_cache(maxsize=8)
def _subkey(cipher: Cipher, master: bytes) -> bytes:
    """The same for every card of a master, so it is made once."""
    return subkey(cipher(master, ZERO_HALF, ZERO_HALF))


def subkey(of_zero: bytes) -> bytes:
    """K1 of CMAC for a block of 64 bits (NIST SP 800-38B §6.1) from L, the encryption of 8 zero bytes under the master."""
    doubled = int.from_bytes(of_zero, "big") << 1
    return (doubled & 0xFFFFFFFFFFFFFFFF ^ (0x1B if doubled >> 64 else 0)).to_bytes(8, "big")


def key_data(encrypt_ecb: Callable[[bytes], bytes], k1: bytes, idm: bytes, key_version: int) -> bytes:
    """The 16 bytes D1‖D2 that, encrypted under the master (ECB), are a card's key in DES order; no secret to whoever may use the master.

    For a token that encrypts and derives inside: ``encrypt_ecb`` is asked once, for 16 bytes that are no secret; ``k1`` is ``subkey``.
    """
    flipped = bytes((idm[0] ^ 0x80,)) + idm[1:]
    last = _xor(version_bytes(key_version) + bytes(6), k1)
    return _xor(encrypt_ecb(idm + flipped), last + last)


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


# The four weak and twelve semi-weak DES keys (NIST SP 800-67 rev. 2 §3.3.2), parity bits cleared: each is a pair of bytes in turn, the
# pair repeated in the right half, where the two middle values differ from the left half's.
def _weak_half(left: tuple[int, int], right: tuple[int, int]) -> bytes:
    return bytes(left) * 2 + bytes(right) * 2


_WEAK_HALVES = frozenset(
    _weak_half((a, b), (a_right, b_right))
    for a, a_right in ((0x00, 0x00), (0xFE, 0xFE), (0x1E, 0x0E), (0xE0, 0xF0))
    for b, b_right in ((0x00, 0x00), (0xFE, 0xFE), (0x1E, 0x0E), (0xE0, 0xF0))
)

_NO_PARITY = bytes(byte & 0xFE for byte in range(256))


# --- memory configuration (block MC) ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemoryConfiguration:
    """Block MC as a record. Bit maps are u16: bits 0-13 for S_PAD0-13, bit 14 for REG.

    ``writable``: 1 = may be written; its bit 15: 1 = the bit maps may still be changed (0 after second issuance). ``open_system``: the
    system blocks may still be written (False after first issuance). ``answers_ndef``: answers polling for 12FC. ``keys_with_mac``: CK and
    CKV may be rewritten with a MAC. ``read_needs_auth``, ``write_needs_auth``: EXT_AUTH first. ``write_needs_mac``: MAC_A with each write.
    ``state_needs_mac``: STATE takes a MAC; without it external authentication cannot work at all.
    """

    writable: int = 0xFFFF
    open_system: bool = True
    answers_ndef: bool = False
    keys_with_mac: bool = False
    read_needs_auth: int = 0
    write_needs_auth: int = 0
    write_needs_mac: int = 0
    state_needs_mac: bool = False

    @property
    def frozen(self) -> bool:
        """Whether second issuance is done."""
        return not self.writable & 0x8000

    def block(self) -> bytes:
        """The 16 bytes of block MC; byte 4 (RF_PRM) is always 07."""
        maps = b"".join(bits.to_bytes(2, "little") for bits in (self.read_needs_auth, self.write_needs_auth, self.write_needs_mac))
        head = self.writable.to_bytes(2, "little") + bytes((0xFF if self.open_system else 0, self.answers_ndef, 7, self.keys_with_mac))
        return head + maps + bytes((self.state_needs_mac, 0, 0, 0))

    @staticmethod
    def parse(block: bytes) -> "MemoryConfiguration":
        """The record in the 16 bytes of block MC."""
        return MemoryConfiguration(
            writable=int.from_bytes(block[0:2], "little"),
            open_system=block[2] == 0xFF,
            answers_ndef=block[3] == 1,
            keys_with_mac=block[5] == 1,
            read_needs_auth=int.from_bytes(block[6:8], "little"),
            write_needs_auth=int.from_bytes(block[8:10], "little"),
            write_needs_mac=int.from_bytes(block[10:12], "little"),
            state_needs_mac=block[12] == 1,
        )
