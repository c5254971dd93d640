"""CBOR (RFC 8949) as every message but an entry uses it: arrays in fixed order of integers, byte strings and text, in one form only.

Decoded and encoded again: the bytes must be the same. That catches what a decoder takes in its stride: longer integers, indefinite lengths,
trailing bytes. Floats fall to the types, which every field of every array is asked for. Tags and maps would too, but only when they are
made: a million empty maps are a megabyte on the wire, 150 MiB of memory and two seconds, and what some tags ask for (a mail to be parsed, a
pattern to be compiled) takes longer still. So the decoder ends at the first of either.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from cbor2 import CBORError, dumps, loads

MAX = 2**63 - 1
Parts = tuple[Any, ...]
Shape = tuple[type, ...]


class NotStrict(Exception):
    """The bytes are not such an array; the message is the end of a sentence."""


class _EveryTag(Mapping[int, Any]):
    """For ``cbor2.loads``: whatever the tag, nothing is made of it."""

    def __getitem__(self, tag: int) -> Any:
        return _refuse

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _refuse(*_: object) -> NoReturn:
    raise ValueError("there are no tags and no maps here")


_EVERY_TAG = _EveryTag()


def write(parts: Parts) -> bytes:
    """The bytes of ``parts``: integers, byte strings, text, and tuples of such."""
    return dumps(parts)


def read(data: bytes, limit: int, depth: int, version: int, shape: Shape) -> Parts:
    """The array in ``data`` of ``limit`` bytes at most, nested ``depth`` deep at most, whose parts have the types of ``shape``.

    Its first part is ``version``. Integers are 0 … 2⁶³ − 1. Raises ``NotStrict``.
    """
    return read_any(data, limit, depth, {version: shape})


def read_any(data: bytes, limit: int, depth: int, shapes: Mapping[int, Shape]) -> Parts:
    """The same of any version that ``shapes`` has a shape for."""
    if len(data) > limit:
        raise NotStrict(f"has {len(data)} bytes; no more than {limit} are allowed")
    try:
        parts: Parts = load(data, depth)
        again = dumps(parts)
    except (CBORError, ValueError, TypeError, OverflowError) as error:
        raise NotStrict("is not CBOR as this house uses it") from error
    if type(parts) is not tuple:
        raise NotStrict("is not an array")
    if again != data:
        raise NotStrict("is CBOR, but not in its one deterministic form")
    version = parts[0] if parts and type(parts[0]) is int else -1
    if version not in shapes:
        known = " and ".join(map(str, shapes))
        raise NotStrict(f"is of version {version if 0 <= version <= MAX else 'none'}; this software knows version {known}")
    return shaped(parts, shapes[version])


def load(data: bytes, depth: int) -> Any:
    """What ``data`` holds, nested ``depth`` deep at most, arrays as tuples. Raises ``CBORError`` at the first tag or map."""
    return loads(data, max_depth=depth, immutable=True, allow_indefinite=False, semantic_decoders=_EVERY_TAG, object_hook=_refuse)


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
