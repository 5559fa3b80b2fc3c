"""Routes whose endpoints are given the request alone: they answer, refuse and are documented as FastAPI's own."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from servicekit.direct import DirectRoute, Parameters
from servicekit.problem import Conflict, install_problem_handlers

_TRACE = "X-Trace"


class BoxParameters(Parameters):
    """One of each place."""

    name: Annotated[str, Field(max_length=3, description="Of the box."), "path"]
    size: Annotated[int, Field(ge=1, le=9)] = 2
    trace: Annotated[str | None, Field(alias=_TRACE), "header"] = None


def _app() -> FastAPI:
    """The same endpoint twice: as a direct route, and with arguments that FastAPI finds."""
    app = FastAPI()
    direct = APIRouter(prefix="/direct", route_class=DirectRoute)

    @direct.post("/{name}", openapi_extra={"parameters": BoxParameters.documented()})
    async def direct_box(request: Request) -> Response:
        asked = BoxParameters.of(request)
        if asked.name == "bad":
            raise Conflict("taken")
        return JSONResponse([asked.name, asked.size, asked.trace])

    found = APIRouter(prefix="/found")

    @found.post("/{name}")
    async def found_box(
        name: Annotated[str, Path(max_length=3, description="Of the box.")],
        size: Annotated[int, Query(ge=1, le=9)] = 2,
        trace: Annotated[str | None, Header(alias=_TRACE)] = None,
    ) -> Any:
        if name == "bad":
            raise Conflict("taken")
        return [name, size, trace]

    app.include_router(direct)
    app.include_router(found)
    install_problem_handlers(app)
    return app


async def _both(method: str, path: str, **options: Any) -> tuple[httpx.Response, httpx.Response]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(_app()), base_url="http://test") as client:
        direct = await client.request(method, f"/direct{path}", **options)
        return direct, await client.request(method, f"/found{path}", **options)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/a", {}, 200),
        ("POST", "/a?size=9&unknown=1", {_TRACE.lower(): "x"}, 200),
        ("POST", "/a?size=3&size=4", {}, 200),
        ("POST", "/long?size=0", {}, 422),
        ("POST", "/a?size=", {}, 422),
        ("POST", "/a?size=x", {}, 422),
        ("POST", "/bad", {}, 409),
        ("GET", "/a", {}, 405),
    ],
)
async def test_a_direct_route_answers_as_one_whose_arguments_are_found(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    direct, found = await _both(method, path, headers=headers)
    assert direct.status_code == found.status_code == status
    assert {**direct.json(), "instance": ""} == {**found.json(), "instance": ""} if status >= 400 else True
    assert status >= 400 or direct.json() == found.json()
    assert direct.headers.get("allow") == found.headers.get("allow")


def test_a_direct_route_is_documented_as_one_whose_arguments_are_found() -> None:
    paths = _app().openapi()["paths"]
    direct, found = (
        {parameter["name"]: parameter for parameter in paths[f"{prefix}/{{name}}"]["post"]["parameters"]}
        for prefix in ("/direct", "/found")
    )
    assert direct == found
    assert {parameter["in"] for parameter in direct.values()} == {"path", "query", "header"}
