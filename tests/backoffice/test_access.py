"""A person brings a card and gets all that the city keeps about it, and nothing about anybody else."""

import argparse
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from backoffice import queries, schema
from backoffice.access_queries import kept_about
from backoffice.grants import GrantKind, RiderGrant
from backoffice.letting_go import Periods
from backoffice.privacy import BY_CARD, BY_PSEUDONYM, CannotAnswer, access_arguments, retain_arguments, run_access, run_retain
from backoffice.settings import Settings, read
from backoffice.store import Store
from drivers import vault_file
from drivers.vault_file import VaultFile
from fares.dates import from_number
from ledger import batch, package, seal
from ledger.batch import Batch
from ledger.chain import follow, genesis
from ledger.codec import encode
from ledger.entry import Counters, Entry, Fare, Flags, Kind, Medium, Outcome, Place, Versions, When
from ledger.package import Package, PackageKind
from ledger.seal import Algorithm, Content

IDM = bytes.fromhex("0123456789ABCDEF")
NOW = 1_770_000_000_000
DAY_MS = 86_400_000
TODAY = NOW // DAY_MS
KID = b"kid 0001"
WORD = "correct horse battery staple"
Ask = Callable[..., str]


class Stamper:
    """A signer whose signatures nobody checks."""

    algorithm = Algorithm.EDDSA
    public = bytes(32)

    def sign(self, message: bytes) -> bytes:
        return bytes(64) if message else b""


def touch(seq: int, rider: bytes, kind: Kind = Kind.PAID, **changes: Any) -> Entry:
    before = Counters(1500 - 100 * seq, 900 - seq, bytes(8), 100 + seq)
    after = Counters(before.rega - 100, before.regb - 1, bytes(8), before.wcnt + 1)
    medium = Medium(rider, 2000, 1, b"granted!", before, after if kind in {Kind.PAID, Kind.UNKNOWN} else None)
    day = changes.pop("day", TODAY)
    place = Place("minato", "101", 12, "R1", "T0815", "S03", "S07", day)
    entry = Entry(kind, When(1, seq, day * DAY_MS + 3_600_000 * 3 + seq, 4), place, medium, Fare(100, 100, 0, 1, 0))
    return replace(entry, device=7, epoch=9, seq=seq, versions=Versions(rider_key=1), **changes)


def sealed(entries: list[Entry | bytes], first: int = 1) -> tuple[bytes, Batch]:
    data = [entry if isinstance(entry, bytes) else encode(entry) for entry in entries]
    head = genesis(7, 9)
    for _ in range(first - 1):
        head = follow(head, b"")
    told = Batch(7, 9, first, head, tuple(data), NOW)
    return seal.seal(Stamper(), Content.BATCH, batch.pack(told)), told


def send(books: Store, entries: list[Entry | bytes], first: int = 1, received_ms: int = NOW) -> None:
    message, told = sealed(entries, first)
    books.receive(message, KID, told, received_ms)


@pytest.fixture
def setting(tmp_path: Path) -> Settings:
    vault_file.write_keys(tmp_path / "office.keys", vault_file.demo_keys(1))
    clerks = tmp_path / "clerks.txt"
    clerks.write_text(f"sato {WORD}\n")
    clerks.chmod(0o600)
    return read(b"format = 1\n[console]\n", "city.toml", tmp_path)


@pytest.fixture
def rider(tmp_path: Path, setting: Settings) -> bytes:
    assert setting.console is not None
    return VaultFile.open(tmp_path / "office.keys").rider(IDM)


@pytest.fixture
def ask(books: Store, setting: Settings, tmp_path: Path) -> Ask:
    """Ask as a clerk does; the text that comes. ``typed``: what is typed, a line each."""

    def asked(*words: str, typed: str = f"{WORD}\n{IDM.hex()}\n", settings: Settings = setting, name: str = "out.txt") -> str:
        parser = argparse.ArgumentParser()
        access_arguments(parser)
        lines = iter(typed.splitlines())

        def keyboard(prompt: str, *, hidden: bool) -> str:
            assert hidden == ("passphrase" in prompt)
            return next(lines)

        file = tmp_path / name
        options = parser.parse_args([*(words or ("--card",)), "--out", str(file), *(() if "--language" in words else ("--language", "ja"))])
        assert run_access(options, books, settings, NOW, keyboard) == 0
        return file.read_text(encoding="utf-8")

    return asked


OTHER = b"somebody"


def test_everything_about_one_card_is_told_and_nothing_about_another(books: Store, ask: Ask, rider: bytes, tmp_path: Path) -> None:
    send(
        books,
        [
            touch(1, rider),
            touch(2, OTHER, place=Place("minato", "101", 1, "R9", "T9", "secret", "place", TODAY)),
            touch(3, rider, Kind.UNKNOWN),
            touch(4, rider, Kind.RESOLVED, ref=3, outcome=Outcome.PAID),
            touch(5, rider, Kind.FREE, flags=Flags.PRACTICE),
        ],
    )
    queries.keep_grant(books, RiderGrant(rider, 2025, 1, 2000, GrantKind.YEARLY, NOW))
    queries.keep_grant(books, RiderGrant(OTHER, 2025, 1, 777, GrantKind.YEARLY, NOW))
    told = ask("--card", "--json", str(tmp_path / "out.json"))
    for part in (
        "支払い",
        "支払い（結果未確認）",
        "支払い結果の確認: 支払い済み",
        "練習",
        "付与ポイント 2,000",
        "2025年度",
        "7:9:4",
        "封書 1",
    ):
        assert part in told, part
    for part in ("secret", "777", OTHER.hex(), "7:9:2"):
        assert part not in told, part
    facts = json.loads((tmp_path / "out.json").read_text())
    assert [entry["seq"] for entry in facts["entries"]] == [1, 3, 4, 5]
    assert [(posting["seq"], posting["amount"]) for posting in facts["postings"] if posting["device"]] == [(1, 100), (4, 100)]
    assert [grant["points"] for grant in facts["grants"]] == [2000]
    assert [envelope["seqs"] for envelope in facts["raw_batches"]] == [[1, 3, 4, 5]]
    assert {entry["goes_on"] for entry in facts["entries"]} == {"2031-04-01"}
    assert OTHER.hex() not in (tmp_path / "out.json").read_text()


def test_japanese_comes_first_and_english_after_it(books: Store, ask: Ask, rider: bytes) -> None:
    send(books, [touch(1, rider)])
    told = ask("--card", "--language", "both")
    assert told.index("市が保有する記録の一覧") < told.index("All that the city keeps about one card")


def test_what_could_not_be_booked_is_told_too(books: Store, ask: Ask, rider: bytes) -> None:
    impossible = touch(2, rider, place=replace(touch(2, rider).place, route="R\0"))
    send(books, [touch(1, rider), impossible, b"rubbish with " + rider + b" in it", bytes((0x82, 9, 3)) + rider, touch(5, OTHER)])
    told = ask()
    assert "7:9:2　impossible" in told
    assert "7:9:3　malformed" in told
    assert "7:9:4　保留" in told
    assert "7:9:5" not in told


def test_what_is_only_left_in_a_raw_batch_beside_younger_entries_is_found(books: Store, ask: Ask, setting: Settings, rider: bytes) -> None:
    old = touch(1, rider, day=18_048)  # 2019-06-01
    send(books, [old], received_ms=18_050 * DAY_MS)
    assert run_retain(retain_options(), books, setting, NOW) == 0
    send(books, [old, touch(2, OTHER)])
    told = ask()
    assert "記録 1から2" in told
    assert "このうち 1　※帳簿からは消去済み" in told
    assert "7:9:1" not in told


def retain_options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    retain_arguments(parser)
    return parser.parse_args([*words, "--language", "en"])


def test_a_list_that_names_the_card_is_told(books: Store, ask: Ask, rider: bytes) -> None:
    file = f'format = 1\nrider_key = 1\nriders = ["{rider.hex().upper()}"]\n'.encode()
    for number, content in enumerate((file, b'format = 1\nriders = ["0000000000000000"]\n'), 1):
        made = Package(PackageKind.DENY_LIST, number, from_number(TODAY), NOW, content)
        data = seal.seal(Stamper(), Content.PACKAGE, package.encode(made))
        values = {
            "digest": made.digest,
            "kind": "deny-list",
            "version": str(number),
            "valid_from": TODAY,
            "created_ms": NOW,
            "sealed": data,
        }
        with books.writing() as connection:
            connection.execute(sa.insert(schema.package), values)
    told = ask()
    assert "deny-list　第1版" in told
    assert "第2版" not in told


def test_an_unknown_card_is_said_to_be_unknown(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    told = ask()
    assert "このカードについて、市は何も保有していません。" in told
    assert "まだありません" in told
    assert "何も保有していません" in capsys.readouterr().out


def test_of_a_card_whose_rides_are_all_gone_it_is_said_since_when(
    books: Store, ask: Ask, setting: Settings, rider: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    send(books, [touch(1, rider, day=18_048)], received_ms=18_049 * DAY_MS)
    run_retain(retain_options(), books, setting, NOW)
    assert "rider key version 1: no ride is left. Destroy this key" in capsys.readouterr().out
    told = ask()
    assert "何も保有していません" in told
    assert "2020-04-01より前の記録は、保存期間を過ぎたため消去済み" in told
    assert "符号鍵の版 1 の乗車記録は、もう残っていません" in told


def test_rides_under_an_older_rider_key_are_found_with_its_file(books: Store, ask: Ask, tmp_path: Path, rider: bytes) -> None:
    keys = replace(vault_file.demo_keys(2), rider_version=2)
    vault_file.write_keys(tmp_path / "new.keys", keys)
    newer = VaultFile(keys).rider(IDM)
    assert newer != rider
    send(books, [touch(1, rider), touch(2, newer)])
    alone = ask(name="alone.txt")
    assert "7:9:2" not in alone
    both = ask("--card", "--vault", str(tmp_path / "new.keys"), name="both.txt")
    assert "7:9:1" in both
    assert "7:9:2" in both
    assert "符号鍵の版 2" in both


def test_another_key_s_rides_in_the_books_are_pointed_out(books: Store, ask: Ask, rider: bytes) -> None:
    send(books, [touch(1, rider), replace(touch(2, OTHER), versions=Versions(rider_key=3))])
    assert "ほかの符号鍵（版 3）" in ask()


def test_an_access_is_written_down_with_the_clerk_and_without_the_person(books: Store, ask: Ask, rider: bytes) -> None:
    send(books, [touch(1, rider)])
    ask(name="1.txt")
    ask(name="2.txt")
    ask("--rider", rider.hex(), name="3.txt")
    with books.reading() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(schema.access_log).order_by(schema.access_log.c.at_ms))]
    assert sorted(rows) == [(NOW, "sato", BY_CARD), (NOW, "sato", BY_PSEUDONYM), (NOW + 1, "sato", BY_CARD)]


def test_the_file_is_for_one_account_only_and_never_written_over(ask: Ask, tmp_path: Path) -> None:
    ask()
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o600
    with pytest.raises(CannotAnswer, match="another person's records"):
        ask()


@pytest.mark.parametrize(
    ("words", "typed", "told"),
    [
        (("--card",), f"wrong\n{IDM.hex()}\n", "nobody has this passphrase"),
        (("--card",), f"{WORD}\n\n", "There is no IDm"),
        (("--card",), f"{WORD}\n0123\n", "has 4 digits"),
        (("--card",), f"{WORD}\n012345678Xabcdef\n", "a character that cannot be in it"),
        (("--rider", "0123"), f"{WORD}\n", "16 hexadecimal digits"),
        (("--rider", "01 23 45 67 89 ab cd ef"), f"{WORD}\n", "16 hexadecimal digits"),
        (("--card", "--vault", "none.keys"), f"{WORD}\n{IDM.hex()}\n", "none.keys"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_the_card(books: Store, ask: Ask, words: tuple[str, ...], typed: str, told: str) -> None:
    with pytest.raises(CannotAnswer, match=told) as wrong:
        ask(*words, typed=typed)
    assert len(str(wrong.value).splitlines()) == 1
    assert IDM.hex() not in str(wrong.value).lower()
    with books.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(schema.access_log)) == 0


def test_a_city_without_clerks_asks_with_a_key_file_and_the_account_s_name(
    books: Store, ask: Ask, setting: Settings, rider: bytes, tmp_path: Path
) -> None:
    send(books, [touch(1, rider)])
    bare = replace(setting, console=None)
    with pytest.raises(CannotAnswer, match="give --vault FILE"):
        ask(typed=f"{IDM.hex()}\n", settings=bare)
    assert "7:9:1" in ask("--card", "--vault", str(tmp_path / "office.keys"), typed=f"{IDM.hex()}\n", settings=bare)


def test_passphrases_that_others_may_read_serve_nobody(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "clerks.txt").chmod(0o644)
    with pytest.raises(CannotAnswer, match="chmod 600"):
        ask()


def test_text_and_json_are_two_files(books: Store, ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(CannotAnswer, match="name a file for each"):
        ask("--card", "--json", str(tmp_path / "out.txt"))
    with books.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(schema.access_log)) == 0
    assert not (tmp_path / "out.txt").exists()


def test_a_file_in_no_folder_is_said(ask: Ask) -> None:
    with pytest.raises(CannotAnswer, match="its folder is not there"):
        ask(name="nowhere/out.txt")


def test_a_trial_says_what_would_go_and_changes_nothing(
    books: Store, setting: Settings, rider: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    send(books, [touch(1, rider, day=18_048), touch(2, rider)], received_ms=18_049 * DAY_MS)
    assert run_retain(retain_options("--dry-run"), books, setting, NOW) == 0
    told = capsys.readouterr().out
    assert "would go: entries: 1 (before 2020-04-01)" in told
    assert "rider key version 1: rides left: 1." in told
    assert "nothing was deleted" in told
    with books.reading() as connection:
        assert len(kept_about(connection, [rider]).touches) == 2


def test_the_command_says_what_went_and_that_backups_did_not(
    books: Store, setting: Settings, rider: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    send(books, [touch(1, rider, day=18_048), touch(2, rider)], received_ms=18_049 * DAY_MS)
    run_retain(retain_options(), books, replace(setting, retention=Periods(books_years=5)), NOW)
    told = capsys.readouterr().out
    assert "gone: entries: 1 (before 2020-04-01)" in told
    assert "Backups of the database are not touched" in told
    with books.reading() as connection:
        assert [each.seq for each in kept_about(connection, [rider]).touches] == [2]
