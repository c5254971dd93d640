"""``kazashi publish``: sign a file for the city's terminals, and release one that they held back."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import cast

from fares.faults import Unusable
from firmware import compose, packages
from firmware.failure import Failure
from ledger import package, seal
from ledger.errors import Malformed
from ledger.package import Package, PackageKind
from validator import lists


def arguments(parser: argparse.ArgumentParser) -> None:
    """``keys``, ``sign``, ``release`` and ``show``."""
    parser.description = "Make a signed, numbered and dated package of a file, for terminals to take."
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    keys = actions.add_parser("keys", help="make the city's key, or show its public half")
    keys.add_argument("file", type=Path, help="the key file")
    keys.add_argument("--new", action="store_true", help="make it")
    keys.set_defaults(act=_keys)
    signing = actions.add_parser("sign", help="check a file and sign it")
    signing.add_argument("file", type=Path, help="a compiled fare table, a scheme, a deny list, …")
    signing.add_argument("--kind", choices=[kind.value for kind in PackageKind], required=True, help="what it is")
    signing.add_argument("--version", type=int, required=True, metavar="N", help="above that of the last package of this kind")
    signing.add_argument("--valid-from", type=_day, required=True, metavar="DAY", help="the first service day on which it is in force")
    signing.set_defaults(act=_sign)
    releasing = actions.add_parser("release", help="say of a package that its change is meant, however big")
    releasing.add_argument("file", type=Path, help="the package that was held")
    releasing.set_defaults(act=_release)
    for each in (signing, releasing):
        each.add_argument("--key", type=Path, required=True, metavar="FILE", help="the city's key file")
        each.add_argument(
            "-o", "--output", type=Path, metavar="PACKAGE", help="the file to write (default: KIND-VERSION.package beside it)"
        )
    showing = actions.add_parser("show", help="what a package says of itself; its signature is not checked")
    showing.add_argument("file", type=Path)
    showing.set_defaults(act=_show)


def run(options: argparse.Namespace) -> int:
    """Do one of the four."""
    act = cast("Callable[[argparse.Namespace], int]", options.act)
    return act(options)


def _keys(options: argparse.Namespace) -> int:
    if options.new:
        compose.make_city_key(options.file)
    signer = compose.open_city_key(options.file)
    print("# for a vehicle's configuration")
    print(f'[city]\nkeys = [{{ algorithm = "{signer.algorithm.name.lower()}", public_key = "{compose.base64url(signer.public)}" }}]')
    return 0


def _sign(options: argparse.Namespace) -> int:
    file = cast("Path", options.file)
    found = Package(PackageKind(options.kind), options.version, options.valid_from, time.time_ns() // 1_000_000, _bytes(file))
    _check(found)
    return _write(found, options)


def _release(options: argparse.Namespace) -> int:
    return _write(replace(_opened(options.file), released=True), options)


def _show(options: argparse.Namespace) -> int:
    found = _opened(options.file)
    mark = ", released by a person" if found.released else ""
    print(f"{options.file}: {found}{mark}\n  {len(found.file):,} bytes, SHA-256 {found.digest.hex()}")
    return 0


def _check(found: Package) -> None:
    """What a terminal would refuse is not signed."""
    try:
        packages.parsed(found, _rider_key(found))
    except Unusable as unusable:
        raise Failure("\n".join(unusable.faults)) from unusable


def _rider_key(found: Package) -> int:
    """The desk cannot know which rider key the vehicles have; the list says which it was made with."""
    try:
        return lists.rider_key_of(found.file.decode(), str(found)) if found.kind is PackageKind.DENY_LIST else 0
    except (lists.BadList, UnicodeDecodeError) as error:
        raise Failure(f"{found}: {error}") from error


def _write(found: Package, options: argparse.Namespace) -> int:
    signer = compose.open_city_key(options.key)
    name = f"{found.kind}-{found.version}{'-released' if found.released else ''}.package"
    output = cast("Path | None", options.output) or cast("Path", options.file).with_name(name)
    try:
        sealed = seal.seal(signer, seal.Content.PACKAGE, package.encode(found))
        with output.open("xb") as file:
            file.write(sealed)
    except Malformed as error:
        raise Failure(str(error)) from error
    except FileExistsError as error:
        raise Failure(f"{output}: there is such a package already; a version is given once, take the next") from error
    except OSError as error:
        raise Failure(f"{output}: cannot be written ({error.strerror}); choose another place") from error
    print(f"{output}: {found}; {len(sealed):,} bytes")
    if found.released:
        print("  terminals will take it without asking anybody", file=sys.stderr)
    return 0


def _opened(file: Path) -> Package:
    try:
        return package.decode(seal.parse(_bytes(file), seal.Content.PACKAGE, package.MAX_SEALED).payload)
    except Malformed as error:
        raise Failure(f"{file}: {error}") from error


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: cannot be read ({error.strerror}); check the name") from error


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no day; write it as 2026-04-01") from None
