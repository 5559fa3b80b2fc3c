"""How long a page of the list of accounts takes, with a million accounts on a PostgreSQL server of its own."""

import asyncio
import time
from typing import Any

from servicekit.database import Database, open_database
from sqlalchemy import text
from users_service import listing
from users_service.listing import Filters

from tests.postgres import serve_postgres

ROWS = 1_000_000
QUERIES = 100

# Names are spread over the order of creation; one in 100 is disabled, one in 10 000 an administrator.
FILL = """
INSERT INTO accounts (id, username, username_canonical, email, email_canonical, full_name,
                      full_name_canonical, disabled,
                      role_user, role_admin, password_hash, created_at, updated_at)
SELECT ('0190' || lpad(to_hex(n), 8, '0') || '70008000' || substr(md5(n::text), 1, 12))::uuid,
       name, name, address, address, person, person, n % 100 = 0, true, n % 10000 = 0, NULL, now(), now()
FROM (SELECT n, 'user' || lpad(((n * 7919) % CAST(:rows AS bigint))::text, 7, '0') AS name,
             md5(n::text) || '@example.com' AS address, md5((n + 1)::text) || ' somebody' AS person
      FROM generate_series(0, CAST(:rows AS bigint) - 1) AS n) AS people
"""

PAGES: dict[str, dict[str, Any]] = {
    "first": {},
    "sort=-created": {"sort": "-created"},
    "sort=username, from the middle": {"sort": "username", "after": "user0500000"},
    "sort=email": {"sort": "email"},
    "username=user00 (100 000 match)": {"username": "user00"},
    "username=user00&sort=created": {"username": "user00", "sort": "created"},
    "email=abc": {"email": "abc"},
    "q=u (all match)": {"q": "u"},
    "q=user0999 (1 000 match)": {"q": "user0999"},
    "q=zzz (none)": {"q": "zzz"},
    "disabled=true": {"disabled": True},
    "role=admin": {"role": "admin"},
    "role=admin&sort=username": {"role": "admin", "sort": "username"},
    "disabled=true&sort=username": {"disabled": True, "sort": "username"},
}


async def measure(database: Database, name: str, *, after: str | None = None, **filters: Any) -> None:
    """Print the median and the 95th percentile of one page."""
    times = []
    for _ in range(QUERIES):
        async with database.begin() as session:
            await session.connection()  # the transaction begins outside of what is measured
            started = time.perf_counter()
            await listing.read_page(session, Filters(**filters), after=after, limit=50)
            times.append((time.perf_counter() - started) * 1000)
    times.sort()
    print(f"{name:40} p50 {times[QUERIES // 2]:6.1f} ms   p95 {times[QUERIES * 95 // 100]:6.1f} ms")


async def main() -> None:
    """Fill a database and measure."""
    with serve_postgres() as postgres:
        async with open_database(postgres.url(await postgres.create())) as database:
            await database.migrate("users_service")
            async with database.begin() as session:
                await session.execute(text("SET LOCAL statement_timeout = 0"))
                await session.execute(text(FILL), {"rows": ROWS})
                await session.execute(text("ANALYZE accounts"))
            for name, page in PAGES.items():
                await measure(database, name, **page)
            async with database.begin() as session:
                query = text("SELECT id FROM accounts ORDER BY id OFFSET :skipped LIMIT 1")
                last = (await session.execute(query, {"skipped": ROWS * 9 // 10})).scalar_one()
            await measure(database, f"behind {ROWS * 9 // 10} others", after=str(last))


if __name__ == "__main__":
    asyncio.run(main())
