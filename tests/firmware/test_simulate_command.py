"""``kazashi simulate``: what it lays on the disk is what a city could take."""

import base64
import tomllib
from pathlib import Path

import pytest

from drivers.signing import SignatureChecker
from firmware import cli
from ledger import batch, seal


def simulate(folder: Path, *more: str) -> int:
    return cli.main(["simulate", "--vehicles", "2", "--days", "2", "--seed", "4", "--rides", "40", "--out", str(folder), *more])


def read(file: Path) -> dict[str, object]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "town"
    assert simulate(folder) == 0
    return folder


def test_every_batch_is_sealed_by_the_device_that_its_name_says(made: Path) -> None:
    found = read(made / "devices.toml")["device"]
    assert isinstance(found, list)
    keys = {device["number"]: base64.urlsafe_b64decode(device["public_key"] + "=") for device in found}
    for file in (made / "batches").iterdir():
        sealed = seal.parse(file.read_bytes(), seal.Content.BATCH, batch.MAX_SEALED)
        one = batch.unpack(sealed.payload)
        seal.check(sealed, SignatureChecker(), keys[one.device])
        assert file.name == f"{one.device}-{one.epoch}-{one.first_seq}-{one.last_seq}.batch"


def test_the_arrivals_name_every_file_once_in_the_order_of_time(made: Path) -> None:
    arrivals = read(made / "arrivals.toml")["arrivals"]
    assert isinstance(arrivals, list)
    assert sorted(name for name, _ in arrivals) == sorted(file.name for file in (made / "batches").iterdir())
    assert [ms for _, ms in arrivals] == sorted(ms for _, ms in arrivals)


def test_the_truth_of_riders_adds_up_to_the_truth_of_months(made: Path) -> None:
    truth = read(made / "truth.toml")
    months, riders = truth["month"], truth["riders"]
    assert isinstance(months, list)
    assert isinstance(riders, dict)
    assert sum(month["points"] for month in months) == sum(booked for _, _, booked, _ in riders.values())
    assert all(spent == booked + lost and spent <= granted for granted, spent, booked, lost in riders.values())


def test_the_same_seed_gives_the_same_files(made: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again")
    for name in ("devices.toml", "arrivals.toml", "truth.toml"):
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes()


def test_a_folder_that_has_batches_is_refused_in_one_sentence(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(made) != 0
    assert "name a new folder" in capsys.readouterr().err


def test_nothing_to_simulate_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(tmp_path / "none", "--rides", "0") != 0
    assert "there must be a vehicle, a day and a ride" in capsys.readouterr().err
