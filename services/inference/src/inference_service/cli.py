"""`pinhole-models`: what is done with models at the machine, with the settings of the service."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track
from servicekit.logs import configure_logs
from servicekit.settings import load_settings
from torch import Tensor

from inference_service.compute.agreement import compare, inputs
from inference_service.compute.mode_trial import images_per_second
from inference_service.compute.quantization import calibrate, quantized, save_ranges
from inference_service.cpu import available_cpus
from inference_service.model import Model, ModelSource, ModelUnavailable
from inference_service.settings import InferenceSettings
from inference_service.sources.kinds import read_sources
from inference_service.sources.models_file import BadModelsFile
from inference_service.weights import first_line

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def main() -> None:
    """Keep `calibrate` a command by its name, though there is no other."""


@app.command("calibrate")
def calibrate_model(
    model: Annotated[str, typer.Option(help="The name of the model in models.yaml.")],
    pictures: Annotated[Path, typer.Option(help="A folder of pictures like those that will be asked about.")],
    output: Annotated[Path, typer.Option(help="The file to write: `calibration` in models.yaml.")],
    version: Annotated[str | None, typer.Option(help="Which version. By default the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")] = False,
) -> None:
    """Make what a model needs to be computed in 8 bits, and report how well that agrees with it.

    Every second picture is learnt from; the others, cut out at several scales and mirrored, are what
    both are compared on.
    """
    settings = load_settings(InferenceSettings)
    configure_logs(settings.service, level=settings.log_level, format=settings.log_format)
    torch.set_num_threads(settings.compute_threads or available_cpus())
    if not pictures.is_dir():
        raise _failed(f"there is no folder {pictures}")
    files = sorted(file for file in pictures.rglob("*") if file.suffix.lower() in SUFFIXES)
    if len(files) < 2:
        raise _failed(f"{pictures} has {len(files)} pictures ({', '.join(sorted(SUFFIXES))}), and two are the least")
    if not output.parent.is_dir():  # told before the minutes that it takes
        raise _failed(f"there is no folder {output.parent} to write to")
    if output.is_dir():
        raise _failed(f"{output} is a folder, and no file to write")
    size = settings.max_batch_size
    try:
        loaded = _source(settings, model, version).load()
        ranges = calibrate(loaded, _batches(loaded, size, files[::2], "learning"))
        in_int8 = quantized(loaded, ranges)
        answers = [
            (loaded.forward(batch), in_int8.forward(batch))
            for batch in _batches(loaded, size, files[1::2], "comparing")
        ]
        save_ranges(output, ranges, digest=loaded.digest)
    except ModelUnavailable as error:
        raise _failed(str(error)) from None
    except OSError as error:
        raise _failed(f"cannot write {output}: {error.strerror}") from None
    agreement = compare(*(torch.cat(logits) for logits in zip(*answers, strict=True)))
    report = {
        "pictures": len(files),
        "views": sum(len(logits) for logits, _ in answers),
        "agreement": round(agreement.top1, 4),
        "score_difference": round(agreement.score_difference, 4),
        "images_per_second": {
            name: round(images_per_second(model, size), 1) for name, model in (("eager", loaded), ("int8", in_int8))
        },
        "output": str(output),
    }
    typer.echo(json.dumps(report) if as_json else _sentences(report))


def _source(settings: InferenceSettings, name: str, version: str | None) -> ModelSource:
    try:
        sources = read_sources(settings.models_file, settings.weights_dir)
    except BadModelsFile as error:
        raise ModelUnavailable(str(error)) from None
    versions = [source for source in sources if source.name == name]
    if not versions:
        names = dict.fromkeys(source.name for source in sources)
        raise ModelUnavailable(f"there is no model {name}: there is {', '.join(names)}")
    found = [source for source in versions if version in (None, source.version)]
    if not found:
        there = ", ".join(source.version for source in versions)
        raise ModelUnavailable(f"there is no version {version} of {name}: there is {there}")
    return max(found, key=lambda source: int(source.version))


def _batches(model: Model, size: int, files: Sequence[Path], what: str) -> Iterator[Tensor]:
    """Yield the views of the pictures, with a bar that grows by the picture."""
    for file in track(files, what, console=Console(stderr=True)):
        try:
            yield from inputs(model, size, [file])
        except UnidentifiedImageError:
            raise _failed(f"cannot read {file}: it is no picture") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # as Pillow has it
            raise _failed(f"cannot read {file}: {getattr(error, 'strerror', None) or first_line(error)}") from None


def _sentences(report: dict[str, object]) -> str:
    speeds = report["images_per_second"]
    assert isinstance(speeds, dict)
    return (
        f"int8 names the same class as float32 on {report['agreement']:.2%} of {report['views']} views; "
        f"a score differs by {report['score_difference']} at most\n"
        f"{speeds['int8']} images/s instead of {speeds['eager']}\n"
        f"wrote {report['output']}"
    )


def _failed(reason: str) -> typer.Exit:
    typer.echo(reason, err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    app()
