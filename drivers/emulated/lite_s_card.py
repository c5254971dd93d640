"""A FeliCa Lite-S card (RC-S966) as a state machine: a frame in, a frame or silence out.

**What survives.** The memory (blocks and write counter) is EEPROM. Challenge, session key, EXT_AUTH and the *effective* MC live only while
the field does: a new MC is stored at once and counts from the next field on, as on the chip.

**The order of checks** is the order of public emulators; where two errors apply at once the real chip's order is not public. What real
cards are known or suspected to differ in is a ``Traits`` value, so that a qualified card can be copied.

**MC writes are masked, not judged**: a bit that may not change stays as it is and the write is accepted; only when nothing at all may
change any more is the block read-only. Both the stored and the effective MC must allow a change, so nothing comes back before the field
goes.

**Reads without a challenge.** MAC_A is then refused (B2). MAC (81) reads as zeros, so that a dump of a card works.

**Faults** are consumed one a command, never by a poll: polls come all the time and would eat them.

Sources: JIS X 6319-4 (frames), public descriptions of Lite-S (memory map, MC, REG, MAC rules, status flags).
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from drivers.emulated.lite_s_mac import MAC_A_BLOCK, MAC_BLOCK, Session, open_session

REG = 0x0E
RC = 0x80
ID = 0x82
D_ID = 0x83
SER_C = 0x84
SYS_C = 0x85
CKV = 0x86
CK = 0x87
MC = 0x88
WCNT = 0x90
STATE = 0x92
CRC_CHECK = 0xA0

USER_BLOCKS = tuple(range(REG + 1))
STORED = (*USER_BLOCKS, ID, D_ID, SER_C, SYS_C, CKV, CK, MC, CRC_CHECK)
KNOWN = frozenset((*STORED, RC, MAC_BLOCK, WCNT, MAC_A_BLOCK, STATE))
_NEVER_WRITTEN = frozenset((MAC_BLOCK, D_ID, SYS_C, WCNT, CRC_CHECK))
_HIDDEN = frozenset((RC, CK))
_UNCOUNTED = RC

POLLING = 0x00
READ = 0x06
WRITE = 0x08
_RW_SERVICE = 0x0009
_RO_SERVICE = 0x000B
_SYSTEM = 0x88B4
_NDEF_SYSTEM = 0x12FC

FRAME_OVERHEAD = 10
"""Bytes on air around a frame: 6 preamble, 2 sync, 2 CRC (JIS X 6319-4)."""

CARRIER_HZ = 13_560_000
SHORTEST_DELAY_NS = 2672 * 1_000_000_000 // CARRIER_HZ
POLLING_DELAY_NS = 512 * 64 * 1_000_000_000 // CARRIER_HZ

FACTORY_PMM = bytes.fromhex("00F1000000014300")
_FACTORY_MC = bytes.fromhex("FFFFFF01070000000000000000000000")
_FACTORY_WCNT = 0xFFFE00
_EMPTY_NDEF = bytes.fromhex("100401000D0000000000010000000023")
_LAST_WCNT_BLANK = 0xFFFFFF
_LAST_WCNT_ISSUED = 0xFFFE00


class Delay(Enum):
    """How long the card thinks: the shortest allowed, half of what its PMm declares, all of it."""

    MIN = "min"
    HALF = "half"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Traits:
    """What is not public about the chip, or differs from card to card.

    ``strict``: a MAC write to a block that needs no MAC is refused with 02 B2 (False: accepted, as some programs expect). ``equal_reg``: a
    REG write of equal values is accepted. ``reg_refusal``: status flags of a refused REG write. ``rc_ends_ext_auth``: a new challenge
    clears EXT_AUTH. ``worn_at``: from this write counter on, accepted writes answer FF 71 (None: never).
    """

    delay: Delay = Delay.MIN
    strict: bool = True
    equal_reg: bool = True
    reg_refusal: tuple[int, int] = (0x01, 0xA8)
    rc_ends_ext_auth: bool = True
    worn_at: int | None = None


class Torn(Enum):
    """What a block holds after power was lost while it was written."""

    OLD = "old"
    NEW = "new"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Tear:
    """Power is lost within a write: what the block holds then, and whether the write counter has risen; independent of each other."""

    block: Torn
    counted: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong with one command; the default is nothing.

    ``lost``: the card does not hear it. ``answer_lost``: it is executed, the answer is not heard. ``tear``: power fails within the write;
    the card restarts, silent. ``removed_at``: the card leaves after so many bytes on air, of the command and then of its answer (each LEN +
    10); up to the command's last byte nothing is executed. ``lifted``: the card leaves after the exchange (with ``tear``: within).
    ``warn``: a write answers FF 71. ``bad_crc``: the answer is damaged on air. ``idm``: the answer carries another IDm. ``script``: these
    bytes are the answer, whatever was asked, and nothing is executed. ``forever``: and so with every command from then on.
    """

    lost: bool = False
    answer_lost: bool = False
    tear: Tear | None = None
    removed_at: int | None = None
    lifted: bool = False
    warn: bool = False
    bad_crc: bool = False
    idm: bytes | None = None
    script: bytes | None = None
    forever: bool = False


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one command brought about on the air.

    ``answer``: the whole frame (LEN + payload) or None for silence. ``cut``: only so many of its bytes on air were sent (None: all).
    ``damaged``: its CRC does not fit. ``gone``: the card has left the field.
    """

    answer: bytes | None = None
    cut: int | None = None
    damaged: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """A card's EEPROM: 16 bytes for each block of ``STORED``, and the write counter. D_ID is IDm and PMm."""

    blocks: Mapping[int, bytes]
    wcnt: int

    def __post_init__(self) -> None:
        if set(self.blocks) != set(STORED):
            raise ValueError("a Lite-S card has the blocks 00-0E, 82-88 and A0, each of them once")
        if wrong := [f"{number:02X}" for number, data in self.blocks.items() if len(data) != 16]:
            raise ValueError(f"a block has 16 bytes; block {wrong[0]} has not")
        if not 0 <= self.wcnt <= _LAST_WCNT_BLANK:
            raise ValueError("the write counter has 24 bits")


@dataclass(slots=True)
class _Volatile:
    """What the card knows only while it has power."""

    mc: bytes
    session: Session | None = None
    state: bytearray = field(default_factory=lambda: bytearray(16))

    @property
    def ext_auth(self) -> bool:
        return self.state[0] == 1


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A write that passed every check."""

    block: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    """One block list element."""

    number: int
    order: int
    access: int


class _Refused(Exception):
    """Status flags instead of an answer."""

    def __init__(self, sf1: int, sf2: int) -> None:
        super().__init__(sf1, sf2)
        self.flags = bytes((sf1, sf2))


def blank(idm: bytes, pmm: bytes = FACTORY_PMM) -> "LiteSCard":
    """A card as it leaves the factory: key zero, REG all FF, everything writable, 511 counted writes left before it must be issued."""
    return LiteSCard(blank_memory(idm, pmm))


def blank_memory(idm: bytes, pmm: bytes = FACTORY_PMM) -> Memory:
    """The factory's EEPROM contents of a card with this IDm and PMm (8 bytes each)."""
    blocks = dict.fromkeys(STORED, bytes(16))
    blocks[0] = _EMPTY_NDEF
    blocks[REG] = b"\xff" * 16
    blocks[ID] = idm + bytes(8)
    blocks[D_ID] = idm + pmm
    blocks[SYS_C] = _SYSTEM.to_bytes(2, "big") + bytes(14)
    blocks[MC] = _FACTORY_MC
    return Memory(blocks, _FACTORY_WCNT)


class LiteSCard:
    """One card. It has power from the start; ``field_off`` and ``field_on`` take and give it.

    ``on_write`` is called with the card after each change of its EEPROM, and when a planned fault was used up.
    ``traits`` are the card's own and may be changed; while ``posing`` is set, the card behaves like that instead.
    """

    def __init__(self, memory: Memory, traits: Traits | None = None, on_write: Callable[["LiteSCard"], None] | None = None) -> None:
        self._blocks = dict(memory.blocks)
        self._wcnt = memory.wcnt
        self.traits = traits or Traits()
        self.posing: Traits | None = None
        self.on_write = on_write
        self._plan: deque[Faults] = deque()
        self._power: _Volatile | None = None
        self.field_on()

    @property
    def idm(self) -> bytes:
        """8 bytes."""
        return self._blocks[D_ID][:8]

    @property
    def pmm(self) -> bytes:
        """8 bytes."""
        return self._blocks[D_ID][8:]

    @property
    def memory(self) -> Memory:
        """The EEPROM as it is now."""
        return Memory(dict(self._blocks), self._wcnt)

    def rewrite(self, block: int, data: bytes) -> None:
        """Change a stored block as no command could (a wrong key, a worn cell); takes effect at once."""
        self._blocks[block] = Memory({**self._blocks, block: data}, self._wcnt).blocks[block]
        if block == MC and self._power is not None:
            self._power.mc = data
        self._changed()

    def set_wcnt(self, wcnt: int) -> None:
        """Set the write counter as no command could."""
        self._wcnt = Memory(self._blocks, wcnt).wcnt
        self._changed()

    def plan(self, faults: Iterable[Faults]) -> None:
        """What goes wrong with the next commands (polls not counted), in order; ``Faults()`` lets one pass."""
        self._plan.extend(faults)

    @property
    def planned(self) -> tuple[Faults, ...]:
        """The faults still to come."""
        return tuple(self._plan)

    def field_off(self) -> None:
        """The card loses power: challenge, session and EXT_AUTH are gone."""
        self._power = None

    def field_on(self) -> None:
        """The card has power: a stored MC becomes effective."""
        if self._power is None:
            self._power = _Volatile(self._blocks[MC])

    def answer(self, frame: bytes) -> bytes | None:
        """The card's answer as a reader hears it (LEN + payload); None is silence, also for an answer that is cut or damaged."""
        reaction = self.take(frame)
        return None if reaction.cut is not None or reaction.damaged else reaction.answer

    def take(self, frame: bytes, removed_at: int | None = None) -> Reaction:
        """One command, with all that happens to it. ``removed_at``: as in ``Faults``, from outside; the earlier one counts."""
        if self._power is None:
            return Reaction()
        if len(frame) < 2 or frame[0] != len(frame):
            return Reaction()
        faults = self._next_faults(frame)
        limits = [limit for limit in (removed_at, faults.removed_at) if limit is not None]
        limit = min(limits) if limits else None
        heard = len(frame) + FRAME_OVERHEAD
        if limit is not None and limit <= heard:
            return self._leave()
        if faults.lost or faults.script is not None:
            return self._end(faults.script, faults, limit, heard)
        return self._end(self._execute(frame, faults), faults, limit, heard)

    def delay_ns(self, frame: bytes) -> int:
        """How long the card thinks about this command before its answer begins, in nanoseconds."""
        code = frame[1] if len(frame) > 1 else POLLING
        if code == POLLING:
            return POLLING_DELAY_NS
        match self._acting.delay:
            case Delay.MIN:
                return SHORTEST_DELAY_NS
            case Delay.HALF:
                return max(SHORTEST_DELAY_NS, longest_delay_ns(self.pmm, frame) // 2)
            case Delay.MAX:
                return max(SHORTEST_DELAY_NS, longest_delay_ns(self.pmm, frame))

    @property
    def _acting(self) -> Traits:
        return self.posing or self.traits

    def _next_faults(self, frame: bytes) -> Faults:
        if not self._plan or frame[1] == POLLING or frame[2:10] != self.idm:
            return Faults()
        if self._plan[0].forever:
            return self._plan[0]
        faults = self._plan.popleft()
        self._changed()
        return faults

    def _leave(self) -> Reaction:
        self.field_off()
        return Reaction(gone=True)

    def _end(self, answer: bytes | None, faults: Faults, limit: int | None, heard: int) -> Reaction:
        torn = faults.tear is not None and self._power is None
        size = 0 if answer is None else len(answer) + FRAME_OVERHEAD
        sent = None if limit is None or limit > heard + size else limit - heard
        gone = faults.lifted or faults.removed_at is not None or sent is not None
        if gone:
            self.field_off()
        elif torn:
            self.field_on()
        if answer is None or faults.answer_lost or torn:
            return Reaction(gone=gone)
        cut = sent if sent is not None and sent < size else None
        return Reaction(answer, cut, faults.bad_crc, gone)

    def _execute(self, frame: bytes, faults: Faults) -> bytes | None:
        code = frame[1]
        if code == POLLING:
            return self._polled(frame)
        if len(frame) < 12 or frame[2:10] != self.idm or code not in {READ, WRITE}:
            return None
        head = bytes((code + 1,)) + (faults.idm or self.idm)
        try:
            body = self._read(frame) if code == READ else self._write(frame, faults)
        except _Refused as refused:
            body = refused.flags
        return None if body is None else _framed(head + body)

    def _polled(self, frame: bytes) -> bytes | None:
        power = self._powered()
        if len(frame) != 6 or power.state[8] == 1 or frame[5] not in {0x00, 0x01, 0x03, 0x07, 0x0F}:
            return None
        systems = (_SYSTEM, _NDEF_SYSTEM) if power.mc[3] == 1 else (_SYSTEM,)
        system = next((system for system in systems if _matches(frame[2:4], system)), None)
        if system is None:
            return None
        wish = {0x01: system.to_bytes(2, "big"), 0x02: b"\x00\x83"}.get(frame[4], b"")
        return _framed(b"\x01" + self.idm + self.pmm + wish)

    def _powered(self) -> _Volatile:
        if self._power is None:
            raise RuntimeError("a card without power does nothing")
        return self._power

    # --- Read Without Encryption ---

    def _read(self, frame: bytes) -> bytes | None:
        count = _check_counts(frame, 4)
        service = int.from_bytes(frame[11:13], "little")
        parsed = _entries(frame, count)
        if parsed is None or parsed[1]:
            return None
        entries = parsed[0]
        if service not in {_RW_SERVICE, _RO_SERVICE}:
            raise _Refused(0x01, 0xA6)
        power = self._powered()
        for at, entry in enumerate(entries):
            self._check_readable(1 << at, entry, service)
        numbers = tuple(entry.number for entry in entries)
        if power.session is None and MAC_A_BLOCK in numbers:
            raise _Refused(1 << numbers.index(MAC_A_BLOCK), 0xB2)
        for at, number in enumerate(numbers):
            if number in USER_BLOCKS and _bit(power.mc, 6, number) and not power.ext_auth:
                raise _Refused(1 << at, 0xB1)
        if MAC_BLOCK in numbers and MAC_A_BLOCK in numbers:
            raise _Refused(0xFF, 0xB0)
        return bytes((0, 0, count)) + self._data_of(numbers, power)

    def _check_readable(self, position: int, entry: _Entry, service: int) -> None:
        if entry.order != 0:
            raise _Refused(position, 0xA3)
        if entry.access != 0:
            raise _Refused(position, 0xA7)
        if entry.number not in KNOWN or (service == _RW_SERVICE and self._read_only(entry.number)):
            raise _Refused(position, 0xA8)

    def _data_of(self, numbers: tuple[int, ...], power: _Volatile) -> bytes:
        data = b""
        covered = 0  # an earlier MAC_A reads as zeros, and what stands before it is not covered by a later one
        for at, number in enumerate(numbers):
            if number == MAC_BLOCK and power.session is not None and data:
                data += power.session.mac(data) + bytes(8)
            elif number == MAC_A_BLOCK and power.session is not None and at + 1 == len(numbers):
                data += power.session.mac_a_of_read(numbers, data[covered:]) + bytes(8)
            else:
                data += self._shown(number, power)
                covered = len(data) if number == MAC_A_BLOCK else covered
        return data

    def _shown(self, number: int, power: _Volatile) -> bytes:
        if number == WCNT:
            return self._wcnt.to_bytes(3, "little") + bytes(13)
        if number == STATE:
            return bytes(power.state)
        return self._blocks[number] if number in self._blocks and number not in _HIDDEN else bytes(16)

    # --- Write Without Encryption ---

    def _write(self, frame: bytes, faults: Faults) -> bytes | None:
        accepted = self._judge(frame)
        if accepted is None:
            return None
        if faults.tear is not None:
            self._torn(accepted, faults.tear)
            return None
        self._store(accepted)
        worn = self._acting.worn_at is not None and self._wcnt >= self._acting.worn_at
        return b"\xff\x71" if faults.warn or worn else b"\x00\x00"

    def _judge(self, frame: bytes) -> _Accepted | None:
        """The write that this frame asks for; None when the frame's length does not fit. Raises ``_Refused``."""
        count = _check_counts(frame, 2)
        parsed = _entries(frame, count)
        if parsed is None or len(parsed[1]) != 16 * count:
            return None
        entries, data = parsed
        if int.from_bytes(frame[11:13], "little") != _RW_SERVICE:
            raise _Refused(0x01, 0xA6)
        block = entries[0].number
        with_mac = count == 2
        self._check_writable(entries, with_mac=with_mac)
        if with_mac:
            self._check_mac(block, data)
        power = self._powered()
        if block in USER_BLOCKS and _bit(power.mc, 8, block) and not power.ext_auth:
            raise _Refused(0x01, 0xB1)
        if block == REG and not _counts_down(self._blocks[REG], data, equal=self._acting.equal_reg):
            raise _Refused(*self._acting.reg_refusal)
        return _Accepted(block, data[:16])

    def _check_writable(self, entries: list[_Entry], *, with_mac: bool) -> None:
        for at, entry in enumerate(entries):
            if entry.number not in KNOWN or (at == 1 and entry.number != MAC_A_BLOCK):
                raise _Refused(1 << at, 0xA8)
        block = entries[0].number
        if block == MAC_A_BLOCK or self._read_only(block) or (self._needs_mac(block) and not with_mac):
            raise _Refused(0x01, 0xA8)
        for at, entry in enumerate(entries):
            if entry.order != 0:
                raise _Refused(1 << at, 0xA3)
            if entry.access != 0:
                raise _Refused(1 << at, 0xA7)

    def _read_only(self, block: int) -> bool:
        mc = self._powered().mc
        if block in USER_BLOCKS:
            return not _bit(mc, 0, block)
        if block in {ID, SER_C}:
            return mc[2] != 0xFF
        if block in {CKV, CK}:
            return mc[2] != 0xFF and mc[5] != 0x01
        if block == MC:
            return mc[2] != 0xFF and not _bit(mc, 0, 15)
        return block in _NEVER_WRITTEN

    def _needs_mac(self, block: int) -> bool:
        mc = self._powered().mc
        if block in USER_BLOCKS:
            return _bit(mc, 10, block)
        if block in {CKV, CK}:
            return mc[2] != 0xFF and mc[5] == 0x01
        return block == STATE and mc[12] == 0x01

    def _check_mac(self, block: int, data: bytes) -> None:
        if not self._needs_mac(block) and (self._acting.strict or block == RC):
            raise _Refused(0x02, 0xB2)
        session = self._powered().session
        if session is None or self._wcnt >= self._last_wcnt() or data[24:27] != self._wcnt.to_bytes(3, "little"):
            raise _Refused(0x02, 0xB2)
        if session.mac_a_of_write(block, data[:16], self._wcnt) != data[16:24]:
            raise _Refused(0x02, 0xB2)

    def _last_wcnt(self) -> int:
        return _LAST_WCNT_BLANK if self._powered().mc[2] == 0xFF else _LAST_WCNT_ISSUED

    def _store(self, accepted: _Accepted) -> None:
        power = self._powered()
        match accepted.block:
            case 0x80:
                power.session = open_session(self._blocks[CK], accepted.data)
                if self._acting.rc_ends_ext_auth:
                    power.state[0] = 0
                return
            case 0x92:
                power.state = bytearray(16)
                power.state[0] = accepted.data[0] & 1
                power.state[8] = accepted.data[8] & 1
            case block:
                self._blocks[block] = self._stored_form(accepted)
        if accepted.block == MC and power.mc[2] == 0xFF and self._blocks[MC][2] != 0xFF:
            self._wcnt = 0  # first issuance
        else:
            self._count()
        self._changed()

    def _stored_form(self, accepted: _Accepted) -> bytes:
        match accepted.block:
            case 0x82:
                return self.idm + accepted.data[8:]
            case 0x88:
                return _merged_mc(self._blocks[MC], self._powered().mc, accepted.data)
            case _:
                return accepted.data

    def _torn(self, accepted: _Accepted, tear: Tear) -> None:
        """Power is lost: of a volatile block nothing remains, a stored one is what the tear says."""
        if accepted.block in self._blocks:
            match tear.block:
                case Torn.NEW:
                    self._blocks[accepted.block] = self._stored_form(accepted)
                case Torn.GARBAGE:
                    self._blocks[accepted.block] = hashlib.sha256(tear.seed.to_bytes(8)).digest()[:16]
                case Torn.OLD:
                    pass
        if tear.counted and accepted.block != _UNCOUNTED:
            self._count()
        self._changed()
        self._power = None

    def _count(self) -> None:
        self._wcnt = min(self._wcnt + 1, max(self._wcnt, self._last_wcnt()))

    def _changed(self) -> None:
        if self.on_write is not None:
            self.on_write(self)


def longest_delay_ns(pmm: bytes, frame: bytes) -> int:
    """The longest time the card may take by its PMm, from the command's end to the answer's start (JIS X 6319-4)."""
    count = frame[13] if len(frame) > 13 else 1
    parameter = {READ: pmm[5], WRITE: pmm[6]}.get(frame[1], pmm[7])
    slots = ((parameter >> 3 & 7) + 1) * count + (parameter & 7) + 1
    return (slots << 2 * (parameter >> 6)) * 256 * 16 * 1_000_000_000 // CARRIER_HZ


def _framed(payload: bytes) -> bytes:
    return bytes((len(payload) + 1,)) + payload


def _matches(asked: bytes, system: int) -> bool:
    return all(wish in {0xFF, byte} for wish, byte in zip(asked, system.to_bytes(2, "big"), strict=True))


def _check_counts(frame: bytes, most: int) -> int:
    """The number of blocks in a read or write command; refuses a number of services or blocks that no Lite-S takes."""
    if frame[10] != 1:
        raise _Refused(0xFF, 0xA1)
    count = frame[13] if len(frame) > 13 else 0
    if not 1 <= count <= most:
        raise _Refused(0xFF, 0xA2)
    return count


def _entries(frame: bytes, count: int) -> tuple[list[_Entry], bytes] | None:
    """The block list and what follows it; None when the frame is too short."""
    entries: list[_Entry] = []
    at = 14
    for _ in range(count):
        size = 2 if at < len(frame) and frame[at] & 0x80 else 3
        if at + size > len(frame):
            return None
        number = int.from_bytes(frame[at + 1 : at + size], "little")
        entries.append(_Entry(number, frame[at] & 0x0F, frame[at] >> 4 & 7))
        at += size
    return entries, frame[at:]


def _bit(mc: bytes, at: int, number: int) -> bool:
    return bool(int.from_bytes(mc[at : at + 2], "little") >> number & 1)


def _counts_down(old: bytes, new: bytes, *, equal: bool) -> bool:
    """REGA and REGB may fall, each by itself, never rise; REGC is ordinary memory."""
    for at in (0, 4):
        before = int.from_bytes(old[at : at + 4], "little")
        after = int.from_bytes(new[at : at + 4], "little")
        if after > before or (after == before and not equal):
            return False
    return True


def _merged_mc(stored: bytes, effective: bytes, wish: bytes) -> bytes:
    """What a write makes of MC: bits that may not change stay."""
    merged = bytearray(stored)
    if _bit(stored, 0, 15) and _bit(effective, 0, 15):
        for at in (0, 1):
            merged[at] &= wish[at]
        for at in range(6, 12):
            merged[at] |= wish[at]
        merged[12] |= wish[12] & 1
    if stored[2] == effective[2] == 0xFF:
        merged[2:4] = wish[2:4]
        merged[5] = wish[5]
    return bytes(merged)
