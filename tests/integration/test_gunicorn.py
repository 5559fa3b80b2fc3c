"""The servers of the images: their start, their workers, their metrics and their end."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.eventually import wait_until
from tests.exposition import Exposition
from tests.issuer import AUDIENCE, ISSUER, Issuer, serve_issuer
from tests.metric_registry import Service, read_metric_registry
from tests.otlp import receiving
from tests.servers import Server, serving

SERVICES: tuple[Service, ...] = ("auth", "users", "inference")
REQUESTS = 40


def environment(service: str, folder: Path, issuer: Issuer, **variables: str) -> dict[str, str]:
    """Return what a service needs, with every folder that it may write to under `folder`."""
    for name in ("data", "home", "tmp", "work"):
        (folder / name).mkdir(exist_ok=True)
    prefix = service.upper()
    return {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        # A search for the fastest mode goes on behind the test, and keeps what it finds if it is done in time.
        "INFERENCE_MODE_SEARCH_SECONDS": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        f"{prefix}_ISSUER": ISSUER,
        f"{prefix}_AUDIENCE": AUDIENCE,
        **({} if service == "auth" else {f"{prefix}_AUTH_URL": issuer.url}),
        **(
            {}
            if service == "inference"
            else {f"{prefix}_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/data/{service}.db"}
        ),
        "LOG_LEVEL": "INFO",
        **variables,
    }


def app(service: str) -> str:
    return f"{service}_service.main:create_app()"


def is_listening(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def metric(server: Server, name: str) -> dict[str, float]:
    """Return the samples of a metric by their labels."""
    text = httpx.get(f"{server.url}/metrics").text
    return {labels: float(value) for labels, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.M)}


def livez_requests(server: Server) -> float:
    counts = metric(server, "http_server_request_duration_seconds_count")
    return sum(count for labels, count in counts.items() if '"/livez"' in labels)


@pytest.fixture(scope="module")
def issuer() -> object:
    with serve_issuer() as running:
        yield running


@pytest.mark.parametrize("service", SERVICES)
def test_two_workers_serve_count_together_and_end_well(service: str, tmp_path: Path, issuer: Issuer) -> None:
    variables = environment(service, tmp_path, issuer, WORKERS="2")
    log = tmp_path / "log"
    with log.open("w") as errors, serving(app(service), variables, folder=tmp_path / "work", errors=errors) as server:
        server.wait_until_ready()
        # One that ends before its start was done would end the whole.
        wait_until(lambda: log.read_text().count("Application startup complete") == len(server.workers()) == 2)
        # Each on a connection of its own, so that both workers answer some.
        with httpx.Client(headers={"Connection": "close"}) as client:
            answers = [client.get(f"{server.url}/livez") for _ in range(REQUESTS)]
        assert not any("server" in answer.headers for answer in answers)
        assert livez_requests(server) == livez_requests(server) == REQUESTS
        # One of before counts as long as its worker has not come back from sending.
        wait_until(lambda: metric(server, "http_server_active_requests") == {"": 1})
        assert "pid=" not in httpx.get(f"{server.url}/metrics").text

        killed = server.workers()[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in server.workers() and len(server.workers()) == 2)
        assert livez_requests(server) == REQUESTS

        server.process.terminate()
        server.process.wait(timeout=60)
    logged = log.read_text()
    assert server.process.returncode == 0, logged
    assert "Traceback" not in logged
    assert '"/livez"' not in logged
    assert all(line.startswith("{") for line in logged.splitlines()), logged
    assert [path for name in ("home", "work") for path in (tmp_path / name).iterdir()] == []
    assert list((tmp_path / "tmp").glob("pinhole-*")) == []


def test_what_workers_shared_is_removed_after_all_were_killed_and_not_before(tmp_path: Path, issuer: Issuer) -> None:
    variables = environment("auth", tmp_path, issuer, WORKERS="2")

    def shared() -> set[Path]:
        found = set((tmp_path / "tmp").glob("pinhole-workers-*"))
        for path in found:
            os.utime(path, (0, 0))
        return found

    with serving(app("auth"), variables, folder=tmp_path / "work") as first:
        first.wait_until_ready()
        before = shared()
        with serving(app("auth"), variables, folder=tmp_path / "work") as second:
            second.wait_until_ready()
            beside = shared()
    with serving(app("auth"), variables, folder=tmp_path / "work") as third:
        third.wait_until_ready()
        after = shared()
    assert (len(before), len(beside), len(after)) == (1, 2, 1)
    assert before < beside
    assert not after & beside


def test_the_metrics_of_workers_are_not_on_a_disk_that_may_be_full(tmp_path: Path, issuer: Issuer) -> None:
    """Who writes to a mapped file there is ended by the kernel, and who takes its place, too."""
    variables = environment("auth", tmp_path, issuer, WORKERS="2")
    with serving(app("auth"), variables, folder=tmp_path / "work") as server:
        server.wait_until_ready()
        maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in server.workers())
    mapped = re.findall(r" (/\S+/pinhole-workers-\S+\.db)$", maps, re.M)
    assert mapped
    assert [path for path in mapped if not path.startswith("/dev/shm/")] == []


def test_the_master_of_one_worker_holds_no_application(tmp_path: Path, issuer: Issuer) -> None:
    variables = environment("inference", tmp_path, issuer)
    with serving(app("inference"), variables, folder=tmp_path / "work") as server:
        server.wait_until_ready()
        master, worker = (Path(f"/proc/{pid}/maps").read_text() for pid in (server.process.pid, *server.workers()))
        server.process.terminate()
        _, logged = server.process.communicate(timeout=60)
    assert ("libtorch" in master, "libtorch" in worker) == (False, True)
    assert server.process.returncode == 0, logged
    lines = [json.loads(line) for line in logged.splitlines()]
    assert {line["service"] for line in lines} == {"inference"}
    assert {"gunicorn.error"} <= {line["logger"] for line in lines}


@pytest.mark.parametrize("app", ["slow", "waiting"])
def test_a_worker_that_takes_long_to_start_is_waited_for(app: str, tmp_path: Path) -> None:
    variables = {"PYTHONPATH": str(Path.cwd()), "GUNICORN_CMD_ARGS": "--timeout 1"}
    with serving(f"tests.integration.failing_app:{app}()", variables, folder=tmp_path) as server:

        def answers() -> bool:
            assert server.process.poll() is None
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{server.url}/docs").status_code == 200
            return False

        wait_until(answers)


def test_a_trailer_does_not_take_the_place_of_what_a_proxy_has_said() -> None:
    with serving("tests.integration.echoing_app:echoing()", {}) as server:
        wait_until(lambda: is_listening(server.port))
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(
                b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 1.1.1.1\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
            )
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'"1.1.1.1"')


def test_a_proxy_with_an_address_of_ipv4_is_trusted_where_the_socket_takes_both_kinds() -> None:
    with serving("tests.integration.echoing_app:echoing()", {"HOST": "::"}) as server:
        wait_until(lambda: is_listening(server.port))
        for forwarded, address in (({}, "127.0.0.1"), ({"X-Forwarded-For": "1.1.1.1"}, "1.1.1.1")):
            assert httpx.post(server.url, headers=forwarded).json() == address


@pytest.mark.parametrize("service", SERVICES)
def test_the_metrics_of_two_workers_are_as_they_are_listed_for_one(
    service: Service, tmp_path: Path, issuer: Issuer
) -> None:
    registry, started_at = read_metric_registry(), time.time()
    sizes = {"USERS_HASH_WORKERS": "3", "INFERENCE_MAX_QUEUE_SIZE": "50"}
    variables = environment(service, tmp_path, issuer, WORKERS="2", **sizes)
    with serving(app(service), variables, folder=tmp_path / "work") as server:
        server.wait_until_ready()

        def exposition() -> Exposition:
            return Exposition(httpx.get(f"{server.url}/metrics", headers={"Accept": "text/plain"}).text)

        # A family is there only when it has series; of those that are, none is made up by the sum.
        missing = {f"{name}: is not there" for name in registry.of(service, frozenset())}
        assert set(registry.differences(service, exposition(), frozenset())) <= missing
        # Of times the least: it is there when both have read, and who forked them has none.
        times = {metric.name for metric in registry.of(service, frozenset()).values() if metric.workers == "min"}
        times -= {"auth_account_events_read_timestamp_seconds"}  # there are no users here
        wait_until(lambda: all(exposition().value(name) >= started_at - 60 for name in times))
        sums = {"users": ("users_password_hash_pool_size", 6), "inference": ("inference_queue_capacity", 100)}
        if service in sums:
            name, total = sums[service]
            wait_until(lambda: exposition().value(name) == total)


def test_the_workers_of_inference_map_the_same_weights(tmp_path: Path, issuer: Issuer) -> None:
    variables = environment("inference", tmp_path, issuer, WORKERS="2")
    with serving(app("inference"), variables, folder=tmp_path / "work") as server:

        def mapped() -> list[set[str]]:
            maps = [Path(f"/proc/{pid}/maps").read_text() for pid in server.workers()]
            return [set(re.findall(r"\d+ +(\S+pinhole-workers-\S+\.pt)$", text, re.M)) for text in maps]

        wait_until(lambda: len(mapped()) == 2 and all(mapped()))
        first, second = mapped()
        assert first == second


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_spans_of_all_workers_arrive_up_to_the_last(protocol: str, tmp_path: Path, issuer: Issuer) -> None:
    with receiving() as receiver:
        variables = environment(
            "auth",
            tmp_path,
            issuer,
            WORKERS="2",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc_url if protocol == "grpc" else receiver.http_url,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
        with serving(app("auth"), variables, folder=tmp_path / "work") as server:
            server.wait_until_ready()

            def both_are_heard() -> bool:
                httpx.get(f"{server.url}/.well-known/jwks.json")
                return len({span.instance for span in receiver.spans()}) == 2

            wait_until(both_are_heard)
            httpx.get(f"{server.url}/the-last")
            server.process.terminate()
            _, logged = server.process.communicate(timeout=60)
        assert server.process.returncode == 0, logged
        assert "traces_lost" not in logged
        paths = {span.attributes.get("url.path") for span in receiver.spans() if span.service == "auth"}
        assert "/the-last" in paths


def test_the_level_of_the_logs_changes_in_all_workers(tmp_path: Path, issuer: Issuer) -> None:
    variables = environment(
        "auth", tmp_path, issuer, WORKERS="2", LOG_LEVEL="WARNING", LOG_LEVELS_FILE=str(tmp_path / "level")
    )
    with serving(app("auth"), variables, folder=tmp_path / "work") as server:
        server.wait_until_ready()
        wait_until(lambda: len(server.workers()) == 2)
        command = [sys.executable, "-m", "servicekit.log_levels", "INFO"]
        subprocess.run(command, env={**os.environ, **variables}, check=True, timeout=60)
        process = server.process
        assert process.stderr is not None
        changed = 0
        while changed < 2:  # the limit on the time of a test ends this
            line = process.stderr.readline()
            assert line, "the server has ended"
            changed += "log_levels_changed" in line
        httpx.get(f"{server.url}/.well-known/jwks.json")
        process.terminate()
        _, logged = process.communicate(timeout=60)
    assert '"route": "/.well-known/jwks.json"' in logged


@pytest.mark.parametrize(
    ("service", "variable", "value"),
    [
        *[(service, "PORT", "http") for service in SERVICES],
        *[(service, "WORKERS", "0") for service in SERVICES],
        *[(service, f"{service.upper()}_ACCESS_TOKEN_SECONDS", "-1") for service in ("auth",)],
        ("inference", "INFERENCE_MAX_BATCH_SIZE", "0"),
    ],
)
def test_a_bad_setting_ends_the_start(service: str, variable: str, value: str, tmp_path: Path, issuer: Issuer) -> None:
    variables = environment(service, tmp_path, issuer, **{variable: value})
    with serving(app(service), variables, folder=tmp_path / "work") as server:
        _, logged = server.process.communicate(timeout=60)
    # The worker finds what the master has not looked at: 3 is what gunicorn says for that.
    assert server.process.returncode == (1 if variable in ("PORT", "WORKERS") else 3)
    assert f"{variable}: " in logged
    assert "Traceback" not in logged


def test_a_misspelt_setting_is_told_once_by_all_workers(tmp_path: Path, issuer: Issuer) -> None:
    variables = environment("auth", tmp_path, issuer, WORKERS="2", AUTH_ACESS_TOKEN_SECONDS="60")
    with serving(app("auth"), variables, folder=tmp_path / "work") as server:
        server.wait_until_ready()
        server.process.terminate()
        _, logged = server.process.communicate(timeout=60)
    lines = [json.loads(line) for line in logged.splitlines()]
    told = [line["variable"] for line in lines if line["event"] == "unknown_setting"]
    assert told == ["AUTH_ACESS_TOKEN_SECONDS"]


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("killed", "a worker has ended at its start"),
        ("failing", "there is no database"),
        ("standing", "a worker has ended at its start"),
    ],
)
def test_a_worker_that_cannot_start_ends_all(app: str, reason: str, tmp_path: Path) -> None:
    path = os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(Path.cwd())])
    variables = {"PYTHONPATH": path, "GUNICORN_CMD_ARGS": "--timeout 3"}
    with serving(f"tests.integration.failing_app:{app}()", variables, folder=tmp_path) as server:
        _, logged = server.process.communicate(timeout=60)
    assert server.process.returncode == 3, logged
    assert reason in logged
