"""Which mode a model is computed in: as it is set, as it was found before, or as a short search finds."""

import hashlib
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, NonNegativeFloat, ValidationError
from servicekit.logs import get_logger
from servicekit.whole_files import written_whole

from inference_service.compute.cascade import Cascade, learn
from inference_service.compute.compilation import LEAST_SECONDS, compile_network
from inference_service.compute.compiled_network import CompiledNetwork
from inference_service.compute.conversion import REVISION, candidates, dtype_in, in_mode, missing_for
from inference_service.compute.file_lock import locked
from inference_service.compute.mode_trial import OutOfTime, Trial, logits_of_views
from inference_service.compute.modes import Measurement, Mode, ModeSetting
from inference_service.ending import Ending
from inference_service.model import Model, ModelUnavailable
from inference_service.weights import first_line

MOST_COMPILE_SECONDS = 900.0
"""For a mode that is set, which nobody waits for but the start."""

T = TypeVar("T", bound=BaseModel)

log = get_logger(__name__)


class _Choice(BaseModel):
    """What a search has found, as it is kept in a file."""

    mode: Mode
    measurements: tuple[Measurement, ...]


class _Margin(BaseModel):
    """What a cascade has learnt, as it is kept in a file."""

    margin: NonNegativeFloat


class ModeSearch:
    """Brings models into their modes. What is found is kept in `folder`, for this model on such a machine.

    A search ends after `budget_seconds`, but for the batch that runs then; with 0 there is none. With `shares_weights`
    the weights stay tensors that workers can share. A search that `comes_first` ends before its model is served.
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
        shares_weights: bool = False,
        comes_first: bool = False,
    ) -> None:
        self.comes_first = comes_first
        self._setting = setting
        self._shares_weights = shares_weights
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
            if found := self._restored(model, setting, keep=True):  # another worker has searched meanwhile
                with suppress(ModelUnavailable):  # or what was found is not good enough any more
                    return accept(found)
            return self._find(model, setting, accept)

    def _find(self, model: Model, setting: ModeSetting, accept: Callable[[Model], Model]) -> Model:
        modes = candidates(model, setting)
        ends_at = time.monotonic() + self._budget_seconds

        def in_mode(mode: Mode, margin: float | None = None) -> Model:
            seconds = ends_at - time.monotonic()
            if mode is Mode.COMPILE_BF16:  # which comes last, and leaves some time to compare what there is by then
                seconds /= 2
            return self._in_mode(model, mode, keep=True, seconds=seconds, margin=margin)

        def check_time() -> None:
            self._ending.check()
            if time.monotonic() > ends_at:
                raise OutOfTime

        trial = Trial(model, self._max_batch_size, check_time, in_mode, accept)
        found = trial.best({mode: self._obstacle(mode, model.device) for mode in modes})
        self._write(self._path(model, setting), _Choice(mode=found.mode, measurements=found.measurements))
        return found

    def _restored(self, model: Model, setting: ModeSetting, *, keep: bool = False) -> Model | None:
        """Return the model in the mode that was found before, where it was."""
        choice = _read(_Choice, self._path(model, setting))
        if choice is None:
            return None
        if any(part.is_compiled and not self._library(model, part).exists() for part in choice.mode.parts):
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

    def _in_mode(
        self,
        model: Model,
        mode: Mode,
        *,
        keep: bool = False,
        seconds: float = MOST_COMPILE_SECONDS,
        margin: float | None = None,
    ) -> Model:
        if mode.is_cascade:
            return self._cascade(model, mode, seconds, margin)
        if not mode.is_compiled:
            return in_mode(
                model, mode, max_batch_size=self._max_batch_size, keep=keep, shares_weights=self._shares_weights
            )
        path, side = self._library(model, mode), model.preprocessing.input_size
        with locked(path.with_suffix(".lock"), self._ending):
            if not path.exists():
                open_ = in_mode(model, mode, max_batch_size=self._max_batch_size, keep=keep)
                compile_network(open_, path, max_batch_size=self._max_batch_size, seconds=seconds, ending=self._ending)
        try:
            network = CompiledNetwork(path, (3, side, side), streams=self._streams)
        except (RuntimeError, OSError) as error:
            with suppress(OSError):
                path.unlink()  # nobody would compile it anew otherwise
            raise ModelUnavailable(f"what was compiled cannot be loaded: {first_line(error)}") from error
        return replace(model, network=network, dtype=dtype_in(model, mode), mode=mode, batch_seconds={})

    def _cascade(self, model: Model, mode: Mode, seconds: float, margin: float | None) -> Model:
        """Return the cascade, with the margin that is given, was kept, or is learnt here."""
        fast, exact = (self._in_mode(model, part, keep=True, seconds=seconds) for part in mode.parts)
        exact.warm_up(self._max_batch_size)  # that of the cascade computes it only for what is close
        path = self._path(model, mode)
        if margin is None and (kept := _read(_Margin, path)):
            margin = kept.margin
        else:
            if margin is None:
                views = [logits_of_views(part, self._max_batch_size, self._ending.check) for part in (exact, fast)]
                margin = learn(*views).margin
            self._write(path, _Margin(margin=margin))
        network = Cascade(fast.network, exact.network, margin)
        return replace(model, network=network, mode=mode, batch_seconds={})

    def _library(self, model: Model, mode: Mode) -> Path:
        """Return where the compiled network is kept."""
        return self._path(model, mode).with_suffix(".so")

    def _path(self, model: Model, setting: ModeSetting | Mode) -> Path:
        """Return the file for what decides which mode is best."""
        machine = torch.cuda.get_device_name(model.device) if model.device.startswith("cuda") else _processor()
        decides = (
            *model.identity,
            str(REVISION),
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

    def _write(self, path: Path, found: BaseModel) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as file:
                file.write(found.model_dump_json().encode())
        except OSError as error:
            log.warning("mode_not_kept", folder=str(self._folder), reason=error.strerror)


def _read(kind: type[T], path: Path) -> T | None:
    """Return what is in the file, where it is there and whole."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _searches(setting: ModeSetting | Mode) -> bool:
    return setting in ("auto", "auto-fp32")


def _processor() -> str:
    """Return what the speed of a mode depends on."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name} {os.cpu_count()} {sorted(torch.cpu.get_capabilities().items())}"
