"""An entry as a row of the books, and back (pure).

``ENTRY`` and ``POSTING`` name the columns in the tables' own order (``backoffice.schema``); rows are plain tuples in that order, because a
quarter of a bus line's day passes here in a second.

``flaw`` says which entries are right as a ledger's entries and yet cannot be rows: a NUL in a text, which no PostgreSQL text holds; a day
or a clock after the year 9999, which no calendar has; an amount or a number of people that no ride has. They are set aside. Without these
limits one absurd entry would make every later sum fail.
"""

from collections.abc import Sequence
from typing import Any

from backoffice.book import Posting
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

LAST_MS = 253_402_300_799_999
"""The end of the year 9999, Unix ms."""

LAST_DAY = LAST_MS // 86_400_000

MOST = 2**31 - 1
"""The largest amount of one entry: a hundred million such entries can still be added up in 63 bits."""

Row = tuple[Any, ...]

_NO_PURSE = (None, None, None, None)


def flaw(entry: Entry) -> str:
    """Why ``entry`` cannot be a row, as the end of a sentence; empty when it can."""
    place, fare, versions, when = entry.place, entry.fare, entry.versions, entry.when
    if (fare.nominal | fare.points | fare.cash | fare.adults | fare.children | versions.card_key | versions.rider_key | when.clock) > MOST:
        return f"names an amount, a number of people, a key or a state of the clock above {MOST}"
    if place.service_day > LAST_DAY or when.utc_ms > LAST_MS:
        return "names a time after the year 9999"
    texts = (place.operator, place.vehicle, place.route, place.trip, place.boarding, place.alighting)
    if "\0" in "".join((*texts, versions.software, entry.row, entry.reason)):
        return "has a NUL in a text"
    return ""


def entry_row(entry: Entry, digest: bytes, received_ms: int) -> Row:
    """The row of an entry that has no flaw."""
    when, place, fare, versions, medium = entry.when, entry.place, entry.fare, entry.versions, entry.medium
    rider = granted = number = grant = before = after = None
    if medium is not None:
        rider, granted, number, grant = medium.rider, medium.granted, medium.grant_number, medium.grant
        before, after = medium.before, medium.after
    a0, b0, c0, w0 = (before.rega, before.regb, before.regc, before.wcnt) if before is not None else _NO_PURSE
    a1, b1, c1, w1 = (after.rega, after.regb, after.regc, after.wcnt) if after is not None else _NO_PURSE
    return (
        entry.device,
        entry.epoch,
        entry.seq,
        received_ms,
        when.utc_ms,
        when.mono_ms,
        when.boot,
        place.shift,
        entry.ref,
        granted,
        number,
        a0,
        b0,
        a1,
        b1,
        w0,
        w1,
        place.service_day,
        fare.nominal,
        fare.points,
        fare.cash,
        fare.adults,
        fare.children,
        versions.card_key,
        versions.rider_key,
        when.clock,
        entry.kind,
        entry.flags,
        entry.outcome,
        digest,
        rider,
        grant,
        c0,
        c1,
        versions.table,
        versions.scheme,
        versions.operator,
        versions.software,
        place.operator,
        place.vehicle,
        place.route,
        place.trip,
        place.boarding,
        place.alighting,
        entry.row,
        entry.reason,
    )


def posting_row(entry: Entry, posting: Posting, at_ms: int) -> Row:
    """The row of what ``entry`` books by itself."""
    leg, kind, debit, credit, amount = posting
    return (entry.device, entry.epoch, entry.seq, amount, at_ms, leg, entry.place.service_day, kind, debit, credit)


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry that ``entry_row`` made a row of; columns as in ``ENTRY``."""
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
