"""What it costs to receive: the whole road over HTTP into PostgreSQL, the store by itself, a batch that is known, and the same in SQLite.

The bar is a share of what PostgreSQL's own COPY does here, in this run, with the same rows and as many of them in a commit. It is measured
before and after, because others may use the machine too. PostgreSQL runs with everything that makes it safe.

The client, the server's processes and PostgreSQL share the machine's cores, as they would not in a city.
"""

import gc
import http.client
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rides import batches
from rows import Row
from sqlalchemy import insert

from backoffice import rows as books_rows
from backoffice import schema
from backoffice.store import Store, copy_of
from drivers.signing import Ed25519Key
from ledger.batch import Batch, pack, unpack
from ledger.seal import Content, key_id, seal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "backoffice"))
from postgresql_server import Server

ROOT = Path(__file__).resolve().parents[2]
VEHICLES, RIDES, OF = 48, 1000, 200
CONNECTIONS = 8
UP_S = 3  # until each of the server's processes has imported what it needs
NOW = 1_770_000_000_000
COPY, COPYING = copy_of(schema.entry)
SETTINGS = ("shared_buffers=512MB", "max_wal_size=8GB", "wal_compression=lz4")


@dataclass(frozen=True)
class Load:
    """Batches as their terminals seal them."""

    signers: dict[int, Ed25519Key]
    sent: list[tuple[bytes, Batch]]

    @property
    def rides(self) -> int:
        return sum(batch.count for _, batch in self.sent)


def make_load(first: int, vehicles: int = VEHICLES, rides: int = RIDES) -> Load:
    """Vehicles in turn, as uploads mix."""
    signers = {device: Ed25519Key(device.to_bytes(32, "big")) for device in range(first, first + vehicles)}
    by_vehicle = [batches(device, rides, OF, return_share=0.35) for device in signers]
    mixed = [batch for round_ in zip(*by_vehicle, strict=True) for batch in round_]
    payloads = [(signers[batch.device], pack(batch)) for batch in mixed]
    return Load(signers, [(seal(signer, Content.BATCH, payload), unpack(payload)) for signer, payload in payloads])


def rows() -> list[Row]:
    """All figures of receiving."""
    if not Server.is_here():
        return [Row("receiving", "not measured: PostgreSQL 15 is not installed", "–", ok=True)]
    load = make_load(1)
    gc.collect()
    gc.freeze()  # the load is not the back office's garbage
    server = Server(safe=True, settings=SETTINGS)
    try:
        return [*postgresql(server, load), *sqlite(load)]
    finally:
        server.close()


def postgresql(server: Server, load: Load) -> list[Row]:
    before = copy_rate(server, load)
    http_rate = over_http(server.url(new_books(server, load)), load, workers=2)
    own, replay = by_itself(server.url(new_books(server, load)), load)
    after = copy_rate(server, load)
    floor = statistics.mean((before, after))
    share = http_rate / floor
    return [
        Row("COPY of the same rows, 200 a commit, one client", f"{floor:,.0f} a second ({before:,.0f}, {after:,.0f})", "(no bar)", ok=True),
        Row("HTTP to PostgreSQL, 200 rides a batch, rides a second", f"{http_rate:,.0f}", "≥ 10,000", http_rate >= 10_000),
        Row("… against COPY", f"{share:.2f} ×", "≥ 0.25 ×", share >= 0.25),
        Row("store by itself, one client, PostgreSQL, rides a second", f"{own:,.0f}", "(no bar)", ok=True),
        Row("a batch sent again, p50, PostgreSQL", f"{replay:.2f} ms", "≤ 1 ms", replay <= 1),
    ]


def sqlite(load: Load) -> list[Row]:
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        url = f"sqlite:///{folder}/http.db"
        prepare(url, load)
        http_rate = over_http(url, load, workers=1)
        url = f"sqlite:///{folder}/own.db"
        prepare(url, load)
        own, replay = by_itself(url, load)
    return [
        Row("HTTP to SQLite, 200 rides a batch, rides a second", f"{http_rate:,.0f}", "(no bar)", ok=True),
        Row("store by itself, one client, SQLite, rides a second", f"{own:,.0f}", "(no bar)", ok=True),
        Row("a batch sent again, p50, SQLite", f"{replay:.2f} ms", "≤ 1 ms", replay <= 1),
    ]


# --- the floor ----------------------------------------------------------------------------------------------------------------------------


def copy_rate(server: Server, load: Load) -> float:
    """Entries as the books have them, into a table with the books' indexes; nothing is asked, compared or booked."""
    database = new_books(server, load)
    ready = [
        COPYING.pack(books_rows.entry_rows(batch, dict.fromkeys(range(batch.first_seq, batch.last_seq + 1), bytes(16)), NOW))
        for _, batch in load.sent
    ]
    with psycopg.connect(server.url(database)) as connection:
        begin = time.perf_counter()
        for data in ready:
            with connection.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.write(data)
            connection.commit()
        return load.rides / (time.perf_counter() - begin)


# --- the books ----------------------------------------------------------------------------------------------------------------------------


def new_books(server: Server, load: Load) -> str:
    database = server.new_database()
    prepare(server.url(database), load)
    return database


def prepare(url: str, load: Load) -> None:
    """Empty books that know the vehicles."""
    with Store.open(url) as store:
        store.migrate()
        devices = [{"id": device, "name": f"bus-{device}", "operator": "minato", "created_ms": NOW} for device in load.signers]
        keys = [
            {"kid": key_id(signer.public), "device": device, "algorithm": int(signer.algorithm), "public": signer.public}
            | {"from_epoch": 0, "from_seq": 0, "created_ms": NOW}
            for device, signer in load.signers.items()
        ]
        with store.writing() as connection:
            connection.execute(insert(schema.device), devices)
            connection.execute(insert(schema.device_key), keys)


def by_itself(url: str, load: Load) -> tuple[float, float]:
    """Rides a second without HTTP, seal and decoding; and the median ms of a batch that is known."""
    with Store.open(url) as store:
        begin = time.perf_counter()
        for sealed, batch in load.sent:
            store.receive(sealed, b"kid 0001", batch, NOW)
        rate = load.rides / (time.perf_counter() - begin)
        taken: list[float] = []
        for sealed, batch in load.sent:
            begin = time.perf_counter()
            store.receive(sealed, b"kid 0001", batch, NOW)
            taken.append((time.perf_counter() - begin) * 1000)
    return rate, statistics.median(taken)


def over_http(url: str, load: Load, *, workers: int) -> float:
    """Rides a second, from the first byte sent to the last receipt; each vehicle's first batch is sent before, while the server starts."""
    warm, sent = load.sent[: len(load.signers)], load.sent[len(load.signers) :]
    with serving(url, workers) as port:
        send_all(port, [sealed for sealed, _ in warm[::2]])
        time.sleep(UP_S)
        send_all(port, [sealed for sealed, _ in warm[1::2]])
        context = multiprocessing.get_context("fork")
        receiving, sending = context.Pipe(duplex=False)
        client = context.Process(target=lambda: sending.send(send_all(port, [sealed for sealed, _ in sent])))
        client.start()
        seconds = receiving.recv()
        client.join()
    return sum(batch.count for _, batch in sent) / seconds


def send_all(port: int, messages: Sequence[bytes]) -> float:
    queue = iter(messages)
    lock = threading.Lock()
    threads = [threading.Thread(target=send, args=(port, queue, lock)) for _ in range(CONNECTIONS)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def send(port: int, queue: Iterator[bytes], lock: threading.Lock) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while True:
        with lock:
            message = next(queue, None)
        if message is None:
            return
        connection.request("POST", "/v1/batches", message, {"Content-Type": "application/cose"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(body)


@contextmanager
def serving(url: str, workers: int) -> Iterator[int]:
    """The back office as a city starts it, in processes of its own; gives the port."""
    kazashi = str(Path(sys.executable).parent / "kazashi")
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        config = Path(folder) / "city.toml"
        address = url if url.startswith("postgresql") else f"sqlite:///{url.removeprefix('sqlite:///')}"
        config.write_text(f'format = 1\n[database]\nurl = "{address}"\n[listen]\nport = 0\nworkers = {workers}\n')
        command = [kazashi, "backoffice", "--config", str(config)]
        subprocess.run([*command, "init"], check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen([*command, "serve"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder)
        try:
            yield ready(process)
        finally:
            process.terminate()
            process.wait()


def ready(process: "subprocess.Popen[str]") -> int:
    for line in process.stdout or ():
        if line.startswith("ready:"):
            return int(line.split("http://127.0.0.1:")[1].split("/")[0])
    raise RuntimeError("the back office did not start")


if __name__ == "__main__":
    os.chdir(ROOT)
    for row in rows():
        print(row)
