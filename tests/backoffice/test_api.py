"""The city's door, over HTTP, as a terminal and as a stranger meet it."""

import asyncio
import hashlib
import json
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backoffice import compose, keys
from backoffice.api import COSE, PROBLEM, create_app
from backoffice.city import BooksAway, City, Pace
from backoffice.keys import Place
from backoffice.registry import CityBooks
from backoffice.settings import Limits, default
from drivers.signing import Ed25519Key, P256Key, SignatureChecker
from ledger import batch as batches
from ledger import notes, package, receipt, seal
from ledger.batch import MAX_SEALED, Batch
from ledger.chain import follow, genesis
from ledger.codec import encode
from ledger.entry import Entry, Fare, Kind, Medium, Versions, When
from ledger.entry import Place as Stop
from ledger.notes import PARTS, WORKS, Heartbeat, Loss, LossReason
from ledger.package import Package, PackageKind
from ledger.receipt import Receipt
from ledger.seal import Content, Signer

NOW_MS = 1_780_000_000_000
DEVICE, EPOCH = 7, 4711
CITY = Ed25519Key(bytes(range(32)))


class Client:
    """Asks an application over its ASGI door, one question after the other."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def request(self, method: str, path: str, **what: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://city") as client:
                return await client.request(method, path, **what)

        return asyncio.run(ask())

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, **what: Any) -> httpx.Response:
        return self.request("POST", path, **what)


@dataclass
class Town:
    """A city with its door, and a clock that stands where a test puts it."""

    books: CityBooks
    now_ms: int = NOW_MS
    limits: Limits = field(default_factory=Limits)
    _client: Client | None = None

    @property
    def city(self) -> City:
        return City(self.books, (CITY,), SignatureChecker(), lambda: self.now_ms, Pace(5, 300))

    @property
    def client(self) -> Client:
        self._client = self._client or Client(create_app(self.city, self.limits))
        return self._client

    def code(self, device: int = DEVICE) -> str:
        code = keys.new_code(lambda n: (self.now_ms + device).to_bytes(n, "big"))
        self.books.add_device(device, f"minato-{device}", "minato", self.now_ms)
        self.books.give_code(device, keys.code_digest(code), self.now_ms, self.now_ms + 3_600_000)
        return code

    def enrol(self, signer: Signer, code: str) -> tuple[int, dict[str, object]]:
        answer = self.client.post("/v1/enrolments", json=application(signer, code))
        return answer.status_code, answer.json()

    def post(self, path: str, body: bytes) -> Receipt:
        answer = self.client.post(f"/v1/{path}", content=body, headers={"content-type": COSE})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == COSE
        sealed = seal.parse(answer.content, Content.RECEIPT, MAX_SEALED)
        seal.check(sealed, SignatureChecker(), CITY.public)
        return receipt.decode(sealed.payload)

    def refused(self, path: str, body: bytes, media_type: str = COSE) -> tuple[int, str, str]:
        answer = self.client.post(f"/v1/{path}", content=body, headers={"content-type": media_type})
        assert answer.headers["content-type"] == PROBLEM
        document = answer.json()
        assert set(document) == {"type", "title", "status", "detail"}
        assert document["status"] == answer.status_code
        assert document["detail"].endswith(".")
        assert "\n" not in document["detail"]
        return answer.status_code, document["type"].removeprefix("/problems/"), document["detail"]


def application(signer: Signer, code: str) -> dict[str, str]:
    return {
        "code": code,
        "algorithm": keys.WORDS[signer.algorithm],
        "public_key": keys.base64url(signer.public),
        "proof": keys.base64url(signer.sign(b"kazashi enrol" + code.encode())),
    }


@pytest.fixture(scope="session")
def empty_city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a city that has heard of nobody; made once, because making tables takes longer than most tests."""
    folder = tmp_path_factory.mktemp("city")
    with compose.open_books(default(folder)):
        pass
    return folder / "city.db"


@pytest.fixture
def town(tmp_path: Path, empty_city: Path) -> Iterator[Town]:
    shutil.copy(empty_city, tmp_path / "city.db")
    with compose.open_store(default(tmp_path)) as store:
        yield Town(CityBooks(store))


@pytest.fixture
def terminal(town: Town) -> Ed25519Key:
    """A terminal that is enrolled as ``DEVICE``."""
    signer = Ed25519Key(b"\x07" * 32)
    assert town.enrol(signer, town.code())[0] == 201
    return signer


def ride(seq: int, *, kind: Kind = Kind.PAID, reason: str = "", epoch: int = EPOCH, device: int = DEVICE) -> bytes:
    when = When(1, seq * 1000, NOW_MS + seq * 1000, 3)
    if kind is not Kind.PAID:
        return encode(Entry(kind, when, reason=reason, device=device, epoch=epoch, seq=seq))
    place, fare = Stop("minato", "minato-7", 1, "R1", "T1", "S1", "S2", 20_600), Fare(200, 100, 100, 1, 0)
    return encode(Entry(kind, when, place, Medium(seq.to_bytes(8, "big")), fare, Versions(), device=device, epoch=epoch, seq=seq))


def cut(entries: list[bytes], first: int, last: int, *, epoch: int = EPOCH, device: int = DEVICE) -> Batch:
    """Entries ``first`` … ``last`` of a ledger that is ``entries``."""
    head = genesis(device, epoch)
    for data in entries[: first - 1]:
        head = follow(head, data)
    return Batch(device, epoch, first, head, tuple(entries[first - 1 : last]), NOW_MS)


def sealed(signer: Signer, batch: Batch) -> bytes:
    return seal.seal(signer, Content.BATCH, batches.pack(batch))


def heartbeat(signer: Signer, *, device: int = DEVICE, head: int = 0) -> bytes:
    beat = Heartbeat(
        device, EPOCH, head, genesis(device, EPOCH), When(1, 2, NOW_MS, 3), tuple((p, WORKS) for p in PARTS), 10**9, Versions(), "1"
    )
    return seal.seal(signer, Content.HEARTBEAT, notes.encode_heartbeat(beat))


LEDGER = [ride(seq) for seq in range(1, 21)]


def test_a_heartbeat_that_counts_is_kept_and_one_that_counts_what_has_no_name_is_refused(town: Town, terminal: Ed25519Key) -> None:
    counted = (("oom-kills", 1), ("station-starts", 8))
    at, selftest = When(1, 2, NOW_MS, 3), tuple((part, WORKS) for part in PARTS)
    beat = Heartbeat(DEVICE, EPOCH, 0, genesis(DEVICE, EPOCH), at, selftest, 10**9, Versions(), "1", counted, 60)
    payload = notes.encode_heartbeat(beat)
    town.post("heartbeats", seal.seal(terminal, Content.HEARTBEAT, payload))
    (condition,) = town.books.conditions(NOW_MS, date(2026, 5, 29))
    assert condition.beat == beat

    odd = seal.seal(terminal, Content.HEARTBEAT, payload.replace(b"oom-kills", b"who-rides"))
    status, kind, sentence = town.refused("heartbeats", odd)
    assert (status, kind) == (400, "malformed")
    assert sentence == "The heartbeat counts something that has no name in this software's table."


# --- batches ------------------------------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_by_a_receipt_that_the_city_signed(town: Town, terminal: Ed25519Key) -> None:
    got = town.post("batches", sealed(terminal, cut(LEDGER, 1, 10)))
    assert (got.device, got.epoch, got.next_seq, got.head) == (DEVICE, EPOCH, 11, cut(LEDGER, 1, 10).head.hash)
    assert (got.issued_ms, got.min_interval_s, got.max_entries) == (NOW_MS, 5, 300)


def test_a_batch_sent_again_is_answered_the_same_and_booked_once(town: Town, terminal: Ed25519Key) -> None:
    body = sealed(terminal, cut(LEDGER, 1, 10))
    assert town.post("batches", body) == town.post("batches", body)
    assert town.books.stored(DEVICE, EPOCH).next_seq == 11


def test_a_hole_is_named_in_the_receipt(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 5)))
    got = town.post("batches", sealed(terminal, cut(LEDGER, 9, 12)))
    assert (got.next_seq, got.holes) == (6, ((6, 8),))


def test_a_terminal_with_a_key_of_the_other_algorithm_is_as_good(town: Town) -> None:
    signer = P256Key(b"\x01" * 32)
    assert town.enrol(signer, town.code())[0] == 201
    assert town.post("batches", sealed(signer, cut(LEDGER, 1, 2))).next_seq == 3


def test_what_is_not_a_sealed_batch_is_refused_in_words(town: Town, terminal: Ed25519Key) -> None:
    good = sealed(terminal, cut(LEDGER, 1, 2))
    newer = seal.seal(terminal, Content.BATCH, batches.pack(cut(LEDGER, 1, 2))[:-1])
    for body, words in (
        (b"", "does not begin as a tagged COSE_Sign1"),
        (b"{}", "does not begin as a tagged COSE_Sign1"),
        (good[:-1], "ends within it"),
        (good + b"\0", "goes on for 1 bytes after its signature"),
        (heartbeat(terminal), "holds a heartbeat, not a batch"),
        (newer, "The batch is a broken zstd frame"),
    ):
        status, kind, detail = town.refused("batches", body)
        assert (status, kind) == (400, "malformed")
        assert words in detail


def test_a_batch_of_a_version_to_come_is_refused_in_words(town: Town, terminal: Ed25519Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "VERSION", 2)
    body = sealed(terminal, cut(LEDGER, 1, 2))
    monkeypatch.undo()
    assert town.refused("batches", body) == (400, "malformed", "The batch is of version 2; this software knows version 1.")


def test_an_unknown_key_and_a_wrong_signature_are_not_believed(town: Town, terminal: Ed25519Key) -> None:
    stranger = Ed25519Key(b"\x08" * 32)
    status, kind, detail = town.refused("batches", sealed(stranger, cut(LEDGER, 1, 2)))
    assert (status, kind) == (401, "unknown-key")
    assert seal.key_id(stranger.public).hex() in detail
    body = bytearray(sealed(terminal, cut(LEDGER, 1, 2)))
    body[-1] ^= 1
    assert town.refused("batches", bytes(body)) == (401, "bad-signature", "The signature does not fit the key of device 7.")


def test_a_key_of_one_algorithm_cannot_be_named_as_one_of_the_other(town: Town, terminal: Ed25519Key) -> None:
    @dataclass
    class Liar:
        public: bytes
        algorithm: seal.Algorithm = seal.Algorithm.ES256

        def sign(self, message: bytes) -> bytes:
            return bytes(64 + 0 * len(message))

    assert town.refused("batches", sealed(Liar(terminal.public), cut(LEDGER, 1, 2)))[:2] == (401, "bad-signature")


def test_a_device_cannot_send_for_another(town: Town, terminal: Ed25519Key) -> None:
    foreign = [ride(1, device=8)]
    assert town.refused("batches", sealed(terminal, cut(foreign, 1, 1, device=8)))[:2] == (401, "key-range")
    assert town.refused("heartbeats", heartbeat(terminal, device=8))[:2] == (401, "key-range")


# --- limits -------------------------------------------------------------------------------------------------------------------------------


def test_what_is_too_large_is_refused_by_what_it_says_and_by_what_comes(town: Town) -> None:
    assert town.refused("batches", bytes(MAX_SEALED + 1))[:2] == (413, "too-large")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(4096)

    answer = town.client.post("/v1/batches", content=endless(), headers={"content-type": COSE})
    assert answer.status_code == 413
    assert town.client.post("/v1/enrolments", content=b" " * 5000, headers={"content-type": "application/json"}).status_code == 413


def test_another_media_type_and_a_content_encoding_are_refused(town: Town, terminal: Ed25519Key) -> None:
    body = sealed(terminal, cut(LEDGER, 1, 2))
    assert town.refused("batches", body, "application/cbor")[:2] == (415, "media-type")
    answer = town.client.post("/v1/batches", content=body, headers={"content-type": COSE, "content-encoding": "gzip"})
    assert answer.status_code == 415
    answer = town.client.post("/v1/batches", content=body, headers={"content-type": 'application/cose; cose-type="cose-sign1"'})
    assert answer.status_code == 200


def test_errors_of_the_framework_are_problem_documents_too(town: Town) -> None:
    for method, path, status in (("GET", "/v1/batches", 405), ("GET", "/nowhere", 404), ("GET", "/v1/packages/zz", 404)):
        answer = town.client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)


def test_a_database_that_is_away_is_told_as_come_again(town: Town, terminal: Ed25519Key, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise BooksAway

    monkeypatch.setattr(town.books, "receive", away)
    answer = town.client.post("/v1/batches", content=sealed(terminal, cut(LEDGER, 1, 2)), headers={"content-type": COSE})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "15")
    assert "send the same again" in answer.json()["detail"]


def test_who_finds_all_hands_busy_is_told_at_once(town: Town) -> None:
    town.limits = replace(town.limits, threads=1, queue=0)
    started, go_on = asyncio.Event(), asyncio.Event()

    async def both() -> tuple[int, int]:
        loop = asyncio.get_running_loop()

        def slow(_data: bytes) -> bytes:
            loop.call_soon_threadsafe(started.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
            return b"done"

        class Slow(City):
            def batch(self, data: bytes) -> bytes:
                return slow(data)

        city = Slow(town.books, (CITY,), SignatureChecker(), lambda: NOW_MS, Pace())
        transport = httpx.ASGITransport(create_app(city, town.limits))
        async with httpx.AsyncClient(transport=transport, base_url="http://city") as client:
            first = asyncio.create_task(client.post("/v1/batches", content=b"", headers={"content-type": COSE}))
            await started.wait()
            second = await client.post("/v1/batches", content=b"", headers={"content-type": COSE})
            assert second.headers["retry-after"] == "15"
            go_on.set()
            return (await first).status_code, second.status_code

    assert asyncio.run(both()) == (200, 503)


def test_a_body_that_dribbles_in_is_cut_off(town: Town) -> None:
    async def dribble() -> int:
        async def body() -> AsyncIterator[bytes]:
            yield b"\xd2"
            await asyncio.Event().wait()

        transport = httpx.ASGITransport(create_app(town.city, replace(town.limits, body_s=0)))
        async with httpx.AsyncClient(transport=transport, base_url="http://city") as client:
            answer = await client.post("/v1/batches", content=body(), headers={"content-type": COSE})
            return answer.status_code

    assert asyncio.run(dribble()) == 408


def test_the_log_names_devices_and_reasons_and_no_rider(town: Town, terminal: Ed25519Key, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kazashi.door")
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 10)))
    town.refused("batches", sealed(Ed25519Key(b"\x08" * 32), cut(LEDGER, 1, 2)))
    said = [record.getMessage() for record in caplog.records if record.name == "kazashi.door"]
    assert said[0] == "batch device=7 epoch=4711 entries=1-10 next=11"
    assert said[1].startswith("refused reason=unknown-key device=?: No device has a key with the name")
    assert not any(seq.to_bytes(8, "big").hex() in line for line in said for seq in range(1, 21))


# --- heartbeats and losses ----------------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_kept_and_answered_by_how_far_the_ledger_is(town: Town, terminal: Ed25519Key) -> None:
    assert town.post("heartbeats", heartbeat(terminal)).next_seq == 1
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 10)))
    town.now_ms += 60_000
    assert town.post("heartbeats", heartbeat(terminal, head=10)).next_seq == 11
    (condition,) = town.books.conditions(town.now_ms, date(2026, 5, 29))
    assert (condition.name, condition.contact_ms, condition.beat_ms) == ("minato-7", town.now_ms, town.now_ms)
    assert condition.beat is not None
    assert condition.beat.head_seq == 10


def test_a_signed_report_of_a_loss_closes_the_hole_that_it_names(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 5)))
    town.post("batches", sealed(terminal, cut(LEDGER, 9, 12)))
    loss = Loss(DEVICE, EPOCH, 6, 8, LossReason.UNREADABLE, When(1, 2, NOW_MS, 3))
    got = town.post("losses", seal.seal(terminal, Content.LOSS, notes.encode_loss(loss)))
    assert (got.next_seq, got.holes) == (13, ())


def test_a_note_that_is_none_is_refused_in_words(town: Town, terminal: Ed25519Key) -> None:
    for path, content, words in (("heartbeats", Content.HEARTBEAT, "The heartbeat "), ("losses", Content.LOSS, "The report of a loss ")):
        status, kind, detail = town.refused(path, seal.seal(terminal, content, b"\x80"))
        assert (status, kind) == (400, "malformed")
        assert detail.startswith(words)


# --- enrolment ----------------------------------------------------------------------------------------------------------------------------


def test_enrolment_answers_with_who_the_terminal_is_and_by_what_it_knows_the_city(town: Town) -> None:
    status, answer = town.enrol(Ed25519Key(b"\x07" * 32), town.code())
    kid = seal.key_id(CITY.public).hex()
    known = [{"kid": kid, "algorithm": "eddsa", "public_key": keys.base64url(CITY.public)}]
    assert (status, answer) == (201, {"device": 7, "name": "minato-7", "city_keys": known})


def test_an_unknown_a_used_and_an_expired_code_get_the_same_sentence(town: Town) -> None:
    code = town.code()
    told = [town.enrol(Ed25519Key(b"\x01" * 32), "0000-0000-0000-0000")]
    assert town.enrol(Ed25519Key(b"\x07" * 32), code)[0] == 201
    told.append(town.enrol(Ed25519Key(b"\x02" * 32), code))
    late = town.code(8)
    town.now_ms += 3_600_000
    told.append(town.enrol(Ed25519Key(b"\x03" * 32), late))
    assert [status for status, _ in told] == [403, 403, 403]
    assert len({json.dumps(document) for _, document in told}) == 1
    assert told[0][1]["detail"] == "The enrolment code is unknown, used or expired; ask the city for a new one."


def test_a_terminal_whose_answer_was_lost_asks_again_and_gets_the_same(town: Town) -> None:
    code, signer = town.code(), Ed25519Key(b"\x07" * 32)
    first = town.enrol(signer, code)
    town.now_ms += 60_000
    assert town.enrol(signer, code) == first
    assert len(town.books.devices()[0].keys) == 1


def test_a_newer_code_closes_the_older_one(town: Town) -> None:
    older = town.code()
    town.now_ms += 1
    newer = town.code()
    assert town.enrol(Ed25519Key(b"\x07" * 32), older)[0] == 403
    assert town.enrol(Ed25519Key(b"\x07" * 32), newer)[0] == 201


def test_nobody_enrols_a_key_that_is_not_theirs(town: Town) -> None:
    code = town.code()
    stolen = application(Ed25519Key(b"\x01" * 32), code) | {"public_key": keys.base64url(Ed25519Key(b"\x02" * 32).public)}
    answer = town.client.post("/v1/enrolments", json=stolen)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/bad-signature")
    assert town.enrol(Ed25519Key(b"\x07" * 32), code)[0] == 201


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "x"}, "wrong at code"),
        ({"algorithm": "rsa"}, "wrong at algorithm"),
        ({"public_key": "!" * 43}, "wrong at public_key"),
        ({"public_key": "A" * 87}, "has a public key of 65 bytes; eddsa has 32"),
        ({"proof": "A" * 85 + "B"}, "has a proof that is not base64url"),
        ({"proof": 5}, "wrong at proof"),
        ({"more": "1"}, "wrong at more"),
    ],
)
def test_an_enrolment_that_is_not_one_is_refused_at_its_field(town: Town, change: dict[str, object], words: str) -> None:
    answer = town.client.post("/v1/enrolments", json=application(Ed25519Key(b"\x07" * 32), town.code()) | change)
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)
    assert words in answer.json()["detail"]


@given(body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_body_breaks_the_enrolment(town: Town, body: bytes) -> None:
    answer = town.client.post("/v1/enrolments", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)


# --- rotation and revocation --------------------------------------------------------------------------------------------------------------

NEXT = Ed25519Key(b"\x17" * 32)


def rotated(next_key: Signer = NEXT, at: int = 11) -> list[bytes]:
    entries = [ride(seq) for seq in range(1, 31)]
    entries[at - 1] = ride(at, kind=Kind.KEY, reason=f"{keys.WORDS[next_key.algorithm]}:{keys.base64url(next_key.public)}")
    return entries


def test_an_announced_key_is_valid_from_the_next_entry_and_the_old_one_up_to_it(town: Town, terminal: Ed25519Key) -> None:
    ledger = rotated()
    assert town.refused("batches", sealed(NEXT, cut(ledger, 12, 15)))[:2] == (401, "unknown-key")
    town.post("batches", sealed(terminal, cut(ledger, 1, 11)))
    assert town.refused("batches", sealed(terminal, cut(ledger, 12, 15)))[:2] == (401, "key-range")
    assert town.post("batches", sealed(NEXT, cut(ledger, 12, 15))).next_seq == 16


def test_a_batch_whose_receipt_was_lost_is_answered_whichever_of_the_two_keys_signs_it(town: Town, terminal: Ed25519Key) -> None:
    ledger = rotated()
    first = town.post("batches", sealed(terminal, cut(ledger, 1, 11)))
    assert town.post("batches", sealed(terminal, cut(ledger, 1, 11))) == first
    assert town.post("batches", sealed(NEXT, cut(ledger, 1, 11))) == first
    assert town.post("batches", sealed(NEXT, cut(ledger, 5, 11))) == first
    assert town.post("batches", sealed(NEXT, cut(ledger, 12, 20))).next_seq == 21
    (device,) = town.books.devices()
    assert [(key.since, key.until) for key in device.keys] == [
        (Place(0, 0), Place(EPOCH, 12)),
        (Place(EPOCH, 12), None),
    ]


def test_a_new_key_does_not_speak_for_entries_before_it_that_the_city_lacks(town: Town, terminal: Ed25519Key) -> None:
    ledger = rotated()
    town.post("batches", sealed(terminal, cut(ledger, 6, 11)))
    status, kind, detail = town.refused("batches", sealed(NEXT, cut(ledger, 1, 15)))
    assert (status, kind) == (401, "key-range")
    assert detail == f"The key speaks for the entries of device 7 from 12 of epoch {EPOCH} up to its end, not for 1 to 15 of epoch {EPOCH}."
    assert town.post("batches", sealed(terminal, cut(ledger, 1, 5))).next_seq == 12


def test_a_replaced_key_sends_no_notes(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut(rotated(), 1, 11)))
    assert town.refused("heartbeats", heartbeat(terminal))[:2] == (401, "key-range")
    assert town.post("heartbeats", heartbeat(NEXT)).next_seq == 12


def test_an_announcement_that_conflicts_with_what_is_booked_announces_nothing(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut([ride(seq) for seq in range(1, 31)], 1, 11)))
    town.post("batches", sealed(terminal, cut(rotated(), 1, 11)))
    assert len(town.books.devices()[0].keys) == 1


def test_an_announcement_of_no_key_or_of_a_known_one_is_an_alarm_and_the_old_key_stays(town: Town, terminal: Ed25519Key) -> None:
    other = Ed25519Key(b"\x08" * 32)
    assert town.enrol(other, town.code(8))[0] == 201
    ledger = rotated(other)
    ledger[11] = ride(12, kind=Kind.KEY, reason="rsa:AAAA")
    assert town.post("batches", sealed(terminal, cut(ledger, 1, 12))).next_seq == 13
    assert town.post("batches", sealed(terminal, cut(ledger, 13, 15))).next_seq == 16


def test_what_a_terminal_tells_of_in_an_alarm_entry_is_put_before_the_clerks_once(town: Town, terminal: Ed25519Key) -> None:
    told = [ride(seq) for seq in range(1, 5)]
    for seq, reason in ((2, "package-broken"), (3, "package-held:fare-table"), (4, "smoke")):
        told[seq - 1] = ride(seq, kind=Kind.ALARM, reason=reason)
    for _ in range(2):
        town.post("batches", sealed(terminal, cut(told, 1, 4)))
    found = sorted((each.seq, each.code, each.sentence) for each in town.books.alarms(100))
    assert found == [
        (2, "package", "A package did not come whole, and was refused."),
        (3, "package", "A package (fare-table) is too big a change, and waits for a person."),
        (4, "terminal", "The terminal tells of something that this software has no words for: smoke."),
    ]


def test_an_alarm_entry_that_conflicts_with_what_is_booked_tells_nothing(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 4)))
    told = [*LEDGER[:3], ride(4, kind=Kind.ALARM, reason="package-broken")]
    town.post("batches", sealed(terminal, cut(told, 1, 4)))
    assert {each.code for each in town.books.alarms(100)} == {"conflict", "chain"}


def test_a_revoked_key_is_good_for_what_lay_before_and_for_nothing_behind(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 10)))
    assert town.books.revoke(DEVICE, None, town.now_ms) == Place(EPOCH, 11)
    assert town.post("batches", sealed(terminal, cut(LEDGER, 1, 10))).next_seq == 11
    status, kind, detail = town.refused("batches", sealed(terminal, cut(LEDGER, 9, 12)))
    assert (status, kind) == (403, "revoked")
    assert detail == f"The key of device 7 is revoked from entry 11 of epoch {EPOCH} on; enrol the terminal again."
    assert town.refused("batches", sealed(terminal, cut([ride(1, epoch=9)], 1, 1, epoch=9)))[:2] == (403, "revoked")
    assert town.refused("heartbeats", heartbeat(terminal))[:2] == (403, "revoked")


def test_enrolling_again_gives_another_key_and_never_clears_a_revocation(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 10)))
    town.books.revoke(DEVICE, None, town.now_ms)
    town.now_ms += 1000
    status, document = town.enrol(terminal, town.code())
    assert (status, document["type"]) == (409, "/problems/known-key")
    fresh = Ed25519Key(b"\x27" * 32)
    town.now_ms += 1000
    assert town.enrol(fresh, town.code())[0] == 201
    assert town.post("batches", sealed(fresh, cut(LEDGER, 11, 15))).next_seq == 16
    assert town.refused("batches", sealed(terminal, cut(LEDGER, 16, 18)))[:2] == (403, "revoked")
    old, new = town.books.devices()[0].keys
    assert (old.revoked, new.since, new.revoked) == (Place(EPOCH, 11), Place(EPOCH, 11), None)


def test_who_is_enrolled_again_sends_what_the_city_lacks_of_a_ledger_that_was_set_aside(town: Town, terminal: Ed25519Key) -> None:
    newer = EPOCH + 1
    fresh_ledger = [ride(seq, epoch=newer) for seq in range(1, 11)]
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 10)))
    town.post("batches", sealed(terminal, cut(fresh_ledger, 1, 5, epoch=newer)))
    town.books.revoke(DEVICE, None, town.now_ms)
    fresh = Ed25519Key(b"\x27" * 32)
    town.now_ms += 1000
    assert town.enrol(fresh, town.code())[0] == 201
    assert town.post("batches", sealed(fresh, cut(LEDGER, 11, 15))).next_seq == 16
    assert town.post("batches", sealed(fresh, cut(fresh_ledger, 6, 10, epoch=newer))).next_seq == 11
    assert town.refused("batches", sealed(terminal, cut(fresh_ledger, 6, 10, epoch=newer)))[0] == 403


def test_a_thief_cannot_announce_a_key_below_the_mark_and_go_on_with_it(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 5)))
    town.books.revoke(DEVICE, Place(EPOCH, 16), town.now_ms)
    ledger = rotated()
    assert town.post("batches", sealed(terminal, cut(ledger, 6, 11))).next_seq == 12
    assert town.post("batches", sealed(NEXT, cut(ledger, 12, 15))).next_seq == 16
    assert town.refused("batches", sealed(NEXT, cut(ledger, 16, 20)))[:2] == (403, "revoked")
    assert town.refused("heartbeats", heartbeat(NEXT))[:2] == (403, "revoked")


def test_who_has_a_replaced_key_cannot_announce_another_in_a_hole_and_go_on_with_it(town: Town, terminal: Ed25519Key) -> None:
    ledger, theirs = rotated(), Ed25519Key(b"\x66" * 32)
    town.post("batches", sealed(terminal, cut(ledger, 6, 11)))
    forged = [*ledger[:2], ride(3, kind=Kind.KEY, reason="eddsa:" + keys.base64url(theirs.public)), *ledger[3:]]
    assert town.post("batches", sealed(terminal, cut(forged, 1, 5))).next_seq == 12
    assert town.refused("batches", sealed(theirs, cut(forged, 12, 15)))[:2] == (401, "key-range")
    assert town.post("batches", sealed(NEXT, cut(ledger, 12, 15))).next_seq == 16


def test_a_second_revocation_may_reach_further_back_and_never_forward(town: Town, terminal: Ed25519Key) -> None:
    town.post("batches", sealed(terminal, cut(LEDGER, 1, 10)))
    marks: list[Place | None] = []
    for place in (Place(EPOCH, 11), Place(EPOCH, 15), Place(EPOCH, 5), keys.BEFORE_ALL, Place(EPOCH, 15)):
        town.books.revoke(DEVICE, place, town.now_ms)
        marks.append(town.books.devices()[0].keys[0].revoked)
    assert marks == [Place(EPOCH, 11), Place(EPOCH, 11), Place(EPOCH, 5), keys.BEFORE_ALL, keys.BEFORE_ALL]
    assert town.refused("batches", sealed(terminal, cut(LEDGER, 1, 2)))[:2] == (403, "revoked")


def test_revoking_closes_the_codes_that_are_open(town: Town) -> None:
    code = town.code()
    town.books.revoke(DEVICE, None, town.now_ms)
    assert town.enrol(Ed25519Key(b"\x07" * 32), code)[0] == 403


# --- packages -----------------------------------------------------------------------------------------------------------------------------


def test_packages_are_listed_and_given_out_as_they_were_sealed(town: Town) -> None:
    made = Package(PackageKind.WORDS, 3, date(2026, 7, 1), NOW_MS, b"words")
    body = seal.seal(CITY, Content.PACKAGE, package.encode(made))
    assert town.city.offer(body) == (made, True)
    assert town.city.offer(body) == (made, False)
    digest = hashlib.sha256(body).hexdigest()
    row = {"kind": "words", "version": 3, "valid_from": "2026-07-01", "digest": digest, "size": len(body)}
    assert town.client.get("/v1/packages").json() == [row]
    assert town.client.get(f"/v1/packages/{digest}").content == body
    assert town.client.get(f"/v1/packages/{bytes(32).hex()}").status_code == 404


def test_of_a_package_that_a_person_released_only_the_release_is_listed(town: Town) -> None:
    made = Package(PackageKind.FARE_TABLE, 3, date(2026, 7, 1), NOW_MS, b"ten times as dear")
    released = seal.seal(CITY, Content.PACKAGE, package.encode(replace(made, released=True)))
    town.city.offer(seal.seal(CITY, Content.PACKAGE, package.encode(made)))
    assert town.city.offer(released)[1]
    assert [row["digest"] for row in town.client.get("/v1/packages").json()] == [hashlib.sha256(released).hexdigest()]


def test_what_was_superseded_before_today_is_listed_no_more_and_what_is_to_come_is(town: Town) -> None:
    today = datetime.fromtimestamp(NOW_MS / 1000, UTC).date()
    for version, days in enumerate((-30, -9, -1, 0, 40), 1):
        made = Package(PackageKind.DENY_LIST, version, today + timedelta(days=days), NOW_MS, b"%d" % version)
        town.city.offer(seal.seal(CITY, Content.PACKAGE, package.encode(made)))
    assert [row["version"] for row in town.client.get("/v1/packages").json()] == [3, 4, 5]


def test_the_table_that_vehicles_should_have_is_the_one_that_they_are_offered(town: Town) -> None:
    for version, day, file in ((3, 10, b"planned"), (4, 1, b"at once instead")):
        made = Package(PackageKind.FARE_TABLE, version, date(2026, 7, day), NOW_MS, file)
        town.city.offer(seal.seal(CITY, Content.PACKAGE, package.encode(made)))
    assert town.books.table_in_force(date(2026, 6, 30)) == b""
    assert town.books.table_in_force(date(2026, 7, 20)) == hashlib.sha256(b"at once instead").digest()[:8]


def test_the_description_names_every_route_and_what_it_takes(town: Town) -> None:
    described = town.client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        *("/v1/batches", "/v1/heartbeats", "/v1/losses"),
        *("/v1/enrolments", "/v1/packages", "/v1/packages/{digest}"),
    }
    assert list(described["paths"]["/v1/batches"]["post"]["requestBody"]["content"]) == [COSE]
    assert "422" not in json.dumps(described)
