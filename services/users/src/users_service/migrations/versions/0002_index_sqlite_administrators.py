"""An index of administrators that SQLite uses: it compares a flag with a number there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _replace_index("role_admin = 1")


def downgrade() -> None:
    _replace_index("role_admin")


def _replace_index(sqlite_where: str) -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.drop_index("ix_accounts_administrators", "accounts")
    op.create_index("ix_accounts_administrators", "accounts", ["id"], sqlite_where=sa.text(sqlite_where))
