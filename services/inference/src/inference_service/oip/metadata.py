"""What the protocol tells of the server and its models."""

from collections.abc import Iterable, Sequence

from inference_service.lifecycle.registry import ModelState, ServedModel
from inference_service.model import ModelSource
from inference_service.oip.inputs import INPUT
from inference_service.oip.outputs import OUTPUTS
from inference_service.oip.schemas import (
    BatchingConfig,
    BatchStatistics,
    ConfigParameter,
    DurationOut,
    IndexEntry,
    InferStatistics,
    InputConfig,
    InstanceGroup,
    ModelConfig,
    ModelMetadata,
    ModelStatisticsOut,
    OutputConfig,
    ServerMetadata,
    Statistics,
    TensorMetadata,
)
from inference_service.settings import InferenceSettings
from inference_service.statistics import ModelStatistics, StatisticsBook

SERVER = "pinhole"
BACKEND = "pytorch"
EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
]
"""By the names that Triton gives them."""

_STATES = {ModelState.LOADING: "LOADING", ModelState.READY: "READY"}
"""All others are UNAVAILABLE."""


def server_metadata(version: str) -> ServerMetadata:
    """Describe the server."""
    return ServerMetadata(name=SERVER, version=version, extensions=EXTENSIONS)


def model_metadata(served: ServedModel, versions: Iterable[ServedModel]) -> ModelMetadata:
    """Describe a model as it is called.

    Raises:
        ModelNotReady: it is not loaded.
    """
    classes = len(served.require().labels)
    return ModelMetadata(
        name=served.source.name,
        versions=sorted((version.source.version for version in versions), key=int),
        platform=BACKEND,
        inputs=[TensorMetadata(name=INPUT, datatype="BYTES", shape=[-1, 1])],
        outputs=[TensorMetadata(name=name, datatype="FP32", shape=[-1, classes]) for name in OUTPUTS],
    )


def model_config(served: ServedModel, settings: InferenceSettings) -> ModelConfig:
    """Describe a model as Triton's `ModelConfig` does, in those fields that mean something here.

    Raises:
        ModelNotReady: it is not loaded.
    """
    model = served.require()
    side = model.preprocessing.input_size
    return ModelConfig(
        name=served.source.name,
        platform=BACKEND,
        backend=BACKEND,
        max_batch_size=settings.max_queue_size,
        input=[InputConfig(name=INPUT, data_type="TYPE_STRING", dims=[1])],
        output=[OutputConfig(name=name, data_type="TYPE_FP32", dims=[len(model.labels)]) for name in OUTPUTS],
        instance_group=[
            InstanceGroup(name=served.source.name, kind="KIND_GPU" if model.is_on_gpu else "KIND_CPU", count=1)
        ],
        dynamic_batching=BatchingConfig(
            preferred_batch_size=[settings.max_batch_size],
            max_queue_delay_microseconds=int(settings.max_queue_delay_seconds * 1e6),
            priority_levels=2,
            default_priority_level=1,
        ),
        parameters={
            name: ConfigParameter(string_value=value)
            for name, value in {
                "source": served.source.uri,
                "dtype": model.dtype_name,
                "digest": model.digest,
                "inputs": f"BYTES [N,1], UINT8 [N,H,W,3] or FP32 [N,3,{side},{side}]",
            }.items()
        },
    )


def repository_index(models: Iterable[ServedModel], *, only_ready: bool) -> list[IndexEntry]:
    """Say how far each version of each model is, or list only those that are ready."""
    return [
        IndexEntry(
            name=served.source.name,
            version=served.source.version,
            state=_STATES.get(served.state, "UNAVAILABLE"),
            reason=served.reason or ("unloaded" if served.state is ModelState.UNLOADED else ""),
        )
        for served in models
        if served.model is not None or not only_ready
    ]


def loaded_statistics(models: Iterable[ServedModel], book: StatisticsBook) -> Statistics:
    """Say what those models that are loaded have done."""
    return Statistics(
        model_stats=[_statistics(served.source, book.of(served.model.network)) for served in models if served.model]
    )


def named_statistics(versions: Sequence[ServedModel], book: StatisticsBook) -> Statistics:
    """Say what those of some versions of one model that are loaded have done.

    Raises:
        ModelNotReady: none of them is.
    """
    if not any(served.model for served in versions):
        versions[0].require()
    return loaded_statistics(versions, book)


def _statistics(source: ModelSource, found: ModelStatistics) -> ModelStatisticsOut:
    return ModelStatisticsOut(
        name=source.name,
        version=source.version,
        last_inference=found.last_inference_ms,
        inference_count=found.inference_count,
        execution_count=found.execution_count,
        inference_stats=InferStatistics.model_validate(found, from_attributes=True),
        batch_stats=[
            # Pictures are prepared, and answers made, for each request by itself: a batch has no part in that.
            BatchStatistics(
                batch_size=size,
                compute_input=DurationOut(count=batch.count, ns=0),
                compute_infer=DurationOut(count=batch.count, ns=batch.ns),
                compute_output=DurationOut(count=batch.count, ns=0),
            )
            for size, batch in sorted(found.batches.items())
        ],
    )
