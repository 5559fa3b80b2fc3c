"""Configuration of the inference service, read once from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from PIL import Image
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_settings import SettingsConfigDict
from servicekit.settings import RateLimitSettings, RedisUrl, ResourceSettings

from inference_service.compute.modes import ModeSetting


class InferenceSettings(ResourceSettings, RateLimitSettings):
    """What the inference service is told."""

    model_config = SettingsConfigDict(env_prefix="INFERENCE_")

    service: ClassVar[str] = "inference"

    models_file: Path | None = None
    """`models.yaml`. Without it the built-in model is served."""

    models_poll_seconds: PositiveFloat | None = None
    """How often `models_file` is looked at for changes. By default it is read at the start only."""

    model_control: bool = False
    """Whether administrators may load and unload models through the inference protocol; for a single worker."""

    weights_dir: Path = Path(".pinhole/weights")
    """Where weights that are fetched are kept, and found again without a network."""

    max_image_bytes: PositiveInt = 10 * 1024 * 1024
    """Largest encoded picture; one byte more is 413."""

    max_infer_bytes: PositiveInt = 32 * 1024 * 1024
    """Largest body of a request of the inference protocol, before and after it is unpacked; one byte more is 413."""

    grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Where the inference protocol is served over gRPC, without TLS; 0 takes any free port. By default it is off."""

    grpc_host: str = "127.0.0.1"
    """The address of `grpc_port`: `0.0.0.0` or `[::]` for all of this machine."""

    max_image_pixels: PositiveInt = Field(64_000_000, le=Image.MAX_IMAGE_PIXELS)
    """Most pixels of a picture, whatever its file size. Pillow has its own limit above.

    Each decode thread may take 9 bytes a pixel, and 16 for WebP: 0.6 and 1 GB at the default.
    """

    max_batch_size: PositiveInt = 8
    """Most pictures that are computed together."""

    max_queue_size: PositiveInt = 64
    """Pictures admitted beyond the running batch; one more is shed with 503."""

    max_queue_delay_seconds: NonNegativeFloat = 0.005
    """Longest wait for a batch to fill, from its oldest picture's arrival. Nobody waits who is alone."""

    request_timeout_seconds: PositiveFloat = 10.0
    """Longest time from the whole body to the answer; after that 504. A caller may give another."""

    requests_per_second: PositiveFloat | None = None
    """How often one caller may ask in the long run; beyond that 429. By default as often as it likes.

    Each process counts by itself, unless `rate_limit_redis_url` is set.
    """

    requests_burst: PositiveInt = 20
    """How many requests of one caller may come at once, where there is such a limit."""

    max_body_bytes_in_flight: PositiveInt = 256 * 1024 * 1024
    """Bytes of all bodies that are held at once; more are shed with 503."""

    canary_seconds: PositiveFloat = 10.0
    """How long a model may be silent before it is asked; one that does not answer is not ready."""

    model_stall_seconds: PositiveFloat = 30.0
    """How long a batch may use no CPU before the process counts as stuck; ten times that ends any batch."""

    rollout_window: PositiveInt = 20
    """How many computations of a canary or a shadow are looked at, the last ones; with fewer it is not stopped."""

    rollout_failure_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The part of them that must have failed for it to be stopped."""

    cache_max_bytes: NonNegativeInt = 32 * 1024 * 1024
    """Bytes of answers that are kept in memory, about 4 for each class of a picture. 0 turns the cache off."""

    cache_ttl_seconds: PositiveFloat = 3600.0
    """How long an answer is kept."""

    cache_redis_url: RedisUrl | None = None
    """`redis://`, `rediss://` or `unix://`: keeps the answers in Redis, for all replicas."""

    decode_threads: PositiveInt | None = None
    """Pictures that are decoded at once. By default one for each CPU, shared by the workers."""

    mode: ModeSetting = "auto"
    """How models are computed; `models.yaml` may say otherwise for each. See docs/models.md."""

    mode_search_seconds: NonNegativeFloat = 300.0
    """Longest search for the fastest mode of a model. 0 searches for none."""

    mode_search_first: bool = False
    """Whether a model is ready only once its mode is found: for pods, whose others answer meanwhile. By default it is
    served while the search goes on."""

    modes_dir: Path = Path(".pinhole/modes")
    """Where what a search found is kept, so that the next start needs none."""

    compute_threads: PositiveInt | None = None
    """Threads of all forward passes together. By default one for each CPU, shared by the workers."""

    streams: PositiveInt | None = None
    """Batches that are computed side by side, each by its part of the threads, when more wait than one holds.

    By default two, and one on a GPU or where there is one thread.
    """

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        rules = {
            "INFERENCE_MAX_QUEUE_SIZE must be at least INFERENCE_MAX_BATCH_SIZE": (
                self.max_queue_size >= self.max_batch_size
            ),
            "INFERENCE_MODEL_CONTROL needs WORKERS=1: a request reaches one of them, not the others": (
                not self.model_control or self.workers == 1
            ),
            "INFERENCE_MAX_BODY_BYTES_IN_FLIGHT must be at least INFERENCE_MAX_IMAGE_BYTES": (
                self.max_body_bytes_in_flight >= self.max_image_bytes
            ),
            "INFERENCE_MAX_BODY_BYTES_IN_FLIGHT must be at least INFERENCE_MAX_INFER_BYTES": (
                self.max_body_bytes_in_flight >= self.max_infer_bytes
            ),
        }
        if broken := [rule for rule, is_kept in rules.items() if not is_kept]:
            raise ValueError("\n  ".join(broken))
        return self
