"""The small town's rules, compiled once."""

import pytest

from firmware.rehearsal import tariff
from validator.journey import Tariff


@pytest.fixture(scope="session")
def rules() -> Tariff:
    return tariff()
