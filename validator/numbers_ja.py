"""Japanese numbers as clips: which pieces make a number, and how each piece is pronounced.

A number is cut where Japanese cuts it: ten-thousands, thousands, hundreds, and the two last digits as one piece. The last piece carries the
counter (ポイント, 円, 時 …), because the counter changes it: 10 is ジュー alone, ジュッポイント with points, and 4 is ヨン alone but ヨエン
in yen. So 126 pieces for each of three counters speak every amount below 100,000, and each piece is a whole phrase with its own accent.

Readings are written as pronounced. Source of the sound changes: the readings of the Open JTalk dictionary (naist-jdic), which a test asks
again for every piece; ``0時`` alone is against it (レージ, as the time is announced in Japan; the dictionary says ゼロジ).
"""

from enum import Enum

from drivers.devices.sound import Clip

HIGHEST = 99_999

_DIGITS = ("ゼロ", "イチ", "ニ", "サン", "ヨン", "ゴ", "ロク", "ナナ", "ハチ", "キュー")
_HUNDREDS = ("", "ヒャク", "ニヒャク", "サンビャク", "ヨンヒャク", "ゴヒャク", "ロッピャク", "ナナヒャク", "ハッピャク", "キューヒャク")
_THOUSANDS = ("", "セン", "ニセン", "サンゼン", "ヨンセン", "ゴセン", "ロクセン", "ナナセン", "ハッセン", "キューセン")


class Counter(Enum):
    """What is counted; the value is how it is written after the digits."""

    PLAIN = ""
    POINTS = "ポイント"
    YEN = "円"
    HOUR = "時"
    MINUTE = "分"
    PEOPLE = "人"
    TICKET = "番"


HIGHEST_OF = {
    Counter.PLAIN: HIGHEST,
    Counter.POINTS: HIGHEST,
    Counter.YEN: HIGHEST,
    Counter.HOUR: 23,
    Counter.MINUTE: 59,
    Counter.PEOPLE: 20,
    Counter.TICKET: 99,
}

# The last digit where the counter changes it; a digit that is missing here keeps its plain reading.
_LAST_DIGIT: dict[Counter, dict[int, str]] = {
    Counter.YEN: {4: "ヨ"},
    Counter.HOUR: {4: "ヨ", 7: "シチ", 9: "ク"},
    Counter.MINUTE: {1: "イッ", 6: "ロッ"},
    Counter.PEOPLE: {4: "ヨ", 7: "シチ"},
}
_TENS_CUT_SHORT = {Counter.POINTS, Counter.MINUTE}  # ジュッポイント, ジュップン
_P_MINUTES = {1, 3, 4, 6}
_COUNTER_READING = {
    Counter.PLAIN: "",
    Counter.POINTS: "ポイント",
    Counter.YEN: "エン",
    Counter.HOUR: "ジ",
    Counter.MINUTE: "フン",
    Counter.PEOPLE: "ニン",
    Counter.TICKET: "バン",
}
_WHOLE = {
    (0, Counter.HOUR): Clip("0時", "レージ", say="零時"),
    (1, Counter.PEOPLE): Clip("1人", "ヒトリ"),
    (2, Counter.PEOPLE): Clip("2人", "フタリ"),
}


def clips(number: int, counter: Counter = Counter.PLAIN) -> tuple[Clip, ...]:
    """The pieces that speak ``number`` with its counter; raises ``ValueError`` beyond ``HIGHEST_OF[counter]``."""
    if not 0 <= number <= HIGHEST_OF[counter]:
        raise ValueError(f"{number}{counter.value} cannot be spoken: 0 to {HIGHEST_OF[counter]} can")
    pieces = [piece for piece in _pieces(number) if piece] or [0]
    *first, last = pieces
    return (*(_clip(piece, Counter.PLAIN) for piece in first), _clip(last, counter))


def reading(number: int, counter: Counter = Counter.PLAIN) -> str:
    """How the whole is pronounced, in katakana."""
    return "".join(clip.reading for clip in clips(number, counter))


def every_clip(counter: Counter) -> tuple[Clip, ...]:
    """All pieces that ``clips`` can ever name for this counter as the last one."""
    highest = HIGHEST_OF[counter]
    numbers = [*range(100), *range(100, 1000, 100), *range(1000, 10_000, 1000), *range(10_000, 100_000, 10_000)]
    return tuple(_clip(number, counter) for number in numbers if number <= highest)


def _pieces(number: int) -> tuple[int, int, int, int]:
    return number // 10_000 * 10_000, number // 1000 % 10 * 1000, number // 100 % 10 * 100, number % 100


def _clip(piece: int, counter: Counter) -> Clip:
    whole = _WHOLE.get((piece, counter))
    return whole or Clip(f"{piece}{counter.value}", _piece_reading(piece, counter))


def _piece_reading(piece: int, counter: Counter) -> str:
    ending = _counter_reading(piece, counter)
    if piece >= 10_000:
        return _DIGITS[piece // 10_000] + "マン" + ending
    if piece >= 1000:
        return _THOUSANDS[piece // 1000] + ending
    if piece >= 100:
        return _HUNDREDS[piece // 100] + ending
    return _below_100(piece, counter) + ending


def _below_100(piece: int, counter: Counter) -> str:
    tens, ones = divmod(piece, 10)
    ten = "ジュッ" if ones == 0 and counter in _TENS_CUT_SHORT else "ジュー"
    before = ("" if tens == 1 else _DIGITS[tens]) + ten if tens else ""
    if ones == 0 and tens:
        return before
    return before + _LAST_DIGIT.get(counter, {}).get(ones, _DIGITS[ones])


def _counter_reading(piece: int, counter: Counter) -> str:
    if counter is Counter.MINUTE and (piece % 10 in _P_MINUTES or (piece and piece % 10 == 0)):
        return "プン"
    return _COUNTER_READING[counter]
