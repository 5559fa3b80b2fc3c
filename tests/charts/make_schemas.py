"""Makes the JSON schemas that rendered objects are checked with, from what Kubernetes and the operators publish.

    python tests/charts/make_schemas.py KUBERNETES PROMETHEUS-OPERATOR KEDA GATEWAY-API

takes the folders of k8s.io/kubernetes, github.com/prometheus-operator/prometheus-operator, github.com/kedacore/keda/v2
and sigs.k8s.io/gateway-api, as `go mod download -json MODULE@VERSION` names them. Fields that a schema does not know
are refused, as by an API server with strict validation.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).with_name("schemas")
DEFINITIONS = "definitions.json"
KINDS = (
    *("v1/ConfigMap", "v1/Namespace", "v1/PersistentVolume", "v1/PersistentVolumeClaim", "v1/Pod", "v1/Secret"),
    *("v1/Service", "v1/ServiceAccount", "apps/v1/Deployment", "apps/v1/StatefulSet"),
    *("autoscaling/v2/HorizontalPodAutoscaler", "networking.k8s.io/v1/Ingress", "networking.k8s.io/v1/NetworkPolicy"),
    *("policy/v1/PodDisruptionBudget", "resource.k8s.io/v1/ResourceClaimTemplate", "batch/v1/Job"),
)
CUSTOM = ("servicemonitors", "prometheusrules", "scaledobjects", "httproutes", "grpcroutes")
Schema = dict[str, Any]


def main() -> None:
    """Write the schemas."""
    kubernetes, prometheus, keda, gateway = map(Path, sys.argv[1:])
    for old in SCHEMAS.glob("*.json"):
        old.unlink()
    definitions = json.loads((kubernetes / "api/openapi-spec/swagger.json").read_text())["definitions"]
    used: Schema = {}
    for kind in KINDS:
        name = _definition_of(kind, definitions)
        _collect(name, definitions, used)
        _write(kind, {"$ref": f"{DEFINITIONS}#/definitions/{name}"})
    _dump(SCHEMAS / DEFINITIONS, {"definitions": used})
    for folder in (
        prometheus / "example/prometheus-operator-crd",
        keda / "config/crd/bases",
        gateway / "config/crd/standard",
    ):
        for definition in _custom_definitions(folder):
            for version in definition["spec"]["versions"]:
                kind = f"{definition['spec']['group']}/{version['name']}/{definition['spec']['names']['kind']}"
                schema = _strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {
                    "$ref": f"{DEFINITIONS}#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
                }
                _write(kind, schema)


def _custom_definitions(folder: Path) -> Iterator[Schema]:
    """Yield those of `CUSTOM`: each is a file that is named for it."""
    for path in sorted(folder.glob("*.yaml")):
        if path.stem.endswith(CUSTOM):
            yield yaml.safe_load(path.read_text())


def _definition_of(kind: str, definitions: Schema) -> str:
    *group, version, name = kind.split("/")
    wanted = {"group": "".join(group), "version": version, "kind": name}
    return next(key for key, value in definitions.items() if wanted in value.get("x-kubernetes-group-version-kind", ()))


def _collect(name: str, definitions: Schema, used: Schema) -> None:
    """Add a definition to `used`, and those that it refers to."""
    if name in used:
        return
    if name.endswith(("IntOrString", "api.resource.Quantity")):
        used[name] = {"type": ["string", "number"]}
        return
    used[name] = _strict(definitions[name])
    for reference in _references(definitions[name]):
        _collect(reference, definitions, used)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rsplit("/", 1)[1]
        for value in schema.values():
            yield from _references(value)


def _strict(schema: Any) -> Any:
    """Return a schema without prose that refuses unknown fields."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    strict = {
        key: {name: _strict(part) for name, part in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
        if not key.startswith("x-kubernetes-") and key not in {"description", "default", "format", "example"}
    }
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in strict and schema.get("type") == "object" and not is_open:
        strict["additionalProperties"] = False
    return strict


def _write(kind: str, schema: Schema) -> None:
    """Write the schema of one kind under the name by which kubeconform looks for it."""
    *group, version, name = kind.split("/")
    short = "".join(group).split(".")[0]
    _dump(SCHEMAS / ("-".join(part for part in (name.lower(), short, version) if part) + ".json"), schema)


def _dump(path: Path, schema: Schema) -> None:
    path.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
