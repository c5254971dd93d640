"""``kazashi scheme check``: whether a city's scheme does what its own examples say."""

import argparse
import sys
from pathlib import Path

from fares.faults import Unusable
from fares.scheme import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """``check FILE…``."""
    parser.description = "Check scheme files: their form, and their rules against their own examples."
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    checking = actions.add_parser("check", help="check one or more scheme files")
    checking.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a scheme as TOML")


def run(options: argparse.Namespace) -> int:
    """Check each file and go on after a bad one; exit status 1 when any was refused."""
    refused = 0
    for path in options.files:
        try:
            scheme = load(path)
        except Unusable as unusable:
            refused += 1
            print(f"{path}: refused", file=sys.stderr)
            for fault in unusable.faults:
                print(f"    {fault}", file=sys.stderr)
            continue
        days = ", ".join(str(version.first_day) for version in scheme.versions)
        print(f"{path}: {scheme.name}, in force from {days}; {scheme.examples} examples hold; digest {scheme.digest.hex()}")
    return 1 if refused else 0
