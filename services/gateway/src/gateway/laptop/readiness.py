"""Tells when the children are ready, and what to do then."""

import http.client
import json
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway.laptop.children import Child, origin
from gateway.laptop.data_folder import DataFolder
from gateway.laptop.output import say

_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 1.0
_PATIENCE_SECONDS = 15.0


def report_readiness(
    children: Sequence[Child], stopping: threading.Event, when_ready: Callable[[], None], started: float
) -> None:
    """Print a line for each child that is ready, and call `when_ready` after the last; `stopping` ends it."""
    waiting = list(children)
    next_notice = started + _PATIENCE_SECONDS
    while waiting and not stopping.wait(_POLL_SECONDS):
        missing = {child: _missing(child) for child in waiting}
        waiting = [child for child in waiting if missing[child] is not None]
        now = time.monotonic()
        for child in missing.keys() - waiting:
            say(f"{child.name} ready in {now - started:.1f} s")
        if now > next_notice:
            for child in waiting:
                say(f"still waiting for {child.name}: {missing[child]}")
            next_notice = now + _PATIENCE_SECONDS
    if not waiting:
        when_ready()


def _missing(child: Child) -> str | None:
    """Return what a child waits for, None where it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", child.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        return None if response.status == 200 else str(json.loads(body)["detail"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return "no answer yet"
    finally:
        connection.close()


def welcome(port: int, folder: DataFolder, variables: Mapping[str, str]) -> str:
    """Return what to tell the user: where Pinhole is, who may enter, and a line to try it with."""
    name = variables.get("USERS_ADMIN_USERNAME", "admin")
    lines = ["", f"Pinhole is at {origin(port)} (Ctrl-C stops it; logs are in {folder.logs}/)."]
    if folder.new_password is not None:
        lines += [f"The administrator is {name}, with the password {folder.new_password}"]
        lines += [f"(also in {folder.password_file}; it is not shown again)."]
    return "\n".join([*lines, "Try it, in another terminal of this folder:", "", _curl(port, name, folder, variables)])


def _curl(port: int, name: str, folder: DataFolder, variables: Mapping[str, str]) -> str:
    """Return a shell command that signs in and has the sample picture classified."""
    file = Path(variables.get("USERS_ADMIN_PASSWORD_FILE", folder.password_file))
    is_in_file = file.exists() and "USERS_ADMIN_PASSWORD" not in variables
    password = f"$(cat {shlex.quote(str(file))})" if is_in_file else "$USERS_ADMIN_PASSWORD"
    token = (
        f"curl -s {origin(port)}/token -d grant_type=password -d username={shlex.quote(name)}"
        f""" --data-urlencode "password={password}" | sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/'"""
    )
    return (
        f"curl -s {origin(port)}/static/sample-cat.jpg"
        f' | curl -s {origin(port)}/predict -F file=@- -H "Authorization: Bearer $({token})"'
    )
