"""The words of a bill, for all of its forms (data, and what puts numbers into them)."""

import unicodedata
from datetime import UTC, datetime, tzinfo

from backoffice.bill import Bill, Line, Month, Part, Status
from fares.dates import from_number

PARTS = {
    Part.POINTS: "ポイント利用",
    Part.FREE: "無料乗車（運賃相当額）",
    Part.SETTLED: "結果確定分（カードの記録による）",
    Part.LATE_POINTS: "遅れて届いた分　ポイント利用",
    Part.LATE_FREE: "遅れて届いた分　無料乗車",
    Part.TAKEN_BACK: "訂正（取消）",
}
PARTS_ENGLISH = {
    Part.POINTS: "Paid with points",
    Part.FREE: "Free rides, by fare",
    Part.SETTLED: "Settled by the card's record",
    Part.LATE_POINTS: "Late: paid with points",
    Part.LATE_FREE: "Late: free rides",
    Part.TAKEN_BACK: "Taken back",
}
STATUS = {Status.PROVISIONAL: "速報（未確定）", Status.FINAL: "確定"}
STATUS_ENGLISH = {Status.PROVISIONAL: "provisional", Status.FINAL: "final"}

_SHOWN_NAMES = 10


def month_ja(month: Month) -> str:
    """The month as a Japanese letter writes it, by the Christian era."""
    return f"{month.year}年{month.month}月"


def day_ja(service_day: int) -> str:
    """A day with its weekday."""
    day = from_number(service_day)
    return f"{day.month}月{day.day}日（{'月火水木金土日'[day.weekday()]}）"


def moment_ja(at_ms: int, zone: tzinfo) -> str:
    """A moment, to the minute, local."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
    return f"{at.year}年{at.month}月{at.day}日 {at.hour}時{at.minute:02}分"


def what(line: Line, month: Month, language: str = "ja") -> str:
    """The line's words in ``ja`` or ``en``; another month than the bill's is named."""
    if language == "ja":
        return PARTS[line.part] + ("" if line.month == month else f"　{month_ja(line.month)}乗車分")
    return PARTS_ENGLISH[line.part] + ("" if line.month == month else f" (ridden {line.month})")


def remarks(bill: Bill, zone: tzinfo) -> list[str]:
    """What stands below the table, a sentence each."""
    told = [
        f"本請求書は{moment_ja(bill.as_of_ms, zone)}現在の記録による。"
        + (
            "締切後のため、内容は変わらない。"
            if bill.status is Status.FINAL
            else f"速報であり、{moment_ja(bill.closes_ms, zone)}に確定する。"
        ),
        "確定後に届いた記録は、次に締め切る月の請求書に「遅れて届いた分」として記載する。",
    ]
    return [*told, *asides(bill, "ja")]


def asides(bill: Bill, language: str) -> list[str]:
    """What the bill does not charge and the reader must know, a sentence each."""
    return _asides_english(bill) if language == "en" else _asides(bill)


def _asides(bill: Bill) -> list[str]:
    told: list[str] = []
    tally, found = bill.tally, bill.remarks
    if tally.coins:
        rides = f"現金だけの乗車{tally.coin_rides:,}件を含む。" if tally.coin_rides else ""
        told.append(f"このほか、運賃箱で受け取った現金は{tally.coins:,}円（参考。{rides}請求には含まない）。")
    if found.unknown:
        told.append(f"結果を確かめられない支払いが{found.unknown:,}件（{found.unknown_points:,}ポイント）ある。請求には含まない。")
    if found.repaired:
        names = "、".join(found.repaired[:_SHOWN_NAMES]) + ("ほか" if len(found.repaired) > _SHOWN_NAMES else "")
        told.append(f"車両の時計が未設定だった記録{len(found.repaired):,}件は、後から分かった日付で計上した（{names}）。")
    if found.missing:
        told.append(f"まだ届いていない記録が{found.missing:,}件ある。")
    if found.lost:
        told.append(f"失われたと車両が申告した記録が{found.lost:,}か所ある。")
    return told


_TITLES = {
    "ja": ("", "乗車回数", "ポイント", "金額（円）", "合計"),
    "en": ("", "rides", "points", "yen", "Total"),
}


def table(bill: Bill, language: str) -> str:
    """The bill for a terminal, in ``ja`` or ``en``."""
    *head, total = _TITLES[language]
    lines = [(what(line, bill.month, language), line.rides, line.points, line.yen) for line in bill.lines]
    rows = [(name, *(f"{number:,}" for number in numbers)) for name, *numbers in [*lines, (total, bill.rides, bill.points, bill.yen)]]
    widths = [max(_width(row[place]) for row in [tuple(head), *rows]) for place in range(len(head))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    text = [_row(tuple(head), widths), rule, *(_row(row, widths) for row in rows[:-1]), rule, _row(rows[-1], widths)]
    if language == "ja":
        title = f"{bill.whose}　{month_ja(bill.month)}分　{STATUS[bill.status]}"
    else:
        title = f"{bill.whose}, {bill.month}: {STATUS_ENGLISH[bill.status]}"
    sentences = asides(bill, language)
    return "\n".join([title, "", *text, *(["", *sentences] if sentences else [])])


def _width(text: str) -> int:
    """The columns of a terminal that a text takes; Japanese letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = cells
    padded = [" " * (width - _width(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
    return "  ".join([first + " " * (widths[0] - _width(first)), *padded]).rstrip()


def _asides_english(bill: Bill) -> list[str]:
    tally, found = bill.tally, bill.remarks
    alone = f" (rides for coins alone: {tally.coin_rides:,})" if tally.coin_rides else ""
    told = [
        (tally.coins, f"{tally.coins:,} yen in cash boxes{alone}; not billed."),
        (found.unknown, f"{found.unknown:,} debits of {found.unknown_points:,} points cannot be told; not billed."),
        (found.repaired, f"{len(found.repaired):,} entries from vehicles without a clock, billed on the day that was found out."),
        (found.missing, f"{found.missing:,} entries have not arrived."),
        (found.lost, f"{found.lost:,} parts of ledgers were declared lost."),
    ]
    return [sentence for there, sentence in told if there]
