"""``kazashi publish`` and ``kazashi packages``, and a station that starts with what the city sent."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from firmware import cli, compose, config
from ledger.entry import Kind
from ledger.package import PackageKind
from ledger.store import LedgerFile
from validator.messages import Shown

ROOT = Path(__file__).parents[2]
RIDER = "00112233445566aa"
LIST = f'format = 1\nrider_key = 1\nriders = ["{RIDER}"]\n'


class Dark:
    """A presenter that nobody looks at."""

    def show(self, shown: Shown) -> None:
        """Nothing."""


@pytest.fixture
def bus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A vehicle that knows its city; ``city.key`` and the compiled town lie beside it."""
    kazashi("fares", "compile", str(ROOT / "examples" / "town"), "-o", str(tmp_path / "town.table"))
    kazashi("card", "keys", "--new", str(tmp_path / "desk.keys"))
    kazashi("card", "keys", "--keys", str(tmp_path / "desk.keys"), "--terminal", str(tmp_path / "bus.keys"))
    (tmp_path / "tray").mkdir()
    capsys.readouterr()
    kazashi("publish", "keys", "--new", str(tmp_path / "city.key"))
    city = capsys.readouterr().out
    file = tmp_path / "vehicle.toml"
    operator, scheme = ROOT / "examples" / "town" / "operator.toml", ROOT / "fares" / "schemes" / "silver_emica.toml"
    file.write_text(
        f'format = 1\n[terminal]\nnumber = 7\nvehicle = "bus-7"\n[reader]\naddress = "emulated:{tmp_path}/tray"\n'
        f'[rules]\ntable = "town.table"\noperator = "{operator}"\nscheme = "{scheme}"\n[keys]\nfile = "bus.keys"\n'
        f'[ledger]\nfile = "bus.ledger"\n[duty]\nroutes = ["M1"]\n{city}'
    )
    return file


def kazashi(*words: str, status: int = 0) -> None:
    assert cli.main(list(words)) == status


def sign(bus: Path, file: Path, kind: str, version: int = 1) -> Path:
    output = bus.parent / f"{kind}-{version}.package"
    day = date(2026, 4, 1).isoformat()
    kazashi(
        "publish",
        "sign",
        str(file),
        "--kind",
        kind,
        "--version",
        str(version),
        "--valid-from",
        day,
        "--key",
        str(bus.parent / "city.key"),
        "-o",
        str(output),
    )
    return output


def written(bus: Path, kind: Kind) -> Sequence[str]:
    """The reasons of the ledger's entries of one kind."""
    with LedgerFile.open_read_only(bus.parent / "bus.ledger") as ledger:
        return [entry.reason for entry in ledger.after(0, 100) if entry.kind is kind]


def test_a_signed_table_is_in_force_at_the_next_start_and_named_by_every_entry(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed = bus.parent / "feed"
    feed.mkdir()
    for table in (ROOT / "examples" / "town").glob("*.txt"):
        text = table.read_text(encoding="utf-8")
        (feed / table.name).write_text(text.replace("k100,100", "k100,120"), encoding="utf-8")
    kazashi("fares", "compile", str(feed), "-o", str(bus.parent / "new.table"))
    kazashi("packages", "stage", str(sign(bus, bus.parent / "new.table", "fare-table")), "--config", str(bus))
    assert "will be in force" in capsys.readouterr().out
    with compose.open_station(config.load([bus]), Dark()) as station:
        price = station.terms.tariff.table.price("G1", "eki_1", "yakuba_1")
        digest = station.terms.tariff.table.digest
    assert "yen=120" in str(price)
    with LedgerFile.open_read_only(bus.parent / "bus.ledger") as ledger:
        assert {entry.versions.table for entry in ledger.after(0, 100)} == {digest}


def test_a_deny_list_from_the_city_refuses_its_rider(bus: Path) -> None:
    (bus.parent / "deny.toml").write_text(LIST)
    kazashi("packages", "stage", str(sign(bus, bus.parent / "deny.toml", "deny-list")), "--config", str(bus))
    with compose.open_station(config.load([bus]), Dark()) as station:
        assert station.equipment.blocked(bytes.fromhex(RIDER))


def test_a_package_file_that_is_not_there_is_asked_for(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kazashi("packages", "stage", "nothere", "--config", str(bus), status=1)
    assert "nothere: cannot be read (No such file or directory); give a file of kazashi publish sign" in capsys.readouterr().err


def test_half_a_table_is_not_taken_and_the_ledger_says_so_once(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hankyu bus, 2014-2015 (validator-domain 2.5, source J27; test 6 of section 7)."""
    whole = sign(bus, bus.parent / "town.table", "fare-table")
    whole.write_bytes(whole.read_bytes()[:2000])
    kazashi("packages", "stage", str(whole), "--config", str(bus), status=1)
    assert "did not arrive whole" in capsys.readouterr().out
    for _ in range(2):
        with compose.open_station(config.load([bus]), Dark()):
            pass
    assert written(bus, Kind.ALARM) == ["package-broken"]


def test_what_is_held_waits_for_a_persons_word(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Odakyu bus, 1 April 2014 (validator-domain 2.5, source J26; test 5 of section 7)."""
    feed = bus.parent / "feed"
    feed.mkdir()
    for table in (ROOT / "examples" / "town").glob("*.txt"):
        (feed / table.name).write_text(table.read_text(encoding="utf-8").replace("k230,230", "k230,2300"), encoding="utf-8")
    kazashi("fares", "compile", str(feed), "-o", str(bus.parent / "new.table"))
    big = sign(bus, bus.parent / "new.table", "fare-table")
    kazashi("packages", "stage", str(big), "--config", str(bus), status=1)
    assert "2300 yen instead of 230" in capsys.readouterr().out
    kazashi("packages", "show", "--config", str(bus))
    assert "HELD, waits for a person: fare-table 1" in capsys.readouterr().out
    with compose.open_station(config.load([bus]), Dark()) as station:
        assert "yen=230" in str(station.terms.tariff.table.price("M1", "eki_1", "gakko_1"))
    assert written(bus, Kind.ALARM) == ["package-held:fare-table"]
    kazashi("packages", "accept", PackageKind.FARE_TABLE, "--config", str(bus))
    with compose.open_station(config.load([bus]), Dark()) as station:
        assert "yen=2300" in str(station.terms.tariff.table.price("M1", "eki_1", "gakko_1"))


def test_a_held_package_can_be_thrown_away(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kazashi("packages", "reject", PackageKind.FARE_TABLE, "--config", str(bus), status=1)
    assert "there is no held fare-table" in capsys.readouterr().err


def test_a_clerk_releases_a_package_by_signing_it_again(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = sign(bus, bus.parent / "town.table", "fare-table")
    kazashi("publish", "release", str(package), "--key", str(bus.parent / "city.key"))
    kazashi("publish", "show", str(bus.parent / "fare-table-1-released.package"))
    assert "released by a person" in capsys.readouterr().out


def test_a_file_that_no_terminal_would_take_is_not_signed(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bus.parent / "deny.toml").write_text("format = 1\n")
    for kind in ("deny-list", "fare-table", "scheme", "words"):
        words = ["publish", "sign", str(bus.parent / "deny.toml"), "--kind", kind, "--version", "1", "--valid-from", "2026-04-01"]
        kazashi(*words, "--key", str(bus.parent / "city.key"), status=1)
        assert capsys.readouterr().err.startswith("kazashi publish: ")


def test_a_version_is_given_once(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign(bus, bus.parent / "town.table", "fare-table")
    words = ["publish", "sign", str(bus.parent / "town.table"), "--kind", "fare-table", "--version", "1", "--valid-from", "2026-04-01"]
    kazashi(*words, "--key", str(bus.parent / "city.key"), status=1)
    assert "a version is given once" in capsys.readouterr().err


def test_a_city_key_that_others_can_read_is_not_used(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bus.parent / "city.key").chmod(0o644)
    kazashi("publish", "keys", str(bus.parent / "city.key"), status=1)
    assert "chmod 600" in capsys.readouterr().err


def test_a_city_key_is_never_overwritten(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kazashi("publish", "keys", "--new", str(bus.parent / "city.key"), status=1)
    assert "never overwritten" in capsys.readouterr().err


def test_a_public_key_that_is_none_is_refused_with_its_place(bus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = bus.read_text()
    bus.write_text(text.replace('public_key = "', 'public_key = "!'))
    kazashi("packages", "show", "--config", str(bus), status=1)
    assert "city.keys[1].public_key: must be the base64url of 32 bytes" in capsys.readouterr().err
