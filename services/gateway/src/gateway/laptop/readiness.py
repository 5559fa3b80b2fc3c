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


def report_readiness(
    children: Sequence[Child],
    stopping: threading.Event,
    *,
    when_ready: Callable[[str], None],
    when_all_are: Callable[[], None],
    last_warning: Callable[[str], str],
    started: float,
    patience_seconds: float = 15.0,
) -> None:
    """Print a line for each child that is ready, and call `when_ready` with its name; `stopping` ends it.

    Children that are not are told of every `patience_seconds`, with the last warning that they printed
    where it is another than before.
    """
    waiting = list(children)
    told = dict.fromkeys((child.name for child in children), "")
    next_notice = started + patience_seconds
    while waiting and not stopping.wait(_POLL_SECONDS):
        missing = {child: _missing(child) for child in waiting}
        waiting = [child for child in waiting if missing[child] is not None]
        now = time.monotonic()
        for child in missing.keys() - waiting:
            say(f"{child.name} ready in {now - started:.1f} s")
            when_ready(child.name)
        if now > next_notice:
            for child in waiting:
                warning = last_warning(child.name)
                news = f" ({warning})" if warning != told[child.name] else ""
                say(f"still waiting for {child.name}: {missing[child]}{news}")
                told[child.name] = warning
            next_notice = now + patience_seconds
    if not waiting:
        when_all_are()


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
    """Return what to tell the user when all is ready: where Pinhole is, and a line to try it with."""
    lines = ["", f"Pinhole is at {origin(port)} (Ctrl-C stops it; logs are in {folder.logs}/)."]
    return "\n".join([*lines, "Try it, in another terminal of this folder:", "", _curl(port, folder, variables)])


def administrator(folder: DataFolder, variables: Mapping[str, str]) -> str:
    """Return what to tell the user of the password that this start has made."""
    return (
        f"The administrator is {_name(variables)}, with the password {folder.new_password}\n"
        f"(also in {folder.password_file}; it is not shown again)."
    )


def _name(variables: Mapping[str, str]) -> str:
    return variables.get("USERS_ADMIN_USERNAME", "admin")


def _curl(port: int, folder: DataFolder, variables: Mapping[str, str]) -> str:
    """Return a shell command that signs in and has the sample picture classified."""
    file = Path(variables.get("USERS_ADMIN_PASSWORD_FILE", folder.password_file))
    is_in_file = file.exists() and "USERS_ADMIN_PASSWORD" not in variables
    password = f"$(cat {shlex.quote(str(file))})" if is_in_file else "$USERS_ADMIN_PASSWORD"
    token = (
        f"curl -s {origin(port)}/token -d grant_type=password -d username={shlex.quote(_name(variables))}"
        f""" --data-urlencode "password={password}" | sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/'"""
    )
    return (
        f"curl -s {origin(port)}/static/sample-cat.jpg"
        f' | curl -s {origin(port)}/predict -F file=@- -H "Authorization: Bearer $({token})"'
    )
