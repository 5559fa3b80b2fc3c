"""What the rendered objects say of each other: names, selectors, references and routes lead somewhere."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from gateway.routes import PREFIXES

from tests.charts.flavours import (
    GIVEN,
    Flavour,
    containers,
    every_flavour,
    named,
    objects,
    of_kind,
    pods,
    selects,
    template,
)
from tests.charts.tools import assert_valid

SERVICES = ("auth", "users", "inference")
LONGEST = {"Service": 63, "StatefulSet": 52}
"""A Service is one part of a host name; with that of a StatefulSet and a hash of ten digits its pods are labelled."""


@every_flavour
def test_no_two_objects_have_one_name(name: str) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects(name)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "settings",
    [
        ("httpRoute.enabled=true", "httpRoute.parentRefs[0].name=public", "global.publicUrl=https://p.example.com"),
        tuple(f"{service}.autoscaling.enabled=true" for service in SERVICES),
        ("inference.keda.enabled=true", "inference.keda.prometheusAddress=http://prometheus:9090"),
        ("inference.gpu.enabled=true", "inference.gpu.dra.enabled=true"),
        ("inference.grpc.enabled=true", "ingress.grpc.host=grpc.example.com"),
        ("auth.serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboards.enabled=true"),
    ],
)
# Cut at a hyphen there would be one at the end, or two in a row.
@pytest.mark.parametrize("release", ["r" * 53, f"{'r' * 40}-{'r' * 12}", f"{'r' * 51}-r"])
def test_the_longest_name_of_a_release_is_not_too_long(release: str, settings: tuple[str, ...]) -> None:
    done = template(Flavour(settings=settings, release=release))
    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names))
    for kind, name in names:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name), (kind, name)
        assert len(name) <= LONGEST.get(kind, 253), (kind, name)
    for each in found:
        pod = each["spec"].get("template", {}) if "spec" in each else {}
        for labels in (each["metadata"].get("labels", {}), pod.get("metadata", {}).get("labels", {})):
            assert [value for value in labels.values() if len(value) > 63] == []


@every_flavour
def test_each_selector_selects_the_pods_that_are_meant(name: str) -> None:
    workloads = {found["metadata"]["name"]: found for found in of_kind(name, "Deployment", "StatefulSet")}
    for workload in workloads.values():
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selects(selector, workload["spec"]["template"])
        assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    for found in of_kind(name, "Service", "PodDisruptionBudget"):
        selector = found["spec"]["selector"]
        selected = [pod for pod in pods(name) if selects(selector.get("matchLabels", selector), pod)]
        if found["metadata"]["name"] == "ph-pinhole-grpc":  # beside the Service of the same pods
            assert selected == [workloads["ph-eyes"]["spec"]["template"]]
            continue
        assert selected == [workloads[found["metadata"]["name"]]["spec"]["template"]]
    for policy in of_kind(name, "NetworkPolicy"):
        assert len([pod for pod in pods(name) if selects(policy["spec"]["podSelector"]["matchLabels"], pod)]) == 1
    for monitor in of_kind(name, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        (service,) = (found for found in of_kind(name, "Service") if selects(wanted, found))
        assert {port["name"] for port in service["spec"]["ports"]} >= {
            point["port"] for point in monitor["spec"]["endpoints"]
        }
    for scaler in of_kind(name, "HorizontalPodAutoscaler", "ScaledObject"):
        assert scaler["spec"]["scaleTargetRef"]["name"] in workloads


@every_flavour
def test_each_reference_leads_to_an_object_and_its_key(name: str) -> None:
    own = {(found["kind"], found["metadata"]["name"]): found for found in objects(name)}

    def check(kind: str, object_name: str, key: str | None = None) -> None:
        if object_name in GIVEN:
            return
        found = own[kind, object_name]
        assert key is None or key in found.get("data", {}), (kind, object_name, key)

    for pod in pods(name):
        account = pod["spec"].get("serviceAccountName", "default")
        if account != "default":
            check("ServiceAccount", account)
        for claim in pod["spec"].get("resourceClaims", []):
            check("ResourceClaimTemplate", claim["resourceClaimTemplateName"])
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        claimed = {"data"} if "postgresql" in pod["metadata"]["labels"]["app.kubernetes.io/name"] else set()
        for volume in volumes.values():
            for source in volume.get("projected", {}).get("sources", [volume]):
                if "secret" in source:
                    for item in source["secret"].get("items", [{"key": None}]):
                        check("Secret", source["secret"].get("name") or source["secret"]["secretName"], item["key"])
                if "configMap" in source:
                    check("ConfigMap", source["configMap"]["name"])
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in GIVEN
        for container in containers(pod):
            mounted = [mount["name"] for mount in container.get("volumeMounts", [])]
            assert len(mounted) == len(set(mounted))
            assert set(mounted) <= set(volumes) | claimed
            for source in container.get("envFrom", []):
                check("ConfigMap", source["configMapRef"]["name"])
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    check("Secret", reference["name"], reference["key"])


def routes(name: str) -> Iterator[tuple[str, bool, str, Any]]:
    """Yield path, whether it is exact, Service and its port, of Ingress and HTTPRoute."""
    for ingress in of_kind(name, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                yield path["path"], path["pathType"] == "Exact", backend["name"], backend["port"]["name"]
    for route in of_kind(name, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            (backend,) = rule["backendRefs"]
            for match in rule["matches"]:
                yield match["path"]["value"], match["path"]["type"] == "Exact", backend["name"], backend["port"]


@every_flavour
def test_each_route_leads_to_a_port_of_a_service(name: str) -> None:
    services = {found["metadata"]["name"]: found["spec"]["ports"] for found in of_kind(name, "Service")}
    for _, _, service, port in routes(name):
        assert any(port in (each["port"], each["name"]) for each in services[service])


@pytest.mark.parametrize("name", ["default", "gateway", "tls", "production"])
def test_the_paths_are_those_of_the_gateway_on_a_laptop(name: str) -> None:
    table = {(path, is_exact, service.removeprefix("ph-")) for path, is_exact, service, _ in routes(name)}
    assert table == {(prefix.path, prefix.is_exact, prefix.service) for prefix in PREFIXES}


def test_tls_and_its_certificate_come_from_the_public_address() -> None:
    (ingress,) = of_kind("tls", "Ingress")
    assert ingress["spec"]["tls"] == [{"hosts": ["p.example.com"], "secretName": "ph-tls"}]
    assert ingress["metadata"]["annotations"] == {"cert-manager.io/issuer": "ca"}
    (plain,) = of_kind("default", "Ingress")
    assert "tls" not in plain["spec"]


def test_two_releases_in_one_namespace_have_nothing_in_common() -> None:
    one = {(found["kind"], found["metadata"]["name"]) for found in objects("default")}
    other = {(found["kind"], found["metadata"]["name"]) for found in objects("a release named like the chart")}
    assert not one & other
    for service in of_kind("default", "Service"):
        assert not [pod for pod in pods("a release named like the chart") if selects(service["spec"]["selector"], pod)]


def test_common_labels_and_annotations_are_on_every_object() -> None:
    common = {"commonLabels": {"team": "vision"}, "commonAnnotations": {"example.com/owner": "vision"}}
    document = yaml.safe_dump(common | dict.fromkeys(SERVICES, common))
    done = template(Flavour(("production", "gpu"), ("global.production=false", "postgresql.enabled=true"), document))
    assert done.returncode == 0, done.stderr
    for found in yaml.safe_load_all(done.stdout):
        metadata = found["metadata"]
        assert metadata["labels"]["team"] == "vision", (found["kind"], metadata["name"])
        assert metadata.get("annotations", {}).get("example.com/owner") == "vision", (found["kind"], metadata["name"])


def test_a_label_of_all_and_of_some_is_there_once_as_some_have_it() -> None:
    common = {"commonLabels": {"release": "all"}}
    service = common | {
        "podLabels": {"release": "pods"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "m"}},
    }
    rules = {"prometheusRule": {"enabled": True, "labels": {"release": "rules"}}}
    done = template(Flavour(document=yaml.safe_dump(common | rules | dict.fromkeys(SERVICES, service))))
    assert done.returncode == 0, done.stderr
    assert_valid(done.stdout)  # refuses a key that is there twice
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    labels = {each["kind"]: each["metadata"]["labels"]["release"] for each in found}
    assert (labels["ServiceMonitor"], labels["PrometheusRule"], labels["Deployment"]) == ("m", "rules", "all")
    templates = [each["spec"]["template"] for each in found if each["kind"] == "Deployment"]
    assert {pod["metadata"]["labels"]["release"] for pod in templates} == {"pods"}


def test_extras_are_everywhere_and_templates_are_rendered() -> None:
    name = "extras"
    for chart in ("auth", "users", "inference"):
        deployment = named(name, "Deployment", f"ph-{chart}")
        assert deployment["metadata"]["labels"]["team"] == "vision"
        spec = deployment["spec"]["template"]["spec"]
        assert deployment["spec"]["template"]["metadata"]["labels"]["tier"] == "api"
        assert spec["priorityClassName"] == "important"
        assert spec["nodeSelector"] == {"disk": "fast"}
        assert {"name": "TZ", "value": "ph"} in spec["containers"][0]["env"]
        assert [each["name"] for each in spec["containers"]] == [chart, f"beside-{chart}"]
        # What the migrations may need comes first.
        first = [each["name"] for each in spec["initContainers"]]
        assert first == (["proxy"] if chart == "inference" else ["proxy", "migrate"])
        # Where a service may not go its image may not run: what tests it goes the same way.
        tests = named(name, "Pod", f"ph-{chart}-test")["spec"]
        assert (tests["nodeSelector"], tests["tolerations"]) == (spec["nodeSelector"], spec["tolerations"])
        assert named(name, "ConfigMap", f"more-{chart}")["data"] == {"a": chart}
