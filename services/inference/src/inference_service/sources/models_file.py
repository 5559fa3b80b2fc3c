"""`models.yaml`: which models are served, checked before anything is loaded."""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from inference_service.compute.modes import ModeSetting
from inference_service.sources.builtin import imagenet_labels

BUILTIN = "builtin:efficientnet-lite0"
TORCHVISION = re.compile(r"torchvision:(?P<name>[a-z0-9_]+)(/(?P<weights>[A-Z0-9_]+))?")
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".pt2")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
VERSION_PATTERN = r"^[1-9][0-9]{0,8}$"


class BadModelsFile(Exception):
    """`models.yaml` cannot be used; each line of the message names the file, the model and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_source(source: str) -> str:
    """Check what can be told without loading anything."""
    if source == BUILTIN or TORCHVISION.fullmatch(source):
        return source
    if source.startswith(("file:", "https:")):
        url = urlsplit(source)
        if source.startswith("https:") and not url.hostname:
            raise ValueError("an https: source needs a host")
        if Path(url.path).suffix not in WEIGHT_SUFFIXES:
            raise ValueError(f"the file must end in one of {', '.join(WEIGHT_SUFFIXES)}")
        return source
    raise ValueError(f"expected {BUILTIN}, torchvision:NAME, file:PATH or https://HOST/PATH")


def _check_path(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path has no character NUL")
    return path


def _check_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]*))?", device):
        raise ValueError("expected cpu, auto, cuda, or a GPU by its number, as in cuda:0")
    return device


def _read_labels(value: Any, info: ValidationInfo) -> Any:
    """Take a list, `imagenet`, or the path of a file with one label a line."""
    if value == "imagenet":
        return imagenet_labels()
    if not isinstance(value, str):
        return value
    assert info.context is not None
    folder: Path = info.context["folder"]
    try:
        # Not `splitlines`: it ends a line at signs that may stand in a label, and all after it would move.
        return (folder / value).read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"cannot read {value}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def _version_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Version = Annotated[str, BeforeValidator(_version_text), StringConstraints(pattern=VERSION_PATTERN)]
Labels = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1)], ...], BeforeValidator(_read_labels), Field(min_length=1)
]
FilePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(_check_path)]
Level = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]
Spread = Annotated[float, Field(gt=0, le=1)]


class PreprocessingEntry(_Strict):
    """How a picture becomes the input: the short side resized, the middle cut out, the channels normalized."""

    resize_size: PositiveInt
    crop_size: PositiveInt
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mean: tuple[Level, Level, Level] = (0.485, 0.456, 0.406)
    std: tuple[Spread, Spread, Spread] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _crop_lies_inside(self) -> Self:
        if self.resize_size < self.crop_size:
            raise ValueError("resize_size must be at least crop_size")
        return self


class GoldenEntry(_Strict):
    """A picture whose label is known."""

    picture: FilePath
    label: str


class ModelEntry(_Strict):
    """One version of one model."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    version: Version = "1"
    source: Annotated[FilePath, AfterValidator(_check_source)]
    architecture: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    token_file: FilePath | None = None
    labels: Labels | None = None
    preprocessing: PreprocessingEntry | None = None
    scaled_decoding: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    mode: Literal[ModeSetting, "int8"] | None = None
    calibration: FilePath | None = None
    golden: tuple[GoldenEntry, ...] = ()
    device: Annotated[str, AfterValidator(_check_device)] = "cpu"
    weight: Percent | None = None
    shadow: Percent | None = None

    @property
    def kind(self) -> str:
        """Return the scheme of the source."""
        return self.source.partition(":")[0]

    @property
    def is_stable(self) -> bool:
        """Tell whether it is neither a canary nor a shadow."""
        return self.weight is None and self.shadow is None

    @model_validator(mode="after")
    def _is_canary_or_shadow(self) -> Self:
        if self.weight is not None and self.shadow is not None:
            raise ValueError("weight: and shadow: cannot both be set")
        return self

    @model_validator(mode="after")
    def _int8_is_calibrated(self) -> Self:
        if (self.mode == "int8") != (self.calibration is not None):
            raise ValueError("calibration: is required with mode: int8, and has no meaning without it")
        if self.mode == "int8" and (self.device != "cpu" or self.dtype != "float32"):
            raise ValueError("mode: int8 is for dtype: float32 and device: cpu")
        return self

    @model_validator(mode="after")
    def _fields_fit_the_source(self) -> Self:
        is_file = self.kind in ("file", "https")
        is_program = is_file and urlsplit(self.source).path.endswith(".pt2")
        required = {
            "sha256": self.kind == "https",
            "labels": is_file,
            "architecture": is_file and not is_program,
            "preprocessing": is_program,
        }
        unused = {
            "sha256": self.kind == "builtin",
            "token_file": self.kind != "https",
            "labels": self.kind == "builtin",
            "architecture": not is_file or is_program,
            "preprocessing": self.kind == "builtin",
        }
        for field in unused:
            given = getattr(self, field) is not None
            if required.get(field) and not given:
                raise ValueError(f"{field}: is required with this source")
            if unused[field] and given:
                raise ValueError(f"{field}: has no meaning with this source")
        return self


class ModelsFile(_Strict):
    """The whole file. The first model answers where a request names none."""

    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _versions_differ(self) -> Self:
        counts = Counter((entry.name, entry.version) for entry in self.models)
        for (name, version), count in counts.items():
            if count > 1:
                raise ValueError(f'model "{name}": version: {version} is there {count} times')
        return self

    @model_validator(mode="after")
    def _rollouts_have_a_stable_version(self) -> Self:
        for name in {entry.name: None for entry in self.models}:
            versions = [entry for entry in self.models if entry.name == name]
            for field in ("weight", "shadow"):
                having = [entry.version for entry in versions if getattr(entry, field) is not None]
                if len(having) > 1:
                    raise ValueError(
                        f'model "{name}": {field}: may be set for one version, and is for {", ".join(having)}'
                    )
            if not any(entry.is_stable for entry in versions):
                raise ValueError(f'model "{name}": one version must have neither weight: nor shadow:')
        return self


def read_models_file(path: Path) -> tuple[ModelEntry, ...]:
    """Return the models of a file. Paths in it are relative to its folder.

    Raises:
        BadModelsFile: it cannot be read, is not YAML, or has a field that is not valid.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise BadModelsFile(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date that there is not, ValueError
        raise BadModelsFile(f"{path}: not YAML: {_where(error)}") from None
    except (LookupError, AttributeError, OverflowError):  # of PyYAML itself, where it takes the tag for granted
        raise BadModelsFile(f"{path}: not YAML: a value does not fit its tag") from None
    try:
        return ModelsFile.model_validate(content, context={"folder": path.parent}).models
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        # Where every model is bad, pydantic adds that none is left.
        none_is_left = ("too_short", ("models",))
        problems = [e for e in problems if (e["type"], e["loc"]) != none_is_left or len(problems) == 1]
        lines = [f"{path}: {_place(content, e['loc'])}{e['msg'].removeprefix('Value error, ')}" for e in problems]
        raise BadModelsFile("\n".join(lines)) from None


def _place(content: Any, loc: tuple[int | str, ...]) -> str:
    """Name the model and the field of an error."""
    if len(loc) < 2 or not isinstance(loc[1], int):
        return "".join(f"{part}: " for part in loc)
    entry = content["models"][loc[1]]
    name = entry.get("name", loc[1] + 1) if isinstance(entry, dict) else loc[1] + 1
    field = ".".join(str(part) for part in loc[2:])
    return f'model "{name}": ' + (f"{field}: " if field else "")


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = "it is not text" if isinstance(error, UnicodeError) else getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {reason}" if mark else reason
