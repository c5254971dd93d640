"""The store: SQLite through apsw, set up so that "stored" is true when it is said, for one flush.

Settings, and what each is for
    * WAL with ``synchronous=FULL``: one flush per commit. A rollback journal (SQLite's default) takes four, and at a power cut loses the
      last acknowledged row, because its deletion is not flushed.
    * ``psow=0``: do not trust the medium to leave the neighbours of a written byte alone. SQLite then fills each commit up to the next 4096
      bytes, so that the next commit never writes into a block that holds an acknowledged one.
    * ``wal_checkpoint(RESTART)`` at every open, before anything else is written: after a power cut the fill may be missing, and the first
      new commit would go right behind the last acknowledged one, into its block.
    * The log is grown once, and kept at its size (persist-WAL, ``journal_size_limit=-1``): a growing file costs a second flush per commit.
    * No automatic checkpoints: they would fall into somebody's tap. ``checkpoint`` is called when nobody is there.
    * The first commit after a restart of the log flushes the log's header too. The primer is that commit, so no tap is.
    * 4096-byte pages, as the file system's blocks.
    * ``secure_delete=FAST`` clears what is deleted inside a page that is written anyway; ``forget`` asks for ON: free pages too.

After an error
    An error from a commit does not say that nothing was stored. So the store closes the database, opens it again as at every start (which
    carries the log into the database and flushes it), and looks whether what was meant is there. Only then does it answer.

When the disk is full
    Below ``low_space_bytes`` no ride is begun: ``append`` and ``intend`` raise ``Full`` before writing. What closes something that was
    begun (``pay``, ``withdraw``, ``expire_intents``, and entries that say so, such as the end of a shift) may use the rest, and if that is
    gone too, the ballast.
"""

import ctypes
import importlib.resources
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, cast
from urllib.parse import quote

import apsw

from drivers.devices.clock import ClockState
from ledger.beside import Beside, BesideDatabase, Memory
from ledger.book import Acknowledged, Space
from ledger.chain import Check, Head, Link, follow, origin
from ledger.codec import decode, encode
from ledger.entry import Entry, Intent, Kind, Versions, When
from ledger.errors import Full, LedgerBusy, LedgerError, LedgerUnreadable, MalformedEntry, NotStored, StoreLost, StoreRolledBack
from ledger.notes import Loss, LossReason
from ledger.receipt import Receipt
from ledger.renewal import Note, Renewal, RenewalBeside

SCHEMA_VERSION = 2
_APPLICATION = 0x4B415A31  # "KAZ1", in the header of the file
_PAGE = 4096
_LOOKS = 3
_NO_ROOM = 64 * _PAGE
_RECENT = 64
_MAX_ID = 2**63 - 1
_FORGET_AT_ONCE = 256
_CLOSING = frozenset({Kind.SHIFT_CLOSE, Kind.TRIP_CLOSE, Kind.POWER_LOSS, Kind.ALARM})
_STANDING = (Kind.BOOT, Kind.SHIFT_OPEN, Kind.SHIFT_CLOSE, Kind.TRIP_OPEN, Kind.TRIP_CLOSE, Kind.STOP_SET)
"""Their last entries say what goes on; a new epoch begins with them."""

_APPEND = "INSERT INTO entry (seq, kind, rider, data, hash) VALUES (?, ?, ?, ?, ?)"
_INTEND = "INSERT INTO intent (rider, data) VALUES (?, ?) ON CONFLICT (rider) DO UPDATE SET data = excluded.data"
_WITHDRAW = "DELETE FROM intent WHERE rider = ?"
_REMEMBER = "INSERT INTO verified_grant (rider, digest) VALUES (?, ?) ON CONFLICT (rider) DO UPDATE SET digest = excluded.digest"
_HEAD = "SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1"
_OF_RIDER = "SELECT data FROM entry WHERE rider = ? AND kind = ? AND seq > ? ORDER BY seq"
_LATEST_OF_RIDER = "SELECT data FROM entry WHERE rider = ? ORDER BY seq DESC LIMIT ?"
_LAST_OF_KIND = "SELECT data FROM {} WHERE rider IS NULL AND kind = ? ORDER BY seq DESC LIMIT 1"
_ACKNOWLEDGED = "SELECT seq, hash, issued_ms FROM acknowledged"
_ACKNOWLEDGE = "INSERT OR REPLACE INTO acknowledged VALUES (1, ?, ?, ?)"
_REJECT = "INSERT INTO rejected VALUES (?, ?) ON CONFLICT (seq) DO UPDATE SET code = excluded.code"
_CUT = "SELECT seq, hash FROM cut"
_LINKS = "SELECT seq, data, hash, rider, kind FROM entry WHERE seq > ? ORDER BY seq LIMIT ?"

_Value = int | bytes | str | None
_Row = tuple[_Value, ...]


class _Answer(Protocol):
    def fetchall(self) -> list[_Row]: ...


class _Database(Protocol):
    """What is used of ``apsw.Connection``, whose own types leave some open."""

    @property
    def filename(self) -> str: ...
    def execute(self, statements: str, bindings: _Row = (), /) -> _Answer: ...
    def set_busy_timeout(self, milliseconds: int, /) -> None: ...
    def set_wal_hook(self, hook: "Callable[[_Database, str, int], int]", /) -> None: ...
    def file_control(self, dbname: str, op: int, pointer: int, /) -> bool: ...
    def config(self, op: int, *args: int) -> int: ...
    def close(self, *, force: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """How the database is opened. A vehicle takes the defaults; only proofs and measurements change any of them."""

    journal: str = "WAL"
    synchronous: str = "FULL"
    locking: str = "NORMAL"
    powersafe_overwrite: bool = False
    vfs: str | None = None
    log_bytes: int = 2 * 1024 * 1024
    low_space_bytes: int = 32 * 1024 * 1024
    ballast_bytes: int = 4 * 1024 * 1024
    busy_ms: int = 2000


@dataclass(frozen=True, slots=True)
class _Meant:
    """One transaction, and the question whose answer tells whether it is there."""

    statements: tuple[tuple[str, _Row], ...]
    question: str
    about: _Row
    answer: _Row
    closes: bool = False


@dataclass(frozen=True, slots=True)
class _Numbered:
    """An entry behind the head ``after``: with its number, its bytes, and the head that it makes."""

    given: Entry
    after: Head
    entry: Entry
    data: bytes
    head: Head


class Store:
    """The book of one device (``ledger.book.Book``). Made by ``create`` once and ``open`` from then on."""

    def __init__(self, path: str, beside: Beside, settings: Settings, device: int) -> None:
        self._path = path
        self._beside = beside
        self._renewal: Renewal = RenewalBeside(Path(path))
        self._settings = settings
        self._connection: _Database | None = None
        self._head = Head(0, b"")
        self._remembered = Memory(0, self._head)
        self._log_frames = 0
        self._prepared: _Numbered | None = None
        self._intended: bytes | None = None  # a rider whose intent this program wrote and has not taken away
        self._acknowledged: Acknowledged | None = None
        self._cut: Head | None = None
        self._remains = False  # something is kept or carried, so the riders' questions have a second place to look
        self._gave_up_ballast = False
        self._behind: Head | None = None  # what the city has and this ledger has not
        self.device = device

    @classmethod
    def create(
        cls, path: Path | str, *, device: int, epoch: int, settings: Settings | None = None, beside: Beside | None = None
    ) -> "Store":
        """Begin a new ledger. ``epoch``: a number (0 … 2⁶³ − 1) that this device never had; random. Raises ``LedgerUnreadable`` if one is
        there.
        """
        store = cls(str(path), beside or BesideDatabase(Path(path)), settings or Settings(), device)
        if not (0 <= device <= _MAX_ID and 0 <= epoch <= _MAX_ID):
            raise LedgerUnreadable(f"device {device} or epoch {epoch} is not a number from 0 to 2^63 - 1; correct the configuration")
        store._begin(Memory(epoch, origin(device, epoch)))
        return store

    @classmethod
    def open(cls, path: Path | str, *, device: int, settings: Settings | None = None, beside: Beside | None = None) -> "Store":
        """Open a ledger that was created before, for writing.

        Raises ``LedgerBusy`` (another writer), ``StoreRolledBack`` (needs a new epoch), ``LedgerUnreadable`` (no ledger, damaged, another
        device's), ``StoreLost`` (the disk does not answer).
        """
        store = cls(str(path), beside or BesideDatabase(Path(path)), settings or Settings(), device)
        store._begin()
        return store

    @classmethod
    def open_or_create(
        cls,
        path: Path | str,
        *,
        device: int,
        new_epoch: Callable[[], int],
        settings: Settings | None = None,
        beside: Beside | None = None,
    ) -> "Store":
        """Open, or begin a ledger where there never was one: where neither a database is found nor the memory of one."""
        place = beside or BesideDatabase(Path(path))
        try:
            new = place.memory() is None and place.database_bytes() == 0 and RenewalBeside(Path(path)).pending() is None
        except OSError as error:
            raise StoreLost(f"the ledger {path} cannot be looked for ({error}); check the disk and the folder") from error
        if new:
            return cls.create(path, device=device, epoch=new_epoch(), settings=settings, beside=place)
        return cls.open(path, device=device, settings=settings, beside=place)

    @classmethod
    def open_anew(
        cls,
        path: Path | str,
        *,
        device: int,
        epoch: int,
        when: When,
        versions: Versions,
        tell: Callable[[Loss], None],
        settings: Settings | None = None,
        beside: Beside | None = None,
    ) -> "Store":
        """Open after ``open`` raised ``StoreRolledBack``: set aside what is there, and begin a new epoch; see ``Book.renew``."""
        store = cls(str(path), beside or BesideDatabase(Path(path)), settings or Settings(), device)
        store._begin(renew=lambda: store._renew(epoch, when, versions, tell))
        return store

    @property
    def epoch(self) -> int:
        """The epoch of this ledger."""
        return self._remembered.epoch

    # ── writing ──

    def append(self, entry: Entry, grant_digest: bytes | None = None) -> Entry:
        """Append ``entry``; see ``Book``."""
        if entry.kind not in _CLOSING:
            self._refuse_when_low()
        numbered, meant = self._appending((entry,), also=_remembering(entry, grant_digest), closes=entry.kind in _CLOSING)
        self._write(meant)
        return numbered[0]

    def intend(self, intent: Intent) -> None:
        """Write down a debit before it is sent; see ``Book``."""
        self._refuse_when_low()
        rider = _rider(intent.entry)
        data = encode(replace(intent.entry, device=self.device, epoch=self.epoch, seq=0))
        self._write(_Meant(((_INTEND, (rider, data)),), "SELECT data FROM intent WHERE rider = ?", (rider,), (data,)))
        self._intended = rider

    def pay(self, rider: bytes, entry: Entry, grant_digest: bytes | None = None) -> Entry:
        """Delete the intent and append ``entry``; see ``Book``."""
        intended, self._intended = self._intended, None
        if intended != rider and not self._rows("SELECT 1 FROM intent WHERE rider = ?", rider):
            raise ValueError("nothing is intended for this rider, so nothing can be paid")
        also = ((_WITHDRAW, (rider,)), *_remembering(entry, grant_digest))
        numbered, meant = self._appending((entry,), also=also, closes=True)
        self._write(meant)
        return numbered[0]

    def prepare(self, entry: Entry) -> None:
        """Number and encode ``entry`` beforehand; see ``Book``."""
        self._prepared = self._number(entry, self._head)

    def withdraw(self, rider: bytes) -> None:
        """Delete the rider's intent; see ``Book``."""
        self._intended = None
        question = "SELECT count(*) FROM intent WHERE rider = ?"
        self._write(_Meant(((_WITHDRAW, (rider,)),), question, (rider,), (0,), closes=True))

    def expire_intents(self, when: When) -> list[Entry]:
        """Turn all open intents into UNKNOWN entries; see ``Book``."""
        self._intended = None
        open_now = self.intents()
        if not open_now:
            return []
        unknown = tuple(replace(intent.entry, kind=Kind.UNKNOWN, when=when) for intent in open_now)
        numbered, meant = self._appending(unknown, also=(("DELETE FROM intent", ()),), closes=True)
        self._write(meant)
        return numbered

    # ── reading ──

    def intents(self) -> list[Intent]:
        """All open intents."""
        return [Intent(self._entry(row)) for row in self._rows("SELECT data FROM intent ORDER BY rider")]

    def intent_of(self, rider: bytes) -> Intent | None:
        """The rider's open intent."""
        rows = self._rows("SELECT data FROM intent WHERE rider = ?", rider)
        return Intent(self._entry(rows[0])) if rows else None

    def unknown_of(self, rider: bytes) -> list[Entry]:
        """The rider's unresolved UNKNOWN entries; see ``Book``."""
        rows = self._rows("SELECT data FROM kept WHERE rider = ? AND kind = ? ORDER BY seq", rider, Kind.UNKNOWN) if self._remains else []
        unknown = [self._entry(row) for row in (*rows, *self._rows(_OF_RIDER, rider, Kind.UNKNOWN, 0))]
        if not unknown:
            return []
        resolved = {self._entry(row).ref for row in self._rows(_OF_RIDER, rider, Kind.RESOLVED, unknown[0].seq)}
        return [entry for entry in unknown if entry.seq not in resolved]

    def latest(self, rider: bytes) -> list[Entry]:
        """The rider's last entries; see ``Book``."""
        latest = [self._entry(row) for row in self._rows(_LATEST_OF_RIDER, rider, _RECENT)]
        if self._remains and len(latest) < _RECENT:
            carried = self._rows("SELECT data FROM carried WHERE rider = ? ORDER BY number DESC LIMIT ?", rider, _RECENT - len(latest))
            latest += [replace(self._entry(row), seq=0) for row in carried]  # its number belongs to another epoch
        return latest

    def knows_grant(self, rider: bytes, digest: bytes) -> bool:
        """Whether this grant was verified before."""
        return self._rows("SELECT digest FROM verified_grant WHERE rider = ?", rider) == [(digest,)]

    def last(self, kind: Kind) -> Entry | None:
        """The last entry of a kind without a rider; see ``Book``."""
        rows = self._rows(_LAST_OF_KIND.format("entry"), kind)
        if not rows and self._remains:
            rows = self._rows(_LAST_OF_KIND.format("kept"), kind)
        return self._entry(rows[0]) if rows else None

    def after(self, seq: int, limit: int) -> list[Entry]:
        """Up to ``limit`` entries that follow ``seq``."""
        return [self._entry(row) for row in self._rows("SELECT data FROM entry WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit)]

    def head(self) -> Head:
        """The last entry's seq and hash."""
        return self._head

    def space(self) -> Space:
        """Room left; see ``Book``."""
        return Space(self._free_bytes(), self._settings.low_space_bytes, self._beside.ballast_bytes())

    # ── the city ──

    def acknowledge(self, receipt: Receipt) -> None:
        """Take in what the city has signed; see ``Book``."""
        if (receipt.device, receipt.epoch) != (self.device, self.epoch):
            return
        city, mine = Head(receipt.next_seq - 1, receipt.head), self._hash_at(receipt.next_seq - 1)
        if city.seq > self._head.seq or mine not in {None, city.hash}:
            self._behind = city
            self._disconnect()
            raise StoreRolledBack(
                f"the city has {city.seq} entries of the ledger {self._path}, and not those that are here: it was restored or copied; "
                "it needs a new epoch"
            )
        before = self._acknowledged
        if before is None or receipt.issued_ms > before.issued_ms or city.seq > before.head.seq:
            self._note_acknowledged(Acknowledged(city, max(receipt.issued_ms, before.issued_ms if before else 0)), receipt.rejects)

    def _note_acknowledged(self, now: Acknowledged, rejects: tuple[tuple[int, str], ...]) -> None:
        row = (now.head.seq, now.head.hash, now.issued_ms)
        noting = tuple((_REJECT, each) for each in rejects)
        self._write(_Meant(((_ACKNOWLEDGE, row), *noting), _ACKNOWLEDGED, (), row, closes=True))
        self._acknowledged = now

    def acknowledged(self) -> Acknowledged | None:
        """What the city has."""
        return self._acknowledged

    def rejected(self) -> list[tuple[int, str]]:
        """The entries that the city has set aside, and why."""
        return cast("list[tuple[int, str]]", self._rows("SELECT seq, code FROM rejected ORDER BY seq"))

    def forget(self, before_ms: int) -> int:
        """Delete some of the oldest entries; see ``Book``."""
        if self._acknowledged is None:
            return 0
        begin = self._cut or origin(self.device, self.epoch)
        # What is remembered outside must be found inside, so nothing above it goes, and the last entry never does.
        most = min(self._acknowledged.head.seq, self._remembered.head.seq, self._head.seq - 1)
        asked = "SELECT seq, data, hash FROM entry WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        rows = cast("list[tuple[int, bytes, bytes]]", self._rows(asked, begin.seq, most, _FORGET_AT_ONCE))
        old = _old_ones([self._entry((data,)) for _, data, _ in rows], before_ms)
        if not old:
            return 0
        seq, _, digest = rows[len(old) - 1]
        self._cut_off(Head(seq, digest), old)
        return len(old)

    def _cut_off(self, cut: Head, old: list[Entry]) -> None:
        """Delete ``old``, the entries up to ``cut``, and keep a copy of those that are still asked for."""
        kept = [entry for entry in old if self._still_asked_for(entry, cut.seq)]
        statements: list[tuple[str, _Row]] = [("DELETE FROM entry WHERE seq <= ?", (cut.seq,))]
        statements += [("DELETE FROM rejected WHERE seq <= ?", (cut.seq,))]
        statements += [("DELETE FROM kept WHERE seq = ?", (entry.ref,)) for entry in old if entry.kind is Kind.RESOLVED]
        statements += [("DELETE FROM kept WHERE rider IS NULL AND kind = ?", (int(entry.kind),)) for entry in kept if not entry.medium]
        for entry in kept:
            rider = entry.medium.rider if entry.medium else None
            statements.append(("INSERT INTO kept VALUES (?, ?, ?, ?)", (entry.seq, int(entry.kind), rider, encode(entry))))
        statements.append(("DELETE FROM carried", ()))
        statements.append(("INSERT OR REPLACE INTO cut VALUES (1, ?, ?)", tuple(cut)))
        self._ready().execute("PRAGMA secure_delete=ON")  # whole pages too: who rode where is not to be read out of free ones
        try:
            self._write(_Meant(tuple(statements), _CUT, (), tuple(cut), closes=True))
        finally:
            with suppress(apsw.Error, StoreLost):
                self._ready().execute("PRAGMA secure_delete=FAST")
        self._cut = cut
        self._remains = self._has_remains(self._ready())

    def _still_asked_for(self, entry: Entry, cut: int) -> bool:
        if entry.medium is None:
            return not self._rows("SELECT 1 FROM entry WHERE rider IS NULL AND kind = ? AND seq > ? LIMIT 1", entry.kind, cut) and (
                self._rows("SELECT max(seq) FROM entry WHERE rider IS NULL AND kind = ?", entry.kind) == [(entry.seq,)]
            )
        return entry.kind is Kind.UNKNOWN and entry in self.unknown_of(entry.medium.rider)

    def renew(self, epoch: int, when: When, versions: Versions, tell: Callable[[Loss], None]) -> None:
        """Set this ledger aside and go on in a new epoch; see ``Book``."""
        try:
            self._renew(epoch, when, versions, tell)
        except (apsw.Error, OSError, LedgerError) as error:
            self._disconnect()
            raise StoreLost(f"the new ledger could not be begun ({error}); check the disk") from error

    # ── upkeep ──

    def needs_checkpoint(self) -> bool:
        """Three quarters of the log are used."""
        return self._log_frames * (_PAGE + 24) > self._settings.log_bytes * 3 // 4

    def checkpoint(self) -> None:
        """Carry the log into the database, remember the head outside it, and take the ballast again if it was used; see ``Book``.

        A program that is reading at this moment makes it wait for the next call.
        """
        try:
            if self._carry(self._ready()):
                self._remember(Memory(self.epoch, self._head))
                self._keep_ballast()
        except (apsw.Error, OSError) as error:
            self._reopen_or_lose(error)

    def close(self) -> None:
        """Checkpoint and close. Safe to leave out: a ledger that was not closed is as whole as one that was."""
        try:
            if self._connection is not None:
                self.checkpoint()
        finally:
            self._disconnect()
            self._beside.unlock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ── inside: one write ──

    def _appending(
        self, entries: tuple[Entry, ...], also: tuple[tuple[str, _Row], ...] = (), *, closes: bool = False
    ) -> tuple[list[Entry], _Meant]:
        """The entries with their numbers, and the transaction that appends them and does what is asked ``also``."""
        self._ready()
        head = self._head
        numbered: list[Entry] = []
        statements: list[tuple[str, _Row]] = []
        for entry in entries:
            ready = self._prepared
            link = ready if ready and ready.after == head and ready.given == entry else self._number(entry, head)
            head = link.head
            rider = entry.medium.rider if entry.medium else None
            statements.append((_APPEND, (head.seq, int(entry.kind), rider, link.data, head.hash)))
            numbered.append(link.entry)
        return numbered, _Meant((*statements, *also), _HEAD, (), (head.seq, head.hash), closes)

    def _number(self, entry: Entry, after: Head) -> _Numbered:
        mine = replace(entry, device=self.device, epoch=self.epoch, seq=after.seq + 1)
        data = encode(mine)
        return _Numbered(entry, after, mine, data, Head(mine.seq, follow(after.hash, data)))

    def _write(self, meant: _Meant) -> None:
        connection = self._ready()
        try:
            self._commit(connection, meant)
        except apsw.Error as error:
            self._settle(meant, error)

    def _commit(self, connection: _Database, meant: _Meant) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for sql, values in meant.statements:
            connection.execute(sql, values)
        connection.execute("COMMIT")
        if meant.question is _HEAD:
            self._head = Head(*cast("tuple[int, bytes]", meant.answer))

    def _settle(self, meant: _Meant, error: apsw.Error) -> None:
        """An error says nothing about what is on the disk: look, then answer."""
        full = isinstance(error, apsw.FullError) or self._free_bytes() < _NO_ROOM
        if full:
            self._drop_ballast()
        self._reopen_or_lose(error)
        if self._is_there(meant):
            return
        if full and not meant.closes:
            raise Full("the ledger's disk is full; nothing was written, free some room") from error
        if full:
            try:
                self._commit(self._ready(), meant)
            except apsw.Error as second:
                self._reopen_or_lose(second)
                if self._is_there(meant):
                    return
            else:
                return
        raise NotStored(f"the ledger could not be written ({error}); looking again shows that nothing was stored") from error

    def _is_there(self, meant: _Meant) -> bool:
        return self._rows(meant.question, *meant.about) == [meant.answer]

    def _reopen_or_lose(self, error: Exception) -> None:
        reason: Exception = error
        for _ in range(_LOOKS):
            self._disconnect()
            try:
                self._start()
            except (apsw.Error, OSError, LedgerError) as again:
                reason = again
            else:
                return
        self._disconnect()
        raise StoreLost(f"the ledger failed ({error}) and does not open again ({reason}); check the disk") from error

    def _ready(self) -> _Database:
        if self._behind is not None:
            raise StoreLost(f"the ledger {self._path} is not the one that the city has; it needs a new epoch")
        if self._connection is None:
            self._reopen_or_lose(StoreLost("it was lost before"))
        return cast("_Database", self._connection)

    def _free_bytes(self) -> int:
        try:
            return self._beside.free_bytes()
        except OSError as error:
            raise StoreLost(f"the ledger's disk does not answer ({error}); check the disk") from error

    def _refuse_when_low(self) -> None:
        # Room that the ballast gave up is for closing what was begun.
        if self._free_bytes() < self._settings.low_space_bytes + (self._settings.ballast_bytes if self._gave_up_ballast else 0):
            raise Full("the ledger's disk is nearly full; nothing was written, free some room")

    def _rows(self, sql: str, *values: _Value) -> list[_Row]:
        try:
            return self._ready().execute(sql, values).fetchall()
        except apsw.Error as error:
            self._reopen_or_lose(error)
        try:
            return self._ready().execute(sql, values).fetchall()
        except apsw.Error as error:
            self._disconnect()
            raise StoreLost(f"the ledger cannot be read ({error}); check the disk") from error

    def _entry(self, row: _Row) -> Entry:
        try:
            return decode(cast("bytes", row[0]), device=self.device, epoch=self.epoch)
        except MalformedEntry as error:
            raise StoreLost(f"the ledger holds an entry that cannot be read ({error}); `kazashi ledger verify` names it") from error

    # ── inside: open and close ──

    def _begin(self, new: Memory | None = None, renew: Callable[[], None] | None = None) -> None:
        begun = False
        try:
            self._beside.lock()
            if new is not None:
                self._claim(new)
            if renew is None:
                self._refuse_unfinished()
                self._start()
            else:
                renew()
            self._keep_ballast()
            begun = True
        except apsw.Error as error:
            raise _unreadable(self._path, error) from error
        except OSError as error:
            raise StoreLost(f"the ledger {self._path} cannot be opened ({error}); check the disk and the folder") from error
        finally:
            if not begun:
                self._disconnect()
                self._beside.unlock()

    def _claim(self, new: Memory) -> None:
        if self._beside.memory() is not None or self._beside.database_bytes() > 0:
            raise LedgerUnreadable(f"{self._path} is there already; open it, or give the new ledger another name")
        self._beside.remember(new.to_bytes())

    def _refuse_unfinished(self) -> None:
        if self._renewal.pending() is not None:
            raise StoreRolledBack(f"a new epoch was begun for the ledger {self._path} and the power went; it needs to be finished")

    def _start(self) -> None:
        remembered = self._beside.memory()
        if remembered is None:
            raise self._unremembered()
        memory = Memory.from_bytes(remembered, self._path)
        if memory.head.seq > 0 and self._beside.database_bytes() == 0:
            raise StoreRolledBack(
                f"the ledger {self._path} is gone, but entries up to {memory.head.seq} were written; it needs a new epoch"
            )
        connection = self._connect()
        self._connection = connection
        _make_tables(connection, self.device, memory)
        self._cut = _cut(connection)
        self._head = self._trusted_head(connection, memory)
        self._acknowledged = _acknowledged(connection)
        self._remains = self._has_remains(connection)
        self._remembered = memory
        self._make_room(connection)
        if memory.head != self._head:
            self._remember(Memory(memory.epoch, self._head))

    def _unremembered(self) -> LedgerError:
        if self._beside.database_bytes() == 0:
            return LedgerUnreadable(f"there is no ledger at {self._path}; create one, or correct the path")
        return StoreRolledBack(f"the memory beside the ledger {self._path} is gone, so its age cannot be proven; it needs a new epoch")

    def _connect(self) -> _Database:
        given = self._settings
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        name = f"file:{quote(self._path)}?psow={int(given.powersafe_overwrite)}"
        connection = cast("_Database", apsw.Connection(name, flags, given.vfs))
        self._connection = connection
        connection.set_busy_timeout(given.busy_ms)
        persist = ctypes.c_int(1)
        connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(persist))
        for pragma in (
            f"page_size={_PAGE}",
            f"locking_mode={given.locking}",
            f"journal_mode={given.journal}",
            f"synchronous={given.synchronous}",
            "wal_autocheckpoint=0",
            "journal_size_limit=-1",
            "temp_store=MEMORY",
            "secure_delete=FAST",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.set_wal_hook(self._count_frames)
        return connection

    def _trusted_head(self, connection: _Database, memory: Memory) -> Head:
        device, epoch = _identity(connection)
        if device != self.device:
            raise LedgerUnreadable(
                f"the ledger {self._path} belongs to device {device}, this is device {self.device}; correct the configuration"
            )
        if epoch != memory.epoch:
            raise StoreRolledBack(f"the ledger {self._path} is of another epoch than its memory; it was exchanged and needs a new epoch")
        rows = connection.execute(_HEAD).fetchall()
        head = Head(*cast("tuple[int, bytes]", rows[0])) if rows else origin(device, epoch)
        if self._cut is not None and not rows:
            raise StoreRolledBack(f"the ledger {self._path} has no entry behind those that were forgotten; it needs a new epoch")
        if head.seq < memory.head.seq:
            raise StoreRolledBack(
                f"the ledger {self._path} ends at entry {head.seq}, but entries up to {memory.head.seq} were written; it needs a new epoch"
            )
        if memory.head.seq > (self._cut.seq if self._cut else 0):
            known = connection.execute("SELECT hash FROM entry WHERE seq = ?", (memory.head.seq,)).fetchall()
            if known != [(memory.head.hash,)]:
                raise StoreRolledBack(f"entry {memory.head.seq} of the ledger {self._path} is not the one remembered; it needs a new epoch")
        return head

    def _hash_at(self, seq: int) -> bytes | None:
        """The chain's hash after the entry ``seq``; None when it is not known here (any more)."""
        for head in (origin(self.device, self.epoch), self._head, self._cut):
            if head is not None and head.seq == seq:
                return head.hash
        rows = self._rows("SELECT hash FROM entry WHERE seq = ?", seq)
        return cast("bytes", rows[0][0]) if rows else None

    @staticmethod
    def _has_remains(connection: _Database) -> bool:
        return _number(connection, "SELECT EXISTS (SELECT 1 FROM kept) OR EXISTS (SELECT 1 FROM carried)") == 1

    # ── inside: a new epoch ──

    def _renew(self, epoch: int, when: When, versions: Versions, tell: Callable[[Loss], None]) -> None:
        note = self._renewal.pending()
        if note is None:
            note = self._judge(epoch)
            self._renewal.begin(note)
        if note.old is not None:
            tell(Loss(self.device, note.old, note.first, 0, note.reason, when))
        self._disconnect()
        found_old = self._epoch_remembered() != note.new
        if found_old:
            self._renewal.set_aside(note)  # whole, before it is read: what was written last lies in its log
        left = _left_by(self._renewal.old_database(note), self.device, note.new, self._settings)
        if found_old:
            self._beside.remember(Memory(note.new, origin(self.device, note.new)).to_bytes())
        self._behind = None
        self._prepared = None
        self._intended = None
        self._start()
        if self._head.seq == 0:
            self._write_first(note, left, when, versions)
        self._renewal.end()

    def _write_first(self, note: Note, left: "_Left", when: When, versions: Versions) -> None:
        """The first entries of a new epoch, in one transaction."""
        opening = Entry(Kind.EPOCH, when, versions=versions, reason=f"after:{note.old or 0}:{note.last}")
        unknown = tuple(replace(intent, kind=Kind.UNKNOWN, when=when) for intent in left.intents)
        carrying = tuple(("INSERT INTO carried (rider, kind, data) VALUES (?, ?, ?)", row) for row in left.riders)
        _, meant = self._appending((opening, *left.standing, *unknown), also=carrying, closes=True)
        self._write(meant)
        self._remains = self._has_remains(self._ready())
        self._remember(Memory(self.epoch, self._head))

    def _judge(self, new: int) -> Note:
        """What is lost with the ledger as it lies there."""
        memory, found = self._memory_if_good(), _found(Path(self._path), self.device, self._settings)
        old = memory.epoch if memory else (found.epoch if found else None)
        same = found is not None and found.epoch == old
        head = found.head.seq if found and same else 0
        city = self._behind or (found.acknowledged if found and same else None)
        last = max(head, city.seq if city else 0, memory.head.seq if memory else 0)
        # The city's own word says where the two part; what was written here behind it is evidence that lies in the old file.
        first = city.seq + 1 if self._behind and city else max(head, city.seq if city else 0) + 1
        if self._behind is not None:
            reason = LossReason.ROLLED_BACK
        elif found is None:
            reason = LossReason.MISSING if self._beside.database_bytes() == 0 else LossReason.UNREADABLE
        elif memory is None:
            reason = LossReason.FORGOTTEN
        else:
            reason = LossReason.ROLLED_BACK if same else LossReason.REPLACED
        return Note(old, new, first, last, reason, self._renewal.free_name(found.epoch if found else (old or 0)))

    def _memory_if_good(self) -> Memory | None:
        remembered = self._beside.memory()
        try:
            return None if remembered is None else Memory.from_bytes(remembered, self._path)
        except StoreRolledBack:
            return None

    def _epoch_remembered(self) -> int | None:
        memory = self._memory_if_good()
        return memory.epoch if memory else None

    # ── inside: the log ──

    def _make_room(self, connection: _Database) -> None:
        """Restart the log before anything else is written; grow it if it is short."""
        self._must_carry(connection)
        if self._settings.journal != "WAL" or self._beside.log_bytes() >= self._settings.log_bytes:
            return
        if self._beside.free_bytes() < self._settings.low_space_bytes:
            return
        connection.execute("INSERT INTO room VALUES (zeroblob(?))", (self._settings.log_bytes,))
        connection.execute("DELETE FROM room")
        self._must_carry(connection)

    def _must_carry(self, connection: _Database) -> None:
        if not self._carry(connection):
            raise LedgerBusy(f"another program keeps reading the ledger {self._path}; close it and start again")

    def _carry(self, connection: _Database) -> bool:
        busy, _, _ = cast("tuple[int, int, int]", connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()[0])
        if busy:
            return False
        connection.execute("UPDATE primer SET count = count + 1")
        return True

    def _count_frames(self, _database: _Database, _name: str, frames: int) -> int:
        self._log_frames = frames
        return apsw.SQLITE_OK

    def _remember(self, memory: Memory) -> None:
        """An older memory is still a true one, so a disk that cannot take the newer is no reason to stop."""
        if memory != self._remembered:
            with suppress(OSError):
                self._beside.remember(memory.to_bytes())
                self._remembered = memory

    def _keep_ballast(self) -> None:
        wanted = self._settings.ballast_bytes
        with suppress(OSError):
            if self._beside.ballast_bytes() < wanted <= self._beside.free_bytes() - self._settings.low_space_bytes:
                self._beside.keep_ballast(wanted)
                self._gave_up_ballast = False

    def _drop_ballast(self) -> None:
        self._gave_up_ballast = True
        with suppress(OSError):
            self._beside.drop_ballast()

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                connection.close()
            except apsw.Error:
                connection.close(force=True)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a ledger that cannot go on says of itself."""

    epoch: int
    head: Head
    acknowledged: Head | None


@dataclass(frozen=True, slots=True)
class _Left:
    """What a new epoch takes over from the ledger before it."""

    standing: tuple[Entry, ...] = ()
    intents: tuple[Entry, ...] = ()
    riders: tuple[_Row, ...] = ()


def _found(path: Path, device: int, settings: Settings) -> _Found | None:
    try:
        with LedgerFile(_read_only(path, settings), str(path), None) as ledger:
            acknowledged = ledger.acknowledged()
            return _Found(ledger.epoch, ledger.head(), acknowledged.head if acknowledged else None) if ledger.device == device else None
    except (LedgerError, apsw.Error):
        return None


def _left_by(path: Path, device: int, new: int, settings: Settings) -> _Left:
    """What can be read of the old ledger; nothing when it is not there, is another device's, or is the new one already."""
    try:
        with LedgerFile(_read_only(path, settings), str(path), None) as ledger:
            if ledger.device != device or ledger.epoch == new:
                return _Left()
            found = [entry for entry in map(ledger.last, _STANDING) if entry is not None]
            standing = sorted(found, key=lambda entry: entry.seq)
            shift = next((entry.seq for entry in standing if entry.kind is Kind.SHIFT_OPEN), 0)
            riders = tuple((link.rider, link.kind, link.data) for link in ledger.links(shift) if link.rider is not None)
            return _Left(tuple(standing), tuple(intent.entry for intent in ledger.intents()), riders)
    except (LedgerError, apsw.Error):
        return _Left()


class LedgerFile:
    """A ledger as another program reads it: never written, never locked for longer than one answer."""

    def __init__(self, connection: _Database, name: str, memory: Memory | None) -> None:
        self._connection = connection
        self.name = name
        self.device, self.epoch = _identity(connection)
        self._first_version = _number(connection, "PRAGMA user_version") == 1
        self.memory = memory if memory and memory.epoch == self.epoch else None

    @classmethod
    def open_read_only(cls, path: Path | str, *, remembered: bool = True) -> "LedgerFile":
        """Open; ``LedgerUnreadable`` if there is no ledger at ``path``. Not ``remembered``: do not ask for the memory beside it."""
        file = Path(path)
        if not file.is_file():
            raise LedgerUnreadable(f"there is no ledger at {path}; correct the path")
        try:
            beside = BesideDatabase(file).memory() if remembered else None
            memory = None if beside is None else Memory.from_bytes(beside, str(path))
            return cls(_read_only(file, Settings()), str(path), memory)
        except apsw.Error as error:
            raise _unreadable(str(path), error) from error

    def head(self) -> Head:
        """The last entry's seq and hash."""
        rows = self._ask(_HEAD)
        return Head(*cast("tuple[int, bytes]", rows[0])) if rows else self.start()

    def start(self) -> Head:
        """Where the chain begins here: what came before was forgotten after the city had signed for it."""
        return (None if self._first_version else _cut(self._connection)) or origin(self.device, self.epoch)

    def hash_at(self, seq: int) -> bytes | None:
        """The chain's hash after the entry ``seq``; None when that is not known here."""
        if seq == 0:
            return origin(self.device, self.epoch).hash
        start = self.start()
        rows = self._ask("SELECT hash FROM entry WHERE seq = ?", seq)
        return start.hash if seq == start.seq else (cast("bytes", rows[0][0]) if rows else None)

    def acknowledged(self) -> Acknowledged | None:
        """What the city has, as far as it was taken in."""
        return None if self._first_version else _acknowledged(self._connection)

    def rejected(self) -> list[tuple[int, str]]:
        """The entries that the city has set aside, and why."""
        return [] if self._first_version else cast("list[tuple[int, str]]", self._ask("SELECT seq, code FROM rejected ORDER BY seq"))

    def last(self, kind: Kind) -> Entry | None:
        """The last entry of a kind without a rider; ``MalformedEntry`` when it cannot be read."""
        rows = self._ask(_LAST_OF_KIND.format("entry"), kind)
        if not rows and not self._first_version:
            rows = self._ask(_LAST_OF_KIND.format("kept"), kind)
        return decode(cast("bytes", rows[0][0]), device=self.device, epoch=self.epoch) if rows else None

    def links(self, seq: int = 0, batch: int = 500) -> Iterator[Link]:
        """The rows after ``seq`` as they are, fetched ``batch`` at a time so that a writer is never kept from its checkpoint for long."""
        while rows := self._fetch(seq, batch):
            links = cast("list[tuple[int, bytes, bytes, bytes | None, int]]", rows)
            yield from starmap(Link, links)
            seq = links[-1][0]

    def after(self, seq: int, limit: int) -> list[Entry]:
        """Up to ``limit`` entries that follow ``seq``; ``MalformedEntry`` when one cannot be read."""
        return [decode(cast("bytes", row[1]), device=self.device, epoch=self.epoch) for row in self._fetch(seq, limit)]

    def intents(self) -> list[Intent]:
        """The debits that were open when the ledger was last written."""
        rows = self._ask("SELECT data FROM intent ORDER BY rider")
        return [Intent(decode(cast("bytes", row[0]), device=self.device, epoch=self.epoch)) for row in rows]

    def verify(self, seen: Callable[[Entry], None] | None = None) -> Check:
        """Check every row against the chain and against the memory beside the file; ``seen`` is called with each entry that can be
        believed.
        """
        start, acknowledged = self.start(), self.acknowledged()
        known = (self.memory.head if self.memory else None, acknowledged.head if acknowledged else None)
        check = Check(start, self.device, self.epoch, [head for head in known if head and head.seq > start.seq])
        for link in self.links():
            entry = check.take(link)
            if seen is not None and entry is not None:
                seen(entry)
        check.close()
        return check

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _fetch(self, seq: int, limit: int) -> list[_Row]:
        return self._ask(_LINKS, seq, limit)

    def _ask(self, sql: str, *values: _Value) -> list[_Row]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise _unreadable(self.name, error) from error


def _rider(entry: Entry) -> bytes:
    if entry.medium is None:
        raise ValueError("an intent needs a medium: it is the debit of one rider")
    return entry.medium.rider


def _remembering(entry: Entry, digest: bytes | None) -> tuple[tuple[str, _Row], ...]:
    return () if digest is None else ((_REMEMBER, (_rider(entry), digest)),)


def _old_ones(entries: list[Entry], before_ms: int) -> list[Entry]:
    """The first of ``entries`` that happened before ``before_ms``; one whose clock was not set is as old as the next whose clock was."""
    old = 0
    for count, entry in enumerate(entries, 1):
        if entry.when.clock == ClockState.UNSET:
            continue
        if entry.when.utc_ms >= before_ms:
            break
        old = count
    return entries[:old]


def _cut(connection: _Database) -> Head | None:
    rows = connection.execute(_CUT).fetchall()
    return Head(*cast("tuple[int, bytes]", rows[0])) if rows else None


def _acknowledged(connection: _Database) -> Acknowledged | None:
    rows = cast("list[tuple[int, bytes, int]]", connection.execute(_ACKNOWLEDGED).fetchall())
    return Acknowledged(Head(rows[0][0], rows[0][1]), rows[0][2]) if rows else None


def _make_tables(connection: _Database, device: int, memory: Memory) -> None:
    """Make the tables of a new ledger, or those that an older one lacks, in one transaction; what was cut off is done again."""
    version, ours = _number(connection, "PRAGMA user_version"), _number(connection, "PRAGMA application_id") == _APPLICATION
    if ours and version == SCHEMA_VERSION:
        return
    new = version == 0 and memory.head.seq == 0 and _number(connection, "SELECT count(*) FROM sqlite_schema") == 0
    if not new and not (ours and 0 < version < SCHEMA_VERSION):
        raise LedgerUnreadable(f"{connection.filename} is no ledger of version {SCHEMA_VERSION}; read it with the software that wrote it")
    connection.execute("BEGIN IMMEDIATE")
    for number in range(version + 1, SCHEMA_VERSION + 1):
        connection.execute((importlib.resources.files("ledger") / "schema" / f"{number:04}.sql").read_text("utf-8"))
    if new:
        connection.execute("INSERT INTO identity VALUES (1, ?, ?)", (device, memory.epoch))
        connection.execute(f"PRAGMA application_id={_APPLICATION}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _number(connection: _Database, sql: str) -> int:
    return cast("int", connection.execute(sql).fetchall()[0][0])


def _identity(connection: _Database) -> tuple[int, int]:
    rows = cast("list[tuple[int, int]]", connection.execute("SELECT device, epoch FROM identity").fetchall())
    if not rows:
        raise LedgerUnreadable(f"{connection.filename} does not say whose ledger it is; keep it as it is and show it to the city")
    return rows[0]


def _read_only(path: Path, settings: Settings) -> _Database:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    name = f"file:{quote(str(path))}"
    try:
        return _ledger_in(cast("_Database", apsw.Connection(f"{name}?mode=ro", flags, settings.vfs)), settings)
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        # A medium that cannot be written has no place for the log's index: it is read as it lies there, without a log.
        return _ledger_in(cast("_Database", apsw.Connection(f"{name}?immutable=1", flags, settings.vfs)), settings)


def _ledger_in(connection: _Database, settings: Settings) -> _Database:
    connection.set_busy_timeout(settings.busy_ms)
    connection.execute(f"PRAGMA locking_mode={settings.locking}").fetchall()
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    ours = _number(connection, "PRAGMA application_id") == _APPLICATION
    if not (ours and 0 < _number(connection, "PRAGMA user_version") <= SCHEMA_VERSION):
        raise LedgerUnreadable(f"{connection.filename} is no ledger of version {SCHEMA_VERSION}; name a ledger of this software")
    return connection


def _unreadable(path: str, error: apsw.Error) -> LedgerUnreadable:
    return LedgerUnreadable(f"the ledger {path} cannot be read ({error}); keep the file as it is and show it to the city")
