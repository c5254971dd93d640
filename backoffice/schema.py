"""The tables of the city's books, the same for SQLite and PostgreSQL.

Whoever reads or writes the books builds statements on these tables; how they come to be in a database, with triggers and grants, is in
``backoffice/migrations``. A test holds the two together.

**Names of things.** An entry is (device, epoch, seq), everywhere. Times are Unix ms UTC and end in ``_ms``; ``service_day`` is days since
1970-01-01, 0 when the vehicle had no clock. Digests of entries are the first 16 bytes of the SHA-256 of their bytes: enough to tell two
contents apart, half the room. Amounts are points or yen.

**What is written once.** ``entry``, ``posting`` and ``batch`` are never changed: triggers raise, and on PostgreSQL the role that the
program works in (``ROLE``) has no such grant. They are deleted by retention alone, in a role of its own (``RETENTION``), and triggers let
only rows go that lie wholly before the newest ``horizon``; a horizon is at least a year back (``backoffice.retention``).

**Few indexes.** Every index is paid for by every ride. A primary key (device, epoch, seq) grows at the right edge of each device's own
range, so its hot pages are few, however much lies behind. Indexes by day grow at the right edge too. Only the one by rider is random, and
it is needed: another vehicle's reading settles an unknown debit, and a rider may ask what is kept about them. A purse's postings are found
through its entries, so postings need no index by account.

**Order of columns.** Wide before narrow before variable: PostgreSQL pads columns to their own width.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    exists,
    text,
)

ROLE = "kazashi_books"
"""The PostgreSQL role that the program works in: may add to the books, not change them."""

RETENTION = "kazashi_retention"
"""The PostgreSQL role that lets go of what is older than the horizon, and moves the horizon; the server never works in it."""

WRITTEN_ONCE = ("entry", "posting", "batch")

DIGEST_BYTES = 16

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_by_%(column_0_N_name)s",
        "uq": "%(table_name)s_once_%(column_0_N_name)s",
        "pk": "%(table_name)s_pk",
    }
)

_Serial = BigInteger().with_variant(Integer(), "sqlite")


def _bytes(name: str, *, nullable: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=nullable)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _wide(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable, autoincrement=False)


def _int(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Integer, nullable=nullable, autoincrement=False)


def _small(name: str) -> Column[int]:
    return Column(name, SmallInteger, nullable=False, autoincrement=False)


# --- who ----------------------------------------------------------------------------------------------------------------------------------

device = Table(
    "device",
    metadata,
    _wide("id"),
    _wide("created_ms"),
    _wide("revoked_ms", nullable=True),
    _text("name"),
    _text("operator"),
    PrimaryKeyConstraint("id"),
)

# A key's three marks are places in the device's ledgers (``backoffice.keys``); (0, 0) is before all there is.
device_key = Table(
    "device_key",
    metadata,
    _bytes("kid"),
    _wide("device"),
    _small("algorithm"),
    _bytes("public"),
    _wide("from_epoch"),
    _wide("from_seq"),
    _wide("until_epoch", nullable=True),
    _wide("until_seq", nullable=True),
    _wide("revoked_epoch", nullable=True),
    _wide("revoked_seq", nullable=True),
    _wide("created_ms"),
    _wide("revoked_ms", nullable=True),
    PrimaryKeyConstraint("kid"),
    Index(None, "device"),
)

enrolment = Table(
    "enrolment",
    metadata,
    _bytes("code_hash"),
    _wide("device"),
    _wide("created_ms"),
    _wide("expires_ms"),
    _wide("used_ms", nullable=True),
    PrimaryKeyConstraint("code_hash"),
)

# --- how far we have whose ledger ---------------------------------------------------------------------------------------------------------

# ``number``: the device's first, second, … epoch as the city heard of them. ``next_seq``: the first entry that is not stored; ``head``: the
# hash of the one before it. ``closed``: the device said that nothing more can come. ``contact_ms``: the last batch or report of a loss.
ledger = Table(
    "ledger",
    metadata,
    _wide("device"),
    _wide("epoch"),
    _wide("next_seq"),
    _wide("created_ms"),
    _wide("contact_ms"),
    _int("number"),
    Column("closed", Boolean, nullable=False),
    _bytes("head"),
    PrimaryKeyConstraint("device", "epoch"),
)

# What is stored above ``ledger.next_seq``; ``previous``: the hash before the first, ``head``: the hash of the last.
island = Table(
    "island",
    metadata,
    _wide("device"),
    _wide("epoch"),
    _wide("first_seq"),
    _wide("last_seq"),
    _bytes("previous"),
    _bytes("head"),
    PrimaryKeyConstraint("device", "epoch", "first_seq"),
)

# The evidence: each sealed message that brought anything, as it came. ``digest``: all 32 bytes of its SHA-256.
batch = Table(
    "batch",
    metadata,
    Column("id", _Serial, autoincrement=True, nullable=False),
    _wide("device"),
    _wide("epoch"),
    _wide("first_seq"),
    _wide("last_seq"),
    _wide("received_ms"),
    _bytes("digest"),
    _bytes("kid"),
    _bytes("sealed"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("digest"),
    Index(None, "device", "epoch", "first_seq"),
    Index(None, "received_ms"),
)

# --- what happened ------------------------------------------------------------------------------------------------------------------------

# ``ledger.entry.Entry``, field by field. ``tap_row`` is its ``row``, ``grant_digest`` its medium's ``grant``; its ``versions`` are
# ``…_version``, ``software`` and the two keys. Without a medium everything about the rider and the purse is NULL; so is a purse not read
# (``…_before``) or not written (``…_after``).
entry = Table(
    "entry",
    metadata,
    _wide("device"),
    _wide("epoch"),
    _wide("seq"),
    _wide("received_ms"),
    _wide("utc_ms"),
    _wide("mono_ms"),
    _wide("boot"),
    _wide("shift"),
    _wide("ref"),
    _wide("granted", nullable=True),
    _wide("grant_number", nullable=True),
    _wide("rega_before", nullable=True),
    _wide("regb_before", nullable=True),
    _wide("rega_after", nullable=True),
    _wide("regb_after", nullable=True),
    _int("wcnt_before", nullable=True),
    _int("wcnt_after", nullable=True),
    _int("service_day"),
    _int("nominal"),
    _int("points"),
    _int("cash"),
    _int("adults"),
    _int("children"),
    _int("card_key"),
    _int("rider_key"),
    _int("clock"),
    _small("kind"),
    _small("flags"),
    _small("outcome"),
    _bytes("digest"),
    _bytes("rider", nullable=True),
    _bytes("grant_digest", nullable=True),
    _bytes("regc_before", nullable=True),
    _bytes("regc_after", nullable=True),
    _bytes("table_version"),
    _bytes("scheme_version"),
    _bytes("operator_version"),
    _text("software"),
    _text("operator"),
    _text("vehicle"),
    _text("route"),
    _text("trip"),
    _text("boarding"),
    _text("alighting"),
    _text("tap_row"),
    _text("reason"),
    PrimaryKeyConstraint("device", "epoch", "seq"),
    Index(None, "rider"),
    Index(None, "service_day"),
    # The few debits of unknown outcome (kinds UNKNOWN and RESOLVED), which settling looks for among all.
    Index("entry_unsure", "kind", "rider", sqlite_where=text("kind IN (22, 23)"), postgresql_where=text("kind IN (22, 23)")),
)

# ``backoffice.book.Posting`` of the entry (device, epoch, seq). A correction names in ``ref_…`` the posting that it puts right.
posting = Table(
    "posting",
    metadata,
    _wide("device"),
    _wide("epoch"),
    _wide("seq"),
    _wide("amount"),
    _wide("at_ms"),
    _int("leg"),
    _int("service_day"),
    _small("kind"),
    _text("debit"),
    _text("credit"),
    _wide("ref_device", nullable=True),
    _wide("ref_epoch", nullable=True),
    _wide("ref_seq", nullable=True),
    _int("ref_leg", nullable=True),
    PrimaryKeyConstraint("device", "epoch", "seq", "leg"),
    CheckConstraint("amount > 0", name="posting_amount_is_positive"),
    CheckConstraint("debit <> credit", name="posting_has_two_accounts"),
    Index(None, "service_day"),
)

# --- what could not be booked -------------------------------------------------------------------------------------------------------------

# Entries in quarantine, with the bytes that came; ``code`` as in the receipt. Code ``conflict``: another content is booked under this key.
reject = Table(
    "reject",
    metadata,
    _wide("device"),
    _wide("epoch"),
    _wide("seq"),
    _wide("received_ms"),
    _bytes("digest"),
    _bytes("data"),
    _text("code"),
    _text("sentence"),
    PrimaryKeyConstraint("device", "epoch", "seq", "digest"),
    Index(None, "received_ms"),
)

# Entries of a newer version than this program knows; ``released_ms``: when a newer program booked it.
held = Table(
    "held",
    metadata,
    _wide("device"),
    _wide("epoch"),
    _wide("seq"),
    _wide("received_ms"),
    _wide("released_ms", nullable=True),
    _int("version"),
    _bytes("digest"),
    _bytes("data"),
    PrimaryKeyConstraint("device", "epoch", "seq"),
)

# The same alarm is raised once. ``device``, ``epoch``, ``seq``: 0 where it is about none. Whether a person has seen to it: ``tick``.
alarm = Table(
    "alarm",
    metadata,
    Column("id", _Serial, autoincrement=True, nullable=False),
    _wide("at_ms"),
    _wide("device"),
    _wide("epoch"),
    _wide("seq"),
    _text("kind"),
    _text("sentence"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("kind", "device", "epoch", "seq"),
)

# What clerks did with an alarm: the one with the highest ``number`` counts, ``done`` or put back. Written once; goes with its alarm.
tick = Table(
    "tick",
    metadata,
    _wide("alarm"),
    _wide("at_ms"),
    _int("number"),
    Column("done", Boolean, nullable=False),
    _text("clerk"),
    _text("note"),
    PrimaryKeyConstraint("alarm", "number"),
)


def ticked_off() -> ColumnElement[bool]:
    """Of a row of ``alarm``: the last that a clerk said about it is that it is seen to."""
    later = tick.alias("later")
    last = ~exists().where(later.c.alarm == tick.c.alarm, later.c.number > tick.c.number)
    return exists().where(tick.c.alarm == alarm.c.id, tick.c.done, last)


# ``ledger.notes.Loss``; ``last_seq`` 0: nobody knows.
loss = Table(
    "loss",
    metadata,
    _wide("device"),
    _wide("epoch"),
    _wide("first_seq"),
    _wide("last_seq"),
    _wide("received_ms"),
    _wide("boot"),
    _wide("mono_ms"),
    _wide("utc_ms"),
    _int("clock"),
    _text("reason"),
    _bytes("kid"),
    _bytes("sealed"),
    PrimaryKeyConstraint("device", "epoch", "first_seq", "last_seq"),
)

# ``ledger.notes.Heartbeat``; ``selftest``: an object, part to state; ``counts``: an object, name to number, empty where nobody counts.
heartbeat = Table(
    "heartbeat",
    metadata,
    _wide("device"),
    _wide("received_ms"),
    _wide("epoch"),
    _wide("head_seq"),
    _wide("boot"),
    _wide("mono_ms"),
    _wide("utc_ms"),
    _wide("free_bytes"),
    _int("clock"),
    _int("card_key"),
    _int("rider_key"),
    _bytes("head_hash"),
    _bytes("table_version"),
    _bytes("scheme_version"),
    _bytes("operator_version"),
    _text("rules_software"),
    _text("software"),
    Column("selftest", JSON, nullable=False),
    Column("counts", JSON, nullable=False, server_default="{}"),
    Column("up_s", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("device", "received_ms"),
)

# --- grants, bills, packages --------------------------------------------------------------------------------------------------------------

# ``kind``: yearly or correction; ``points`` may be below 0 in a correction; ``ref``: the number of the grant that it corrects.
rider_grant = Table(
    "rider_grant",
    metadata,
    _bytes("rider"),
    _int("fiscal_year"),
    _int("number"),
    _wide("points"),
    _wide("at_ms"),
    _int("ref", nullable=True),
    _text("kind"),
    PrimaryKeyConstraint("rider", "fiscal_year", "number"),
)

# What was billed: ``month`` is year × 100 + month; ``figures`` as the bill has them.
settlement = Table(
    "settlement",
    metadata,
    _text("operator"),
    _int("month"),
    _text("kind"),
    _wide("at_ms"),
    Column("figures", JSON, nullable=False),
    PrimaryKeyConstraint("operator", "month", "kind"),
)

package = Table(
    "package",
    metadata,
    _bytes("digest"),
    _wide("valid_from"),
    _wide("created_ms"),
    _text("kind"),
    _text("version"),
    _bytes("sealed"),
    PrimaryKeyConstraint("digest"),
)

# --- what was let go of -------------------------------------------------------------------------------------------------------------------

# Rows that happened, came and were concluded before ``before_ms`` and ``before_day`` (the same midnight) may go, and bills begin there.
# Written once; the newest counts.
horizon = Table(
    "horizon",
    metadata,
    _wide("before_ms"),
    _wide("at_ms"),
    _int("before_day"),
    PrimaryKeyConstraint("before_ms"),
)

# Numbers whose entries were let go of: stored, not to be booked again, and nothing is left to compare them with. Runs that do not touch.
forgotten = Table(
    "forgotten",
    metadata,
    _wide("device"),
    _wide("epoch"),
    _wide("first_seq"),
    _wide("last_seq"),
    PrimaryKeyConstraint("device", "epoch", "first_seq"),
)

# Credits less debits of the postings that were let go of; all purses are one account, so that no rider's pseudonym stays.
carried = Table(
    "carried",
    metadata,
    _wide("amount"),
    _small("kind"),
    _text("account"),
    PrimaryKeyConstraint("account", "kind"),
)

# The register of disposal: how many rows of which kind went in the run that began at ``at_ms``, older than ``before_ms``.
disposal = Table(
    "disposal",
    metadata,
    _wide("at_ms"),
    _wide("before_ms"),
    _wide("gone"),
    _text("kind"),
    PrimaryKeyConstraint("at_ms", "kind"),
)

# Who looked at what is kept about somebody, and how; never about whom.
access_log = Table(
    "access_log",
    metadata,
    _wide("at_ms"),
    _text("clerk"),
    _text("action"),
    PrimaryKeyConstraint("at_ms", "clerk", "action"),
)
