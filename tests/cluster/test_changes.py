"""What changes a running release: rollouts, lost pods, upgrades and rollbacks. No request fails for it."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.cluster.conftest import HOST, VALUES_DEV, values
from tests.cluster.product import Product, predict
from tests.cluster.traffic import Traffic, traffic

pytestmark = pytest.mark.timeout(1500)

Sender = Callable[[], httpx.Response]
SERVICES = ("auth", "users", "inference")


def senders(ada: httpx.Client) -> dict[str, list[Sender]]:
    """Return who asks each service: what needs no state, its database, and what it is there for."""
    return {
        "auth": [lambda: ada.get("/.well-known/jwks.json"), lambda: ada.get("/sessions")],
        "users": [lambda: ada.get("/users/me"), lambda: ada.patch("/users/me", json={"full_name": "Ada"})],
        "inference": [lambda: ada.get("/models"), lambda: predict(ada), lambda: predict(ada)],
    }


@pytest.fixture
def asked(product: Product, ada: httpx.Client) -> Iterator[Traffic]:
    """All services are asked all the time."""
    for service in SERVICES:
        product.wait_for(service)
    with traffic(*(sender for each in senders(ada).values() for sender in each)) as seen:
        yield seen


def names(product: Product) -> set[str]:
    """Return the names of all pods of the services."""
    return {pod["metadata"]["name"] for service in SERVICES for pod in product.release.pods(service)}


def test_a_rolling_update_of_each_service_fails_no_request(product: Product, asked: Traffic) -> None:
    began = time.monotonic()
    before = names(product)
    deployments = [f"deployment/{product.release.name}-{service}" for service in SERVICES]
    product.release.kubectl("rollout", "restart", *deployments)
    for service in SERVICES:
        product.wait_for(service)
    asked.wait_for_more()
    assert before.isdisjoint(names(product))
    assert asked.failed == [], asked.since(began)


def test_the_deletion_of_a_pod_of_each_service_fails_no_request(product: Product, asked: Traffic) -> None:
    began = time.monotonic()
    lost = [product.release.pods(service)[0]["metadata"]["name"] for service in SERVICES]
    product.release.kubectl("delete", "pod", *lost, "--wait", "--timeout=300s")
    for service in SERVICES:
        product.wait_for(service)
    asked.wait_for_more()
    assert names(product).isdisjoint(lost)
    assert asked.failed == [], asked.since(began)


def test_an_upgrade_and_its_rollback_fail_no_request_and_keep_what_was_generated(
    product: Product, asked: Traffic
) -> None:
    def levels() -> set[str]:
        names = [f"{product.release.name}-{service}" for service in SERVICES]
        return {product.release.read("configmap", name)["data"]["LOG_LEVEL"] for name in names}

    began = time.monotonic()
    password = product.secret("users", "admin-password")
    changed = values(HOST)
    for service in SERVICES:
        changed[service] |= {"logLevel": "WARNING", "podLabels": {"changed": "yes"}}
    product.release.install(changed, VALUES_DEV)
    assert levels() == {"WARNING"}
    assert product.secret("users", "admin-password") == password
    product.helm("rollback", "--wait", "--timeout", "10m")
    assert levels() == {"INFO"}
    assert product.secret("users", "admin-password") == password
    product.sign_in_as_administrator().close()
    asked.wait_for_more()
    assert asked.failed == [], asked.since(began)
