"""An entry as a row of the books, and back (pure).

``ENTRY`` and ``POSTING`` name the columns in the tables' own order (``backoffice.schema``); rows are plain tuples in that order. A batch
comes in columns (``ledger.columns``) and its rows are made of them directly: half of a bus line's day passes here in a second, and an
object for each entry would cost more than all that is asked of it.

``flaw`` says which entries are right as a ledger's entries and yet cannot be rows: a NUL in a text, which no PostgreSQL text holds; a day
or a clock after the year 2999, or a running time that reaches from now till then, from which days are worked out that no calendar has; an
amount or a number of people that no ride has. They are set aside. Without these limits one absurd entry would make every later sum fail.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from backoffice.book import books, movements
from ledger.batch import Batch
from ledger.codec import Sheet
from ledger.entry import Counters, Entry, Fare, Flags, Kind, Medium, Outcome, Place, Versions, When

ENTRY = (
    "device",
    "epoch",
    "seq",
    "received_ms",
    "utc_ms",
    "mono_ms",
    "boot",
    "shift",
    "ref",
    "granted",
    "grant_number",
    "rega_before",
    "regb_before",
    "rega_after",
    "regb_after",
    "wcnt_before",
    "wcnt_after",
    "service_day",
    "nominal",
    "points",
    "cash",
    "adults",
    "children",
    "card_key",
    "rider_key",
    "clock",
    "kind",
    "flags",
    "outcome",
    "digest",
    "rider",
    "grant_digest",
    "regc_before",
    "regc_after",
    "table_version",
    "scheme_version",
    "operator_version",
    "software",
    "operator",
    "vehicle",
    "route",
    "trip",
    "boarding",
    "alighting",
    "tap_row",
    "reason",
)
"""The columns of ``entry``."""

POSTING = ("device", "epoch", "seq", "amount", "at_ms", "leg", "service_day", "kind", "debit", "credit")
"""The columns of ``posting`` that an entry's own booking fills."""

LAST_MS = 32_503_679_999_999
"""The end of the year 2999, Unix ms; no running time is longer, either. Whatever is added to it, calendars go on to 9999."""

LAST_DAY = LAST_MS // 86_400_000

MOST = 2**31 - 1
"""The largest amount of one entry: a hundred million such entries can still be added up in 63 bits."""

Row = tuple[Any, ...]

_NOTHING = (repeat(None),) * 4
_WITHOUT_MEDIUM = 13


def flaws(batch: Batch) -> dict[int, str]:
    """The flaw of each of the batch's entries that has one, by its number."""
    if not any(map(_is_doubtful, batch.told.sheets.values())):
        return {}
    read = enumerate(batch.read, batch.first_seq)
    return {seq: wrong for seq, entry in read if isinstance(entry, Entry) and (wrong := flaw(entry))}


def _is_doubtful(sheet: Sheet) -> bool:
    """Some of these entries may have a flaw. Asked of columns, because hardly ever one has."""
    inner = sheet.circumstances
    row, reason, mono_ms, utc_ms, clock = *sheet.columns[6:8], *sheet.columns[9:12]
    texts = chain(*inner[:2], *inner[3:7], inner[16], row, reason)
    return (
        max(map(max, (*inner[8:13], *inner[17:19], clock))) > MOST
        or max(inner[7]) > LAST_DAY
        or max(map(max, (mono_ms, utc_ms))) > LAST_MS
        or "\0" in "".join(texts)
    )


def flaw(entry: Entry) -> str:
    """Why ``entry`` cannot be a row, as the end of a sentence; empty when it can."""
    place, fare, versions, when = entry.place, entry.fare, entry.versions, entry.when
    if (fare.nominal | fare.points | fare.cash | fare.adults | fare.children | versions.card_key | versions.rider_key | when.clock) > MOST:
        return f"names an amount, a number of people, a key or a state of the clock above {MOST}"
    if place.service_day > LAST_DAY or when.utc_ms > LAST_MS:
        return "names a time after the year 2999"
    if when.mono_ms > LAST_MS:
        return "names a running time of a thousand years"
    texts = (place.operator, place.vehicle, place.route, place.trip, place.boarding, place.alighting)
    if "\0" in "".join((*texts, versions.software, entry.row, entry.reason)):
        return "has a NUL in a text"
    return ""


def entry_rows(batch: Batch, digests: Mapping[int, bytes], received_ms: int) -> list[Row]:
    """The rows of those entries of ``batch`` whose numbers have a digest; they must be right, at their place and without flaw."""
    found: list[Row] = []
    for length, sheet in batch.told.sheets.items():
        places = batch.told.places(length)
        rows = _rows(sheet, batch, map(digests.get, places), received_ms)
        found += rows if len(digests) == batch.count else [row for row, place in zip(rows, places, strict=True) if place in digests]
    return found


def _rows(sheet: Sheet, batch: Batch, digests: Iterator[bytes | None], received_ms: int) -> Iterator[Row]:
    """A row for each entry of ``sheet``."""
    _, seq, kind, flags, outcome, ref, tap_row, reason, boot, mono_ms, utc_ms, clock, _, *medium = sheet.columns
    operator, vehicle, shift, route, trip, boarding, alighting, day, *inner = sheet.circumstances
    nominal, points, cash, adults, children, table, scheme, operator_file, software, card_key, rider_key = inner
    rider, granted, number, grant = medium[:4] or _NOTHING
    a0, b0, c0, w0 = medium[4:8] or _NOTHING
    a1, b1, c1, w1 = sheet.written or _NOTHING
    return zip(
        repeat(batch.device),
        repeat(batch.epoch),
        seq,
        repeat(received_ms),
        utc_ms,
        mono_ms,
        boot,
        shift,
        ref,
        granted,
        number,
        a0,
        b0,
        a1,
        b1,
        w0,
        w1,
        day,
        nominal,
        points,
        cash,
        adults,
        children,
        card_key,
        rider_key,
        clock,
        kind,
        flags,
        outcome,
        digests,
        rider,
        grant,
        c0,
        c1,
        table,
        scheme,
        operator_file,
        software,
        operator,
        vehicle,
        route,
        trip,
        boarding,
        alighting,
        tap_row,
        reason,
        strict=False,
    )


def posting_rows(batch: Batch, accepted: Mapping[int, bytes], at_ms: int) -> list[Row]:
    """The rows of what those entries of ``batch`` book by themselves whose numbers are ``accepted``."""
    found: list[Row] = []
    for length, sheet in batch.told.sheets.items():
        if len(sheet.columns) <= _WITHOUT_MEDIUM:
            continue  # nobody's points or fare
        _, _, kinds, flags, outcomes = sheet.columns[:5]
        operators, days, nominal, points, cash = (sheet.circumstances[at] for at in (0, 7, 8, 9, 10))
        what = map(books, kinds, flags, outcomes)
        each = zip(
            batch.told.places(length), what, sheet.columns[13], operators, zip(nominal, points, cash, strict=True), days, strict=True
        )
        found += [
            (batch.device, batch.epoch, seq, amount, at_ms, leg, day, kind, debit, credit)
            for seq, is_booked, rider, operator, amounts, day in each
            if is_booked and seq in accepted
            for leg, kind, debit, credit, amount in movements(rider, operator, amounts)
        ]
    return found


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry that ``entry_rows`` made a row of; columns as in ``ENTRY``."""
    device, epoch, seq, _, utc_ms, mono_ms, boot, shift, ref, granted, number = row[:11]
    a0, b0, a1, b1, w0, w1 = row[11:17]
    day, nominal, points, cash, adults, children, card_key, rider_key, clock, kind, flags, outcome = row[17:29]
    _, rider, grant, c0, c1, table, scheme, operator_file, software = row[29:38]
    operator, vehicle, route, trip, boarding, alighting, tap_row, reason = row[38:46]
    before = None if a0 is None else Counters(a0, b0, c0, w0)
    after = None if a1 is None else Counters(a1, b1, c1, w1)
    return Entry(
        Kind(kind),
        When(boot, mono_ms, utc_ms, clock),
        Place(operator, vehicle, shift, route, trip, boarding, alighting, day),
        None if rider is None else Medium(rider, granted, number, grant, before, after),
        Fare(nominal, points, cash, adults, children),
        Versions(table, scheme, operator_file, software, card_key, rider_key),
        Flags(flags),
        Outcome(outcome),
        ref,
        tap_row,
        reason,
        device,
        epoch,
        seq,
    )
