"""Files that a browser is given."""

import os
from pathlib import PurePath

from fastapi import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

# Files are of one release and carry no version in their names: a browser asks each time, by ETag.
_HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Only what comes from this origin runs; a chosen picture (`blob:`) and drawn icons (`data:`) are shown."""

# Python asks the host for what it does not know, and a small container knows little.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".jpg": "image/jpeg",
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}


class AssetFolder(StaticFiles):
    """The files of one folder, and of folders inside installed packages, with the headers that a page needs."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file, or 304 where the caller has it already."""
        response: Response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS | {"Content-Security-Policy": CONTENT_SECURITY_POLICY})
        if "content-type" in response.headers:
            suffix = PurePath(full_path).suffix
            response.headers["content-type"] = _MEDIA_TYPES.get(suffix, "application/octet-stream")
        return response
