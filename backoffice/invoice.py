"""Who asks whom for the money, and the 請求書 as pages of text and lines (pure).

The letter follows what a Japanese town hall is used to: title, date and number, addressee on the left, claimant on the right with room for
a seal, one sentence, the sum in a box, the table, where to pay, remarks; then the days as an annex. What nobody wrote into the form file
is a ruled blank to be filled in by hand; nothing is made up. A provisional bill says on its face that it is none to be paid.

Pages are laid out here, in points from the top left corner, and painted elsewhere (``backoffice.bill_pdf``): so that what is on which page,
in which column, can be tested without a PDF.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, tzinfo
from enum import Enum

from backoffice.bill import Bill, Status
from backoffice.bill_words import day_ja, month_ja, remarks, what
from fares.fields import parse

FORMAT = 1
WIDTH, HEIGHT = 595.28, 841.89
"""A4 upright, in points."""

LEFT, RIGHT, TOP, BOTTOM = 62.0, 533.0, 64.0, 780.0

_LINE = 16.0
_ROW = 21.0
_SMALL, _NORMAL, _SUM, _TITLE = 9.0, 10.5, 17.0, 22.0
_CLAIMANT = 318.0
_LABEL = 54.0
_QUARTER = 15


class Align(Enum):
    """Where a text's ``x`` is."""

    LEFT = "left"
    CENTRE = "centre"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Words:
    """A text whose baseline is at ``y``."""

    text: str
    x: float
    y: float
    size: float = _NORMAL
    align: Align = Align.LEFT
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line."""

    x: float
    y: float
    to_x: float
    to_y: float
    width: float = 0.6


@dataclass(frozen=True, slots=True)
class Shade:
    """A light grey area behind what follows."""

    x: float
    y: float
    width: float
    height: float


Item = Words | Rule | Shade
Page = tuple[Item, ...]
Measure = Callable[[str, float], float]
"""How wide a text of a size is, in points."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the form file says: hours, days, and the letter's fixed parts ("" where it is to be filled in by hand)."""

    provisional_at: time
    final_after_days: int
    service_day_starts: time = time.min
    addressee: str = ""
    subject: str = ""
    claimant: str = ""
    address: str = ""
    representative: str = ""
    telephone: str = ""
    registration: str = ""
    bank: str = ""


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    right: float
    align: Align = Align.RIGHT


def read(data: bytes, name: str) -> Form:
    """The form file's bytes; raises ``fares.faults.Unusable`` with every fault."""
    source = parse(data, name)
    root = source.root
    root.number("format", least=FORMAT, most=FORMAT)
    terms, letter = root.inner("terms"), root.inner("invoice")
    form = Form(
        provisional_at=terms.clock_time("provisional_at"),
        final_after_days=terms.number("final_after_days", least=1, most=366),
        service_day_starts=terms.clock_time("service_day_starts", time.min),
        addressee=letter.text("to", ""),
        subject=letter.text("subject", ""),
        claimant=letter.text("from", ""),
        address=letter.text("address", ""),
        representative=letter.text("representative", ""),
        telephone=letter.text("telephone", ""),
        registration=letter.text("registration", ""),
        bank=letter.text("bank", ""),
    )
    if form.provisional_at.minute % _QUARTER or form.provisional_at.second or form.provisional_at.microsecond:
        terms.fault("provisional_at", "must be on a quarter of an hour, such as 05:00:00.")
    source.finish()
    return form


def pages(bill: Bill, form: Form, zone: tzinfo, measure: Measure) -> tuple[Page, ...]:
    """The letter, page by page, each with its foot."""
    sheets = _Sheets(measure)
    _head(sheets, bill, form, zone)
    _lines(sheets, bill)
    _foot(sheets, bill, form, zone)
    if bill.days:
        sheets.turn()
        _days(sheets, bill)
    count = len(sheets.pages)
    whose = f"{bill.whose}　{month_ja(bill.month)}分"
    return tuple((*page, *_page_foot(whose, number, count)) for number, page in enumerate(sheets.pages, 1))


# --- the letter ---------------------------------------------------------------------------------------------------------------------------


class _Sheets:
    """Pages that grow downwards."""

    def __init__(self, measure: Measure) -> None:
        self.pages: list[list[Item]] = [[]]
        self.measure = measure
        self.y = TOP

    def put(self, *items: Item) -> None:
        """Add to this page."""
        self.pages[-1].extend(items)

    def turn(self) -> None:
        """Begin a new page."""
        self.pages.append([])
        self.y = TOP

    def room(self, height: float) -> bool:
        """Make sure that ``height`` fits on this page; True when a new one was begun."""
        if self.y + height <= BOTTOM:
            return False
        self.turn()
        return True

    def wrapped(self, text: str, size: float, width: float) -> list[str]:
        """The text in lines of at most ``width``; Japanese breaks anywhere but before a closing mark."""
        lines = [""]
        for letter in text:
            if self.measure(lines[-1] + letter, size) > width and letter not in "、。）」":
                lines.append("")
            lines[-1] += letter
        return lines


def _head(sheets: _Sheets, bill: Bill, form: Form, zone: tzinfo) -> None:
    title = "請　求　書" if bill.status is Status.FINAL else "請　求　書　（速　報）"
    middle = (LEFT + RIGHT) / 2
    on = datetime.fromtimestamp(bill.as_of_ms / 1000, zone)
    half = sheets.measure(title, _TITLE) / 2 + 10
    sheets.put(
        Words(title, middle, TOP + 18, _TITLE, Align.CENTRE, bold=True),
        Rule(middle - half, TOP + 27, middle + half, TOP + 27),
        Words(f"請求番号　{bill.operator}-{bill.month}", RIGHT, TOP + 52, _SMALL, Align.RIGHT),
        Words(f"請求日　{on.year}年{on.month}月{on.day}日", RIGHT, TOP + 66, _SMALL, Align.RIGHT),
    )
    sheets.y = TOP + 96
    sheets.put(Words(form.addressee, LEFT, sheets.y, 14), Words("様", LEFT + 226, sheets.y, 14))
    sheets.put(Rule(LEFT, sheets.y + 5, LEFT + 244, sheets.y + 5))
    _claimant(sheets, form, bill.name)
    says = "下記のとおり請求します。" if bill.status is Status.FINAL else "確定前の速報です。支払いの請求には用いません。"
    sheets.put(Words(says, LEFT, sheets.y, _NORMAL))
    sheets.y += 22
    sheets.put(
        Words("件　名", LEFT, sheets.y, _NORMAL), Words(f"{form.subject}　{month_ja(bill.month)}分", LEFT + _LABEL, sheets.y, _NORMAL)
    )
    sheets.y += 16
    box_width = 300.0
    sheets.put(
        Shade(LEFT, sheets.y, box_width, 36),
        *_box(LEFT, sheets.y, box_width, 36),
        Words("請求金額", LEFT + 12, sheets.y + 23, 12, bold=True),
        Words(
            f"¥{bill.yen:,}－" if bill.yen >= 0 else f"△¥{-bill.yen:,}－",
            LEFT + box_width - 14,
            sheets.y + 25,
            _SUM,
            Align.RIGHT,
            bold=True,
        ),
    )
    sheets.y += 58


def _claimant(sheets: _Sheets, form: Form, name: str) -> None:
    y = sheets.y + 28
    sheets.put(Words("請求者", _CLAIMANT, y, _SMALL))
    for label, text in (
        ("住　所", form.address),
        ("名　称", form.claimant or name),
        ("代表者", form.representative),
        ("電　話", form.telephone),
        ("登録番号", form.registration),
    ):
        y += 17
        sheets.put(Words(label, _CLAIMANT, y, _SMALL))
        lines = sheets.wrapped(text, _SMALL, RIGHT - _CLAIMANT - _LABEL)
        for number, line in enumerate(lines):
            y += 12 if number else 0
            sheets.put(Words(line, _CLAIMANT + _LABEL, y, _SMALL))
        if not text:
            sheets.put(Rule(_CLAIMANT + _LABEL, y + 3, RIGHT - 34 if label in {"名　称", "代表者"} else RIGHT, y + 3, 0.3))
        if label == "代表者":
            sheets.put(Words("印", RIGHT - 14, y, _SMALL, Align.CENTRE), *_box(RIGHT - 26, y - 15, 24, 24))
    sheets.y = y + 36


_BILL_COLUMNS = (
    _Column("区　分", LEFT, Align.LEFT),
    _Column("乗車回数", 368.0),
    _Column("ポイント", 444.0),
    _Column("金額（円）", RIGHT),
)


def _lines(sheets: _Sheets, bill: Bill) -> None:
    rows = [(what(line, bill.month), f"{line.rides:,}", f"{line.points:,}", f"{line.yen:,}") for line in bill.lines]
    rows = rows or [("該当する乗車なし", "0", "0", "0")]
    _table(sheets, _BILL_COLUMNS, rows, ("合　計", f"{bill.rides:,}", f"{bill.points:,}", f"{bill.yen:,}"))


def _foot(sheets: _Sheets, bill: Bill, form: Form, zone: tzinfo) -> None:
    sheets.y += 14
    sheets.room(2 * _LINE)
    sheets.put(Words("振込先", LEFT, sheets.y, _NORMAL))
    lines = sheets.wrapped(form.bank, _NORMAL, RIGHT - LEFT - _LABEL)
    for line in lines:
        sheets.put(Words(line, LEFT + _LABEL, sheets.y, _NORMAL))
        sheets.y += _LINE
    if not form.bank:
        sheets.put(Rule(LEFT + _LABEL, sheets.y - _LINE + 4, RIGHT, sheets.y - _LINE + 4, 0.3))
    sheets.y += 10
    sheets.room(3 * _LINE)
    sheets.put(Words("備　考", LEFT, sheets.y, _NORMAL))
    for number, sentence in enumerate(remarks(bill, zone), 1):
        for place, line in enumerate(sheets.wrapped(sentence, _SMALL, RIGHT - LEFT - _LABEL - 16)):
            sheets.room(_LINE)
            if not place:
                sheets.put(Words(f"{number}.", LEFT + _LABEL, sheets.y, _SMALL))
            sheets.put(Words(line, LEFT + _LABEL + 16, sheets.y, _SMALL))
            sheets.y += 14


# --- the days -----------------------------------------------------------------------------------------------------------------------------

_DAY_COLUMNS = (
    _Column("乗車日", LEFT, Align.LEFT),
    _Column("ポイント利用（回）", 250.0),
    _Column("ポイント", 312.0),
    _Column("金額（円）", 376.0),
    _Column("無料乗車（回）", 458.0),
    _Column("金額（円）", RIGHT),
)


def _days(sheets: _Sheets, bill: Bill) -> None:
    sheets.put(Words(f"内訳（日別）　{month_ja(bill.month)}分", LEFT, sheets.y, 13, bold=True))
    sheets.y += 14
    days = bill.days
    rows = [
        (day_ja(day.service_day), f"{day.rides:,}", f"{day.points:,}", f"{day.yen:,}", f"{day.free_rides:,}", f"{day.free_yen:,}")
        for day in days
    ]
    sums = (
        sum(day.rides for day in days),
        sum(day.points for day in days),
        sum(day.yen for day in days),
        sum(day.free_rides for day in days),
        sum(day.free_yen for day in days),
    )
    _table(sheets, _DAY_COLUMNS, rows, ("合　計", *(f"{number:,}" for number in sums)), row=19.0)
    sheets.y += 8
    sheets.put(Words("遅れて届いた分、結果確定分、訂正は含まない。", LEFT, sheets.y, _SMALL))


# --- tables -------------------------------------------------------------------------------------------------------------------------------


def _table(sheets: _Sheets, columns: Sequence[_Column], rows: Sequence[Sequence[str]], sums: Sequence[str], row: float = _ROW) -> None:
    _row(sheets, columns, [column.title for column in columns], row, head=True)
    for number, cells in enumerate(rows):
        last = number == len(rows) - 1
        # The total never stands alone on a new page.
        if sheets.room(2 * row if last else row):
            _row(sheets, columns, [column.title for column in columns], row, head=True)
        _row(sheets, columns, cells, row)
    _row(sheets, columns, sums, row, bold=True)
    sheets.y += 8


def _row(
    sheets: _Sheets, columns: Sequence[_Column], cells: Sequence[str], height: float, *, head: bool = False, bold: bool = False
) -> None:
    top, base = sheets.y, sheets.y + height / 2 + 3.6
    if head:
        sheets.put(Shade(LEFT, top, RIGHT - LEFT, height), Rule(LEFT, top, RIGHT, top))
    thick = 1.0 if bold else 0.3
    if bold:
        sheets.put(Rule(LEFT, top, RIGHT, top, 0.8))
    for column, cell in zip(columns, cells, strict=True):
        x = column.right + 6 if column.align is Align.LEFT else column.right - 6
        sheets.put(Words(cell, x, base, _SMALL if head else 10, column.align, bold=bold))
    sheets.put(Rule(LEFT, top + height, RIGHT, top + height, thick))
    sheets.y = top + height


def _box(x: float, y: float, width: float, height: float) -> tuple[Rule, ...]:
    right, bottom = x + width, y + height
    return Rule(x, y, right, y), Rule(x, bottom, right, bottom), Rule(x, y, x, bottom), Rule(right, y, right, bottom)


def _page_foot(whose: str, number: int, count: int) -> tuple[Item, ...]:
    return (
        Words(whose, LEFT, HEIGHT - 34, 8),
        Words(f"{number} / {count}", (LEFT + RIGHT) / 2, HEIGHT - 34, 8, Align.CENTRE),
    )
