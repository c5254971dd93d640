"""Fiscal years and ages as the law counts them."""

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fares.dates import first_day, fiscal_year, from_number, last_day, reaches

days = st.dates(date(1900, 1, 1), date(2100, 1, 1))


@pytest.mark.parametrize(
    ("born", "reached"),
    [
        (date(1955, 4, 1), date(2020, 3, 31)),
        (date(1955, 4, 2), date(2020, 4, 1)),
        (date(1956, 2, 29), date(2021, 2, 28)),
        (date(1951, 3, 1), date(2016, 2, 29)),
        (date(1952, 2, 29), date(2017, 2, 28)),
        (date(1955, 1, 1), date(2019, 12, 31)),
    ],
)
def test_an_age_is_reached_the_day_before_the_birthday(born: date, reached: date) -> None:
    assert reaches(born, 65) == reached


@settings(deadline=None)
@given(days)
def test_every_day_lies_in_its_fiscal_year(day: date) -> None:
    year = fiscal_year(day)
    assert first_day(year) <= day <= last_day(year)
    assert first_day(year + 1) - last_day(year) == timedelta(days=1)


@settings(deadline=None)
@given(days, st.integers(0, 100), st.integers(0, 100))
def test_nobody_is_older_before_being_younger(born: date, one: int, other: int) -> None:
    assert (reaches(born, one) <= reaches(born, other)) == (one <= other)


def test_a_ledgers_service_day_is_a_date() -> None:
    assert from_number(20_544) == date(2026, 4, 1)
