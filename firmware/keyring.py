"""The device's key on a vehicle, and how it is exchanged.

The vault's file keeps its name; the next one lies beside it as ``NAME.next`` from the moment it is made until the city knows it. What
announces it is an entry of the ledger (Kind.KEY) whose batch the old key still signs, so the city learns of a new key from nobody but the
vehicle itself. When the city has that entry, the next file takes the place of the old one in one step, and the old key is gone.

The terminal's other secrets are the same in both files.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ledger.beside import flush_folder
from ledger.seal import Signer


@dataclass(slots=True)
class VaultKeyring:
    """A ``ledger.carrier.Keyring`` of the vault in the file ``keys``; ``open(path)`` makes a signer of the vault in a file."""

    keys: Path
    open: Callable[[Path], Signer]
    _now: Signer | None = None
    _next: Signer | None = None

    @property
    def next_file(self) -> Path:
        """Where the next key lies until it is the key."""
        return self.keys.with_name(self.keys.name + ".next")

    def signer(self) -> Signer:
        """The key that the city knows."""
        if self._now is None:
            self._now = self.open(self.keys)
        return self._now

    def next_signer(self) -> Signer | None:
        """The key that is being announced; looked for each time, for another program makes it."""
        if not self.next_file.exists():
            self._next = None
        elif self._next is None:
            self._next = self.open(self.next_file)
        return self._next

    def next_reason(self) -> str:
        """The ``reason`` of the entry that announces it; empty when there is none."""
        following = self.next_signer()
        return "" if following is None else announcement(following)

    def change(self) -> None:
        """The next key is the key now."""
        self.next_file.replace(self.keys)
        flush_folder(self.keys.parent)
        self._now, self._next = self._next, None


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


def announcement(signer: Signer) -> str:
    """What a KEY entry says of a key: its algorithm, and the public key in base64url without padding."""
    return f"{signer.algorithm.name.lower()}:{base64.urlsafe_b64encode(signer.public).rstrip(b'=').decode()}"
