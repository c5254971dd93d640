"""The ignition's line, as a file and as a serial port's input."""

from pathlib import Path

import pytest

from drivers.devices.power import Modem, SerialAddress, SupplyAddress, parse_address
from drivers.devices.power_linux import SerialLine, SupplyFile


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("supply:/sys/class/power_supply/ignition/online", SupplyAddress(Path("/sys/class/power_supply/ignition/online"))),
        ("serial:/dev/ttyS2:dsr", SerialAddress(Path("/dev/ttyS2"), Modem.DSR)),
        ("serial:/dev/serial/by-path/a:b:1.0:cts", SerialAddress(Path("/dev/serial/by-path/a:b:1.0"), Modem.CTS)),
    ],
)
def test_a_line_is_named_by_a_short_text(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "gpio:4", "supply:online", "serial:/dev/ttyS2", "serial:/dev/ttyS2:dtr", "serial:ttyS2:cts"])
def test_another_text_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is no power line; write supply:"):
        parse_address(text)


@pytest.mark.parametrize(("told", "fed"), [("1\n", True), ("0\n", False), ("2\n", True), ("", True), (None, True)])
def test_a_supply_is_off_only_when_its_file_says_so(tmp_path: Path, told: str | None, fed: bool) -> None:
    if told is not None:
        (tmp_path / "online").write_text(told)

    assert SupplyFile(tmp_path / "online").fed() is fed


def test_a_serial_line_is_fed_while_its_input_is_high(tmp_path: Path) -> None:
    lines = {"now": Modem.CTS | Modem.DSR}
    (tmp_path / "port").touch()
    line = SerialLine(tmp_path / "port", Modem.DSR, lambda _port: lines["now"])

    assert line.fed()
    lines["now"] = Modem.CTS
    assert not line.fed()
    line.close()


def test_a_port_that_is_pulled_out_is_fed_and_opened_again_when_it_is_back(tmp_path: Path) -> None:
    line = SerialLine(tmp_path / "port", Modem.DSR, lambda _port: 0)
    assert line.fed()
    (tmp_path / "port").touch()
    assert not line.fed()
    line.close()


def test_what_is_no_serial_port_has_no_lines_and_is_fed(tmp_path: Path) -> None:
    (tmp_path / "port").touch()

    assert SerialLine(tmp_path / "port", Modem.DSR).fed()
