"""BentoML, with batches and one worker a core."""

import os
from pathlib import Path

import bentoml
from network import Classifier


@bentoml.service(workers=int(os.environ["BENCH_CORES"]), traffic={"timeout": 60}, metrics={"enabled": False})
class ResNet:
    """Classifies a form with pictures in `file`."""

    def __init__(self) -> None:
        self.classifier = Classifier()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def predict(self, file: list[Path]) -> list[int]:
        """Classify a batch."""
        return self.classifier.classify([self.classifier.prepare(path.read_bytes()) for path in file])
