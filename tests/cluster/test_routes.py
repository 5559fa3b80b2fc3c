"""The table of paths through a real ingress controller and a real gateway, to services that answer every path."""

import http.client
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.cluster.releases import CHART, Object, Release, echo, needs, read, release, serves, without_database

NAME = "pinhole-scale-routes"
INTERNAL = ("/livez", "/readyz", "/metrics", "/internal")
DISGUISED = (
    *("/livez", "/readyz", "/metrics", "/metrics/", "/internal", "/internal/revocations", "//internal/revocations"),
    *("/users/../internal/credentials/verify", "/users/..%2Finternal/credentials/verify", "/users/%2e%2e/metrics"),
    *("/%69nternal/revocations", "/users//../../metrics", "/static/..;/internal/revocations", "/METRICS", "/nothing"),
)
"""What nobody outside may reach, and ways to spell it that a proxy or a server may read differently."""

pytestmark = pytest.mark.timeout(600)


def values(host: str, **ways: Any) -> Object:
    services = {"auth": without_database("auth"), "users": without_database("users"), "inference": echo("inference")}
    return {"global": {"publicUrl": f"http://{host}"}, "postgresql": {"enabled": False}, **services, **ways}


def gateways() -> list[Object]:
    """Return the Gateways that work and take routes from all namespaces."""
    if not serves("gateway.networking.k8s.io/v1"):
        return []

    def is_open(gateway: Object) -> bool:
        conditions = gateway.get("status", {}).get("conditions", [])
        allowed = [each.get("allowedRoutes", {}) for each in gateway["spec"]["listeners"]]
        return any(each["type"] == "Programmed" and each["status"] == "True" for each in conditions) and any(
            each.get("namespaces", {}).get("from") == "All" for each in allowed
        )

    return [gateway for gateway in read("gateways", "--all-namespaces")["items"] if is_open(gateway)]


def ask(host: str, path: str) -> tuple[int, Object]:
    """Return status and answer; the path goes out as it is written."""
    url = urlsplit(os.environ.get("E2E_INGRESS", "http://127.0.0.1:8080"))
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        body = response.read()
        is_echo = response.status == 200
        return response.status, json.loads(body) if is_echo else {}
    finally:
        connection.close()


@pytest.fixture(scope="module")
def routed() -> Iterator[Release]:
    with release(NAME) as installed:
        yield installed


@pytest.fixture(scope="module", params=["ingress", "gateway"])
def host(request: pytest.FixtureRequest, routed: Release) -> str:
    """The host name under which the services answer, by one of both ways."""
    name = f"{request.param}.{NAME}.localhost"
    if request.param == "ingress":
        needs(bool(read("ingressclasses")["items"]), "ingress controller")
        routed.install(values(name))
    else:
        found = gateways()
        needs(bool(found), "Gateway of the Gateway API (the add-on `gateway`)")
        parent = {"name": found[0]["metadata"]["name"], "namespace": found[0]["metadata"]["namespace"]}
        routed.install(values(name, ingress={"enabled": False}, httpRoute={"enabled": True, "parentRefs": [parent]}))
        accepted = "--for=jsonpath={.status.parents[0].conditions[?(@.type=='Accepted')].status}=True"
        routed.kubectl("wait", "httproute", "--all", accepted, "--timeout=60s")
    routed.until(f"an answer through the {request.param}", lambda: ask(name, "/")[0] == 200 or None)
    return name


def test_each_path_leads_to_its_service(host: str, routed: Release) -> None:
    table = yaml.safe_load((CHART / "files/routes.yaml").read_text())
    wanted = {
        path: row["service"]
        for row in table
        for path in ([row["path"]] if row.get("exact") else [row["path"], f"{row['path']}/", f"{row['path']}/below"])
    }

    def answers() -> dict[str, str]:
        return {path: ask(host, path)[1].get("service", "") for path in wanted}

    # Each Service takes a moment of its own until it answers.
    routed.until("an answer of each service", lambda: set(answers().values()) == set(wanted.values()) or None)
    assert answers() == wanted


@pytest.mark.parametrize("path", DISGUISED)
def test_what_is_internal_is_not_reached_from_outside(host: str, path: str) -> None:
    status, answer = ask(host, path)
    # Whatever comes through is a path of the table to the services: they take `..` and `//` for what is written.
    assert status in {400, 404} or not unquote(answer["path"]).startswith(INTERNAL), answer


def test_another_host_is_not_answered(host: str) -> None:
    assert ask(f"other.{host}", "/")[0] == 404
