"""The rate on top of 20 million rides against the rate on top of 1 million. Only when asked for: ``make bench ARGS=scale`` (20 GB, half an
hour). ``KAZASHI_SCALE=LARGE,SMALL`` measures other sizes.

Both databases stand in one PostgreSQL and get the same batches in turn, so whatever else the machine does hits both. What is below is
loaded in bulk, in the order in which buses upload it, without indexes, which are made afterwards; vehicles on top have numbers between
those below, so that their rows go into the middle of every index.
"""

import gc
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from rides import batches
from rows import Row
from sqlalchemy import insert, literal_column

from backoffice import rows as books_rows
from backoffice import schema
from backoffice.move import move
from backoffice.store import Store
from ledger.batch import pack, unpack
from ledger.entry import Entry

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "backoffice"))
from postgresql_server import Server

LARGE, SMALL = (int(text) for text in os.environ.get("KAZASHI_SCALE", "20000000,1000000").split(","))
A_VEHICLE, A_DAY, OF = 20_000, 300, 200
RIDES_OF_A_RIDER = 200
VEHICLES_ON_TOP, WARM = 60, 60
NOW = 1_770_000_000_000
SETTINGS = (
    "shared_buffers=2GB",
    "max_wal_size=16GB",
    "wal_compression=lz4",
    "wal_level=minimal",
    "max_wal_senders=0",
    "maintenance_work_mem=1GB",
)


def rows() -> list[Row]:
    """One figure, when it was asked for."""
    if "scale" not in sys.argv:
        return []
    if not Server.is_here():
        return [Row("rate on top of many rides", "not measured: PostgreSQL 15 is not installed", "–", ok=True)]
    server = Server(safe=True, settings=SETTINGS)
    try:
        stores = [loaded(server, rides) for rides in (LARGE, SMALL)]
        large, small = on_top(stores)
        sizes = [size(server, store) for store in stores]
        moving = moved(server, SMALL)
    finally:
        server.close()
    ratio = small / large
    rate = f"{OF / large:,.0f} a second on {LARGE:,}, {OF / small:,.0f} on {SMALL:,}: {ratio:.2f} ×"
    return [
        Row("rate on top of many rides against few", rate, "≥ 0.8 ×", ratio >= 0.8),
        Row("bytes a ride in PostgreSQL, indexes included", f"{sizes[0] / LARGE:,.0f}", "(no bar)", ok=True),
        Row(f"{SMALL:,} rides moved from SQLite to PostgreSQL, compared", moving, "(no bar)", ok=True),
    ]


def on_top(stores: list[Store]) -> tuple[float, float]:
    """Mean seconds a batch, for each. Batches are decoded before, go to the two in turn, and to each first as often as to the other."""
    sent = [unpack(pack(batch)) for device in range(1, 2 * VEHICLES_ON_TOP, 2) for batch in batches(device, 5 * OF, OF, return_share=0.35)]
    chance = random.Random(1)
    sent.sort(key=lambda batch: (batch.first_seq, chance.random()))
    assert all(batch.read for batch in sent)
    gc.collect()
    gc.freeze()
    taken: list[list[float]] = [[], []]
    for number, batch in enumerate(sent):
        for which in (0, 1) if number % 2 else (1, 0):
            begin = time.perf_counter()
            stores[which].receive(b"%d" % number, b"kid 0001", batch, NOW)
            taken[which].append(time.perf_counter() - begin)
    return statistics.mean(taken[0][WARM:]), statistics.mean(taken[1][WARM:])


def loaded(server: Server, rides: int) -> Store:
    """Books with so many rides in them."""
    database = server.new_database()
    store = Store.open(server.url(database))
    store.migrate()
    indexes = {}
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        asked = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('entry', 'posting') AND indexname NOT LIKE '%\\_pk'"
        indexes = dict(connection.execute(asked).fetchall())
        connection.execute("; ".join(f"DROP INDEX {name}" for name in indexes))
        connection.execute("ALTER TABLE entry DROP CONSTRAINT entry_pk; ALTER TABLE posting DROP CONSTRAINT posting_pk")
    context = multiprocessing.get_context("fork")
    loaders = [context.Process(target=load, args=(server.url(database), rides, table)) for table in ("entry", "posting")]
    for loader in loaders:
        loader.start()
    for loader in loaders:
        loader.join()
        assert loader.exitcode == 0
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        connection.execute("ALTER TABLE entry ADD CONSTRAINT entry_pk PRIMARY KEY (device, epoch, seq)")
        connection.execute("ALTER TABLE posting ADD CONSTRAINT posting_pk PRIMARY KEY (device, epoch, seq, leg)")
        for definition in indexes.values():
            connection.execute(definition)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    print(f"loaded {rides:,} at {time.strftime('%H:%M:%S')}", file=sys.stderr, flush=True)
    return store


def load(url: str, rides: int, table: str) -> None:
    """In bulk, into a table emptied in the same transaction, which needs no log. The rows of ``uploads``, made where they go: in C."""
    vehicles, blocks, riders = max(1, rides // A_VEHICLE), min(A_VEHICLE, rides) // OF, max(1, rides // RIDES_OF_A_RIDER)
    rider = f"substring(decode(md5(((hashint8(block * 1000003 + v * 1009 + s) & 2147483647) %% {riders})::text), 'hex') FOR 8)"
    places = f"generate_series(0, {blocks - 1}) block, generate_series(1, {vehicles}) v, generate_series(1, {OF}) s"
    at_ms, day = f"{NOW} + 90000::bigint * (block * {OF} + s)", f"20486 + (block * {OF} + s) / {A_DAY}"
    if table == "entry":
        template = next(iter(uploads(OF, table)))[0]
        made = {"device": "v * 2", "seq": f"block * {OF} + s", "service_day": day, "rider": rider}
        made |= {"digest": "decode(md5(block || '.' || v || '.' || s), 'hex')", "utc_ms": at_ms, "mono_ms": at_ms, "received_ms": at_ms}
        picked = ", ".join(made.get(name, "%s") for name in books_rows.ENTRY)
        values = [value for name, value in zip(books_rows.ENTRY, template, strict=True) if name not in made]
        columns = books_rows.ENTRY
    else:
        two = "(100, 1, 'rider:', 'operator:minato:points'), (80, 2, 'riders:cash', 'operator:minato:cash')"
        legs = f"(VALUES {two}) t (amount, leg, debit, credit)"
        debit = f"CASE WHEN t.leg = 1 THEN t.debit || encode({rider}, 'hex') ELSE t.debit END"
        picked = f"v * 2, 4711, block * {OF} + s, t.amount, {at_ms}, t.leg, {day}, t.leg, {debit}, t.credit"
        places, values, columns = f"{places}, {legs}", [], books_rows.POSTING
    with psycopg.connect(url) as connection:
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        connection.execute(f"TRUNCATE {table}")
        connection.execute(" ".join(("INSERT INTO", table, f"({', '.join(columns)})", "SELECT", picked, "FROM", places)), values)
        connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def uploads(rides: int, table: str) -> Iterator[list[books_rows.Row]]:
    """Rows as vehicles bring them: a batch of each in turn."""
    batch, seq = next(
        (batch, read.seq)
        for batch in batches(2, OF, OF, return_share=0)
        for read in batch.read
        if isinstance(read, Entry) and read.fare.cash and read.fare.points
    )
    (template,) = books_rows.entry_rows(batch, {seq: bytes(16)}, NOW)
    postings = books_rows.posting_rows(batch, {seq: bytes(16)}, NOW)
    chance = random.Random(rides)
    riders = [chance.randbytes(8) for _ in range(max(1, rides // RIDES_OF_A_RIDER))]
    vehicles = range(2, 2 * max(1, rides // A_VEHICLE) + 2, 2)
    for first in range(1, min(A_VEHICLE, rides) + 1, OF):
        for device in vehicles:
            chunk: list[books_rows.Row] = []
            for seq in range(first, first + OF):
                day, at_ms = 20_486 + seq // A_DAY, NOW + 90_000 * seq
                rider = chance.choice(riders)
                if table == "entry":
                    head = (device, 4711, seq, at_ms, at_ms, 90_000 * seq)
                    chunk.append((*head, *template[6:17], day, *template[18:29], chance.randbytes(16), rider, *template[31:]))
                else:
                    name = "rider:" + rider.hex()
                    for row in postings:
                        debit = name if row[8].startswith("rider:") else row[8]
                        chunk.append((device, 4711, seq, row[3], at_ms, row[5], day, row[7], debit, row[9]))
            yield chunk


def moved(server: Server, rides: int) -> str:
    """How long the move took."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).resolve().parents[2] / "build") as folder:
        url = f"sqlite:///{folder}/old.db"
        with Store.open(url) as store:
            store.migrate()
            with store.writing() as connection:
                for table, names in (("entry", books_rows.ENTRY), ("posting", books_rows.POSTING)):
                    statement = str(insert(schema.metadata.tables[table]).values({name: literal_column("?") for name in names}))
                    for chunk in uploads(rides, table):
                        connection.exec_driver_sql(statement, chunk)
                heads = "INSERT INTO ledger (device, epoch, next_seq, created_ms, contact_ms, number, closed, head) SELECT device, epoch, "
                connection.exec_driver_sql(f"{heads} max(seq) + 1, 1, 1, 1, 0, zeroblob(32) FROM entry GROUP BY device, epoch")
        begin = time.perf_counter()
        result = move(url, server.url(server.new_database()), lambda _: None)
        seconds = time.perf_counter() - begin
    return f"{seconds:,.0f} s, {result.rows['entry']:,} entries, {result.rows['posting']:,} postings, {result.ledgers} ledgers"


def size(server: Server, store: Store) -> int:
    with psycopg.connect(server.url(str(store.engine.url.database))) as connection:
        found = connection.execute(
            "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(ARRAY['entry', 'posting']) name"
        ).fetchone()
    return int(found[0]) if found else 0
