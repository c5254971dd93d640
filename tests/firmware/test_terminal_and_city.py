"""A terminal and the city's real door, over HTTP on this machine: it enrols itself, exchanges its key, and fetches packages.

The terminal's side is what the commands open (``firmware.compose``); the city is the back office's application in a server of its own. What
stands between is a wire that loses what it is told to lose.
"""

import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from socket import socket

import pytest
import uvicorn

from backoffice import compose as office
from backoffice import keys
from backoffice.api import create_app
from backoffice.city import Application, City
from backoffice.queries import raw_batches
from backoffice.registry import CityBooks
from backoffice.settings import default
from backoffice.store import Store as CityStore
from drivers.errors import VaultLost
from drivers.signer import Algorithm
from drivers.signing import Ed25519Key, SignatureChecker
from drivers.vault import FileAddress
from drivers.vault_file import KeySet, VaultFile, demo_keys, read_signing_keys, write_keys
from firmware import compose
from firmware.cli import main
from firmware.config import Config, load
from firmware.keyring import OneKey, enrolling_file
from ledger import stick
from ledger.batch import MAX_SEALED, opened, unpack
from ledger.carrier import BATCHES, HEARTBEATS, Answer, Carrier, NoAnswer
from ledger.courier import Pace, State
from ledger.entry import Entry, Kind, When
from ledger.package import Package, PackageKind
from ledger.package import encode as encode_package
from ledger.seal import Content, key_id, parse, seal
from ledger.store import LedgerFile, Settings, Store
from ledger.uplink import HttpUplink
from validator.messages import Shown

ROOT = Path(__file__).parents[2]
DEVICE = 12
CITY = Ed25519Key(bytes(range(32)))
SMALL = Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0, synchronous="OFF")
AT_ONCE = Pace(settle_s=0, base_s=0, away_s=0, batch=40, ask_s=0, ask_again_s=0)


@dataclass
class Town:
    """The city behind its door, and what a clerk does there."""

    url: str
    city: City
    books: CityBooks
    store: CityStore

    def code(self, name: str = "minato-12", device: int = DEVICE, hours: int = 72) -> str:
        code = keys.new_code(os.urandom)
        now_ms = office.now_ms()
        self.books.add_device(device, name, "minato", now_ms)
        self.books.give_code(device, keys.code_digest(code), now_ms, now_ms + hours * 3_600_000)
        return code

    def stored(self, epoch: int) -> int:
        """The city's watermark."""
        return self.books.stored(DEVICE, epoch).next_seq - 1

    def ledgers(self) -> tuple[int, ...]:
        return self.books.epochs(DEVICE)


@pytest.fixture(scope="session")
def empty_books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("books")
    with CityStore.open(default(folder).database) as store:
        store.migrate()
    return folder / "city.db"


@pytest.fixture
def town(tmp_path: Path, empty_books: Path) -> Iterator[Town]:
    settings = default(tmp_path)
    shutil.copy(empty_books, tmp_path / "city.db")
    with ExitStack() as undo:
        store = undo.enter_context(CityStore.open(settings.database))
        city = City(CityBooks(store), (CITY,), SignatureChecker(), office.now_ms, settings.pace)
        door = undo.enter_context(socket())
        door.bind(("127.0.0.1", 0))
        quiet = uvicorn.Config(create_app(city), http="h11", loop="asyncio", ws="none", lifespan="on", log_config=None, access_log=False)
        server = uvicorn.Server(quiet)
        thread = threading.Thread(target=server.run, args=([door],), daemon=True)
        thread.start()
        for _ in range(1000):
            if server.started:
                break
            time.sleep(0.01)
        assert server.started
        yield Town(f"http://127.0.0.1:{door.getsockname()[1]}", city, CityBooks(store), store)
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def bus(tmp_path: Path, town: Town) -> Path:
    """The configuration of a terminal that has no city yet; beside it the key file that the desk made."""
    write_keys(tmp_path / "bus.keys", demo_keys(5).for_terminal(bytes([7] * 32)))
    path = tmp_path / "bus.toml"
    path.write_text(
        f"""
format = 1
[terminal]
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
url = "{town.url}"
"""
    )
    return path


Enrol = Callable[..., int]


@pytest.fixture
def enrol(bus: Path, monkeypatch: pytest.MonkeyPatch) -> Enrol:
    """Somebody at the terminal types a code."""
    monkeypatch.chdir(bus.parent)

    def come(code: str, *options: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(code + "\n"))
        return main(["enrol", "--config", str(bus), *options])

    return come


def present_key(bus: Path) -> bytes:
    return VaultFile.open(bus.with_name("bus.keys")).device_public_key()


# ── it enrols itself ──


def test_a_terminal_enrols_itself_by_a_code_and_its_first_batch_is_taken(
    bus: Path, town: Town, enrol: Enrol, capsys: pytest.CaptureFixture[str]
) -> None:
    desks = present_key(bus)
    assert enrol(f"  {town.code().lower().replace('-', ' ')} ") == 0
    said = capsys.readouterr().out
    assert f"This terminal is number 12, minato-12; it knows the city at {town.url} by the key {key_id(CITY.public).hex()}." in said
    config = load([bus, bus.with_name("enrolled.toml")])
    assert (config.terminal, config.city.name, config.city_keys) == (DEVICE, "minato-12", ((Algorithm.EDDSA, CITY.public),))
    assert present_key(bus) != desks  # what the desk made was seen by the desk, and by the stick that brought it
    assert VaultFile.open(bus.with_name("bus.keys")).rider(b"card") == VaultFile(demo_keys(5)).rider(b"card")
    assert not enrolling_file(bus.with_name("bus.keys")).exists()
    with Store.create(config.ledger, device=DEVICE, epoch=5, settings=SMALL) as store:
        store.append(Entry(Kind.BOOT, When(1, 2, office.now_ms(), 3)))
    with compose.open_courier(config, pace=AT_ONCE) as courier:
        turns(courier, 12)
    assert town.stored(5) == 1


def test_a_courier_that_holds_no_card_key_enrols_and_exchanges_its_key(bus: Path, town: Town, enrol: Enrol) -> None:
    bus.with_name("bus.keys").unlink()
    write_keys(bus.with_name("bus.keys"), KeySet.device_only(bytes([8] * 32)))
    assert enrol(town.code()) == 0
    config = load([bus, bus.with_name("enrolled.toml")])
    with Store.create(config.ledger, device=DEVICE, epoch=5, settings=SMALL) as store:
        store.append(Entry(Kind.BOOT, When(1, 2, office.now_ms(), 3)))
    compose.make_next_key(config)
    with compose.open_courier(config, pace=AT_ONCE) as courier:
        turns(courier, 24)
    assert town.stored(5) == 3
    held = read_signing_keys(bus.with_name("bus.keys"))
    assert (held.cards, held.rider, held.device != bytes([8] * 32)) == ((), b"", True)


def test_the_same_code_again_is_answered_the_same(bus: Path, town: Town, enrol: Enrol, capsys: pytest.CaptureFixture[str]) -> None:
    code = town.code()
    assert enrol(code) == 0
    first, key, said = bus.with_name("enrolled.toml").read_bytes(), present_key(bus), capsys.readouterr().out
    assert enrol(code) == 0
    assert (bus.with_name("enrolled.toml").read_bytes(), present_key(bus), capsys.readouterr().out) == (first, key, said)


@pytest.mark.parametrize("cut", ["answer lost", "answer not written", "key not in its place"])
def test_a_power_cut_after_the_citys_word_is_mended_by_the_same_code(bus: Path, town: Town, enrol: Enrol, cut: str) -> None:
    code, file = town.code(), bus.with_name("enrolled.toml")
    vault = bus.with_name("bus.keys")
    before = vault.read_bytes()
    assert enrol(code) == 0
    key, made = present_key(bus), vault.read_bytes()
    # As it was at that moment: the new key beside, the old one in its place.
    enrolling_file(vault).write_bytes(made)
    enrolling_file(vault).chmod(0o600)
    vault.write_bytes(before)
    if cut != "key not in its place":
        file.unlink()
    if cut == "answer not written":
        file.with_name("enrolled.toml.new").write_bytes(b"# Written by")
    if cut == "key not in its place":  # then nobody need run anything again
        compose.open_keyring(load([bus, file]))
    else:
        assert enrol(code) == 0
    assert present_key(bus) == key
    assert load([bus, file]).terminal == DEVICE
    assert not enrolling_file(vault).exists()


def test_a_key_that_the_city_took_and_nobody_here_noticed_gives_way_to_another(bus: Path, town: Town, enrol: Enrol) -> None:
    assert enrol(town.code()) == 0
    taken = bus.with_name("bus.keys").read_bytes()
    enrolling_file(bus.with_name("bus.keys")).write_bytes(taken)
    enrolling_file(bus.with_name("bus.keys")).chmod(0o600)
    bus.with_name("enrolled.toml").unlink()
    known = present_key(bus)
    assert enrol(town.code()) == 0  # another code, for the first one was lost as well
    assert present_key(bus) != known


def test_after_a_revocation_a_new_code_brings_a_new_key(bus: Path, town: Town, enrol: Enrol) -> None:
    assert enrol(town.code()) == 0
    first = present_key(bus)
    town.books.revoke(DEVICE, None, office.now_ms())
    assert enrol(town.code()) == 0
    assert present_key(bus) != first
    config = load([bus, bus.with_name("enrolled.toml")])
    with Store.create(config.ledger, device=DEVICE, epoch=5, settings=SMALL) as store:
        store.append(Entry(Kind.BOOT, When(1, 2, office.now_ms(), 3)))
    with compose.open_courier(config, pace=AT_ONCE) as courier:
        turns(courier, 12)
    assert town.stored(5) == 1


NO_CODE = "7KQ2-M04X-9ZBT-31RE"


@pytest.mark.parametrize(
    ("code", "options", "told"),
    [
        ("", (), "the code: must be 16 letters and digits"),
        ("7KQ2-M04X-9ZBT-31R", (), "the code: must be 16 letters and digits"),
        (NO_CODE, (), "the code: the city does not take it; it is unknown, expired, or another terminal used it."),
        (NO_CODE, ("--city", "http://127.0.0.1:9"), "the code stays good"),
        (NO_CODE, ("--city", "http://city.example"), "plain http goes to this machine only"),
        (NO_CODE, ("--city", "https://127.0.0.1:9", "--ca", "none.pem"), "none.pem is no certificate that can be read"),
        (NO_CODE, ("--output", "bus.toml"), "did not write this file and does not replace it"),
        (NO_CODE, ("--code-file", "none"), "none: cannot be read"),
    ],
)
def test_each_refusal_is_one_sentence_with_what_to_do(
    enrol: Enrol, code: str, options: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(code, *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("kazashi enrol: ")
    assert error.count("\n") == 1
    assert told in error
    assert not Path("enrolled.toml").exists()


def test_an_address_where_something_else_answers_is_named(town: Town, enrol: Enrol, capsys: pytest.CaptureFixture[str]) -> None:
    assert enrol(town.code(), "--city", f"{town.url}/elsewhere") == 1
    assert "no city of Kazashi answers there (status 404)" in capsys.readouterr().err


def test_an_expired_code_and_one_that_another_used_are_refused(town: Town, enrol: Enrol, capsys: pytest.CaptureFixture[str]) -> None:
    used = town.code()
    other = Ed25519Key(bytes([9] * 32))
    town.city.enrol(Application(used, other.algorithm, other.public, other.sign(keys.proof_message(used))))
    for code in (used, town.code("minato-13", 13, hours=0)):
        assert enrol(code) == 1
        assert "ask the city's office for a new one" in capsys.readouterr().err.lower()


@pytest.mark.parametrize("where", ["configuration", "ledger"])
def test_a_code_for_another_terminal_changes_nothing_here(
    bus: Path, town: Town, enrol: Enrol, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if where == "ledger":
        Store.create(bus.with_name("bus.ledger"), device=7, epoch=5, settings=SMALL).close()
    else:
        bus.write_text(bus.read_text().replace("[terminal]", "[terminal]\nnumber = 7"))
    before = present_key(bus)
    assert enrol(town.code()) == 1
    assert "the city gave the code for number 12, minato-12; nothing was changed here" in capsys.readouterr().err
    assert present_key(bus) == before
    assert not bus.with_name("enrolled.toml").exists()


def test_the_code_may_come_from_a_file(bus: Path, town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    bus.with_name("code").write_text(town.code())
    assert main(["enrol", "--config", str(bus), "--code-file", str(bus.with_name("code")), "-o", str(bus.with_name("city.toml"))]) == 0
    assert load([bus, bus.with_name("city.toml")]).terminal == DEVICE
    assert "city.toml" in capsys.readouterr().out


# ── it exchanges its key ──


@dataclass
class Wire:
    """The road to the real door. ``lose``: whether the answer to this message gets lost on its way back."""

    to: str
    lose: Callable[[str, int], bool] = lambda _door, _count: False
    asked: list[tuple[str, int]] = field(default_factory=list)

    def post(self, door: str, body: bytes) -> Answer:
        answer = HttpUplink(self.to).post(door, body)
        self.asked.append((door, answer.status))
        if self.lose(door, len([1 for each, _ in self.asked if each == door])):
            raise NoAnswer("lost on its way back")
        return answer

    def get(self, door: str, media_type: str, limit: int, patience_s: float) -> Answer:
        return HttpUplink(self.to).get(door, media_type, limit, patience_s)


def turns(courier: Carrier, count: int) -> None:
    """So many rows, without waiting where the table waits."""
    for _ in range(count):
        courier._due_ns = courier._look_at_ns = 0
        courier.turn()


@pytest.fixture
def vehicle(bus: Path, town: Town, enrol: Enrol) -> Config:
    """An enrolled vehicle with a backlog of 100 entries, then the announcement of its next key, then 100 more."""
    assert enrol(town.code()) == 0
    config = load([bus, bus.with_name("enrolled.toml")])
    with Store.create(config.ledger, device=DEVICE, epoch=5, settings=SMALL) as store:
        boots(store, 100)
    assert compose.make_next_key(config).startswith("eddsa:")
    with Store.open(config.ledger, device=DEVICE, settings=SMALL) as store:
        boots(store, 98)
    return config


ANNOUNCED, LAST = 102, 200  # a BOOT stands before the announcement


def boots(store: Store, count: int) -> None:
    for _ in range(count):
        store.append(Entry(Kind.BOOT, When(1, 2, office.now_ms(), 3)))


def rotated(config: Config) -> bool:
    return not config.keys.path.with_name(config.keys.path.name + ".next").exists() if isinstance(config.keys, FileAddress) else False


def signed_by(town: Town) -> dict[int, bytes]:
    """Each entry that the city has, and the key of the batch that brought it first."""
    found: dict[int, bytes] = {}
    with town.store.reading() as connection:
        came = list(raw_batches(connection))
    for _, sealed in came:
        parts = parse(sealed, Content.BATCH, MAX_SEALED)
        for seq, _, _ in opened(unpack(parts.payload)):
            found.setdefault(seq, parts.kid)
    return found


def all_came_each_by_its_own_key(town: Town, old: bytes, new: bytes) -> None:
    by = signed_by(town)
    assert sorted(by) == list(range(1, LAST + 1))
    assert {by[seq] for seq in range(1, ANNOUNCED + 1)} == {key_id(old)}
    assert {by[seq] for seq in range(ANNOUNCED + 1, LAST + 1)} == {key_id(new)}


def keys_of(config: Config) -> tuple[bytes, bytes]:
    keyring = compose.open_keyring(config)
    following = keyring.next_signer()
    assert following is not None
    return keyring.signer().public, following.public


def test_the_old_key_signs_up_to_the_announcement_and_the_new_one_behind_it(vehicle: Config, town: Town) -> None:
    old, new = keys_of(vehicle)
    wire = Wire(town.url)
    with compose.open_courier(vehicle, wire, AT_ONCE) as courier:
        turns(courier, 60)
    assert {status for _, status in wire.asked} == {200}
    all_came_each_by_its_own_key(town, old, new)
    assert rotated(vehicle)


@pytest.mark.parametrize("number", range(1, 7))
def test_any_receipt_may_get_lost_with_a_power_cut_behind_it(vehicle: Config, town: Town, number: int) -> None:
    """The third batch has the announcement: with its receipt lost, the city knows the new key and the vehicle does not know that."""
    old, new = keys_of(vehicle)
    for lost in (number, 99):
        wire = Wire(town.url, lambda door, count, lost=lost: door == BATCHES and count == lost)  # type: ignore[misc]
        with compose.open_courier(vehicle, wire, AT_ONCE) as courier:
            for _ in range(80):
                turns(courier, 1)
                if lost != 99 and courier.state is State.BACKING_OFF:
                    break
    all_came_each_by_its_own_key(town, old, new)
    assert rotated(vehicle)
    assert town.stored(5) == LAST


def test_when_the_receipt_for_the_announcement_is_lost_the_other_key_is_tried_at_once_and_not_in_a_quarter_of_an_hour(
    vehicle: Config, town: Town
) -> None:
    wire = Wire(town.url, lambda door, count: door == BATCHES and count == 3)
    with compose.open_courier(vehicle, wire, AT_ONCE) as courier:
        turns(courier, 80)
    refused = [at for at, (_, status) in enumerate(wire.asked) if status == 401]
    assert [wire.asked[at][0] for at in refused] == [HEARTBEATS]
    assert wire.asked[refused[0] + 1] == (HEARTBEATS, 200)
    assert rotated(vehicle)


def test_a_power_cut_between_the_receipt_and_the_change_of_keys_is_made_up_for(vehicle: Config, town: Town) -> None:
    old, new = keys_of(vehicle)
    with compose.open_courier(vehicle, Wire(town.url), AT_ONCE) as courier:
        courier._change_key = lambda: None  # type: ignore[method-assign]  # the power goes before it
        while town.stored(5) < ANNOUNCED:
            turns(courier, 1)
    assert not rotated(vehicle)
    with compose.open_courier(vehicle, Wire(town.url), AT_ONCE) as courier:
        turns(courier, 80)
    all_came_each_by_its_own_key(town, old, new)
    assert rotated(vehicle)


def test_when_a_stick_brought_the_announcement_first_the_old_key_still_sends_what_lies_before(vehicle: Config, town: Town) -> None:
    """The city refuses the old key for notes and the new key for the old entries: each message needs its own."""
    old, new = keys_of(vehicle)
    with compose.open_ledger_to_send(vehicle.ledger) as ledger:
        letters = list(stick.batches(ledger, compose.open_keyring(vehicle), office.now_ms(), 40))
    for _, sealed in letters[2:]:  # the first two files were lost
        town.city.batch(sealed)
    assert town.stored(5) == 0
    wire = Wire(town.url)
    with compose.open_courier(vehicle, wire, AT_ONCE) as courier:
        turns(courier, 80)
    assert town.stored(5) == LAST
    all_came_each_by_its_own_key(town, old, new)
    assert rotated(vehicle)
    assert [door for door, status in wire.asked if status == 401] == [HEARTBEATS]


def test_a_key_that_was_made_and_not_announced_changes_nothing(vehicle: Config, town: Town) -> None:
    with compose.open_courier(vehicle, Wire(town.url), AT_ONCE) as courier:
        turns(courier, 80)
    made = demo_keys(5).for_terminal(bytes([3] * 32))
    assert isinstance(vehicle.keys, FileAddress)
    write_keys(vehicle.keys.path.with_name("bus.keys.next"), made)
    wire = Wire(town.url)
    with compose.open_courier(vehicle, wire, AT_ONCE) as courier:
        turns(courier, 20)
    assert {status for _, status in wire.asked} == {200}
    assert not rotated(vehicle)


def test_a_stick_alone_exchanges_the_key_too(vehicle: Config, town: Town, tmp_path: Path, bus: Path) -> None:
    old, new = keys_of(vehicle)
    folder, configs = tmp_path / "stick", ["--config", str(bus), "--config", str(bus.with_name("enrolled.toml"))]
    folder.mkdir()
    assert main(["ledger", "stick", str(folder), *configs]) == 0
    for file in sorted(folder.glob("*.batch"), key=lambda file: int(file.name.split("-")[2])):
        file.with_name(file.name + ".receipt").write_bytes(town.city.batch(file.read_bytes()))
    assert main(["ledger", "stick", str(folder), *configs]) == 0
    letterbox = compose.open_letterbox(vehicle)
    with Store.open(vehicle.ledger, device=DEVICE, settings=SMALL) as store:
        for waiting in letterbox.receipts():
            store.acknowledge(waiting.receipt)
            letterbox.taken(waiting.name)
        boots(store, 1)
    assert main(["ledger", "stick", str(folder), *configs]) == 0
    assert rotated(vehicle)
    left = folder / f"{DEVICE}-5-{LAST + 1}-{LAST + 1}.batch"
    assert parse(left.read_bytes(), Content.BATCH, MAX_SEALED).kid == key_id(new)
    assert {signed_by(town)[seq] for seq in range(1, ANNOUNCED + 1)} == {key_id(old)}


# ── its token is pulled out ──


@dataclass
class Token:
    """A signer in a token, which may be away."""

    key: Ed25519Key = field(default_factory=lambda: Ed25519Key(bytes([7] * 32)))
    away: bool = False

    @property
    def algorithm(self) -> Algorithm:
        return self.key.algorithm

    @property
    def public(self) -> bytes:
        return self.key.public

    def sign(self, message: bytes) -> bytes:
        if self.away:
            raise VaultLost("the token 'bus 1' does not answer")
        return self.key.sign(message)


def test_a_token_that_is_pulled_out_is_no_answer_and_when_it_is_back_the_courier_goes_on(
    bus: Path, town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    token = Token()
    code = town.code()
    town.city.enrol(Application(code, token.algorithm, token.public, token.sign(keys.proof_message(code))))
    config = replace(load([city_keys(bus)]), terminal=DEVICE)
    with Store.create(config.ledger, device=DEVICE, epoch=5, settings=SMALL) as store:
        boots(store, 100)
    with compose.open_courier(config, Wire(town.url), AT_ONCE) as courier:
        courier.equipment = replace(courier.equipment, keyring=OneKey(token))
        turns(courier, 5)
        token.away = True
        turns(courier, 6)
        failures = courier.equipment.letterbox.memory().failures
        assert (courier.state, failures > 0) == (State.BACKING_OFF, True)
        assert "nothing can be signed now: the token 'bus 1' does not answer" in caplog.text
        token.away = False
        turns(courier, 30)
    assert town.stored(5) == 100
    assert courier.equipment.letterbox.memory().failures == 0


def city_keys(bus: Path) -> Path:
    """The same configuration with the city's key written in by hand."""
    key = f'keys = [{{ algorithm = "eddsa", public_key = "{compose.base64url(CITY.public)}" }}]\n'
    bus.write_text(bus.read_text().replace("[terminal]", f"[terminal]\nnumber = {DEVICE}") + key)
    return bus


# ── its key is in a token ──

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


@pytest.mark.skipif(
    not MODULE.exists() or shutil.which("softhsm2-util") is None,
    reason="SoftHSM2 is not installed (apt-get install softhsm2): no token was enrolled",
)
def test_a_token_is_enrolled_with_the_key_that_was_made_inside_it(bus: Path, town: Town, tmp_path: Path) -> None:
    """In a process of its own, for the token's library reads its configuration once."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(
        f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    (tmp_path / "pin").touch(mode=0o600)
    (tmp_path / "pin").write_text("4649\n")
    write_keys(tmp_path / "desk.keys", demo_keys(5))
    token = f"pkcs11:{MODULE}?token=bus&pin-file={tmp_path / 'pin'}"
    bus.write_text(bus.read_text().replace('file = "bus.keys"', f'file = "{token}"'))

    def ask(*words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf"), "PYTHONPATH": str(Path(compose.__file__).parents[1])}
        return subprocess.run(words, env=environment, input=typed, capture_output=True, text=True, check=False)

    kazashi = (sys.executable, "-m", "firmware.cli")
    ask("softhsm2-util", "--init-token", "--free", "--label", "bus", "--so-pin", "12345678", "--pin", "4649")
    filled = ask(*kazashi, "card", "keys", "--keys", str(tmp_path / "desk.keys"), "--token", token)
    assert filled.returncode == 0, filled.stderr
    enrolled = ask(*kazashi, "enrol", "--config", str(bus), typed=town.code())
    assert enrolled.returncode == 0, enrolled.stderr
    again = ask(*kazashi, "enrol", "--config", str(bus), typed=town.code())
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "the city knew the key of this token before" in again.stderr
    config = load([bus, bus.with_name("enrolled.toml")])
    with Store.create(config.ledger, device=DEVICE, epoch=5, settings=SMALL) as store:
        boots(store, 1)
    (device,) = town.books.devices()
    assert [key.kid for key in device.keys] == [config.city.enrolled_key]


# ── what the city sends down ──


@pytest.mark.usefixtures("vehicle")
def test_a_package_goes_from_the_clerk_over_the_wire_to_the_station(town: Town, bus: Path) -> None:
    folder = bus.parent
    assert main(["fares", "compile", str(ROOT / "examples" / "town"), "-o", str(folder / "t")]) == 0
    operator, scheme = ROOT / "examples" / "town" / "operator.toml", ROOT / "fares" / "schemes" / "silver_emica.toml"
    text = bus.read_text().replace('operator = "o"', f'operator = "{operator}"').replace('scheme = "s"', f'scheme = "{scheme}"')
    bus.write_text(text.replace("emulated:tray", f"emulated:{folder}/tray"))
    (folder / "tray").mkdir()
    config = load([bus, bus.with_name("enrolled.toml")])
    listed = Package(PackageKind.DENY_LIST, 3, date(2026, 4, 1), 0, b'format = 1\nrider_key = 1\nriders = ["00112233445566aa"]\n')
    broken = Package(PackageKind.SCHEME, 1, date(2026, 4, 1), 0, b"nothing of the kind")
    for package in (listed, broken):
        assert town.city.offer(seal(CITY, Content.PACKAGE, encode_package(package)))[1]
    wire = Wire(town.url)
    with compose.open_courier(config, wire, AT_ONCE) as courier:
        turns(courier, 80)
    assert len(compose.open_letterbox(config).parcels()) == 2
    with compose.open_station(config, Dark()) as station:
        assert station.equipment.blocked(bytes.fromhex("00112233445566aa"))
    assert compose.open_letterbox(config).parcels() == []
    with LedgerFile.open_read_only(config.ledger) as ledger:
        alarms = [entry.reason for entry in ledger.after(LAST, 20) if entry.kind is Kind.ALARM]
    assert alarms == ["package-unusable:scheme"]
    with compose.open_courier(config, wire, AT_ONCE) as courier:
        turns(courier, 30)
    assert compose.open_letterbox(config).parcels() == []  # each is fetched once


class Dark:
    """A presenter that nobody looks at."""

    def show(self, shown: Shown) -> None:
        """Nothing."""
