"""Strangers at the city's door: what the description promises is asked of every route, and batches are bent in every way we could think of.

Two kinds of bytes reach a batch's decoder. Those of a stranger stop at the signature, whatever they say; a bent body is taken only when it
is the original. Those of a terminal that went bad are signed, so everything behind the signature is bent too, and signed again; what is
taken then must hold together, and be what the receipt is about.
"""

import asyncio
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import httpx
import pytest
import schemathesis
import zstandard
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as run
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from backoffice import compose, keys
from backoffice.api import COSE, PROBLEM, create_app
from backoffice.city import Application, City, Pace
from backoffice.registry import CityBooks
from backoffice.settings import default
from drivers.signing import Ed25519Key, P256Key, SignatureChecker
from ledger import batch as batches
from ledger import notes, receipt, seal
from ledger.batch import Batch
from ledger.chain import follow, genesis
from ledger.codec import encode
from ledger.entry import Entry, Fare, Kind, Medium, Place, Versions, When
from ledger.errors import Malformed
from ledger.notes import PARTS, WORKS, Heartbeat
from ledger.seal import Content, Signer

NOW_MS = 1_780_000_000_000
EPOCH = 4711
CITY = Ed25519Key(bytes(range(32)))
TERMINALS: dict[int, Signer] = {1: Ed25519Key(b"\x01" * 32), 2: P256Key(b"\x02" * 32)}
ROUTES = (
    ("/v1/batches", "POST"),
    ("/v1/heartbeats", "POST"),
    ("/v1/losses", "POST"),
    ("/v1/enrolments", "POST"),
    ("/v1/packages", "GET"),
    ("/v1/packages/{digest}", "GET"),
)
CHECKS: list[Any] = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


def open_door(books: CityBooks) -> City:
    city = City(books, (CITY,), SignatureChecker(), lambda: NOW_MS, Pace())
    for device, signer in TERMINALS.items():
        code = keys.new_code(lambda n, device=device: device.to_bytes(n, "big"))
        books.add_device(device, f"bus-{device}", "minato", NOW_MS)
        books.give_code(device, keys.code_digest(code), NOW_MS, NOW_MS + 1000)
        city.enrol(Application(code, signer.algorithm, signer.public, signer.sign(keys.proof_message(code))))
    return city


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("city")
    with compose.open_books(default(folder)) as books:
        open_door(books)
    return folder / "city.db"


@pytest.fixture
def city(made: Path, tmp_path: Path) -> Iterator[City]:
    shutil.copy(made, tmp_path / "city.db")
    with compose.open_store(default(tmp_path)) as store:
        yield City(CityBooks(store), (CITY,), SignatureChecker(), lambda: NOW_MS, Pace())


def ledger(device: int, count: int, seed: int = 0) -> tuple[bytes, ...]:
    place, fare = Place("minato", f"bus-{device}", 1, "R1", "T1", "S1", "S2", 20_600), Fare(200, 100, 100, 1, 0)
    return tuple(
        encode(
            Entry(
                Kind.PAID,
                When(1, seq * 1000 + seed, NOW_MS + seq * 1000, 3),
                place,
                Medium((seed * 1000 + seq).to_bytes(8, "big")),
                fare,
                Versions(),
                device=device,
                epoch=EPOCH,
                seq=seq,
            )
        )
        for seq in range(1, count + 1)
    )


def cut(device: int, entries: tuple[bytes, ...], first: int, last: int) -> Batch:
    head = genesis(device, EPOCH)
    for data in entries[: first - 1]:
        head = follow(head, data)
    return Batch(device, EPOCH, first, head, entries[first - 1 : last], NOW_MS)


# --- what the description promises --------------------------------------------------------------------------------------------------------


@schemathesis.serializer(COSE)
def _as_it_is(_context: Any, value: Any) -> Any:
    """Sealed bytes go over the wire as they are; what is no bytes (a generator's idea of wrong data) as some bytes that are none."""
    return value if isinstance(value, bytes) else cbor2.dumps(value, default=lambda encoder, odd: encoder.encode(repr(odd)))


def bodies() -> st.SearchStrategy[bytes]:
    """Sealed messages that are right, of every content; and bytes."""
    beat = Heartbeat(1, EPOCH, 0, genesis(1, EPOCH), When(1, 2, 3, 3), tuple((part, WORKS) for part in PARTS), 9, Versions(), "1")
    right = [seal.seal(TERMINALS[1], Content.HEARTBEAT, notes.encode_heartbeat(beat))]
    right += [seal.seal(TERMINALS[device], Content.BATCH, batches.pack(cut(device, ledger(device, 9), 1, 5))) for device in TERMINALS]
    return st.sampled_from(right) | st.binary(max_size=400) | st.binary(max_size=90).map(lambda data: right[1][:-64] + data)


schemathesis.openapi.media_type(COSE, bodies())


@pytest.mark.prove
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_route_keeps_what_its_description_promises(path: str, method: str, city: City, proof: Any) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(city))
    operation = schema[path][method]
    examples = 4000 if proof.full else 12
    # A GET without parameters, or with any text as its one, cannot be asked wrongly.
    for mode in list(schemathesis.GenerationMode) if method == "POST" else [schemathesis.GenerationMode.POSITIVE]:

        @given(case=operation.as_strategy(generation_mode=mode))
        @run(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None)
        def ask(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        ask()


# --- bent batches -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A body, whether it is signed by a terminal as it is, and the original that it was bent from."""

    body: bytes
    signed: bool
    original: bytes


def bent(chance: random.Random) -> Sent:
    """A batch, bent somewhere between the entries and the wire."""
    device = chance.choice(list(TERMINALS))
    signer, entries = TERMINALS[device], ledger(device, 30, seed=chance.randrange(2))
    first = chance.randrange(1, 30)
    batch = cut(device, entries, first, chance.randrange(first, 31))
    payload = batches.pack(batch)
    original = seal.seal(signer, Content.BATCH, payload)
    match chance.randrange(7):
        case 0:
            return Sent(mutated(chance, original), signed=False, original=original)
        case 1:
            return Sent(seal.seal(signer, Content.BATCH, mutated(chance, payload)), signed=True, original=original)
        case 2:
            inside = mutated(chance, zstandard.ZstdDecompressor().decompress(payload))
            return Sent(seal.seal(signer, Content.BATCH, zstandard.ZstdCompressor().compress(inside)), signed=True, original=original)
        case 3:
            parts = cbor2.loads(zstandard.ZstdDecompressor().decompress(payload))
            inside = cbor2.dumps(odd(chance, parts))
            return Sent(seal.seal(signer, Content.BATCH, zstandard.ZstdCompressor().compress(inside)), signed=True, original=original)
        case 4:
            bomb = bytes(2**20 * chance.randrange(1, 40))
            return Sent(seal.seal(signer, Content.BATCH, zstandard.ZstdCompressor().compress(bomb)), signed=True, original=original)
        case 5:
            content = chance.choice(list(Content))
            return Sent(seal.seal(signer, content, payload), signed=content is Content.BATCH, original=original)
        case _:
            return Sent(original, signed=True, original=original)


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut out, doubled, put in."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        at, length = chance.randrange(len(found) + 1), chance.choice((1, 1, 2, 8, 64))
        match chance.randrange(4):
            case 0:
                found[at : at + length] = chance.randbytes(len(found[at : at + length]))
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = found[at : at + length]
            case _:
                found[at:at] = chance.choice((chance.randbytes(length), b"\xff" * length, b"\x9f", b"\x5f", b"\x1b" + b"\xff" * 8))
    return bytes(found)


ODD: tuple[Any, ...] = (-1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64, b"", b"\0" * 32, "", "\0", "\ud7ff", [], [[]], {}, None, True, 1.5)


def odd(chance: random.Random, value: Any) -> Any:
    """The same tree with one thing in it that does not belong there."""
    if isinstance(value, list) and value and chance.random() < 0.9:
        found = list(value)
        at = chance.randrange(len(found))
        match chance.randrange(6):
            case 0:
                del found[at]
            case 1:
                found.insert(at, found[at])
            case 2:
                chance.shuffle(found)
            case _:
                found[at] = odd(chance, found[at])
        return found
    return chance.choice(ODD)


PER_SEED = 100


@pytest.mark.prove
def test_no_bent_batch_breaks_the_door_and_none_is_taken_that_should_not_be(city: City, proof: Any) -> None:
    app = create_app(city)

    async def knock(seeds: Iterator[int]) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://city") as client:
            for seed in seeds:
                chance = random.Random(seed)
                for _ in range(PER_SEED):
                    sent = bent(chance)
                    answer = await client.post("/v1/batches", content=sent.body, headers={"content-type": COSE})
                    judge(sent, answer)

    asyncio.run(knock(proof.seeds(small=3, full=10_000)))


def judge(sent: Sent, answer: httpx.Response) -> None:
    """No 5xx; what is refused is told in words; what is taken is signed, holds together, and is what the receipt is about."""
    assert answer.status_code in {200, 400, 401, 413}, answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == PROBLEM
        assert sent.body != sent.original
        return
    assert sent.signed or sent.body == sent.original
    taken = seal.parse(sent.body, Content.BATCH, batches.MAX_SEALED)
    try:
        batch = batches.unpack(taken.payload)
    except Malformed as error:
        raise AssertionError(f"taken, and yet {error}") from error
    got = receipt.decode(seal.parse(answer.content, Content.RECEIPT, batches.MAX_SEALED).payload)
    assert (got.device, got.epoch) == (batch.device, batch.epoch)
    missing = {seq for first, last in got.holes for seq in range(first, last + 1)}
    assert not missing & set(range(batch.first_seq, batch.last_seq + 1))
