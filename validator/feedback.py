"""Each Message as lamp, tone, words and picture: the reader of ``words/messages.toml``.

What a rider sees and hears is data, so that it can be read, translated and argued about without code. This module turns the data into
frozen values, once, and tells all faults of the file at once. ``Wordbook.phrase`` then fills in the numbers of one moment.

The reader refuses what would break a promise to the rider: a message without lamp, tone or words; a tone whose pitch is too high for old
ears or does not move as its meaning says; two meanings with the same sign; a Japanese line on the screen that the voice does not say.
"""

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar, cast

from drivers.devices.display import Colour
from drivers.devices.lamps import LampColour, LampMotion, LampShape, Light
from drivers.devices.sound import Clip, Glide, Pause
from validator.messages import Message, Shown
from validator.numbers_ja import Counter, clips, reading

HIGHEST_HZ = 2500  # JIS S 0013: base frequency of an alert tone
_COMMA_MS = 170
_STOP_MS = 320
_DEFAULT_PAUSE_MS = 120
_PALETTE = ("ground", "ink", "small", "english", "sign", "white", "blue", "green", "amber", "red")
_SLOT = re.compile(r"\{(\w+)(?::\w+)?\}")
_ONLY_WITH = re.compile(r"\{(\w+)\?\}")
_NUMBER_PIECE = re.compile(r"^\{(\w+)\}(\D*)$")
_PAUSES = {"、": _COMMA_MS, "。": _STOP_MS}
_UNSPOKEN = re.compile(r"[、。 ]")
_HIRAGANA = range(0x3041, 0x3097)
_KATAKANA_AFTER = 0x60
_NAMES = {"stop"}
_Named = TypeVar("_Named", bound=Enum)


class WordbookError(ValueError):
    """The file of messages is wrong; the text lists everything that is."""


class Moves(Enum):
    """How a tone's pitch moves: the part of a tone that carries its meaning."""

    LEVEL = "level"
    RISE = "rise"
    FALL = "fall"
    DIP = "dip"
    ARCH = "arch"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What many messages share: a light and a tone."""

    name: str
    light: Light
    tone: tuple[Glide, ...]


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of the screen."""

    ground: Colour
    ink: Colour
    small: Colour
    english: Colour
    sign: Colour
    lamp: Mapping[LampColour, Colour]


@dataclass(frozen=True, slots=True)
class Feedback:
    """One moment for eyes and ears: what ``phrase`` makes of a Shown.

    ``words`` are the clips to play after ``tone`` and ``pause_ms``; ``transcript`` is the same as text and ``reading`` as it is
    pronounced. ``stay_s`` is None for what stays until the next message.
    """

    message: Message
    meaning: str
    light: Light
    tone: tuple[Glide, ...]
    pause_ms: int
    words: tuple[Clip | Pause, ...]
    transcript: str
    reading: str
    large: tuple[str, ...]
    small: str
    english: str
    stay_s: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the file, its slots still open."""

    message: Message
    meaning: Meaning
    words: tuple[str, ...]
    reading: tuple[str, ...]
    large: tuple[str, ...]
    small: str
    english: tuple[str, ...]
    optional: tuple[str, ...]
    pause_ms: int
    stay_s: float | None

    @property
    def slots(self) -> frozenset[str]:
        """The values it needs or takes."""
        return frozenset(_slots((*self.words, *self.large, self.small, *self.english)))


@dataclass(frozen=True, slots=True)
class Wordbook:
    """The whole file."""

    entries: Mapping[Message, Entry]
    palette: Palette

    def phrase(self, shown: Shown) -> Feedback:
        """Lamp, tone, words and lines for this moment; raises ``ValueError`` when a value is missing or cannot be spoken."""
        entry = self.entries[shown.message]
        values = shown.values
        missing = sorted(entry.slots - set(entry.optional) - set(values))
        if missing:
            raise ValueError(f"message '{shown.message.value}' lacks {', '.join(missing)}")
        pieces = [
            _fill(word, pronounced, values) for word, pronounced in zip(entry.words, entry.reading, strict=True) if _complete(word, values)
        ]
        return Feedback(
            message=shown.message,
            meaning=entry.meaning.name,
            light=entry.meaning.light,
            tone=entry.meaning.tone,
            pause_ms=entry.pause_ms,
            words=tuple(word for piece in pieces for word in piece.words),
            transcript="".join(piece.text for piece in pieces),
            reading="".join(piece.reading for piece in pieces),
            large=_filled(entry.large, values),
            small="".join(_filled((entry.small,), values)),
            english=" ".join(_filled(entry.english, values)),
            stay_s=entry.stay_s,
        )

    def fixed_clips(self) -> tuple[Clip, ...]:
        """Every clip that is not a number or a name, once."""
        found: dict[Clip, None] = {}
        for entry in self.entries.values():
            for word, pronounced in zip(entry.words, entry.reading, strict=True):
                if not _SLOT.search(word):
                    found[_fixed(word, pronounced)] = None
        return tuple(found)

    def counters(self) -> frozenset[Counter]:
        """What the messages count: the number clips that must be rendered."""
        matches = [_NUMBER_PIECE.match(_bare(word)) for entry in self.entries.values() for word in entry.words]
        return frozenset(Counter(match[2]) for match in matches if match and match[1] not in _NAMES)


def name_clip(text: str, pronounced: str) -> Clip:
    """The clip of a proper name. It is rendered from its given reading (kana of either kind): a name's reading is never guessed."""
    kana = "".join(chr(ord(character) + _KATAKANA_AFTER) if ord(character) in _HIRAGANA else character for character in pronounced)
    return Clip(text, kana, say=kana)


def moves(tone: Sequence[Glide]) -> Moves | None:
    """How the pitch moves from beginning to end; None when it turns more than once."""
    pitches = [pitch for glide in tone for pitch in (glide.from_hz, glide.to_hz)]
    steps = [later > earlier for earlier, later in itertools.pairwise(pitches) if later != earlier]
    turns = [step for index, step in enumerate(steps) if index == 0 or step != steps[index - 1]]
    match turns:
        case []:
            return Moves.LEVEL
        case [up]:
            return Moves.RISE if up else Moves.FALL
        case [first, _]:
            return Moves.ARCH if first else Moves.DIP
        case _:
            return None


def said(text: str) -> str:
    """A Japanese text without pauses and spaces, for comparing what is shown with what is spoken."""
    return _UNSPOKEN.sub("", text)


# ── filling in ──


@dataclass(frozen=True, slots=True)
class _Piece:
    words: tuple[Clip | Pause, ...]
    text: str
    reading: str


def _fill(word: str, pronounced: str, values: Mapping[str, int | str]) -> _Piece:
    pause = tuple(Pause(_PAUSES[mark]) for mark in word[-1:] if mark in _PAUSES)
    match = _NUMBER_PIECE.match(_bare(word))
    if match is None:
        fixed = _fixed(word, pronounced)
        return _Piece((fixed, *pause), _shown(word), fixed.reading)
    word = _shown(word)
    value = values[match[1]]
    if match[1] in _NAMES:
        name = name_clip(str(value), str(values.get(f"{match[1]}_reading", "")))
        return _Piece((name, *pause), word.format_map(values), name.reading)
    number = int(value)
    counter = Counter(match[2])
    return _Piece((*clips(number, counter), *pause), word.format_map(values), reading(number, counter))


def _fixed(word: str, pronounced: str) -> Clip:
    return Clip(_bare(word), pronounced)


def _bare(word: str) -> str:
    return _shown(word).rstrip("".join(_PAUSES))


def _shown(text: str) -> str:
    """Without the value that it stands or falls with."""
    return _ONLY_WITH.sub("", text)


def _filled(texts: Sequence[str], values: Mapping[str, int | str]) -> tuple[str, ...]:
    return tuple(_shown(text).format_map(values) for text in texts if _complete(text, values))


def _complete(text: str, values: Mapping[str, int | str]) -> bool:
    return all(values.get(slot, "") != "" for slot in _slots((text,)))


def _slots(texts: Sequence[str]) -> set[str]:
    return {match[1] for text in texts for slot in (_SLOT, _ONLY_WITH) for match in slot.finditer(text)}


# ── reading the file ──


def parse(text: str, file: str) -> Wordbook:
    """The wordbook that a TOML text describes; raises ``WordbookError`` with every fault, each with its place in ``file``."""
    try:
        document: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WordbookError(f"{file}: {error}") from error
    faults = _Faults(file, [])
    palette = _palette(_table(document.get("palette"), "palette", faults), faults)
    meanings = _meanings(_table(document.get("meaning"), "meaning", faults), faults)
    entries = _entries(_table(document.get("message"), "message", faults), meanings, faults)
    if faults.found or palette is None:
        raise WordbookError("\n".join(faults.found))
    return Wordbook(entries, palette)


@dataclass(frozen=True, slots=True)
class _Faults:
    file: str
    found: list[str]

    def add(self, place: str, what: str) -> None:
        self.found.append(f"{self.file}: {place}: {what}")


def _palette(table: Mapping[str, object], faults: _Faults) -> Palette | None:
    colours: dict[str, Colour] = {}
    for name in _PALETTE:
        written = table.get(name)
        if isinstance(written, str) and re.fullmatch(r"#[0-9a-f]{6}", written):
            red, green, blue = bytes.fromhex(written[1:])
            colours[name] = (red, green, blue)
        else:
            faults.add(f"palette.{name}", 'must be a colour like "#4cd07d"')
    if len(colours) < len(_PALETTE):
        return None
    lamp = {colour: colours.get(colour.value, colours["ground"]) for colour in LampColour}
    return Palette(colours["ground"], colours["ink"], colours["small"], colours["english"], colours["sign"], lamp)


def _meanings(table: Mapping[str, object], faults: _Faults) -> dict[str, Meaning]:
    meanings: dict[str, Meaning] = {}
    signs: dict[LampShape, str] = {}
    for name, value in table.items():
        place = f"meaning.{name}"
        fields = _table(value, place, faults)
        light = _light(_table(fields.get("lamp"), f"{place}.lamp", faults), f"{place}.lamp", faults)
        tone = _tone(fields, place, faults)
        if light is None or not tone:
            continue
        if light.shape in signs:
            faults.add(f"{place}.lamp.shape", f"'{light.shape.value}' already means '{signs[light.shape]}'; each meaning needs its own")
        signs[light.shape] = name
        meanings[name] = Meaning(name, light, tone)
    return meanings


def _light(table: Mapping[str, object], place: str, faults: _Faults) -> Light | None:
    colour = _member(LampColour, table.get("colour"), f"{place}.colour", faults)
    shape = _member(LampShape, table.get("shape"), f"{place}.shape", faults)
    motion = _member(LampMotion, table.get("motion"), f"{place}.motion", faults)
    return Light(colour, shape, motion) if colour and shape and motion else None


def _tone(fields: Mapping[str, object], place: str, faults: _Faults) -> tuple[Glide, ...]:
    glides: list[Glide] = []
    written = fields.get("tone")
    for step in cast("list[object]", written) if isinstance(written, list) else []:
        match step:
            case [int() as from_hz, int() as to_hz, int() as ms] if (
                ms > 0 and min(from_hz, to_hz) > 0 and max(from_hz, to_hz) <= HIGHEST_HZ
            ):
                glides.append(Glide(from_hz, to_hz, ms))
            case _:
                faults.add(f"{place}.tone", f"each step must be [from Hz, to Hz, ms], no pitch above {HIGHEST_HZ} Hz")
    if not glides:
        faults.add(f"{place}.tone", "is missing: nothing may be silent")
        return ()
    promised = _member(Moves, fields.get("moves"), f"{place}.moves", faults)
    if promised and moves(glides) is not promised:
        faults.add(f"{place}.tone", f"does not move as promised ({promised.value})")
    return tuple(glides)


def _entries(table: Mapping[str, object], meanings: Mapping[str, Meaning], faults: _Faults) -> dict[Message, Entry]:
    entries: dict[Message, Entry] = {}
    for name in sorted(set(table) - {message.value for message in Message}):
        faults.add(f"message.{name}", "there is no such message")
    for message in Message:
        place = f"message.{message.value}"
        if message.value not in table:
            faults.add(place, "is missing")
            continue
        entry = _entry(message, _table(table[message.value], place, faults), meanings, faults)
        if entry is not None:
            entries[message] = entry
    return entries


def _entry(message: Message, fields: Mapping[str, object], meanings: Mapping[str, Meaning], faults: _Faults) -> Entry | None:
    place = f"message.{message.value}"
    meaning = meanings.get(str(fields.get("meaning")))
    if meaning is None:
        faults.add(f"{place}.meaning", f"must be one of {', '.join(meanings)}")
        return None
    entry = Entry(
        message=message,
        meaning=meaning,
        words=_texts(fields, "words", place, faults),
        reading=_texts(fields, "reading", place, faults),
        large=_texts(fields, "large", place, faults),
        small=_text(fields, "small", place, faults, default=""),
        english=_parts(fields, "english", place, faults),
        optional=_texts(fields, "optional", place, faults) if "optional" in fields else (),
        pause_ms=_whole(fields, "pause_ms", place, faults) if "pause_ms" in fields else _DEFAULT_PAUSE_MS,
        stay_s=_whole(fields, "stay_s", place, faults) if "stay_s" in fields else None,
    )
    _check_words(entry, place, faults)
    return entry


def _check_words(entry: Entry, place: str, faults: _Faults) -> None:
    if len(entry.words) != len(entry.reading):
        faults.add(f"{place}.reading", f"has {len(entry.reading)} pieces, words has {len(entry.words)}")
        return
    for word, pronounced in zip(entry.words, entry.reading, strict=True):
        match = _NUMBER_PIECE.match(_bare(word))
        if bool(_SLOT.search(word)) != (pronounced == "{}"):
            faults.add(f"{place}.reading", f"'{pronounced}' does not belong to '{word}'")
        elif _SLOT.search(word) and match is None:
            faults.add(f"{place}.words", f"'{word}' must be one {{value}} and what is counted")
        elif match and match[1] not in _NAMES and match[2] not in {counter.value for counter in Counter}:
            faults.add(f"{place}.words", f"'{match[2]}' cannot be counted")
    spoken = said("".join(map(_shown, entry.words)))
    for line in map(_shown, (*entry.large, entry.small)):
        if said(line) not in spoken:
            faults.add(place, f"the screen shows '{line}', which the voice does not say")


def _table(value: object, place: str, faults: _Faults) -> Mapping[str, object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    faults.add(place, "must be a table")
    return {}


def _member(kind: type[_Named], value: object, place: str, faults: _Faults) -> _Named | None:
    known = {member.value: member for member in kind}
    if value in known:
        return known[value]
    faults.add(place, f"must be one of {', '.join(known)}")
    return None


def _texts(fields: Mapping[str, object], name: str, place: str, faults: _Faults) -> tuple[str, ...]:
    value = fields.get(name)
    texts = cast("list[object]", value) if isinstance(value, list) else []
    if not texts or not all(isinstance(text, str) and text for text in texts):
        faults.add(f"{place}.{name}", "must be a list of texts")
        return ()
    return tuple(str(text) for text in texts)


def _parts(fields: Mapping[str, object], name: str, place: str, faults: _Faults) -> tuple[str, ...]:
    return (
        _texts(fields, name, place, faults) if isinstance(fields.get(name), list) else (_text(fields, name, place, faults, default=None),)
    )


def _text(fields: Mapping[str, object], name: str, place: str, faults: _Faults, *, default: str | None) -> str:
    value = fields.get(name, default)
    if isinstance(value, str):
        return value
    faults.add(f"{place}.{name}", "must be a text")
    return ""


def _whole(fields: Mapping[str, object], name: str, place: str, faults: _Faults) -> int:
    value = fields.get(name)
    if isinstance(value, int) and value > 0:
        return value
    faults.add(f"{place}.{name}", "must be a whole number above zero")
    return 0
