"""A ledger of every released version opens for ever, says the same for ever, and can be written on."""

import json
import shutil
from pathlib import Path

import pytest

from ledger.codec import encode
from ledger.entry import Entry, Kind, When
from ledger.store import LedgerFile, Settings, Store
from ledger.telling import record

GOLDEN = Path(__file__).parent.parent / "golden"
KINDS = {
    "ledger-v1": set(Kind) - {Kind.KEY, Kind.EPOCH},  # a newer software writes them into the same format
    "ledger-v2": set(Kind) - {Kind.BOOT, Kind.SHIFT_OPEN},  # forgotten, and kept beside the chain
}


@pytest.fixture(params=KINDS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for suffix in (".db", ".db.memory"):
        shutil.copy(GOLDEN / f"{request.param}{suffix}", tmp_path / f"old{suffix}")
    shutil.copy(GOLDEN / f"{request.param}.jsonl", tmp_path / "old.jsonl")
    return tmp_path / "old.db"


def test_an_old_ledger_is_whole_and_says_what_it_said(old: Path, request: pytest.FixtureRequest) -> None:
    said = [json.loads(text) for text in old.with_suffix(".jsonl").read_text("utf-8").splitlines()]
    with LedgerFile.open_read_only(old) as ledger:
        assert ledger.verify().findings == []
        assert [record(entry) for entry in ledger.after(0, 1000)] == said
        assert {entry.kind for entry in ledger.after(0, 1000)} == KINDS[request.node.callspec.params["old"]]


def test_an_old_ledgers_entries_have_the_bytes_they_had(old: Path) -> None:
    with LedgerFile.open_read_only(old) as ledger:
        for link, entry in zip(ledger.links(), ledger.after(0, 1000), strict=True):
            assert encode(entry) == link.data


def test_an_old_ledger_goes_on(old: Path) -> None:
    with Store.open(old, device=7, settings=Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0)) as store:
        seq = store.head().seq
        assert store.knows_grant(bytes(8), b"granted!")
        assert len(store.intents()) == 1
        assert store.append(Entry(Kind.BOOT, When(4, 1, 2, 0))).seq == seq + 1


@pytest.mark.parametrize("old", ["ledger-v2"], indirect=True)
def test_an_old_ledger_still_knows_what_the_city_has_and_what_was_kept_and_carried(old: Path) -> None:
    with LedgerFile.open_read_only(old) as ledger:
        known = ledger.acknowledged()
        assert known is not None
        assert (ledger.start().seq, known.head.seq, known.issued_ms, ledger.rejected()) == (6, 6, 1_780_000_000_001, [(9, "later")])
    with Store.open(old, device=7, settings=Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0)) as store:
        boot, carried = store.last(Kind.BOOT), [entry for number in range(40) for entry in store.latest(number.to_bytes(8, "big"))]
        assert boot is not None
        assert boot.seq == 5
        assert [entry.seq for entry in store.unknown_of((4).to_bytes(8, "big"))] == [4]
        assert [entry.kind for entry in carried if entry.seq == 0] == [Kind.PAID]
