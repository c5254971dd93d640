"""Packages on a terminal's disk: staged, judged, swapped whole, and the old one kept.

One folder a kind, in each at most four files; every one of them is the city's sealed message, so its signature is checked again whenever it
is read, and a file that rotted on the disk is never in force::

    packages/fare-table/current     in force
                        previous    what was in force before
                        next        accepted; waits for its day
                        held        too big a change; waits for a person (``held.why`` says what is big)
    packages/alarms/                what the station has still to write into its ledger

``stage`` takes what came over the network or from a stick. In this order it asks: is it signed by the city, whole, and of a version above
the one here? Does its file parse, and is it in force when it says? Is the change believable (``validator.bounds``)? The first no decides,
and the old stays in force: nothing that is refused or held touches it. A person's word ends the waiting of what is held: a clerk signs it
again as released (``kazashi publish release``), or somebody at the terminal says ``kazashi packages accept``.

``enter`` is called when a station starts and between two trips (``validator.rulebook``), so a trip is priced by one table from its first
stop to its last: what is due becomes current, in two steps either of which the power may cut. First current is copied to previous, then
next is renamed to current. At any moment one whole file is current.

Only the station writes the ledger. What it must know of (a half table, a bad signature, something held) is therefore left beside as an
alarm, which the station takes in, at its start or between two trips, and then removes.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import partial
from pathlib import Path

from fares import scheme
from fares.faults import Unusable
from fares.fields import parse as parse_fields
from fares.table import FareTable
from ledger import package, seal
from ledger.beside import replace_file
from ledger.errors import MalformedSeal
from ledger.package import MalformedPackage, Package, PackageKind
from validator import bounds, feedback, lists
from validator.lists import NOBODY, DenyList
from validator.rulebook import Noted

CURRENT, PREVIOUS, NEXT, HELD, WHY, ALARMS = "current", "previous", "next", "held", "held.why", "alarms"
MOST_DAYS_AHEAD = 400
MOST_ALARMS = 100


class Alarm(StrEnum):
    """What an ALARM entry says of a package: its ``reason``, a colon and the kind, where that is known, follow."""

    BROKEN = "package-broken"  # not whole, or no package
    FOREIGN = "package-foreign"  # not signed by the city
    UNUSABLE = "package-unusable"  # signed, whole, and its file says nothing or nothing for that day
    HELD = "package-held"
    DAMAGED = "package-damaged"  # what was in force cannot be read any more


@dataclass(frozen=True, slots=True)
class Staged:
    """It will be in force, from its day on, when next no trip is open."""

    package: Package


@dataclass(frozen=True, slots=True)
class Held:
    """It is good but for the size of the change, and waits for a person. ``doubts``: one clause each."""

    package: Package
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """It was thrown away. ``why``: a sentence. ``alarm`` None: nothing is wrong, it is merely known already or older."""

    why: str
    alarm: Alarm | None = None


Verdict = Staged | Held | Refused


@dataclass(frozen=True, slots=True)
class CityKey:
    """A public key of the city (``drivers.signer`` says in what form)."""

    algorithm: seal.Algorithm
    public: bytes


@dataclass(frozen=True, slots=True)
class Judge:
    """By what a terminal judges packages.

    ``today``: the service day, None while the clock is unset. ``rider_key``: the version a deny list must be made with. ``table``: the fare
    table in force when no package is. ``denied``: likewise the deny list. ``recent``: who rode here in the last days. ``routes``: which
    this vehicle drives; a table without one of them is of no use here.
    """

    keys: Sequence[CityKey]
    checker: seal.Checker
    today: date | None
    rider_key: int
    table: Callable[[], FareTable | None] = lambda: None
    denied: Callable[[], DenyList] = lambda: NOBODY
    recent: Callable[[], AbstractSet[bytes]] = frozenset
    routes: Sequence[str] = ()


class _Doubtful(Exception):
    """Not good; ``refused`` says how."""

    def __init__(self, why: str, alarm: Alarm | None) -> None:
        super().__init__(why)
        self.refused = Refused(why, alarm)


# ── what comes ──


def stage(folder: Path, sealed: bytes, judge: Judge) -> Verdict:
    """Judge a package and lay it where it belongs, durably. Raises ``OSError`` when the disk fails; the old is then in force as before."""
    kind = ""
    try:
        found = _opened(sealed, judge)
        kind = found.kind.value
        place = folder / kind
        _expect_newer(place, found, judge)
        doubts = _judged(place, found, judge)
    except _Doubtful as doubtful:
        refused = doubtful.refused
        if refused.alarm is not None:
            _alarm(folder, refused.alarm, kind, sealed)
        return refused
    place.mkdir(parents=True, exist_ok=True)
    if doubts and not found.released:
        _hold(place, sealed, doubts)
        _alarm(folder, Alarm.HELD, kind, sealed)
        return Held(found, tuple(doubts))
    replace_file(place / NEXT, sealed)
    _drop_held(place, found, judge)
    return Staged(found)


def _opened(sealed: bytes, judge: Judge) -> Package:
    try:
        message = seal.parse(sealed, seal.Content.PACKAGE, package.MAX_SEALED)
    except MalformedSeal as error:
        raise _Doubtful(f"{error} The package did not arrive whole, or is none; send it again.", Alarm.BROKEN) from error
    known = (key for key in judge.keys if seal.key_id(key.public) == message.kid and key.algorithm is message.algorithm)
    key = next(known, None)
    if key is None:
        raise _Doubtful("The package is signed by nobody whom this terminal knows as its city.", Alarm.FOREIGN)
    try:
        seal.check(message, judge.checker, key.public)
    except seal.BadSignature as error:
        raise _Doubtful(
            "The city's signature does not fit the package: it was damaged or changed on its way; send it again.", Alarm.FOREIGN
        ) from error
    try:
        return package.decode(message.payload)
    except MalformedPackage as error:
        raise _Doubtful(str(error), Alarm.BROKEN) from error


def _expect_newer(place: Path, found: Package, judge: Judge) -> None:
    """A version counts once. Only a person's word, said over the very package that is held, may come under its number again."""
    for name in (CURRENT, NEXT, HELD):
        have = read(place / name, judge)
        if have is None or found.version > have.version:
            continue
        same = (have.version, have.digest) == (found.version, found.digest)
        if same and name == HELD and found.released:
            continue
        if same:
            raise _Doubtful(f"This terminal has {found.kind} {found.version} already.", None)
        raise _Doubtful(
            f"{found.kind} {found.version} is not above {have.version}, which this terminal has; give it a higher version.", None
        )


def _judged(place: Path, found: Package, judge: Judge) -> list[str]:
    """What is too big about it; raises ``_Doubtful`` when it is no good at all."""
    if judge.today is not None and (found.valid_from - judge.today).days > MOST_DAYS_AHEAD:
        raise _Doubtful(
            f"{found.kind} {found.version} is valid from {found.valid_from}, more than {MOST_DAYS_AHEAD} days from now.", Alarm.UNUSABLE
        )
    try:
        new = _usable(found, judge)
    except Unusable as unusable:
        raise _Doubtful(f"The file of {found.kind} {found.version} cannot be used: {unusable.faults[0]}", Alarm.UNUSABLE) from unusable
    have = _latest(place, judge)
    match new:
        case FareTable():
            old = parsed(have, judge.rider_key) if have else judge.table()
            return bounds.doubts_of_fares(old, new) if isinstance(old, FareTable) else []
        case DenyList():
            return bounds.doubts_of_list(_list_before(have, judge), new, judge.recent())
        case _:
            return []


def _list_before(have: Package | None, judge: Judge) -> DenyList:
    if have is None:
        return judge.denied()
    with suppress(Unusable):  # made with an earlier rider key: then it blocks nobody
        old = parsed(have, judge.rider_key)
        return old if isinstance(old, DenyList) else NOBODY
    return NOBODY


def _usable(found: Package, judge: Judge) -> object:
    """What the file says, when this terminal can work with it; ``Unusable`` when not."""
    new = parsed(found, judge.rider_key)
    if isinstance(new, FareTable):
        lacking = [route for route in judge.routes if not new.has_route(route)]
        if lacking:
            raise Unusable([f"it has no route '{lacking[0]}', which this vehicle drives; compile the feed that has it."])
    return new


def must_wait(folder: Path, sealed: bytes, judge: Judge) -> bool:
    """Whether a package of its kind is still to come into force before this one, whose place it would take."""
    try:
        found = _opened(sealed, judge)
    except _Doubtful:
        return False
    following = read(folder / found.kind / NEXT, judge)
    return following is not None and following.version < found.version and following.valid_from < found.valid_from


def parsed(found: Package, rider_key: int) -> object:
    """What the file says, in its own type; ``Unusable`` when it says nothing, or nothing for the day from which it is to be in force."""
    try:
        return _PARSERS[found.kind](found, rider_key)
    except (lists.BadList, feedback.WordbookError) as error:
        raise Unusable(str(error).splitlines()) from error
    except UnicodeDecodeError:
        raise Unusable([f"{found}: is not UTF-8; save it as UTF-8."]) from None


def _table(found: Package, _rider_key: int) -> FareTable:
    table = FareTable.unpack(found.file, str(found))
    if not table.valid(found.valid_from):
        days = f"{table.first_day} to {table.last_day}"
        raise Unusable([f"it is in force from {days} and the package says from {found.valid_from}; compile the feed of that day."])
    return table


def _scheme(found: Package, _rider_key: int) -> scheme.Scheme:
    rules = scheme.parse(found.file, str(found))
    if rules.version(found.valid_from) is None:
        raise Unusable([f"none of its versions is in force on {found.valid_from}; add one."])
    return rules


def _denied(found: Package, rider_key: int) -> DenyList:
    return lists.parse(found.file.decode(), str(found), rider_key)


def _words(found: Package, _rider_key: int) -> feedback.Wordbook:
    return feedback.parse(found.file.decode(), str(found))


def _unread(found: Package, _rider_key: int) -> bytes:
    """Entitlements and signed grants: no tap reads them (``docs/packages.md`` says from when on), so only ``format`` is looked at."""
    source = parse_fields(found.file, str(found))
    source.root.number("format", least=1, most=1)
    if source.root.faults:
        raise Unusable(source.root.faults)
    return found.file


_PARSERS: Mapping[PackageKind, Callable[[Package, int], object]] = {
    PackageKind.FARE_TABLE: _table,
    PackageKind.SCHEME: _scheme,
    PackageKind.DENY_LIST: _denied,
    PackageKind.ENTITLEMENTS: _unread,
    PackageKind.GRANTS: _unread,
    PackageKind.WORDS: _words,
}


# ── a person's word ──


def waiting(folder: Path, judge: Judge) -> list[Held]:
    """What waits for a person."""
    found: list[Held] = []
    for kind in PackageKind:
        held = read(folder / kind / HELD, judge)
        if held is not None:
            found.append(Held(held, _why(folder / kind)))
    return found


def accept(folder: Path, kind: PackageKind, judge: Judge) -> Package | None:
    """Let the held package of ``kind`` become the next; None when there is none."""
    place = folder / kind
    held = read(place / HELD, judge)
    if held is not None:
        (place / HELD).replace(place / NEXT)
        (place / WHY).unlink(missing_ok=True)
        _sync(place)
    return held


def reject(folder: Path, kind: PackageKind, judge: Judge) -> Package | None:
    """Throw the held package of ``kind`` away; None when there is none. The city may send the same again, and it will be held again."""
    place = folder / kind
    held = read(place / HELD, judge)
    (place / HELD).unlink(missing_ok=True)
    (place / WHY).unlink(missing_ok=True)
    if place.exists():
        _sync(place)
    return held


# ── what is in force ──


def enter(folder: Path, judge: Judge) -> dict[PackageKind, Package]:
    """Bring into force what is due, and say what is, by kind; a kind that is not there is in force as the configuration names it.

    Raises ``OSError`` when the disk fails.
    """
    found: dict[PackageKind, Package] = {}
    for kind in PackageKind:
        place = folder / kind
        if not place.is_dir():
            continue
        _swap(place, judge)
        best = next((one for name in (CURRENT, PREVIOUS) if (one := _sound(place / name, judge)) is not None), None)
        if best is not None:
            found[kind] = best
        if (place / CURRENT).exists() and _sound(place / CURRENT, judge) is None:
            _alarm(folder, Alarm.DAMAGED, kind, (place / CURRENT).read_bytes())
    return found


def _sound(path: Path, judge: Judge) -> Package | None:
    """The package in a file, when this software can still use it."""
    found = read(path, judge)
    if found is None:
        return None
    try:
        _usable(found, judge)
    except Unusable:
        return None
    return found


def read(path: Path, judge: Judge) -> Package | None:
    """The package in a file; None when there is none, or none that the city signed."""
    with suppress(FileNotFoundError, _Doubtful):
        return _opened(path.read_bytes(), judge)
    return None


def _swap(place: Path, judge: Judge) -> None:
    following = _sound(place / NEXT, judge)
    if following is None or judge.today is None or judge.today < following.valid_from:
        return
    if _sound(place / CURRENT, judge) is not None:  # a damaged one must not take the place of the last good one
        replace_file(place / PREVIOUS, (place / CURRENT).read_bytes())
    (place / NEXT).replace(place / CURRENT)
    _sync(place)


def _latest(place: Path, judge: Judge) -> Package | None:
    """What ``found`` would follow: what waits for its day, else what is in force."""
    return read(place / NEXT, judge) or read(place / CURRENT, judge)


# ── alarms ──


def alarms(folder: Path) -> list[Noted]:
    """What the station has still to write down."""
    place = folder / ALARMS
    files = sorted(place.iterdir()) if place.is_dir() else []
    reasons = {f"{alarm}:{kind}" if kind else str(alarm) for alarm in Alarm for kind in ("", *PackageKind)}
    found = [(file, file.read_text(encoding="utf-8", errors="replace")) for file in files if not file.name.endswith(".new")]
    return [Noted(reason if reason in reasons else str(Alarm.BROKEN), partial(file.unlink, missing_ok=True)) for file, reason in found]


def _alarm(folder: Path, alarm: Alarm, kind: str, sealed: bytes) -> None:
    """The same bytes raise one alarm, however often they come, and nobody can fill the disk with them."""
    place = folder / ALARMS
    place.mkdir(parents=True, exist_ok=True)
    name = f"{alarm}-{hashlib.sha256(sealed).hexdigest()[:16]}"
    if len(list(place.iterdir())) < MOST_ALARMS:
        replace_file(place / name, (f"{alarm}:{kind}" if kind else str(alarm)).encode())


# ── files ──


def _hold(place: Path, sealed: bytes, doubts: Sequence[str]) -> None:
    replace_file(place / WHY, "\n".join(doubts).encode())
    replace_file(place / HELD, sealed)


def _why(place: Path) -> tuple[str, ...]:
    with suppress(FileNotFoundError):
        return tuple((place / WHY).read_text(encoding="utf-8", errors="replace").splitlines())
    return ()


def _drop_held(place: Path, newer: Package, judge: Judge) -> None:
    held = read(place / HELD, judge)
    if held is not None and held.version <= newer.version:
        (place / HELD).unlink()
        (place / WHY).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
