"""Which service answers which path, and which paths none answers."""

import json

import httpx
import pytest
from gateway.routes import PREFIXES, PROBES
from inference_service.oip import rest

from tests.unit.gateway.conftest import Site
from tests.unit.gateway.serving import connect, echoed


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/", "inference"),
        ("/predict", "inference"),
        ("/explain", "inference"),
        ("/models", "inference"),
        ("/models/efficientnet-lite0", "inference"),
        ("/v2/models/a/infer", "inference"),
        ("/docs", "inference"),
        ("/static/app.js", "inference"),
        ("/openapi/inference.json", "inference"),
        ("/token", "auth"),
        ("/oauth2/revoke", "auth"),
        ("/sessions", "auth"),
        ("/sessions/1", "auth"),
        ("/clients", "auth"),
        ("/clients/nightly-report/secrets", "auth"),
        ("/.well-known/jwks.json", "auth"),
        ("/openapi/auth.json", "auth"),
        ("/users", "users"),
        ("/events", "users"),
        ("/users/me/password", "users"),
        ("/openapi/users.json", "users"),
        ("/%75sers", "users"),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_path_goes_to_its_service_as_it_is_written(site: Site, path: str, service: str, slash: str) -> None:
    target = path if path == "/" else path + slash
    with connect(site.origin) as connection:
        connection.request("GET", target)
        seen = echoed(connection.getresponse())
        assert (seen["service"], seen["target"]) == (service, target + "?")


@pytest.mark.parametrize(
    "target",
    [
        "/nowhere",
        "/usersx",
        "/user",
        "/openapi",
        "/openapi/other.json",
        "/openapi/users.json/more",
        "/internal",
        "/internal/credentials/verify",
        "//internal/credentials/verify",
        "/./internal/x",
        "/users/../internal/x",
        "/users/..",
        "/users/./internal",
        "/users/%2e%2e/internal/x",
        "/users/%2E%2E/%2E%2E/internal/x",
        "/users/..%2finternal/x",
        "/users%2f..%2finternal%2fx",
        "/users//internal",
        "/users//",
        "/%2finternal/x",
        "/static/../metrics",
    ],
)
def test_other_paths_and_ways_out_of_a_prefix_are_404_and_reach_no_service(site: Site, target: str) -> None:
    before = [service.requests for service in site.services.values()]
    with connect(site.origin) as connection:
        connection.request("GET", target)
        response = connection.getresponse()
        assert response.status == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert json.load(response)["type"] == "urn:pinhole:problem:not-found"
        assert [service.requests for service in site.services.values()] == before


@pytest.mark.parametrize("target", ["/v2/../internal", "/v2/models/a%0Ab"])
def test_a_way_out_of_the_inference_protocol_is_refused_in_its_words(site: Site, target: str) -> None:
    with connect(site.origin) as connection:
        connection.request("GET", target)
        response = connection.getresponse()
        assert (response.status, json.load(response)) == (404, {"error": "no such path"})


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/metrics/"])
def test_probes_and_metrics_are_the_gateways_own(site: Site, path: str) -> None:
    before = [service.requests for service in site.services.values()]
    assert httpx.get(site.origin + path).status_code == 200
    assert [service.requests for service in site.services.values()] == before


def test_no_prefix_covers_what_is_not_routed_from_outside() -> None:
    assert not {prefix.path for prefix in PREFIXES} & {"/livez", "/readyz", "/metrics", "/internal"}


def test_metrics_name_the_prefix_and_never_the_path(site: Site) -> None:
    for path in ("/users/424242", "/nowhere/424242"):
        httpx.get(site.origin + path)
    metrics = httpx.get(site.origin + "/metrics").text
    assert 'http_route="/users/{rest:path}"' in metrics
    assert 'http_route="unmatched"' in metrics
    assert "424242" not in metrics


def test_what_is_passed_on_is_not_in_the_gateways_openapi_document(site: Site) -> None:
    assert httpx.get(f"{site.origin}/openapi/gateway.json").json()["paths"] == {}


def test_the_probes_that_are_passed_on_are_those_of_inference() -> None:
    assert PROBES.pattern == rest.PROBES.pattern
