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
VERSIONS = ("ledger-v1",)
LATER_KINDS = {Kind.KEY, Kind.EPOCH}  # a newer software writes them into the same format


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for suffix in (".db", ".db.memory"):
        shutil.copy(GOLDEN / f"{request.param}{suffix}", tmp_path / f"old{suffix}")
    shutil.copy(GOLDEN / f"{request.param}.jsonl", tmp_path / "old.jsonl")
    return tmp_path / "old.db"


def test_an_old_ledger_is_whole_and_says_what_it_said(old: Path) -> None:
    said = [json.loads(text) for text in old.with_suffix(".jsonl").read_text("utf-8").splitlines()]
    with LedgerFile.open_read_only(old) as ledger:
        assert ledger.verify().findings == []
        assert [record(entry) for entry in ledger.after(0, 1000)] == said
        assert {entry.kind for entry in ledger.after(0, 1000)} == set(Kind) - LATER_KINDS


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
