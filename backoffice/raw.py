"""A month's bill once more, from nothing but the sealed batches as they came (pure).

Whoever doubts the books can have the same yen by another road. This file shares no code with the booking: it reads seals and entries with
``ledger`` and does everything else again, in the most direct way there is, without postings, accounts, judgements or aggregates: all
entries into memory, then one sum. It is slower and it knows less (no lines, no alarms). That is the point: where the two differ, one of
them is wrong, and this one can be read in ten minutes.

The signatures were checked when the batches came; who wants to check them again gives ``trusted``, which is asked for each batch.
"""

from bisect import bisect_right
from calendar import monthrange
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo
from itertools import islice
from typing import NamedTuple

from ledger import batch as batches
from ledger import seal
from ledger.entry import Counters, Entry, Flags, Kind, Outcome

_MOST = 2**31 - 1
_LAST_MS = 32_503_679_999_999  # the end of the year 2999
_NETWORK, _SATELLITES, _BATTERY, _CARRIED = 4, 3, 2, 1
_SET_ONCE_MS = 1_500_000_000_000
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Rules:
    """As the bill's terms: local hours, days until final, yen per point, and when an operator's day begins."""

    zone: tzinfo
    provisional_at: time
    final_after_days: int
    yen_per_point: Callable[[date], int]
    day_starts: time = time.min


@dataclass(frozen=True, slots=True)
class Sum:
    """What the month comes to."""

    rides: int
    points: int
    yen: int


class _Came(NamedTuple):
    at_ms: int
    entry: Entry


def recompute(
    sealed: Iterable[tuple[int, bytes]],
    operator: str,
    month: tuple[int, int],
    rules: Rules,
    as_of_ms: int,
    *,
    trusted: Callable[[seal.Sealed], None] | None = None,
    forgotten: Callable[[int, int, int], bool] | None = None,
) -> Sum:
    """The sum of the bill of ``operator`` for ``month`` (year, month). ``sealed``: (received Unix ms, the message) of every batch.
    ``forgotten``: whether the city let go of an entry (device, epoch, seq) by its age; a batch may still hold it beside younger ones.

    Raises ``ledger.errors.MalformedSeal`` and ``MalformedBatch`` for what no city can have accepted, and what ``trusted`` raises.
    """
    came = _read(((at_ms, data) for at_ms, data in sealed if at_ms <= as_of_ms), trusted)
    if forgotten is not None:
        came = [each for each in came if not forgotten(each.entry.device, each.entry.epoch, each.entry.seq)]
    days = _days(came, rules)
    rides = points = yen = 0
    for day, at_ms, sign, some_points, some_yen in _sums(came, days, operator, rules):
        shown = _morning(day, rules) <= as_of_ms
        if shown and at_ms <= as_of_ms and _bill_of(day, at_ms, rules) == month:
            rides, points, yen = rides + sign, points + sign * some_points, yen + sign * some_yen
    return Sum(rides, points, yen)


def _read(sealed: Iterable[tuple[int, bytes]], trusted: Callable[[seal.Sealed], None] | None) -> list[_Came]:
    """Each entry once, as it first came."""
    found: dict[tuple[int, int, int], _Came] = {}
    for at_ms, data in sorted(sealed, key=lambda each: each[0]):
        message = seal.parse(data, seal.Content.BATCH, batches.MAX_SEALED)
        if trusted is not None:
            trusted(message)
        for _, _, entry in batches.opened(batches.unpack(message.payload)):
            if isinstance(entry, Entry) and _is_possible(entry):
                found.setdefault((entry.device, entry.epoch, entry.seq), _Came(at_ms, entry))
    return sorted(found.values(), key=lambda came: (came.at_ms, came.entry.device, came.entry.epoch, came.entry.seq))


def _is_possible(entry: Entry) -> bool:
    """Neither a number nor a time is one that cannot be, and each text is text; the city set other entries aside."""
    when, fare, place, versions = entry.when, entry.fare, entry.place, entry.versions
    times = (when.mono_ms, when.utc_ms, place.service_day * _DAY_MS)
    amounts = (fare.nominal, fare.points, fare.cash, fare.adults, fare.children, versions.card_key, versions.rider_key, when.clock)
    texts = [place.operator, place.vehicle, place.route, place.trip, place.boarding, place.alighting]
    texts += [versions.software, entry.row, entry.reason]
    return max(times) <= _LAST_MS and max(amounts) <= _MOST and not any("\0" in text for text in texts)


# --- what is owed -------------------------------------------------------------------------------------------------------------------------


def _sums(
    came: list[_Came], days: dict[tuple[int, int, int], tuple[int, int]], operator: str, rules: Rules
) -> Iterator[tuple[int, int, int, int, int]]:
    """(day, when known, +1 or −1, points, yen) of everything that was ever added or taken back."""
    by_rider: dict[bytes, list[_Came]] = defaultdict(list)
    for each in came:
        medium = each.entry.medium
        if medium is not None and not each.entry.flags & Flags.PRACTICE:
            by_rider[medium.rider].append(each)
    for own in by_rider.values():
        for at_ms, sign, entry in _debits(own):
            if entry.place.operator == operator:
                day, fixed_ms = days.get((entry.device, entry.epoch, entry.seq), (entry.place.service_day, 0))
                known_ms, fare = max(at_ms, fixed_ms), entry.fare
                if fare.points:
                    yield day, known_ms, sign, fare.points, fare.points * rules.yen_per_point(_date(day))
                elif fare.nominal > fare.cash:
                    yield day, known_ms, sign, 0, fare.nominal - fare.cash


def _debits(own: list[_Came]) -> Iterator[tuple[int, int, Entry]]:
    """(when, +1 or −1, entry) for one rider, in order of arrival."""
    told = [each for each in own if each.entry.kind is Kind.PAID or (each.entry.kind is Kind.RESOLVED and each.entry.outcome)]
    found_paid: list[Entry] = []
    for at, (at_ms, entry) in enumerate(own):
        before = own[:at]
        match entry.kind:
            case Kind.FREE:
                yield at_ms, 1, entry
            case Kind.PAID:
                # Only a vehicle whose image was restored can have found this paid before, in its new epoch; then it is booked.
                if not any(_one_debit(word, entry) for word in found_paid):
                    yield at_ms, 1, entry
            case Kind.RESOLVED if entry.outcome is Outcome.PAID:
                # A second word on the same debit is booked and taken back at once: it comes to nothing.
                if not any(_one_debit(each.entry, entry) for each in before if each in told):
                    found_paid.append(entry)
                    yield at_ms, 1, entry
            case Kind.UNKNOWN if not any(each.entry.kind is Kind.UNKNOWN and _one_debit(each.entry, entry) for each in before):
                proof, words = _proof(at_ms, entry, own), [each for each in told if _one_debit(each.entry, entry)]
                if proof and not any(each.at_ms <= proof for each in words):
                    yield proof, 1, entry
                    said_paid = (each.at_ms for each in words if each.entry.outcome is not Outcome.UNPAID)
                    yield from ((back_ms, -1, entry) for back_ms in islice(said_paid, 1))
            case _:
                pass


def _one_debit(some: Entry, other: Entry) -> bool:
    """Both are about the same debit: the register before and after it is the same, or one names the other, or both name a third."""
    some_register, other_register = _registers(some), _registers(other)
    if some_register and some_register == other_register:
        return True
    return None is not _named(some) == _named(other)


def _named(entry: Entry) -> tuple[int, int, int] | None:
    """Which UNKNOWN this is or settles."""
    seq = {Kind.UNKNOWN: entry.seq, Kind.RESOLVED: entry.ref}.get(entry.kind)
    return None if seq is None else (entry.device, entry.epoch, seq)


def _registers(entry: Entry) -> bytes:
    medium = entry.medium
    return medium.before.reg_block() + medium.after.reg_block() if medium and medium.before and medium.after else b""


def _proof(at_ms: int, unknown: Entry, own: list[_Came]) -> int:
    """Since when a card was seen with our debit on it, and with nothing against it before; 0 for never."""
    medium = unknown.medium
    if medium is None or medium.before is None or medium.after is None:
        return 0
    start, ours = medium.before, medium.after.reg_block()
    for_it: list[int] = []
    against: list[int] = []
    for seen_ms, entry in own:
        for counters in _shown(entry):
            if counters.reg_block() == ours:
                for_it.append(seen_ms)
            elif counters.regb == start.regb - 1 or _unmoved(counters, start, unknown, entry):
                against.append(seen_ms)
    if not for_it:
        return 0
    proof = max(at_ms, min(for_it))
    return proof if not against or max(at_ms, min(against)) >= proof else 0


def _unmoved(counters: Counters, start: Counters, unknown: Entry, entry: Entry) -> bool:
    """The card stood as before the debit, and that was certainly later."""
    below = (entry.device, entry.epoch) == (unknown.device, unknown.epoch) and entry.seq > unknown.seq
    return counters.reg_block() == start.reg_block() and (counters.wcnt > start.wcnt or (below and counters.wcnt == start.wcnt))


def _shown(entry: Entry) -> Iterator[Counters]:
    medium = entry.medium
    if medium is None or medium.before is None:
        return
    if entry.kind is not Kind.RESOLVED:
        yield medium.before
    if medium.after is None:
        return
    if entry.kind is Kind.PAID:
        yield medium.after
    elif entry.kind is Kind.RESOLVED and entry.outcome is Outcome.PAID:
        # The register was seen so; its write counter is only what it would have been, and a torn write may not have counted.
        yield replace(medium.after, wcnt=medium.before.wcnt)


# --- which month --------------------------------------------------------------------------------------------------------------------------


def _date(day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=day)


def _morning(day: int, rules: Rules) -> float:
    return datetime.combine(_date(day + 1), rules.provisional_at, rules.zone).timestamp() * 1000


def _bill_of(day: int, at_ms: int, rules: Rules) -> tuple[int, int]:
    """The first month, from that of the day on, whose bill was still open."""
    ridden = _date(day)
    year, month = ridden.year, ridden.month
    while True:
        last = date(year, month, monthrange(year, month)[1]) + timedelta(days=rules.final_after_days)
        if at_ms < _morning((last - date(1970, 1, 1)).days, rules):
            return year, month
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def _days(came: list[_Came], rules: Rules) -> dict[tuple[int, int, int], tuple[int, int]]:
    """The service days of entries whose vehicle did not know the day, from what came within a day after them, and when that was."""
    ledgers: dict[tuple[int, int], list[_Came]] = defaultdict(list)
    for each in came:
        ledgers[each.entry.device, each.entry.epoch].append(each)
    found: dict[tuple[int, int, int], tuple[int, int]] = {}
    for (device, epoch), own in ledgers.items():
        own.sort(key=lambda each: each.entry.seq)
        for came_ms in {each.at_ms for each in own if not each.entry.place.service_day}:
            fixed_ms = came_ms + _DAY_MS
            told = dict(_undated([each for each in own if each.at_ms <= fixed_ms], rules))
            mine = (each.entry.seq for each in own if each.at_ms == came_ms and not each.entry.place.service_day)
            found.update(((device, epoch, seq), (told[seq], fixed_ms)) for seq in mine)
    return found


def _undated(own: list[_Came], rules: Rules) -> Iterator[tuple[int, int]]:
    boots: dict[int, list[_Came]] = defaultdict(list)
    for each in own:
        if each.entry.when.boot:
            boots[each.entry.when.boot].append(each)
        elif not each.entry.place.service_day:  # a start without a number: no other entry can say anything about it
            (ms,) = _times([each], _offsets([each], {_NETWORK, _SATELLITES}, 0), 0, None)
            yield each.entry.seq, _local_day(ms, rules)
    sure = {boot: _offsets(entries, {_NETWORK, _SATELLITES}, 0) for boot, entries in boots.items()}
    known = sorted(
        (boot, each.entry.when.mono_ms + _nearest(sure[boot], each.entry.when.mono_ms))
        for boot, entries in boots.items()
        if sure[boot]
        for each in entries
    )
    for boot, entries in boots.items():
        before = max((ms for other, ms in known if other < boot), default=0)
        after = min((ms for other, ms in known if other > boot), default=None)
        times = _times(entries, sure[boot], before, after)
        for each, ms in zip(entries, times, strict=True):
            if not each.entry.place.service_day:
                yield each.entry.seq, _local_day(ms, rules)


def _times(entries: list[_Came], sure: list[tuple[int, int]], before: int, after: int | None) -> list[int]:
    """When each was, or the earliest that it can have been."""
    monos = [each.entry.when.mono_ms for each in entries]
    if sure:
        return [mono + _nearest(sure, mono) for mono in monos]
    arrival = min(each.at_ms - each.entry.when.mono_ms for each in entries)
    carried = [each.entry.when.utc_ms - each.entry.when.mono_ms for each in entries if each.entry.when.clock == _CARRIED]
    floor = max([before - min(monos), *carried])
    ceiling = arrival if after is None else min(arrival, after - max(monos))
    battery = _offsets(entries, {_BATTERY}, _SET_ONCE_MS)
    if battery:
        told = [mono + _nearest(battery, mono) for mono in monos]
        if all(min(floor, ceiling) + mono <= ms <= ceiling + mono for mono, ms in zip(monos, told, strict=True)):
            return told
    return [min(floor, ceiling) + mono for mono in monos]


def _offsets(entries: list[_Came], clocks: set[int], least_ms: int) -> list[tuple[int, int]]:
    whens = [each.entry.when for each in entries]
    return sorted((when.mono_ms, when.utc_ms - when.mono_ms) for when in whens if when.clock in clocks and when.utc_ms >= least_ms)


def _nearest(offsets: list[tuple[int, int]], mono_ms: int) -> int:
    at = bisect_right([mono for mono, _ in offsets], mono_ms)
    around = offsets[max(0, at - 1) : at + 1]
    return min(around, key=lambda pair: abs(pair[0] - mono_ms))[1]


def _local_day(ms: int, rules: Rules) -> int:
    local = datetime.fromtimestamp(ms / 1000, rules.zone)
    day = (local.date() - date(1970, 1, 1)).days
    return day - 1 if local.time() < rules.day_starts else day
