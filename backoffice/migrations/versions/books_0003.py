"""Clerks tick alarms off: each tick is a row with who, when and what was done, written once; an alarm itself is never changed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"

ROLE = "kazashi_books"
RETENTION = "kazashi_retention"
_WHY = "a tick is written once; it goes with its alarm"


def upgrade() -> None:
    """Make the table, take along what was ticked off by time alone, and keep it."""
    op.create_table(
        "tick",
        sa.Column("alarm", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("clerk", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("alarm", "number", name="tick_pk"),
    )
    op.execute(
        "INSERT INTO tick (alarm, at_ms, number, done, clerk, note) "
        "SELECT id, seen_ms, 1, TRUE, '', '' FROM alarm WHERE seen_ms IS NOT NULL"
    )
    op.execute("ALTER TABLE alarm DROP COLUMN seen_ms")
    if op.get_context().dialect.name == "postgresql":
        _keep_with_postgresql()
    else:
        _keep_with_sqlite()


def _keep_with_sqlite() -> None:
    refuse = f"SELECT RAISE(ABORT, '{_WHY}')"
    there = "EXISTS (SELECT 1 FROM alarm WHERE id = OLD.alarm)"
    op.execute(f"CREATE TRIGGER tick_refuses_update BEFORE UPDATE ON tick BEGIN {refuse}; END")
    op.execute(f"CREATE TRIGGER tick_refuses_delete BEFORE DELETE ON tick WHEN {there} BEGIN {refuse}; END")
    op.execute("CREATE TRIGGER alarm_takes_ticks AFTER DELETE ON alarm BEGIN DELETE FROM tick WHERE alarm = OLD.id; END")


def _keep_with_postgresql() -> None:
    op.execute("CREATE TRIGGER tick_is_written_once BEFORE UPDATE OR TRUNCATE ON tick EXECUTE FUNCTION written_once()")
    op.execute(
        "CREATE FUNCTION tick_stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF EXISTS (SELECT FROM alarm WHERE id = OLD.alarm) THEN RAISE EXCEPTION '{_WHY}'; END IF; RETURN OLD; END $$"
    )
    op.execute("CREATE TRIGGER tick_stays BEFORE DELETE ON tick FOR EACH ROW EXECUTE FUNCTION tick_stays()")
    op.execute(
        "CREATE FUNCTION alarm_takes_ticks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "DELETE FROM tick WHERE alarm = OLD.id; RETURN NULL; END $$"
    )
    op.execute("CREATE TRIGGER alarm_takes_ticks AFTER DELETE ON alarm FOR EACH ROW EXECUTE FUNCTION alarm_takes_ticks()")
    op.execute(f"GRANT SELECT, INSERT ON tick TO {ROLE}")
    op.execute(f"GRANT SELECT, DELETE ON tick TO {RETENTION}")
    op.execute(f"REVOKE UPDATE, DELETE ON alarm FROM {ROLE}")
