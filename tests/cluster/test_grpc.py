"""gRPC from outside: Triton's own client reaches the model by TLS through an ingress, and through a gateway."""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.certificates import Authority
from tests.cluster.product import INGRESS, PICTURE, TIGER_CAT, Product
from tests.cluster.releases import ROOT, Release, apply, needs, read, release, run
from tests.cluster.test_routes import gateways

NAME = "pinhole-grpc"
CERTIFICATE = "certificate-of-ours"
PYTHON = ROOT / ".venv-clients/bin/python"
CALL = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

address, host, authority, call, token, picture = sys.argv[1:]
names = ("grpc.ssl_target_name_override", "grpc.default_authority")
options = [(name, host) for name in names[not authority:]] + [("grpc.max_send_message_length", -1)]
client = triton.InferenceServerClient(
    address, ssl=bool(authority), root_certificates=authority or None, channel_args=options
)
headers = {"authorization": f"Bearer {token}"} if token else {}
best = triton.InferRequestedOutput("probabilities", class_count=1)


def infer(shape, datatype, values):
    image = triton.InferInput("image", list(shape), datatype)
    image.set_data_from_numpy(values)
    return client.infer("efficientnet-lite0", [image], outputs=[best], headers=headers).as_numpy("probabilities")


def many(count):
    shape = (count, 3, 224, 224)
    return len(infer(shape, "FP32", np.zeros(shape, np.float32)))


calls = {
    "ready": lambda: client.is_server_ready(),
    "picture": lambda: infer((1, 1), "BYTES", np.array([[open(picture, "rb").read()]], np.object_)).item().decode(),
    "large": lambda: many(40),
    "too large": lambda: many(60),
}
try:
    print(json.dumps({"answer": calls[call]()}))
except InferenceServerException as error:
    print(json.dumps({"status": error.status(), "message": error.message()}))
"""
"""A call of Triton's client, in the environment that has it. A message of 40 items has 24 MB, one of 60 has 36."""

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Way:
    """A way in: where it answers, its host, and the file of who has signed its certificate, if it speaks TLS."""

    release: Release
    address: str
    host: str
    authority: str = ""

    def call(self, call: str, http: httpx.Client | None = None) -> Any:
        """Return what came of a call with the token of somebody, or of nobody."""
        token = http.headers["Authorization"].removeprefix("Bearer ") if http else ""
        arguments = (self.address, self.host, self.authority, call, token, str(PICTURE))
        return json.loads(run(str(PYTHON), "-c", CALL, *arguments, timeout=120))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def installed(product: Product, authority: Authority) -> Iterator[Release]:
    """Inference by itself, which takes the tokens of the other release."""
    needs(bool(read("ingressclasses")["items"]), "ingress controller")
    parents = [{key: found["metadata"][key] for key in ("name", "namespace")} for found in gateways()]
    issuer = product.release
    with release(NAME) as found:
        certificate, key = (base64.b64encode(part).decode() for part in authority.issue(f"{NAME}.localhost"))
        metadata = {"name": CERTIFICATE, "namespace": found.namespace}
        data = {"tls.crt": certificate, "tls.key": key}
        apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data})
        found.install(
            {
                "global": {"publicUrl": f"https://{NAME}.localhost"},
                "auth": {"enabled": False},
                "users": {"enabled": False},
                "postgresql": {"enabled": False},
                "inference": {
                    "replicaCount": 1,
                    "resources": {"requests": {"cpu": "100m"}},
                    "authUrl": f"http://{issuer.name}-auth.{issuer.namespace}.svc",
                    "config": {"issuer": product.origin, "requestTimeoutSeconds": 60, "canarySeconds": 60},
                    "grpc": {"enabled": True},
                },
                "ingress": {
                    "tls": {"secretName": CERTIFICATE},
                    "grpc": {"host": f"{NAME}.localhost", "tls": {"secretName": CERTIFICATE}},
                },
                "httpRoute": {
                    "enabled": bool(parents),
                    "parentRefs": parents[:1],
                    "grpc": {"host": f"gateway.{NAME}.localhost"},
                },
            }
        )
        yield found


@pytest.fixture(scope="module", params=["ingress", "gateway"])
def way(
    request: pytest.FixtureRequest, installed: Release, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Way:
    if request.param == "ingress":
        url = urlsplit(os.environ.get("E2E_INGRESS_TLS", "https://127.0.0.1:8443"))
        trusted = authority.written(tmp_path_factory.mktemp("authority"))
        found = Way(installed, url.netloc, f"{NAME}.localhost", str(trusted))
    else:
        needs(bool(gateways()), "Gateway of the Gateway API (the add-on `gateway`)")
        found = Way(installed, urlsplit(INGRESS).netloc, f"gateway.{NAME}.localhost")
    installed.until("an answer over gRPC", lambda: found.call("ready") == {"answer": True} or None)
    return found


def test_a_user_gets_the_prediction_of_a_picture(way: Way, ada: httpx.Client) -> None:
    assert way.call("picture", ada)["answer"].split(":")[1] == str(TIGER_CAT)


def test_nobody_gets_a_prediction_without_a_token(way: Way) -> None:
    assert way.call("picture")["status"] == "StatusCode.UNAUTHENTICATED"


def test_a_large_message_comes_through_and_one_that_is_too_large_is_refused_by_the_service(
    way: Way, ada: httpx.Client
) -> None:
    assert way.call("large", ada) == {"answer": 40}
    assert way.call("too large", ada)["status"] == "StatusCode.RESOURCE_EXHAUSTED"
