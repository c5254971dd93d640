"""Who a unit is: made at the desk, taken once, safe against a cut at any file."""

import os
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.vault_file import VaultFileRefused, demo_keys, read_keys, read_signing_keys, write_keys
from firmware import compose, provision, selftap
from firmware.cli import main
from firmware.config import ENROLLED, UNIT, DeviceKeySettings, KeyHome, Role, provisional, unenrolled
from firmware.failure import Failure
from firmware.provision import ANSWER, CODE, CONTENTS, COURIER_KEYS, FOLDER, STATION_KEYS, Place
from firmware.unit_folder import UnitFolder
from ledger.beside import replace_file

ROOT = Path(__file__).parents[2]
EXAMPLE_CODE = "7KQ2-M04X-9ZBT-31RE"
TPM = Path("/dev/tpmrm0")


SPOILT: Sequence[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / CONTENTS).unlink(), "so it was not written to its end"),
    (lambda folder: (folder / provision.OPERATOR).write_text("x"), "is not the file that was written there"),
    (lambda folder: (folder / UNIT).unlink(), "is missing, or a unit took it already"),
    (lambda folder: (folder / CONTENTS).write_text("0" * 64 + "  ../../etc/passwd\n"), "line 1: names no file of a unit"),
    (lambda folder: (folder / CONTENTS).write_bytes(b"\xff"), "line 1: names no file of a unit"),
    (lambda folder: (folder / CONTENTS).write_text(""), "lacks rules/fares.table and"),
    (lambda folder: os.truncate(folder / UNIT, provision.MOST_BYTES + 1), "no file of a unit is that large"),
]


class Cut(Exception):
    """The power is gone."""


@dataclass
class Cutting:
    """A unit's folder whose power goes at a file, before it or behind it."""

    folder: UnitFolder
    left: int
    behind: bool = False

    def has(self, name: str) -> bool:
        return self.folder.has(name)

    def read(self, name: str) -> bytes:
        return self.folder.read(name)

    def lay(self, name: str, data: bytes, place: Place) -> None:
        self._step(lambda: self.folder.lay(name, data, place))

    def drop(self, name: str) -> None:
        self._step(lambda: self.folder.drop(name))

    def _step(self, do: Callable[[], None]) -> None:
        self.left -= 1
        if self.left == 0 and not self.behind:
            raise Cut
        do()
        if self.left == 0:
            raise Cut


def written(stick: Path, *more: str) -> list[str]:
    keys = stick.parent / "desk.keys"
    if not keys.exists():
        write_keys(keys, demo_keys(3))
        (stick.parent / "code").write_text(EXAMPLE_CODE.lower() + "\n")
    return [
        *("provision", "write", str(stick), "--vehicle", "minato-12", "--reader", "emulated:tray", "--routes", "M1", "M2"),
        *("--table", str(selftap.FOLDER / selftap.TABLE), "--operator", str(ROOT / "examples/town/operator.toml")),
        *("--scheme", str(selftap.SCHEME), "--keys", str(keys), "--city", "https://points.minato.example", *more),
    ]


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    stick = tmp_path / "stick"
    stick.mkdir()
    assert main(written(stick, "--code-file", str(tmp_path / "code"))) == 0
    return stick


def files_of(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_units_folders_are_open_to_those_who_need_them_whatever_the_umask_is(stick: Path, tmp_path: Path) -> None:
    unit = tmp_path / "data" / "unit"
    unit.mkdir(parents=True)
    before = os.umask(0o077)
    try:
        assert main(["provision", "take", str(stick), "--unit", str(unit)]) == 0
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((unit / name).stat().st_mode) for name in ("rules", "keys", "keys/station", "keys/courier")}
    assert modes == {"rules": 0o750, "keys": 0o711, "keys/station": 0o700, "keys/courier": 0o700}


def test_a_unit_takes_who_it_is_and_the_keys_leave_the_stick(stick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = tmp_path / "data" / "unit"
    unit.mkdir(parents=True)
    before = files_of(stick / FOLDER)

    assert main(["provision", "take", str(stick), "--unit", str(unit)]) == 0

    assert "the keys are off the stick" in capsys.readouterr().out
    taken = files_of(unit)
    assert {name: data for name, data in taken.items() if name != COURIER_KEYS} == {k: v for k, v in before.items() if k != CONTENTS}
    assert not any((stick / FOLDER / name).exists() for name in provision.SECRETS)
    for name in (STATION_KEYS, COURIER_KEYS, CODE):
        assert stat.S_IMODE((unit / name).stat().st_mode) == 0o600
    config = provisional([unit])
    assert (config.vehicle, config.role, config.city.url, config.city_keys) == ("minato-12", Role.VALIDATOR, "", ())
    assert str(config.ledger) == "/data/ledger/ledger"


def test_the_couriers_file_holds_the_devices_key_alone(stick: Path, tmp_path: Path) -> None:
    compose.take_unit(stick / FOLDER, tmp_path / "unit")

    held = read_signing_keys(tmp_path / "unit" / COURIER_KEYS)
    station = read_keys(tmp_path / "unit" / STATION_KEYS)

    assert (held.cards, held.rider, held.issuers) == ((), b"", ())
    assert held.device != station.device
    assert not any(issuer.private for issuer in station.issuers)
    with pytest.raises(VaultFileRefused, match="holds a device's key alone and no card's; name the vehicle's key file"):
        read_keys(tmp_path / "unit" / COURIER_KEYS)


@pytest.mark.parametrize("behind", [False, True])
def test_a_cut_at_any_file_leaves_nobody_or_the_whole_unit_and_the_next_start_finishes_it(
    stick: Path, tmp_path: Path, *, behind: bool
) -> None:
    files = provision.read(stick / FOLDER)
    for at in range(1, len(files) + 2):
        unit = tmp_path / f"unit-{at}-{behind}"
        unit.mkdir()
        with pytest.raises(Cut):
            provision.take(files, Cutting(UnitFolder(unit), at, behind), lambda: b"a key")
        if (unit / UNIT).exists():
            assert (at, behind) == (len(files) + 1, True)
        provision.take(files, UnitFolder(unit), lambda: b"a key")
        assert files_of(unit) == {**files, COURIER_KEYS: b"a key"}


def test_keys_that_a_power_cut_left_on_the_stick_go_at_the_next_look(stick: Path, tmp_path: Path) -> None:
    unit = tmp_path / "unit"
    provision.take(provision.read(stick / FOLDER), UnitFolder(unit), lambda: b"a key")
    assert (stick / FOLDER / STATION_KEYS).exists()

    assert compose.take_unit(stick / FOLDER, unit) == ()
    assert not (stick / FOLDER / STATION_KEYS).exists()


def test_a_unit_that_is_somebody_takes_no_other_name(stick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = tmp_path / "unit"
    compose.take_unit(stick / FOLDER, unit)
    before = files_of(unit)
    other = tmp_path / "other"
    other.mkdir()
    assert main([*written(other), "--number", "99"]) == 0

    assert main(["provision", "take", str(other), "--unit", str(unit)]) == 0

    assert "is a unit already; nothing was taken" in capsys.readouterr().out
    assert files_of(unit) == before
    assert (other / FOLDER / STATION_KEYS).exists()


def test_sha256sum_believes_the_list_too(stick: Path) -> None:
    checked = subprocess.run(["sha256sum", "-c", "--strict", CONTENTS], cwd=stick / FOLDER, capture_output=True, check=False)

    assert checked.returncode == 0


@pytest.mark.parametrize(("spoil", "told"), SPOILT)
def test_what_is_wrong_with_a_stick_is_one_sentence_and_nothing_is_taken(
    stick: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    told: str,
) -> None:
    spoil(stick / FOLDER)

    assert main(["provision", "take", str(stick), "--unit", str(tmp_path / "unit")]) == 1

    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "unit").exists()


def test_a_stick_without_a_units_folder_is_somebody_elses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provision", "take", str(tmp_path), "--unit", str(tmp_path / "unit")]) == 0
    assert "nothing to take" in capsys.readouterr().out


def test_a_kiosks_stick_is_refused_by_a_validator(stick: Path, tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVARIANT_ID="kiosk"\n')

    with pytest.raises(Failure, match="this stick is for a validator, and this machine's system is a kiosk's"):
        compose.take_unit(stick / FOLDER, tmp_path / "unit", release)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--keypad", "/dev/input/event3"], "--keypad and --keypad-mapping belong together"),
        (["--reader", "pcsc"], "reader.address"),
        (["--routes", "X9"], "duty.routes: the fare table has no route 'X9'"),
        (["--time-zone", "Mars/Base"], "terminal.time_zone"),
        (["--table", "/nowhere"], "/nowhere"),
        (["--number", "0"], "terminal.number"),
        (["--power", "gpio"], "power.line"),
    ],
)
def test_what_a_unit_would_refuse_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()

    assert main([*written(stick), *more]) == 1

    assert told in capsys.readouterr().err
    assert not (stick / FOLDER).exists()


@pytest.mark.parametrize(("more", "home"), [((), None), (("--device-key", "tpm"), KeyHome.TPM), (("--device-key", "file"), KeyHome.FILE)])
def test_a_unit_is_told_where_its_device_key_must_lie(tmp_path: Path, more: Sequence[str], home: KeyHome | None) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert main([*written(other), *more]) == 0
    compose.take_unit(other / FOLDER, tmp_path / "unit")

    assert provisional([tmp_path / "unit"]).device_key.home is home
    assert unenrolled([tmp_path / "unit", ROOT / "systemd/usr/share/kazashi/courier.toml"]).device_key == DeviceKeySettings(TPM, home)


def test_a_folder_that_is_there_is_not_written_over(stick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(written(stick)) == 1
    assert "there is a unit in it already" in capsys.readouterr().err


def test_what_the_city_gave_is_admitted_once_and_the_code_goes(stick: Path, tmp_path: Path) -> None:
    unit = tmp_path / "unit"
    compose.take_unit(stick / FOLDER, unit)
    assert compose.admit_unit(unit) is False
    replace_file(unit / ANSWER, b"the city's")

    assert compose.admit_unit(unit) is True
    assert (unit / ENROLLED).read_bytes() == b"the city's"
    assert not (unit / CODE).exists()
    replace_file(unit / ANSWER, b"another city's")
    assert compose.admit_unit(unit) is True
    assert ((unit / ENROLLED).read_bytes(), (unit / ANSWER).exists()) == (b"the city's", False)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_cut_while_the_citys_word_is_admitted_is_mended(stick: Path, tmp_path: Path, at: int, *, behind: bool) -> None:
    unit = tmp_path / "unit"
    compose.take_unit(stick / FOLDER, unit)
    replace_file(unit / ANSWER, b"the city's")

    with pytest.raises(Cut):
        provision.admit(Cutting(UnitFolder(unit), at, behind), ENROLLED)
    provision.admit(UnitFolder(unit), ENROLLED)

    assert (unit / ENROLLED).read_bytes() == b"the city's"
    assert not (unit / CODE).exists()
    assert not (unit / ANSWER).exists()
