"""Some of everything that Pinhole does and refuses, so that each of its metrics has something to tell."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
from inference_service.oip import protocol_pb2 as pb

from tests.e2e.conftest import DATA, Pinhole, register_client, started
from tests.eventually import eventually
from tests.otlp import receiving

KILROY = "kilroy"
"""Stands wherever a caller writes what it likes, and must be in no label."""

MODELS = """
models:
  - name: efficientnet-lite0
    version: 1
    source: builtin:efficientnet-lite0
  - name: efficientnet-lite0
    version: 2
    source: builtin:efficientnet-lite0
    mode: eager
    shadow: 100
"""
"""A model with a shadow. Which mode of the first one is the fastest is searched for."""


@contextmanager
def measured_product(folder: Path) -> Iterator[Pinhole]:
    """Run a product that does all that is measured: with traces, gRPC, a shadow and a search for the fastest mode."""
    models = folder / "models.yaml"
    models.write_text(MODELS)
    with (
        receiving() as receiver,
        started(
            folder / "data",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            INFERENCE_MODELS_FILE=str(models),
            INFERENCE_MODES_DIR=str(folder / "modes"),
            INFERENCE_MODE_SEARCH_SECONDS="5",
        ) as running,
    ):
        yield running


def make_traffic(pinhole: Pinhole) -> None:
    """Sign in and be refused, ask for tokens and pictures in all ways, and send what nobody expects."""
    with pinhole.admin() as admin:
        _ask_for_tokens(pinhole, admin)
        _use_accounts(pinhole, admin)
        _ask_about_pictures(admin)
    _call_over_grpc(pinhole)
    for service in ("gateway", "auth", "users", "inference"):
        httpx.request("KILROY", f"{pinhole.service_url(service)}/{KILROY}", timeout=30)


def _ask_for_tokens(pinhole: Pinhole, admin: httpx.Client) -> None:
    def ask(**form: str) -> httpx.Response:
        return httpx.post(f"{pinhole.url}/token", data=form, timeout=30)

    def refresh(refresh_token: str) -> httpx.Response:
        return ask(grant_type="refresh_token", refresh_token=refresh_token)

    signed_in = ask(grant_type="password", username=pinhole.admin_username, password=pinhole.admin_password).json()
    second = refresh(signed_in["refresh_token"]).json()
    refresh(second["refresh_token"])
    assert refresh(signed_in["refresh_token"]).status_code == 400, "it has been used, and so has its successor"
    while ask(grant_type="password", username=KILROY, password=KILROY).status_code != 429:
        pass
    ask(grant_type=KILROY, username=KILROY)
    ask(username=KILROY)
    secret = register_client(admin, "metrics-reader", "client_secret_post")
    own = ask(grant_type="client_credentials", client_id="metrics-reader", client_secret=secret)
    assert own.status_code == 200, own.text
    httpx.get(f"{pinhole.url}/users/me", headers={"Authorization": f"Bearer {KILROY}"}, timeout=30)


def _use_accounts(pinhole: Pinhole, admin: httpx.Client) -> None:
    pinhole.sign_up(f"{KILROY}2").close()  # the first one is locked
    assert admin.get("/users/me").status_code == 200
    assert admin.get("/users", params={"search": KILROY}).status_code in {200, 422}
    assert admin.get(f"/users/{KILROY}").status_code in {404, 422}


def _ask_about_pictures(admin: httpx.Client) -> None:
    picture, png = (DATA / "chelsea.png").read_bytes(), {"Content-Type": "image/png", "X-Request-Timeout": "120"}
    for _ in range(2):  # the second time it is in the cache
        response = admin.post("/predict", content=picture, headers=png, timeout=150)
        assert response.status_code == 200, response.text
    assert admin.post("/explain", content=picture, headers=png, timeout=150).status_code == 200
    assert (
        admin.post("/predict", params={"model": KILROY}, content=picture, headers=png, timeout=150).status_code == 404
    )
    assert admin.post("/predict", content=b"GIF89a kilroy", headers={"Content-Type": "image/gif"}).status_code == 422
    assert admin.get(f"/models/{KILROY}").status_code == 404
    hurried = {"Content-Type": "image/png", "X-Request-Timeout": "0.001"}
    assert admin.post("/predict", content=(DATA / "coffee.png").read_bytes(), headers=hurried).status_code in {503, 504}


def _call_over_grpc(pinhole: Pinhole) -> None:
    token = pinhole.token(pinhole.admin_username, pinhole.admin_password)
    with grpc.insecure_channel(f"127.0.0.1:{pinhole.port + 4}") as channel:

        def call(method: str) -> grpc.StatusCode:
            ask = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                request_serializer=pb.ModelReadyRequest.SerializeToString,
                response_deserializer=pb.ModelReadyResponse.FromString,
            )
            request = pb.ModelReadyRequest(name="efficientnet-lite0" if method == "ModelReady" else KILROY)
            return ask.future(request, metadata=(("authorization", f"Bearer {token}"),), timeout=30).code()

        assert call("ModelReady") == grpc.StatusCode.OK
        assert call("ModelMetadata") == grpc.StatusCode.NOT_FOUND
        assert call(KILROY) == grpc.StatusCode.UNIMPLEMENTED


async def until_searched(pinhole: Pinhole) -> None:
    """Wait until the search for the fastest mode has measured something, and the shadow has answered."""

    async def is_done() -> bool:
        async with httpx.AsyncClient(timeout=30) as client:
            text = (await client.get(f"{pinhole.service_url('inference')}/metrics")).text
        return "inference_model_images_per_second{" in text and "inference_shadow_comparisons_total{" in text

    await eventually(is_done, within_seconds=250)  # a search takes a minute and more where others have the cores
