"""The clerks' pages in a real Chromium, judged by axe-core, and walked by keyboard alone: nothing here was written by us but the pages.

One browser, a server on loopback, a made-up town. Without Chromium the tests say aloud that they were skipped; ``--prove`` fails instead,
and looks at every page in each language at both widths, where a quick run takes one width for each language. axe-core tries every rule it
has up to WCAG 2.2 AA, its best practices, and contrast by the stricter AAA (7 : 1, which AA's 4.5 : 1 follows from, so it is asked once).

Each page is opened once in each language (``walk``), and everything that only looks at a page is looked at then.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from backoffice.console import door, made_up
from backoffice.console.pages import Bill, Desk, console_router
from backoffice.health import Rules

WORD_OF_SATO = "correct horse battery staple"
LANGUAGES = {"ja": "ja-JP", "en": "en-GB"}
WIDE, NARROW = 1280, 320
PLACES = ("/console/", "/console/troubles", "/console/gaps", "/console/card", "/console/months")
MORE_PLACES = ("/console/months?month=2026-10", "/console/alarms/1", "/console/alarms/3", "/console/nothing")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
MORE_RULES = {"color-contrast-enhanced": {"enabled": True}, "color-contrast": {"enabled": False}, "target-size": {"enabled": True}}
in_japanese = pytest.mark.parametrize("office", ["ja"], indirect=True)
"""What does not hang on the words is tried once."""

FOCUSED = """() => {
  const it = document.activeElement;
  const style = getComputedStyle(it);
  const box = it.getBoundingClientRect();
  return {tag: it.tagName, text: (it.innerText || it.id || '').trim(), href: it.getAttribute('href') || '',
          top: box.top + scrollY, left: box.left, seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
          inside: box.right <= innerWidth + 1 && box.width > 0};
}"""
REACHABLE = (
    """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden])')].map(it => (it.innerText || it.id || '').trim())"""
)


@dataclass(frozen=True, slots=True)
class Site:
    """A server with the pages, and a browser to see them."""

    browser: Any
    address: str
    whole: str


class Served:
    """The pages of one desk on a port of loopback, in a thread."""

    def __init__(self, books: made_up.MadeUpBooks) -> None:
        import uvicorn
        from fastapi import FastAPI

        clerks = door.read_clerks(f"sato {WORD_OF_SATO}\n")
        desk = Desk(books, clerks, bytes(32), made_up.rider_of, lambda: made_up.NOW_MS, made_up.ZONE, lambda _: None, Rules(), _bill)
        city = FastAPI()
        city.include_router(console_router(desk))
        self._server = uvicorn.Server(uvicorn.Config(city, host="127.0.0.1", port=0, log_config=None, ws="none"))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < until
            assert self._thread.is_alive()
            time.sleep(0.01)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


def _bill(operator: str, month: object, form: str) -> Bill:
    return Bill(f"{operator} {month}".encode(), "text/csv", f"bill.{form}")


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    found = shutil.which("chromium")
    if found is None:
        why = "there is no Chromium here (apt package chromium); nobody looked at the clerks' pages"
        if request.config.getoption("--prove"):
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    # Chromium's own sandbox refuses root, and a machine that runs tests is often root in a container.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        Served(made_up.MadeUpBooks()) as address,
        Served(made_up.MadeUpBooks(whole=True)) as whole,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield Site(browser, address, whole)
        browser.close()


@pytest.fixture(scope="module", params=LANGUAGES)
def office(request: pytest.FixtureRequest, site: Site) -> Iterator[Any]:
    """A clerk's browser, signed in, in each language."""
    context = site.browser.new_context(locale=LANGUAGES[request.param], base_url=site.address)
    told: list[str] = []
    context.on("console", lambda message: told.append(message.text))
    window = context.new_page()
    window.goto("/console/")
    sign_in(window)
    window.close()
    yield context
    context.close()
    # What the content policy refused would be told there. So are the 4xx answers to what is mistyped here on purpose.
    assert [text for text in told if "status of 4" not in text] == []


@pytest.fixture
def page(office: Any) -> Iterator[Any]:
    """A window of the clerk's browser."""
    window = office.new_page()
    window.set_viewport_size({"width": WIDE, "height": 900})
    yield window
    window.close()


def sign_in(page: Any, passphrase: str = WORD_OF_SATO) -> None:
    write(page, passphrase)
    press(page, "Enter")


def write(page: Any, text: str) -> None:
    """Type, once the page has put the focus into its one field by itself."""
    page.wait_for_function("document.activeElement.matches('input[autofocus]')")
    page.keyboard.type(text)


def press(page: Any, key: str) -> None:
    with page.expect_navigation():
        page.keyboard.press(key)


def look_up(page: Any, idm: str) -> None:
    page.goto("/console/card")
    write(page, idm)
    press(page, "Enter")


def faults(page: Any, *, contrast: bool = True) -> list[str]:
    """What axe-core finds wrong, and what it could not decide, as sentences. ``contrast``: look at colours too, half of the work."""
    from axe_playwright_python.sync_playwright import Axe

    rules = MORE_RULES | {"color-contrast-enhanced": {"enabled": contrast}}
    told = Axe().run(page, options={"runOnly": TAGS, "rules": rules, "resultTypes": ["violations", "incomplete"]}).response
    assert told["testEngine"]["name"] == "axe-core"
    assert len(told["passes"]) > 15
    return [
        f"{page.url} {page.viewport_size['width']} px: {fault['id']}: {node['target']} {node['failureSummary']}"
        for kind in ("violations", "incomplete")
        for fault in told[kind]
        for node in fault["nodes"]
        # A shape is no text to axe, which then says that it cannot tell; its colour is that of the word behind it.
        if not (kind == "incomplete" and "contrast" in fault["id"] and ".shape" in str(node["target"]))
    ]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen on one page: axe-core's sentences; widths at which it scrolls sideways; parts that could run or move by themselves."""

    place: str
    faults: list[str]
    sideways: list[int]
    lively: int


@pytest.fixture(scope="module")
def walk(office: Any, request: pytest.FixtureRequest) -> list[Look]:
    """Every page of one language, and every answer to what somebody may send."""
    whole = request.config.getoption("--prove")
    window = office.new_page()
    looks = []
    for place in (*PLACES, *MORE_PLACES, "0123 45", "f" * 16, made_up.CARD.hex(), "an alarm without a word"):
        window.set_viewport_size({"width": WIDE, "height": 900})
        if place.startswith("/"):
            window.goto(place)
        elif place.startswith("an alarm"):
            send_no_word(window)
        else:
            look_up(window, place)
        found, sideways = [], []
        quick = WIDE if "ja-" in window.evaluate("navigator.language") else NARROW
        for width in (WIDE, WIDE // 2, NARROW):  # a browser that enlarges to 200 % lays out for half the width
            window.set_viewport_size({"width": width, "height": 900})
            sideways += [] if window.evaluate("document.documentElement.scrollWidth <= innerWidth") else [width]
            # Colours do not hang on the words: in a quick run they are looked at in Japanese.
            found += faults(window, contrast=whole or quick == WIDE) if width == quick or (whole and width != WIDE // 2) else []
        looks.append(Look(place, found, sideways, window.locator("script, meta[http-equiv=refresh], [onclick], [style]").count()))
    window.close()
    return looks


def send_no_word(page: Any) -> None:
    """Tick an alarm off without a word, past a browser that would not send it."""
    page.goto("/console/alarms/1")
    page.evaluate("document.querySelector('#note').required = false")
    page.locator("#note").focus()
    press(page, "Enter")


# --- axe-core ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.prove
def test_axe_finds_nothing_on_any_page(walk: list[Look]) -> None:
    assert [fault for look in walk for fault in look.faults] == []


@pytest.mark.prove
def test_no_page_scrolls_sideways_at_320_pixels_or_at_twice_the_size(walk: list[Look]) -> None:
    assert [(look.place, look.sideways) for look in walk if look.sideways] == []


@pytest.mark.prove
def test_nothing_moves_by_itself_and_no_script_is_on_any_page(walk: list[Look]) -> None:
    assert [look.place for look in walk if look.lively] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_nothing_at_the_door_nor_on_a_day_without_troubles(site: Site, language: str) -> None:
    context = site.browser.new_context(locale=LANGUAGES[language], base_url=site.whole)
    page = context.new_page()
    page.goto("/console/")
    sign_in(page, "wrong horse")
    found = faults(page)
    sign_in(page)
    found += faults(page)
    context.close()
    assert found == []


@in_japanese
def test_axe_would_have_found_something(page: Any) -> None:
    page.goto("/console/card")
    page.evaluate("document.querySelector('label').remove()")
    assert any(": label:" in fault for fault in faults(page))


# --- by keyboard alone ------------------------------------------------------------------------------------------------------------------


def test_tab_reaches_everything_once_in_the_order_of_reading_and_shows_where_it_is(page: Any) -> None:
    for place in (*PLACES, "/console/alarms/3"):
        page.goto(place)
        wanted = page.evaluate(REACHABLE)
        page.locator(".skip").focus()
        walked = [page.evaluate(FOCUSED)]
        for _ in wanted[1:]:
            page.keyboard.press("Tab")
            walked.append(page.evaluate(FOCUSED))
        assert [step["text"] for step in walked] == wanted
        assert [step for step in walked if not (step["seen"] and step["inside"])] == []
        tops = [step["top"] // 60 for step in walked[1:]]
        assert tops == sorted(tops)


@in_japanese
def test_the_first_tab_leads_past_everything_to_the_content(page: Any) -> None:
    page.goto("/console/gaps")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED)["href"] == "#main"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


@in_japanese
def test_enter_follows_every_link_of_the_navigation(page: Any) -> None:
    for place in PLACES[1:]:
        page.goto("/console/")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate(FOCUSED)["href"] == place:
                break
        press(page, "Enter")
        assert page.evaluate("location.pathname") == place
        assert page.locator("nav a[aria-current=page]").get_attribute("href") == place


@in_japanese
def test_a_card_is_looked_up_and_put_right_without_a_mouse(page: Any) -> None:
    look_up(page, "0123 45")
    page.wait_for_function("document.activeElement.matches('input[autofocus]')")
    field = page.evaluate("({id: document.activeElement.id, bad: document.activeElement.getAttribute('aria-invalid')})")
    assert field == {"id": "idm", "bad": "true"}
    page.keyboard.press("Control+A")
    page.keyboard.type("0123 4567 89AB CDEF")
    press(page, "Enter")
    assert page.locator("table").count() == 3
    assert "idm" not in page.url
    assert made_up.CARD.hex() not in page.content().lower()


@in_japanese
def test_an_alarm_is_ticked_off_and_put_back_without_a_mouse(page: Any) -> None:
    page.goto("/console/troubles")
    for place in ("/console/alarms/2", "main"):
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate(FOCUSED)["href"] == place or page.evaluate("document.activeElement.id") == "note":
                break
        if place != "main":
            press(page, "Enter")
    page.keyboard.type("Called the operator.")
    press(page, "Enter")
    assert page.locator(".summary").inner_text() == "● 確認済み"
    assert page.get_by_role("row", name="sato").get_by_role("cell", name="Called the operator.").count() == 1
    field = page.get_by_role("textbox", name="対応の内容、または理由")
    assert "後から消せません" in page.evaluate("id => document.getElementById(id).innerText", field.get_attribute("aria-describedby"))
    field.focus()
    page.keyboard.type("Not yet.")
    press(page, "Enter")
    assert page.locator(".summary").inner_text() == "■ まだ確認されていません"


@in_japanese
def test_what_is_wrong_with_a_note_is_said_at_once_and_the_focus_is_where_it_is_put_right(page: Any) -> None:
    send_no_word(page)
    page.wait_for_function("document.activeElement.id === 'note'")
    assert page.get_by_role("alert").inner_text().endswith("何をしたか、短く書いてください。")
    assert page.title().startswith("エラー")


def test_a_clerk_signs_out_by_keyboard_and_going_back_shows_nothing(site: Site) -> None:
    context = site.browser.new_context(base_url=site.address)
    page = context.new_page()
    page.goto("/console/card")
    sign_in(page)
    look_up(page, made_up.CARD.hex())
    page.locator(".leave button").focus()
    press(page, "Enter")
    from playwright.sync_api import Error as PageGone

    with suppress(PageGone):  # "please send the form again", says Chromium, and has kept nothing
        page.go_back()
    page.wait_for_function("document.readyState === 'complete'")
    assert "市民病院前" not in page.content()
    context.close()


# --- for the ear, and enlarged ----------------------------------------------------------------------------------------------------------


@in_japanese
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_screen_reader_meets_landmarks_one_heading_and_tables_with_headers_at_any_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/console/")
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in tree if not node.get("ignored")]
    assert [roles.count(role) for role in ("banner", "main", "navigation", "table")] == [1, 1, 2, 1]
    assert (roles.count("columnheader"), roles.count("rowheader")) == (7, 10)
    assert page.locator("h1").count() == 1
    assert page.get_by_role("table").get_by_role("row").count() == 11
    assert page.get_by_role("table", name=page.locator("caption").inner_text()).count() == 1
    page.goto("/console/months")
    assert page.get_by_role("table").count() == 3
    for caption in page.locator("caption").all_inner_texts():
        table = page.get_by_role("table", name=caption, exact=True)
        assert table.get_by_role("columnheader").count() in {4, 5}
        assert table.get_by_role("rowheader").count() == table.get_by_role("row").count() - 1


def test_the_page_says_its_language_and_the_other_one_is_named_in_itself(site: Site) -> None:
    context = site.browser.new_context(locale="ja-JP", base_url=site.address)
    page = context.new_page()
    page.goto("/console/enter")
    for own, other in (("ja", "en"), ("en", "ja")):
        assert page.evaluate("document.documentElement.lang") == own
        link = page.locator("nav.languages a")
        assert (link.get_attribute("lang"), link.inner_text()) == (other, {"ja": "日本語", "en": "English"}[other])
        link.focus()
        press(page, "Enter")
    context.close()


@in_japanese
def test_on_paper_there_is_the_content_and_no_navigation(page: Any) -> None:
    look_up(page, made_up.CARD.hex())
    page.emulate_media(media="print")
    assert [page.locator(each).first.is_visible() for each in ("h1", "table", "nav.pages", ".leave", ".links")] == [
        True,
        True,
        False,
        False,
        False,
    ]
