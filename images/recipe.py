"""What an image is made of: ``validator.toml`` and ``kiosk.toml`` as values. Pure.

Every package, file and path stands under its reason, so that a reviewer who asks "why is this on a bus" finds the answer beside it; an
entry without one is refused. A recipe may be ``like`` another: its lists come first, its single settings hold where nothing else is said.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

ARCHITECTURES = ("amd64", "arm64")
ROLES = ("validator", "kiosk")

_Tables = dict[str, object]


class RecipeError(ValueError):
    """A recipe that cannot be followed; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Files (shell patterns, from the root) of a package that is not installed. ``follow``: the pattern of the package it stands for."""

    package: str
    files: tuple[str, ...]
    follow: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """The partitions, in MiB."""

    esp_mb: int
    boot_mb: int
    root_mb: int
    data_mb: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """One role's image. ``without``: shell patterns with ``{a,b}``, from the root. ``modules``: prefixes below the kernel's folder.

    ``alone``: the message that is shown while nobody else has anything to show.
    """

    role: str
    suite: str
    target: str
    alone: str
    packages: tuple[str, ...]
    taken: tuple[Taken, ...]
    left_out: tuple[str, ...]
    without: tuple[str, ...]
    modules: tuple[str, ...]
    early_modules: tuple[str, ...]
    sizes: Sizes

    def taken_on(self, architecture: str) -> tuple[Taken, ...]:
        """Those that this architecture has."""
        return tuple(each for each in self.taken if each.architecture in {"", architecture})


def read(name: str, text_of: Callable[[str], str]) -> Recipe:
    """The recipe in the file ``name``; ``text_of`` gives a file's text. Raises ``RecipeError``."""
    return _recipe(_tables(name, text_of), name)


def _tables(name: str, text_of: Callable[[str], str]) -> _Tables:
    try:
        tables = cast("_Tables", tomllib.loads(text_of(name)))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name}: is not TOML ({error}); correct this place") from None
    like = tables.pop("like", None)
    if like is None:
        return tables
    below = _tables(str(like), text_of)
    return {**below, **tables, **{key: _joined(below[key], tables[key]) for key in below.keys() & tables.keys()}}


def _joined(below: object, above: object) -> object:
    if isinstance(below, list) and isinstance(above, list):
        return [*cast("list[object]", below), *cast("list[object]", above)]
    return above


def _recipe(tables: Mapping[str, object], name: str) -> Recipe:
    sizes, initrd = _table(tables, "sizes", name), _table(tables, "initrd", name)
    return Recipe(
        role=_text(tables, "role", name),
        suite=_text(tables, "suite", name),
        target=_text(tables, "target", name),
        alone=_text(tables, "alone", name),
        packages=tuple(_text(each, "name", name) for each in _entries(tables, "package", name)),
        taken=tuple(
            Taken(_text(each, "package", name), _texts(each, "files", name), str(each.get("follow", "")), str(each.get("architecture", "")))
            for each in _entries(tables, "taken", name)
        ),
        left_out=tuple(_text(each, "package", name) for each in _entries(tables, "left_out", name)),
        without=tuple(_text(each, "path", name) for each in _entries(tables, "without", name)),
        modules=tuple(path for each in _entries(tables, "modules", name) for path in _texts(each, "paths", name)),
        early_modules=_texts(initrd, "modules", name),
        sizes=Sizes(*(_number(sizes, key, name) for key in ("esp_mb", "boot_mb", "root_mb", "data_mb"))),
    )


def _entries(tables: Mapping[str, object], key: str, name: str) -> Iterator[Mapping[str, object]]:
    for at, each in enumerate(cast("list[Mapping[str, object]]", tables.get(key, [])), 1):
        if not each.get("why"):
            raise RecipeError(f'{name}: [[{key}]] number {at} has no reason; write why = "…" beside it')
        yield each


def _table(tables: Mapping[str, object], key: str, name: str) -> Mapping[str, object]:
    found = tables.get(key)
    if not isinstance(found, dict):
        raise RecipeError(f"{name}: [{key}] is missing; validator.toml shows one")
    return cast("Mapping[str, object]", found)


def _text(table: Mapping[str, object], key: str, name: str) -> str:
    found = table.get(key)
    if not isinstance(found, str) or not found:
        raise RecipeError(f"{name}: '{key}' is missing or no text; validator.toml shows one")
    return found


def _texts(table: Mapping[str, object], key: str, name: str) -> tuple[str, ...]:
    found = table.get(key)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in cast("list[object]", found)):
        raise RecipeError(f"{name}: '{key}' must be a list of texts; validator.toml shows one")
    return tuple(cast("list[str]", found))


def _number(table: Mapping[str, object], key: str, name: str) -> int:
    found = table.get(key)
    if not isinstance(found, int) or found < 1:
        raise RecipeError(f"{name}: '{key}' must be a number of MiB, such as 256")
    return found


def alternatives(pattern: str) -> tuple[str, ...]:
    """``a/{b,c}`` as ``a/b`` and ``a/c``, also one within the other: a shell's braces, which ``pathlib`` does not know."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return (pattern,)
    made = (pattern[: found.start()] + each + pattern[found.end() :] for each in found[1].split(","))
    return tuple(dict.fromkeys(each for one in made for each in alternatives(one)))
