"""The books let go of what is old enough: a horizon, a role that may delete before it, and what stays in place of what went."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"

ROLE = "kazashi_books"
RETENTION = "kazashi_retention"
LEAST_AGE_MS = 365 * 86_400_000
"""No horizon is nearer than a year, whatever a program or a settings file says."""

# Each table, and the dates that must lie before the horizon.
WRITTEN_ONCE = {"entry": ("received_ms", "service_day"), "posting": ("at_ms", "service_day"), "batch": ("received_ms", None)}
_HORIZON_MS = "(SELECT coalesce(max(before_ms), 0) FROM horizon)"
_HORIZON_DAY = "(SELECT coalesce(max(before_day), 0) FROM horizon)"
_WHY = "is written once; only what is older than the horizon may go"


def upgrade() -> None:
    """Make the tables, then let go by rule."""
    _make_tables()
    if op.get_context().dialect.name == "postgresql":
        _let_go_in_postgresql()
    else:
        _let_go_in_sqlite()


def _let_go_in_sqlite() -> None:
    for table, (moment, day) in WRITTEN_ONCE.items():
        op.execute(f"DROP TRIGGER {table}_refuses_delete")
        late = " OR ".join([f"OLD.{moment} >= {_HORIZON_MS}", *([f"OLD.{day} >= {_HORIZON_DAY}"] if day else [])])
        refuse = f"SELECT RAISE(ABORT, '{table} {_WHY}')"
        op.execute(f"CREATE TRIGGER {table}_refuses_delete BEFORE DELETE ON {table} WHEN {late} BEGIN {refuse}; END")
    near = f"NEW.before_ms > CAST(strftime('%s', 'now') AS INTEGER) * 1000 - {LEAST_AGE_MS}"
    too_near = "SELECT RAISE(ABORT, 'the horizon is at least a year back')"
    op.execute(f"CREATE TRIGGER horizon_is_far BEFORE INSERT ON horizon WHEN {near} BEGIN {too_near}; END")
    for event in ("update", "delete"):
        refuse = "SELECT RAISE(ABORT, 'horizon is written once')"
        op.execute(f"CREATE TRIGGER horizon_refuses_{event} BEFORE {event} ON horizon BEGIN {refuse}; END")


def _let_go_in_postgresql() -> None:
    for table, (moment, day) in WRITTEN_ONCE.items():
        late = " OR ".join([f"{moment} >= {_HORIZON_MS}", *([f"{day} >= {_HORIZON_DAY}"] if day else [])])
        op.execute(
            f"CREATE FUNCTION {table}_lets_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF EXISTS (SELECT FROM gone WHERE {late}) THEN RAISE EXCEPTION '{table} {_WHY}'; END IF; RETURN NULL; END $$"
        )
        op.execute(f"DROP TRIGGER {table}_is_written_once ON {table}")
        op.execute(f"CREATE TRIGGER {table}_is_written_once BEFORE UPDATE OR TRUNCATE ON {table} EXECUTE FUNCTION written_once()")
        op.execute(
            f"CREATE TRIGGER {table}_goes_when_old AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone EXECUTE FUNCTION {table}_lets_go()"
        )
    op.execute(
        "CREATE FUNCTION horizon_is_far() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.before_ms > extract(epoch FROM now()) * 1000 - {LEAST_AGE_MS} THEN "
        "RAISE EXCEPTION 'the horizon is at least a year back'; END IF; RETURN NEW; END $$"
    )
    op.execute("CREATE TRIGGER horizon_is_far BEFORE INSERT ON horizon FOR EACH ROW EXECUTE FUNCTION horizon_is_far()")
    op.execute("CREATE TRIGGER horizon_is_written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON horizon EXECUTE FUNCTION written_once()")
    op.execute(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{RETENTION}') THEN CREATE ROLE {RETENTION} NOLOGIN; END IF; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    op.execute(
        f"DO $$ BEGIN IF NOT pg_has_role(current_user, '{RETENTION}', 'MEMBER') THEN GRANT {RETENTION} TO CURRENT_USER; END IF; END $$"
    )
    op.execute(f"GRANT USAGE ON SCHEMA public TO {RETENTION}")
    op.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {RETENTION}")
    gone = "entry, posting, batch, rider_grant, reject, held, alarm, heartbeat, package, access_log, forgotten"
    op.execute(f"GRANT DELETE ON {gone} TO {RETENTION}")
    op.execute(f"GRANT INSERT ON horizon, forgotten, carried, disposal TO {RETENTION}")
    op.execute(f"GRANT UPDATE ON carried, disposal TO {RETENTION}")
    op.execute(f"GRANT SELECT ON horizon, forgotten, carried, disposal TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT ON access_log TO {ROLE}")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _wide(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def _make_tables() -> None:
    op.create_table(
        "horizon",
        _wide("before_ms"),
        _wide("at_ms"),
        sa.Column("before_day", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("before_ms", name="horizon_pk"),
    )
    op.create_table(
        "forgotten",
        _wide("device"),
        _wide("epoch"),
        _wide("first_seq"),
        _wide("last_seq"),
        sa.PrimaryKeyConstraint("device", "epoch", "first_seq", name="forgotten_pk"),
    )
    op.create_table(
        "carried",
        _wide("amount"),
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        _text("account"),
        sa.PrimaryKeyConstraint("account", "kind", name="carried_pk"),
    )
    op.create_table(
        "disposal",
        _wide("at_ms"),
        _wide("before_ms"),
        _wide("gone"),
        _text("kind"),
        sa.PrimaryKeyConstraint("at_ms", "kind", name="disposal_pk"),
    )
    op.create_table(
        "access_log",
        _wide("at_ms"),
        _text("clerk"),
        _text("action"),
        sa.PrimaryKeyConstraint("at_ms", "clerk", "action", name="access_log_pk"),
    )
