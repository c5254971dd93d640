"""A year of rides, and what the desk gives back on 1 April: by the ledgers, once, with the command that the desk types."""

from pathlib import Path

import pytest

from drivers.emulated import card_file
from drivers.vault_file import write_keys
from firmware import cli
from firmware.rehearsal import SCHEME, Town
from validator.messages import Message

FARE = 190  # misaki to onsen on M2


@pytest.fixture
def desk(town: Town) -> list[str]:
    """Where card, keys and scheme lie, as the desk names them."""
    keys = town.folder / "desk.keys"
    write_keys(keys, town.keys)
    return ["--card", str(town.folder / "rider.card"), "--keys", str(keys), "--scheme", str(SCHEME), "--year", "2027"]


def grant(desk: list[str], capsys: pytest.CaptureFixture[str], *ledgers: Path) -> str:
    capsys.readouterr()
    assert cli.main(["card", "grant", *desk, "--from", *map(str, ledgers)]) == 0
    return capsys.readouterr().out


def test_what_was_used_last_year_comes_back_once(town: Town, desk: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    card = town.card(2000)
    first, second = town.vehicle("bus-1", 1, "M2"), town.vehicle("bus-2", 2, "M2")
    for bus in (first, second):
        bus.ride_to(1)
        assert bus.touch(card) == [Message.SEEN, Message.PAID]
        bus.store.close()
    card_file.save(town.folder / "rider.card", card)

    told = grant(desk, capsys, first.path, second.path, first.path)
    assert "grant 2, fiscal year 2027" in told
    assert "balance: 2,000 points" in told

    again = grant(desk, capsys, first.path, second.path)
    assert "nothing was written" in again
    assert "balance: 2,000 points" in again


def test_who_used_nothing_gets_nothing_and_keeps_everything(town: Town, desk: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    card = town.card(2000)
    bus = town.vehicle("bus-1", 1, "M2")
    bus.ride_to(1)
    bus.touch(town.card(2000))
    bus.store.close()
    card_file.save(town.folder / "rider.card", card)
    assert "no points are due to this card for this year" in grant(desk, capsys, bus.path)
