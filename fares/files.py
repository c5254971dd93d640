"""The one reader of files on this floor; everything else here takes bytes and rows.

A feed is a folder of GTFS tables or a zip of them. Its tables are read as a stream, row by row, because a region's timetable has millions
of rows and a town hall's computer little memory.
"""

import csv
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fares.faults import Unusable

MOST_BYTES = 1 << 30  # one table of a feed; Japan's largest is below a tenth of this, so more is a broken or a hostile zip
PROGRESS_ROWS = 5_000
_NO_RECORD: tuple[int, list[str]] = (1, [])

Progress = Callable[[str, int], None]
"""Told now and then: the table's name and the rows read so far."""


def read(path: Path) -> bytes:
    """The whole file; raises ``Unusable`` when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Unusable([f"{path}: there is no such file; check the name."]) from None
    except OSError as error:
        raise Unusable([f"{path}: cannot be read ({error.strerror}); check its place and its permissions."]) from None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: ``line`` counts from 1 as an editor does; a column that the table lacks reads as the empty text."""

    file: str
    line: int
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def fault(self, column: str, what: str) -> str:
        """A sentence that begins with file, line and field."""
        return f"{self.file}, line {self.line}, {column}: {what}"


@dataclass(slots=True)
class Feed:
    """The tables of one GTFS feed.

    Open it with ``open_feed``. ``repeated`` fills while tables are read: (file, column) for each column that a table names twice. The first
    of them counts; rows in which they differ are refused, because nobody can know which one is meant.
    """

    name: str
    _open: Callable[[str], IO[bytes]]
    files: tuple[str, ...]
    progress: Progress = lambda _file, _rows: None
    repeated: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def has(self, file: str) -> bool:
        """Whether the feed has this table."""
        return file in self.files

    def columns(self, file: str) -> tuple[str, ...]:
        """The table's columns as its first line names them; none when the feed has no such table."""
        if not self.has(file):
            return ()
        with self._open(file) as stream:
            return tuple(next(_records(file, stream), _NO_RECORD)[1])

    def rows(self, file: str) -> Iterator[Row]:
        """The table's rows in their order; none when the feed has no such table. Blank lines are skipped, short rows are filled up.

        Raises ``Unusable`` for what is not UTF-8, not CSV, or longer than the first line.
        """
        if not self.has(file):
            return
        with self._open(file) as stream:
            records = _records(file, stream)
            _, header = next(records, _NO_RECORD)
            names = [name.strip() for name in header]
            twins = self._note_repeated(file, names)
            count = 0
            for line, record in records:
                if not record:
                    continue
                yield _row(file, line, names, record, twins)
                count += 1
                if count % PROGRESS_ROWS == 0:
                    self.progress(file, count)
            self.progress(file, count)

    def digest(self) -> bytes:
        """SHA-256 over the names and the contents of all tables in alphabetical order, the same for a folder and its zip."""
        total = hashlib.sha256()
        for file in sorted(self.files):
            with self._open(file) as stream:
                content = hashlib.sha256()
                while piece := stream.read(1 << 16):
                    content.update(piece)
            total.update(file.encode() + b"\0" + content.digest())
        return total.digest()

    def _note_repeated(self, file: str, names: list[str]) -> list[tuple[int, int]]:
        """Pairs of places of the same column; each column is noted once."""
        twins = [(names.index(name), place) for place, name in enumerate(names) if names.index(name) != place]
        for _, place in twins:
            if (file, names[place]) not in self.repeated:
                self.repeated.append((file, names[place]))
        return twins


def open_feed(path: Path, progress: Progress = lambda _file, _rows: None) -> Feed:
    """The feed in a folder or a zip (also one whose tables lie together in a folder of the zip); raises ``Unusable``."""
    if path.is_dir():
        files = tuple(sorted(entry.name for entry in path.iterdir() if entry.suffix == ".txt"))
        if "stops.txt" not in files:
            raise Unusable([f"{path}: this folder holds no GTFS feed (there is no stops.txt in it); name the folder of the tables."])
        return Feed(str(path), lambda file: (path / file).open("rb"), files, progress)
    return _open_zip(path, progress)


def _open_zip(path: Path, progress: Progress) -> Feed:
    try:
        archive = zipfile.ZipFile(io.BytesIO(read(path)))
    except zipfile.BadZipFile:
        raise Unusable([f"{path}: this is not a whole zip file; fetch the feed again, or name the folder of its tables."]) from None
    members = [member for member in archive.infolist() if member.filename.endswith(".txt") and "__MACOSX" not in member.filename]
    folders = {str(Path(member.filename).parent) for member in members if Path(member.filename).name == "stops.txt"}
    if len(folders) != 1:
        found = "no stops.txt" if not folders else "several stops.txt"
        raise Unusable([f"{path}: this zip holds no single GTFS feed ({found} in it); pack the tables of one feed."])
    tables = {Path(member.filename).name: member for member in members if str(Path(member.filename).parent) in folders}
    for name, member in tables.items():
        if member.flag_bits & 1:
            raise Unusable([f"{path}, {name}: is locked with a password; pack it again without one."])
        if member.file_size > MOST_BYTES:
            raise Unusable([f"{path}, {name}: unpacks to more than {MOST_BYTES >> 20} MiB; this is no timetable, fetch the feed again."])
    return Feed(str(path), lambda file: archive.open(tables[file]), tuple(sorted(tables)), progress)


def _records(file: str, stream: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of a CSV table: UTF-8 with or without a byte order mark (GTFS, "File Requirements")."""
    start = 1
    try:
        with io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            for record in reader:
                yield start, record
                start = reader.line_num + 1
    except UnicodeDecodeError:
        raise Unusable([f"{file}, near line {start}: is not UTF-8; save the table as UTF-8."]) from None
    except csv.Error as error:
        raise Unusable([f"{file}, line {start}: is not CSV ({error}); check the quotes of this line."]) from None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise Unusable([f"{file}, near line {start}: the zip is damaged here; fetch the feed again."]) from None


def _row(file: str, line: int, names: list[str], record: list[str], twins: list[tuple[int, int]]) -> Row:
    if any(record[len(names) :]):
        raise Unusable(
            [f"{file}, line {line}: has {len(record)} fields, the first line names {len(names)}; check the commas of this line."]
        )
    filled = [value.strip() for value in record] + [""] * (len(names) - len(record))
    for first, second in twins:
        if filled[first] != filled[second]:
            raise Unusable(
                [f"{file}, line {line}, {names[first]}: the column occurs twice and says two different things; remove one of them."]
            )
    # The first of two equal columns wins; going backwards lets it overwrite the later one.
    return Row(file, line, dict(zip(reversed(names), reversed(filled[: len(names)]), strict=True)))
