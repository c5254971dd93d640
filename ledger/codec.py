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

from collections.abc import Callable, Iterator
from dataclasses import fields, make_dataclass
from functools import lru_cache
from typing import Any

from cbor2 import CBOREncodeError, CBORError, dumps, loads

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
_U32, _U24 = 32, 24
_KINDS = {int(kind): kind for kind in Kind}
_OUTCOMES = {int(outcome): outcome for outcome in Outcome}
_FLAGS = {number: Flags(number) for number in range(sum(int(flag) for flag in Flags) + 1)}

Parts = tuple[Any, ...]


def _quick(kind: type[Any]) -> Callable[..., Any]:
    """A constructor of the frozen ``kind`` that takes its values in order.

    A frozen dataclass sets each field through ``object.__setattr__``; for a whole entry that takes longer than reading its bytes. So an
    equal class that is not frozen is filled, and then declared to be ``kind``. A ledger is read half as fast again.
    """

    def become(self: object) -> None:
        self.__class__ = kind

    return make_dataclass(kind.__name__, [field.name for field in fields(kind)], namespace={"__post_init__": become}, slots=True)


_entry: Callable[..., Entry] = _quick(Entry)
_when: Callable[..., When] = _quick(When)
_who: Callable[..., Medium] = _quick(Medium)
_purse: Callable[..., Counters] = _quick(Counters)
_where: Callable[..., Place] = _quick(Place)
_price: Callable[..., Fare] = _quick(Fare)
_rules: Callable[..., Versions] = _quick(Versions)


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


def bytes_of(parts: Parts) -> bytes:
    """The bytes that ``take_apart`` took apart."""
    return dumps(parts)


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
        parts: Parts = loads(data, max_depth=1, immutable=True)
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
