"""Who vouches for the wall clock: what chrony and gpsd say of it, as values (pure).

chrony steers the clock, by servers or by a receiver; what it follows stands in ``chronyc -c tracking`` (chronyc(1), "tracking": reference
id in hexadecimal, its name, stratum, …, leap status last). A reference *clock* is named by its id's own letters; a server is named by its
address. gpsd has the receiver's own time in its TPV reports (gpsd_json(5)); it moves no clock, so it vouches only for one that agrees.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeGuard

from drivers.devices.clock import ClockState

AGREES_MS = 2000
_FIELDS = 14
_UNSYNCHRONISED = "Not synchronised"
_MOST_STRATUM = 15
_FIX_2D = 2


def followed(tracking: str) -> ClockState:
    """NTP, GNSS, or UNSET when chrony follows nobody or what it says is no tracking report."""
    fields = tracking.strip().split(",")
    if len(fields) != _FIELDS or fields[-1] == _UNSYNCHRONISED:
        return ClockState.UNSET
    reference, name, stratum = fields[:3]
    if not stratum.isdigit() or not 1 <= int(stratum) <= _MOST_STRATUM or reference == "7F7F0101":  # its own clock, undisciplined
        return ClockState.UNSET
    with suppress(ValueError):
        if name and bytes.fromhex(reference).rstrip(b"\0").decode("ascii", "replace") == name:
            return ClockState.GNSS
    return ClockState.NTP


@dataclass(frozen=True, slots=True)
class Fix:
    """The receiver's time, Unix ms."""

    utc_ms: int


def fix_in(line: str) -> Fix | None:
    """The time in one line of gpsd; None in every other report, and without a fix."""
    try:
        report: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = report if _is_table(report) else {}
    mode, time = fields.get("mode"), fields.get("time")
    if fields.get("class") != "TPV" or not isinstance(mode, int) or mode < _FIX_2D or not isinstance(time, str):
        return None
    with suppress(ValueError, OverflowError):
        told = datetime.fromisoformat(time)
        if told.tzinfo is not None:
            return Fix(round(told.timestamp() * 1000))
    return None


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def vouched(tracking: str, fix: Fix | None, utc_ms: int) -> ClockState:
    """How far the clock that shows ``utc_ms`` is vouched for: NTP, GNSS, or UNSET for nobody."""
    by_chrony = followed(tracking)
    if by_chrony is not ClockState.UNSET:
        return by_chrony
    return ClockState.GNSS if fix is not None and abs(fix.utc_ms - utc_ms) <= AGREES_MS else ClockState.UNSET
