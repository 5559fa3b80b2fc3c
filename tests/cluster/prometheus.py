"""The Prometheus of the cluster, asked through the API server. E2E_PROMETHEUS is its namespace, Service and port."""

import json
import os
from typing import Any
from urllib.parse import quote

from tests.cluster.releases import kubectl

NAMESPACE, SERVICE = os.environ.get("E2E_PROMETHEUS", "monitoring/prometheus:9090").split("/")
ADDRESS = f"http://{SERVICE.split(':')[0]}.{NAMESPACE}.svc:{SERVICE.split(':')[1]}"
"""Where pods reach it."""


def ask(path: str) -> Any:
    """Return the `data` of an answer of Prometheus's API, such as that of `targets?state=active`."""
    answer = kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/services/{SERVICE}/proxy/api/v1/{path}")
    return json.loads(answer)["data"]


def query(expression: str) -> dict[str, float]:
    """Return the value of each series, by its pod."""
    found = ask(f"query?query={quote(expression)}")["result"]
    return {each["metric"].get("pod", ""): float(each["value"][1]) for each in found}
