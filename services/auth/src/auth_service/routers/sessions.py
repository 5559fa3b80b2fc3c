"""A person's own sessions: where they are signed in, and how they sign out there."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from servicekit.auth import Principal, require_scope
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import Forbidden, NotFound, Unauthorized, problem_responses

from auth_service.dependencies import RevocationsDep, SessionsDep
from auth_service.links import LISTED_SESSION
from auth_service.schemas import SessionList, SessionResponse

router = APIRouter(prefix="/sessions", tags=["sessions"])

Caller = Annotated[Principal, require_scope("profile")]


@router.delete(
    "/{session_id}",
    status_code=204,
    response_class=Response,
    responses=problem_responses(Unauthorized, Forbidden, NotFound, DatabaseUnavailable),
)
async def end_session(session_id: UUID, caller: Caller, revocations: RevocationsDep) -> None:
    """End one of the caller's sessions. Its tokens are refused everywhere within two seconds."""
    if not await revocations.end(session_id, subject=caller.subject):
        raise NotFound("no such session")


@router.get(
    "",
    responses={200: {"links": LISTED_SESSION}, **problem_responses(Unauthorized, Forbidden, DatabaseUnavailable)},
)
async def list_sessions(caller: Caller, sessions: SessionsDep, response: Response) -> SessionList:
    """Return the caller's sessions, the one that was used last first: a hundred at most."""
    response.headers["Cache-Control"] = "no-store"
    return SessionList(
        sessions=[
            SessionResponse(
                id=row.id,
                client_id=row.client_id,
                device=row.device,
                created_at=row.created_at,
                last_used_at=row.last_used_at,
                expires_at=row.expires_at,
                is_current=str(row.id) == caller.session_id,
            )
            for row in await sessions.list_live(caller.subject)
        ]
    )


@router.delete(
    "",
    status_code=204,
    response_class=Response,
    responses=problem_responses(Unauthorized, Forbidden, DatabaseUnavailable),
)
async def end_all_sessions(caller: Caller, revocations: RevocationsDep) -> None:
    """End all of the caller's sessions, this one too."""
    await revocations.end_all(caller.subject)
