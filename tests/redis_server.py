"""A Redis server of the tests' own, reached by a socket."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis


@contextmanager
def serve_redis(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a server until the end; yield its URL and its process.

    Raises:
        FileNotFoundError: Redis is not installed.
    """
    socket = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    try:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        raise FileNotFoundError("Redis is missing: apt-get install redis-server") from None
    try:
        with redis.Redis.from_url(f"unix://{socket}") as client:
            gives_up_at = time.monotonic() + 30
            while not _answers(client):
                assert server.poll() is None
                assert time.monotonic() < gives_up_at
                time.sleep(0.01)
        yield f"unix://{socket}", server
    finally:
        server.kill()
        server.wait(10)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
