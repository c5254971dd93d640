"""CBOR (RFC 8949) as every message but an entry uses it: arrays in fixed order of integers, byte strings and text, in one form only.

Decoded and encoded again: the bytes must be the same. That catches what a decoder takes in its stride: longer integers, indefinite lengths,
trailing bytes. Tags, maps and floats fall to the types, which every field of every array is asked for.
"""

from typing import Any

from cbor2 import CBORError, dumps, loads

MAX = 2**63 - 1
Parts = tuple[Any, ...]


class NotStrict(Exception):
    """The bytes are not such an array; the message is the end of a sentence."""


def write(parts: Parts) -> bytes:
    """The bytes of ``parts``: integers, byte strings, text, and tuples of such."""
    return dumps(parts)


def read(data: bytes, limit: int, depth: int, version: int, shape: tuple[type, ...]) -> Parts:
    """The array in ``data`` of ``limit`` bytes at most, nested ``depth`` deep at most, whose parts have the types of ``shape``.

    Its first part is ``version``. Integers are 0 … 2⁶³ − 1. Raises ``NotStrict``.
    """
    if len(data) > limit:
        raise NotStrict(f"has {len(data)} bytes; no more than {limit} are allowed")
    try:
        parts: Parts = loads(data, max_depth=depth, immutable=True, allow_indefinite=False)
        again = dumps(parts)
    except (CBORError, ValueError, TypeError, OverflowError) as error:
        raise NotStrict("is not CBOR as this house uses it") from error
    if type(parts) is not tuple:
        raise NotStrict("is not an array")
    if again != data:
        raise NotStrict("is CBOR, but not in its one deterministic form")
    if not parts or parts[0] != version:
        raise NotStrict(f"is of version {parts[0] if parts else 'none'!r}; this software knows version {version}")
    return shaped(parts, shape)


def rows(parts: Parts, shape: tuple[type, ...]) -> tuple[Parts, ...]:
    """An inner array whose every item is an array of ``shape``. Raises ``NotStrict``."""
    if any(type(part) is not tuple for part in parts):
        raise NotStrict("has an item that is not an array")
    return tuple(shaped(part, shape) for part in parts)


def shaped(parts: Parts, shape: tuple[type, ...]) -> Parts:
    """The inner array ``parts``, when it has ``shape``. Raises ``NotStrict``."""
    if len(parts) != len(shape):
        raise NotStrict(f"has an array of {len(parts)} fields where {len(shape)} belong")
    for position, (part, expected) in enumerate(zip(parts, shape, strict=True)):
        if type(part) is not expected:
            raise NotStrict(f"has the wrong type in field {position}")
        if isinstance(part, int) and not 0 <= part <= MAX:
            raise NotStrict(f"has a number that is out of range in field {position}")
    return parts
