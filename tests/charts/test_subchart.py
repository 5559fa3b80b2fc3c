"""Pinhole as a part of somebody else's chart, with their values around it."""

from pathlib import Path

import pytest
import yaml

from tests.charts.flavours import CHARTS, Object, helm
from tests.charts.tools import assert_valid

PARENT = {
    "apiVersion": "v2",
    "name": "platform",
    "version": "1.0.0",
    "appVersion": "2026.1",
    "dependencies": [
        {"name": "pinhole", "version": "0.1.0", "condition": "pinhole.enabled"},
        *(
            {"name": name, "version": "0.1.0", "alias": f"other-{name}", "condition": f"other-{name}.enabled"}
            for name in ("auth", "users", "inference", "pinhole")
        ),
    ],
}
VALUES = {
    "global": {"publicUrl": "https://platform.example.com", "storageClass": "fast"},
    "pinhole": {
        "commonLabels": {"team": "vision"},
        "users": {"replicaCount": 3, "config": {"signUp": "open"}},
        "inference": {"gpu": {"enabled": True}},
        "ingress": {"className": "nginx"},
    },
    **{f"other-{name}": {"enabled": False} for name in ("auth", "users", "inference", "pinhole")},
}


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A chart that depends on ours, as it is before `helm package`."""
    folder = tmp_path / "platform"
    (folder / "charts").mkdir(parents=True)
    (folder / "templates").mkdir()
    for name in ("auth", "users", "inference", "pinhole"):
        (folder / "charts" / name).symlink_to(CHARTS / name)
    (folder / "Chart.yaml").write_text(yaml.safe_dump(PARENT))
    (folder / "values.yaml").write_text(yaml.safe_dump(VALUES))
    return folder


def rendered(parent: Path, *settings: str) -> dict[tuple[str, str], Object]:
    """Return the objects of a release `all` of the parent, by kind and name."""
    arguments = [part for setting in settings for part in ("--set", setting)]
    done = helm("template", "all", str(parent), "--namespace", "ns", "--kube-version", "1.37.0", *arguments)
    assert done.returncode == 0, done.stderr
    assert_valid(done.stdout)
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout) if each}


def test_the_values_of_a_parent_reach_each_service(parent: Path) -> None:
    found = rendered(parent)
    assert found["Deployment", "all-users"]["spec"]["replicas"] == 3
    assert found["ConfigMap", "all-users"]["data"]["USERS_SIGN_UP"] == "open"
    limits = found["Deployment", "all-inference"]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    for service in ("auth", "users", "inference"):
        data = found["ConfigMap", f"all-{service}"]["data"]
        assert data[f"{service.upper()}_ISSUER"] == "https://platform.example.com"
        image = found["Deployment", f"all-{service}"]["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image == f"localhost/pinhole/{service}:0.1.0"
    ingress = found["Ingress", "all-pinhole"]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["metadata"]["labels"]["team"] == "vision"
    assert ingress["spec"]["tls"][0]["hosts"] == ["platform.example.com"]


def test_a_misspelt_value_is_refused_however_deep_it_stands(parent: Path) -> None:
    done = helm("template", "all", str(parent), "--kube-version", "1.37.0", "--set", "pinhole.users.replicaCuont=2")
    assert done.returncode != 0
    assert "replicaCuont" in done.stderr


@pytest.mark.parametrize("service", ["auth", "users", "inference"])
def test_a_single_service_may_be_a_part_under_another_name(parent: Path, service: str) -> None:
    settings = {"enabled": "true", **({} if service == "inference" else {"database.host": "db"})}
    found = rendered(parent, *(f"other-{service}.{key}={value}" for key, value in settings.items()))
    assert found["ConfigMap", f"all-other-{service}"]["data"][f"{service.upper()}_ISSUER"]
    assert found["Deployment", f"all-other-{service}"]
    assert found["Deployment", f"all-{service}"]


def test_the_whole_may_be_a_part_under_another_name(parent: Path) -> None:
    found = rendered(
        parent, "pinhole.enabled=false", "other-pinhole.enabled=true", "other-pinhole.users.replicaCount=4"
    )
    assert ("Ingress", "all-pinhole") not in found
    backends = {
        path["backend"]["service"]["name"]
        for rule in found["Ingress", "all-other-pinhole"]["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    assert backends == {"all-auth", "all-users", "all-inference"}
    assert found["Deployment", "all-users"]["spec"]["replicas"] == 4
