"""When things happened, put right after the fact, one boot of a terminal at a time (pure).

A terminal that starts in a garage without sky or network does not know what time it is; a moment later it may. But it always knows how long
it has been running. So within one boot one good pair of the two clocks tells all the others, and the wall clock is written anew from (boot,
mono_ms). Nothing in the ledger changes; this is the city's reading of it.

- **Good pairs** come from GNSS or NTP; the nearest in running time counts, because oscillators drift. Without one, a battery clock (RTC) is
  taken, if what the boots around it say does not forbid it; a battery clock that says a year before this kind of card existed is no clock.
- **No pair at all**: the boot lies between the last thing known before it and the first thing known after it, because boots are numbered;
  inside it things keep their distances. Both bounds are given and the entry is marked. What was still in the future when the city received
  it is not possible either, so the arrival is a bound too. A time that was carried over a power cut (CARRIED) is a lower bound.
- **The service day was decided and signed on the vehicle and never changes**, whatever the wall clock turns out to have been: the ride was
  priced by it, and a bill must not move days about. One exception: a terminal whose clock was unset wrote day 0, that is, it decided
  nothing. Then the day of the repaired time is used, by the operator's own beginning of the day, and the entry is named on the bill.
  Between two bounds it is the earliest possible day.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from drivers.devices.clock import ClockState
from ledger.entry import When

FIRST_POSSIBLE_MS = 1_500_000_000_000
"""Mid July 2017; a battery clock that says less was never set."""

_GOOD = frozenset({int(ClockState.GNSS), int(ClockState.NTP)})
_DECIDED_NOTHING = 0
_NO_NUMBER = 0


class Source(Enum):
    """What a repaired time rests on."""

    KNOWN = "GNSS or network in this boot"
    RTC = "the battery clock in this boot"
    BOUNDED = "what is known before and after this boot"


@dataclass(frozen=True, slots=True)
class Stamp:
    """One entry's times: its number, both clocks, the signed service day, and when the city first had it (Unix ms)."""

    seq: int
    when: When
    service_day: int
    received_ms: int


@dataclass(frozen=True, slots=True)
class Repaired:
    """When it was: between ``earliest_ms`` and ``latest_ms`` (the same when known), Unix ms. ``named``: the day is not the signed one."""

    seq: int
    earliest_ms: int
    latest_ms: int
    source: Source
    service_day: int
    named: bool


@dataclass(slots=True)
class _Boot:
    """What was written in one start of the terminal, by running time."""

    stamps: list[Stamp]
    source: Source
    anchors: list[tuple[int, int]]  # (mono_ms, utc_ms), rising


def repair(stamps: Iterable[Stamp], day_of: Callable[[int], int]) -> list[Repaired]:
    """The times of one ledger (one device, one epoch), by seq. ``day_of``: Unix ms to the operator's service day."""
    in_order = sorted(stamps, key=lambda stamp: stamp.seq)
    alone = [_boot([stamp]) for stamp in in_order if stamp.when.boot == _NO_NUMBER]
    boots = [_boot(group) for group in _by_boot([stamp for stamp in in_order if stamp.when.boot != _NO_NUMBER])]
    first_known = [_edge(boot, first=True) for boot in boots]
    last_known = [_edge(boot, first=False) for boot in boots]
    repaired = [each for boot in alone for each in _told(boot, 0, None, day_of)]
    for number, boot in enumerate(boots):
        low = max((known for known in last_known[:number] if known is not None), default=0)
        high = min((known for known in first_known[number + 1 :] if known is not None), default=None)
        repaired += _told(boot, low, high, day_of)
    return sorted(repaired, key=lambda each: each.seq)


def _by_boot(stamps: Sequence[Stamp]) -> list[list[Stamp]]:
    """By the boots' own numbers, whatever order somebody wrote them in."""
    groups: dict[int, list[Stamp]] = {}
    for stamp in stamps:
        groups.setdefault(stamp.when.boot, []).append(stamp)
    return [groups[boot] for boot in sorted(groups)]


def _boot(stamps: list[Stamp]) -> _Boot:
    good = [_pair(stamp) for stamp in stamps if stamp.when.clock in _GOOD]
    if good:
        return _Boot(stamps, Source.KNOWN, sorted(good))
    battery = [_pair(stamp) for stamp in stamps if stamp.when.clock == ClockState.RTC and stamp.when.utc_ms >= FIRST_POSSIBLE_MS]
    return _Boot(stamps, Source.RTC if battery else Source.BOUNDED, sorted(battery))


def _pair(stamp: Stamp) -> tuple[int, int]:
    return stamp.when.mono_ms, stamp.when.utc_ms


def _edge(boot: _Boot, *, first: bool) -> int | None:
    """The first or last time that is certain in a boot; a battery clock is not."""
    if boot.source is not Source.KNOWN:
        return None
    times = [_by_anchor(boot, stamp) for stamp in boot.stamps]
    return min(times) if first else max(times)


def _by_anchor(boot: _Boot, stamp: Stamp) -> int:
    """The wall clock from the nearest good pair in running time."""
    mono_ms = stamp.when.mono_ms
    at = bisect_left(boot.anchors, (mono_ms, 0))
    near = min(boot.anchors[max(0, at - 1) : at + 1], key=lambda pair: abs(pair[0] - mono_ms))
    return near[1] + mono_ms - near[0]


def _told(boot: _Boot, low: int, high: int | None, day_of: Callable[[int], int]) -> list[Repaired]:
    if boot.source is Source.KNOWN:
        return [_entry(stamp, _by_anchor(boot, stamp), _by_anchor(boot, stamp), boot.source, day_of) for stamp in boot.stamps]
    bounds = [_bounds(boot, stamp, low, high) for stamp in boot.stamps]
    if boot.source is Source.RTC:
        times = [_by_anchor(boot, stamp) for stamp in boot.stamps]
        if all(earliest <= time <= latest for time, (earliest, latest) in zip(times, bounds, strict=True)):
            return [_entry(stamp, time, time, Source.RTC, day_of) for stamp, time in zip(boot.stamps, times, strict=True)]
    return [_entry(stamp, *between, Source.BOUNDED, day_of) for stamp, between in zip(boot.stamps, bounds, strict=True)]


def _bounds(boot: _Boot, stamp: Stamp, low: int, high: int | None) -> tuple[int, int]:
    monos = [each.when.mono_ms for each in boot.stamps]
    first, last = min(monos), max(monos)
    carried = [each.when.utc_ms + stamp.when.mono_ms - each.when.mono_ms for each in boot.stamps if each.when.clock == ClockState.CARRIED]
    earliest = max(low + stamp.when.mono_ms - first, *carried) if carried else low + stamp.when.mono_ms - first
    arrival = min(each.received_ms - each.when.mono_ms for each in boot.stamps) + stamp.when.mono_ms
    latest = arrival if high is None else min(arrival, high - (last - stamp.when.mono_ms))
    return min(earliest, latest), latest


def _entry(stamp: Stamp, earliest_ms: int, latest_ms: int, source: Source, day_of: Callable[[int], int]) -> Repaired:
    undecided = stamp.service_day == _DECIDED_NOTHING
    day = day_of(earliest_ms) if undecided else stamp.service_day
    return Repaired(stamp.seq, earliest_ms, latest_ms, source, day, undecided)
