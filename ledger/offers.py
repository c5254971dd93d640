"""What the city offers to send down, and which of it a terminal fetches (pure).

The list is no more than a hint: nobody signed it. What it says decides which addresses are asked for, how many bytes are taken and in what
order; what comes from there must be a package that the city signed, under the fingerprint that was asked for.

A list has old versions, too. Versions and days must both rise (a terminal takes no version that is not above the one it has), so a package
is worth fetching unless a higher version is in force from the same day or an earlier one; and of those whose day has come, the last.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeGuard

from ledger import strict
from ledger.errors import Malformed
from ledger.package import MAX_SEALED, PackageKind

MAX_LIST = 1024 * 1024
MOST_OFFERS = 8000
_DIGEST_BYTES = 32


class MalformedOffers(Malformed):
    """No list of packages."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One line of the list. ``digest``: SHA-256 of the sealed package, its address; ``size``: its bytes."""

    kind: PackageKind
    version: int
    valid_from: date
    digest: bytes
    size: int


def decode(data: bytes) -> tuple[Offer, ...]:
    """The offers in a JSON list (``docs/api.md``). A kind that this software does not know is passed over. Raises ``MalformedOffers``."""
    if len(data) > MAX_LIST:
        raise MalformedOffers(f"The list of packages has more than {MAX_LIST} bytes.")
    try:
        rows: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedOffers("The list of packages is not JSON.") from error
    if not _is_list(rows) or len(rows) > MOST_OFFERS:
        raise MalformedOffers(f"The list of packages is no list of at most {MOST_OFFERS} lines.")
    return tuple(offer for at, row in enumerate(rows) if (offer := _offer(row, at)) is not None)


def _offer(row: object, at: int) -> Offer | None:
    wrong = MalformedOffers(f"Line {at} of the list of packages has not kind, version, valid_from, digest and size as the API says.")
    if not _is_table(row):
        raise wrong
    kind, version, size = row.get("kind"), row.get("version"), row.get("size")
    try:
        day, digest = date.fromisoformat(str(row.get("valid_from"))), bytes.fromhex(str(row.get("digest")))
    except ValueError:
        raise wrong from None
    if not (_is_number(version, strict.MAX) and _is_number(size, MAX_SEALED) and len(digest) == _DIGEST_BYTES and isinstance(kind, str)):
        raise wrong
    return Offer(PackageKind(kind), version, day, digest, size) if kind in set(PackageKind) else None


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_number(value: object, most: int) -> TypeGuard[int]:
    return type(value) is int and 1 <= value <= most


def worth(offers: Iterable[Offer], today: date | None) -> tuple[Offer, ...]:
    """Those worth having, of each kind the lowest version first. ``today``: None while the clock is unset."""
    by_kind: dict[PackageKind, list[Offer]] = {}
    for offer in sorted(offers, key=lambda offer: offer.version):
        by_kind.setdefault(offer.kind, []).append(offer)
    return tuple(offer for kind in PackageKind for offer in _worth(by_kind.get(kind, []), today))


def _worth(offers: Sequence[Offer], today: date | None) -> list[Offer]:
    """Of one kind, by version."""
    found: list[Offer] = []
    for offer in offers:
        found = [*(earlier for earlier in found if earlier.valid_from < offer.valid_from), offer]
    begun = [offer for offer in found if today is not None and offer.valid_from <= today]
    return found[max(len(begun) - 1, 0) :]
