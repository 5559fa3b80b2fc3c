"""Pinhole in the cluster that KUBECONFIG names: installed once, reached through its ingress.

E2E_INGRESS is where the ingress controller answers (http://127.0.0.1:8080). E2E_VALUES is a file of further values,
as for a cluster that pulls from a registry of its own.
"""

import json
import time
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import pytest

from tests.cluster.product import Product
from tests.cluster.releases import ROOT, kubectl, release

NAME = "pinhole-core"
HOST = "pinhole.localhost"
VALUES_DEV = ROOT / "charts/pinhole/values-dev.yaml"


def values(host: str) -> dict[str, Any]:
    """Return the values of a release: two of each, for none of them is to be missed, and patience on a busy machine."""
    issuer = json.loads(kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    two: dict[str, Any] = {
        "replicaCount": 2,
        # A share of the processors that many pods at their start do not take away.
        "resources": {"requests": {"cpu": "100m"}},
        # The ingress controller of a busy machine hears late of a pod that ends.
        "shutdown": {"preStopSleepSeconds": 20, "gracefulTimeoutSeconds": 90},
    }
    patience = {"requestTimeoutSeconds": 60, "canarySeconds": 60, "cacheMaxBytes": 0}
    return {
        "global": {"publicUrl": f"http://{host}"},
        "auth": two
        | {"config": {"accessTokenSeconds": 3600}, "serviceAccountClients": {"enabled": True, "issuer": issuer}},
        "users": two,
        "inference": two | {"config": patience},
    }


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """Install into a new namespace that holds pods to the restricted standard."""
    with release(NAME) as pinhole:
        started = time.monotonic()
        pinhole.install(values(HOST), VALUES_DEV)
        yield Product(pinhole, HOST, time.monotonic() - started)


@pytest.fixture(scope="session")
def ada(product: Product) -> Iterator[httpx.Client]:
    """Somebody who has signed up through the ingress."""
    with product.sign_up("ada") as client:
        yield client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add pods and events to what is said about a failure."""
    report = yield
    product = getattr(item, "funcargs", {}).get("product")
    if report.failed and isinstance(product, Product):
        report.sections.append(("pods and events", product.release.explain()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have recorded as measured."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
