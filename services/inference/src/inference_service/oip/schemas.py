"""The documents of the protocol, in the words of its specification and of Triton's extensions."""

from pydantic import BaseModel, Field


class ServerMetadata(BaseModel):
    """The server, and which extensions it has."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Whether the process runs."""

    live: bool


class ServerReady(BaseModel):
    """Whether the server answers requests for all of its models."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model answers requests."""

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """One input or output; -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """How a model is called."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InputConfig(BaseModel):
    """One input without the dimension of the batch."""

    name: str
    data_type: str
    format: str = "FORMAT_NONE"
    dims: list[int]


class OutputConfig(BaseModel):
    """One output without the dimension of the batch."""

    name: str
    data_type: str
    dims: list[int]


class InstanceGroup(BaseModel):
    """What computes the batches."""

    name: str
    kind: str
    count: int


class BatchingConfig(BaseModel):
    """How batches are made: `preferred_batch_size` is the largest."""

    preferred_batch_size: list[int]
    max_queue_delay_microseconds: int
    priority_levels: int
    default_priority_level: int


class ConfigParameter(BaseModel):
    """One parameter of a model."""

    string_value: str


class ModelConfig(BaseModel):
    """How a model is served."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(description="The most items of one request: they may go into several batches.")
    input: list[InputConfig]
    output: list[OutputConfig]
    instance_group: list[InstanceGroup]
    dynamic_batching: BatchingConfig
    parameters: dict[str, ConfigParameter]


class IndexEntry(BaseModel):
    """One version of a model, and how far it is."""

    name: str
    version: str
    state: str = Field(description="READY, LOADING or UNAVAILABLE.")
    reason: str


class DurationOut(BaseModel):
    """How often, and how long in all."""

    count: int
    ns: int


class InferStatistics(BaseModel):
    """Requests and their parts."""

    success: DurationOut
    fail: DurationOut
    queue: DurationOut
    compute_input: DurationOut
    compute_infer: DurationOut
    compute_output: DurationOut
    cache_hit: DurationOut
    cache_miss: DurationOut


class BatchStatistics(BaseModel):
    """Batches of one size."""

    batch_size: int
    compute_input: DurationOut
    compute_infer: DurationOut
    compute_output: DurationOut


class ModelStatisticsOut(BaseModel):
    """What one version of a model has done since it was loaded."""

    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since 1970; 0 where there was none.")
    inference_count: int = Field(description="Pictures that were computed; those from the cache are not counted.")
    execution_count: int = Field(description="Batches that were computed.")
    inference_stats: InferStatistics
    batch_stats: list[BatchStatistics]


class Statistics(BaseModel):
    """What models have done."""

    model_stats: list[ModelStatisticsOut]
