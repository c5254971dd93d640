"""The home of every secret: card keys, the rider-hash key, the device key. No key leaves a vault.

A vault may be a file (weak), a PKCS#11 token or a SAM. Therefore its questions are those that such a token can answer inside: it derives a
card's key and answers with *one tap's* session, it hashes, it signs. Session keys of one tap may leave a token; nothing longer-lived may.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class MacRead:
    """What a card answered to one Read Without Encryption that ended with MAC_A.

    ``blocks``: the block numbers of the list *without* 0x91; ``data``: their 16 bytes each, in list order; ``mac``: the 8 bytes of MAC_A.
    """

    blocks: tuple[int, ...]
    data: bytes
    mac: bytes


class CardSession(Protocol):
    """The session keys of one tap with one card, already proven by the card's first MAC_A."""

    @property
    def key_version(self) -> int:
        """The card key version (CKV, u16) that fitted."""
        ...

    def check(self, read: MacRead) -> None:
        """Return when the MAC_A of a later read fits; raise ``drivers.errors.NotAuthentic`` otherwise."""
        ...

    def mac_write(self, block: int, data: bytes, wcnt: int) -> bytes:
        """The 8 bytes of MAC_A for a write of ``data`` (16 bytes) to ``block`` at write counter ``wcnt``."""
        ...


class Challenge(Protocol):
    """A challenge that a card was sent, waiting for what the card makes of it."""

    def proven_by(self, read: MacRead) -> CardSession:
        """Open the session: try the key versions, newest first, against the card's MAC_A. None fits: ``drivers.errors.NotAuthentic``."""
        ...


class Vault(Protocol):
    """A terminal's secrets."""

    def challenge(self, idm: bytes, rc: bytes) -> Challenge:
        """Derive what the answer of card ``idm`` (8 bytes) to ``rc`` (the 16 random bytes for block RC, card order) will be checked with.

        All that can be known before the answer is done here, so that a caller can do it while the card stores the challenge.
        """
        ...

    def rider(self, medium: bytes) -> bytes:
        """The rider's pseudonym: a keyed hash of a medium identifier (the IDm), cut to 8 bytes."""
        ...

    @property
    def rider_key_version(self) -> int:
        """The version of the rider-hash key; its purpose is the constant ``b'kazashi rider'``."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The device's signature (Ed25519, 64 bytes) over ``message``."""
        ...


class GrantChecker(Protocol):
    """The public half of the issuers' keys, which terminals hold."""

    def check(self, key_id: int, signature: bytes, message: bytes) -> None:
        """Return when the Ed25519 signature (64 bytes) fits; raise ``drivers.errors.NotAuthentic`` if not, also for an unknown key id."""
        ...


class Keys(Protocol):
    """The desk's extra secrets, which no vehicle holds: what issuing a card and granting points needs."""

    def card_key(self, idm: bytes, key_version: int) -> bytes:
        """The 16 bytes for block CK (card order). They leave the vault only to be written to that card at the desk."""
        ...

    def sign_grant(self, key_id: int, message: bytes) -> bytes:
        """The issuer's Ed25519 signature (64 bytes) over a grant."""
        ...
