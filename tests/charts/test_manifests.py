"""The plain manifests of k8s/ are those that the charts render to, and kustomize takes them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.render import K8S, VALUES, render
from tests.charts.tools import assert_valid, find_tool


def by_name(text: str) -> dict[tuple[str, str], Any]:
    """Return objects by kind and name; versions of Helm write them in different orders."""
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}


@pytest.mark.parametrize("name", VALUES)
def test_a_manifest_is_what_the_charts_render_to(name: str) -> None:
    written = (K8S / name / "pinhole.yaml").read_text()
    assert by_name(written) == by_name(render(name, find_tool("helm"))), "run `make manifests`"


@pytest.mark.parametrize("name", VALUES)
def test_no_secret_is_in_a_manifest(name: str) -> None:
    assert "Secret" not in {kind for kind, _ in by_name((K8S / name / "pinhole.yaml").read_text())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of k8s/, with the passwords that its folder `dev` takes."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(K8S, root / "k8s", ignore=shutil.ignore_patterns("secrets.env"))
    shutil.copy(K8S.parent / "Makefile", root)
    subprocess.run(["make", "-C", root, "k8s/dev/secrets.env"], check=True, capture_output=True, timeout=60)
    return root / "k8s"


def kustomize(path: Path) -> str:
    """Return what `kubectl apply -k` would apply."""
    kubectl = shutil.which("kubectl")
    command = [kubectl, "kustomize"] if kubectl else [find_tool("kustomize"), "build"]
    return subprocess.run([*command, path], check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("name", VALUES)
def test_what_kustomize_makes_of_a_folder_is_valid_and_in_its_namespace(name: str, folder: Path) -> None:
    made = kustomize(folder / name)
    assert_valid(made)
    found = by_name(made)
    assert set(by_name((K8S / name / "pinhole.yaml").read_text())) < set(found)
    assert found.pop(("Namespace", "pinhole"))
    assert {each["metadata"]["namespace"] for each in found.values()} == {"pinhole"}


def test_the_passwords_that_make_draws_are_those_that_the_pods_are_given(folder: Path) -> None:
    found = by_name(kustomize(folder / "dev"))
    passwords = found["Secret", "pinhole-secrets"]["data"]
    assert len(set(passwords.values())) == 4
    told = {
        item["key"]
        for (kind, _), each in found.items()
        if kind in ("Deployment", "StatefulSet")
        for item in secret_keys(each["spec"]["template"]["spec"])
    }
    assert told == {"admin-password", "auth-password", "users-password"}
    assert set(passwords) == told | {"postgres-password"}


def secret_keys(part: Any) -> Iterator[dict[str, str]]:
    """Yield each reference to a key of the Secret, wherever in a pod it is."""
    if isinstance(part, dict):
        if part.get("name") == "pinhole-secrets":
            yield from [part] if "key" in part else part["items"]
        for below in part.values():
            yield from secret_keys(below)
    if isinstance(part, list):
        for below in part:
            yield from secret_keys(below)


def test_the_namespace_holds_pods_to_the_restricted_standard() -> None:
    namespace = yaml.safe_load((K8S / "base/namespace.yaml").read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
