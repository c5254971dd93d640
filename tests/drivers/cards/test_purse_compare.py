"""What a later reading proves about a lost debit: examples by hand, and a card's whole life by chance against what really happened."""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from drivers.cards.purse import FULL, Counters, Outcome, RegLog, compare, contradiction

OLD_LOG, OUR_LOG, OTHER_LOG = RegLog(5, 1000, 1).block(), RegLog(7, 2000, 1).block(), RegLog(9, 3000, 1).block()
BEFORE = Counters(FULL - 500, FULL - 4, OLD_LOG, 14)
AFTER = Counters(FULL - 600, FULL - 5, OUR_LOG, 15)


def now(rega: int, regb: int, regc: bytes, wcnt: int) -> Counters:
    return Counters(FULL - rega, FULL - regb, regc, wcnt)


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        pytest.param(now(500, 4, OLD_LOG, 14), Outcome.NOT_DONE, id="untouched"),
        pytest.param(now(500, 4, OLD_LOG, 15), Outcome.NOT_DONE, id="counted and not stored"),
        pytest.param(now(500, 4, OLD_LOG, 24), Outcome.NOT_DONE, id="granted since"),
        pytest.param(now(600, 5, OUR_LOG, 15), Outcome.DONE, id="done"),
        pytest.param(now(600, 5, OUR_LOG, 14), Outcome.DONE, id="stored and not counted"),
        pytest.param(now(600, 5, OUR_LOG, 25), Outcome.DONE, id="done, and granted since"),
        pytest.param(now(600, 5, OTHER_LOG, 15), Outcome.OTHERS_NOT_OURS, id="another bus took the same sum"),
        pytest.param(now(730, 5, OTHER_LOG, 16), Outcome.OTHERS_NOT_OURS, id="another bus took another sum"),
        pytest.param(now(730, 6, OTHER_LOG, 16), Outcome.OTHERS_UNSURE, id="two debits, the sum leaves room for ours"),
        pytest.param(now(601, 6, OTHER_LOG, 16), Outcome.OTHERS_UNSURE, id="two debits, just enough for ours"),
        pytest.param(now(600, 6, OTHER_LOG, 16), Outcome.OTHERS_NOT_OURS, id="two debits, too little for ours"),
        pytest.param(now(580, 6, OTHER_LOG, 16), Outcome.OTHERS_NOT_OURS, id="two small debits"),
        pytest.param(now(730, 6, OTHER_LOG, 15), Outcome.OTHERS_UNSURE, id="two debits, one not counted"),
        pytest.param(now(730, 6, OTHER_LOG, 14), Outcome.NONSENSE, id="two debits, none counted"),
        pytest.param(now(730, 6, OUR_LOG, 16), Outcome.NONSENSE, id="our log on a second debit"),
        pytest.param(now(610, 5, OUR_LOG, 15), Outcome.NONSENSE, id="our log, another sum"),
        pytest.param(now(600, 5, OLD_LOG, 15), Outcome.NONSENSE, id="new counters, old log: torn"),
        pytest.param(now(600, 5, OUR_LOG[:5] + OLD_LOG[5:], 15), Outcome.NONSENSE, id="a log of two halves: torn"),
        pytest.param(now(600, 5, OLD_LOG[:6] + OUR_LOG[6:], 15), Outcome.NONSENSE, id="a log of two halves, the other way"),
        pytest.param(now(500, 4, OUR_LOG, 14), Outcome.NONSENSE, id="our log without a debit"),
        pytest.param(now(600, 4, OLD_LOG, 15), Outcome.NONSENSE, id="points gone without a debit"),
        pytest.param(now(500, 5, OTHER_LOG, 15), Outcome.NONSENSE, id="a debit of nothing"),
        pytest.param(now(400, 5, OTHER_LOG, 15), Outcome.NONSENSE, id="REGA raised"),
        pytest.param(now(500, 3, OLD_LOG, 14), Outcome.NONSENSE, id="REGB raised"),
        pytest.param(now(500, 4, OLD_LOG, 13), Outcome.NONSENSE, id="WCNT lowered"),
        pytest.param(now(600, 5, OUR_LOG, 13), Outcome.NONSENSE, id="done, WCNT lowered"),
        pytest.param(Counters(0, 0, bytes(8), 14), Outcome.NONSENSE, id="all zero"),
    ],
)
def test_a_later_reading_is_named(later: Counters, outcome: Outcome) -> None:
    assert compare(BEFORE, AFTER, later) is outcome


@dataclass
class Life:
    """A genuine card by the rules, with torn counts; it remembers what really happened."""

    now: Counters
    torn: int = 0

    def debit(self, points: int, log: bytes, *, counted: bool = True) -> None:
        self.torn += not counted
        self.now = Counters(self.now.rega - points, self.now.regb - 1, log, self.now.wcnt + counted)

    def count_only(self, times: int) -> None:
        self.now = replace(self.now, wcnt=self.now.wcnt + times)


@pytest.mark.prove
def test_in_a_genuine_cards_life_no_outcome_is_ever_named_wrongly(proof: Any) -> None:
    for seed in proof.seeds(small=3_000, full=300_000):
        chance = Random(seed)
        points, others = chance.randint(1, 300), chance.choice([0, 0, 1, 1, 2, 3])
        life = Life(BEFORE)
        after = Counters(BEFORE.rega - points, BEFORE.regb - 1, OUR_LOG, BEFORE.wcnt + 1)
        ours = chance.random() < 0.5
        if ours:
            life.debit(points, OUR_LOG, counted=chance.random() < 0.8)
        elif chance.random() < 0.2:
            life.count_only(1)
        for at in range(others):
            if chance.random() < 0.2:
                life.count_only(10)
            life.debit(chance.randint(1, 300), RegLog(9, 3000 + at, 1).block(), counted=life.torn > 0 or chance.random() < 0.9)
        told = compare(BEFORE, after, life.now)
        allowed = {
            (True, 0): {Outcome.DONE},
            (False, 0): {Outcome.NOT_DONE},
            (True, 1): {Outcome.OTHERS_UNSURE},
            (False, 1): {Outcome.OTHERS_NOT_OURS},
        }.get((ours, others), {Outcome.OTHERS_UNSURE} | (set() if ours else {Outcome.OTHERS_NOT_OURS}))
        assert told in allowed, seed
        assert contradiction([BEFORE, life.now]) is None, seed


@pytest.mark.prove
def test_random_garbage_in_the_register_is_never_taken_for_a_debit_or_for_none(proof: Any) -> None:
    for seed in proof.seeds(small=2_000, full=200_000):
        chance = Random(seed)
        garbage = Counters.parse(chance.randbytes(16), (14 + chance.randint(0, 12)).to_bytes(3, "little"))
        assert compare(BEFORE, AFTER, garbage) is Outcome.NONSENSE, seed


def test_the_readings_of_one_genuine_card_from_many_buses_contradict_nothing() -> None:
    story = [BEFORE, AFTER, now(900, 7, OTHER_LOG, 27), now(900, 7, OTHER_LOG, 37)]
    assert contradiction(reversed(story)) is None
    assert contradiction([]) is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(now(600, 5, OTHER_LOG, 15), id="the same count, another log"),
        pytest.param(now(610, 5, OUR_LOG, 15), id="the same count, another sum"),
        pytest.param(now(300, 6, OTHER_LOG, 16), id="a later count, points back"),
        pytest.param(now(600, 6, OTHER_LOG, 16), id="a later count, nothing taken"),
        pytest.param(now(700, 6, OTHER_LOG, 14), id="a later count, fewer writes"),
    ],
)
def test_two_cards_with_one_number_are_found_by_their_counters(other: Counters) -> None:
    found = contradiction([BEFORE, other, AFTER])
    assert found is not None
    assert set(found) <= {BEFORE, AFTER, other}
