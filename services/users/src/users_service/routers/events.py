"""What happened to accounts, for administrators and for programs that follow it."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import Forbidden, Unauthorized, problem_responses

from users_service import events
from users_service.dependencies import Reader, SessionDep
from users_service.schemas import Event

router = APIRouter(tags=["events"])


@router.get(
    "/events",
    responses={
        200: {
            "headers": {
                "Link": {
                    "description": 'Where the feed goes on, `rel="next"`; there, too, when nothing is left (RFC 8288).',
                    "schema": {"type": "string"},
                }
            }
        },
        **problem_responses(Unauthorized, Forbidden, DatabaseUnavailable),
    },
)
async def list_events(
    _caller: Reader,
    session: SessionDep,
    response: Response,
    after: Annotated[int, Query(ge=0, lt=2**63, description="The `sequence` of the last event that is known.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[Event]:
    """Read what happened, in its order, none left out: an event is there as soon as its change is.

    A program that follows the accounts keeps the last `sequence` and asks again for what is after it.
    """
    found = await events.read(session, after=after, limit=limit)
    last = found[-1].sequence if found else after
    response.headers["Link"] = f'</events?after={last}&limit={limit}>; rel="next"'
    return [Event.model_validate(event) for event in found]
