"""An entry as a person or another program reads it. Nothing is told that points at a card beyond the rider's keyed hash.

The fingerprint of a card's grant and the purse's last-terminal field stay in the ledger's own bytes: they are evidence for the city, which
gets those bytes, and would be two more pseudonyms in a file that somebody mails around.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from drivers.devices.clock import ClockState
from ledger.entry import Entry, Flags, Kind

Value = int | str
FIELDS: tuple[str, ...] = (
    "device",
    "epoch",
    "seq",
    "kind",
    "service_day",
    "utc",
    "utc_ms",
    "clock",
    "boot",
    "mono_ms",
    "operator",
    "vehicle",
    "shift",
    "route",
    "trip",
    "boarding",
    "alighting",
    "rider",
    "granted",
    "grant_number",
    "balance_before",
    "balance_after",
    "debits_before",
    "debits_after",
    "write_count_before",
    "write_count_after",
    "nominal",
    "points",
    "cash",
    "adults",
    "children",
    "flags",
    "outcome",
    "ref",
    "row",
    "reason",
    "table",
    "scheme",
    "operator_file",
    "software",
    "card_key",
    "rider_key",
)
_FIRST_DEBIT = 0xFFFF_FFFF
_EPOCH_DAY = date(1970, 1, 1)
_EPOCH_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def record(entry: Entry) -> dict[str, Value]:
    """The entry flat: numbers as numbers, hashes in hex, an absent value as ''. Always all of ``FIELDS``, in that order.

    ``balance``: points on the card (REGA). ``debits``: how often it was debited in its life (from REGB). ``write_count``: WCNT.
    """
    medium = entry.medium
    before = medium.before if medium else None
    after = (medium.after or before) if medium else None
    place, fare, versions, when = entry.place, entry.fare, entry.versions, entry.when
    values: tuple[Value, ...] = (
        entry.device,
        entry.epoch,
        entry.seq,
        entry.kind.name,
        day(place.service_day),
        moment(when.utc_ms),
        when.utc_ms,
        clock(when.clock),
        when.boot,
        when.mono_ms,
        place.operator,
        place.vehicle,
        place.shift,
        place.route,
        place.trip,
        place.boarding,
        place.alighting,
        medium.rider.hex() if medium else "",
        medium.granted if medium else "",
        medium.grant_number if medium else "",
        before.rega if before else "",
        after.rega if after else "",
        _FIRST_DEBIT - before.regb if before else "",
        _FIRST_DEBIT - after.regb if after else "",
        before.wcnt if before else "",
        after.wcnt if after else "",
        fare.nominal,
        fare.points,
        fare.cash,
        fare.adults,
        fare.children,
        " ".join(flag.name or "" for flag in Flags if flag in entry.flags and flag),
        entry.outcome.name if entry.outcome else "",
        entry.ref or "",
        entry.row,
        entry.reason,
        versions.table.hex(),
        versions.scheme.hex(),
        versions.operator.hex(),
        versions.software,
        versions.card_key,
        versions.rider_key,
    )
    return dict(zip(FIELDS, values, strict=True))


def line(entry: Entry) -> str:
    """One line for a person: number, time, what, who, where, how much."""
    rider = entry.medium.rider.hex()[:6] if entry.medium else ""
    time = moment(entry.when.utc_ms) if entry.when.clock else f"boot {entry.when.boot} + {entry.when.mono_ms // 1000} s"
    kind = entry.kind.name.lower().replace("_", " ")
    return f"{entry.seq:>7}  {time:<20}  {kind:<11}  {rider:<6}  {_where(entry):<28}  {_what(entry)}".rstrip()


def day(number: int) -> str:
    """The service day ``number`` days after 1970-01-01."""
    try:
        return (_EPOCH_DAY + timedelta(days=number)).isoformat() if number else ""
    except OverflowError:
        return f"day {number}"


def moment(utc_ms: int) -> str:
    """Unix milliseconds as UTC, to the second."""
    try:
        return (_EPOCH_TIME + timedelta(milliseconds=utc_ms)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OverflowError:
        return f"{utc_ms} ms"


def clock(state: int) -> str:
    """Where the time came from."""
    try:
        return ClockState(state).name
    except ValueError:
        return str(state)


def _where(entry: Entry) -> str:
    place = entry.place
    way = f"{place.boarding}→{place.alighting}" if place.boarding or place.alighting else ""
    return " ".join(part for part in (place.trip or place.route, way) if part)


def _what(entry: Entry) -> str:
    fare, medium = entry.fare, entry.medium
    said: list[str] = []
    match entry.kind:
        case Kind.RESOLVED:
            said.append(f"entry {entry.ref} was {entry.outcome.name.lower()}")
        case Kind.UNKNOWN:
            said.append(f"{fare.points} points sent to the card, outcome not known")
        case Kind.PAID:
            said += [f"{fare.points} points"] + ([f"{fare.cash} yen in cash"] if fare.cash else [])
        case _:
            said += [f"{fare.cash} yen in cash"] if fare.cash else []
    if medium and medium.before and medium.after:
        said.append(f"balance {medium.before.rega}→{medium.after.rega}")
    if entry.ref and entry.kind is not Kind.RESOLVED:
        said.append(f"belongs to entry {entry.ref}")
    said += [flag.name.lower().replace("_", " ") for flag in Flags if flag and flag in entry.flags and flag.name]
    if entry.reason:
        said.append(entry.reason)
    return ", ".join(said)


def totals(counts: Mapping[Kind, int]) -> str:
    """How many of each kind, in words."""
    return ", ".join(f"{count} {kind.name.lower().replace('_', ' ')}" for kind, count in sorted(counts.items()))
