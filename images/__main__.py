"""``python -m images build|pins|run``; the Makefile's ``image…`` goals call it."""

import argparse
import sys
from pathlib import Path

from images import build, show
from images.command import ImageFailure
from images.lock import LockError
from images.pki import Signing
from images.recipe import ARCHITECTURES, ROLES, RecipeError


def main() -> int:
    """The exit status is 0 when it did what was asked."""
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("build", "build an image"),
        ("pins", "choose the Debian packages again and write the lock file"),
        ("run", "show a built image"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--role", choices=ROLES, default=ROLES[0])
        command.add_argument("--arch", choices=ARCHITECTURES, default=ARCHITECTURES[0])
        if name == "build":
            command.add_argument("--dev", action="store_true", help="a root shell on the first serial line; never for a vehicle")
            command.add_argument("--into", type=Path, help="another folder for the result")
            command.add_argument("--authority", type=Path, help="PEM: who signs updates; with --certificate and --key")
            command.add_argument("--certificate", type=Path)
            command.add_argument("--key", type=Path)
    options = parser.parse_args()
    try:
        match options.command:
            case "pins":
                path = build.pin(options.role, options.arch)
                print(f"{path.relative_to(build.ROOT)}: {path.read_text().splitlines()[0][2:]}")
            case "run":
                show.run(build.ROOT, build.Order(options.role, options.arch).folder)
            case _:
                build.build(build.Order(options.role, options.arch, dev=options.dev, into=options.into, signing=_signing(options)))
    except (ImageFailure, RecipeError, LockError) as failure:
        print(f"image: {failure}", file=sys.stderr)
        return 1
    return 0


def _signing(options: argparse.Namespace) -> Signing | None:
    given = (options.authority, options.certificate, options.key)
    if not any(given):
        return None
    if not all(given):
        raise ImageFailure("say all three of --authority, --certificate and --key, or none")
    for path in given:
        if not path.exists():
            raise ImageFailure(f"{path}: there is no such file; give the PEM file that signs updates")
    return Signing(*given, test=False)


if __name__ == "__main__":
    sys.exit(main())
