"""Tells when the children are ready, and what to do then."""

import http.client
import json
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from gateway.laptop.children import Child, origin
from gateway.laptop.data_folder import DataFolder
from gateway.laptop.output import say

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 15.0


def report_readiness(
    children: Sequence[Child], stopping: threading.Event, when_ready: Callable[[], None], started: float
) -> None:
    """Print a line for each child that is ready, and call `when_ready` after the last; `stopping` ends it."""
    waiting = list(children)
    complained = started
    while waiting and not stopping.wait(_POLL_SECONDS):
        answers = [(child, _missing(child)) for child in waiting]
        for child, missing in answers:
            if missing is None:
                waiting.remove(child)
                say(f"{child.name} ready in {time.monotonic() - started:.1f} s")
            elif time.monotonic() - complained > _PATIENCE_SECONDS:
                say(f"still waiting for {child.name}: {missing}")
        if time.monotonic() - complained > _PATIENCE_SECONDS:
            complained = time.monotonic()
    if not waiting:
        when_ready()


def _missing(child: Child) -> str | None:
    """Return what a child waits for, None where it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", child.port, timeout=5)
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
    lines = ["", f"Pinhole is at {origin(port)} (Ctrl-C stops it; logs are in {folder.log_file('').parent}/)."]
    if folder.new_password is not None:
        lines += [f"The administrator is {name}, with the password {folder.new_password}"]
        lines += [f"(also in {folder.password_file}; it is not shown again)."]
    return "\n".join([*lines, "Try it, in another terminal of this folder:", "", _curl(port, name, folder, variables)])


def _curl(port: int, name: str, folder: DataFolder, variables: Mapping[str, str]) -> str:
    """Return a shell command that signs in and has the sample picture classified."""
    file = variables.get("USERS_ADMIN_PASSWORD_FILE", str(folder.password_file))
    if "USERS_ADMIN_PASSWORD" in variables or not folder.password_file.exists():
        field = '"password=$USERS_ADMIN_PASSWORD"'
    else:
        field = shlex.quote(f"password@{file}")
    token = (
        f"curl -s {origin(port)}/token -d grant_type=password -d username={shlex.quote(name)}"
        f""" --data-urlencode {field} | sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/'"""
    )
    return (
        f"curl -s {origin(port)}/static/sample-cat.jpg"
        f' | curl -s {origin(port)}/predict -F file=@- -H "Authorization: Bearer $({token})"'
    )
