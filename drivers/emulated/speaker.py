"""The twin of a loudspeaker: it hears everything, on any clock, and writes it down as one WAV file.

What is played later cuts what is still sounding, as a real loudspeaker behind one mixer channel does.
"""

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BYTES_A_SAMPLE = 2


@dataclass(frozen=True, slots=True)
class Heard:
    """Something that sounded: from when to when (ms on the speaker's clock), its words, and whether it was cut off."""

    from_ms: int
    to_ms: int
    transcript: str
    cut: bool


class Speaker:
    """A loudspeaker that remembers. ``now_ns`` is its clock; samples are signed 16-bit little-endian mono at ``rate_hz``."""

    def __init__(self, now_ns: Callable[[], int], rate_hz: int = 24_000) -> None:
        self._now_ns = now_ns
        self._rate_hz = rate_hz
        self._start_ns = now_ns()
        self._played: list[tuple[int, bytes, str]] = []

    def play(self, samples: bytes, transcript: str) -> None:
        """Sound from now on, in place of what sounds."""
        self._played.append((self._now_ns() - self._start_ns, samples, transcript))

    def stop(self) -> None:
        """Be silent from now on."""
        self._played.append((self._now_ns() - self._start_ns, b"", ""))

    @property
    def heard(self) -> tuple[Heard, ...]:
        """Everything so far, in order; what was replaced at its very start was not heard."""
        now_ns = self._now_ns() - self._start_ns
        starts = [start for start, _, _ in self._played] + [now_ns]
        heard: list[Heard] = []
        for (start_ns, samples, transcript), next_ns in zip(self._played, starts[1:], strict=True):
            if samples and next_ns > start_ns:
                whole_ns = len(samples) // _BYTES_A_SAMPLE * 1_000_000_000 // self._rate_hz
                cut = next_ns < start_ns + whole_ns
                end_ns = min(next_ns, start_ns + whole_ns)
                heard.append(Heard(start_ns // 1_000_000, end_ns // 1_000_000, transcript, cut))
        return tuple(heard)

    def write_wav(self, path: Path, longest_silence_s: float | None = None) -> None:
        """Everything so far as one file; silences are cut to ``longest_silence_s`` if given, for a morning is long."""
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(_BYTES_A_SAMPLE)
            out.setframerate(self._rate_hz)
            starts = [self._sample(start) for start, _, _ in self._played]
            for (start_ns, samples, _), following in zip(self._played, [*starts, None][1:], strict=True):
                room = None if following is None else following - self._sample(start_ns)
                out.writeframes(samples if room is None else samples[: room * _BYTES_A_SAMPLE])
                if room is not None:
                    out.writeframes(self._silence(room - len(samples) // _BYTES_A_SAMPLE, longest_silence_s))

    def _sample(self, at_ns: int) -> int:
        return at_ns * self._rate_hz // 1_000_000_000

    def _silence(self, count: int, longest_s: float | None) -> bytes:
        longest = count if longest_s is None else round(longest_s * self._rate_hz)
        return bytes(max(0, min(count, longest)) * _BYTES_A_SAMPLE)


class Mute:
    """A loudspeaker that nobody plugged in."""

    def play(self, samples: bytes, transcript: str) -> None:
        """Nothing sounds."""

    def stop(self) -> None:
        """Nothing sounds."""
