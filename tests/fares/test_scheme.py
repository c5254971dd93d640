"""Schemes: what a card pays, what comes back in April, who may hold one; and that a scheme which breaks its own examples is refused."""

from datetime import date
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fares import scheme
from fares.explain import sentence, total
from fares.faults import Unusable
from fares.rules import Due, Free, Party, RideRule, used_points
from fares.scheme import Question, Scheme, yearly_grant

SILVER = (resources.files("fares") / "schemes" / "silver_emica.toml").read_bytes()
DAY = date(2018, 6, 1)


@pytest.fixture(scope="module")
def silver() -> Scheme:
    return scheme.parse(SILVER, "silver_emica.toml")


def refusal(data: bytes) -> str:
    with pytest.raises(Unusable) as refused:
        scheme.parse(data, "s.toml")
    return str(refused.value)


def changed(old: str, new: str) -> bytes:
    text = SILVER.decode()
    assert text.count(old) == 1, old
    return text.replace(old, new).encode()


def test_the_silver_scheme_proves_its_examples(silver: Scheme) -> None:
    assert (silver.examples, len(silver.digest), silver.points_at_issue(DAY)) == (15, 8, 2000)


@pytest.mark.parametrize(
    ("used", "left", "used_since", "added", "balance"),
    [(2000, 0, 0, 2000, 2000), (700, 1300, 0, 700, 2000), (0, 2000, 0, 0, 2000), (150, 1850, 0, 150, 2000), (1500, 500, 300, 1500, 1700)],
)
def test_the_published_years_come_out(*, silver: Scheme, used: int, left: int, used_since: int, added: int, balance: int) -> None:
    now = left - used_since
    granted = yearly_grant(silver, 2019, used, now, 0, used_this_year=used_since)
    assert (granted, now + granted) == (added, balance)


@pytest.mark.parametrize(
    ("born", "day", "eligible"),
    [
        (date(1955, 4, 1), date(2019, 4, 1), True),
        (date(1955, 4, 2), date(2019, 4, 1), False),
        (date(1955, 4, 2), date(2020, 4, 1), True),
        (date(1953, 4, 1), date(2017, 9, 25), True),
        (date(1953, 4, 2), date(2017, 9, 25), False),
        (date(1940, 1, 1), date(2017, 9, 24), False),  # the scheme had not begun
    ],
)
def test_who_turns_65_by_the_end_of_the_fiscal_year_may_hold_a_card(silver: Scheme, born: date, day: date, eligible: bool) -> None:
    assert silver.eligible(born, day) is eligible


@pytest.mark.parametrize(
    ("fare", "holder", "balance", "lines", "points", "cash"),
    [
        (100, 100, 2000, set(), 100, 0),
        (740, 740, 300, set(), 300, 440),
        (300, 300, 300, set(), 300, 0),
        (320, 320, 0, set(), 0, 320),
        (0, 0, 2000, set(), 0, 0),
        (200, 200, 0, {"community"}, 0, 0),
        (400, 200, 2000, {"community"}, 0, 200),
        (200, 200, 2000, {"night"}, 200, 0),
    ],
)
def test_points_pay_first_and_the_community_bus_is_free_for_the_holder(
    *, silver: Scheme, fare: int, holder: int, balance: int, lines: set[str], points: int, cash: int
) -> None:
    decision = silver.decide(Question(fare, holder, balance, DAY, frozenset(lines)))
    assert (decision.points, decision.cash, decision.free) == (points, cash, "community" in lines)


def test_before_the_scheme_began_everything_is_cash_and_an_unset_clock_means_today(silver: Scheme) -> None:
    assert silver.decide(Question(300, 300, 500, date(2017, 9, 24))).cash == 300
    assert silver.decide(Question(300, 300, 500, None)).points == 300


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 3000), st.sampled_from([frozenset[str](), frozenset({"community"})]))
def test_the_steps_lead_from_the_fare_to_the_cash(silver: Scheme, fare: int, other: int, balance: int, lines: frozenset[str]) -> None:
    decision = silver.decide(Question(fare + other, fare, balance, DAY, lines))
    assert fare + other + total(decision.steps) == decision.cash
    assert decision.cash >= 0
    assert 0 <= decision.points <= balance


def test_a_question_that_makes_no_sense_cannot_be_asked() -> None:
    for fare, holder, balance in ((100, 200, 0), (100, -1, 0), (100, 100, -1)):
        with pytest.raises(ValueError, match="below zero"):
            Question(fare, holder, balance, DAY)


# ── the yearly grant ──

points = st.integers(0, 2000)


@st.composite
def years(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Points used last year, told late, left at its end, spent before the first grant, and after it."""
    left = draw(points)
    used = draw(st.integers(0, 2000 - left))
    since = draw(st.integers(0, left))
    return used, draw(st.integers(0, 2000 - left - used)), left, since, draw(st.integers(0, left - since))


@settings(deadline=None)
@given(year=years())
def test_a_grant_asked_for_again_gives_nothing(silver: Scheme, year: tuple[int, int, int, int, int]) -> None:
    used, _, left, since, _ = year
    first = yearly_grant(silver, 2020, used, left - since, 0, used_this_year=since)
    assert 0 <= first <= 2000
    assert left + first <= 2000
    assert yearly_grant(silver, 2020, used, left - since + first, first, used_this_year=since) == 0


@settings(deadline=None)
@given(year=years())
def test_a_record_of_march_that_arrives_late_adds_its_difference_once(silver: Scheme, year: tuple[int, int, int, int, int]) -> None:
    used, late, left, since, more = year
    first = yearly_grant(silver, 2020, used, left - since, 0, used_this_year=since)
    now, spent = left - since + first - more, since + more
    second = yearly_grant(silver, 2020, used + late, now, first, used_this_year=spent)
    at_once = yearly_grant(silver, 2020, used + late, left, 0)
    assert first + second == at_once
    assert yearly_grant(silver, 2020, used + late, now + second, first + second, used_this_year=spent) == 0


@settings(deadline=None)
@given(used=st.integers(0, 10_000), balance=points, granted=points)
def test_a_grant_never_lifts_a_card_above_the_limit(silver: Scheme, used: int, balance: int, granted: int) -> None:
    assert balance + yearly_grant(silver, 2020, used, balance, granted) <= 2000


def test_a_debit_that_turns_out_not_to_have_been_takes_nothing_back(silver: Scheme) -> None:
    assert yearly_grant(silver, 2020, 1400, 2000, 1500) == 0


def test_points_are_granted_for_no_year_before_the_scheme(silver: Scheme) -> None:
    assert yearly_grant(silver, 2017, 1500, 500, 0) == 0


LAPSING = """
[[version]]
from = 2030-04-01
holder = { age = 70, reached_by = "today" }
points = { yen_per_point = 10, at_issue = 100, most = 100 }
grant = { most = 80, carry_over = false }
[[version.ride]]
pay = "points_first"
for = "holder"
[[example]]
says = "unused points lapse"
year = { year = 2030, used = 60, left = 40, added = 20, balance = 60 }
[[example]]
says = "more may lapse than is given"
year = { year = 2030, used = 10, left = 90, used_since = 5, added = -80, balance = 5 }
[[example]]
says = "a point is never split, and only the holder's fare is paid"
ride = { day = 2030-05-01, fare = 370, holder = 185, balance = 90, points = 18, cash = 190 }
[[example]]
says = "seventy tomorrow"
holder = { born = 1960-05-02, day = 2030-05-01, eligible = true, points = 100 }
[[example]]
says = "seventy the day after"
holder = { born = 1960-05-03, day = 2030-05-01, eligible = false }
"""


def test_a_later_version_replaces_the_earlier_one_on_its_day() -> None:
    both = scheme.parse(SILVER + LAPSING.encode(), "s.toml")
    assert both.decide(Question(370, 370, 90, date(2030, 3, 31))).points == 90
    assert both.decide(Question(370, 370, 90, date(2030, 4, 1))).points == 37
    assert yearly_grant(both, 2029, 60, 40, 0) == 60
    assert yearly_grant(both, 2030, 60, 40, 0) == 20


# ── a file that is not taken ──


def test_an_example_that_the_rules_do_not_fulfil_is_named_with_what_was_expected_and_got() -> None:
    told = refusal(changed("added = 1500, balance = 1700", "added = 1500, balance = 1500"))
    assert told == (
        "s.toml, example[5] (1,500 使い、4月5日にもう 300 使い、4月10日に付与：残高 1,700): "
        "expected balance 1500, the rules give 1700; correct the rules or the example."
    )


@pytest.mark.parametrize(
    ("old", "new", "examples"),
    [
        ("age = 65", "age = 66", 2),
        ('"fiscal_year_end"', '"today"', 2),
        ("\ncarry_over = true", "\ncarry_over = false", 4),
        ("yen_per_point = 1\n", "yen_per_point = 2\n", 3),
        ('lines = ["community"]\npay = "free"\nfor = "holder"', 'lines = ["community"]\npay = "free"\nfor = "everybody"', 1),
        ('lines = ["community"]\npay = "free"', 'lines = ["school"]\npay = "free"', 2),
        ("[version.grant]\nmost = 2000", "[version.grant]\nmost = 1000", 2),
        ("at_issue = 2000\nmost = 2000", "at_issue = 2000\nmost = 1000", 4),
        ("at_issue = 2000", "at_issue = 1000", 2),
        ("from = 2017-09-25", "from = 2018-01-01", 2),
    ],
)
def test_a_rule_that_is_changed_alone_breaks_its_examples(old: str, new: str, examples: int) -> None:
    told = refusal(changed(old, new))
    broken = {line.split(" (")[0] for line in told.splitlines() if "expected" in line}
    assert len(broken) >= examples


def test_a_rule_without_an_example_is_not_taken() -> None:
    text = SILVER.decode()
    head, *examples = text.split("\n[[example]]")
    no_years = "\n[[example]]".join([head, *(example for example in examples if "year = {" not in example)])
    assert "version from 2017-09-25, grant: no example of a year" in refusal(no_years.encode())
    none_refused = "\n[[example]]".join([head, *(example for example in examples if "eligible = false" not in example)])
    assert "somebody who may not" in refusal(none_refused.encode())
    no_free = "\n[[example]]".join([head, *(example for example in examples if "community" not in example)])
    assert "ride[1]: no example rides by this rule" in refusal(no_free.encode())


def test_all_faults_of_form_are_told_with_their_paths() -> None:
    told = refusal(
        b"""
format = 1
name = "X"
[[version]]
from = 2026-04-01
holder = { age = 200, reached_by = "never" }
points = { yen_per_point = 0, at_issue = 1, most = 1 }
grant = { most = 1 }
[[version.ride]]
pay = "later"
for = "holder"
[[version]]
from = 2026-04-01
holder = { age = 65, reached_by = "today" }
points = { yen_per_point = 1, at_issue = 1, most = 1 }
grant = { most = 1, carry_over = true }
[[example]]
says = "nothing"
[[example]]
says = "a fare"
ride = { day = 1066-10-14, fare = 100, balance = 0, points = 0, cash = 100, tip = 5 }
"""
    )
    for part in (
        "version[1].holder.age: is 200",
        "version[1].holder.reached_by: is 'never'; it must be one of today, fiscal_year_end",
        "version[1].points.yen_per_point: is 0",
        "version[1].grant.carry_over: is missing; write true or false",
        "version[1].ride[1].pay: is 'later'",
        "version[2].ride: is missing",
        "two versions are in force from 2026-04-01",
        "example[1].ride: an example has one of the tables",
        "example[2].ride.day: is in the year 1066",
        "example[2].ride.tip: is not a setting",
    ):
        assert part in told
    assert all(line.startswith("s.toml, ") for line in told.splitlines())


def test_used_points_are_those_of_the_fiscal_year() -> None:
    uses = [
        (date(2019, 3, 31), 1),
        (date(2019, 4, 1), 10),
        (date(2019, 12, 31), 100),
        (date(2020, 3, 31), 1000),
        (date(2020, 4, 1), 10_000),
    ]
    assert [used_points(uses, year) for year in (2018, 2019, 2020, 2021)] == [1, 1110, 10_000, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.dates(date(2000, 1, 1), date(2040, 1, 1)), st.integers(0, 2000))))
def test_every_use_belongs_to_exactly_one_year(uses: list[tuple[date, int]]) -> None:
    assert sum(used_points(uses, year) for year in range(1999, 2041)) == sum(points for _, points in uses)


# ── why it costs this ──


def test_the_explanation_names_who_rides_free_and_on_which_line(silver: Scheme) -> None:
    lines = frozenset({"community", "zoo", "airport"})
    decision = silver.decide(Question(400, 200, 2000, DAY, lines))
    assert [sentence(step) for step in decision.steps] == ["free for the card's holder (community)"]
    everybody = RideRule(Free(Party.EVERYBODY), frozenset({"zoo", "community"}))
    due = Due(400, 200, 2000)
    steps = everybody.payment.steps(due, everybody.line(lines))
    assert [(step.yen, sentence(step)) for step in steps] == [(-400, "free for everybody on this card (community)")]
    always = RideRule(Free(Party.HOLDER), frozenset())
    assert sentence(always.payment.steps(due, always.line(lines))[0]) == "free for the card's holder (every line)"


def test_the_explanation_counts_the_points(silver: Scheme) -> None:
    decision = silver.decide(Question(740, 740, 300, DAY))
    assert [(step.yen, sentence(step)) for step in decision.steps] == [(-300, "300 points from the card, 1 yen each")]
