"""Adapter: Open JTalk through pyopenjtalk-plus, for the workshop only; no vehicle has a synthesiser.

The voice is "Mei" of MMDAgent (CC BY 3.0, see NOTICE), which comes with the library. It speaks at 48 kHz after about 0.28 s of silence, in
its own loudness for each text; a clip is cut to its words, brought to one loudness, halved to 24 kHz (through a half-band filter, so that
nothing folds down) and faded at both ends.
"""

import math
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import pyopenjtalk

from drivers.devices.sound import RATE_HZ
from drivers.errors import DriverError

VOICE = "mei_normal"
_VOICE_RATE_HZ = 2 * RATE_HZ
_SUDACHI = False  # one dictionary decides a reading, and our own words come before it; not a second one that thinks otherwise
_HALF_WIDTH = 15  # of the half-band filter, in samples of 48 kHz
_QUIET = 0.012  # of the peak: softer is silence before or after the words
_MARGIN_MS = 15  # kept around the words: soft consonants begin below _QUIET
_FADE_MS = 6
_LOUDNESS = 0.12  # root mean square of full scale
_LOUDEST = 0.89
_FULL_SCALE = 32_767


class NotSpeakable(DriverError):
    """The synthesiser made no sound of a text."""


class OpenJTalk:
    """The synthesiser, with words it would misread as a user dictionary: written form → katakana reading."""

    def __init__(self, misread: Mapping[str, str]) -> None:
        if misread:
            _teach(misread)

    @property
    def voice(self) -> str:
        """Voice and version: clips made by another one are made again."""
        return f"{VOICE} {metadata.version('pyopenjtalk-plus')}"

    def reading(self, text: str) -> str:
        """How it pronounces ``text``, in katakana."""
        return cast("str", pyopenjtalk.g2p(text, kana=True, use_sudachi_kanji_yomi=_SUDACHI))

    def samples(self, text: str) -> bytes:
        """``text`` spoken; raises ``NotSpeakable``."""
        wave, rate_hz = cast("tuple[Any, int]", pyopenjtalk.tts(text, use_sudachi_kanji_yomi=_SUDACHI))
        if rate_hz != _VOICE_RATE_HZ or len(wave) == 0:
            raise NotSpeakable(f"'{text}' cannot be spoken ({rate_hz} Hz, {len(wave)} samples): write it in kana")
        halved = _halved(wave)
        loud = (abs(halved) > _QUIET * abs(halved).max()).nonzero()[0]
        margin = RATE_HZ * _MARGIN_MS // 1000
        words = halved[max(0, loud[0] - margin) : loud[-1] + margin]
        level = float((words * words).mean()) ** 0.5
        gain = min(_LOUDNESS / level, _LOUDEST / float(abs(words).max()))
        _fade(words)
        return cast("bytes", (words * gain * _FULL_SCALE).round().astype("<i2").tobytes())


def _halved(wave: Any) -> Any:
    """Every second sample of the wave below a quarter of its rate (a sinc under a Hamming window)."""
    taps = {0: 0.5}
    for offset in range(1, _HALF_WIDTH + 1, 2):
        window = 0.54 + 0.46 * math.cos(math.pi * offset / (_HALF_WIDTH + 1))
        taps[offset] = taps[-offset] = math.sin(math.pi * offset / 2) / (math.pi * offset) * window
    length = (len(wave) - 2 * _HALF_WIDTH) // 2
    parts = [weight * wave[_HALF_WIDTH + offset : _HALF_WIDTH + offset + 2 * length : 2] for offset, weight in taps.items()]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total / sum(taps.values())


def _fade(words: Any) -> None:
    length = RATE_HZ * _FADE_MS // 1000
    for index in range(min(length, len(words) // 2)):
        words[index] *= index / length
        words[-1 - index] *= index / length


def _teach(misread: Mapping[str, str]) -> None:
    """Words in MeCab's CSV form (naist-jdic): surface, context ids and cost left to the library, a proper noun, its reading twice."""
    with tempfile.TemporaryDirectory() as folder:
        source, compiled = Path(folder) / "words.csv", Path(folder) / "words.dic"
        lines = [f"{text},,,1,名詞,固有名詞,一般,*,*,*,{text},{kana},{kana},0/{len(kana)},*" for text, kana in misread.items()]
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        pyopenjtalk.mecab_dict_index(str(source), str(compiled))
        pyopenjtalk.update_global_jtalk_with_user_dict(str(compiled))
