"""Counts what a journal says, and keeps nothing else of it (pure).

A unit's journal is in memory, bounded, and never leaves the unit (``journald.conf.d``). Every few minutes what is new in it is added up by
the closed table of ``ledger.counts``, and the courier tells the city the sums. So a clerk sees that the station of one vehicle starts again
and again, and nobody sees a line.

**What is looked at.** systemd says what became of a unit in entries with a MESSAGE_ID, which its catalogue documents and which stays
the same when a sentence changes (systemd.journal-fields(7), ``journalctl --catalog``). Those are believed from process 1 only, as the
fields say that begin with an underscore, which no program can write into its own entries. All other entries count by their priority for the
unit that they come from. systemd's own lines about a unit, which say the same in other words ("Main process exited"), count for nothing.

**Each entry once.** The cursor of the last one that was counted is kept beside the sums, and reading begins with that entry itself: when it
comes back, nothing was missed. When it does not, the journal has rotated past it (or was made anew), what lies between is gone, and that is
counted, too (``journal-gaps``); so are entries that journald let drop. Sums are of one start of the machine: an entry of another one sets
them to nothing. A kept file that makes no sense is as none; then all that the journal still holds is counted.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ledger.counts import (
    DISK_ERRORS,
    ERRORS,
    FAILURES,
    JOURNAL_GAPS,
    MOST_COUNT,
    NAMES,
    OOM_KILLS,
    SOURCES,
    STARTS,
    WARNINGS,
    WATCHDOGS,
    Counts,
    fitting,
)

COUNTED = Path("/run/kazashi/counts/counted")
"""Where a unit of the image keeps them."""

MOST_BYTES = 64 * 1024
MOST_ENTRIES = 20_000
"""So many entries are counted at one time; the rest the next time. A journal of 16 MiB holds hardly more."""

FIELDS = (
    "MESSAGE_ID",
    "PRIORITY",
    "SYSLOG_FACILITY",
    "UNIT",
    "UNIT_RESULT",
    "JOB_RESULT",
    "_PID",
    "_SYSTEMD_UNIT",
    "_TRANSPORT",
    "_BOOT_ID",
)
"""What ``entries`` must have; never MESSAGE."""

FORMAT = 1
_STARTED = "39f53479d3a045ac8e11786248231fbf"
_ENDED_BADLY = "d9b373ed55a64feb8242e02dbe79a49c"
_NOT_STARTED = "be02cf6855d2428ba40df7e9d022f03d"
_OUT_OF_MEMORY = "fe6faa94e7774663a0da52717891d8ef"
_DROPPED = "a596d6fe7bfa4994828e72309e95d61e"

_NEVER_BEGUN = frozenset({"dependency", "timeout"})
"""Results of a start of which the unit itself says nothing: it never came to fail."""

_OURS = re.compile(r"kazashi-([a-z]+)(?:@[^/]*)?\.service")
_OTHERS = {"pcscd.service": "pcscd", "rauc.service": "rauc", "data.mount": "data", "init.scope": "systemd"}
_CURSOR = re.compile(r"(?:[a-z]=[0-9a-f]{1,40};?){0,10}")
_BOOT = re.compile(r"[0-9a-f]{0,32}")

Entry = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Counted:
    """The sums of the start ``boot`` (journald's _BOOT_ID), up to and with the entry ``cursor``; empty for none yet."""

    boot: str = ""
    cursor: str = ""
    sums: Mapping[str, int] = field(default_factory=dict[str, int])


def following(before: Counted, entries: Iterable[Entry], disk_errors: int = 0) -> Counted:
    """With what is new. ``entries``: from ``before.cursor`` on, that one included; or from the oldest on.

    ``disk_errors``: what ext4 has counted by itself.
    """
    boot, cursor, sums = before.boot, before.cursor, Counter(before.sums)
    expected = before.cursor
    for entry in entries:
        here = _text(entry, "__CURSOR")
        if expected:
            known, expected = here == expected, ""
            if known:
                continue
            sums[JOURNAL_GAPS] += 1
        if (start := _text(entry, "_BOOT_ID")) != boot:
            boot, sums = start, Counter[str]()
        if name := counted_as(entry):
            sums[name] += 1
        cursor = here
    if expected:  # nothing came back at all: the journal is empty, and begins anew
        sums[JOURNAL_GAPS] += 1
        cursor = ""
    sums[DISK_ERRORS] = disk_errors
    return Counted(boot, cursor, {name: min(count, MOST_COUNT) for name, count in sorted(sums.items()) if count})


def counted_as(entry: Entry) -> str:
    """The name under which one entry counts; empty for most."""
    message, unit = _text(entry, "MESSAGE_ID"), _text(entry, "UNIT")
    if message == _DROPPED and _text(entry, "_TRANSPORT") == "driver":
        return JOURNAL_GAPS
    if unit and _text(entry, "_PID") == "1":
        return _became(message, unit, entry)
    priority = _text(entry, "PRIORITY")
    if priority not in {"0", "1", "2", "3", "4"}:
        return ""
    kernels = _text(entry, "_TRANSPORT") == "kernel" and _text(entry, "SYSLOG_FACILITY") == "0"
    source = "kernel" if kernels else source_of(_text(entry, "_SYSTEMD_UNIT"))
    return f"{source}-{WARNINGS if priority == '4' else ERRORS}"


def _became(message: str, unit: str, entry: Entry) -> str:
    source = source_of(unit)
    match message:
        case _ if message == _STARTED and source not in {"other", "systemd"}:
            return f"{source}-{STARTS}"
        case _ if message == _ENDED_BADLY:
            return f"{source}-{WATCHDOGS if _text(entry, 'UNIT_RESULT') == 'watchdog' else FAILURES}"
        case _ if message == _NOT_STARTED and _text(entry, "JOB_RESULT") in _NEVER_BEGUN:
            return f"{source}-{FAILURES}"
        case _ if message == _OUT_OF_MEMORY and not unit.endswith(".slice"):  # a slice says again what its services say
            return OOM_KILLS
        case _:
            return ""


def source_of(unit: str) -> str:
    """The source in the table that a unit is."""
    ours = _OURS.fullmatch(unit)
    if ours is not None and ours[1] in SOURCES:
        return ours[1]
    return _OTHERS.get(unit, "systemd" if unit.startswith("systemd-") else "other")


def _text(entry: Entry, name: str) -> str:
    """A field that occurs once and is text. journalctl gives a list where it occurs twice or is no UTF-8, and null where it is long."""
    value = entry.get(name)
    return value if isinstance(value, str) else ""


# --- as a file --------------------------------------------------------------------------------------------------------------------------


def encode(counted: Counted) -> str:
    """The file that ``decode`` reads."""
    return json.dumps({"format": FORMAT, "boot": counted.boot, "cursor": counted.cursor, "counts": dict(counted.sums)}) + "\n"


class NoCounts(Exception):
    """The file is not one that ``encode`` wrote; the message is the end of a sentence."""


def decode(text: str) -> Counted:
    """What a file says. Raises ``NoCounts``; never anything else."""
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise NoCounts("is no JSON") from error
    facts = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    boot, cursor, sums = facts.get("boot"), facts.get("cursor"), facts.get("counts")
    if facts.get("format") != FORMAT or not isinstance(sums, dict):
        raise NoCounts(f"is not of format {FORMAT}")
    if not (isinstance(boot, str) and _BOOT.fullmatch(boot) and isinstance(cursor, str) and _CURSOR.fullmatch(cursor)):
        raise NoCounts("names no place in a journal")
    read = cast("dict[str, object]", sums)
    counts = {name: count for name, count in read.items() if name in NAMES and type(count) is int and 0 < count <= MOST_COUNT}
    if len(counts) != len(read):
        raise NoCounts("counts something that has no name, or not in numbers")
    return Counted(boot, cursor, counts)


def told(text: str) -> Counts:
    """What the city is told of a file's sums. Raises ``NoCounts``."""
    return fitting(decode(text).sums)
