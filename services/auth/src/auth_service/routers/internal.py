"""What the other services ask. Never routed from outside; there is nothing in it that opens anything."""

from typing import Annotated

from fastapi import APIRouter, Query
from servicekit.revocations import REVOCATIONS_PATH, RevocationPage

from auth_service.dependencies import KeyRingDep, RevocationsDep
from auth_service.revocations import CURSOR

router = APIRouter(include_in_schema=False)


@router.get(REVOCATIONS_PATH)
async def list_revocations(
    revocations: RevocationsDep, keys: KeyRingDep, after: Annotated[str | None, Query(pattern=CURSOR)] = None
) -> RevocationPage:
    """Return the sessions that have ended and may still have valid access tokens, from a cursor on; and the keys."""
    page = await revocations.list_ended(after)
    page.key_ids = keys.key_ids
    return page
