"""What a terminal's own ALARM entry says to the clerks (pure).

A terminal that refuses what the city sent has nobody to tell but its ledger: the entry goes up like any other, is booked, and is put before
the clerks here. Its reason is a word from a closed list, a colon, and what it is about; the words are those of ``firmware.packages``, which
no back office imports, so what is not known here is told as it stands.
"""

from collections.abc import Iterator

from ledger import batch as batches
from ledger.batch import Batch
from ledger.entry import Entry, Kind

PACKAGE, TERMINAL = "package", "terminal"
_MOST = 80
_PACKAGE = {
    "package-broken": "did not come whole, and was refused",
    "package-foreign": "is not signed by the city, and was refused",
    "package-unusable": "is signed and whole, but its file cannot be used; it was refused",
    "package-held": "is too big a change, and waits for a person",
    "package-damaged": "was in force and cannot be read any more; the one before it is in force",
}


def entries(batch: Batch) -> Iterator[tuple[int, bytes, str]]:
    """The ALARM entries of ``batch``: number, bytes, reason. Hardly ever there is one, which the totals know."""
    if any(total.kind == Kind.ALARM for total in batches.totals(batch).rows):
        for seq, data, entry in batches.opened(batch):
            if isinstance(entry, Entry) and entry.kind is Kind.ALARM:
                yield seq, data, entry.reason


def told(reason: str) -> tuple[str, str]:
    """The kind of the alarm, and a sentence."""
    word, _, about = reason.partition(":")
    if word in _PACKAGE:
        what = f" ({about[:_MOST]})" if about else ""
        return PACKAGE, f"A package{what} {_PACKAGE[word]}."
    return TERMINAL, f"The terminal tells of something that this software has no words for: {reason[:_MOST] or 'nothing'}."
