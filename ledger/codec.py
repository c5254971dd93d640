"""Entry ↔ bytes, version 1.

The bytes are what is chained, uploaded and signed, so one entry must have exactly one form. It is CBOR (RFC 8949) restricted to what is
deterministic without thinking: arrays of fixed length in fixed order, integers, byte strings and text; no maps, no floats, no tags. The
version stands first. A reader must accept nothing else: ``loads`` of any library takes longer integers, trailing bytes and tags in its
stride, so the decoded value is encoded again and must give the same bytes.

``device`` and ``epoch`` are not in the bytes. They are the same for every entry of a ledger, they are hashed into the beginning of the
chain (``ledger.chain.genesis``), and the signed batch names them once; a ride stays small on the air.

The purse as written is stored as its difference to the purse as read: the first three numbers tend to be small, and nobody can write a pair
that looks consistent without meaning it.

Version 1::

    [1, seq, kind, flags, outcome, ref, row, reason,
     [boot, mono_ms, utc_ms, clock],
     [operator, vehicle, shift, route, trip, boarding, alighting, service_day],
     [nominal, points, cash, adults, children],
     [table, scheme, operator, software, card_key, rider_key],
     [] or [rider, granted, grant_number, grant, BEFORE, CHANGE]]

    BEFORE  [] or [rega, regb, regc, wcnt]
    CHANGE  [] or [rega before − after, regb before − after, regc after (empty: unchanged), wcnt after − before]
"""

from functools import lru_cache
from typing import cast

from cbor2 import CBOREncodeError, CBORError, dumps, loads

from ledger.entry import VERSION, Counters, Entry, Fare, Flags, Kind, Medium, Outcome, Place, Versions, When
from ledger.errors import MalformedEntry

MAX_BYTES = 1024
_MAX_NUMBER = 2**63 - 1
_DEPTH = 4
_HEAD_TYPES = [int, int, int, int, int, int, str, str]
_WHEN_TYPES: list[type] = [int] * 4
_PLACE_TYPES = [str, str, int, str, str, str, str, int]
_FARE_TYPES: list[type] = [int] * 5
_VERSIONS_TYPES = [bytes, bytes, bytes, str, int, int]
_MEDIUM_TYPES = [bytes, int, int, bytes, list, list]
_COUNTERS_TYPES = [int, int, bytes, int]
_RIDER_BYTES = 8
_REGC_BYTES = 8
_U32 = 2**32 - 1
_U24 = 2**24 - 1

_KINDS = {int(kind): kind for kind in Kind}
_OUTCOMES = {int(outcome): outcome for outcome in Outcome}
_ALL_FLAGS = sum(int(flag) for flag in Flags)
_FLAGS = {number: Flags(number) for number in range(_ALL_FLAGS + 1)}


def encode(entry: Entry) -> bytes:
    """The bytes of ``entry``. An entry that could not be read back is refused: ``MalformedEntry`` names the field."""
    try:
        data = dumps(_parts(entry))
    except (CBOREncodeError, TypeError, ValueError) as error:
        raise MalformedEntry("entry", "holds a value that is neither number, bytes nor text") from error
    if decode(data, device=entry.device, epoch=entry.epoch) != entry:
        raise MalformedEntry("entry", "does not read back as it was; a field has the wrong type")
    return data


def decode(data: bytes, *, device: int, epoch: int) -> Entry:
    """The entry that ``data`` holds, of the ledger (``device``, ``epoch``). Raises ``MalformedEntry``; never anything else."""
    if len(data) > MAX_BYTES:
        raise MalformedEntry("entry", f"is {len(data)} bytes long; no entry has more than {MAX_BYTES}")
    head, when, place, fare, versions, medium = _sections(_strict(data))
    _, seq, kind, flags, outcome, ref, row, reason = head
    if not (0 <= seq <= _MAX_NUMBER and 0 <= ref <= _MAX_NUMBER):
        raise MalformedEntry("seq", "is out of range")
    if kind not in _KINDS:
        raise MalformedEntry("kind", f"is {kind}, which this version does not know")
    if flags not in _FLAGS or outcome not in _OUTCOMES:
        raise MalformedEntry("flags", "or outcome has a value that this version does not know")
    return Entry(
        _KINDS[kind],
        When(*when),
        _place(*place),
        _medium(medium) if medium else None,
        Fare(*fare),
        _versions(*versions),
        _FLAGS[flags],
        _OUTCOMES[outcome],
        ref,
        row,
        reason,
        device,
        epoch,
        seq,
    )


def _parts(entry: Entry) -> list[object]:
    when, place, fare, versions = entry.when, entry.place, entry.fare, entry.versions
    return [
        VERSION,
        entry.seq,
        int(entry.kind),
        int(entry.flags),
        int(entry.outcome),
        entry.ref,
        entry.row,
        entry.reason,
        [int(when.boot), int(when.mono_ms), int(when.utc_ms), int(when.clock)],
        [
            place.operator,
            place.vehicle,
            place.shift,
            place.route,
            place.trip,
            place.boarding,
            place.alighting,
            place.service_day,
        ],
        [fare.nominal, fare.points, fare.cash, fare.adults, fare.children],
        [versions.table, versions.scheme, versions.operator, versions.software, versions.card_key, versions.rider_key],
        _medium_parts(entry.medium) if entry.medium else [],
    ]


def _medium_parts(medium: Medium) -> list[object]:
    before, after = medium.before, medium.after
    if before is None and after is not None:
        raise MalformedEntry("medium", "says what was written but not what was read")
    return [
        medium.rider,
        medium.granted,
        medium.grant_number,
        medium.grant,
        [before.rega, before.regb, before.regc, before.wcnt] if before else [],
        _change(before, after) if before and after else [],
    ]


def _change(before: Counters, after: Counters) -> list[object]:
    regc = b"" if after.regc == before.regc else after.regc
    return [before.rega - after.rega, before.regb - after.regb, regc, after.wcnt - before.wcnt]


def _strict(data: bytes) -> list[object]:
    try:
        parts = cast("object", loads(data, max_depth=_DEPTH))
        again = dumps(parts)
    except (CBORError, ValueError, TypeError, OverflowError) as error:
        raise MalformedEntry("entry", "is not CBOR as an entry uses it") from error
    if again != data:
        raise MalformedEntry("entry", "is CBOR, but not in its one deterministic form")
    if type(parts) is not list or not parts:
        raise MalformedEntry("entry", "is not an array")
    fields = cast("list[object]", parts)
    if type(fields[0]) is not int or fields[0] != VERSION:
        raise MalformedEntry("version", f"is not {VERSION}, the only one this software knows; read it with a newer one")
    return fields


_Head = tuple[int, int, int, int, int, int, str, str]
_When = tuple[int, int, int, int]
_Place = tuple[str, str, int, str, str, str, str, int]
_Fare = tuple[int, int, int, int, int]
_Versions = tuple[bytes, bytes, bytes, str, int, int]
_Medium = tuple[bytes, int, int, bytes, list[object], list[object]]
_Sections = tuple[_Head, _When, _Place, _Fare, _Versions, "_Medium | None"]


def _sections(parts: list[object]) -> _Sections:
    if len(parts) != 13:
        raise MalformedEntry("entry", f"has {len(parts)} fields, version {VERSION} has 13")
    *head, when, place, fare, versions, medium = parts
    if [*map(type, head)] != _HEAD_TYPES:
        raise MalformedEntry("head", "has a field of the wrong type")
    when = _array(when, _WHEN_TYPES, "when")
    fare = _array(fare, _FARE_TYPES, "fare")
    _numbers(when, "when")
    _numbers(fare, "fare")
    place = _array(place, _PLACE_TYPES, "place")
    versions = _array(versions, _VERSIONS_TYPES, "versions")
    return cast("_Sections", (head, when, place, fare, versions, None if medium == [] else _array(medium, _MEDIUM_TYPES, "medium")))


def _array(value: object, types: list[type], field: str) -> list[object]:
    if type(value) is not list:
        raise MalformedEntry(field, "is not an array")
    items = cast("list[object]", value)
    if [*map(type, items)] != types:
        raise MalformedEntry(field, f"does not have the {len(types)} values of version {VERSION}, or one has the wrong type")
    return items


def _numbers(values: list[object], field: str) -> None:
    numbers = cast("list[int]", values)
    if min(numbers) < 0 or max(numbers) > _MAX_NUMBER:
        raise MalformedEntry(field, "has a number out of range")


@lru_cache(maxsize=256)
def _place(*parts: str | int) -> Place:
    place = Place(*cast("_Place", parts))
    if not (0 <= place.shift <= _MAX_NUMBER and 0 <= place.service_day <= _MAX_NUMBER):
        raise MalformedEntry("place", "has a number out of range")
    return place


@lru_cache(maxsize=64)
def _versions(*parts: bytes | str | int) -> Versions:
    versions = Versions(*cast("_Versions", parts))
    if not (0 <= versions.card_key <= _MAX_NUMBER and 0 <= versions.rider_key <= _MAX_NUMBER):
        raise MalformedEntry("versions", "has a number out of range")
    return versions


def _medium(parts: _Medium) -> Medium:
    rider, granted, number, grant, before_parts, change_parts = parts
    if len(rider) != _RIDER_BYTES:
        raise MalformedEntry("rider", f"is not {_RIDER_BYTES} bytes")
    if not (0 <= granted <= _MAX_NUMBER and 0 <= number <= _MAX_NUMBER):
        raise MalformedEntry("granted", "is out of range")
    before = _counters(before_parts) if before_parts else None
    if not change_parts:
        return Medium(rider, granted, number, grant, before, None)
    if before is None:
        raise MalformedEntry("medium", "says what was written but not what was read")
    return Medium(rider, granted, number, grant, before, _changed(before, change_parts))


def _counters(parts: list[object]) -> Counters:
    if [*map(type, parts)] != _COUNTERS_TYPES:
        raise MalformedEntry("counters", "do not have their four values, or one has the wrong type")
    return _checked(*cast("tuple[int, int, bytes, int]", parts))


def _changed(before: Counters, parts: list[object]) -> Counters:
    if [*map(type, parts)] != _COUNTERS_TYPES:
        raise MalformedEntry("change", "does not have its four values, or one has the wrong type")
    rega, regb, regc, wcnt = cast("tuple[int, int, bytes, int]", tuple(parts))
    if regc == before.regc:
        raise MalformedEntry("change", "writes out what did not change")
    return _checked(before.rega - rega, before.regb - regb, regc or before.regc, before.wcnt + wcnt)


def _checked(rega: int, regb: int, regc: bytes, wcnt: int) -> Counters:
    if not (0 <= rega <= _U32 and 0 <= regb <= _U32 and 0 <= wcnt <= _U24) or len(regc) != _REGC_BYTES:
        raise MalformedEntry("counters", "have a value that no purse can hold")
    return Counters(rega, regb, regc, wcnt)
