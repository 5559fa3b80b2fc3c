"""From a line of `models.yaml` to a model: what each kind of source means."""

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import torch
from servicekit.logs import without_secrets
from torch import nn

from inference_service.ending import Ending
from inference_service.model import GoldenPicture, Model, ModelSource, ModelUnavailable
from inference_service.preprocessing import Preprocessing, grey_levels
from inference_service.sources.builtin import EFFICIENTNET_LITE0, GOLDEN, load_efficientnet_lite0
from inference_service.sources.exported import read_program
from inference_service.sources.models_file import TORCHVISION, ModelEntry, PreprocessingEntry, read_models_file
from inference_service.sources.torchvision_models import build_classifier, published_weights
from inference_service.weights import check_digest, fetch, read_tensors


def read_sources(
    models_file: Path | None, weights_folder: Path, ending: Ending | None = None
) -> tuple[ModelSource, ...]:
    """Return what `models.yaml` names, or the built-in model where there is no such file.

    Nothing is loaded or fetched yet. What is fetched later is given up when `ending` begins.

    Raises:
        BadModelsFile: the file cannot be used.
    """
    if models_file is None:
        return (EFFICIENTNET_LITE0,)
    folder = models_file.parent
    return tuple(
        ModelSource(
            name=entry.name,
            version=entry.version,
            uri=without_secrets(entry.source) if entry.kind == "https" else entry.source,
            load=partial(_load, entry, folder, weights_folder, ending),
            golden=tuple(GoldenPicture(folder / golden.picture, golden.label) for golden in entry.golden)
            or (GOLDEN if entry.kind == "builtin" else ()),
            mode=None if entry.mode == "int8" else entry.mode,
            calibration=folder / entry.calibration if entry.calibration else None,
            fingerprint=_fingerprint(entry, folder),
            weight=entry.weight,
            shadow=entry.shadow,
        )
        for entry in read_models_file(models_file)
    )


def _fingerprint(entry: ModelEntry, folder: Path) -> str:
    """Return what changes when the entry or a file that it names does."""
    text = entry.model_dump_json(exclude={"weight", "shadow"})
    files = [_path(entry, folder)] if entry.kind == "file" else []
    if entry.calibration:
        files.append(folder / entry.calibration)
    for file in files:
        with contextlib.suppress(OSError):
            stat = file.stat()
            text += f" {stat.st_size} {stat.st_mtime_ns}"
    return text


def _path(entry: ModelEntry, folder: Path) -> Path:
    return folder / entry.source.removeprefix("file:").removeprefix("//")


def _load(entry: ModelEntry, folder: Path, weights_folder: Path, ending: Ending | None) -> Model:
    if entry.device == "auto":
        entry = entry.model_copy(update={"device": "cuda" if torch.cuda.is_available() else "cpu"})
    check_device(entry.device, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if entry.kind == "builtin":
        model = load_efficientnet_lite0()
        return _placed(entry, model.network, model.preprocessing, model.labels, model.digest)
    if entry.kind == "torchvision":
        return _load_torchvision(entry, weights_folder, ending)
    return _load_file(entry, folder, weights_folder, ending)


def check_device(device: str, gpus: int) -> None:
    """Check that a device is there, on a machine with so many GPUs that torch can use.

    Raises:
        ModelUnavailable: it is not.
    """
    kind, _, index = device.partition(":")
    if kind == "cuda" and int(index or 0) >= gpus:
        there = f"{gpus or 'no'} GPU{'s' if gpus > 1 else ''}"
        last = f", the last of them cuda:{gpus - 1}" if gpus else ""
        raise ModelUnavailable(f"device: {device} is asked for, and this machine has {there} that torch can use{last}")


def _load_torchvision(entry: ModelEntry, weights_folder: Path, ending: Ending | None) -> Model:
    match = TORCHVISION.fullmatch(entry.source)
    assert match is not None
    published = published_weights(match["name"], match["weights"])
    path = weights_folder / Path(urlsplit(published.url).path).name
    digest = fetch(published.url, path, sha256=entry.sha256 or published.sha256, ending=ending)
    network = build_classifier(
        match["name"],
        read_tensors(path),
        classes=len(published.labels),
        input_size=published.preprocessing.input_size,
    )
    preprocessing = _preprocessing(entry.preprocessing) or published.preprocessing
    return _placed(entry, network, preprocessing, entry.labels or published.labels, digest)


def _load_file(entry: ModelEntry, folder: Path, weights_folder: Path, ending: Ending | None) -> Model:
    location = urlsplit(entry.source)
    assert entry.labels is not None
    if entry.kind == "https":
        assert entry.sha256 is not None
        path = weights_folder / (entry.sha256 + Path(location.path).suffix)
        token_file = folder / entry.token_file if entry.token_file else None
        digest = fetch(entry.source, path, sha256=entry.sha256, token_file=token_file, ending=ending)
    else:
        path = _path(entry, folder)
        digest = check_digest(path, sha256=entry.sha256)
    preprocessing = _preprocessing(entry.preprocessing)
    if path.suffix == ".pt2":
        assert preprocessing is not None
        return _placed(entry, read_program(path), preprocessing, entry.labels, digest)
    assert entry.architecture is not None
    preprocessing = preprocessing or published_weights(entry.architecture).preprocessing
    network = build_classifier(
        entry.architecture, read_tensors(path), classes=len(entry.labels), input_size=preprocessing.input_size
    )
    return _placed(entry, network, preprocessing, entry.labels, digest)


def _placed(
    entry: ModelEntry, network: nn.Module, preprocessing: Preprocessing, labels: tuple[str, ...], digest: str
) -> Model:
    """Return the model on its device, in its dtype."""
    dtype: torch.dtype = getattr(torch, entry.dtype)
    network.to(entry.device, dtype)
    if entry.device.startswith("cuda"):
        preprocessing = replace(preprocessing, normalizes=False)
    network.requires_grad_(requires_grad=False)
    preprocessing = replace(preprocessing, scaled_decoding=entry.scaled_decoding)
    return Model(
        network,
        preprocessing,
        labels,
        device=entry.device,
        dtype=dtype,
        digest=digest,
        architecture=entry.architecture or "",
    )


def _preprocessing(entry: PreprocessingEntry | None) -> Preprocessing | None:
    if entry is None:
        return None
    return Preprocessing(
        input_size=entry.crop_size,
        resize_size=entry.resize_size,
        interpolation=entry.interpolation,
        mean=grey_levels(entry.mean),
        std=grey_levels(entry.std),
    )
