"""Tier 1: what was built. Needs root, and no machine but this one."""

import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom

from images import base, lock, rootfs, vehicle, verity, wheels
from images.build import ROOT, Order, apt_for, build, read_recipe
from images.command import ImageFailure, run
from images.steps import digest_of

MAY_BE_SETUID: set[str] = set()
LARGEST_MB = {"validator": 150, "kiosk": 190}


@pytest.fixture(scope="module")
def root(image: Path, place: Path) -> Iterator[Path]:
    """The verified root, mounted."""
    tree = place / "root"
    tree.mkdir()
    run(("mount", "-t", "squashfs", "-o", "loop,ro", image / "root.img", tree))
    yield tree
    run(("umount", tree))


def manifest(image: Path) -> dict[str, object]:
    return dict(json.loads((image / "image.json").read_text()))


def test_the_same_inputs_give_the_same_root_hash(image: Path, place: Path, figures: dict[str, object]) -> None:
    again = place / "again"
    for _ in range(2):
        order = Order(str(manifest(image)["role"]), str(manifest(image)["architecture"]), dev=True)
        build(order)
        start_s = time.monotonic()
        build(replace(order, into=again))
        figures["root_disk_bundle_again_s"] = round(time.monotonic() - start_s, 1)
        if (again / "root.img.made-of").read_text() == (image / "root.img.made-of").read_text():
            break  # else somebody saved a file in between
    assert json.loads((again / "image.json").read_text())["name"] == manifest(image)["name"]
    for name in ("root.img", "boot.img", "disk.img", "sbom.json"):
        assert (again / name).stat().st_size == (image / name).stat().st_size, name
        subprocess.run(["cmp", again / name, image / name], check=True)
    shutil.rmtree(again)


def test_debians_part_and_the_wheels_are_the_same_when_they_are_made_again(image: Path, place: Path, figures: dict[str, object]) -> None:
    role, architecture = str(manifest(image)["role"]), str(manifest(image)["architecture"])
    recipe, parts = read_recipe(role), image.parent / f"parts-{image.name}"
    pins = lock.read((ROOT / f"images/locks/{image.name}.txt").read_text(), image.name)
    start_s = time.monotonic()
    base.make(recipe, apt_for(recipe.suite, architecture), pins, place / "base.tar", place)
    wheels.make(ROOT, architecture, place / "wheels")
    figures["debian_and_wheels_again_s"] = round(time.monotonic() - start_s, 1)
    subprocess.run(["cmp", place / "base.tar", parts / "base.tar"], check=True)
    assert digest_of(place / "wheels") == digest_of(parts / "wheels")
    (place / "base.tar").unlink()
    shutil.rmtree(place / "wheels")


def test_a_second_build_is_quick(image: Path, figures: dict[str, object]) -> None:
    start_s = time.monotonic()
    build(Order(str(manifest(image)["role"]), str(manifest(image)["architecture"]), dev=True))
    figures["nothing_changed_s"] = round(time.monotonic() - start_s, 1)
    assert time.monotonic() - start_s < 30


def test_the_root_is_small(image: Path, figures: dict[str, object]) -> None:
    size_mb = json.loads((image / "root.json").read_text())["offset"] / 1e6
    figures["squashfs_mb"] = round(size_mb, 1)
    assert size_mb <= LARGEST_MB[str(manifest(image)["role"])]


def test_the_roots_name_is_its_hash_and_one_changed_byte_is_seen(image: Path, place: Path) -> None:
    told = json.loads((image / "root.json").read_text())
    verified = verity.Verified(told["hash"], told["offset"])
    assert verified.hash == manifest(image)["name"]
    verity.check(image / "root.img", verified)
    bent = place / "bent.img"
    shutil.copyfile(image / "root.img", bent)
    with bent.open("r+b") as file:
        file.seek(told["offset"] // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ImageFailure):
        verity.check(bent, verified)
    bent.unlink()


def test_the_bill_of_materials_is_what_is_in_the_root(image: Path, root: Path) -> None:
    text = (root / rootfs.SHARE / "sbom.json").read_text()
    assert text == (image / "sbom.json").read_text()
    bom = Bom.from_json(json.loads(text))  # type: ignore[attr-defined]
    listed = {(each.name, each.version) for each in bom.components if not [one for one in each.properties if one.name == "kazashi:taken"]}
    installed = {(each["Package"], each["Version"]) for each in rootfs.packages((root / "var/lib/dpkg/status").read_text())}
    wheels = {(each.name, each.version) for each in rootfs.distributions(root)}
    assert listed == installed | wheels
    assert all(each.hashes for each in bom.components)


def test_every_installed_package_has_its_licence_in_the_root(root: Path) -> None:
    licences = {path.name for path in (root / rootfs.SHARE / "licences").iterdir()}
    packages = {each["Package"] for each in rootfs.packages((root / "var/lib/dpkg/status").read_text())}
    # Some packages carry a link to the licence of the package that they are built with.
    assert len(packages - licences) <= 12, sorted(packages - licences)


def test_nothing_in_the_root_develops_installs_or_lets_in(root: Path) -> None:
    unwanted = "perl gcc cc ld as make apt apt-get dpkg sshd login su passwd agetty getty telnetd pip pip3 gdb"
    assert [name for name in unwanted.split() if (root / "usr/bin" / name).exists() or (root / "usr/sbin" / name).exists()] == []
    assert [path for path in root.glob("usr/lib/systemd/system/*getty*") if path.readlink() != Path("/dev/null")] == []
    shadow = (root / "etc/shadow").read_text().splitlines()
    assert [line.split(":")[0] for line in shadow if line.split(":")[1].strip("!*")] == []


def test_no_file_is_setuid_and_none_is_writable_for_everybody(root: Path) -> None:
    setuid, open_to_all = set[str](), set[str]()
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            setuid.add(str(path.relative_to(root)))
        if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            open_to_all.add(str(path.relative_to(root)))
    assert setuid == MAY_BE_SETUID
    assert open_to_all == set()


def test_a_vehicle_carries_no_back_office_no_tests_and_no_build(root: Path) -> None:
    there = {path.name for path in (root / rootfs.LIBRARY).iterdir()}
    assert not there & {"backoffice", "tests", "images", "tools", "fastapi", "sqlalchemy", "pip", "hatchling", "pyopenjtalk"}
    assert set(rootfs.OURS) <= there


def test_every_module_of_ours_is_compiled_for_good(root: Path) -> None:
    sources = [path for path in (root / rootfs.LIBRARY).rglob("*.py") if path.stat().st_size]
    for path in sources:
        compiled = path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc"
        assert compiled.exists(), path
        assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 0b01, f"{path}: is compiled again when its time changes (PEP 552)"


def test_systemd_finds_no_fault_in_the_whole_images_units(root: Path, image: Path) -> None:
    target = read_recipe(str(manifest(image)["role"])).target
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={root}", target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")


def test_the_data_partition_takes_what_a_larger_disk_has_and_nothing_else_moves(image: Path, place: Path) -> None:
    larger = place / "larger.img"
    run(("cp", "--sparse=always", image / "disk.img", larger))

    def partitions() -> dict[str, tuple[int, int]]:
        table = json.loads(run(("sfdisk", "--json", larger)))["partitiontable"]["partitions"]
        return {each["name"]: (each["start"], each["size"]) for each in table}

    before = partitions()
    os.truncate(larger, larger.stat().st_size + (512 << 20))
    run(("systemd-repart", "--dry-run=no", f"--definitions={ROOT / 'systemd/usr/lib/repart.d'}", "--no-pager", larger))
    after = partitions()
    start, size = after.pop("data")
    assert (start, size * 512 >> 20) == (before["data"][0], (before.pop("data")[1] * 512 >> 20) + 512)
    assert after == before
    larger.unlink()


def test_an_update_is_signed_and_a_changed_one_or_another_signer_is_refused(image: Path, root: Path, place: Path) -> None:
    config = place / "system.conf"
    config.write_text((root / "etc/rauc/system.conf").read_text().replace("/etc/rauc", str(root / "etc/rauc")))
    told = run(("rauc", f"--conf={config}", "info", "--output-format=json", image / "update.raucb"))
    said = json.loads(told[told.index("{") :])
    assert (said["compatible"], said["version"]) == (manifest(image)["compatible"], manifest(image)["version"])
    bent = place / "bent.raucb"
    shutil.copyfile(image / "update.raucb", bent)
    with bent.open("r+b") as file:
        file.seek(-200, 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ImageFailure):
        run(("rauc", f"--conf={config}", "info", bent))
    bent.unlink()


def test_a_technicians_first_files_fit_the_shipped_layout(root: Path, desk: Path, place: Path) -> None:
    data = place / "unit-check"
    vehicle.furnish(ROOT, data, desk)
    assert (data / "unit/unit.toml").exists()
    for name in ("usr/share/kazashi/operator.toml", "usr/share/kazashi/keypad.toml", "usr/lib/kazashi/fares/schemes/silver_emica.toml"):
        assert (root / name).exists(), name
