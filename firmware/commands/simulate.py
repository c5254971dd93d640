"""``kazashi simulate``: ledgers of a town as sealed batches, with the truth beside them.

What ``firmware.simulation`` makes, on the disk::

    batches/<device>-<epoch>-<first>-<last>.batch    sealed, one file each
    devices.toml                                     who signs: number, name, operator, public key
    arrivals.toml                                    the files in the order in which they reach the city, and when
    truth.toml                                       what really happened

The devices' keys follow from the seed and are no secret; nobody enrols them in a real city.
"""

import argparse
import base64
import hashlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import cast

from firmware import compose
from firmware.failure import Failure
from firmware.simulation import Month, Rider, Run, Simulation, Truth, Wish
from ledger import seal
from ledger.batch import Batch, pack

SCHEME = compose.ROOT / "fares" / "schemes" / "silver_emica.toml"
TOWN = compose.ROOT / "examples" / "town"
_MOST_WAITING = 64


def arguments(parser: argparse.ArgumentParser) -> None:
    """How much of what, and where to."""
    parser.description = "Make the ledgers of a town's buses, as sealed batches, with people's mistakes in them and the truth beside them."
    parser.add_argument("--vehicles", type=int, required=True, metavar="N", help="how many vehicles")
    parser.add_argument("--days", type=int, required=True, metavar="D", help="how many days")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="the same seed makes the same bytes")
    parser.add_argument("--feed", type=Path, default=TOWN, help="a GTFS-JP feed (default: the example town)")
    parser.add_argument(
        "--operator", type=Path, action="append", metavar="FILE", help="an operator's file, or several (default: FEED/operator.toml)"
    )
    parser.add_argument("--scheme", type=Path, default=SCHEME, help="the city's scheme (default: silver_emica)")
    parser.add_argument(
        "--from", dest="first_day", type=_day, default=date(2026, 4, 1), metavar="DAY", help="the first day (default: 2026-04-01)"
    )
    parser.add_argument("--rides", type=int, default=300, metavar="N", help="per vehicle and day, about (default: 300)")
    parser.add_argument("--riders", type=int, default=0, metavar="N", help="people with a card (default: so many that most purses last)")
    parser.add_argument("--batch", type=int, default=200, metavar="N", help="entries in a batch (default: 200)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder for all of it")


def run(options: argparse.Namespace) -> int:
    """Simulate, seal, write; say how much it was and how fast."""
    folder = cast("Path", options.out)
    feed = cast("Path", options.feed)
    operators = cast("list[Path] | None", options.operator) or [feed / "operator.toml"]
    town = compose.open_simulation(_wish(options), feed, operators, options.scheme)
    began = time.monotonic()
    try:
        (folder / "batches").mkdir(parents=True)
        count = _write(town, folder)
    except FileExistsError as error:
        raise Failure(f"{folder}: has batches in it already; name a new folder") from error
    except OSError as error:
        raise Failure(f"{folder}: cannot be written ({error.strerror}); name another folder") from error
    took_s = time.monotonic() - began
    entries = town.truth.entries
    print(f"{folder}: {entries:,} entries in {count:,} batches, {len(town.riders):,} riders; {entries / took_s:,.0f} entries/s")
    for (operator, month), sums in sorted(town.truth.months.items()):
        money = f"{sums.points:,} points, {sums.cash:,} yen in cash"
        print(f"  {operator} {month}: {sums.rides:,} paid rides, {money}, {sums.free_rides:,} free rides")
    return 0


def device_key(seed: int, device: int) -> bytes:
    """The private Ed25519 key of a simulated device."""
    return hashlib.sha256(f"kazashi simulation device {seed} {device}".encode()).digest()


@dataclass(frozen=True, slots=True)
class _Written:
    """A batch file, and when it arrives."""

    name: str
    arrives_ms: int


def _wish(options: argparse.Namespace) -> Wish:
    try:
        return Wish(
            vehicles=options.vehicles,
            days=options.days,
            seed=options.seed,
            first_day=options.first_day,
            rides=options.rides,
            riders=options.riders,
            batch=options.batch,
        )
    except ValueError as error:
        raise Failure(f"--vehicles, --days, --rides, --riders, --batch: {error}") from error


def _write(town: Simulation, folder: Path) -> int:
    keys = {device: device_key(town.wish.seed, device) for device, _, _ in town.vehicles}
    written: list[_Written] = []
    # Packing and sealing take as long as the simulation itself; a second core does them meanwhile.
    with ProcessPoolExecutor() as others:
        waiting: deque[Future[None]] = deque()
        for run_ in _told(town.runs(), town):
            one = run_.batch
            name = f"{one.device}-{one.epoch}-{one.first_seq}-{one.last_seq}.batch"
            waiting.append(others.submit(_seal, keys[one.device], one, folder / "batches" / name))
            written.append(_Written(name, run_.arrives_ms))
            if len(waiting) > _MOST_WAITING:
                waiting.popleft().result()
        for future in waiting:
            future.result()
    written.sort(key=lambda file: (file.arrives_ms, file.name))
    signers = {device: compose.signer_of(key) for device, key in keys.items()}
    (folder / "devices.toml").write_text("".join(_devices(town, signers)), encoding="utf-8")
    (folder / "arrivals.toml").write_text("".join(_arrivals(written)), encoding="utf-8")
    (folder / "truth.toml").write_text("".join(_truth(town)), encoding="utf-8")
    return len(written)


def _seal(key: bytes, one: Batch, file: Path) -> None:
    """In another process."""
    file.write_bytes(seal.seal(compose.signer_of(key), seal.Content.BATCH, pack(one)))


def _told(runs: Iterator[Run], town: Simulation) -> Iterator[Run]:
    """The runs, with a line that counts on a person's screen."""
    live = sys.stderr.isatty()
    for number, one in enumerate(runs, 1):
        yield one
        if live and number % 50 == 0:
            print(f"\r{town.truth.entries:>12,} entries", end="", file=sys.stderr, flush=True)
    if live:
        print(file=sys.stderr)


def _devices(town: Simulation, signers: dict[int, seal.Signer]) -> Iterator[str]:
    yield "# The devices of a simulation; the keys follow from the seed.\nformat = 1\n"
    for device, name, operator in town.vehicles:
        signer = signers[device]
        public = base64.urlsafe_b64encode(signer.public).rstrip(b"=").decode()
        yield f'\n[[device]]\nnumber = {device}\nname = "{name}"\noperator = "{operator}"\nalgorithm = "eddsa"\n'
        yield f'public_key = "{public}"\nkid = "{seal.key_id(signer.public).hex()}"\n'


def _arrivals(written: list[_Written]) -> Iterator[str]:
    yield "# The batches in the order in which they reach the city: file, Unix ms.\nformat = 1\narrivals = [\n"
    yield from (f'  ["{file.name}", {file.arrives_ms}],\n' for file in written)
    yield "]\n"


def _truth(town: Simulation) -> Iterator[str]:
    truth, wish = town.truth, town.wish
    yield "# What really happened. docs/simulate.md says what each number is.\nformat = 1\n"
    yield f"seed = {wish.seed}\nvehicles = {wish.vehicles}\ndays = {wish.days}\nfirst_day = {wish.first_day}\n"
    yield f"entries = {truth.entries}\ntouches = {truth.touches}\nsilent = {truth.silent}\npractice = {truth.practice}\n"
    for (operator, month), sums in sorted(truth.months.items()):
        yield f'\n[[month]]\noperator = "{operator}"\nmonth = "{month}"\n' + _sums(sums)
    yield from _cases(truth)
    yield "\n# rider = [granted, spent on the card, booked as paid, spent and booked nowhere]\n[riders]\n"
    lost = _lost(truth)
    for rider in town.riders:
        yield _rider(rider, lost.get(rider.id, 0))


def _sums(sums: Month) -> str:
    return "".join(f"{name} = {value}\n" for name, value in asdict(sums).items())


def _cases(truth: Truth) -> Iterator[str]:
    for fate in truth.unknown:
        yield f"\n[[unknown]]\ndevice = {fate.device}\nepoch = {fate.epoch}\nseq = {fate.seq}\n"
        yield f'rider = "{fate.rider.hex()}"\noperator = "{fate.operator}"\nday = {fate.day}\npoints = {fate.points}\n'
        yield f"done = {str(fate.done).lower()}\nresolved = {fate.resolved}\n"
    for slip in truth.wrong_stops:
        yield f'\n[[wrong_stop]]\ndevice = {slip.device}\nepoch = {slip.epoch}\nseq = {slip.seq}\ntrue_stop = "{slip.true_stop}"\n'


def _lost(truth: Truth) -> dict[bytes, int]:
    lost: dict[bytes, int] = {}
    for fate in truth.unknown:
        if fate.done and not fate.resolved:
            lost[fate.rider] = lost.get(fate.rider, 0) + fate.points
    return lost


def _rider(rider: Rider, lost: int) -> str:
    return f'"{rider.id.hex()}" = [{rider.grant.total}, {rider.counters.spent}, {rider.booked}, {lost}]\n'


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no day; write it as 2026-04-01") from None
