"""The command ``kazashi``.

The table below is its table of contents. A command's module is imported only when it is named, so that ``--help`` answers at once and a
vehicle never loads what only the desk needs.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, cast

from firmware.failure import Failure


class _Command(Protocol):
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class _Chapter:
    title: str
    commands: dict[str, str]


CONTENTS = (
    _Chapter(
        "See it",
        {
            "demo": "a morning on one bus line, on emulated hardware",
            "doctor": "what is missing on this machine, and how to get it",
        },
    ),
    _Chapter(
        "On the vehicle",
        {
            "validator": "run the tap validator",
            "screen": "show and sound what the validator sends",
            "provision": "say who a unit is: a stick at the desk, taken once on the unit",
            "enrol": "come to the city by its one-time code",
            "courier": "carry the ledger to the city",
            "ledger": "verify, show or export a ledger; carry it by stick",
            "packages": "what the city sent; accept or reject what is held",
            "clock": "ask chrony and gpsd how far the clock can be trusted",
            "counts": "count what goes wrong in the journal, for the city to see",
            "health": "try everything once, then let this system stay",
            "update": "bring a newer system from the city or a stick, and try it",
            "reset": "make a unit nobody again, when all that it knows is on a stick",
            "failed": "say on lamp, screen and loudspeaker that a part has given up",
        },
    ),
    _Chapter(
        "At the desk",
        {
            "card": "new, show, issue, grant, tap: one fare-point card",
            "fares": "compile a GTFS-JP feed; price one ride",
            "scheme": "check a city's scheme against its own examples",
            "publish": "sign a fare table, scheme or list for the terminals; release one that is held",
        },
    ),
    _Chapter(
        "In the city's office",
        {
            "backoffice": "receive what the vehicles send; enrol, revoke, report, bill",
        },
    ),
    _Chapter(
        "In the workshop",
        {
            "reader": "qualify a reader and a card against the twin",
            "twin": "offer an emulated reader to a program that is not ours",
            "words": "render and check the spoken words",
            "simulate": "make a town's ledgers, with people's mistakes and the truth beside",
        },
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 when it did what was asked, 1 when it could not, 2 when it was asked wrongly."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    known = {name for chapter in CONTENTS for name in chapter.commands if _is_here(name)}
    if not given or given[0] in {"-h", "--help"}:
        print(_contents())
        return 0
    name, *rest = given
    if name not in known:
        print(f"kazashi: there is no command '{name}'. `kazashi --help` lists them.", file=sys.stderr)
        return 2
    command = _command(name)
    try:
        return command.run(parser_of(name).parse_args(rest))
    except Failure as failure:
        print(f"kazashi {name}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser_of(name: str) -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog=f"kazashi {name}", formatter_class=argparse.RawDescriptionHelpFormatter)
    _command(name).arguments(parser)
    return parser


def _is_here(name: str) -> bool:
    """Whether this machine has the command: what shows or simulates is left out of a vehicle's image."""
    return find_spec(f"firmware.commands.{name}") is not None


def _command(name: str) -> _Command:
    return cast("_Command", importlib.import_module(f"firmware.commands.{name}"))


def _contents() -> str:
    lines = ["kazashi: a city's card terminal.", ""]
    for chapter in CONTENTS:
        commands = [f"  {name:<10} {text}" for name, text in chapter.commands.items() if _is_here(name)]
        if commands:
            lines += [chapter.title, *commands, ""]
    lines.append("`kazashi COMMAND --help` says more.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
