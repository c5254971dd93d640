"""``kazashi packages``: what the city sent to this terminal, what is in force, and a person's word about what is held."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import cast

from firmware import compose, packages
from firmware.config import Config, load
from firmware.failure import Failure
from firmware.packages import Held, Refused, Staged
from ledger.package import PackageKind


def arguments(parser: argparse.ArgumentParser) -> None:
    """``show``, ``stage``, ``accept`` and ``reject``."""
    parser.description = "Show what the city sent to this terminal; take a package from a stick; decide about one that is held."
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    showing = actions.add_parser("show", help="what is in force, what waits for its day, what waits for a person")
    showing.set_defaults(act=_show)
    staging = actions.add_parser("stage", help="take packages that lie in files")
    staging.add_argument("files", type=Path, nargs="+", metavar="PACKAGE")
    staging.set_defaults(act=_stage)
    for name, act, word in (("accept", _accept, "take the held package after all"), ("reject", _reject, "throw the held package away")):
        deciding = actions.add_parser(name, help=word)
        deciding.add_argument("kind", choices=[kind.value for kind in PackageKind])
        deciding.set_defaults(act=act)
    for each in actions.choices.values():
        each.add_argument(
            "--config", type=Path, action="append", required=True, metavar="FILE", help="configuration; repeat for layers, later ones win"
        )


def run(options: argparse.Namespace) -> int:
    """Do one of the four. The status of ``stage`` is 1 when a package was not taken."""
    act = cast("Callable[[argparse.Namespace, Config], int]", options.act)
    try:
        return act(options, load(options.config))
    except OSError as error:
        raise Failure(f"{error.filename or 'the packages'}: cannot be used ({error.strerror}); look at the disk") from error


def _show(_options: argparse.Namespace, config: Config) -> int:
    folder, judge = compose.packages_of(config), compose.open_judge(config)
    names = (packages.CURRENT, "in force"), (packages.PREVIOUS, "before it"), (packages.NEXT, "waits for its day"), (packages.HELD, "HELD")
    for kind in PackageKind:
        found = [(word, one) for name, word in names if (one := packages.read(folder / kind / name, judge)) is not None]
        print(f"{kind}:" if found else f"{kind}: as the configuration names it")
        for word, one in found:
            print(f"  {word:<18} {one}{', released by a person' if one.released else ''}")
    for held in packages.waiting(folder, judge):
        _tell_held(held)
    for alarm in packages.alarms(folder):
        print(f"not yet in the ledger: {alarm.reason}")
    return 0


def _sealed(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: cannot be read ({error.strerror}); give a file of kazashi publish sign") from error


def _stage(options: argparse.Namespace, config: Config) -> int:
    folder, judge = compose.packages_of(config), compose.open_judge(config)
    taken = True
    for file in cast("list[Path]", options.files):
        match packages.stage(folder, _sealed(file), judge):
            case Staged(found):
                print(f"{file}: {found} will be in force from {found.valid_from}, as soon as no trip is open")
            case Held() as held:
                taken = False
                print(f"{file}:")
                _tell_held(held)
            case Refused(why):
                taken = False
                print(f"{file}: not taken. {why}")
    return 0 if taken else 1


def _tell_held(held: Held) -> None:
    print(f"HELD, waits for a person: {held.package}")
    for doubt in held.doubts:
        print(f"  {doubt}")
    print(f"  `kazashi packages accept {held.package.kind}` takes it, `… reject …` throws it away; the old one is in force")


def _accept(options: argparse.Namespace, config: Config) -> int:
    found = packages.accept(compose.packages_of(config), PackageKind(options.kind), compose.open_judge(config))
    if found is None:
        raise Failure(f"there is no held {options.kind}; `kazashi packages show` says what there is")
    print(f"{found} will be in force from {found.valid_from}, as soon as no trip is open")
    return 0


def _reject(options: argparse.Namespace, config: Config) -> int:
    found = packages.reject(compose.packages_of(config), PackageKind(options.kind), compose.open_judge(config))
    if found is None:
        raise Failure(f"there is no held {options.kind}; `kazashi packages show` says what there is")
    print(f"{found} was thrown away; what is in force stays")
    return 0
