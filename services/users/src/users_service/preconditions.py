"""Conditional requests (RFC 9110 section 13): nobody overwrites what they have not seen."""

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from pydantic.json_schema import SkipJsonSchema

from users_service.accounts import Condition
from users_service.dependencies import SettingsDep
from users_service.errors import PreconditionFailed, PreconditionRequired
from users_service.schemas import User
from users_service.tables import Account, DeletedAccount

_TAG = r'(W/)?"[\x21\x23-\x7e]*"'
_TAGS = rf"^(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)$"
_HEADER: dict[str, Any] = {"pattern": _TAGS, "max_length": 1000, "json_schema_extra": {"format": "entity-tags"}}

ETAG = {"ETag": {"description": "The version of the account, for `If-Match`.", "schema": {"type": "string"}}}
"""The headers of an answer that holds one account."""


def entity_tag(user: User) -> str:
    """Return the strong tag of an account: another one for each change."""
    # Of what is read, `updated_at` included: a service of the version before need not know of tags.
    digest = hashlib.sha256(user.model_dump_json().encode()).digest()
    return f'"{base64.urlsafe_b64encode(digest[:15]).decode("ascii")}"'


def tagged(account: Any, response: Response) -> User:
    """Return an account as it is read, and put its tag into the headers."""
    user = User.model_validate(account)
    response.headers["ETag"] = entity_tag(user)
    return user


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    200: {"headers": ETAG},
    304: {"description": "The account is as `If-None-Match` says.", "headers": ETAG},
}


async def get_condition(
    settings: SettingsDep,
    if_match: Annotated[
        str | SkipJsonSchema[None],
        Header(alias="If-Match", **_HEADER, description="The `ETag` that the account must still have; else 412."),
    ] = None,
) -> Condition:
    """Return the check of `If-Match`.

    Raises:
        PreconditionRequired: the settings ask for the header, and it is not there.
    """
    if if_match is None and settings.require_if_match:
        raise PreconditionRequired

    def check(account: Account | DeletedAccount) -> None:
        # A weak tag is never strongly equal: `W/` stays part of what is compared.
        if if_match not in {None, "*"} and entity_tag(User.model_validate(account)) not in _split(if_match):
            raise PreconditionFailed

    return check


async def is_known(
    if_none_match: Annotated[
        str | SkipJsonSchema[None],
        Header(alias="If-None-Match", **_HEADER, description="The `ETag` of what is known; 304 where it is still so."),
    ] = None,
) -> Callable[[str], bool]:
    """Return the check of `If-None-Match`, which compares weakly."""

    def check(tag: str) -> bool:
        return if_none_match is not None and (
            if_none_match == "*" or tag in {known.removeprefix("W/") for known in _split(if_none_match)}
        )

    return check


def conditional(account: Account, response: Response, is_known: Callable[[str], bool]) -> User | Response:
    """Return an account with its tag, or 304 where the caller has it as it is."""
    user = tagged(account, response)
    if is_known(response.headers["ETag"]):
        return Response(status_code=304, headers={"ETag": response.headers["ETag"]})
    return user


def _split(tags: str | None) -> set[str]:
    return {match[0] for match in re.finditer(_TAG, tags or "")}


ConditionDep = Annotated[Condition, Depends(get_condition)]
IsKnown = Annotated[Callable[[str], bool], Depends(is_known)]
