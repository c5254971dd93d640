"""The field above a reader: cards come and go, frames take their time, and two voices at once are noise.

**Time.** A frame lasts (LEN + 10) bytes at 212 or 424 kbit/s. The card's answer begins when its delay has passed; after an answer at least
501 µs pass before the next command. To a poll the cards answer in time slots of their own choice: slot 0 begins 2.417 ms after the request,
each lasts 1.208 ms (JIS X 6319-4). Nothing here waits: every call gets the present and returns when it ends, in nanoseconds.

**Removal.** A card leaves at a moment (``lift(at_ns=…)``) or after a number of bytes on air (``lift(after_bytes=…)``), within a command or
an answer as it happens. A command that the card did not hear whole, or had no time to execute, is not executed.

**Two cards** are told apart by a poll only when they choose different slots. In the same slot they damage each other; what is bit for bit
the same (two copies of one card) is heard as one.

**Coming into the field** a card needs 4 ms before it hears anything. The standard allows 20 ms; real cards are known to be found 5 ms after
a reader has switched its field on.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from drivers.emulated.lite_s_card import CARRIER_HZ, FRAME_OVERHEAD, POLLING, POLLING_DELAY_NS, Reaction

SLOT_NS = 256 * 64 * 1_000_000_000 // CARRIER_HZ
GAP_NS = 6800 * 1_000_000_000 // CARRIER_HZ
START_UP_NS = 4_000_000
_CARRIER_PERIODS_A_BIT = {212: 64, 424: 32}
_SYNC_END = 9
"""Preamble, sync and LEN: before that no receiver knows that there is an answer."""


class FieldCard(Protocol):
    """What can lie in the field."""

    @property
    def idm(self) -> bytes: ...

    def take(self, frame: bytes, removed_at: int | None = None) -> Reaction: ...

    def delay_ns(self, frame: bytes) -> int: ...

    def field_on(self) -> None: ...

    def field_off(self) -> None: ...


class Outcome(Enum):
    """What a reader makes of an exchange."""

    HEARD = "heard"
    SILENCE = "silence"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Heard:
    """One exchange on the air: the answers (LEN + payload each), when it ended, and what took the time.

    ``end_ns``: absolute. ``rf_ns``: frames on air and the gap that had to be waited for. ``card_ns``: waiting for the card, or for a card.
    """

    outcome: Outcome
    frames: tuple[bytes, ...]
    end_ns: int
    rf_ns: int
    card_ns: int


def air_ns(frame_bytes: int, rate: int) -> int:
    """Nanoseconds that ``frame_bytes`` bytes on air last at ``rate`` kbit/s (212 or 424)."""
    return frame_bytes * 8 * _CARRIER_PERIODS_A_BIT[rate] * 1_000_000_000 // CARRIER_HZ


def on_air(frame: bytes) -> int:
    """Bytes on air of a frame given as LEN + payload."""
    return len(frame) + FRAME_OVERHEAD


@dataclass(slots=True)
class _Lying:
    """A card in the field: when it hears, and when it will be gone."""

    card: FieldCard
    ready_ns: int | None
    lift_ns: int | None = None
    lift_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Lay:
    card: FieldCard
    at_ns: int | None


@dataclass(frozen=True, slots=True)
class _Lift:
    idm: bytes
    at_ns: int | None
    after_bytes: int | None


@dataclass(slots=True)
class _Voices:
    """Answers that begin at the same moment after a command's end."""

    delay_ns: int
    reactions: list[Reaction] = field(default_factory=list)


class Air:
    """A reader's field. ``lay`` and ``lift`` may be called by another thread; everything else belongs to the reader's.

    ``exchanges`` counts commands on the air (polls, too), ``bytes_on_air`` all bytes of commands and answers.
    """

    def __init__(self, seed: int = 0, start_up_ns: int = START_UP_NS) -> None:
        self._seed = seed
        self._start_up_ns = start_up_ns
        self._wishes: deque[_Lay | _Lift] = deque()
        self._lying: list[_Lying] = []
        self._on = False
        self._free_ns: int | None = None
        self._draws = 0
        self.exchanges = 0
        self.bytes_on_air = 0

    @property
    def is_on(self) -> bool:
        """Whether the reader's field is on."""
        return self._on

    @property
    def cards(self) -> tuple[FieldCard, ...]:
        """What lies in the field, as far as that is settled at the last exchange."""
        return tuple(lying.card for lying in self._lying)

    def lay(self, card: FieldCard, at_ns: int | None = None) -> None:
        """Lay a card into the field: from ``at_ns`` (absolute) on, needing its start-up time; None: it has lain there for long."""
        self._wishes.append(_Lay(card, at_ns))

    def lift(self, idm: bytes, at_ns: int | None = None, after_bytes: int | None = None) -> None:
        """Take a card with this IDm away: now, at a moment (absolute), or after so many more bytes on air."""
        self._wishes.append(_Lift(idm, at_ns, after_bytes))

    def switch(self, *, on: bool, now_ns: int) -> None:
        """Switch the field; cards lose or get their power."""
        self._settle(now_ns)
        if on == self._on:
            return
        self._on = on
        self._free_ns = None
        for lying in self._lying:
            self._power(lying, now_ns + self._start_up_ns)

    def exchange(self, frame: bytes, rate: int, now_ns: int, timeout_ns: int | None) -> Heard:
        """Send one frame at ``rate`` kbit/s; the first answer, or silence when ``timeout_ns`` after its end none has begun.

        The answer to a poll is the first slot's. ``timeout_ns`` None: silence ends at the command's end (the caller waits by itself).
        """
        start_ns = self._begin(now_ns)
        gap_ns = start_ns - now_ns
        command_ns = air_ns(on_air(frame), rate)
        sent_ns = start_ns + command_ns
        voices = self._voices(frame, rate, start_ns)
        first = next((voice for voice in voices if timeout_ns is None or voice.delay_ns <= timeout_ns), None)
        if first is None:
            return self._end(Outcome.SILENCE, (), sent_ns, gap_ns + command_ns, timeout_ns or 0)
        outcome, answer, size = _heard(first.reactions)
        if outcome is Outcome.SILENCE:
            return self._end(outcome, (), sent_ns, gap_ns + command_ns, timeout_ns or 0)
        self.bytes_on_air += size
        answer_ns = air_ns(size, rate)
        frames = (answer,) if outcome is Outcome.HEARD else ()
        return self._end(outcome, frames, sent_ns + answer_ns, gap_ns + command_ns + answer_ns, first.delay_ns)

    def poll(self, frame: bytes, rate: int, now_ns: int, most: int) -> Heard:
        """Send one polling frame and listen to its time slots, until ``most`` cards are heard or the last slot is over."""
        start_ns = self._begin(now_ns)
        gap_ns = start_ns - now_ns
        command_ns = air_ns(on_air(frame), rate)
        window_ns = POLLING_DELAY_NS + (frame[5] + 1) * SLOT_NS
        frames: list[bytes] = []
        answers_ns = 0
        listened_ns = window_ns
        for voice in self._voices(frame, rate, start_ns):
            outcome, answer, size = _heard(voice.reactions)
            self.bytes_on_air += size
            if outcome is not Outcome.HEARD:
                continue
            frames.append(answer)
            answers_ns += air_ns(size, rate)
            if len(frames) == most:
                listened_ns = voice.delay_ns + air_ns(size, rate)
                break
        listened_ns = max(listened_ns, answers_ns)
        outcome = Outcome.HEARD if frames else Outcome.SILENCE
        return self._end(
            outcome, tuple(frames), start_ns + command_ns + answers_ns, gap_ns + command_ns + answers_ns, listened_ns - answers_ns
        )

    def _begin(self, now_ns: int) -> int:
        """When the next command may start."""
        self._settle(now_ns)
        self.exchanges += 1
        return now_ns if self._free_ns is None else max(now_ns, self._free_ns)

    def _end(self, outcome: Outcome, frames: tuple[bytes, ...], end_ns: int, rf_ns: int, card_ns: int) -> Heard:
        end_ns += card_ns
        self._free_ns = end_ns + GAP_NS if outcome is not Outcome.SILENCE else None
        self._settle(end_ns)
        return Heard(outcome, frames, end_ns, rf_ns, card_ns)

    def _voices(self, frame: bytes, rate: int, start_ns: int) -> list[_Voices]:
        """What the cards answer, by the moment after the command's end at which the answers begin."""
        by_delay: dict[int, _Voices] = {}
        size = on_air(frame)
        is_poll = len(frame) == 6 and frame[1] == POLLING
        for lying in list(self._lying):
            if not self._on or lying.ready_ns is None or lying.ready_ns > start_ns:
                continue
            delay_ns = lying.card.delay_ns(frame)
            if is_poll:
                delay_ns += self._draw(frame[5] + 1) * SLOT_NS
            reaction = lying.card.take(frame, self._removed_at(lying, size, rate, start_ns, delay_ns))
            if reaction.gone:
                self._lying.remove(lying)
            if reaction.answer is not None:
                by_delay.setdefault(delay_ns, _Voices(delay_ns)).reactions.append(reaction)
        self.bytes_on_air += size
        return [by_delay[delay_ns] for delay_ns in sorted(by_delay)]

    def _removed_at(self, lying: _Lying, size: int, rate: int, start_ns: int, delay_ns: int) -> int | None:
        """After how many bytes of this exchange the card leaves; None when it stays, or leaves too late to matter here."""
        if lying.lift_bytes is not None:
            left = lying.lift_bytes - self.bytes_on_air
            return left if left < size + 256 + FRAME_OVERHEAD else None
        if lying.lift_ns is None:
            return None
        byte_ns = air_ns(1, rate)
        command_end_ns = start_ns + size * byte_ns
        answer_start_ns = command_end_ns + delay_ns
        if lying.lift_ns <= command_end_ns:
            return max(0, (lying.lift_ns - start_ns) // byte_ns)
        if lying.lift_ns <= answer_start_ns:
            return size
        left = size + 1 + (lying.lift_ns - answer_start_ns) // byte_ns
        return left if left < size + 256 + FRAME_OVERHEAD else None

    def _draw(self, count: int) -> int:
        """A card's choice of slot: as good as random, and the same for the same seed."""
        self._draws += 1
        return hashlib.sha256(f"{self._seed} {self._draws}".encode()).digest()[0] % count

    def _settle(self, now_ns: int) -> None:
        """Carry out what was wished, and let go what has left by now."""
        later: list[_Lay | _Lift] = []
        while self._wishes:
            wish = self._wishes.popleft()
            match wish:
                case _Lay(card, at_ns) if at_ns is None or at_ns <= now_ns:
                    lying = _Lying(card, None)
                    self._lying.append(lying)
                    self._power(lying, -1 if at_ns is None else at_ns + self._start_up_ns)
                case _Lay():
                    later.append(wish)
                case _Lift():
                    if not self._schedule(wish):
                        later.append(wish)
                    self._let_go(now_ns)
        self._wishes.extendleft(reversed(later))
        self._let_go(now_ns)

    def _let_go(self, now_ns: int) -> None:
        """Remove what has left by now."""
        for lying in list(self._lying):
            left_early = lying.lift_bytes is not None and lying.lift_bytes <= self.bytes_on_air
            if left_early or (lying.lift_ns is not None and lying.lift_ns <= now_ns):
                lying.card.field_off()
                self._lying.remove(lying)

    def _schedule(self, wish: _Lift) -> bool:
        """Note when a lying card leaves; False when no such card has come yet."""
        lying = next((one for one in self._lying if one.card.idm == wish.idm and one.lift_ns is None), None)
        if lying is None:
            return wish.at_ns is None and wish.after_bytes is None
        if wish.after_bytes is not None:
            lying.lift_bytes = self.bytes_on_air + wish.after_bytes
        else:
            lying.lift_ns = -1 if wish.at_ns is None else wish.at_ns
        return True

    def _power(self, lying: _Lying, ready_ns: int) -> None:
        if self._on:
            lying.card.field_on()
            lying.ready_ns = ready_ns
        else:
            lying.card.field_off()
            lying.ready_ns = None


def _heard(reactions: Sequence[Reaction]) -> tuple[Outcome, bytes, int]:
    """What a receiver makes of answers that begin at the same moment: outcome, frame, bytes on air."""
    first = reactions[0]
    answer = first.answer or b""
    size = len(answer) + FRAME_OVERHEAD
    if any(other != first for other in reactions[1:]):
        return Outcome.DAMAGED, b"", max(len(one.answer or b"") for one in reactions) + FRAME_OVERHEAD
    if first.cut is not None:
        return (Outcome.SILENCE if first.cut < _SYNC_END else Outcome.DAMAGED), b"", first.cut
    return (Outcome.DAMAGED if first.damaged else Outcome.HEARD), answer, size
