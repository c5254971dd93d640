"""Every sentence of the pages, in Japanese and English: the reader of ``words.toml``.

A sentence is a leaf with exactly ``ja`` and ``en``; what is filled in stands in braces and is the same in both. English avoids counting
nouns ("entries: 1"), so that nothing here needs a plural.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import cast

_SLOT = re.compile(r"\{(\w+)\}")
_RANGE = re.compile(r"\s*([A-Za-z*]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*")


class Language(StrEnum):
    """The languages of the pages, the first being the house's own."""

    JA = "ja"
    EN = "en"


class WordsError(ValueError):
    """The file of words is wrong; the text lists everything that is."""


@dataclass(frozen=True, slots=True)
class Words:
    """All sentences, by a dotted name."""

    sentences: Mapping[str, Mapping[Language, str]]

    def in_language(self, language: Language) -> "Say":
        """The words of one language."""
        return Say(language, {name: said[language] for name, said in self.sentences.items()})


@dataclass(frozen=True, slots=True)
class Say:
    """The words of one language; ``say("vehicles.title")`` is the sentence, ``say(…, count=3)`` with its values filled in."""

    language: Language
    sentences: Mapping[str, str]

    def __call__(self, name: str, **values: int | str) -> str:
        sentence = self.sentences[name]
        shown = {slot: f"{value:,}" if isinstance(value, int) else value for slot, value in values.items()}
        return sentence.format_map(shown) if shown else sentence

    def has(self, name: str) -> bool:
        """Whether there is such a sentence."""
        return name in self.sentences


def read(text: str) -> Words:
    """The words in a TOML text. Raises ``WordsError`` with every fault."""
    faults: list[str] = []
    sentences: dict[str, Mapping[Language, str]] = {}
    for name, leaf in _leaves(tomllib.loads(text), ()):
        if set(leaf) != set(Language) or not all(isinstance(said, str) and said.strip() for said in leaf.values()):
            faults.append(f"{name}: needs a sentence in ja and in en, and nothing else")
            continue
        said = {Language(language): str(sentence) for language, sentence in leaf.items()}
        if len({frozenset(_SLOT.findall(sentence)) for sentence in said.values()}) > 1:
            faults.append(f"{name}: ja and en do not fill in the same values")
        sentences[name] = said
    if faults:
        raise WordsError("\n".join(faults))
    return Words(sentences)


def standard() -> Words:
    """The words that come along."""
    return read(resources.files("backoffice.console").joinpath("words.toml").read_text(encoding="utf-8"))


def _leaves(table: Mapping[str, object], path: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, object]]]:
    branches = {name: cast("Mapping[str, object]", value) for name, value in table.items() if isinstance(value, dict)}
    if len(branches) < len(table):
        yield ".".join(path) or "(top)", table
        return
    for name, branch in branches.items():
        yield from _leaves(branch, (*path, name))


def preferred(accept_language: str) -> Language:
    """What an ``Accept-Language`` header (RFC 9110, section 12.5.4) asks for: English only when it stands above Japanese, else Japanese."""
    weight: dict[str, float] = {}
    for part in accept_language[:500].split(","):
        if (found := _RANGE.fullmatch(part)) is not None:
            tag = found[1].lower().split("-")[0]
            weight[tag] = max(weight.get(tag, 0.0), float(found[2] or 1))
    return Language.EN if weight.get("en", 0.0) > weight.get("ja", weight.get("*", 0.0)) else Language.JA
