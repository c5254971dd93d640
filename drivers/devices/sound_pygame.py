"""Adapter: pygame's mixer, opened once and never closed.

A mixer that is opened for each sound swallows its first syllable while the amplifier wakes; an open one plays silence meanwhile. One
channel, because what is said later always replaces what is said now. The buffer is 256 samples (11 ms): with 512 on PulseAudio the first
sample was measured 16 ms after ``play``, with 2048 66 ms.
"""

import pygame

from drivers.devices.sound import RATE_HZ
from drivers.errors import DriverError

_BUFFER_SAMPLES = 256
_SIGNED_16 = -16


class SoundMissing(DriverError):
    """No sound device can be opened."""


class Mixer:
    """A Sound on the machine's sound device; raises ``SoundMissing``."""

    def __init__(self) -> None:
        try:
            pygame.mixer.init(RATE_HZ, _SIGNED_16, 1, _BUFFER_SAMPLES, allowedchanges=0)
        except pygame.error as error:
            raise SoundMissing(f"no sound device ({error}): plug one in, or choose --sound off or --sound FILE.wav") from error
        pygame.mixer.set_num_channels(1)
        self._channel = pygame.mixer.Channel(0)

    def play(self, samples: bytes, transcript: str) -> None:
        """Sound at once, in place of what sounds; the device has no use for the ``transcript``."""
        del transcript
        self._channel.play(pygame.mixer.Sound(buffer=samples))

    def stop(self) -> None:
        """Be silent at once."""
        self._channel.stop()
