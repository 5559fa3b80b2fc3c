"""Helm 3 renders what Helm 4 does: a `helm3` of the user, or the one in .venv-clients, which is for Linux on x86-64."""

import shutil

import pytest
import yaml

from tests.charts.flavours import FLAVOURS, ROOT, Object, helm, render, template

HELM3 = shutil.which("helm3") or str(ROOT / ".venv-clients/bin/helm")


def by_name(text: str) -> dict[tuple[str, str], Object]:
    """Return objects by kind and name; what Secrets hold is drawn anew each time, so their keys alone."""
    found = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}
    for (kind, _), each in found.items():
        if kind == "Secret":
            each["data"] = set(each["data"])
    return found


def test_it_is_helm_3() -> None:
    assert helm("version", "--short", program=HELM3).stdout.startswith("v3.")


@pytest.mark.parametrize("name", FLAVOURS)
def test_both_versions_of_helm_render_the_same(name: str) -> None:
    done = template(FLAVOURS[name], program=HELM3)
    assert done.returncode == 0, done.stderr
    assert by_name(done.stdout) == by_name(render(name))
