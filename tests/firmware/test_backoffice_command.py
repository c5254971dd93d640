"""``kazashi backoffice`` as a city's clerk meets it; and a vehicle, which has none of it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from backoffice import compose, keys
from backoffice.city import Application
from backoffice.settings import default, read, shown
from drivers.signing import Ed25519Key
from fares.faults import Unusable
from firmware.cli import main
from ledger import batch, receipt, seal
from ledger.chain import follow, genesis
from ledger.codec import encode
from ledger.entry import Entry, Kind, Versions, When
from ledger.notes import PARTS, WORKS, Heartbeat

KAZASHI = [sys.executable, "-c", "import sys; from firmware.cli import main; sys.exit(main())"]
TERMINAL = Ed25519Key(b"\x07" * 32)

WITHOUT = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

class Bare:
    def find_spec(self, name, path=None, target=None):
        absent = {"fastapi", "starlette", "pydantic", "uvicorn", "sqlalchemy", "alembic", "psycopg", "jinja2", "reportlab"}
        return None if name.split(".")[0] in absent else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare()
import firmware.commands, firmware.compose
for found in pkgutil.iter_modules(firmware.commands.__path__):
    importlib.import_module(f"firmware.commands.{found.name}")
from firmware.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sealed_batch() -> bytes:
    entry = encode(Entry(Kind.BOOT, When(1, 2, 1_780_000_000_000, 3), device=12, epoch=5, seq=1))
    made = batch.Batch(12, 5, 1, genesis(12, 5), (entry,), 1_780_000_000_000)
    return seal.seal(TERMINAL, seal.Content.BATCH, batch.pack(made))


def enrolled(capsys: pytest.CaptureFixture[str]) -> None:
    """``TERMINAL`` comes to the city as minato-12."""
    assert main(["backoffice", "init"]) == 0
    capsys.readouterr()
    assert main(["backoffice", "enrol", "minato-12", "--device", "12", "--operator", "minato"]) == 0
    code = capsys.readouterr().out.strip()
    with compose.open_city(compose.settings_of(None), (Ed25519Key(bytes(32)),)) as city:
        proof = TERMINAL.sign(keys.proof_message(code))
        city.enrol(Application(code, TERMINAL.algorithm, TERMINAL.public, proof))


def test_a_vehicle_without_the_back_office_has_every_other_command(tmp_path: Path) -> None:
    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)

    assert ask("--help").returncode == 0
    answer = ask("backoffice", "report")
    assert answer.returncode == 1
    assert answer.stderr.startswith("kazashi backoffice: the back office needs ")
    assert answer.stderr.count("\n") == 1


def test_init_makes_what_is_needed_once_and_leaves_it_alone_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backoffice", "init"]) == 0
    first = (tmp_path / "city.keys").read_bytes()
    said = capsys.readouterr().out
    assert 'keys = [{ algorithm = "eddsa", public_key = "' in said
    assert (tmp_path / "city.keys").stat().st_mode & 0o777 == 0o600
    assert main(["backoffice", "init"]) == 0
    assert (tmp_path / "city.keys").read_bytes() == first
    assert (tmp_path / "city.db").exists()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_city_says_where_it_listens_takes_a_batch_and_stops_cleanly(
    ending: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(capsys)
    with subprocess.Popen([*KAZASHI, "backoffice", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        assert server.stdout is not None
        where = re.fullmatch(r"ready: the city listens on (http://127\.0\.0\.1:\d+/) with sqlite:///.*city\.db\n", server.stdout.readline())
        assert where is not None
        try:
            with httpx.Client(base_url=where[1], trust_env=False) as client:
                answer = client.post("/v1/batches", content=sealed_batch(), headers={"content-type": "application/cose"})
            server.send_signal(ending)
            assert server.stdout.read() == "stopped\n"
            assert server.wait(20) == 0
        finally:
            server.kill()  # else a city that does not answer is waited for without end
    assert answer.status_code == 200
    sealed = seal.parse(answer.content, seal.Content.RECEIPT, batch.MAX_SEALED)
    assert receipt.decode(sealed.payload).next_seq == 2


def test_a_stick_goes_through_the_same_door_and_takes_the_receipts_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(capsys)
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "1.batch").write_bytes(sealed_batch())
    (stick / "2.batch").write_bytes(b"not a batch")
    (stick / "photo.jpg").write_bytes(b"")
    assert main(["backoffice", "take", "stick"]) == 1
    told = capsys.readouterr()
    assert "1 taken, 1 refused" in told.out
    assert "2.batch: refused: The message does not begin as a tagged COSE_Sign1 message does." in told.err
    sealed = seal.parse((stick / "1.batch.receipt").read_bytes(), seal.Content.RECEIPT, batch.MAX_SEALED)
    assert receipt.decode(sealed.payload).next_seq == 2
    assert sorted(path.name for path in stick.iterdir()) == ["1.batch", "1.batch.receipt", "2.batch", "photo.jpg"]


def test_a_stick_is_read_in_the_order_of_the_ledger_whatever_its_files_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(capsys)
    following = Ed25519Key(b"\x17" * 32)
    entries = [encode(Entry(Kind.BOOT, When(1, seq, 1_780_000_000_000, 3), device=12, epoch=5, seq=seq)) for seq in range(1, 21)]
    announced = f"eddsa:{keys.base64url(following.public)}"
    entries[8] = encode(Entry(Kind.KEY, When(1, 9, 1_780_000_000_000, 3), reason=announced, device=12, epoch=5, seq=9))
    hashes = [genesis(12, 5)]
    for data in entries:
        hashes.append(follow(hashes[-1], data))
    (tmp_path / "stick").mkdir()
    for first, last, signer, name in ((1, 9, TERMINAL, "z.batch"), (10, 20, following, "a.batch")):
        made = batch.Batch(12, 5, first, hashes[first - 1], tuple(entries[first - 1 : last]), 1_780_000_000_000)
        (tmp_path / "stick" / name).write_bytes(seal.seal(signer, seal.Content.BATCH, batch.pack(made)))
    assert main(["backoffice", "take", "stick"]) == 0
    assert "2 taken, 0 refused" in capsys.readouterr().out


def test_devices_tells_who_is_known_and_what_each_key_speaks_for(capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(capsys)
    assert main(["backoffice", "devices"]) == 0
    assert re.search(
        r"12  minato-12  minato  enrolled, not heard of yet\n +[0-9a-f]{16}  eddsa  from the beginning\n", capsys.readouterr().out
    )
    assert main(["backoffice", "revoke", "minato-12"]) == 0
    assert "its keys are revoked for everything" in capsys.readouterr().out
    assert main(["backoffice", "devices"]) == 0
    assert "REVOKED for everything" in capsys.readouterr().out


def test_a_revocation_from_an_entry_that_is_in_no_ledger_of_the_vehicle_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(capsys)
    assert main(["backoffice", "revoke", "minato-12", "--since", "5:9"]) == 1
    assert "--since 5:9: no entry of this vehicle has come; leave --since out" in capsys.readouterr().err
    Path("stick").mkdir()
    Path("stick", "12-5-1-1.batch").write_bytes(sealed_batch())
    assert main(["backoffice", "take", "stick"]) == 0
    capsys.readouterr()
    for typed in ("6:1", "0:1"):  # of an epoch that nobody knows all that comes would be believed on
        assert main(["backoffice", "revoke", "minato-12", "--since", typed]) == 1
        assert f"--since {typed}: no entry of this epoch has come; write one of 5" in capsys.readouterr().err
    assert main(["backoffice", "revoke", "minato-12", "--since", f"5:{2**64}"]) == 1
    assert "write EPOCH:SEQ" in capsys.readouterr().err
    assert main(["backoffice", "revoke", "minato-12", "--since", "5:9"]) == 0
    assert "revoked from entry 9 of epoch 5 on" in capsys.readouterr().out


def test_report_says_in_both_languages_that_all_is_well_or_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(capsys)
    assert main(["backoffice", "report"]) == 0
    assert capsys.readouterr().out == "1台、異常はありません。\n1 vehicles, nothing is wrong.\n"


def test_report_names_a_vehicle_that_starts_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(capsys)
    at, selftest = When(1, 2, compose.now_ms(), 3), tuple((part, WORKS) for part in PARTS)
    beat = Heartbeat(12, 5, 0, genesis(12, 5), at, selftest, 10**9, Versions(), "1", (("station-starts", 8),), 3600)
    with compose.open_books(default()) as books:
        books.heard(beat, at.utc_ms)
    assert main(["backoffice", "report"]) == 1
    japanese, english = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"minato-12:動作が不安定です。\d+月\d+日\(.\)\d\d:\d\dから、カード処理の再起動7回。", japanese)
    assert re.fullmatch(r"minato-12: station started again 7 times since \w+day \d+ \w+ \d\d:\d\d\.", english)


def test_report_names_what_nobody_has_seen_to_yet(capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(capsys)
    with compose.open_books(default()) as books:
        books.alarm("package", (12, 1, 5), "A package did not come whole, and was refused.", 1_780_000_000_000)
    assert main(["backoffice", "report"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "minato-12: 届いた資料を車載機が採用していない（記録 5。A package did not come whole, and was refused.）",
        "minato-12: A package that a terminal has not taken (record 5: A package did not come whole, and was refused.)",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config", "none.toml", "devices"], "none.toml: cannot be read"),
        (["--config", "bad.toml", "devices"], "bad.toml, listen.port: is 70000"),
        (["serve"], "city.keys: there is no city key; `kazashi backoffice init` makes one"),
        (["enrol", "minato-12"], "minato-12 is not known yet; say --device N"),
        (["enrol", "minato-12", "--device", "0"], "--device 0: a terminal's number is from 1"),
        (["revoke", "minato-12"], "minato-12: there is no such vehicle"),
        (["revoke", "minato-12", "--since", "x"], "--since x: write EPOCH:SEQ"),
        (["take", "nowhere"], "nowhere: is no folder"),
        (["move", "--to", "sqlite:///other.db"], "--to sqlite:///other.db: books are moved to PostgreSQL"),
        (["bill", "--operator", "minato", "--month", "June"], "--month June: write a month as YYYY-MM"),
        (["bill", "--operator", "nobody", "--month", "2026-06"], "--operator nobody: no vehicle and no ride is of this operator"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.toml").write_text("format = 1\n[listen]\nport = 70000\n")
    assert main(["backoffice", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"kazashi backoffice: {says}")
    assert error.count("\n") == 1


def test_one_name_is_one_device_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backoffice", "enrol", "minato-12", "--device", "12"]) == 0
    assert main(["backoffice", "enrol", "minato-12", "--device", "13"]) == 1
    assert main(["backoffice", "enrol", "minato-13", "--device", "12"]) == 1
    told = capsys.readouterr().err
    assert "minato-12 is device 12, not 13" in told
    assert "device 12 is called minato-12" in told
    assert main(["backoffice", "enrol", "minato-12"]) == 0


def test_a_port_that_is_taken_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backoffice", "init"]) == 0
    with compose.bind(compose.settings_of(None)) as door:
        port = door.getsockname()[1]
        assert main(["backoffice", "serve", "--port", str(port)]) == 1
    assert f"127.0.0.1:{port}: cannot be listened on" in capsys.readouterr().err


def test_settings_are_read_with_every_fault_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unusable) as told:
        read(
            b'format = 1\nport = 1\n[database]\nurl = "mysql://x"\n[listen]\nport = -1\n[health]\nservice_ends = 04:00:00\n',
            "city.toml",
            tmp_path,
        )
    assert len(list(told.value.faults)) == 4


def test_two_processes_need_postgresql_and_a_password_is_never_shown(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="SQLite has one writer"):
        read(b"format = 1\n[listen]\nworkers = 2\n", "city.toml", tmp_path)
    settings = read(b'format = 1\n[database]\nurl = "postgresql://city:secret@db/books"\n[listen]\nworkers = 2\n', "city.toml", tmp_path)
    assert settings.database == "postgresql+psycopg://city:secret@db/books"
    assert shown(settings) == "postgresql+psycopg://city:***@db/books"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://clerk@hall:port/books", "write postgresql://USER@HOST:PORT/DATABASE"),
        ("sqlite:///letter.db", "file is not a database"),
        ("sqlite:///nowhere/city.db", "unable to open database file"),
        ("postgresql://clerk@127.0.0.1:1/books", "Connection refused"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_one_sentence(url: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("letter.db").write_text("Dear city,\n" * 20)
    Path("city.toml").write_text(f'format = 1\n[database]\nurl = "{url}"\n')
    assert main(["backoffice", "--config", "city.toml", "devices"]) == 1
    told = capsys.readouterr().err
    assert why in told
    assert "correct database.url" in told
    assert (told.count("\n"), "sqlalche.me" in told) == (1, False)
