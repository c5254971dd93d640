"""The spoken words, made and checked in the workshop: which clips there are, whether the synthesiser reads them right, and their files.

A folder of clips carries ``index.json``: for each file a stamp of everything it was made from. A clip whose stamp still fits is not made
again, and a file that no clip needs any more is removed.
"""

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from drivers.devices.display import Picture
from drivers.devices.sound import Clip, Pause, silence, tone
from validator.feedback import Feedback, Wordbook, moves, said
from validator.messages import Message, Shown
from validator.numbers_ja import Counter, every_clip
from validator.screens import picture

INDEX = "index.json"
SIZES = ((800, 480), (1024, 600))
_RECIPE = "1"  # of cutting, loudness and rate; rises when the adapter's treatment changes

EXAMPLE: Mapping[str, int | str] = {
    "points": 100,
    "balance": 1900,
    "riders": 2,
    "cash": 50,
    "fare": 250,
    "ticket": 4,
    "number": 3,
    "hour": 10,
    "minute": 2,
    "stop": "みなと町",
    "stop_reading": "ミナトマチ",
    "image": "8a845bb1c8fb",
    "unit": 12,
    "waiting": 240,
    "clock": "gnss",
}
"""A value for every slot, for pictures, tables and checks."""


class Synthesiser(Protocol):
    """Something that turns text into speech."""

    @property
    def voice(self) -> str:
        """Voice and version."""
        ...

    def reading(self, text: str) -> str:
        """How it pronounces a text, in katakana."""
        ...

    def samples(self, text: str) -> bytes:
        """The text spoken."""
        ...


@dataclass(frozen=True, slots=True)
class Misread:
    """A text that the synthesiser pronounces otherwise than the data says."""

    text: str
    wanted: str
    got: str


def misread_from(text: str, file: str) -> dict[str, str]:
    """The user dictionary; raises ``ValueError``."""
    try:
        table: object = tomllib.loads(text).get("misread", {})
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: {error}") from error
    entries = cast("dict[str, object]", table) if isinstance(table, dict) else {"misread": None}
    wrong = [word for word, reading in entries.items() if not isinstance(reading, str)]
    if wrong:
        raise ValueError(f'{file}: {wrong[0]}: must be a reading in katakana, like "ミナトマチ"')
    return {word: str(reading) for word, reading in entries.items()}


def all_clips(wordbook: Wordbook) -> tuple[Clip, ...]:
    """Every clip that the validator can ask for, but for names."""
    numbers = [clip for counter in sorted(wordbook.counters() | {Counter.PLAIN}, key=str) for clip in every_clip(counter)]
    return tuple(dict.fromkeys((*wordbook.fixed_clips(), *numbers)))


def misreadings(wordbook: Wordbook, synthesiser: Synthesiser) -> Iterator[Misread]:
    """What the synthesiser reads otherwise: every clip by itself, then every sentence whole."""
    texts = [(clip.spoken, clip.reading) for clip in all_clips(wordbook)]
    texts += [(sentence.transcript, sentence.reading) for sentence in sentences(wordbook)]
    for text, wanted in texts:
        got = said(synthesiser.reading(text))
        if got != wanted:
            yield Misread(text, wanted, got)


def sentences(wordbook: Wordbook) -> tuple[Feedback, ...]:
    """Every message with the example's values."""
    return tuple(wordbook.phrase(Shown(message, dict(EXAMPLE))) for message in Message)


def render(
    clips: Iterable[Clip],
    folder: Path,
    synthesiser: Synthesiser,
    write: Callable[[Path, bytes], None],
    progress: Callable[[int, int], None],
) -> int:
    """Make the clips that are missing or stale, remove files that no clip needs; how many were made.

    ``progress`` is told (done, of). May be stopped at any time and started again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {clip.file_name: clip for clip in clips}
    made = _index(folder)
    stale = [name for name, clip in wanted.items() if made.get(name) != _stamp(clip, synthesiser) or not (folder / name).exists()]
    for count, name in enumerate(stale):
        progress(count, len(stale))
        write(folder / name, synthesiser.samples(wanted[name].spoken))
        made[name] = _stamp(wanted[name], synthesiser)
        _write_index(folder, made)
    progress(len(stale), len(stale))
    for path in folder.glob("*.wav"):
        if path.name not in wanted:
            path.unlink()
    _write_index(folder, {name: stamp for name, stamp in made.items() if name in wanted})
    return len(stale)


def sounding(feedback: Feedback, synthesiser: Synthesiser) -> bytes:
    """Tone, pause and words as one run of samples, spoken by the synthesiser now: for listening in the workshop."""
    words = [silence(word.ms) if isinstance(word, Pause) else synthesiser.samples(word.spoken) for word in feedback.words]
    return tone(feedback.tone) + silence(feedback.pause_ms) + b"".join(words)


def _stamp(clip: Clip, synthesiser: Synthesiser) -> str:
    made_from = [_RECIPE, synthesiser.voice, clip.text, clip.reading, clip.spoken]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def _index(folder: Path) -> dict[str, str]:
    try:
        return cast("dict[str, str]", json.loads((folder / INDEX).read_text()))
    except (OSError, ValueError):
        return {}


def _write_index(folder: Path, made: Mapping[str, str]) -> None:
    beside = folder / f"{INDEX}.{os.getpid()}"  # two renderings at once spoil nothing
    beside.write_text(json.dumps(made, indent=0, sort_keys=True))
    beside.replace(folder / INDEX)


def pictures(wordbook: Wordbook) -> Iterator[Picture]:
    """Every message with the example's values, in every size we promise."""
    for size in SIZES:
        for sentence in sentences(wordbook):
            yield picture(sentence, wordbook.palette, size)


def write_documents(wordbook: Wordbook, paint: Callable[[Picture], bytes], folder: Path) -> tuple[int, int]:
    """``messages.md`` and ``pictures/*.png`` below ``folder``; how many pictures, and their bytes."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    sizes: list[int] = []
    for one in pictures(wordbook):
        data = paint(one)
        (folder / "pictures" / f"{one.name}-{one.width}x{one.height}.png").write_bytes(data)
        sizes.append(len(data))
    (folder / "messages.md").write_text(table(wordbook), encoding="utf-8")
    return len(sizes), sum(sizes)


def table(wordbook: Wordbook) -> str:
    """The page ``docs/messages.md``."""
    lines = [
        "# What the validator shows and says",
        "",
        "Made by `kazashi words document` from `validator/words/messages.toml`; the numbers are examples. Do not edit by hand.",
        "",
        "A tone speaks by the way its pitch moves: *rise* taken, *dip* once more, *arch* turn to the driver, *fall* not this or closed,",
        "*level* neutral. A lamp speaks by colour, sign and motion together, never by colour alone.",
        "",
        "| message | screen | lamp | tone | words | reading | stays |",
        "|---|---|---|---|---|---|---|",
    ]
    for sentence in sentences(wordbook):
        name = sentence.message.value
        light = sentence.light
        stays = "until the next" if sentence.stay_s is None else f"{sentence.stay_s:g} s"
        cells = (
            f"`{name}`",
            f'<img src="pictures/{name}-800x480.png" width="240" alt="{sentence.english}">',
            f"{light.colour.value} {light.shape.value}, {light.motion.value}",
            f"{_direction(sentence)}: {_pitches(sentence)}",
            sentence.transcript,
            sentence.reading,
            stays,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _direction(sentence: Feedback) -> str:
    direction = moves(sentence.tone)
    return direction.value if direction else ""


def _pitches(sentence: Feedback) -> str:
    return ", ".join(
        f"{glide.from_hz} Hz {glide.ms} ms" if glide.from_hz == glide.to_hz else f"{glide.from_hz}→{glide.to_hz} Hz {glide.ms} ms"
        for glide in sentence.tone
    )
