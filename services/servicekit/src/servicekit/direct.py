"""Routes whose endpoints are given the request and nothing else, for paths where each tenth of a millisecond counts.

FastAPI finds the arguments of an endpoint anew for each request, and checks what it returns: a quarter of what the
event loop spends on a small request. Endpoints here read what they need themselves, and say for OpenAPI what that is.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.types import Receive, Scope, Send

Place = Literal["path", "query", "header"]


class DirectRoute(APIRoute):
    """Calls its endpoint with the request, and sends the response that it returns."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; FastAPI refuses other methods."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class Parameters(BaseModel):
    """What a request says beside its body, each under the name that it has there.

    A field is in the query where its metadata do not name another place: `Annotated[str, "path"]`.
    """

    model_config = ConfigDict(frozen=True)

    _places: ClassVar[Mapping[str, Place]]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._places = {
            field.alias or name: next((mark for mark in field.metadata if mark in get_args(Place)), "query")
            for name, field in cls.model_fields.items()
        }

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return those of `request`.

        Raises:
            RequestValidationError: one is missing or not valid, as where FastAPI reads them.
        """
        found: dict[Place, Mapping[str, str]] = {
            "path": request.path_params,
            "query": request.query_params,
            "header": request.headers,
        }
        values = {name: found[place][name] for name, place in cls._places.items() if name in found[place]}
        try:
            return cls.model_validate(values)
        except ValidationError as invalid:
            errors = [
                {**error, "loc": (cls._places[str(error["loc"][0])], *error["loc"])} for error in invalid.errors()
            ]
            raise RequestValidationError(errors) from None

    @classmethod
    def documented(cls) -> list[dict[str, Any]]:
        """Return the `parameters` of an operation in OpenAPI: of its path, then of its query, then of its header."""
        schema = cls.model_json_schema()
        required = schema.get("required", ())
        documented = []
        for name in sorted(schema["properties"], key=lambda name: get_args(Place).index(cls._places[name])):
            of_it = schema["properties"][name]
            if of_it.get("default", ...) is None:
                del of_it["default"]  # to leave it out is valid, to say null is not
            parameter = {"name": name, "in": cls._places[name], "required": name in required, "schema": of_it}
            if "description" in of_it:
                parameter["description"] = of_it["description"]
            documented.append(parameter)
        return documented
