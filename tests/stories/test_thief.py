"""A thief has a terminal's whole disk. What can they do with it, and what can they not?

They have the card keys (``vault_file`` is weak and says so), every ledger entry and every grant that the terminal ever verified. They do
not have the issuer's private key, and they have no genuine chip whose register counts up.
"""

from pathlib import Path

import pytest

from drivers.cards import issuing, purse
from drivers.cards.purse import Counters, Grant, NoGoodGrant, PurseReading, RegLog, contradiction
from drivers.emulated.held_card import HeldCard
from drivers.emulated.lite_s_card import LiteSCard, Memory, blank
from drivers.errors import CardRefused, NotAuthentic
from drivers.vault_file import DeskVaultFile, VaultFile, VaultFileRefused, demo_keys, write_keys

IDM = bytes.fromhex("012E000000000077")
OTHER_IDM = bytes.fromhex("012E000000000078")
TOWN = demo_keys(7)
DESK = DeskVaultFile(TOWN)
REG = 0x0E


def challenge(size: int) -> bytes:
    return bytes(range(size))


def riders_card(idm: bytes = IDM) -> HeldCard:
    """A rider's card: issued at the desk, 2,000 points."""
    held = HeldCard(blank(idm))
    for _ in range(2):
        list(issuing.issue(held, DESK, challenge, 1))
        held.lay_again()
    issuing.grant(held, DESK, DESK.grants, challenge, key_id=1, fiscal_year=2026, points=2000)
    return held


@pytest.fixture
def stolen(tmp_path: Path) -> VaultFile:
    """The vault in a thief's hands: everything that stood on a bus's disk."""
    write_keys(tmp_path / "bus.toml", TOWN.for_terminal(bytes(32)))
    return VaultFile.open(tmp_path / "bus.toml")


class Bus:
    """An honest bus: it remembers the grants it verified, and writes each debit's counters into its ledger."""

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal
        self.vault = VaultFile(TOWN.for_terminal(bytes((terminal,)) * 32))
        self.verified: set[tuple[bytes, bytes]] = set()
        self.ledger: dict[bytes, list[Counters]] = {}

    def read(self, card: HeldCard) -> PurseReading:
        reading = purse.read(card, self.vault, self.vault.grants, lambda rider, digest: (rider, digest) in self.verified, challenge)
        if reading.grant:
            self.verified.add((reading.rider, reading.grant.digest))
        return reading

    def tap(self, card: HeldCard, points: int, time: int) -> None:
        reading = self.read(card)
        purse.debit(card, reading, points, RegLog(self.terminal, time, 1))
        self.ledger.setdefault(reading.rider, []).extend((reading.counters, purse.verify(card, reading)))


def write_grant(card: HeldCard, stolen: VaultFile, grant: Grant, signature: bytes) -> None:
    """What the thief's program does: a grant in both copies, each block with a valid MAC_A."""
    reading = purse.read(card, stolen, stolen.grants, lambda _rider, _digest: True, challenge)
    copy = grant.block() + signature
    for at in range(10):
        purse.write_with_mac(card, reading.session, at, (copy * 2)[at * 16 : at * 16 + 16], reading.counters.wcnt + at)


def test_the_thief_can_read_and_debit_a_real_card_which_is_why_the_file_is_called_weak(stolen: VaultFile) -> None:
    card = riders_card()
    reading = purse.read(card, stolen, stolen.grants, lambda _rider, _digest: False, challenge)
    purse.debit(card, reading, 2000, RegLog(666, 1, 1))
    assert Bus(1).read(card).balance == 0


def test_a_higher_grant_with_a_valid_mac_is_refused_on_every_other_bus(stolen: VaultFile) -> None:
    card = riders_card()
    write_grant(card, stolen, Grant(1, 2027, 999_999, 2), bytes(64))
    with pytest.raises(NoGoodGrant):
        Bus(1).read(card)


def test_a_higher_grant_signed_with_what_the_disk_holds_is_refused(stolen: VaultFile) -> None:
    card, grant = riders_card(), Grant(1, 2027, 999_999, 2)
    write_grant(card, stolen, grant, stolen.sign(purse.grant_message(IDM, 1, grant.block())))
    with pytest.raises(NoGoodGrant):
        Bus(1).read(card)


def test_a_bus_that_verified_the_real_grant_does_not_take_the_raised_one_for_it(stolen: VaultFile) -> None:
    card, bus = riders_card(), Bus(1)
    assert bus.read(card).balance == 2000
    write_grant(card, stolen, Grant(1, 2026, 999_999, 1), bytes(64))
    with pytest.raises(NoGoodGrant):
        bus.read(card)


def test_a_rich_riders_grant_copied_to_the_thiefs_own_card_is_refused(stolen: VaultFile) -> None:
    rich, own = riders_card(), riders_card(OTHER_IDM)
    issuing.grant(rich, DESK, DESK.grants, challenge, key_id=1, fiscal_year=2027, points=2000)
    blocks = rich.card.memory.blocks
    grant = Grant.parse(blocks[0])
    assert grant is not None
    write_grant(own, stolen, grant, b"".join(blocks[at] for at in range(1, 5)))
    with pytest.raises(NoGoodGrant):
        Bus(1).read(own)


def test_a_real_cards_register_cannot_be_wound_back_with_any_key(stolen: VaultFile) -> None:
    card, bus = riders_card(), Bus(1)
    bus.tap(card, 300, time=1)
    reading = purse.read(card, stolen, stolen.grants, lambda _rider, _digest: True, challenge)
    for rewound in (b"\xff" * 16, reading.counters.reg_block()[:4] + b"\xff" * 12):
        with pytest.raises(CardRefused):
            purse.write_with_mac(card, reading.session, REG, rewound, reading.counters.wcnt)
    assert bus.read(card).balance == 1700


def imitation(victim: HeldCard, stolen: VaultFile, reg: bytes) -> HeldCard:
    """A chip of the thief's own making with the victim's number, key and grant, and a register of their choice."""
    assert stolen.rider(victim.idm)
    memory = victim.card.memory
    return HeldCard(LiteSCard(Memory({**memory.blocks, REG: reg}, memory.wcnt)))


def test_an_imitated_card_rides_until_two_ledgers_are_joined_and_then_it_is_named(stolen: VaultFile) -> None:
    """The number of this law is in docs/security.md: what it can cost until the next upload."""
    victim, first, second = riders_card(), Bus(1), Bus(2)
    first.tap(victim, 300, time=1)
    fake = imitation(victim, stolen, reg=b"\xff" * 16)
    second.tap(fake, 150, time=2)
    first.tap(victim, 100, time=3)
    rider = first.vault.rider(IDM)
    assert contradiction(first.ledger[rider]) is None, "one bus alone sees nothing"
    assert contradiction(second.ledger[rider]) is None
    found = contradiction(first.ledger[rider] + second.ledger[rider])
    assert found is not None
    assert found[0].regb == found[1].regb, "two registers counted the same debit"


def test_an_imitation_that_goes_on_from_the_real_count_is_named_at_the_real_cards_next_ride(stolen: VaultFile) -> None:
    victim, first, second = riders_card(), Bus(1), Bus(2)
    first.tap(victim, 300, time=1)
    fake = imitation(victim, stolen, reg=victim.card.memory.blocks[REG])
    second.tap(fake, 150, time=2)
    rider = first.vault.rider(IDM)
    assert contradiction(first.ledger[rider] + second.ledger[rider]) is None
    first.tap(victim, 150, time=3)
    assert contradiction(first.ledger[rider] + second.ledger[rider]) is not None


def test_honest_riders_on_two_buses_are_never_named() -> None:
    card, first, second = riders_card(), Bus(1), Bus(2)
    for ride in range(12):
        (first, second)[ride % 2].tap(card, 100 + ride, time=ride)
    rider = first.vault.rider(IDM)
    assert contradiction(first.ledger[rider] + second.ledger[rider]) is None


def test_the_disk_holds_no_desk(tmp_path: Path) -> None:
    write_keys(tmp_path / "bus.toml", TOWN.for_terminal(bytes(32)))
    with pytest.raises(VaultFileRefused, match="terminal's key file"):
        DeskVaultFile.open(tmp_path / "bus.toml")


def test_when_the_town_has_new_keys_the_stolen_ones_open_no_card_issued_since(stolen: VaultFile) -> None:
    new_town = DeskVaultFile(demo_keys(8))
    card = HeldCard(blank(IDM))
    for _ in range(2):
        list(issuing.issue(card, new_town, challenge, 1))
        card.lay_again()
    with pytest.raises(NotAuthentic):
        purse.read(card, stolen, stolen.grants, lambda _rider, _digest: True, challenge)
