"""The list of all accounts."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from pydantic import Field
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import Forbidden, Unauthorized, problem_responses

from users_service import listing
from users_service.dependencies import CursorsDep, Reader, SessionDep
from users_service.listing import Filters, without_null
from users_service.schemas import User

router = APIRouter(tags=["users"])


class PageQuery(Filters):
    """A page of the list."""

    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(
        None,
        pattern="^[A-Za-z0-9_-]+$",
        max_length=2000,
        description="From a `Link` header, with the other parameters as they are there.",
        json_schema_extra=without_null,
    )

    def link(self, relation: str, cursor: str | None) -> str:
        """Return one link of the `Link` header."""
        given = self.model_dump(mode="json", exclude_none=True, exclude_unset=True, exclude={"limit", "cursor"})
        given |= {"limit": self.limit} | ({"cursor": cursor} if cursor else {})
        if self.disabled is not None:
            given["disabled"] = "true" if self.disabled else "false"
        return f'</users?{urlencode(given)}>; rel="{relation}"'


@router.get(
    "/users",
    responses={
        200: {
            "headers": {
                "Link": {
                    "description": 'The first page, `rel="first"`, and the next, `rel="next"`, unless this is the'
                    " last (RFC 8288).",
                    "schema": {"type": "string"},
                }
            },
        },
        **problem_responses(Unauthorized, Forbidden, DatabaseUnavailable),
    },
)
async def list_users(
    _caller: Reader,
    session: SessionDep,
    cursors: CursorsDep,
    response: Response,
    query: Annotated[PageQuery, Query()],
) -> list[User]:
    """List accounts, by default in the order in which they were created."""
    bound_to = query.model_dump_json(include=set(Filters.model_fields))
    after = cursors.read(query.cursor, bound_to=bound_to) if query.cursor else None
    found, last = await listing.read_page(session, query, after=after, limit=query.limit)
    links = [query.link("first", None)]
    if last is not None:
        links.append(query.link("next", cursors.write(last, bound_to=bound_to)))
    response.headers["Link"] = ", ".join(links)
    return [User.model_validate(account) for account in found]
