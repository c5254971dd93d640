"""A PN532 on its serial line, without any line: bytes in with the present, bytes out when they are due.

**Time** is counted, never waited for. Bytes last ten bits each at the line's rate, both ways; an acknowledgement follows its command at
once; what happens on the air begins when the acknowledgement is through; the answer follows when the air is done. A frame is released
whole, at the moment its last byte is through. What each host command cost is logged in ``charged``. The chip's own thinking costs nothing
here (``ChipFaults.slow_ns`` adds it): what is charged is what no driver can avoid.

**Faithful where a driver could go wrong**: a new command or an ACK ends the running one, and its answer never comes, though the card may
have executed it; a changed line rate counts from the host's ACK; a sleeping chip loses the bytes that wake it; without a passive activation
first the type F mode is not set and InCommunicateThru hears nothing; after power-up InListPassiveTarget retries for ever.

**Not here**: type A and B cards (never found), DEP, card emulation; their commands end in the syntax error frame.

Sources: NXP UM0701-02 (frames, commands, status bytes), observed sessions of public drivers with real chips.
"""

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import pairwise

from drivers.emulated.air import Air, Heard, Outcome
from drivers.emulated.pn532_input import Arrived, Command, Input, Signal

BAUD_RATES = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1288000)
POWER_UP_BAUD = 115200

_ACK = bytes.fromhex("0000ff00ff00")
_ERROR = bytes.fromhex("0000ff01ff7f8100")
_FIRMWARE = bytes.fromhex("32010607")

_OK = 0x00
_TIMED_OUT = 0x01
_BAD_CRC = 0x02
_TOO_LONG = 0x07
_NO_FIELD = 0x0A
_NOT_NOW = 0x27

_TX_MODE = 0x6302
_RX_MODE = 0x6303
_TX_CONTROL = 0x6304
_FIFO_DATA = 0x6339
_TYPE_F_AT = {212: 0x12, 424: 0x22}
_NO_TYPE_A_CARD = 0x26

_FOREVER = 0xFF
_OTHER_TYPE_NS = 1_000_000  # one vain try to find a card of another type; no published figure
_WAKING_EDGES = 5
_REMEMBERED = 10_000
_LONGEST_ANSWER = 262


@dataclass(frozen=True, slots=True)
class Charged:
    """What one host command cost in nanoseconds: bytes on the line both ways, frames on air, waiting for the card."""

    code: int
    line_ns: int
    rf_ns: int
    card_ns: int


@dataclass(frozen=True, slots=True)
class Timing:
    """What is charged instead of what the host has set: bits a second on the line, kbit/s on the air (None: as set)."""

    baud: int | None = None
    air_rate: int | None = None


@dataclass(frozen=True, slots=True)
class ChipFaults:
    """What is wrong with the reader, as long as it is set.

    ``silent``: it hears everything and says nothing. ``no_ack``: answers come without their acknowledgement. ``nonsense``: these bytes come
    instead of each answer. ``slow_ns``: it thinks so long before each answer.
    """

    silent: bool = False
    no_ack: bool = False
    nonsense: bytes | None = None
    slow_ns: int = 0


@dataclass(slots=True)
class _Spent:
    """What the running command has cost so far."""

    code: int
    line_ns: int
    rf_ns: int = 0
    card_ns: int = 0


_Work = Generator[int, None, bytes | None]
"""A command at work: yields the moments at which it goes on, returns its answer's data (None: syntax error)."""


class Pn532Chip:
    """The chip. ``feed`` it, ask when it is ``due``, ``take`` what it says.

    ``host_commands`` counts command frames. ``faults`` may be set at any time.
    """

    def __init__(self, air: Air, timing: Timing | None = None, faults: ChipFaults | None = None) -> None:
        self.air = air
        self.faults = faults or ChipFaults()
        self._charged: deque[Charged] = deque(maxlen=_REMEMBERED)
        self.host_commands = 0
        self._timing = timing or Timing()
        self._input = Input()
        self._line_in_free_ns = 0
        self._line_out_free_ns = 0
        self._arrived: deque[Arrived] = deque()
        self._out: deque[tuple[int, bytes]] = deque()
        self._last = b""
        self._work: _Work | None = None
        self._spent = _Spent(0, 0)
        self._go_on_ns: int | None = None
        self._now_ns = 0
        self._power_up()

    def _power_up(self) -> None:
        self.baud = POWER_UP_BAUD
        self._new_baud: int | None = None
        self._asleep = False
        self._edges = 0
        self._registers: dict[int, int] = {}
        self._retries = _FOREVER
        self._card_retries = 0
        self._timeout_ns: int | None = 51_200_000
        self._targets: list[bytes] = []
        self._air_rate = 212

    @property
    def charged(self) -> list[Charged]:
        """What the last host commands cost, oldest first (at most 10,000 are remembered)."""
        return list(self._charged)

    def take_charged(self) -> list[Charged]:
        """As ``charged``, and forget them."""
        taken = list(self._charged)
        self._charged.clear()
        return taken

    @property
    def card_exchanges(self) -> int:
        """Commands on the air, polls included."""
        return self.air.exchanges

    def restart(self, now_ns: int) -> None:
        """Lose power and get it again: everything is as after power-up, the field is off."""
        self._abort(now_ns)
        self.air.switch(on=False, now_ns=now_ns)
        self._input.clear()
        self._arrived.clear()
        self._out.clear()
        self._power_up()

    def feed(self, data: bytes, now_ns: int) -> None:
        """The host has handed ``data`` to its line at ``now_ns`` (absolute)."""
        start_ns = max(now_ns, self._line_in_free_ns)
        byte_ns = self._byte_ns()
        self._line_in_free_ns = start_ns + round(byte_ns * len(data))
        while self._asleep and data:
            self._edges += _rising_edges(data[0])
            self._asleep = self._edges < _WAKING_EDGES
            data = data[1:]
            start_ns += round(byte_ns)
        self._arrived.extend(self._input.feed(data, start_ns, byte_ns))

    def due(self) -> int | None:
        """The next moment (absolute ns) at which something happens or is to be taken; None: nothing until the host speaks."""
        moments = [self._arrived[0].at_ns] if self._arrived else []
        if self._go_on_ns is not None:
            moments.append(self._go_on_ns)
        if self._out:
            moments.append(self._out[0][0])
        return min(moments, default=None)

    def take(self, now_ns: int) -> bytes:
        """Let everything happen that is due by ``now_ns``; the bytes that are through by then."""
        while (moment := self._next_event()) is not None and moment <= now_ns:
            if self._arrived and self._arrived[0].at_ns == moment:
                self._hear(self._arrived.popleft())
            else:
                self._go_on(moment)
        said = b""
        while self._out and self._out[0][0] <= now_ns:
            said += self._out.popleft()[1]
        return said

    def _next_event(self) -> int | None:
        arrival = self._arrived[0].at_ns if self._arrived else None
        if arrival is None or self._go_on_ns is None:
            return arrival if self._go_on_ns is None else self._go_on_ns
        return min(arrival, self._go_on_ns)

    def _byte_ns(self) -> float:
        return 10_000_000_000 / (self._timing.baud or self.baud)

    # --- the host's side ---

    def _hear(self, arrived: Arrived) -> None:
        match arrived.frame:
            case Signal.ACK:
                self._abort(arrived.at_ns)
                if self._new_baud is not None:
                    self.baud, self._new_baud = self._new_baud, None
            case Signal.NACK:
                self._say(self._last, arrived.at_ns)
            case Command(code, data):
                self._abort(arrived.at_ns)
                self.host_commands += 1
                line_ns = round(self._byte_ns() * arrived.line_bytes)
                self._spent = _Spent(code, line_ns)
                acknowledged_ns = arrived.at_ns if self.faults.no_ack else self._say(_ACK, arrived.at_ns)
                self._work = self._start(code, data)
                self._go_on_ns = acknowledged_ns

    def _abort(self, now_ns: int) -> None:
        """End the running command; what is still on its way out is not said."""
        if self._work is not None:
            self._work.close()
        self._work = None
        self._go_on_ns = None
        self._out = deque(piece for piece in self._out if piece[0] <= now_ns)
        self._line_out_free_ns = min(self._line_out_free_ns, now_ns)

    def _go_on(self, now_ns: int) -> None:
        """Let the running command do its next step."""
        if self._work is None:
            self._go_on_ns = None
            return
        self._now_ns = now_ns
        try:
            self._go_on_ns = next(self._work)
        except StopIteration as end:
            self._work = None
            self._go_on_ns = None
            self._finish(end.value, now_ns)

    def _finish(self, answer: bytes | None, now_ns: int) -> None:
        frame = _ERROR if answer is None else _framed(self._spent.code + 1, answer)
        self._last = frame if self.faults.nonsense is None else self.faults.nonsense
        self._say(self._last, now_ns + self.faults.slow_ns)
        spent = self._spent
        self._charged.append(Charged(spent.code, spent.line_ns, spent.rf_ns, spent.card_ns))

    def _say(self, frame: bytes, now_ns: int) -> int:
        """Put a frame on the line; when its last byte is through."""
        duration_ns = round(self._byte_ns() * len(frame))
        self._spent.line_ns += duration_ns
        end_ns = max(now_ns, self._line_out_free_ns) + duration_ns
        self._line_out_free_ns = end_ns
        if not self.faults.silent:
            self._out.append((end_ns, frame))
        return end_ns

    # --- commands ---

    def _start(self, code: int, data: bytes) -> _Work:
        match code:
            case 0x40:
                return self._data_exchange(data)
            case 0x42:
                return self._communicate(data)
            case 0x4A:
                return self._list_passive(data)
            case 0x16:
                return self._power_down()
            case _:
                return self._at_once(code, data)

    def _at_once(self, code: int, data: bytes) -> _Work:
        """A command that takes no time of its own."""
        yield from ()
        simple: dict[int, Callable[[bytes], bytes | None]] = {
            0x00: _diagnose,
            0x02: lambda _: _FIRMWARE,
            0x04: self._general_status,
            0x06: self._read_registers,
            0x08: self._write_registers,
            0x0C: lambda _: bytes(3),
            0x0E: lambda _: b"",
            0x10: self._set_baud,
            0x12: lambda data: b"" if len(data) == 1 else None,
            0x14: lambda data: b"" if 1 <= len(data) <= 3 and 1 <= data[0] <= 4 else None,
            0x32: self._configure_rf,
            0x44: self._choose_target,
            0x52: self._choose_target,
            0x54: self._choose_target,
        }
        return simple[code](data) if code in simple else None

    def _general_status(self, _data: bytes) -> bytes:
        targets = b"".join(bytes((at + 1, rate := self._rate_code(), rate, 0x10)) for at in range(len(self._targets)))
        return bytes((0x00, int(self.air.is_on), len(self._targets))) + targets + b"\x00"

    def _rate_code(self) -> int:
        return 1 if self._air_rate == 212 else 2

    def _read_registers(self, data: bytes) -> bytes | None:
        if not data or len(data) % 2:
            return None
        return bytes(self._register(int.from_bytes(data[at : at + 2])) for at in range(0, len(data), 2))

    def _register(self, address: int) -> int:
        value = self._registers.get(address, 0x80 if address == _TX_CONTROL else 0x00)
        return value & ~0x03 | (0x03 if self.air.is_on else 0x00) if address == _TX_CONTROL else value

    def _write_registers(self, data: bytes) -> bytes | None:
        if not data or len(data) % 3:
            return None
        for at in range(0, len(data), 3):
            self._registers[int.from_bytes(data[at : at + 2])] = data[at + 2]
        return b""

    def _set_baud(self, data: bytes) -> bytes | None:
        if len(data) != 1 or data[0] >= len(BAUD_RATES):
            return None
        self._new_baud = BAUD_RATES[data[0]]
        return b""

    def _configure_rf(self, data: bytes) -> bytes | None:
        sizes = {0x01: 1, 0x02: 3, 0x04: 1, 0x05: 3, 0x0A: 11, 0x0B: 8, 0x0C: 3, 0x0D: 9}
        if not data or sizes.get(data[0]) != len(data) - 1:
            return None
        match data[0]:
            case 0x01:
                self.air.switch(on=bool(data[1] & 1), now_ns=self._now_ns)
            case 0x02:
                if data[3] > 0x10:
                    return None
                self._timeout_ns = 100_000 << (data[3] - 1) if data[3] else None
            case 0x04:
                self._card_retries = data[1]
            case 0x05:
                self._retries = data[3]
            case _:
                pass  # analogue settings: no antenna here
        return b""

    def _choose_target(self, data: bytes) -> bytes | None:
        """InDeselect, InRelease, InSelect: a type F card knows none of the three; only the number is checked (0: all)."""
        if len(data) != 1:
            return None
        known = data[0] <= len(self._targets)
        if known and self._spent.code == 0x52:
            self._targets = [] if data[0] == 0 else self._targets[: data[0] - 1]
        return bytes((_OK if known else _NOT_NOW,))

    def _power_down(self) -> _Work:
        yield from ()
        self.air.switch(on=False, now_ns=self._now_ns)
        self._asleep = True
        self._edges = 0
        return bytes((_OK,))

    def _list_passive(self, data: bytes) -> _Work:
        if len(data) < 2 or not 1 <= data[0] <= 2:
            return None
        self.air.switch(on=True, now_ns=self._now_ns)
        self._targets = []
        match data[1]:
            case 1 | 2 if len(data) == 7 and data[2] == 0x00:
                frames = yield from self._list_type_f(data)
            case 0 | 3 | 4:
                yield from self._list_nothing(data[1])
                frames = ()
            case _:
                return None
        answer = bytes((len(frames),))
        for number, frame in enumerate(frames, 1):
            self._targets.append(frame[2:10])
            answer += bytes((number,)) + frame
        return answer

    def _list_type_f(self, data: bytes) -> Generator[int, None, tuple[bytes, ...]]:
        self._set_type_f((212, 424)[data[1] - 1])
        frame = bytes((6,)) + data[2:]
        tries = 0
        while True:
            heard = self.air.poll(frame, self._rate_on_air(), self._now_ns, data[0])
            self._spend(heard)
            yield heard.end_ns
            frames = tuple(answer for answer in heard.frames if len(answer) in {0x12, 0x14} and answer[:2] == bytes((len(answer), 1)))
            if frames or (self._retries != _FOREVER and tries >= self._retries):
                return frames
            tries += 1

    def _list_nothing(self, kind: int) -> Generator[int, None, None]:
        self._registers[_TX_MODE] = self._registers[_RX_MODE] = 0x00 if kind != 3 else 0x03
        tries = 0
        while True:
            self._spent.card_ns += _OTHER_TYPE_NS
            yield self._now_ns + _OTHER_TYPE_NS
            self._registers[_FIFO_DATA] = _NO_TYPE_A_CARD
            if self._retries != _FOREVER and tries >= self._retries:
                return
            tries += 1

    def _set_type_f(self, rate: int) -> None:
        self._air_rate = rate
        self._registers[_TX_MODE] = self._registers[_RX_MODE] = _TYPE_F_AT[rate]

    def _data_exchange(self, data: bytes) -> _Work:
        if len(data) < 2:
            return None
        if not 1 <= data[0] & 0x3F <= len(self._targets):
            yield from ()
            return bytes((_NOT_NOW,))
        return (yield from self._communicate(data[1:]))

    def _communicate(self, data: bytes) -> _Work:
        if not data:
            return None
        if not self.air.is_on:
            yield from ()
            return bytes((_NO_FIELD,))
        tries = 0
        while True:
            heard = yield from self._once(data)
            if heard is not None and heard.outcome is Outcome.HEARD:
                fits = len(heard.frames[0]) <= _LONGEST_ANSWER
                return bytes((_OK,)) + heard.frames[0] if fits else bytes((_TOO_LONG,))
            if self._card_retries != _FOREVER and tries >= self._card_retries:
                damaged = heard is not None and heard.outcome is Outcome.DAMAGED
                return bytes((_BAD_CRC if damaged else _TIMED_OUT,))
            tries += 1

    def _once(self, frame: bytes) -> Generator[int, None, Heard | None]:
        """One exchange on the air; None when no type F card can have understood it."""
        if self._registers.get(_TX_MODE, 0) & 0x7F not in _TYPE_F_AT.values():
            self._spent.card_ns += self._timeout_ns or 0
            yield self._silence_ends(self._now_ns + (self._timeout_ns or 0))
            return None
        heard = self.air.exchange(frame, self._rate_on_air(), self._now_ns, self._timeout_ns)
        self._spend(heard)
        yield self._silence_ends(heard.end_ns) if heard.outcome is Outcome.SILENCE else heard.end_ns
        return heard

    def _silence_ends(self, end_ns: int) -> int:
        """Without a time limit the chip listens until the host gives up: for ever."""
        return end_ns if self._timeout_ns is not None else 1 << 62

    def _rate_on_air(self) -> int:
        if self._timing.air_rate is not None:
            return self._timing.air_rate
        return 424 if self._registers.get(_TX_MODE, 0) & 0x70 == 0x20 else 212

    def _spend(self, heard: Heard) -> None:
        self._spent.rf_ns += heard.rf_ns
        self._spent.card_ns += heard.card_ns


def _diagnose(data: bytes) -> bytes | None:
    """Test 0 echoes everything; the memory and antenna tests find nothing wrong."""
    if not data:
        return None
    return data if data[0] == 0x00 else b"\x00"


def _framed(code: int, data: bytes) -> bytes:
    content = bytes((0xD5, code)) + data
    size = len(content)
    if size <= 0xFF:
        head = bytes((0x00, 0x00, 0xFF, size, -size & 0xFF))
    else:
        head = bytes((0x00, 0x00, 0xFF, 0xFF, 0xFF, size >> 8, size & 0xFF, -((size >> 8) + size) & 0xFF))
    return head + content + bytes((-sum(content) & 0xFF, 0x00))


def _rising_edges(byte: int) -> int:
    """How often the line rises within one byte: start bit low, eight bits from the lowest, stop bit high."""
    levels = [0, *(byte >> bit & 1 for bit in range(8)), 1]
    return sum(before < after for before, after in pairwise(levels))
