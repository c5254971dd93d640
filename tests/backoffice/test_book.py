"""Double entry: the books balance by construction."""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from backoffice.book import (
    CASH_PAID,
    FREE_RIDES,
    GRANTS,
    Posting,
    PostingKind,
    cash_of,
    concluded,
    free_of,
    granted,
    owed_to,
    postings_of,
    purse,
    taken_back,
)
from ledger.entry import Entry, Fare, Flags, Kind, Medium, Outcome, Place, When

RIDER = bytes.fromhex("0102030405060708")
RIDE = Entry(
    kind=Kind.PAID,
    when=When(boot=1, mono_ms=1000, utc_ms=1_790_000_000_000, clock=2),
    place=Place(operator="sanko", service_day=20_700),
    medium=Medium(RIDER),
    fare=Fare(nominal=740, points=300, cash=440, adults=1),
    device=1,
    epoch=1,
    seq=7,
)


def balances(postings: Iterable[Posting]) -> dict[str, int]:
    """Credits less debits of each account."""
    sums: dict[str, int] = {}
    for posting in postings:
        sums[posting.debit] = sums.get(posting.debit, 0) - posting.amount
        sums[posting.credit] = sums.get(posting.credit, 0) + posting.amount
    return sums


@st.composite
def rides(draw: st.DrawFn) -> Entry:
    points, cash, waived = (draw(st.integers(0, 3000)) for _ in range(3))
    rider = draw(st.none() | st.binary(min_size=8, max_size=8))
    return replace(
        RIDE,
        kind=draw(st.sampled_from(Kind)),
        medium=None if rider is None else Medium(rider),
        place=Place(operator=draw(st.sampled_from(["sanko", "north", "市バス"]))),
        fare=Fare(points + cash if points else cash + waived, points, cash, 1, 0),
        outcome=draw(st.sampled_from(Outcome)),
        flags=draw(st.sampled_from([Flags.NONE, Flags.RECOVERED, Flags.PRACTICE])),
    )


def test_a_paid_ride_moves_points_from_the_purse_to_what_the_operator_is_owed() -> None:
    assert postings_of(RIDE) == (
        Posting(1, PostingKind.POINTS, "rider:0102030405060708", "operator:sanko:points", 300),
        Posting(2, PostingKind.CASH, "riders:cash", "operator:sanko:cash", 440),
    )


def test_a_ride_for_points_alone_has_one_posting() -> None:
    assert postings_of(replace(RIDE, fare=Fare(nominal=100, points=100))) == (
        Posting(1, PostingKind.POINTS, purse(RIDER), owed_to("sanko"), 100),
    )


def test_a_free_ride_books_the_fare_that_nobody_paid() -> None:
    free = replace(RIDE, kind=Kind.FREE, fare=Fare(nominal=200))
    assert postings_of(free) == (Posting(3, PostingKind.FREE, FREE_RIDES, free_of("sanko"), 200),)


def test_the_seat_of_a_companion_who_pays_coins_is_not_billed_to_the_city() -> None:
    pair = replace(RIDE, fare=Fare(nominal=400, cash=200, adults=2))
    assert postings_of(pair) == (
        Posting(2, PostingKind.CASH, CASH_PAID, cash_of("sanko"), 200),
        Posting(3, PostingKind.FREE, FREE_RIDES, free_of("sanko"), 200),
    )


def test_an_unknown_debit_books_nothing_until_it_is_settled() -> None:
    assert postings_of(replace(RIDE, kind=Kind.UNKNOWN)) == ()
    assert postings_of(replace(RIDE, kind=Kind.RESOLVED, outcome=Outcome.UNPAID, ref=3)) == ()
    assert postings_of(replace(RIDE, kind=Kind.RESOLVED, outcome=Outcome.PAID, ref=3)) == postings_of(RIDE)


def test_what_the_city_concludes_stands_on_legs_of_its_own() -> None:
    unknown = replace(RIDE, kind=Kind.UNKNOWN)
    assert [posting.leg for posting in concluded(unknown, 1)] == [11, 12]
    assert concluded(unknown, 1)[0][1:] == postings_of(RIDE)[0][1:]


def test_practice_books_nothing() -> None:
    assert postings_of(replace(RIDE, flags=Flags.PRACTICE)) == ()
    assert concluded(replace(RIDE, flags=Flags.PRACTICE), 1) == ()


def test_a_grant_fills_a_purse_from_the_city() -> None:
    assert granted(RIDER, 2000) == Posting(4, PostingKind.GRANT, GRANTS, purse(RIDER), 2000)


@given(st.lists(rides(), max_size=30))
def test_the_books_balance_and_purses_lost_what_operators_are_owed(entries: list[Entry]) -> None:
    postings = [posting for entry in entries for posting in postings_of(entry)]
    sums = balances(postings)
    assert sum(sums.values()) == 0
    assert all(posting.amount > 0 and posting.debit != posting.credit for posting in postings)
    taken = -sum(amount for account, amount in sums.items() if account.startswith("rider:"))
    assert taken == sum(amount for account, amount in sums.items() if account.endswith(":points"))
    assert taken == sum(posting.amount for posting in postings if posting.kind is PostingKind.POINTS)


@given(rides())
def test_no_ride_is_worth_more_than_its_fare(entry: Entry) -> None:
    assert sum(posting.amount for posting in postings_of(entry)) <= entry.fare.nominal
    assert len({posting.leg for posting in postings_of(entry)}) == len(postings_of(entry))


@given(rides())
def test_a_correction_takes_back_exactly_what_was_booked(entry: Entry) -> None:
    booked = postings_of(entry)
    assert not any(balances([*booked, *map(taken_back, booked)]).values())
    assert {posting.leg for posting in map(taken_back, booked)} == {posting.leg + 20 for posting in booked}
    concluded_first = concluded(replace(entry, flags=Flags.NONE), 1)
    assert {posting.leg for posting in map(taken_back, concluded_first)} == {posting.leg + 10 for posting in concluded_first}
