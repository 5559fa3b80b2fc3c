"""Who may connect to whom: policies follow the addresses that are configured."""

import json
from typing import Any

import yaml

from tests.charts.flavours import every_flavour, named, of_kind, pods, selects


def rules(name: str, policy: str, direction: str) -> Any:
    return named(name, "NetworkPolicy", policy)["spec"][direction]


@every_flavour
def test_each_pod_is_under_a_policy(name: str) -> None:
    if name == "no policies":
        assert of_kind(name, "NetworkPolicy") == []
        return
    policies = of_kind(name, "NetworkPolicy")
    for pod in pods(name):
        covering = [policy for policy in policies if selects(policy["spec"]["podSelector"]["matchLabels"], pod)]
        assert len(covering) == 1, pod["metadata"]
        assert covering[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_policies_follow_the_addresses_that_are_configured() -> None:
    to_address = {"ports": [{"port": 5432, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}
    assert to_address in rules("external databases", "ph-users", "egress")
    assert {"ports": [{"port": 5432, "protocol": "TCP"}]} in rules("external databases", "ph-auth", "egress")
    databases = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "databases"}}}
    to_redis = {"ports": [{"port": 6379, "protocol": "TCP"}], "to": [databases]}
    for service in ("auth", "users", "inference"):
        assert to_redis in rules("production", f"ph-{service}", "egress")
        assert "6379" not in json.dumps(rules("default", f"ph-{service}", "egress"))
    same_namespace = {"ports": [{"port": 6380, "protocol": "TCP"}], "to": [{"podSelector": {}}]}
    assert same_namespace in rules("inline secrets", "ph-inference", "egress")
    data = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}
    assert to_redis | {"to": [data]} in rules("inline secrets", "ph-auth", "egress")
    assert to_redis | {"to": [{"ipBlock": {"cidr": "10.1.2.4/32"}}]} in rules("inline secrets", "ph-users", "egress")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in rules("downloaded models", "ph-inference", "egress")
    assert {"ports": [{"port": 9000, "protocol": "TCP"}]} in rules("downloaded models", "ph-inference", "egress")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} not in rules("default", "ph-inference", "egress")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in rules("auth alone", "ph-auth", "egress")


def test_auth_may_fetch_the_keys_of_clients_from_the_ports_that_are_named() -> None:
    name = "sealed keys, and clients by ServiceAccount"
    anywhere = [rule["ports"] for rule in rules(name, "ph-auth", "egress") if "to" not in rule]
    assert [ports[0]["port"] for ports in anywhere if ports[0]["port"] != 53] == [443, 8443, 6443]
    assert "443" not in json.dumps(rules("default", "ph-auth", "egress"))


def test_a_peer_elsewhere_is_reached_at_the_port_of_its_pods() -> None:
    name = "peers in other releases"
    ports = [{"port": 81, "protocol": "TCP"}, {"port": "http", "protocol": "TCP"}]
    assert {"ports": ports, "to": [{"podSelector": {}}]} in rules(name, "ph-users", "egress")
    identity = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "identity"}}}
    ports = [{"port": 80, "protocol": "TCP"}, {"port": "http", "protocol": "TCP"}]
    assert {"ports": ports, "to": [identity]} in rules(name, "ph-inference", "egress")
    outside = rules("auth alone", "ph-auth", "egress")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in outside
    assert '"http"' not in json.dumps(outside)


def test_an_address_of_either_family_is_itself() -> None:
    to_address = {"ports": [{"port": 5432, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "fd00::1/128"}}]}
    assert to_address in rules("a database by IPv6", "ph-auth", "egress")
    to_redis = {"ports": [{"port": 6380, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "fd00::1/128"}}]}
    assert to_redis in rules("a Redis by IPv6", "ph-inference", "egress")


def test_spans_may_leave_for_where_they_are_sent() -> None:
    data = named("traced", "ConfigMap", "ph-auth")["data"]
    assert data["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.telemetry.svc:4318"
    assert data["OTEL_TRACES_SAMPLER_ARG"] == "0.1"
    telemetry = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "telemetry"}}}
    assert {"ports": [{"port": 4318, "protocol": "TCP"}], "to": [telemetry]} in rules("traced", "ph-auth", "egress")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in named("traced", "ConfigMap", "ph-inference")["data"]


def test_only_auth_and_users_reach_the_development_database() -> None:
    (rule,) = rules("default", "ph-postgresql", "ingress")
    allowed = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]]
    assert allowed == ["auth", "users"]
    assert rules("default", "ph-postgresql", "egress") == []
    assert "5432" not in yaml.safe_dump(rules("default", "ph-inference", "egress"))
