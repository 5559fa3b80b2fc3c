"""The accounts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("username_canonical", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("email_canonical", sa.Text(), nullable=False),
        sa.Column("full_name", sa.String(200), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("role_user", sa.Boolean(), nullable=False),
        sa.Column("role_admin", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("username_canonical", name="uq_accounts_username_canonical"),
        sa.UniqueConstraint("email_canonical", name="uq_accounts_email_canonical"),
    )
    op.create_index(
        "ix_accounts_administrators",
        "accounts",
        ["id"],
        sqlite_where=sa.text("role_admin"),
        postgresql_where=sa.text("role_admin"),
    )


def downgrade() -> None:
    op.drop_table("accounts")
