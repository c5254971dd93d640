"""The demo's bad network does what its script says, and nothing else."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from firmware.demo_network import Accident, Fate, Network
from ledger.carrier import NoAnswer
from ledger.uplink import HttpUplink

BODY = bytes(range(256)) * 4


@contextmanager
def city(heard: list[bytes]) -> Generator[int]:
    """A door that repeats what it hears; gives its port."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) < int(self.headers["Content-Length"]):
                return
            heard.append(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/cose")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *about: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def heard() -> list[bytes]:
    return []


@pytest.fixture
def network(heard: list[bytes]) -> Generator[Network]:
    with city(heard) as port, Network(port) as network:
        network.come_back()
        yield network


def send(network: Network) -> bytes:
    return HttpUplink(network.url).post("/v1/batches", BODY).body


def test_without_a_script_everything_arrives(network: Network, heard: list[bytes]) -> None:
    assert send(network) == BODY
    assert heard == [BODY]
    assert [(passage.path, passage.body) for passage in network.arrived] == [("/v1/batches", BODY)]


@pytest.mark.parametrize(
    ("accident", "arrives"),
    [
        (Accident(Fate.CUT_GOING, 300), False),
        (Accident(Fate.ANSWER_LOST), True),
        (Accident(Fate.CUT_COMING, 400), True),
    ],
)
def test_an_accident_leaves_the_vehicle_without_an_answer(network: Network, heard: list[bytes], accident: Accident, arrives: bool) -> None:
    network.expect(accident)
    with pytest.raises(NoAnswer):
        send(network)
    assert heard == [BODY] * arrives == [passage.body for passage in network.arrived]
    assert send(network) == BODY


def test_a_stranger_answers_what_the_city_never_heard(network: Network, heard: list[bytes]) -> None:
    network.expect(Accident(Fate.STRANGER))
    assert b"sign in" in send(network)
    assert heard == []


def test_a_network_that_went_away_refuses_and_comes_back_at_the_same_address(network: Network) -> None:
    before = network.url
    network.go_away()
    with pytest.raises(NoAnswer, match="refused"):
        send(network)
    network.come_back()
    assert network.url == before
    assert send(network) == BODY
