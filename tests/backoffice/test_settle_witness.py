"""What other vehicles' readings prove about a debit whose outcome its own vehicle never learned."""

from dataclasses import replace
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from backoffice.witness import Arrived, Judgement, Verdict, account, impossible, judge, resolved_again
from drivers.cards.purse import FULL, Counters, RegLog
from ledger.entry import Entry, Fare, Kind, Medium, Outcome, Place, When

RIDER = bytes(8)
NEW = Counters(FULL, FULL, bytes(8), 20)


def after_debit(before: Counters, points: int, terminal: int, second: int) -> Counters:
    return Counters(before.rega - points, before.regb - 1, RegLog(terminal, second, 1).block(), before.wcnt + 1)


def entry(kind: Kind, device: int, seq: int, before: Counters, after: Counters | None = None, *, ref: int = 0) -> Entry:
    points = before.rega - after.rega if after else 0
    return Entry(
        kind=kind,
        when=When(1, seq * 1000, 1_790_000_000_000 + seq, 4),
        place=Place(operator="sanko", service_day=20_700),
        medium=Medium(RIDER, 2000, 1, bytes(8), before, after),
        fare=Fare(nominal=points, points=points, adults=1),
        outcome=Outcome.PAID if ref else Outcome.NONE,
        ref=ref,
        device=device,
        epoch=1,
        seq=seq,
    )


AFTER = after_debit(NEW, 300, 1, 1000)
UNKNOWN = Arrived(entry(Kind.UNKNOWN, 1, 5, NEW, AFTER), 10)


def only(*more: Arrived) -> Judgement:
    (judgement,) = judge([UNKNOWN, *more])
    return judgement


def test_a_card_that_was_not_seen_since_tells_nothing() -> None:
    assert only().verdict is Verdict.UNTOLD
    assert only().why == "not seen since"


def test_another_bus_that_reads_our_log_proves_the_debit() -> None:
    seen = Arrived(entry(Kind.FREE, 2, 3, AFTER), 50)
    judgement = only(seen)
    assert (judgement.verdict, judgement.paid_since_ms) == (Verdict.PAID, 50)


def test_a_proof_that_came_first_is_known_when_the_unknown_comes() -> None:
    assert only(Arrived(entry(Kind.FREE, 2, 3, AFTER), 5)).paid_since_ms == 10


def test_a_debit_by_another_bus_from_the_same_register_disproves_ours() -> None:
    other = after_debit(NEW, 200, 2, 2000)
    assert only(Arrived(entry(Kind.PAID, 2, 3, NEW, other), 50)).verdict is Verdict.UNPAID


def test_an_unchanged_card_proves_nothing_when_it_may_have_been_read_before() -> None:
    assert only(Arrived(entry(Kind.FREE, 2, 3, NEW), 50)).verdict is Verdict.UNTOLD
    assert only(Arrived(entry(Kind.FREE, 2, 3, replace(NEW, wcnt=15)), 50)).verdict is Verdict.UNTOLD


def test_an_unchanged_register_under_a_higher_write_counter_disproves_the_debit() -> None:
    assert only(Arrived(entry(Kind.FREE, 2, 3, replace(NEW, wcnt=30)), 50)).verdict is Verdict.UNPAID


def test_an_unchanged_register_further_down_in_the_same_ledger_disproves_the_debit() -> None:
    assert only(Arrived(entry(Kind.FREE, 1, 6, NEW), 50)).verdict is Verdict.UNPAID
    assert only(Arrived(entry(Kind.FREE, 1, 4, NEW), 50)).verdict is Verdict.UNTOLD


def test_after_two_debits_it_cannot_be_told_until_the_next_buss_ledger_is_there() -> None:
    second = after_debit(AFTER, 100, 2, 2000)
    far = Arrived(entry(Kind.FREE, 3, 1, second), 50)
    assert (only(far).verdict, only(far).why) == (Verdict.UNTOLD, "others debited")
    assert only(far, Arrived(entry(Kind.PAID, 2, 9, AFTER, second), 70)).paid_since_ms == 70


def test_a_sum_that_is_too_small_for_ours_disproves_it() -> None:
    second = after_debit(after_debit(NEW, 100, 2, 1500), 100, 3, 2000)
    assert only(Arrived(entry(Kind.FREE, 4, 1, second), 50)).verdict is Verdict.UNPAID


def test_a_torn_register_cannot_be_told() -> None:
    torn = Counters(AFTER.rega, AFTER.regb, AFTER.regc[:4] + NEW.regc[4:], NEW.wcnt + 1)
    assert (only(Arrived(entry(Kind.REFUSED, 2, 3, torn), 50)).why) == "torn"


def test_the_vehicles_own_word_stands_and_its_conclusion_gives_way_to_it() -> None:
    word = entry(Kind.RESOLVED, 1, 9, NEW, AFTER, ref=5)
    early = only(Arrived(word, 20), Arrived(entry(Kind.FREE, 2, 3, AFTER), 50))
    assert (early.verdict, early.since_ms, early.paid_since_ms) == (Verdict.PAID, 20, 0)
    late = only(Arrived(word, 80), Arrived(entry(Kind.FREE, 2, 3, AFTER), 50))
    assert (late.verdict, late.since_ms, late.paid_since_ms, late.booked_ms) == (Verdict.PAID, 50, 50, 80)


def test_two_stories_about_one_debit_are_a_contradiction() -> None:
    ours = Arrived(entry(Kind.FREE, 2, 3, AFTER), 50)
    others = Arrived(entry(Kind.PAID, 3, 3, NEW, after_debit(NEW, 100, 3, 900)), 60)
    assert only(ours, others).verdict is Verdict.CONTRADICTED
    assert impossible([UNKNOWN, ours, others]) is not None
    assert only(ours, others).paid_since_ms == 50  # what was concluded is kept until a person decides
    assert only(ours._replace(received_ms=70), others).paid_since_ms == 0
    word = replace(entry(Kind.RESOLVED, 1, 9, NEW, AFTER, ref=5), outcome=Outcome.UNPAID)
    assert only(ours, Arrived(word, 20)).verdict is Verdict.CONTRADICTED


def test_a_debit_is_resolved_once() -> None:
    word = entry(Kind.RESOLVED, 1, 9, NEW, AFTER, ref=5)
    again = replace(word, seq=11)
    assert resolved_again([UNKNOWN, Arrived(again, 30), Arrived(word, 20)]) == [Arrived(again, 30)]


def test_a_debit_that_no_ledger_names_is_named_by_its_terminal_second_and_points() -> None:
    lost = after_debit(NEW, 250, 77, 1234)
    told = account(RIDER, [Arrived(entry(Kind.PAID, 2, 3, lost, after_debit(lost, 100, 2, 2000)), 50)])
    assert (told.spent, told.booked, told.unknown, told.whole) == (350, 100, 0, True)
    (unnamed,) = told.unnamed
    assert (unnamed.points, unnamed.debits, unnamed.log) == (250, 1, RegLog(77, 1234, 1))


# --- a genuine card's life, told by honest vehicles ---------------------------------------------------------------------------------------


class Life(NamedTuple):
    """What the city gets to know of a card, the truth about each unknown debit, and the card as it is in the end."""

    told: list[Arrived]
    truth: dict[tuple[int, int], bool]
    card: Counters


@st.composite
def lives(draw: st.DrawFn) -> Life:
    card, told, truth, seqs = NEW, list[Arrived](), dict[tuple[int, int], bool](), [0, 0, 0]
    for second in range(draw(st.integers(1, 12))):
        device = draw(st.integers(0, 2))
        seqs[device] += 1
        what = draw(st.sampled_from(["paid", "free", "done", "not done", "lost"]))
        after = after_debit(card, draw(st.integers(1, 400)), device, second)
        received_ms = draw(st.integers(1, 1000))
        match what:
            case "paid":
                told.append(Arrived(entry(Kind.PAID, device, seqs[device], card, after), received_ms))
            case "free":
                told.append(Arrived(entry(Kind.FREE, device, seqs[device], card), received_ms))
            case "lost":
                pass
            case _:
                told.append(Arrived(entry(Kind.UNKNOWN, device, seqs[device], card, after), received_ms))
                truth[device, seqs[device]] = what == "done"
        if what in ("paid", "done", "lost"):
            card = after
    return Life(draw(st.permutations(told)), truth, card)


@given(lives())
def test_whatever_is_concluded_about_a_genuine_card_is_true(life: Life) -> None:
    for judgement in judge(life.told):
        happened = life.truth[judgement.entry.device, judgement.entry.seq]
        assert judgement.verdict in ((Verdict.PAID if happened else Verdict.UNPAID), Verdict.UNTOLD)
    assert impossible(life.told) is None


@given(lives())
def test_each_point_that_left_a_card_is_booked_or_named(life: Life) -> None:
    told, card = life.told, life.card
    last = Arrived(entry(Kind.FREE, 9, 99, card), 2000)
    books = account(RIDER, [*told, last])
    assert books.whole
    assert books.spent == FULL - card.rega
    assert books.booked <= books.spent


@given(lives())
def test_the_verdict_does_not_depend_on_the_order_of_telling(life: Life) -> None:
    assert judge(life.told) == judge(list(reversed(life.told)))
