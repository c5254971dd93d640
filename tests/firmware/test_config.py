"""A vehicle's configuration: three layers, every fault at once."""

from pathlib import Path

import pytest

from drivers.devices.power import Modem, SerialAddress
from firmware.config import Config, load
from firmware.failure import Failure

ROOT = Path(__file__).parents[2]
BUS = ROOT / "examples" / "bus.toml"


def layered(tmp_path: Path, text: str) -> Config:
    above = tmp_path / "vehicle.toml"
    above.write_text(text)
    return load([BUS, above])


def test_the_example_is_a_configuration() -> None:
    config = load([BUS])
    assert (config.terminal, config.vehicle, config.reader) == (12, "minato-12", "pn532:/dev/ttyS1@921600")
    assert config.rules.operator == ROOT / "examples" / "town" / "operator.toml"
    assert config.rules.deny_list is None
    assert (config.screen.size, config.screen.sound, str(config.zone)) == ((800, 480), "on", "Asia/Tokyo")


def test_a_later_layer_replaces_single_settings_and_paths_are_relative_to_their_own_file(tmp_path: Path) -> None:
    config = layered(tmp_path, '[terminal]\nnumber = 13\n[ledger]\nfile = "my.ledger"\n')
    assert (config.terminal, config.vehicle) == (13, "minato-12")
    assert config.ledger == tmp_path / "my.ledger"
    assert config.rules.scheme == ROOT / "fares" / "schemes" / "silver_emica.toml"


def test_every_fault_is_told_at_once_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failed:
        layered(
            tmp_path,
            '[terminal]\nnumber = 0\ntime_zone = "Mars/Base"\n[reader]\naddress = "pcsc"\n[screen]\nsize = "big"\n[lamp]\nx = 1\n',
        )
    told = str(failed.value)
    for path in ("terminal.number", "terminal.time_zone", "reader.address", "screen.size", "lamp"):
        assert path in told
    assert len(told.splitlines()) == 5


def test_a_keypad_without_its_mapping_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"keypad\.mapping: is missing; name a mapping file"):
        layered(tmp_path, '[keypad]\ndevice = "/dev/input/event3"\nmapping = ""\n')


@pytest.mark.parametrize(("text", "fault"), [("[", "is not TOML"), (None, "cannot be read")])
def test_a_file_that_cannot_be_read_is_one_sentence(text: str | None, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "bus.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Failure, match=fault):
        load([path])


def test_a_folder_is_the_terminals_own_file_and_what_enrolment_wrote(tmp_path: Path) -> None:
    (tmp_path / "unit.toml").write_text('[terminal]\nnumber = 13\nvehicle = "own"\n')
    assert load([BUS, tmp_path]).terminal == 13
    (tmp_path / "enrolled.toml").write_text("[terminal]\nnumber = 14\n")
    enrolled = load([BUS, tmp_path])
    assert (enrolled.terminal, enrolled.vehicle) == (14, "own")


def test_a_unit_that_nobody_has_set_up_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"unit\.toml: cannot be read"):
        load([tmp_path])


def test_the_ignitions_line_is_named_in_the_configuration(tmp_path: Path) -> None:
    power = layered(tmp_path, '[power]\nline = "serial:/dev/ttyS2:dsr"\nhold_ms = 60000\n').power
    assert (power.line, power.settle_ms, power.hold_ms) == (SerialAddress(Path("/dev/ttyS2"), Modem.DSR), 300, 60_000)
    assert load([BUS]).power.line is None
    with pytest.raises(Failure, match=r"power\.line: 'gpio' is no power line"):
        layered(tmp_path, '[power]\nline = "gpio"\n')
