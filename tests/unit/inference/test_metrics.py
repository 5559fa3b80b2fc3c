"""What seldom happens is exposed as docs/metrics.yaml lists it, too."""

import os
import subprocess
import sys
from pathlib import Path

from inference_service.metrics import InferenceMetrics
from prometheus_client import CollectorRegistry, generate_latest

from tests.exposition import Exposition
from tests.metric_registry import read_metric_registry
from tests.unit.inference.networks import tiny_source


def test_a_stopped_rollout_a_failed_load_and_the_memory_of_a_gpu_are_as_they_are_listed() -> None:
    registry = CollectorRegistry()
    metrics = InferenceMetrics(registry)
    metrics.versions.show_stopped(tiny_source(), is_stopped=True)
    metrics.versions.failed(tiny_source())
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


def test_among_several_workers_a_model_that_was_is_0(tmp_path: Path) -> None:
    """prometheus_client looks at its variable when it is imported, and warns of what it cannot remove."""
    program = (
        "from inference_service.metrics import InferenceMetrics\n"
        "from prometheus_client import CollectorRegistry, generate_latest\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "from tests.unit.inference.networks import tiny_model, tiny_source\n"
        "metrics, shown = InferenceMetrics(CollectorRegistry()), CollectorRegistry()\n"
        "metrics.versions.ready(tiny_source(), tiny_model())\n"
        "metrics.versions.gone(tiny_source(), tiny_model())\n"
        "metrics.versions.forget(tiny_source())\n"
        "MultiProcessCollector(shown)\n"
        "print(generate_latest(shown).decode())"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    [info] = [line for line in answer.splitlines() if line.startswith("inference_model_info{")]
    assert info.endswith(" 0.0")
