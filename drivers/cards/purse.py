"""The fare-point purse on a FeliCa Lite-S: read, debit, verify, and say later what a lost debit did. Pure over a Channel and a Vault.

**What the card holds.** Block REG can only count down, whoever holds the key: REGA = points left of FFFFFFFF (spent = FFFFFFFF − REGA),
REGB one less with each debit, REGC a log of the last debit (terminal, time, kind). The *grant*, what the holder was ever given in total,
stands in S_PAD0 with an Ed25519 signature in S_PAD1-4, and once more in S_PAD5-9. Balance = granted − spent. A grant raises the total;
nothing ever raises REG. A terminal holds the card's key, and with that key it could write any grant with a valid MAC_A; it cannot make the
issuer's signature, which covers the card's IDm. So a stolen terminal cannot raise a real card's grant.

**What a reading costs.** Two exchanges: write a fresh challenge to RC; read REG, S_PAD0, WCNT and MAC_A. A grant that this terminal has
verified once (by rider and digest) is believed; an unknown one costs one more, for its signature (no MAC: it signs itself, and a Lite-S
reads four blocks at a time). Only when copy A is not a good grant is copy B read: two exchanges more, with MAC_A because there is room for
it. With poll, debit and verify that is 5, 6 and 8 exchanges. Copy A blank (all zero) is a card that was never granted anything, or one
whose first grant was interrupted before A; B decides. If B is no good either, A blank means "no points"; anything else is ``NoGoodGrant``.

**A debit** is one write of one block with MAC_A. It is never sent twice by this file: the card's answer to a write is not authenticated and
may be lost, so the only proof is a later reading.

**What a later reading says of a debit whose outcome is unknown** (``compare``). Let ``before`` be the counters as read, ``after`` as our
write would leave them, ``now`` as they are found, n = how far REGB fell since ``before``.

- The write was MAC'd for the write counter as read, so it can have been executed only as the *first* write after ``before``. If ours was
  done at all, it is the first of the n debits.
- n = 0: no debit happened. REGA and REGC must stand as they were: NOT_DONE. Else the block is torn or false.
- n = 1: exactly one debit happened, and REGC says whose. REG = after, byte for byte: DONE. Another log: that terminal's debit was the one
  and ours was not: OTHERS_NOT_OURS. Our log with another amount, the old log, or a log patched together from the old and ours (a torn block
  looks so; a later debit cannot, its time is later than both): NONSENSE.
- n ≥ 2: REGC belongs to the last; ours, if done, was the first and its log is gone. Our own log as the last is impossible: NONSENSE. The
  sum can still prove that ours was not done: with ours, at least points + (n − 1) have gone, because every debit takes a point or more.
  Less than that: OTHERS_NOT_OURS. Else it cannot be told here: OTHERS_UNSURE; the city compares the vehicles' ledgers.
- WCNT: a torn write may have stored the block and not counted, or counted and not stored; the two are independent. So WCNT alone neither
  proves nor disproves a debit, and DONE and NOT_DONE take WCNT +0 or +1. It also rises by one with each block that a desk writes (ten for a
  whole grant) without touching REG, so it may be *higher* by any amount. Lower than ``before`` is impossible, and so are more debits than
  counts, one torn count excepted.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from drivers import felica
from drivers.cards.lite_s import Block, version_bytes, write_mac_block
from drivers.channel import Channel, exchange_while
from drivers.errors import NotAuthentic
from drivers.felica import Written
from drivers.vault import CardSession, Challenge, GrantChecker, MacRead, Vault

FULL = 0xFFFFFFFF
"""Where REGA and REGB start."""

LAST_COUNT = 0xFFFE00
"""From this write counter on an issued card refuses every write with MAC (public descriptions of Lite-S)."""

GRANT_A = (Block.S_PAD0, (1, 2, 3, 4))
GRANT_B = (5, (6, 7, 8, 9))
"""The two copies of a grant: its block, and the four blocks of its signature."""

_BLANK = bytes(16)
_GRANT_VERSION = 1


class NoGoodGrant(NotAuthentic):
    """The card proved its key, but neither copy of its grant carries a good signature: for the desk to repair."""


# --- values -------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counters:
    """REGA, REGB (u32), REGC (8 bytes) and WCNT (u24), as the card has them or will have them."""

    rega: int
    regb: int
    regc: bytes
    wcnt: int

    @property
    def spent(self) -> int:
        """Points ever taken from this card."""
        return FULL - self.rega

    @property
    def debits(self) -> int:
        """Debits ever done on this card."""
        return FULL - self.regb

    def reg_block(self) -> bytes:
        """The 16 bytes of block REG: REGA, REGB u32 little endian, REGC."""
        return self.rega.to_bytes(4, "little") + self.regb.to_bytes(4, "little") + self.regc

    @staticmethod
    def parse(reg: bytes, wcnt: bytes) -> "Counters":
        """From the 16 bytes of REG and of WCNT (u24 little endian)."""
        return Counters(
            rega=int.from_bytes(reg[0:4], "little"),
            regb=int.from_bytes(reg[4:8], "little"),
            regc=reg[8:16],
            wcnt=int.from_bytes(wcnt[0:3], "little"),
        )


@dataclass(frozen=True, slots=True)
class RegLog:
    """What a debit leaves in REGC: terminal (u24), Unix time in seconds (u32), kind or zone (u8); big endian."""

    terminal: int
    time: int
    kind: int

    def block(self) -> bytes:
        """The 8 bytes of REGC."""
        return self.terminal.to_bytes(3, "big") + self.time.to_bytes(4, "big") + bytes((self.kind,))

    @staticmethod
    def parse(regc: bytes) -> "RegLog":
        """From the 8 bytes of REGC."""
        return RegLog(int.from_bytes(regc[0:3], "big"), int.from_bytes(regc[3:7], "big"), regc[7])


@dataclass(frozen=True, slots=True)
class Grant:
    """What a card was given in total, u32, by its grant number ``number`` (u16, from 1), for fiscal year ``fiscal_year`` (2000-2255)."""

    key_id: int
    fiscal_year: int
    total: int
    number: int

    def block(self) -> bytes:
        """The 16 bytes of S_PAD0: version, key id, year − 2000, total u32, number u16 (big endian), seven zeros."""
        head = bytes((_GRANT_VERSION, self.key_id, self.fiscal_year - 2000))
        return head + self.total.to_bytes(4, "big") + self.number.to_bytes(2, "big") + bytes(7)

    @property
    def digest(self) -> bytes:
        """The first 8 bytes of the SHA-256 of the grant block: how a terminal remembers it, and what an entry names."""
        return digest(self.block())

    @staticmethod
    def parse(block: bytes) -> "Grant | None":
        """The grant in a block of 16 bytes; None when it is not of this form."""
        if block[0] != _GRANT_VERSION or any(block[9:]):
            return None
        return Grant(
            key_id=block[1],
            fiscal_year=2000 + block[2],
            total=int.from_bytes(block[3:7], "big"),
            number=int.from_bytes(block[7:9], "big"),
        )


@dataclass(frozen=True, slots=True)
class PurseReading:
    """A purse as one tap found it; MAC_A checked, the grant's signature checked now or before.

    ``rider``: the pseudonym from the vault. ``grant``: None when nothing was ever granted. ``grant_known``: this terminal had verified the
    grant before; when False, remember (``rider``, ``grant.digest``). ``balance``: points, never below 0. ``damaged``: the counters
    contradict each other or are at their end; nothing may be debited. ``session`` belongs to this tap and ends with it.
    """

    rider: bytes
    counters: Counters
    grant: Grant | None
    grant_known: bool
    session: CardSession

    @property
    def granted(self) -> int:
        return self.grant.total if self.grant else 0

    @property
    def spent(self) -> int:
        return self.counters.spent

    @property
    def balance(self) -> int:
        return max(0, self.granted - self.spent)

    @property
    def damaged(self) -> bool:
        """More spent than granted, a debit that took nothing, more debits than the card counted writes, or no count left for another."""
        counters = self.counters
        contradictory = counters.spent > self.granted or counters.debits > counters.spent or counters.debits > counters.wcnt
        return contradictory or counters.wcnt >= LAST_COUNT


class Outcome(Enum):
    """What a later reading says of a debit whose outcome was unknown; the reasoning opens this file."""

    NOT_DONE = "not done: the purse is as it was"
    DONE = "done: the purse is as our write would leave it"
    OTHERS_NOT_OURS = "not done, proven; another terminal debited since"
    OTHERS_UNSURE = "other terminals debited since; it cannot be told here"
    NONSENSE = "no genuine card can come to this"


# --- the tap ------------------------------------------------------------------------------------------------------------------------------


def _nothing() -> None:
    pass


def read(
    channel: Channel,
    vault: Vault,
    grants: GrantChecker,
    known: Callable[[bytes, bytes], bool],
    random: Callable[[int], bytes],
    *,
    meanwhile: Callable[[], None] = _nothing,
) -> PurseReading:
    """Prove the card and read its purse: 2 exchanges; 3 at the first sight of a grant; 5 at most, when copy A is torn.

    ``known(rider, digest)``: has this terminal verified that grant before? ``random(n)``: n bytes that nobody can guess, the challenge.
    ``meanwhile``: what the caller has to do anyway, done once while the card stores the challenge; it must be short, and what it raises is
    raised. Raises ``CardLost``, ``CardRefused``, ``MalformedReply``, ``ReaderLost``; ``NotAuthentic`` when no card key fits; its kind
    ``NoGoodGrant`` when a key fits and no copy of the grant is signed.
    """
    session, first = prove(channel, vault, random, (Block.REG, Block.S_PAD0, Block.WCNT), meanwhile)
    reg, block_a, wcnt = first.data[0:16], first.data[16:32], first.data[32:48]
    rider = vault.rider(channel.idm)
    finder = _GrantFinder(channel, session, grants, lambda block: known(rider, digest(block)))
    grant, was_known = finder.find(block_a)
    return PurseReading(rider, Counters.parse(reg, wcnt), grant, was_known, session)


def prove(
    channel: Channel,
    vault: Vault,
    random: Callable[[int], bytes],
    blocks: tuple[int, ...],
    meanwhile: Callable[[], None] = _nothing,
) -> tuple[CardSession, MacRead]:
    """Open a session over up to three blocks: 2 exchanges. Raises what ``read`` raises, but for ``NoGoodGrant``."""
    rc = random(16)
    challenges: list[Challenge] = []

    def work() -> None:
        meanwhile()
        challenges.append(vault.challenge(channel.idm, rc))

    challenged = exchange_while(channel, felica.write_blocks(channel.idm, (Block.RC,), rc), work)
    felica.parse_write(challenged, channel.idm)
    first = read_with_mac(channel, blocks)
    return challenges[0].proven_by(first), first


def debited(reading: PurseReading, points: int, log: RegLog) -> Counters:
    """The counters as a debit of ``points`` (1 to the balance) will leave them; nothing is sent. Another amount is a ``ValueError``."""
    if not 1 <= points <= reading.balance:
        raise ValueError("a debit takes at least one point and at most the balance")
    before = reading.counters
    return Counters(before.rega - points, before.regb - 1, log.block(), before.wcnt + 1)


def debit(channel: Channel, reading: PurseReading, points: int, log: RegLog) -> Written:
    """Send the debit once: one exchange. Only ``verify`` proves it.

    ``CardLost`` and ``MalformedReply`` leave its outcome unknown. So does ``CardRefused``: the answer to a write is not authenticated.
    """
    data = debited(reading, points, log).reg_block()
    return write_with_mac(channel, reading.session, Block.REG, data, reading.counters.wcnt)


def verify(channel: Channel, reading: PurseReading, *, meanwhile: Callable[[], None] = _nothing) -> Counters:
    """The counters as they are now, MAC_A checked in the same session: one exchange. ``meanwhile`` and errors as in ``read``."""
    found = read_with_mac(channel, (Block.REG, Block.WCNT), meanwhile)
    reading.session.check(found)
    return Counters.parse(found.data[0:16], found.data[16:32])


# --- what a reading proves ----------------------------------------------------------------------------------------------------------------


def compare(before: Counters, after: Counters, now: Counters) -> Outcome:
    """What ``now`` says of the debit that would turn ``before`` into ``after``; the reasoning opens this file."""
    debits = before.regb - now.regb
    taken = before.rega - now.rega
    counted = now.wcnt - before.wcnt
    if counted < 0 or not 0 <= debits <= counted + 1 or taken < debits:
        return Outcome.NONSENSE
    if debits == 0:
        return Outcome.NOT_DONE if taken == 0 and now.regc == before.regc else Outcome.NONSENSE
    if debits == 1:
        return _compare_one(before, after, now)
    if now.regc == after.regc:
        return Outcome.NONSENSE
    least_with_ours = before.rega - after.rega + debits - 1
    return Outcome.OTHERS_NOT_OURS if taken < least_with_ours else Outcome.OTHERS_UNSURE


def _compare_one(before: Counters, after: Counters, now: Counters) -> Outcome:
    if now.regc == after.regc:
        return Outcome.DONE if now.rega == after.rega else Outcome.NONSENSE
    return Outcome.NONSENSE if _is_patched(now.regc, before.regc, after.regc) else Outcome.OTHERS_NOT_OURS


def _is_patched(log: bytes, old: bytes, new: bytes) -> bool:
    return any(log in (new[:cut] + old[cut:], old[:cut] + new[cut:]) for cut in range(len(old)))


def contradiction(seen: Iterable[Counters]) -> tuple[Counters, Counters] | None:
    """Two of these readings that no single genuine card can have shown, or None. All must be of one rider, in any order, from any ledgers.

    A genuine REG only falls. So the readings, sorted by falling REGB, are a story in time: the same REGB is the same block; a lower REGB
    means that each debit between took a point or more, and that WCNT did not fall. Whoever imitates a card with its key starts from a REG
    of their own, and sooner or later shows a REGB that the real card shows too, with another log.
    """
    told = sorted(seen, key=lambda counters: (-counters.regb, counters.wcnt))
    for earlier, later in pairwise(told):
        if not _may_follow(earlier, later):
            return earlier, later
    return None


def _may_follow(earlier: Counters, later: Counters) -> bool:
    if earlier.regb == later.regb:
        return earlier.reg_block() == later.reg_block()
    return earlier.rega - later.rega >= earlier.regb - later.regb and later.wcnt >= earlier.wcnt


# --- a grant ------------------------------------------------------------------------------------------------------------------------------


def digest(block: bytes) -> bytes:
    """The first 8 bytes of the SHA-256 of a block."""
    return hashlib.sha256(block).digest()[:8]


def grant_message(idm: bytes, key_version: int, block: bytes) -> bytes:
    """What an issuer signs: ``'kazashi grant 1'`` ‖ IDm ‖ the two bytes of block CKV ‖ the grant block."""
    return b"kazashi grant 1" + idm + version_bytes(key_version) + block


def signed_grant(grants: GrantChecker, idm: bytes, key_version: int, block: bytes, signature: bytes) -> Grant | None:
    """The grant in ``block`` when its 64-byte signature fits this card; None otherwise."""
    grant = Grant.parse(block)
    if grant is None:
        return None
    try:
        grants.check(grant.key_id, signature, grant_message(idm, key_version, block))
    except NotAuthentic:
        return None
    return grant


@dataclass(frozen=True, slots=True)
class _GrantFinder:
    channel: Channel
    session: CardSession
    grants: GrantChecker
    is_known: Callable[[bytes], bool]

    def find(self, block_a: bytes) -> tuple[Grant | None, bool]:
        """The grant that counts, and whether this terminal had verified it before."""
        grant, was_known = self._copy_a(block_a)
        if grant is None:
            grant, was_known = self._copy_b()
        if grant is None and block_a != _BLANK:
            raise NoGoodGrant("the card's grant carries no good signature")
        return grant, was_known

    def _copy_a(self, block: bytes) -> tuple[Grant | None, bool]:
        grant = Grant.parse(block)
        if grant is None or self.is_known(block):
            return grant, grant is not None
        return self._checked(block, read_plain(self.channel, GRANT_A[1])), False

    def _copy_b(self) -> tuple[Grant | None, bool]:
        head = self._read((5, 6, 7))
        block = head[0:16]
        grant = Grant.parse(block)
        if grant is None or self.is_known(block):
            return grant, grant is not None
        return self._checked(block, head[16:48] + self._read((8, 9))), False

    def _read(self, blocks: tuple[int, ...]) -> bytes:
        found = read_with_mac(self.channel, blocks)
        self.session.check(found)
        return found.data

    def _checked(self, block: bytes, signature: bytes) -> Grant | None:
        return signed_grant(self.grants, self.channel.idm, self.session.key_version, block, signature)


# --- one exchange each --------------------------------------------------------------------------------------------------------------------


def read_plain(channel: Channel, blocks: tuple[int, ...], meanwhile: Callable[[], None] = _nothing) -> bytes:
    """The data of up to four blocks, not authenticated."""
    reply = exchange_while(channel, felica.read_blocks(channel.idm, blocks), meanwhile)
    return felica.parse_read(reply, channel.idm, len(blocks))


def read_with_mac(channel: Channel, blocks: tuple[int, ...], meanwhile: Callable[[], None] = _nothing) -> MacRead:
    """Up to three blocks and their MAC_A, which is *not* checked here."""
    data = read_plain(channel, (*blocks, Block.MAC_A), meanwhile)
    return MacRead(blocks, data[:-16], data[-16:-8])


def write_with_mac(channel: Channel, session: CardSession, block: int, data: bytes, wcnt: int) -> Written:
    """Write one block with MAC_A at write counter ``wcnt``; sent once."""
    mac_block = write_mac_block(session.mac_write(block, data, wcnt), wcnt)
    reply = channel.exchange(felica.write_blocks(channel.idm, (block, Block.MAC_A), data + mac_block))
    return felica.parse_write(reply, channel.idm)
