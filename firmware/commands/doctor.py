"""``kazashi doctor``: what is missing on this machine, and how to get it."""

import argparse

from firmware import compose
from firmware.doctor import Finding, State, examine

DESCRIPTION = """\
Looks at this machine and says what is missing and how to get it. It opens no device and asks no reader anything.
Exit status 1 when something is missing without which nothing works; things to look at do not count.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``kazashi doctor`` takes."""
    parser.description = DESCRIPTION
    parser.add_argument("--data", metavar="FOLDER", default=".", help="the folder that will hold the ledger (default: this one)")


def run(options: argparse.Namespace) -> int:
    """Print one line for each thing looked at."""
    findings = examine(compose.machine(), compose.wants(options.data))
    for finding in findings:
        print(_line(finding))
    missing = sum(finding.state is State.MISSING for finding in findings)
    print()
    print(f"{missing} missing: see above." if missing else "Nothing is missing.")
    return 1 if missing else 0


def _line(finding: Finding) -> str:
    line = f"{finding.state.value:<8}{finding.subject:<17} {finding.seen}"
    return f"{line}\n{'':<25} → {finding.remedy}" if finding.remedy else line
