"""The units as systemd itself judges them, laid over Debian's own in a root that is thrown away. Nothing is started."""

import grp
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from string import Template

import pytest

from firmware import cli
from firmware.counts import source_of

TREE = Path(__file__).resolve().parents[2] / "systemd"
UNITS = TREE / "usr/lib/systemd/system"
OURS = sorted(path.name for path in UNITS.glob("kazashi-*.service"))
NOT_OURS = {"kazashi-grow.service"}
"""They start a program of systemd's own."""
LIMITS = {**dict.fromkeys(OURS, 20), "pcscd.service": 20, "rauc.service": 25}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's units, ours over them, and the programs that they start."""
    root = tmp_path_factory.mktemp("root")
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "etc/systemd"):
        (root / folder).mkdir(parents=True)
    for name in ("bin", "sbin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    shutil.copytree("/usr/lib/systemd", root / "usr/lib/systemd", symlinks=True, ignore=shutil.ignore_patterns("*.so", "libsystemd*"))
    shutil.copytree(TREE, root, symlinks=True, dirs_exist_ok=True)
    for program in ("usr/bin/sleep", "usr/bin/systemctl", "usr/bin/rauc", "usr/sbin/pcscd"):
        shutil.copy(Path("/") / program, root / program)
    (root / "usr/bin/kazashi").write_text("#!/bin/sh\n")
    (root / "usr/bin/kazashi").chmod(0o755)
    return root


def instance(unit: str) -> str:
    return unit.replace("@.", "@kazashi-station.")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_COLORS": "0"})


@pytest.mark.parametrize("unit", LIMITS)
def test_a_unit_is_exposed_no_more_than_its_limit(root: Path, unit: str) -> None:
    judged = run(
        "systemd-analyze", "security", "--offline=yes", f"--threshold={LIMITS[unit]}", "--no-pager", f"--root={root}", instance(unit)
    )

    assert judged.returncode == 0, judged.stdout.splitlines()[-1]


def test_systemd_finds_nothing_to_say_about_any_unit(root: Path) -> None:
    units = [instance(path.name) for path in UNITS.iterdir() if path.suffix in {".service", ".target", ".path", ".mount", ".timer"}]
    judged = run(
        "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={root}", *units, "pcscd.service", "rauc.service"
    )

    assert (judged.returncode, judged.stderr, judged.stdout) == (0, "", "")


def test_systemd_would_have_found_a_misspelt_setting(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "root", symlinks=True)
    unit = tmp_path / "root/usr/lib/systemd/system/kazashi-screen.service"
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchdogSeconds"))

    judged = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={tmp_path / 'root'}", unit.name)

    assert judged.returncode == 1


@pytest.mark.parametrize("file", ["journald.conf", "system.conf"])
def test_each_setting_of_a_drop_in_is_one_that_systemd_knows(file: str) -> None:
    known = set(re.findall(r"^#(\w+)=", (Path("/etc/systemd") / file).read_text(), re.MULTILINE))
    text = (TREE / f"usr/lib/systemd/{file}.d/50-kazashi.conf").read_text()

    assert set(re.findall(r"^(\w+)=", text, re.MULTILINE)) <= known


def test_the_users_and_folders_are_made_as_they_are_described(root: Path) -> None:
    for name in ("passwd", "group"):
        (root / "etc" / name).write_text({"passwd": "root:x:0:0:root:/:/bin/sh\n", "group": "root:x:0:\naudio:x:29:\nvideo:x:44:\n"}[name])
    made = run("systemd-sysusers", f"--root={root}", str(TREE / "usr/lib/sysusers.d/kazashi.conf"))
    assert (made.returncode, made.stderr.count("Failed")) == (0, 0), made.stderr
    made = run("systemd-tmpfiles", "--create", f"--root={root}", str(TREE / "usr/lib/tmpfiles.d/kazashi.conf"))
    assert (made.returncode, made.stderr) == (0, "")

    users = dict(re.findall(r"^(kazashi-\w+):x:(\d+):", (root / "etc/passwd").read_text(), re.MULTILINE))
    ledger = (root / "data/ledger").stat()
    assert set(users) == {f"kazashi-{name}" for name in ("station", "screen", "courier", "clock", "update", "counts")}
    assert (stat.S_IMODE(ledger.st_mode), ledger.st_uid) == (0o3770, int(users["kazashi-station"]))
    assert stat.S_IMODE((root / "data/unit/keys/courier").stat().st_mode) == 0o700


def test_who_may_give_files_away_may_also_make_the_call() -> None:
    """The filter refuses chown and its like to all; a right that cannot be used was found only in the guest."""
    rights = [path.read_text() for path in UNITS.glob("kazashi-*.service.d/60-rights.conf")]
    givers = [text for text in rights if "CAP_CHOWN" in text]
    assert len(givers) == 2
    assert all("\nSystemCallFilter=@chown\n" in text for text in givers)


def test_who_reads_sticks_is_in_the_group_that_they_are_mounted_for() -> None:
    (mounted_for,) = re.findall(r"^Options=gid=([a-z-]+),", (UNITS / "run-kazashi-stick.mount").read_text(), re.MULTILINE)
    groups = re.findall(r"^(?:Supplementary)?Groups?=(.+)$", (UNITS / "kazashi-update.service").read_text(), re.MULTILINE)
    assert mounted_for in " ".join(groups).split()


def test_every_number_of_a_user_or_group_is_fixed_because_data_outlives_the_image() -> None:
    numbers = re.findall(r"^[ug]\s+\S+\s+(\S+)", (TREE / "usr/lib/sysusers.d/kazashi.conf").read_text(), re.MULTILINE)
    assert len(set(numbers)) == len(numbers)
    assert all(700 <= int(number) < 720 for number in numbers)


def test_every_user_and_group_that_a_unit_names_is_made() -> None:
    made = set(re.findall(r"^[ug]\s+(\S+)", (TREE / "usr/lib/sysusers.d/kazashi.conf").read_text(), re.MULTILINE))
    debians = {group.gr_name for group in grp.getgrall()}
    for unit in OURS:
        for setting in re.findall(r"^(?:User|Group|SupplementaryGroups)=(.+)$", (UNITS / unit).read_text(), re.MULTILINE):
            assert set(setting.split()) <= made | debians, unit


@pytest.mark.parametrize("unit", sorted(set(OURS) - NOT_OURS))
def test_a_unit_starts_a_command_that_there_is_and_with_options_that_it_takes(unit: str) -> None:
    start = re.search(r"^ExecStart=/usr/bin/kazashi (.+)$", (UNITS / unit).read_text(), re.MULTILINE)
    assert start is not None
    told = dict(re.findall(r"^Environment=(\w+)=(.+)$", (UNITS / unit).read_text(), re.MULTILINE))
    name, *given = Template(start[1].replace("%i", "kazashi-station")).substitute(told).split()
    parser = cli.parser_of(name)

    parser.parse_args(given)


@pytest.mark.parametrize("unit", ["kazashi-station.service", "kazashi-screen.service"])
def test_what_takes_cards_and_what_shows_have_no_network_and_end_in_a_sentence(unit: str) -> None:
    text = (UNITS / unit).read_text()

    assert "\nPrivateNetwork=yes\n" in text
    assert "\nRestrictAddressFamilies=AF_UNIX\n" in text
    assert "\nOnFailure=kazashi-failed@%N.service\n" in text
    assert "\nType=notify\n" in text
    assert "\nWatchdogSec=" in text


@pytest.mark.parametrize("unit", ["kazashi-courier.service", "kazashi-enrol.service"])
def test_what_speaks_with_strangers_opens_no_device_but_the_tpm_and_nobody_else_opens_that(unit: str) -> None:
    text = (UNITS / unit).read_text()
    rules = (TREE / "usr/lib/udev/rules.d/70-kazashi.rules").read_text()

    assert re.findall(r"^DeviceAllow=(.+)$", text, re.MULTILINE) == ["char-tpm rw"]
    assert "\nSupplementaryGroups=kazashi-tpm\n" in text
    assert 'SUBSYSTEM=="tpmrm", KERNEL=="tpmrm[0-9]*", GROUP="kazashi-tpm", MODE="0660"' in rules
    assert [name for name in OURS if "tpm" in (UNITS / name).read_text()] == ["kazashi-courier.service", "kazashi-enrol.service"]


def test_what_reads_the_journal_has_neither_network_nor_device_nor_the_ledger_and_what_has_the_network_no_journal() -> None:
    text = (UNITS / "kazashi-counts.service").read_text()
    for setting in (
        *("PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX", "PrivateDevices=yes"),
        *("InaccessiblePaths=-/data", "RuntimeDirectoryPreserve=yes", "LogLevelMax=notice"),
    ):
        assert f"\n{setting}\n" in text
    assert "DeviceAllow=" not in text
    assert {unit for unit in OURS if "systemd-journal\n" in (UNITS / unit).read_text()} == {"kazashi-counts.service"}


def test_systemd_writes_down_each_start_because_that_is_what_is_counted() -> None:
    assert "\nLogLevel=info\n" in (TREE / "usr/lib/systemd/system.conf.d/50-kazashi.conf").read_text()
    assert "kazashi-counts.timer" in (UNITS / "kazashi-validator.target").read_text()


def test_every_part_of_ours_has_a_name_in_what_is_counted() -> None:
    nameless = {unit for unit in OURS if source_of(instance(unit)) not in unit}

    assert nameless == set(), "SOURCES in ledger/counts.py has none; adding one is another version of the heartbeat"


@pytest.mark.parametrize("unit", ["kazashi-station.service", "kazashi-screen.service"])
def test_a_process_that_hangs_again_and_again_reaches_its_restart_limit(unit: str) -> None:
    """A limit that is counted in a shorter time than so many bites of the watchdog take is no limit."""
    text = (UNITS / unit).read_text()
    watchdog_s, start_s, rest_s, burst = (
        int(found[1])
        for name in ("WatchdogSec", "TimeoutStopSec", "RestartSec", "StartLimitBurst")
        if (found := re.search(rf"^{name}=(\d+)$", text, re.MULTILINE))
    )

    assert "StartLimitIntervalSec=10min" in text
    assert burst * (watchdog_s + start_s + rest_s) < 600


def test_no_unit_says_what_the_drop_in_for_all_would_overrule() -> None:
    """A drop-in is read after the unit: what it sets once, a unit cannot set otherwise."""
    lists = {"SystemCallFilter", "Environment"}
    common = set(re.findall(r"^(\w+)=", (UNITS / "kazashi-.service.d/50-hardening.conf").read_text(), re.MULTILINE)) - lists
    for unit in OURS:
        assert not common & set(re.findall(r"^(\w+)=", (UNITS / unit).read_text(), re.MULTILINE)), unit


def test_nobody_can_log_in() -> None:
    masked = {path.name for path in (TREE / "etc/systemd/system").iterdir() if path.readlink() == Path("/dev/null")}

    assert {"getty@.service", "serial-getty@.service", "console-getty.service", "autovt@.service", "debug-shell.service"} <= masked
    for target in UNITS.glob("kazashi-*.target"):
        text = target.read_text()
        assert "Requires=basic.target" in text
        assert not re.search(r"(?:getty|ssh|multi-user)", re.sub(r"^#.*$", "", text, flags=re.MULTILINE))


def test_no_process_may_leave_an_image_of_its_memory() -> None:
    assert "kernel.core_pattern = |/bin/false" in (TREE / "usr/lib/sysctl.d/50-kazashi.conf").read_text()
    for drop_in in ("kazashi-.service.d/50-hardening.conf", "pcscd.service.d/50-kazashi.conf", "rauc.service.d/50-kazashi.conf"):
        assert "\nLimitCORE=0\n" in (UNITS / drop_in).read_text()
    assert "DumpCore=no" in (TREE / "usr/lib/systemd/system.conf.d/50-kazashi.conf").read_text()
