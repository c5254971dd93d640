"""Keys that sign updates.

A city's signing key never lies in this tree; where none is given, the build makes a test authority and says so.
"""

from dataclasses import dataclass
from pathlib import Path

from images.command import run

_DAYS = "3650"


@dataclass(frozen=True, slots=True)
class Signing:
    """Files (PEM): the authority that a vehicle trusts, and the certificate and key that sign. ``test``: made here, for tests only."""

    authority: Path
    certificate: Path
    key: Path
    test: bool


def made_for_tests(folder: Path, name: str = "test") -> Signing:
    """An authority and a signer of our own in ``folder``, made once.

    P-256; the signer may sign code and nothing else (RFC 5280, section 4.2.1.12).
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = Signing(folder / "authority.pem", folder / "signer.pem", folder / "signer.key", test=True)
    if all(path.exists() for path in (found.authority, found.certificate, found.key)):
        return found
    authority_key, request, extensions = folder / "authority.key", folder / "signer.csr", folder / "signer.ext"
    new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    rights = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    subject = f"/O=Kazashi/CN=NOT FOR VEHICLES {name}"
    run((*new, "-x509", "-days", _DAYS, "-keyout", authority_key, "-out", found.authority, "-subj", f"{subject} authority", *rights))
    run((*new, "-keyout", found.key, "-out", request, "-subj", f"{subject} signer"))
    extensions.write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=critical,codeSigning\n")
    issued = ("-CA", found.authority, "-CAkey", authority_key, "-CAcreateserial", "-extfile", extensions)
    run(("openssl", "x509", "-req", "-in", request, "-days", _DAYS, "-out", found.certificate, *issued))
    for path in (authority_key, found.key):
        path.chmod(0o600)
    return found
