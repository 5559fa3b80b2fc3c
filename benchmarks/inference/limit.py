"""What torch itself gets done: decode, preprocess and forward in one process, with no server around them.

Uses the service's own decoding, preprocessing and network, in the mode that it is told. Pictures are
prepared on a pool of threads while the batch before them is computed, as in the service.
"""

import argparse
import json
import statistics
import time
from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from threading import Lock

import torch
from inference_service.compute.mode_search import ModeSearch
from inference_service.compute.modes import ModeSetting
from inference_service.cpu import use_threads
from inference_service.decoding import decode_picture
from inference_service.lifecycle.loading import Loader
from inference_service.model import Model
from inference_service.sources.kinds import read_sources
from inference_service.streams import default_streams
from torch import Tensor

BATCH_SIZE = 8
AHEAD = 4 * BATCH_SIZE
"""Pictures on their way: the concurrency that servers are measured at."""

LONE_REQUESTS = 30


def prepare(model: Model, data: bytes) -> Tensor:
    """Return the input [3, H, W] of a file."""
    return model.preprocessing(decode_picture(data, max_pixels=64_000_000))


def images_per_second(model: Model, files: list[bytes], *, cores: int, seconds: float) -> float:
    """Return how many pictures are classified, prepared and computed side by side, in the streams of the service."""
    streams = default_streams(cores)
    following = cycle(files)
    ahead: deque[Future[Tensor]] = deque()
    taking = Lock()

    def batch(pool: Executor) -> Tensor:
        with taking:
            while len(ahead) < AHEAD:
                ahead.append(pool.submit(prepare, model, next(following)))
            taken = [ahead.popleft() for _ in range(BATCH_SIZE)]
        return torch.stack([future.result() for future in taken])

    def stream(pool: Executor) -> float:
        use_threads(cores // streams)
        for _ in range(2):  # which warm up
            model.forward(batch(pool))
        batches, begins = 0, time.perf_counter()
        while time.perf_counter() - begins < seconds:
            model.forward(batch(pool))
            batches += 1
        return batches * BATCH_SIZE / (time.perf_counter() - begins)

    with (
        ThreadPoolExecutor(cores, initializer=use_threads, initargs=(1,)) as pool,
        ThreadPoolExecutor(streams) as threads,
    ):
        rates = list(threads.map(stream, [pool] * streams))
        for future in ahead:
            future.cancel()
    return sum(rates)


def lone_seconds(model: Model, files: list[bytes]) -> float:
    """Return the median time of one picture after the other."""
    times = []
    for _, data in zip(range(LONE_REQUESTS), cycle(files), strict=False):
        started = time.perf_counter()
        model.forward(prepare(model, data).unsqueeze(0))
        times.append(time.perf_counter() - started)
    return statistics.median(times[3:])


def load(models_file: Path, mode: ModeSetting, modes_dir: Path) -> Model:
    """Return the only model of a file as the service loads it, in `mode` where the file names none.

    What the service has compiled is in `modes_dir`, and is not compiled again.
    """
    [source] = read_sources(models_file, models_file.parent)
    modes = ModeSearch(
        mode,
        budget_seconds=0,
        folder=modes_dir,
        max_batch_size=BATCH_SIZE,
        streams=default_streams(torch.get_num_threads()),
    )
    return Loader(BATCH_SIZE, modes).load(source, search=False)


def main() -> None:
    """Print the limit as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("models_file", type=Path)
    parser.add_argument("--mode", required=True, help="where the file names none")
    parser.add_argument("--modes-dir", type=Path, required=True, help="of the service that it is compared with")
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("pictures", type=Path, nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.cores)
    model = load(arguments.models_file, arguments.mode, arguments.modes_dir)
    files = [path.read_bytes() for path in arguments.pictures]
    print(
        json.dumps(
            {
                "images_per_second": images_per_second(model, files, cores=arguments.cores, seconds=arguments.seconds),
                "lone_seconds": lone_seconds(model, files),
            }
        )
    )


if __name__ == "__main__":
    main()
