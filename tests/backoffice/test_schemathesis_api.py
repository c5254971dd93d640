"""Strangers at the city's door: what the description promises is asked of every route, by schemathesis.

It makes requests out of the description: right ones, wrong ones, methods and media types that nobody asked for. Sealed bytes it cannot make
up, so it is given some (``bodies``). What comes of good messages that are bent is asked in ``test_bent_batches.py``.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
import schemathesis
import zstandard
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as run
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from backoffice import compose, keys
from backoffice.api import COSE, create_app
from backoffice.city import Application, City, Pace
from backoffice.registry import CityBooks
from backoffice.settings import default
from drivers.signing import Ed25519Key, P256Key, SignatureChecker
from ledger import batch as batches
from ledger import notes, seal
from ledger.batch import Batch
from ledger.chain import genesis
from ledger.codec import encode
from ledger.entry import Entry, Fare, Kind, Medium, Place, Versions, When
from ledger.notes import PARTS, WORKS, Heartbeat, Loss, LossReason
from ledger.seal import Content, Signer

NOW_MS = 1_780_000_000_000
EPOCH = 4711
CITY = Ed25519Key(bytes(range(32)))
TERMINALS: dict[int, Signer] = {1: Ed25519Key(b"\x01" * 32), 2: P256Key(b"\x02" * 32)}
PER_SEED = 50
FULL = {
    "/v1/batches": 40,
    "/v1/heartbeats": 30,
    "/v1/losses": 30,
    "/v1/enrolments": 40,
    "/v1/packages": 10,
    "/v1/packages/{digest}": 30,
}
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


def a_batch(device: int) -> bytes:
    when, place = When(1, 1000, NOW_MS, 3), Place("minato", f"bus-{device}", 1, "R1", "T1", "S1", "S2", 20_600)
    rides = [
        encode(Entry(Kind.PAID, when, place, Medium(bytes(8)), Fare(200, 100, 100, 1, 0), Versions(), device=device, epoch=EPOCH, seq=seq))
        for seq in range(1, 6)
    ]
    return batches.pack(Batch(device, EPOCH, 1, genesis(device, EPOCH), tuple(rides), NOW_MS))


@schemathesis.serializer(COSE)
def _as_it_is(_context: Any, value: Any) -> Any:
    """Sealed bytes go over the wire as they are; what is no bytes (a generator's idea of wrong data) as some bytes that are none."""
    return value if isinstance(value, bytes) else cbor2.dumps(value, default=lambda encoder, odd: encoder.encode(repr(odd)))


def trees() -> st.SearchStrategy[Any]:
    leaves = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20) | st.booleans() | st.none() | st.floats()
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.integers(0, 9), inner, max_size=3))


def bodies() -> st.SearchStrategy[bytes]:
    """Sealed messages that are right, of every content; sealed CBOR of any kind; and bytes."""
    at = When(1, 2, 3, 3)
    beat = Heartbeat(1, EPOCH, 0, genesis(1, EPOCH), at, tuple((part, WORKS) for part in PARTS), 9, Versions(), "1")
    right = [seal.seal(signer, Content.BATCH, a_batch(device)) for device, signer in TERMINALS.items()]
    right.append(seal.seal(TERMINALS[1], Content.HEARTBEAT, notes.encode_heartbeat(beat)))
    right.append(seal.seal(TERMINALS[1], Content.LOSS, notes.encode_loss(Loss(1, EPOCH, 1, 3, LossReason.MISSING, at))))
    loose = trees().map(cbor2.dumps)
    squeezed = loose.map(zstandard.ZstdCompressor().compress).map(lambda payload: seal.seal(TERMINALS[1], Content.BATCH, payload))
    noted = st.tuples(st.sampled_from([Content.HEARTBEAT, Content.LOSS]), loose).map(lambda each: seal.seal(TERMINALS[2], *each))
    forged = st.binary(max_size=90).map(lambda data: right[0][:-64] + data)
    return st.sampled_from(right) | squeezed | noted | loose | st.binary(max_size=400) | forged


schemathesis.openapi.media_type(COSE, bodies())


REFUSALS = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "405", "409", "413", "415"]}}}
)
"""What refuses a wrong request. Its own list lacks 413: a body that is wrong and too large is refused for its size, before it is read."""


@pytest.mark.prove
@pytest.mark.parametrize("mode", schemathesis.GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), ROUTES, ids=[path for path, _ in ROUTES])
def test_every_route_keeps_what_its_description_promises(
    path: str, method: str, mode: schemathesis.GenerationMode, city: City, proof: Any
) -> None:
    if method == "GET" and mode is schemathesis.GenerationMode.NEGATIVE:
        return  # a GET without parameters, or with any text as its one, cannot be asked wrongly
    document = schemathesis.openapi.from_asgi("/openapi.json", create_app(city), config=REFUSALS)
    requests = document[path][method].as_strategy(generation_mode=mode)
    settings = run(
        max_examples=PER_SEED if proof.full else 10, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None
    )
    for number in proof.seeds(small=1, full=FULL[path]):

        @seed(number)
        @settings
        @given(case=requests)
        def ask(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        ask()
