"""Adapter: the city's door over HTTP (FastAPI, RFC 9110). What is decided here is only how a request becomes bytes and an answer a status.

The routes that vehicles use take and give sealed bytes (``application/cose``, RFC 9052); everything else is JSON. An error is a problem
document (RFC 9457) with one clear sentence. ``docs/api.md`` is this file for readers; ``/openapi.json`` is it for programs. There is no
interactive page: its scripts would come from a foreign host, and a back office must work without one.

Nothing is decoded before its size is known: the Content-Length is looked at first, the stream is counted while it comes and cut at the
limit, and a sender has a limited time for it. Work on the database runs in a bounded pool of threads with a bounded queue; who finds both
full is told to come again later, at once. So a stampede costs each vehicle a wait, never a lost batch and never the server.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar, cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from backoffice import keys
from backoffice.city import MAX_NOTE, Application, BooksAway, City, Reason, Refused
from backoffice.settings import Limits
from ledger.batch import MAX_SEALED
from ledger.seal import Algorithm, key_id

COSE = "application/cose"
PROBLEM = "application/problem+json"
MAX_JSON = 4096
STATUS = {
    Reason.MALFORMED: 400,
    Reason.UNKNOWN_KEY: 401,
    Reason.BAD_SIGNATURE: 401,
    Reason.KEY_RANGE: 401,
    Reason.REVOKED: 403,
    Reason.CODE: 403,
    Reason.NOT_FOUND: 404,
    Reason.KNOWN_KEY: 409,
}
TITLES = {
    400: "Malformed",
    401: "Not believed",
    403: "Refused",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Known already",
    413: "Too large",
    415: "Wrong media type",
    500: "Our fault",
    503: "Come again later",
}
ALGORITHMS = {word: algorithm for algorithm, word in keys.WORDS.items()}

log = logging.getLogger("kazashi.door")
_T = TypeVar("_T")


class _Problem(Exception):
    """The request is answered with this status and sentence."""

    def __init__(self, status: int, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.kind = kind


class EnrolmentRequest(BaseModel):
    """A terminal asks to be enrolled. The proof is its signature over ``kazashi enrol`` and the code, as they are sent, in UTF-8."""

    model_config = ConfigDict(extra="forbid", strict=True)

    code: Annotated[str, Field(pattern=r"^[0-9A-Za-z -]{16,24}$", description="The one-time code.")]
    algorithm: Literal["eddsa", "es256"]
    public_key: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{43,88}$", description="base64url, no padding: 32 or 65 bytes.")]
    proof: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{86}$", description="base64url, no padding: 64 bytes.")]


class CityKey(BaseModel):
    """A key by which a terminal knows the city; all but the first are of the past or to come."""

    kid: Annotated[str, Field(description="The first 8 bytes of the key's SHA-256, hexadecimal.")]
    algorithm: Literal["eddsa", "es256"]
    public_key: Annotated[str, Field(description="base64url, no padding.")]


class EnrolmentAnswer(BaseModel):
    """The terminal is enrolled."""

    device: int
    name: str
    city_keys: list[CityKey]


class PackageOffer(BaseModel):
    """A signed package; ``digest``, its SHA-256 (hexadecimal), is the address to fetch it from, ``valid_from`` a day."""

    kind: str
    version: int
    valid_from: str
    digest: str
    size: int


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457). ``type`` is ``/problems/`` and a word from a closed list, ``detail`` one sentence."""

    type: str
    title: str
    status: int
    detail: str


class _Bench:
    """The threads that work for the door, and how many may wait for one."""

    def __init__(self, limits: Limits) -> None:
        self.pool = ThreadPoolExecutor(limits.threads, "door")
        self._room = limits.threads + limits.queue
        self._inside = 0

    async def do(self, work: Callable[[], _T]) -> _T:
        if self._inside >= self._room:
            raise _Problem(503, "busy", "All hands are busy; send the same again after the time in Retry-After.")
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)
        finally:
            self._inside -= 1


def create_app(city: City, limits: Limits | None = None, pages: Sequence[APIRouter] = ()) -> FastAPI:
    """The application for an ASGI server. ``pages``: what else is served beside the vehicles' door."""
    limits = limits or Limits()
    bench = _Bench(limits)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        yield
        bench.pool.shutdown()

    app = FastAPI(
        title="Kazashi back office",
        summary="Signed batches up, signed packages down.",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.include_router(_sealed_routes(city, bench, limits))
    app.include_router(_json_routes(city, bench, limits))
    for page in pages:
        app.include_router(page)
    _tell_errors(app, limits)
    return app


# --- routes -------------------------------------------------------------------------------------------------------------------------------


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the description of a route: what it may answer but the good answer."""
    content = {PROBLEM: {"schema": ProblemDocument.model_json_schema()}}
    # "default" stands for the rest (404, 405, 500), and keeps a framework's own 422 out of the description: no route answers that.
    return {status: {"description": TITLES[status], "content": content} for status in statuses} | {
        "default": {"description": "Any other error", "content": content}
    }


def _sealed(what: str, limit: int) -> dict[str, Any]:
    """For the description of a route that takes sealed bytes."""
    schema = {"type": "string", "format": "binary", "maxLength": limit}
    return {"requestBody": {"description": what, "required": True, "content": {COSE: {"schema": schema}}}}


def _sealed_routes(city: City, bench: _Bench, limits: Limits) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["up"])
    receipt: dict[int | str, dict[str, Any]] = {
        200: {"description": "A sealed receipt.", "content": {COSE: {"schema": {"type": "string", "format": "binary"}}}}
    }

    def offer(path: str, summary: str, what: str, limit: int, take: Callable[[bytes], bytes]) -> None:
        async def answer(request: Request) -> Response:
            _ask_media_type(request, COSE)
            data = await _body(request, limit, limits.body_s)
            return Response(await bench.do(lambda: take(data)), media_type=COSE)

        router.add_api_route(
            path,
            answer,
            methods=["POST"],
            summary=summary,
            operation_id=path.strip("/"),
            response_class=Response,
            responses=receipt | _problems(400, 401, 403, 408, 413, 415, 503),
            openapi_extra=_sealed(what, limit),
        )

    offer("/batches", "Entries of a ledger", "A batch, sealed by the device (COSE_Sign1).", MAX_SEALED, city.batch)
    offer("/heartbeats", "A vehicle lives", "A heartbeat, sealed by the device (COSE_Sign1).", MAX_NOTE, city.heartbeat)
    offer("/losses", "A ledger is lost", "A report of a lost ledger, sealed by the device (COSE_Sign1).", MAX_NOTE, city.loss)
    return router


def _json_routes(city: City, bench: _Bench, limits: Limits) -> APIRouter:
    router = APIRouter(prefix="/v1")

    async def enrol(request: Request) -> EnrolmentAnswer:
        _ask_media_type(request, "application/json")
        application = _application(await _body(request, MAX_JSON, limits.body_s))
        enrolled = await bench.do(lambda: city.enrol(application))
        return EnrolmentAnswer(device=enrolled.device, name=enrolled.name, city_keys=[_city_key(*key) for key in enrolled.city_keys])

    async def offers() -> list[PackageOffer]:
        return [
            PackageOffer(
                kind=one.kind.value, version=one.version, valid_from=one.valid_from.isoformat(), digest=one.digest.hex(), size=one.size
            )
            for one in await bench.do(city.offers)
        ]

    async def package(digest: str) -> Response:
        try:
            wanted = bytes.fromhex(digest)
        except ValueError:
            wanted = b""
        return Response(await bench.do(lambda: city.package(wanted)), media_type=COSE)

    body = {"required": True, "content": {"application/json": {"schema": EnrolmentRequest.model_json_schema()}}}
    router.add_api_route(
        "/enrolments",
        enrol,
        methods=["POST"],
        status_code=201,
        summary="A terminal comes to the city",
        tags=["up"],
        operation_id="enrolments",
        response_model=EnrolmentAnswer,
        responses=_problems(400, 401, 403, 408, 409, 413, 415, 503),
        openapi_extra={"requestBody": body},
    )
    router.add_api_route(
        "/packages",
        offers,
        methods=["GET"],
        summary="What vehicles should have",
        tags=["down"],
        operation_id="packages",
        response_model=list[PackageOffer],
        responses=_problems(503),
    )
    router.add_api_route(
        "/packages/{digest}",
        package,
        methods=["GET"],
        summary="One signed package",
        tags=["down"],
        operation_id="package",
        response_class=Response,
        responses={
            200: {"description": "A sealed package.", "content": {COSE: {"schema": {"type": "string", "format": "binary"}}}},
            **_problems(404, 503),
        },
    )
    return router


# --- a request's bytes --------------------------------------------------------------------------------------------------------------------


def _ask_media_type(request: Request, wanted: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted:
        raise _Problem(415, "media-type", f"The body must be of the media type {wanted}.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _Problem(415, "media-type", "The body must not have a content encoding; batches are compressed inside.")


async def _body(request: Request, limit: int, within_s: float) -> bytes:
    """The body, at most ``limit`` bytes of it in at most ``within_s`` seconds."""
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) <= 12):
        raise _Problem(400, "malformed", "The Content-Length is not a number of bytes.")
    if int(length) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    room = limit
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                room -= len(part)
                if room < 0:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise _Problem(408, "too-slow", f"The body did not come within {within_s:g} seconds; send it again.") from None
    return b"".join(parts)


def _too_large(limit: int) -> _Problem:
    return _Problem(413, "too-large", f"The body has more than the {limit} bytes that are allowed here; send fewer entries at once.")


def _application(body: bytes) -> Application:
    try:
        asked = EnrolmentRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise _Problem(400, "malformed", f"The request for an enrolment is wrong at {where}: {first['msg']}.") from None
    algorithm = ALGORITHMS[asked.algorithm]
    proof = keys.unbase64(asked.proof)
    try:
        public = keys.public_key(algorithm, asked.public_key)
    except keys.NoKey as problem:
        raise _Problem(400, "malformed", f"The request for an enrolment {problem}.") from problem
    if proof is None:
        raise _Problem(400, "malformed", "The request for an enrolment has a proof that is not base64url.")
    return Application(asked.code, algorithm, public, proof)


def _city_key(algorithm: Algorithm, public: bytes) -> CityKey:
    word: Literal["eddsa", "es256"] = "eddsa" if algorithm is Algorithm.EDDSA else "es256"
    return CityKey(kid=key_id(public).hex(), algorithm=word, public_key=keys.base64url(public))


# --- errors -------------------------------------------------------------------------------------------------------------------------------


def _tell_errors(app: FastAPI, limits: Limits) -> None:
    """Every error a problem document, whoever raised it."""

    def problem(status: int, kind: str, sentence: str) -> Response:
        headers = {
            401: {"WWW-Authenticate": "Kazashi-Seal"},  # RFC 9110, section 15.5.2, wants one; ours is no scheme of HTTP's
            503: {"Retry-After": str(limits.retry_after_s)},
        }.get(status, {})
        document = {"type": f"/problems/{kind}", "title": TITLES.get(status, "Error"), "status": status, "detail": sentence}
        return JSONResponse(document, status, headers, PROBLEM)

    async def refused(_request: Request, error: Exception) -> Response:
        reason = cast("Refused", error).reason
        return problem(STATUS[reason], reason.value, str(error))

    async def own(_request: Request, error: Exception) -> Response:
        found = cast("_Problem", error)
        log.warning("refused reason=%s: %s", found.kind, found)
        return problem(found.status, found.kind, str(found))

    async def away(_request: Request, error: Exception) -> Response:
        log.error("the database does not answer: %s", error)
        return problem(503, "database", "The database does not answer now; send the same again after the time in Retry-After.")

    async def foreign(_request: Request, error: Exception) -> Response:
        found = cast("HTTPException", error)
        answer = problem(found.status_code, "http", f"{found.detail}.")
        answer.headers.update(found.headers or {})
        return answer

    async def invalid(_request: Request, _error: Exception) -> Response:
        return problem(400, "malformed", "The request is not as the API's description wants it.")

    async def gone(_request: Request, _error: Exception) -> Response:
        return problem(400, "cut-off", "The request ended before its body did.")

    async def ours(_request: Request, _error: Exception) -> Response:
        return problem(500, "our-fault", "The server made a mistake, and wrote it down; send the same again later.")

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(_Problem, own)
    app.add_exception_handler(BooksAway, away)
    app.add_exception_handler(HTTPException, foreign)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, ours)
