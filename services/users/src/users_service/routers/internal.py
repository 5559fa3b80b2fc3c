"""What auth asks before it issues a token, and what ends one. Never routed from outside."""

from typing import Annotated

from fastapi import APIRouter, Query

from users_service import accounts, credentials, events
from users_service.dependencies import DatabaseDep, GuardDep, PasswordsDep, Service, SessionDep
from users_service.errors import UserNotFound
from users_service.schemas import Credentials, Event, EventPage, Identity, SignedIn, Verification

router = APIRouter(prefix="/internal", include_in_schema=False)


@router.post("/credentials/verify")
async def verify_credentials(
    body: Credentials, _caller: Service, database: DatabaseDep, passwords: PasswordsDep, guard: GuardDep
) -> Verification:
    """Tell whose credentials these are; null whatever the reason not to let somebody in."""
    verified = await credentials.verify(
        database, passwords, guard, body.username, body.password.get_secret_value(), address=body.address
    )
    if verified is None:
        return Verification(account=None)
    account, last_event = verified
    return Verification(account=SignedIn(id=account.id, roles=account.roles, last_event=last_event))


@router.get("/events")
async def read_events(
    _caller: Service,
    session: SessionDep,
    after: Annotated[int, Query(ge=0, lt=2**63)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> EventPage:
    """Return what happened after an event, and the number of the last one there is."""
    last = await events.last_sequence(session)
    found = await events.read(session, after=after, limit=limit)
    return EventPage(events=[Event.model_validate(event) for event in found], last=last)


@router.get("/accounts/{account_id}")
async def read_identity(account_id: str, _caller: Service, session: SessionDep) -> Identity:
    """Return the roles of an account that may still be used; unknown, deleted and disabled are 404."""
    account = await accounts.find(session, account_id)
    if account.disabled:
        raise UserNotFound
    return Identity.model_validate(account)
