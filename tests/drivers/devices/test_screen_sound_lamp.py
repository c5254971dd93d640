"""The screen, the loudspeaker and the lamp, and their twins."""

import hashlib
import itertools
import struct
import subprocess
import sys
import tomllib
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.devices import display_png
from drivers.devices.display import Face, Picture, Text, width_em
from drivers.devices.display_pygame import FontMissing, Painter, PictureFiles, find_fonts, pixels
from drivers.devices.lamps import LampColour, LampMotion, LampShape, Light
from drivers.devices.lamps_leds import LedLamp
from drivers.devices.sound import RATE_HZ, Clip, Glide, Pause, silence, speech, tone
from drivers.devices.sound_clips import ClipFolder, write_wav
from drivers.emulated.display import RememberedDisplay
from drivers.emulated.lamp import RememberedLamp
from drivers.emulated.speaker import Heard, Speaker
from firmware.compose import ROOT, wordbook
from firmware.words import pictures, table

WORDS = wordbook()
GOLDEN = ROOT / "tests" / "golden" / "screens.toml"


@pytest.fixture(scope="module")
def painter() -> Iterator[Painter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDL_VIDEODRIVER", "dummy")
        yield Painter(find_fonts())


# ── pictures ──


def picture_hash(painter: Painter, picture: Picture) -> str:
    return hashlib.sha256(pixels(painter.paint(picture))).hexdigest()[:32]


def test_every_picture_is_the_one_that_was_looked_at(painter: Painter) -> None:
    golden = tomllib.loads(GOLDEN.read_text())
    drawn = {f"{one.name}-{one.width}x{one.height}": picture_hash(painter, one) for one in pictures(WORDS)}
    changed = sorted(name for name in {*golden["pixels"], *drawn} if golden["pixels"].get(name) != drawn.get(name))
    assert not changed, f"look at the new pictures (kazashi words document), then write their hashes into {GOLDEN.name}: {changed}"


def test_the_pictures_in_the_documents_are_the_ones_that_are_drawn() -> None:
    names = {f"{one.name}-{one.width}x{one.height}.png" for one in pictures(WORDS)}
    folder = ROOT / "docs" / "pictures"
    assert {path.name for path in folder.glob("*-*x*.png")} >= names
    assert sum((folder / name).stat().st_size for name in names) < len(names) * 22_000


def test_the_table_of_messages_is_up_to_date() -> None:
    assert (ROOT / "docs" / "messages.md").read_text(encoding="utf-8") == table(WORDS)


def test_the_font_is_as_wide_as_the_layout_takes_it_to_be(painter: Painter) -> None:
    for picture in pictures(WORDS):
        for text in (item for item in picture.items if isinstance(item, Text)):
            if text.face is Face.BOLD:
                assert painter.width(text) <= width_em(text.text) * text.size + 1
            assert text.x + painter.width(text) <= picture.width


def test_a_missing_font_names_the_package_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(FontMissing, match="apt-get install fonts-morisawa-bizud-gothic"):
        find_fonts([tmp_path])


def test_a_window_shows_what_the_painter_paints_and_ends_by_escape() -> None:
    script = """
import pygame
from drivers.devices.display_pygame import Painter, Window, find_fonts, pixels, without_a_screen
from firmware.compose import wordbook
from firmware.words import pictures
without_a_screen()
painter = Painter(find_fonts())
window = Window((800, 480), painter)
picture = next(pictures(wordbook()))
window.show(picture)
assert pixels(pygame.display.get_surface()) == pixels(painter.paint(picture))
assert not window.closed()
pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
assert window.closed()
"""
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning:drivers", "-c", script], check=True, cwd=ROOT)


def test_pictures_go_into_numbered_files(painter: Painter, tmp_path: Path) -> None:
    display = PictureFiles((800, 480), painter, tmp_path / "out", label=lambda: "bus")
    one, other, *_ = pictures(WORDS)
    display.show(one)
    display.show(other)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001-bus-ready.png", "0002-bus-armed_pair.png"]
    assert not display.closed()


def png_pixels(data: bytes) -> tuple[int, int, bytes]:
    """A reader of the PNG kind that we write, made from the standard and not from the writer."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height, depth, colour_type = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, colour_type) == (8, 3)
    rows = zlib.decompress(chunks[b"IDAT"])
    numbers = b"".join(rows[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height))
    palette = chunks[b"PLTE"]
    return width, height, b"".join(palette[3 * number : 3 * number + 3] for number in numbers)


@given(st.integers(1, 20), st.integers(1, 12), st.data())
def test_a_small_picture_file_holds_exactly_what_was_drawn(width: int, height: int, data: st.DataObject) -> None:
    rgb = data.draw(st.binary(min_size=3 * width * height, max_size=3 * width * height))
    assert png_pixels(display_png.encode(width, height, rgb)) == (width, height, rgb)


def test_rare_colours_become_their_neighbours() -> None:
    common = bytes((0, 0, 0)) * 300
    many = b"".join(bytes((red, 200, 7)) * 2 for red in range(255))
    width, height, rgb = png_pixels(display_png.encode(1, 811, common + many + bytes((9, 199, 7))))
    assert (width, height) == (1, 811)
    assert rgb[-3:] == bytes((9, 200, 7))


# ── sound ──


def samples_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 2}h", data)


@given(st.lists(st.builds(Glide, st.integers(100, 2500), st.integers(100, 2500), st.integers(5, 120)), min_size=1, max_size=4))
@settings(max_examples=25)
def test_a_tone_lasts_what_it_says_never_clips_and_has_no_click(glides: list[Glide]) -> None:
    samples = samples_of(tone(glides))
    assert len(samples) == sum(RATE_HZ * glide.ms // 1000 for glide in glides)
    assert max(map(abs, samples)) < 32_767 // 2
    assert abs(samples[0]) < 200
    assert abs(samples[-1]) < 2000


def test_a_tone_has_the_pitch_it_says() -> None:
    samples = samples_of(tone([Glide(800, 800, 500)]))
    upward = sum(1 for before, after in itertools.pairwise(samples) if before < 0 <= after)
    assert upward == pytest.approx(400, abs=2)


class OneShelf:
    """A shelf with one clip on it."""

    def samples(self, clip: Clip) -> bytes | None:
        return b"\1\2" if clip.text == "残り" else None


def test_words_are_joined_and_missing_clips_are_named() -> None:
    known, unknown = Clip("残り", "ノコリ"), Clip("町", "マチ")
    joined, missing = speech([known, Pause(1), unknown, known], OneShelf())
    assert joined == b"\1\2" + silence(1) + b"\1\2"
    assert missing == (unknown,)


def test_clips_are_found_by_their_words(tmp_path: Path) -> None:
    clip = Clip("残り", "ノコリ")
    write_wav(tmp_path / clip.file_name, b"\1\0\2\0")
    assert ClipFolder(tmp_path).samples(clip) == b"\1\0\2\0"
    assert ClipFolder(tmp_path).samples(Clip("残り", "ザンリ")) is None


def test_a_clip_that_is_cut_or_of_another_kind_is_not_played(tmp_path: Path) -> None:
    cut, fast = Clip("a", "エー"), Clip("b", "ビー")
    (tmp_path / cut.file_name).write_bytes(b"RIFF")
    with wave.open(str(tmp_path / fast.file_name), "wb") as other:
        other.setnchannels(1)
        other.setsampwidth(2)
        other.setframerate(2 * RATE_HZ)
        other.writeframes(b"\0\0")
    shelf = ClipFolder(tmp_path)
    assert (shelf.samples(cut), shelf.samples(fast)) == (None, None)


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 0

    def now_ns(self) -> int:
        return self.ms * 1_000_000

    def now_ms(self) -> int:
        return self.ms


def test_the_speaker_twin_remembers_what_was_heard_and_what_was_cut_off(tmp_path: Path) -> None:
    time = Time()
    speaker = Speaker(time.now_ns)
    second = b"\1\0" * RATE_HZ
    speaker.play(second, "one")
    time.ms = 400
    speaker.play(second, "two")
    time.ms = 5000
    speaker.play(second, "three")
    time.ms = 5100
    speaker.stop()
    assert speaker.heard == (Heard(0, 400, "one", cut=True), Heard(400, 1400, "two", cut=False), Heard(5000, 5100, "three", cut=True))
    speaker.write_wav(tmp_path / "all.wav")
    speaker.write_wav(tmp_path / "short.wav", longest_silence_s=0.5)
    assert wav_seconds(tmp_path / "all.wav") == pytest.approx(5.1)
    assert wav_seconds(tmp_path / "short.wav") == pytest.approx(0.4 + 1.0 + 0.5 + 0.1)


def test_a_speaker_that_never_sounded_leaves_an_empty_file(tmp_path: Path) -> None:
    Speaker(Time().now_ns).write_wav(tmp_path / "all.wav")
    assert wav_seconds(tmp_path / "all.wav") == 0


def wav_seconds(path: Path) -> float:
    with wave.open(str(path), "rb") as file:
        return file.getnframes() / file.getframerate()


def test_the_display_and_lamp_twins_remember() -> None:
    time = Time()
    display, lamp = RememberedDisplay[str]((800, 480), time.now_ms), RememberedLamp[str](time.now_ms)
    display.show("first")
    time.ms = 7
    display.show("second")
    lamp.show("green")
    assert [(seen.at_ms, seen.picture) for seen in display.seen] == [(0, "first"), (7, "second")]
    assert lamp.lights == [(7, "green")]
    assert not display.closed()
    display.close()
    assert display.closed()


# ── the lamp ──


def led_folder(folder: Path, highest: int = 255) -> Path:
    folder.mkdir()
    for name in ("trigger", "brightness", "delay_on", "delay_off"):
        (folder / name).write_text("")
    (folder / "max_brightness").write_text(f"{highest}\n")
    return folder


def test_a_steady_light_is_brightness_and_a_moving_one_is_the_kernels_timer(tmp_path: Path) -> None:
    red, green, blue = (led_folder(tmp_path / name, 15) for name in ("red", "green", "blue"))
    lamp = LedLamp(red, green, blue)
    lamp.show(Light(LampColour.GREEN, LampShape.CIRCLE, LampMotion.STEADY))
    assert [(led / "brightness").read_text() for led in (red, green, blue)] == ["0", "15", "2"]
    assert (green / "trigger").read_text() == "none"
    lamp.show(Light(LampColour.RED, LampShape.CROSS, LampMotion.BLINK))
    assert [(led / "trigger").read_text() for led in (red, green, blue)] == ["timer", "none", "none"]
    assert ((red / "delay_on").read_text(), (red / "delay_off").read_text()) == ("400", "400")


def test_a_lamp_without_one_of_its_leds_shines_with_the_others(tmp_path: Path) -> None:
    green = led_folder(tmp_path / "green")
    LedLamp(tmp_path / "none", green, tmp_path / "none").show(Light(LampColour.GREEN, LampShape.CIRCLE, LampMotion.STEADY))
    assert (green / "brightness").read_text() == "255"


def test_no_two_motions_of_one_colour_look_the_same() -> None:
    lights = {entry.meaning.light for entry in WORDS.entries.values()}
    assert len({(light.colour, light.motion) for light in lights}) == len(lights)
