"""A device key in a TPM 2.0: made there, kept there, and what is said when it does not sign. The TPM is swtpm, in software.

The strangers are tpm2-tools and OpenSSL, with and without its TPM module: they read our file, load our key, and check our signatures.
"""

import io
import os
import pty
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from backoffice import compose as office
from backoffice import keys
from backoffice.api import create_app
from backoffice.city import City
from backoffice.registry import CityBooks
from backoffice.settings import default
from backoffice.store import Store as CityStore
from drivers import tpm as words
from drivers.signer import Algorithm, BadSignature
from drivers.signing import Ed25519Key, SignatureChecker
from drivers.signing_tpm import TpmKey, is_expected, new_key, read_wrapped, write_wrapped
from drivers.tpm import KeyElsewhere, NoWrappedKey, TpmLost, WrappedKey, is_wrapped, parse_wrapped
from drivers.vault_file import KeySet, VaultFileRefused, demo_keys, read_signing_keys, write_keys
from firmware import compose
from firmware.cli import main
from firmware.config import DeviceKeySettings, KeyHome, load, unenrolled
from firmware.failure import Failure
from firmware.keyring import enrolling_file
from ledger import seal
from ledger.carrier import Carrier
from ledger.courier import Pace
from ledger.entry import Entry, Kind, When
from ledger.seal import Content, key_id
from ledger.store import Settings, Store

PROGRAMS = ("swtpm", "tpm2_clear", "openssl")
pytestmark = pytest.mark.skipif(
    not all(shutil.which(name) for name in PROGRAMS),
    reason="there is no TPM in software here (apt-get install swtpm tpm2-tools tpm2-openssl): no device key was made in one",
)
MESSAGE = b"Sixteen rides, and the hash of the one before."
EXAMPLE = (
    "-----BEGIN TSS2 PRIVATE KEY-----\n"
    "MIHyBgZngQUKAQOgAwEB/wIEQAAAAQRaAFgAIwALAAQEcgAAABAAGAALAAMAEAAg\n"
    "fT3lO0OGFuFWp1c2if3dOqviQrUZhnqlvQxITZbv5OsAINRstUPj/OofKNHALByv\n"
    "W4fCtKdm+NE+RnXAW4Ugylg1BIGAAH4AIGv1SNPSa8btnl4/Te7qQB3xwMcTUTDa\n"
    "/lOnuj/kB4PfABBDs0urKmPnAi38XfB8gfCiepbLk2fJSxObDZLkGXWCjvJ99MNd\n"
    "ZCcX4IOIAS6vSrapy7ZiW90fR2oXikaoEPQ2E0fI7eBnSiMbQxtDoRRSTYo24t1L\n"
    "0QXUGK0=\n"
    "-----END TSS2 PRIVATE KEY-----\n"
)
"""A key of a TPM that is gone."""


@dataclass
class Tpm:
    """A TPM in software, and the tools of strangers at it."""

    folder: Path
    started: bool = True
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def device(self) -> Path:
        return self.folder / "tpm"

    def start(self) -> None:
        flags = ["--flags", "not-need-init,startup-clear" if self.started else "not-need-init"]
        lines = ["--server", f"type=unixio,path={self.device}", "--ctrl", f"type=unixio,path={self.device}.ctrl"]
        self._process = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}", *lines, *flags])
        for _ in range(1000):
            with socket.socket(socket.AF_UNIX) as line:
                if line.connect_ex(str(self.device)) == 0:
                    return
            time.sleep(0.005)
        raise AssertionError("swtpm did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
        self.device.unlink(missing_ok=True)

    def die(self) -> None:
        """It answers no more, and its place is still there."""
        self.stop()
        with socket.socket(socket.AF_UNIX) as line:
            line.bind(str(self.device))

    def tool(self, *command: str, fails: bool = False) -> bytes:
        """A stranger's program with this TPM; what it printed."""
        reach = f"swtpm:path={self.device}"
        environment = {**os.environ, "TPM2TOOLS_TCTI": reach, "TPM2OPENSSL_TCTI": reach}
        ran = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, check=False)
        if command[0].startswith("tpm2_"):  # there is no resource manager that forgets what it left loaded
            subprocess.run(["tpm2_flushcontext", "-t"], env=environment, capture_output=True, check=False)
        assert (ran.returncode != 0) is fails, ran.stderr.decode()
        return ran.stdout + ran.stderr


@pytest.fixture
def make_tpm() -> Iterator[Callable[..., Tpm]]:
    """A Unix socket's path is short, so these folders are no test's own."""
    with ExitStack() as undo:

        def make(*, started: bool = True) -> Tpm:
            made = Tpm(Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="tpm-"))), started)
            made.start()
            undo.callback(made.stop)
            return made

        yield make


@pytest.fixture
def tpm(make_tpm: Callable[..., Tpm]) -> Tpm:
    return make_tpm()


@pytest.fixture
def key(tpm: Tpm) -> TpmKey:
    return TpmKey(tpm.device, new_key(tpm.device))


# ── the key ──


def test_a_key_that_the_tpm_made_signs_and_anybody_checks_it(key: TpmKey) -> None:
    checker = SignatureChecker()
    for message in (b"", MESSAGE, bytes(100_000)):
        checker.check(Algorithm.ES256, key.public, key.sign(message), message)
    with pytest.raises(BadSignature):
        checker.check(Algorithm.ES256, key.public, key.sign(MESSAGE), MESSAGE + b".")


def test_a_sealed_batch_is_believed_by_its_readers(key: TpmKey) -> None:
    sealed = seal.seal(key, Content.BATCH, b"a payload")
    parts = seal.parse(sealed, Content.BATCH, 1000)

    seal.check(parts, SignatureChecker(), key.public)
    assert (parts.algorithm, parts.kid, parts.payload) == (Algorithm.ES256, key_id(key.public), b"a payload")


def test_each_key_is_another_and_the_tpm_keeps_none_of_them(tpm: Tpm) -> None:
    """More than a TPM's three places for what is loaded."""
    made = [TpmKey(tpm.device, new_key(tpm.device)) for _ in range(8)]

    assert len({each.public for each in made}) == 8
    for each in made:
        SignatureChecker().check(Algorithm.ES256, each.public, each.sign(MESSAGE), MESSAGE)
    for kind in ("handles-transient", "handles-persistent", "handles-loaded-session"):
        assert tpm.tool("tpm2_getcap", kind).strip() == b""


def test_the_kernels_device_is_asked_by_one_write_and_one_read_a_command(tpm: Tpm, key: TpmKey) -> None:
    """A terminal in raw mode stands for it: a character device, and swtpm behind it."""
    ours, devices = pty.openpty()
    tty.setraw(devices)

    def behind() -> None:
        with suppress(OSError):
            while command := os.read(ours, 4096):
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(str(tpm.device))
                    line.sendall(command)
                    os.write(ours, line.recv(4096))

    thread = threading.Thread(target=behind, daemon=True)
    thread.start()
    named = TpmKey(Path(os.ttyname(devices)), key.key)
    SignatureChecker().check(Algorithm.ES256, named.public, named.sign(MESSAGE), MESSAGE)
    os.close(devices)
    thread.join(10)
    os.close(ours)


def test_a_restart_of_the_tpm_changes_nothing(tpm: Tpm, key: TpmKey) -> None:
    tpm.stop()
    tpm.start()

    SignatureChecker().check(Algorithm.ES256, key.public, key.sign(MESSAGE), MESSAGE)


# ── strangers ──


def laid(tpm: Tpm, key: TpmKey) -> None:
    """The two halves as tpm2-tools take them: what stands in the file, each with its size before it."""
    for name, half in (("key.pub", key.key.public), ("key.priv", key.key.private)):
        (tpm.folder / name).write_bytes(len(half).to_bytes(2, "big") + half)
    (tpm.folder / "message").write_bytes(MESSAGE)
    kind = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"
    tpm.tool("tpm2_createprimary", "-C", "o", "-G", "ecc", "-a", kind, "-c", "parent.ctx")
    tpm.tool("tpm2_load", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")


def test_tpm2_tools_load_the_key_and_no_attribute_lets_it_go(tpm: Tpm, key: TpmKey) -> None:
    laid(tpm, key)
    said = tpm.tool("tpm2_readpublic", "-c", "key.ctx").decode()

    assert "value: fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign\n" in said
    assert "authorization policy" not in said


def test_the_key_cannot_be_exported_by_the_command_that_exports_another(tpm: Tpm, key: TpmKey) -> None:
    laid(tpm, key)
    policy = ("tpm2_policycommandcode", "-S", "session", "-L", "policy", "TPM2_CC_Duplicate")
    tpm.tool("tpm2_startauthsession", "-S", "session")
    tpm.tool(*policy)
    tpm.tool("tpm2_flushcontext", "session")
    loose = ["-a", "sign|userwithauth|sensitivedataorigin", "-L", "policy", "-u", "o.pub", "-r", "o.priv", "-c", "loose.ctx"]
    tpm.tool("tpm2_create", "-C", "parent.ctx", "-G", "ecc", *loose)
    for name, stays in (("loose", False), ("key", True)):
        tpm.tool("tpm2_startauthsession", "--policy-session", "-S", "session")
        tpm.tool(*policy)
        out = ["-p", "session:session", "-r", f"{name}.out", "-s", f"{name}.seed"]
        tpm.tool("tpm2_duplicate", "-C", "null", "-c", f"{name}.ctx", "-G", "null", *out, fails=stays)
        tpm.tool("tpm2_flushcontext", "session")
        assert (tpm.folder / f"{name}.out").exists() is not stays


def test_openssl_checks_what_the_tpm_signed(tpm: Tpm, key: TpmKey) -> None:
    point, signature = key.public, key.sign(MESSAGE)
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + point
    (tpm.folder / "key.der").write_bytes(spki)
    (tpm.folder / "message").write_bytes(MESSAGE)
    (tpm.folder / "signature").write_bytes(der_of(signature))
    tpm.tool("openssl", "pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pem")

    assert tpm.tool("openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "message") == b"Verified OK\n"
    laid(tpm, key)
    tpm.tool("tpm2_verifysignature", "-c", "key.ctx", "-g", "sha256", "-m", "message", "-s", "signature", "-f", "ecdsa")


def test_openssls_tpm_module_reads_our_file_and_signs_with_our_key(tpm: Tpm, key: TpmKey) -> None:
    write_wrapped(tpm.folder / "device.keys", key.key)
    (tpm.folder / "message").write_bytes(MESSAGE)
    providers = ["-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2"]
    signing = ["-sign", "-rawin", "-digest", "sha256", "-in", "message", "-out", "signature"]
    tpm.tool("openssl", "pkeyutl", *providers, "-inkey", "device.keys", *signing)

    SignatureChecker().check(Algorithm.ES256, key.public, raw_of((tpm.folder / "signature").read_bytes()), MESSAGE)


def der_of(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def raw_of(der: bytes) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))


# ── what goes wrong ──


def test_a_copied_disk_signs_nothing_beside_another_tpm_and_says_so(key: TpmKey, make_tpm: Callable[..., Tpm]) -> None:
    thiefs = TpmKey(make_tpm().device, key.key)

    with pytest.raises(KeyElsewhere, match=r"made in another TPM, or this one was cleared: it never signs again; enrol this vehicle again"):
        thiefs.sign(MESSAGE)
    assert "another TPM" in thiefs.trouble


def test_a_tpm_that_was_cleared_never_signs_by_that_key_again(tpm: Tpm, key: TpmKey) -> None:
    tpm.tool("tpm2_clear", "-c", "p")

    with pytest.raises(KeyElsewhere):
        key.sign(MESSAGE)
    TpmKey(tpm.device, new_key(tpm.device)).sign(MESSAGE)


def test_wrong_passwords_for_something_else_do_not_lock_the_device_key(tpm: Tpm, key: TpmKey) -> None:
    tpm.tool("tpm2_dictionarylockout", "-s", "-n", "1", "-t", "86400", "-l", "86400")
    tpm.tool("tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "parent.ctx")
    tpm.tool("tpm2_create", "-C", "parent.ctx", "-G", "ecc", "-p", "right", "-u", "o.pub", "-r", "o.priv", "-c", "other.ctx")
    (tpm.folder / "message").write_bytes(MESSAGE)
    tpm.tool("tpm2_sign", "-c", "other.ctx", "-p", "wrong", "-g", "sha256", "-o", "signature", "message", fails=True)
    assert b"inLockout:                 1" in tpm.tool("tpm2_getcap", "properties-variable")

    SignatureChecker().check(Algorithm.ES256, key.public, key.sign(MESSAGE), MESSAGE)
    new_key(tpm.device)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda tpm: tpm.tool("tpm2_changeauth", "-c", "owner", "secret"), "owner hierarchy has a password that nobody here knows; clear"),
        (lambda tpm: tpm.tool("tpm2_hierarchycontrol", "-C", "p", "shEnable", "clear"), "owner hierarchy is switched off; switch it on"),
        (Tpm.die, "the TPM does not answer"),
        (Tpm.stop, "there is no TPM here, and the device key is in one; switch it on"),
    ],
)
def test_each_thing_that_is_wrong_with_a_tpm_is_one_sentence_with_what_to_do(
    tpm: Tpm, key: TpmKey, spoil: Callable[[Tpm], object], told: str
) -> None:
    spoil(tpm)

    for ask in (lambda: key.sign(MESSAGE), lambda: new_key(tpm.device)):
        with pytest.raises(TpmLost, match=told) as lost:
            ask()
        assert "\n" not in str(lost.value)
    assert told in key.trouble


def test_a_tpm_that_nobody_started_is_one_that_failed(make_tpm: Callable[..., Tpm]) -> None:
    with pytest.raises(TpmLost, match="the TPM failed its own test and does nothing more; turn the machine off and on"):
        new_key(make_tpm(started=False).device)


def test_what_is_no_tpm_is_one_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", Path("/dev/null"), tmp_path):
        with pytest.raises(TpmLost):
            new_key(place)


def test_trouble_is_forgotten_with_the_next_signature(tpm: Tpm, key: TpmKey) -> None:
    tpm.stop()
    with pytest.raises(TpmLost):
        key.sign(MESSAGE)
    assert key.trouble
    tpm.start()
    key.sign(MESSAGE)
    assert not key.trouble


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (0x921, "locked after wrong passwords"),
        (0x922, "busy"),
        (0x902, "busy"),
        (0x101, "failed its own test"),
        (0x1DF, "another TPM"),
        (0x9A2, "has a password"),
        (0x98E, "has a password"),
        (0x2E6, "P-256"),
        (0x185, "switched off"),
        (0x143, "refused (code 0x143)"),
    ],
)
def test_a_refusal_says_what_it_means(code: int, told: str) -> None:
    assert told in str(words.refusal(code))
    assert isinstance(words.refusal(code), KeyElsewhere) is (code == 0x1DF)


@given(st.binary(max_size=200))
def test_no_answer_of_a_tpm_breaks_more_than_one_signature(answer: bytes) -> None:
    for read in (words.response_of, words.handle_in, words.created_in, words.signature_in):
        with suppress(TpmLost):
            read(answer)


# ── its file ──


def test_the_file_says_what_it_is_and_comes_back_the_same() -> None:
    key = parse_wrapped(EXAMPLE)

    assert key.text() == EXAMPLE
    assert is_wrapped(EXAMPLE)
    assert len(key.point) == 65
    assert repr(key) == "WrappedKey()"
    assert not is_wrapped(KeySet.device_only(bytes(32)).text())


@given(st.integers(0, len(EXAMPLE) - 1), st.sampled_from("AB/=\n -"))
def test_a_changed_file_is_another_key_of_this_kind_or_none(at: int, letter: str) -> None:
    text = EXAMPLE[:at] + letter + EXAMPLE[at + 1 :]
    try:
        key = parse_wrapped(text)
    except NoWrappedKey:
        return
    assert key.public[:20] == parse_wrapped(EXAMPLE).public[:20]


@pytest.mark.parametrize("bit", [0x02, 0x10, 0x20, 0x20000])
def test_a_key_that_could_leave_its_tpm_or_did_not_begin_there_is_none(bit: int) -> None:
    good = parse_wrapped(EXAMPLE)
    attributes = int.from_bytes(good.public[4:8], "big") ^ bit

    with pytest.raises(NoWrappedKey):
        WrappedKey(good.public[:4] + attributes.to_bytes(4, "big") + good.public[8:], good.private)


@pytest.mark.parametrize("text", ["", "\n", EXAMPLE[:-30], EXAMPLE + EXAMPLE, EXAMPLE.replace("MIHy", "MIHz"), EXAMPLE * 9])
def test_a_half_file_is_no_key(text: str) -> None:
    with pytest.raises(NoWrappedKey):
        parse_wrapped(text)


def test_a_file_that_is_damaged_or_open_to_others_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "device.keys"
    write_wrapped(path, parse_wrapped(EXAMPLE))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(VaultFileRefused, match="others may read this file"):
        read_wrapped(path)
    path.chmod(0o600)
    path.write_text(EXAMPLE[:200])
    with pytest.raises(VaultFileRefused, match=r"is no key of a TPM that can be used \(it has no beginning or no end\)"):
        read_wrapped(path)
    path.unlink()
    assert read_wrapped(path) is None
    write_keys(path, KeySet.device_only(bytes(32)))
    assert read_wrapped(path) is None


def test_leading_zeros_that_a_tpm_left_out_are_there_again() -> None:
    good = parse_wrapped(EXAMPLE)
    begin, y = good.public[:20], good.public[-32:]
    short = WrappedKey(begin + b"\0\x1f" + bytes([7] * 31) + b"\0\x20" + y, good.private)
    assert short.point == b"\x04\0" + bytes([7] * 31) + y
    answer = bytes(4) + bytes.fromhex("0018000b 0001 05 0020") + bytes([9] * 32)
    assert words.signature_in(answer) == bytes(31) + b"\x05" + bytes([9] * 32)


# ── where a new key is made ──


def test_a_new_key_is_made_where_the_unit_says_and_the_weaker_place_is_never_taken_unasked(tmp_path: Path) -> None:
    here, away = tmp_path / "tpm", tmp_path / "none"
    here.write_bytes(b"")

    assert compose._tpm_for(DeviceKeySettings()) is None
    assert compose._tpm_for(DeviceKeySettings(tpm=here)) == here
    assert compose._tpm_for(DeviceKeySettings(tpm=away)) is None
    assert compose._tpm_for(DeviceKeySettings(here, KeyHome.FILE)) is None
    assert compose._tpm_for(DeviceKeySettings(here, KeyHome.TPM)) == here
    with pytest.raises(Failure, match=r"there is no TPM here, and keys.device_key asks for one; .* write device_key = \"file\""):
        compose._tpm_for(DeviceKeySettings(away, KeyHome.TPM))
    with pytest.raises(Failure, match=r"keys.tpm: is missing"):
        compose._tpm_for(DeviceKeySettings(None, KeyHome.TPM))
    with pytest.raises(Failure, match=r"keys.file: holds cards' keys, too, and a TPM keeps none"):
        compose._new_device_key(demo_keys(1).for_terminal(b""), DeviceKeySettings(here))


def test_a_tpm_that_the_firmware_names_is_waited_for(tmp_path: Path) -> None:
    table = tmp_path / "TPM2"
    assert not is_expected(Path("/dev/tpmrm7"), table)
    table.write_bytes(b"TPM2")
    assert is_expected(Path("/dev/tpmrm7"), table)
    assert not is_expected(tmp_path / "tpm", table)


# ── a terminal and its city ──

DEVICE = 12
CITY = Ed25519Key(bytes(range(32)))
SMALL = Settings(log_bytes=0, ballast_bytes=0, low_space_bytes=0, synchronous="OFF")
AT_ONCE = Pace(settle_s=0, base_s=0, away_s=0, batch=40, ask_s=0, ask_again_s=0)
Enrol = Callable[..., int]
Spoil = Callable[[Tpm], object]


@dataclass
class Town:
    """The city behind its door, and what a clerk does there."""

    url: str
    books: CityBooks

    def code(self) -> str:
        code, now_ms = keys.new_code(os.urandom), office.now_ms()
        self.books.add_device(DEVICE, "minato-12", "minato", now_ms)
        self.books.give_code(DEVICE, keys.code_digest(code), now_ms, now_ms + 3_600_000)
        return code

    def stored(self) -> int:
        """How many entries of the ledger it has."""
        return self.books.stored(DEVICE, 5).next_seq - 1


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    settings = default(tmp_path)
    with CityStore.open(settings.database) as store, closing(socket.socket()) as door:
        store.migrate()
        city = City(CityBooks(store), (CITY,), SignatureChecker(), office.now_ms, settings.pace)
        door.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(city), http="h11", loop="asyncio", ws="none", log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([door],), daemon=True)
        thread.start()
        for _ in range(1000):
            if server.started:
                break
            time.sleep(0.01)
        yield Town(f"http://127.0.0.1:{door.getsockname()[1]}", CityBooks(store))
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def bus(tmp_path: Path, town: Town, tpm: Tpm) -> Path:
    """A unit that took its stick: a device key in a file, which the city does not know, and a TPM beside it."""
    write_keys(tmp_path / "device.keys", KeySet.device_only(bytes([8] * 32)))
    path = tmp_path / "bus.toml"
    path.write_text(
        f"""
format = 1
[terminal]
vehicle = "bus"
[reader]
address = "emulated:tray"
[rules]
table = "t"
operator = "o"
scheme = "s"
[keys]
file = "device.keys"
tpm = "{tpm.device}"
[ledger]
file = "bus.ledger"
[duty]
routes = ["M1"]
[city]
url = "{town.url}"
"""
    )
    return path


@pytest.fixture
def enrol(bus: Path, monkeypatch: pytest.MonkeyPatch) -> Enrol:
    monkeypatch.chdir(bus.parent)

    def come(code: str, *options: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(code + "\n"))
        return main(["enrol", "--config", str(bus), *options])

    return come


def layers(bus: Path) -> Sequence[Path]:
    return [bus, bus.with_name("enrolled.toml")]


def turns(courier: Carrier, count: int) -> None:
    for _ in range(count):
        courier._due_ns = courier._look_at_ns = 0
        courier.turn()


def drive(bus: Path, rides: int) -> None:
    """The ledger grows by so many entries."""
    config = load(layers(bus))
    with ExitStack() as undo:
        there = config.ledger.exists()
        store = undo.enter_context(
            Store.open(config.ledger, device=DEVICE, settings=SMALL)
            if there
            else Store.create(config.ledger, device=DEVICE, epoch=5, settings=SMALL)
        )
        for _ in range(rides):
            store.append(Entry(Kind.BOOT, When(1, 2, office.now_ms(), 3)))


def carry(bus: Path) -> str:
    """What the courier's status line says of its key afterwards."""
    with compose.open_courier(load(layers(bus)), pace=AT_ONCE) as courier:
        turns(courier, 24)
        return compose.where_the_key_is(courier.equipment.keyring)


def tpms_key(bus: Path) -> WrappedKey:
    found = read_wrapped(bus.with_name("device.keys"))
    assert found is not None
    return found


def test_the_key_is_made_in_the_tpm_at_enrolment_and_the_city_takes_what_it_signs(
    bus: Path, town: Town, tpm: Tpm, enrol: Enrol, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(town.code()) == 0

    said = f"the device key is in the TPM at {tpm.device} and cannot leave it"
    assert f"T{said[1:]}.\n" in capsys.readouterr().out
    assert bytes([8] * 32).hex() not in bus.with_name("device.keys").read_text()
    assert not enrolling_file(bus.with_name("device.keys")).exists()
    drive(bus, 3)
    assert carry(bus) == said
    assert town.stored() == 3
    assert main(["courier", *(f"--config={file}" for file in layers(bus)), "--check-key"]) == 0
    assert capsys.readouterr().out == f"{said}; it signs by ES256, its id is {key_id(tpms_key(bus).point).hex()}\n"


def test_a_unit_without_a_tpm_has_its_key_in_a_file_and_says_so(
    bus: Path, town: Town, tpm: Tpm, enrol: Enrol, capsys: pytest.CaptureFixture[str]
) -> None:
    tpm.stop()
    assert enrol(town.code()) == 0

    assert "The device key is in a file: whoever copies the disk has it.\n" in capsys.readouterr().out
    assert read_signing_keys(bus.with_name("device.keys")).device != bytes([8] * 32)
    drive(bus, 1)
    assert carry(bus) == "the device key is in a file: whoever copies the disk has it"
    assert town.stored() == 1


def test_a_key_in_the_tpm_is_exchanged_for_another_in_the_tpm(bus: Path, town: Town, enrol: Enrol) -> None:
    assert enrol(town.code()) == 0
    first = tpms_key(bus)
    drive(bus, 1)
    assert compose.make_next_key(load(layers(bus))).startswith("es256:")
    drive(bus, 1)
    carry(bus)

    assert town.stored() == 4  # a start stands before the announcement
    assert tpms_key(bus) != first


@pytest.mark.parametrize("forgets", [False, True])
def test_a_unit_whose_tpm_was_cleared_says_so_and_comes_back_by_a_new_code(
    *, bus: Path, town: Town, tpm: Tpm, enrol: Enrol, capsys: pytest.CaptureFixture[str], forgets: bool
) -> None:
    assert enrol(town.code()) == 0
    first = tpms_key(bus)
    drive(bus, 1)
    carry(bus)
    tpm.tool("tpm2_clear", "-c", "p")
    drive(bus, 1)

    assert "another TPM, or this one was cleared" in carry(bus)
    assert town.stored() == 1  # and nothing is lost: the ledger goes on
    capsys.readouterr()
    assert main(["courier", *(f"--config={file}" for file in layers(bus)), "--check-key"]) == 1
    assert "enrol this vehicle again with a new code" in capsys.readouterr().err
    if forgets:  # as an appliance enrols again: what the city gave is taken away
        bus.with_name("enrolled.toml").unlink()
    assert enrol(town.code()) == 0
    assert tpms_key(bus) != first
    carry(bus)
    assert town.stored() == 2


def test_a_tpm_that_is_away_for_a_while_holds_the_ledger_up_and_loses_nothing(bus: Path, town: Town, tpm: Tpm, enrol: Enrol) -> None:
    assert enrol(town.code()) == 0
    drive(bus, 2)
    tpm.die()
    assert "the TPM does not answer" in carry(bus)
    assert town.stored() == 0
    tpm.start()
    carry(bus)
    assert town.stored() == 2


@pytest.mark.parametrize("cut", ["half a key", "key not shown", "answer lost", "key not in its place"])
def test_a_power_cut_anywhere_in_the_making_of_the_key_is_mended_by_the_same_code(bus: Path, town: Town, enrol: Enrol, cut: str) -> None:
    code, file, place = town.code(), bus.with_name("enrolled.toml"), bus.with_name("device.keys")
    before = place.read_text()
    beside = enrolling_file(place)
    if cut == "half a key":
        beside.with_name(beside.name + ".new").write_text(EXAMPLE[:100])
    if cut == "key not shown":
        compose._enrolling_signer(unenrolled([bus]), b"")
        made = beside.read_text()
    if cut in {"answer lost", "key not in its place"}:
        assert enrol(code) == 0
        made = place.read_text()
        place.rename(beside)
        place.touch(mode=0o600)
        place.write_text(before)
        if cut == "answer lost":
            file.unlink()
    if cut == "key not in its place":  # whoever opens the keyring next puts it there
        compose.open_keyring(load(layers(bus)))
    else:
        assert enrol(code) == 0
    if cut != "half a key":
        assert place.read_text() == made
    assert not beside.exists()
    drive(bus, 1)
    carry(bus)
    assert town.stored() == 1


@pytest.mark.parametrize("home", ["", "file"])
def test_a_unit_whose_tpm_is_gone_or_not_wanted_any_more_comes_back_with_a_file(
    bus: Path, town: Town, tpm: Tpm, enrol: Enrol, home: str
) -> None:
    assert enrol(town.code()) == 0
    drive(bus, 1)
    if not home:
        tpm.stop()
    ask_for(bus, home)
    assert enrol(town.code()) == 0
    assert carry(bus) == "the device key is in a file: whoever copies the disk has it"
    assert town.stored() == 1


def test_a_key_that_was_being_enrolled_when_the_tpm_was_cleared_gives_way_to_another(bus: Path, town: Town, tpm: Tpm, enrol: Enrol) -> None:
    compose._enrolling_signer(unenrolled([bus]), b"")
    lost = read_wrapped(enrolling_file(bus.with_name("device.keys")))
    tpm.tool("tpm2_clear", "-c", "p")
    assert enrol(town.code()) == 0
    assert tpms_key(bus) != lost


@pytest.mark.parametrize(
    ("home", "spoil", "told"),
    [
        ("", Tpm.die, "no device key could be made: "),
        ("", lambda tpm: tpm.tool("tpm2_changeauth", "-c", "owner", "secret"), "has a password that nobody here knows"),
        ("tpm", Tpm.stop, "there is no TPM here, and keys.device_key asks for one"),
        ("chip", Tpm.stop, "keys.device_key: is 'chip'; it must be one of tpm, file"),
    ],
)
def test_an_enrolment_that_can_make_no_key_changes_nothing(
    *,
    bus: Path,
    town: Town,
    tpm: Tpm,
    enrol: Enrol,
    capsys: pytest.CaptureFixture[str],
    home: str,
    spoil: Spoil,
    told: str,
) -> None:
    ask_for(bus, home)
    spoil(tpm)
    before = bus.with_name("device.keys").read_bytes()

    assert enrol(town.code()) == 1
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert bus.with_name("device.keys").read_bytes() == before
    assert sorted(path.name for path in bus.parent.glob("device.keys*")) == ["device.keys"]


def ask_for(bus: Path, home: str) -> None:
    if home:
        bus.write_text(bus.read_text().replace("[keys]", f'[keys]\ndevice_key = "{home}"'))


def test_a_unit_that_asks_for_a_file_gets_one_beside_its_tpm(bus: Path, town: Town, enrol: Enrol) -> None:
    ask_for(bus, "file")
    assert enrol(town.code()) == 0
    assert read_wrapped(bus.with_name("device.keys")) is None


def test_a_configuration_that_lost_its_tpm_is_told_which_line_is_missing(bus: Path, town: Town, enrol: Enrol) -> None:
    assert enrol(town.code()) == 0
    bus.write_text("\n".join(line for line in bus.read_text().splitlines() if not line.startswith("tpm =")))
    with pytest.raises(Failure, match=r'keys.tpm: is missing, and the device key in .* write tpm = "/dev/tpmrm0" under \[keys\]'):
        compose.open_keyring(load(layers(bus)))
