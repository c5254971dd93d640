"""Whatever happens on the way, each entry is in the books once: batches cut anew, overlapping, shuffled and sent again, answers lost,
programs and databases killed. Sums are compared with what the ledgers say, to the yen.
"""

import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from backoffice import book, receive, schema
from backoffice.city import BooksAway
from backoffice.store import Store
from ledger.batch import Batch, pack, unpack
from ledger.codec import decode

MakeVehicle = Callable[..., Any]
Killer = Callable[[random.Random], None]

VEHICLES = 24
FEEDERS = 3
NOW = 1_770_000_000_000
KID = b"kid 0001"
fork = multiprocessing.get_context("fork")


def bring(books: Store, batch: Batch) -> receive.Answer:
    """A batch as it arrives, through its bytes."""
    payload = pack(batch)
    return books.receive(payload, KID, unpack(payload), NOW)


def feed(url: str, fleet: list[Any], seed: int, sent: Path, longest: int) -> None:
    """A back end, and the terminals that talk to it. Sends for ever; somebody will kill it."""
    chance = random.Random(seed)
    told: dict[int, int] = {}
    record = os.open(sent, os.O_WRONLY | os.O_APPEND)
    books = Store.open(url)
    while True:
        bus = chance.choice(fleet)
        match chance.randrange(4):
            case 0:  # the newest first, after a long silence
                first = max(1, bus.count - chance.randrange(longest))
            case 1:  # anything
                first = chance.randrange(1, bus.count + 1)
            case _:  # on from what the last answer said
                first = min(told.get(bus.device, 1), bus.count)
        batch = bus.batch(first, min(bus.count, first + chance.randrange(longest)))
        try:
            answer = bring(books, batch)
        except BooksAway:
            time.sleep(0.05)
            continue
        os.write(record, batch.count.to_bytes(2, "big"))
        if chance.random() < 0.7:  # else the answer was lost on the way
            told[bus.device] = answer.next_seq


@contextmanager
def feeders(url: str, fleet: list[Any], seed: int, sent: Path, longest: int) -> Iterator[Killer]:
    """Several of them; gives who kills one and starts another."""
    running: list[BaseProcess] = []
    seeds = iter(range(seed * 10_000, seed * 10_000 + 10_000))

    def start() -> None:
        process = fork.Process(target=feed, args=(url, fleet, next(seeds), sent, longest), daemon=True)
        process.start()
        running.append(process)

    def kill_one(chance: random.Random) -> None:
        victim = running.pop(chance.randrange(len(running)))
        assert victim.is_alive(), "a back end died by itself"
        victim.kill()
        victim.join()
        start()

    for _ in range(FEEDERS):
        start()
    try:
        yield kill_one
        assert all(process.is_alive() for process in running), "a back end died by itself"
    finally:
        for process in running:
            process.kill()
            process.join()


def sent_so_far(sent: Path) -> int:
    """Entries that arrived and were answered; those of a back end that was killed before it could say so are not counted."""
    data = sent.read_bytes()
    return sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))


def patiently(books: Store, batch: Batch) -> receive.Answer:
    """Sent until there is an answer."""
    while True:
        try:
            return bring(books, batch)
        except BooksAway:
            time.sleep(0.02)


def bring_the_rest(books: Store, bus: Any) -> None:
    """What a courier does in the end: it fills what the receipt calls missing."""
    answer = patiently(books, bus.batch(bus.count, bus.count))
    while answer.next_seq <= bus.count:
        last = answer.holes[0][1] if answer.holes else bus.count
        answer = patiently(books, bus.batch(answer.next_seq, min(last, answer.next_seq + 199)))


def storm(
    url: str, fleet: list[Any], seed: int, folder: Path, *, killers: list[Killer], least_kills: int
) -> tuple[int, set[tuple[int, int]]]:
    """Sends everything 2.5 times and kills meanwhile; how many kills it were, and the (device, seq) of planted conflicts."""
    chance = random.Random(seed)
    total = sum(bus.count for bus in fleet)
    longest = max(20, fleet[0].count // 8)
    sent = folder / f"sent-{seed}"
    sent.touch()
    planted: set[tuple[int, int]] = set()
    kills = 0
    with Store.open(url) as books, feeders(url, fleet, seed, sent, longest) as kill_one:
        while sent_so_far(sent) < 2.5 * total or kills < least_kills:
            time.sleep(chance.uniform(0.02, 0.2))
            chance.choice([kill_one, kill_one, *killers])(chance)
            kills += 1
            bus = chance.choice(fleet[: VEHICLES // 4])
            seq = chance.randrange(1, bus.count + 1)
            first, last = max(1, seq - chance.randrange(9)), min(bus.count, seq + chance.randrange(9))
            patiently(books, bus.batch(first, last))
            answer = patiently(books, bus.rewritten(seq).batch(first, last))
            assert (seq, receive.CONFLICT) in answer.rejects
            planted.add((bus.device, seq))
    with Store.open(url) as books:
        for bus in fleet:
            bring_the_rest(books, bus)
    return kills, planted


def check(url: str, fleet: list[Any], planted: set[tuple[int, int]]) -> dict[tuple[str, str], int]:
    """Not one entry too many or too few, nor one yen; the sums by accounts."""
    entry, posting, alarm = schema.entry, schema.posting, schema.alarm
    expected = {(bus.device, seq): receive.digest_of(data) for bus in fleet for seq, data in enumerate(bus.entries, 1)}
    read = [decode(data, device=bus.device, epoch=bus.epoch) for bus in fleet for data in bus.entries]
    booked = Counter((each.device, each.seq, *posting) for each in read for posting in book.postings_of(each))
    with Store.open(url) as books, books.reading() as connection:
        found = {(row[0], row[1]): row[2] for row in connection.execute(sa.select(entry.c.device, entry.c.seq, entry.c.digest))}
        columns = (posting.c.device, posting.c.seq, posting.c.leg, posting.c.kind, posting.c.debit, posting.c.credit, posting.c.amount)
        kept = Counter(map(tuple, connection.execute(sa.select(*columns))))
        conflicts = [tuple(row) for row in connection.execute(sa.select(alarm.c.device, alarm.c.seq).where(alarm.c.kind == "conflict"))]
        chains = set(connection.scalars(sa.select(alarm.c.device).where(alarm.c.kind == "chain")))
        sealed = list(connection.scalars(sa.select(schema.batch.c.sealed)))
        sums = sa.select(posting.c.debit, posting.c.credit, sa.func.sum(posting.c.amount)).group_by(posting.c.debit, posting.c.credit)
        yen = {(row[0], row[1]): int(row[2]) for row in connection.execute(sums)}
        for bus in fleet:
            now = books.stored(bus.device, bus.epoch)
            assert (now.next_seq, now.holes) == (bus.count + 1, ())
            if bus.device not in {device for device, _ in planted}:
                assert now.head == bus.hashes[-1]
    assert found == expected
    assert kept == booked
    assert len(conflicts) == len(set(conflicts))
    assert set(conflicts) == planted
    assert chains <= {device for device, _ in planted}
    evidence = {(batch.device, seq, receive.digest_of(data)) for batch in map(unpack, sealed) for seq, data in numbered(batch)}
    assert {(device, seq, digest) for (device, seq), digest in expected.items()} <= evidence
    return yen


def numbered(batch: Batch) -> Iterator[tuple[int, bytes]]:
    return zip(range(batch.first_seq, batch.last_seq + 1), batch.entries, strict=True)


def a_fleet(vehicle: MakeVehicle, seed: int, *, full: bool) -> list[Any]:
    return [vehicle(device, 100 * seed + device, 400 if full else 25) for device in range(1, VEHICLES + 1)]


@pytest.mark.prove(parts=6)
def test_programs_that_are_killed_book_everything_once_in_sqlite(proof: Any, vehicle: MakeVehicle, tmp_path: Path) -> None:
    for seed in proof.seeds(small=1, full=12):
        fleet = a_fleet(vehicle, seed, full=proof.full)
        url = f"sqlite:///{tmp_path / f'books-{seed}.db'}"
        with Store.open(url) as books:
            books.migrate()
        _, planted = storm(url, fleet, seed, tmp_path, killers=[], least_kills=40 if proof.full else 6)
        check(url, fleet, planted)


@pytest.mark.prove(parts=6)
def test_programs_and_a_database_that_are_killed_book_everything_once_in_postgresql(
    proof: Any, vehicle: MakeVehicle, tmp_path: Path, postgresql_to_kill: Any
) -> None:
    server = postgresql_to_kill

    def kill_a_backend(chance: random.Random) -> None:
        """PostgreSQL then throws out everybody and recovers as after a crash."""
        pids = server.backends()
        if pids:
            os.kill(chance.choice(pids), 9)

    def kill_the_server(_: random.Random) -> None:
        server.kill()
        server.start()

    for seed in proof.seeds(small=1, full=12):
        fleet = a_fleet(vehicle, seed, full=proof.full)
        url = server.url(server.new_database())
        with Store.open(url) as books:
            books.migrate()
        _, planted = storm(url, fleet, seed, tmp_path, killers=[kill_a_backend, kill_the_server], least_kills=40 if proof.full else 6)
        server.wait()
        check(url, fleet, planted)


@pytest.mark.prove(parts=4)
def test_sqlite_and_postgresql_come_to_the_same_yen(proof: Any, vehicle: MakeVehicle, tmp_path: Path, postgresql: Any) -> None:
    for seed in proof.seeds(small=1, full=8):
        fleet = a_fleet(vehicle, seed, full=proof.full)
        yen = []
        for number, url in enumerate((f"sqlite:///{tmp_path / f'{seed}.db'}", postgresql.url(postgresql.new_database("books_1")))):
            with Store.open(url) as books:
                books.migrate()
            folder = tmp_path / f"{seed}-{number}"
            folder.mkdir()
            _, planted = storm(url, fleet, seed, folder, killers=[], least_kills=2)
            yen.append(check(url, fleet, planted))
        assert yen[0] == yen[1]
        assert sum(yen[0].values()) > 0
