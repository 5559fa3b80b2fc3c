"""GPUs: who gets one, who waits, and that a rollout needs no spare one. The nodes may be played by kwok."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.releases import CHART, Object, Release, apply, echo, kubectl, needs, read, release, serves

NAME = "pinhole-scale-gpu"
GPU = "nvidia.com/gpu"
FAKE = "pinhole-scale-gpu-fake"
VALUES: Object = {
    # Only the one service that computes, and none that it calls.
    "auth": {"enabled": False},
    "users": {"enabled": False},
    "postgresql": {"enabled": False},
    "ingress": {"enabled": False},
    "inference": echo("inference") | {"authUrl": "http://auth"},
}

pytestmark = pytest.mark.timeout(900)


def values(**inference: Any) -> Object:
    return VALUES | {"inference": VALUES["inference"] | inference}


def nodes_with(resource: str) -> set[str]:
    found = read("nodes")["items"]
    return {
        each["metadata"]["name"] for each in found if each["status"].get("allocatable", {}).get(resource, "0") != "0"
    }


def node_of(pod: Object) -> str | None:
    """Return where a pod runs."""
    node: str = pod["spec"].get("nodeName", "")
    return node if pod["status"].get("phase") == "Running" else None


def unschedulable(pod: Object) -> str:
    """Return why no node takes a pod."""
    for condition in pod["status"].get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition["message"])
    return ""


@pytest.fixture(scope="module")
def gpu() -> Iterator[Release]:
    """The service that computes, on CPUs, before any test."""
    needs(bool(nodes_with(GPU)), "node with a GPU (the add-on `gpu`)")
    with release(NAME) as installed:
        installed.install(values())
        yield installed


def placed(gpu: Release, count: int) -> set[str]:
    """Return the nodes of this many pods, as soon as all run and no others are left."""

    def nodes() -> set[str] | None:
        found = [node_of(pod) for pod in gpu.pods("inference")]
        return {node for node in found if node} if len(found) == count and all(found) else None

    return gpu.until(f"{count} pods that run", nodes)


def test_one_file_of_values_flips_from_cpus_to_gpus(gpu: Release) -> None:
    with_gpu = nodes_with(GPU)
    gpu.install(values())
    assert not placed(gpu, 1) & with_gpu
    gpu.install(values(), CHART / "values-gpu.yaml")
    assert placed(gpu, 1) <= with_gpu


def test_a_pod_without_a_gpu_to_spare_waits_and_a_rollout_completes(gpu: Release) -> None:
    with_gpu = nodes_with(GPU)
    full = len(with_gpu)
    gpu.install(values(replicaCount=full), CHART / "values-gpu.yaml")
    assert placed(gpu, full) == with_gpu
    before = {pod["metadata"]["uid"] for pod in gpu.pods("inference")}

    gpu.install(values(replicaCount=full, podAnnotations={"example.com/revision": "2"}), CHART / "values-gpu.yaml")
    assert placed(gpu, full) == with_gpu
    assert not before & {pod["metadata"]["uid"] for pod in gpu.pods("inference")}

    gpu.install(values(replicaCount=full + 1), CHART / "values-gpu.yaml", wait=False)
    reason = gpu.until("a pod that waits", lambda: "".join(map(unschedulable, gpu.pods("inference"))))
    assert f"Insufficient {GPU}" in reason


@pytest.fixture
def slices(gpu: Release) -> Iterator[str]:
    """A node, played by kwok, with a GPU that is cut in slices and one that is shared by time."""
    nodes = read("nodes", "--selector", "type=kwok")["items"]
    needs(bool(nodes), "node that kwok plays (the add-on `gpu`)")
    resources = {"cpu": "4", "memory": "16Gi", "pods": "10", "ephemeral-storage": "50Gi"}
    resources |= {"nvidia.com/mig-1g.10gb": "2", f"{GPU}.shared": "2"}
    labels = {"type": "kwok", "kubernetes.io/hostname": FAKE, "nvidia.com/gpu.present": "true"}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": FAKE, "labels": labels},
        "spec": {"taints": [{"key": GPU, "value": "present", "effect": "NoSchedule"}]},
        "status": {"capacity": resources, "allocatable": resources},
    }
    apply(node)
    yield FAKE
    kubectl("delete", "node", FAKE)


@pytest.mark.parametrize("resource", ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"])
def test_a_slice_and_a_share_are_asked_for_by_their_names(gpu: Release, slices: str, resource: str) -> None:
    gpu.install(values(gpu={"resourceName": resource}, replicaCount=2), CHART / "values-gpu.yaml")
    assert placed(gpu, 2) == {slices}


def test_where_no_node_has_the_resource_the_pod_waits(gpu: Release) -> None:
    resource = "example.com/gpu"
    gpu.install(values(gpu={"resourceName": resource}), CHART / "values-gpu.yaml", wait=False)
    reason = gpu.until("a pod that waits", lambda: "".join(map(unschedulable, gpu.pods("inference"))))
    assert f"Insufficient {resource}" in reason


@pytest.fixture
def claimable(gpu: Release) -> Iterator[str]:
    """A driver that offers one device of each of two kinds, each on a node of its own, and the name of the second."""
    needs(serves("resource.k8s.io/v1"), "dynamic resource allocation (resource.k8s.io/v1)")
    driver = "gpu.pinhole.test"
    nodes = sorted(nodes_with(GPU))
    needs(len(nodes) > 1, "second node with a GPU (the add-on `gpu`)")
    slices: list[Object] = [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{NAME}-{node}"},
            "spec": {
                "driver": driver,
                "nodeName": node,
                "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "gpu-0", "attributes": {"architecture": {"string": f"kind-{number}"}}}],
            },
        }
        for number, node in enumerate(nodes[:2])
    ]
    selectors = [{"cel": {"expression": f'device.driver == "{driver}"'}}]
    device_class = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": driver},
        "spec": {"selectors": selectors},
    }
    apply(device_class, *slices)
    yield nodes[1]
    kubectl("delete", "resourceslice", *(each["metadata"]["name"] for each in slices))
    kubectl("delete", "deviceclass", driver)


def test_a_device_is_claimed_by_what_it_has_to_be(gpu: Release, claimable: str) -> None:
    dra: dict[str, object] = {"enabled": True, "deviceClassName": "gpu.pinhole.test"}
    gpu.install(values(gpu={"dra": dra}), CHART / "values-gpu.yaml")
    expression = 'device.attributes["gpu.pinhole.test"].architecture == "kind-1"'
    # What is claimed changes by an upgrade, though the object that says it cannot.
    gpu.install(values(gpu={"dra": dra | {"selectors": [expression]}}), CHART / "values-gpu.yaml")
    assert placed(gpu, 1) == {claimable}
