"""How many replicas there are, and where."""

from typing import Any

import pytest
import yaml

from tests.charts.flavours import RELOADED, Flavour, Object, every_flavour, named, objects, of_kind, template

SERVICES = ("auth", "users", "inference")
ONE_REPLICA = ("dev", "watched on a laptop", RELOADED, "a Job that signs in", "one replica")


def of_values(kind: str, **values: Any) -> list[Object]:
    """Return the objects of a kind that a release with these values of `users` has."""
    done = template(Flavour(document=yaml.safe_dump({"users": values})))
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found and found["kind"] == kind]


@pytest.mark.parametrize("service", SERVICES)
def test_an_autoscaler_goes_up_at_once_and_down_one_by_one(service: str) -> None:
    spec = named("autoscaled", "HorizontalPodAutoscaler", f"ph-{service}")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"ph-{service}"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    [metric] = spec["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    assert spec["behavior"] == {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        },
    }


def test_an_autoscaler_does_what_values_say() -> None:
    queue = {"type": "Pods", "pods": {"metric": {"name": "{{ .Release.Name }}_queue"}, "target": {"type": "Value"}}}
    [scaler] = of_values(
        "HorizontalPodAutoscaler",
        autoscaling={
            "enabled": True,
            "minReplicas": 3,
            "maxReplicas": 7,
            "targetCPUUtilizationPercentage": None,
            "targetMemoryUtilizationPercentage": 80,
            "metrics": [queue],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        },
    )
    spec = scaler["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 7)
    memory, other = spec["metrics"]
    assert memory["resource"] == {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 80}}
    assert other["pods"]["metric"]["name"] == "ph_queue"
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 60
    assert spec["behavior"]["scaleDown"]["policies"]


@pytest.mark.parametrize(
    ("values", "has_budget"),
    [
        ({"autoscaling": {"enabled": True, "minReplicas": 1}}, False),
        ({"autoscaling": {"enabled": True, "minReplicas": 2}, "replicaCount": 1}, True),
        ({"replicaCount": 2, "podDisruptionBudget": {"enabled": False}}, False),
    ],
)
def test_the_budget_follows_the_least_number_of_replicas(values: dict[str, Any], has_budget: bool) -> None:
    names = {found["metadata"]["name"] for found in of_values("PodDisruptionBudget", **values)}
    assert names == {"ph-auth", "ph-inference"} | ({"ph-users"} if has_budget else set())


def test_the_least_number_of_keda_counts_for_the_budget_too() -> None:
    done = template(Flavour(("production",), ("inference.keda.minReplicaCount=1",)))
    found = [each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] == "PodDisruptionBudget"]
    assert {each["metadata"]["name"] for each in found} == {"ph-auth", "ph-users"}


@pytest.mark.parametrize("service", SERVICES)
def test_the_pods_of_a_revision_are_spread_over_nodes_and_zones(service: str) -> None:
    constraints = named("default", "Deployment", f"ph-{service}")["spec"]["template"]["spec"][
        "topologySpreadConstraints"
    ]
    assert [each["topologyKey"] for each in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for each in constraints:
        assert each["labelSelector"]["matchLabels"] == {
            "app.kubernetes.io/name": service,
            "app.kubernetes.io/instance": "ph",
        }
        assert each["matchLabelKeys"] == ["pod-template-hash"]
        assert each["whenUnsatisfiable"] == "ScheduleAnyway"


def test_a_constraint_of_values_takes_the_place_of_both() -> None:
    rack = {"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}
    deployments = of_values("Deployment", topologySpreadConstraints=[rack])
    (users,) = (each for each in deployments if each["metadata"]["name"] == "ph-users")
    [constraint] = users["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert rack.items() <= constraint.items()


def test_nothing_scales_what_nobody_asked_to_be_scaled() -> None:
    assert of_kind("default", "HorizontalPodAutoscaler", "ScaledObject") == []
    assert objects("default")


@every_flavour
def test_one_decides_how_many_replicas_there_are(name: str) -> None:
    scalers = of_kind(name, "HorizontalPodAutoscaler", "ScaledObject")
    for deployment in of_kind(name, "Deployment"):
        scaled = [each for each in scalers if each["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]]
        assert len(scaled) == (0 if "replicas" in deployment["spec"] else 1)


@every_flavour
def test_there_is_a_budget_where_there_is_more_than_one_replica(name: str) -> None:
    budgets = {found["metadata"]["name"] for found in of_kind(name, "PodDisruptionBudget")}
    deployments = {found["metadata"]["name"] for found in of_kind(name, "Deployment")}
    assert budgets == (set() if name in ONE_REPLICA else deployments)


def test_keda_asks_for_this_release_alone_and_keeps_what_there_is_while_nobody_answers() -> None:
    (scaled,) = of_kind("production", "ScaledObject")
    assert scaled["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
    queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    assert [query.split("{")[0] for query in queries] == [
        "sum(inference_requests_in_flight",
        "sum(avg_over_time(inference_requests_in_flight",
        "sum(max by (pod) (rate(inference_device_busy_seconds_total",
    ]
    for trigger in scaled["spec"]["triggers"]:
        assert 'namespace="ns",service="ph-inference"' in trigger["metadata"]["query"]
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert trigger["metricType"] == "AverageValue"
    down = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
