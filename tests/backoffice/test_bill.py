"""What the city owes one operator for one month."""

from datetime import date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.bill import Bill, Line, Month, Movement, Part, Status, Terms, bill
from backoffice.book import PostingKind

JAPAN = timezone(timedelta(hours=9))
TERMS = Terms(JAPAN, time(5), 14, lambda day: 1 if day < date(2027, 4, 1) else 2)
NOVEMBER, DECEMBER = Month(2026, 11), Month(2026, 12)


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=JAPAN).timestamp() * 1000)


def moved(service_day: str, received: str, amount: int = 100, kind: PostingKind = PostingKind.POINTS, turn: int = 0) -> Movement:
    return Movement(day(service_day), at(received), kind, turn, amount)


def bill_of(month: Month, movements: list[Movement], as_of: str) -> Bill:
    return bill("sanko", month, movements, TERMS, at(as_of))


def lines(told: Bill) -> list[tuple[Part, str, int, int, int]]:
    return [(line.part, str(line.month), line.rides, line.points, line.yen) for line in told.lines]


def test_points_and_free_rides_have_lines_of_their_own_and_coins_are_a_memo() -> None:
    told = bill_of(
        NOVEMBER,
        [
            moved("2026-11-02", "2026-11-02T20:00", 300),
            moved("2026-11-02", "2026-11-02T20:00", 440, PostingKind.CASH),
            moved("2026-11-30", "2026-11-30T20:00", 100),
            moved("2026-11-03", "2026-11-03T20:00", 200, PostingKind.FREE),
        ],
        "2026-12-20T09:00",
    )
    assert lines(told) == [(Part.POINTS, "2026-11", 2, 400, 400), (Part.FREE, "2026-11", 1, 0, 200)]
    assert (told.yen, told.rides, told.points, told.tally.coins, told.status) == (600, 3, 400, 440, Status.FINAL)
    assert [each.service_day for each in told.days] == [day("2026-11-02"), day("2026-11-03"), day("2026-11-30")]


def test_a_day_is_shown_from_five_the_next_morning() -> None:
    ride = [moved("2026-11-24", "2026-11-24T18:00")]
    assert bill_of(NOVEMBER, ride, "2026-11-25T04:59").lines == ()
    told = bill_of(NOVEMBER, ride, "2026-11-25T05:00")
    assert (told.yen, told.status) == (100, Status.PROVISIONAL)


def test_what_comes_after_a_fortnight_is_late_and_says_so() -> None:
    in_time, late = moved("2026-11-01", "2026-11-16T04:59"), moved("2026-11-01", "2026-11-16T05:00")
    assert lines(bill_of(NOVEMBER, [in_time, late], "2026-12-20T09:00")) == [
        (Part.POINTS, "2026-11", 1, 100, 100),
        (Part.LATE_POINTS, "2026-11", 1, 100, 100),
    ]


def test_what_comes_after_the_bill_has_closed_is_on_the_next_one_under_its_own_month() -> None:
    late = moved("2026-11-30", "2026-12-15T05:00")
    assert bill_of(NOVEMBER, [late], "2027-02-01T09:00").lines == ()
    assert lines(bill_of(DECEMBER, [late], "2027-02-01T09:00")) == [(Part.LATE_POINTS, "2026-11", 1, 100, 100)]


def test_what_the_city_concluded_and_took_back_are_lines_of_their_own() -> None:
    told = bill_of(
        NOVEMBER,
        [moved("2026-11-02", "2026-11-05T12:00", 300, turn=1), moved("2026-11-02", "2026-11-20T12:00", 300, turn=2)],
        "2026-12-20T09:00",
    )
    assert lines(told) == [(Part.SETTLED, "2026-11", 1, 300, 300), (Part.TAKEN_BACK, "2026-11", -1, -300, -300)]
    assert told.yen == 0


def test_a_point_is_worth_what_the_scheme_says_for_the_day() -> None:
    april = bill_of(Month(2027, 4), [moved("2027-04-01", "2027-04-01T20:00"), moved("2027-03-31", "2027-04-16T20:00")], "2027-06-01T09:00")
    assert lines(april) == [(Part.POINTS, "2027-04", 1, 100, 200), (Part.LATE_POINTS, "2027-03", 1, 100, 100)]


def test_the_year_turns() -> None:
    assert (DECEMBER.following, Month(2027, 1).previous) == (Month(2027, 1), DECEMBER)
    assert (DECEMBER.last_day, Month.parse("2028-02").last_day) == (day("2026-12-31"), day("2028-02-29"))
    assert Month.of(day("2026-12-31")) == DECEMBER


@pytest.mark.parametrize("text", ["2026-13", "November", "2026-11-01", ""])
def test_a_month_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Month.parse(text)


movements = st.lists(
    st.builds(
        Movement,
        st.integers(day("2026-10-25"), day("2027-01-10")),
        st.integers(at("2026-10-25T00:00"), at("2027-03-20T00:00")),
        st.sampled_from([PostingKind.POINTS, PostingKind.FREE, PostingKind.CASH]),
        st.integers(0, 2),
        st.integers(1, 2000),
        st.just(1),
    ),
    max_size=30,
)


@given(movements)
def test_each_yen_is_on_exactly_one_bill(moves: list[Movement]) -> None:
    months = [Month(2026, number) for number in range(9, 13)] + [Month(2027, number) for number in range(1, 6)]
    bills = [bill_of(month, moves, "2027-08-01T00:00") for month in months]
    expected = sum((-1 if each.turn == 2 else 1) * each.amount for each in moves if each.kind is not PostingKind.CASH)
    assert sum(told.yen for told in bills) == expected
    assert sum(told.rides for told in bills) == sum(-1 if each.turn == 2 else 1 for each in moves if each.kind is not PostingKind.CASH)


@given(movements, movements)
def test_a_bill_that_has_closed_never_changes_whatever_comes_later(moves: list[Movement], more: list[Movement]) -> None:
    closes_ms = TERMS.closes_ms(NOVEMBER)
    at_closing = bill("sanko", NOVEMBER, [each for each in moves if each.at_ms < closes_ms], TERMS, closes_ms)
    afterwards = bill("sanko", NOVEMBER, moves + [each for each in more if each.at_ms >= closes_ms], TERMS, at("2027-08-01T00:00"))
    assert at_closing.status is Status.FINAL
    assert at_closing.lines == afterwards.lines


@given(movements)
def test_the_days_add_up_to_the_ordinary_lines(moves: list[Movement]) -> None:
    told = bill_of(NOVEMBER, moves, "2027-08-01T00:00")
    assert sum(each.yen + each.free_yen for each in told.days) == _yen(told.lines, Part.POINTS, Part.FREE)


def _yen(told: tuple[Line, ...], *parts: Part) -> int:
    return sum(line.yen for line in told if line.part in parts)
