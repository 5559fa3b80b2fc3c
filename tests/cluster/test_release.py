"""A release from its images: installed, reached through the ingress, and as small as it should be."""

from collections.abc import Callable

import httpx
import pytest

from tests.cluster.product import TIGER_CAT, Product, predict

OURS = """
import os
sizes = [os.lstat(os.path.join(folder, name)).st_size
         for root in ("/opt", "/var/lib/pinhole") for folder, _, names in os.walk(root) for name in names]
print(sum(sizes))
"""
"""Prints how many bytes the layers of an image hold that are not its base's."""

pytestmark = pytest.mark.timeout(1500)


def test_it_becomes_ready_in_a_restricted_namespace(
    product: Product, record_property: Callable[[str, object], None]
) -> None:
    record_property("from install to ready", f"{product.seconds:.0f} s")
    labels = product.release.read("namespace", product.release.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert 0 < product.seconds < 600


def test_a_user_gets_the_prediction_of_a_picture(product: Product, ada: httpx.Client) -> None:
    answer = product.ask(lambda: predict(ada)).json()
    assert answer["predicted_class"] == TIGER_CAT


def test_nobody_gets_a_prediction_without_a_token(product: Product) -> None:
    with product.http() as http:
        assert product.ask(lambda: predict(http), status=401).headers["WWW-Authenticate"].startswith("Bearer")


def test_the_web_page_and_the_api_documents_are_there(product: Product) -> None:
    with product.http() as http:
        assert "<title>" in product.ask(lambda: http.get("/")).text
        for service in ("auth", "users", "inference"):
            document = product.ask(lambda path=f"/openapi/{service}.json": http.get(path)).json()  # type: ignore[misc]
            assert document["info"]["title"] == f"Pinhole {service}"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/internal/revocations"])
def test_what_is_internal_is_not_routed(product: Product, path: str) -> None:
    with product.http() as http:
        product.ask(lambda: http.get("/"))
        answer = product.ask(lambda: http.get(path), status=404)
    assert "application/problem+json" not in answer.headers["Content-Type"], "a service has answered"


def test_helm_test_passes(product: Product) -> None:
    said = product.helm("test", "--timeout", "10m")
    assert said.count("Succeeded") >= 4, said
    assert "Failed" not in said


@pytest.mark.parametrize("service", ["auth", "users"])
def test_a_small_image_adds_less_than_70_mb_to_its_base(product: Product, service: str) -> None:
    deployment = f"deployment/{product.release.name}-{service}"
    size = int(product.release.kubectl("exec", deployment, "--container", service, "--", "python", "-c", OURS))
    assert 10_000_000 < size < 70_000_000


@pytest.mark.parametrize("service", ["auth", "users"])
def test_a_small_image_says_that_it_has_no_grpc(product: Product, service: str) -> None:
    settings = f"{service}_service.settings:{service.capitalize()}Settings"
    command = f"OTEL_EXPORTER_OTLP_PROTOCOL=grpc python -m servicekit.migrate {settings} 2>&1 || true"
    deployment = f"deployment/{product.release.name}-{service}"
    said = product.release.kubectl("exec", deployment, "--container", service, "--", "sh", "-c", command)
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" in said
    assert "expected http/protobuf" in said
