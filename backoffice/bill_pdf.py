"""Adapter: reportlab paints the pages of a bill into a PDF.

The two faces of BIZ UD Gothic are embedded (as far as letters are used), so the file looks the same at the town hall. It is made without a
time of making, so the same bill is the same file.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from backoffice.invoice import HEIGHT, WIDTH, Align, Item, Page, Rule, Shade, Words

FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
FONT_PACKAGE = "fonts-morisawa-bizud-gothic"
NORMAL, BOLD = "BIZUDGothic-Regular", "BIZUDGothic-Bold"

_GREY = 0.93
_metrics: Any = pdfmetrics


class FontMissing(Exception):
    """A face is not on this machine; the message says what to install."""


def load_fonts(folders: Iterable[Path] = FONT_FOLDERS) -> None:
    """Find the two faces and make them known to reportlab; raises ``FontMissing``."""
    found = {path.stem: path for folder in folders for path in folder.rglob("BIZUDGothic-*.ttf")}
    for face in (NORMAL, BOLD):
        if face not in found:
            raise FontMissing(f"The font {face}.ttf is not on this machine: apt-get install {FONT_PACKAGE}.")
        _metrics.registerFont(TTFont(face, str(found[face])))


def width(text: str, size: float) -> float:
    """How wide a text is, in points; the fonts must be loaded."""
    return float(_metrics.stringWidth(text, NORMAL, size))


def paint(pages: Iterable[Page], title: str) -> bytes:
    """The PDF's bytes; the fonts must be loaded."""
    file = io.BytesIO()
    canvas: Any = Canvas(file, pagesize=(WIDTH, HEIGHT), invariant=1, lang="ja")
    canvas.setTitle(title)
    for page in pages:
        for item in page:
            _paint(canvas, item)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _paint(canvas: Any, item: Item) -> None:
    match item:
        case Words(text, x, y, size, align, bold):
            canvas.setFont(BOLD if bold else NORMAL, size)
            draw = {Align.LEFT: canvas.drawString, Align.CENTRE: canvas.drawCentredString, Align.RIGHT: canvas.drawRightString}[align]
            draw(x, HEIGHT - y, text)
        case Rule(x, y, to_x, to_y, thick):
            canvas.setLineWidth(thick)
            canvas.line(x, HEIGHT - y, to_x, HEIGHT - to_y)
        case Shade(x, y, wide, high):
            canvas.setFillGray(_GREY)
            canvas.rect(x, HEIGHT - y - high, wide, high, stroke=0, fill=1)
            canvas.setFillGray(0)
