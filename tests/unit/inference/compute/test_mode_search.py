"""Which mode is taken: the fastest that says the same, and never one that does not."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from inference_service.compute.agreement import compare
from inference_service.compute.cascade import Cascade
from inference_service.compute.conversion import REVISION
from inference_service.compute.mode_search import ModeSearch
from inference_service.compute.mode_trial import logits_of_views
from inference_service.compute.modes import Mode, ModeSetting
from inference_service.ending import Ending, ServiceEnds
from inference_service.lifecycle.loading import Loader
from inference_service.model import GoldenPicture, Model, ModelSource, ModelUnavailable
from inference_service.settings import InferenceSettings
from torch import Tensor, nn

from tests.unit.inference.conftest import serving
from tests.unit.inference.networks import is_warm_up, tiny_model
from tests.unit.inference.oip.messages import RED
from tests.unit.inference.pictures import DATA
from tests.unit.inference.test_heartbeat import of_cuda


class Speeds(nn.Module):
    """Takes its time by the mode that it finds its input in, and may be wrong or fail in bfloat16.

    In bfloat16 its logits are wrong by up to `error`.
    """

    def __init__(
        self,
        *,
        eager: float = 0.02,
        last: float = 0.008,
        bf16: float = 0.002,
        wrong: str = "",
        error: float = 0.0,
    ) -> None:
        super().__init__()
        self.seconds = {"eager": eager, "last": last, "bf16": bf16}
        self.wrong = wrong
        self.error = error
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        assert not torch.jit.is_tracing(), "its time is in its Python"  # type: ignore[attr-defined, no-untyped-call]
        is_last = images.is_contiguous(memory_format=torch.channels_last)
        mode = "bf16" if images.dtype is torch.bfloat16 else "last" if is_last else "eager"
        time.sleep(self.seconds[mode])
        if self.wrong == f"{mode} fails":
            raise RuntimeError("no such operator\nand advice")
        logits = images.mean((2, 3)) * self.weight
        if mode == "bf16":
            logits = logits + self.error * torch.sin(logits.float() * torch.tensor([10_000, 20_000, 30_000]))
        return -logits if self.wrong == mode else logits


def model(digest: str = "abc", **speeds: Any) -> Model:
    return replace(tiny_model(Speeds(**speeds)), digest=digest)


def unsure(digest: str = "abc") -> Model:
    """Return a model that in bfloat16 does not know what is grey, or nearly."""
    return model(digest, eager=0.06, last=0.03, bf16=0.002, error=0.01)


def loaded(
    folder: Path,
    candidate: Model,
    *,
    setting: ModeSetting = "auto",
    wanted: ModeSetting | None = None,
    budget_seconds: float = 300,
    missing: Mapping[Mode, str] | None = None,
    golden: tuple[GoldenPicture, ...] = (),
    search: bool = True,
    comes_first: bool = False,
) -> Model:
    compiled = [mode for mode in Mode if mode.is_compiled]
    lacks = {**dict.fromkeys(compiled, "there is no compiler"), **(missing or {})}
    modes = ModeSearch(
        setting,
        budget_seconds=budget_seconds,
        folder=folder,
        max_batch_size=4,
        missing=lambda mode, _device: lacks.get(mode),
        comes_first=comes_first,
    )
    source = ModelSource("tiny", "1", "test:tiny", lambda: candidate, golden=golden, mode=wanted)
    return Loader(4, modes).load(source, search=search)


def reasons(found: Model) -> dict[str, str | None]:
    return {measured.mode.value: measured.reason for measured in found.measurements}


def test_the_fastest_mode_that_agrees_is_taken_and_it_is_warm(tmp_path: Path) -> None:
    found = loaded(tmp_path, model())
    assert (found.mode, found.dtype) == (Mode.BF16, torch.bfloat16)
    assert list(found.batch_seconds) == [1, 4]
    eager, last, bf16, *others = found.measurements
    assert [each.reason for each in others] == [*["there is no compiler"] * 2, "bf16 was not refused", others[0].reason]
    assert (eager.images_per_second or 0) < (last.images_per_second or 0) < (bf16.images_per_second or 0)
    assert (eager.agreement, last.agreement, bf16.agreement) == (None, None, 1.0)
    assert 0 < (bf16.score_difference or 0) < 0.01


def test_one_that_names_other_classes_is_not_taken_however_fast(tmp_path: Path) -> None:
    found = loaded(tmp_path, model(wrong="bf16"))
    assert found.mode is Mode.CHANNELS_LAST, found.measurements
    assert reasons(found) == {
        "eager": None,
        "channels-last": None,
        "bf16": "it agrees on fewer than 99.5% of the pictures",
        "compile": "there is no compiler",
        "compile-bf16": "there is no compiler",
        "cascade": "it is hardly faster than channels-last",  # it computes each picture twice
        "compile-cascade": "there is no compiler",
    }


class Lost(Speeds):
    """Loses its GPU in the first faster mode."""

    def forward(self, images: Tensor) -> Tensor:
        if images.is_contiguous(memory_format=torch.channels_last):
            raise of_cuda(700, "an illegal memory access")
        return super().forward(images)


def test_a_gpu_that_is_lost_ends_the_search_and_is_no_reason_for_a_later_start(tmp_path: Path) -> None:
    with pytest.raises(torch.AcceleratorError, match="an illegal memory access"):
        loaded(tmp_path, replace(tiny_model(Lost()), digest="abc"))
    assert not list(tmp_path.iterdir())
    assert loaded(tmp_path, model()).mode is Mode.BF16


def test_one_that_is_wrong_only_where_two_classes_are_close_is_taken_with_those_computed_again(tmp_path: Path) -> None:
    found = loaded(tmp_path, unsure())
    measured = {each.mode: each for each in found.measurements}
    assert found.mode is Mode.CASCADE, found.measurements
    assert (measured[Mode.BF16].agreement or 1) < 0.995
    cascade = measured[Mode.CASCADE]
    assert (cascade.agreement, cascade.reason) == (1.0, None)
    assert 0.375 <= (cascade.recomputed or 0) < 0.6  # three of the eight pictures are grey
    last, fast = (measured[mode].images_per_second or 0 for mode in (Mode.CHANNELS_LAST, Mode.BF16))
    assert last < (cascade.images_per_second or 0) < fast
    assert_says_what_eager_says(found)
    again = loaded(tmp_path, unsure(), search=False)
    assert (again.mode, again.measurements) == (found.mode, found.measurements)
    assert_says_what_eager_says(again)


def test_a_cascade_that_is_hardly_faster_than_its_exact_part_is_not_taken(tmp_path: Path) -> None:
    found = loaded(tmp_path, model(eager=0.06, last=0.03, bf16=0.02, error=0.01))
    measured = {each.mode: each for each in found.measurements}
    assert found.mode is Mode.CHANNELS_LAST, found.measurements
    cascade = measured[Mode.CASCADE]
    assert (cascade.agreement, cascade.images_per_second) == (1.0, None)
    assert cascade.reason == "it is hardly faster than channels-last"
    assert 0.375 <= (cascade.recomputed or 0) < 0.6


def assert_says_what_eager_says(found: Model) -> None:
    eager = logits_of_views(tiny_model(Speeds()), 4)
    assert compare(eager, logits_of_views(found, 4)).top1 == 1.0


def test_a_cascade_that_is_set_learns_its_margin_once(tmp_path: Path) -> None:
    assert_says_what_eager_says(loaded(tmp_path, unsure(), setting="cascade"))
    [kept] = tmp_path.iterdir()
    assert float(json.loads(kept.read_text())["margin"]) > 0.01
    kept.write_text('{"margin": 0.5}')
    again = loaded(tmp_path, unsure(), setting="cascade")
    assert isinstance(again.network, Cascade)
    assert again.network.margin == 0.5


def test_both_parts_of_a_cascade_are_warm(tmp_path: Path) -> None:
    warm: set[tuple[torch.dtype, int]] = set()

    class Sure(nn.Module):
        """Knows what is grey."""

        def forward(self, images: Tensor) -> Tensor:
            if is_warm_up(images):
                warm.add((images.dtype, len(images)))
            return images.mean((2, 3)) * torch.tensor([1, 2, 4])

    loaded(tmp_path, replace(tiny_model(Sure()), digest="sure"), setting="cascade")
    assert warm == {(dtype, rows) for dtype in (torch.bfloat16, torch.float32) for rows in (1, 2, 4)}


def test_there_is_no_cascade_where_the_machine_lacks_it_or_its_exact_part(tmp_path: Path) -> None:
    lacking = loaded(tmp_path, unsure(), missing={Mode.CASCADE: "it is for processors"})
    assert (lacking.mode, reasons(lacking)["cascade"]) == (Mode.CHANNELS_LAST, "it is for processors")
    without = loaded(tmp_path, unsure("other"), missing={Mode.CHANNELS_LAST: "not here"})
    assert (without.mode, reasons(without)["cascade"]) == (Mode.EAGER, "there is no channels-last")


def test_one_that_is_hardly_faster_is_not_taken(tmp_path: Path) -> None:
    found = loaded(tmp_path, model(eager=0.1, last=0.1, bf16=0.15))
    assert found.mode is Mode.EAGER
    assert len(found.measurements) == 7


def test_one_that_fails_or_that_the_machine_cannot_compute_is_not_taken_and_says_why(tmp_path: Path) -> None:
    assert reasons(loaded(tmp_path, model(wrong="bf16 fails")))["bf16"] == "it fails: no such operator"
    lacking = loaded(tmp_path, model("other"), missing={Mode.BF16: "not on this processor"})
    assert (lacking.mode, reasons(lacking)["bf16"]) == (Mode.CHANNELS_LAST, "not on this processor")


class Fussy(Speeds):
    """Is wrong in bfloat16 about what comes alone: golden pictures do, and those of the agreement come in fours."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return -logits if len(images) == 1 and images.dtype is torch.bfloat16 else logits


def fussy() -> Model:
    return replace(tiny_model(Fussy()), digest="abc")


def test_one_that_is_wrong_about_a_golden_picture_is_not_taken(tmp_path: Path) -> None:
    golden = (GoldenPicture(DATA / "chelsea.png", "red"),)
    found = loaded(tmp_path, fussy(), golden=golden)
    assert found.mode is Mode.CHANNELS_LAST, found.measurements
    assert "chelsea.png is red" in (reasons(found)["bf16"] or "")


def test_one_that_was_found_before_is_given_up_for_a_golden_picture_of_now(tmp_path: Path) -> None:
    assert loaded(tmp_path, fussy()).mode is Mode.BF16
    source = ModelSource("tiny", "1", "test:tiny", fussy, golden=(GoldenPicture(DATA / "chelsea.png", "red"),))
    loader = Loader(4, ModeSearch("auto", budget_seconds=300, folder=tmp_path, max_batch_size=4, missing=no_compiler))
    eager = loader.load(source, search=True)
    assert (eager.mode, loader.can_search(source, eager)) == (Mode.EAGER, True)
    assert loader.search(source, eager).mode is Mode.CHANNELS_LAST
    assert loader.load(source, search=False).mode is Mode.CHANNELS_LAST


def no_compiler(mode: Mode, _device: str) -> str | None:
    return "there is no compiler" if mode.is_compiled else None


def test_what_was_found_is_kept_for_the_next_start(tmp_path: Path) -> None:
    first = loaded(tmp_path, model())
    again = loaded(tmp_path, model(eager=0.0, wrong="bf16"), search=False)
    assert (again.mode, again.measurements) == (first.mode, first.measurements)
    assert loaded(tmp_path, model("another model"), search=False).mode is Mode.EAGER
    assert loaded(tmp_path, model(), setting="auto-fp32", search=False).mode is Mode.EAGER


def test_what_an_older_service_has_found_is_searched_for_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(tmp_path, model())
    monkeypatch.setattr("inference_service.compute.mode_search.REVISION", REVISION + 1)
    assert loaded(tmp_path, model(), search=False).mode is Mode.EAGER


def test_of_two_that_start_at_once_one_searches_and_the_other_takes_what_it_finds(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as workers:
        first, second = workers.map(lambda _: loaded(tmp_path, model()), range(2))
    assert first.network is not second.network
    assert first.measurements == second.measurements
    assert (first.mode, list(first.batch_seconds)) == (second.mode, list(second.batch_seconds)) == (Mode.BF16, [1, 4])
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_a_search_goes_on_where_the_process_that_searched_was_killed(tmp_path: Path) -> None:
    program = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    )
    # Both searches on one thread: what is found is kept for as many threads as torch has on it.
    with ThreadPoolExecutor(1) as worker:
        worker.submit(loaded, tmp_path, model()).result(60)
        [kept] = tmp_path.iterdir()
        kept.unlink()
        lock = kept.with_suffix(".lock")
        with subprocess.Popen([sys.executable, "-c", program, lock], stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            searching = worker.submit(loaded, tmp_path, model())
            with pytest.raises(TimeoutError):
                searching.result(0.5)
            other.kill()
            assert searching.result(60).mode is Mode.BF16
    assert kept.exists()


def test_a_file_that_cannot_be_read_is_searched_for_anew(tmp_path: Path) -> None:
    loaded(tmp_path, model())
    [kept] = tmp_path.iterdir()
    kept.write_text('{"mode": "warp"}')
    assert loaded(tmp_path, model()).mode is Mode.BF16


def test_a_compiled_network_that_is_damaged_is_done_without_and_compiled_anew_by_the_next_search(
    tmp_path: Path,
) -> None:
    modes = ModeSearch("auto", budget_seconds=60, folder=tmp_path, max_batch_size=4)
    modes._path(model(), "auto").write_text('{"mode": "compile", "measurements": [{"mode": "compile"}]}')
    library = modes._library(model(), Mode.COMPILE)
    library.write_bytes(b"no library")
    settled = modes.settle(model(), None)
    assert settled.mode is Mode.EAGER
    assert modes.is_open(settled, None)
    assert not library.exists()


def test_a_folder_that_cannot_be_written_costs_only_the_next_search(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert loaded(tmp_path / "file" / "modes", model()).mode is Mode.BF16


def test_a_search_that_runs_out_of_time_leaves_eager_and_is_made_again_with_more_time(tmp_path: Path) -> None:
    slow = model(eager=0.05, last=0.04, bf16=0.03)
    found = loaded(tmp_path, slow, budget_seconds=0.3)
    assert found.mode is Mode.EAGER
    assert "there was no time left" in reasons(found).values()
    again = loaded(tmp_path, slow, budget_seconds=0.3)
    assert again.measurements == found.measurements, "a start with as much time would search in vain"
    assert loaded(tmp_path, slow, budget_seconds=60).mode is Mode.BF16


def test_a_search_is_given_up_and_leaves_nothing_where_the_service_ends(tmp_path: Path) -> None:
    ending = Ending()

    class Last(Speeds):
        def forward(self, images: Tensor) -> Tensor:
            ending.begin()
            return super().forward(images)

    modes = ModeSearch("auto", budget_seconds=300, folder=tmp_path, max_batch_size=4, ending=ending)
    candidate = replace(tiny_model(Last()), digest="abc")
    with pytest.raises(ServiceEnds):
        modes.search(candidate, None, accept=lambda found: found)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("comes_first", "mode"), [(False, Mode.EAGER), (True, Mode.BF16)])
def test_a_model_that_nobody_waits_for_is_searched_for_before_it_is_served(
    tmp_path: Path, comes_first: bool, mode: Mode
) -> None:
    assert loaded(tmp_path, model(), search=False, comes_first=comes_first).mode is mode


def test_no_time_is_no_search(tmp_path: Path) -> None:
    found = loaded(tmp_path, model(), budget_seconds=0)
    assert (found.mode, found.measurements) == (Mode.EAGER, ())


@pytest.mark.parametrize(("setting", "wanted"), [("channels-last", None), ("auto", "channels-last"), ("eager", "bf16")])
def test_a_mode_that_is_set_is_taken_without_a_search(
    tmp_path: Path, setting: ModeSetting, wanted: ModeSetting | None
) -> None:
    found = loaded(tmp_path, model(), setting=setting, wanted=wanted)
    assert (found.mode.value, found.measurements) == (wanted or setting, ())
    assert not list(tmp_path.iterdir())


def test_a_mode_that_is_set_and_cannot_be_had_fails(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="mode: bf16 cannot be had: not here"):
        loaded(tmp_path, model(), setting="bf16", missing={Mode.BF16: "not here"})


async def test_a_model_is_served_eagerly_first_and_faster_later_and_all_of_it_is_shown(
    settings: InferenceSettings, bearer: Mapping[str, str], tmp_path: Path
) -> None:
    candidate = model()
    source = ModelSource("tiny", "1", "test:tiny", lambda: candidate)
    searching = settings.model_copy(update={"mode": "auto-fp32", "modes_dir": tmp_path, "mode_search_seconds": 59})
    async with serving(searching, source) as client:
        asked = await client.post("/predict", files={"file": RED}, headers=bearer)
        found = await until_mode(client, bearer, "channels-last")
        statistics = (await client.get("/v2/models/tiny/stats", headers=bearer)).json()["model_stats"]
        metrics = (await client.get("/metrics")).text
    assert asked.status_code == 200
    assert [each["inference_stats"]["success"]["count"] for each in statistics] == [1]  # since it was loaded
    assert [measured["mode"] for measured in found["modes"]] == ["eager", "channels-last", "compile"]
    assert found["modes"][2]["reason"] == "compiling needs a search of 60 s or more"
    assert found["modes"][1]["agreement"] == 1.0
    info = 'inference_model_info{device="cpu",digest="abc",dtype="float32",mode="'
    shown = [line for line in metrics.splitlines() if line.startswith(info) and line.endswith(" 1.0")]
    assert [line.removeprefix(info).partition('"')[0] for line in shown] == ["channels-last"]
    assert 'inference_model_images_per_second{mode="eager",model="tiny",version="1"}' in metrics


async def until_mode(client: httpx.AsyncClient, bearer: Mapping[str, str], mode: str) -> dict[str, Any]:
    async with asyncio.timeout(90):
        while True:
            found: dict[str, Any] = (await client.get("/models/tiny", headers=bearer)).json()
            if found["mode"] == mode:
                return found
            await asyncio.sleep(0.005)
