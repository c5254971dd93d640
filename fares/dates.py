"""Fiscal years and ages, as Japanese law counts them.

Fiscal year: 1 April to 31 March, named by the year it begins in (Local Autonomy Act, art. 208).
Age: a person reaches an age at the *end of the day before* the birthday (Act on Calculation of Ages, with Civil Code art. 143). Who is born
on 1 April therefore belongs to the year before. Somebody born on 29 February has, in a common year, no such day; the period then ends with
the last day of that month, and so it is 28 February in every year.
"""

from datetime import date, timedelta

FISCAL_YEAR_STARTS_MONTH = 4


def fiscal_year(day: date) -> int:
    """The fiscal year that ``day`` belongs to."""
    return day.year if day.month >= FISCAL_YEAR_STARTS_MONTH else day.year - 1


def first_day(year: int) -> date:
    """The first day of a fiscal year."""
    return date(year, FISCAL_YEAR_STARTS_MONTH, 1)


def last_day(year: int) -> date:
    """The last day of a fiscal year."""
    return first_day(year + 1) - timedelta(days=1)


def reaches(born: date, age: int) -> date:
    """The day at whose end a person reaches ``age`` years."""
    if (born.month, born.day) == (2, 29):
        return date(born.year + age, 2, 28)
    return born.replace(year=born.year + age) - timedelta(days=1)


def from_number(service_day: int) -> date:
    """The day that a ledger writes as days since 1970-01-01."""
    return date(1970, 1, 1) + timedelta(days=service_day)
