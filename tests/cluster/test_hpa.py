"""The HorizontalPodAutoscaler with a real metrics-server: load raises replicas, silence lowers them one by one."""

import httpx
import pytest

from tests.cluster.product import INGRESS
from tests.cluster.releases import Object, Release, needs, release, serves
from tests.cluster.traffic import traffic
from tests.cluster.working import BEHAVIOR, MOST, replicas, watch_it_come_down, working

NAME = "pinhole-scale-hpa"
HOST = f"{NAME}.localhost"
CPU_SECONDS = 0.1
"""What a request takes of a processor: eight callers want many times what a pod has asked for."""

VALUES: Object = {
    "global": {"publicUrl": f"http://{HOST}"},
    "auth": {"enabled": False},
    "users": {"enabled": False},
    "postgresql": {"enabled": False},
    "inference": working()
    | {
        "authUrl": "http://auth",
        "serviceMonitor": {"enabled": False},
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "200m"}},
        "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": MOST, "behavior": BEHAVIOR},
    },
}

pytestmark = pytest.mark.timeout(1200)


def measured(scaled: Release) -> bool | None:
    """Tell whether the autoscaler knows what the pods use."""
    status = scaled.read("horizontalpodautoscaler", f"{NAME}-inference")["status"]
    return any(each["type"] == "ScalingActive" and each["status"] == "True" for each in status["conditions"]) or None


def test_load_raises_silence_lowers_one_by_one_and_no_request_is_lost() -> None:
    needs(serves("metrics.k8s.io/v1beta1"), "metrics of its pods (metrics-server)")
    with release(NAME) as scaled, httpx.Client(base_url=INGRESS, headers={"Host": HOST}, timeout=60) as http:
        scaled.install(VALUES)
        scaled.until("an answer", lambda: http.get("/predict").status_code == 200 or None)
        scaled.until("a measurement", lambda: measured(scaled))
        with traffic(*[lambda: http.get("/predict", params={"cpu_seconds": CPU_SECONDS})] * 8) as load:
            scaled.until("more replicas", lambda: replicas(scaled) == MOST or None, seconds=240)
            scaled.kubectl("rollout", "status", "deployment", "--timeout=120s")
            load.wait_for_more()
        assert load.failed == []
        watch_it_come_down(scaled, http)
