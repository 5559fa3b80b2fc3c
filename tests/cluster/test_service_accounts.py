"""The cluster as a judge: a pod signs in to auth by the token of its ServiceAccount, and by no other one."""

import json
from collections.abc import Iterator

import pytest

from tests.cluster.product import Product
from tests.cluster.releases import Object, apply

ACCOUNT = "nightly"
CLIENT = "nightly-report"
EXCHANGE = """
import pathlib, sys, time
import httpx

form = {
    "grant_type": "client_credentials",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    "client_assertion": pathlib.Path("/var/run/secrets/pinhole/token").read_text(),
}
with httpx.Client(transport=httpx.HTTPTransport(retries=7), timeout=60) as http:
    for _ in range(30):
        answer = http.post(sys.argv[1], data=form)
        if answer.status_code < 429:
            break
        time.sleep(2)
print(answer.text)
"""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def client(product: Product) -> Iterator[str]:
    """A client that proves itself by the ServiceAccount."""
    namespace = product.release.namespace
    body = {
        "id": CLIENT,
        "name": "Nightly report",
        "scopes": ["users:read"],
        "token_endpoint_auth_method": "private_key_jwt",
        "service_account": f"{namespace}:{ACCOUNT}",
    }
    for name in (ACCOUNT, "stranger"):
        metadata = {"name": name, "namespace": namespace}
        apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    with product.sign_in_as_administrator() as http:
        product.ask(lambda: http.post("/clients", json=body), status=201)
        yield CLIENT
        product.ask(lambda: http.delete(f"/clients/{CLIENT}"), status=204)


def pod(product: Product, account: str) -> Object:
    """Return a pod that asks for a token with the one that the kubelet has given it."""
    deployment = product.release.read("deployment", f"{product.release.name}-auth")["spec"]["template"]["spec"]
    container = deployment["containers"][0]
    token = {"serviceAccountToken": {"path": "token", "audience": product.origin, "expirationSeconds": 600}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{account}-exchange", "namespace": product.release.namespace},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": deployment["securityContext"],
            "volumes": [{"name": "token", "projected": {"sources": [token]}}],
            "containers": [
                {
                    "name": "exchange",
                    "image": container["image"],
                    "imagePullPolicy": container["imagePullPolicy"],
                    "securityContext": container["securityContext"],
                    "command": ["python", "-c", EXCHANGE, f"http://{product.release.name}-auth/token"],
                    "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/pinhole", "readOnly": True}],
                }
            ],
        },
    }


def exchange(product: Product, account: str) -> Object:
    """Return what auth answers to a pod of this ServiceAccount."""
    asking = pod(product, account)
    name = asking["metadata"]["name"]
    apply(asking)
    try:
        product.release.until(
            "the pod has ended",
            lambda: product.release.read("pod", name)["status"]["phase"] in {"Succeeded", "Failed"} or None,
            seconds=300,
        )
        answer: Object = json.loads(product.release.kubectl("logs", name))
        return answer
    finally:
        product.release.kubectl("delete", "pod", name, "--wait=false")


def test_a_pod_gets_a_token_for_that_of_its_service_account(product: Product, client: str) -> None:
    token = exchange(product, ACCOUNT)["access_token"]
    with product.http(token) as http:
        users = product.ask(lambda: http.get("/users")).json()
        product.ask(lambda: http.post("/predict", content=b"", headers={"Content-Type": "image/png"}), status=403)
    assert "admin" in {user["username"] for user in users}


def test_a_pod_of_another_service_account_gets_none(product: Product, client: str) -> None:
    assert exchange(product, "stranger")["error"] == "invalid_client"


@pytest.mark.parametrize("audience", ["https://elsewhere.example", None])
def test_a_token_that_is_for_somebody_else_is_not_taken(product: Product, client: str, audience: str | None) -> None:
    audiences = [f"--audience={audience}"] if audience else []
    token = product.release.kubectl("create", "token", ACCOUNT, "--duration=10m", *audiences).strip()
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": token,
    }
    with product.http() as http:
        answer = product.ask(lambda: http.post("/token", data=form), status=401)
    assert answer.json()["error"] == "invalid_client"
