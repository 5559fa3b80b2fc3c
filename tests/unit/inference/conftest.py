"""The service under test, with the real model or with small ones of our own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest
from inference_service.main import create_app
from inference_service.model import Model, ModelSource
from inference_service.settings import InferenceSettings
from inference_service.sources.builtin import EFFICIENTNET_LITE0, load_efficientnet_lite0

from tests.asgi import running
from tests.issuer import AUDIENCE, ISSUER, Issuer
from tests.unit.inference.networks import tiny_source

SCOPE = "inference:predict"


@pytest.fixture(scope="session")
def efficientnet() -> Model:
    """The built-in model, loaded once."""
    return load_efficientnet_lite0()


@pytest.fixture
def settings(issuer: Issuer) -> InferenceSettings:
    """Nothing is kept or searched for: most tests send the same picture again and again."""
    return InferenceSettings(
        auth_url=issuer.url,
        issuer=ISSUER,
        audience=AUDIENCE,
        compute_threads=1,
        decode_threads=2,
        cache_max_bytes=0,
        mode="eager",
    )


@pytest.fixture
def bearer(issuer: Issuer) -> Mapping[str, str]:
    return issuer.bearer(scope=SCOPE)


@asynccontextmanager
async def serving(settings: InferenceSettings, *sources: ModelSource) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a service whose models are loaded and whose keys are there."""
    async with running(create_app(settings, sources=sources)) as client:
        await until_ready(client)
        yield client


async def until_ready(client: httpx.AsyncClient) -> None:
    """Wait for the keys and the models, which are fetched and loaded behind the start."""
    async with asyncio.timeout(90):
        while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 its probe alone tells
            await asyncio.sleep(0.005)


@pytest.fixture
async def client(settings: InferenceSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A service with a tiny model."""
    async with serving(settings, tiny_source()) as client:
        yield client


@pytest.fixture
async def efficientnet_client(settings: InferenceSettings, efficientnet: Model) -> AsyncIterator[httpx.AsyncClient]:
    """A service with the built-in model."""
    source = ModelSource(EFFICIENTNET_LITE0.name, "1", EFFICIENTNET_LITE0.uri, load=lambda: efficientnet)
    async with serving(settings, source) as client:
        yield client
