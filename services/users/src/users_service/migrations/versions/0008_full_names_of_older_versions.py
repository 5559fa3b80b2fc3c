"""Full names written by a service of the version before 0007, which does not know how they are looked for.

It leaves `full_name_canonical` as it was. A trigger takes that away then, so that null means that the spelling is
still to be found, and an index leads to such accounts.
"""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

BATCH = 1000
UNSPELLED = sa.text("full_name IS NOT NULL AND (full_name_canonical IS NULL) IS TRUE")


def upgrade() -> None:
    # First, so that nothing is written that neither it nor what follows sees. On SQLite a later revision that
    # alters this table by copying it has to make the trigger anew.
    _create_trigger()
    _fill()
    op.create_index(
        "ix_accounts_unspelled",
        "accounts",
        ["id"],
        sqlite_where=UNSPELLED,
        postgresql_where=UNSPELLED,
    )


def downgrade() -> None:
    op.drop_index("ix_accounts_unspelled", "accounts")
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER accounts_unspell")
    else:
        op.execute("DROP TRIGGER accounts_unspell ON accounts")
        op.execute("DROP FUNCTION accounts_unspell")


def _create_trigger() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER accounts_unspell AFTER UPDATE OF full_name ON accounts"
            " WHEN NEW.full_name IS NOT OLD.full_name AND NEW.full_name_canonical IS OLD.full_name_canonical"
            " BEGIN UPDATE accounts SET full_name_canonical = NULL WHERE id = NEW.id; END"
        )
    else:
        op.execute(
            "CREATE FUNCTION accounts_unspell() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.full_name_canonical := NULL; RETURN NEW; END $$"
        )
        op.execute(
            "CREATE TRIGGER accounts_unspell BEFORE UPDATE OF full_name ON accounts FOR EACH ROW"
            " WHEN (NEW.full_name IS DISTINCT FROM OLD.full_name"
            " AND NEW.full_name_canonical IS NOT DISTINCT FROM OLD.full_name_canonical)"
            " EXECUTE FUNCTION accounts_unspell()"
        )


def _fill() -> None:
    """Spell what was written beside 0007."""
    accounts = sa.table(
        "accounts", sa.column("id", sa.Uuid()), sa.column("full_name"), sa.column("full_name_canonical")
    )
    all_names = sa.select(accounts.c.id, accounts.c.full_name, accounts.c.full_name_canonical)
    change = (
        sa.update(accounts)
        .where(accounts.c.id == sa.bindparam("account_id"))
        .values(full_name_canonical=sa.bindparam("canonical"))
    )
    connection = op.get_bind()
    page = all_names.order_by(accounts.c.id).limit(BATCH)
    while rows := connection.execute(page).all():
        spelled = [(row, _canonical(row.full_name)) for row in rows]
        wrong = [
            {"account_id": row.id, "canonical": canonical}
            for row, canonical in spelled
            if row.full_name_canonical != canonical
        ]
        if wrong:
            connection.execute(change, wrong)
        page = all_names.where(accounts.c.id > rows[-1].id).order_by(accounts.c.id).limit(BATCH)


def _canonical(full_name: str | None) -> str | None:
    return full_name and unicodedata.normalize("NFKC", full_name).casefold()
