"""What the services are told: variables and files that they read, and no secret outside of Secrets."""

import base64
from typing import Any

import pytest
import yaml
from auth_service.settings import AuthSettings
from inference_service.settings import InferenceSettings
from opentelemetry.sdk.resources import OTELResourceDetector
from servicekit.settings import variable_name
from users_service.settings import UsersSettings

from tests.charts.flavours import (
    FLAVOURS,
    GIVEN,
    Flavour,
    containers,
    every_flavour,
    named,
    objects,
    of_kind,
    pods,
    template,
)

SERVER = {"PORT", "GRACEFUL_TIMEOUT_SECONDS", "HOST", "WORKERS", "FORWARDED_ALLOW_IPS"}
"""Of the server that each service runs in."""
OF_OTHERS = {
    *("PGPASSWORD", "TZ", "POSTGRES_PASSWORD_FILE", "PGDATA"),
    *("OTEL_RESOURCE_ATTRIBUTES", "K8S_NAMESPACE_NAME", "K8S_NODE_NAME", "K8S_POD_NAME", "K8S_POD_UID"),
}
"""Of asyncpg, the flavours here, the image of PostgreSQL, and OpenTelemetry."""
VARIABLES = {
    *(
        variable_name(cls, field)
        for cls in (AuthSettings, UsersSettings, InferenceSettings)
        for field in cls.model_fields
    ),
    *(f"{cls.model_config['env_prefix']}SECRETS_DIR" for cls in (AuthSettings, UsersSettings, InferenceSettings)),
}


@every_flavour
def test_what_is_told_are_settings_of_the_services(name: str) -> None:
    for pod in pods(name):
        for container in containers(pod):
            told = [variable["name"] for variable in container.get("env", [])]
            for source in container.get("envFrom", []):
                if source["configMapRef"]["name"] not in GIVEN:
                    told += named(name, "ConfigMap", source["configMapRef"]["name"])["data"]
            assert len(told) == len(set(told))
            assert set(told) <= VARIABLES | SERVER | OF_OTHERS


@every_flavour
def test_the_files_of_secrets_are_settings_of_the_services(name: str) -> None:
    files = {
        item["path"].upper()
        for pod in pods(name)
        for volume in pod["spec"].get("volumes", [])
        if volume["name"] == "secrets" and "projected" in volume
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert files <= VARIABLES
    if name == "inline secrets":
        assert {"INFERENCE_CACHE_REDIS_URL", "INFERENCE_RATE_LIMIT_REDIS_URL"} <= files, "one Redis for both"
        assert {"AUTH_RATE_LIMIT_REDIS_URL", "USERS_RATE_LIMIT_REDIS_URL"} <= files


@every_flavour
def test_secrets_are_in_secrets_alone(name: str) -> None:
    secrets = {
        base64.b64decode(value).decode() for found in of_kind(name, "Secret") for value in found["data"].values()
    }
    if name == "inline secrets":
        assert {"hunter2-admin", "hunter2-database", "redis://:hunter2-redis@cache:6380/0"} <= secrets
        assert {"rediss://:hunter2-auth@cache.data.svc", "redis://:hunter2-users@10.1.2.4"} <= secrets
    rest = yaml.safe_dump_all([found for found in objects(name) if found["kind"] != "Secret"])
    assert "hunter2" not in rest
    assert not [secret for secret in secrets if secret in rest]


@pytest.mark.parametrize("service", ["auth", "users", "inference"])
def test_the_address_of_a_redis_is_read_from_a_secret_of_yours(service: str) -> None:
    (secrets,) = (
        volume["projected"]["sources"]
        for volume in named("production", "Deployment", f"ph-{service}")["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "secrets"
    )
    item = {"key": "redis-url", "path": f"{service}_rate_limit_redis_url"}
    assert {"secret": {"name": "pinhole-redis", "items": [item]}} in secrets


def test_a_setting_of_any_type_becomes_what_the_service_reads() -> None:
    clients = [{"id": "nightly", "name": "Nightly", "scopes": ["users:read"], "secret_sha256": ["0" * 64]}]
    config = {"clients": clients, "accessTokenSeconds": 1200000, "passwordGrant": False}
    done = template(Flavour(document=yaml.safe_dump({"auth": {"config": config}})))
    assert done.returncode == 0, done.stderr
    (data,) = (
        each["data"]
        for each in yaml.safe_load_all(done.stdout)
        if each and each["kind"] == "ConfigMap" and each["metadata"]["name"] == "ph-auth"
    )
    assert yaml.safe_load(data["AUTH_CLIENTS"]) == clients
    assert data["AUTH_ACCESS_TOKEN_SECONDS"] == "1200000"
    assert data["AUTH_PASSWORD_GRANT"] == "false"


def test_spans_say_which_pod_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    [container] = named("traced", "Deployment", "ph-users")["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable for variable in container["env"]}
    told = variables["OTEL_RESOURCE_ATTRIBUTES"]["value"]
    for name, variable in variables.items():
        if "fieldRef" in variable.get("valueFrom", {}):
            told = told.replace(f"$({name})", variable["valueFrom"]["fieldRef"]["fieldPath"])
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", told)
    assert dict(OTELResourceDetector().detect().attributes) == {
        "k8s.deployment.name": "ph-users",
        "k8s.namespace.name": "metadata.namespace",
        "k8s.node.name": "spec.nodeName",
        "k8s.pod.name": "metadata.name",
        "k8s.pod.uid": "metadata.uid",
        "site": "here, there",
    }


@pytest.mark.parametrize("secret", ["ph-postgresql", "ph-users"])
def test_the_passwords_of_a_volume_outlive_the_release_as_it_does(secret: str) -> None:
    def policy(name: str) -> Any:
        return named(name, "Secret", secret)["metadata"].get("annotations", {}).get("helm.sh/resource-policy")

    assert policy("default") == "keep"
    assert policy("dev") is None


def test_a_password_that_values_hold_is_not_kept_behind_them() -> None:
    assert "annotations" not in named("inline secrets", "Secret", "ph-users")["metadata"]


def test_a_change_of_configuration_changes_the_pods() -> None:
    def checksum(name: str, key: str) -> Any:
        deployment = named(name, "Deployment", "ph-inference")
        return deployment["spec"]["template"]["metadata"]["annotations"].get(f"checksum/{key}")

    assert checksum("default", "config") != checksum("downloaded models", "config")
    assert checksum("downloaded models", "models") != checksum("a volume of models", "models")
    assert checksum("inline secrets", "secret") is not None


def test_a_generated_secret_alone_does_not_change_the_pods() -> None:
    deployment = named("default", "Deployment", "ph-users")
    again = yaml.safe_load_all(template(FLAVOURS["default"]).stdout)
    (rendered,) = (
        each for each in again if each and each["kind"] == "Deployment" and each["metadata"]["name"] == "ph-users"
    )
    assert rendered == deployment
