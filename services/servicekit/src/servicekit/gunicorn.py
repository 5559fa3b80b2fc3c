"""The server of each service: `gunicorn --config python:servicekit.gunicorn 'auth_service.main:create_app()'`.

gunicorn reads this module as its configuration file: what has the name of one of its settings is that setting.
"""

import asyncio
import gc
import logging
import mmap
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from pydantic import Field
from pydantic_settings import SettingsConfigDict
from uvicorn_worker import UvicornWorker

from servicekit.background import running
from servicekit.garbage import collect_rarely, settle
from servicekit.http_protocol import ServiceProtocol
from servicekit.logs import configure_logs
from servicekit.server import EndingServer
from servicekit.settings import ServiceSettings, load_settings
from servicekit.whole_files import hold, sweep

CLOSING_SECONDS = 5
"""What is left of the graceful time-out, after the requests, for the end of the lifespan."""

_TELLS_EVERY_SECONDS = 0.5

_LAST_SECONDS = 2
"""What is left of it after every call, for clients and telemetry to be closed."""


class ServerSettings(ServiceSettings):
    """Where a service listens. No prefix: Kubernetes makes up variables such as `AUTH_PORT`."""

    model_config = SettingsConfigDict(env_prefix="", frozen=True)

    service: ClassVar[str] = "server"

    host: str = "0.0.0.0"  # noqa: S104 a pod is reached from outside it
    port: int = Field(8000, ge=1, le=65535)

    graceful_timeout_seconds: int = Field(30, gt=CLOSING_SECONDS)
    """Longest time from SIGTERM to the end. Requests that take longer are cut off."""


_settings = load_settings(ServerSettings)


class ServiceWorker(UvicornWorker):  # type: ignore[misc]  # uvicorn-worker has no types
    """A worker of which the master knows whether it has ever served."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "http": ServiceProtocol,
        "server_header": False,
        "timeout_graceful_shutdown": _settings.graceful_timeout_seconds - CLOSING_SECONDS,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        logging.getLogger("uvicorn.error").propagate = True
        self._served = mmap.mmap(-1, 1)  # shared: the master makes this object, and forks then

    def load_wsgi(self) -> None:
        """Make the application, and tell the master meanwhile: torch on a cold disk takes longer than the time-out."""
        loaded = threading.Event()

        def tell() -> None:
            while not loaded.wait(_TELLS_EVERY_SECONDS):
                self.notify()

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        try:
            super().load_wsgi()
        finally:
            loaded.set()
            telling.join()
        settle()

    @property
    def has_served(self) -> bool:
        """Tell whether its start has succeeded; to be asked in the master."""
        return self._served[0] == 1

    async def _serve(self) -> None:
        """Do as uvicorn-worker does, with the server above."""
        self.config.app = self.wsgi
        server = EndingServer(self.config, ends_within_seconds=_settings.graceful_timeout_seconds - _LAST_SECONDS)
        self._install_sigquit_handler()
        async with running(self._tell_until_started(server), "start"):
            await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    async def _tell_until_started(self, server: EndingServer) -> None:
        """Tell the master that the event loop runs: a database is waited for, or migrated, beyond the time-out."""
        while not server.started:
            self.notify()
            await asyncio.sleep(_TELLS_EVERY_SECONDS)

    async def callback_notify(self) -> None:
        """Tell the master that the event loop runs: when the start has succeeded, and again and again."""
        self._served[0] = 1
        await super().callback_notify()


class ServiceLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Leaves what gunicorn says to the logs of the service."""

    def setup(self, cfg: Config) -> None:
        """Take away the handlers and the level that gunicorn has set."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.setLevel(logging.NOTSET)
        self.error_log.propagate = True


bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.workers
worker_class = ServiceWorker
logger_class = ServiceLogger

# Several workers share the memory of what is imported: the application is made before the fork, and threads, sockets
# and models are the lifespan's, after it. One worker has nobody to share with, and its master stays small.
preload_app = workers > 1

graceful_timeout = _settings.graceful_timeout_seconds
timeout = 60  # an event loop that stands still for so long is ended
keepalive = 75  # longer than proxies keep idle connections, or they send requests into closed ones
control_socket_disable = True

# A file whose times are the heartbeat: on a disk that stalls, workers would be ended in vain.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def _shared_folder(parent: str | None) -> Path:
    """Return a new folder for the workers, and remove those of masters that were killed: a container keeps its /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="pinhole-workers-", dir=parent))
    hold(os.open(folder, os.O_RDONLY))  # until the last of the workers has ended
    sweep(folder.parent, "pinhole-workers-*")
    return folder


_shared: tuple[Path, ...] = ()
if workers > 1:
    # Metrics are mapped files: where the disk is full, whoever writes to one is ended by the kernel. So they have a
    # folder in memory, and what is large another.
    _shared = _metrics, _large = _shared_folder(worker_tmp_dir), _shared_folder(None)
    # prometheus_client looks at its variable when it is imported, which the application does.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)
    os.environ["WORKERS_DIR"] = str(_large)

# The threads of a computation that wait for each other sleep: OpenMP's own way is to try again and again for
# milliseconds, on the cores that other threads have work for. It looks at its variable when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def on_starting(server: Arbiter) -> None:
    """Let the master log as the service does, which has not told it how where the application is not made yet."""
    service = server.app.app_uri.partition("_service")[0]
    configure_logs(service, level=_settings.log_level, format=_settings.log_format)


def pre_fork(_server: Arbiter, _worker: ServiceWorker) -> None:
    """Keep the garbage collector from writing to, and so copying, the memory that the processes share."""
    gc.freeze()


def post_fork(_server: Arbiter, _worker: ServiceWorker) -> None:
    """Set up the worker, which serves; the master does next to nothing."""
    collect_rarely()


def child_exit(server: Arbiter, worker: ServiceWorker) -> None:
    """Take the gauges of a worker away. One that never served is not started again and again."""
    if _shared:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid, str(_metrics))  # type: ignore[no-untyped-call]
    is_ending = not server.LISTENERS
    if not worker.has_served and not is_ending:
        raise HaltServer("a worker has ended at its start", Arbiter.WORKER_BOOT_ERROR)


def on_exit(_server: Arbiter) -> None:
    """Remove what the workers shared."""
    for folder in _shared:
        shutil.rmtree(folder, ignore_errors=True)
