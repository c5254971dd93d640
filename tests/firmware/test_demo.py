"""The demo as a person meets it: it plays, says what happened, and leaves nothing behind."""

import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from backoffice.compose import office_of, open_books
from backoffice.settings import read
from drivers.devices.display import Picture
from drivers.devices.keypad import DriverKey
from drivers.emulated.display import RememberedDisplay
from firmware import demo
from firmware.compose import make_city_key
from firmware.demo_bus import MORNING, Beat, Words
from firmware.demo_city import Arrived, Scene
from firmware.demo_stage import House, Stage
from firmware.failure import Failure
from firmware.laws import CityBooks
from ledger.entry import Kind
from validator.messages import Message

ROOT = Path(__file__).resolve().parents[2]
HEADLESS = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY", "LC_ALL", "LC_MESSAGES"}}
QUICK_S = 60


def command(*options: str) -> list[str]:
    """``kazashi demo`` in this tree, wherever it is started."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from firmware.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", start, "demo", *options]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Without a screen; ``home`` marks every process of this demo."""
    return {**HEADLESS, **more, "KAZASHI_TESTED_IN": str(home)}


def processes_of(home: Path) -> list[str]:
    """The processes that carry the mark of ``home``."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"KAZASHI_TESTED_IN={home}\0".encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
    return found


@contextmanager
def nothing_left_of(home: Path) -> Generator[None]:
    """At the end there is no process and no device link."""
    yield
    assert processes_of(home) == []
    assert not (home / "demo-out" / "reader").is_symlink()


@dataclass(frozen=True)
class Morning:
    """One whole run, without a screen."""

    folder: Path
    said: str
    status: int
    took_s: float


def play_the_morning(home: Path) -> Morning:
    """One run of the whole chapter, in a process of its own."""
    began_s = time.monotonic()
    with nothing_left_of(home):
        run = subprocess.run(
            command("--seed", "3"), cwd=home, env=environment(home, LANG="en_US.UTF-8"), capture_output=True, text=True, check=False
        )
    assert run.stderr == ""
    return Morning(home / "demo-out", run.stdout, run.returncode, time.monotonic() - began_s)


def the_morning_ends_well_and_within_a_minute(morning: Morning) -> None:
    assert morning.status == 0, morning.said
    assert morning.took_s < QUICK_S


def it_says_first_what_it_will_do(morning: Morning) -> None:
    head = morning.said[:700]
    for what in ("seed      3", "language  English", "sound     demo-out/morning.wav", "screen    demo-out/pictures/*.png", "PN532 twin"):
        assert what in head


def it_ends_with_one_line_a_law(morning: Morning) -> None:
    laws = dict(re.findall(r"^  (\d)  (held|BROKEN|----)", morning.said, re.MULTILINE))
    assert laws == dict.fromkeys("123456789", "held")


def every_scene_goes_as_the_script_says(morning: Morning) -> None:
    assert "not what the script says" not in morning.said
    assert len(re.findall(r"^\d\d:\d\d  ", morning.said, re.MULTILINE)) > 80


def the_ledgers_hold_and_each_purse_agrees_with_them(morning: Morning) -> None:
    assert morning.said.count("the chain holds, 0 debits open") == 2
    assert morning.said.count("  ✓") == 29
    assert "differs" not in morning.said


def purse_ledger_and_the_citys_books_stand_side_by_side(morning: Morning) -> None:
    rows = re.findall(r"^  .{30} +[\d,]+ +([\d,]+) +([\d,]+) +([\d,]+) +\d+  ✓$", morning.said, re.MULTILINE)
    assert len(rows) == 29
    assert all(len(set(row)) == 1 for row in rows)


def every_entry_came_several_times_and_is_booked_once(morning: Morning) -> None:
    (told,) = re.findall(r"^  (\d+) entries\. \d+ batches brought (\d+) of them .* 0 of them were set aside", morning.said, re.MULTILINE)
    entries, came = int(told[0]), int(told[1])
    assert came >= 2.5 * entries
    with closing(sqlite3.connect(morning.folder / "city" / "city.db")) as books:
        assert books.execute("SELECT count(*) FROM entry").fetchone() == (entries,)


def a_package_that_came_half_is_in_the_ledger_and_before_the_clerks(morning: Morning) -> None:
    assert "→ A package did not come whole, and was refused. (bus-2)" in morning.said
    with closing(sqlite3.connect(morning.folder / "city" / "city.db")) as books:
        asked = "SELECT reason FROM entry WHERE device = 2 AND kind = ?"
        assert books.execute(asked, (int(Kind.ALARM),)).fetchall() == [("package-broken",)]
    assert "A package that a terminal has not taken" in (morning.folder / "city" / "troubles.en.html").read_text(encoding="utf-8")


def the_month_is_billed_twice_to_the_same_yen_on_paper_and_as_csv(morning: Morning) -> None:
    (points,) = re.findall(r"What was paid: ([\d,]+) points", morning.said)
    assert re.search(rf"from the raw batches alone: \d+ rides, {points} points, [\d,]+ yen; the same\.", morning.said)
    city = morning.folder / "city"
    assert (city / "bill-minato-2026-04.pdf").read_bytes().startswith(b"%PDF-")
    paper = (city / "bill-minato-2026-04.csv").read_text(encoding="utf-8-sig")
    assert "合計" in paper
    page = (city / "month.ja.html").read_text(encoding="utf-8")
    counts = [f"{int(row.split(',')[6]):,}" for row in paper.splitlines()[1:]]
    assert re.findall(r'data-title="乗車（件）"><div>([\d,]+)', page)[: len(counts)] == counts
    assert "締め済み" in page


def the_clerks_pages_lie_there_in_both_languages(morning: Morning) -> None:
    city = morning.folder / "city"
    for name, japanese, english in (
        ("vehicles", "今日の車両", "bus-1"),
        ("gaps", "1 から 17", "1 to 17"),
        ("troubles", "確認が必要なもの: 1 件", "To check"),
        ("card", "使ったポイントは、カードと帳簿で一致しています", "420"),
        ("month", "2026年4月", "April 2026"),
    ):
        assert japanese in (city / f"{name}.ja.html").read_text(encoding="utf-8")
        assert english in (city / f"{name}.en.html").read_text(encoding="utf-8")


def the_city_can_be_opened_again(morning: Morning) -> None:
    """By the command that was printed, short of the port."""
    (told,) = re.findall(r"kazashi backoffice --config (\S+) serve", morning.said)
    settings = read((morning.folder.parent / told).read_bytes(), told, (morning.folder.parent / told).parent)
    office = office_of(settings)
    assert office is not None
    (passphrase,) = re.findall(r"passphrase (\S+)", morning.said)
    assert office.clerks.who(passphrase) == "sato"
    with open_books(settings) as books:
        assert [device.name for device in books.devices()] == ["bus-1", "bus-2"]


def it_leaves_pictures_sound_words_and_story(morning: Morning) -> None:
    pictures = list((morning.folder / "pictures").glob("*.png"))
    assert len(pictures) > 40
    assert {picture.stem.split("-")[1] for picture in pictures} >= {"paid", "paid_pair", "recovered", "one_card", "out_of_order", "cash"}
    with wave.open(str(morning.folder / "morning.wav")) as sound:
        assert sound.getnframes() > 60 * sound.getframerate()
    assert "お支払いずみです" in (morning.folder / "transcript.txt").read_text(encoding="utf-8")
    assert "kill -9" in (morning.folder / "story.txt").read_text(encoding="utf-8")


def nobody_is_told_to_hold_the_card_here_after_each_rider(morning: Morning) -> None:
    heard = (morning.folder / "transcript.txt").read_text(encoding="utf-8")
    assert heard.count("カードをかざしてください") < heard.count("そのまま、お待ちください")


def test_a_whole_morning_without_a_screen(tmp_path: Path) -> None:
    """One run for all of these, because it is the longest thing that is tested here."""
    morning = play_the_morning(tmp_path)
    for holds in (
        the_morning_ends_well_and_within_a_minute,
        it_says_first_what_it_will_do,
        it_ends_with_one_line_a_law,
        every_scene_goes_as_the_script_says,
        the_ledgers_hold_and_each_purse_agrees_with_them,
        purse_ledger_and_the_citys_books_stand_side_by_side,
        every_entry_came_several_times_and_is_booked_once,
        a_package_that_came_half_is_in_the_ledger_and_before_the_clerks,
        the_month_is_billed_twice_to_the_same_yen_on_paper_and_as_csv,
        the_clerks_pages_lie_there_in_both_languages,
        the_city_can_be_opened_again,
        it_leaves_pictures_sound_words_and_story,
        nobody_is_told_to_hold_the_card_here_after_each_rider,
    ):
        holds(morning)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process(tmp_path: Path, ending: signal.Signals) -> None:
    with subprocess.Popen(
        command(), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert any("Ume" in line for line in run.stdout)
        run.send_signal(ending)
        rest, complaint = run.communicate(timeout=30)
    assert complaint == ""
    if ending is not signal.SIGKILL:
        assert run.returncode == 130
        assert "nothing is left running" in rest
        assert not (tmp_path / "demo-out" / "reader").is_symlink()
    until_s = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < until_s:
        select.select([], [], [], 0.05)
    assert processes_of(tmp_path) == []


def test_a_reader_who_has_read_enough_stops_it_quietly(tmp_path: Path) -> None:
    with (
        nothing_left_of(tmp_path),
        subprocess.Popen(
            command(), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as run,
    ):
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == ""
        assert run.wait(30) == 1


def test_what_is_laid_on_the_tray_by_hand_is_answered(tmp_path: Path) -> None:
    keyboard, terminal = pty.openpty()
    with nothing_left_of(tmp_path):
        options = command("--interactive", "--lang", "en")
        with subprocess.Popen(options, cwd=tmp_path, env=environment(tmp_path), stdin=terminal, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            for waits_for, types in (
                ("forged", b"t"),
                ("Please hold your card here", b"1"),
                ("when you get off", b"1k5\n"),
                ("ticket 5", b"q"),
            ):
                assert any(waits_for in line for line in run.stdout)
                os.write(keyboard, types)
            run.communicate(timeout=30)
    os.close(keyboard)
    os.close(terminal)
    assert run.returncode == 0


def test_without_a_keyboard_nobody_can_play_oneself(tmp_path: Path) -> None:
    run = subprocess.run(
        command("--interactive"),
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr == "kazashi demo: --interactive needs a terminal to type at; run it there, or leave --interactive out\n"


def play_one_ride(
    folder: Path, after: Callable[[Stage], None], arrived: Arrived | None = None, scenes: tuple[Scene, ...] = ()
) -> tuple[int, str]:
    """A short morning: one rider, one ride; ``after`` happens when it is over, and then this is what has ``arrived`` at the city."""
    folder.mkdir()
    said: list[str] = []
    with Stage(House(folder), 5, int(MORNING.timestamp() * 1000), quick=True, tell=said.append) as stage:
        stage.deal("ume", 2000)
        stage.enter("bus-1", 1, ("G1-3", "M2-3"))
        stage.press(DriverKey.TRIP, DriverKey.TRIP, DriverKey.TRIP, DriverKey.NEXT_STOP, DriverKey.TICKET, 1, DriverKey.ENTER)
        place = stage.where
        heard = [shown for shown in stage.touch(("ume",)) if shown.message is Message.PAID]
        stage.act("touch", ("ume",), place, 1, heard)
        after(stage)
    beat = Beat(MORNING, "磯の湯温泉", Words("梅さん", "Ume"), Words("払う", "pays"), tuple(heard), (Message.PAID,))
    status = demo.Ending(demo.Wish("en", 5, folder=folder), said.append, stage, [beat], scenes, arrived).tell(1.0)
    assert [entry.kind for entry in stage.verified()[0].book.entries][-1] is Kind.PAID
    return status, "\n".join(said)


def test_a_ride_that_is_paid_once_breaks_no_law(tmp_path: Path) -> None:
    status, said = play_one_ride(tmp_path / "out", lambda _: None)
    assert "BROKEN" not in said
    assert status == 0


def test_a_debit_behind_the_ledgers_back_is_told_and_fails_the_demo(tmp_path: Path) -> None:
    def debit(stage: Stage) -> None:
        card = stage.cards["ume"].card
        register = bytearray(card.memory.blocks[0x0E])
        register[0] -= 10
        register[4] -= 1
        card.rewrite(0x0E, bytes(register))

    status, said = play_one_ride(tmp_path / "out", debit)
    assert "1  BROKEN" in said
    assert "differs" in said
    assert status == 1


def test_books_that_lack_what_the_ledgers_hold_are_told_and_fail_the_demo(tmp_path: Path) -> None:
    nothing = Arrived(CityBooks({}, {}, (), 2**62), 0, 0, Words("", ""), (), Words("", ""))
    status, said = play_one_ride(tmp_path / "out", lambda _: None, nothing)
    assert "4  BROKEN" in said
    assert "8  BROKEN" in said
    assert "differs" in said
    assert status == 1


def test_a_scene_on_the_way_to_the_city_that_goes_otherwise_fails_the_demo(tmp_path: Path) -> None:
    word = Words("あ", "a")
    status, said = play_one_ride(tmp_path / "out", lambda _: None, scenes=(Scene(MORNING, word, word, word, word, went=False),))
    assert "1 scenes went otherwise" in said
    assert status == 1


def test_a_machine_without_the_back_office_says_in_one_sentence_what_it_does_not_show() -> None:
    without = "import sys; sys.modules['fastapi'] = None; from firmware import demo; demo.city_can_be_shown(demo.Wish('en', 1), print)"
    run = subprocess.run([sys.executable, "-c", without], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ("The chapter of the city is not shown: this machine lacks fastapi (pip install 'kazashi[backoffice]').")


def test_the_town_hall_ends_with_whoever_opened_it(tmp_path: Path) -> None:
    (tmp_path / "city.toml").write_text("format = 1\n")
    make_city_key(tmp_path / "city.keys")
    opens = (
        "import time; from pathlib import Path; from firmware.demo_hall import TownHall\n"
        f"with TownHall(Path({str(tmp_path / 'city.toml')!r}), time.monotonic_ns(), 0, lambda: 0) as hall:\n"
        "    print(hall.port, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", opens], cwd=ROOT, env=environment(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert int(run.stdout.readline()) > 0
        assert len(processes_of(tmp_path)) == 2
        run.kill()
    until_s = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < until_s:
        select.select([], [], [], 0.05)
    assert processes_of(tmp_path) == []


def test_a_card_number_in_a_log_is_told_and_fails_the_demo(tmp_path: Path) -> None:
    def leak(stage: Stage) -> None:
        (tmp_path / "out" / "careless.log").write_text(f"card {stage.cards['ume'].card.idm.hex()} seen")

    status, said = play_one_ride(tmp_path / "out", leak)
    assert "6  BROKEN" in said
    assert status == 1


def test_esc_in_the_window_skips_what_would_be_waited_for(tmp_path: Path) -> None:
    window: RememberedDisplay[Picture] = RememberedDisplay((800, 480), lambda: 0)
    with Stage(House(tmp_path, window), 5, int(MORNING.timestamp() * 1000), quick=False, tell=print) as stage:
        stage.enter("bus-1", 1, ("G1-3",))
        stage.press(DriverKey.TRIP)
        assert [seen.picture.name for seen in window.seen][-1] == "ready"
        window.close()
        began_s = time.monotonic()
        stage.pause(20_000, look_s=20.0)
        assert time.monotonic() - began_s < 10
        assert stage.quick


def test_a_folder_that_no_demo_made_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "demo-out"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(Failure, match="holds files that no demo made; move them away"):
        demo.fresh_folder(folder)
    assert (folder / "letter.txt").read_text() == "dear"


def test_an_earlier_demos_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "demo-out"
    demo.fresh_folder(folder)
    (folder / "story.txt").write_text("old")
    demo.fresh_folder(folder)
    assert not (folder / "story.txt").exists()


@pytest.mark.parametrize(
    ("environment", "lang"),
    [({"LANG": "ja_JP.UTF-8"}, "ja"), ({"LANG": "C.UTF-8"}, "en"), ({}, "en"), ({"LC_ALL": "en_GB.UTF-8", "LANG": "ja_JP.UTF-8"}, "en")],
)
def test_the_language_is_what_the_environment_asks_for(environment: dict[str, str], lang: str) -> None:
    assert demo.language(environment) == lang
