"""Models that change while they are served: loaded beside, checked, switched, and the old ones let go of."""

import asyncio
import gc
import re
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from inference_service.compute.mode_search import ModeSearch
from inference_service.compute.modes import Measurement, Mode
from inference_service.errors import UnknownModel
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.opening import open_models
from inference_service.lifecycle.registry import MODEL_NEED, ModelRegistry, ModelState
from inference_service.metrics import InferenceMetrics
from inference_service.model import GoldenPicture, Model, ModelSource, ModelUnavailable
from inference_service.sources.exported import read_program
from inference_service.sources.kinds import read_sources
from prometheus_client import CollectorRegistry
from safetensors.torch import save_file
from servicekit.background import running
from servicekit.health import Readiness
from structlog.testing import capture_logs

from tests.unit.inference.networks import Colours, Gate, tiny_model
from tests.unit.inference.pictures import DATA
from tests.unit.inference.test_model import Sizes
from tests.unit.inference.weight_files import exported

CAT = DATA / "chelsea.png"


def source(
    version: str = "1",
    *,
    name: str = "tiny",
    fingerprint: str = "",
    load: Callable[[], Model] = tiny_model,
    golden: tuple[GoldenPicture, ...] = (),
) -> ModelSource:
    return ModelSource(name, version, f"test:{name}", load, golden, fingerprint)


def failing() -> Model:
    raise ModelUnavailable("no weights")


class Setup:
    """A registry and what it tells others."""

    def __init__(self, *sources: ModelSource) -> None:
        self.collected = CollectorRegistry()
        self.readiness = Readiness(MODEL_NEED)
        self.models = ModelRegistry(sources, self.readiness, InferenceMetrics(self.collected), Loader(1))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.collected.get_sample_value(name, labels)

    def served(self) -> list[tuple[str, str, str]]:
        return [(m.source.name, m.source.version, m.state.value) for m in self.models]


async def loaded(*sources: ModelSource) -> Setup:
    setup = Setup(*sources)
    await setup.models.load(sources)
    return setup


async def test_a_version_that_fails_leaves_the_one_before_it_and_says_why() -> None:
    setup = await loaded(source())
    before = setup.models.get().require()
    await setup.models.load([source(fingerprint="changed", load=failing)])
    served = setup.models.get()
    assert served.require() is before
    assert (served.state, served.reason) == (ModelState.READY, "no weights")
    assert setup.readiness.missing == {}
    assert setup.metric("inference_model_loads_total", model="tiny", outcome="failed") == 1


@pytest.mark.parametrize(("error", "has_traceback"), [(ModelUnavailable("no weights"), False), (KeyError("x"), True)])
async def test_a_traceback_is_logged_of_our_own_faults_alone(error: Exception, has_traceback: bool) -> None:
    def load() -> Model:
        raise error

    with capture_logs() as logged:
        await loaded(source(load=load))
    [failed] = [entry for entry in logged if entry["event"] == "model_failed"]
    assert (failed["log_level"], bool(failed["exc_info"])) == ("error", has_traceback)


async def test_a_changed_source_is_switched_to_and_its_reason_is_forgotten() -> None:
    setup = await loaded(source())
    before = setup.models.get().require()
    await setup.models.load([source(fingerprint="changed", load=failing)])
    await setup.models.load([source(fingerprint="changed again")])
    served = setup.models.get()
    assert served.require() is not before
    assert (served.state, served.reason, served.source.fingerprint) == (ModelState.READY, None, "changed again")


async def test_a_change_that_failed_and_was_taken_back_is_no_reason_any_more() -> None:
    setup = await loaded(part("1"), part("2", weight=5))
    setup.models.get(version="2").stop("it fails")
    await setup.models.load([source("1", fingerprint="changed", load=failing), part("2", weight=5)])
    assert setup.models.get().reason == "no weights"
    await setup.models.load([part("1"), part("2", weight=5)])
    assert [served.reason for served in setup.models.versions()] == ["it fails", None]


async def test_batches_of_each_size_are_computed_before_the_switch() -> None:
    network = Sizes()
    sources = [source(load=lambda: tiny_model(network))]
    models = ModelRegistry(sources, Readiness(MODEL_NEED), InferenceMetrics(CollectorRegistry()), Loader(4))
    await models.load(sources)
    assert set(network.seen) == {1, 2, 4}
    assert list(models.get().require().batch_seconds) == [1, 4]


async def test_what_has_not_changed_is_not_loaded_again() -> None:
    setup = await loaded(source())
    before = setup.models.get().require()
    await setup.models.load([source(), source("2")])
    assert setup.models.get(version="1").require() is before
    assert setup.metric("inference_model_loads_total", model="tiny", outcome="ready") == 2


def part(version: str, *, weight: float | None = None, shadow: float | None = None) -> ModelSource:
    return ModelSource("tiny", version, "test:tiny", tiny_model, weight=weight, shadow=shadow)


async def test_the_parts_of_versions_change_without_their_being_loaded_again() -> None:
    setup = await loaded(part("1"), part("2", weight=5), part("3", shadow=10))
    before = [served.model for served in setup.models.versions()]
    assert setup.models.get().source.version == "1"
    await setup.models.load([part("1", shadow=50), part("2"), part("3", weight=20)])
    assert [served.model for served in setup.models.versions()] == before
    assert setup.models.get().source.version == "2"
    assert [(served.weight, served.shadow) for served in setup.models.versions()] == [
        (20, None),
        (None, None),
        (None, 50),
    ]
    assert setup.metric("inference_model_loads_total", model="tiny", outcome="ready") == 3


async def test_all_keep_their_parts_where_the_new_stable_version_fails() -> None:
    setup = await loaded(part("1"), part("2", weight=5))
    await setup.models.load([part("2", weight=50), source("3", load=failing)])
    assert setup.models.get().source.version == "1"
    assert setup.models.get(version="2").weight == 5


async def test_a_canary_alone_does_not_answer_for_a_stable_version_that_is_not_ready() -> None:
    setup = await loaded(source("1", load=failing), part("2", weight=5))
    assert (setup.models.get().source.version, setup.models.get().state) == ("1", ModelState.FAILED)


async def test_a_version_that_was_stopped_takes_part_again_when_it_is_loaded_anew_or_becomes_stable() -> None:
    setup = await loaded(part("1"), part("2", weight=5))
    canary = setup.models.get(version="2")
    canary.stop("it fails")
    await setup.models.load([part("1"), part("2", weight=50)])
    still = (canary.weight, canary.reason)
    await setup.models.reload([part("2", weight=50)])
    anew = (canary.weight, canary.reason)
    canary.stop("it fails")
    await setup.models.load([part("2")])
    assert still == (0, "it fails")
    assert anew == (50, None)
    assert (canary.stopped, canary.reason) == (False, None)
    assert setup.metric("inference_rollout_stopped", model="tiny", version="2") == 0


async def test_a_version_that_was_stopped_and_is_unloaded_is_no_alert_any_more() -> None:
    setup = await loaded(part("1"), part("2", weight=5))
    canary = setup.models.get(version="2")
    canary.stop("it fails")
    await setup.models.unload("tiny")
    assert setup.metric("inference_rollout_stopped", model="tiny", version="2") == 0


async def test_the_old_version_answers_until_the_new_one_is_ready_and_is_then_let_go_of() -> None:
    setup = await loaded(source("1"))
    entered, opened = threading.Event(), threading.Event()

    def slowly() -> Model:
        entered.set()
        assert opened.wait(30)
        return tiny_model()

    loading = asyncio.create_task(setup.models.load([source("2", load=slowly)]))
    assert await asyncio.to_thread(entered.wait, 30)
    while_loading = setup.models.get().source.version
    states = setup.served()
    opened.set()
    await loading
    assert while_loading == "1"
    assert states == [("tiny", "1", "ready"), ("tiny", "2", "loading")]
    assert setup.served() == [("tiny", "2", "ready")]
    info = {"model": "tiny", "source": "test:tiny", "device": "cpu", "dtype": "float32", "mode": "eager", "digest": ""}
    assert setup.metric("inference_model_info", version="2", **info) == 1
    assert (setup.metric("inference_model_load_duration_seconds", model="tiny", version="2") or 0) > 0


def giving(model: Model) -> Callable[[], Model]:
    return lambda: model


async def test_changes_leave_no_series_of_what_was() -> None:
    measured = (Measurement(mode=Mode.EAGER, images_per_second=10.0),)
    setup = await loaded(part("1"))
    for number in range(2, 5):
        model = replace(tiny_model(), digest=f"{number}", measurements=measured)
        await setup.models.load([source(str(number), load=giving(model))])
        setup.models.get().stop("it fails")
        await setup.models.reload([source(str(number), load=giving(model))])
        changed = replace(model, digest=f"{number} changed")
        await setup.models.reload([source(str(number), load=giving(changed))])
    series = [
        (sample.name, sample.labels["version"], sample.labels.get("digest"))
        for metric in setup.collected.collect()
        for sample in metric.samples
        if "version" in sample.labels
    ]
    assert sorted(series) == [
        ("inference_model_images_per_second", "4", None),
        ("inference_model_info", "4", "4 changed"),
        ("inference_model_load_duration_seconds", "4", None),
        ("inference_rollout_stopped", "4", None),
    ]
    await setup.models.unload("tiny")
    assert not [
        metric for metric in setup.collected.collect() if metric.name == "inference_model_info" and metric.samples
    ]


async def test_a_version_whose_successor_fails_is_kept() -> None:
    setup = await loaded(source("1"))
    await setup.models.load([source("2", load=failing)])
    assert setup.models.get().source.version == "1"
    assert setup.served() == [("tiny", "2", "failed"), ("tiny", "1", "ready")]
    await setup.models.load([source("2", fingerprint="mended")])
    assert setup.served() == [("tiny", "2", "ready")]


async def test_a_model_that_is_not_named_any_more_is_gone() -> None:
    setup = await loaded(source(name="tiny"), source(name="other"))
    await setup.models.load([source(name="other")])
    assert setup.models.get().source.name == "other"
    with pytest.raises(UnknownModel):
        setup.models.get("tiny")


async def test_a_process_that_has_been_ready_stays_so() -> None:
    setup = await loaded(source())
    await setup.models.load([source(), source(name="other", load=failing)])
    assert setup.readiness.missing == {}


async def test_a_start_that_failed_is_mended_by_a_change() -> None:
    setup = await loaded(source(load=failing))
    assert setup.readiness.missing == {MODEL_NEED: "tiny: no weights"}
    await setup.models.load([source(load=failing, fingerprint="changed")])
    assert setup.readiness.missing == {MODEL_NEED: "tiny: no weights"}
    await setup.models.load([source(fingerprint="mended")])
    assert setup.readiness.missing == {}


async def test_a_start_that_failed_is_mended_by_an_administrator() -> None:
    setup = await loaded(source(load=failing))
    await setup.models.reload([source(load=failing)])
    assert setup.readiness.missing == {MODEL_NEED: "tiny: no weights"}
    await setup.models.reload([source()])
    assert setup.readiness.missing == {}


async def test_what_was_unloaded_is_not_waited_for() -> None:
    setup = await loaded(source(), source(name="broken", load=failing), source(name="other", load=failing))
    await setup.models.unload("broken")
    assert setup.readiness.missing == {MODEL_NEED: "other: no weights"}
    await setup.models.reload([source(name="other")])
    assert setup.readiness.missing == {}


async def test_the_next_model_answers_by_default_while_a_program_is_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = exported(tmp_path / "tiny.pt2")
    setup = await loaded(source(load=lambda: replace(tiny_model(), network=read_program(program))))
    found: list[str] = []
    monkeypatch.setattr(
        "inference_service.lifecycle.registry.settle", lambda: found.append(setup.models.get().source.name)
    )
    await setup.models.load([source(name="other")])
    assert found == ["other"]


async def test_who_holds_the_old_model_uses_it_to_the_end_and_then_it_is_freed() -> None:
    setup = await loaded(source())
    model = setup.models.get().require()
    network = weakref.ref(model.network)
    await setup.models.load([source(fingerprint="changed")])
    assert model.forward(torch.rand(1, 3, 8, 8)).shape == (1, 3)
    del model
    assert network() is None


async def test_a_program_is_freed_though_it_refers_to_itself(tmp_path: Path) -> None:
    path = exported(tmp_path / "program.pt2")
    setup = await loaded(source(load=lambda: tiny_model(read_program(path))))
    network = weakref.ref(setup.models.get().require().network)
    await setup.models.load([source(fingerprint="changed")])
    assert network() is None


async def test_a_program_that_is_unloaded_is_freed(tmp_path: Path) -> None:
    path = exported(tmp_path / "program.pt2")
    setup = await loaded(source(load=lambda: tiny_model(read_program(path))))
    network = weakref.ref(setup.models.get().require().network)
    await setup.models.unload("tiny")
    assert network() is None


async def test_a_program_that_is_loaded_anew_is_freed(tmp_path: Path) -> None:
    path = exported(tmp_path / "program.pt2")
    setup = await loaded(source(load=lambda: tiny_model(read_program(path))))
    network = weakref.ref(setup.models.get().require().network)
    await setup.models.reload([source(load=lambda: tiny_model(read_program(path)))])
    assert network() is None


async def test_a_program_is_freed_when_a_faster_mode_takes_its_place(tmp_path: Path) -> None:
    path = exported(tmp_path / "program.pt2")
    modes = ModeSearch("auto", budget_seconds=60, folder=tmp_path / "modes", max_batch_size=1)
    sources = [source(load=lambda: tiny_model(read_program(path)))]
    models = ModelRegistry(sources, Readiness(MODEL_NEED), InferenceMetrics(CollectorRegistry()), Loader(1, modes))
    await models.load(sources)
    network = weakref.ref(models.get().require().network)
    # On another thread, as the search is: it may have another number of threads than this one.
    found_elsewhere = await asyncio.to_thread(modes._path, models.get().require(), "auto")
    found_elsewhere.parent.mkdir()
    found_elsewhere.write_text('{"mode": "channels-last", "measurements": [{"mode": "channels-last"}]}')
    async with running(models.search_modes(), "search-modes"), asyncio.timeout(60):
        while network() is not None:  # noqa: ASYNC110 nothing else tells
            await asyncio.sleep(0.005)
    assert models.get().require().mode is Mode.CHANNELS_LAST


@pytest.mark.parametrize(
    ("picture", "label", "reason"),
    [
        (CAT, "red", None),
        (CAT, "blue", "chelsea.png is blue, and the model says red"),
        (DATA / "none.png", "red", "cannot read the golden picture .*none.png: No such file"),
        (DATA / "LICENSE.md", "red", "the golden picture .*LICENSE.md: expected one of PNG"),
    ],
)
async def test_a_model_that_is_wrong_about_a_golden_picture_is_not_served(
    picture: Path, label: str, reason: str | None
) -> None:
    setup = await loaded(source())
    await setup.models.load([source("2", golden=(GoldenPicture(picture, label),))])
    candidate = setup.models.get(version="2")
    if reason is None:
        assert candidate.state is ModelState.READY
    else:
        assert candidate.state is ModelState.FAILED
        assert re.search(reason, candidate.reason or "")


async def test_the_fastest_mode_of_another_version_comes_before_a_switch_but_not_before_the_process_is_ready(
    tmp_path: Path,
) -> None:
    modes = ModeSearch("auto", budget_seconds=60, folder=tmp_path, max_batch_size=1, missing=lambda *_: "not here")
    sources = [source("1"), source("2")]
    models = ModelRegistry(sources, Readiness(MODEL_NEED), InferenceMetrics(CollectorRegistry()), Loader(1, modes))
    await models.load(sources)
    assert [bool(served.require().measurements) for served in models] == [False, False]
    await models.load([source("1"), source("2", load=lambda: tiny_model(Sizes()), fingerprint="changed")])
    assert [bool(served.require().measurements) for served in models] == [False, True]


async def unload(models: ModelRegistry) -> None:
    await models.unload("tiny")


async def reload(models: ModelRegistry) -> None:
    await models.reload([source()])


async def retire(models: ModelRegistry) -> None:
    await models.load([source(name="other")])


@pytest.mark.parametrize("change", [unload, reload, retire])
async def test_a_model_changes_while_its_fastest_mode_is_searched_for_and_stays_as_it_was_changed(
    tmp_path: Path, change: Callable[[ModelRegistry], Awaitable[None]]
) -> None:
    gate, collected = Gate(), CollectorRegistry()
    modes = ModeSearch("auto", budget_seconds=60, folder=tmp_path, max_batch_size=1, missing=lambda *_: "not here")
    sources = [source(load=lambda: tiny_model(gate))]
    models = ModelRegistry(sources, Readiness(MODEL_NEED), InferenceMetrics(collected), Loader(1, modes))
    async with running(models.search_modes(), "search-modes"), asyncio.timeout(60):
        await models.load(sources)
        assert await asyncio.to_thread(gate.entered.wait, 30)
        await change(models)
        changed = [(served.source.name, served.state, served.model) for served in models]
        await models.reload([source(name="last")])
        gate.opened.set()
        # The searches come one after the other.
        while not models.get("last").require().measurements:  # noqa: ASYNC110 nothing else tells
            await asyncio.sleep(0.005)
    found = [(served.source.name, served.state, served.model) for served in models]
    if change is reload:
        assert isinstance(models.get("tiny").require().network, Colours)
    elif change is unload:
        assert found[0] == changed[0] == ("tiny", ModelState.UNLOADED, None)
    else:
        assert [name for name, _, _ in found] == ["other", "last"]
    shown = [sample for metric in collected.collect() for sample in metric.samples if sample.value == 1]
    names = [sample.labels["model"] for sample in shown if sample.name == "inference_model_info"]
    assert sorted(names) == sorted(name for name, _, model in found if model)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("suffix", "swaps"), [("safetensors", 200), ("pt2", 50)])
async def test_swaps_do_not_grow_the_memory(tmp_path: Path, suffix: str, swaps: int) -> None:
    from torchvision.models import get_model

    weights, models_file = tmp_path / f"weights.{suffix}", tmp_path / "models.yaml"
    network = get_model("squeezenet1_1", weights=None, num_classes=2)
    if suffix == "pt2":
        exported(weights, network, side=64)
    else:
        save_file(network.state_dict(), weights)

    def sources(swap: int) -> tuple[ModelSource, ...]:
        entry = {
            "name": "net",
            "version": swap + 1,
            "source": f"file:{weights.name}",
            "labels": ["cat", "dog"],
            "preprocessing": {"resize_size": 64, "crop_size": 64},
            **({} if suffix == "pt2" else {"architecture": "squeezenet1_1"}),
        }
        models_file.write_text(yaml.safe_dump({"models": [entry]}))
        return read_sources(models_file, tmp_path)

    setup = await loaded(*sources(0))
    for swap in range(1, 6):
        await setup.models.load(sources(swap))
    gc.collect()
    before = resident_bytes()
    for swap in range(6, 6 + swaps):
        await setup.models.load(sources(swap))
    assert setup.served() == [("net", str(6 + swaps), "ready")]
    assert resident_bytes() < 1.05 * before


async def test_the_follower_runs_after_the_first_load() -> None:
    followed: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def follow(models: ModelRegistry) -> None:
        followed.set_result([served.state.value for served in models])

    readiness = Readiness(MODEL_NEED)
    async with open_models(
        [source()], readiness, InferenceMetrics(CollectorRegistry()), Loader(1), prepare=lambda: None, follow=follow
    ):
        assert await asyncio.wait_for(followed, 30) == ["ready"]
