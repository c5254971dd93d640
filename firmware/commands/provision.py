"""``kazashi provision``: who a unit is, from the desk to its data partition."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from firmware import compose, provision
from firmware.config import KeyHome, Role
from firmware.enrolment import code_of
from firmware.failure import Failure
from firmware.provision import CONTENTS, FOLDER, Identity

_UNIT = Path("/data/unit")


def arguments(parser: argparse.ArgumentParser) -> None:
    """``write`` at the desk, ``take`` and ``admit`` on the unit."""
    parser.description = (
        "Say who a unit is. At the desk `write` makes a folder with all that it needs to know; put it on a USB stick (FAT, called KAZASHI) "
        "and the stick into the unit, which takes it at its first start and comes to its city by the code."
    )
    actions = parser.add_subparsers(required=True, metavar="write|take|admit")
    _writing(actions.add_parser("write", help="at the desk: make a unit's folder", formatter_class=argparse.RawDescriptionHelpFormatter))
    taking = actions.add_parser("take", help="on the unit: take the folder, once")
    taking.description = (
        "Take a unit's folder from a stick. A unit that is somebody already takes nothing; what a power cut left is finished."
    )
    taking.add_argument("stick", type=Path, metavar="STICK", help=f"where the stick is; the folder on it is called {FOLDER}")
    taking.set_defaults(act=_take)
    admitting = actions.add_parser("admit", help="on the unit: let what the city gave be the unit's, once")
    admitting.set_defaults(act=_admit)
    for each in (taking, admitting):
        each.add_argument("--unit", type=Path, default=_UNIT, metavar="FOLDER", help="the unit's own folder; default %(default)s")


def _writing(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"Make a folder {FOLDER} in STICK. What a unit would refuse is not written.\n"
        "It holds keys until the unit has taken them: keep the stick in the office."
    )
    parser.epilog = (
        "example:\n  kazashi provision write /media/KAZASHI --vehicle minato-12 --reader pn532:/dev/kazashi/reader --routes M1 M2 \\\n"
        "    --keys desk.keys --table town.table --operator operator.toml --scheme scheme.toml \\\n"
        "    --city https://points.minato.example --code-file code.txt"
    )
    parser.add_argument("stick", type=Path, metavar="STICK", help="a stick's folder, or any other")
    who = parser.add_argument_group("who it is")
    who.add_argument("--vehicle", required=True, metavar="NAME", help="what the operator calls the vehicle")
    who.add_argument("--role", choices=[role.value for role in Role], default=Role.VALIDATOR.value, help="default %(default)s")
    who.add_argument("--number", type=int, metavar="N", help="its number on cards; left out, the city says it with the code")
    who.add_argument("--routes", nargs="+", required=True, metavar="ROUTE", help="whose trips it drives")
    who.add_argument("--time-zone", default="Asia/Tokyo", metavar="ZONE", help="default %(default)s")
    what = parser.add_argument_group("what is built in")
    what.add_argument("--reader", required=True, metavar="ADDRESS", help="such as pn532:/dev/kazashi/reader@115200")
    what.add_argument("--keypad", default="", metavar="DEVICE", help="the driver's keypad, such as /dev/kazashi/keypad")
    what.add_argument("--keypad-mapping", type=Path, metavar="FILE", help="its mapping file")
    what.add_argument("--power", default="", metavar="LINE", help="the ignition's line, such as serial:/dev/ttyS2:dsr")
    rules = parser.add_argument_group("the rules until the city sends others")
    rules.add_argument("--table", type=Path, required=True, metavar="FILE", help="a compiled fare table")
    rules.add_argument("--operator", type=Path, required=True, metavar="FILE", help="the operator's rules")
    rules.add_argument("--scheme", type=Path, required=True, metavar="FILE", help="the city's scheme")
    rules.add_argument("--deny-list", type=Path, metavar="FILE", help="whose cards are refused")
    trust = parser.add_argument_group("keys and the city")
    trust.add_argument("--keys", type=Path, required=True, metavar="FILE", help="the desk's key file; the vehicle's is made from it")
    trust.add_argument("--city", default="", metavar="URL", help="the city's address; without it, batches go by stick")
    trust.add_argument("--ca", type=Path, metavar="FILE", help="the certificate (PEM) of the city's own authority")
    trust.add_argument(
        "--device-key",
        choices=[home.value for home in KeyHome],
        help="where the unit's device key must lie; left out: in its TPM if it has one, else in a file",
    )
    trust.add_argument("--code-file", type=Path, metavar="FILE", help="the one-time code (`kazashi backoffice enrol NAME`)")
    parser.set_defaults(act=_write)


def run(options: argparse.Namespace) -> int:
    """Do one of the three."""
    act = cast("Callable[[argparse.Namespace], int]", options.act)
    try:
        return act(options)
    except OSError as error:
        raise Failure(f"{error.filename}: cannot be used ({error.strerror}); correct that and run the same again") from error


def _write(options: argparse.Namespace) -> int:
    if bool(options.keypad) != bool(options.keypad_mapping):
        raise Failure("--keypad and --keypad-mapping belong together; give both or neither")
    if options.code_file and not options.city:
        raise Failure("--code-file is for a city; say its address with --city")
    identity = Identity(
        vehicle=options.vehicle,
        reader=options.reader,
        routes=tuple(options.routes),
        role=Role(options.role),
        number=options.number,
        url=options.city,
        keypad=options.keypad,
        power=options.power,
        time_zone=options.time_zone,
        device_key=KeyHome(options.device_key) if options.device_key else None,
    )
    given = {
        provision.TABLE: options.table,
        provision.OPERATOR: options.operator,
        provision.SCHEME: options.scheme,
        provision.DENIED: options.deny_list,
        provision.KEYPAD: options.keypad_mapping,
        provision.AUTHORITY: options.ca,
        provision.CODE: options.code_file,
    }
    files = {name: cast("Path", path).read_bytes() for name, path in given.items() if path is not None}
    if provision.CODE in files:
        files[provision.CODE] = f"{code_of(files[provision.CODE].decode(errors='replace'))}\n".encode()
    folder = cast("Path", options.stick) / FOLDER
    compose.write_unit(folder, identity, files, options.keys)
    print(f"{folder}: {identity.vehicle}, a {identity.role.value} at {identity.reader}; {CONTENTS} lists it.")
    print(_what_next(identity, files), file=sys.stderr)
    return 0


def _what_next(identity: Identity, files: dict[str, bytes]) -> str:
    if not identity.url:
        return "  It has no city: it carries its batches by stick (`kazashi ledger stick`)."
    if provision.CODE not in files:
        return "  There is no code on it: the unit shows that it is not commissioned until `kazashi enrol` was run there."
    return "  It holds card keys and a code; the unit takes them off the stick."


def _take(options: argparse.Namespace) -> int:
    folder = cast("Path", options.stick) / FOLDER
    if not folder.is_dir():
        print(f"{options.stick}: has no folder {FOLDER}; nothing to take")
        return 0
    taken = compose.take_unit(folder, options.unit)
    print(
        f"{folder}: {len(taken)} files taken; the keys are off the stick"
        if taken
        else f"{options.unit}: is a unit already; nothing was taken"
    )
    return 0


def _admit(options: argparse.Namespace) -> int:
    done = compose.admit_unit(options.unit)
    print("the city's word is the unit's now" if done else "nothing waits to be admitted")
    return 0
