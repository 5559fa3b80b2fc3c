"""Writes values.schema.json of each chart: `make chart-schemas`.

What may stand under `config` is taken from the settings of the services, so that a misspelt one is refused
before it reaches a cluster.
"""

import json
from pathlib import Path
from typing import Any

from auth_service.settings import AuthSettings
from inference_service.settings import InferenceSettings
from pydantic.alias_generators import to_camel
from servicekit.settings import ServiceSettings, variable_name
from users_service.settings import UsersSettings

CHARTS = Path(__file__).parent
Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number", "exclusiveMinimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 1}
NATURAL: Schema = {"type": "integer", "minimum": 0}
PERCENTAGE: Schema = {"type": ["integer", "null"], "minimum": 1}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
ANY: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
STRINGS: Schema = {"type": "array", "items": STRING}
MAP: Schema = {"type": "object", "additionalProperties": STRING}
"""Labels, annotations and node selectors."""
LABELS: Schema = MAP | {"patternProperties": {"^(app\\.kubernetes\\.io|helm\\.sh)/": False}}
"""Labels beside those of the charts, which Services, Deployments and NetworkPolicies select pods by."""

ELSEWHERE = {
    *("database_url", "migrate_at_start", "users_url", "auth_url"),
    *("admin_username", "admin_email", "admin_password", "models_file", "weights_dir"),
    *("grpc_port", "grpc_host", "key_encryption_keys", "cache_redis_url", "rate_limit_redis_url"),
    *("cluster_issuer", "cluster_ca_file", "cluster_token_file"),
}
"""Settings that have a value of their own outside of `config`."""


def section(**properties: Schema) -> Schema:
    """Return the schema of an object that has these keys and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def one_of(*values: str) -> Schema:
    """Return the schema of a word."""
    return {"enum": list(values)}


def config(settings: type[ServiceSettings]) -> Schema:
    """Return the schema of `config`: each setting by its name in camel case, with the type that it has.

    Without those of all services, such as LOG_LEVEL, which are values of their own.
    """
    properties = settings.model_json_schema(by_alias=False)["properties"]
    prefix = str(settings.model_config["env_prefix"])
    own = [name for name in properties if variable_name(settings, name).startswith(prefix) and name not in ELSEWHERE]
    return section(**{to_camel(name): _plain(properties[name]) for name in own})


def _plain(schema: Schema) -> Schema:
    """Keep type and choices; null takes a setting back to its default."""
    if "enum" in schema:
        return {"enum": [*schema["enum"], None]}
    kinds = {part.get("type", "string") for part in schema.get("anyOf", [schema])}
    return {"type": sorted(kinds | {"null"})}


GLOBAL: Schema = {
    "type": "object",
    "properties": {
        "publicUrl": {"type": "string", "minLength": 1},
        "production": BOOLEAN,
        "imageRegistry": STRING,
        "imagePullSecrets": OBJECTS,
    },
}
"""Not strict: other charts of an umbrella have globals of their own."""

IMAGE = section(
    registry=STRING,
    repository={"type": "string", "minLength": 1},
    tag=STRING,
    digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    pullPolicy=one_of("Always", "IfNotPresent", "Never"),
)


def tracing(*protocols: str) -> Schema:
    """Return the schema of where spans go, by one of these protocols."""
    sample = {"type": "number", "minimum": 0, "maximum": 1}
    return section(
        endpoint=STRING, protocol=one_of(*protocols), sampler=STRING, samplerArg=sample, resourceAttributes=MAP
    )


OF_ANY_CHART: dict[str, Schema] = {
    "global": GLOBAL,
    "nameOverride": STRING,
    "fullnameOverride": STRING,
    "commonLabels": LABELS,
    "commonAnnotations": MAP,
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    # Helm's own: the condition of a dependency, and what a library chart leaves under its name.
    "enabled": BOOLEAN,
    "servicekit": ANY,
}

OF_SERVICES: dict[str, Schema] = {
    **OF_ANY_CHART,
    "replicaCount": NATURAL,
    "image": IMAGE,
    "imagePullSecrets": OBJECTS,
    "command": STRINGS,
    "args": STRINGS,
    "trustedProxies": STRINGS,
    "logLevel": one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    "logFormat": one_of("json", "console"),
    "tracing": tracing("http/protobuf"),
    "extraEnv": OBJECTS,
    "extraEnvFrom": OBJECTS,
    "extraVolumes": OBJECTS,
    "extraVolumeMounts": OBJECTS,
    "initContainers": OBJECTS,
    "sidecars": OBJECTS,
    "serviceAccount": section(create=BOOLEAN, automount=BOOLEAN, annotations=MAP, name=STRING),
    "service": section(type=one_of("ClusterIP", "NodePort", "LoadBalancer"), port=PORT, annotations=MAP),
    "podAnnotations": MAP,
    "podLabels": LABELS,
    "podSecurityContext": ANY,
    "securityContext": ANY,
    "resources": ANY,
    "startupProbe": ANY,
    "readinessProbe": ANY,
    "livenessProbe": ANY,
    "shutdown": section(
        preStopSleepSeconds=NATURAL,
        # The server keeps 5 s of it for its own end.
        gracefulTimeoutSeconds={"type": "integer", "minimum": 6},
    ),
    "updateStrategy": ANY,
    "revisionHistoryLimit": NATURAL,
    "podDisruptionBudget": section(enabled=BOOLEAN, maxUnavailable={"type": ["integer", "string"]}),
    "autoscaling": section(
        enabled=BOOLEAN,
        minReplicas=COUNT,
        maxReplicas=COUNT,
        targetCPUUtilizationPercentage=PERCENTAGE,
        targetMemoryUtilizationPercentage=PERCENTAGE,
        metrics=OBJECTS,
        behavior=ANY,
    ),
    "nodeSelector": MAP,
    "tolerations": OBJECTS,
    "affinity": ANY,
    "priorityClassName": STRING,
    "topologySpreadConstraints": OBJECTS,
    "networkPolicy": section(enabled=BOOLEAN, ingressFrom=OBJECTS, extraIngress=OBJECTS, extraEgress=OBJECTS),
    "serviceMonitor": section(
        enabled=BOOLEAN,
        labels=MAP,
        interval=STRING,
        scrapeTimeout=STRING,
        relabelings=OBJECTS,
        metricRelabelings=OBJECTS,
    ),
}

DATABASE = section(
    host=STRING,
    port=PORT,
    name={"type": "string", "minLength": 1},
    user={"type": "string", "minLength": 1},
    password=STRING,
    existingSecret=STRING,
    existingSecretPasswordKey=STRING,
    existingSecretUrlKey=STRING,
)
REDIS = section(url=STRING, existingSecret=STRING, existingSecretUrlKey=STRING, host=STRING, port=PORT)
MIGRATIONS = section(initContainer=BOOLEAN, resources=ANY)

AUTH = OF_SERVICES | {
    "usersUrl": STRING,
    "keyEncryption": section(existingSecret=STRING, existingSecretKey=STRING),
    "clientKeys": section(ports={"type": "array", "items": PORT}),
    "serviceAccountClients": section(enabled=BOOLEAN, issuer=STRING),
    "database": DATABASE,
    "migrations": MIGRATIONS,
    "redis": REDIS,
    "config": config(AuthSettings),
}
USERS = OF_SERVICES | {
    "authUrl": STRING,
    "admin": section(
        username=STRING,
        email=STRING,
        password=STRING,
        keepPassword=BOOLEAN,
        existingSecret=STRING,
        existingSecretPasswordKey=STRING,
    ),
    "database": DATABASE,
    "migrations": MIGRATIONS,
    "redis": REDIS,
    "config": config(UsersSettings),
}
INFERENCE = OF_SERVICES | {
    "authUrl": STRING,
    "grpc": section(enabled=BOOLEAN, port=PORT),
    # The other images hold no gRPC.
    "tracing": tracing("http/protobuf", "grpc"),
    "models": {"type": "array", "items": {"type": "object", "required": ["name", "source"]}},
    "modelVolume": section(
        mountPath=STRING,
        existingClaim=STRING,
        image=section(reference=STRING, pullPolicy=one_of("Always", "IfNotPresent", "Never")),
    ),
    "weightsCache": section(existingClaim=STRING, sizeLimit=STRING),
    "redis": REDIS,
    "gpu": section(
        enabled=BOOLEAN,
        resourceName={"type": "string", "pattern": "^[a-z0-9.-]+/[A-Za-z0-9._-]+$"},
        count=COUNT,
        runtimeClassName=STRING,
        nodeSelector=MAP,
        tolerations=OBJECTS,
        updateStrategy=ANY,
        dra=section(enabled=BOOLEAN, deviceClassName=STRING, selectors=STRINGS),
    ),
    "keda": section(
        enabled=BOOLEAN,
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        pollingInterval=COUNT,
        prometheusAddress=STRING,
        authenticationRef=ANY,
        targetInFlight=NUMBER,
        targetDeviceUtilization={**NUMBER, "maximum": 1},
        fallback=ANY,
        behavior=ANY,
        extraTriggers=OBJECTS,
    ),
    "config": config(InferenceSettings),
}
PINHOLE = OF_ANY_CHART | {
    # Each checked by the schema of its own chart.
    "auth": ANY,
    "users": ANY,
    "inference": ANY,
    "ingress": section(
        enabled=BOOLEAN,
        className=STRING,
        annotations=MAP,
        extraHosts=STRINGS,
        tls=section(secretName=STRING),
        certManager=section(issuer=STRING, clusterIssuer=STRING),
        grpc=section(host=STRING, annotations=MAP, serviceAnnotations=MAP, tls=section(secretName=STRING)),
    ),
    "httpRoute": section(
        enabled=BOOLEAN,
        annotations=MAP,
        parentRefs=OBJECTS,
        extraHosts=STRINGS,
        grpc=section(host=STRING, parentRefs=OBJECTS),
    ),
    "postgresql": section(
        enabled=BOOLEAN,
        image=IMAGE,
        existingSecret=STRING,
        persistence=section(enabled=BOOLEAN, storageClassName=STRING, size=STRING),
        resources=ANY,
        podSecurityContext=ANY,
        securityContext=ANY,
        nodeSelector=MAP,
        tolerations=OBJECTS,
        affinity=ANY,
        priorityClassName=STRING,
        networkPolicy=section(enabled=BOOLEAN),
    ),
    "prometheusRule": section(enabled=BOOLEAN, labels=MAP, runbookBaseUrl=STRING),
    "dashboards": section(enabled=BOOLEAN, labels=MAP, annotations=MAP),
}

SCHEMAS = {"auth": AUTH, "users": USERS, "inference": INFERENCE, "pinhole": PINHOLE}


def render(chart: str) -> str:
    """Return the text of a chart's values.schema.json."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": f"Values of the chart {chart}"}
    return json.dumps(head | section(**SCHEMAS[chart]), indent=2) + "\n"


if __name__ == "__main__":
    for chart in SCHEMAS:
        (CHARTS / chart / "values.schema.json").write_text(render(chart))
