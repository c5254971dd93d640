"""Issuing and granting at the desk, on a twin card that may be pulled away at any step."""

from collections.abc import Generator

import pytest

from drivers.cards import issuing, lite_s, purse
from drivers.cards.issuing import Delivery, Issued, NotIssuable, Step
from drivers.cards.lite_s import MemoryConfiguration
from drivers.cards.purse import Grant
from drivers.emulated.held_card import HeldCard
from drivers.emulated.lite_s_card import Faults, LiteSCard, Tear, Torn
from drivers.errors import CardError, CardLost, CardRefused, NotAuthentic
from drivers.vault_file import DeskVaultFile, VaultFile, demo_keys

MC, CK, REG, WCNT_LIMIT = 0x88, 0x87, 0x0E, 0xFFFFFF


def finish(steps: Generator[Step, None, Issued]) -> tuple[list[Step], Issued]:
    done: list[Step] = []
    while True:
        try:
            done.append(next(steps))
        except StopIteration as end:
            return done, end.value


def challenge(size: int) -> bytes:
    return bytes(range(size))


def read_total(card: HeldCard, vault: VaultFile) -> int:
    card.lay_again()
    return purse.read(card, vault, vault.grants, lambda _rider, _digest: False, challenge).granted


def test_a_blank_card_is_issued_in_two_layings(blank_card: HeldCard, desk: DeskVaultFile) -> None:
    steps, end = finish(issuing.issue(blank_card, desk, challenge, 1))
    assert steps == [Step.LOOKED, Step.IDENTITY, Step.KEY, Step.KEY_VERSION, Step.BLOCKS, Step.LOCKED]
    assert end is Issued.LAY_AGAIN
    blank_card.lay_again()
    assert finish(issuing.issue(blank_card, desk, challenge, 1)) == ([Step.LOOKED, Step.AUTHENTICATED], Issued.READY)
    assert blank_card.card.memory.blocks[MC] == bytes.fromhex("FFFF0000070100000000FF4301000000")
    assert blank_card.card.memory.blocks[CK] == desk.card_key(blank_card.idm, 1)
    assert blank_card.card.memory.blocks[REG] == b"\xff" * 16, "the register leaves the desk full"


def test_a_card_may_be_pulled_at_every_command_of_being_issued_and_laying_it_again_completes_it(
    desk: DeskVaultFile, blank_card: HeldCard
) -> None:
    factory = blank_card.card.memory
    finish(issuing.issue(blank_card, desk, challenge, 1))
    commands = len(blank_card.heard)
    for pulled_at in range(commands):
        for fault in (Faults(removed_at=20), Faults(lifted=True, answer_lost=True)):
            held = HeldCard(LiteSCard(factory))
            held.card.plan([Faults()] * pulled_at + [fault])
            with pytest.raises(CardLost):
                finish(issuing.issue(held, desk, challenge, 1))
            for _ in range(3):
                held.lay_again()
                _, end = finish(issuing.issue(held, desk, challenge, 1))
                if end is Issued.READY:
                    break
            assert end is Issued.READY, f"pulled at command {pulled_at}"
            assert held.card.memory.wcnt < 10, "locking restarted the write counter"


def test_a_second_try_writes_only_what_is_missing(blank_card: HeldCard, desk: DeskVaultFile) -> None:
    steps = issuing.issue(blank_card, desk, challenge, 1)
    for wanted in (Step.LOOKED, Step.IDENTITY, Step.KEY, Step.KEY_VERSION, Step.BLOCKS):
        assert next(steps) is wanted
    written = blank_card.card.memory.wcnt
    blank_card.lay_again()
    steps = issuing.issue(blank_card, desk, challenge, 1)
    for _ in range(5):
        next(steps)
    assert blank_card.card.memory.wcnt == written


def test_a_card_is_frozen_only_when_asked_and_stays_usable(issued_card: HeldCard, desk: DeskVaultFile) -> None:
    steps, end = finish(issuing.issue(issued_card, desk, challenge, 1, freeze=True))
    assert (steps[-1], end) == (Step.FROZEN, Issued.LAY_AGAIN)
    issued_card.lay_again()
    assert finish(issuing.issue(issued_card, desk, challenge, 1, freeze=True)) == ([Step.LOOKED, Step.AUTHENTICATED], Issued.READY)
    assert MemoryConfiguration.parse(issued_card.card.memory.blocks[MC]).frozen
    assert issuing.grant(issued_card, desk, desk.grants, challenge, key_id=1, fiscal_year=2026, points=100).balance == 100


def test_a_card_whose_register_was_used_is_never_issued(blank_card: HeldCard, desk: DeskVaultFile) -> None:
    blank_card.card.rewrite(REG, b"\xfe" + b"\xff" * 15)
    with pytest.raises(NotIssuable, match="register"):
        finish(issuing.issue(blank_card, desk, challenge, 1))


def test_a_blank_card_with_too_few_writes_left_is_not_begun(blank_card: HeldCard, desk: DeskVaultFile) -> None:
    blank_card.card.set_wcnt(WCNT_LIMIT - 5)
    with pytest.raises(NotIssuable, match="too often"):
        finish(issuing.issue(blank_card, desk, challenge, 1))


def test_a_card_locked_by_somebody_else_says_so(blank_card: HeldCard, desk: DeskVaultFile) -> None:
    blank_card.card.rewrite(MC, bytes.fromhex("FFFF0001070100000000000001000000"))
    blank_card.lay_again()
    with pytest.raises(NotIssuable, match="not ours"):
        finish(issuing.issue(blank_card, desk, challenge, 1))


def test_a_card_issued_with_another_towns_key_is_not_ours(issued_card: HeldCard) -> None:
    stranger = DeskVaultFile(demo_keys(2))
    with pytest.raises(NotAuthentic):
        finish(issuing.issue(issued_card, stranger, challenge, 1))


def test_a_card_whose_counter_did_not_restart_when_it_was_locked_is_refused(issued_card: HeldCard, desk: DeskVaultFile) -> None:
    issued_card.card.set_wcnt(lite_s.COUNTER_LIMIT)
    with pytest.raises(NotIssuable, match="write counter"):
        finish(issuing.issue(issued_card, desk, challenge, 1))


def test_a_grant_stands_in_both_copies_and_the_terminal_counts_it(issued_card: HeldCard, desk: DeskVaultFile, vault: VaultFile) -> None:
    granted = issuing.grant(issued_card, desk, desk.grants, challenge, key_id=1, fiscal_year=2026, points=2000)
    assert granted == issuing.Granted(Delivery.WRITTEN, Grant(1, 2026, 2000, 1), 2000)
    blocks = issued_card.card.memory.blocks
    assert [blocks[at] for at in range(5)] == [blocks[at] for at in range(5, 10)]
    assert read_total(issued_card, vault) == 2000


def test_granting_the_same_year_again_changes_nothing_whatever_the_amount(granted_card: HeldCard, desk: DeskVaultFile) -> None:
    before = granted_card.card.memory
    again = issuing.grant(granted_card, desk, desk.grants, challenge, key_id=1, fiscal_year=2026, points=500)
    assert (again.delivery, again.balance) == (Delivery.ALREADY, 2000)
    assert granted_card.card.memory == before


def test_the_next_year_adds_to_the_total_and_an_earlier_year_cannot_follow(granted_card: HeldCard, desk: DeskVaultFile) -> None:
    granted = issuing.grant(granted_card, desk, desk.grants, challenge, key_id=1, fiscal_year=2027, points=1500)
    assert granted.grant == Grant(1, 2027, 3500, 2)
    with pytest.raises(NotIssuable, match="2027"):
        issuing.grant(granted_card, desk, desk.grants, challenge, key_id=1, fiscal_year=2026, points=1)


def test_a_correction_is_given_once_by_its_number(granted_card: HeldCard, desk: DeskVaultFile) -> None:
    def correct(number: int) -> issuing.Granted:
        return issuing.correct(granted_card, desk, desk.grants, challenge, key_id=1, number=number, points=300)

    assert correct(2).grant == Grant(1, 2026, 2300, 2)
    assert correct(2).delivery is Delivery.ALREADY
    assert correct(2).balance == 2300
    with pytest.raises(NotIssuable, match="cannot follow"):
        correct(4)


TEARS = [Tear(block, counted, seed=7) for block in Torn for counted in (False, True)]


@pytest.mark.parametrize("tear", TEARS, ids=lambda tear: f"{tear.block.value}{'+1' if tear.counted else '+0'}")
@pytest.mark.parametrize("before", [0, 2000])
def test_a_grant_torn_at_any_write_never_takes_points_away_and_is_completed_by_repeating_it(
    before: int,
    tear: Tear,
    granted_card: HeldCard,
    desk: DeskVaultFile,
    vault: VaultFile,
) -> None:
    if not before:
        for block in range(10):
            granted_card.card.rewrite(block, bytes(16))
    start = granted_card.card.memory
    exchanges_before_writes = 5
    for write in range(10):
        held = HeldCard(LiteSCard(start))
        held.card.plan([Faults()] * (exchanges_before_writes + write) + [Faults(tear=tear)])
        with pytest.raises(CardError):
            issuing.grant(held, desk, desk.grants, challenge, key_id=1, fiscal_year=2027, points=700)
        assert read_total(held, vault) in {before, before + 700}
        held.lay_again()
        again = issuing.grant(held, desk, desk.grants, challenge, key_id=1, fiscal_year=2027, points=700)
        assert again.balance == before + 700, f"torn at write {write}"
        assert read_total(held, vault) == before + 700
        assert [held.card.memory.blocks[at] for at in range(5)] == [held.card.memory.blocks[at] for at in range(5, 10)]


def test_a_grant_torn_again_and_again_keeps_the_copy_that_counts(granted_card: HeldCard, desk: DeskVaultFile, vault: VaultFile) -> None:
    """Copy A is bad and B counts; the next grant must not overwrite B before A is good again, wherever it is torn."""
    start = granted_card.card
    start.rewrite(0, bytes(range(16)))
    memory = start.memory
    for write in range(15):
        held = HeldCard(LiteSCard(memory))
        held.card.plan([Faults()] * (5 + write) + [Faults(tear=Tear(Torn.GARBAGE, seed=write))])
        with pytest.raises(CardError):
            issuing.grant(held, desk, desk.grants, challenge, key_id=1, fiscal_year=2027, points=700)
        assert read_total(held, vault) in {2000, 2700}, f"torn at write {write}"


def test_when_both_copies_are_bad_the_desk_says_so_and_the_ledger_restores_them(
    granted_card: HeldCard, desk: DeskVaultFile, vault: VaultFile
) -> None:
    for block in (0, 5):
        granted_card.card.rewrite(block, bytes(range(16)))
    with pytest.raises(purse.NoGoodGrant, match="restore"):
        issuing.grant(granted_card, desk, desk.grants, challenge, key_id=1, fiscal_year=2027, points=1)
    granted_card.lay_again()
    restored = issuing.restore(granted_card, desk, desk.grants, challenge, Grant(1, 2026, 2000, 1))
    assert (restored.delivery, restored.balance) == (Delivery.WRITTEN, 2000)
    assert read_total(granted_card, vault) == 2000


def test_a_card_whose_counters_contradict_its_grant_gets_none(granted_card: HeldCard, desk: DeskVaultFile) -> None:
    granted_card.card.rewrite(REG, bytes(16))
    with pytest.raises(NotIssuable, match="contradict"):
        issuing.grant(granted_card, desk, desk.grants, challenge, key_id=1, fiscal_year=2027, points=1)


def test_a_bus_holds_no_key_that_issues_or_grants(vault: VaultFile) -> None:
    assert not hasattr(vault, "sign_grant")
    assert not hasattr(vault, "card_key")


def test_no_key_raises_a_register_again(granted_card: HeldCard, vault: VaultFile) -> None:
    def read() -> purse.PurseReading:
        return purse.read(granted_card, vault, vault.grants, lambda _rider, _digest: False, challenge)

    purse.debit(granted_card, read(), 100, purse.RegLog(1, 1, 1))
    reading = read()
    with pytest.raises(CardRefused):
        purse.write_with_mac(granted_card, reading.session, REG, b"\xff" * 16, reading.counters.wcnt)
    assert read().balance == 1900
