"""OAuth endpoints take POST only, and say so in OAuth's form."""

from fastapi import APIRouter

from auth_service.errors import MethodNotAllowed

_OTHER_METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def refuse_other_methods(router: APIRouter, path: str) -> None:
    """Answer every method of `path` but POST."""
    router.add_api_route(path, _refuse, methods=_OTHER_METHODS, include_in_schema=False)


async def _refuse() -> None:
    raise MethodNotAllowed("this endpoint takes POST only")
