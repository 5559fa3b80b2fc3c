"""The ways to install Pinhole that are supported, and what each renders."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.tools import find_tool

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
Object = dict[str, Any]

EXTERNAL_DATABASES = (
    "postgresql.enabled=false",
    *("auth.database.host=db.example.com", "auth.database.existingSecret=auth-database"),
    *("users.database.host=10.1.2.3", "users.database.existingSecret=users-database"),
)
PROXY = {
    "image": "registry.example.com/proxy:1",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "resources": {
        "requests": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "16Mi"},
        "limits": {"cpu": "100m", "memory": "32Mi", "ephemeral-storage": "16Mi"},
    },
}
EXTRAS = {
    "commonLabels": {"team": "vision"},
    "podLabels": {"tier": "api"},
    "podAnnotations": {"example.com/scrape": "no"},
    "priorityClassName": "important",
    "affinity": {"podAntiAffinity": {}},
    "tolerations": [{"operator": "Exists"}],
    "nodeSelector": {"disk": "fast"},
    "extraEnv": [{"name": "TZ", "value": "{{ .Release.Name }}"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "initContainers": [PROXY | {"name": "proxy", "restartPolicy": "Always"}],
    "sidecars": [PROXY | {"name": "beside-{{ .Chart.Name }}"}],
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "more-{{ .Chart.Name }}"},
            "data": {"a": "{{ .Chart.Name }}"},
        }
    ],
}


@dataclass(frozen=True)
class Flavour:
    """Values of a chart, as `helm` takes them: files, `--set`, and a document.

    Of the files `dev` is the chart's values-dev.yaml, and `k8s/dev/values.yaml` is what it says.
    """

    files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    document: str = ""
    chart: str = "pinhole"
    release: str = "ph"


RELOADED = "code that is put into its container"

FLAVOURS: Mapping[str, Flavour] = {
    "default": Flavour(),
    "dev": Flavour(("dev",)),
    "watched on a laptop": Flavour(("dev", "k8s/monitoring/values.yaml")),
    RELOADED: Flavour(("dev", "k8s/skaffold/values-reload.yaml")),
    "production": Flavour(("production",)),
    "gpu": Flavour(("gpu",)),
    "gpu in production": Flavour(("production", "gpu")),
    "mig": Flavour(
        ("gpu",), ("inference.gpu.resourceName=nvidia.com/mig-1g.10gb", "inference.gpu.runtimeClassName=nvidia")
    ),
    "dynamic resource allocation": Flavour(
        ("gpu",), ("inference.gpu.dra.enabled=true", "inference.gpu.dra.selectors={device.driver == 'gpu.nvidia.com'}")
    ),
    "gateway": Flavour(
        settings=("ingress.enabled=false", "httpRoute.enabled=true", "httpRoute.parentRefs[0].name=public")
    ),
    "tls": Flavour(settings=("global.publicUrl=https://p.example.com", "ingress.certManager.issuer=ca")),
    "external databases": Flavour(settings=EXTERNAL_DATABASES),
    "addresses of databases in secrets": Flavour(
        settings=(
            *EXTERNAL_DATABASES,
            *("auth.database.existingSecretUrlKey=url", "users.database.existingSecretUrlKey=url"),
        )
    ),
    "inline secrets": Flavour(
        settings=(
            *("inference.redis.url=redis://:hunter2-redis@cache:6380/0", "users.admin.password=hunter2-admin"),
            *("auth.database.existingSecret=", "auth.database.password=hunter2-database"),
            *(
                "auth.redis.url=rediss://:hunter2-auth@cache.data.svc",
                "users.redis.url=redis://:hunter2-users@10.1.2.4",
            ),
        )
    ),
    "a Redis by IPv6": Flavour(settings=("inference.redis.url=redis://:hunter2@[fd00::1]:6380/0",)),
    "a volume of models": Flavour(
        document=yaml.safe_dump(
            {
                "inference": {
                    "models": [
                        {"name": "birds", "source": "file:/models/birds.safetensors", "labels": "/models/birds.txt"}
                    ],
                    "modelVolume": {"existingClaim": "models"},
                }
            }
        )
    ),
    "an image of models": Flavour(
        document=yaml.safe_dump(
            {
                "inference": {
                    "models": [{"name": "birds", "source": "file:/models/birds.pt2", "labels": ["robin"]}],
                    "modelVolume": {"image": {"reference": "registry.example.com/models:1"}},
                }
            }
        )
    ),
    "downloaded models": Flavour(
        document=yaml.safe_dump(
            {
                "inference": {
                    "models": [
                        {"name": "leaves", "source": "https://example.com/leaves.pt2", "sha256": "0" * 64},
                        {"name": "trees", "source": "https://minio.example.com:9000/trees.pt2", "sha256": "0" * 64},
                    ],
                    "weightsCache": {"existingClaim": "weights"},
                }
            }
        )
    ),
    "autoscaled": Flavour(
        settings=tuple(f"{chart}.autoscaling.enabled=true" for chart in ("auth", "users", "inference"))
    ),
    "one replica": Flavour(settings=tuple(f"{chart}.replicaCount=1" for chart in ("auth", "users", "inference"))),
    "extras": Flavour(document=yaml.safe_dump(dict.fromkeys(("auth", "users", "inference"), EXTRAS))),
    "no policies": Flavour(
        settings=(
            *(f"{chart}.networkPolicy.enabled=false" for chart in ("auth", "users", "inference")),
            *(f"{chart}.serviceAccount.create=false" for chart in ("auth", "users", "inference")),
            "postgresql.networkPolicy.enabled=false",
        )
    ),
    "other names": Flavour(
        settings=(
            *(f"{chart}.serviceAccount.name=account-of-{chart}" for chart in ("auth", "users", "inference")),
            *("auth.fullnameOverride=issuer", "users.authUrl=http://issuer", "inference.authUrl=http://issuer"),
            *("users.service.port=8080", "auth.usersUrl=http://ph-users:8080", "inference.nameOverride=eyes"),
        )
    ),
    "peers in other releases": Flavour(
        document=yaml.safe_dump(
            {
                "auth": {"enabled": False},
                "users": {"authUrl": "http://issuer:81"},
                "inference": {"authUrl": "http://issuer.identity.svc"},
            }
        )
    ),
    "a database by IPv6": Flavour(
        settings=(
            *("postgresql.enabled=false", "auth.database.host=[fd00::1]", "auth.database.existingSecret=auth-database"),
            *("users.database.host=db.data.svc", "users.database.existingSecret=users-database"),
        )
    ),
    "no migrations before the start": Flavour(
        settings=("auth.migrations.initContainer=false", "users.migrations.initContainer=false")
    ),
    "gRPC": Flavour(
        settings=(
            "inference.grpc.enabled=true",
            *("inference.tracing.endpoint=http://collector:4317", "inference.tracing.protocol=grpc"),
        )
    ),
    "gRPC from outside": Flavour(
        settings=(
            *(
                "inference.grpc.enabled=true",
                "inference.nameOverride=eyes",
                "global.publicUrl=https://p.example.com:8443",
            ),
            *("ingress.className=traefik", "ingress.annotations.a=both", "ingress.annotations.b=rest"),
            *("ingress.grpc.host=grpc.{{ .Release.Name }}.example.com", "ingress.grpc.annotations.b=grpc"),
            *("ingress.certManager.issuer=ca", "httpRoute.enabled=true", "httpRoute.parentRefs[0].name=public"),
            "httpRoute.grpc.host=grpc.gateway.example.com",
        )
    ),
    "sealed keys, and clients by ServiceAccount": Flavour(
        settings=(
            *("auth.keyEncryption.existingSecret=auth-keys", "auth.serviceAccountClients.enabled=true"),
            "auth.clientKeys.ports={443,8443}",
        )
    ),
    "a Job that signs in": Flavour(("dev", "examples/kubernetes/values.yaml")),
    "traced": Flavour(
        document=yaml.safe_dump(
            {
                "auth": {"tracing": {"endpoint": "http://collector.telemetry.svc:4318", "samplerArg": 0.1}},
                "users": {
                    "tracing": {"endpoint": "http://collector:4318", "resourceAttributes": {"site": "here, there"}}
                },
            }
        )
    ),
    "a release named like the chart": Flavour(release="pinhole"),
    "a release with the longest name": Flavour(release="r" * 53),
    "auth alone": Flavour(chart="auth", settings=("database.host=db", "usersUrl=https://users.example.com")),
    "users alone": Flavour(chart="users", settings=("database.host=db",)),
    "inference alone": Flavour(chart="inference", release="inference"),
}

every_flavour = pytest.mark.parametrize("name", FLAVOURS)

GIVEN = {
    *("auth-database", "users-database", "pinhole-auth-database", "pinhole-users-database", "pinhole-administrator"),
    *("auth-keys", "pinhole-auth-keys", "kube-root-ca.crt", "pinhole-redis", "models", "weights", "more", "important"),
}
"""What these values name and whoever installs brings along."""


def helm(*arguments: str, document: str = "", program: str = "helm") -> "subprocess.CompletedProcess[str]":
    """Run Helm; `document` is its standard input."""
    return subprocess.run(
        [find_tool(program), *arguments], input=document, capture_output=True, text=True, timeout=60, check=False
    )


def template(flavour: Flavour, *, charts: Path = CHARTS, program: str = "helm") -> "subprocess.CompletedProcess[str]":
    """Run `helm template`."""
    chart = charts / flavour.chart
    arguments = ["template", flavour.release, str(chart), "--namespace", "ns", "--kube-version", "1.37.0"]
    for name in flavour.files:
        arguments += ["--values", str(ROOT / name if "/" in name else chart / f"values-{name}.yaml")]
    for setting in flavour.settings:
        arguments += ["--set", setting]
    return helm(*arguments, "--values", "-", document=flavour.document or "{}", program=program)


@cache
def render(name: str) -> str:
    """Return what a flavour renders to."""
    done = template(FLAVOURS[name])
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def objects(name: str) -> list[Object]:
    """Return the objects of a flavour."""
    return [document for document in yaml.safe_load_all(render(name)) if document]


def of_kind(name: str, *kinds: str) -> list[Object]:
    """Return the objects of some kinds."""
    return [found for found in objects(name) if found["kind"] in kinds]


def named(name: str, kind: str, object_name: str) -> Object:
    """Return one object."""
    (found,) = (each for each in of_kind(name, kind) if each["metadata"]["name"] == object_name)
    return found


def pods(name: str) -> Iterator[Object]:
    """Yield every pod, or template of pods, as `{metadata, spec}`."""
    for found in of_kind(name, "Pod", "Deployment", "StatefulSet"):
        yield found if found["kind"] == "Pod" else found["spec"]["template"]


def selects(selector: Mapping[str, str], found: Object) -> bool:
    """Tell whether the labels of an object are those of a selector."""
    labels = found["metadata"]["labels"]
    return all(labels.get(key) == value for key, value in selector.items())


def containers(pod: Object) -> list[Object]:
    """Return the containers of a pod, those that come first among them."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
