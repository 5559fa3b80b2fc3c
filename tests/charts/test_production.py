"""What values-production.yaml leaves to whoever installs, and what it does not leave open."""

import re
from collections.abc import Iterator

from tests.charts.flavours import ROOT, containers, of_kind, pods

COMMAND = re.compile(r"^kubectl create secret generic (\S+) (.*)--from-literal=([^=]+)=", re.MULTILINE)


def keys_of_secrets() -> Iterator[tuple[str, str]]:
    """Yield each key that a pod reads, with the name of its Secret."""
    for pod in pods("production"):
        for volume in pod["spec"].get("volumes", []):
            for source in volume.get("projected", {}).get("sources", []):
                if "secret" in source:
                    yield from ((source["secret"]["name"], item["key"]) for item in source["secret"]["items"])
        for container in containers(pod):
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    yield reference["name"], reference["key"]


def test_the_documentation_makes_each_secret_in_the_namespace_of_the_release() -> None:
    commands = COMMAND.findall((ROOT / "docs/kubernetes.md").read_text())
    assert {(name, key) for name, _, key in commands} == set(keys_of_secrets())
    assert all("--namespace pinhole " in options for _, options, _ in commands)


def test_no_network_that_callers_come_from_is_trusted_to_name_them() -> None:
    told = [found["data"] for found in of_kind("production", "ConfigMap") if "LOG_LEVEL" in found["data"]]
    assert [variables["FORWARDED_ALLOW_IPS"] for variables in told] == ["10.244.0.0/16"] * 3


def test_nothing_answers_by_plain_http() -> None:
    (ingress,) = of_kind("production", "Ingress")
    assert ingress["spec"]["ingressClassName"] == "traefik"
    annotations = ingress["metadata"]["annotations"]
    assert annotations["traefik.ingress.kubernetes.io/router.entrypoints"] == "websecure"
    assert annotations["traefik.ingress.kubernetes.io/router.tls"] == "true"
