"""``kazashi ledger``: is a ledger whole, what does it say, and the same for other programs and for a stick.

It only reads; a validator may be writing meanwhile.
"""

import argparse
import contextlib
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TextIO, cast

from drivers.errors import VaultLost
from firmware import compose
from firmware.config import Config, load
from firmware.failure import Failure
from ledger import stick
from ledger.beside import replace_file
from ledger.chain import Check, Finding
from ledger.entry import Entry, Kind
from ledger.errors import LedgerError
from ledger.receipt import Receipt
from ledger.receipts import MAX_SEALED
from ledger.telling import FIELDS, line, record, totals


def arguments(parser: argparse.ArgumentParser) -> None:
    """``verify``, ``show``, ``export`` and ``stick``."""
    parser.description = (
        "Check a ledger, read it, turn it into JSON lines or CSV, carry it by stick. Nothing is ever written into a ledger."
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    checking = actions.add_parser("verify", help="name every entry that was changed, cut off or is missing; exit status 1 if there is one")
    checking.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a ledger; its .memory file is looked for beside it")
    checking.set_defaults(act=_verify)
    showing = actions.add_parser("show", help="one line an entry, for a person")
    showing.add_argument("file", type=Path, metavar="FILE", help="a ledger")
    showing.add_argument("--after", type=int, default=0, metavar="SEQ", help="begin behind this entry")
    showing.add_argument("--limit", type=int, metavar="N", help="at most so many entries")
    showing.set_defaults(act=_show)
    writing = actions.add_parser("export", help="one record an entry, for another program")
    writing.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a ledger")
    writing.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="JSON lines (default) or CSV with a header, UTF-8")
    writing.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: standard output)")
    writing.set_defaults(act=_export)
    carrying = actions.add_parser("stick", help="write to a folder what the city has not signed for; take its receipts from there")
    carrying.add_argument("folder", type=Path, metavar="FOLDER", help="a folder on the stick")
    carrying.add_argument(
        "--config", type=Path, action="append", required=True, metavar="FILE", help="the vehicle's configuration; repeat for layers"
    )
    carrying.set_defaults(act=_stick)


def run(options: argparse.Namespace) -> int:
    """Do one of the three; a file that is no ledger becomes a sentence."""
    act = cast("Callable[[argparse.Namespace], int]", options.act)
    try:
        return act(options)
    except LedgerError as error:
        raise Failure(str(error)) from error


def _verify(options: argparse.Namespace) -> int:
    return max([_verify_one(path) for path in cast("list[Path]", options.files)])


def _verify_one(path: Path) -> int:
    kinds: Counter[Kind] = Counter()
    with compose.open_ledger_file(path) as ledger:
        check = ledger.verify(lambda entry: kinds.update((entry.kind,)))
        open_debits = len(ledger.intents())
        whose = f"device {ledger.device}, epoch {ledger.epoch}"
        remembered = ledger.memory is not None
        begin, known = ledger.start().seq, ledger.acknowledged()
    what = f" ({totals(kinds)})" if kinds else ""
    print(f"{path}: {whose}, {check.count} entries{what}")
    if begin:
        print(f"  begins at entry {begin + 1}: those before were forgotten here after the city had signed for them")
    if known:
        print(f"  the city has signed for the entries up to {known.head.seq}")
    if open_debits:
        print(f"  {open_debits} debit(s) with an open outcome: the trip is still running, or the power went")
    if not remembered:
        print("  there is no memory of this epoch beside it, so a cut-off end would not show")
    _tell(check, begin, sys.stdout)
    return 1 if check.findings else 0


def _tell(check: Check, begin: int, stream: TextIO) -> None:
    if not check.findings:
        first = f"entry {begin + 1}" if begin else "the first entry"
        print(f"  whole: the chain holds from {first} to {check.head.seq}, hash {check.head.hash.hex()[:16]}…", file=stream)
    for finding in check.findings:
        print(f"  BROKEN: {finding}", file=stream)


def _show(options: argparse.Namespace) -> int:
    after, limit = cast("int", options.after), cast("int | None", options.limit)
    if after < 0 or (limit is not None and limit < 1):
        raise Failure("--after must be 0 or more and --limit 1 or more")
    with compose.open_ledger_file(options.file) as ledger:
        for entry in islice(_entries(ledger.after, after), limit):
            print(line(entry))
        for intent in ledger.intents():
            print(line(intent.entry).replace("      0", "   open", 1))
        for seq, code in ledger.rejected():
            print(f"{seq:>7}  the city has set this entry aside: {code}")
    return 0


def _entries(fetch: Callable[[int, int], list[Entry]], seq: int) -> Iterator[Entry]:
    while entries := fetch(seq, 500):
        yield from entries
        seq = entries[-1].seq


def _export(options: argparse.Namespace) -> int:
    output = cast("Path | None", options.output)
    try:
        with contextlib.nullcontext(sys.stdout) if output is None else output.open("w", encoding="utf-8", newline="") as stream:
            findings = _write(cast("list[Path]", options.files), cast("str", options.format), stream)
    except OSError as error:
        raise Failure(f"{output or 'standard output'} cannot be written ({error.strerror}); name another file with -o") from error
    for path, finding in findings:
        print(f"kazashi ledger: {path}: {finding}; what cannot be believed was left out", file=sys.stderr)
    return 1 if findings else 0


def _write(paths: list[Path], form: str, stream: TextIO) -> list[tuple[Path, Finding]]:
    write = _csv(stream) if form == "csv" else _jsonl(stream)
    findings: list[tuple[Path, Finding]] = []
    for path in paths:
        with compose.open_ledger_file(path) as ledger:
            findings += [(path, finding) for finding in ledger.verify(write).findings]
    return findings


def _jsonl(stream: TextIO) -> Callable[[Entry], None]:
    def write(entry: Entry) -> None:
        stream.write(json.dumps(record(entry), ensure_ascii=False) + "\n")

    return write


def _csv(stream: TextIO) -> Callable[[Entry], None]:
    writer = csv.DictWriter(stream, FIELDS)
    writer.writeheader()

    def write(entry: Entry) -> None:
        writer.writerow(record(entry))

    return write


def _stick(options: argparse.Namespace) -> int:
    folder, config = cast("Path", options.folder), load(cast("list[Path]", options.config))
    if not folder.is_dir():
        raise Failure(f"{folder}: is no folder; name one on the stick")
    try:
        taken = _take_receipts(folder, config)
        _finish(taken, config)
        written = _write_letters(folder, config)
    except VaultLost as error:
        raise Failure(f"{error}; nothing more can be signed, plug the token in and run this again") from error
    except OSError as error:
        raise Failure(f"{error.filename or folder}: cannot be used ({error.strerror}); check the stick") from error
    print(f"{folder}: {len(taken)} receipts taken from it, {written} files written to it")
    return 0


def _take_receipts(folder: Path, config: Config) -> list[Receipt]:
    """Receipts go to the station, as the courier lays them; what they were for is taken off the stick, and the rest stays on it."""
    letterbox, taken = compose.open_letterbox(config), list[Receipt]()
    for file in sorted(folder.glob("*.receipt")):
        with file.open("rb") as stream:
            sealed = stream.read(MAX_SEALED + 1)
        try:
            receipt = letterbox.city.receipt(sealed)
        except LedgerError as error:
            print(f"kazashi ledger: {file}: {error}", file=sys.stderr)
            continue
        if receipt.device != config.terminal:
            continue
        letterbox.lay(sealed, receipt)
        if file.name == f"{receipt.device}-{receipt.epoch}{stick.LOSS}.receipt":
            letterbox.told(f"{receipt.epoch}.loss")
        file.with_name(file.name.removesuffix(".receipt")).unlink(missing_ok=True)
        file.unlink()
        taken.append(receipt)
    return taken


def _finish(receipts: Sequence[Receipt], config: Config) -> None:
    """Ledgers that were set aside and of which nothing is left to send are not looked at again, by stick or by wire."""
    letterbox, done = compose.open_letterbox(config), list[int]()
    for path in compose.ledgers_beside(config.ledger)[:-1]:
        with contextlib.suppress(LedgerError), compose.open_ledger_to_send(path) as ledger:
            done += [receipt.epoch for receipt in receipts if stick.done(ledger, receipt)]
    memory = letterbox.memory()
    if news := set(done).difference(memory.done):
        letterbox.remember(replace(memory, done=(*memory.done, *sorted(news))))


def _write_letters(folder: Path, config: Config) -> int:
    keyring, letterbox = compose.open_keyring(config), compose.open_letterbox(config)
    *aside, current = compose.ledgers_beside(config.ledger)
    waiting = [path for path in aside if _waits(path, letterbox.memory().done)]
    if not waiting:
        with compose.open_ledger_to_send(current) as ledger:
            stick.settle(ledger, keyring)
    written = 0
    for told in letterbox.losses():
        name, sealed = stick.loss(told.loss, keyring.signer())
        replace_file(folder / name, sealed)
        written += 1
    for path in (*waiting, current):
        with compose.open_ledger_to_send(path) as ledger:
            for name, sealed in stick.batches(ledger, keyring, time.time_ns() // 1_000_000):
                replace_file(folder / name, sealed)
                written += 1
    return written


def _waits(path: Path, done: Sequence[int]) -> bool:
    """Whether a ledger that was set aside holds what the city lacks; one that cannot be read keeps no other back."""
    try:
        with compose.open_ledger_to_send(path) as ledger:
            return ledger.epoch not in done and stick.waits(ledger)
    except LedgerError as error:
        print(f"kazashi ledger: {error}", file=sys.stderr)
        return False
