"""What the pods are: as safe as they can be, with the time and the devices that they need."""

from typing import Any

import pytest
import yaml

from tests.charts.flavours import RELOADED, Flavour, Object, containers, every_flavour, named, of_kind, pods, template


@every_flavour
def test_every_pod_is_as_the_restricted_standard_asks(name: str) -> None:
    for pod in pods(name):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume]
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True or name == RELOADED
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) >= {"requests", "limits"}
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}


@every_flavour
def test_no_pod_has_a_token_of_the_cluster_nor_variables_for_each_service(name: str) -> None:
    for pod in pods(name):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False


def test_auth_has_a_token_of_the_cluster_where_it_fetches_the_clusters_keys() -> None:
    def tokens(name: str) -> list[str]:
        return [
            pod["metadata"]["labels"]["app.kubernetes.io/name"]
            for pod in pods(name)
            for volume in pod["spec"].get("volumes", [])
            for source in volume.get("projected", {}).get("sources", [])
            if "serviceAccountToken" in source
        ]

    assert tokens("default") == []
    assert tokens("sealed keys, and clients by ServiceAccount") == ["auth"]
    assert tokens("a Job that signs in") == ["auth"]


@every_flavour
def test_a_pod_has_the_time_that_its_end_takes(name: str) -> None:
    for deployment in of_kind(name, "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        container, *_ = spec["containers"]
        told = {variable["name"]: variable.get("value") for variable in container["env"]}
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] >= sleep + int(told["GRACEFUL_TIMEOUT_SECONDS"])
        assert sleep > 0


def test_who_wants_no_sleep_before_the_end_gets_none() -> None:
    # Kubernetes takes one of 0 s from 1.33 on.
    spec = of_inference("inference.shutdown.preStopSleepSeconds=0")["template"]["spec"]
    assert "lifecycle" not in spec["containers"][0]
    assert spec["terminationGracePeriodSeconds"] == 35


def test_tests_run_where_their_service_may_and_need_no_gpu() -> None:
    with_gpu = [pod["spec"] for pod in pods("gpu") if pod["spec"].get("restartPolicy") == "Never"]
    assert with_gpu
    assert not [spec for spec in with_gpu if {"nodeSelector", "tolerations"} & spec.keys()]


@pytest.mark.parametrize("minutes", [10, 40])
def test_a_rollout_is_given_up_no_sooner_than_its_pods(minutes: int) -> None:
    # As if it had failed: `kubectl rollout status` and `helm --wait` end with an error.
    spec = of_inference(f"inference.startupProbe.failureThreshold={30 * minutes}")
    assert spec["template"]["spec"]["containers"][0]["startupProbe"]["periodSeconds"] == 2
    assert spec["progressDeadlineSeconds"] > 60 * minutes


@every_flavour
def test_the_probes_are_those_of_the_services(name: str) -> None:
    for deployment in of_kind(name, "Deployment"):
        container, *_ = deployment["spec"]["template"]["spec"]["containers"]
        paths = {
            kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


@pytest.mark.parametrize(
    ("name", "resource"),
    [("gpu", "nvidia.com/gpu"), ("mig", "nvidia.com/mig-1g.10gb"), ("gpu in production", "nvidia.com/gpu")],
)
def test_a_gpu_is_asked_for_and_a_rollout_needs_no_spare_one(name: str, resource: str) -> None:
    deployment = named(name, "Deployment", "ph-inference")
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"][resource] == container["resources"]["requests"][resource] == 1
    assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec.get("runtimeClassName") == ("nvidia" if name == "mig" else None)
    assert "device: cuda" in named(name, "ConfigMap", "ph-inference-models")["data"]["models.yaml"]
    assert "nvidia" not in yaml.safe_dump(named(name, "Deployment", "ph-auth"))


def of_inference(*settings: str) -> Any:
    """Return the spec of the Deployment on GPUs, with some settings more."""
    done = template(Flavour(("gpu",), settings))
    assert done.returncode == 0, done.stderr
    (deployment,) = (
        each
        for each in yaml.safe_load_all(done.stdout)
        if each and each["kind"] == "Deployment" and each["metadata"]["name"] == "ph-inference"
    )
    return deployment["spec"]


def test_where_gpus_are_spare_a_rollout_may_take_one() -> None:
    surge = "inference.gpu.updateStrategy.rollingUpdate"
    spec = of_inference(f"{surge}.maxSurge=1", f"{surge}.maxUnavailable=0")
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_what_is_recreated_rolls_nothing() -> None:
    # The API server refuses the one beside the other.
    assert of_inference("inference.gpu.updateStrategy.type=Recreate")["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("kind", ["limits", "requests"])
def test_a_gpu_is_asked_for_where_nothing_else_is(kind: str) -> None:
    (container,) = of_inference(f"inference.resources.{kind}=null")["template"]["spec"]["containers"]
    assert container["resources"][kind] == {"nvidia.com/gpu": 1}


def test_a_gpu_is_had_by_nodes_without_the_labels_and_taints_of_nvidia() -> None:
    # Helm takes what is not named from the defaults: null alone leaves a map out.
    spec = of_inference("inference.gpu.nodeSelector=null", "inference.gpu.tolerations=null")["template"]["spec"]
    assert not {"nodeSelector", "tolerations"} & spec.keys()


def test_a_gpu_may_be_claimed() -> None:
    name = "dynamic resource allocation"
    spec = named(name, "Deployment", "ph-inference")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["claims"] == [{"name": "gpu"}]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    (template,) = of_kind(name, "ResourceClaimTemplate")
    assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": template["metadata"]["name"]}]


def test_another_claim_has_another_name_for_a_template_cannot_change() -> None:
    def claimed(*settings: str) -> str:
        (claim,) = of_inference(*(f"inference.gpu.dra.{each}" for each in ("enabled=true", *settings)))["template"][
            "spec"
        ]["resourceClaims"]
        return str(claim["resourceClaimTemplateName"])

    one = claimed()
    assert claimed() == one
    others = {claimed(each) for each in ("deviceClassName=gpu.example.com", "selectors={a}", "selectors={b}")}
    assert len(others | {one}) == 4


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a volume of models", {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}),
        (
            "an image of models",
            {"image": {"reference": "registry.example.com/models:1", "pullPolicy": "IfNotPresent"}},
        ),
    ],
)
def test_weights_are_mounted_where_the_file_of_models_looks_for_them(name: str, source: Object) -> None:
    spec = named(name, "Deployment", "ph-inference")["spec"]["template"]["spec"]
    (volume,) = (each for each in spec["volumes"] if each["name"] == "models")
    assert volume == {"name": "models"} | source
    (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "models")
    assert mount == {"name": "models", "mountPath": "/models", "readOnly": True}
    file = yaml.safe_load(named(name, "ConfigMap", "ph-inference-models")["data"]["models.yaml"])
    assert file["models"][0]["source"].startswith("file:/models/")
