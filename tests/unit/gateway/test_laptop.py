"""`pinhole-run` as a user meets it: the real command and four real processes, with stand-ins for the services."""

import json
import os
import random
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[3]
COMMAND = Path(sysconfig.get_path("scripts")) / "pinhole-run"
SERVICES = ("auth", "users", "inference")
WAIT_SECONDS = 60


class Run:
    """One run of the command. Its children carry a mark, by which those left behind are found."""

    def __init__(self, folder: Path, port: int, variables: Mapping[str, str]) -> None:
        self.port = port
        self._mark = f"PINHOLE_TEST_MARK={time.monotonic_ns()}"
        self.process = subprocess.Popen(
            [COMMAND, "--port", str(port)],
            cwd=folder,
            env={**os.environ, **dict([self._mark.split("=")]), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell lets what it starts in the background ignore Ctrl-C, and the tests may have been started so.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def until_welcome(self) -> str:
        """Return what was printed when all is ready."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("curl "):
                return "".join(lines)
        raise AssertionError("".join(lines) + self.process.communicate(timeout=WAIT_SECONDS)[1])

    def until_line(self, part: str) -> str:
        """Return the first line that holds `part`."""
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if part in line)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error, after `number` was sent to it."""
        if number is not None:
            self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, output, errors

    def left_behind(self) -> list[int]:
        """Return the processes of this run that are still there."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self._mark.encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue  # it has just ended
        return found


Start = Callable[..., Run]


def free_ports() -> int:
    """Return the first of five free ports in a row, below those that the system gives to clients.

    By chance, so that tests of another process hardly look at the same ones.
    """
    for port in random.sample(range(28000, 32000, 5), 500):
        with ExitStack() as stack:
            try:
                for offset in range(5):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
    raise RuntimeError("no five free ports in a row")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command in `tmp_path`, with stand-ins in the place of the services."""
    stand_ins = tmp_path / "stand-ins"
    for name in SERVICES:
        package = stand_ins / f"{name}_service"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "main.py").write_text(
            f"from tests.unit.gateway.stand_in import factory\n\ncreate_app = factory({name!r})\n"
        )
    runs = []

    def start_one(**variables: str) -> Run:
        path = {"PYTHONPATH": os.pathsep.join([str(stand_ins), str(ROOT)])}
        runs.append(Run(tmp_path, free_ports(), path | variables))
        return runs[-1]

    yield start_one
    for run in runs:
        for process_id in run.left_behind():  # of a test that has failed
            os.kill(process_id, signal.SIGKILL)
        run.process.communicate()


def test_it_tells_who_is_ready_and_how_to_try_it_and_ctrl_c_stops_all(start: Start, tmp_path: Path) -> None:
    run = start()
    printed = run.until_welcome()
    for name in (*SERVICES, "gateway"):
        assert f"{name} ready in " in printed
    assert f"http://localhost:{run.port} " in printed

    password_file = tmp_path / ".pinhole" / "admin-password"
    assert password_file.stat().st_mode & 0o777 == 0o600
    assert password_file.read_text().strip() in printed

    line = printed[printed.index("curl ") :]
    pasted = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert (pasted.stdout, pasted.stderr) == ("a cat", "")

    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to honcho's processes too
    status, output, errors = run.end()
    assert (status, output, errors) == (0, "stopped\n", "")
    assert run.left_behind() == []


def test_a_second_start_keeps_the_password_and_does_not_print_it(start: Start, tmp_path: Path) -> None:
    first = start()
    printed = first.until_welcome()
    password = (tmp_path / ".pinhole" / "admin-password").read_text().strip()
    assert password in printed
    assert first.end(signal.SIGTERM) == (0, "stopped\n", "")
    assert first.left_behind() == []

    second = start()
    printed = second.until_welcome()
    assert password not in printed
    assert (tmp_path / ".pinhole" / "admin-password").read_text().strip() == password
    variables = json.loads(httpx.get(f"http://127.0.0.1:{second.port + 2}/variables").content)
    assert Path(variables["USERS_ADMIN_PASSWORD_FILE"]).read_text().strip() == password
    assert second.end(signal.SIGINT)[0] == 0


def test_the_password_is_told_where_a_model_cannot_be_loaded(start: Start, tmp_path: Path) -> None:
    run = start(UNREADY="inference")
    told = run.until_line("The administrator is admin, with the password ")
    assert told.split()[-1] == (tmp_path / ".pinhole" / "admin-password").read_text().strip()
    assert run.end(signal.SIGINT)[0] == 0


def test_ctrl_c_in_the_middle_of_the_start_stops_all(start: Start, tmp_path: Path) -> None:
    run = start()
    logs = tmp_path / ".pinhole" / "logs" / "gateway.log"
    while not logs.exists():  # it is opened just before the children are started
        assert run.process.poll() is None
    os.killpg(run.process.pid, signal.SIGINT)
    status, _, errors = run.end()
    assert (status, errors) == (0, "")
    assert run.left_behind() == []


def test_a_terminal_that_is_closed_stops_all(start: Start) -> None:
    run = start()
    run.until_welcome()
    assert run.process.stdout is not None
    run.process.stdout.close()
    run.process.send_signal(signal.SIGHUP)
    run.process.wait(WAIT_SECONDS)
    assert run.left_behind() == []


def test_a_child_that_fails_at_start_is_named_with_its_reason(start: Start) -> None:
    run = start(FAILING="users")
    status, _, errors = run.end()
    assert status == 1
    assert errors == "pinhole: users has stopped: DISK: expected one (see .pinhole/logs/users.log)\n"
    assert run.left_behind() == []


def test_all_bad_settings_of_a_child_are_shown_without_their_values(start: Start) -> None:
    run = start(GATEWAY_MAX_BODY_BYTES="minus nine", GATEWAY_AUTH_URL="ftp://ada:hunter2@auth", LOG_FORMAT="colourful")
    status, _, errors = run.end()
    assert status == 1
    first, *lines = errors.splitlines()
    # LOG_FORMAT is bad for the gateway alone here: the stand-ins have no settings.
    assert first == "pinhole: gateway has stopped: bad configuration"
    assert [line.split(": ")[0] for line in lines] == ["  LOG_FORMAT", "  GATEWAY_AUTH_URL", "  GATEWAY_MAX_BODY_BYTES"]
    assert lines[0] == "  LOG_FORMAT: Input should be 'json' or 'console'"
    assert lines[2].endswith(" (see .pinhole/logs/gateway.log)")
    for value in ("minus nine", "hunter2", "colourful"):
        assert value not in errors


def test_a_misspelt_setting_is_told_before_the_welcome(start: Start) -> None:
    run = start(GATEWAY_MAX_BODI_BYTES="12345")
    line = next(line for line in run.until_welcome().splitlines() if "unknown_setting" in line)
    assert line.startswith("gateway   | ")
    assert "GATEWAY_MAX_BODI_BYTES" in line
    assert "GATEWAY_MAX_BODY_BYTES" in line
    assert "12345" not in line
    assert run.end(signal.SIGINT)[0] == 0


def test_a_child_whose_lifespan_fails_is_named_with_its_reason(start: Start) -> None:
    run = start(BREAKING="inference")
    status, _, errors = run.end()
    assert status == 1
    assert errors.startswith("pinhole: inference has stopped: cannot write the disk (see ")
    assert run.left_behind() == []


def test_a_child_that_dies_later_stops_the_others_and_is_named(start: Start, tmp_path: Path) -> None:
    run = start()
    run.until_welcome()
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{run.port + 1}/die")
    status, output, errors = run.end()
    assert status == 1
    assert output == "auth      | auth is out of disk\n"
    assert errors == "pinhole: auth has stopped: auth is out of disk (see .pinhole/logs/auth.log)\n"
    assert (tmp_path / ".pinhole" / "logs" / "auth.log").read_text() == "auth is out of disk\n"
    assert run.left_behind() == []


def test_a_child_that_does_not_stop_is_killed(start: Start) -> None:
    run = start(HANGING="auth")
    run.until_welcome()
    assert run.end(signal.SIGINT)[0] == 0
    assert run.left_behind() == []


def test_a_busy_port_is_one_sentence(start: Start, tmp_path: Path) -> None:
    port = free_ports()
    with socket.create_server(("127.0.0.1", port + 2)):
        run = Run(tmp_path, port, {})
        status, output, errors = run.end()
    assert (status, output) == (1, "")
    assert errors == (
        f"pinhole: port {port + 2} is in use; free it, or choose five others with --port (as in PORT=9000 make run)\n"
    )
    assert run.left_behind() == []


def test_a_second_one_on_the_same_folder_is_refused_and_leaves_the_logs_of_the_first(
    start: Start, tmp_path: Path
) -> None:
    first = start()
    first.until_welcome()
    log = tmp_path / ".pinhole" / "logs" / "auth.log"
    log.write_text("said by the first\n")
    second = start()
    status, output, errors = second.end()
    assert (status, output) == (1, "")
    assert errors == (
        f"pinhole: process {first.process.pid} runs Pinhole with the data folder .pinhole;"
        " end it, or choose another folder with --data (variable PINHOLE_DATA)\n"
    )
    assert log.read_text() == "said by the first\n"
    assert first.end(signal.SIGINT)[0] == 0
    third = start()
    third.until_welcome()
    assert third.end(signal.SIGINT)[0] == 0


def test_a_data_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = Run(tmp_path, free_ports(), {"PINHOLE_DATA": "file/data"})
    status, output, errors = run.end()
    assert (status, output) == (1, "")
    assert errors == (
        "pinhole: cannot write to the data folder file/data: Not a directory; choose another with --data\n"
    )


@pytest.mark.parametrize("port", ["", "0", "65532", "8000x", "-1"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    run = subprocess.run([COMMAND, f"--port={port}"], capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].endswith(f"expected a number from 1 to 65530, got {port!r}")
