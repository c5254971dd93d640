"""How a process of the image writes its log: one line a record, which the journal gets with its priority.

systemd takes whatever a unit prints for priority 6, "information", unless the line begins with a number in angle brackets (sd-daemon(3)).
What goes wrong is counted by priority (``firmware.counts``), so each line says its own, but only to the journal: a person at a desk is not
shown numbers.
"""

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

FORMAT = "%(levelname)s %(name)s: %(message)s"


class ForTheJournal(logging.Formatter):
    """Lines with the priority before them (syslog(3)); a traceback's lines are information: a record counts once."""

    def format(self, record: logging.LogRecord) -> str:
        first, *more = super().format(record).splitlines() or [""]
        return "\n".join((f"<{priority(record.levelno)}>{first}", *(f"<6>{line}" for line in more)))


def priority(level: int) -> int:
    """The syslog priority of a level of ``logging``."""
    return 3 if level >= logging.ERROR else 4 if level >= logging.WARNING else 6 if level >= logging.INFO else 7


def begin(stream: TextIO | None = None, environment: Mapping[str, str] = os.environ) -> None:
    """From now on what is told by ``logging`` goes to ``stream`` (standard error)."""
    into = stream or sys.stderr
    handler = logging.StreamHandler(into)
    handler.setFormatter((ForTheJournal if is_the_journal(into, environment) else logging.Formatter)(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def is_the_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` is what systemd connected with the journal, by device and inode (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file behind it
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
