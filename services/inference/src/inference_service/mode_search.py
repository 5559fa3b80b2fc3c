"""Which mode a model is computed in: as it is set, as it was found before, or as a short search finds."""

import hashlib
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from servicekit.logs import get_logger
from torch import Tensor

from inference_service.agreement import LEAST, compare, inputs
from inference_service.compilation import LEAST_SECONDS, compile_network
from inference_service.compiled_network import CompiledNetwork
from inference_service.conversion import candidates, dtype_in, in_mode, missing_for
from inference_service.ending import Ending
from inference_service.file_lock import locked
from inference_service.model import Model, ModelUnavailable
from inference_service.modes import Measurement, Mode, ModeSetting
from inference_service.weights import first_line

FASTER = 1.05
"""How many times as fast as eager a mode must be: less is within what two runs differ by."""

_RUNS = 3
MOST_COMPILE_SECONDS = 900.0
"""For a mode that is set, which nobody waits for but the start."""

_NO_TIME = "there was no time left"

log = get_logger(__name__)


class _Choice(BaseModel):
    """What a search has found, as it is kept in a file."""

    mode: Mode
    measurements: tuple[Measurement, ...]


class ModeSearch:
    """Brings models into their modes. What is found is kept in `folder`, for this model on such a machine.

    A search ends after `budget_seconds`, but for the batch that runs then; with 0 there is none.
    """

    def __init__(
        self,
        setting: ModeSetting,
        *,
        budget_seconds: float,
        folder: Path,
        max_batch_size: int,
        streams: int = 1,
        missing: Callable[[Mode, str], str | None] = missing_for,
        ending: Ending | None = None,
    ) -> None:
        self._setting = setting
        self._missing = missing
        self._budget_seconds = budget_seconds
        self._folder = folder
        self._max_batch_size = max_batch_size
        self._streams = streams
        self._ending = ending or Ending()

    def settle(self, model: Model, wanted: ModeSetting | None) -> Model:
        """Return an eager model in the mode that is set for it, or that was found before; else as it is.

        Raises:
            ModelUnavailable: the mode that is set cannot be had.
        """
        setting = wanted or self._setting
        if not _searches(setting):
            return self._pinned(model, Mode(setting))
        return self._restored(model, setting) or model

    def is_open(self, model: Model, wanted: ModeSetting | None) -> bool:
        """Tell whether the mode of a settled model is to be searched for."""
        return self._budget_seconds > 0 and _searches(wanted or self._setting) and not model.measurements

    def search(self, model: Model, wanted: ModeSetting | None, accept: Callable[[Model], Model]) -> Model:
        """Return the eager `model` in the fastest mode that agrees with it and that `accept` takes.

        Of several processes with one folder one searches, and the others take what it has found.

        The model may be served meanwhile: it is not changed. `accept` returns what it is given, made
        ready to serve, or raises `ModelUnavailable`.

        Raises:
            ServiceEnds: the service ends meanwhile; nothing is kept.
        """
        setting = wanted or self._setting
        with locked(self._path(model, setting).with_suffix(".lock"), self._ending):
            if found := self._restored(model, setting, keep=True):
                return accept(found)  # another worker has searched meanwhile
            return self._find(model, setting, accept)

    def _find(self, model: Model, setting: ModeSetting, accept: Callable[[Model], Model]) -> Model:
        modes = candidates(model, setting)
        ends_at = time.monotonic() + self._budget_seconds

        def in_mode(mode: Mode) -> Model:
            seconds = ends_at - time.monotonic()
            if mode is Mode.COMPILE_BF16:  # which comes last, and leaves some time to compare what there is by then
                seconds /= 2
            return self._in_mode(model, mode, keep=True, seconds=seconds)

        def check_time() -> None:
            self._ending.check()
            if time.monotonic() > ends_at:
                raise _OutOfTime

        trial = _Trial(model, self._max_batch_size, check_time, in_mode, accept)
        found = trial.best({mode: self._obstacle(mode, model.device) for mode in modes})
        self._write(model, setting, _Choice(mode=found.mode, measurements=found.measurements))
        return found

    def _restored(self, model: Model, setting: ModeSetting, *, keep: bool = False) -> Model | None:
        """Return the model in the mode that was found before, where it was."""
        choice = self._read(model, setting)
        if choice is None or (choice.mode.is_compiled and not self._library(model, choice.mode).exists()):
            return None
        try:
            return replace(self._in_mode(model, choice.mode, keep=keep), measurements=choice.measurements)
        except ModelUnavailable as error:  # what is kept may be damaged, and eager needs none of it
            log.warning("mode_not_restored", mode=choice.mode, reason=str(error))
            return None

    def _pinned(self, model: Model, mode: Mode) -> Model:
        if reason := self._missing(mode, model.device):
            raise ModelUnavailable(f"mode: {mode} cannot be had: {reason}")
        return self._in_mode(model, mode)

    def _obstacle(self, mode: Mode, device: str) -> str | None:
        """Return why a mode is not tried in a search."""
        if mode.is_compiled and self._budget_seconds < LEAST_SECONDS:
            return f"compiling needs a search of {LEAST_SECONDS:.0f} s or more"
        return self._missing(mode, device)

    def _in_mode(self, model: Model, mode: Mode, *, keep: bool = False, seconds: float = MOST_COMPILE_SECONDS) -> Model:
        if not mode.is_compiled:
            return in_mode(model, mode, max_batch_size=self._max_batch_size, keep=keep)
        path, side = self._library(model, mode), model.preprocessing.input_size
        with locked(path.with_suffix(".lock"), self._ending):
            if not path.exists():
                open_ = in_mode(model, mode, max_batch_size=self._max_batch_size, keep=keep)
                compile_network(open_, path, max_batch_size=self._max_batch_size, seconds=seconds, ending=self._ending)
        try:
            network = CompiledNetwork(path, (3, side, side), streams=self._streams)
        except (RuntimeError, OSError) as error:
            raise ModelUnavailable(f"what was compiled cannot be loaded: {first_line(error)}") from error
        return replace(model, network=network, dtype=dtype_in(model, mode), mode=mode, batch_seconds={})

    def _library(self, model: Model, mode: Mode) -> Path:
        """Return where the compiled network is kept."""
        return self._path(model, mode).with_suffix(".so")

    def _path(self, model: Model, setting: ModeSetting | Mode) -> Path:
        """Return the file for what decides which mode is best."""
        machine = torch.cuda.get_device_name(model.device) if model.device.startswith("cuda") else _processor()
        decides = (
            *model.identity,
            model.device,
            setting,
            torch.__version__,
            machine,
            str(torch.get_num_threads()),
            str(self._max_batch_size),
            # With more time or modes another search may find more; with the same ones, each start would search in vain.
            " ".join([f"{self._budget_seconds:g}", *Mode]) if _searches(setting) else "",
        )
        return self._folder / (hashlib.sha256("\n".join(decides).encode()).hexdigest() + ".json")

    def _read(self, model: Model, setting: ModeSetting) -> _Choice | None:
        try:
            return _Choice.model_validate_json(self._path(model, setting).read_bytes())
        except (OSError, ValidationError):
            return None

    def _write(self, model: Model, setting: ModeSetting, choice: _Choice) -> None:
        path = self._path(model, setting)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}")
            unfinished.write_text(choice.model_dump_json(), encoding="utf-8")
            unfinished.replace(path)
        except OSError as error:
            log.warning("mode_not_kept", folder=str(self._folder), reason=error.strerror)


def _searches(setting: ModeSetting | Mode) -> bool:
    return setting in ("auto", "auto-fp32")


class _Trial:
    """One search: eager first, then each candidate, then the fastest of them on the pictures."""

    def __init__(
        self,
        model: Model,
        max_batch_size: int,
        check_time: Callable[[], None],
        in_mode: Callable[[Mode], Model],
        accept: Callable[[Model], Model],
    ) -> None:
        self._model = model
        self._batch_size = max_batch_size
        self._check_time = check_time
        self._in_mode = in_mode
        self._accept = accept
        self._expected: Tensor | None = None
        self._measured: dict[Mode, Measurement] = {}

    def best(self, modes: Mapping[Mode, str | None]) -> Model:
        """Return the model in the best of `modes`, which say what the machine lacks for each, or as it is."""
        self._measured[Mode.EAGER] = self._time(Mode.EAGER)
        for mode, reason in modes.items():
            self._measured[mode] = Measurement(mode=mode, reason=reason) if reason else self._time(mode)
        eager = self._speed(Mode.EAGER)
        for mode in sorted(modes, key=self._speed, reverse=True):
            if self._speed(mode) > FASTER * eager > 0 and (model := self._checked(mode)):
                return replace(model, measurements=tuple(self._measured.values()))
        return replace(self._model, measurements=tuple(self._measured.values()))

    def _speed(self, mode: Mode) -> float:
        return self._measured[mode].images_per_second or 0.0

    def _time(self, mode: Mode) -> Measurement:
        try:
            return Measurement(mode=mode, images_per_second=self._images_per_second(self._in_mode(mode)))
        except _OutOfTime:
            return Measurement(mode=mode, reason=_NO_TIME)
        except ModelUnavailable as error:
            return Measurement(mode=mode, reason=str(error))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            # Programs may hold their tensors to a dtype.
            return Measurement(mode=mode, reason=f"it fails: {first_line(error)}")

    def _checked(self, mode: Mode) -> Model | None:
        """Return the model in `mode`, where it is as good as eager."""
        try:
            if self._expected is None:
                self._expected = self._logits(self._model)
            model = self._in_mode(mode)
            agreement = compare(self._expected, self._logits(model))
            self._note(mode, agreement=agreement.top1, score_difference=agreement.score_difference)
            if agreement.top1 >= LEAST:
                return self._accept(model)
            self._note(mode, reason=f"it agrees on fewer than {LEAST:.1%} of the pictures")
        except _OutOfTime:
            self._note(mode, reason=_NO_TIME)
        except ModelUnavailable as error:
            self._note(mode, reason=str(error))
        return None

    def _note(self, mode: Mode, **found: object) -> None:
        self._measured[mode] = self._measured[mode].model_copy(update=found)

    def _images_per_second(self, model: Model) -> float:
        """Measure a few batches of the largest size, and take the fastest: callers' batches slow the others."""
        side = model.preprocessing.input_size
        images = torch.rand(self._batch_size, 3, side, side)
        seconds = []
        for _ in range(1 + _RUNS):
            self._check_time()
            started = time.perf_counter()
            model.forward(images)
            seconds.append(time.perf_counter() - started)
        return self._batch_size / min(seconds[1:])

    def _logits(self, model: Model) -> Tensor:
        logits = []
        for batch in inputs(model, self._batch_size):
            self._check_time()
            logits.append(model.forward(batch))
        return torch.cat(logits)


class _OutOfTime(Exception):
    """The budget of a search is used up."""


def _processor() -> str:
    """Return what the speed of a mode depends on."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name} {os.cpu_count()} {sorted(torch.cpu.get_capabilities().items())}"
