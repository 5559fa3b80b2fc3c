"""Errors in the words of the inference protocol: `{"error": "..."}`, with the statuses that Triton gives."""

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, ValidationError
from servicekit.problem import Problem, problem_response

PREFIX = "/v2"

_BAD_REQUEST = (415, 422)
"""What problem details tell apart, Triton does not."""


class InferenceError(BaseModel):
    """The body of every error."""

    error: str = Field(description="What is wrong, for people.")


class BadRequest(Problem):
    """The request is not one of the protocol, or does not fit the model."""

    status, title, slug = 400, "Bad request", "bad-request"


class UnknownEncoding(Problem):
    """The body is compressed in a way that is not known here."""

    status, title, slug = 501, "Unknown encoding", "unknown-encoding"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Accept-Encoding": "gzip, deflate"})


def error_response(problem: Problem, request: Request) -> Response:
    """Render a problem: on the paths of the protocol in its words, else as problem details."""
    path = request.url.path
    if path != PREFIX and not path.startswith(f"{PREFIX}/"):
        return problem_response(problem, request)
    return JSONResponse({"error": message(problem)}, status(problem), problem.headers)


def status(problem: Problem | type[Problem]) -> int:
    """Return the HTTP status that Triton gives for such a problem."""
    return 400 if problem.status in _BAD_REQUEST else problem.status


def message(problem: Problem) -> str:
    """Return one line with each field that is wrong."""
    fields = "; ".join(f"{error.field}: {error.detail}" for error in problem.errors)
    return f"{problem}: {fields}" if fields else str(problem)


def first_error(error: ValidationError) -> str:
    """Return one line on the first thing that is wrong with a body."""
    [found, *_] = error.errors(include_url=False, include_input=False, include_context=False)
    place = ".".join(map(str, found["loc"]))
    return f"{place}: {found['msg']}" if place else found["msg"]


def error_responses(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Describe `problems` for the `responses` of a route: one entry a status, a line a kind."""
    kinds: dict[int, list[type[Problem]]] = {}
    for problem in problems:
        kinds.setdefault(status(problem), []).append(problem)
    described: dict[int | str, dict[str, Any]] = {
        code: {"model": InferenceError, "description": "\n\n".join((p.__doc__ or "").splitlines()[0] for p in same)}
        for code, same in sorted(kinds.items())
    }
    # It also keeps FastAPI from adding a 422, which is a 400 here.
    described["default"] = {"model": InferenceError, "description": "Any other error."}
    return described
