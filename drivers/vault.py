"""The home of every secret: card keys, the rider-hash key, the device key. No key leaves a vault.

A vault may be a file (weak), a PKCS#11 token or a SAM. Therefore its questions are those that such a token can answer inside: it derives a
card's key and answers with *one tap's* session, it hashes, it signs. Session keys of one tap may leave a token; nothing longer-lived may.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

from drivers.signer import Algorithm

RIDER_PURPOSE = b"kazashi rider"
"""What stands before a medium in the rider's hash, so that the key serves nothing else."""


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
        """The device's signature (64 bytes) over ``message``; by Ed25519, unless the vault's ``device_algorithm`` says otherwise."""
        ...


class TerminalVault(Vault, Protocol):
    """What a terminal opens at its start: its secrets, the public keys that come with them, and who it is to the city."""

    @property
    def grants(self) -> "GrantChecker": ...

    @property
    def device_algorithm(self) -> Algorithm:
        """What ``sign`` signs with."""
        ...

    def device_public_key(self) -> bytes:
        """By what others check ``sign``: 32 bytes for Ed25519, the uncompressed point (65 bytes) for ES256."""
        ...

    def close(self) -> None:
        """Let go of what is held. Nothing may be asked afterwards."""
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


# --- where a vault is, as a short text ----------------------------------------------------------------------------------------------------

_FILE, _TOKEN = "file:", "pkcs11:"
_FORMS = "write a path, file:PATH, or pkcs11:MODULE?token=LABEL&pin-file=PATH"


@dataclass(frozen=True, slots=True)
class FileAddress:
    """A vault that is a file."""

    path: Path

    @property
    def text(self) -> str:
        """As ``parse_address`` reads it."""
        return f"{_FILE}{quote(str(self.path))}"

    def __str__(self) -> str:
        return self.text

    def beneath(self, folder: Path) -> "FileAddress":
        """The same with a relative path taken from ``folder``."""
        return FileAddress((folder / self.path).resolve())


@dataclass(frozen=True, slots=True)
class TokenAddress:
    """A vault in a PKCS#11 token: the module that speaks to it, the token's label, and the file that has the user's PIN."""

    module: Path
    token: str
    pin_file: Path

    @property
    def text(self) -> str:
        """As ``parse_address`` reads it."""
        return f"{_TOKEN}{quote(str(self.module))}?token={quote(self.token, safe='')}&pin-file={quote(str(self.pin_file))}"

    def __str__(self) -> str:
        return self.text

    def beneath(self, folder: Path) -> "TokenAddress":
        """The same with relative paths taken from ``folder``."""
        return replace(self, module=(folder / self.module).absolute(), pin_file=(folder / self.pin_file).absolute())


VaultAddress = FileAddress | TokenAddress


def parse_address(text: str) -> VaultAddress:
    """What a short text names; raises ``ValueError`` with a sentence.

    A plain path is a file. In the two other forms ``%`` and two hexadecimal digits stand for a byte, as in RFC 3986 (section 2.1). The
    second has the parts of an RFC 7512 address that we need, in an order that a person can write.
    """
    if text.startswith(_TOKEN):
        return _token_address(text)
    path = unquote(text.removeprefix(_FILE)) if text.startswith(_FILE) else text
    if not path:
        raise ValueError(f"vault address '{text}': it names no file; {_FORMS}")
    return FileAddress(Path(path))


def _token_address(text: str) -> TokenAddress:
    module, _, query = text.removeprefix(_TOKEN).partition("?")
    parts: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in {"token", "pin-file"} or name in parts:
            raise ValueError(f"vault address '{text}': '{name}' is not expected here; {_FORMS}")
        parts[name] = unquote(value)
    for name, said in (("module", module), ("token", parts.get("token")), ("pin-file", parts.get("pin-file"))):
        if not said:
            raise ValueError(f"vault address '{text}': its {name} is missing; {_FORMS}")
    return TokenAddress(Path(unquote(module)), parts["token"], Path(parts["pin-file"]))
