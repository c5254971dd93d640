"""Entry ↔ bytes, version 1.

The bytes are what is chained, uploaded and signed, so one entry must have exactly one form. It is CBOR (RFC 8949) restricted to what is
deterministic without thinking: one flat array in fixed order of integers, byte strings and text; no maps, no floats, no tags. The version
stands first. A reader must accept nothing else: ``loads`` of any library takes longer integers, trailing bytes and tags in its stride, so
the decoded value is encoded again and must give the same bytes.

``device`` and ``epoch`` are not in the bytes. They are the same for every entry of a ledger, they are hashed into the beginning of the
chain (``ledger.chain.genesis``), and the signed batch names them once; a ride stays small on the air.

The purse as written is stored as its difference to the purse as read: three of the four numbers are then small, and what was taken can be
seen without subtracting.

What stays the same from ride to ride (where, for how much, by which rules) is an array of its own inside a byte string. A reader meets the
same string again and again and takes it apart once; that, not beauty, is why it is nested.

Whoever has many entries at once (``ledger.batch``) takes them apart and checks them by whole columns: ``take_all_apart``, ``typed`` and
``sheet`` say of many what ``take_apart`` and ``put_together`` say of one, at the speed of C. They say only whether all are right; which one
is wrong, and why, is then asked entry by entry.

Version 1, by position; the length of the array says how much of the medium is there::

     0  version, seq, kind, flags, outcome, ref, row, reason, boot, mono_ms, utc_ms, clock
    12  CIRCUMSTANCES, a byte string                                      13: an entry without a medium
    13  rider, granted, grant_number, grant                               17: the purse was not read
    17  the purse as read: rega, regb, regc, wcnt                         21: the purse was not written
    21  rega before − after, regb before − after, regc as written (empty: the same), wcnt after − before      25

    CIRCUMSTANCES
     0  operator, vehicle, shift, route, trip, boarding, alighting, service_day
     8  nominal, points, cash, adults, children
    13  table, scheme, operator file, software, card_key, rider_key       19
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, make_dataclass
from functools import lru_cache
from itertools import repeat
from operator import add, sub
from typing import Any

from cbor2 import CBOREncodeError, CBORError, dumps

from ledger import strict
from ledger.entry import VERSION, Counters, Entry, Fare, Flags, Kind, Medium, Outcome, Place, Versions, When
from ledger.errors import MalformedEntry

MAX_BYTES = 1024

_HEAD = ("version", "seq", "kind", "flags", "outcome", "ref", "row", "reason", "boot", "mono_ms", "utc_ms", "clock")
_PLACE = ("operator", "vehicle", "shift", "route", "trip", "boarding", "alighting", "service_day")
_FARE = ("nominal", "points", "cash", "adults", "children")
_VERSIONS = ("table", "scheme", "operator file", "software", "card_key", "rider_key")
_MEDIUM = ("rider", "granted", "grant_number", "grant")
_PURSE = ("rega", "regb", "regc", "wcnt")
_CHANGE = ("change of rega", "change of regb", "regc as written", "change of wcnt")
_FIELDS = (*_HEAD, "circumstances", *_MEDIUM, *_PURSE, *_CHANGE)
_CIRCUMSTANCES = (*_PLACE, *_FARE, *_VERSIONS)
_TEXT = {"row", "reason", "operator", "vehicle", "route", "trip", "boarding", "alighting", "software"}
_BYTES = {"circumstances", "table", "scheme", "operator file", "rider", "grant", "regc", "regc as written"}


def _types(fields: tuple[str, ...]) -> tuple[type, ...]:
    return tuple(str if field in _TEXT else bytes if field in _BYTES else int for field in fields)


_BARE, _UNREAD, _UNWRITTEN, _WRITTEN = 13, 17, 21, 25
SHAPES = {length: _types(_FIELDS[:length]) for length in (_BARE, _UNREAD, _UNWRITTEN, _WRITTEN)}
_INNER_SHAPE = _types(_CIRCUMSTANCES)

# A number is in range, 0 … 2^bits − 1, when nothing is left of it after shifting; of several in one step, because a negative one keeps its
# sign when they are joined. Comparing each with both ends takes three times as long.
_BITS = 63
_MAX = 2**_BITS - 1
_U32, _U24 = 32, 24
_KINDS = {int(kind): kind for kind in Kind}
_OUTCOMES = {int(outcome): outcome for outcome in Outcome}
_FLAGS = {number: Flags(number) for number in range(sum(int(flag) for flag in Flags) + 1)}

_INNER_NUMBERS = (2, *range(7, 13), 17, 18)
_NOMINAL = 8

Parts = tuple[Any, ...]
Columns = Sequence[Parts]


def _quick(kind: type[Any]) -> type[Any]:
    """A class like the frozen ``kind`` whose objects take their values in order and become ``kind`` by being declared to be.

    A frozen dataclass sets each field through ``object.__setattr__``; for a whole entry that takes longer than reading its bytes. So an
    equal class that is not frozen is filled. A ledger is read half as fast again.
    """
    return make_dataclass(kind.__name__, [field.name for field in fields(kind)], slots=True)


def _maker(kind: type[Any]) -> Callable[..., Any]:
    """A constructor of the frozen ``kind`` that takes its values in order."""
    quick = _QUICK[kind]

    def made(*values: Any) -> Any:
        found = quick(*values)
        found.__class__ = kind
        return found

    return made


_QUICK = {kind: _quick(kind) for kind in (Entry, When, Medium, Counters, Place, Fare, Versions)}
_entry: Callable[..., Entry] = _maker(Entry)
_when: Callable[..., When] = _maker(When)
_who: Callable[..., Medium] = _maker(Medium)
_purse: Callable[..., Counters] = _maker(Counters)
_where: Callable[..., Place] = _maker(Place)
_price: Callable[..., Fare] = _maker(Fare)
_rules: Callable[..., Versions] = _maker(Versions)


def encode(entry: Entry) -> bytes:
    """The bytes of ``entry``. An entry that could not be read back is refused: ``MalformedEntry`` names the field."""
    data = write(entry)
    if decode(data, device=entry.device, epoch=entry.epoch) != entry:
        raise MalformedEntry("entry", "does not read back as it was; a field has the wrong type")
    return data


def write(entry: Entry) -> bytes:
    """The bytes of ``entry`` without reading them back: for whoever makes entries by the million and reads them back elsewhere."""
    try:
        return dumps(_parts(entry))
    except (CBOREncodeError, TypeError, ValueError) as error:
        raise MalformedEntry("entry", "holds a value that is neither a number, nor bytes, nor text") from error


def decode(data: bytes, *, device: int, epoch: int) -> Entry:
    """The entry that ``data`` holds, of the ledger (``device``, ``epoch``). Raises ``MalformedEntry``; never anything else."""
    return put_together(take_apart(data), device=device, epoch=epoch)


def take_apart(data: bytes) -> Parts:
    """The fields in ``data``, by position: as many as one of ``SHAPES``, of its types. Raises ``MalformedEntry``."""
    if len(data) > MAX_BYTES:
        raise MalformedEntry("entry", f"is {len(data)} bytes long; no entry has more than {MAX_BYTES}")
    parts = _strict(data)
    if type(parts[0]) is not int or parts[0] != VERSION:
        raise MalformedEntry("version", f"is {parts[0]!r}, which this software does not know; read it with a newer one")
    if tuple(map(type, parts)) != SHAPES.get(len(parts)):
        raise MalformedEntry(*_misshapen(parts))
    return parts


def all_bytes(columns: Columns) -> list[bytes]:
    """The bytes of each of the entries whose fields are ``columns``."""
    return list(map(dumps, zip(*columns, strict=True)))


def put_together(parts: Parts, *, device: int, epoch: int) -> Entry:
    """The entry that these fields are; their number and types must be as ``take_apart`` gives them. Raises ``MalformedEntry``."""
    _, seq, number, flags, outcome, ref, row, reason, boot, mono_ms, utc_ms, clock = parts[:12]
    kind = _KINDS.get(number)
    if kind is None or flags not in _FLAGS or outcome not in _OUTCOMES:
        raise MalformedEntry("kind", "or flags or outcome has a value that this version does not know")
    if (seq | ref) >> _BITS:
        raise MalformedEntry("seq", "or ref is out of range")
    if (boot | mono_ms | utc_ms | clock) >> _BITS:
        raise MalformedEntry("boot", "or another part of the time is out of range")
    place, fare, versions = _circumstances(parts[12])
    medium = _medium(parts) if len(parts) > _BARE else None
    when = _when(boot, mono_ms, utc_ms, clock)
    return _entry(kind, when, place, medium, fare, versions, _FLAGS[flags], _OUTCOMES[outcome], ref, row, reason, device, epoch, seq)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Entries with the same number of fields, all of them right: field by field, the fields of their circumstances, and the purses as
    written (no columns where none was).
    """

    columns: Columns
    circumstances: Columns
    written: Columns

    @property
    def sums(self) -> Iterator[Parts]:
        """Of each entry the number that it says it has, its kind, and what it adds to nominal, points and cash."""
        return zip(self.columns[1], self.columns[2], *self.circumstances[_NOMINAL : _NOMINAL + 3], strict=True)

    def entries(self, device: int, epoch: int) -> list[Entry]:
        """The entries, of the ledger (``device``, ``epoch``)."""
        _, seq, number, flags, outcome, ref, row, reason, *time = self.columns[:12]
        return _made(
            Entry,
            map(_KINDS.__getitem__, number),
            _made(When, *time),
            _made(Place, *self.circumstances[:8]),
            self._media() if len(self.columns) > _BARE else repeat(None),
            _made(Fare, *self.circumstances[8:13]),
            _made(Versions, *self.circumstances[13:]),
            map(_FLAGS.__getitem__, flags),
            map(_OUTCOMES.__getitem__, outcome),
            *(ref, row, reason, repeat(device), repeat(epoch), seq),
        )

    def _media(self) -> list[Medium]:
        before = _made(Counters, *self.columns[17:21]) if len(self.columns) > _UNREAD else repeat(None)
        after = _made(Counters, *self.written) if self.written else repeat(None)
        return _made(Medium, *self.columns[13:17], before, after)


def take_all_apart(entries: Sequence[bytes]) -> list[Parts]:
    """What ``take_apart`` says of each, but for the types (``typed``). Raises ``MalformedEntry`` when it refuses any, without saying which.

    They are decoded as if they were one array. That an entry ends where its neighbour begins, and has no other form, shows when each part
    is encoded by itself.
    """
    if max(map(len, entries), default=0) > MAX_BYTES:
        raise MalformedEntry("entry", f"is longer than {MAX_BYTES} bytes")
    rows = _all_strict(entries)
    if not set(map(len, rows)) <= SHAPES.keys():
        raise MalformedEntry("entry", f"has another number of fields than {sorted(SHAPES)}")
    return rows


def typed(columns: Columns) -> Columns:
    """The same ``columns``, as many as one of ``SHAPES`` is long, when they hold fields of its types and of this version. Raises
    ``MalformedEntry``.
    """
    if any(set(map(type, column)) != {kind} for column, kind in zip(columns, SHAPES[len(columns)], strict=True)):
        raise MalformedEntry("entry", "has a field of the wrong type")
    if set(columns[0]) != {VERSION}:
        raise MalformedEntry("version", "is one that this software does not know; read it with a newer one")
    return columns


def sheet(columns: Columns) -> Sheet:
    """The entries whose fields are ``columns``, which must be ``typed``. Raises ``MalformedEntry`` when ``put_together`` refuses any."""
    _, seq, number, flags, outcome, ref, _, _, *time = columns[:12]
    if not (set(number) <= _KINDS.keys() and set(flags) <= _FLAGS.keys() and set(outcome) <= _OUTCOMES.keys()):
        raise MalformedEntry("kind", "or flags or outcome has a value that this version does not know")
    _check_range((seq, ref, *time), _MAX)
    written = _written(columns) if len(columns) == _WRITTEN else ()
    if len(columns) > _BARE:
        _check_media(columns, written)
    return Sheet(columns, _all_circumstances(columns[12]), written)


def _parts(entry: Entry) -> Parts:
    when, place, fare, versions = entry.when, entry.place, entry.fare, entry.versions
    where = (place.operator, place.vehicle, place.shift, place.route, place.trip, place.boarding, place.alighting, place.service_day)
    price = (fare.nominal, fare.points, fare.cash, fare.adults, fare.children)
    rules = (versions.table, versions.scheme, versions.operator, versions.software, versions.card_key, versions.rider_key)
    return (
        VERSION,
        entry.seq,
        int(entry.kind),
        int(entry.flags),
        int(entry.outcome),
        entry.ref,
        entry.row,
        entry.reason,
        int(when.boot),
        int(when.mono_ms),
        int(when.utc_ms),
        int(when.clock),
        dumps(where + price + rules),
        *(_medium_parts(entry.medium) if entry.medium else ()),
    )


def _medium_parts(medium: Medium) -> Parts:
    before, after = medium.before, medium.after
    who = (medium.rider, medium.granted, medium.grant_number, medium.grant)
    if before is None:
        if after is not None:
            raise MalformedEntry("medium", "says what was written but not what was read")
        return who
    read = (before.rega, before.regb, before.regc, before.wcnt)
    if after is None:
        return who + read
    regc = b"" if after.regc == before.regc else after.regc
    return (*who, *read, before.rega - after.rega, before.regb - after.regb, regc, after.wcnt - before.wcnt)


def _strict(data: bytes) -> Parts:
    try:
        parts: Parts = strict.load(data, 1)
        again = dumps(parts)
    except (CBORError, ValueError, TypeError, OverflowError) as error:
        raise MalformedEntry("entry", "is not CBOR as an entry uses it") from error
    if again != data:
        raise MalformedEntry("entry", "is CBOR, but not in its one deterministic form")
    if type(parts) is not tuple or not parts:
        raise MalformedEntry("entry", "is not an array")
    return parts


def _misshapen(parts: Parts) -> tuple[str, str]:
    if len(parts) not in SHAPES:
        return "entry", f"has {len(parts)} fields; version {VERSION} has one of {sorted(SHAPES)}"
    wrong = (field for field, part, expected in zip(_FIELDS, parts, SHAPES[len(parts)], strict=False) if type(part) is not expected)
    return next(wrong), "has the wrong type"


def forget() -> None:
    """Remember no circumstances: for whoever measures what reading costs."""
    _circumstances.cache_clear()


@lru_cache(maxsize=1024)
def _circumstances(data: bytes) -> tuple[Place, Fare, Versions]:
    parts = _strict(data)
    if tuple(map(type, parts)) != _INNER_SHAPE:
        raise MalformedEntry("circumstances", f"do not have the {len(_INNER_SHAPE)} fields of version {VERSION}, or one has the wrong type")
    if (parts[2] | parts[7] | parts[8] | parts[9] | parts[10] | parts[11] | parts[12] | parts[17] | parts[18]) >> _BITS:
        raise MalformedEntry(next(_out_of_range(parts)), "is out of range")
    return _where(*parts[:8]), _price(*parts[8:13]), _rules(*parts[13:])


def _out_of_range(parts: Parts) -> Iterator[str]:
    return (field for field, part in zip(_CIRCUMSTANCES, parts, strict=True) if type(part) is int and part >> _BITS)


def _medium(parts: Parts) -> Medium:
    rider, granted, number, grant = parts[13:17]
    if len(rider) != 8:
        raise MalformedEntry("rider", "is not 8 bytes")
    if (granted | number) >> _BITS:
        raise MalformedEntry("granted", "or grant_number is out of range")
    if len(parts) == _UNREAD:
        return _who(rider, granted, number, grant, None, None)
    rega, regb, regc, wcnt = parts[17:21]
    before = _counters(rega, regb, regc, wcnt)
    if len(parts) == _UNWRITTEN:
        return _who(rider, granted, number, grant, before, None)
    less_a, less_b, written, more = parts[21:]
    if written == regc:
        raise MalformedEntry("regc as written", "writes out what did not change")
    return _who(rider, granted, number, grant, before, _counters(rega - less_a, regb - less_b, written or regc, wcnt + more))


def _counters(rega: int, regb: int, regc: bytes, wcnt: int) -> Counters:
    if (rega | regb) >> _U32 or wcnt >> _U24 or len(regc) != 8:
        raise MalformedEntry("purse", "has a value that no purse can hold")
    return _purse(rega, regb, regc, wcnt)


def _all_strict(strings: Sequence[bytes]) -> list[Parts]:
    """What ``_strict`` says of each; refuses all when it refuses one."""
    try:
        rows: list[Parts] = list(strict.load(b"\x9a" + len(strings).to_bytes(4, "big") + b"".join(strings), 2))
        again = list(map(dumps, rows))
    except (CBORError, ValueError, TypeError, OverflowError) as error:
        raise MalformedEntry("entry", "is not CBOR as an entry uses it") from error
    if again != list(strings) or set(map(type, rows)) != {tuple}:
        raise MalformedEntry("entry", "is not an array in its one deterministic form")
    return rows


def _all_circumstances(column: Parts) -> Columns:
    distinct = list(dict.fromkeys(column))
    found = dict(zip(distinct, _all_strict(distinct), strict=True))
    if set(map(len, found.values())) != {len(_INNER_SHAPE)}:
        raise MalformedEntry("circumstances", f"do not have the {len(_INNER_SHAPE)} fields of version {VERSION}")
    columns = tuple(zip(*map(found.__getitem__, column), strict=True))
    if any(set(map(type, inner)) != {kind} for inner, kind in zip(columns, _INNER_SHAPE, strict=True)):
        raise MalformedEntry("circumstances", "have a field of the wrong type")
    _check_range([columns[position] for position in _INNER_NUMBERS], _MAX)
    return columns


def _check_media(columns: Columns, written: Columns) -> None:
    rider, granted, number = columns[13:16]
    _check_width(rider)
    _check_range((granted, number), _MAX)
    if len(columns) == _UNREAD:
        return
    _check_purses(*columns[17:21])
    if written:
        if any(map(bytes.__eq__, columns[23], columns[19])):
            raise MalformedEntry("regc as written", "writes out what did not change")
        _check_purses(*written)


def _written(columns: Columns) -> Columns:
    """The purses as written."""
    rega, regb, regc, wcnt, less_a, less_b, written, more = columns[17:]
    logs = tuple(new or old for new, old in zip(written, regc, strict=True))
    return tuple(map(sub, rega, less_a)), tuple(map(sub, regb, less_b)), logs, tuple(map(add, wcnt, more))


def _check_purses(rega: Parts, regb: Parts, regc: Parts, wcnt: Parts) -> None:
    _check_range((rega, regb), (1 << _U32) - 1)
    _check_range((wcnt,), (1 << _U24) - 1)
    _check_width(regc)


def _check_range(columns: Columns, most: int) -> None:
    if any(min(column) < 0 or max(column) > most for column in columns):
        raise MalformedEntry("entry", "has a number that is out of range")


def _check_width(column: Parts) -> None:
    if set(map(len, column)) != {8}:
        raise MalformedEntry("medium", "has a rider or a log that is not 8 bytes")


def _made(kind: type[Any], *columns: Any) -> list[Any]:
    """One ``kind`` for each row of ``columns``."""
    found = list(map(_QUICK[kind], *columns))
    for each in found:
        each.__class__ = kind
    return found
