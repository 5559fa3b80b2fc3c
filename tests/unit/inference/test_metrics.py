"""What seldom happens is exposed as docs/metrics.yaml lists it, too."""

from inference_service.metrics import InferenceMetrics
from prometheus_client import CollectorRegistry, generate_latest

from tests.exposition import Exposition
from tests.metric_registry import read_metric_registry
from tests.unit.inference.networks import tiny_source


def test_a_stopped_rollout_a_failed_load_and_the_memory_of_a_gpu_are_as_they_are_listed() -> None:
    registry = CollectorRegistry()
    metrics = InferenceMetrics(registry)
    metrics.show_stopped(tiny_source(), is_stopped=True)
    metrics.model_has_failed(tiny_source())
    metrics.show_gpu_memory("cuda:0", allocated=1, reserved=2, limit=3)
    exposition = Exposition(generate_latest(registry).decode())
    listed = {metric.name: metric for metric in read_metric_registry().metrics}
    for name in (
        "inference_rollout_stopped",
        "inference_model_loads_total",
        "inference_gpu_memory_bytes",
        "inference_gpu_memory_limit_bytes",
    ):
        assert exposition.families[name].samples
        assert list(listed[name].differences(exposition)) == []
