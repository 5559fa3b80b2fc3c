"""An application that tells its callers what it takes them for."""

from fastapi import FastAPI, Request


def echoing() -> FastAPI:
    """Return one that answers with the address of the caller."""
    app = FastAPI()

    @app.post("/")
    async def tell_address(request: Request) -> str | None:
        return request.client and request.client.host

    return app
