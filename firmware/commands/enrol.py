"""``kazashi enrol``: this terminal comes to its city by a one-time code."""

import argparse
import getpass
import sys
from pathlib import Path
from typing import cast

from firmware import compose
from firmware.config import unenrolled
from firmware.enrolment import code_of
from firmware.failure import Failure
from ledger.seal import key_id

_MOST_CODE = 200


def arguments(parser: argparse.ArgumentParser) -> None:
    """``--config`` as for every command of the vehicle; the code comes from a prompt, from standard input or from a file."""
    parser.description = (
        "Bring this terminal to its city by a one-time code. A device key is made here (in the TPM where keys.tpm names one; a token made "
        "its own), shown to the city, and what the city gives is written beside the configuration. If the power goes, run the same again "
        "with the same code."
    )
    parser.epilog = "The code is asked for, or read from standard input; it is never an argument, for everybody on the machine sees those."
    parser.add_argument(
        "--config", type=Path, action="append", required=True, metavar="FILE", help="configuration; repeat for layers, later ones win"
    )
    parser.add_argument("--city", metavar="URL", help="the city's address (default: city.url of the configuration)")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="the certificate of the city's own authority (default: city.ca)")
    parser.add_argument("--code-file", type=Path, metavar="FILE", help="read the code from a file")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="what to write (default: enrolled.toml beside the last --config)")


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when the terminal is enrolled and all of it is on the disk."""
    files = cast("list[Path]", options.config)
    output = cast("Path | None", options.output) or files[-1].with_name("enrolled.toml")
    seeker = unenrolled(files, options.city, options.ca)
    enrolled = compose.enrol(seeker, code_of(_code(options.code_file)), output)
    (_, city), *_ = enrolled.city_keys
    known = f"it knows the city at {seeker.city.url} by the key {key_id(city).hex()}"
    print(f"This terminal is number {enrolled.device}, {enrolled.name}; {known}.")
    print(f"It is written in {output}; name that file as the last --config of each command.")
    where = compose.where_the_key_is(compose.open_keyring(seeker))
    print(f"{where[0].upper()}{where[1:]}.")
    return 0


def _code(file: Path | None) -> str:
    try:
        if file is not None:
            with file.open(encoding="utf-8") as lines:
                return lines.readline(_MOST_CODE)
        if sys.stdin.isatty():
            return getpass.getpass("The city's one-time code: ")
        return sys.stdin.readline(_MOST_CODE)
    except OSError as error:
        raise Failure(f"{file or 'the code'}: cannot be read ({error.strerror}); name the file with the code") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file or 'the code'}: is no text; it must hold the code alone") from error
