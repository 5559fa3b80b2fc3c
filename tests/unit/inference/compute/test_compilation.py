"""Networks compiled for this machine. They need a C++ compiler, as `tests/install-requisites` has it."""

import gc
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inference_service.compute.cascade import Cascade
from inference_service.compute.compilation import compile_network, missing_compiler
from inference_service.compute.mode_search import ModeSearch
from inference_service.compute.modes import Mode, ModeSetting
from inference_service.compute.shared_weights import share_weights
from inference_service.cpu import use_threads
from inference_service.explanations.saliency import grad_cam, is_closed
from inference_service.model import Model, ModelUnavailable
from servicekit.whole_files import sweep
from torch import Tensor, nn

from tests.eventually import wait_until
from tests.unit.inference.memory import anonymous_kilobytes
from tests.unit.inference.networks import tiny_model


def convolutional() -> Model:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return replace(tiny_model(nn.Sequential(*layers).eval()), digest="abc")


def search(folder: Path, *, mode: ModeSetting = "compile", streams: int = 1) -> ModeSearch:
    """Return what compiles, also for a dtype that this processor computes slowly."""
    return ModeSearch(
        mode,
        budget_seconds=0,
        folder=folder,
        max_batch_size=4,
        streams=streams,
        missing=lambda _mode, _device: missing_compiler(),
    )


def kilobytes_of(path: Path) -> int:
    """Return the memory that this process has of a file."""
    total, is_its = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            is_its = line.endswith(str(path))
        elif is_its and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the compiled network is: the first test that needs it waits for it. The temporary folder is its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        yield tmp_path_factory.mktemp("modes")


@pytest.mark.timeout(600)
def test_a_compiled_network_says_the_same_for_every_batch_and_is_kept(kept: Path) -> None:
    assert missing_compiler() is None, "install g++: see tests/install-requisites"
    expected = convolutional()
    compiled = search(kept).settle(convolutional(), None)
    assert (compiled.mode, compiled.dtype_name) == (Mode.COMPILE, "float32")
    [library] = kept.iterdir()
    assert not list(Path(os.environ["TMPDIR"]).iterdir()), "what the compiler has made on its way"
    written = library.stat().st_mtime_ns
    for rows in (1, 2, 3, 4):
        images = torch.rand(rows, 3, 8, 8)
        assert torch.allclose(compiled.forward(images), expected.forward(images), atol=1e-5)
    again = search(kept).settle(convolutional(), None)
    assert torch.allclose(again.forward(images), expected.forward(images), atol=1e-5)
    assert library.stat().st_mtime_ns == written


@pytest.mark.timeout(600)
@pytest.mark.parametrize("streams", [1, 2])
def test_a_compiled_network_computes_for_several_threads_and_with_the_threads_of_each(streams: int, kept: Path) -> None:
    compiled, expected = search(kept, streams=streams).settle(convolutional(), None), convolutional()

    def right(threads: int) -> bool:
        use_threads(threads)
        batches = [torch.rand(1 + number % 4, 3, 8, 8) for number in range(200)]
        return all(torch.allclose(compiled.forward(each), expected.forward(each), atol=1e-5) for each in batches)

    with ThreadPoolExecutor(3) as callers:
        assert list(callers.map(right, [1, 2, 3])) == [True, True, True]


@pytest.mark.timeout(600)
def test_a_network_is_compiled_in_bfloat16_beside_the_one_that_keeps_its_dtype(kept: Path) -> None:
    search(kept).settle(convolutional(), None)
    compiled, expected = search(kept, mode="compile-bf16").settle(convolutional(), None), convolutional()
    assert (compiled.mode, compiled.dtype_name) == (Mode.COMPILE_BF16, "bfloat16")
    images = torch.rand(3, 3, 8, 8)
    logits = compiled.forward(images)
    assert logits.dtype is torch.float32
    assert not logits.equal(expected.forward(images))
    assert torch.allclose(logits, expected.forward(images), atol=0.02)
    assert len(list(kept.glob("*.so"))) >= 2
    assert is_closed(compiled)


@pytest.mark.timeout(600)
def test_a_cascade_of_compiled_networks_is_exact_where_classes_are_close(kept: Path) -> None:
    exact, fast = (search(kept, mode=mode).settle(convolutional(), None) for mode in ("compile", "compile-bf16"))
    before = set(kept.iterdir())
    cascade = search(kept, mode="compile-cascade").settle(convolutional(), None)
    assert (cascade.mode, is_closed(cascade)) == (Mode.COMPILE_CASCADE, True)
    assert [path.suffix for path in set(kept.iterdir()) - before] == [".json"], "both parts were there"
    assert isinstance(cascade.network, Cascade)
    images = torch.rand(4, 3, 8, 8)
    for margin, expected in ((-1.0, fast), (10.0, exact)):
        cascade.network.margin = margin
        assert cascade.forward(images).equal(expected.forward(images))


def wide() -> Model:
    """Return a network with 32 MB of weights."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(100), nn.Flatten(), nn.Linear(80_000, 100, bias=False))
    labels = tuple(map(str, range(100)))
    return replace(tiny_model(nn.Sequential(*layers).eval(), labels=labels), digest="wide")


@pytest.mark.timeout(600)
def test_the_weights_of_a_compiled_network_are_in_memory_once(kept: Path) -> None:
    compiled, images = search(kept).settle(wide(), None), torch.rand(4, 3, 8, 8)
    assert torch.allclose(compiled.forward(images), wide().forward(images), atol=1e-5)
    [library] = [path for path in kept.iterdir() if path.stat().st_size > 32_000_000]
    assert kilobytes_of(library) < 4_000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["compile", "compile-bf16", "compile-cascade"])
@pytest.mark.parametrize("streams", [1, 2])
def test_workers_compute_with_one_copy_of_what_was_compiled(
    kept: Path, tmp_path: Path, mode: ModeSetting, streams: int
) -> None:
    first, second = (search(kept, mode=mode, streams=streams).settle(wide(), None) for _ in range(2))
    images = torch.rand(4, 3, 8, 8)
    expected, before = first.forward(images), anonymous_kilobytes()
    for worker in (first, second):
        share_weights(worker, tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert anonymous_kilobytes() < before - 1.8 * size / 1024
    assert len(list(tmp_path.iterdir())) == len(first.mode.parts)
    assert [worker.forward(images).tolist() for worker in (first, second)] == [expected.tolist()] * 2
    del worker, first
    assert second.forward(images).equal(expected)
    del second
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["compile", "compile-bf16"])
def test_no_batch_has_its_weights_laid_out_anew(
    kept: Path, mode: ModeSetting, capfd: pytest.CaptureFixture[str]
) -> None:
    compiled = search(kept, mode=mode).settle(convolutional(), None)
    done = []
    for rows in (1, 2, 3, 4):
        images = torch.rand(rows, 3, 8, 8)
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):  # type: ignore[no-untyped-call]
            compiled.forward(images)
        done += re.findall(r"exec,cpu,(\w+)", capfd.readouterr().out)
    assert done.count("convolution") == 4
    assert "reorder" not in done


@pytest.mark.timeout(300)
def test_a_compilation_that_takes_too_long_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="not compiled within 0 s"):
        compile_network(convolutional(), tmp_path / "library.so", max_batch_size=4, seconds=0.1)
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_compiled_says_why(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))

    with pytest.raises(ModelUnavailable, match="it cannot be compiled: "):
        compile_network(tiny_model(Branching()), tmp_path / "library.so", max_batch_size=1, seconds=30)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return what stands in for the compiler, a shell script yet to be written; it says its version as the real one."""
    script = tmp_path / "compiler"
    script.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(script))
    return script


AS_EVER = '#!/bin/sh\ncase "$*" in *--version*) exec g++ "$@";; esac\n'


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        (
            'echo "a.cpp:1:2: fatal error: no such file\nand more" >&2; exit 1',
            "the compiler failed: fatal error: no such",
        ),
        ("kill -9 $(ps -o ppid= -p $$)", "the compiler was ended by SIGKILL"),
    ],
)
def test_a_compiler_that_fails_has_its_words_told(tmp_path: Path, compiler: Path, fails: str, reason: str) -> None:
    compiler.write_text(AS_EVER + fails)
    with pytest.raises(ModelUnavailable, match=reason) as caught:
        compile_network(convolutional(), tmp_path / "modes" / "library.so", max_batch_size=4, seconds=240)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "modes").iterdir())


COMPILING = """
from pathlib import Path
from inference_service.compute.compilation import compile_network
from tests.unit.inference.compute.test_compilation import convolutional

compile_network(convolutional(), Path({path!r}), max_batch_size=4, seconds=600)
"""


@pytest.mark.timeout(300)
def test_the_compiler_ends_with_a_service_that_is_killed(tmp_path: Path, compiler: Path) -> None:
    started = tmp_path / "started"
    compiler.write_text(f"{AS_EVER}echo $$ $PPID > {started}.new; mv {started}.new {started}; exec sleep 600")
    code = COMPILING.format(path=str(tmp_path / "modes" / "library.so"))
    with subprocess.Popen([sys.executable, "-c", code]) as service:
        wait_until(started.exists, within_seconds=120)
        service.kill()
    pids = started.read_text().split()
    wait_until(lambda: not any(is_running(pid) for pid in pids), within_seconds=120)
    [left] = (tmp_path / "modes").iterdir()
    os.utime(left, (0, 0))
    sweep(tmp_path / "modes")
    assert not left.exists()


@pytest.mark.timeout(300)
def test_a_disk_without_room_ends_a_compilation_and_not_the_service(tmp_path: Path) -> None:
    code = COMPILING.format(path=str(tmp_path / "modes" / "library.so"))
    no_room = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    ended = subprocess.run([sys.executable, "-c", no_room + code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "ModelUnavailable: it cannot be compiled: [Errno 27] File too large" in ended.stderr
    assert not list((tmp_path / "modes").iterdir())


def is_running(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.timeout(600)
def test_other_threads_go_on_while_a_compiled_network_computes(tmp_path: Path) -> None:
    """torch's own loader keeps Python's lock, and with it the event loop, for as long as a batch takes."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 64, 7, padding=3), *(nn.Conv2d(64, 64, 7, padding=3) for _ in range(4)))
    slow = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3)).eval()
    preprocessing = replace(tiny_model(slow).preprocessing, input_size=96)
    compiled = search(tmp_path).settle(replace(tiny_model(slow), preprocessing=preprocessing, digest="slow"), None)
    images = torch.rand(4, 3, 96, 96)
    turns = 0
    with ThreadPoolExecutor(1) as model_thread:
        computing = model_thread.submit(lambda: [compiled.forward(images) for _ in range(3)])
        while not computing.done():
            turns += 1
            time.sleep(0.001)
    assert turns > 10  # else it is 3 or 4: one after each pass
    assert len(computing.result()) == 3


@pytest.mark.timeout(600)
def test_inputs_of_another_size_are_refused(kept: Path) -> None:
    compiled = search(kept).settle(convolutional(), None)
    with pytest.raises(ValueError, match=r"expected inputs of \[3, 8, 8\], got \[3, 9, 8\]"):
        compiled.forward(torch.rand(1, 3, 9, 8))


@pytest.mark.timeout(600)
def test_a_compiled_network_is_explained_by_the_layers_that_it_was_made_of(kept: Path) -> None:
    compiled, eager = search(kept).settle(convolutional(), None), convolutional()
    images = torch.rand(1, 3, 8, 8)
    found = grad_cam(images, compiled, eager.network, None)
    assert is_closed(compiled)
    assert found.shape == (1, 3 + 36)
    torch.testing.assert_close(found, grad_cam(images, eager, eager.network, None), atol=1e-5, rtol=1e-4)


def test_a_library_that_is_damaged_is_not_served(tmp_path: Path) -> None:
    modes = search(tmp_path)
    modes._library(convolutional(), Mode.COMPILE).write_bytes(b"no library")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        modes.settle(convolutional(), None)
