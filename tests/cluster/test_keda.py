"""Monitoring and KEDA with a real Prometheus: what it scrapes and takes, and how many replicas follow from it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cluster import prometheus
from tests.cluster.product import INGRESS
from tests.cluster.releases import Object, Release, needs, release, serves
from tests.cluster.traffic import traffic
from tests.cluster.working import BEHAVIOR, MOST, replicas, watch_it_come_down, working

NAME = "pinhole-scale-keda"
HOST = f"{NAME}.localhost"

pytestmark = pytest.mark.timeout(1200)


def values(**keda: Any) -> Object:
    scaled = {
        "enabled": True,
        "minReplicaCount": 1,
        "maxReplicaCount": MOST,
        "pollingInterval": 5,
        "targetInFlight": 4,
        "prometheusAddress": prometheus.ADDRESS,
        "fallback": {"failureThreshold": 2, "replicas": 1, "behavior": "currentReplicasIfHigher"},
        "behavior": BEHAVIOR,
        **keda,
    }
    return {
        "global": {"publicUrl": f"http://{HOST}"},
        "auth": {"enabled": False},
        "users": {"enabled": False},
        "postgresql": {"enabled": False},
        "prometheusRule": {"enabled": True},
        "inference": working() | {"authUrl": "http://auth", "keda": scaled},
    }


@pytest.fixture(scope="module")
def scaled() -> Iterator[Release]:
    needs(serves("monitoring.coreos.com/v1"), "operator of Prometheus (the add-on `prometheus`)")
    needs(serves("keda.sh/v1alpha1"), "KEDA (the add-on `keda`)")
    with release(NAME) as installed:
        installed.install(values(), wait=False)
        installed.kubectl("rollout", "status", "deployment", "--timeout=300s")
        yield installed


def has_condition(scaled: Release, name: str) -> bool:
    """Tell whether the ScaledObject has a condition."""
    conditions = scaled.read("scaledobject", f"{NAME}-inference").get("status", {}).get("conditions", [])
    return any(each["type"] == name and each["status"] == "True" for each in conditions)


def test_the_targets_are_up_and_a_metric_of_ours_is_there(scaled: Release) -> None:
    def up() -> bool | None:
        active = prometheus.ask("targets?state=active")["activeTargets"]
        ours = [each["health"] for each in active if each["labels"].get("namespace") == NAME]
        return ours == ["up"] or None

    scaled.until("one target that is up", up, seconds=180)
    expression = f'inference_requests_in_flight{{namespace="{NAME}",service="{NAME}-inference",job="inference"}}'
    found = scaled.until("a metric", lambda: prometheus.query(expression))
    assert set(found) == {pod["metadata"]["name"] for pod in scaled.pods("inference")}


def test_the_rules_are_taken(scaled: Release) -> None:
    wanted = {
        group["name"] for each in scaled.read("prometheusrules")["items"] for group in each["spec"].get("groups", [])
    }
    assert wanted

    def loaded() -> bool | None:
        return wanted <= {group["name"] for group in prometheus.ask("rules")["groups"]} or None

    scaled.until("the groups of rules", loaded, seconds=180)


def test_load_raises_silence_lowers_one_by_one_and_no_prometheus_is_no_silence(scaled: Release) -> None:
    scaled.until("a ScaledObject that is ready", lambda: has_condition(scaled, "Ready") or None)
    scaled.until("an answer of Prometheus", lambda: not has_condition(scaled, "Fallback") or None)
    with httpx.Client(base_url=INGRESS, headers={"Host": HOST}, timeout=60) as http:
        scaled.until("an answer", lambda: http.get("/predict").status_code == 200 or None)
        with traffic(*[lambda: http.get("/predict", params={"seconds": 2})] * 16) as load:
            scaled.until("more replicas", lambda: replicas(scaled) == MOST or None, seconds=240)
            scaled.kubectl("rollout", "status", "deployment", "--timeout=120s")
            load.wait_for_more()
        assert load.failed == []

        # While nobody can say how much is asked for, there are as many as there were.
        scaled.install(values(prometheusAddress="http://nobody:9090"), wait=False)
        scaled.until("the fallback", lambda: has_condition(scaled, "Fallback") or None)
        with pytest.raises(AssertionError, match="not: fewer"):
            scaled.until("fewer", lambda: replicas(scaled) < MOST or None, seconds=90)

        scaled.install(values(), wait=False)
        watch_it_come_down(scaled, http)
