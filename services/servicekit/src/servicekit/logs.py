"""Structured logs: one event a line, as JSON or for a console."""

import logging
import re
import sys
from contextlib import AbstractContextManager
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from servicekit.settings import LogFormat, LogLevel

AUDIT = "audit"
"""The logger of what matters for security."""

_SECRET_KEYS = frozenset(
    {"authorization", "cookie", "password", "new_password", "secret", "token", "access_token", "refresh_token"}
)
_HOLDS_VALUES = ("sqlalchemy.engine", "aiosqlite")
"""Loggers whose debug lines repeat rows and parameters, hashes and keys among them. No level brings those out."""

_SECRETS_OF_URL = re.compile(r"(?<=://)[^/?#]*@|[?#].*", re.DOTALL)


def configure_logs(service: str, *, level: LogLevel, format: LogFormat) -> None:
    """Send the logs of this process, libraries included, to standard error.

    The lines of the audit log have `audit: true`, and `level` does not silence them.
    The server's own access log is switched off: `servicekit.app` writes one that has the
    request id and no raw path.
    """

    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _drop_unknown_actor,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        add_service,
        _hide_secrets,
    ]
    renderers: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if format == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    handler.addFilter(_holds_no_values)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger(AUDIT).setLevel(logging.INFO)
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    for name in ("httpx", "httpcore", "aiosqlite", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # `servicekit.telemetry` says once what these say at each attempt.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> Any:
    """Return the logger of a module. Its first argument is an event name, the rest are fields."""
    return structlog.stdlib.get_logger(name)


def get_audit_log() -> Any:
    """Return the logger of what matters for security: who may be whom, and do what. Ids alone name people."""
    return structlog.stdlib.get_logger(AUDIT, audit=True)


def without_secrets(url: str) -> str:
    """Return an address as it may be shown: without a user, a password and a query, where a signed one has its key."""
    return _SECRETS_OF_URL.sub("", url)


def audited_as(actor: str) -> AbstractContextManager[Any]:
    """Name who does what is logged within: a command, where no token tells."""
    return structlog.contextvars.bound_contextvars(actor=actor)


def current_trace() -> dict[str, str]:
    """Return `trace_id` and `span_id` of the running span, in hexadecimal; nothing where there is none."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def _holds_no_values(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG or not record.name.startswith(_HOLDS_VALUES)


def _drop_unknown_actor(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if "actor" in event and event["actor"] is None:
        del event["actor"]
    return event


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**event, **current_trace()}


def _hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in _SECRET_KEYS & event.keys():
        event[key] = "[hidden]"
    return event
