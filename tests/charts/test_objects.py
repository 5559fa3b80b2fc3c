"""What the rendered objects say: they find each other, tell no secret, and are as safe as they can be."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from auth_service.settings import AuthSettings
from gateway.routes import PREFIXES
from inference_service.settings import InferenceSettings
from opentelemetry.sdk.resources import OTELResourceDetector
from servicekit.settings import variable_name
from users_service.settings import UsersSettings

from tests.charts.flavours import (
    FLAVOURS,
    GIVEN,
    Flavour,
    Object,
    containers,
    named,
    objects,
    of_kind,
    pods,
    template,
)

every_flavour = pytest.mark.parametrize("name", FLAVOURS)
RELOADED = "code that is put into its container"
ONE_REPLICA = ("dev", "watched on a laptop", RELOADED, "a Job that signs in", "one replica")

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


def selects(selector: Mapping[str, str], pod: Object) -> bool:
    labels = pod["metadata"]["labels"]
    return all(labels.get(key) == value for key, value in selector.items())


@every_flavour
def test_no_two_objects_have_one_name(name: str) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects(name)]
    assert len(names) == len(set(names))


@every_flavour
def test_each_selector_selects_the_pods_that_are_meant(name: str) -> None:
    workloads = {found["metadata"]["name"]: found for found in of_kind(name, "Deployment", "StatefulSet")}
    for workload in workloads.values():
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selects(selector, workload["spec"]["template"])
        assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    for found in of_kind(name, "Service", "PodDisruptionBudget"):
        selector = found["spec"]["selector"]
        selected = [pod for pod in pods(name) if selects(selector.get("matchLabels", selector), pod)]
        assert selected == [workloads[found["metadata"]["name"]]["spec"]["template"]]
    for policy in of_kind(name, "NetworkPolicy"):
        assert len([pod for pod in pods(name) if selects(policy["spec"]["podSelector"]["matchLabels"], pod)]) == 1
    for monitor in of_kind(name, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        (service,) = (found for found in of_kind(name, "Service") if selects(wanted, found))
        assert {port["name"] for port in service["spec"]["ports"]} >= {
            point["port"] for point in monitor["spec"]["endpoints"]
        }
    for scaler in of_kind(name, "HorizontalPodAutoscaler", "ScaledObject"):
        assert scaler["spec"]["scaleTargetRef"]["name"] in workloads


@every_flavour
def test_each_pod_is_under_a_policy(name: str) -> None:
    if name == "no policies":
        assert of_kind(name, "NetworkPolicy") == []
        return
    policies = of_kind(name, "NetworkPolicy")
    for pod in pods(name):
        covering = [policy for policy in policies if selects(policy["spec"]["podSelector"]["matchLabels"], pod)]
        assert len(covering) == 1, pod["metadata"]
        assert covering[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]


@every_flavour
def test_each_reference_leads_to_an_object_and_its_key(name: str) -> None:
    own = {(found["kind"], found["metadata"]["name"]): found for found in objects(name)}

    def check(kind: str, object_name: str, key: str | None = None) -> None:
        if object_name in GIVEN:
            return
        found = own[kind, object_name]
        assert key is None or key in found.get("data", {}), (kind, object_name, key)

    for pod in pods(name):
        account = pod["spec"].get("serviceAccountName", "default")
        if account != "default":
            check("ServiceAccount", account)
        for claim in pod["spec"].get("resourceClaims", []):
            check("ResourceClaimTemplate", claim["resourceClaimTemplateName"])
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        claimed = {"data"} if "postgresql" in pod["metadata"]["labels"]["app.kubernetes.io/name"] else set()
        for volume in volumes.values():
            for source in volume.get("projected", {}).get("sources", [volume]):
                if "secret" in source:
                    for item in source["secret"].get("items", [{"key": None}]):
                        check("Secret", source["secret"].get("name") or source["secret"]["secretName"], item["key"])
                if "configMap" in source:
                    check("ConfigMap", source["configMap"]["name"])
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in GIVEN
        for container in containers(pod):
            mounted = [mount["name"] for mount in container.get("volumeMounts", [])]
            assert len(mounted) == len(set(mounted))
            assert set(mounted) <= set(volumes) | claimed
            for source in container.get("envFrom", []):
                check("ConfigMap", source["configMapRef"]["name"])
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    check("Secret", reference["name"], reference["key"])


@every_flavour
def test_each_route_leads_to_a_port_of_a_service(name: str) -> None:
    services = {found["metadata"]["name"]: found["spec"]["ports"] for found in of_kind(name, "Service")}
    for _, _, service, port in routes(name):
        assert any(port in (each["port"], each["name"]) for each in services[service])


def routes(name: str) -> Iterator[tuple[str, bool, str, Any]]:
    """Yield path, whether it is exact, Service and its port, of Ingress and HTTPRoute."""
    for ingress in of_kind(name, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                yield path["path"], path["pathType"] == "Exact", backend["name"], backend["port"]["name"]
    for route in of_kind(name, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            (backend,) = rule["backendRefs"]
            for match in rule["matches"]:
                yield match["path"]["value"], match["path"]["type"] == "Exact", backend["name"], backend["port"]


@pytest.mark.parametrize("name", ["default", "gateway", "tls", "production"])
def test_the_paths_are_those_of_the_gateway_on_a_laptop(name: str) -> None:
    table = {(path, is_exact, service.removeprefix("ph-")) for path, is_exact, service, _ in routes(name)}
    assert table == {(prefix.path, prefix.is_exact, prefix.service) for prefix in PREFIXES}


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


@every_flavour
def test_secrets_are_in_secrets_alone(name: str) -> None:
    secrets = {
        base64.b64decode(value).decode() for found in of_kind(name, "Secret") for value in found["data"].values()
    }
    if name == "inline secrets":
        assert {"hunter2-admin", "hunter2-database", "redis://:hunter2-redis@cache:6380/0"} <= secrets
    rest = yaml.safe_dump_all([found for found in objects(name) if found["kind"] != "Secret"])
    assert "hunter2" not in rest
    assert not [secret for secret in secrets if secret in rest]


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


@every_flavour
def test_the_probes_are_those_of_the_services(name: str) -> None:
    for deployment in of_kind(name, "Deployment"):
        container, *_ = deployment["spec"]["template"]["spec"]["containers"]
        paths = {
            kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


@every_flavour
def test_one_decides_how_many_replicas_there_are(name: str) -> None:
    scalers = of_kind(name, "HorizontalPodAutoscaler", "ScaledObject")
    for deployment in of_kind(name, "Deployment"):
        scaled = [each for each in scalers if each["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]]
        assert len(scaled) == (0 if "replicas" in deployment["spec"] else 1)


def test_two_autoscalers_are_refused() -> None:
    done = template(Flavour(settings=("inference.keda.enabled=true", "inference.autoscaling.enabled=true")))
    assert done.returncode != 0
    assert "exclude each other" in done.stderr


@every_flavour
def test_there_is_a_budget_where_there_is_more_than_one_replica(name: str) -> None:
    budgets = {found["metadata"]["name"] for found in of_kind(name, "PodDisruptionBudget")}
    deployments = {found["metadata"]["name"] for found in of_kind(name, "Deployment")}
    assert budgets == (set() if name in ONE_REPLICA else deployments)


def test_keda_asks_for_this_release_alone_and_keeps_what_there_is_while_nobody_answers() -> None:
    (scaled,) = of_kind("production", "ScaledObject")
    assert scaled["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
    queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    assert [query.split("{")[0] for query in queries] == [
        "sum(inference_requests_in_flight",
        "sum(avg_over_time(inference_requests_in_flight",
        "sum(rate(inference_device_busy_seconds_total",
    ]
    for trigger in scaled["spec"]["triggers"]:
        assert 'namespace="ns",service="ph-inference"' in trigger["metadata"]["query"]
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert trigger["metricType"] == "AverageValue"
    down = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


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


def test_where_gpus_are_spare_a_rollout_may_take_one() -> None:
    surge = "inference.gpu.updateStrategy.rollingUpdate"
    done = template(Flavour(("gpu",), (f"{surge}.maxSurge=1", f"{surge}.maxUnavailable=0")))
    (deployment,) = (
        each
        for each in yaml.safe_load_all(done.stdout)
        if each and each["kind"] == "Deployment" and each["metadata"]["name"] == "ph-inference"
    )
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_gpu_may_be_claimed() -> None:
    name = "dynamic resource allocation"
    spec = named(name, "Deployment", "ph-inference")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["claims"] == [{"name": "gpu"}]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "ph-inference-gpu"}]


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


def rules(name: str, policy: str, direction: str) -> Any:
    return named(name, "NetworkPolicy", policy)["spec"][direction]


def test_policies_follow_the_addresses_that_are_configured() -> None:
    to_address = {"ports": [{"port": 5432, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}
    assert to_address in rules("external databases", "ph-users", "egress")
    assert {"ports": [{"port": 5432, "protocol": "TCP"}]} in rules("external databases", "ph-auth", "egress")
    databases = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "databases"}}}
    assert {"ports": [{"port": 6379, "protocol": "TCP"}], "to": [databases]} in rules(
        "production", "ph-inference", "egress"
    )
    same_namespace = {"ports": [{"port": 6380, "protocol": "TCP"}], "to": [{"podSelector": {}}]}
    assert same_namespace in rules("inline secrets", "ph-inference", "egress")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in rules("downloaded models", "ph-inference", "egress")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} not in rules("default", "ph-inference", "egress")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in rules("auth alone", "ph-auth", "egress")


def test_a_peer_elsewhere_is_reached_at_the_port_of_its_pods() -> None:
    name = "peers in other releases"
    ports = [{"port": 81, "protocol": "TCP"}, {"port": "http", "protocol": "TCP"}]
    assert {"ports": ports, "to": [{"podSelector": {}}]} in rules(name, "ph-users", "egress")
    identity = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "identity"}}}
    ports = [{"port": 80, "protocol": "TCP"}, {"port": "http", "protocol": "TCP"}]
    assert {"ports": ports, "to": [identity]} in rules(name, "ph-inference", "egress")
    outside = rules("auth alone", "ph-auth", "egress")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in outside
    assert '"http"' not in json.dumps(outside)


def test_an_address_of_either_family_is_itself() -> None:
    to_address = {"ports": [{"port": 5432, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "fd00::1/128"}}]}
    assert to_address in rules("a database by IPv6", "ph-auth", "egress")
    to_redis = {"ports": [{"port": 6380, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "fd00::1/128"}}]}
    assert to_redis in rules("a Redis by IPv6", "ph-inference", "egress")


def test_spans_may_leave_for_where_they_are_sent() -> None:
    data = named("traced", "ConfigMap", "ph-auth")["data"]
    assert data["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.telemetry.svc:4318"
    assert data["OTEL_TRACES_SAMPLER_ARG"] == "0.1"
    telemetry = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "telemetry"}}}
    assert {"ports": [{"port": 4318, "protocol": "TCP"}], "to": [telemetry]} in rules("traced", "ph-auth", "egress")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in named("traced", "ConfigMap", "ph-inference")["data"]


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


def test_only_auth_and_users_reach_the_development_database() -> None:
    (rule,) = rules("default", "ph-postgresql", "ingress")
    allowed = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]]
    assert allowed == ["auth", "users"]
    assert rules("default", "ph-postgresql", "egress") == []
    assert "5432" not in yaml.safe_dump(rules("default", "ph-inference", "egress"))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("postgresql.enabled=true",), "postgresql.enabled is for development"),
        (("global.publicUrl=http://pinhole.example.com",), "has to be https://"),
        (("users.admin.existingSecret=",), "admin.existingSecret"),
        (("auth.database.existingSecret=", "auth.database.password=x"), "database.existingSecret"),
        (("inference.redis.existingSecret=", "inference.redis.url=redis://cache"), "redis.existingSecret"),
    ],
)
def test_production_refuses_what_is_for_development(settings: tuple[str, ...], reason: str) -> None:
    done = template(Flavour(("production",), settings))
    assert done.returncode != 0
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("postgresql.enabled=false",), "set auth.database.host"),
        (("auth.fullnameOverride=issuer",), "users.authUrl and inference.authUrl"),
        (("users.service.port=8080",), "auth.usersUrl"),
        (("users.enabled=false",), "auth.usersUrl"),
        (("httpRoute.enabled=true",), "httpRoute.parentRefs"),
        (("auth.database.host=",), "database.host"),
        (("inference.keda.enabled=true",), "keda.prometheusAddress"),
        (("global.publicUrl=http://[fd00::1]:8080",), "the host of a route is a name"),
        (("global.publicUrl=http://192.0.2.7",), "the host of a route is a name"),
        (("auth.fullnameOverride=ph-users", "users.authUrl=http://a", "inference.authUrl=http://a"), "called ph-users"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(settings: tuple[str, ...], reason: str) -> None:
    done = template(Flavour(settings=settings))
    assert done.returncode != 0
    assert reason in done.stderr


@pytest.mark.parametrize("release", ["users-auth", "inference-users", "pinhole-auth"])
def test_a_release_by_whose_name_two_services_would_be_one_is_refused(release: str) -> None:
    done = template(Flavour(release=release))
    assert done.returncode != 0
    assert f"would both be called {release}" in done.stderr
    assert "another name" in done.stderr


def test_a_release_may_have_the_name_of_one_service() -> None:
    done = template(Flavour(release="auth"))
    assert done.returncode == 0, done.stderr


def test_an_address_is_no_hindrance_where_routes_are_made_elsewhere() -> None:
    done = template(Flavour(settings=("global.publicUrl=http://[fd00::1]:8080", "ingress.enabled=false")))
    assert done.returncode == 0, done.stderr
    assert "http://[fd00::1]:8080" in done.stdout


@pytest.mark.parametrize("secret", ["ph-postgresql", "ph-users"])
def test_the_passwords_of_a_volume_outlive_the_release_as_it_does(secret: str) -> None:
    def policy(name: str) -> Any:
        return named(name, "Secret", secret)["metadata"].get("annotations", {}).get("helm.sh/resource-policy")

    assert policy("default") == "keep"
    assert policy("dev") is None


def test_a_password_that_values_hold_is_not_kept_behind_them() -> None:
    assert "annotations" not in named("inline secrets", "Secret", "ph-users")["metadata"]


def test_two_releases_in_one_namespace_have_nothing_in_common() -> None:
    one = {(found["kind"], found["metadata"]["name"]) for found in objects("default")}
    other = {(found["kind"], found["metadata"]["name"]) for found in objects("a release named like the chart")}
    assert not one & other
    for service in of_kind("default", "Service"):
        assert not [pod for pod in pods("a release named like the chart") if selects(service["spec"]["selector"], pod)]


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


def test_extras_are_everywhere_and_templates_are_rendered() -> None:
    name = "extras"
    for chart in ("auth", "users", "inference"):
        deployment = named(name, "Deployment", f"ph-{chart}")
        assert deployment["metadata"]["labels"]["team"] == "vision"
        spec = deployment["spec"]["template"]["spec"]
        assert deployment["spec"]["template"]["metadata"]["labels"]["tier"] == "api"
        assert spec["priorityClassName"] == "important"
        assert spec["nodeSelector"] == {"disk": "fast"}
        assert {"name": "TZ", "value": "ph"} in spec["containers"][0]["env"]
        assert [each["name"] for each in spec["containers"]] == [chart, f"beside-{chart}"]
        # What the migrations may need comes first.
        first = [each["name"] for each in spec["initContainers"]]
        assert first == (["proxy"] if chart == "inference" else ["proxy", "migrate"])
        assert named(name, "ConfigMap", f"more-{chart}")["data"] == {"a": chart}


def test_tls_and_its_certificate_come_from_the_public_address() -> None:
    (ingress,) = of_kind("tls", "Ingress")
    assert ingress["spec"]["tls"] == [{"hosts": ["p.example.com"], "secretName": "ph-tls"}]
    assert ingress["metadata"]["annotations"] == {"cert-manager.io/issuer": "ca"}
    (plain,) = of_kind("default", "Ingress")
    assert "tls" not in plain["spec"]
