"""What a unit counts of its own journal, so that the city sees that something goes wrong there: a closed table of names (pure).

A unit's journal is in its memory and stays there. What leaves it are names of this table and numbers: no line, no text, nobody's ride. A
name is a source and a mark, ``station-starts``, or one of the few things that are the machine's. All are counted since the machine's start.

The table is a part of the heartbeat's form (``ledger.notes``, version 2): a name that is added is another version, for a city that does not
know it refuses it.
"""

from collections.abc import Mapping

SOURCES = (
    *("station", "screen", "courier", "clock", "update", "enrol", "provision", "admit", "health", "failed", "attendant", "counts", "grow"),
    *("pcscd", "rauc", "data", "kernel", "systemd", "other"),
)
"""Kazashi's own units by their names, ``data`` the data partition's mount, what is not ours by its own; ``other`` is all the rest."""

WATCHDOGS, FAILURES, STARTS, ERRORS, WARNINGS = "watchdogs", "failures", "starts", "errors", "warnings"
MARKS = (WATCHDOGS, FAILURES, STARTS, ERRORS, WARNINGS)
"""Ended because it did not turn any more; ended otherwise than it should; begun; lines of priority 3 and below, and of 4 (syslog(3))."""

OOM_KILLS, DISK_ERRORS, JOURNAL_GAPS = "oom-kills", "disk-errors", "journal-gaps"
MACHINE = (OOM_KILLS, DISK_ERRORS, JOURNAL_GAPS)
"""Processes ended because memory ran out; ext4's errors since its last check; times that something was not counted."""

_URGENCY = (*MACHINE, *(f"{source}-{mark}" for mark in MARKS for source in SOURCES))
NAMES = frozenset(_URGENCY)
MOST = 32
"""So many names are told at most: with the longest of them a heartbeat has room for all else it says."""
MOST_COUNT = 2**32 - 1

Counts = tuple[tuple[str, int], ...]


def fitting(counts: Mapping[str, int]) -> Counts:
    """What is told of ``counts``: what is not 0, by name; of more than ``MOST`` the gravest. Names that are none are left out."""
    there = [name for name in _URGENCY if counts.get(name, 0) > 0]
    return tuple(sorted((name, min(counts[name], MOST_COUNT)) for name in there[:MOST]))


def fault(counts: Counts) -> str:
    """What keeps ``counts`` from being what ``fitting`` gives, as the end of a sentence; empty when nothing does."""
    names = [name for name, _ in counts]
    if not 1 <= len(names) <= MOST:
        return f"has {len(names)} counts, where 1 to {MOST} belong"
    if not NAMES.issuperset(names):
        return "counts something that has no name in this software's table"
    if names != sorted(set(names)):
        return "has counts that are not in the order of their names, each once"
    if any(not 1 <= count <= MOST_COUNT for _, count in counts):
        return f"has a count that is not from 1 to {MOST_COUNT}"
    return ""
