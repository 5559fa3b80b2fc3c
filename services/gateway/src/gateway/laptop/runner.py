"""Runs the children under honcho until somebody asks for the end or a child stops."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from honcho.manager import SIGNALS, Manager

from gateway.laptop.children import children, environment, observer_url
from gateway.laptop.data_folder import DataFolder
from gateway.laptop.errors import CannotStart
from gateway.laptop.output import Output, say
from gateway.laptop.readiness import administrator, report_readiness, welcome

_RETRY_SECONDS = 0.05
_ASKED_TO_STOP = {known["rc"] for known in SIGNALS.values()}


def run(port: int, folder: DataFolder, variables: Mapping[str, str], *, is_observed: bool = False) -> None:
    """Start all children, and return when somebody asked for the end and all have stopped.

    `variables` are the user's. With `is_observed` there is a page of traces and metrics, too.

    Raises:
        CannotStart: a child has stopped by itself; the others were stopped then.
    """
    started = time.monotonic()
    stopping = threading.Event()
    servers = children(port, is_observed=is_observed)
    child_variables = environment(port, folder, variables, is_observed=is_observed)
    # Without a wish for logs, what is said on the way to readiness (auth is not up yet, ...) only looks like trouble.
    with Output((child.name for child in servers), folder, is_shown="LOG_LEVEL" in variables) as output:

        def when_ready(name: str) -> None:
            # Not with the welcome: where a model cannot be loaded there is none, and no later start knows it.
            if name == "users" and folder.new_password is not None:
                say(administrator(folder, variables))

        def when_all_are() -> None:
            if is_observed:
                say(f"Traces and metrics are at {observer_url(port)}")
            say(welcome(port, folder, variables))
            output.is_shown = True

        report = partial(
            report_readiness,
            when_ready=when_ready,
            when_all_are=when_all_are,
            last_warning=output.last_warning,
            started=started,
        )
        reporter = threading.Thread(target=report, args=(servers, stopping))
        processes = Processes(output, when_started=reporter.start)
        for child in servers:
            processes.add_process(child.name, child.command(), env=child_variables)
        signal.signal(signal.SIGHUP, _terminate_this_process)  # the terminal was closed
        try:
            processes.loop()
        finally:
            stopping.set()
            processes.terminate()  # all have stopped, unless honcho failed
        reporter.join()
        if processes.returncode not in _ASKED_TO_STOP:
            name = processes.first_stopped
            raise CannotStart(f"{name} has stopped: {output.reason(name)} (see {folder.log_file(name)})")
    say("stopped")


class Processes(Manager):  # type: ignore[misc]  # honcho has no types
    """honcho's manager. It can also be stopped while it starts, and knows who was the first to stop."""

    def __init__(self, output: Output, when_started: Callable[[], None]) -> None:
        super().__init__(output)
        self._owner = os.getpid()
        self._when_started = when_started
        self.first_stopped = ""

    def _start(self) -> None:
        super()._start()
        self._when_started()

    def terminate(self) -> None:
        """Ask all children to stop."""
        if os.getpid() != self._owner:
            return  # Ctrl-C reached a process of honcho's that was forked this moment, with our handlers
        if not self._all_started():
            # honcho does not know the process ids yet.
            threading.Timer(_RETRY_SECONDS, self.terminate).start()
            return
        if not self._terminating:
            stopped = (name for name, process in self._processes.items() if "returncode" in process)
            self.first_stopped = next(stopped, "")
        super().terminate()


def _terminate_this_process(_number: int, _frame: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
