"""Recorded batches: what is asked for comes back, whatever size was recorded. On a GPU, where there is one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from inference_service.compute.conversion import in_mode
from inference_service.compute.cuda import RecordedNetwork, Recording
from inference_service.compute.modes import Mode
from inference_service.model import Model
from PIL import Image
from torch import Tensor, nn

from tests.unit.inference.networks import Colours, tiny_model
from tests.unit.inference.pictures import DATA

NO_GPU = "this machine has no GPU that torch can use"


class Recorder:
    """Does as a CUDA graph does: computes from one place in memory to another."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, network: nn.Module, inputs: Tensor) -> Recording:
        self.sizes.append(len(inputs))
        logits = network(inputs)

        def replay() -> None:
            logits.copy_(network(inputs))

        return Recording(inputs, logits, replay)


def test_each_batch_is_filled_up_to_a_recorded_size_and_only_its_own_rows_come_back() -> None:
    recorder, network = Recorder(), Colours()
    recorded = RecordedNetwork(network, (1, 2, 4), record=recorder)
    for rows in (3, 1, 2, 4, 3, 4):
        images = torch.rand(rows, 3, 8, 8)
        assert torch.allclose(recorded(images), network(images))
    assert recorder.sizes == [4, 1, 2]


def test_threads_that_compute_at_once_get_their_own_answers() -> None:
    network = Colours()
    recorded = RecordedNetwork(network, (1, 4), record=Recorder())

    def wrong(level: float) -> int:
        images = torch.full((4, 3, 64, 64), level)
        return sum(not torch.allclose(recorded(images), network(images)) for _ in range(50))

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(wrong, [1.0, 2.0])) == [0, 0]


def test_one_graph_is_recorded_at_a_time_of_whatever_network() -> None:
    together = threading.Barrier(2)

    def meet(network: nn.Module, inputs: Tensor) -> Recording:
        with pytest.raises(threading.BrokenBarrierError):  # where two are here at once it does not break
            together.wait(0.2)
        together.reset()
        return Recorder()(network, inputs)

    def compute(network: nn.Module) -> Tensor:
        return RecordedNetwork(network, (1,), record=meet)(torch.zeros(1, 3, 8, 8))  # type: ignore[no-any-return]

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(compute, [Colours(), Colours()]))


def test_an_answer_does_not_change_with_the_next_batch() -> None:
    recorded = RecordedNetwork(Colours(), (2,), record=Recorder())
    first = recorded(torch.zeros(2, 3, 8, 8))
    recorded(torch.ones(2, 3, 8, 8))
    assert first.equal(torch.zeros(2, 3))


def test_a_batch_beyond_the_recorded_sizes_is_computed_as_it_is() -> None:
    recorder = Recorder()
    images = torch.rand(5, 3, 8, 8)
    assert torch.allclose(RecordedNetwork(Colours(), (1, 2), record=recorder)(images), images.mean((2, 3)))
    assert recorder.sizes == []


def test_levels_are_normalized_with_the_batch_where_the_preprocessing_leaves_it_to_that() -> None:
    model = tiny_model()
    later = replace(model, preprocessing=replace(model.preprocessing, normalizes=False))
    with Image.open(DATA / "chelsea.png") as file:
        picture = file.convert("RGB")
    levels = later.preprocessing(picture)
    assert (levels.dtype, levels.shape) == (torch.uint8, (3, 8, 8))
    assert later.forward(levels[None]).equal(model.forward(model.preprocessing(picture)[None]))


@pytest.fixture
def on_gpu() -> Model:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return replace(tiny_model(nn.Sequential(*layers).eval().to("cuda")), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize(("mode", "tolerance"), [(Mode.EAGER, 0.0), (Mode.CHANNELS_LAST, 1e-3), (Mode.BF16, 0.05)])
def test_on_a_gpu_each_mode_says_the_same_for_batches_of_any_size(on_gpu: Model, mode: Mode, tolerance: float) -> None:
    changed = in_mode(on_gpu, mode, max_batch_size=4, keep=True)
    changed.warm_up(4)
    for rows in (1, 3, 4, 2):
        images = torch.randint(0, 256, (rows, 3, 8, 8), dtype=torch.uint8)
        assert torch.allclose(changed.forward(images), on_gpu.forward(images), atol=tolerance)
