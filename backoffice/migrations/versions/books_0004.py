"""A package's address is the SHA-256 of the sealed message: the same file signed again, as released by a person, is another message."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"

_PACKAGE = sa.table("package", sa.column("digest", sa.LargeBinary), sa.column("sealed", sa.LargeBinary))


def upgrade() -> None:
    """Give each package its new address."""
    connection = op.get_bind()
    for digest, sealed in connection.execute(sa.select(_PACKAGE.c.digest, _PACKAGE.c.sealed)).all():
        address = hashlib.sha256(sealed).digest()
        connection.execute(sa.update(_PACKAGE).where(_PACKAGE.c.digest == digest).values(digest=address))
