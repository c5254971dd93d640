"""The wire to the city, against servers on this machine that behave and that do not."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import AF_INET, SHUT_RDWR, SOCK_STREAM, socket

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ledger.carrier import MEDIA_TYPE, NoAnswer
from ledger.uplink import BadAddress, Certificates, HttpUplink, Limits, retry_after_s

QUICK = Limits(connect_s=5, read_s=5, whole_s=10)
IMPATIENT = Limits(connect_s=0.2, read_s=0.2, whole_s=0.5)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/cose\r\nContent-Length: 5\r\n\r\nhello"


@dataclass
class Server:
    """Takes one connection after another, reads a request, and does what it is told with the socket."""

    act: Callable[[socket], None]
    context: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    port: int = 0

    def serve(self, listener: socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    spoken = self.context.wrap_socket(connection, server_side=True) if self.context else connection
                    with spoken:
                        self.requests.append(request(spoken))
                        self.act(spoken)
                except OSError:
                    pass


def request(connection: socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    size = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
    while len(body) < size and (more := connection.recv(65536)):
        body += more
    return head + b"\r\n\r\n" + body


@contextmanager
def serving(
    act: Callable[[socket], None] = lambda connection: connection.sendall(GOOD), context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    with socket(AF_INET, SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = Server(act, context, port=listener.getsockname()[1])
        thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(SHUT_RDWR)
            thread.join(10)


def uplink(server: Server, limits: Limits = QUICK) -> HttpUplink:
    return HttpUplink(f"http://127.0.0.1:{server.port}/town/", limits=limits)


def test_a_message_goes_out_as_it_is_and_the_answer_comes_back() -> None:
    with serving() as server:
        answer = uplink(server).post("/v1/batches", b"sealed")
    assert (answer.status, answer.media_type, answer.body, answer.retry_after_s) == (200, MEDIA_TYPE, b"hello", None)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /town/v1/batches HTTP/1.1\r\n")
    assert b"Content-Type: application/cose" in head
    assert body == b"sealed"


def test_a_package_is_fetched_and_read_no_further_than_it_may_be_long() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/cose\r\nContent-Length: %d\r\n\r\n"
    body = bytes(300_000)
    with serving(lambda connection: connection.sendall(head % len(body) + body)) as server:
        assert uplink(server).get("/v1/packages/ab", MEDIA_TYPE, 300_000, 10).body == body
        assert len(uplink(server).get("/v1/packages/ab", MEDIA_TYPE, 100_000, 10).body) == 100_001
    assert server.requests[0].startswith(b"GET /town/v1/packages/ab HTTP/1.1\r\n")
    assert b"Accept: application/cose" in server.requests[0]


def test_a_part_is_asked_for_by_its_bytes_and_a_server_that_knows_no_ranges_is_read_no_further() -> None:
    part = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 10-14/99\r\n\r\nabcde"
    with serving(lambda connection: connection.sendall(part)) as server:
        answer = uplink(server).get_part("/v1/images/ab", 10, 5, 10)
    assert (answer.status, answer.body) == (206, b"abcde")
    assert b"Range: bytes=10-14\r\n" in server.requests[0]
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + bytes(99)
    with serving(lambda connection: connection.sendall(whole)) as server:
        answer = uplink(server).get_part("/v1/images/ab", 10, 5, 10)
    assert (answer.status, len(answer.body)) == (200, 6)


def test_a_package_that_ends_too_soon_or_comes_too_slowly_is_no_answer() -> None:
    def cut(connection: socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + bytes(80_000))

    with serving(cut) as server, pytest.raises(NoAnswer):
        uplink(server).get("/v1/packages/ab", MEDIA_TYPE, 90_000, 10)

    def slow(connection: socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            threading.Event().wait(0.02)

    with serving(slow) as server, pytest.raises(NoAnswer, match=r"longer than 0\.3 s|127"):
        uplink(server).get("/v1/packages/ab", MEDIA_TYPE, 90_000, 0.3)


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving() as server:
        assert uplink(server).post("/v1/batches", b"").status == 200


def test_a_refusal_brings_its_sentence_and_its_time() -> None:
    said = b'{"detail": "Too many\\u0007 at once.", "status": 429}'
    head = b"HTTP/1.1 429 No\r\nRetry-After: 17\r\nContent-Type: application/problem+json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
    with serving(lambda connection: connection.sendall(head % len(said) + said)) as server:
        answer = uplink(server).post("/v1/batches", b"")
    assert (answer.status, answer.retry_after_s, answer.detail) == (429, 17, "Too many at once.")


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"detail": 3}', b"\xff", b"[" * 50_000])
def test_a_problem_that_is_none_says_nothing(body: bytes) -> None:
    head = b"HTTP/1.1 400 No\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"
    with serving(lambda connection: connection.sendall(head % len(body) + body)) as server:
        assert uplink(server).post("/v1/batches", b"").detail == ""


def test_a_redirect_is_not_followed() -> None:
    with serving(lambda connection: connection.sendall(b"HTTP/1.1 302 Go\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")) as server:
        assert uplink(server).post("/v1/batches", b"").status == 302
    assert len(server.requests) == 1


def test_an_endless_answer_is_read_no_further_than_a_receipt_can_be_long() -> None:
    def pour(connection: socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/cose\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))

    with serving(pour) as server:
        assert len(uplink(server).post("/v1/batches", b"").body) < 64 * 1024


def silent(connection: socket) -> None:
    connection.recv(1)


def dripping(connection: socket) -> None:
    """One byte now and then: every single read is quick enough."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    connection.settimeout(0.05)
    while True:
        try:
            connection.sendall(b"X-More: 1\r\n")
            if not connection.recv(1):
                return
        except TimeoutError:
            continue


@pytest.mark.parametrize(
    "act",
    [
        silent,
        dripping,
        lambda connection: connection.shutdown(SHUT_RDWR),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"),
        lambda connection: connection.sendall(b"SSH-2.0-hello\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nX: " + b"y" * 70_000),
    ],
    ids=["silent", "dripping", "hung up", "half", "another protocol", "endless header"],
)
def test_whatever_a_server_does_the_courier_gets_its_no_answer_in_bounded_time(act: Callable[[socket], None]) -> None:
    with serving(act) as server, pytest.raises(NoAnswer, match=r"127\.0\.0\.1"):
        uplink(server, IMPATIENT).post("/v1/batches", b"sealed")


def test_nobody_there_is_no_answer() -> None:
    with serving() as server:
        gone = uplink(server)
    with pytest.raises(NoAnswer, match="Refused"):
        gone.post("/v1/batches", b"")


# ── addresses ──


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://city.example", "plain http goes to this machine only"),
        ("http://127.0.0.1.city.example", "plain http goes to this machine only"),
        ("http://0.0.0.0", "plain http goes to this machine only"),
        ("ftp://city.example", "is no address"),
        ("https://", "is no address"),
        ("https://user:secret@city.example", "is no address"),
        ("https://city.example?x=1", "is no address"),
        ("https://city.example:99999", "is no address"),
        ("https://[::1", "is no address"),
        ("", "is no address"),
    ],
)
def test_an_address_that_must_not_be_used_is_refused_without_telling_its_secrets(url: str, told: str) -> None:
    with pytest.raises(BadAddress, match=told) as refused:
        HttpUplink(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8735", "http://127.9.9.9", "http://[::1]:80", "http://localhost", "https://city.example/x"]
)
def test_these_addresses_are_good(url: str) -> None:
    HttpUplink(url)


# ── TLS ──


@dataclass(frozen=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(self, folder: Path, name: str, *, days: int = 1) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = built(name, key, self.certificate.subject, self.key, authority=False, days=days)
        return written(folder, name, certificate, key)


def built(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name | None, signer: ec.EllipticCurvePrivateKey, *, authority: bool, days: int
) -> x509.Certificate:
    from ipaddress import ip_address

    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer or subject, public_key=key.public_key(), serial_number=7)
    builder = builder.not_valid_before(now - timedelta(days=30)).not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    return builder.sign(signer, SHA256())


def written(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = built("city", key, None, key, authority=True, days=1)
    written(tmp_path, "city", certificate, key)
    return Authority(key, certificate)


def server_context(certificate: tuple[Path, Path], client_authority: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_authority)
    return context


def tls(server: Server, certificates: Certificates) -> HttpUplink:
    return HttpUplink(f"https://127.0.0.1:{server.port}", certificates, QUICK)


def test_the_citys_own_authority_is_believed(tmp_path: Path, authority: Authority) -> None:
    with serving(context=server_context(authority.issue(tmp_path, "server"))) as server:
        assert tls(server, Certificates(tmp_path / "city.pem")).post("/v1/batches", b"sealed").body == b"hello"


def test_the_citys_door_may_ask_for_the_vehicles_certificate(tmp_path: Path, authority: Authority) -> None:
    own, own_key = authority.issue(tmp_path, "bus")
    with serving(context=server_context(authority.issue(tmp_path, "server"), tmp_path / "city.pem")) as server:
        assert tls(server, Certificates(tmp_path / "city.pem", own, own_key)).post("/v1/batches", b"").status == 200
        with pytest.raises(NoAnswer):
            tls(server, Certificates(tmp_path / "city.pem")).post("/v1/batches", b"")


def test_another_authority_and_an_expired_certificate_are_no_answer(tmp_path: Path, authority: Authority) -> None:
    with (
        serving(context=server_context(authority.issue(tmp_path, "server"))) as server,
        pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY"),
    ):
        tls(server, Certificates()).post("/v1/batches", b"secret")
    assert server.requests == []
    with serving(context=server_context(authority.issue(tmp_path, "old", days=-1))) as server, pytest.raises(NoAnswer, match="expired"):
        tls(server, Certificates(tmp_path / "city.pem")).post("/v1/batches", b"secret")
    assert server.requests == []


def test_old_tls_is_no_answer(tmp_path: Path, authority: Authority) -> None:
    context = server_context(authority.issue(tmp_path, "server"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(context=context) as server, pytest.raises(NoAnswer):
        tls(server, Certificates(tmp_path / "city.pem")).post("/v1/batches", b"")


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BadAddress, match=r"city\.ca"):
        HttpUplink("https://city.example", Certificates(tmp_path / "text"))
    with pytest.raises(BadAddress, match=r"city\.certificate"):
        HttpUplink("https://city.example", Certificates(own=tmp_path / "missing"))


# ── Retry-After ──


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("17", 17),
        (" 0 ", 0),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200),
        ("Thu, 01 Jan 1970 00:10:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_a_time_to_come_back_is_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, 1000) == seconds


@given(st.text())
def test_no_header_breaks_the_reading_of_a_time(text: str) -> None:
    found = retry_after_s(text, 1000)
    assert found is None or found >= 0
