"""PN532 on a serial line: one host command a poll, one host command a card command, and the field stays on.

**Nothing is ever sent twice.** A write whose answer is lost may have been executed; a second one would then be refused or, worse, count.
So the chip's own retries are set to none, this file has no retry at all, and every doubt is handed up: ``CardLost`` when the card was not
heard, ``ReaderLost`` when the chip was not. Both mean "execution unknown". Even the chip's harmless "say that again" (NACK) is not used: a
line that damages frames is a broken reader, and the way back from a broken reader is one and the same for all causes, ``revive``.

**An old answer is never taken for a new one.** An answer counts only after the acknowledgement of its own command and only with its own
code; whatever came before is dropped. Within ``revive`` an abort goes first, and neighbouring commands differ in their codes, so a late
answer cannot shift the sequence.

**Every wait ends.** One deadline covers acknowledgement and answer: the chip's longest own time plus both frames on the line. A reader that
talks without end is cut off by bytes as well as by time.

**The poll** asks for system FFFF, not 88B4: a rider with a transit card or two cards in one wallet must be *told* so, and what is not
polled is not seen. Four time slots: two cards choose the same one, and garble each other, in one poll of four instead of one of two, for
2.4 ms more (JIS X 6319-4; a slot is 256·64/fc). No request code: its two bytes would leave 75 µs of a slot at 212 kbit/s.

**The chip's time limit for a card** (RFConfiguration item 2) is 12.8 ms: the smallest step (100 µs · 2^(n-1)) above 7.25 ms, which a
Lite-S may take for a write with MAC by its PMm. The next lower one, 6.4 ms, would call a slow, executed write lost; the chip's own 51.2 ms
would only keep a rider who has pulled the card away waiting for the word.

Sources: NXP UM0701-02 (commands, status bytes), JIS X 6319-4 (polling), FeliCa Lite-S PMm of real cards.
"""

from collections.abc import Callable, Iterator

from drivers.errors import CardLost, MalformedReply, ReaderLost
from drivers.reader import AIR_RATES, LINE_RATES, POWER_UP_RATE
from drivers.readers import pn532_frames as frames
from drivers.readers.port import Port

GET_FIRMWARE_VERSION = 0x02
READ_REGISTER = 0x06
SET_SERIAL_BAUD_RATE = 0x10
SAM_CONFIGURATION = 0x14
RF_CONFIGURATION = 0x32
IN_COMMUNICATE_THRU = 0x42
IN_LIST_PASSIVE_TARGET = 0x4A

CARD_TIMEOUT = 0x08  # 12.8 ms
SLOTS = 0x03  # TSN 3: four

_SETTINGS = (
    bytes((0x02, 0x00, 0x0B, CARD_TIMEOUT)),  # time limits: unused, ATR (as after power-up), InCommunicateThru
    bytes((0x04, 0x00)),  # no retry of a card command
    bytes((0x05, 0x00, 0x00, 0x00)),  # no retry of ATR and PSL; one polling a command
    bytes((0x01, 0x01)),  # field on, for ever
)
_NORMAL_MODE = bytes((0x01, 0x00, 0x01))  # SAM: not used, no time limit, IRQ line on
_PN532_IC = 0x32
_TX_CONTROL = bytes((0x63, 0x04))

# Status bytes that accuse the reader, not the card: its field is off, it overheated, it has forgotten what it was set to.
_READER_STATUS = {
    0x0A: "its field is off",
    0x0D: "it is too hot",
    0x10: "it refuses a parameter",
    0x27: "it has forgotten its settings",
    0x2D: "its antenna draws too much current",
}
_CARD_STATUS = {0x01: "no answer in time", 0x02: "the answer's checksum does not fit"}

# The chip's own longest time is 33 ms (a 255-byte frame each way at 212 kbit/s, 10 ms each, and the card's 12.8 ms), a USB adapter's
# buffers may add 32 ms, and a small computer under load forgets a program for a while.
_CHIP_S = 0.2
_LINE_BYTES = 600  # both frames and the acknowledgement
_BITS_A_BYTE = 10  # 8N1
_MOST_BYTES = 4096  # more than ten answers' worth in one wait is nonsense
_READ_SIZE = 512

_REVIVE_S = 0.45  # one whole try
_HANDSHAKE_S = 0.1  # per step of it: a real chip acknowledges within 15 ms
_SETTLE_S = 0.005  # the line after a change of rate
_PATIENCE = 4  # silent handshakes before the line itself is opened anew


class Card:
    """One card of the last poll (``drivers.channel.Channel``)."""

    __slots__ = ("_gone", "_reader", "idm", "pmm")

    def __init__(self, reader: "Pn532", idm: bytes, pmm: bytes) -> None:
        self.idm = idm
        self.pmm = pmm
        self._reader = reader
        self._gone = False

    def exchange(self, command: bytes) -> bytes:
        if self._gone:
            raise CardLost("another card was polled since")
        return self._reader.communicate(command)

    def exchange_while(self, command: bytes, work: Callable[[], None]) -> bytes:
        if self._gone:
            raise CardLost("another card was polled since")
        return self._reader.communicate(command, work)

    def leave(self) -> None:
        """Another poll's result counts now."""
        self._gone = True


class Pn532:
    """A PN532 on a ``Port`` (``drivers.reader.Reader``). It is lost until ``revive`` has found it.

    ``host_commands`` counts every frame sent to the chip, ``card_exchanges`` every one that went on to the air.
    """

    def __init__(
        self,
        name: str,
        open_port: Callable[[int], Port],
        monotonic_ns: Callable[[], int],
        *,
        baud: int = POWER_UP_RATE,
        air_rate: int = AIR_RATES[-1],
    ) -> None:
        """``open_port`` opens the line at a rate (bits a second; raises ``OSError``); ``baud`` on the line, ``air_rate`` in kbit/s."""
        self._name = name
        self._open_port = open_port
        self._monotonic_ns = monotonic_ns
        self._baud = baud
        self._poll = b""
        self.set_air_rate(air_rate)
        self._answer_ns = int((_CHIP_S + _LINE_BYTES * _BITS_A_BYTE / baud) * 1e9)
        self._parser = frames.Parser()
        self._port: Port | None = None
        self._lost: str | None = "it was not opened yet"
        self._silences = 0
        self._rate = POWER_UP_RATE  # where the chip was found last
        self._revive_until_ns = 0
        self._cards: tuple[Card, ...] = ()
        self.host_commands = 0
        self.card_exchanges = 0
        self.firmware = ""

    @property
    def name(self) -> str:
        return self._name

    def poll(self) -> tuple[Card, ...]:
        self.card_exchanges += 1
        found = tuple(_targets(self._command(IN_LIST_PASSIVE_TARGET, self._poll, self._answer_ns)))
        if found != tuple((card.idm, card.pmm) for card in self._cards):
            self._forget_cards()
            self._cards = tuple(Card(self, idm, pmm) for idm, pmm in found)
        return self._cards

    def communicate(self, command: bytes, work: Callable[[], None] | None = None) -> bytes:
        """One InCommunicateThru: ``command`` to the air, the card's frame back, both with LEN. Errors as ``Channel.exchange``.

        ``work`` is done once the chip has acknowledged the command: then the card is at work and nothing waits for us.
        """
        self.card_exchanges += 1
        answer = self._command(IN_COMMUNICATE_THRU, command, self._answer_ns, work)
        if not answer:
            raise self._lose("it answered without a status")
        status = answer[0] & 0x3F
        if status in _READER_STATUS:
            raise self._lose(_READER_STATUS[status])
        if status:
            raise CardLost(_CARD_STATUS.get(status, f"the reader reports status {status:02X}"))
        frame = answer[1:]
        if not frame or frame[0] != len(frame):
            raise MalformedReply(f"an answer of {len(frame)} bytes does not say so in its first byte")
        return frame

    def set_air_rate(self, air_rate: int) -> None:
        """kbit/s from the next poll on: 212 or 424."""
        self._poll = bytes((2, 1 + AIR_RATES.index(air_rate), 0x00, 0xFF, 0xFF, 0x00, SLOTS))  # targets, rate, Polling without LEN

    def field_is_on(self) -> bool:
        """Whether the chip drives its antenna now: bits 0 and 1 of its CIU_TxControl register, 6304. One host command."""
        answer = self._command(READ_REGISTER, _TX_CONTROL, self._answer_ns)
        return bool(answer and answer[0] & 0x03)

    def revive(self) -> bool:
        self._forget_cards()
        self._revive_until_ns = self._monotonic_ns() + int(_REVIVE_S * 1e9)
        try:
            if self._port is None:
                self._port = self._open_port(POWER_UP_RATE)
            self._lost = None
            self._start(self._port)
        except OSError as error:
            self._lose(f"its line cannot be used ({error.strerror or error})")
            self._let_go()
        except ReaderLost:
            self._silences += 1
            if self._silences % _PATIENCE == 0:
                self._let_go()
        else:
            self._silences = 0
            self._rate = self._baud
        return self._lost is None

    def close(self) -> None:
        self._forget_cards()
        self._lose("it was closed")
        self._let_go()

    def _start(self, port: Port) -> None:
        """Wake the chip, find its rate, bring it to ours, set it up. Raises ``ReaderLost`` and ``OSError``."""
        rate = self._find(port)
        if rate != self._baud:
            self._handshake(SET_SERIAL_BAUD_RATE, bytes((LINE_RATES.index(self._baud),)))
            port.write(frames.ACK)  # the chip changes over when it has this
            port.read(_READ_SIZE, _SETTLE_S)
            port.set_baud(self._baud)
            port.read(_READ_SIZE, _SETTLE_S)
        version = self._handshake(GET_FIRMWARE_VERSION)
        if len(version) != 4 or version[0] != _PN532_IC:
            raise self._lose("what answers there is no PN532")
        self.firmware = f"{version[1]}.{version[2]}"
        for setting in _SETTINGS:
            self._handshake(RF_CONFIGURATION, setting)

    def _find(self, port: Port) -> int:
        """The rate at which the chip answers: where it was last, that of power-up, or ours when it kept its power and we did not."""
        rates = dict.fromkeys((self._rate, POWER_UP_RATE, self._baud))
        for rate in rates:
            port.set_baud(rate)
            port.discard()
            port.write(frames.ACK + frames.WAKE_UP)
            try:
                self._handshake(SAM_CONFIGURATION, _NORMAL_MODE)
            except ReaderLost:
                if self._port is None:
                    raise
                self._lost = None
            else:
                return rate
        raise self._lose("it does not answer")

    def _handshake(self, code: int, data: bytes = b"") -> bytes:
        left_ns = self._revive_until_ns - self._monotonic_ns()
        return self._command(code, data, min(left_ns, int(_HANDSHAKE_S * 1e9)))

    def _command(self, code: int, data: bytes, limit_ns: int, work: Callable[[], None] | None = None) -> bytes:
        """Send one command and return its answer's data. Raises ``ReaderLost`` and leaves the reader lost."""
        port = self._port
        if self._lost is not None or port is None:
            raise ReaderLost(f"the reader cannot be used: {self._lost}")
        parser = self._parser
        parser.reset()
        self.host_commands += 1
        deadline_ns = self._monotonic_ns() + limit_ns
        acknowledged = False
        taken = 0
        try:
            port.write(frames.command(code, data))
            while taken < _MOST_BYTES:
                left_ns = deadline_ns - self._monotonic_ns()
                chunk = port.read(_READ_SIZE, left_ns / 1e9) if left_ns > 0 else b""
                if not chunk:
                    raise self._lose(_silence(taken, acknowledged=acknowledged))
                taken += len(chunk)
                for event in parser.feed(chunk):
                    match event:
                        case frames.Reply(answered, answer) if acknowledged and answered == code + 1:
                            return answer
                        case frames.Ack():
                            if work is not None and not acknowledged:
                                work()
                            acknowledged = True
                        case frames.Nack() | frames.ErrorFrame():
                            raise self._lose("it did not understand a command")
                        case _:
                            pass  # noise, or the late answer to a command given up
        except OSError as error:
            self._let_go()
            raise self._lose(f"its line broke ({error.strerror or error})") from error
        raise self._lose("it talks nonsense")

    def _lose(self, why: str) -> ReaderLost:
        self._lost = why
        return ReaderLost(f"the reader cannot be used: {why}")

    def _let_go(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None
            self._rate = POWER_UP_RATE

    def _forget_cards(self) -> None:
        for card in self._cards:
            card.leave()
        self._cards = ()


def _silence(taken: int, *, acknowledged: bool) -> str:
    if taken == 0:
        return "it is silent"
    return "it took a command and did not answer" if acknowledged else "it talks nonsense"


def _targets(answer: bytes) -> Iterator[tuple[bytes, bytes]]:
    """IDm and PMm of each target in an InListPassiveTarget answer: number, LEN, 01, IDm, PMm[, system code].

    A card whose polling answer has another form is not there: it must not cost the reader.
    """
    at = 1
    for _ in range(min(answer[0] if answer else 0, 2)):
        polled = answer[at + 1 : at + 1 + answer[at + 1]] if at + 1 < len(answer) else b""
        if len(polled) < 18 or polled[0] != len(polled) or polled[1] != 0x01:
            return
        yield polled[2:10], polled[10:18]
        at += 1 + len(polled)
