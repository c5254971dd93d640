"""What the clerks' pages say, and to whom: words, decisions and the door, without a browser and without a server."""

from dataclasses import replace
from datetime import date
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice import counted, receive, settle
from backoffice.bill import Closed, Month
from backoffice.console import door, made_up, views, words
from backoffice.console.facts import Accounts, Alarm, Books, Reading, Rider, Sort, Trouble, Troubles, Vehicle
from backoffice.console.parts import Level, Now, Page, Section, State
from backoffice.console.words import Language, Say
from backoffice.health import Ill, Rules
from drivers.devices.clock import ClockState
from ledger.entry import Kind, Outcome
from ledger.notes import BROKEN, NOT_TESTED, PARTS, LossReason

WORDS = words.read(resources.files("backoffice.console").joinpath("words.toml").read_text(encoding="utf-8"))
NOW = Now(made_up.NOW_MS, made_up.ZONE)
BOOKS: Books = made_up.MadeUpBooks()
LANGUAGES = list(Language)
NOVEMBER = Month(2026, 11)
HOUR = 3_600_000
RULES = Rules()


@pytest.fixture(params=LANGUAGES)
def say(request: pytest.FixtureRequest) -> Say:
    return WORDS.in_language(request.param)


def fleet(books: Books) -> tuple[Vehicle, ...]:
    return books.vehicles(NOW.unix_ms, NOW.today)


def every_page(books: Books, say: Say) -> list[Page]:
    rider = books.rider(made_up.rider_of(made_up.CARD), 100)
    assert rider is not None
    return [
        views.vehicles_page(fleet(books), RULES, NOW, say),
        views.troubles_page(books.troubles(100), NOW, say),
        views.gaps_page(books.gaps(), NOW, say),
        views.card_page(say),
        views.unknown_card_page(say),
        views.rider_page(rider, NOW, say),
        views.alarm_page(the_alarm(books, 1), NOW, say),
        views.alarm_page(the_alarm(books, 3), NOW, say),
        views.months_page(date(2026, 11, 1), books.month(NOVEMBER, NOW.unix_ms), NOW, say, bills=True),
        views.months_page(date(2026, 10, 1), books.month(Month(2026, 10), NOW.unix_ms), NOW, say, bills=True),
    ]


def the_alarm(books: Books, number: int) -> Alarm:
    alarm = books.alarm(number)
    assert alarm is not None
    return alarm


def a_vehicle() -> Vehicle:
    return fleet(BOOKS)[0]


def changed(vehicle: Vehicle, **change: Any) -> Vehicle:
    """The vehicle with fields of it, of its condition, of its heartbeat or of the heartbeat's clock changed."""
    condition, beat = vehicle.condition, vehicle.condition.beat
    assert beat is not None
    at = replace(beat.at, **{name: value for name, value in change.items() if hasattr(beat.at, name)})
    beat = replace(beat, at=at, **{name: value for name, value in change.items() if name in {"selftest", "head_seq", "counts", "up_s"}})
    own = {name: value for name, value in change.items() if name in {"contact_ms", "taps", "taps_before", "beat"}}
    rest = {name: value for name, value in change.items() if name in {"revoked", "holes", "next_seq", "epoch"}}
    return replace(vehicle, condition=replace(condition, **({"beat": beat} | own)), **rest)


# --- Words ------------------------------------------------------------------------------------------------------------------------------


def test_a_sentence_without_its_english_and_one_that_fills_in_something_else_are_both_named() -> None:
    with pytest.raises(words.WordsError) as wrong:
        words.read('[a]\nx = { ja = "あ" }\ny = { ja = "{n} 件", en = "entries: {m}" }\n')
    assert str(wrong.value).splitlines() == [
        "a.x: needs a sentence in ja and in en, and nothing else",
        "a.y: ja and en do not fill in the same values",
    ]


def test_every_reason_of_a_loss_part_of_a_self_test_and_outcome_of_a_ride_has_a_word(say: Say) -> None:
    assert all(say.has(f"loss.{reason}") for reason in LossReason)
    assert all(say.has(f"part.{part}") for part in PARTS)
    assert all(say.has(name) for name, _ in views._OUTCOMES.values())
    assert all(say.has(f"ill.{ill.value}.{part}") for ill in Ill for part in ("word", "do"))
    assert set(views._ILLS) == set(Ill)


def test_whatever_a_vehicle_may_count_has_its_words_on_the_page(say: Say) -> None:
    for rule in counted.RULES:
        source, mark = counted.parts(rule.name)
        assert say.has(f"counted.{mark}")
        assert not source or say.has(f"source.{source}"), source


def test_what_a_vehicle_counted_is_one_line_with_since_when_and_what_to_do() -> None:
    counts = (("oom-kills", 1), ("station-starts", 8))
    vehicle = changed(a_vehicle(), counts=counts, up_s=28 * 3600, contact_ms=NOW.unix_ms)
    said = {language: views.vehicle_state(vehicle, RULES, NOW, WORDS.in_language(language)).detail for language in Language}
    assert said[Language.JA] == (
        "11月23日 06:31から、メモリ不足による終了 1回・カード処理の再起動 7回。翌日も続く場合は、車載機の点検を事業者へお願いしてください。"
    )
    assert said[Language.EN] == (
        "Since 23 Nov 06:31: memory ran out (1), card handling restarted (7). "
        "If it goes on the next day, please have the operator check its terminal."
    )


def test_every_code_of_the_quarantine_and_every_alarm_has_words_of_its_own(say: Say) -> None:
    codes = {receive.MALFORMED, receive.MISPLACED, receive.IMPOSSIBLE, receive.LATER, receive.CONFLICT, "chain", "key"}
    assert all(say.has(f"trouble.{code}.title") for code in codes | {trouble.value.replace(" ", "-") for trouble in settle.Trouble})


def test_every_trouble_with_a_name_also_says_what_it_means_and_what_to_do(say: Say) -> None:
    named = {name.split(".")[1] for name in say.sentences if name.startswith("trouble.")}
    assert all(say.has(f"trouble.{name}.{part}") for name in named for part in ("title", "means", "do"))
    assert {f"other_{sort.value}" for sort in Sort} <= named


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("", Language.JA),
        ("en-GB,en;q=0.9", Language.EN),
        ("ja,en;q=0.9", Language.JA),
        ("en;q=0.8,ja;q=0.9", Language.JA),
        ("fr,en;q=0.5", Language.EN),
        ("fr", Language.JA),
        ("*", Language.JA),
        ("en;q=banana", Language.JA),
    ],
)
def test_a_page_is_japanese_unless_the_browser_puts_english_first(asked: str, language: Language) -> None:
    assert words.preferred(asked) is language


@given(st.text(max_size=2000))
def test_no_header_breaks_the_choice_of_language(asked: str) -> None:
    assert words.preferred(asked) in Language


# --- Vehicles ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word", "level"),
    [
        ({}, "state.good", Level.GOOD),
        ({"contact_ms": NOW.unix_ms - 73 * HOUR}, "ill.silent.word", Level.ACT),
        ({"contact_ms": NOW.unix_ms - 11 * HOUR}, "ill.silent.word", Level.ACT),
        ({"contact_ms": None, "beat": None}, "ill.never-heard.word", Level.LOOK),
        ({"selftest": (("antenna", BROKEN),)}, "ill.broken-part.word", Level.ACT),
        ({"selftest": (("antenna", NOT_TESTED),)}, "ill.untested-part.word", Level.LOOK),
        ({"taps": 0, "taps_before": 90}, "ill.no-taps.word", Level.ACT),
        ({"counts": (("station-starts", 4),), "up_s": 3600}, "ill.unsteady.word", Level.LOOK),
        ({"counts": (("station-starts", 3),), "up_s": 3600}, "state.good", Level.GOOD),
        ({"clock": ClockState.UNSET}, "ill.clock-unset.word", Level.LOOK),
        ({"utc_ms": 0}, "ill.clock-off.word", Level.LOOK),
        ({"holes": 2}, "ill.holes.word", Level.LOOK),
        ({"head_seq": 9_000, "next_seq": 8_000}, "ill.behind.word", Level.LOOK),
        ({"head_seq": 9_000, "next_seq": 8_000, "epoch": 2}, "state.good", Level.GOOD),
        ({"revoked": True, "contact_ms": None}, "state.revoked", Level.REST),
        ({"selftest": (("antenna", BROKEN),), "holes": 2, "clock": ClockState.UNSET}, "ill.broken-part.word", Level.ACT),
    ],
)
def test_a_vehicle_gets_the_worst_word_that_is_true_of_it(change: dict[str, Any], word: str, level: Level, say: Say) -> None:
    state = views.vehicle_state(changed(a_vehicle(), **change), RULES, NOW, say)
    assert (state.text, state.level) == (say(word), level)


def test_a_bus_that_sleeps_before_service_begins_needs_nobody(say: Say) -> None:
    early = Now(NOW.unix_ms - 5 * HOUR, made_up.ZONE)  # 05:32
    state = views.vehicle_state(changed(a_vehicle(), contact_ms=early.unix_ms - 8 * HOUR, utc_ms=NOW.unix_ms), RULES, early, say)
    assert (state.text, state.level) == (say("state.resting"), Level.REST)


def test_what_else_is_wrong_with_a_vehicle_stands_behind_the_worst(say: Say) -> None:
    state = views.vehicle_state(changed(a_vehicle(), selftest=(("antenna", BROKEN),), holes=1), RULES, NOW, say)
    assert say("part.antenna") in state.detail
    assert say("ill.holes.word") in state.detail


def test_vehicles_that_need_somebody_come_first_and_are_counted_at_the_top(say: Say) -> None:
    page = views.vehicles_page(fleet(BOOKS), RULES, NOW, say)
    table = page.sections[0].table
    assert table is not None
    levels = [cell.level for row in table.rows for cell in row[1:2] if isinstance(cell, State)]
    assert levels == sorted(levels, key=[Level.ACT, Level.LOOK, Level.GOOD, Level.REST].index)
    assert page.state == State(Level.ACT, say("vehicles.some_act", count=3), say("vehicles.some_look", count=5))


def test_a_clock_that_runs_ahead_makes_no_time_negative(say: Say) -> None:
    page = views.vehicles_page([changed(a_vehicle(), contact_ms=NOW.unix_ms + HOUR)], RULES, NOW, say)
    assert page.sections[0].table is not None
    assert getattr(page.sections[0].table.rows[0][2], "ago", "") == say("time.now")


# --- All pages --------------------------------------------------------------------------------------------------------------------------


def test_no_state_is_a_colour_alone(say: Say) -> None:
    shapes = [level.value for level in Level]
    assert len(set(shapes)) == len(shapes)
    for page in every_page(BOOKS, say):
        cells = [cell for section in page.sections if section.table for row in section.table.rows for cell in row]
        states = [cell for cell in (*cells, page.state, *page.legend) if isinstance(cell, State)]
        assert all(state.text.strip() for state in states), page.title


def test_every_row_of_every_table_has_one_header_and_as_many_cells_as_columns(say: Say) -> None:
    for table in (section.table for page in every_page(BOOKS, say) for section in page.sections if section.table):
        assert [column.header for column in table.columns].count(True) == 1
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_a_day_without_anything_wrong_says_so_on_each_page_and_draws_no_empty_table(say: Say) -> None:
    whole = made_up.MadeUpBooks(whole=True)
    pages = every_page(whole, say)[:3]
    assert [page.state.level for page in pages if page.state] == [Level.GOOD] * 3
    assert all(section.table is None or section.table.rows for page in pages for section in page.sections)


def test_troubles_of_one_kind_stand_together_alarms_first_with_what_to_do(say: Say) -> None:
    page = views.troubles_page(BOOKS.troubles(100), NOW, say)
    assert [section.name for section in page.sections] == ["alarm-conflict", "reject-malformed", "held-later", "ticked"]
    assert all(section.to_do for section in page.sections[:-1])
    assert page.sections[0].heading == say("trouble.conflict.title")


def test_a_trouble_that_nobody_foresaw_is_shown_with_its_own_sentence(say: Say) -> None:
    strange = Trouble(Sort.REJECT, "the-moon", "港01", 1, 5, NOW.unix_ms, "The moon was in the way.")
    (section,) = views.troubles_page(Troubles((strange,), 1), NOW, say).sections
    assert section.heading == say("trouble.other_reject.title")
    assert "The moon was in the way." in str(section.table)


def test_what_is_not_shown_of_many_troubles_is_said(say: Say) -> None:
    page = views.troubles_page(replace(BOOKS.troubles(1), total=900), NOW, say)
    assert say("troubles.shown", count=1) in page.sentences


# --- One card ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        "0123456789ABCDEF",
        "0123 4567 89ab cdef",
        "01:23:45:67:89:AB:CD:EF",
        "01-23-45-67-89-AB-CD-EF\r\n",
        "０１２３４５６７８９ＡＢＣＤＥＦ",
    ],
)
def test_an_idm_may_be_typed_in_any_of_the_usual_ways(typed: str) -> None:
    assert views.idm(typed) == made_up.CARD


@pytest.mark.parametrize(
    ("typed", "problem"), [("", "card.empty"), ("  ", "card.empty"), ("0123", "card.wrong_length"), ("0123 4567 89AB CDEG", "card.not_hex")]
)
def test_what_is_no_idm_is_answered_in_one_sentence(typed: str, problem: str, say: Say) -> None:
    with pytest.raises(views.NotAnIdm) as wrong:
        views.idm(typed)
    assert wrong.value.name == problem
    assert views.card_page(say, wrong.value, typed).problem


@given(st.text(max_size=60))
def test_whatever_is_typed_is_eight_bytes_or_refused(typed: str) -> None:
    try:
        found = len(views.idm(typed))
    except views.NotAnIdm as wrong:
        found = 8 if views.card_page(WORDS.in_language(Language.JA), wrong, typed).problem else 0
    assert found == 8


def a_rider(spent: int, booked: int, unknown_points: int = 0) -> Rider:
    reading = Reading(NOW.unix_ms, "港01", 4_000, spent)
    return Rider((), 0, (), booked, 1 if unknown_points else 0, unknown_points, reading)


@pytest.mark.parametrize(
    ("rider", "word", "level"),
    [
        (a_rider(900, 900), "purse.equal", Level.GOOD),
        (a_rider(1_000, 900, 100), "purse.unknown", Level.LOOK),
        (a_rider(1_000, 900), "purse.more", Level.LOOK),
        (a_rider(1_100, 900, 100), "purse.more", Level.LOOK),
        (a_rider(800, 900), "purse.less", Level.ACT),
        (replace(a_rider(0, 0), reading=None), "purse.unread", Level.REST),
    ],
)
def test_purse_and_books_are_compared_and_what_it_means_is_said(rider: Rider, word: str, level: Level, say: Say) -> None:
    state = views.purse_state(rider, say)
    apart = abs((rider.reading.spent if rider.reading else 0) - rider.booked)
    assert (state.text, state.level) == (say(word, points=apart) if apart else say(word), level)


def test_a_ride_found_to_be_unpaid_shows_no_points_taken(say: Say) -> None:
    rider = BOOKS.rider(made_up.rider_of(made_up.CARD), 100)
    assert rider is not None
    unpaid = [ride for ride in rider.rides if ride.outcome is Outcome.UNPAID]
    page = views.rider_page(replace(rider, rides=tuple(unpaid)), NOW, say)
    (table,) = [section.table for section in page.sections if section.name == "rides" and section.table]
    assert [getattr(row[4], "text", "") for row in table.rows] == ["0"]


def test_a_ride_that_was_put_right_later_says_so(say: Say) -> None:
    rider = BOOKS.rider(made_up.rider_of(made_up.CARD), 1)
    assert rider is not None
    ride = replace(rider.rides[0], kind=Kind.PAID, corrected=-50)
    assert views.ride_state(ride, say).detail == say("ride.corrected", points=-50)


# --- Months -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("2026-10", date(2026, 10, 1)),
        ("", date(2026, 11, 1)),
        ("2027-01", date(2026, 11, 1)),
        ("0000-99", date(2026, 11, 1)),
        ("0001-01", date(2026, 11, 1)),
        ("x" * 99, date(2026, 11, 1)),
    ],
)
def test_a_month_is_read_and_anything_else_is_this_month(text: str, first: date) -> None:
    assert views.month_of(text, NOW.today) == first


def test_the_running_month_leads_back_only_and_an_older_one_both_ways(say: Say) -> None:
    def leads_to(first: date) -> list[str]:
        return [link.href[-7:] for link in views.months_page(first, Accounts((), ()), NOW, say, bills=False).links]

    assert leads_to(date(2026, 11, 1)) == ["2026-10"]
    assert leads_to(date(2026, 1, 1)) == ["2025-12", "2026-02"]


def test_links_with_one_text_are_told_apart_by_what_is_said_after_it(say: Say) -> None:
    page = views.months_page(date(2026, 11, 1), BOOKS.month(NOVEMBER, NOW.unix_ms), NOW, say, bills=True)
    links = [link for section in page.sections for link in section.links]
    assert len(links) == 4
    assert len({(link.text, link.about) for link in links}) == 4


def test_the_last_row_of_a_bill_on_the_page_is_what_the_bill_asks_for(say: Say) -> None:
    told = BOOKS.month(NOVEMBER, NOW.unix_ms).bills
    page = views.months_page(date(2026, 11, 1), BOOKS.month(NOVEMBER, NOW.unix_ms), NOW, say, bills=True)
    tables = [section.table for section in page.sections if section.name.startswith("bill-")]
    shown = [[getattr(cell, "text", "") for cell in table.rows[-1][1:]] for table in tables if table]
    assert shown == [[f"{each.rides:,}", f"{each.points:,}", f"{each.yen:,}"] for each in told]
    assert [section.heading for section in page.sections[:2]] == ["北みなと交通", "みなと町営バス"]


def test_a_bill_is_open_due_closed_or_not_what_was_closed(say: Say) -> None:
    (_, told) = BOOKS.month(Month(2026, 10), NOW.unix_ms).bills
    closed = Closed("minato", told.month, NOW.unix_ms, told.rides, told.points, told.yen)
    (running,) = [each for each in BOOKS.month(NOVEMBER, NOW.unix_ms).bills if each.operator == "minato"]
    states = [
        views.bill_state(running, None, NOW, say),
        views.bill_state(told, None, NOW, say),
        views.bill_state(told, closed, NOW, say),
        views.bill_state(told, closed._replace(yen=told.yen + 1), NOW, say),
    ]
    assert [state.level for state in states] == [Level.REST, Level.LOOK, Level.GOOD, Level.ACT]


# --- Alarms -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "problem"), [("", "tick.empty"), (" \n\t", "tick.empty"), ("あ" * 201, "tick.too_long"), ("a\x00b", "tick.not_text")]
)
def test_what_is_no_note_is_answered_in_one_sentence(typed: str, problem: str, say: Say) -> None:
    with pytest.raises(views.NotANote) as wrong:
        views.note(typed)
    assert wrong.value.name == problem
    assert views.alarm_page(the_alarm(BOOKS, 1), NOW, say, problem, typed).problem == say(problem)


def test_a_note_is_kept_as_one_line(say: Say) -> None:
    assert views.note("  電話　した。\r\n  Called. ") == "電話 した。 Called."
    assert views.alarm_page(the_alarm(BOOKS, 3), NOW, say).state == State(Level.GOOD, say("tick.done"))


def test_sections_of_a_page_have_names_of_their_own(say: Say) -> None:
    for page in every_page(BOOKS, say):
        names = [section.name for section in page.sections if isinstance(section, Section)]
        assert len(set(names)) == len(names)


# --- The door ---------------------------------------------------------------------------------------------------------------------------

FILE = "# clerks\nsato correct horse battery staple\nito  tsuki ga kirei desu ne\n"


def a_door() -> door.Door:
    return door.Door(door.read_clerks(FILE), bytes(32))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no clerk"),
        ("# nobody\n\n", "no clerk"),
        ("sato short\n", "line 1"),
        ("sato\n", "line 1"),
        (FILE + "sato another long passphrase\n", "line 4"),
        (FILE + "abe correct horse battery staple\n", "the same"),
    ],
)
def test_a_file_of_passphrases_that_cannot_serve_is_refused_in_a_sentence_without_a_passphrase(text: str, told: str) -> None:
    with pytest.raises(door.PassphrasesUnusable, match=told) as wrong:
        door.read_clerks(text)
    assert "horse" not in str(wrong.value)


def test_each_clerk_comes_in_by_their_own_passphrase_even_in_full_width_letters() -> None:
    clerks = door.read_clerks(FILE)
    assert clerks.who("correct horse battery staple ") == "sato"
    assert clerks.who("ｔｓｕｋｉ ｇａ ｋｉｒｅｉ ｄｅｓｕ ｎｅ") == "ito"
    assert clerks.who("sato") is None
    assert "horse" not in repr(clerks)


def test_a_session_lasts_twelve_hours_from_its_last_use() -> None:
    house = a_door()
    visit = house.enter("correct horse battery staple", "visit", 0)
    assert visit is not None
    cookie = house.cookie(visit)
    assert house.visit(cookie, 11 * 3600) == visit
    assert house.visit(cookie, 13 * 3600) == door.Visit("visit")
    assert house.renewed(visit, 60) is None
    later = house.renewed(visit, 11 * 3600)
    assert later is not None
    assert house.visit(house.cookie(later), 22 * 3600) == later
    assert house.renewed(door.Visit("stranger"), 11 * 3600) is None


def test_another_process_of_the_same_city_knows_the_session_and_another_city_does_not() -> None:
    visit = a_door().enter("correct horse battery staple", "visit", 0)
    assert visit is not None
    cookie = a_door().cookie(visit)
    assert a_door().visit(cookie, 1) == visit
    assert door.Door(door.read_clerks(FILE), bytes([1] * 32)).visit(cookie, 1).clerk is None


def test_a_changed_passphrase_ends_the_sessions_of_its_clerk_only() -> None:
    cookies = {}
    for passphrase in ("correct horse battery staple", "tsuki ga kirei desu ne"):
        visit = a_door().enter(passphrase, "visit", 0)
        assert visit is not None
        cookies[visit.clerk] = a_door().cookie(visit)
    house = door.Door(door.read_clerks(FILE.replace("horse", "goat")), bytes(32))
    assert [house.visit(cookies[clerk], 1).clerk for clerk in ("sato", "ito")] == [None, "ito"]


@given(st.data())
def test_a_cookie_with_any_other_letter_lets_nobody_in(data: st.DataObject) -> None:
    visit = a_door().enter("correct horse battery staple", "visit", 0)
    assert visit is not None
    cookie = a_door().cookie(visit)
    at = data.draw(st.integers(0, len(cookie) - 1))
    other = cookie[:at] + data.draw(st.characters(codec="ascii").filter(lambda char: char != cookie[at])) + cookie[at + 1 :]
    assert a_door().visit(other, 1).clerk is None


@given(st.text(max_size=200))
def test_any_cookie_at_all_is_a_strangers(cookie: str) -> None:
    assert a_door().visit(cookie, 1).clerk is None


def test_guessing_is_slowed_to_one_each_thirty_seconds_and_the_right_one_waits_too() -> None:
    house = a_door()
    tried = [house.wait_s(0) == 0 and house.enter(f"wrong {n}", "v", 0) is None for n in range(20)]
    assert sum(tried) == door.GUESSES
    assert house.enter("correct horse battery staple", "v", 0) is None
    assert house.wait_s(0) == 30
    assert house.enter("correct horse battery staple", "v", 31) is not None


def test_a_form_is_worth_something_to_the_visit_it_was_shown_to_only() -> None:
    house = a_door()
    visits = [door.Visit(name) for name in ("a", "b", "")]
    assert [[house.fits(visit, house.token(other)) for visit in visits] for other in visits] == [
        [True, False, False],
        [False, True, False],
        [False, False, False],
    ]
    assert not house.fits(visits[0], "ユ")
