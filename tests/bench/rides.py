"""Rides as a small town makes them, for figures that depend on what the bytes say: nobody's, and the same for the same seed.

What no compressor can guess of a ride is there: every rider's hash, the fingerprint of the grant, the purse's own numbers, the log of the
bus that debited it last, the clock. What follows from the rest on a real line follows here: a fare from two stops, the points from a scheme
that takes a hundred at most, and a trip goes through its stops in order.
"""

import random
from dataclasses import replace
from itertools import pairwise

from drivers.cards.purse import RegLog
from ledger.batch import Batch
from ledger.chain import follow, genesis
from ledger.codec import encode
from ledger.entry import Counters, Entry, Fare, Kind, Medium, Place, Versions, When

EPOCH = 4711
BEGIN_MS = 1_770_000_000_000
STOPS = 24
VERSIONS = Versions(bytes.fromhex("9f14c2b07a3de851"), bytes.fromhex("20b7d9114cfa6e03"), bytes.fromhex("e1587c02ab94d63f"), "0.1.0", 1, 1)


def batches(device: int, rides: int, of: int, *, return_share: float) -> list[Batch]:
    """``rides`` rides of one vehicle, ``of`` to a batch. ``return_share``: how many are by a rider who came the same day already."""
    entries = day(device, rides, return_share=return_share)
    hashes = [genesis(device, EPOCH)]
    for data in entries:
        hashes.append(follow(hashes[-1], data))
    cuts = [*range(0, rides, of), rides]
    return [Batch(device, EPOCH, a + 1, hashes[a], tuple(entries[a:b]), BEGIN_MS) for a, b in pairwise(cuts)]


def day(device: int, rides: int, *, return_share: float) -> list[bytes]:
    """The entries 1 … ``rides`` of a vehicle, one trip after the other."""
    chance = random.Random(device)
    seen: list[Medium] = []
    found: list[bytes] = []
    time_ms, stop, trip = BEGIN_MS, 0, 1
    while len(found) < rides:
        time_ms += chance.randrange(45_000, 180_000)
        stop += 1
        if stop == STOPS:
            time_ms, stop, trip = time_ms + 480_000, 1, trip + 1
        for _ in range(min(chance.choice((0, 1, 1, 2, 3)), rides - len(found))):
            time_ms += chance.randrange(1_500, 6_000)
            comes_back = bool(seen) and chance.random() < return_share
            medium = seen.pop(chance.randrange(len(seen))) if comes_back else _somebody(chance)
            entry = _ride(device, len(found) + 1, time_ms, trip, (chance.randrange(stop), stop), medium=medium)
            if entry.medium and entry.medium.after and not comes_back:
                seen.append(replace(entry.medium, before=entry.medium.after, after=None))
            found.append(encode(entry))
    return found


def _somebody(chance: random.Random) -> Medium:
    """A card that was last debited on some bus of the town, minutes or weeks ago."""
    debits = chance.randrange(300)
    log = RegLog(chance.randrange(1, 30), BEGIN_MS // 1000 - chance.randrange(3_600, 14 * 86_400), 1).block()
    purse = Counters(chance.randrange(5, 250) * 10, 0xFFFF_FFFF - debits, log, 40 + 2 * debits + chance.randrange(20))
    return Medium(chance.randbytes(8), chance.choice((3000, 5000)), chance.choice((1, 1, 2)), chance.randbytes(8), purse)


def _ride(device: int, seq: int, time_ms: int, trip: int, way: tuple[int, int], *, medium: Medium) -> Entry:
    before = medium.before or Counters(0, 0, bytes(8), 0)
    nominal = 180 + 20 * ((way[1] - way[0]) // 4)
    points = min(100, before.rega)
    after = Counters(before.rega - points, before.regb - 1, RegLog(device, time_ms // 1000, 1).block(), before.wcnt + 1)
    return Entry(
        Kind.PAID,
        When(31, time_ms - BEGIN_MS + 421_337, time_ms, 3),
        Place("minato", f"{100 + device}", 12, f"R{1 + trip % 2}", f"T{trip:04}", f"S{way[0]:03}", f"S{way[1]:03}", 20_486),
        replace(medium, after=after),
        Fare(nominal, points, nominal - points, 1, 0),
        VERSIONS,
        row="proven",
        device=device,
        epoch=EPOCH,
        seq=seq,
    )
