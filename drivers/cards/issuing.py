"""Issue a card and grant points to it. The desk's; never in a vehicle's image. Pure over a Channel and the desk's vault.

**Issuing** follows the order that card makers give (look, ID, CK, prove CK, CKV, user blocks, MC, field off, prove all), and a person may
pull the card away at any step. So nothing is remembered outside the card: ``issue`` looks at the card and does what is missing, and running
it again completes it or says what is wrong. A block that already holds what it should is not written: a blank card has only 511 counted
writes until its first issuance. MC is the last write, because it locks the rest; it takes effect when the field goes, so the person lifts
the card and lays it down again, and only then the card is proven and called ready. REG is never written here: it leaves the factory full,
and no card is issued whose REG says otherwise.

**Granting** raises the total in both copies: B whole, then A whole, five writes each. Whenever a write is torn, one copy still carries a
good signature and counts. Two rules keep that true at each step of each repetition: the copy that counts is never overwritten while it is
the only one, and the higher total wins. A grant is done once per card and fiscal year, and a correction once per grant number, whoever runs
it how often: the card itself says which it has. The amount is not decided here; it follows from the ledgers (used last fiscal year), never
from what is left on the card.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from drivers import felica
from drivers.cards.lite_s import COUNTER_LIMIT, Block, MemoryConfiguration, version_bytes
from drivers.cards.purse import (
    Counters,
    Grant,
    NoGoodGrant,
    grant_message,
    prove,
    read_plain,
    read_with_mac,
    signed_grant,
    write_with_mac,
)
from drivers.channel import Channel
from drivers.errors import CardError, NotAuthentic
from drivers.vault import CardSession, GrantChecker, Keys, Vault

PURSE_BLOCKS = 0x43FF
"""S_PAD0-9 and REG, as bits of a map in MC."""

FIRST_ISSUE = MemoryConfiguration(open_system=False, keys_with_mac=True, write_needs_mac=PURSE_BLOCKS, state_needs_mac=True)
"""``FF FF 00 00 07 01 00 00 00 00 FF 43 01 00 00 00``: purse blocks and STATE take a MAC, keys may be rotated, everything may be read."""

SECOND_ISSUE = MemoryConfiguration(
    writable=0x7FFF, open_system=False, keys_with_mac=True, write_needs_mac=PURSE_BLOCKS, state_needs_mac=True
)
"""The same, with the bit maps frozen."""

_FULL_REG = b"\xff" * 8
_LAST_BLANK_COUNT = 0xFFFFFF - 32
_COPY_SIZE = 80


class NotIssuable(CardError):
    """This card cannot be issued or granted; the message says why, to the person at the desk."""


class Random(Protocol):
    """n bytes that nobody can guess."""

    def __call__(self, size: int, /) -> bytes: ...


class Desk(Vault, Keys, Protocol):
    """A desk's vault: it opens sessions, and it has the keys that no vehicle holds."""


# --- issuing ------------------------------------------------------------------------------------------------------------------------------


class Step(Enum):
    """What has just been done or found done."""

    LOOKED = "the card was looked at"
    IDENTITY = "its identity block is written"
    KEY = "its key is written and proven"
    KEY_VERSION = "its key version is written"
    BLOCKS = "its purse is empty and its register full"
    LOCKED = "its memory is locked"
    AUTHENTICATED = "card and desk have proven themselves to each other"
    FROZEN = "its layout is frozen"


class Issued(Enum):
    """How far ``issue`` came."""

    LAY_AGAIN = "lift the card and lay it down again"
    READY = "the card is ready"


Issuing = Generator[Step, None, Issued]
"""A card being issued: yields each step, and its value says how far it came."""


def issue(channel: Channel, desk: Desk, random: Random, key_version: int, *, freeze: bool = False) -> Issuing:
    """Do what is missing for this card to be issued, and yield each step; the generator's value says whether to go on with the card laid
    anew.

    ``freeze``: the second issuance too, after which the layout can never change. Raises ``NotIssuable``, ``CardLost`` (run it again),
    ``CardRefused``, ``MalformedReply``, and ``drivers.cards.lite_s.WeakCardKey`` (take another card).
    """
    configuration = look(channel)
    yield Step.LOOKED
    if configuration.open_system:
        yield from _first_issue(channel, desk, random, key_version)
        return Issued.LAY_AGAIN
    if configuration not in {FIRST_ISSUE, SECOND_ISSUE}:
        raise NotIssuable("the card is locked with a memory configuration that is not ours; it cannot be issued again, take another card")
    _authenticate(channel, desk, random)
    yield Step.AUTHENTICATED
    if freeze and not configuration.frozen:
        _write(channel, Block.MC, SECOND_ISSUE.block())
        yield Step.FROZEN
        return Issued.LAY_AGAIN
    return Issued.READY


def look(channel: Channel) -> MemoryConfiguration:
    """How far a card's issuing is, from its memory configuration: one exchange; ``NotIssuable`` when it is no Lite-S of one piece."""
    data = read_plain(channel, (Block.D_ID, Block.SYS_C, Block.MC))
    if data[0:8] != channel.idm:
        raise NotIssuable("the card's own number differs from the one it answers to; take another card")
    if data[16:18] != felica.LITE_S_SYSTEM.to_bytes(2, "big"):
        raise NotIssuable("this is not a FeliCa Lite-S card")
    return MemoryConfiguration.parse(data[32:48])


def _first_issue(channel: Channel, desk: Desk, random: Random, key_version: int) -> Generator[Step]:
    _refuse_used(channel)
    _put(channel, Block.ID, channel.idm + bytes(8))
    yield Step.IDENTITY
    _put_key(channel, desk, random, key_version)
    yield Step.KEY
    _put(channel, Block.CKV, version_bytes(key_version) + bytes(14))
    yield Step.KEY_VERSION
    for block in range(10):
        _put(channel, block, bytes(16))
    yield Step.BLOCKS
    _write(channel, Block.MC, FIRST_ISSUE.block())
    yield Step.LOCKED


def _refuse_used(channel: Channel) -> None:
    data = read_plain(channel, (Block.REG, Block.WCNT))
    if data[0:8] != _FULL_REG:
        raise NotIssuable("the card's register has been counted down before; it can never be full again, take another card")
    if int.from_bytes(data[16:19], "little") > _LAST_BLANK_COUNT:
        raise NotIssuable("the blank card has been written too often to be issued; take another card")


def _put_key(channel: Channel, desk: Desk, random: Random, key_version: int) -> None:
    key = desk.card_key(channel.idm, key_version)
    if _holds_key(channel, desk, random, key_version):
        return
    _write(channel, Block.CK, key)
    if not _holds_key(channel, desk, random, key_version):
        raise NotIssuable("the card does not answer with the key that was written; take another card")


def _holds_key(channel: Channel, desk: Desk, random: Random, key_version: int) -> bool:
    try:
        session, _ = prove(channel, desk, random, (Block.ID,))
    except NotAuthentic:
        return False
    return session.key_version == key_version


def _authenticate(channel: Channel, desk: Desk, random: Random) -> None:
    """Both ways: the card's MAC_A proves the card, the write of STATE proves the desk, and nothing is debited."""
    session, first = prove(channel, desk, random, (Block.ID, Block.CKV, Block.WCNT))
    if first.data[0:8] != channel.idm or first.data[16:18] != version_bytes(session.key_version):
        raise NotIssuable("the card's identity or key version block is not as issued; take another card")
    wcnt = int.from_bytes(first.data[32:35], "little")
    if wcnt >= COUNTER_LIMIT:
        raise NotIssuable("the card's write counter did not restart when it was locked; no debit could be written, take another card")
    write_with_mac(channel, session, Block.STATE, b"\x01" + bytes(15), wcnt)
    state = read_with_mac(channel, (Block.STATE,))
    session.check(state)
    if state.data[0] != 1:
        raise NotIssuable("the card did not accept the desk's authentication; lift it and lay it down again")


def _put(channel: Channel, block: int, data: bytes) -> None:
    """Have ``block`` hold ``data``: write it unless it does, and read it back."""
    if read_plain(channel, (block,)) == data:
        return
    _write(channel, block, data)
    if read_plain(channel, (block,)) != data:
        raise NotIssuable(f"block {block:02X} does not hold what was written; take another card")


def _write(channel: Channel, block: int, data: bytes) -> None:
    felica.parse_write(channel.exchange(felica.write_blocks(channel.idm, (block,), data)), channel.idm)


# --- granting -----------------------------------------------------------------------------------------------------------------------------


class Delivery(Enum):
    """What ``grant`` had to do."""

    WRITTEN = "the grant is on the card now"
    ALREADY = "the card had this grant already; nothing was written"
    REPAIRED = "the card had this grant already; its torn copy is whole again"


@dataclass(frozen=True, slots=True)
class Granted:
    """The end of a grant: what was done, the grant that now counts, the balance in points."""

    delivery: Delivery
    grant: Grant
    balance: int


def grant(channel: Channel, desk: Desk, grants: GrantChecker, random: Random, *, key_id: int, fiscal_year: int, points: int) -> Granted:
    """Give ``points`` (1 or more) for ``fiscal_year``, once; run it again after a pulled card.

    Raises ``NotIssuable``; ``NoGoodGrant`` when both copies are bad (``restore`` is the way out); ``NotAuthentic`` and card errors as
    ``purse.read``.
    """

    def wanted(best: Grant | None) -> Grant:
        if best is None:
            return Grant(key_id, fiscal_year, points, 1)
        if best.fiscal_year > fiscal_year:
            raise NotIssuable(f"the card already holds the grant of fiscal year {best.fiscal_year}; an earlier year cannot follow")
        if best.fiscal_year == fiscal_year:
            return best
        return Grant(key_id, fiscal_year, best.total + points, best.number + 1)

    return _deliver(channel, desk, grants, random, wanted)


def correct(channel: Channel, desk: Desk, grants: GrantChecker, random: Random, *, key_id: int, number: int, points: int) -> Granted:
    """Give ``points`` more within the last grant's fiscal year, as grant ``number`` (the last one's plus 1), once; errors as ``grant``."""

    def wanted(best: Grant | None) -> Grant:
        if best is None or number > best.number + 1:
            raise NotIssuable(f"grant {number} cannot follow: the card holds {best.number if best else 'none'}")
        return best if number <= best.number else Grant(key_id, best.fiscal_year, best.total + points, number)

    return _deliver(channel, desk, grants, random, wanted)


def restore(channel: Channel, desk: Desk, grants: GrantChecker, random: Random, from_ledger: Grant) -> Granted:
    """Write the grant that the ledgers say the card had: for a card whose copies are both bad, or lower than the ledgers know."""

    def wanted(best: Grant | None) -> Grant:
        return best if best is not None and best.total >= from_ledger.total else from_ledger

    return _deliver(channel, desk, grants, random, wanted, accept_none=True)


@dataclass(frozen=True, slots=True)
class _Copy:
    """One copy as found: its first block, its 80 bytes, and the grant when its signature is good."""

    first: int
    data: bytes
    grant: Grant | None


@dataclass(frozen=True, slots=True)
class _Opened:
    session: CardSession
    counters: Counters
    copy_a: _Copy
    copy_b: _Copy

    @property
    def best(self) -> _Copy:
        """The copy that counts; copy A when neither is good."""
        return max(self.copy_a, self.copy_b, key=lambda copy: (copy.grant.total, copy.grant.number) if copy.grant else (-1, 0))

    @property
    def untouched(self) -> bool:
        """Never granted, or the first grant was torn before copy A was begun."""
        return not any(self.copy_a.data)


def _open(channel: Channel, desk: Desk, grants: GrantChecker, random: Random) -> _Opened:
    session, first = prove(channel, desk, random, (Block.REG, Block.S_PAD0, Block.WCNT))
    pads = first.data[16:32]
    for blocks in ((1, 2, 3), (4, 5, 6), (7, 8, 9)):
        found = read_with_mac(channel, blocks)
        session.check(found)
        pads += found.data

    def copy(first_block: int, data: bytes) -> _Copy:
        return _Copy(first_block, data, signed_grant(grants, channel.idm, session.key_version, data[:16], data[16:]))

    counters = Counters.parse(first.data[0:16], first.data[32:48])
    return _Opened(session, counters, copy(0, pads[:_COPY_SIZE]), copy(5, pads[_COPY_SIZE:]))


def _deliver(
    channel: Channel,
    desk: Desk,
    grants: GrantChecker,
    random: Random,
    wanted: Callable[[Grant | None], Grant],
    *,
    accept_none: bool = False,
) -> Granted:
    opened = _open(channel, desk, grants, random)
    best = opened.best
    if best.grant is None and not opened.untouched and not accept_none:
        raise NoGoodGrant("neither copy of the card's grant carries a good signature; restore it from the ledgers")
    goal = wanted(best.grant)
    _refuse_damaged(opened.counters, goal)
    if goal == best.grant:
        data, writes = best.data, [copy.first for copy in (opened.copy_b, opened.copy_a) if copy.data != best.data]
        delivery = Delivery.REPAIRED if writes else Delivery.ALREADY
    else:
        data, writes = _signed(channel, desk, opened.session.key_version, goal), [5, 0]
        delivery = Delivery.WRITTEN
    plan = [(first, data) for first in writes]
    if delivery is Delivery.WRITTEN and best is opened.copy_b:
        # Copy B is the one that counts and is about to be overwritten: have it in A first.
        plan.insert(0, (0, best.data))
    _write_copies(channel, opened, plan)
    if plan:
        _check_both(_open(channel, desk, grants, random), data)
    return Granted(delivery, goal, goal.total - opened.counters.spent)


def _refuse_damaged(counters: Counters, goal: Grant) -> None:
    if counters.spent > goal.total or counters.debits > counters.spent:
        raise NotIssuable("the card's counters contradict its grant; take a new card and settle the old one from the ledgers")
    if goal.total > 0xFFFFFFFF or goal.number > 0xFFFF:
        raise NotIssuable("the card has had all the grants it can hold; take a new card")


def _signed(channel: Channel, desk: Desk, key_version: int, goal: Grant) -> bytes:
    block = goal.block()
    return block + desk.sign_grant(goal.key_id, grant_message(channel.idm, key_version, block))


def _write_copies(channel: Channel, opened: _Opened, plan: list[tuple[int, bytes]]) -> None:
    wcnt = opened.counters.wcnt
    for first, data in plan:
        for at in range(5):
            write_with_mac(channel, opened.session, first + at, data[at * 16 : at * 16 + 16], wcnt)
            wcnt += 1


def _check_both(opened: _Opened, data: bytes) -> None:
    if opened.copy_a.data != data or opened.copy_b.data != data:
        raise NotIssuable("the card does not hold the grant that was written; lay it down again and repeat")
