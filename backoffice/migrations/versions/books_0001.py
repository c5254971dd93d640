"""The books as they begin: all tables, their triggers, and what the program's role may do."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None

ROLE = "kazashi_books"
WRITTEN_ONCE = ("entry", "posting", "batch")


def upgrade() -> None:
    """Make the tables, then what keeps them."""
    _make_tables()
    if op.get_context().dialect.name == "postgresql":
        _keep_with_postgresql()
    else:
        _keep_with_sqlite()


def _keep_with_sqlite() -> None:
    for table in WRITTEN_ONCE:
        for event in ("update", "delete"):
            refuse = f"SELECT RAISE(ABORT, '{table} is written once; a correction is a new row')"
            op.execute(f"CREATE TRIGGER {table}_refuses_{event} BEFORE {event} ON {table} BEGIN {refuse}; END")


def _keep_with_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION written_once() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is written once; a correction is a new row', TG_TABLE_NAME; END $$"
    )
    for table in WRITTEN_ONCE:
        op.execute(f"CREATE TRIGGER {table}_is_written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} EXECUTE FUNCTION written_once()")
    # A sealed batch is compressed already.
    op.execute("ALTER TABLE batch ALTER sealed SET STORAGE EXTERNAL")
    op.execute(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN CREATE ROLE {ROLE} NOLOGIN; END IF; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    op.execute(f"DO $$ BEGIN IF NOT pg_has_role(current_user, '{ROLE}', 'MEMBER') THEN GRANT {ROLE} TO CURRENT_USER; END IF; END $$")
    op.execute(f"GRANT USAGE ON SCHEMA public TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {ROLE}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")
    op.execute(f"REVOKE INSERT ON alembic_version FROM {ROLE}")
    changing = ", ".join(table for table in _TABLES if table not in WRITTEN_ONCE)
    op.execute(f"GRANT UPDATE, DELETE ON {changing} TO {ROLE}")


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=nullable)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _wide(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable)


def _int(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), autoincrement=False, nullable=nullable)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger(), autoincrement=False, nullable=False)


def _serial() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False)


_TABLES = (
    "alarm",
    "batch",
    "device",
    "device_key",
    "enrolment",
    "entry",
    "heartbeat",
    "held",
    "island",
    "ledger",
    "loss",
    "package",
    "posting",
    "reject",
    "rider_grant",
    "settlement",
)


def _make_tables() -> None:
    op.create_table(
        "alarm",
        _serial(),
        _wide("at_ms"),
        _wide("device"),
        _wide("epoch"),
        _wide("seq"),
        _wide("seen_ms", nullable=True),
        _text("kind"),
        _text("sentence"),
        sa.PrimaryKeyConstraint("id", name="alarm_pk"),
        sa.UniqueConstraint("kind", "device", "epoch", "seq", name="alarm_once_kind_device_epoch_seq"),
    )
    op.create_table(
        "batch",
        _serial(),
        _wide("device"),
        _wide("epoch"),
        _wide("first_seq"),
        _wide("last_seq"),
        _wide("received_ms"),
        _bytes("digest"),
        _bytes("kid"),
        _bytes("sealed"),
        sa.PrimaryKeyConstraint("id", name="batch_pk"),
        sa.UniqueConstraint("digest", name="batch_once_digest"),
    )
    op.create_index("batch_by_device_epoch_first_seq", "batch", ["device", "epoch", "first_seq"])
    op.create_index("batch_by_received_ms", "batch", ["received_ms"])
    op.create_table(
        "device",
        _wide("id"),
        _wide("created_ms"),
        _wide("revoked_ms", nullable=True),
        _text("name"),
        _text("operator"),
        sa.PrimaryKeyConstraint("id", name="device_pk"),
    )
    op.create_table(
        "device_key",
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
        sa.PrimaryKeyConstraint("kid", name="device_key_pk"),
    )
    op.create_index("device_key_by_device", "device_key", ["device"])
    op.create_table(
        "enrolment",
        _bytes("code_hash"),
        _wide("device"),
        _wide("created_ms"),
        _wide("expires_ms"),
        _wide("used_ms", nullable=True),
        sa.PrimaryKeyConstraint("code_hash", name="enrolment_pk"),
    )
    op.create_table(
        "entry",
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
        sa.PrimaryKeyConstraint("device", "epoch", "seq", name="entry_pk"),
    )
    op.create_index("entry_by_rider", "entry", ["rider"])
    op.create_index("entry_by_service_day", "entry", ["service_day"])
    unsure = sa.text("kind IN (22, 23)")
    op.create_index("entry_unsure", "entry", ["kind", "rider"], sqlite_where=unsure, postgresql_where=unsure)
    op.create_table(
        "heartbeat",
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
        sa.Column("selftest", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("device", "received_ms", name="heartbeat_pk"),
    )
    op.create_table(
        "held",
        _wide("device"),
        _wide("epoch"),
        _wide("seq"),
        _wide("received_ms"),
        _wide("released_ms", nullable=True),
        _int("version"),
        _bytes("digest"),
        _bytes("data"),
        sa.PrimaryKeyConstraint("device", "epoch", "seq", name="held_pk"),
    )
    op.create_table(
        "island",
        _wide("device"),
        _wide("epoch"),
        _wide("first_seq"),
        _wide("last_seq"),
        _bytes("previous"),
        _bytes("head"),
        sa.PrimaryKeyConstraint("device", "epoch", "first_seq", name="island_pk"),
    )
    op.create_table(
        "ledger",
        _wide("device"),
        _wide("epoch"),
        _wide("next_seq"),
        _wide("created_ms"),
        _wide("contact_ms"),
        _int("number"),
        sa.Column("closed", sa.Boolean(), nullable=False),
        _bytes("head"),
        sa.PrimaryKeyConstraint("device", "epoch", name="ledger_pk"),
    )
    op.create_table(
        "loss",
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
        sa.PrimaryKeyConstraint("device", "epoch", "first_seq", "last_seq", name="loss_pk"),
    )
    op.create_table(
        "package",
        _bytes("digest"),
        _wide("valid_from"),
        _wide("created_ms"),
        _text("kind"),
        _text("version"),
        _bytes("sealed"),
        sa.PrimaryKeyConstraint("digest", name="package_pk"),
    )
    op.create_table(
        "posting",
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
        sa.CheckConstraint("amount > 0", name="posting_amount_is_positive"),
        sa.CheckConstraint("debit <> credit", name="posting_has_two_accounts"),
        sa.PrimaryKeyConstraint("device", "epoch", "seq", "leg", name="posting_pk"),
    )
    op.create_index("posting_by_service_day", "posting", ["service_day"])
    op.create_table(
        "reject",
        _wide("device"),
        _wide("epoch"),
        _wide("seq"),
        _wide("received_ms"),
        _bytes("digest"),
        _bytes("data"),
        _text("code"),
        _text("sentence"),
        sa.PrimaryKeyConstraint("device", "epoch", "seq", "digest", name="reject_pk"),
    )
    op.create_index("reject_by_received_ms", "reject", ["received_ms"])
    op.create_table(
        "rider_grant",
        _bytes("rider"),
        _int("fiscal_year"),
        _int("number"),
        _wide("points"),
        _wide("at_ms"),
        _int("ref", nullable=True),
        _text("kind"),
        sa.PrimaryKeyConstraint("rider", "fiscal_year", "number", name="rider_grant_pk"),
    )
    op.create_table(
        "settlement",
        _text("operator"),
        _int("month"),
        _text("kind"),
        _wide("at_ms"),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("operator", "month", "kind", name="settlement_pk"),
    )
