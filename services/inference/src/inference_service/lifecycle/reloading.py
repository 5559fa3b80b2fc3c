"""Changes of `models.yaml` while the service runs."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from servicekit.logs import get_logger

from inference_service.lifecycle.registry import ModelRegistry
from inference_service.model import ModelSource
from inference_service.sources.models_file import BadModelsFile

log = get_logger(__name__)


async def follow_models_file(
    models: ModelRegistry,
    models_file: Path,
    read: Callable[[], Sequence[ModelSource]],
    *,
    poll_seconds: float,
    seen: bytes | None,
) -> None:
    """Load what `read` finds in the file whenever its content changes. A file that cannot be used changes nothing.

    Its content is compared, not its time: a mounted ConfigMap is replaced by links with any time. `seen` is
    the digest of what it was before it was read for the start.
    """
    while True:
        await asyncio.sleep(poll_seconds)
        digest = await asyncio.to_thread(digest_of, models_file)
        if digest == seen:
            continue
        seen = digest
        try:
            sources = await asyncio.to_thread(read)
        except BadModelsFile as error:
            log.error("models_file_invalid", reason=str(error))  # noqa: TRY400 the reason is all there is to know
        else:
            await models.load(sources)


def digest_of(path: Path) -> bytes | None:
    """Return what tells whether a file has changed; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
