"""What the city has of one rider, or of one ledger, in the words of the rules that judge it.

It asks a connection that it is given (SQLAlchemy) and opens none, so whoever reads the books may use it.
"""

from sqlalchemy import Connection, select

from backoffice import rows, schema
from backoffice.clock_repair import Stamp
from backoffice.witness import Arrived
from ledger.entry import When

_ENTRY = [schema.entry.c[name] for name in rows.ENTRY]
_RECEIVED = rows.ENTRY.index("received_ms")


def history(connection: Connection, rider: bytes, until_ms: int | None = None) -> list[Arrived]:
    """All entries of one rider, from all vehicles (``until_ms``: that had come by then)."""
    asked = select(*_ENTRY).where(schema.entry.c.rider == rider)
    if until_ms is not None:
        asked = asked.where(schema.entry.c.received_ms <= until_ms)
    return [Arrived(rows.entry_of(row), row[_RECEIVED]) for row in connection.execute(asked)]


def stamps(connection: Connection, device: int, epoch: int) -> list[Stamp]:
    """When each entry of one ledger was written, as the vehicle's clock said, and when it came."""
    entry = schema.entry
    columns = (entry.c.seq, entry.c.boot, entry.c.mono_ms, entry.c.utc_ms, entry.c.clock, entry.c.service_day, entry.c.received_ms)
    found = connection.execute(select(*columns).where(entry.c.device == device, entry.c.epoch == epoch))
    return [Stamp(seq, When(boot, mono_ms, utc_ms, clock), day, came) for seq, boot, mono_ms, utc_ms, clock, day, came in found]
