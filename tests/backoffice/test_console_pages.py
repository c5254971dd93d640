"""The clerks' pages over HTTP: who gets in, what a page tells a browser, and where a card's number does not go."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from backoffice.console import door, made_up
from backoffice.console.pages import MOST_BYTES, Bill, Desk, console_router
from backoffice.health import Rules

WORD_OF_SATO = "correct horse battery staple"
PAGES = ("/console/", "/console/troubles", "/console/gaps", "/console/card", "/console/months", "/console/alarms/1")
IDM = made_up.CARD.hex()


class Browser:
    """Walks the application through its own door, without a server; keeps cookies and follows where it is led."""

    def __init__(self, city: FastAPI) -> None:
        transport = httpx.ASGITransport(app=city)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://office.example", follow_redirects=True)
        self._loop = asyncio.Runner()

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self._loop.run(self._client.get(path, **more))

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self._loop.run(self._client.post(path, **more))

    @property
    def cookies(self) -> httpx.Cookies:
        return self._client.cookies

    def close(self) -> None:
        self._loop.run(self._client.aclose())
        self._loop.close()


@dataclass
class Office:
    """A city's application with a clerk before it."""

    books: made_up.MadeUpBooks = field(default_factory=made_up.MadeUpBooks)
    noted: list[str] = field(default_factory=list[str])
    now_ms: int = made_up.NOW_MS

    @contextmanager
    def browser(self) -> Iterator[Browser]:
        clerks = door.read_clerks(f"sato {WORD_OF_SATO}\n")
        desk = Desk(
            self.books, clerks, bytes(32), made_up.rider_of, lambda: self.now_ms, made_up.ZONE, self.noted.append, Rules(), self.bill
        )
        city = FastAPI()
        city.include_router(console_router(desk))
        browser = Browser(city)
        try:
            yield browser
        finally:
            browser.close()

    @staticmethod
    def bill(operator: str, month: date, form: str) -> Bill | None:
        return Bill(f"{operator} {month} {form}".encode(), "text/csv; charset=utf-8", "請求書.csv") if operator == "minato" else None


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
def browser(office: Office) -> Iterator[Browser]:
    with office.browser() as client:
        yield client


def token(page: str) -> str:
    return re.findall(r'name="token" value="(\w+)"', page)[-1]


def enter(browser: Browser, passphrase: str = WORD_OF_SATO, to: str = "") -> str:
    page = browser.get("/console/enter", params={"to": to} if to else {}).text
    sent = {"token": token(page), "passphrase": passphrase, "to": to}
    return browser.post("/console/enter", data=sent).text


def look_up(browser: Browser, idm: str) -> tuple[int, str]:
    page = browser.get("/console/card").text
    answer = browser.post("/console/card", data={"token": token(page), "idm": idm})
    return answer.status_code, answer.text


# --- Getting in -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/console/bills/minato/2026-10.pdf", "/console/nothing"])
def test_no_page_is_shown_to_a_stranger_who_is_led_to_the_passphrase(browser: Browser, path: str) -> None:
    answer = browser.get(path, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/enter?to=/console/")
    assert answer.text == ""


def test_a_stranger_who_sends_a_card_gets_nothing(browser: Browser, office: Office) -> None:
    answer = browser.post("/console/card", data={"idm": IDM}, follow_redirects=False)
    assert (answer.status_code, office.noted) == (303, [])


def test_the_passphrase_leads_on_to_the_page_that_was_asked_for(browser: Browser, office: Office) -> None:
    assert "<h1>未着の記録</h1>" in enter(browser, to="/console/gaps")
    assert office.noted == ["console: sato came in"]


def test_the_site_itself_leads_to_todays_vehicles(browser: Browser) -> None:
    enter(browser)
    assert "<h1>今日の車両</h1>" in browser.get("/").text


def test_a_wrong_passphrase_is_said_and_the_page_is_titled_an_error(browser: Browser) -> None:
    page = enter(browser, "wrong horse battery staple")
    assert "合言葉が違います" in page
    assert "<title>エラー: " in page
    assert 'aria-invalid="true"' in page


def test_many_wrong_passphrases_are_told_to_wait(browser: Browser) -> None:
    for _ in range(door.GUESSES):
        enter(browser, "wrong")
    page = browser.get("/console/enter").text
    answer = browser.post("/console/enter", data={"token": token(page), "passphrase": WORD_OF_SATO})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "/console//evil.example", "/console/..//x", "/console/\\evil"])
def test_no_link_to_us_leads_elsewhere_after_the_passphrase(browser: Browser, to: str) -> None:
    page = browser.get("/console/enter", params={"to": to}).text
    sent = {"token": token(page), "passphrase": WORD_OF_SATO, "to": to}
    assert browser.post("/console/enter", data=sent, follow_redirects=False).headers["location"] == "/console/"


def test_a_visit_gets_a_new_name_when_its_clerk_comes_in(browser: Browser) -> None:
    browser.get("/console/enter")
    before = browser.cookies["kazashi-visit"]
    enter(browser)
    assert browser.cookies["kazashi-visit"] != before


def test_a_session_cookie_is_for_no_script_and_no_other_site(browser: Browser) -> None:
    page = browser.get("/console/enter").text
    answer = browser.post("/console/enter", data={"token": token(page), "passphrase": WORD_OF_SATO}, follow_redirects=False)
    told = answer.headers["set-cookie"].lower()
    assert all(part in told for part in ("httponly", "samesite=strict", "path=/console"))
    assert "secure" not in told
    behind = browser.get("/console/enter", headers={"X-Forwarded-Proto": "https"}, follow_redirects=False)
    assert "secure" not in behind.headers.get("set-cookie", "")  # signed in already: nothing is set
    browser.cookies.clear()
    assert "secure" in browser.get("/console/enter", headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"].lower()


def test_whoever_signs_out_is_out(browser: Browser) -> None:
    page = enter(browser)
    browser.post("/console/leave", data={"token": token(page)})
    assert "kazashi-visit" not in browser.cookies or "." not in browser.cookies["kazashi-visit"]
    assert browser.get("/console/", follow_redirects=False).status_code == 303


def test_a_clerk_at_work_stays_in_all_day(browser: Browser, office: Office) -> None:
    enter(browser)
    for _ in range(3):
        office.now_ms += 11 * 3_600_000
        assert browser.get("/console/", follow_redirects=False).status_code == 200


def test_nobody_is_in_the_next_morning(browser: Browser, office: Office) -> None:
    enter(browser)
    office.now_ms += 13 * 3_600_000
    assert browser.get("/console/", follow_redirects=False).status_code == 303


# --- What a page tells a browser ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/console/nothing", "/console/enter", "/console/style.css"])
def test_no_page_runs_a_script_is_framed_or_is_kept(browser: Browser, path: str) -> None:
    enter(browser)
    answer = browser.get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == ("no-cache" if path.endswith(".css") else "no-store")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in answer.text
    assert " style=" not in answer.text


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_page_comes_in_the_language_the_browser_asks_for_and_says_which(browser: Browser, path: str, language: str) -> None:
    enter(browser)
    page = browser.get(path, headers={"Accept-Language": language}).text
    assert f'<html lang="{language}">' in page
    assert {"ja": "終了する", "en": "Sign out"}[language] in page


def test_a_language_that_was_chosen_stays_whatever_the_browser_asks_for(browser: Browser) -> None:
    enter(browser)
    chosen = browser.get("/console/language/en?to=/console/months%3Fmonth%3D2026-10", headers={"Accept-Language": "ja"})
    assert "<h2 " in chosen.text
    assert "October 2026" in chosen.text
    assert '<html lang="en">' in browser.get("/console/", headers={"Accept-Language": "ja"}).text
    assert browser.get("/console/language/xx", follow_redirects=False).headers.get("set-cookie") is None


def test_what_a_vehicle_is_called_is_text_and_never_markup(office: Office) -> None:
    with office.browser() as browser:
        enter(browser)
        page = browser.get("/console/enter", params={"to": '/console/"><script>alert(1)</script>'}).text
    assert "<script" not in page


def test_books_that_do_not_answer_are_said_to_be_away(office: Office) -> None:
    office.books = made_up.MadeUpBooks(dark=True)
    with office.browser() as browser:
        enter(browser)
        answer = browser.get("/console/")
    assert answer.status_code == 503
    assert "帳簿のデータベースが応答しません" in answer.text


def test_a_page_that_is_not_there_says_so_within_the_house(browser: Browser) -> None:
    enter(browser)
    answer = browser.get("/console/nothing/at/all")
    assert answer.status_code == 404
    assert "このページはありません" in answer.text


# --- One card -----------------------------------------------------------------------------------------------------------------------------


def test_a_card_is_looked_up_and_the_clerk_is_noted_but_not_the_rider(browser: Browser, office: Office) -> None:
    enter(browser)
    status, page = look_up(browser, "0123 4567 89ab cdef")
    assert status == 200
    assert "市民病院前" in page
    assert office.noted[-1] == "console: sato looked up a card"


def test_a_cards_number_is_in_no_page_no_address_and_no_note(browser: Browser, office: Office) -> None:
    enter(browser)
    for idm in (IDM, "00" * 8):
        _, page = look_up(browser, idm)
        told = page.lower() + " ".join(office.noted).lower()
        assert idm not in told
        assert made_up.rider_of(bytes.fromhex(idm)).hex() not in told or idm == "00" * 8
    assert all("idm" not in str(request.url) for request in [browser.get("/console/card").request])
    assert browser.get("/console/card", params={"idm": IDM}).text.lower().count(IDM) == 0


def test_a_mistyped_number_is_given_back_to_be_put_right(browser: Browser, office: Office) -> None:
    enter(browser)
    status, page = look_up(browser, "0123 45")
    assert status == 422
    assert 'value="0123 45"' in page
    assert 'aria-describedby="hint problem"' in page
    assert "IDmが 6 桁です" in page
    assert "looked up" not in office.noted[-1]


def test_a_card_that_nobody_knows_is_said_to_be_unknown(browser: Browser) -> None:
    enter(browser)
    status, page = look_up(browser, "F" * 16)
    assert (status, "このカードの記録はありません" in page) == (200, True)


@pytest.mark.parametrize(
    ("headers", "sent"), [({}, {"idm": IDM}), ({}, {"idm": IDM, "token": "0" * 64}), ({"Sec-Fetch-Site": "cross-site"}, {"idm": IDM})]
)
def test_a_form_from_elsewhere_looks_nobody_up(browser: Browser, office: Office, headers: dict[str, str], sent: dict[str, str]) -> None:
    page = enter(browser)
    own = {"token": token(page)} if headers else {}
    answer = browser.post("/console/card", data=sent | own, headers=headers)
    assert answer.status_code == 403
    assert "市民病院前" not in answer.text
    assert "looked up" not in office.noted[-1]


def test_a_form_that_is_too_long_is_refused_before_it_is_read(browser: Browser) -> None:
    enter(browser)
    assert browser.post("/console/card", content=b"idm=" + b"0" * MOST_BYTES).status_code == 413


# --- Bills --------------------------------------------------------------------------------------------------------------------------------


def test_a_bill_is_given_out_as_a_file(browser: Browser) -> None:
    enter(browser)
    answer = browser.get("/console/bills/minato/2026-10.csv")
    assert answer.text == "minato 2026-10-01 csv"
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%E8")


@pytest.mark.parametrize("path", ["kita/2026-10.csv", "minato/2026-10.exe", "minato/2027-10.csv", "minato/latest.csv"])
def test_a_bill_that_cannot_be_is_said_in_a_sentence(browser: Browser, path: str) -> None:
    enter(browser)
    answer = browser.get(f"/console/bills/{path}")
    assert (answer.status_code, "月別集計へ戻り" in answer.text) == (404, True)


# --- Alarms -------------------------------------------------------------------------------------------------------------------------------


def say_about(browser: Browser, alarm: int, note: str, seen: int | None = None) -> httpx.Response:
    page = browser.get(f"/console/alarms/{alarm}").text
    shown = re.findall(r'name="seen" value="(\d+)"', page)[-1]
    return browser.post(f"/console/alarms/{alarm}", data={"token": token(page), "seen": shown if seen is None else seen, "note": note})


def test_an_alarm_is_ticked_off_with_who_when_and_what_and_put_back(browser: Browser, office: Office) -> None:
    enter(browser)
    assert "/console/alarms/1" in browser.get("/console/troubles").text
    page = say_about(browser, 1, "事業者へ電話した。").text
    assert all(part in page for part in ("確認済み", "sato", "事業者へ電話した。", "10:32"))
    assert office.noted[-1] == "console: sato ticked off alarm 1"
    listed = browser.get("/console/troubles").text
    assert listed.index("最近確認した警報") < listed.index("/console/alarms/1")
    page = say_about(browser, 1, "まだ続いている。").text
    assert "まだ確認されていません" in page
    assert office.noted[-1] == "console: sato put back alarm 1"
    assert [tick.done for tick in office.books.said[1]] == [True, False]


def test_an_alarm_is_not_ticked_off_without_a_word_nor_over_another_clerks(browser: Browser, office: Office) -> None:
    enter(browser)
    answer = say_about(browser, 1, "  ")
    assert (answer.status_code, "何をしたか、短く書いてください" in answer.text) == (422, True)
    assert 'aria-describedby="hint problem"' in answer.text
    answer = say_about(browser, 3, "これも見た。", seen=0)
    assert (answer.status_code, "ほかの職員が先に記入しました" in answer.text) == (409, True)
    assert 'value="これも見た。"' in answer.text
    assert (1 in office.books.said, len(office.books.said[3])) == (False, 1)


@pytest.mark.parametrize("number", ["0", "99", "-1", "one", "1" * 30, "１"])
def test_an_alarm_that_is_none_is_a_page_that_is_not_there(browser: Browser, number: str) -> None:
    page = enter(browser)
    assert browser.get(f"/console/alarms/{number}").status_code == 404
    assert browser.post(f"/console/alarms/{number}", data={"token": token(page), "seen": "0", "note": "x"}).status_code == 404


def test_a_form_from_elsewhere_ticks_nothing_off(browser: Browser, office: Office) -> None:
    enter(browser)
    answer = browser.post("/console/alarms/1", data={"seen": "0", "note": "x"})
    assert (answer.status_code, 1 in office.books.said) == (403, False)


def test_a_stranger_ticks_nothing_off(browser: Browser, office: Office) -> None:
    answer = browser.post("/console/alarms/1", data={"seen": "0", "note": "x"}, follow_redirects=False)
    assert (answer.status_code, 1 in office.books.said) == (303, False)
