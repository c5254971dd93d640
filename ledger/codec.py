"""Entry ↔ bytes, version 1.

The bytes are what is chained, uploaded and signed, so one entry must have exactly one form. It is CBOR (RFC 8949) restricted to what is
deterministic without thinking: one flat array in fixed order of integers, byte strings and text; no maps, no floats, no tags. The version
stands first. A reader must accept nothing else: ``loads`` of any library takes longer integers, trailing bytes and tags in its stride, so
the decoded value is encoded again and must give the same bytes.

``device`` and ``epoch`` are not in the bytes. They are the same for every entry of a ledger, they are hashed into the beginning of the
chain (``ledger.chain.genesis``), and the signed batch names them once; a ride stays small on the air.

The purse as written is stored as its difference to the purse as read: three of the four numbers are then small, and what was taken can be
seen without subtracting.

Version 1, by position; the length of the array says how much of the medium is there::

     0  version, seq, kind, flags, outcome, ref, row, reason
     8  boot, mono_ms, utc_ms, clock
    12  operator, vehicle, shift, route, trip, boarding, alighting, service_day
    20  nominal, points, cash, adults, children
    25  table, scheme, operator file, software, card_key, rider_key       31: an entry without a medium
    31  rider, granted, grant_number, grant                               35: the purse was not read
    35  the purse as read: rega, regb, regc, wcnt                         39: the purse was not written
    39  rega before − after, regb before − after, regc as written (empty: the same), wcnt after − before      43
"""

from functools import lru_cache
from typing import cast

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
_FIELDS = (*_HEAD, *_PLACE, *_FARE, *_VERSIONS, *_MEDIUM, *_PURSE, *_CHANGE)
_TEXT = {"row", "reason", "operator", "vehicle", "route", "trip", "boarding", "alighting", "software"}
_BYTES = {"table", "scheme", "operator file", "rider", "grant", "regc", "regc as written"}
_TYPES = tuple(str if field in _TEXT else bytes if field in _BYTES else int for field in _FIELDS)
_BARE, _UNREAD, _UNWRITTEN, _WRITTEN = 31, 35, 39, 43
_SHAPES: dict[int, tuple[type, ...]] = {length: _TYPES[:length] for length in (_BARE, _UNREAD, _UNWRITTEN, _WRITTEN)}

_MAX_NUMBER = 2**63 - 1
_MAX_U32 = 2**32 - 1
_MAX_U24 = 2**24 - 1
_KINDS = {int(kind): kind for kind in Kind}
_OUTCOMES = {int(outcome): outcome for outcome in Outcome}
_FLAGS = {number: Flags(number) for number in range(sum(int(flag) for flag in Flags) + 1)}

_Parts = tuple[int | bytes | str, ...]


def encode(entry: Entry) -> bytes:
    """The bytes of ``entry``. An entry that could not be read back is refused: ``MalformedEntry`` names the field."""
    try:
        data = dumps(_parts(entry))
    except (CBOREncodeError, TypeError, ValueError) as error:
        raise MalformedEntry("entry", "holds a value that is neither a number, nor bytes, nor text") from error
    if decode(data, device=entry.device, epoch=entry.epoch) != entry:
        raise MalformedEntry("entry", "does not read back as it was; a field has the wrong type")
    return data


def decode(data: bytes, *, device: int, epoch: int) -> Entry:
    """The entry that ``data`` holds, of the ledger (``device``, ``epoch``). Raises ``MalformedEntry``; never anything else."""
    parts = _strict(data)
    _, seq, kind, flags, outcome, ref, row, reason, boot, mono_ms, utc_ms, clock = cast("_HeadParts", parts[:12])
    if kind not in _KINDS or flags not in _FLAGS or outcome not in _OUTCOMES:
        raise MalformedEntry("kind", "or flags or outcome has a value that this version does not know")
    if min(seq, ref, boot, mono_ms, utc_ms, clock) < 0 or max(seq, ref, boot, mono_ms, utc_ms, clock) > _MAX_NUMBER:
        raise MalformedEntry("seq", "or ref or a time is out of range")
    return Entry(
        _KINDS[kind],
        When(boot, mono_ms, utc_ms, clock),
        _place(*parts[12:20]),
        _medium(parts) if len(parts) > _BARE else None,
        _fare(*parts[20:25]),
        _versions(*parts[25:31]),
        _FLAGS[flags],
        _OUTCOMES[outcome],
        ref,
        row,
        reason,
        device,
        epoch,
        seq,
    )


_HeadParts = tuple[int, int, int, int, int, int, str, str, int, int, int, int]


def _parts(entry: Entry) -> _Parts:
    when, place, fare, versions = entry.when, entry.place, entry.fare, entry.versions
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
        place.operator,
        place.vehicle,
        place.shift,
        place.route,
        place.trip,
        place.boarding,
        place.alighting,
        place.service_day,
        fare.nominal,
        fare.points,
        fare.cash,
        fare.adults,
        fare.children,
        versions.table,
        versions.scheme,
        versions.operator,
        versions.software,
        versions.card_key,
        versions.rider_key,
        *(_medium_parts(entry.medium) if entry.medium else ()),
    )


def _medium_parts(medium: Medium) -> _Parts:
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


def _strict(data: bytes) -> _Parts:
    if len(data) > MAX_BYTES:
        raise MalformedEntry("entry", f"is {len(data)} bytes long; no entry has more than {MAX_BYTES}")
    try:
        parts = cast("_Parts", loads(data, max_depth=1, immutable=True))
        again = dumps(parts)
    except (CBORError, ValueError, TypeError, OverflowError) as error:
        raise MalformedEntry("entry", "is not CBOR as an entry uses it") from error
    if again != data:
        raise MalformedEntry("entry", "is CBOR, but not in its one deterministic form")
    if type(parts) is not tuple or not parts or type(parts[0]) is not int:
        raise MalformedEntry("entry", "is not an array that begins with a version")
    if parts[0] != VERSION:
        raise MalformedEntry("version", f"is {parts[0]}, which this software does not know; read it with a newer one")
    if tuple(map(type, parts)) != _SHAPES.get(len(parts)):
        raise MalformedEntry(*_misshapen(parts))
    return parts


def _misshapen(parts: _Parts) -> tuple[str, str]:
    if len(parts) not in _SHAPES:
        return "entry", f"has {len(parts)} fields; version {VERSION} has one of {sorted(_SHAPES)}"
    field = next(name for name, part, expected in zip(_FIELDS, parts, _TYPES, strict=False) if type(part) is not expected)
    return field, "has the wrong type"


# What stays the same from ride to ride is made once; the types are checked before, so equal parts are the same parts.
@lru_cache(maxsize=256)
def _place(*parts: int | bytes | str) -> Place:
    place = Place(*cast("tuple[str, str, int, str, str, str, str, int]", parts))
    if not (0 <= place.shift <= _MAX_NUMBER and 0 <= place.service_day <= _MAX_NUMBER):
        raise MalformedEntry("shift", "or service_day is out of range")
    return place


@lru_cache(maxsize=256)
def _fare(*parts: int | bytes | str) -> Fare:
    numbers = cast("tuple[int, int, int, int, int]", parts)
    if min(numbers) < 0 or max(numbers) > _MAX_NUMBER:
        raise MalformedEntry("fare", "has a number out of range")
    return Fare(*numbers)


@lru_cache(maxsize=64)
def _versions(*parts: int | bytes | str) -> Versions:
    versions = Versions(*cast("tuple[bytes, bytes, bytes, str, int, int]", parts))
    if not (0 <= versions.card_key <= _MAX_NUMBER and 0 <= versions.rider_key <= _MAX_NUMBER):
        raise MalformedEntry("card_key", "or rider_key is out of range")
    return versions


def _medium(parts: _Parts) -> Medium:
    rider, granted, number, grant = cast("tuple[bytes, int, int, bytes]", parts[31:35])
    if len(rider) != 8:
        raise MalformedEntry("rider", "is not 8 bytes")
    if not (0 <= granted <= _MAX_NUMBER and 0 <= number <= _MAX_NUMBER):
        raise MalformedEntry("granted", "or grant_number is out of range")
    if len(parts) == _UNREAD:
        return Medium(rider, granted, number, grant)
    rega, regb, regc, wcnt = cast("tuple[int, int, bytes, int]", parts[35:39])
    before = _counters(rega, regb, regc, wcnt)
    if len(parts) == _UNWRITTEN:
        return Medium(rider, granted, number, grant, before)
    less_a, less_b, written, more = cast("tuple[int, int, bytes, int]", parts[39:43])
    if written == regc:
        raise MalformedEntry("regc as written", "writes out what did not change")
    return Medium(rider, granted, number, grant, before, _counters(rega - less_a, regb - less_b, written or regc, wcnt + more))


def _counters(rega: int, regb: int, regc: bytes, wcnt: int) -> Counters:
    if 0 <= rega <= _MAX_U32 and 0 <= regb <= _MAX_U32 and 0 <= wcnt <= _MAX_U24 and len(regc) == 8:
        return Counters(rega, regb, regc, wcnt)
    raise MalformedEntry("purse", "has a value that no purse can hold")
