"""A desk, a terminal and their twin cards, with the demo's public keys and a challenge that is the same in each run."""

from collections.abc import Callable

import pytest

from drivers.cards import issuing
from drivers.cards.issuing import Issued
from drivers.emulated.held_card import HeldCard
from drivers.emulated.lite_s_card import LiteSCard, Memory, blank
from drivers.vault_file import DeskVaultFile, VaultFile, demo_keys

_KEYS = demo_keys(1)
_DESK = DeskVaultFile(_KEYS)


def _challenge(size: int) -> bytes:
    return bytes(range(size))


def _issue(held: HeldCard) -> None:
    for _ in range(2):
        steps = issuing.issue(held, _DESK, _challenge, 1)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                if end.value is Issued.READY:
                    return
                break
        held.lay_again()


@pytest.fixture
def desk() -> DeskVaultFile:
    return _DESK


@pytest.fixture
def vault() -> VaultFile:
    """A bus's vault: the same town's keys, no issuer's private key."""
    return VaultFile(_KEYS.for_terminal(bytes(32)))


@pytest.fixture
def blank_card() -> HeldCard:
    return HeldCard(blank(bytes.fromhex("012E000000000001")))


@pytest.fixture
def issued_card(blank_card: HeldCard) -> HeldCard:
    _issue(blank_card)
    return blank_card


@pytest.fixture(scope="session")
def _granted_memory() -> Memory:
    held = HeldCard(blank(bytes.fromhex("012E000000000001")))
    _issue(held)
    issuing.grant(held, _DESK, _DESK.grants, _challenge, key_id=1, fiscal_year=2026, points=2000)
    return held.card.memory


@pytest.fixture
def granted_cards(_granted_memory: Memory) -> Callable[[], HeldCard]:
    """Makes cards that are all the same card: issued, 2,000 points granted, nothing spent."""
    return lambda: HeldCard(LiteSCard(_granted_memory))


@pytest.fixture
def granted_card(granted_cards: Callable[[], HeldCard]) -> HeldCard:
    return granted_cards()
