"""The deny list: riders whose card may not pay here (pure).

A list never writes a card: in London a bad list switched off 65,000 cards in one morning (12 July 2008). A card on it is refused in light
and words and sent to the desk; the next list may welcome it again. A list names the rider-hash key it was made with, because a pseudonym
made with another key would block nobody, silently.
"""

import tomllib
from dataclasses import dataclass
from typing import cast

FORMAT = 1
RIDER_BYTES = 8


class BadList(Exception):
    """A deny list that cannot be used: what is wrong, where, what to do."""


@dataclass(frozen=True, slots=True)
class DenyList:
    """Pseudonyms (8 bytes) that are refused, made with the rider-hash key of version ``rider_key``."""

    riders: frozenset[bytes] = frozenset()
    rider_key: int = 0

    def blocks(self, rider: bytes) -> bool:
        """Whether this rider is refused."""
        return rider in self.riders


NOBODY = DenyList()


def parse(text: str, name: str, rider_key: int) -> DenyList:
    """The list in a TOML file: ``format = 1``, ``rider_key``, ``riders`` (16 hex digits each). Raises ``BadList``."""
    root = _tables(text, name)
    if root.get("format") != FORMAT:
        raise BadList(f"{name}, format: must be {FORMAT}; fetch a list for this version.")
    if root.get("rider_key") != rider_key:
        raise BadList(f"{name}, rider_key: made with another rider key than this terminal's ({rider_key}); fetch a list for this key.")
    found = root.get("riders", [])
    if not isinstance(found, list):
        raise BadList(f"{name}, riders: must be a list of texts; correct it.")
    riders = cast("list[object]", found)
    for place, rider in enumerate(riders, 1):
        if not (isinstance(rider, str) and len(rider) == 2 * RIDER_BYTES and set(rider) <= set("0123456789abcdefABCDEF")):
            raise BadList(f"{name}, riders[{place}]: must be {2 * RIDER_BYTES} hex digits; correct it.")
    return DenyList(frozenset(bytes.fromhex(str(rider)) for rider in riders), rider_key)


def rider_key_of(text: str, name: str) -> int:
    """The version of the rider-hash key that a list says it was made with; raises ``BadList``."""
    version = _tables(text, name).get("rider_key")
    if type(version) is not int:
        raise BadList(f"{name}, rider_key: must be a number; write the version of the key that made the pseudonyms.")
    return version


def _tables(text: str, name: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadList(f"{name}: not a TOML file ({error}); write it anew from the city's list.") from None
