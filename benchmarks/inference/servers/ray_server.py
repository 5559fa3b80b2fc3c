"""Ray Serve, with batches and one replica a core."""

import os
import signal

import ray
from fastapi import FastAPI, UploadFile
from network import Classifier
from ray import serve

app = FastAPI()


@serve.deployment(
    num_replicas=int(os.environ["BENCH_CORES"]), max_ongoing_requests=32, ray_actor_options={"num_cpus": 0.5}
)
@serve.ingress(app)
class ResNet:
    """Classifies a form with a picture in `file`."""

    def __init__(self) -> None:
        self.classifier = Classifier()

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def classify(self, pictures: list[bytes]) -> list[int]:
        """Classify a batch."""
        return self.classifier.classify([self.classifier.prepare(data) for data in pictures])

    @app.post("/predict")
    async def predict(self, file: UploadFile) -> dict[str, int]:
        """Classify one picture."""
        return {"predicted_class": await self.classify(await file.read())}


if __name__ == "__main__":
    ray.init(
        num_cpus=int(os.environ["BENCH_CORES"]),
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        _temp_dir=os.environ["BENCH_TEMP"],
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])},
        logging_config={"enable_access_log": False},
    )
    serve.run(ResNet.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
