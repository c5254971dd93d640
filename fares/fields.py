"""Reads a TOML file strictly and tells *all* that is wrong with it at once, each fault with its path in the file.

A rules file is written by a person in an office who will mend it tonight; a program that stops at the first fault makes that five evenings.
So every reader here returns something usable after noting a fault, and ``Source.finish`` raises when there was any. A key that nobody asked
for is a fault too: a misspelt setting must not silently be a default.
"""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from enum import Enum
from typing import TypeVar, cast

from fares.faults import Unusable

YEARS = range(1850, 3000)

_E = TypeVar("_E", bound=Enum)
_T = TypeVar("_T")


@dataclass(slots=True)
class Fields:
    """One table of the file, at ``path``. A reader given no ``default`` notes a fault when the key is missing."""

    path: str
    values: Mapping[str, object]
    faults: list[str]
    _asked: set[str] = field(default_factory=set[str])
    _inner: "list[Fields]" = field(default_factory=list["Fields"])

    def fault(self, key: str, what: str) -> None:
        """Note that ``key`` is wrong; ``what`` ends the sentence."""
        self.faults.append(f"{self.at(key)}: {what}")

    def at(self, key: str) -> str:
        """The key's path in the file."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self.values

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty."""
        value = self._value(key, str, "a text in quotes", default)
        if value is None or (not value and default is None):
            if value is not None:
                self.fault(key, "is empty; write something.")
            return ""
        return value

    def number(self, key: str, default: int | None = None, *, least: int = 0, most: int = 10_000_000) -> int:
        """A whole number from ``least`` to ``most``."""
        value = self._value(key, int, "a whole number", default)
        if value is None:
            return least
        if not least <= value <= most:
            self.fault(key, f"is {value}; it must be from {least} to {most}.")
            return least
        return value

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """True or false."""
        return bool(self._value(key, bool, "true or false", default))

    def day(self, key: str, default: date | None = None) -> date:
        """A date without a time, such as 2026-04-01."""
        value = self._value(key, date, "a date such as 2026-04-01", default)
        if value is None:
            return date.min
        if value is not default and value.year not in YEARS:
            self.fault(key, f"is in the year {value.year}; write a day from {YEARS[0]} to {YEARS[-1]}.")
        return value

    def clock_time(self, key: str, default: time | None = None) -> time:
        """A time of day, such as 03:00:00."""
        return self._value(key, time, "a time such as 03:00:00", default) or time.min

    def choice(self, key: str, choices: type[_E], default: _E | None = None) -> _E:
        """One of the words that ``choices`` has as its values."""
        words = {str(choice.value): choice for choice in choices}
        value = self._value(key, str, f"one of {', '.join(words)}", str(default.value) if default else None)
        if value is not None and value not in words:
            self.fault(key, f"is '{value}'; it must be one of {', '.join(words)}.")
        return words.get(value or "", next(iter(choices)))

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts."""
        value = self._value(key, list, "a list of texts in quotes", None if default is None else list(default))
        entries = cast("list[object]", value or [])
        if not all(isinstance(entry, str) and entry for entry in entries):
            self.fault(key, "must be a list of texts in quotes.")
            return ()
        return tuple(str(entry) for entry in entries)

    def inner(self, key: str) -> "Fields":
        """The table below ``key``; an empty one when it is missing, whose own missing keys are then told."""
        value = self._value(key, dict, f"a table [{self.at(key)}]", {})
        return self._adopt(self.at(key), cast("Mapping[str, object]", value or {}))

    def each(self, key: str) -> "Iterator[Fields]":
        """The tables of the list ``[[key]]``, counted from 1 in their paths."""
        value = cast("list[object]", self._value(key, list, f"a list of tables [[{self.at(key)}]]", []) or [])
        for place, entry in enumerate(value, 1):
            path = f"{self.at(key)}[{place}]"
            if not isinstance(entry, dict):
                self.faults.append(f"{path}: must be a table; write it under [[{self.at(key)}]].")
                continue
            yield self._adopt(path, cast("Mapping[str, object]", entry))

    def unknown(self) -> Iterator[str]:
        """A fault for each key that nobody asked for, here and below."""
        for key in self.values:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked))
                yield f"{self.at(key)}: is not a setting; remove it or correct its name (known here: {known})."
        for fields in self._inner:
            yield from fields.unknown()

    def _adopt(self, path: str, values: Mapping[str, object]) -> "Fields":
        fields = Fields(path, values, self.faults)
        self._inner.append(fields)
        return fields

    def _value(self, key: str, kind: type[_T], wanted: str, default: _T | None) -> _T | None:
        self._asked.add(key)
        if key not in self.values:
            if default is None:
                self.fault(key, f"is missing; write {wanted}.")
            return default
        value = self.values[key]
        # A TOML true is a Python int, and a TOML date-time is a Python date: neither is meant here, so types must be equal.
        if type(value) is not kind:
            self.fault(key, f"must be {wanted}.")
            return default
        return value


@dataclass(frozen=True, slots=True)
class Source:
    """A whole TOML file while it is read."""

    name: str
    root: Fields
    digest: bytes

    def finish(self) -> None:
        """Raise ``Unusable`` with every fault noted so far and every key that nobody asked for."""
        faults = [*self.root.faults, *self.root.unknown()]
        if faults:
            raise Unusable(f"{self.name}, {fault}" for fault in faults)


def parse(data: bytes, name: str) -> Source:
    """The file's tables; ``digest`` is the first 8 bytes of the SHA-256 of its bytes. Raises ``Unusable`` when it is no TOML."""
    try:
        values: dict[str, object] = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise Unusable([f"{name}: is not UTF-8; save it as UTF-8."]) from None
    except tomllib.TOMLDecodeError as error:
        raise Unusable([f"{name}: is not TOML ({error}); correct this place."]) from None
    return Source(name, Fields("", values, []), hashlib.sha256(data).digest()[:8])
