"""The web page, and the page that shows the APIs of all services."""

from pathlib import Path

from fastapi import APIRouter, Request, Response

from inference_service.assets import AssetFolder

_PACKAGE = Path(__file__).parent.parent


def pages_router() -> APIRouter:
    """Return `/` with its files under `/static/`, and `/docs` with its files under `/docs/assets/`."""
    router = APIRouter(include_in_schema=False)
    web = AssetFolder(directory=_PACKAGE / "web")
    # fastapi-offline carries the files of Swagger UI.
    docs = AssetFolder(directory=_PACKAGE / "docs_page", packages=[("fastapi_offline", "static")])

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return await web.get_response("index.html", request.scope)

    @router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
    async def web_file(path: str, request: Request) -> Response:
        return await web.get_response(path, request.scope)

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def docs_page(request: Request) -> Response:
        return await docs.get_response("index.html", request.scope)

    @router.api_route("/docs/assets/{path:path}", methods=["GET", "HEAD"])
    async def docs_file(path: str, request: Request) -> Response:
        return await docs.get_response(path, request.scope)

    return router
