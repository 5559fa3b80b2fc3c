"""Errors on the wire: problem details, `application/problem+json` (RFC 9457)."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:pinhole:problem:"
MAX_FIELD_ERRORS = 20
"""A body may be wrong in thousands of places: an answer that names each is many times as long."""


class FieldError(BaseModel):
    """One field of the request that was refused."""

    field: str = Field(description="Where it is, as in `body.email` or `query.top_k`.")
    detail: str = Field(description="What was expected.")


class ProblemDetails(BaseModel):
    """The body of every error."""

    type: str = Field(description="A stable identifier of the kind of problem.")
    title: str
    status: int
    detail: str | None = None
    instance: str = Field(description="The path of the request.")
    errors: list[FieldError] | None = Field(None, description=f"What is wrong: the first {MAX_FIELD_ERRORS} of it.")


class Problem(Exception):
    """An error that the caller is told of. A subclass is one kind, with a stable `slug`."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal server error"
    slug: ClassVar[str] = "internal"

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors)


class Unauthorized(Problem):
    """Who the caller is was not proven."""

    status, title, slug = 401, "Unauthorized", "unauthorized"

    def __init__(self, detail: str, *, error: str | None = None) -> None:
        """`error` is the code of RFC 6750 section 3.1; it is left out where no token was sent."""
        challenge = "Bearer" if error is None else f'Bearer error="{error}"'
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class Forbidden(Problem):
    """The caller is known, and is not allowed to do this."""

    status, title, slug = 403, "Forbidden", "forbidden"


class NotFound(Problem):
    """No such path or resource."""

    status, title, slug = 404, "Not found", "not-found"


class BodyTooSlow(Problem):
    """The body did not come in time; the rest of it is not read and the connection is closed."""

    status, title, slug = 408, "Request timeout", "body-too-slow"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class Conflict(Problem):
    """The request contradicts what is stored."""

    status, title, slug = 409, "Conflict", "conflict"


class ContentTooLarge(Problem):
    """The body passes the limit; the rest of it is not read and the connection is closed."""

    status, title, slug = 413, "Content too large", "content-too-large"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class UnsupportedMediaType(Problem):
    """The body is of a type that this path does not take."""

    status, title, slug = 415, "Unsupported media type", "unsupported-media-type"


class InvalidRequest(Problem):
    """The request is well formed, and a field of it is not valid."""

    status, title, slug = 422, "Invalid request", "invalid-request"


class ServiceUnavailable(Problem):
    """This service, or one that it needs, cannot answer now."""

    status, title, slug = 503, "Service unavailable", "service-unavailable"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


def problem_responses(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Describe `problems` for the `responses` of a route: one entry a status, a line a kind."""
    kinds: dict[int, list[type[Problem]]] = {}
    for problem in problems:
        kinds.setdefault(problem.status, []).append(problem)
    return {
        status: {
            "description": "\n\n".join((kind.__doc__ or kind.title).splitlines()[0] for kind in same),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status, same in sorted(kinds.items())
    }


def problem_response(problem: Problem, request: Request) -> JSONResponse:
    """Render one problem."""
    details = ProblemDetails(
        type=TYPE_PREFIX + problem.slug,
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=request.url.path,
        errors=problem.errors or None,
    )
    return JSONResponse(
        details.model_dump(exclude_none=True),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


ErrorResponse = Callable[[Problem, Request], Response]
"""Renders a problem in the words of the path that was asked."""


def install_problem_handlers(app: FastAPI, error_response: ErrorResponse = problem_response) -> None:
    """Make every error that leaves `app` a problem: ours, FastAPI's and Starlette's."""

    async def on_problem(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, Problem)
        return error_response(problem, request)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(InvalidRequest("the request is not valid", errors=_field_errors(error)), request)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, Problem):  # FastAPI makes a 400 of all that breaks the reading of a body
            return error_response(error.__cause__, request)
        return error_response(_from_status(app, request, error), request)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)


def document_problems(schema: dict[str, Any]) -> None:
    """Put `ProblemDetails` into an OpenAPI document, in place of FastAPI's own error schemas."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    details = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(details.pop("$defs"))
    schemas["ProblemDetails"] = details
    invalid = problem_responses(InvalidRequest)[422]
    for path in schema.get("paths", {}).values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                operation["responses"]["422"] = invalid


def _field_errors(error: RequestValidationError) -> list[FieldError]:
    return [
        # Pydantic puts its own words before those of a validator.
        FieldError(field=".".join(str(part) for part in e["loc"]), detail=e["msg"].removeprefix("Value error, "))
        for e in error.errors()[:MAX_FIELD_ERRORS]
    ]


def _from_status(app: FastAPI, request: Request, error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return NotFound("no such path")
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(app, request, headers.get("Allow", "")))
    status = HTTPStatus(error.status_code)
    kind = type(
        "HttpProblem",
        (Problem,),
        {"status": status.value, "title": status.phrase, "slug": status.phrase.lower().replace(" ", "-")},
    )
    problem: Problem = kind(str(error.detail) if status < 500 else None, headers=headers)
    return problem


def _allowed_methods(app: FastAPI, request: Request, first: str) -> list[str]:
    """List every method of the path; Starlette names those of the `first` matching route only."""
    path = getattr(request.scope.get("route"), "path", None)
    methods = {method.upper() for method in app.openapi()["paths"].get(path, {})} or set(first.split(", "))
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)
