"""A TPM 2.0 as far as one device key needs it: five commands, what they answer, and the file that the key lies in (pure).

The source for every number is the TCG's *TPM 2.0 Library*, Part 2 (structures) and Part 3 (commands). All integers are big-endian.

**Why our own.** The TCG's stack (libtss2, with tpm2-tools, libtpm2-pkcs11 or tpm2-pytss on it) does everything that a TPM can do. It would
bring two to eleven megabytes and a second store with a PIN into the image, for what is here five fixed rows of bytes. Nothing secret passes
through this code: the private half is made in the TPM and leaves it only under the TPM's own encryption. A mistake here makes no signature,
or one that the city refuses. ``docs/decisions/0021-the-device-key-is-wrapped-by-the-tpm.md`` compares.

**The key** (``DEVICE_TEMPLATE``) is P-256 and signs by ECDSA with SHA-256, and does nothing else. *fixedTPM* and *fixedParent*: there is no
command that takes it to another TPM. *sensitiveDataOrigin*: the TPM drew it. *noDA*: it has no password that could be guessed, so the TPM's
lockout, which anybody can bring about by guessing at something else, does not reach it. No PCR is in it: an update would change them.

**Where it lies.** A TPM keeps few keys; ours is on the disk, wrapped by the storage root key of the owner hierarchy. That one is made each
time anew from the TPM's own seed and the TCG's template for it, so nothing is kept inside and nothing can be full. A TPM that is cleared
has another seed: then no wrapped key loads any more, and neither does one that was made in another TPM.

**The file** is the one that OpenSSL's and GnuTLS's TPM modules read, too (``draft-bottomley-tpm2-keys``): PEM around ::

    SEQUENCE { OID 2.23.133.10.1.3, [0] TRUE (no password), INTEGER 0x40000001 (owner),
               OCTET STRING TPM2B_PUBLIC, OCTET STRING TPM2B_PRIVATE }
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.errors import DriverError, VaultLost

COORDINATE_BYTES = 32
MOST_BYTES = 4096
"""No command and no response of a TPM is longer (the kernel's own buffer)."""

_NO_SESSIONS, _SESSIONS, _HASH_CHECK = b"\x80\x01", b"\x80\x02", b"\x80\x24"
_CREATE_PRIMARY, _CREATE, _LOAD, _SIGN, _FLUSH = 0x131, 0x153, 0x157, 0x15D, 0x165
_OWNER, _NULL_HIERARCHY = 0x40000001, 0x40000007
_PASSWORD = bytes.fromhex("40000009 0000 01 0000")  # TPM_RS_PW, no nonce, continueSession, an empty password
_NO_SENSITIVE = bytes.fromhex("0004 0000 0000")  # no password for the new key, no data of ours in it
_NO_SCHEME = bytes.fromhex("0010")
_ECDSA_SHA256 = bytes.fromhex("0018 000b")

STORAGE_TEMPLATE = bytes.fromhex(
    "0023 000b 00030472 0000"  # ECC, SHA-256; fixedTPM fixedParent sensitiveDataOrigin userWithAuth noDA restricted decrypt; no policy
    "0006 0080 0043 0010 0003 0010"  # AES-128-CFB for what it wraps; no scheme, P-256, no KDF
    "0000 0000"  # the point, which the TPM makes
)
"""The storage root key as the TCG's provisioning guidance and everybody's tools make it."""
_DEVICE_BEGIN = bytes.fromhex(
    "0023 000b 00040472 0000"  # ECC, SHA-256; fixedTPM fixedParent sensitiveDataOrigin userWithAuth noDA sign; no policy
    "0010 0018 000b 0003 0010"  # wraps nothing; ECDSA with SHA-256 and nothing else, P-256, no KDF
)
DEVICE_TEMPLATE = _DEVICE_BEGIN + bytes(4)


class TpmLost(VaultLost):
    """The TPM does not sign now; the message says why and what to do."""


class KeyElsewhere(TpmLost):
    """The key was made in another TPM, or in this one before it was cleared. It will never sign again."""


class NoWrappedKey(DriverError):
    """What was read is not a wrapped key as this house writes it."""


# --- commands and responses ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Response:
    """What a TPM answered. ``code``: 0 is success; ``body``: what follows the code."""

    code: int
    body: bytes


def create_primary() -> bytes:
    """TPM2_CreatePrimary: the storage root key of the owner hierarchy. Answer: ``handle_in``."""
    return _command(_CREATE_PRIMARY, [_OWNER], _new(STORAGE_TEMPLATE))


def create(parent: int) -> bytes:
    """TPM2_Create: a new device key under ``parent``. Answer: ``created_in``."""
    return _command(_CREATE, [parent], _new(DEVICE_TEMPLATE))


def load(parent: int, key: "WrappedKey") -> bytes:
    """TPM2_Load: a wrapped key under its ``parent``. Answer: ``handle_in``."""
    return _command(_LOAD, [parent], _sized(key.private) + _sized(key.public))


def sign(key: int, digest: bytes) -> bytes:
    """TPM2_Sign: ``digest`` (a SHA-256) by the key's own scheme; no ticket, for the key may sign any. Answer: ``signature_in``."""
    ticket = _HASH_CHECK + _NULL_HIERARCHY.to_bytes(4, "big") + _sized(b"")
    return _command(_SIGN, [key], _sized(digest) + _NO_SCHEME + ticket)


def flush(handle: int) -> bytes:
    """TPM2_FlushContext: forget what was loaded. Its handle is a parameter, and nobody is asked for a password."""
    body = _FLUSH.to_bytes(4, "big") + handle.to_bytes(4, "big")
    return _NO_SESSIONS + (6 + len(body)).to_bytes(4, "big") + body


def response_of(data: bytes) -> Response:
    """The parts of a whole response; raises ``TpmLost`` for what is none."""
    if len(data) < 10 or length_of(data) != len(data) or data[:2] not in {_NO_SESSIONS, _SESSIONS}:
        raise _nonsense()
    return Response(int.from_bytes(data[6:10], "big"), data[10:])


def length_of(head: bytes) -> int:
    """How long a response is, by its first six bytes."""
    return int.from_bytes(head[2:6], "big")


def handle_in(body: bytes) -> int:
    """The handle of what was made or loaded."""
    if len(body) < 4:
        raise _nonsense()
    return int.from_bytes(body[:4], "big")


def created_in(body: bytes) -> "WrappedKey":
    """The new key. Raises ``TpmLost`` when the TPM made another thing than was asked for."""
    private, at = _taken(body, 4)
    public, _ = _taken(body, at)
    try:
        return WrappedKey(public, private)
    except NoWrappedKey as error:
        raise _nonsense() from error


def signature_in(body: bytes) -> bytes:
    """The signature: r and s, 32 bytes each; leading zeros, which a TPM may leave out, are there again."""
    if body[4:8] != _ECDSA_SHA256:
        raise _nonsense()
    r, at = _taken(body, 8)
    s, _ = _taken(body, at)
    if max(len(r), len(s)) > COORDINATE_BYTES:
        raise _nonsense()
    return r.rjust(COORDINATE_BYTES, b"\0") + s.rjust(COORDINATE_BYTES, b"\0")


def _new(template: bytes) -> bytes:
    """inSensitive, inPublic, outsideInfo, creationPCR: nothing of ours in the key, and it is bound to no PCR."""
    return _NO_SENSITIVE + _sized(template) + _sized(b"") + bytes(4)


def _command(code: int, handles: Sequence[int], parameters: bytes) -> bytes:
    """A command whose first handle is asked for its password, which is empty."""
    body = b"".join((code.to_bytes(4, "big"), *(handle.to_bytes(4, "big") for handle in handles)))
    body += len(_PASSWORD).to_bytes(4, "big") + _PASSWORD + parameters
    return _SESSIONS + (6 + len(body)).to_bytes(4, "big") + body


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _taken(body: bytes, at: int) -> tuple[bytes, int]:
    """The sized buffer at ``at``, and where it ends."""
    begin = at + 2
    end = begin + int.from_bytes(body[at:begin], "big")
    if begin > len(body) or end > len(body):
        raise _nonsense()
    return body[begin:end], end


def _nonsense() -> TpmLost:
    return TpmLost("the TPM's answer is none that this command has; restart the machine, and have its firmware looked at if it stays so")


# --- what a refusal means -----------------------------------------------------------------------------------------------------------------

_FORMAT_ONE = 0x80
_INTEGRITY = 0x09F
_ELSEWHERE = (
    "the device key was made in another TPM, or this one was cleared: it never signs again; enrol this vehicle again with a new code"
)
_OWNED = "the TPM's owner hierarchy has a password that nobody here knows; clear the TPM in the machine's setup"
_FAILED = "the TPM failed its own test and does nothing more; turn the machine off and on, and exchange it if that stays so"
_REFUSALS = {
    0x085: "the TPM's owner hierarchy is switched off; switch it on in the machine's setup",  # HIERARCHY
    0x08E: _OWNED,  # AUTH_FAIL
    0x0A2: _OWNED,  # BAD_AUTH
    0x0A6: 'the TPM does not know the curve P-256; write device_key = "file" under [keys]',  # CURVE
    0x100: _FAILED,  # INITIALIZE: nobody started it
    0x101: _FAILED,  # FAILURE
    0x921: "the TPM is locked after wrong passwords; it opens by itself, after some hours, or is cleared in the machine's setup",  # LOCKOUT
}
# No memory or handle free, yielded, cancelled, testing, its store worn or not ready, try again.
_BUSY = {0x902, 0x903, 0x904, 0x905, 0x907, 0x908, 0x909, 0x90A, 0x920, 0x922, 0x923}


def refusal(code: int) -> TpmLost:
    """Why a TPM refused, as something to raise (Part 2, section 6.6: response codes)."""
    said = meaning(code)
    if said == _INTEGRITY:
        return KeyElsewhere(_ELSEWHERE)
    if said in _BUSY:
        return TpmLost(f"the TPM is busy (code {code:#05x}); it is asked again later")
    other = f"the TPM refused (code {code:#05x}); restart the machine, and have its firmware looked at if it stays so"
    return TpmLost(_REFUSALS.get(said, other))


def meaning(code: int) -> int:
    """A response code without the number of the handle, session or parameter that it is about."""
    return code & 0xBF if code & _FORMAT_ONE else code


# --- the key, and its file ----------------------------------------------------------------------------------------------------------------

_BEGIN, _END = "-----BEGIN TSS2 PRIVATE KEY-----", "-----END TSS2 PRIVATE KEY-----"
_OPENING = bytes.fromhex("0606 6781050a0103  a003 0101ff  0204 40000001")
_SEQUENCE, _OCTETS = 0x30, 0x04
_MOST_TEXT = 4096


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A device key outside its TPM. ``public``: a TPMT_PUBLIC; ``private``: what the TPM encrypted for itself. Raises ``NoWrappedKey``."""

    public: bytes
    private: bytes

    def __post_init__(self) -> None:
        """A key of any other kind is none: one that may leave the TPM would be worth no more than a file."""
        begin, rest = self.public[: len(_DEVICE_BEGIN)], self.public[len(_DEVICE_BEGIN) :]
        if begin != _DEVICE_BEGIN or not self.private or _coordinates(rest) is None:
            raise NoWrappedKey("it is no device key of a TPM as this program makes it")

    def __repr__(self) -> str:
        return "WrappedKey()"

    @property
    def point(self) -> bytes:
        """The public key as an uncompressed point: 0x04 and 64 bytes."""
        x, y = _coordinates(self.public[len(_DEVICE_BEGIN) :]) or (b"", b"")
        return b"\x04" + x.rjust(COORDINATE_BYTES, b"\0") + y.rjust(COORDINATE_BYTES, b"\0")

    def text(self) -> str:
        """The file's text."""
        inner = _OPENING + _der(_OCTETS, _sized(self.public)) + _der(_OCTETS, _sized(self.private))
        coded = base64.b64encode(_der(_SEQUENCE, inner)).decode()
        return "\n".join((_BEGIN, *(coded[at : at + 64] for at in range(0, len(coded), 64)), _END)) + "\n"


def is_wrapped(text: str) -> bool:
    """Whether a file's text says that it is a key of a TPM."""
    return text.startswith(_BEGIN)


def parse_wrapped(text: str) -> WrappedKey:
    """The key in a file's text; raises ``NoWrappedKey``. Other programs write such files, too: only one form of them is a device key."""
    lines = text.splitlines()
    if len(text) > _MOST_TEXT or len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
        raise NoWrappedKey("it has no beginning or no end")
    try:
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoWrappedKey("it is not base64") from error
    inner, at = _element(data, 0, _SEQUENCE)
    if at != len(data) or not inner.startswith(_OPENING):
        raise NoWrappedKey("it is not a key without a password under the owner's storage root key")
    public, at = _element(inner, len(_OPENING), _OCTETS)
    private, at = _element(inner, at, _OCTETS)
    if at != len(inner):
        raise NoWrappedKey("something follows the key")
    return WrappedKey(_unsized(public), _unsized(private))


def _coordinates(rest: bytes) -> tuple[bytes, bytes] | None:
    """The two coordinates of a TPMS_ECC_POINT that is all of ``rest``."""
    try:
        x, at = _taken(rest, 0)
        y, at = _taken(rest, at)
    except TpmLost:
        return None
    fit = at == len(rest) and 0 < len(x) <= COORDINATE_BYTES and 0 < len(y) <= COORDINATE_BYTES
    return (x, y) if fit else None


def _unsized(data: bytes) -> bytes:
    if int.from_bytes(data[:2], "big") != len(data) - 2:
        raise NoWrappedKey("a part of it has another length than it says")
    return data[2:]


def _der(tag: int, content: bytes) -> bytes:
    """An element of DER (X.690, section 8.1.3): the shortest length there is."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    width = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 + width)) + size.to_bytes(width, "big") + content


def _element(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """The content of the element at ``at``, and where it ends."""
    first = data[at + 1] if at + 1 < len(data) else 0
    width = first - 0x80 if first > 0x80 else 0
    begin = at + 2 + width
    size = int.from_bytes(data[at + 2 : begin], "big") if width else first
    content = data[begin : begin + size]
    if data[at : begin + size] != _der(tag, content) or len(content) != size:
        raise NoWrappedKey("it is not the DER of a key, or it ends too early")
    return content, begin + size
