"""Proves that the models answer: by what callers got, and by a picture of its own where nobody asks."""

import asyncio
import io
from collections.abc import Iterable

from PIL import Image
from servicekit.health import Readiness
from servicekit.logs import get_logger
from servicekit.problem import Problem

from inference_service.errors import Overloaded
from inference_service.lifecycle.registry import ServedModel
from inference_service.pipeline import Pipeline

INFERENCE_NEED = "inference"
"""What `Readiness` calls having models that answer."""

log = get_logger(__name__)


class Prober:
    """Asks each model that has not answered for `interval_seconds`, and tells `readiness` what came of it."""

    def __init__(
        self,
        pipeline: Pipeline,
        models: Iterable[ServedModel],
        readiness: Readiness,
        *,
        interval_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._pipeline = pipeline
        self._models = models
        self._readiness = readiness
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._picture = _picture()

    async def run(self) -> None:
        """Ask again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            await self.ask()

    async def ask(self) -> None:
        """Ask each model once that is loaded and has not answered lately."""
        models = list(self._models)  # they may change meanwhile
        silent = [found for served in models if (found := await self._silence(served))]
        if silent:
            log.error("model_does_not_answer", reasons=silent)
            self._readiness.is_missing(INFERENCE_NEED, "; ".join(silent))
        else:
            self._readiness.is_met(INFERENCE_NEED)

    async def _silence(self, served: ServedModel) -> str | None:
        """Return why a model does not answer, or None."""
        if not served.source.is_stable:  # it is stopped when it fails, and the others answer
            return None
        if served.model is None or self._pipeline.silent_seconds(served.model) < self._interval_seconds:
            return None
        try:
            await self._pipeline.probe(self._picture, served, timeout_seconds=self._timeout_seconds)
        except Overloaded as problem:
            # To be busy is no failure, as long as batches come to their end; models share the queue.
            patience_seconds = self._interval_seconds + self._timeout_seconds
            if self._pipeline.silent_seconds() > patience_seconds:
                return f"{served.source.name}: {problem}"
        except Problem as problem:
            return f"{served.source.name}: {problem}"
        except Exception as error:  # whatever it is, it must not end the asking
            log.exception("probe_failed", model=served.source.name)
            return f"{served.source.name}: failed with {type(error).__name__}"
        return None


def _picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(data, "PNG")
    return data.getvalue()
