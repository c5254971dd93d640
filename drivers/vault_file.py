"""Adapter: a vault that is a file. It is weak: whoever has the file has the keys.

Use it on a desk, in the demo and in tests; on a vehicle only until a PKCS#11 token or a SAM is there. What the file of a terminal gives to
a thief: the card keys of the town (cards can be imitated until the city compares their counters, and debited), the pseudonyms of riders
whose IDm is known, the device's signature. What it does not give: a grant. The issuers' private keys stand in the desk's file only.

The file is TOML, owned by the user who runs the program, mode 0600, or it is refused::

    format = "kazashi vault 1"
    [rider]                 # pseudonym = HMAC-SHA256(key, 'kazashi rider' ‖ medium), first 8 bytes
    version = 1
    key = "…"               # 32 bytes in hexadecimal
    [device]
    key = "…"               # Ed25519 private key, 32 bytes
    [[card]]                # one per card key version, the newest first
    version = 1             # CKV, 0-65535
    master = "…"            # 24 bytes
    [[issuer]]
    id = 1                  # 0-255
    public = "…"            # Ed25519 public key, 32 bytes
    private = "…"           # in the desk's file only

All other files of a terminal may be lost or read without harm to a card; this one is replaced by rotating the keys (CKV).

The program that speaks with the city needs the device's key and nothing else, so on a vehicle it has a file of its own with that alone: the
format is then "kazashi device 1", and ``[device]`` its only table. ``read_signing_keys`` takes either.
"""

import hashlib
import hmac
import os
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import cast

from drivers.cards import ed25519, lite_s
from drivers.cards.tdes import encrypt_cbc
from drivers.errors import DriverError, NotAuthentic
from drivers.signer import Algorithm
from drivers.vault import RIDER_PURPOSE, CardSession, MacRead

FORMAT = "kazashi vault 1"
DEVICE_FORMAT = "kazashi device 1"


class VaultFileRefused(DriverError):
    """The file cannot serve as a vault; the message says why and what to do, and holds no key."""


# --- the keys as values -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CardMaster:
    """The 24-byte master key of one card key version."""

    version: int
    master: bytes


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer's Ed25519 pair; ``private`` is empty on a terminal."""

    id: int
    public: bytes
    private: bytes = b""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Everything a vault file holds. Never printed: its text form is for the file only."""

    cards: tuple[CardMaster, ...]
    rider_version: int
    rider: bytes
    device: bytes
    issuers: tuple[Issuer, ...]

    def __repr__(self) -> str:
        return f"KeySet({len(self.cards)} card key versions, {len(self.issuers)} issuers)"

    def for_terminal(self, device: bytes) -> "KeySet":
        """The same town's keys for a vehicle: no issuer's private key, and a device key of its own (32 bytes)."""
        return replace(self, device=device, issuers=tuple(replace(issuer, private=b"") for issuer in self.issuers))

    @classmethod
    def device_only(cls, device: bytes) -> "KeySet":
        """A device key (32 bytes) and nothing by which a card could be touched."""
        return cls((), 0, b"", device, ())

    def text(self) -> str:
        """The file's text."""
        if not self.cards:
            return f'format = "{DEVICE_FORMAT}"\n[device]\nkey = "{self.device.hex()}"\n'
        lines = [
            f'format = "{FORMAT}"',
            *("[rider]", f"version = {self.rider_version}", f'key = "{self.rider.hex()}"'),
            *("[device]", f'key = "{self.device.hex()}"'),
        ]
        for card in self.cards:
            lines += ["[[card]]", f"version = {card.version}", f'master = "{card.master.hex()}"']
        for issuer in self.issuers:
            lines += ["[[issuer]]", f"id = {issuer.id}", f'public = "{issuer.public.hex()}"']
            lines += [f'private = "{issuer.private.hex()}"'] if issuer.private else []
        return "\n".join(lines) + "\n"


def new_keys(random: Callable[[int], bytes]) -> KeySet:
    """A desk's first key set: card key version 1, issuer 1. ``random(n)`` must be the system's (``secrets.token_bytes``)."""
    issuer = random(32)
    return KeySet(
        cards=(CardMaster(1, random(24)),),
        rider_version=1,
        rider=random(32),
        device=random(32),
        issuers=(Issuer(1, ed25519.public_of(issuer), issuer),),
    )


def demo_keys(seed: int) -> KeySet:
    """The key set of a demo or a test: the same for the same seed, so **public**."""
    return new_keys(_Stream(seed))


class _Stream:
    """Bytes that follow from a seed: SHA-256 in counter mode."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"kazashi demo {self._seed} {self._count}".encode()).digest(size)


# --- the vaults ---------------------------------------------------------------------------------------------------------------------------


class GrantCheckerFile:
    """The issuers' public keys: a ``drivers.vault.GrantChecker``."""

    def __init__(self, public_keys: Mapping[int, bytes]) -> None:
        self._public_keys = dict(public_keys)

    def check(self, key_id: int, signature: bytes, message: bytes) -> None:
        """Return when the signature fits; raise ``NotAuthentic`` otherwise."""
        public = self._public_keys.get(key_id)
        if public is None:
            raise NotAuthentic("no issuer has this key id")
        ed25519.verify(public, signature, message)


@dataclass(frozen=True, slots=True)
class ChallengeFile:
    """A ``drivers.vault.Challenge``: a session for each key version, the newest first."""

    sessions: Iterator[lite_s.LiteSSession]

    def proven_by(self, read: MacRead) -> CardSession:
        """The session whose MAC_A the card gave; raises ``NotAuthentic`` when none fits."""
        for session in self.sessions:
            with suppress(NotAuthentic):
                session.check(read)
                return session
        raise NotAuthentic("the card holds none of our keys")


class VaultFile:
    """A terminal's secrets from a key set: a ``drivers.vault.TerminalVault``."""

    device_algorithm = Algorithm.EDDSA

    def __init__(self, keys: KeySet, cipher: lite_s.Cipher = encrypt_cbc) -> None:
        self._keys = keys
        self._cipher = cipher
        self.grants = GrantCheckerFile({issuer.id: issuer.public for issuer in keys.issuers})

    @classmethod
    def open(cls, path: Path) -> "VaultFile":
        """The vault in a file; raises ``VaultFileRefused``."""
        return cls(read_keys(path))

    def challenge(self, idm: bytes, rc: bytes) -> "ChallengeFile":
        """The session of the newest key version, which most cards have, is made here; the others only when it does not fit."""
        sessions = self._sessions(idm, rc)
        return ChallengeFile(chain(tuple(islice(sessions, 1)), sessions))

    def _sessions(self, idm: bytes, rc: bytes) -> Iterator[lite_s.LiteSSession]:
        for card in self._keys.cards:
            with suppress(lite_s.WeakCardKey):
                key_des = lite_s.card_key_des(self._cipher, card.master, idm, card.version)
                yield lite_s.session_of(self._cipher, key_des, card.version, rc)

    def rider(self, medium: bytes) -> bytes:
        """HMAC-SHA256 over purpose and medium, cut to 8 bytes."""
        return hmac.digest(self._keys.rider, RIDER_PURPOSE + medium, "sha256")[:8]

    @property
    def rider_key_version(self) -> int:
        return self._keys.rider_version

    def sign(self, message: bytes) -> bytes:
        """The device's Ed25519 signature."""
        return ed25519.sign(self._keys.device, message)

    def device_public_key(self) -> bytes:
        """The 32 bytes by which others check ``sign``."""
        return ed25519.public_of(self._keys.device)

    def close(self) -> None:
        """Nothing is held."""


class DeskVaultFile(VaultFile):
    """A desk's secrets: a ``drivers.vault.Vault`` that is also ``drivers.vault.Keys``."""

    @classmethod
    def open(cls, path: Path) -> "DeskVaultFile":
        """The desk's vault in a file; a terminal's file is refused because it cannot grant."""
        keys = read_keys(path)
        if not any(issuer.private for issuer in keys.issuers):
            raise VaultFileRefused(f"{path}: this is a terminal's key file, it holds no issuer's private key; take the desk's file")
        return cls(keys)

    @property
    def newest_card_key(self) -> int:
        """The card key version that new cards get."""
        return self._keys.cards[0].version

    @property
    def issuer_id(self) -> int:
        """The key id that new grants are signed with."""
        return next(issuer.id for issuer in self._keys.issuers if issuer.private)

    def card_key(self, idm: bytes, key_version: int) -> bytes:
        """The 16 bytes for block CK, card order; ``KeyError``: unknown version; ``WeakCardKey``: do not issue this card."""
        masters = {card.version: card.master for card in self._keys.cards}
        return lite_s.swap_halves(lite_s.card_key_des(self._cipher, masters[key_version], idm, key_version))

    def sign_grant(self, key_id: int, message: bytes) -> bytes:
        """The issuer's signature; ``KeyError`` for an issuer whose private key is not here."""
        private = {issuer.id: issuer.private for issuer in self._keys.issuers if issuer.private}
        return ed25519.sign(private[key_id], message)


# --- the file -----------------------------------------------------------------------------------------------------------------------------


def write_keys(path: Path, keys: KeySet) -> None:
    """Make a new key file, mode 0600; an existing one is never replaced (``VaultFileRefused``)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise VaultFileRefused(f"{path}: there is a file already; keys are never overwritten, name another file") from None
    except OSError as error:
        raise VaultFileRefused(f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(keys.text())
        file.flush()
        os.fsync(file.fileno())


def read_keys(path: Path) -> KeySet:
    """The key set in a file that only its owner can read; raises ``VaultFileRefused``."""
    return _read(path).keys()


def read_signing_keys(path: Path) -> KeySet:
    """The same, or a device's key alone; enough to sign, and not to touch a card. Raises ``VaultFileRefused``."""
    document = _read(path)
    return document.device() if document.is_device else document.keys()


def _read(path: Path) -> "_Document":
    try:
        with path.open("rb") as file:
            refuse_readable_by_others(path, os.fstat(file.fileno()))
            document = tomllib.load(file)
    except FileNotFoundError:
        raise VaultFileRefused(f"{path}: there is no key file here; `kazashi card keys --new {path}` makes one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise VaultFileRefused(f"{path}: not a TOML file; take the key file from its backup") from None
    except OSError as error:
        raise VaultFileRefused(f"{path}: cannot be read ({error.strerror})") from None
    return _Document(path, document)


def refuse_readable_by_others(path: Path, status: os.stat_result) -> None:
    """Return when only this user may read an open file of this status; raise ``VaultFileRefused`` otherwise."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise VaultFileRefused(f"{path}: others may read this file (mode {mode:04o}); run `chmod 600 {path}`")
    if status.st_uid != os.geteuid():
        raise VaultFileRefused(f"{path}: this file belongs to another user; run the program as its owner")


@dataclass(frozen=True, slots=True)
class _Document:
    """A parsed file; each of its reads says which field is wrong."""

    path: Path
    root: Mapping[str, object]

    @property
    def is_device(self) -> bool:
        return self.root.get("format") == DEVICE_FORMAT

    def device(self) -> KeySet:
        return KeySet.device_only(self._bytes("device.key", self._table("device").get("key"), 32))

    def keys(self) -> KeySet:
        if self.is_device:
            raise VaultFileRefused(f"{self.path}: this file holds a device's key alone and no card's; name the vehicle's key file")
        if self.root.get("format") != FORMAT:
            raise self._wrong("format", f'must be "{FORMAT}"')
        rider, device = self._table("rider"), self._table("device")
        return KeySet(
            cards=tuple(self._card(at, row) for at, row in enumerate(self._rows("card"))),
            rider_version=self._number("rider.version", rider.get("version"), 0xFFFF),
            rider=self._bytes("rider.key", rider.get("key"), 32),
            device=self._bytes("device.key", device.get("key"), 32),
            issuers=tuple(self._issuer(at, row) for at, row in enumerate(self._rows("issuer"))),
        )

    def _card(self, at: int, row: Mapping[str, object]) -> CardMaster:
        where = f"card[{at}]"
        version = self._number(f"{where}.version", row.get("version"), 0xFFFF)
        return CardMaster(version, self._bytes(f"{where}.master", row.get("master"), 24))

    def _issuer(self, at: int, row: Mapping[str, object]) -> Issuer:
        where = f"issuer[{at}]"
        private = self._bytes(f"{where}.private", row["private"], 32) if "private" in row else b""
        return Issuer(self._number(f"{where}.id", row.get("id"), 0xFF), self._bytes(f"{where}.public", row.get("public"), 32), private)

    def _table(self, name: str) -> Mapping[str, object]:
        table = self.root.get(name)
        if not isinstance(table, dict):
            raise self._wrong(name, "must be a table")
        return cast("Mapping[str, object]", table)

    def _rows(self, name: str) -> Sequence[Mapping[str, object]]:
        rows = self.root.get(name)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in cast("list[object]", rows)):
            raise self._wrong(name, "must be one or more tables")
        return cast("list[Mapping[str, object]]", rows)

    def _number(self, field: str, value: object, highest: int) -> int:
        if type(value) is not int or not 0 <= value <= highest:
            raise self._wrong(field, f"must be a number from 0 to {highest}")
        return value

    def _bytes(self, field: str, value: object, size: int) -> bytes:
        try:
            data = bytes.fromhex(value) if isinstance(value, str) else b""
        except ValueError:
            data = b""
        if len(data) != size:
            raise self._wrong(field, f"must be {size} bytes in hexadecimal")
        return data

    def _wrong(self, field: str, what: str) -> VaultFileRefused:
        return VaultFileRefused(f"{self.path}: {field} {what}; take the key file from its backup")
