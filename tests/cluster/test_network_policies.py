"""NetworkPolicies as the cluster enforces them: who can open a connection to whom."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.cluster.releases import ECHO, Object, Release, apply, echo, needs, release, until

NAME = "pinhole-scale-policies"
OTHER = "beside"
SERVICES = ("auth", "users", "inference")
PROBE = """
import concurrent.futures, json, socket, sys

def is_open(target):
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError:
        return False
    return True

with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps(dict(zip(sys.argv[1:], pool.map(is_open, sys.argv[1:])))))
"""
Edges = dict[str, dict[str, bool]]

pytestmark = pytest.mark.timeout(900)


def values(**changes: Mapping[str, Any]) -> Object:
    """Return values with the development PostgreSQL and three services that answer everything."""
    services = {name: {**echo(name), **changes.get(name, {})} for name in SERVICES}
    for name in ("auth", "users"):
        services[name]["migrations"] = {"initContainer": False}
    postgresql = {"persistence": {"enabled": False}}
    return {"global": {"publicUrl": f"http://{NAME}.localhost"}, "postgresql": postgresql, **services}


def stranger(name: str, image: str) -> list[Object]:
    """Return a pod that is of no release, with its Service."""
    labels = {"app": name}
    container = {
        "name": name,
        "image": image,
        "command": ["python", "-c", ECHO, name],
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": security, "automountServiceAccountToken": False}
    metadata = {"name": name, "namespace": NAME, "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": 8000}]},
        },
    ]


@pytest.fixture(scope="module")
def walled() -> Iterator[Release]:
    """A release with its database, a stranger in the same namespace, and one that a policy shuts off."""
    with release(NAME) as installed:
        installed.install(values())
        image = installed.pods("auth")[0]["spec"]["containers"][0]["image"]
        shut = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "shut", "namespace": NAME},
            "spec": {"podSelector": {"matchLabels": {"app": "shut"}}, "policyTypes": ["Ingress"]},
        }
        apply(*stranger("stranger", image), *stranger("shut", image), shut)
        installed.kubectl("wait", "pod", "stranger", "shut", "--for=condition=Ready", "--timeout=120s")
        needs(_enforces(installed), "enforcement of NetworkPolicies (the add-on `networkpolicy`)")
        yield installed


def _enforces(walled: Release) -> bool:
    """Tell whether a policy that nobody can mistake is kept."""
    try:
        expect(walled, {"stranger": {"stranger:8000": True, "shut:8000": False}}, seconds=60)
    except AssertionError:
        return False
    return True


def expect(walled: Release, wanted: Edges, *, seconds: float = 90) -> None:
    """Wait until connections open and fail as they are to: policies and new pods take a moment to be known."""

    def look(source: str, targets: Mapping[str, bool]) -> dict[str, bool]:
        pod = source if source == "stranger" else f"deployment/{source}"
        found: dict[str, bool] = json.loads(walled.kubectl("exec", pod, "--", "python", "-c", PROBE, *targets))
        return found

    found: Edges = {}

    def is_as_wanted() -> bool | None:
        found.update({source: look(source, targets) for source, targets in wanted.items()})
        return found == wanted or None

    def explain() -> str:
        wrong = {
            f"{source} to {target}": "open" if is_open else "closed"
            for source, targets in found.items()
            for target, is_open in targets.items()
            if wanted[source][target] != is_open
        }
        return f"{wrong}\n{walled.explain()}"

    until("the edges that are wanted", is_as_wanted, seconds=seconds, explain=explain)


def of(service: str, release: str = NAME) -> str:
    return f"{release}-{service}"


def test_what_is_configured_is_open_and_all_else_is_closed(walled: Release) -> None:
    # What goes to a pod itself or to its node is let through by most networks, and is asked of none here.
    database, stranger = f"{of('postgresql')}:5432", {"stranger:8000": False}
    elsewhere = {of("inference") + ":80": False} | stranger
    expect(
        walled,
        {
            of("auth"): {of("users") + ":80": True, database: True} | elsewhere,
            of("users"): {of("auth") + ":80": True, database: True} | elsewhere,
            of("inference"): {of("auth") + ":80": True, of("users") + ":80": False, database: False} | stranger,
            # Of a stranger who says nothing of who may come in, each service is open, and the database is not.
            "stranger": {of(name) + ":80": True for name in SERVICES} | {database: False},
        },
    )


def test_where_callers_are_named_nobody_else_comes_in(walled: Release) -> None:
    friends = {"networkPolicy": {"ingressFrom": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}}
    walled.install(values(**dict.fromkeys(SERVICES, friends)))
    expect(
        walled,
        {
            of("auth"): {of("users") + ":80": True},
            of("users"): {of("auth") + ":80": True},
            of("inference"): {of("auth") + ":80": True},
            "stranger": {of(name) + ":80": False for name in SERVICES},
        },
    )
    walled.kubectl("label", "pod", "stranger", "app=friend", "--overwrite")
    try:
        expect(walled, {"stranger": {of(name) + ":80": True for name in SERVICES}})
    finally:
        walled.kubectl("label", "pod", "stranger", "app=stranger", "--overwrite")


def test_an_endpoint_is_open_from_when_it_is_configured(walled: Release) -> None:
    spans = {"tracing": {"endpoint": "http://stranger:8000"}}
    walled.install(values(auth=spans, inference={"redis": {"url": "redis://stranger:8000"}}))
    open_to_some = {of("auth"): True, of("users"): False, of("inference"): True}
    expect(walled, {source: {"stranger:8000": is_open} for source, is_open in open_to_some.items()})


def test_a_peer_by_another_name_and_port_is_reached(walled: Release) -> None:
    issuer = {"fullnameOverride": "issuer", "service": {"port": 81}}
    callers = {"authUrl": "http://issuer:81"}
    walled.install(values(auth=issuer, users=callers, inference=callers))
    expect(walled, {of(caller): {"issuer:81": True, "stranger:8000": False} for caller in ("users", "inference")})


def test_two_releases_in_a_namespace_do_not_reach_into_each_other(walled: Release) -> None:
    beside = Release(OTHER, NAME)
    walled.install(values())
    beside.install(values())
    try:
        database = f"{of('postgresql', OTHER)}:5432"
        expect(
            walled,
            {
                of("auth"): {of("users") + ":80": True, of("users", OTHER) + ":80": False, database: False},
                of("auth", OTHER): {of("users", OTHER) + ":80": True, of("users") + ":80": False, database: True},
            },
        )
    finally:
        beside.uninstall()
    expect(walled, {of("auth"): {of("users") + ":80": True}})
