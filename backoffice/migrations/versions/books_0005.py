"""A heartbeat may say what the vehicle counted of its own journal, and in how many seconds; those before it said nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Make room for it."""
    op.add_column("heartbeat", sa.Column("counts", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("heartbeat", sa.Column("up_s", sa.BigInteger(), nullable=False, server_default="0"))
