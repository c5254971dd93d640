"""A unit becomes nobody again, and not one ride is lost with it."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.vault_file import KeySet, demo_keys, write_keys
from firmware import compose, reset
from firmware.cli import main
from firmware.provision import COURIER_KEYS
from ledger import seal
from ledger.batch import unpack
from ledger.beside import replace_file
from ledger.codec import decode
from ledger.entry import Counters, Entry, Intent, Kind, Medium, When
from ledger.seal import Content
from ledger.store import Settings, Store
from validator.standby import Reason

SMALL = Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0, synchronous="OFF")
RIDES = 5
NOON = When(1, 2, 1_700_000_000_000, 3)


class Cut(Exception):
    """The power is gone."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A unit's data partition with a ledger of which the city knows nothing, and RAUC's state."""
    data = tmp_path / "data"
    for name in ("unit/keys/courier", "ledger/ledger.receipts", "ledger/packages/fare-table", "update/words", "health", "rauc"):
        (data / name).mkdir(parents=True)
    write_keys(data / "unit" / COURIER_KEYS, KeySet.device_only(bytes(range(32))))
    write_keys(data / "unit/keys/station.keys", demo_keys(3).for_terminal(bytes(32)))
    (data / "unit/unit.toml").write_text(
        f"""format = 1
[terminal]
number = 12
vehicle = "minato-12"
[reader]
address = "emulated:tray"
[rules]
table = "t"
operator = "o"
scheme = "s"
[keys]
file = "{COURIER_KEYS}"
[ledger]
file = "../ledger/ledger"
[duty]
routes = ["M1"]
"""
    )
    for name in ("rauc/status", "ledger/packages/fare-table/current", "update/record"):
        (data / name).write_text("x")
    with Store.create(data / "ledger/ledger", device=12, epoch=5, settings=SMALL) as store:
        for _ in range(RIDES):
            store.append(Entry(Kind.BOOT, NOON))
        store.intend(
            Intent(
                Entry(
                    Kind.PAID,
                    NOON,
                    medium=Medium(bytes(8), 2000, 1, b"granted!", Counters(900, 0, bytes(8), 1), Counters(800, 0, bytes(8), 2)),
                )
            )
        )
    return data


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


def ordered(data: Path, stick: Path, monkeypatch: pytest.MonkeyPatch, *answers: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
    return main(["reset", str(stick), "--config", str(data / "unit"), "--data", str(data)])


def left(data: Path) -> set[str]:
    return {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}


def on_stick(stick: Path) -> list[Entry]:
    entries: list[Entry] = []
    for file in sorted(stick.glob("*.batch")):
        batch = unpack(seal.parse(file.read_bytes(), Content.BATCH, 1 << 20).payload)
        entries += [decode(entry, device=batch.device, epoch=batch.epoch) for entry in batch.entries]
    return entries


def test_all_that_the_city_does_not_have_is_on_the_stick_and_nothing_is_left_here(
    data: Path, stick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ordered(data, stick, monkeypatch, "minato-12", "1") == 0

    assert "Carry the stick to the city, and have minato-12 revoked there." in capsys.readouterr().out
    assert left(data) == {"rauc/status"}
    assert compose.why_not([data / "unit"]) is Reason.NOBODY
    entries = on_stick(stick)
    assert [entry.seq for entry in entries] == list(range(1, RIDES + 4))
    assert [entry.kind for entry in entries].count(Kind.UNKNOWN) == 1  # the debit whose outcome was open
    assert (entries[-1].kind, entries[-1].reason) == (Kind.ALARM, "reset:ordered")


@pytest.mark.parametrize("answers", [(), ("minato-13",), ("minato-12",), ("minato-12", "7"), ("yes", "yes")])
def test_it_asks_twice_and_takes_no_other_answer(
    data: Path, stick: Path, monkeypatch: pytest.MonkeyPatch, answers: tuple[str, ...]
) -> None:
    before = left(data)
    assert ordered(data, stick, monkeypatch, *answers) == 1
    assert left(data) >= before
    assert compose.why_not([data / "unit"]) is None


def test_an_order_that_was_broken_off_closes_the_epoch_once(data: Path, stick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ordered(data, stick, monkeypatch, "minato-12", "no") == 1
    assert ordered(data, stick, monkeypatch, "minato-12", "1") == 0
    assert len(on_stick(stick)) == RIDES + 3


def test_without_a_stick_nothing_is_erased(
    data: Path, stick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = left(data)
    assert ordered(data, stick / "away", monkeypatch, "minato-12", "1") == 1
    assert "is no folder; name one on the stick" in capsys.readouterr().err
    assert left(data) == before


def test_a_cut_at_any_file_leaves_nobody_and_is_finished_before_a_new_name_is_taken(data: Path, tmp_path: Path) -> None:
    files = sum(1 for name in reset.ERASED for _ in (data / name).rglob("*"))
    for at in range(files + 2):
        copy = tmp_path / f"copy-{at}"
        shutil.copytree(data, copy)
        steps = iter([False] * at + [True])

        def remove(path: Path, steps: Iterator[bool] = steps) -> None:
            if next(steps):
                raise Cut
            (path.rmdir if path.is_dir() else path.unlink)()

        if at == files + 1:
            reset.erase(copy, lambda note: replace_file(note, b"x"), remove)
            break
        with pytest.raises(Cut):
            reset.erase(copy, lambda note: replace_file(note, b"x"), remove)
        assert compose.why_not([copy / "unit"]) is Reason.NOBODY
        assert compose.reset_begun(copy)
        compose.finish_reset(copy)
        assert left(copy) == {"rauc/status"}


def test_what_was_begun_is_finished_without_a_question(data: Path, stick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / reset.NOTE).write_text("x")
    assert ordered(data, stick, monkeypatch) == 0
    assert left(data) == {"rauc/status"}
