"""The answers of the HTTP API."""

from typing import Annotated

from pydantic import BaseModel, Field

from inference_service.compute.modes import Measurement, Mode
from inference_service.explanations.explaining import Method
from inference_service.lifecycle.registry import ModelState, ServedModel
from inference_service.timings import STAGES, Stage

ModelName = Annotated[str, Field(examples=["efficientnet-lite0"])]
ClassIndex = Annotated[int, Field(ge=0, examples=[282])]
Label = Annotated[str, Field(examples=["tiger cat"])]
Timings = Annotated[
    dict[Stage, float],
    Field(
        description="Seconds that each stage took.",
        examples=[dict(zip(STAGES, (0.0004, 0.006, 0.002, 0.0001, 0.02, 0.0001), strict=True))],
    ),
]
Score = Annotated[float, Field(ge=0, le=1, description="Softmax over all classes.", examples=[0.41])]


class PredictionOut(BaseModel):
    """One class that the picture may show."""

    index: ClassIndex = Field(serialization_alias="class")
    label: Label
    score: Score


class ModelRef(BaseModel):
    """Which model answered."""

    name: ModelName
    version: str = Field(examples=["1"])


class PredictResponse(BaseModel):
    """What a picture shows."""

    predicted_class: ClassIndex
    label: Label
    score: Score
    predictions: list[PredictionOut] = Field(min_length=1, description="The likeliest classes, best first.")
    model: ModelRef
    timings: Timings


class ExplainResponse(BaseModel):
    """Which part of a picture speaks for a class."""

    explained_class: ClassIndex = Field(serialization_alias="class")
    label: Label
    score: Score
    method: Method = Field(
        description="`grad-cam`, or `occlusion` where the last feature map of the network cannot be used."
    )
    saliency: list[list[Annotated[float, Field(ge=0, le=1)]]] = Field(
        description="Rows of a map over what the model sees, the middle square of the upright picture: "
        "1 where most speaks for the class, 0 where nothing does.",
        examples=[[[0.0, 0.31], [0.12, 1.0]]],
    )
    model: ModelRef
    timings: Timings


class ModelSummary(ModelRef):
    """One version of a model and how far it is. What is known of a loaded model only is null before."""

    state: ModelState
    reason: str | None = Field(
        description="Why it is not served; or, where it is ready, why a change of it was not taken, "
        "or why it was stopped as a canary or a shadow."
    )
    weight: Annotated[float, Field(ge=0, le=100)] | None = Field(
        description="Percent of the callers that it answers as a canary, where they name no version. 0 when it "
        "was stopped, null where it is no canary.",
        examples=[5.0],
    )
    shadow: Annotated[float, Field(ge=0, le=100)] | None = Field(
        description="Percent of the requests that it computes as well, as a shadow whose answers nobody gets. "
        "0 when it was stopped, null where it is no shadow.",
        examples=[None],
    )
    source: str = Field(examples=["builtin:efficientnet-lite0"])
    device: str | None = Field(examples=["cpu"])
    dtype: str | None = Field(examples=["float32"])
    mode: Mode | None = Field(description="How it is computed.", examples=["bf16"])
    input_size: list[int] | None = Field(
        description="Channels, height and width that a picture is brought to.", examples=[[3, 224, 224]]
    )
    label_count: int | None = Field(examples=[1000])
    digest: str | None = Field(description="SHA-256 of its weights, in hexadecimal digits.")


class ModelDetails(ModelSummary):
    """One version of a model with the names of its classes."""

    labels: list[str] | None = Field(description="The name of each class, by its index.")
    modes: list[Measurement] | None = Field(
        description="The modes that it was compared in; none where its mode is set, or still searched for."
    )


class ModelVersions(ModelDetails):
    """A model: the version that answers where a request names none, and all there are."""

    versions: list[ModelSummary] = Field(description="The newest first.")


def model_summary(served: ServedModel) -> ModelSummary:
    """Describe one model, loaded or not."""
    source, model = served.source, served.model
    return ModelSummary(
        name=source.name,
        version=source.version,
        state=served.state,
        reason=served.reason,
        weight=served.weight,
        shadow=served.shadow,
        source=source.uri,
        device=model and model.device,
        dtype=model and model.dtype_name,
        mode=model and model.mode,
        input_size=model and [3, model.preprocessing.input_size, model.preprocessing.input_size],
        label_count=model and len(model.labels),
        digest=(model and model.digest) or None,
    )


def model_details(served: ServedModel) -> ModelDetails:
    """Describe one model with its labels."""
    labels = served.model and list(served.model.labels)
    modes = served.model and list(served.model.measurements)
    return ModelDetails(**model_summary(served).model_dump(), labels=labels, modes=modes)
