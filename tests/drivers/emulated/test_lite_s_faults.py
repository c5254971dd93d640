"""What can go wrong with one command: each fault once, and then the card is as good as before."""

from collections.abc import Callable
from typing import Any

import pytest

from drivers.emulated.lite_s_card import Faults, LiteSCard, Reaction, Tear, Torn, blank

SIXTEEN = bytes(range(16))
IDM = bytes.fromhex("0102030405060708")
WRITE_3 = bytes((32, 0x08)) + IDM + b"\x01\x09\x00\x01\x80\x03" + SIXTEEN
COMMAND_ON_AIR = 32 + 10
ANSWER_ON_AIR = 12 + 10


def test_a_lost_command_is_not_executed(fresh: Any) -> None:
    fresh.card.plan([Faults(lost=True)])
    assert fresh.write(3, SIXTEEN) is None
    assert fresh.data(3) == bytes(16)


def test_a_lost_answer_hides_that_the_command_was_executed(fresh: Any) -> None:
    fresh.card.plan([Faults(answer_lost=True)])
    assert fresh.write(3, SIXTEEN) is None
    assert fresh.data(3) == SIXTEEN


def test_faults_come_in_order_and_a_poll_takes_none(fresh: Any) -> None:
    fresh.card.plan([Faults(), Faults(lost=True)])
    assert fresh.card.answer(bytes.fromhex("0600FFFF0000")) is not None
    assert fresh.read(0) is not None
    assert fresh.read(0) is None
    assert fresh.read(0) is not None
    assert fresh.card.planned == ()


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("torn", Torn)
def test_a_torn_write_leaves_old_new_or_garbage_and_a_counter_that_may_have_risen(fresh: Any, torn: Torn, counted: bool) -> None:
    before = fresh.wcnt()
    fresh.challenge()
    fresh.card.plan([Faults(tear=Tear(torn, counted, seed=7))])
    assert fresh.write(3, SIXTEEN) is None
    held = fresh.data(3)
    assert (held == bytes(16)) is (torn is Torn.OLD)
    assert (held == SIXTEEN) is (torn is Torn.NEW)
    assert fresh.wcnt() == before + counted
    assert fresh.read(0x91) == b"\x01\xb2"  # it has restarted


def test_garbage_is_the_same_for_the_same_seed() -> None:
    def torn(seed: int) -> bytes:
        card = blank(IDM)
        card.plan([Faults(tear=Tear(Torn.GARBAGE, seed=seed))])
        card.answer(WRITE_3)
        return card.memory.blocks[3]

    assert torn(1) == torn(1) != torn(2)


def test_a_tear_does_not_touch_what_was_refused_or_read(fresh: Any) -> None:
    fresh.card.plan([Faults(tear=Tear(Torn.GARBAGE)), Faults(tear=Tear(Torn.GARBAGE))])
    assert fresh.read(0) is not None
    assert fresh.write(0x83, SIXTEEN) == b"\x01\xa8"


@pytest.mark.parametrize("at", range(COMMAND_ON_AIR + ANSWER_ON_AIR + 1))
def test_a_card_taken_away_at_any_byte_has_executed_the_command_only_if_it_heard_it_all(at: int) -> None:
    card = blank(IDM)
    card.plan([Faults(removed_at=at)])
    reaction = card.take(WRITE_3)
    assert reaction.gone
    assert (card.memory.blocks[3] == SIXTEEN) is (at > COMMAND_ON_AIR)
    if at <= COMMAND_ON_AIR:
        assert reaction == Reaction(gone=True)
    elif at < COMMAND_ON_AIR + ANSWER_ON_AIR:
        assert reaction.cut == at - COMMAND_ON_AIR
    else:
        assert reaction.cut is None
    assert card.answer(WRITE_3) is None  # it has no power


def test_a_write_may_warn_that_the_card_is_worn(fresh: Any) -> None:
    fresh.card.plan([Faults(warn=True)])
    assert fresh.write(3, SIXTEEN) == b"\xff\x71"
    assert fresh.data(3) == SIXTEEN


def test_a_damaged_answer_is_heard_as_nothing(fresh: Any) -> None:
    fresh.card.plan([Faults(bad_crc=True)])
    assert fresh.write(3, SIXTEEN) is None
    assert fresh.data(3) == SIXTEEN


def test_an_answer_may_carry_another_cards_idm() -> None:
    card = blank(IDM)
    card.plan([Faults(idm=bytes(8))])
    assert card.answer(WRITE_3) == b"\x0c\x09" + bytes(8) + b"\x00\x00"


@pytest.mark.parametrize("script", [b"", b"\x00", b"\xff" * 255, bytes(300)])
def test_a_hostile_card_says_whatever_it_likes(fresh: Any, script: bytes) -> None:
    fresh.card.plan([Faults(script=script)])
    frame = WRITE_3
    assert fresh.card.answer(frame) == script
    assert fresh.data(3) == bytes(16)


def test_a_card_with_another_key_proves_itself_to_nobody(worked: Callable[[], LiteSCard], vectors: dict[str, Any]) -> None:
    card = worked()
    card.rewrite(0x87, SIXTEEN)
    steps = vectors["tap"]["step"]
    card.answer(bytes.fromhex(steps[1]["command"]))
    answer = card.answer(bytes.fromhex(steps[2]["command"]))
    assert answer is not None
    assert answer[:-16].hex().upper() == steps[2]["answer"][:-32]
    assert answer.hex().upper() != steps[2]["answer"]
