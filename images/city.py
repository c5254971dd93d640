"""The city outside a guest, for tests of the whole road: its back office as a program of its own, behind TLS, and a stick that it wrote.

A guest reaches it at one address and reaches nothing else: its network is QEMU's own, closed but for connections to ``ADDRESS``, each of
which ends at the door here. The TLS proxy is socat, as a city has nginx: neither knows anything of us.
"""

import datetime as dt
import ipaddress
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from images.command import ImageFailure, run
from images.guest import Plug

ADDRESS = "10.0.2.100"
_KAZASHI = Path(sys.executable).with_name("kazashi")
_STICK_MB = 16
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Office:
    """``folder``: the city's files. ``authority``: who vouches for its address (PEM). ``port``: the TLS proxy's, on the loopback."""

    folder: Path
    authority: Path
    port: int

    def run(self, *words: str | Path) -> str:
        """What a command of the back office printed."""
        return run((_KAZASHI, "backoffice", *words), cwd=self.folder)

    @property
    def network(self) -> Plug:
        """A network with nobody in it but the city."""
        door = f"guestfwd=tcp:{ADDRESS}:443-cmd:socat STDIO TCP:127.0.0.1:{self.port}"
        return Plug(("-netdev", f"user,id=net,restrict=on,{door}", "-device", "virtio-net-pci,netdev=net,romfile="))


@contextmanager
def office(folder: Path) -> Generator[Office]:
    """A city that is open: its books are in ``folder``."""
    folder.mkdir(parents=True)
    run((_KAZASHI, "backoffice", "init"), cwd=folder)
    _certify(folder / "city.pem", folder / "proxy.pem")
    port = _free_port()
    serving = (_KAZASHI, "backoffice", "serve", "--port", "0")
    log = (folder / "serve.log").open("wb")
    with log, subprocess.Popen(serving, cwd=folder, stdout=log, stderr=subprocess.STDOUT) as city:
        try:
            inner = _announced(folder / "serve.log", city)
            listen = f"OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={folder / 'proxy.pem'}"
            with subprocess.Popen(("socat", listen, f"TCP:127.0.0.1:{inner}")) as proxy:
                try:
                    yield Office(folder, folder / "city.pem", port)
                finally:
                    proxy.terminate()
        finally:
            city.terminate()


def stick(office: Office, into: Path, vehicle: str, number: int, words: tuple[str | Path, ...]) -> Path:
    """A stick's image (FAT, called KAZASHI) on which the office says that a unit is ``vehicle``; ``words``: more for `provision write`."""
    content = into.with_suffix(".folder")
    content.mkdir()
    code = content.with_suffix(".code")
    code.write_text(office.run("enrol", vehicle, "--device", str(number), "--operator", "minato").splitlines()[0] + "\n")
    city = ("--city", f"https://{ADDRESS}", "--ca", office.authority, "--code-file", code)
    run((_KAZASHI, "provision", "write", content, "--vehicle", vehicle, *city, *words), cwd=office.folder)
    run(("mkfs.vfat", "-C", "-n", "KAZASHI", into, str(_STICK_MB * 1024)))
    run(("mcopy", "-s", "-i", into, content / "kazashi-unit", "::"))
    return into


def _certify(certificate: Path, both: Path) -> None:
    """A certificate for ``ADDRESS`` that vouches for itself; valid for any morning that a test takes place on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A city that exists in tests only")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), start, start + dt.timedelta(days=7300))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    certificate.write_bytes(made.public_bytes(pem))
    both.touch(mode=0o600)
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    both.write_bytes(secret + certificate.read_bytes())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
    return port


def _announced(log: Path, city: "subprocess.Popen[bytes]") -> int:
    """The port that the city says it listens on."""
    end_s = time.monotonic() + _PATIENCE_S
    while "ready:" not in (told := log.read_text(errors="replace")):
        if city.poll() is not None or time.monotonic() > end_s:
            raise ImageFailure(f"the city's back office did not open: {told.strip()[-400:]}")
        time.sleep(0.1)
    return int(told.partition("http://127.0.0.1:")[2].partition("/")[0])
