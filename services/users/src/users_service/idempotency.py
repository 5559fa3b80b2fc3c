"""Creating an account once, however often the request for it is repeated (`Idempotency-Key`)."""

import hashlib
import json
from datetime import timedelta
from uuid import UUID

from servicekit.database import new_id, utc_now
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from users_service.accounts import Changes
from users_service.errors import IdempotencyKeyReused
from users_service.tables import Account, IdempotencyKey

KEPT = timedelta(days=1)

_SIGNED_UP: Changes = {"roles": ["user"], "disabled": False}


async def claim(session: AsyncSession, *, key: str, actor: str | None, fields: Changes) -> UUID:
    """Take a key for a new account and return the id that the account shall have.

    Who comes second with the same key waits here until the first has committed.

    Raises:
        AlreadyCreated: an account was created with this key, from the same fields.
        IdempotencyKeyReused: it was created from others, or was deleted since; or, where nobody
            is the actor, changed.
    """
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < utc_now() - KEPT))
    claimed = IdempotencyKey(
        # A caller has keys of their own: nobody reads an account by another's.
        key_hash=_digest([actor, key]),
        # Without the password: of that, no hash that is fast to compute may be kept.
        request_hash=_digest({name: sorted(value) if name == "roles" else value for name, value in fields.items()}),  # type: ignore[call-overload]
        account_id=new_id(),
    )
    try:
        async with session.begin_nested():
            session.add(claimed)
    except IntegrityError:
        earlier = await session.get_one(IdempotencyKey, claimed.key_hash)
        account = await session.get(Account, earlier.account_id)
        if account is None or earlier.request_hash != claimed.request_hash:
            raise IdempotencyKeyReused from None
        # Who signs up shares the keys of all who do: they are shown no more than they have sent.
        as_sent = {**_SIGNED_UP, **fields}
        if actor is None and any(getattr(account, name) != value for name, value in as_sent.items()):
            raise IdempotencyKeyReused from None
        raise AlreadyCreated(account) from None
    return claimed.account_id


class AlreadyCreated(Exception):
    """The request is a repetition; `account` is what it has created."""

    def __init__(self, account: Account) -> None:
        super().__init__(str(account.id))
        self.account = account


def _digest(value: object) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
