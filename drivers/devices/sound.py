"""Sound as values: clips of spoken words, tones that glide, and the Protocol of whatever plays them.

Everything that sounds is one run of samples: the tone first, then the words. So a loudspeaker has one verb, and what plays later always
replaces what plays now.

Samples are signed 16-bit little-endian mono at ``RATE_HZ``. Speech has little above 10 kHz, and half of the synthesiser's 48 kHz is half
of a small disk.
"""

import hashlib
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

RATE_HZ = 24_000
_FADE_MS = 8  # a tone that starts or ends at full height clicks
_PEAK = 0.45  # beside speech normalised to the same loudness, louder is shrill in a quiet bus
_OVERTONE = 0.25  # a pure sine is hard to place; one soft octave makes it a bell
_FULL_SCALE = 32_767


@dataclass(frozen=True, slots=True)
class Clip:
    """Some words rendered at build time.

    ``text`` as it stands in a transcript; ``reading`` in katakana as it is *pronounced* (long vowels ー, particles ワ and エ); ``say`` what
    the synthesiser is given when it would misread ``text``.
    """

    text: str
    reading: str
    say: str = ""

    @property
    def spoken(self) -> str:
        """What the synthesiser is given."""
        return self.say or self.text

    @property
    def file_name(self) -> str:
        """Where the rendered clip lies: a name made from text and reading, so that no list of numbers has to be kept."""
        return hashlib.sha256(f"{self.text}\0{self.reading}".encode()).hexdigest()[:16] + ".wav"


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence between clips."""

    ms: int


@dataclass(frozen=True, slots=True)
class Glide:
    """A pitch that moves evenly from ``from_hz`` to ``to_hz``; equal pitches are a plain tone."""

    from_hz: int
    to_hz: int
    ms: int


class Sound(Protocol):
    """A loudspeaker that is always open."""

    def play(self, samples: bytes, transcript: str) -> None:
        """Start at once, in place of whatever sounds now. ``transcript`` is for a twin or a trace; a loudspeaker does not need it."""
        ...

    def stop(self) -> None:
        """Be silent at once."""
        ...


class Shelf(Protocol):
    """Where rendered clips are found."""

    def samples(self, clip: Clip) -> bytes | None:
        """The clip's samples, or None when it was never rendered."""
        ...


def silence(ms: int) -> bytes:
    """Samples of silence."""
    return bytes(2 * (RATE_HZ * ms // 1000))


def tone(glides: Sequence[Glide]) -> bytes:
    """The glides one after the other as samples, without a jump of phase between them, faded in and out."""
    lengths = [RATE_HZ * glide.ms // 1000 for glide in glides]
    total = sum(lengths)
    fade = RATE_HZ * _FADE_MS // 1000
    out: list[int] = []
    phase = 0.0
    for glide, length in zip(glides, lengths, strict=True):
        for index in range(length):
            hz = glide.from_hz + (glide.to_hz - glide.from_hz) * index / length
            phase += 2 * math.pi * hz / RATE_HZ
            level = min(1.0, len(out) / fade, (total - len(out)) / fade)
            wave = (math.sin(phase) + _OVERTONE * math.sin(2 * phase)) / (1 + _OVERTONE)
            out.append(round(_FULL_SCALE * _PEAK * level * wave))
    return struct.pack(f"<{len(out)}h", *out)


def speech(words: Iterable[Clip | Pause], shelf: Shelf) -> tuple[bytes, tuple[Clip, ...]]:
    """The words as one run of samples, and the clips that are missing on the shelf (they are left out)."""
    parts: list[bytes] = []
    missing: list[Clip] = []
    for word in words:
        match word:
            case Pause(ms):
                parts.append(silence(ms))
            case Clip():
                samples = shelf.samples(word)
                if samples is None:
                    missing.append(word)
                else:
                    parts.append(samples)
    return b"".join(parts), tuple(missing)
