"""Configuration of the inference service, read once from the environment."""

from pathlib import Path
from typing import ClassVar

from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict
from servicekit.settings import ResourceSettings


class InferenceSettings(ResourceSettings):
    """What the inference service is told."""

    model_config = SettingsConfigDict(env_prefix="INFERENCE_")

    service: ClassVar[str] = "inference"

    models_file: Path | None = None
    """`models.yaml`. Without it the built-in model is served."""

    models_poll_seconds: PositiveFloat | None = None
    """How often `models_file` is looked at for changes. By default it is read at the start only."""

    weights_dir: Path = Path(".pinhole/weights")
    """Where weights that are fetched are kept, and found again without a network."""

    max_image_bytes: PositiveInt = 10 * 1024 * 1024
    """Largest encoded picture; one byte more is 413."""

    max_image_pixels: PositiveInt = Field(64_000_000, le=Image.MAX_IMAGE_PIXELS)
    """Most pixels of a picture, whatever its file size. Pillow has its own limit above.

    Each decode thread may take 8 bytes a pixel, and 16 for WebP: 0.5 and 1 GB at the default.
    """

    request_timeout_seconds: PositiveFloat = 10.0
    """Longest time from the whole body to the answer; after that 504."""

    decode_threads: PositiveInt | None = None
    """Pictures that are decoded at once. By default one for each CPU of this process."""

    compute_threads: PositiveInt | None = None
    """Threads inside one forward pass. By default one for each CPU of this process."""
