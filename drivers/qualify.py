"""The open questions about a real card and a real reader, asked one by one; the twin's answers stand beside the real ones.

Much of what the twin does was learned from other people's programs, because the maker's manuals are not public. Where they contradict each
other or are silent, the twin had to choose. This table asks a real card. Each row is one question: how it is asked, what the twin answers,
and how many *counted* writes it may cost. Counted writes matter: a factory card has 511 of them until it is issued, and REG never rises
again. So a card that was asked is a test card for ever, and never a rider's.

The walk is careful in three ways. It reads which card lies there before it writes anything, and refuses one of the wrong kind. It goes on
when a question fails, because silence, nonsense and a lost reader are answers, too. And it never changes what decides about access: MC, CK,
CKV and ID are not written.

What is the hand's business (lift the card, lay it back, pull it away in the middle of a command) is a Protocol: a person on request, or the
twin by itself.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from drivers import felica
from drivers.cards.lite_s import Block, MemoryConfiguration, is_lite_s, write_mac_block
from drivers.channel import Channel
from drivers.errors import CardError, CardLost, CardRefused, DriverError, MalformedReply, ReaderLost
from drivers.reader import Reader
from drivers.vault import CardSession, Challenge, MacRead

SCRATCH = 0x0D  # S_PAD13: no purse uses it
_READ, _WRITE = 0x06, 0x08
_BYTE_US = {212: 37.758, 424: 18.879}  # 8 bits of 64 and 32 periods of 13.56 MHz
_FRAME_BYTES = 10  # preamble, sync and CRC of a frame
_LINE_FRAMES = 25  # the bytes around command and answer on a PN532's line, its acknowledgement among them
_ROUNDS = 20
_SLACK_US = 3000.0  # what a chip and an operating system may add before a median is called longer than the card's own word
_PERSON_NS = 60_000_000_000
_PATIENCE = 3  # polls, or revivals, before a card or a reader is taken for gone


class Role(Enum):
    """Which kind of card lies there."""

    BLANK = "blank"
    ISSUED = "issued"


class Hand(Protocol):
    """Whoever moves the card."""

    def lift(self) -> None:
        """Take the card away and return when it is gone."""
        ...

    def lay(self) -> None:
        """Lay the card back and return when it is there."""
        ...

    def pull_during(self, command: bytes, trial: int, probe: Callable[[], bool]) -> None:
        """Return in the moment in which ``command``, sent next and once, will lose its card; ``trial`` counts from 0.

        ``probe`` tells whether the card still answers; it costs nothing.
        """
        ...


class Workshop(Protocol):
    """What only a real reader can be asked; none of it is part of a tap."""

    def set_air_rate(self, air_rate: int) -> None:
        """kbit/s from the next poll on: 212 or 424."""
        ...

    def field_is_on(self) -> bool:
        """Whether the chip drives its antenna now."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the way to the card is: bits a second on the line, kbit/s on the air. What it takes is not the card's delay."""

    baud: int
    air_rate: int

    def way_us(self, command: int, answer: int) -> float:
        """Microseconds that two frames of these lengths spend on line and air."""
        line = (_LINE_FRAMES + command + answer) * 10e6 / self.baud
        return line + (command + answer + 2 * _FRAME_BYTES) * _BYTE_US[self.air_rate]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found: ``said`` in the few words that are compared, ``detail`` for whoever reads the table."""

    said: str
    detail: str = ""
    share: float | None = None
    """Of a delay: the median as a share of what the card's PMm allows."""


class Bench:
    """A reader, a card on it, a hand, and the few moves all questions are made of."""

    def __init__(
        self,
        reader: Reader,
        hand: Hand,
        challenge: Callable[[bytes, bytes], Challenge],
        random: Callable[[int], bytes],
        monotonic_ns: Callable[[], int],
        *,
        pace: Pace | None = None,
        workshop: Workshop | None = None,
    ) -> None:
        """``challenge`` is a vault's; for a blank card one that holds the factory's key."""
        self.hand = hand
        self.pace = pace
        self.workshop = workshop
        self._reader = reader
        self._challenge = challenge
        self._random = random
        self._monotonic_ns = monotonic_ns
        self._card: Channel | None = None

    def renew(self) -> None:
        """Poll again before the next command."""
        self._card = None

    def card(self) -> Channel:
        """The one card there; brings a lost reader back. Raises ``CardLost`` when there is none or more than one, and ``ReaderLost``."""
        if self._card is None:
            self._card = self._found()
        return self._card

    def _found(self) -> Channel:
        lost: ReaderLost | None = None
        for _ in range(_PATIENCE):
            try:
                cards = self._reader.poll()
            except ReaderLost as error:
                lost = error
                self._reader.revive()
                continue
            lost = None
            if len(cards) == 1:
                return cards[0]
        raise lost or CardLost("there is not exactly one card")

    def poll(self) -> Sequence[Channel]:
        """The cards there now, be it none."""
        return self._reader.poll()

    def read(self, *blocks: int) -> bytes:
        """Their data, through the read-only service."""
        card = self.card()
        return felica.parse_read(card.exchange(felica.read_blocks(card.idm, blocks)), card.idm, len(blocks))

    def wcnt(self) -> int:
        """The card's write counter."""
        return int.from_bytes(self.read(Block.WCNT)[:3], "little")

    def status(self, command: bytes) -> str:
        """How a frame ended: ``accepted``, the status flags as ``01 A8``, ``silence`` or ``malformed``."""
        try:
            answer = self.card().exchange(command)
        except CardLost:
            return "silence"
        except MalformedReply:
            return "malformed"
        flags = answer[10:12]
        return "malformed" if len(flags) < 2 else "accepted" if flags == bytes(2) else flags.hex(" ").upper()

    def plain(self, block: int, data: bytes) -> str:
        """How a write without MAC ended."""
        return self.status(felica.write_blocks(self.card().idm, [block], data))

    def challenge(self) -> bytes:
        """Write a fresh RC and return it."""
        rc = self._random(16)
        card = self.card()
        felica.parse_write(card.exchange(felica.write_blocks(card.idm, [Block.RC], rc)), card.idm)
        return rc

    def session(self) -> CardSession:
        """A fresh session, proven by the MAC_A of block ID."""
        rc = self.challenge()
        data = self.read(Block.ID, Block.MAC_A)
        return self._challenge(self.card().idm, rc).proven_by(MacRead((Block.ID,), data[:16], data[16:24]))

    def maced(self, session: CardSession, block: int, data: bytes, *, wcnt_ahead: int = 0, mac_flip: int = 0) -> bytes:
        """The frame of a write with MAC_A at the card's counter, or with a wrong counter or a wrong MAC."""
        wcnt = self.wcnt() + wcnt_ahead
        mac = session.mac_write(block, data, wcnt)
        mac = bytes((mac[0] ^ mac_flip,)) + mac[1:]
        return felica.write_blocks(self.card().idm, [block, Block.MAC_A], data + write_mac_block(mac, wcnt))

    def timed_us(self, command: bytes) -> tuple[float, float]:
        """Microseconds of one exchange: all of it, and what is left without line and air (the card's delay and the chip's own time)."""
        card = self.card()
        started_ns = self._monotonic_ns()
        answer = card.exchange(command)
        whole = (self._monotonic_ns() - started_ns) / 1000
        return whole, whole - (self.pace.way_us(len(command), len(answer)) if self.pace else 0.0)


@dataclass(frozen=True, slots=True)
class Question:
    """One row of the table. ``expected`` is what the twin says; ``writes`` the counted writes it may cost."""

    name: str
    question: str
    how: str
    expected: str
    ask: Callable[[Bench], Answer]
    roles: tuple[Role, ...] = (Role.BLANK, Role.ISSUED)
    writes: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A question with its answer."""

    question: Question
    answer: Answer

    @property
    def same(self) -> bool:
        """Whether the real thing does as the twin."""
        return self.answer.said == self.question.expected


class WrongCard(Exception):
    """The card that lies there is not of the kind to be asked; the text says what it is."""


def walk(bench: Bench, role: Role) -> Iterator[Finding]:
    """Ask every question for this kind of card, one by one. Raises ``WrongCard`` before anything is written."""
    _expect(bench, role)
    for question in questions(role):
        yield Finding(question, _asked(bench, question))


def questions(role: Role) -> list[Question]:
    """The rows for one kind of card, in the order in which they are asked."""
    return [question for question in QUESTIONS if role in question.roles]


def writes(role: Role) -> int:
    """The most counted writes that a walk costs."""
    return sum(question.writes for question in questions(role))


def _expect(bench: Bench, role: Role) -> None:
    try:
        card = bench.card()
        if not is_lite_s(card.pmm):
            raise WrongCard("the card is no FeliCa Lite-S")
        configuration = MemoryConfiguration.parse(bench.read(Block.MC))
    except CardError as error:
        raise WrongCard(f"the card cannot be read: {error}") from error
    if configuration.open_system != (role is Role.BLANK):
        raise WrongCard(f"the card is {'blank' if configuration.open_system else 'issued'}, not {role.value}")
    if role is Role.ISSUED and not configuration.write_needs_mac >> Block.REG & 1:
        raise WrongCard("the card was issued, but not as a fare-point card: its REG takes no MAC")


def _asked(bench: Bench, question: Question) -> Answer:
    bench.renew()
    try:
        return question.ask(bench)
    except CardRefused as error:
        return Answer("not reached", f"a step before was refused with {error.sf1:02X} {error.sf2:02X}")
    except DriverError as error:
        return Answer("not reached", str(error))


# --- frames with something wrong in them ------------------------------------------------------------------------------


def _frame(code: int, idm: bytes, services: Sequence[str], elements: Sequence[str], data: bytes = b"") -> bytes:
    """A read or a write as wrong as asked: services and block list elements as they go over the air, in hexadecimal."""
    payload = bytes((code,)) + idm + bytes((len(services),)) + bytes.fromhex("".join(services))
    payload += bytes((len(elements),)) + bytes.fromhex("".join(elements)) + data
    return bytes((len(payload) + 1,)) + payload


def _refused(name: str, question: str, expected: str, code: int, lists: str) -> Question:
    """A row whose frame is refused; ``lists`` are its services and, after a bar, its block list elements."""
    services, elements = (part.split() for part in lists.split("|"))
    data = bytes(16 * len(elements)) if code == _WRITE else b""

    def ask(bench: Bench) -> Answer:
        return Answer(bench.status(_frame(code, bench.card().idm, services, elements, data)))

    return Question(name, question, f"{'read' if code == _READ else 'write'} {lists}", expected, ask)


_REFUSALS = (
    _refused("code.services", "two services in one read", "FF A1", _READ, "0b00 0900 | 8000"),
    _refused("code.no-block", "a read of no block", "FF A2", _READ, "0b00 | "),
    _refused("code.five-blocks", "a read of five blocks", "FF A2", _READ, "0b00 | 8000 8001 8002 8003 8004"),
    _refused("code.service", "a service the card has not", "01 A6", _READ, "0f09 | 8000"),
    _refused("code.order", "a service order beyond the list", "01 A3", _READ, "0b00 | 8100"),
    _refused("code.access", "the purse's access mode", "01 A7", _READ, "0b00 | 9000"),
    _refused("code.block", "a block the card has not", "01 A8", _READ, "0b00 | 800f"),
    _refused("code.second-block", "the same as second of two", "02 A8", _READ, "0b00 | 8000 800f"),
    _refused("code.long-block", "a block number above FF", "01 A8", _READ, "0b00 | 000001"),
    _refused("code.read-only", "a read-only block through service 0009", "01 A8", _READ, "0900 | 8083"),
    _refused("code.write-none", "a write of no block", "FF A2", _WRITE, "0900 | "),
    _refused("code.write-three", "a write of three blocks", "FF A2", _WRITE, "0900 | 800d 800c 800b"),
    _refused("code.write-service", "a write through service 000B", "01 A6", _WRITE, "0b00 | 800d"),
    _refused("code.write-pair", "a write of two user blocks", "02 A8", _WRITE, "0900 | 800d 800c"),
    _refused("code.write-read-only", "a write to a read-only block", "01 A8", _WRITE, "0900 | 8083"),
    _refused("code.write-mac-alone", "a write to MAC_A alone", "01 A8", _WRITE, "0900 | 8091"),
    _refused("order.services-blocks", "two services and no block", "FF A1", _READ, "0b00 0900 | "),
    _refused("order.blocks-service", "no block and an unknown service", "FF A2", _READ, "0f09 | "),
    _refused("order.service-block", "an unknown service and an unknown block", "01 A6", _READ, "0f09 | 800f"),
    _refused("order.order-access", "a wrong order and a wrong access mode", "01 A3", _READ, "0b00 | 9100"),
    _refused("order.order-block", "a wrong order and an unknown block", "01 A3", _READ, "0b00 | 810f"),
    _refused("order.access-block", "a wrong access mode and an unknown block", "01 A7", _READ, "0b00 | 900f"),
    _refused("order.entries", "an unknown block before a wrong order", "01 A8", _READ, "0b00 | 800f 8100"),
    _refused("order.write", "a write with a wrong order and an unknown block", "01 A8", _WRITE, "0900 | 810f"),
)


# --- reader and air ---------------------------------------------------------------------------------------------------


def _four_blocks(bench: Bench) -> Answer:
    data = bench.read(Block.REG, Block.S_PAD0, Block.WCNT, Block.CRC_CHECK)
    return Answer("yes" if len(data) == 64 else "no")


def _poll_keeps(bench: Bench) -> Answer:
    bench.session()
    bench.renew()
    card = bench.card()
    return Answer("kept" if bench.status(felica.read_blocks(card.idm, [Block.ID, Block.MAC_A])) == "accepted" else "lost")


def _field_off_clears(bench: Bench) -> Answer:
    bench.session()
    bench.hand.lift()
    bench.hand.lay()
    bench.renew()
    return Answer(bench.status(felica.read_blocks(bench.card().idm, [Block.ID, Block.MAC_A])))


def _other_idm(bench: Bench) -> Answer:
    idm = bench.card().idm
    return Answer(bench.status(felica.read_blocks(idm[:7] + bytes((idm[7] ^ 1,)), [0])))


def _unknown_command(bench: Bench) -> Answer:
    return Answer(bench.status(b"\x0a\x04" + bench.card().idm))


def _rate(air_rate: int) -> Callable[[Bench], Answer]:
    def ask(bench: Bench) -> Answer:
        if bench.workshop is None or bench.pace is None:
            return _NO_READER
        bench.workshop.set_air_rate(air_rate)
        bench.renew()
        try:
            return _four_blocks(bench)
        except CardLost:
            return Answer("no")
        finally:
            bench.workshop.set_air_rate(bench.pace.air_rate)
            bench.renew()

    return ask


def _idle_field(bench: Bench) -> Answer:
    if bench.workshop is None:
        return _NO_READER
    bench.hand.lift()
    try:
        empty = not bench.poll()
        on = bench.workshop.field_is_on()
    finally:
        bench.hand.lay()
    if not empty:
        return Answer("not reached", "the card was still there")
    return Answer("yes" if on else "no")


_NO_READER = Answer("yes", "not asked: there is no chip in an emulated reader")
_AIR = (
    Question(
        "reader.four-blocks", "does a read of four blocks come through", "read REG, S_PAD0, WCNT, CRC_CHECK at once", "yes", _four_blocks
    ),
    Question("reader.idle-field", "does the field stay on after an empty poll", "lift, poll, ask the chip, lay", "yes", _idle_field),
    Question("reader.212", "does the card answer at 212 kbit/s", "poll and read at 212", "yes", _rate(212)),
    Question("reader.424", "does the card answer at 424 kbit/s", "poll and read at 424", "yes", _rate(424)),
    Question("card.other-idm", "a command to another card's IDm", "a read with the last bit of the IDm turned", "silence", _other_idm),
    Question("card.command", "a command the card has not", "Request Response", "silence", _unknown_command),
    Question("session.poll", "does a poll keep the session", "write RC, poll, read with MAC_A", "kept", _poll_keeps),
    Question("session.field", "a read with MAC_A before any RC", "write RC, lift, lay, read with MAC_A", "02 B2", _field_off_clears),
)


# --- REG, STATE, MAC --------------------------------------------------------------------------------------------------


_AT_AN_END = Answer("not reached", "the register is at its end, and a raise would come out at the other")


def _lower(reg: bytes, *, rega: int = 0, regb: int = 0) -> bytes:
    """REG with its two registers lowered (raised, if negative); nothing when one would run over its end."""
    a, b = int.from_bytes(reg[:4], "little") - rega, int.from_bytes(reg[4:8], "little") - regb
    if not (0 <= a <= 0xFFFFFFFF and 0 <= b <= 0xFFFFFFFF):
        return b""
    return a.to_bytes(4, "little") + b.to_bytes(4, "little") + reg[8:16]


def _reg_plain(rega: int, regb: int) -> Callable[[Bench], Answer]:
    def ask(bench: Bench) -> Answer:
        data = _lower(bench.read(Block.REG), rega=rega, regb=regb)
        return Answer(bench.plain(Block.REG, data)) if data else _AT_AN_END

    return ask


def _reg_maced(rega: int, regb: int, *, mac_flip: int = 0, wcnt_ahead: int = 0) -> Callable[[Bench], Answer]:
    def ask(bench: Bench) -> Answer:
        data = _lower(bench.read(Block.REG), rega=rega, regb=regb)
        if not data:
            return _AT_AN_END
        return Answer(bench.status(bench.maced(bench.session(), Block.REG, data, mac_flip=mac_flip, wcnt_ahead=wcnt_ahead)))

    return ask


def _maced(block: int, data: bytes) -> Callable[[Bench], Answer]:
    return lambda bench: Answer(bench.status(bench.maced(bench.session(), block, data)))


def _replayed(bench: Bench) -> Answer:
    frame = bench.maced(bench.session(), Block.REG, _lower(bench.read(Block.REG), regb=1))
    return Answer(f"{bench.status(frame)}, then {bench.status(frame)}")


def _after_second_rc(bench: Bench) -> Answer:
    session = bench.session()
    needs_mac = MemoryConfiguration.parse(bench.read(Block.MC)).state_needs_mac
    ended = bench.status(bench.maced(session, Block.STATE, _AUTHENTICATED)) if needs_mac else bench.plain(Block.STATE, _AUTHENTICATED)
    if ended != "accepted" or bench.read(Block.STATE)[0] != 1:
        return Answer("not reached", f"the first authentication: {ended}")
    bench.challenge()
    return Answer("kept" if bench.read(Block.STATE)[0] == 1 else "cleared")


def _counted(bench: Bench) -> Answer:
    before = bench.wcnt()
    bench.challenge()
    after_rc = bench.wcnt() - before
    if bench.plain(SCRATCH, bench.read(SCRATCH)) != "accepted":
        return Answer("not reached", "the scratch block takes no write")
    return Answer(f"RC +{after_rc}, user block +{bench.wcnt() - before - after_rc}")


_AUTHENTICATED = b"\x01" + bytes(15)
_BLANK = (Role.BLANK,)
_ISSUED = (Role.ISSUED,)
_MEMORY = (
    Question(
        "write.counted", "which writes raise WCNT", "RC, then S_PAD13 with its own content", "RC +0, user block +1", _counted, writes=1
    ),
    Question("reg.lower", "both registers one less", "write REG", "accepted", _reg_plain(1, 1), _BLANK, 1),
    Question("reg.equal", "REG written with the value it has", "write REG = REG", "accepted", _reg_plain(0, 0), _BLANK, 1),
    Question("reg.field-equal", "REGA equal, REGB one less", "write REG", "accepted", _reg_plain(0, 1), _BLANK, 1),
    Question("reg.raised-a", "REGA raised", "write REG with REGA + 1", "01 A8", _reg_plain(-1, 0), _BLANK, 1),
    Question("reg.raised-b", "REGB raised", "write REG with REGB + 1", "01 A8", _reg_plain(0, -1), _BLANK, 1),
    Question("mc12.mac", "STATE with MAC while MC[12] = 00", "write STATE, MAC_A", "02 B2", _maced(Block.STATE, _AUTHENTICATED), _BLANK, 1),
    Question("mac.unneeded", "a MAC for a block that needs none", "write S_PAD13, MAC_A", "02 B2", _maced(SCRATCH, bytes(16)), _BLANK, 1),
    Question("auth.second-rc", "EXT_AUTH after a second RC", "STATE = 01, RC, read STATE", "cleared", _after_second_rc, writes=1),
    Question(
        "mc12.plain",
        "STATE without MAC while MC[12] = 01",
        "write STATE",
        "01 A8",
        lambda bench: Answer(bench.plain(Block.STATE, _AUTHENTICATED)),
        _ISSUED,
        1,
    ),
    Question(
        "mc12.maced", "STATE with MAC while MC[12] = 01", "write STATE, MAC_A", "accepted", _maced(Block.STATE, _AUTHENTICATED), _ISSUED, 1
    ),
    Question("purse.plain", "REG without the MAC it needs", "write REG", "01 A8", _reg_plain(0, 1), _ISSUED, 1),
    Question("purse.replay", "the same write twice", "REGB - 1 with MAC_A, and again", "accepted, then 02 B2", _replayed, _ISSUED, 1),
    Question("purse.wrong-mac", "a wrong MAC_A", "one bit turned", "02 B2", _reg_maced(0, 1, mac_flip=1), _ISSUED, 1),
    Question("purse.wrong-count", "a wrong WCNT under a right MAC_A", "WCNT + 1", "02 B2", _reg_maced(0, 1, wcnt_ahead=1), _ISSUED, 1),
    Question("purse.equal", "REG with MAC and the value it has", "write REG = REG, MAC_A", "accepted", _reg_maced(0, 0), _ISSUED, 1),
    Question("purse.free", "REGA equal, REGB one less, with MAC", "as a free ride would", "accepted", _reg_maced(0, 1), _ISSUED, 1),
    Question("purse.raised", "REGB raised, with MAC", "REGB + 1", "01 A8", _reg_maced(0, -1), _ISSUED, 1),
    Question(
        "order.mac-reg", "a wrong MAC_A and a raised REG", "REGB + 1, one bit turned", "02 B2", _reg_maced(0, -1, mac_flip=1), _ISSUED, 1
    ),
)


# --- delays -----------------------------------------------------------------------------------------------------------


def _delays(make: Callable[[Bench, int], bytes], count: int, rounds: int) -> Callable[[Bench], Answer]:
    def ask(bench: Bench) -> Answer:
        commands = (make(bench, turn) for turn in range(rounds))
        times = [(command, *bench.timed_us(command)) for command in commands]
        rest = [left for _, _, left in times]
        allowed = felica.response_time_us(bench.card().pmm, times[0][0][1], count)
        said = "within PMm" if statistics.median(rest) <= allowed + _SLACK_US else "longer than PMm"
        low, middle, high = (f"{value / 1000:.2f}" for value in (min(rest), statistics.median(rest), max(rest)))
        whole = statistics.median(all_of_it for _, all_of_it, _ in times) / 1000
        detail = f"{low} / {middle} / {high} ms of {allowed / 1000:.2f} (exchange {whole:.2f})"
        return Answer(said, detail, statistics.median(rest) / allowed)

    return ask


def _reading(*blocks: int) -> Callable[[Bench, int], bytes]:
    return lambda bench, _: felica.read_blocks(bench.card().idm, blocks)


def _writing_rc(bench: Bench, turn: int) -> bytes:
    return felica.write_blocks(bench.card().idm, [Block.RC], bytes((turn,)) * 16)


def _writing_scratch(bench: Bench, turn: int) -> bytes:
    return felica.write_blocks(bench.card().idm, [SCRATCH], bytes((turn,)) * 16)


def _writing_reg(bench: Bench, _: int) -> bytes:
    return bench.maced(bench.session(), Block.REG, _lower(bench.read(Block.REG), regb=1))


def _delay(name: str, make: Callable[[Bench, int], bytes], count: int, roles: tuple[Role, ...], counted: int = 0) -> Question:
    rounds = counted or _ROUNDS
    how = f"{rounds} times; least / median / most without line and air"
    return Question(
        f"delay.{name}", f"the card's delay: {name.replace('-', ' ')}", how, "within PMm", _delays(make, count, rounds), roles, counted
    )


_BOTH = (Role.BLANK, Role.ISSUED)
_DELAYS = (
    *(_delay(f"read-{count}", _reading(*range(count)), count, _BOTH) for count in (1, 2, 3, 4)),
    _delay("write-RC", _writing_rc, 1, _BOTH),
    _delay("write-user-block", _writing_scratch, 1, _BOTH, 5),
    _delay("write-REG-and-MAC", _writing_reg, 2, _ISSUED, 5),
)


# --- pulled away ------------------------------------------------------------------------------------------------------


def _pulled(make: Callable[[Bench], bytes], block: int | None = None, trials: int = 1) -> Callable[[Bench], Answer]:
    def ask(bench: Bench) -> Answer:
        outcomes = [_pull(bench, make(bench), block, trial) for trial in range(trials)]
        bad = [outcome for outcome in outcomes if "torn" in outcome or "refused" in outcome]
        return Answer("torn" if bad else "whole", "; ".join(outcomes))

    return ask


def _pull(bench: Bench, command: bytes, block: int | None, trial: int) -> str:
    """Lose the card in one command, lay it back, and say what became of the block."""
    watched = SCRATCH if block is None else block
    before, counted = bench.read(watched), bench.wcnt()
    card = bench.card()
    probe = felica.read_blocks(card.idm, [watched])
    bench.hand.pull_during(command, trial, lambda: _answers(card, probe))
    try:
        card.exchange(command)
        heard = "answered"
    except CardError:
        heard = "not answered"
    finally:
        bench.hand.lay()
        bench.renew()
    after, rise = bench.read(watched), bench.wcnt() - counted
    if block is None:
        return heard if after == before and rise == 0 else "torn"
    new = command[-32:-16] if len(command) > 48 else command[-16:]
    state = "old" if after == before else "new" if after == new else "torn"
    return f"{heard}, block {state}, WCNT +{rise}"


def _answers(card: Channel, probe: bytes) -> bool:
    try:
        card.exchange(probe)
    except CardError:
        return False
    return True


def _pulled_scratch(bench: Bench) -> bytes:
    return felica.write_blocks(bench.card().idm, [SCRATCH], bytes(byte ^ 0xFF for byte in bench.read(SCRATCH)))


_PULLS = (
    Question(
        "pulled.rc", "the card leaves while RC is written", "pull, lay back, compare", "whole", _pulled(lambda bench: _writing_rc(bench, 1))
    ),
    Question(
        "pulled.read",
        "the card leaves in a read of four",
        "pull, lay back, compare",
        "whole",
        _pulled(lambda bench: _reading(0, 1, 2, 3)(bench, 0)),
    ),
    Question(
        "pulled.write", "the card leaves in a write", "pull, lay back, compare", "whole", _pulled(_pulled_scratch, SCRATCH, 3), _BLANK, 3
    ),
    Question(
        "pulled.debit",
        "the card leaves in a debit",
        "REGB - 1 with MAC_A; pull, lay back, compare",
        "whole",
        _pulled(lambda bench: _writing_reg(bench, 0), Block.REG, 3),
        _ISSUED,
        3,
    ),
)

QUESTIONS: tuple[Question, ...] = (*_AIR, *_REFUSALS, *_MEMORY, *_DELAYS, *_PULLS)


# --- the hand of a person --------------------------------------------------------------------------------------------------------------


class PersonClock(Protocol):
    """What waiting for a person asks of a clock (``drivers.devices.clock.Clock``)."""

    def monotonic_ns(self) -> int: ...

    def sleep_until_ns(self, deadline_ns: int) -> None: ...


class Person:
    """A hand that is told what to do and watched by polling (``Hand``). Nobody moving for a minute is ``CardLost``."""

    def __init__(self, reader: Reader, say: Callable[[str], object], clock: PersonClock) -> None:
        self._reader = reader
        self._say = say
        self._clock = clock

    def lift(self) -> None:
        self._say("Take the card away from the reader.")
        self._wait(lambda: all(self._seen() == 0 for _ in range(_PATIENCE)), "the card was not taken away")

    def lay(self) -> None:
        self._say("Lay the card on the reader.")
        self._wait(lambda: self._seen() == 1, "no card was laid down")

    def pull_during(self, command: bytes, trial: int, probe: Callable[[], bool]) -> None:
        del command
        self._say(f"Pull the card away now, slowly ({trial + 1}).")
        self._wait(lambda: not probe(), "the card was not pulled away", every_ns=0)

    def _seen(self) -> int | None:
        try:
            return len(self._reader.poll())
        except ReaderLost:
            self._reader.revive()
            return None

    def _wait(self, done: Callable[[], bool], otherwise: str, every_ns: int = 50_000_000) -> None:
        until_ns = self._clock.monotonic_ns() + _PERSON_NS
        while not done():
            now_ns = self._clock.monotonic_ns()
            if now_ns > until_ns:
                raise CardLost(otherwise)
            self._clock.sleep_until_ns(now_ns + every_ns)


# --- the profile -----------------------------------------------------------------------------------------------------------------------


def profile(findings: Sequence[Finding]) -> str:
    """The ``[traits]`` of a twin that does as this card did: TOML to be put into a twin's card file. What was not learned is left out."""
    said = {finding.question.name: finding.answer.said for finding in findings}
    traits = [line for line in (_delay_trait(findings), *(trait(said) for trait in _TRAITS)) if line]
    head = "# What a real card did, as the traits of its twin. They replace the table of the same name in a card file."
    return "\n".join([head, "[traits]", *traits]) + "\n"


def _delay_trait(findings: Sequence[Finding]) -> str:
    shares = [finding.answer.share for finding in findings if finding.answer.share is not None]
    if not shares:
        return ""
    middle = statistics.median(shares)
    return f'delay = "{"min" if middle < 0.35 else "half" if middle < 0.75 else "max"}" # median {middle:.0%} of what PMm allows'


def _switch(name: str, true: str, false: Sequence[str], *rows: str) -> Callable[[dict[str, str]], str]:
    """A trait that is true or false by the first of these rows that says one or the other."""

    def trait(said: dict[str, str]) -> str:
        answers = [said[row] for row in rows if said.get(row) in {true, *false}]
        return f"{name} = {str(answers[0] == true).lower()}" if answers else ""

    return trait


def _refusal_trait(said: dict[str, str]) -> str:
    codes = [said[row] for row in ("purse.raised", "reg.raised-b", "reg.raised-a") if _is_code(said.get(row, ""))]
    return f'reg_refusal = "{codes[0].replace(" ", "")}"' if codes else ""


def _equal_trait(said: dict[str, str]) -> str:
    answers = [said[row] for row in ("purse.free", "reg.field-equal") if said.get(row) == "accepted" or _is_code(said.get(row, ""))]
    return f"equal_reg = {str(answers[0] == 'accepted').lower()}" if answers else ""


def _is_code(said: str) -> bool:
    return len(said) == 5 and said[2] == " "


_TRAITS = (
    _switch("strict", "02 B2", ("accepted",), "mac.unneeded", "mc12.mac"),
    _equal_trait,
    _refusal_trait,
    _switch("rc_ends_ext_auth", "cleared", ("kept",), "auth.second-rc"),
)
