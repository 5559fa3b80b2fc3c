"""What is rendered is valid for Kubernetes and the operators, and for the charts' own schemas."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from auth_service.settings import AuthSettings
from inference_service.settings import InferenceSettings
from pydantic.alias_generators import to_snake
from servicekit.settings import ServiceSettings
from users_service.settings import UsersSettings

from tests.charts.flavours import CHARTS, FLAVOURS, Flavour, helm, objects, render, template
from tests.charts.tools import assert_valid, find_tool

NAMES = ("auth", "users", "inference", "pinhole")
SETTINGS: dict[str, type[ServiceSettings]] = {
    "auth": AuthSettings,
    "users": UsersSettings,
    "inference": InferenceSettings,
}
NOT_WANTED = {
    "container-image-pull-policy": "versions are fixed, so there is nothing to pull again",
    "deployment-has-host-podantiaffinity": "topologySpreadConstraints spread the pods",
    "deployment-replicas": "where an autoscaler decides there are none",
    "container-security-context-user-group-id": "the official image of PostgreSQL has user 999",
}
WITHOUT = {
    "no policies": ("pod-networkpolicy",),
    "code that is put into its container": ("container-security-context-readonlyrootfilesystem",),
}
"""What a flavour is there to do without."""


@pytest.mark.parametrize("name", FLAVOURS)
def test_a_flavour_is_valid_and_nothing_is_left_unchecked(name: str) -> None:
    assert_valid(render(name))


@pytest.mark.parametrize("name", FLAVOURS)
def test_kube_score_finds_nothing(name: str) -> None:
    ignored = [*NOT_WANTED, *WITHOUT.get(name, ())]
    command = [find_tool("kube-score"), "score", "--output-format", "ci", "--kubernetes-version", "v1.37"]
    done = subprocess.run(
        [*command, "--ignore-test", ",".join(ignored), "-"],
        input=render(name),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "[OK]" in done.stdout
    assert [line for line in done.stdout.splitlines() if not line.startswith(("[OK]", "[SKIPPED]"))] == []


@pytest.mark.parametrize("chart", NAMES)
def test_lint_has_nothing_to_say(chart: str) -> None:
    done = helm("lint", "--strict", "--kube-version", "1.37.0", str(CHARTS / chart))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize(
    ("chart", "setting", "place"),
    [
        ("pinhole", "usres.enabled=true", "usres"),
        ("pinhole", "users.config.singUp=open", "singUp"),
        ("pinhole", "auth.replicaCuont=2", "replicaCuont"),
        ("pinhole", "inference.gpu.enable=true", "enable"),
        ("inference", "gpu.resourceName=gpu", "resourceName"),
        ("users", "config.passwordMinScore=high", "passwordMinScore"),
        ("auth", "config.signingAlgorithm=HS256", "signingAlgorithm"),
        ("auth", "shutdown.gracefulTimeoutSeconds=2", "gracefulTimeoutSeconds"),
        # By these pods are selected: services would not reach each other.
        ("pinhole", r"auth.commonLabels.app\.kubernetes\.io/part-of=shop", "commonLabels"),
        ("pinhole", r"commonLabels.app\.kubernetes\.io/name=shop", "commonLabels"),
        ("users", r"podLabels.app\.kubernetes\.io/instance=shop", "podLabels"),
    ],
)
def test_a_value_that_is_misspelt_or_of_another_type_is_refused(chart: str, setting: str, place: str) -> None:
    done = template(Flavour(chart=chart, settings=(setting,)))
    assert done.returncode != 0
    assert "schema" in done.stderr
    assert place in done.stderr


@pytest.mark.parametrize("key", ["nodeSelector", "tolerations", "podLabels"])
def test_a_key_with_nothing_behind_it_is_as_one_that_is_not_there(key: str) -> None:
    done = template(Flavour(("gpu",), document=f"inference:\n  {key}:\ningress:\n  annotations:\n"))
    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] != "Secret"]
    assert found == [each for each in objects("gpu") if each["kind"] != "Secret"]


def test_an_umbrella_of_others_may_have_globals_of_its_own() -> None:
    done = template(Flavour(settings=("global.storageClass=fast",)))
    assert done.returncode == 0, done.stderr


def schema(chart: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHARTS / chart / "values.schema.json").read_text())
    return found


@pytest.mark.parametrize("chart", SETTINGS)
def test_what_config_takes_are_settings_of_the_service(chart: str) -> None:
    keys = schema(chart)["properties"]["config"]["properties"]
    assert keys
    assert {to_snake(key) for key in keys} <= set(SETTINGS[chart].model_fields)


@pytest.mark.parametrize("chart", SETTINGS)
def test_each_key_of_config_becomes_the_variable_of_its_setting(chart: str) -> None:
    keys = [*schema(chart)["properties"]["config"]["properties"]]
    # The schema is not what is tested here, and most settings do not take these values.
    arguments = ["--skip-schema-validation", "--kube-version", "1.37.0", "--set", "database.host=db"]
    for number, key in enumerate(keys):
        arguments += ["--set-json", f"config.{key}={number}"]
    done = helm("template", "r", str(CHARTS / chart), "--show-only", "templates/service.yaml", *arguments)
    assert done.returncode == 0, done.stderr
    (found,) = (each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] == "ConfigMap")
    for number, key in enumerate(keys):
        assert found["data"][f"{chart}_{to_snake(key)}".upper()] == str(number)


@pytest.mark.parametrize("chart", NAMES)
def test_the_schema_knows_each_value(chart: str) -> None:
    def keys(value: Any, known: dict[str, Any]) -> None:
        if isinstance(value, dict) and "properties" in known:
            assert set(value) <= set(known["properties"]), known
            for key, below in value.items():
                keys(below, known["properties"][key])

    keys(yaml.safe_load((CHARTS / chart / "values.yaml").read_text()), schema(chart))


@pytest.mark.parametrize("chart", NAMES)
def test_each_section_of_the_values_is_in_the_file_and_in_no_need_of_a_guess(chart: str) -> None:
    written = set(yaml.safe_load((CHARTS / chart / "values.yaml").read_text()))
    assert set(schema(chart)["properties"]) - {"enabled", "servicekit"} == written


@pytest.fixture(scope="module")
def schemas_of_the_script() -> dict[str, Any]:
    """The schemas by chart, from one process for all: it imports every service."""
    code = f"import sys; sys.path.insert(0, {str(CHARTS)!r}); import json, schemas; "
    code += "print(json.dumps({chart: json.loads(schemas.render(chart)) for chart in schemas.SCHEMAS}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    rendered: dict[str, Any] = json.loads(done.stdout)
    return rendered


@pytest.mark.parametrize("chart", NAMES)
def test_the_schemas_are_those_that_the_script_writes(chart: str, schemas_of_the_script: dict[str, Any]) -> None:
    """But for settings that are newer than the file: `make chart-schemas` adds them."""
    rendered, written = schemas_of_the_script[chart], schema(chart)
    for document in (rendered, written):
        document["properties"].pop("config", None)
    assert rendered == written


def test_versions_are_the_same_everywhere() -> None:
    versions = set()
    for path in CHARTS.glob("*/Chart.yaml"):
        document = yaml.safe_load(path.read_text())
        versions |= {document["version"], document["appVersion"]}
        versions |= {dependency["version"] for dependency in document.get("dependencies", [])}
    for path in CHARTS.parent.glob("services/*/pyproject.toml"):
        versions |= set(re.findall(r'^version = "(.*)"$', path.read_text(), re.MULTILINE))
    assert len(versions) == 1


def undocumented(chart: str) -> list[str]:
    """Return the keys of a values.yaml without a comment above them or behind them.

    Those of the first level, and those of the second where they are ours and not those of an object of Kubernetes;
    `enabled` says it itself.
    """
    sections = schema(chart)["properties"]
    missing, above, section = [], "", ""
    for line in (CHARTS / chart / "values.yaml").read_text().splitlines():
        if found := re.match(r"( {2})?([A-Za-z]+):", line):
            section = section if found[1] else found[2]
            is_ours = not found[1] or "properties" in sections[section]
            if is_ours and found[2] != "enabled" and " # " not in line and not above.strip().startswith("# "):
                missing.append(f"{section}.{found[2]}" if found[1] else section)
        above = line
    return missing


@pytest.mark.parametrize("chart", NAMES)
def test_each_value_is_explained(chart: str) -> None:
    assert undocumented(chart) == []
