"""The device's key on a vehicle, and how it is exchanged.

The vault's file keeps its name; the next one lies beside it as ``NAME.next`` from the moment it is made until the city knows it. What
announces it is an entry of the ledger (Kind.KEY) whose batch the old key still signs, so the city learns of a new key from nobody but the
vehicle itself. When the city has that entry, the next file takes the place of the old one in one step, and the old key is gone.

The terminal's other secrets are the same in both files.

A terminal that enrols makes its key in the same manner: it lies as ``NAME.enrolling`` until the city's answer lies whole on the disk
(``firmware.enrolment``). ``settle`` brings it into its place; a power cut between the two is mended by whoever opens the keyring next.
"""

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import VaultLost
from firmware.failure import Failure
from ledger.beside import flush_folder
from ledger.seal import Signer, key_id

log = logging.getLogger(__name__)


@dataclass(slots=True)
class VaultKeyring:
    """A ``ledger.carrier.Keyring`` of the vault in the file ``keys``; ``open(path)`` makes a signer of the vault in a file.

    ``open`` raises ``Failure``; so does the first ``signer``. Later a file that cannot be read is as good as a token that is away.
    """

    keys: Path
    open: Callable[[Path], Signer]
    _now: Signer | None = None
    _next: Signer | None = None
    _now_is: tuple[int, int] = (0, 0)

    @property
    def next_file(self) -> Path:
        """Where the next key lies until it is the key."""
        return self.keys.with_name(self.keys.name + ".next")

    def signer(self) -> Signer:
        """The key that the city knows. It is opened anew when its file is another: a stick's receipts may have brought the next one."""
        try:
            status = self.keys.stat()
            if self._now is None or (status.st_dev, status.st_ino) != self._now_is:
                self._now, self._now_is = self.open(self.keys), (status.st_dev, status.st_ino)
        except (OSError, Failure) as error:
            if self._now is None:
                raise
            raise VaultLost(str(error)) from error
        return self._now

    def next_signer(self) -> Signer | None:
        """The key that is being announced; looked for each time, for another program makes it."""
        if not self.next_file.exists():
            self._next = None
        elif self._next is None:
            try:
                self._next = self.open(self.next_file)
            except Failure as error:
                log.warning("the next key cannot be used: %s", error)
        return self._next

    def next_reason(self) -> str:
        """The ``reason`` of the entry that announces it; empty when there is none."""
        following = self.next_signer()
        return "" if following is None else announcement(following)

    def change(self) -> None:
        """The next key is the key now."""
        self.next_file.replace(self.keys)
        flush_folder(self.keys.parent)
        self._now, self._next = None, None


@dataclass(frozen=True, slots=True)
class OneKey:
    """A ``ledger.carrier.Keyring`` of a key that is never exchanged: a token's. Another key is another token, and is enrolled anew."""

    key: Signer

    def signer(self) -> Signer:
        """The key that the city knows."""
        return self.key

    def next_signer(self) -> Signer | None:
        """None."""
        return None

    def next_reason(self) -> str:
        """Nothing is announced."""
        return ""

    def change(self) -> None:
        """Nothing changes."""


def enrolling_file(keys: Path) -> Path:
    """Where a key lies that is being enrolled."""
    return keys.with_name(keys.name + ".enrolling")


def settle(keys: Path, enrolled: bytes, open_file: Callable[[Path], Signer]) -> None:
    """Bring the key ``enrolled`` (its id) into its place, if it still lies beside. Raises ``Failure`` and ``OSError``."""
    beside = enrolling_file(keys)
    if enrolled and beside.exists() and key_id(open_file(beside).public) == enrolled:
        beside.replace(keys)
        flush_folder(keys.parent)


def lay_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file, and give it the name ``path`` when it is whole: a key of which half is there could never be used."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    write(fresh)
    fresh.replace(path)
    flush_folder(path.parent)


def announcement(signer: Signer) -> str:
    """What a KEY entry says of a key: its algorithm, and the public key in base64url without padding."""
    return f"{signer.algorithm.name.lower()}:{base64.urlsafe_b64encode(signer.public).rstrip(b'=').decode()}"
