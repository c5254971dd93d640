"""Adapter: rendered clips in a folder of WAV files, and WAV files themselves."""

import os
import wave
from pathlib import Path

from drivers.devices.sound import RATE_HZ, Clip

_BYTES_A_SAMPLE = 2


class ClipFolder:
    """A Shelf over a folder that ``kazashi words render`` filled; a clip is read at its first use and kept.

    All clips of the validator are about 25 MB; a bus says a few dozen of them a day.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, bytes | None] = {}

    def samples(self, clip: Clip) -> bytes | None:
        """The clip's samples, or None when its file is missing, cut or not in our format."""
        name = clip.file_name
        if name not in self._kept:
            self._kept[name] = _read(self._folder / name)
        return self._kept[name]


def write_wav(path: Path, samples: bytes) -> None:
    """Samples as a WAV file, put in place whole or not at all."""
    beside = path.with_suffix(f".{os.getpid()}")  # two renderings at once spoil nothing
    with wave.open(str(beside), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(_BYTES_A_SAMPLE)
        out.setframerate(RATE_HZ)
        out.writeframes(samples)
    beside.replace(path)


def _read(path: Path) -> bytes | None:
    try:
        with wave.open(str(path), "rb") as clip:
            if (clip.getnchannels(), clip.getsampwidth(), clip.getframerate()) != (1, _BYTES_A_SAMPLE, RATE_HZ):
                return None
            return clip.readframes(clip.getnframes())
    except (OSError, EOFError, wave.Error):
        return None
