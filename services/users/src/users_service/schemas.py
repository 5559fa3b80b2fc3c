"""What travels over HTTP."""

from datetime import datetime
from typing import Annotated, Any, cast
from uuid import UUID

from pydantic import MISSING, BaseModel, BeforeValidator, ConfigDict, Field, Secret

from users_service.accounts import Changes
from users_service.identifiers import Email, Username
from users_service.passwords import NewPassword
from users_service.tables import EventType, Role

FullName = Annotated[
    str,
    Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="No control characters.", examples=["John Doe"]),
]
Disabled = Annotated[bool, Field(description="Nobody can sign in. Administrators alone set it.")]
Roles = Annotated[
    list[Role],
    Field(max_length=10, description="A set: order and repetition mean nothing. Administrators alone set it."),
]
# As typed into a form: more than any name or password can have, and answered as a wrong one.
TypedText = Annotated[str, Field(max_length=1024)]
Ignored = Annotated[Any, Field(description="Ignored. It is taken so that what was read can be sent back.")]


class User(BaseModel):
    """An account, as it is read."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    username: str
    email: str
    full_name: str | None
    disabled: bool
    roles: list[Role]
    created_at: datetime
    updated_at: datetime


class _WrittenUser(BaseModel):
    """Fields that a caller sends; one that is neither declared nor `Ignored` is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    disabled: Disabled | MISSING = MISSING
    roles: Roles | MISSING = MISSING
    id: Ignored = MISSING
    created_at: Ignored = MISSING
    updated_at: Ignored = MISSING

    def changes(self) -> Changes:
        """Return the fields of the account that this sets."""
        return cast(Changes, self.model_dump(include=set(Changes.__annotations__)))


class NewUser(_WrittenUser):
    """An account to create."""

    username: Username
    email: Email
    full_name: FullName | None = None
    password: Secret[NewPassword] | None = Field(
        None, description="An administrator may leave it out: nobody can sign in until one is set."
    )


class UserReplacement(_WrittenUser):
    """The whole account as it shall be; `disabled` and `roles` stay where they are left out."""

    username: Username
    email: Email
    full_name: FullName | None = None


class UserPatch(_WrittenUser):
    """A merge patch (RFC 7396): the members that are given replace those of the account."""

    username: Username | MISSING = MISSING
    email: Email | MISSING = MISSING
    full_name: FullName | MISSING | None = MISSING


MERGE_PATCH = {
    "requestBody": {
        "content": {"application/merge-patch+json": {"schema": {"$ref": "#/components/schemas/UserPatch"}}},
    }
}
"""Adds the media type of RFC 7396 to an operation that takes a `UserPatch` as `application/json`."""


class OwnEvent(BaseModel):
    """Something that happened to the caller's account."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    type: EventType
    details: dict[str, Any] = Field(
        description="Names of changed fields; roles and `disabled` after the change; the session that it came from."
    )


class Event(OwnEvent):
    """Something that happened to an account. It holds ids, and nothing personal."""

    sequence: int = Field(description="Counts up from 1, without a gap.")
    account_id: UUID
    actor: str | None = Field(description="The subject of the token that did it; null for a sign-up or the service.")
    hash: Annotated[str, BeforeValidator(bytes.hex)] = Field(
        description="SHA-256 over the event and the hash of the one before, in hexadecimal."
    )


class EventPage(BaseModel):
    """Events for who follows them without a pause."""

    events: list[Event]
    last: int = Field(description="The number of the last event there is, on this page or behind it.")


class Export(BaseModel):
    """All that is kept of an account."""

    account: User
    has_password: bool
    events: list[OwnEvent]


class PasswordChange(BaseModel):
    """A new password, by who knows the old one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    current_password: Secret[Annotated[TypedText, Field(json_schema_extra={"format": "password", "writeOnly": True})]]
    new_password: Secret[NewPassword]


class PasswordReset(BaseModel):
    """A new password, by an administrator."""

    model_config = ConfigDict(extra="forbid", strict=True)

    new_password: Secret[NewPassword]


class Credentials(BaseModel):
    """What somebody signs in with."""

    username: TypedText = Field(description="User name or e-mail address.")
    password: Secret[TypedText]
    address: str = Field("", max_length=256, description="Where somebody signs in from: attempts are counted by it.")


class Identity(BaseModel):
    """What a token is issued for."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    roles: list[Role]


class SignedIn(Identity):
    """Whose credentials are right."""

    last_event: int = Field(description="The number of the last event before the account was read.")


class Verification(BaseModel):
    """The outcome of a sign-in: an account, or null for any reason not to let somebody in."""

    account: SignedIn | None
