"""An e-mail address is looked for with its "ß": it was folded to "ss", as another person's is spelled.

A service of the version before finds such an account by its user name alone.
"""

import unicodedata
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

BATCH = 1000


def upgrade() -> None:
    _spell(_apart)


def downgrade() -> None:
    _spell(_folded)


def _spell(canonical: Callable[[str], str]) -> None:
    accounts = sa.table(
        "accounts",
        sa.column("id", sa.Uuid()),
        sa.column("email", sa.String()),
        sa.column("email_canonical", sa.Text()),
    )
    connection, of, other = op.get_bind(), accounts.c, accounts.alias().c
    # Nearly every address is ASCII, which is folded as ever.
    size = sa.func.octet_length(of.email)
    if connection.dialect.name == "sqlite":
        size = sa.func.length(sa.cast(of.email, sa.LargeBinary()))
    # On the way back two addresses may meet: the second stays as it is.
    is_taken = sa.exists(sa.select(other.id).where(other.email_canonical == sa.bindparam("canonical")))
    change = (
        sa.update(accounts)
        .where(of.id == sa.bindparam("account_id"), ~is_taken)
        .values(email_canonical=sa.bindparam("canonical"))
    )
    page = (
        sa.select(of.id, of.email, of.email_canonical)
        .where(sa.func.length(of.email) < size)
        .order_by(of.id)
        .limit(BATCH)
    )
    rows = connection.execute(page).all()
    while rows:
        wrong = [
            {"account_id": row.id, "canonical": spelled}
            for row in rows
            if (spelled := canonical(row.email)) != row.email_canonical
        ]
        if wrong:
            connection.execute(change, wrong)
        rows = connection.execute(page.where(of.id > rows[-1].id)).all()


def _apart(email: str) -> str:
    local, _, domain = email.rpartition("@")
    folded = (character.casefold() for character in local)
    simply = (fold if len(fold) == 1 else character.lower() for fold, character in zip(folded, local, strict=True))
    return unicodedata.normalize("NFC", f"{''.join(simply)}@{domain.lower()}")


def _folded(email: str) -> str:
    return unicodedata.normalize("NFC", email.casefold())
