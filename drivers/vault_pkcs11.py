"""Adapter: a vault in a PKCS#11 token (OASIS PKCS #11 v2.40, Ed25519 from v3.0). The keys of a town are in the token and stay there.

**What is inside.** Per card key version a three-key DES secret, "kazashi card", its id the version (u16, big-endian); one generic secret,
"kazashi rider", its id the rider-hash key's version; the device's key pair, "kazashi device", made inside and nowhere else; each issuer's
public key as a data object, "kazashi issuer". All are private objects, because anybody who reaches a token may put *public* ones there, and
a false issuer's key would be believed. Secrets that the token would show are refused at opening.

**What a tap asks.** Encrypt two public blocks (``CKM_DES3_ECB``); derive the card's key from the master by encrypting data
(``CKM_DES3_ECB_ENCRYPT_DATA``) as a session object that is sensitive and cannot be extracted; encrypt the challenge with it
(``CKM_DES3_CBC``), which is the session key of this one tap; destroy the object. ``docs/card-keys.md`` has the recipe. All versions are
tried in ``challenge``, while the card stores it: in the weeks of a rotation nobody knows which version the next card has.

**When the token is away.** A question that fails opens the token anew and is asked once more; if that fails too, ``VaultLost``. A refused
PIN is never tried a second time by this process, and never when it would be the token's last, because three wrong ones lock a token.

python-pkcs11 knows the parameter of ``CKM_AES_ECB_ENCRYPT_DATA`` but not of the DES3 one. It passes bytes through as they are, so the
structure (``CK_KEY_DERIVATION_STRING_DATA``: a pointer and a length) is laid out here.
"""

import ctypes
import hashlib
import hmac
import os
import struct
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import pkcs11
from pkcs11.constants import DEFAULT, Attribute, MechanismFlag, ObjectClass, TokenFlag
from pkcs11.exceptions import NoSuchToken, PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked, PKCS11Error, UserAlreadyLoggedIn
from pkcs11.mechanisms import KeyType, Mechanism
from pkcs11.types import Object, Session, Token

from drivers.cards import lite_s
from drivers.cards.tdes import encrypt_cbc
from drivers.errors import DriverError, VaultLost
from drivers.signer import Algorithm
from drivers.vault import RIDER_PURPOSE, TokenAddress
from drivers.vault_file import ChallengeFile, GrantCheckerFile, KeySet, VaultFileRefused, refuse_readable_by_others

CARD, RIDER, DEVICE, ISSUER = "kazashi card", "kazashi rider", "kazashi device", "kazashi issuer"
NEEDED = (Mechanism.DES3_ECB, Mechanism.DES3_CBC, Mechanism.DES3_ECB_ENCRYPT_DATA, Mechanism.SHA256_HMAC)
_EDWARDS_25519 = bytes.fromhex("06032b6570")  # OID 1.3.101.112 (RFC 8410, section 3)
_P_256 = bytes.fromhex("06082a8648ce3d030107")  # OID 1.2.840.10045.3.1.7 (RFC 5480, section 2.1.1.1)
_POINT_BYTES = {Algorithm.EDDSA: 32, Algorithm.ES256: 65}
_ZEROS = bytes(8)
_PIN_REFUSED = (PinIncorrect, PinInvalid, PinLenRange, PinExpired, PinLocked)
_SAYS_NOTHING = b"kazashi the same key?"

_T = TypeVar("_T")


class VaultTokenRefused(DriverError):
    """The token cannot serve as a vault, or not yet; the message says why and what to do, and holds no key and no PIN."""


# --- what python-pkcs11's objects do, as far as it is asked -------------------------------------------------------------------------------


class _Encrypts(Protocol):
    def encrypt(self, data: bytes, *, mechanism: Mechanism, mechanism_param: bytes | None = None) -> bytes: ...


class _Master(_Encrypts, Protocol):
    def derive_key(
        self,
        key_type: KeyType,
        key_length: int,
        *,
        capabilities: MechanismFlag,
        mechanism: Mechanism,
        mechanism_param: bytes,
        template: Mapping[Attribute, object],
    ) -> Object: ...


class _Signs(Protocol):
    def sign(self, data: bytes, *, mechanism: Mechanism) -> bytes: ...


# --- an open token ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Card:
    """The master of one card key version, and K1, which is the same for all of its cards."""

    version: int
    master: _Master
    k1: bytes

    def session(self, idm: bytes, rc: bytes) -> lite_s.LiteSSession:
        data = lite_s.key_data(lambda blocks: self.master.encrypt(blocks, mechanism=Mechanism.DES3_ECB), self.k1, idm, self.version)
        key = _derive(self.master, data)
        try:
            session_key = cast("_Encrypts", key).encrypt(lite_s.swap_halves(rc), mechanism=Mechanism.DES3_CBC, mechanism_param=_ZEROS)
        finally:
            key.destroy()
        return lite_s.LiteSSession(encrypt_cbc, session_key, rc, self.version)


def _derive(master: _Master, data: bytes) -> Object:
    """The card's key as an object of this session: the token will encrypt with it and never show it."""
    buffer = ctypes.create_string_buffer(data, len(data))
    return master.derive_key(
        KeyType.DES2,
        128,
        capabilities=MechanismFlag.ENCRYPT,
        mechanism=Mechanism.DES3_ECB_ENCRYPT_DATA,
        mechanism_param=struct.pack("@PL", ctypes.addressof(buffer), len(data)),
        # A DES key has its length by its type; to say it is an error (PKCS #11 v2.40, section 2.17.2: no CKA_VALUE_LEN).
        template={Attribute.VALUE_LEN: DEFAULT, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )


@dataclass(frozen=True, slots=True)
class _Open:
    """A session that is logged in, and what it found."""

    session: Session
    cards: tuple[_Card, ...]
    rider_version: int
    rider: _Signs
    device: _Signs
    algorithm: Algorithm
    public: bytes
    issuers: Mapping[int, bytes]


class VaultPkcs11:
    """A terminal's secrets in a token: a ``drivers.vault.TerminalVault``.

    Opening raises ``VaultTokenRefused``. Every question may raise ``VaultLost``; asking again later tries again.
    """

    def __init__(self, address: TokenAddress) -> None:
        self._address = address
        self._given_up = ""
        self._last_rider = (b"", b"")
        opened = self._open()
        self._opened: _Open | None = opened
        self._rider_version = opened.rider_version
        self._algorithm, self._public = opened.algorithm, opened.public
        self.grants = GrantCheckerFile(opened.issuers)

    def challenge(self, idm: bytes, rc: bytes) -> ChallengeFile:
        """A session for each key version is derived here, inside the token, the highest version first."""
        return self._ask(lambda opened: ChallengeFile(iter([card.session(idm, rc) for card in opened.cards])))

    def rider(self, medium: bytes) -> bytes:
        """HMAC-SHA256 over purpose and medium, cut to 8 bytes. A tap asks twice; the last answer is kept."""
        if self._last_rider[0] != medium:
            whole = self._ask(lambda opened: opened.rider.sign(RIDER_PURPOSE + medium, mechanism=Mechanism.SHA256_HMAC))
            self._last_rider = medium, whole[:8]
        return self._last_rider[1]

    @property
    def rider_key_version(self) -> int:
        return self._rider_version

    @property
    def device_algorithm(self) -> Algorithm:
        return self._algorithm

    def device_public_key(self) -> bytes:
        """By what others check ``sign``: 32 bytes for Ed25519, the uncompressed point (65 bytes) for ES256."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """The device's signature, 64 bytes, by ``device_algorithm``."""
        return self._ask(lambda opened: _sign(opened.algorithm, opened.device, message))

    def close(self) -> None:
        """Log out. Other sessions of this process on the same token notice, and log in again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            _hang_up(opened.session)

    # --- asking, and asking once more ---

    def _ask(self, question: Callable[[_Open], _T]) -> _T:
        if self._opened is not None:
            with suppress(PKCS11Error):
                return question(self._opened)
            self.close()
        self._opened = self._reopen()
        try:
            return question(self._opened)
        except PKCS11Error as error:
            self.close()
            raise VaultLost(f"{_name(self._address)} does not answer ({_what(error)})") from error

    def _reopen(self) -> _Open:
        if self._given_up:
            raise VaultLost(self._given_up)
        try:
            opened = self._open()
        except VaultTokenRefused as refused:
            raise VaultLost(str(refused)) from refused
        if (opened.rider_version, opened.public) != (self._rider_version, self._public):
            self._given_up = f"{_name(self._address)} is another one, or was given other keys; start the program again"
            raise VaultLost(self._given_up)
        self.grants = GrantCheckerFile(opened.issuers)
        return opened

    def _open(self) -> _Open:
        session = _log_in(self._address, writable=False, pin_refused=self._give_up)
        with ExitStack() as undo:
            undo.callback(_hang_up, session)
            try:
                opened = _look(self._address, session)
            except PKCS11Error as error:
                raise _does_not_answer(self._address, error) from error
            undo.pop_all()
        return opened

    def _give_up(self, why: str) -> None:
        self._given_up = why


def _sign(algorithm: Algorithm, key: _Signs, message: bytes) -> bytes:
    match algorithm:
        case Algorithm.EDDSA:
            return key.sign(message, mechanism=Mechanism.EDDSA)
        case Algorithm.ES256:
            return key.sign(hashlib.sha256(message).digest(), mechanism=Mechanism.ECDSA)


# --- opening ------------------------------------------------------------------------------------------------------------------------------


def _log_in(address: TokenAddress, *, writable: bool, pin_refused: Callable[[str], None] = lambda _why: None) -> Session:
    """A session with the user logged in; a module that lost its token is started once more. Raises ``VaultTokenRefused``."""
    pin = _pin(address)
    try:
        module = pkcs11.lib(str(address.module))
    except PKCS11Error as error:
        raise VaultTokenRefused(f"{address.module}: this PKCS#11 module cannot be loaded; install it, or name another one") from error
    try:
        return _session(address, module.get_token(token_label=address.token), pin, writable=writable)
    except _PIN_REFUSED as error:
        raise _pin_was_refused(address, pin_refused, error) from error
    except PKCS11Error:
        with suppress(PKCS11Error):
            module.reinitialize()
    try:
        return _session(address, module.get_token(token_label=address.token), pin, writable=writable)
    except _PIN_REFUSED as error:
        raise _pin_was_refused(address, pin_refused, error) from error
    except PKCS11Error as error:
        raise _does_not_answer(address, error) from error


def _session(address: TokenAddress, token: Token, pin: str, *, writable: bool) -> Session:
    if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise VaultTokenRefused(f"{_name(address)}: one more wrong PIN would lock it; log in by hand with the right one, then start again")
    try:
        return token.open(rw=writable, user_pin=pin)
    except UserAlreadyLoggedIn:  # by another session of this process
        return token.open(rw=writable)


def _hang_up(session: Session) -> None:
    with suppress(PKCS11Error):
        session.close()


def _pin(address: TokenAddress) -> str:
    path = address.pin_file
    try:
        with path.open("rb") as file:
            refuse_readable_by_others(path, os.fstat(file.fileno()))
            pin = file.read().decode("utf-8").rstrip("\r\n")
    except VaultFileRefused as refused:
        raise VaultTokenRefused(str(refused)) from refused
    except OSError as error:
        raise VaultTokenRefused(f"{path}: the PIN cannot be read ({error.strerror}); write it into this file, mode 0600") from error
    except UnicodeDecodeError:
        pin = ""
    if not pin:
        raise VaultTokenRefused(f"{path}: holds no PIN; write it into this file, in UTF-8, mode 0600")
    return pin


def _pin_was_refused(address: TokenAddress, tell: Callable[[str], None], error: PKCS11Error) -> VaultTokenRefused:
    why = f"{_name(address)} refused the PIN in {address.pin_file} ({_what(error)}); it is not tried again, correct it and start anew"
    tell(why)
    return VaultTokenRefused(why)


def _does_not_answer(address: TokenAddress, error: PKCS11Error) -> VaultTokenRefused:
    if isinstance(error, NoSuchToken):
        return VaultTokenRefused(f"{_name(address)}: there is no such token behind {address.module}; plug it in, or correct the label")
    return VaultTokenRefused(f"{_name(address)} does not answer ({_what(error)}); plug it in again")


def _name(address: TokenAddress) -> str:
    return f"token '{address.token}'"


def _what(error: PKCS11Error) -> str:
    return type(error).__name__


def _look(address: TokenAddress, session: Session) -> _Open:
    """What a terminal needs, found in the token and fit to be used; raises ``VaultTokenRefused``."""
    there = session.token.slot.get_mechanisms()
    absent = [mechanism.name for mechanism in NEEDED if mechanism not in there]
    if absent:
        raise VaultTokenRefused(f"{_name(address)} cannot do {', '.join(absent)}; it cannot hold card keys, take another kind of token")
    cards = sorted(_secrets(address, session, CARD), key=lambda found: found[0], reverse=True)
    riders = list(_secrets(address, session, RIDER))
    issuers = _issuers(session)
    device = _device(address, session)
    if not cards or len(riders) != 1 or not issuers or device is None:
        raise VaultTokenRefused(f"{_name(address)} does not hold a vehicle's keys, or not all; `kazashi card keys --token` puts them there")
    algorithm, private, public = device
    rider_version, rider = riders[0]
    return _Open(
        session,
        tuple(_card(version, cast("_Master", master)) for version, master in cards),
        rider_version,
        cast("_Signs", rider),
        cast("_Signs", private),
        algorithm,
        public,
        issuers,
    )


def _card(version: int, master: _Master) -> _Card:
    return _Card(version, master, lite_s.subkey(master.encrypt(_ZEROS, mechanism=Mechanism.DES3_ECB)))


def _found(session: Session, kind: ObjectClass, label: str) -> list[Object]:
    return list(session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label, Attribute.PRIVATE: True}))


def _secrets(address: TokenAddress, session: Session, label: str) -> Iterator[tuple[int, Object]]:
    """The secret keys of this label, each with the version in its id; two of one version are refused."""
    seen: set[int] = set()
    for key in _found(session, ObjectClass.SECRET_KEY, label):
        version = int.from_bytes(cast("bytes", key[Attribute.ID]), "big")
        if version in seen:
            raise VaultTokenRefused(f"{_name(address)} holds two keys '{label}' of version {version}; erase it and fill it again")
        seen.add(version)
        _refuse_shown(address, key)
        yield version, key


def _refuse_shown(address: TokenAddress, key: Object) -> None:
    if not key[Attribute.SENSITIVE] or key[Attribute.EXTRACTABLE]:
        raise VaultTokenRefused(f"{_name(address)} would show a key to whoever asks; erase it and fill it with `kazashi card keys --token`")


def _device(address: TokenAddress, session: Session) -> tuple[Algorithm, Object, bytes] | None:
    """The device's key: its algorithm, the private half, the public half's bytes."""
    privates = _found(session, ObjectClass.PRIVATE_KEY, DEVICE)
    publics = _found(session, ObjectClass.PUBLIC_KEY, DEVICE)
    if not privates or not publics:
        return None
    if len(privates) > 1 or len(publics) > 1:
        raise VaultTokenRefused(f"{_name(address)} holds more than one device key; erase it and fill it again")
    private, public = privates[0], publics[0]
    _refuse_shown(address, private)
    algorithm = Algorithm.ES256 if private[Attribute.KEY_TYPE] == KeyType.EC else Algorithm.EDDSA
    return algorithm, private, _point(algorithm, cast("bytes", public[Attribute.EC_POINT]))


def _point(algorithm: Algorithm, value: bytes) -> bytes:
    """The public key's bytes; most tokens wrap them in a DER OCTET STRING, as v2.40 says, some do not."""
    size = _POINT_BYTES[algorithm]
    return value[2:] if len(value) == size + 2 and value[:2] == bytes((4, size)) else value


def _issuers(session: Session) -> Mapping[int, bytes]:
    """The issuers' public keys by their ids: a data object's value is the id's byte and the key's 32."""
    values = [cast("bytes", issuer[Attribute.VALUE]) for issuer in _found(session, ObjectClass.DATA, ISSUER)]
    return {value[0]: value[1:] for value in values if len(value) == 33}


# --- filling ------------------------------------------------------------------------------------------------------------------------------


def fill(address: TokenAddress, keys: KeySet, device: Algorithm | None = None) -> Sequence[str]:
    """Bring an initialised token to what a vehicle of this town needs; what was done, a line each. Raises ``VaultTokenRefused``.

    Missing keys are put in, versions that ``keys`` no longer has are destroyed, and a key that is there already is compared by what it
    computes: one that differs is another town's, and nothing is changed. The device's key is made inside, once: Ed25519 where the token
    can, else P-256 (``device``: this one). It is made last, so a token that was filled halfway is refused until it is filled again. No
    issuer's private key goes in. The masters pass through this process; no terminal needs to see them afterwards.
    """
    with _filling(address) as session:
        cards, riders = dict(_secrets(address, session, CARD)), dict(_secrets(address, session, RIDER))
        wanted = {card.version: _odd_parity(card.master) for card in keys.cards}
        _refuse_other_town(address, keys, cards, riders)
        done: list[str] = []
        for version in sorted(wanted.keys() - cards.keys()):
            uses = (Attribute.ENCRYPT, Attribute.DERIVE)
            _put(session, CARD, version, kind=KeyType.DES3, value=wanted[version], uses=uses)
            done.append(f"card key version {version}: put in")
        if keys.rider_version not in riders:
            _put(session, RIDER, keys.rider_version, kind=KeyType.GENERIC_SECRET, value=keys.rider, uses=(Attribute.SIGN,))
            done.append(f"rider-hash key version {keys.rider_version}: put in")
        for version in sorted(cards.keys() - wanted.keys()):
            cards[version].destroy()
            done.append(f"card key version {version}: destroyed, the key file has it no more")
        for version in sorted(riders.keys() - {keys.rider_version}):
            riders[version].destroy()
            done.append(f"rider-hash key version {version}: destroyed, the key file has it no more")
        done += _put_issuers(session, {issuer.id: issuer.public for issuer in keys.issuers})
        if _device(address, session) is None:
            done.append(f"device key: made inside ({_make_device_key(address, session, device)})")
        return done


def empty(address: TokenAddress) -> int:
    """Destroy every object of ours in the token, the device's key too; how many. For a terminal that is taken out of service."""
    with _filling(address) as session:
        kinds = (ObjectClass.SECRET_KEY, ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY, ObjectClass.DATA)
        ours = [found for kind in kinds for label in (CARD, RIDER, DEVICE, ISSUER) for found in _found(session, kind, label)]
        for found in ours:
            found.destroy()
        return len(ours)


@contextmanager
def _filling(address: TokenAddress) -> Generator[Session]:
    session = _log_in(address, writable=True)
    try:
        yield session
    except PKCS11Error as error:
        raise VaultTokenRefused(f"{_name(address)} refused ({_what(error)}); run the same command again, or take another token") from error
    finally:
        _hang_up(session)


def _refuse_other_town(address: TokenAddress, keys: KeySet, cards: Mapping[int, Object], riders: Mapping[int, Object]) -> None:
    """Compare what is there with what should be, by what both compute."""
    same = [
        cast("_Encrypts", cards[card.version]).encrypt(_ZEROS, mechanism=Mechanism.DES3_ECB) == encrypt_cbc(card.master, _ZEROS, _ZEROS)
        for card in keys.cards
        if card.version in cards
    ]
    if keys.rider_version in riders:
        inside = cast("_Signs", riders[keys.rider_version]).sign(_SAYS_NOTHING, mechanism=Mechanism.SHA256_HMAC)
        same.append(inside == hmac.digest(keys.rider, _SAYS_NOTHING, "sha256"))
    if not all(same) or (not same and (cards or riders)):
        raise VaultTokenRefused(f"{_name(address)} holds another town's keys; nothing was changed. Take another token, or erase this one")


def _put(session: Session, label: str, version: int, *, kind: KeyType, value: bytes, uses: Sequence[Attribute]) -> None:
    all_uses = (Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.SIGN, Attribute.VERIFY, Attribute.WRAP, Attribute.UNWRAP, Attribute.DERIVE)
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: kind,
            Attribute.LABEL: label,
            Attribute.ID: version.to_bytes(2, "big"),
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.MODIFIABLE: False,
            **{use: use in uses for use in all_uses},
            Attribute.VALUE: value,
        }
    )


def _put_issuers(session: Session, wanted: Mapping[int, bytes]) -> Iterator[str]:
    there = _issuers(session)
    for found in _found(session, ObjectClass.DATA, ISSUER):
        value = cast("bytes", found[Attribute.VALUE])
        if wanted.get(value[0]) != value[1:]:
            found.destroy()
            yield f"issuer {value[0]}: public key destroyed, the key file has it no more"
    for issuer, public in sorted(wanted.items()):
        if there.get(issuer) != public:
            session.create_object(
                {
                    Attribute.CLASS: ObjectClass.DATA,
                    Attribute.LABEL: ISSUER,
                    Attribute.TOKEN: True,
                    Attribute.PRIVATE: True,
                    Attribute.MODIFIABLE: False,
                    Attribute.VALUE: bytes((issuer,)) + public,
                }
            )
            yield f"issuer {issuer}: public key put in"


def _make_device_key(address: TokenAddress, session: Session, wanted: Algorithm | None) -> str:
    there = session.token.slot.get_mechanisms()
    edwards = Mechanism.EDDSA in there and Mechanism.EC_EDWARDS_KEY_PAIR_GEN in there
    algorithm = wanted or (Algorithm.EDDSA if edwards else Algorithm.ES256)
    mechanisms = {Algorithm.EDDSA: Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Algorithm.ES256: Mechanism.EC_KEY_PAIR_GEN}
    if mechanisms[algorithm] not in there:
        raise VaultTokenRefused(f"{_name(address)} can make no {algorithm.name} key")
    kind, curve = (KeyType.EC_EDWARDS, _EDWARDS_25519) if algorithm is Algorithm.EDDSA else (KeyType.EC, _P_256)
    for half in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):  # one that stands alone is of no use
        for found in _found(session, half, DEVICE):
            found.destroy()
    session.create_domain_parameters(kind, {Attribute.EC_PARAMS: curve}, local=True).generate_keypair(
        id=b"\x01",
        label=DEVICE,
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        mechanism=mechanisms[algorithm],
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True},
        public_template={Attribute.PRIVATE: True},
    )
    return algorithm.name


def _odd_parity(key: bytes) -> bytes:
    """The same DES key with the parity bits that some tokens insist on."""
    return bytes(byte & 0xFE | ((byte >> 1).bit_count() + 1) % 2 for byte in key)
