"""A second release in the same namespace: each is by itself, and one that is uninstalled leaves nothing."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.conftest import VALUES_DEV
from tests.cluster.product import Product
from tests.cluster.releases import Release, kubectl
from tests.cluster.traffic import traffic

NAME = "pinhole-beside"

pytestmark = pytest.mark.timeout(1500)


def left(release: Release) -> list[str]:
    """Return the names of all objects of a release that there are."""
    kinds = kubectl("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
    kinds = [kind for kind in kinds if not kind.startswith("events") and not kind.endswith("metrics.k8s.io")]
    selector = f"app.kubernetes.io/instance={release.name}"
    return release.kubectl("get", ",".join(kinds), "--selector", selector, "--output=name").split()


@pytest.fixture(scope="module")
def beside(product: Product) -> Iterator[Product]:
    """The accounts alone, under another name and host."""
    release = Release(NAME, product.release.namespace)
    host = "beside.localhost"
    release.install({"global": {"publicUrl": f"http://{host}"}, "inference": {"enabled": False}}, VALUES_DEV)
    yield Product(release, host)
    if NAME in product.release.kubectl("get", "deployments", "--output=name"):
        release.uninstall()


def test_each_release_has_its_own_accounts_and_tokens(product: Product, beside: Product, ada: httpx.Client) -> None:
    assert product.secret("users", "admin-password") != beside.secret("users", "admin-password")
    with beside.sign_up("ada") as other, product.http() as here:
        own = beside.ask(lambda: other.get("/users/me")).json()
        assert own["id"] != product.ask(lambda: ada.get("/users/me")).json()["id"]
        stranger = {"Authorization": other.headers["Authorization"]}
        product.ask(lambda: here.get("/users/me", headers=stranger), status=401)


def test_an_uninstalled_release_leaves_nothing_and_the_other_is_not_missed(
    product: Product, beside: Product, ada: httpx.Client
) -> None:
    assert left(beside.release)
    began = time.monotonic()
    with traffic(lambda: ada.get("/users/me"), lambda: ada.get("/sessions")) as asked:
        beside.release.uninstall()
        beside.release.until("all of it is gone", lambda: left(beside.release) == [] or None)
        asked.wait_for_more()
    assert asked.failed == [], asked.since(began)
    assert "sh.helm.release.v1." + NAME not in product.release.kubectl("get", "secrets", "--output=name")
