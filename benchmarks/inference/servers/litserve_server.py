"""LitServe, with batches and one worker a core."""

import os
from collections.abc import Sequence

import litserve
from fastapi import Request
from network import Classifier
from torch import Tensor


class ResNetApi(litserve.LitAPI):
    """Classifies a form with a picture in `file`."""

    def setup(self, device: str) -> None:
        """Load the network in each worker."""
        self.classifier = Classifier()

    def decode_request(self, request: Request) -> Tensor:
        """Return the input of the network."""
        return self.classifier.prepare(request["file"].file.read())

    def batch(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Keep the inputs as they are."""
        return list(inputs)

    def predict(self, x: Sequence[Tensor]) -> list[int]:
        """Classify a batch."""
        return self.classifier.classify(x)

    def unbatch(self, output: Sequence[int]) -> list[int]:
        """Return the classes one by one."""
        return list(output)

    def encode_response(self, output: int) -> dict[str, int]:
        """Return the answer."""
        return {"predicted_class": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        ResNetApi(max_batch_size=8, batch_timeout=0.005),
        accelerator="cpu",
        workers_per_device=int(os.environ["BENCH_CORES"]),
        timeout=60,
    )
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
