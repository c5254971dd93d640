"""What the city sends down to its terminals: one file of rules, signed, numbered and dated.

The payload of a sealed message (``ledger.seal``, content PACKAGE) is a CBOR array, by position::

     0  format 1   1  kind (text)   2  version, from 1
     3  valid from, days since 1970-01-01
     4  created, Unix ms
     5  released: 1 when a person has said that the change is meant, however big it is
     6  SHA-256 of the file   7  the file, a zstd frame

The signature already covers all of it. The hash of the file stands there as well because it is the file's *name* from then on: what the
clerk's ``sha256sum`` printed before signing is what the terminal shows, and the first half of it is what every entry names as its version
(``ledger.entry.Versions``). A file that was signed after it was damaged is found by it, too.
"""

import hashlib
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from ledger import compress, strict
from ledger.errors import Malformed
from ledger.seal import OVERHEAD

FORMAT = 1
MAX_SEALED = 4 * 1024 * 1024
MAX_PAYLOAD = MAX_SEALED - OVERHEAD
MAX_FILE = 16 * 1024 * 1024
LEVEL = 19  # made once, sent to every vehicle

_SHAPE = (int, str, int, int, int, int, bytes, bytes)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH_DAY


class MalformedPackage(Malformed):
    """What a package's seal protects is no package of this format, or its file is not the one that it names."""


class PackageKind(StrEnum):
    """What the file is. The words are what a person writes on the command line and what folders are called."""

    FARE_TABLE = "fare-table"
    SCHEME = "scheme"
    DENY_LIST = "deny-list"
    ENTITLEMENTS = "entitlements"
    GRANTS = "grants"
    WORDS = "words"


PERSONAL = (PackageKind.DENY_LIST, PackageKind.ENTITLEMENTS, PackageKind.GRANTS)
"""Packages that name riders."""


@dataclass(frozen=True, slots=True)
class Package:
    """One file and what is said of it.

    ``version``: rises with each package of its kind. ``valid_from``: the first service day on which it is in force. ``released``: a person
    of the city has looked at the change and wants it.
    """

    kind: PackageKind
    version: int
    valid_from: date
    created_ms: int
    file: bytes
    released: bool = False

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file."""
        return hashlib.sha256(self.file).digest()

    def __str__(self) -> str:
        return f"{self.kind} {self.version}, from {self.valid_from}, {self.digest.hex()[:16]}"


def encode(package: Package) -> bytes:
    """The payload. Raises ``MalformedPackage`` for a package that no terminal would take."""
    if not 1 <= package.version <= strict.MAX or not 0 <= package.created_ms <= strict.MAX or package.valid_from.toordinal() < _EPOCH_DAY:
        raise MalformedPackage("The package's version, date or time of creation is out of range.")
    if len(package.file) > MAX_FILE:
        raise MalformedPackage(f"The file has {len(package.file)} bytes; no package holds more than {MAX_FILE}.")
    payload = strict.write(
        (
            FORMAT,
            package.kind.value,
            package.version,
            package.valid_from.toordinal() - _EPOCH_DAY,
            package.created_ms,
            int(package.released),
            package.digest,
            compress.compress(package.file, LEVEL),
        )
    )
    if len(payload) > MAX_PAYLOAD:
        raise MalformedPackage(f"The package has {len(payload)} bytes; no more than {MAX_PAYLOAD} are allowed.")
    return payload


def decode(payload: bytes) -> Package:
    """The package in ``payload``; its seal must have been checked. Raises ``MalformedPackage``; never anything else."""
    try:
        _, kind, version, day, created_ms, released, digest, frame = strict.read(payload, MAX_PAYLOAD, 1, FORMAT, _SHAPE)
        if not (kind in set(PackageKind) and version >= 1 and day <= _LAST_DAY and released in {0, 1}):
            raise MalformedPackage("The package has a kind, version, date or mark that this software does not know.")
        file = compress.decompress(frame, MAX_FILE)
    except (strict.NotStrict, compress.NotCompressed) as error:
        raise MalformedPackage(f"The package {error}.") from error
    if hashlib.sha256(file).digest() != digest:
        raise MalformedPackage("The file in the package is not the one whose hash it names; it was damaged before it was signed.")
    return Package(PackageKind(kind), version, date.fromordinal(_EPOCH_DAY + day), created_ms, file, bool(released))
