"""A server of files, over HTTP on the loopback."""

from contextlib import AbstractContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from tests.http_server import QuietHandler, serving


class _Files(QuietHandler, SimpleHTTPRequestHandler):
    pass


def serve_files(folder: Path) -> AbstractContextManager[str]:
    """Yield the URL of `folder`."""
    return serving(partial(_Files, directory=str(folder)))
