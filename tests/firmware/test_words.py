"""The spoken words: made once, read right, and nothing kept that is not needed."""

import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from drivers.devices.sound import Clip
from drivers.devices.sound_clips import ClipFolder, write_wav
from firmware import cli
from firmware.compose import ROOT, wordbook
from firmware.words import EXAMPLE, all_clips, misread_from, misreadings, render, sentences
from validator.feedback import name_clip, said
from validator.messages import Message, Shown
from validator.numbers_ja import clips

WORDS = wordbook()

needs_voice = pytest.mark.skipif(find_spec("pyopenjtalk") is None, reason="the extra 'voice' is not installed")


class Parrot:
    """A synthesiser that knows every reading and makes a sound as long as its text."""

    voice = "parrot 1"

    def __init__(self) -> None:
        self.readings = {clip.spoken: clip.reading for clip in all_clips(WORDS)}
        self.readings |= {sentence.transcript: sentence.reading for sentence in sentences(WORDS)}
        self.said: list[str] = []

    def reading(self, text: str) -> str:
        return self.readings[text]

    def samples(self, text: str) -> bytes:
        self.said.append(text)
        return b"\1\0" * len(text)


def rendered(folder: Path, parrot: Parrot, *more: Clip) -> int:
    return render((*all_clips(WORDS)[:20], *more), folder, parrot, write_wav, lambda _done, _of: None)


def test_what_is_rendered_is_not_rendered_again(tmp_path: Path) -> None:
    parrot = Parrot()
    assert rendered(tmp_path, parrot) == 20
    assert rendered(tmp_path, parrot) == 0
    assert len(parrot.said) == 20


def test_another_voice_a_lost_file_or_a_spoilt_index_makes_clips_again(tmp_path: Path) -> None:
    parrot = Parrot()
    rendered(tmp_path, parrot)
    (tmp_path / all_clips(WORDS)[0].file_name).unlink()
    assert rendered(tmp_path, parrot) == 1
    parrot.voice = "parrot 2"
    assert rendered(tmp_path, parrot) == 20
    (tmp_path / "index.json").write_text("{")
    assert rendered(tmp_path, parrot) == 20


def test_a_clip_that_nobody_needs_any_more_is_removed(tmp_path: Path) -> None:
    parrot = Parrot()
    stop = name_clip("寺前", "てらまえ")
    rendered(tmp_path, parrot, stop)
    assert ClipFolder(tmp_path).samples(stop) == b"\1\0" * 4
    rendered(tmp_path, parrot)
    assert ClipFolder(tmp_path).samples(stop) is None


def test_rendering_stopped_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    parrot = Parrot()

    class Stopped(Exception):
        pass

    def stop_at_seven(done: int, _of: int) -> None:
        if done == 7:
            raise Stopped

    with pytest.raises(Stopped):
        render(all_clips(WORDS)[:20], tmp_path, parrot, write_wav, stop_at_seven)
    assert rendered(tmp_path, parrot) == 13


def test_every_clip_of_every_message_is_among_those_that_are_rendered() -> None:
    there = set(all_clips(WORDS))
    values = {name: value for name, value in EXAMPLE.items() if not name.startswith("stop")}
    for points in (1, 10, 999, 20_304, 99_999):
        for message in Message:
            feedback = WORDS.phrase(Shown(message, {**values, "points": points, "balance": points, "cash": points, "fare": points}))
            assert {word for word in feedback.words if isinstance(word, Clip)} <= there
    assert set(clips(12_345)) <= there


def test_a_misreading_is_found_and_named() -> None:
    parrot = Parrot()
    parrot.readings["残り"] = "ザンリ"
    assert [(one.text, one.wanted, one.got) for one in misreadings(WORDS, parrot)] == [("残り", "ノコリ", "ザンリ")]


@needs_voice
def test_the_synthesiser_reads_every_clip_and_sentence_as_the_data_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["words", "check"]) == 0
    assert "0 misread" in capsys.readouterr().out


@needs_voice
def test_the_synthesiser_reads_whole_amounts_as_our_clips_do() -> None:
    from firmware.compose import open_synthesiser
    from validator.numbers_ja import Counter, reading

    synthesiser = open_synthesiser()
    for number in [*range(0, 100_000, 997), 10_000, 20_010, 30_300, 68_800, 80_004]:
        for counter in (Counter.PLAIN, Counter.POINTS, Counter.YEN):
            assert said(synthesiser.reading(f"{number}{counter.value}")) == reading(number, counter)


@needs_voice
def test_a_spoken_clip_starts_at_once_and_is_as_loud_as_the_others() -> None:
    from firmware.compose import open_synthesiser

    synthesiser = open_synthesiser()
    for text in ("残り", "900ポイント", "もう一度かざしてください"):
        data = synthesiser.samples(text)
        samples = struct.unpack(f"<{len(data) // 2}h", data)
        loud = next(index for index, sample in enumerate(samples) if abs(sample) > 1000)
        assert loud < 24_000 * 0.06
        assert 0.09 < (sum(sample * sample for sample in samples) / len(samples)) ** 0.5 / 32_767 < 0.13
        assert max(map(abs, samples)) <= 0.9 * 32_767


@needs_voice
def test_a_message_can_be_heard_in_the_workshop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["words", "say", "paid", "points=100", "balance=1900", "-o", str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["100ポイント、残り1900", "ヒャクポイントノコリセンキューヒャク"]
    assert (tmp_path / "a.wav").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["say", "paid", "points"], "'points' must be name=value"),
        (["say", "paid", "points=100"], "lacks balance"),
        (["say", "paid", "points=100", "balance=100000"], "cannot be spoken"),
        (["render", "--feed", "none.zip"], "none.zip: there is no such file"),
    ],
)
def test_what_was_asked_wrongly_is_one_sentence(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["words", *arguments]) == 1
    error = capsys.readouterr().err
    assert fault in error
    assert len(error.splitlines()) == 1


def test_the_user_dictionary_is_words_and_readings() -> None:
    assert misread_from('[misread]\n"挿入口" = "ソーニューグチ"', "d.toml") == {"挿入口": "ソーニューグチ"}
    assert misread_from("", "d.toml") == {}
    with pytest.raises(ValueError, match=r"d\.toml: 挿入口: must be a reading"):
        misread_from('[misread]\n"挿入口" = 3', "d.toml")
    with pytest.raises(ValueError, match=r"d\.toml: "):
        misread_from("[misread", "d.toml")


@needs_voice
def test_a_misread_word_can_be_taught() -> None:
    script = """
from drivers.devices.speech_openjtalk import OpenJTalk
assert OpenJTalk({}).reading("挿入口") == "ソーニューコー"
assert OpenJTalk({"挿入口": "ソーニューグチ"}).reading("挿入口") == "ソーニューグチ"
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True)
