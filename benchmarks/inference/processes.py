"""Servers as processes: start, memory, end. Linux only: it reads `/proc`."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.inference.load import Load, Outcome, requests_of

START_SECONDS = 240.0
END_SECONDS = 20.0
MEMORY_EVERY_SECONDS = 2.0
"""To ask Linux takes 20 ms for each process of a server, on the cores that are measured."""


class NotServing(Exception):
    """A server ended, or did not answer in time."""


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def run_load(load: Load) -> Outcome:
    """Send a load from a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.inference.load"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        check=True,
        timeout=load.seconds + load.warm_seconds + 2 * load.deadline_seconds + 60,
    )
    return Outcome(**json.loads(finished.stdout))


def tree(root: int) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything.
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def memory_bytes(root: int) -> int:
    """Return the memory of a process and all below it; pages that several share count once (PSS)."""
    total = 0
    for process in tree(root):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return total


@dataclass
class Running:
    """A server that answers."""

    process: int
    port: int
    start_seconds: float
    """From the start of the process to its first answer."""

    @contextmanager
    def peak(self) -> Iterator[list[int]]:
        """Yield a list whose only item becomes the most memory that the block sees, in bytes."""
        most = [memory_bytes(self.process)]
        over = threading.Event()

        def watch() -> None:
            is_over = False
            while not is_over:
                is_over = over.wait(MEMORY_EVERY_SECONDS)
                most[0] = max(most[0], memory_bytes(self.process))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield most
        finally:
            over.set()
            thread.join()


@contextmanager
def serving(command: list[str], environment: Mapping[str, str], first: Load, log: Path) -> Iterator[Running]:
    """Start a server, yield it when it has answered `first`, and end it with all that it has started.

    Raises:
        NotServing: it ended, or there was no answer in time; what it wrote is in `log`.
    """
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while not _answers(first):
                if process.poll() is not None or time.monotonic() - started > START_SECONDS:
                    raise NotServing(f"{command[0]} does not serve: see {log}")
                time.sleep(0.05)
            yield Running(process.pid, first.port, time.monotonic() - started)
        finally:
            _end(process)


def _answers(first: Load) -> bool:
    """Tell whether a request is answered well."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", first.port), timeout=60) as connection:
        connection.sendall(requests_of(first)[0])
        return connection.recv(64).startswith(b"HTTP/1.1 200")
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    everything = tree(process.pid)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    for survivor in everything:
        with contextlib.suppress(ProcessLookupError):
            os.kill(survivor, signal.SIGKILL)
    process.wait()
