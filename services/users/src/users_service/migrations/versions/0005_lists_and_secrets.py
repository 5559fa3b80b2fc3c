"""Names compared by their characters, which orders and prefixes need; disabled accounts; a key for cursors."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
    op.create_index(
        "ix_accounts_disabled",
        "accounts",
        ["id"],
        sqlite_where=sa.text("disabled = 1"),
        postgresql_where=sa.text("disabled"),
    )
    # SQLite compares bytes anyway. Here the unique indexes are built anew, the table is not.
    _collate("C")


def downgrade() -> None:
    _collate("default")
    op.drop_index("ix_accounts_disabled", "accounts")
    op.drop_table("secrets")


def _collate(collation: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f'ALTER TABLE accounts ALTER COLUMN username_canonical TYPE varchar(64) COLLATE "{collation}",'
            f' ALTER COLUMN email_canonical TYPE text COLLATE "{collation}"'
        )
