"""The rider's screen: where a Feedback stands on it, for any size from 800 by 480 up.

Left, a field in the lamp's colour with the lamp's sign; right, the words, as large as the longest of the large lines allows; below them the
small line; at the bottom, over the whole width, English. Everything is measured from the height and width, so one layout serves all panels.
"""

from dataclasses import dataclass

from drivers.devices.display import Box, Colour, Face, Picture, Sign, Text, width_em
from validator.feedback import Feedback, Palette

LOWEST_CONTRAST = 7.0  # WCAG 2.2, 1.4.6: enough for eyes at 20/80, which are common at eighty

_FIELD = 0.26  # of the width
_SIGN = 0.80  # of the field
_MARGIN = 0.03  # of the width
_ENGLISH = 0.17  # of the height, two lines
_ENGLISH_SIZE = 0.062
_LATIN_EM = 0.56  # how wide a proportional letter is taken to be; the widest of our lines is narrower (a test asks the font)
_SMALL = 0.15
_LARGEST = 0.27
_LEADING = 1.14


@dataclass(frozen=True, slots=True)
class _Area:
    x: int
    y: int
    width: int
    height: int


def picture(feedback: Feedback, palette: Palette, size: tuple[int, int]) -> Picture:
    """The screen for one moment, ``size`` pixels wide and high."""
    width, height = size
    field = round(width * _FIELD)
    margin = round(width * _MARGIN)
    english_top = height - round(height * _ENGLISH)
    right = _Area(field + margin, 0, width - field - 2 * margin, english_top)
    small_size = min(round(height * _SMALL), _fitting((feedback.small,), right.width)) if feedback.small else 0
    small_height = round(small_size * 1.4)
    words = _Area(right.x, margin // 2, right.width, english_top - small_height - margin // 2)
    lamp = palette.lamp[feedback.light.colour]
    sign = round(field * _SIGN)
    items: tuple[Box | Sign | Text, ...] = (
        Box(0, 0, field, english_top, lamp),
        Sign(feedback.light.shape, (field - sign) // 2, (english_top - sign) // 2, sign, palette.sign, lamp),
        *_stacked(feedback.large, words, round(height * _LARGEST), palette.ink, palette.ground),
        *_small(feedback.small, right, english_top - round(small_size * 1.2), small_size, palette),
        *_english(feedback.english, margin, english_top, size, palette),
    )
    return Picture(feedback.message.value, width, height, palette.ground, items)


def _stacked(lines: tuple[str, ...], area: _Area, largest: int, colour: Colour, ground: Colour) -> tuple[Text, ...]:
    size = min(largest, _fitting(lines, area.width), int(area.height / (_LEADING * len(lines))))
    step = round(size * _LEADING)
    top = area.y + (area.height - step * len(lines)) // 2 + (step - size) // 2
    return tuple(Text(line, area.x, top + step * index, size, colour, ground, Face.BOLD) for index, line in enumerate(lines))


def _small(line: str, area: _Area, top: int, size: int, palette: Palette) -> tuple[Text, ...]:
    return (Text(line, area.x, top, size, palette.small, palette.ground, Face.BOLD),) if line else ()


def _english(line: str, margin: int, top: int, size: tuple[int, int], palette: Palette) -> tuple[Text, ...]:
    width, height = size
    letters = round(height * _ENGLISH_SIZE)
    lines = _balanced(line, int((width - 2 * margin) / (letters * _LATIN_EM)))
    step = round(letters * 1.2)
    first = top + (height - top - step * len(lines)) // 2
    return tuple(
        Text(part, margin, first + step * index, letters, palette.english, palette.ground, Face.LATIN) for index, part in enumerate(lines)
    )


def _balanced(line: str, letters: int) -> list[str]:
    """As few lines as ``letters`` a line allow, and of those the most even: no word stands alone on a line."""
    count = len(_wrapped(line, letters))
    narrowest = next(width for width in range(1, letters + 1) if len(_wrapped(line, width)) == count)
    return _wrapped(line, narrowest)


def _wrapped(line: str, letters: int) -> list[str]:
    lines: list[str] = []
    for word in line.split():
        if lines and len(lines[-1]) + 1 + len(word) <= letters:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _fitting(lines: tuple[str, ...], width: int) -> int:
    return int(width / max((width_em(line) for line in lines), default=1.0))
