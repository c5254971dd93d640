"""Adapter (jinja2, FastAPI): the clerks' pages over HTTP, rendered here, without a script.

Every page needs a clerk (``backoffice.console.door`` says why); whoever is not in is sent to the passphrase and then on to where they
wanted to go. A card's IDm comes by POST only, so that it stands in no address, no history and no server's log; it becomes the rider's
pseudonym at once and is forgotten with the request. What a browser may do with a page is said in its headers: no script, nothing from
elsewhere, no frame, no copy kept. A form is taken only with the token that was shown to the same visit, and never from another site.

The language is the one chosen last, else what the browser asks for, else Japanese.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, tzinfo
from http import HTTPStatus
from importlib import resources
from secrets import token_urlsafe
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from backoffice.bill import Month
from backoffice.city import BooksAway
from backoffice.console import views, words
from backoffice.console.door import SESSION_S, Clerks, Door, Visit
from backoffice.console.facts import Alarm, Books, Tick
from backoffice.console.parts import ROOT, Now, Page, Place
from backoffice.console.words import Language, Say
from backoffice.health import Rules

MOST_BYTES = 4096
"""The longest form: a passphrase or an IDm, a token and an address."""

RIDES = 200
TROUBLES = 200
_MONTH = re.compile(r"\d{4}-\d{2}")
_VISIT = "kazashi-visit"
_LANGUAGE = "kazashi-language"
_A_YEAR_S = 365 * 24 * 3600
_NAMES = ((Language.JA.value, "日本語"), (Language.EN.value, "English"))
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class TooLong(Exception):
    """A form that no page of ours has."""


@dataclass(frozen=True, slots=True)
class Bill:
    """A file to give out."""

    content: bytes
    media_type: str
    filename: str


@dataclass(frozen=True, slots=True)
class Desk:
    """What the pages stand on.

    ``secret``: 32 bytes that all processes of this city share and nobody else knows. ``rider``: the vault's pseudonym of an IDm.
    ``now_ms``: Unix time. ``zone``: the town's. ``noted``: takes a line for the journal. ``rules``: when a vehicle is ill. ``bill``: an
    operator's bill of a month as "pdf" or "csv", None when there is none; without it the pages offer no bills.
    """

    books: Books
    clerks: Clerks
    secret: bytes
    rider: Callable[[bytes], bytes]
    now_ms: Callable[[], int]
    zone: tzinfo
    noted: Callable[[str], None]
    rules: Rules
    bill: Callable[[str, date, str], Bill | None] | None = None


def console_router(desk: Desk) -> APIRouter:
    """The pages, to be included at the root of the city's application."""
    console = Console(desk)
    router = APIRouter(include_in_schema=False)
    for path in ("/", ROOT):
        router.add_api_route(path, console.home, methods=["GET"])
    for path, page in console.gets.items():
        router.add_api_route(f"{ROOT}{path}", page, methods=["GET"])
    for path, form in console.posts.items():
        router.add_api_route(f"{ROOT}{path}", form, methods=["POST"])
    return router


def _data(name: str) -> str:
    return resources.files("backoffice.console").joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, as far as all pages look at it."""

    request: Request
    say: Say
    visit: Visit

    @property
    def secure(self) -> bool:
        """Whether the browser came by TLS, by our own or by a proxy's; who says so without reason only gets a cookie that is worth less."""
        return "https" in {self.request.url.scheme, self.request.headers.get("x-forwarded-proto", "")}

    @property
    def here(self) -> str:
        """The page to come back to. Of a query only the month is kept: nothing that somebody put into an address is handed on."""
        month = self.request.query_params.get("month", "")
        return f"{self.request.url.path}?month={month}" if _MONTH.fullmatch(month) else self.request.url.path


_Answer = Callable[[_Call], Awaitable[Response]]


@dataclass(slots=True)
class Console:
    """The pages of one desk."""

    desk: Desk
    door: Door = field(init=False)
    gets: Mapping[str, Callable[[Request], Awaitable[Response]]] = field(init=False)
    posts: Mapping[str, Callable[[Request], Awaitable[Response]]] = field(init=False)
    _words: Mapping[Language, Say] = field(init=False)
    _style: str = field(init=False)
    _templates: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.door = Door(self.desk.clerks, self.desk.secret)
        said = words.standard()
        self._words = {language: said.in_language(language) for language in Language}
        self._style = _data("style.css")
        self._templates = Environment(
            loader=PackageLoader("backoffice.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self.gets = {
            "/": self._for_clerks(self._vehicles),
            "/troubles": self._for_clerks(self._troubles),
            "/gaps": self._for_clerks(self._gaps),
            "/card": self._for_clerks(self._card),
            "/months": self._for_clerks(self._months),
            "/alarms/{number}": self._for_clerks(self._alarm),
            "/bills/{operator}/{month}.{form}": self._for_clerks(self._bill),
            "/enter": self._for_all(self._entrance),
            "/language/{code}": self._for_all(self._choose),
            "/style.css": self._stylesheet,
            "/{rest:path}": self._for_clerks(self._nothing),
        }
        self.posts = {
            "/card": self._for_clerks(self._look_up),
            "/alarms/{number}": self._for_clerks(self._tick),
            "/enter": self._for_all(self._enter),
            "/leave": self._for_all(self._leave),
        }

    async def home(self) -> Response:
        """The root of the site leads to the pages."""
        return RedirectResponse(Place.VEHICLES.path, HTTPStatus.SEE_OTHER)

    # --- who, and in which language ---------------------------------------------------------------------------------------------------

    def _for_all(self, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            call = self._call(request)
            try:
                response = await answer(call)
            except BooksAway:
                response = self._failed(call, "failed.books", HTTPStatus.SERVICE_UNAVAILABLE)
            except TooLong:
                response = self._failed(call, "failed.too_long", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            response.headers.update(_HEADERS)
            return response

        return serve

    def _for_clerks(self, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def only(call: _Call) -> Response:
            if call.visit.clerk is None:
                return RedirectResponse(f"{ROOT}/enter?to={quote(call.here, safe='/?=')}", HTTPStatus.SEE_OTHER)
            response = await answer(call)
            renewed = self.door.renewed(call.visit, self._now_s())
            return response if renewed is None else self._remember(response, call, renewed)

        return self._for_all(only)

    def _call(self, request: Request) -> _Call:
        chosen = request.cookies.get(_LANGUAGE, "")
        language = Language(chosen) if chosen in set(Language) else words.preferred(request.headers.get("accept-language", ""))
        return _Call(request, self._words[language], self.door.visit(request.cookies.get(_VISIT, ""), self._now_s()))

    def _remember(self, response: Response, call: _Call, visit: Visit) -> Response:
        # Strict: no other site can bring a clerk's session along, not even by a plain link.
        kept = self.door.cookie(visit)
        response.set_cookie(_VISIT, kept, max_age=SESSION_S, path=ROOT, secure=call.secure, httponly=True, samesite="strict")
        return response

    def _now_s(self) -> float:
        return self.desk.now_ms() / 1000

    # --- drawing ----------------------------------------------------------------------------------------------------------------------

    def _draw(self, template: str, call: _Call, title: str, status: HTTPStatus = HTTPStatus.OK, **more: object) -> Response:
        context: dict[str, object] = {
            "say": call.say,
            "root": ROOT,
            "title": title,
            "places": tuple(Place),
            "at_place": None,
            "languages": _NAMES,
            "here": call.here,
            "clerk": call.visit.clerk,
            "token": self.door.token(call.visit),
            "problem": "",
        }
        return HTMLResponse(self._templates.get_template(template).render(context | more), status)

    def _page(self, call: _Call, page: Page, status: HTTPStatus = HTTPStatus.OK) -> Response:
        reload = call.here if call.request.method == "GET" else ""
        return self._draw("page.html", call, page.title, status, page=page, at_place=page.place, problem=page.problem, reload=reload)

    def _failed(self, call: _Call, sentence: str, status: HTTPStatus) -> Response:
        return self._draw("failed.html", call, call.say("failed.title"), status, sentence=call.say(sentence))

    def _now(self) -> Now:
        return Now(self.desk.now_ms(), self.desk.zone)

    # --- pages ------------------------------------------------------------------------------------------------------------------------

    async def _vehicles(self, call: _Call) -> Response:
        now = self._now()
        vehicles = await run_in_threadpool(self.desk.books.vehicles, now.unix_ms, now.today)
        return self._page(call, views.vehicles_page(vehicles, self.desk.rules, now, call.say))

    async def _troubles(self, call: _Call) -> Response:
        troubles = await run_in_threadpool(self.desk.books.troubles, TROUBLES)
        return self._page(call, views.troubles_page(troubles, self._now(), call.say))

    async def _gaps(self, call: _Call) -> Response:
        gaps = await run_in_threadpool(self.desk.books.gaps)
        return self._page(call, views.gaps_page(gaps, self._now(), call.say))

    async def _months(self, call: _Call) -> Response:
        now = self._now()
        first = views.month_of(call.request.query_params.get("month", ""), now.today)
        accounts = await run_in_threadpool(self.desk.books.month, Month(first.year, first.month), now.unix_ms)
        return self._page(call, views.months_page(first, accounts, now, call.say, bills=self.desk.bill is not None))

    async def _bill(self, call: _Call) -> Response:
        asked = call.request.path_params
        first = views.month_of(asked["month"], self._now().today)
        bill = None
        if self.desk.bill is not None and asked["form"] in {"pdf", "csv"} and asked["month"] == f"{first:%Y-%m}":
            bill = await run_in_threadpool(self.desk.bill, asked["operator"], first, asked["form"])
        if bill is None:
            return self._failed(call, "failed.bill", HTTPStatus.NOT_FOUND)
        name = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(bill.filename, safe='')}"}
        return Response(bill.content, media_type=bill.media_type, headers=name)

    async def _nothing(self, call: _Call) -> Response:
        return self._failed(call, "failed.missing", HTTPStatus.NOT_FOUND)

    async def _stylesheet(self, request: Request) -> Response:
        del request
        return Response(self._style, media_type="text/css", headers=_HEADERS | {"Cache-Control": "no-cache"})

    # --- one alarm --------------------------------------------------------------------------------------------------------------------

    async def _alarm(self, call: _Call) -> Response:
        alarm = await self._asked_alarm(call)
        return await self._nothing(call) if alarm is None else self._page(call, views.alarm_page(alarm, self._now(), call.say))

    async def _tick(self, call: _Call) -> Response:
        form = await _form(call.request)
        alarm = await self._asked_alarm(call)
        if alarm is None or call.visit.clerk is None:
            return await self._nothing(call)
        now, typed = self._now(), form.get("note", "")
        if not self._ours(call, form):
            return self._page(call, views.alarm_page(alarm, now, call.say, "enter.expired", typed), HTTPStatus.FORBIDDEN)
        try:
            note = views.note(typed)
        except views.NotANote as problem:
            return self._page(call, views.alarm_page(alarm, now, call.say, problem.name, typed), HTTPStatus.UNPROCESSABLE_ENTITY)
        number, seen = alarm.trouble.alarm, _number(form.get("seen", ""))
        tick = Tick(now.unix_ms, not alarm.done, call.visit.clerk, note)
        if seen != len(alarm.ticks) or not await run_in_threadpool(self.desk.books.tick, number, seen, tick):
            newest = await self._asked_alarm(call) or alarm
            return self._page(call, views.alarm_page(newest, now, call.say, "tick.meanwhile", typed), HTTPStatus.CONFLICT)
        self.desk.noted(f"console: {tick.clerk} {'ticked off' if tick.done else 'put back'} alarm {number}")
        return RedirectResponse(views.alarm_path(number), HTTPStatus.SEE_OTHER)

    async def _asked_alarm(self, call: _Call) -> Alarm | None:
        number = _number(call.request.path_params["number"])
        return await run_in_threadpool(self.desk.books.alarm, number) if number else None

    # --- one card ---------------------------------------------------------------------------------------------------------------------

    async def _card(self, call: _Call) -> Response:
        return self._page(call, views.card_page(call.say))

    async def _look_up(self, call: _Call) -> Response:
        form = await _form(call.request)
        if not self._ours(call, form):
            return self._page(call, views.card_page(call.say, views.NotAnIdm("enter.expired")), HTTPStatus.FORBIDDEN)
        typed = form.get("idm", "")
        try:
            medium = views.idm(typed)
        except views.NotAnIdm as problem:
            return self._page(call, views.card_page(call.say, problem, typed), HTTPStatus.UNPROCESSABLE_ENTITY)
        self.desk.noted(f"console: {call.visit.clerk} looked up a card")
        rider = await run_in_threadpool(self.desk.books.rider, self.desk.rider(medium), RIDES)
        now = self._now()
        return self._page(call, views.unknown_card_page(call.say) if rider is None else views.rider_page(rider, now, call.say))

    # --- in and out -------------------------------------------------------------------------------------------------------------------

    async def _entrance(self, call: _Call) -> Response:
        to = _inside(call.request.query_params.get("to", ""))
        if call.visit.clerk is not None:
            return RedirectResponse(to, HTTPStatus.SEE_OTHER)
        return self._ask(call, to)

    def _ask(self, call: _Call, to: str, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
        visit = call.visit if call.visit.name else Visit(token_urlsafe(24))
        title = call.say("enter.title")
        drawn = self._draw("enter.html", call, title, status, problem=problem, to=to, token=self.door.token(visit))
        return self._remember(drawn, call, visit)

    async def _enter(self, call: _Call) -> Response:
        form = await _form(call.request)
        to = _inside(form.get("to", ""))
        now_s = self._now_s()
        if not self._ours(call, form):
            return self._ask(call, to, call.say("enter.expired"), HTTPStatus.FORBIDDEN)
        if wait_s := self.door.wait_s(now_s):
            refused = self._ask(call, to, call.say("enter.wait", seconds=wait_s), HTTPStatus.TOO_MANY_REQUESTS)
            refused.headers["Retry-After"] = str(wait_s)
            return refused
        name = token_urlsafe(24)  # a new one: what the visit was called before may have been set by somebody else
        visit = self.door.enter(form.get("passphrase", ""), name, now_s)
        if visit is None:
            self.desk.noted("console: a wrong passphrase")
            return self._ask(call, to, call.say("enter.wrong"), HTTPStatus.FORBIDDEN)
        self.desk.noted(f"console: {visit.clerk} came in")
        return self._remember(RedirectResponse(to, HTTPStatus.SEE_OTHER), call, visit)

    async def _leave(self, call: _Call) -> Response:
        response = RedirectResponse(f"{ROOT}/enter", HTTPStatus.SEE_OTHER)
        if self._ours(call, await _form(call.request)):
            response.delete_cookie(_VISIT, path=ROOT, secure=call.secure, httponly=True, samesite="strict")
        return response

    async def _choose(self, call: _Call) -> Response:
        code = call.request.path_params["code"]
        response = RedirectResponse(_inside(call.request.query_params.get("to", "")), HTTPStatus.SEE_OTHER)
        if code in set(Language):
            response.set_cookie(_LANGUAGE, code, max_age=_A_YEAR_S, path=ROOT, secure=call.secure, httponly=True, samesite="lax")
        return response

    def _ours(self, call: _Call, form: Mapping[str, str]) -> bool:
        """Whether the form came from a page of ours that this visit was shown."""
        from_here = call.request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
        return from_here and self.door.fits(call.visit, form.get("token", ""))


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a form; of two with one name the last. Raises ``TooLong`` before more than ``MOST_BYTES`` are taken in."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise TooLong
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace"), max_num_fields=8).items()}


def _number(text: str) -> int:
    """A number of at most nine digits; 0 for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _inside(address: str) -> str:
    """An address below our root, whatever was asked for: nobody is led elsewhere by a link to us."""
    plain = address.startswith(f"{ROOT}/") and "//" not in address and "\\" not in address and ".." not in address and address.isprintable()
    return address if plain and not address.startswith((f"{ROOT}/enter", f"{ROOT}/language")) else Place.VEHICLES.path
