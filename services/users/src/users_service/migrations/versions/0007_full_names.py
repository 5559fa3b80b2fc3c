"""Full names in the spelling in which they are looked for."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

BATCH = 1000


def upgrade() -> None:
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("accounts", sa.Column("full_name_canonical", text, nullable=True))
    _fill()
    op.create_index("ix_accounts_full_name_canonical", "accounts", ["full_name_canonical"])


def downgrade() -> None:
    op.drop_index("ix_accounts_full_name_canonical", "accounts")
    op.drop_column("accounts", "full_name_canonical")


def _fill() -> None:
    """Neither database folds case as Python does: each name goes through here once, a batch at a time."""
    accounts = sa.table(
        "accounts", sa.column("id", sa.Uuid()), sa.column("full_name"), sa.column("full_name_canonical")
    )
    named = sa.select(accounts.c.id, accounts.c.full_name).where(accounts.c.full_name.is_not(None))
    change = (
        sa.update(accounts)
        .where(accounts.c.id == sa.bindparam("account_id"))
        .values(full_name_canonical=sa.bindparam("canonical"))
    )
    connection = op.get_bind()
    page = named.order_by(accounts.c.id).limit(BATCH)
    while rows := connection.execute(page).all():
        names = [{"account_id": row.id, "canonical": _canonical(row.full_name)} for row in rows]
        connection.execute(change, names)
        page = named.where(accounts.c.id > rows[-1].id).order_by(accounts.c.id).limit(BATCH)


def _canonical(full_name: str) -> str:
    return unicodedata.normalize("NFKC", full_name).casefold()
