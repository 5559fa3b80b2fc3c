"""What can go wrong here, as the caller is told."""

from collections.abc import Iterable

from servicekit.problem import (
    Conflict,
    FieldError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Problem,
    ServiceUnavailable,
    Unauthorized,
)


class MalformedBody(Problem):
    """The body could not be read as JSON text."""

    status, title, slug = 400, "Bad Request", "bad-request"


class AccountGone(Unauthorized):
    """The account of the token was deleted or disabled, or the token is a client's own."""

    def __init__(self) -> None:
        super().__init__("the token has no account that can be used", error="invalid_token")


class MissingScope(Forbidden):
    """The token lacks a scope."""

    def __init__(self, scope: str) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        super().__init__(f"missing scope: {scope}", headers={"WWW-Authenticate": challenge})


class FieldForbidden(Forbidden):
    """A field was given that only an administrator may set."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"only an administrator may set {field}",
            errors=[FieldError(field=f"body.{field}", detail="is for administrators")],
        )


class ScopeExceeded(Forbidden):
    """It is about an administrator, who may do what the caller may not."""

    title, slug = "Scope exceeded", "scope-exceeded"

    def __init__(self, missing: Iterable[str]) -> None:
        scopes = " ".join(sorted(missing))
        challenge = f'Bearer error="insufficient_scope", scope="{scopes}"'
        super().__init__(
            f"an administrator has scopes that you lack: {scopes}", headers={"WWW-Authenticate": challenge}
        )


class WrongPassword(Forbidden):
    """The current password is not right."""

    title, slug = "Wrong password", "wrong-password"

    def __init__(self) -> None:
        super().__init__(
            "the current password is not right",
            errors=[FieldError(field="body.current_password", detail="is not right")],
        )


class UserNotFound(NotFound):
    """No such account, or none that the caller may know of."""

    title, slug = "User not found", "user-not-found"

    def __init__(self) -> None:
        super().__init__("User not found")


class WeakPassword(InvalidRequest):
    """The new password is easy to guess."""

    title, slug = "Weak password", "weak-password"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"the password {reason}", errors=[FieldError(field=field, detail=reason)])


class InvalidCursor(InvalidRequest):
    """The cursor is not one that a `Link` header of this list has held."""

    def __init__(self) -> None:
        super().__init__(
            "the cursor is not of this list",
            errors=[FieldError(field="query.cursor", detail="is not of this list: take it from a Link header")],
        )


class PreconditionFailed(Problem):
    """The account is not the one that `If-Match` names: somebody has changed it since."""

    status, title, slug = 412, "Precondition failed", "precondition-failed"

    def __init__(self) -> None:
        super().__init__("the account was changed since it was read: read it again")


class PreconditionRequired(Problem):
    """A change needs `If-Match` here."""

    status, title, slug = 428, "Precondition required", "precondition-required"

    def __init__(self) -> None:
        super().__init__("send If-Match with the ETag of the account")


class IdempotencyKeyReused(Conflict):
    """The `Idempotency-Key` has created another account, or one that was deleted or changed since."""

    title, slug = "Idempotency key reused", "idempotency-key-reused"

    def __init__(self) -> None:
        super().__init__(
            "the key was used for another account, or for one that was deleted or changed since",
            errors=[FieldError(field="header.Idempotency-Key", detail="was used before")],
        )


class MethodNotAllowed(Problem):
    """The path does not answer this method."""

    status, title, slug = 405, "Method Not Allowed", "method-not-allowed"


class AccountExists(Conflict):
    """Another account has this user name or e-mail address."""

    title, slug = "Account exists", "account-exists"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is taken", errors=[FieldError(field=f"body.{field}", detail="is taken")])


class LastAdministrator(Conflict):
    """The last enabled administrator cannot be deleted, disabled or demoted."""

    title, slug = "Last administrator", "last-administrator"

    def __init__(self) -> None:
        super().__init__("there is no other enabled administrator")


class TooManyAttempts(Problem):
    """The password was tried too often, or too many were tried from this address; nothing was computed."""

    status, title, slug = 429, "Too many attempts", "too-many-attempts"

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__("too many attempts at passwords", headers={"Retry-After": str(retry_after_seconds)})


class TooManySignUps(Problem):
    """Too many accounts were created from this address."""

    status, title, slug = 429, "Too many sign-ups", "too-many-sign-ups"

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__("too many sign-ups from this address", headers={"Retry-After": str(retry_after_seconds)})


class Overloaded(ServiceUnavailable):
    """Too many passwords wait to be hashed; nothing was done."""

    title, slug = "Overloaded", "overloaded"

    def __init__(self) -> None:
        super().__init__("too many passwords wait to be hashed")
