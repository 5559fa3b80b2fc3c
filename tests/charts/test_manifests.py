"""The plain manifests of k8s/ are those that the charts render to."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.render import K8S, VALUES, render
from tests.charts.tools import find_tool


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


def test_the_folders_that_kustomize_is_given_are_whole() -> None:
    for path in K8S.glob("*/kustomization.yaml"):
        document = yaml.safe_load(path.read_text())
        for resource in document["resources"]:
            assert (path.parent / Path(resource)).exists()


def test_the_namespace_holds_pods_to_the_restricted_standard() -> None:
    namespace = yaml.safe_load((K8S / "base/namespace.yaml").read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
