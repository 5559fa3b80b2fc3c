"""Keys that the replicas share: each is made at the first start and kept in the database."""

import secrets

from servicekit.database import Database
from sqlalchemy.exc import IntegrityError

from users_service.tables import Secret

KEY_BYTES = 32


async def open_key(database: Database, name: str) -> bytes:
    """Return the key of this name."""
    try:
        async with database.begin() as session:
            if await session.get(Secret, name) is None:
                session.add(Secret(name=name, value=secrets.token_bytes(KEY_BYTES)))
    except IntegrityError:
        pass  # another replica was faster
    async with database.begin() as session:
        return (await session.get_one(Secret, name)).value
