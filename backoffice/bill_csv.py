"""A bill as CSV, as a town hall's spreadsheet opens it (pure).

The first row names the columns in Japanese. Lines end in CR LF (RFC 4180). Two encodings: UTF-8 with a byte order mark, without which Excel
takes it for the system's own code page; or cp932, which Microsoft calls Shift_JIS, for programs that know nothing else. Numbers have no
separators and no currency sign, so that they are numbers. A text that a spreadsheet would take for a formula gets an apostrophe before it.

Ordinary rides stand day by day, everything else by the month in which it was ridden, and the total stands last.
"""

import csv
import io
from collections.abc import Iterator

from backoffice.bill import Bill, Part
from backoffice.bill_words import PARTS, STATUS
from fares.dates import from_number

ENCODINGS = ("utf-8-sig", "cp932")
HEADER = ("事業者", "請求対象月", "状態", "区分", "乗車月", "乗車日", "乗車回数", "ポイント", "請求額（円）")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_TOTAL = "合計"


class NotInEncoding(ValueError):
    """The encoding has no such letter; the message says which."""


def write(bill: Bill, encoding: str = ENCODINGS[0]) -> bytes:
    """The file's bytes. Raises ``NotInEncoding``."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(_rows(bill))
    try:
        return text.getvalue().encode(encoding)
    except UnicodeEncodeError as error:
        letter = error.object[error.start]
        raise NotInEncoding(f"The bill has the letter '{letter}', which {encoding} does not have; write it as utf-8-sig.") from error


def _rows(bill: Bill) -> Iterator[tuple[str | int, ...]]:
    whose = (_plain(bill.whose), str(bill.month), STATUS[bill.status])
    yield HEADER
    for day in bill.days:
        date = from_number(day.service_day).isoformat()
        if day.rides:
            yield (*whose, PARTS[Part.POINTS], str(bill.month), date, day.rides, day.points, day.yen)
        if day.free_rides:
            yield (*whose, PARTS[Part.FREE], str(bill.month), date, day.free_rides, 0, day.free_yen)
    for line in bill.lines:
        if line.part not in {Part.POINTS, Part.FREE}:
            yield (*whose, PARTS[line.part], str(line.month), "", line.rides, line.points, line.yen)
    yield (*whose, _TOTAL, "", "", bill.rides, bill.points, bill.yen)


def _plain(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text
