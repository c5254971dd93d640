"""Which vehicles do not live as they should: silent, frozen, with a wrong clock, with an old table (pure).

A validator that hangs takes no fares and tells nobody; the driver waves people through, and the money is gone before anyone looks. So each
heartbeat carries a self-test through the whole chain of a tap, and the city compares what a vehicle does with what it did the day before.

**Silent** is counted in hours of service: a bus that sleeps in its depot from midnight to five is not silent. **Frozen** is what still
answers and does not work: a part of the self-test is broken or was not tested, or there is contact today and no tap until now, where the
day before had many until the same hour. **Unsteady** is what its own counts say (``backoffice.counted``). **Clock**: the terminal's time
differs from ours on arrival; or it does not know the time. A revoked vehicle is nobody's concern here.

The findings are told in Japanese and English, as data beside the code (``WORDS``).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from enum import Enum

from backoffice import counted
from drivers.devices.clock import ClockState
from ledger.notes import BROKEN, NOT_TESTED, Heartbeat

HOUR_MS = 3_600_000


class Ill(Enum):
    """What is wrong with a vehicle; in the order of urgency."""

    NEVER_HEARD = "never-heard"
    SILENT = "silent"
    BROKEN_PART = "broken-part"
    UNTESTED_PART = "untested-part"
    NO_TAPS = "no-taps"
    UNSTEADY = "unsteady"
    CLOCK_UNSET = "clock-unset"
    CLOCK_OFF = "clock-off"
    OLD_TABLE = "old-table"


@dataclass(frozen=True, slots=True)
class Service:
    """The hours in which vehicles run, of one day, local time."""

    begins: time = time(5, 0)
    ends: time = time(23, 0)


@dataclass(frozen=True, slots=True)
class Rules:
    """When to speak up: hours of service without contact, taps that are many, seconds by which a clock may be off."""

    service: Service = field(default_factory=Service)
    silent_hours: int = 3
    many_taps: int = 20
    clock_off_s: int = 120


@dataclass(frozen=True, slots=True)
class Condition:
    """What the city knows of one vehicle.

    ``contact_ms``: the last time anything came from it. ``beat`` came at ``beat_ms``. ``taps``: today until now; ``taps_before``: the day
    before until the same hour.
    """

    device: int
    name: str
    enrolled_ms: int
    contact_ms: int | None = None
    beat: Heartbeat | None = None
    beat_ms: int = 0
    taps: int = 0
    taps_before: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one vehicle; ``detail`` is what its sentence is filled with."""

    device: int
    name: str
    ill: Ill
    detail: str = ""


def findings(conditions: Iterable[Condition], now_ms: int, zone: tzinfo, rules: Rules, table: bytes = b"") -> tuple[Finding, ...]:
    """All that is wrong, the most urgent first. ``table``: the fingerprint of the fare table in force; empty for not known."""
    found = [
        Finding(condition.device, condition.name, ill, detail)
        for condition in conditions
        for ill, detail in _ills(condition, now_ms, zone, rules, table)
    ]
    urgency = list(Ill)
    return tuple(sorted(found, key=lambda finding: (urgency.index(finding.ill), finding.name, finding.device)))


def service_ms(start_ms: int, end_ms: int, zone: tzinfo, service: Service) -> int:
    """How much of the time from ``start_ms`` to ``end_ms`` lies in the hours of service."""
    total = 0
    day = datetime.fromtimestamp(start_ms / 1000, zone).date()
    last = datetime.fromtimestamp(end_ms / 1000, zone).date()
    while day <= last:
        begins, ends = _ms(day, service.begins, zone), _ms(day, service.ends, zone)
        total += max(0, min(ends, end_ms) - max(begins, start_ms))
        day += timedelta(days=1)
    return total


def _ms(day: date, at: time, zone: tzinfo) -> int:
    return round(datetime.combine(day, at, zone).timestamp() * 1000)


def _ills(condition: Condition, now_ms: int, zone: tzinfo, rules: Rules, table: bytes) -> Iterator[tuple[Ill, str]]:
    since_ms = condition.enrolled_ms if condition.contact_ms is None else condition.contact_ms
    # A vehicle that was silent for a year need not be counted day by day.
    quiet_ms = service_ms(max(since_ms, now_ms - 60 * 24 * HOUR_MS), now_ms, zone, rules.service)
    silent = quiet_ms >= rules.silent_hours * HOUR_MS
    if silent:
        hours = str(quiet_ms // HOUR_MS)
        yield (Ill.NEVER_HEARD, hours) if condition.contact_ms is None else (Ill.SILENT, hours)
    if condition.beat is not None:
        yield from _ills_of(condition.beat, condition.beat_ms, rules, table)
        if told := counted.worth_a_look(condition.beat.counts, condition.beat.up_s):
            since_ms = max(0, condition.beat_ms - condition.beat.up_s * 1000)
            yield Ill.UNSTEADY, counted.detail(told, since_ms, zone)
    if not silent and condition.contact_ms is not None and condition.taps == 0 and condition.taps_before >= rules.many_taps:
        yield Ill.NO_TAPS, str(condition.taps_before)


def _ills_of(beat: Heartbeat, beat_ms: int, rules: Rules, table: bytes) -> Iterator[tuple[Ill, str]]:
    for state, ill in ((BROKEN, Ill.BROKEN_PART), (NOT_TESTED, Ill.UNTESTED_PART)):
        parts = [part for part, found in beat.selftest if found == state]
        if parts:
            yield ill, " ".join(parts)
    if beat.at.clock == ClockState.UNSET:
        yield Ill.CLOCK_UNSET, ""
    elif abs(beat.at.utc_ms - beat_ms) > rules.clock_off_s * 1000:
        yield Ill.CLOCK_OFF, f"{(beat.at.utc_ms - beat_ms) // 1000:+}"
    if table and beat.versions.table and beat.versions.table != table:
        yield Ill.OLD_TABLE, beat.versions.table.hex()


# --- in words -----------------------------------------------------------------------------------------------------------------------------

PARTS = {"antenna": "アンテナ", "reader": "カード読取部", "ledger": "記録", "sound": "音声", "screen": "画面"}
WORDS = {
    "ja": {
        Ill.NEVER_HEARD: "登録後、運行時間で{}時間、一度も通信がありません。",
        Ill.SILENT: "運行時間で{}時間、通信がありません。",
        Ill.BROKEN_PART: "自己診断で故障: {}。",
        Ill.UNTESTED_PART: "自己診断が未実施: {}。",
        Ill.UNSTEADY: "動作が不安定です。{}。",
        Ill.NO_TAPS: "通信はありますが、本日のタッチが0件です(前日の同時刻までに{}件)。",
        Ill.CLOCK_UNSET: "端末の時計が合わせられていません。",
        Ill.CLOCK_OFF: "端末の時計が{}秒ずれています。",
        Ill.OLD_TABLE: "運賃表が最新ではありません({})。",
    },
    "en": {
        Ill.NEVER_HEARD: "never heard of since it was enrolled, {} hours of service ago.",
        Ill.SILENT: "no contact for {} hours of service.",
        Ill.BROKEN_PART: "the self-test finds broken: {}.",
        Ill.UNTESTED_PART: "the self-test did not test: {}.",
        Ill.UNSTEADY: "{}.",
        Ill.NO_TAPS: "in contact, but without a tap today; {} the day before until this hour.",
        Ill.CLOCK_UNSET: "does not know the time.",
        Ill.CLOCK_OFF: "its clock is off by {} seconds.",
        Ill.OLD_TABLE: "its fare table is not the one in force ({}).",
    },
}


def told(finding: Finding, language: str) -> str:
    """The finding as a sentence, in ``ja`` or ``en``."""
    detail = finding.detail
    if language == "ja" and finding.ill in {Ill.BROKEN_PART, Ill.UNTESTED_PART}:
        detail = "、".join(PARTS.get(part, part) for part in detail.split())
    elif finding.ill in {Ill.BROKEN_PART, Ill.UNTESTED_PART}:
        detail = ", ".join(detail.split())
    elif finding.ill is Ill.UNSTEADY:
        detail = counted.in_words(detail, language)
    mark = "" if language == "ja" else " "
    return f"{finding.name}:{mark}{WORDS[language][finding.ill].format(detail)}"
