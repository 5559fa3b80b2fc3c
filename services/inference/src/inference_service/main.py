"""The inference service, put together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from importlib.metadata import version

import httpx
from fastapi import FastAPI
from servicekit.app import build_app
from servicekit.auth import Verifications
from servicekit.background import running
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED, open_jwks
from servicekit.metrics import new_registry
from servicekit.revocations import REVOCATIONS_NEED, open_revocations
from servicekit.starting import settings_at_start
from servicekit.telemetry import Telemetry
from servicekit.tokens import TokenVerifier
from servicekit.whole_files import sweep

from inference_service.admission import Admission, BodyBudget
from inference_service.batching import DynamicBatcher
from inference_service.cache import open_cache
from inference_service.compute.mode_search import ModeSearch
from inference_service.cpu import available_cpus, use_threads
from inference_service.dependencies import State
from inference_service.ending import Ending
from inference_service.executors import open_executor
from inference_service.explanations.eager_copies import EagerCopies
from inference_service.explanations.explaining import Explainer
from inference_service.gpu_memory import follow_gpu_memory
from inference_service.heartbeat import Heartbeat
from inference_service.lifecycle.failure_watch import FailureWatch
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.model_control import ModelControl
from inference_service.lifecycle.opening import open_models
from inference_service.lifecycle.probing import Prober
from inference_service.lifecycle.registry import MODEL_NEED, ModelRegistry
from inference_service.lifecycle.reloading import digest_of, follow_models_file
from inference_service.lifecycle.shadowing import Shadows
from inference_service.metrics import InferenceMetrics
from inference_service.model import ModelSource
from inference_service.oip.errors import error_response
from inference_service.oip.grpc_server import open_grpc_server
from inference_service.oip.rest import PROBES, oip_routers
from inference_service.pipeline import Pipeline
from inference_service.rates import open_rate_limiter
from inference_service.routers import explain, models, predict
from inference_service.routers.pages import pages_router
from inference_service.settings import InferenceSettings
from inference_service.sources.kinds import read_sources
from inference_service.sources.models_file import BadModelsFile
from inference_service.streams import Streams, default_streams

AUTH_TIMEOUT_SECONDS = 5.0


def create_app(settings: InferenceSettings | None = None, *, sources: Sequence[ModelSource] | None = None) -> FastAPI:
    """Return the application; without `settings` they are read from the environment.

    Raises:
        SystemExit: a setting or `models.yaml` is not valid.
    """
    if settings is None:
        settings = settings_at_start(InferenceSettings)
    ending = Ending()
    read: Callable[[], Sequence[ModelSource]] = (
        partial(read_sources, settings.models_file, settings.weights_dir, ending)
        if sources is None
        else lambda: sources
    )
    follow = _follower(settings, read)  # made before the file is read: it sees what changes from now on
    chosen = _at_start(read)
    registry = new_registry()
    telemetry = Telemetry(settings, version=version("pinhole-inference"), registry=registry)
    readiness = Readiness(KEYS_NEED, REVOCATIONS_NEED, MODEL_NEED)

    heartbeat = Heartbeat(settings.model_stall_seconds)
    metrics = InferenceMetrics(registry)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        cpus = max(1, available_cpus() // settings.workers)
        decode_threads = settings.decode_threads or cpus
        compute_threads = settings.compute_threads or cpus
        streams = Streams(settings.streams or default_streams(compute_threads), compute_threads)
        modes = ModeSearch(
            settings.mode,
            budget_seconds=settings.mode_search_seconds,
            folder=settings.modes_dir,
            max_batch_size=settings.max_batch_size,
            streams=streams.count,
            ending=ending,
            shares_weights=settings.workers_dir is not None,
            comes_first=settings.mode_search_first,
        )
        metrics.show_thread_budget(decode=decode_threads, compute=compute_threads)
        metrics.queue_capacity.set(settings.max_queue_size)
        first = chosen
        if follow:  # by the time that a worker takes the place of another, the file may have changed
            with contextlib.suppress(BadModelsFile):
                first = await asyncio.to_thread(read)
        for folder in (settings.weights_dir, settings.modes_dir, settings.workers_dir):
            if folder:
                await asyncio.to_thread(sweep, folder)
        set_one_thread = partial(use_threads, 1)  # pictures are resized side by side, each by one
        async with (
            telemetry.watched(httpx.AsyncClient(timeout=AUTH_TIMEOUT_SECONDS, trust_env=False)) as http,
            open_jwks(
                f"{settings.auth_url}/.well-known/jwks.json",
                http,
                readiness,
                refresh_seconds=settings.jwks_refresh_seconds,
                registry=registry,
            ) as keys,
            open_revocations(settings.auth_url, http, readiness, keys=keys, registry=registry) as revocations,
            open_executor("decode", decode_threads, prepare=set_one_thread) as decode_pool,
            open_executor("model", streams.count) as model_threads,
            open_executor("copy", 1) as copying_thread,
            open_models(
                first,
                readiness,
                metrics,
                Loader(settings.max_batch_size, modes, settings.workers_dir, heartbeat),
                ending=ending,
                prepare=partial(use_threads, compute_threads),  # torch counts the CPUs of the host
                follow=follow,
            ) as served_models,
            DynamicBatcher(
                model_threads,
                streams,
                max_batch_size=settings.max_batch_size,
                max_queue_size=settings.max_queue_size,
                max_queue_delay_seconds=settings.max_queue_delay_seconds,
                heartbeat=heartbeat,
                metrics=metrics,
                tracer=telemetry.tracer,
            ) as batcher,
            open_cache(settings, metrics, telemetry) as cache,
            open_rate_limiter(settings, metrics, telemetry) as rates,
        ):
            admission = Admission(
                batcher,
                decode_threads=decode_threads,
                default_timeout_seconds=settings.request_timeout_seconds,
                metrics=metrics,
            )
            watch = FailureWatch(metrics, window=settings.rollout_window, share=settings.rollout_failure_share)
            shadows = Shadows(served_models, metrics)
            pipeline = Pipeline(
                decode_pool=decode_pool,
                admission=admission,
                cache=cache,
                max_image_pixels=settings.max_image_pixels,
                metrics=metrics,
                watch=watch,
                shadows=shadows,
            )
            in_shadow = partial(pipeline.compute_when_idle, timeout_seconds=settings.request_timeout_seconds)
            prober = Prober(
                pipeline,
                served_models,
                readiness,
                interval_seconds=settings.canary_seconds,
                timeout_seconds=settings.request_timeout_seconds,
            )
            state = State(
                settings=settings,
                verifier=TokenVerifier(
                    keys, issuer=settings.issuer, audience=settings.audience, revocations=revocations
                ),
                verifications=Verifications(registry),
                models=served_models,
                rates=rates,
                bodies=BodyBudget(settings.max_body_bytes_in_flight, metrics),
                pipeline=pipeline,
                explainer=Explainer(
                    pipeline,
                    admission,
                    decode_pool,
                    EagerCopies(copying_thread, settings.workers_dir),
                    max_image_pixels=settings.max_image_pixels,
                    metrics=metrics,
                    watch=watch,
                ),
                statistics=metrics.statistics,
                control=ModelControl(served_models, read, is_on=settings.model_control),
            )
            async with (
                running(prober.run(), "prober"),
                running(shadows.run(in_shadow), "shadows"),
                running(follow_gpu_memory(served_models, metrics), "gpu memory"),
                open_grpc_server(state, readiness, heartbeat.stalled, registry, telemetry.tracer),
            ):
                yield state

    return build_app(
        settings,
        title="Pinhole inference",
        description="Classifies pictures with the models that it serves.",
        version=version("pinhole-inference"),
        lifespan=lifespan,
        routers=[
            predict.router,
            explain.router,
            models.router,
            *oip_routers(readiness, heartbeat.stalled),
            pages_router(),
        ],
        readiness=readiness,
        stuck=heartbeat.stalled,
        registry=registry,
        telemetry=telemetry,
        error_response=error_response,
        probes=PROBES,
        max_body_bytes=None,  # the routes limit bodies themselves: a picture may be large
    )


def _at_start(read: Callable[[], Sequence[ModelSource]]) -> Sequence[ModelSource]:
    try:
        return read()
    except BadModelsFile as error:
        lines = "\n  ".join(str(error).splitlines())
        raise SystemExit(f"bad configuration\n  INFERENCE_MODELS_FILE: {lines}") from None


def _follower(
    settings: InferenceSettings, read: Callable[[], Sequence[ModelSource]]
) -> Callable[[ModelRegistry], Awaitable[None]] | None:
    """Return what follows the changes of `models.yaml`, where that is asked for."""
    if settings.models_file is None or settings.models_poll_seconds is None:
        return None
    return partial(
        follow_models_file,
        read=read,
        models_file=settings.models_file,
        poll_seconds=settings.models_poll_seconds,
        seen=digest_of(settings.models_file),
    )
