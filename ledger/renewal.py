"""What is written down while a ledger is replaced by a new one in a new epoch, so that a power cut finds its way on.

The *note* ``NAME.renewal`` is the first thing on the disk and the last to go. While it is there nobody opens the ledger; whoever renews
starts from it again, and every step may be done twice::

    1  the note: which epoch ends, which one begins, under which name the old files will lie
    2  what cannot be sent any more is told to the letterbox
    3  the old database, its log and its index get their new names (never deleted, never replaced); only then is it read
    4  the memory beside the ledger gets the new epoch
    5  the new database; its first entries
    6  the note goes

Step 4 tells a second try that step 3 is done: files found then belong to the new ledger.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ledger.beside import flush_folder, replace_file
from ledger.errors import LedgerUnreadable
from ledger.notes import LossReason

_TITLE = "kazashi ledger renewal 1"
_SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Note:
    """A renewal that was begun.

    ``old``: the epoch that ends, None when nobody knows it. ``first``: the first of its entries that cannot be sent any more; ``last``: the
    last entry known to have been. ``name``: what the old database is called from now on, beside the new one.
    """

    old: int | None
    new: int
    first: int
    last: int
    reason: LossReason
    name: str

    def to_bytes(self) -> bytes:
        """Lines of text; the last is the SHA-256 of the others."""
        old = "none" if self.old is None else str(self.old)
        lines = (_TITLE, f"old {old}", f"new {self.new}", f"first {self.first}", f"last {self.last}", f"reason {self.reason}")
        body = "\n".join((*lines, f"name {self.name}")) + "\n"
        return f"{body}check {hashlib.sha256(body.encode()).hexdigest()}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> "Note":
        """The inverse; raises ``LedgerUnreadable``, for it is written whole or not at all."""
        try:
            _, old, new, first, last, reason, name, _ = (line.split(" ", 1)[1] for line in data.decode("utf-8").splitlines())
            note = cls(None if old == "none" else int(old), int(new), int(first), int(last), LossReason(reason), name)
        except (ValueError, IndexError):
            note = None
        if note is None or note.to_bytes() != data:
            raise LedgerUnreadable(f"the note {path} of a renewal is damaged; show the ledger's folder to the city")
        return note


class Renewal(Protocol):
    """The note, and the old ledger's files. All raise ``OSError``; ``pending`` raises ``LedgerUnreadable`` too."""

    def pending(self) -> Note | None:
        """The renewal that was begun and not finished."""
        ...

    def free_name(self, epoch: int) -> str:
        """A name that no set-aside ledger has yet."""
        ...

    def begin(self, note: Note) -> None:
        """Write the note, durably."""
        ...

    def set_aside(self, note: Note) -> None:
        """Give the old files, those that are there, their new names."""
        ...

    def old_database(self, note: Note) -> Path:
        """Where the old database lies now, before or after ``set_aside``."""
        ...

    def end(self) -> None:
        """Take the note away."""
        ...


class RenewalBeside:
    """A ``Renewal`` of the database ``NAME``: the note is ``NAME.renewal``, the old ones are ``NAME.epoch-EPOCH`` and so on."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._note = database.with_name(database.name + ".renewal")

    def pending(self) -> Note | None:
        try:
            return Note.from_bytes(self._note.read_bytes(), str(self._note))
        except FileNotFoundError:
            return None

    def free_name(self, epoch: int) -> str:
        base = f"{self._database.name}.epoch-{epoch}"
        taken = {path.name for path in set_aside_ledgers(self._database, everything=True)}
        names = (base if number == 1 else f"{base}.{number}" for number in range(1, len(taken) + 2))
        return next(name for name in names if not any(name + suffix in taken for suffix in _SUFFIXES))

    def begin(self, note: Note) -> None:
        replace_file(self._note, note.to_bytes())

    def set_aside(self, note: Note) -> None:
        for suffix in _SUFFIXES:
            old, new = (self._database.with_name(name + suffix) for name in (self._database.name, note.name))
            if old.exists():
                old.rename(new if not new.exists() else new.with_name(new.name + ".late"))
        flush_folder(self._database.parent)

    def old_database(self, note: Note) -> Path:
        aside = self._database.with_name(note.name)
        return aside if aside.exists() else self._database

    def end(self) -> None:
        self._note.unlink(missing_ok=True)
        flush_folder(self._database.parent)


def set_aside_ledgers(database: Path, *, everything: bool = False) -> list[Path]:
    """The ledgers that lie beside ``database`` because a new epoch began, the longest there first; with ``everything`` their logs too."""
    found = [path for path in database.parent.glob(f"{database.name}.epoch-*") if path.is_file()]
    ledgers = [path for path in found if everything or not path.name.endswith(("-wal", "-shm"))]
    return sorted(ledgers, key=lambda path: (path.stat().st_mtime_ns, path.name))
