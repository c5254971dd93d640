"""How a new system comes onto a unit: by the table, from the city and from a stick, cut at every step."""

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulated.clock import VirtualClock
from firmware import compose, update
from firmware.cli import main
from firmware.system import TrialFile
from firmware.update import MOST_TRIES, ROWS, Do, Event, Offer, Phase, Record, State, Verdict, Word, best, decode, encode, older, verdict
from firmware.update_files import CitySource, ImageUnit, Staging, StickSource, Words, publish, running
from firmware.updater import Equipment, Gone, InstallFailed, InstallRefused, NotThere, Updater
from images.bundle import HOOK
from ledger.carrier import Answer, NoAnswer

OURS = "kazashi-validator-amd64"
OLD, NOW, NEW = "0.1.0+20260101000000", "0.1.0+20260401000000", "0.2.0+20260501120000"
BUNDLE = bytes(range(256)) * 8


class Cut(Exception):
    """The power is gone."""


def offer(version: str = NEW, data: bytes = BUNDLE, compatible: str = OURS) -> Offer:
    return Offer(compatible, version, len(data), hashlib.sha256(data).digest())


@dataclass
class City:
    """A ``Source`` whose answers can be taken away."""

    offered: list[Offer] = field(default_factory=lambda: [offer()])
    data: bytes = BUNDLE
    answers: bool = True
    gone: bool = False
    asked: list[int] = field(default_factory=list[int])
    part_bytes: int = 700

    def offers(self) -> Sequence[Offer]:
        if not self.answers:
            raise NotThere("nobody")
        return self.offered

    def part(self, offer: Offer, offset: int, most: int) -> bytes:
        if not self.answers:
            raise NotThere("nobody")
        if self.gone or offer not in self.offered:
            raise Gone
        self.asked.append(offset)
        return self.data[offset : offset + min(most, self.part_bytes)]


class Vehicle:
    """A machine with two slots, a health check and a boot loader; its power goes before the change ``cut_at``."""

    def __init__(self, folder: Path, source: City | None = None) -> None:
        for name in ("update/words", "health", "run/health", "run/update"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.clock = VirtualClock()
        self.city = source or City()
        self.stage = Staging(folder / "update")
        self.running = self.good = NOW
        self.pending = False  # the boot loader will try the new slot, once
        self.works = True
        self.trip = False
        self.refuses = self.fails = False
        self.installs = self.starts = self.steps = 0
        self.cut_at: int | None = None
        self.free = 10**12
        self.told: list[str] = []
        self.agent = self._agent()

    # ── a machine ──

    def _agent(self) -> Updater:
        unit = ImageUnit(
            self.running,
            OURS,
            lambda: self.trip,
            TrialFile(self.folder / "health/trial", self.folder / "run/health/back"),
            self.folder / "run/health/good",
            self.folder / "run/update/restart",
            Words(self.folder / "update/words"),
        )
        return Updater(Equipment([self.city], _Slow(self), self, _Careful(self, unit), self.clock, lambda: 0.5))

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.cut_at:
            raise Cut

    def install(self) -> None:
        self.step()
        if self.refuses:
            raise InstallRefused("signature verification failed")
        if self.fails:
            raise InstallFailed("no such service")
        self.installs += 1
        assert self.stage.bundle.read_bytes() == self.city.data
        self.step()  # half of the other slot is written; the boot loader knows nothing yet
        self.pending = True
        self.step()

    def start(self) -> None:
        """The boot loader's one try for what was never called good, then the health check."""
        self.starts += 1
        for name in ("health/good", "health/back", "update/restart"):
            (self.folder / "run" / name).unlink(missing_ok=True)
        self.running, self.pending = NEW if self.pending else self.good, False
        self.agent = self._agent()

    def health(self) -> None:
        trial = TrialFile(self.folder / "health/trial", self.folder / "run/health/back")
        well = self.running == NOW or self.works
        if well:
            self.good = self.running
            (self.folder / "run/health/good").touch()
        if trial.running():
            trial.over()
            if not well:
                trial.go_back()

    def live(self, turns: int = 400) -> None:
        """Turn, start again when somebody asks for it, and write the words into the ledger."""
        checked = False
        for turn in range(turns):
            try:
                self.agent.turn()
            except Cut:
                self.cut_at = None
                self.start()
                checked = False
                continue
            self.told += [note.reason for note in Words(self.folder / "update/words").noted()]
            for note in Words(self.folder / "update/words").noted():
                note.forget()
            if not checked and turn % 7 == 6:
                self.health()
                checked = True
            if any((self.folder / "run" / name).exists() for name in ("health/back", "update/restart")):
                self.start()
                checked = False
            self.clock.sleep_until_ns(self.clock.monotonic_ns() + 90 * 10**9)


@dataclass
class _Slow:
    """The stage of a vehicle whose power may go before any change."""

    vehicle: Vehicle

    def record(self) -> Record:
        return self.vehicle.stage.record()

    def remember(self, record: Record) -> None:
        self.vehicle.step()
        self.vehicle.stage.remember(record)

    def size(self) -> int:
        return self.vehicle.stage.size()

    def add(self, data: bytes) -> None:
        self.vehicle.step()
        self.vehicle.stage.add(data)

    def digest(self) -> bytes:
        return self.vehicle.stage.digest()

    def drop(self) -> None:
        self.vehicle.step()
        self.vehicle.stage.drop()

    def free_bytes(self) -> int:
        return self.vehicle.free


@dataclass
class _Careful:
    """The same for what the agent does to the machine."""

    vehicle: Vehicle
    unit: ImageUnit

    @property
    def version(self) -> str:
        return self.unit.version

    @property
    def compatible(self) -> str:
        return self.unit.compatible

    def on_trip(self) -> bool:
        return self.unit.on_trip()

    def lay_mark(self) -> None:
        self.vehicle.step()
        self.unit.lay_mark()

    def lift_mark(self) -> None:
        self.vehicle.step()
        self.unit.lift_mark()

    def is_good(self) -> bool:
        return self.unit.is_good()

    def has_failed(self) -> bool:
        return self.unit.has_failed()

    def restart(self) -> None:
        self.vehicle.step()
        self.unit.restart()

    def tell(self, word: Word) -> None:
        self.vehicle.step()
        self.unit.tell(word)


@pytest.fixture
def vehicle(tmp_path: Path) -> Vehicle:
    return Vehicle(tmp_path)


# ── the table ──


def test_each_state_has_an_arrow_out_and_each_event_is_answered_once() -> None:
    assert len({(row.state, row.event) for row in ROWS}) == len(ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.target for row in ROWS} - {row.state for row in ROWS} == {State.LEAVING}
    assert {do for row in ROWS for do in row.does} == set(Do)
    assert {row.event for row in ROWS} == set(Event)


def test_a_new_system_comes_in_parts_is_installed_and_tried_and_the_ledger_gets_to_know(vehicle: Vehicle) -> None:
    vehicle.live()

    assert (vehicle.running, vehicle.good, vehicle.installs, vehicle.starts) == (NEW, NEW, 1, 1)
    assert vehicle.city.asked == [0, 700, 1400]
    assert vehicle.told == ["update:installed"]
    assert (vehicle.stage.record(), vehicle.stage.size()) == (Record(), 0)


def test_what_does_not_work_goes_back_once_and_is_never_tried_again(vehicle: Vehicle) -> None:
    vehicle.works = False

    vehicle.live()

    assert (vehicle.running, vehicle.good, vehicle.installs, vehicle.starts) == (NOW, NOW, 1, 2)
    assert vehicle.told == ["update:went-back"]
    assert vehicle.stage.record() == Record(refused=(offer().digest,))


def test_it_waits_for_a_moment_without_a_trip(vehicle: Vehicle) -> None:
    vehicle.trip = True
    vehicle.live()
    assert (vehicle.running, vehicle.starts, vehicle.agent.state) == (NOW, 0, State.WAITING)
    vehicle.trip = False
    vehicle.live()
    assert vehicle.running == NEW


def test_a_driver_who_turns_the_key_meanwhile_starts_the_new_system_as_a_trial(vehicle: Vehicle) -> None:
    vehicle.trip = True
    vehicle.live()
    assert (vehicle.folder / "health/trial").exists()
    vehicle.start()
    vehicle.works = False
    vehicle.live()
    assert (vehicle.running, vehicle.told) == (NOW, ["update:went-back"])


def test_what_rauc_refuses_is_told_and_never_tried_again(vehicle: Vehicle) -> None:
    vehicle.refuses = True
    vehicle.live()
    assert (vehicle.told, vehicle.starts, vehicle.stage.size()) == (["update:refused"], 0, 0)
    assert not (vehicle.folder / "health/trial").exists()
    assert vehicle.stage.record().refused == (offer().digest,)


def test_what_cannot_be_installed_is_tried_three_times(vehicle: Vehicle) -> None:
    vehicle.fails = True
    vehicle.live()
    assert (vehicle.told, vehicle.steps > MOST_TRIES) == (["update:refused"], True)
    assert vehicle.stage.record().refused == (offer().digest,)


def test_a_bundle_that_is_another_one_is_not_installed(vehicle: Vehicle) -> None:
    vehicle.city.data = bytes(len(BUNDLE))
    vehicle.live()
    assert (vehicle.installs, vehicle.told) == (0, ["update:refused"])


def test_a_network_that_comes_and_goes_only_costs_time(vehicle: Vehicle) -> None:
    for turn in range(60):
        vehicle.city.answers = turn % 3 == 0
        vehicle.live(2)
    vehicle.city.answers = True
    vehicle.live()
    assert vehicle.running == NEW
    assert len(vehicle.city.asked) == 3


def test_a_bundle_that_is_withdrawn_or_has_no_room_is_let_go(vehicle: Vehicle) -> None:
    vehicle.free = 1000
    vehicle.live(100)
    assert (vehicle.installs, vehicle.stage.record().offer) == (0, None)
    vehicle.free, vehicle.city.gone = 10**12, True
    vehicle.live()
    assert (vehicle.installs, vehicle.stage.record().offer, vehicle.told) == (0, None, [])


def test_a_disk_that_fails_is_waited_for(vehicle: Vehicle, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (tmp_path / "update").rename(kept)
    vehicle.live(50)
    assert vehicle.agent.state in {State.STARTED, State.ASKING, State.RESTING}
    kept.rename(tmp_path / "update")
    vehicle.live()
    assert vehicle.running == NEW


@pytest.mark.parametrize("works", [True, False])
def test_a_power_cut_at_any_step_ends_where_no_cut_ends(tmp_path: Path, *, works: bool) -> None:
    for cut_at in range(1, 40):
        vehicle = Vehicle(tmp_path / str(cut_at))
        vehicle.works, vehicle.cut_at = works, cut_at
        vehicle.live(250)
        if vehicle.steps < cut_at:
            assert cut_at > 10
            break
        assert {vehicle.running, vehicle.good} == {NEW if works else NOW}, cut_at
        assert vehicle.stage.record().offer is None, cut_at
        assert set(vehicle.told) == {"update:installed" if works else "update:went-back"}, cut_at
        assert len(vehicle.told) <= 2, cut_at
        assert vehicle.installs <= MOST_TRIES, cut_at
        assert not (vehicle.folder / "health/trial").exists(), cut_at


def test_a_trial_that_the_key_cut_short_is_repeated_three_times_at_most(vehicle: Vehicle) -> None:
    vehicle.live(12)
    for _ in range(MOST_TRIES):
        while vehicle.running == NOW and vehicle.agent.state is not State.RESTING:
            vehicle.live(12)
        vehicle.start()  # nobody has called it good
    vehicle.live(50)
    assert vehicle.installs <= MOST_TRIES


# ── what is taken ──


def test_an_older_system_is_refused_before_rauc_is_asked(vehicle: Vehicle) -> None:
    vehicle.city.offered = [offer(OLD), offer(NOW), offer(compatible="kazashi-kiosk-amd64")]
    vehicle.live()
    assert (vehicle.city.asked, vehicle.installs) == ([], 0)


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        (offer(), Verdict.WANTED),
        (offer(NOW), Verdict.SAME),
        (offer("9.9.9+20260401000000"), Verdict.SAME),
        (offer(OLD), Verdict.OLDER),
        (offer("9.9.9+20251231235959"), Verdict.OLDER),
        (offer(compatible="kazashi-kiosk-amd64"), Verdict.NOT_OURS),
        (offer("0.2.0"), Verdict.BROKEN),
    ],
)
def test_an_offer_is_judged_by_the_time_in_its_version(offered: Offer, wanted: Verdict) -> None:
    assert verdict(offered, NOW, OURS, ()) is wanted


def test_of_several_the_newest_is_taken_and_none_that_did_not_work_here() -> None:
    newer = offer("0.3.0+20260601000000", b"x")
    assert best([offer(), newer, offer(OLD)], NOW, OURS, ()) == newer
    assert best([offer(), newer], NOW, OURS, (newer.digest,)) == offer()
    assert verdict(newer, NOW, OURS, (newer.digest,)) is Verdict.REFUSED


times = st.integers(20_250_101_000_000, 20_270_101_000_000).map(str)


@pytest.mark.parametrize("times", [(OLD, NOW), (NOW, NOW), (NEW, NOW), (NOW, NEW), ("9+20260101000000", "0+20260101000001")])
def test_the_bundles_own_hook_says_what_we_say(tmp_path: Path, times: tuple[str, str]) -> None:
    version, runs = times
    (tmp_path / "os-release").write_text(f'IMAGE_VERSION="{runs}"\n')
    hook = tmp_path / "hook"
    hook.write_text(HOOK.replace("/usr/lib/os-release", str(tmp_path / "os-release")))
    environment = {"RAUC_MF_COMPATIBLE": OURS, "RAUC_SYSTEM_COMPATIBLE": OURS, "RAUC_MF_VERSION": version}

    refused = subprocess.run(["sh", str(hook), "install-check"], env=environment, capture_output=True, check=False).returncode != 0

    assert refused is older(version, runs)


@given(st.lists(st.builds(offer, times.map(lambda time: f"0.1.0+{time}"), st.binary(min_size=1, max_size=9)), max_size=5))
def test_a_list_reads_back_as_it_was(offers: list[Offer]) -> None:
    assert list(decode(encode(offers))) == offers


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_list_or_one_error(data: bytes) -> None:
    with suppress(update.MalformedIndex):
        assert isinstance(decode(data), tuple)


@given(st.binary(max_size=300))
def test_a_record_that_cannot_be_read_is_an_empty_one(data: bytes) -> None:
    assert isinstance(update.record_of(data), Record)


def test_a_record_reads_back_as_it_was() -> None:
    record = Record(Phase.INSTALLING, offer(), (b"\1" * 32,), 2)
    assert update.record_of(update.record_bytes(record)) == record
    assert update.record_of(update.record_bytes(replace(record, phase=Phase.NONE, offer=None))) == replace(
        record, phase=Phase.NONE, offer=None
    )


# ── whence it comes ──


@dataclass
class Link:
    """The wire: answers by door."""

    folder: Path
    ranges: bool = True
    answers: bool = True

    def get(self, door: str, media_type: str, limit: int, patience_s: float) -> Answer:
        if not self.answers:
            raise NoAnswer("nobody")
        assert limit > 0
        assert patience_s > 0
        path = self.folder / door.removeprefix("/v1/images/")
        return Answer(200, media_type, path.read_bytes()) if path.exists() else Answer(404, "", b"")

    def get_part(self, door: str, offset: int, most: int, patience_s: float) -> Answer:
        whole = self.get(door, "application/octet-stream", most, patience_s)
        if whole.status != 200:
            return whole
        return Answer(206, "", whole.body[offset : offset + most]) if self.ranges else whole


def test_the_folder_that_a_city_offers_is_what_a_unit_reads(tmp_path: Path) -> None:
    bundle, folder = tmp_path / "update.raucb", tmp_path / "images"
    bundle.write_bytes(BUNDLE)
    source = CitySource(Link(folder))
    assert source.offers() == ()

    made = publish(bundle, folder, (OURS, NEW))
    publish(bundle, folder, (OURS, OLD))

    assert made == offer()
    assert list(source.offers()) == [offer(), offer(OLD)]
    assert source.part(made, 10, 20) == BUNDLE[10:30]
    assert {path.name for path in folder.iterdir()} == {"index.json", f"{made.digest.hex()}.raucb"}


def test_a_city_that_gives_something_else_is_asked_again_later(tmp_path: Path) -> None:
    bundle = tmp_path / "update.raucb"
    bundle.write_bytes(BUNDLE)
    made = publish(bundle, tmp_path / "images", (OURS, NEW))
    with pytest.raises(NotThere, match="the server must know ranges"):
        CitySource(Link(tmp_path / "images", ranges=False)).part(made, 0, 10)
    with pytest.raises(NotThere, match="did not come"):
        CitySource(Link(tmp_path / "images", answers=False)).part(made, 0, 10)
    with pytest.raises(NotThere, match="no list of systems"):
        CitySource(Link(tmp_path / "images", answers=False)).offers()
    with pytest.raises(Gone):
        CitySource(Link(tmp_path / "images")).part(offer(data=b"other"), 0, 10)
    (tmp_path / "images/index.json").write_text("<html>")
    with pytest.raises(NotThere, match="is no JSON list"):
        CitySource(Link(tmp_path / "images")).offers()


def stick(folder: Path, facts: Callable[[Path], tuple[str, str]] = lambda _: (OURS, NEW)) -> StickSource:
    return StickSource(folder, facts)


def test_a_stick_offers_the_bundles_whose_signature_holds(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="no stick with an update"):
        stick(tmp_path / "away").offers()
    (tmp_path / "update.raucb").write_bytes(BUNDLE)
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    source = stick(tmp_path)
    assert list(source.offers()) == [offer()]
    assert stick(tmp_path).part(offer(), 5, 10) == BUNDLE[5:15]  # also after a start
    (tmp_path / "update.raucb").unlink()
    with pytest.raises(NotThere):
        source.part(offer(), 5, 10)

    def unsigned(_: Path) -> tuple[str, str]:
        raise InstallRefused("signature verification failed")

    (tmp_path / "update.raucb").write_bytes(BUNDLE)
    assert stick(tmp_path, unsigned).offers() == []


def test_only_an_image_of_ours_is_updated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert running(tmp_path / "image.json") == ("", "")
    (tmp_path / "image.json").write_text(f'{{"compatible": "{OURS}", "version": "{NOW}"}}')
    assert running(tmp_path / "image.json") == (OURS, NOW)
    (tmp_path / "image.json").write_text("[]")
    assert running(tmp_path / "image.json") == ("", "")
    assert main(["update", "run", "--config", str(tmp_path), "--manifest", str(tmp_path / "none")]) == 1
    assert "updates are for Kazashi's images only" in capsys.readouterr().err


def test_a_file_that_is_no_bundle_is_not_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.raucb").write_bytes(b"x" * 100)
    assert main(["update", "offer", str(tmp_path / "x.raucb"), str(tmp_path / "images")]) == 1
    assert "is no bundle that could be offered" in capsys.readouterr().err
    assert compose.software()
