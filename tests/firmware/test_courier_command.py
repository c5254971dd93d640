"""``kazashi courier`` and ``kazashi ledger stick`` as processes, against a small city on this machine."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from drivers.signing import Ed25519Key, SignatureChecker
from drivers.vault_file import VaultFile, demo_keys, write_keys
from firmware import compose
from firmware.cli import main
from firmware.config import load
from ledger.batch import MAX_SEALED, opened, unpack
from ledger.chain import follow, genesis
from ledger.entry import Entry, Kind, When
from ledger.notes import Loss, LossReason
from ledger.receipt import Receipt, encode
from ledger.seal import Content, check, key_id, parse, seal
from ledger.store import LedgerFile, Settings, Store

CITY = Ed25519Key(bytes(range(32)))
DEVICE, EPOCH = 12, 4711
SMALL = Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0)
CHECKER = SignatureChecker()


class City:
    """What any city must do: check the device's signature, keep entries, say what it has."""

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = {key_id(public): public for public in keys}
        self.entries: dict[tuple[int, int], bytes] = {}
        self.heard = threading.Event()
        self.stored = threading.Event()
        self.want = 0

    def answer(self, content: Content, body: bytes, epoch: int = EPOCH) -> bytes:
        parts = parse(body, content, MAX_SEALED)
        check(parts, CHECKER, self.keys[parts.kid])
        if content is Content.BATCH:
            batch = unpack(parts.payload)
            epoch = batch.epoch
            for seq, data, _ in opened(batch):
                assert self.entries.setdefault((epoch, seq), data) == data
        next_seq, head = 1, genesis(DEVICE, epoch)
        while (epoch, next_seq) in self.entries:
            head = follow(head, self.entries[epoch, next_seq])
            next_seq += 1
        self.heard.set()
        if len(self.entries) >= self.want > 0:
            self.stored.set()
        return seal(CITY, Content.RECEIPT, encode(Receipt(DEVICE, epoch, next_seq, head, issued_ms=1_770_000_000_000)))


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    """A vehicle's files, and the configuration that names them; the city's address is still to come."""
    write_keys(tmp_path / "bus.keys", demo_keys(5).for_terminal(bytes([7] * 32)))
    with Store.create(tmp_path / "bus.ledger", device=DEVICE, epoch=EPOCH, settings=SMALL) as store:
        for _ in range(250):
            store.append(Entry(Kind.BOOT, When(1, 2, 1_770_000_000_000, 3)))
    return configured(tmp_path, "http://127.0.0.1:9")


def configured(folder: Path, url: str) -> Path:
    path = folder / "bus.toml"
    path.write_text(
        f"""
format = 1
[terminal]
number = {DEVICE}
vehicle = "bus"
[reader]
address = "emulated:tray"
[rules]
table = "t"
operator = "o"
scheme = "s"
[keys]
file = "bus.keys"
[ledger]
file = "bus.ledger"
[duty]
routes = ["M1"]
[city]
url = "{url}"
keys = [{{ algorithm = "eddsa", public_key = "{compose.base64url(CITY.public)}" }}]
"""
    )
    return path


@pytest.fixture
def city(bus: Path) -> Iterator[City]:
    city = City([VaultFile.open(bus.with_name("bus.keys")).device_public_key()])
    contents = {"/v1/batches": Content.BATCH, "/v1/heartbeats": Content.HEARTBEAT, "/v1/losses": Content.LOSS}

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = city.answer(contents[self.path], self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/cose")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *about: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    configured(bus.parent, f"http://127.0.0.1:{server.server_address[1]}")
    yield city
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def start(bus: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "firmware.cli", "courier", "--config", str(bus), "--at-once"]
        environment = {**os.environ, "PYTHONPATH": str(Path(compose.__file__).parents[1])}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def test_a_killed_courier_loses_nothing_and_the_next_goes_on(bus: Path, city: City, start: Callable[[], subprocess.Popen[str]]) -> None:
    first = start()
    assert city.heard.wait(30)
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    city.want = 250
    second = start()
    assert city.stored.wait(30)
    third = start()
    assert third.wait(30) == 1
    assert "another courier carries the ledger" in third.communicate()[1]
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    receipts = compose.open_letterbox(load([bus])).receipts()
    assert receipts[-1].receipt.next_seq == 251
    assert len(city.entries) == 250


def test_a_courier_without_an_address_says_so(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(bus.parent, "")
    assert main(["courier", "--config", str(bus)]) == 1
    assert "city.url: is missing" in capsys.readouterr().err


def test_a_ledger_goes_to_the_city_by_stick_and_the_receipts_come_back(
    bus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    letterbox = compose.open_letterbox(load([bus]))
    letterbox.tell(Loss(DEVICE, 9, 1, 0, LossReason.MISSING, When(1, 1, 1, 0)))
    assert main(["ledger", "stick", str(folder), "--config", str(bus)]) == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["12-4711-1-200.batch", "12-4711-201-250.batch", "12-9.loss"]

    city = City([VaultFile.open(bus.with_name("bus.keys")).device_public_key()])
    for name in names:
        content = Content.LOSS if name.endswith(".loss") else Content.BATCH
        (folder / f"{name}.receipt").write_bytes(city.answer(content, (folder / name).read_bytes(), 9))
    (folder / "somebody.receipt").write_bytes(b"not the city's")
    capsys.readouterr()
    assert main(["ledger", "stick", str(folder), "--config", str(bus)]) == 0
    told = capsys.readouterr()
    assert "3 receipts taken from it" in told.out
    assert "somebody.receipt" in told.err
    assert letterbox.losses() == []
    with Store.open(bus.with_name("bus.ledger"), device=DEVICE, settings=SMALL) as store:
        for waiting in letterbox.receipts():
            store.acknowledge(waiting.receipt)
    assert main(["ledger", "stick", str(folder), "--config", str(bus)]) == 0
    assert "0 files written" in capsys.readouterr().out


def test_the_next_key_is_announced_by_the_old_one_and_signs_what_follows(
    bus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = VaultFile.open(bus.with_name("bus.keys"))
    for _ in range(2):
        assert main(["courier", "--config", str(bus), "--rotate-key"]) == 0
    said = capsys.readouterr().out
    assert said.count("announced in the ledger: eddsa:") == 2
    with LedgerFile.open_read_only(bus.with_name("bus.ledger")) as ledger:
        assert [entry.kind for entry in ledger.after(250, 10)] == [Kind.BOOT, Kind.KEY]
        announced = ledger.last(Kind.KEY)
    keyring = compose.open_keyring(load([bus]))
    following = keyring.next_signer()
    assert following is not None
    assert announced is not None
    assert announced.reason == f"eddsa:{compose.base64url(following.public)}"
    folder = tmp_path / "stick"
    folder.mkdir()
    with Store.open(bus.with_name("bus.ledger"), device=DEVICE, settings=SMALL) as store:
        store.append(Entry(Kind.BOOT, When(2, 2, 3, 0)))
    assert main(["ledger", "stick", str(folder), "--config", str(bus)]) == 0
    kids = {path.name: parse(path.read_bytes(), Content.BATCH, MAX_SEALED).kid for path in folder.iterdir()}
    assert kids["12-4711-201-252.batch"] == key_id(old.device_public_key())
    assert kids["12-4711-253-253.batch"] == key_id(following.public)
    keyring.change()
    assert VaultFile.open(bus.with_name("bus.keys")).device_public_key() == following.public
    assert VaultFile.open(bus.with_name("bus.keys")).rider(b"medium") == old.rider(b"medium")
    assert keyring.next_signer() is None


def test_a_set_aside_ledger_that_cannot_be_read_keeps_no_other_off_the_stick(
    bus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    bus.with_name("bus.ledger.epoch-9").write_bytes(b"what a broken disk left")
    assert main(["ledger", "stick", str(folder), "--config", str(bus)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["12-4711-1-200.batch", "12-4711-201-250.batch"]
    assert "bus.ledger.epoch-9" in capsys.readouterr().err


def test_by_stick_alone_a_set_aside_ledger_comes_to_its_end(bus: Path, tmp_path: Path) -> None:
    city = City([VaultFile.open(bus.with_name("bus.keys")).device_public_key()])
    bus.with_name("bus.ledger.memory").unlink()
    with compose.open_ledger(bus.with_name("bus.ledger"), DEVICE):
        pass  # the 250 entries are in the ledger that was set aside now
    folder = tmp_path / "stick"
    folder.mkdir()

    def drive() -> list[str]:
        assert main(["ledger", "stick", str(folder), "--config", str(bus)]) == 0
        return sorted(path.name for path in folder.glob(f"12-{EPOCH}-*.batch"))

    first, second = drive()
    (folder / f"{second}.receipt").write_bytes(city.answer(Content.BATCH, (folder / second).read_bytes(), 9))
    assert drive() == [first, second]  # the city has a hole there: both go once more
    (folder / f"{first}.receipt").write_bytes(city.answer(Content.BATCH, (folder / first).read_bytes(), 9))
    assert drive() == [second]  # as it was written before; it is not written again
    (folder / second).unlink()
    assert drive() == []
    assert compose.open_letterbox(load([bus])).memory().done == (EPOCH,)


def test_by_stick_too_the_old_key_stays_while_a_set_aside_ledger_needs_it(bus: Path, tmp_path: Path) -> None:
    old = VaultFile.open(bus.with_name("bus.keys"))
    bus.with_name("bus.ledger.memory").unlink()
    with compose.open_ledger(bus.with_name("bus.ledger"), DEVICE):
        pass  # the 250 entries are in the ledger that was set aside now
    assert main(["courier", "--config", str(bus), "--rotate-key"]) == 0
    with Store.open(bus.with_name("bus.ledger"), device=DEVICE, settings=SMALL) as store:
        store.acknowledge(Receipt(DEVICE, store.epoch, store.head().seq + 1, store.head().hash, issued_ms=5))
    folder = tmp_path / "stick"
    folder.mkdir()
    assert main(["ledger", "stick", str(folder), "--config", str(bus)]) == 0
    kids = [parse(path.read_bytes(), Content.BATCH, MAX_SEALED).kid for path in folder.glob(f"12-{EPOCH}-*.batch")]
    assert kids == [key_id(old.device_public_key())] * 2
    letterbox = compose.open_letterbox(load([bus]))
    letterbox.remember(replace(letterbox.memory(), done=(EPOCH,)))  # by wire the city has got them
    assert main(["ledger", "stick", str(folder), "--config", str(bus)]) == 0
    assert compose.open_keyring(load([bus])).next_signer() is None


def test_a_key_is_not_rotated_while_the_validator_writes(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(bus.with_name("bus.ledger"), device=DEVICE, settings=SMALL):
        assert main(["courier", "--config", str(bus), "--rotate-key"]) == 1
    assert "another program is writing the ledger" in capsys.readouterr().err


def test_verify_and_show_tell_what_the_city_has_and_what_was_forgotten(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = bus.with_name("bus.ledger")
    with LedgerFile.open_read_only(ledger) as file:
        digest = file.hash_at(240) or b""
    with Store.open(ledger, device=DEVICE, settings=SMALL) as store:
        store.acknowledge(Receipt(DEVICE, EPOCH, 241, digest, rejects=((239, "unknown-trip"),), issued_ms=5))
        assert store.forget(1_770_000_000_001) == 240
    assert main(["ledger", "verify", str(ledger)]) == 0
    told = capsys.readouterr().out
    assert "begins at entry 241: those before were forgotten here after the city had signed for them" in told
    assert "the city has signed for the entries up to 240" in told
    assert "whole: the chain holds from entry 241 to 250" in told
    with Store.open(ledger, device=DEVICE, settings=SMALL) as store:
        store.acknowledge(Receipt(DEVICE, EPOCH, 251, store.head().hash, rejects=((245, "unknown-trip"),), issued_ms=6))
    assert main(["ledger", "show", str(ledger)]) == 0
    assert "245  the city has set this entry aside: unknown-trip" in capsys.readouterr().out


def test_a_ledger_that_was_exchanged_is_set_aside_at_the_start(bus: Path) -> None:
    bus.with_name("bus.ledger.memory").unlink()
    with compose.open_ledger(bus.with_name("bus.ledger"), DEVICE) as store:
        assert store.epoch != EPOCH
        assert store.after(0, 1)[0].kind is Kind.EPOCH
    (told,) = compose.open_letterbox(load([bus])).losses()
    assert (told.loss.epoch, told.loss.reason) == (EPOCH, LossReason.FORGOTTEN)
    assert [path.name for path in compose.ledgers_beside(bus.with_name("bus.ledger"))] == [f"bus.ledger.epoch-{EPOCH}", "bus.ledger"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('url = "https://city.example"', "city.keys: is missing"),
        ("keep_days = 1", "city.keep_days: is 1; it must be from 2"),
        ('road = "wide"', "city.road: is not a setting"),
    ],
)
def test_a_wrong_road_to_the_city_is_told_by_its_setting(bus: Path, line: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = bus.read_text()
    bus.write_text(text[: text.index("[city]")] + f"[city]\n{line}\n")
    assert main(["courier", "--config", str(bus)]) == 1
    assert told in capsys.readouterr().err
