"""The Job of examples/kubernetes: Kubernetes takes it, and what it names is there. tests/e2e runs its script."""

import yaml
from auth_service.clients import ConfiguredClient

from tests.charts.flavours import ROOT, Object, named
from tests.charts.tools import assert_valid

TEXT = (ROOT / "examples/kubernetes/job.yaml").read_text()
FLAVOUR = "a Job that signs in"


def document(kind: str) -> Object:
    """Return the object of a kind."""
    (found,) = (each for each in yaml.safe_load_all(TEXT) if each["kind"] == kind)
    assert isinstance(found, dict)
    return found


def test_kubernetes_takes_it_also_under_the_restricted_standard() -> None:
    assert_valid(TEXT)
    spec = document("Job")["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert (
        container["image"]
        == named(FLAVOUR, "Deployment", "ph-auth")["spec"]["template"]["spec"]["containers"][0]["image"]
    )


def test_it_mounts_its_script_and_a_token_for_the_issuer() -> None:
    spec = document("Job")["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert set(mounts) == set(volumes)
    assert volumes["code"]["configMap"]["name"] == document("ConfigMap")["metadata"]["name"]
    folder, _, script = spec["containers"][0]["command"][1].rpartition("/")
    assert folder == mounts["code"]
    assert script in document("ConfigMap")["data"]
    token = volumes["token"]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == named(FLAVOUR, "ConfigMap", "ph-auth")["data"]["AUTH_ISSUER"]
    variables = {variable["name"]: variable["value"] for variable in spec["containers"][0]["env"]}
    assert variables["ASSERTION_FILE"] == f"{mounts['token']}/{token['path']}"
    assert variables["PICTURES"] == mounts["pictures"]


def test_auth_knows_its_service_account_and_lets_it_classify() -> None:
    (client,) = yaml.safe_load(named(FLAVOUR, "ConfigMap", "ph-auth")["data"]["AUTH_CLIENTS"])
    known = ConfiguredClient.model_validate(client)
    account = document("ServiceAccount")["metadata"]["name"]
    assert document("Job")["spec"]["template"]["spec"]["serviceAccountName"] == account
    assert known.service_account == f"pinhole:{account}"
    assert set(known.scopes) == {"inference:predict"}


def test_it_asks_the_services_of_a_release_named_pinhole() -> None:
    variables = {
        each["name"]: each["value"] for each in document("Job")["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    manifest = yaml.safe_load_all((ROOT / "k8s/dev/pinhole.yaml").read_text())
    services = {each["metadata"]["name"] for each in manifest if each and each["kind"] == "Service"}
    for name in ("auth", "inference"):
        assert variables[f"{name.upper()}_URL"].removeprefix("http://") in services
