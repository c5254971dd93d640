"""A small town for every story: its rules are compiled once, its vehicles and cards are new each time."""

import shutil
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from firmware.rehearsal import Town, tariff
from validator.journey import Tariff


@pytest.fixture(scope="session")
def rules() -> Tariff:
    return tariff()


@pytest.fixture
def town(rules: Tariff, tmp_path: Path) -> Town:
    return Town(tmp_path, rules)


@pytest.fixture
def new_town(rules: Tariff, tmp_path: Path) -> Callable[[int], Town]:
    """Makes towns with a seed, each in a folder of its own."""

    def make(seed: int) -> Town:
        folder = tmp_path / f"town-{seed}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return Town(folder, rules, seed=seed)

    return make


@pytest.fixture
def passing_town(rules: Tariff, tmp_path: Path) -> Callable[[int], AbstractContextManager[Town]]:
    """Towns for thousands of days: each leaves nothing behind."""

    @contextmanager
    def make(seed: int) -> Generator[Town]:
        folder = tmp_path / f"town-{seed}"
        folder.mkdir()
        town = Town(folder, rules, seed=seed)
        yield town
        for vehicle in town.vehicles:
            vehicle.store.close()
        shutil.rmtree(folder)

    return make
