"""Adapter: a device key in a TPM 2.0 (``drivers.tpm``), by the kernel's resource manager, ``/dev/tpmrm0``.

A signature is a conversation of its own: the storage root key is made, the device's key loaded under it, the digest signed, both forgotten.
Nothing stays in the TPM and nothing stays open, so one that was restarted, or that another program used meanwhile, needs no care here. What
a chip takes for that was not measured; the courier asks for it once a batch.

``device`` may be a Unix socket, too: that is how ``swtpm`` offers a TPM in software, which tests use. Only the transport differs.
"""

import hashlib
import os
import socket
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drivers import tpm
from drivers.signer import Algorithm
from drivers.tpm import NoWrappedKey, TpmLost, WrappedKey, is_wrapped, parse_wrapped
from drivers.vault_file import VaultFileRefused, refuse_readable_by_others

FIRMWARE_TABLE = Path("/sys/firmware/acpi/tables/TPM2")
_PATIENCE_S = 60.0

_Ask = Callable[[bytes], bytes]


@dataclass(slots=True)
class TpmKey:
    """A ``drivers.signer.Signer`` whose private half is in the TPM at ``device``. It is made without asking the TPM anything."""

    device: Path
    key: WrappedKey
    algorithm: Algorithm = Algorithm.ES256
    trouble: str = field(default="", init=False)
    """Why the last signature failed; empty when it did not."""

    @property
    def public(self) -> bytes:
        """The uncompressed point, 65 bytes."""
        return self.key.point

    def sign(self, message: bytes) -> bytes:
        """The signature, r and s, 32 bytes each. Raises ``TpmLost``, ``KeyElsewhere`` among them."""
        try:
            signature = self._sign(hashlib.sha256(message).digest())
        except TpmLost as lost:
            self.trouble = str(lost)
            raise
        self.trouble = ""
        return signature

    def _sign(self, digest: bytes) -> bytes:
        with _talk(self.device) as ask, _held(ask, tpm.create_primary()) as parent, _held(ask, tpm.load(parent, self.key)) as key:
            return tpm.signature_in(_body(ask, tpm.sign(key, digest)))


def new_key(device: Path) -> WrappedKey:
    """A device key that the TPM at ``device`` makes and wraps for itself; raises ``TpmLost``."""
    with _talk(device) as ask, _held(ask, tpm.create_primary()) as parent:
        return tpm.created_in(_body(ask, tpm.create(parent)))


def is_there(device: Path) -> bool:
    """Whether there is a TPM at ``device``, as far as its file says."""
    return device.exists()


def is_expected(device: Path, table: Path = FIRMWARE_TABLE) -> bool:
    """Whether the machine's firmware names a TPM 2.0 (ACPI), so that a ``device`` that is not there is no machine without one."""
    return device.parent == Path("/dev") and table.exists()


# --- the file -----------------------------------------------------------------------------------------------------------------------------


def read_wrapped(path: Path) -> WrappedKey | None:
    """The key of a TPM in a file that only its owner can read; None for a file of another kind, or none. Raises ``VaultFileRefused``.

    Without its TPM such a file is worth nothing. It is as private as any key all the same: with it, whoever reaches the TPM can sign.
    """
    try:
        with path.open("rb") as file:
            text = file.read(tpm.MOST_BYTES + 1).decode("ascii", errors="replace")
            if not is_wrapped(text):
                return None
            refuse_readable_by_others(path, os.fstat(file.fileno()))
    except OSError:
        return None  # whoever reads it as a key file says why
    try:
        return parse_wrapped(text)
    except NoWrappedKey as error:
        raise VaultFileRefused(
            f"{path}: is no key of a TPM that can be used ({error}); take the vehicle's own, or enrol it again"
        ) from None


def write_wrapped(path: Path, key: WrappedKey) -> None:
    """Make the file of a wrapped key, mode 0600; an existing one is never replaced. Raises ``OSError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.text())
        file.flush()
        os.fsync(file.fileno())


# --- talking ------------------------------------------------------------------------------------------------------------------------------


@contextmanager
def _talk(device: Path) -> Generator[_Ask]:
    """A conversation; all that goes wrong below is ``TpmLost``."""
    try:
        if stat.S_ISSOCK(device.stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as line:
                line.settimeout(_PATIENCE_S)
                line.connect(str(device))
                yield lambda command: _over_socket(line, command)
            return
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield lambda command: _over_device(descriptor, command)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise TpmLost(f"{device}: there is no TPM here, and the device key is in one; switch it on in the machine's setup") from error
    except PermissionError as error:
        raise TpmLost(f"{device}: this user may not ask the TPM; its group is kazashi-tpm, by 70-kazashi.rules") from error
    except OSError as error:
        raise TpmLost(f"{device}: the TPM does not answer ({error.strerror or error}); it is asked again later") from error


def _over_device(descriptor: int, command: bytes) -> bytes:
    """One write is one command, and one read is its whole answer (tpm(4) of the kernel: drivers/char/tpm/tpm-dev-common.c)."""
    os.write(descriptor, command)
    return os.read(descriptor, tpm.MOST_BYTES)


def _over_socket(line: socket.socket, command: bytes) -> bytes:
    line.sendall(command)
    answer = b""
    while len(answer) < 6 or len(answer) < min(tpm.length_of(answer), tpm.MOST_BYTES):
        more = line.recv(tpm.MOST_BYTES)
        if not more:
            raise TpmLost("the TPM hung up; it is asked again later")
        answer += more
    return answer


def _body(ask: _Ask, command: bytes) -> bytes:
    """What a command that succeeded answered; raises ``TpmLost`` with what the refusal means."""
    response = tpm.response_of(ask(command))
    if response.code:
        raise tpm.refusal(response.code)
    return response.body


@contextmanager
def _held(ask: _Ask, command: bytes) -> Generator[int]:
    """The handle of what ``command`` makes, forgotten at the end: the kernel would do that by itself, a bare TPM does not."""
    handle = tpm.handle_in(_body(ask, command))
    try:
        yield handle
    finally:
        ask(tpm.flush(handle))
