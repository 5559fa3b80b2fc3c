"""What the running services expose is what docs/metrics.yaml lists: no less, no more, and nothing of a caller's."""

import asyncio
from collections.abc import Iterator, Mapping

import httpx
import pytest

from tests.e2e.conftest import Pinhole
from tests.e2e.traffic import KILROY, make_traffic, measured_product, until_searched
from tests.exposition import Exposition
from tests.metric_registry import Condition, MetricRegistry, Service, read_metric_registry

SERVICES: tuple[Service, ...] = ("auth", "users", "inference", "gateway")
CONDITIONS: frozenset[Condition] = frozenset({"one worker", "traces", "grpc"})
RARE = {"inference_rollout_stopped"}
"""Without a series here, as no model fails: tests/unit/inference/test_metrics.py has those of it."""

pytestmark = pytest.mark.timeout(400)  # the first test starts a product, and waits for what comes by itself


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinhole]:
    """A product that has done some of everything."""
    with measured_product(tmp_path_factory.mktemp("measured")) as running:
        make_traffic(running)
        asyncio.run(until_searched(running))
        yield running


@pytest.fixture(scope="module")
def expositions(measured: Pinhole) -> Mapping[Service, str]:
    """What each service answers in the text format."""
    plain = {"Accept": "text/plain"}
    return {
        service: httpx.get(f"{measured.service_url(service)}/metrics", headers=plain, timeout=30).text
        for service in SERVICES
    }


@pytest.fixture(scope="module")
def registry() -> MetricRegistry:
    return read_metric_registry()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_exposes_what_is_listed_and_nothing_else(
    expositions: Mapping[Service, str], registry: MetricRegistry, service: Service
) -> None:
    exposition = Exposition(expositions[service])
    found = registry.differences(service, exposition, CONDITIONS)
    # Families that have labels are there before they have series: those of a GPU, where there is none.
    without_gpu = {f"{metric.name}: is not listed" for metric in registry.metrics if metric.when == "cuda"}
    assert [difference for difference in found if difference not in without_gpu] == []


@pytest.mark.parametrize("service", SERVICES)
def test_each_metric_has_a_series(
    expositions: Mapping[Service, str], registry: MetricRegistry, service: Service
) -> None:
    families = Exposition(expositions[service]).families
    listed = registry.of(service, CONDITIONS).keys() - RARE
    assert [name for name in sorted(listed) if not families[name].samples] == []


@pytest.mark.parametrize("service", SERVICES)
def test_no_label_has_what_a_caller_wrote(expositions: Mapping[Service, str], service: Service) -> None:
    assert KILROY not in expositions[service].lower()


@pytest.mark.parametrize("service", SERVICES)
def test_the_exemplars_that_are_listed_are_there_and_no_others(
    measured: Pinhole, registry: MetricRegistry, service: Service
) -> None:
    openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
    text = httpx.get(f"{measured.service_url(service)}/metrics", headers=openmetrics, timeout=30).text
    found = {line.partition("{")[0].removesuffix("_bucket") for line in text.splitlines() if "# {" in line}
    assert found == {metric.name for metric in registry.of(service, CONDITIONS).values() if metric.exemplars}


def test_names_say_type_and_unit(registry: MetricRegistry) -> None:
    assert [wrong for metric in registry.metrics for wrong in metric.misnamings()] == []
    names = [metric.name for metric in registry.metrics]
    assert sorted(set(names)) == sorted(names)
