"""Keys that the replicas share."""

import asyncio

from servicekit.database import open_database
from sqlalchemy import delete
from users_service.shared_keys import KEY_BYTES, open_key
from users_service.tables import Secret


async def test_replicas_that_start_together_get_one_key_and_no_other_database_has_it(database_url: str) -> None:
    async with open_database(database_url) as database, open_database(database_url) as other:
        await database.migrate("users_service")
        keys = await asyncio.gather(*(open_key(each, "cursors") for each in [database, other] * 3))
        assert len({*keys}) == 1
        assert len(keys[0]) == KEY_BYTES
        assert await open_key(database, "another use") != keys[0]
        async with database.begin() as session:
            await session.execute(delete(Secret))
        assert await open_key(other, "cursors") != keys[0]
