"""A bill as a table, as CSV and as a letter."""

import csv
import io
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path

import pytest

from backoffice import bill_csv, bill_pdf, invoice
from backoffice.bill import Bill, Month, Movement, Remarks, Terms, bill
from backoffice.bill_words import table
from backoffice.book import PostingKind
from backoffice.invoice import HEIGHT, Align, Form, Rule, Words
from fares.faults import Unusable

JAPAN = timezone(timedelta(hours=9))
TERMS = Terms(JAPAN, time(5), 14, lambda _: 1)
FORM = Form(time(5), 14, addressee="青葉市長", subject="敬老乗車ポイント", claimant="青葉交通株式会社", bank="青葉銀行 本店 普通 0000000")


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=JAPAN).timestamp() * 1000)


def november(as_of: str = "2026-12-20T09:00", operator: str = "aoba") -> Bill:
    moves = [
        Movement(day("2026-11-02"), at("2026-11-02T20:00"), PostingKind.POINTS, 0, 1234, 4),
        Movement(day("2026-11-03"), at("2026-11-03T20:00"), PostingKind.FREE, 0, 200, 1),
        Movement(day("2026-10-31"), at("2026-11-20T20:00"), PostingKind.POINTS, 0, 100, 1),
        Movement(day("2026-11-02"), at("2026-11-03T20:00"), PostingKind.POINTS, 2, 300, 1),
        Movement(day("2026-11-02"), at("2026-11-02T20:00"), PostingKind.CASH, 0, 440, 1, alone=True),
    ]
    return bill(operator, Month(2026, 11), moves, TERMS, at(as_of), remarks=Remarks(2, 740, ("端末7 記録12",), 4, 1))


def rows(data: bytes, encoding: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(encoding), newline="")))


@pytest.mark.parametrize("encoding", bill_csv.ENCODINGS)
def test_the_csv_has_a_japanese_header_and_its_rows_add_up_to_the_bill(encoding: str) -> None:
    head, *body, total = rows(bill_csv.write(november(), encoding), encoding)
    assert head == ["事業者", "請求対象月", "状態", "区分", "乗車月", "乗車日", "乗車回数", "ポイント", "請求額（円）"]
    assert sum(int(row[-1]) for row in body) == int(total[-1]) == november().yen == 1234 + 200 + 100 - 300
    assert total[3] == "合計"
    assert [row[4:6] for row in body] == [["2026-11", "2026-11-02"], ["2026-11", "2026-11-03"], ["2026-10", ""], ["2026-11", ""]]


def test_the_csv_opens_in_a_spreadsheet() -> None:
    data = bill_csv.write(november())
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\r\n") == data.count(b"\n") == 6
    assert rows(bill_csv.write(november(operator="=1+1")), "utf-8-sig")[1][0] == "'=1+1"


def test_a_letter_that_shift_jis_does_not_have_is_named() -> None:
    with pytest.raises(bill_csv.NotInEncoding, match=r"'𠮷', which cp932 does not have"):
        bill_csv.write(november(operator="𠮷田バス"), "cp932")


def test_the_table_names_late_months_and_what_is_not_billed() -> None:
    text = table(november(), "en")
    assert text.startswith("aoba, 2026-11: final\n")
    assert "Late: paid with points (ridden 2026-10)" in text
    assert "440 yen in cash boxes (rides for coins alone: 1); not billed." in text
    assert "2 debits of 740 points cannot be told; not billed." in text


def test_the_table_in_japanese_has_the_words_of_the_letter_and_its_columns_stand_under_each_other() -> None:
    text = table(replace(november(), name="青葉交通"), "ja")
    assert text.startswith("青葉交通　2026年11月分　確定\n")
    assert "遅れて届いた分　ポイント利用　2026年10月乗車分" in text
    assert "現金は440円（参考。現金だけの乗車1件を含む。請求には含まない）。" in text
    rows = text.split("\n\n")[1].splitlines()
    ends = {sum(2 if ord(letter) > 0x2FFF else 1 for letter in row) for row in rows}
    assert len(ends) == 1


def test_the_operators_name_stands_in_every_form_of_its_bill() -> None:
    told = replace(november(), name="青葉交通")
    assert {row[0] for row in rows(bill_csv.write(told), "utf-8-sig")[1:]} == {"青葉交通"}
    assert "青葉交通" in texts(told, replace(FORM, claimant=""))
    assert "請求番号　aoba-2026-11" in texts(told)


def words(told: Bill, form: Form = FORM) -> list[list[Words]]:
    pages = invoice.pages(told, form, JAPAN, lambda text, size: len(text) * size)
    return [[item for item in page if isinstance(item, Words)] for page in pages]


def texts(told: Bill, form: Form = FORM) -> list[str]:
    return [item.text for page in words(told, form) for item in page]


def test_the_letter_says_who_asks_whom_for_how_much() -> None:
    told = texts(november())
    assert {"請　求　書", "青葉市長", "青葉交通株式会社", "¥1,234－", "敬老乗車ポイント　2026年11月分", "1 / 2", "2 / 2"} <= set(told)
    assert "遅れて届いた分　ポイント利用　2026年10月乗車分" in told
    assert any("結果を確かめられない支払いが2件（740ポイント）" in text for text in told)


def test_numbers_stand_at_the_right() -> None:
    sums = [item for page in words(november()) for item in page if item.text in {"1,234", "-300", "200"}]
    assert sums
    assert all(item.align is Align.RIGHT for item in sums)


def test_a_provisional_bill_says_that_nothing_is_to_be_paid_on_it() -> None:
    told = texts(november("2026-11-30T09:00"))
    assert "請　求　書　（速　報）" in told
    assert "下記のとおり請求します。" not in told


def test_what_nobody_wrote_down_is_a_blank_to_be_filled_in() -> None:
    def rules(form: Form) -> int:
        pages = invoice.pages(november(), form, JAPAN, lambda text, size: len(text) * size)
        return sum(isinstance(item, Rule) for item in pages[0])

    assert rules(replace(FORM, claimant="", bank="")) == rules(FORM) + 2


def test_many_lines_go_on_on_the_next_page_under_the_same_head() -> None:
    moves = [Movement(day("2020-01-01") + 31 * number, at("2026-11-20T09:00"), PostingKind.POINTS, 0, 100, 1) for number in range(70)]
    pages = words(bill("aoba", Month(2026, 11), moves, TERMS, at("2026-12-20T09:00")))
    assert len(pages) >= 3
    assert all(any(item.text == "区　分" for item in page) for page in pages[:2])
    assert all(0 < item.y < HEIGHT - 30 for page in pages for item in page)


def test_the_form_that_comes_with_the_program_is_good_and_a_wrong_one_tells_every_fault() -> None:
    path = Path(invoice.__file__).with_name("bill.toml")
    assert invoice.read(path.read_bytes(), path.name).final_after_days == 14
    with pytest.raises(Unusable) as caught:
        invoice.read(b'format = 1\n[terms]\nfinal_after_days = 0\n[invoice]\nform = "x"\n', "bill.toml")
    assert len(caught.value.faults) == 3


def test_the_same_bill_is_the_same_pdf() -> None:
    bill_pdf.load_fonts()
    made = [bill_pdf.paint(invoice.pages(november(), FORM, JAPAN, bill_pdf.width), "請求書") for _ in range(2)]
    assert made[0].startswith(b"%PDF-")
    assert made[0] == made[1]


def test_a_missing_font_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(bill_pdf.FontMissing, match="fonts-morisawa-bizud-gothic"):
        bill_pdf.load_fonts([tmp_path])
