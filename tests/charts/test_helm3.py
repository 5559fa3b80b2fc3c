"""Helm 3 renders what Helm 4 does. It is looked for as `helm3`; where there is none these tests are skipped."""

import shutil

import pytest
import yaml

from tests.charts.flavours import FLAVOURS, Object, render, template

pytestmark = pytest.mark.skipif(shutil.which("helm3") is None, reason="there is no helm3")


def by_name(text: str) -> dict[tuple[str, str], Object]:
    """Return objects by kind and name; what Secrets hold is drawn anew each time, so their keys alone."""
    found = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}
    for (kind, _), each in found.items():
        if kind == "Secret":
            each["data"] = set(each["data"])
    return found


@pytest.mark.parametrize("name", FLAVOURS)
def test_both_versions_of_helm_render_the_same(name: str) -> None:
    done = template(FLAVOURS[name], program="helm3")
    assert done.returncode == 0, done.stderr
    assert by_name(done.stdout) == by_name(render(name))
