"""What the gateway answers when a service does not, in the words of the path that was asked."""

from fastapi import Request
from fastapi.responses import JSONResponse
from servicekit.problem import Problem


class BadRequest(Problem):
    """The request cannot be passed on as it is."""

    status, title, slug = 400, "Bad request", "bad-request"


class BadGateway(Problem):
    """The service broke off before it answered."""

    status, title, slug = 502, "Bad gateway", "bad-gateway"


class GatewayTimeout(Problem):
    """The service did not answer in time."""

    status, title, slug = 504, "Gateway timeout", "gateway-timeout"


def oauth_error_response(problem: Problem, _request: Request) -> JSONResponse:
    """Render a problem for clients of OAuth endpoints (RFC 6749 section 5.2): they know no other form."""
    headers = {**problem.headers, "Cache-Control": "no-store"}
    status, code = problem.status, "invalid_request"
    if problem.status >= 500:
        status, code = 503, "temporarily_unavailable"
        headers.setdefault("Retry-After", "1")
    return JSONResponse({"error": code, "error_description": str(problem)}, status, headers)


def inference_protocol_error_response(problem: Problem, _request: Request) -> JSONResponse:
    """Render a problem for clients of the Open Inference Protocol."""
    return JSONResponse({"error": str(problem)}, problem.status, problem.headers)
